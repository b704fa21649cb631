"""One file of particles: a snapshot chunk, a subbox chunk or a cutout of the web API."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataFormatError, RangeError
from sfr.hdf5 import (
    Mapping,
    StoredDataset,
    count_rows,
    find_dataset,
    find_group,
    missing_field,
    open_hdf5,
    reading,
    require_dataset,
    require_whole,
)
from sfr.simulation.header import Stated, particle_header, require_tng_units
from sfr.simulation.protocol import FULL_SNAPSHOTS, N_PART_TYPES

__all__ = ["ParticleFile", "Segment", "empty_field", "open_particle_file"]

logger = logging.getLogger(__name__)

_VECTORS = {
    "Coordinates": 3,
    "Velocities": 3,
    "CenterOfMass": 3,
    "MagneticField": 3,
    "BirthPos": 3,
    "BirthVel": 3,
    "GFM_Metals": 10,
    "GFM_MetalsTagged": 6,
    "GFM_StellarPhotometrics": 8,
}
_TYPES = {
    "Coordinates": np.float64,
    "ParticleIDs": np.uint64,
    "ParentID": np.uint64,
    "TracerID": np.uint64,
    "BH_Progs": np.uint32,
}
#: Fields that are computed with as real numbers, whatever integers or short floats they are in.
_REAL = frozenset(
    {
        "Coordinates",
        "Density",
        "ElectronAbundance",
        "GFM_InitialMass",
        "GFM_Metallicity",
        "GFM_StellarFormationTime",
        "InternalEnergy",
        "MagneticField",
        "Masses",
        "StarFormationRate",
        "Velocities",
    }
)
#: Integers up to this are exact in float64.
_EXACT = 1 << 53

#: Rows of a segment, so that what is read of one fits in memory: 24 MiB of positions.
_SEGMENT = 1 << 20
#: The same where little more than what is looked at is in memory.
_MAPPED_SEGMENT = 1 << 22
#: Rows that are read along rather than left out: a read of its own costs as much as 64 KiB.
_GAP = 1 << 14


def empty_field(field: str) -> NDArray[Any]:
    """Array of no particles, shaped and typed as TNG stores the field."""
    shape = (0, _VECTORS[field]) if field in _VECTORS else (0,)
    return np.empty(shape, _TYPES.get(field, np.float32))


def open_particle_file(path: str | Path) -> ParticleFile:
    """Open one snapshot chunk or cutout.

    Parameters
    ----------
    path : str or Path
        The file; ``~`` is expanded.

    Returns
    -------
    ParticleFile
        Also usable as a context manager.

    Raises
    ------
    DataMissingError
        There is no such file.
    DataFormatError
        It is not HDF5, is cut short, or is not a snapshot chunk.
    """
    return ParticleFile(Path(path).expanduser())


@dataclass(frozen=True)
class Segment:
    """Consecutive particles of one type in one file, read field by field."""

    #: Gives the file, open; one that was closed in the meantime is opened again.
    opened: Callable[[], AbstractContextManager[ParticleFile]]
    part_type: int
    start: int
    stop: int
    mapped: bool = False

    def __len__(self) -> int:
        return self.stop - self.start

    def read(
        self, fields: Sequence[str], *, needed: NDArray[np.int64] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Read fields; see `ParticleFile.read`."""
        with self.opened() as file:
            return file.read(
                self.part_type,
                fields,
                start=self.start,
                stop=self.stop,
                mapped=self.mapped,
                needed=needed,
            )

    def take(self, fields: Sequence[str], rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Read some rows of fields; see `ParticleFile.take`."""
        with self.opened() as file:
            return file.take(
                self.part_type, fields, rows, start=self.start, stop=self.stop, mapped=self.mapped
            )

    def is_mapped(self, fields: Sequence[str]) -> bool:
        """Whether all of these fields are mapped: then only what is looked at is ever read."""
        if not self.mapped:
            return False
        with self.opened() as file:
            return file.can_map(self.part_type, fields)


class ParticleFile:
    """Particles of one file, in the order and the code units of the file.

    The counts are those of the datasets: reduced copies of original files can carry the
    ``NumPart_ThisFile`` of the original.

    A file takes two descriptors, one for HDF5 and one for all that is mapped.
    """

    #: Descriptors of an open file.
    DESCRIPTORS = 2

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_hdf5(path)
        # looking a name up in HDF5 takes as long as summing some thousand cells
        self._datasets: dict[tuple[int, str], StoredDataset] = {}
        self._views: dict[tuple[int, str], NDArray[Any] | None] = {}
        self._mapping: Mapping | None = None
        self._is_mapped = False
        try:
            with reading(path, "Header"):
                stated = Stated(self._file, path)
                if {"Group", "Subhalo"} & set(self._file):
                    raise DataFormatError(
                        f"{path} is a chunk of a group catalogue; a snapshot chunk or a cutout is "
                        "needed"
                    )
                self.header = particle_header(stated)
            with reading(path, "what it holds"):
                self.counts = tuple(self._count(part_type) for part_type in range(N_PART_TYPES))
            with reading(path, "Header/NumPart_ThisFile"):
                self._warn_of_stale_counts(stated.counts("NumPart_ThisFile"))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> ParticleFile:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; mapped views of it stay valid."""
        self._views.clear()
        self._datasets.clear()
        self._mapping = None
        self._file.close()

    def segments(
        self,
        part_type: int,
        *,
        start: int = 0,
        stop: int | None = None,
        mapped: bool = False,
        opened: Callable[[], AbstractContextManager[ParticleFile]] | None = None,
    ) -> Iterator[Segment]:
        """Yield a range of particles in pieces that fit in memory, in order.

        Parameters
        ----------
        part_type : int
            As in `read`.
        start, stop : int
            Range of rows; ``None`` goes to the end.
        mapped : bool
            As in `read`.
        opened : callable or None
            Gives this file when a piece is read; None: it stays open until then.

        Yields
        ------
        Segment
            Of which nothing has been read yet.
        """
        stop = self.counts[part_type] if stop is None else stop
        length = _MAPPED_SEGMENT if mapped else _SEGMENT
        for begin in range(start, stop, length):
            yield Segment(
                opened or (lambda: nullcontext(self)),
                part_type,
                begin,
                min(begin + length, stop),
                mapped,
            )

    def can_map(self, part_type: int, fields: Sequence[str]) -> bool:
        """Whether all of these fields can be mapped instead of read."""
        if not self.counts[part_type]:
            return False
        return all(
            self._constant_mass(part_type, field) is not None
            or self._aligned(part_type, field) is not None
            for field in fields
        )

    def check(self) -> None:
        """Look at everything in the file, as `read` does at what it reads.

        Raises
        ------
        DataMissingError, DataFormatError
            The first thing that is not as it must be.
        """
        with reading(self.path, "what it holds"):
            require_whole(self._file, self.path)
        for part_type in range(N_PART_TYPES):
            for field in self.fields(part_type):
                if field in _REAL or field in _VECTORS or field in _TYPES:
                    self._dataset(part_type, field)

    def fields(self, part_type: int) -> list[str]:
        """Names of the fields stored of a particle type, sorted; empty where there are none."""
        group = self._group(part_type)
        return [] if group is None else sorted(group)

    def readable(self, part_type: int) -> list[str]:
        """Names of the fields that `read` gives: those stored, and masses that the header has."""
        stated = self._constant_mass(part_type, "Masses") is not None
        return sorted([*self.fields(part_type), *(["Masses"] if stated else [])])

    @property
    def is_mini(self) -> bool:
        """Whether this is of a mini snapshot: those store Coordinates in single precision."""
        for part_type in range(N_PART_TYPES):
            if "Coordinates" in self.fields(part_type):
                return self._dataset(part_type, "Coordinates").dtype.itemsize == 4
        return self.header.snapshot >= 0 and self.header.snapshot not in FULL_SNAPSHOTS

    def read(
        self,
        part_type: int,
        fields: Sequence[str],
        *,
        start: int = 0,
        stop: int | None = None,
        mapped: bool = False,
        needed: NDArray[np.int64] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Read fields of a range of particles.

        Parameters
        ----------
        part_type : int
            0 gas, 1 dark matter, 3 tracers, 4 stars and wind, 5 black holes.
        fields : sequence of str
            Names as in the file. What is a real number is given as float32 or float64, exactly,
            also where it is stored as an integer or in half precision. ``Masses`` that are not
            stored are those of the header's MassTable, as for dark matter.
        start, stop : int
            Range of rows; ``None`` reads to the end.
        mapped : bool
            Give read-only views of the file in memory, without a copy, where a dataset is stored
            as plain aligned bytes, as original TNG files are. They stay valid when the file is
            closed; it must not change while they are in use.
        needed : ndarray of int64 or None
            Rows that will be looked at, counted from ``start``, ascending; others may then hold
            zeros. What is not mapped is read in runs about these rows.

        Returns
        -------
        dict of str to ndarray
            One array per field, of length 0 where the file has no such particles.

        Raises
        ------
        DataMissingError
            The particles are there but not the field.
        DataFormatError
            The data cannot be read, are stored in part, are no numbers, or fields have different
            lengths.
        RangeError
            The range or the particle type does not exist.
        """
        self._check_type(part_type)
        count = self.counts[part_type]
        stop = count if stop is None else stop
        if not 0 <= start <= stop <= count:
            raise RangeError(
                f"rows {start}:{stop} of PartType{part_type} asked; {self.path} holds {count}"
            )
        if not count and self._group(part_type) is None:
            return {field: empty_field(field) for field in fields}
        result = {}
        for field in fields:
            mass = self._constant_mass(part_type, field)
            if mass is not None:
                result[field] = np.full(stop - start, mass)
                continue
            view = self._aligned(part_type, field) if mapped else None
            if view is not None:
                result[field] = view[start:stop]
                continue
            dataset = self._dataset(part_type, field)
            values = _rows(dataset, start, stop, needed)
            result[field] = _real(dataset, values) if field in _REAL else values
        return result

    def take(
        self,
        part_type: int,
        fields: Sequence[str],
        rows: NDArray[np.int64],
        *,
        start: int = 0,
        stop: int | None = None,
        mapped: bool = False,
    ) -> dict[str, NDArray[Any]]:
        """Read some rows of fields of a range of particles.

        Parameters
        ----------
        part_type, fields, start, stop, mapped
            As in `read`.
        rows : ndarray of int64
            Rows, counted from ``start``, ascending.

        Returns
        -------
        dict of str to ndarray
            One array per field, of the length of ``rows``.

        Raises
        ------
        DataMissingError, DataFormatError, RangeError
            As in `read`.
        """
        result = {}
        for field in fields:
            is_mapped = mapped and bool(self.counts[part_type])
            view = self._view(part_type, field) if is_mapped else None
            if view is None:
                read = self.read(part_type, [field], start=start, stop=stop, needed=rows)
                result[field] = read[field].take(rows, axis=0)
            else:
                result[field] = _gather(view[start:stop], rows)
        return result

    def _constant_mass(self, part_type: int, field: str) -> float | None:
        """Mass of every particle of a type whose masses are not stored, as of TNG's dark matter."""
        table = self.header.mass_table
        if field != "Masses" or table is None or not table[part_type] > 0:
            return None
        group = self._group(part_type)
        return None if group is None or field in group else table[part_type]

    def _dataset(self, part_type: int, field: str) -> StoredDataset:
        if (part_type, field) not in self._datasets:
            self._datasets[part_type, field] = self._find(part_type, field)
        return self._datasets[part_type, field]

    def _find(self, part_type: int, field: str) -> StoredDataset:
        group = self._group(part_type)
        dataset = None if group is None else find_dataset(group, self.path, field)
        if group is None or dataset is None:
            raise missing_field(
                f"PartType{part_type} of {self.path}",
                field,
                list(group or ()),
                self._snapshot_kind(),
            )
        if len(dataset) != self.counts[part_type]:
            raise DataFormatError(
                f"{self.path}: PartType{part_type}/{field} has {len(dataset)} rows, "
                f"other fields of the type have {self.counts[part_type]}"
            )
        if dataset.shape[1:] != empty_field(field).shape[1:]:
            raise DataFormatError(
                f"{self.path}: PartType{part_type}/{field} has shape {dataset.shape}; of TNG it is "
                f"{(*dataset.shape[:1], *empty_field(field).shape[1:])}"
            )
        require_tng_units(self.path, dataset.name, group[field])
        if field in _REAL and dataset.dtype.kind == "b":
            raise DataFormatError(
                f"{self.path}: {dataset.name} is of type {dataset.dtype}; numbers are needed"
            )
        return dataset

    def _aligned(self, part_type: int, field: str) -> NDArray[Any] | None:
        """All rows of a field as they lie in the file, where the kernels can use them there."""
        view = self._view(part_type, field)
        return view if view is not None and view.flags.aligned else None

    def _view(self, part_type: int, field: str) -> NDArray[Any] | None:
        """All rows of a field as they lie in the file; None where it has to be read or made."""
        key = part_type, field
        if self._constant_mass(part_type, field) is not None:
            return None
        if key not in self._views:
            dataset = self._dataset(part_type, field)
            mapping = self._map()
            as_stored = field not in _REAL or dataset.dtype in (np.float32, np.float64)
            self._views[key] = dataset.view(mapping) if mapping and as_stored else None
        return self._views[key]

    def _map(self) -> Mapping | None:
        if not self._is_mapped:
            self._mapping = Mapping.of(self._file, self.path)
            self._is_mapped = True
        return self._mapping

    def _snapshot_kind(self) -> str:
        if self.is_mini:
            full = " ".join(map(str, FULL_SNAPSHOTS))
            return f": this is a mini snapshot, which lacks some fields (full ones of TNG: {full})"
        return " (a full snapshot)"

    def _check_type(self, part_type: int) -> None:
        if not 0 <= part_type < N_PART_TYPES:
            raise RangeError(f"part_type is {part_type}; allowed are 0 to {N_PART_TYPES - 1}")

    def _group(self, part_type: int) -> Any | None:  # noqa: ANN401 - h5py's group
        self._check_type(part_type)
        return find_group(self._file, self.path, f"PartType{part_type}")

    def _count(self, part_type: int) -> int:
        group = self._group(part_type)
        if group is None:
            return 0
        if "Coordinates" in group:
            return len(require_dataset(group, self.path, "Coordinates"))
        return count_rows(group, self.path)

    def _warn_of_stale_counts(self, stated: tuple[int, ...] | None) -> None:
        if stated is not None and stated != self.counts:
            logger.warning(
                "%s: the header says %s particles by type, but the datasets hold %s",
                self.path,
                stated,
                self.counts,
            )


def _rows(
    dataset: StoredDataset, start: int, stop: int, needed: NDArray[np.int64] | None
) -> NDArray[Any]:
    """Read a range of rows, or of these the runs that are needed, with zeros between."""
    if needed is None or 2 * len(needed) > stop - start:
        return dataset.read(np.s_[start:stop])
    return dataset.read_runs(start, stop, _runs(needed))


def _gather(values: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Copy rows of an array that need not be aligned: as bytes, not to copy all of it first."""
    shape = len(rows), *values.shape[1:]
    size = values.dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
    as_bytes = np.ndarray(len(values), f"V{size}", values)
    return as_bytes.take(rows).view(values.dtype).reshape(shape)


def _real(dataset: StoredDataset, values: NDArray[Any]) -> NDArray[Any]:
    """Give real numbers as float32 or float64, every one exactly."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "f":
        return values.astype(np.float32, copy=False) if size < 4 else values
    if size == 8 and len(values):
        largest = max(int(values.max()), -int(values.min()))
        if largest > _EXACT:
            raise DataFormatError(
                f"{dataset.path}: {dataset.name} holds the integer {largest}, which float64 does "
                f"not hold exactly; allowed are integers up to {_EXACT}, and floats"
            )
    return values.astype(np.float32 if size < 4 else np.float64)


def _runs(rows: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Ranges that hold ascending rows and no gap longer than is worth a read of its own."""
    if len(rows) == 0:
        return []
    breaks = np.flatnonzero(np.diff(rows) > _GAP)
    begins = rows[np.concatenate([[0], breaks + 1])]
    ends = rows[np.concatenate([breaks, [len(rows) - 1]])] + 1
    return list(zip(begins.tolist(), ends.tolist(), strict=True))
