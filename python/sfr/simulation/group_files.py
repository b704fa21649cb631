"""The chunks of the group catalogue of one snapshot."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataFormatError, DataMissingError, RangeError
from sfr.hdf5 import (
    FileCache,
    StoredDataset,
    count_rows,
    find_dataset,
    find_group,
    open_hdf5,
    require_whole,
)
from sfr.simulation.hdf5 import attributes, missing_field, simulation_name
from sfr.simulation.layout import (
    chunk_numbers,
    group_chunk,
    group_folder,
    group_url,
    illustris_group_chunk,
)
from sfr.simulation.offsets import OffsetsFile
from sfr.simulation.protocol import KINDS, N_PART_TYPES, Header, ObjectKind

__all__ = ["GroupFiles"]

logger = logging.getLogger(__name__)

_HDF5_GROUP: dict[ObjectKind, str] = {"group": "Group", "subhalo": "Subhalo"}
_COUNT: dict[ObjectKind, tuple[str, ...]] = {
    "group": ("Ngroups",),
    "subhalo": ("Nsubgroups", "Nsubhalos"),
}
_OPEN_CHUNKS = 4
_UINT32_NONE = 2**32 - 1
#: Columns of one value a row; of those that are not here names tell, or nothing does.
_SINGLE = frozenset(
    {
        *("GroupFirstSub", "GroupLen", "GroupMass", "GroupNsubs", "GroupSFR"),
        *("SubhaloFlag", "SubhaloGrNr", "SubhaloHalfmassRad", "SubhaloIDMostbound", "SubhaloLen"),
        *("SubhaloMass", "SubhaloMassInHalfRad", "SubhaloMassInRad", "SubhaloParent"),
        *("SubhaloSFR", "SubhaloSFRinHalfRad", "SubhaloSFRinRad", "SubhaloVelDisp"),
        *("SubhaloVmax", "SubhaloVmaxRad"),
    }
)
_WITHOUT_FLAG = (
    "; runs without gas have none, and without it galaxies cannot be told from artefacts"
)


@dataclass(frozen=True)
class _Chunk:
    """One chunk that is there, and how many objects of each kind its datasets hold."""

    number: int
    path: Path
    counts: dict[ObjectKind, int]


class GroupFiles:
    """Group catalogue of one snapshot, as the files on disk hold it."""

    def __init__(self, output: Path, snap: int) -> None:
        self.output = output
        self.snap = snap
        self._require_layout()
        self._cache: FileCache[h5py.File] = FileCache(open_hdf5, _OPEN_CHUNKS)
        self._read_header()
        self._chunks: list[_Chunk] | None = None
        self._checked: dict[str, tuple[Path, dict[str, str]]] = {}

    def close(self) -> None:
        """Close all files."""
        self._cache.close()

    @property
    def paths(self) -> list[Path]:
        """Every chunk that the catalogue has, there or not."""
        return [group_chunk(self.output, self.snap, number) for number in range(self.n_files)]

    @property
    def missing(self) -> tuple[Path, ...]:
        """Chunks that are not there."""
        return tuple(path for path in self.paths if not path.is_file())

    def require_all(self) -> None:
        """Raise if a chunk is missing.

        Raises
        ------
        DataMissingError
            With the number of missing chunks and the first of them.
        """
        missing = self.missing
        if missing:
            number = self.paths.index(missing[0])
            raise DataMissingError(
                f"{len(missing)} of {self.n_files} group-catalogue chunks are missing; the first "
                f"is {missing[0]} ({group_url(self.snap, number)} of the web API). Fetch them, "
                "or use --allow-partial to work with the objects of the chunks that are there"
            )

    def read_all(self, kind: ObjectKind, fields: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Fields of every object."""
        self._check_totals(kind)
        return self._read(kind, fields, self.chunks)

    def read_present(
        self, kind: ObjectKind, fields: Sequence[str], offsets: OffsetsFile | None
    ) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
        """Global ids and fields of the objects in the chunks that are there."""
        placed = self._placed(kind, offsets)
        ids = [np.arange(first, first + chunk.counts[kind]) for first, chunk in placed]
        all_ids = np.concatenate([np.empty(0, np.int64), *ids])
        return all_ids, self._read(kind, fields, [chunk for _, chunk in placed])

    def check(self, path: Path) -> None:
        """Look at everything in a chunk.

        Raises
        ------
        DataMissingError, DataFormatError
            The first thing that is not as it must be.
        """
        with open_hdf5(path) as file:
            attributes(file, path)
            require_whole(file, path)
            for name in _HDF5_GROUP.values():
                self._check_columns(file, path, name)

    def _check_columns(self, file: h5py.File, path: Path, name: str) -> None:
        """Compare the columns of a chunk with those of the first one that was checked."""
        rows, columns = _rows(file, path, name), {}
        group = find_group(file, path, name) if rows else None
        for field in group or ():
            # those of TNG begin so; others may be anything
            column = _column_of(group, path, field) if field.startswith(name) else None
            if column is not None:
                _require_rows(column, rows)
                columns[field] = f"{column.dtype.newbyteorder('=')}, rows of {column.shape[1:]}"
        if rows:
            first, expected = self._checked.setdefault(name, (path, columns))
            if columns != expected:
                others = sorted(set(columns.items()) ^ set(expected.items()))
                raise DataFormatError(
                    f"{path}: {name} has other columns than that of {first}: {others[0][0]} "
                    f"({others[0][1]}). Chunks of different catalogues are mixed"
                )

    def _read(
        self, kind: ObjectKind, fields: Sequence[str], chunks: Sequence[_Chunk]
    ) -> dict[str, NDArray[Any]]:
        """Columns of some chunks, one after the other."""
        full = [chunk for chunk in chunks if chunk.counts[kind]]
        parts: dict[str, list[NDArray[Any]]] = {field: [] for field in fields}
        for chunk in full:
            for field, read in parts.items():
                values = self._column(chunk, kind, field)
                if read and (values.dtype, values.shape[1:]) != (read[0].dtype, read[0].shape[1:]):
                    raise DataFormatError(
                        f"{chunk.path}: {_HDF5_GROUP[kind]}/{field} has type {values.dtype} and "
                        f"rows of shape {values.shape[1:]}, that of {full[0].path} "
                        f"{read[0].dtype} and {read[0].shape[1:]}: chunks of different catalogues "
                        "are mixed"
                    )
                read.append(values)
        return {
            field: _signed(field, np.concatenate(read) if read else self._empty(kind, field))
            for field, read in parts.items()
        }

    def length(self, kind: ObjectKind, object_id: int, part_type: int, offsets: OffsetsFile) -> int:
        """Count the particles of a type in one object."""
        if not 0 <= object_id < self.totals[kind]:
            raise RangeError(
                f"{kind} {object_id} asked; snapshot {self.snap} has {self.totals[kind]} "
                f"({kind} ids start at 0)"
            )
        table = offsets.catalogue_files[kind]
        # chunks with nothing share their offset with the next: the last one that fits holds it
        number = int(np.searchsorted(table, object_id, side="right")) - 1
        path = group_chunk(self.output, self.snap, number)
        if not path.is_file():
            raise DataMissingError(
                f"{path}, which holds {kind} {object_id}, is not there "
                f"({group_url(self.snap, number)} of the web API)"
            )
        dataset = self._dataset(path, kind, f"{_HDF5_GROUP[kind]}LenType")
        row = object_id - int(table[number])
        if row >= len(dataset):
            raise DataFormatError(
                f"{offsets.path} places {kind} {object_id} in row {row} of {path}, which has "
                f"{len(dataset)}: the two are not of the same catalogue"
            )
        return int(dataset.read((row, part_type)))

    def _require_layout(self) -> None:
        if illustris_group_chunk(self.output, self.snap, 0).is_file():
            raise DataFormatError(
                f"{illustris_group_chunk(self.output, self.snap, 0)} is a group catalogue in the "
                "layout of the original Illustris, with its offsets inside; only the layout of "
                "IllustrisTNG (fof_subhalo_tab_NNN.C.hdf5) is supported"
            )
        folder = group_folder(self.output, self.snap)
        if not folder.is_dir():
            there = sorted(path.name for path in self.output.glob("groups_*")) or ["none"]
            raise DataMissingError(
                f"there is no group catalogue of snapshot {self.snap}: {folder} is not there. "
                f"Group catalogues in {self.output}: {', '.join(there)}"
            )
        if not chunk_numbers(folder):
            raise DataMissingError(
                f"{folder} holds no chunk of a group catalogue; the first would be "
                f"{group_chunk(self.output, self.snap, 0).name} "
                f"({group_url(self.snap, 0)} of the web API)"
            )

    def _read_header(self) -> None:
        number = chunk_numbers(group_folder(self.output, self.snap))[0]
        path = group_chunk(self.output, self.snap, number)
        if not path.is_file():
            raise DataFormatError(
                f"{group_folder(self.output, self.snap)} holds files under other names than "
                f"{path.name}; downloads of the web API (groupcat-NN.C.hdf5) have to be renamed"
            )
        file = self._cache.get(path)
        found = attributes(file, path)
        try:
            self.n_files = int(found["NumFiles"])
            self.totals: dict[ObjectKind, int] = {
                kind: int(found[f"{self._count_name(kind, found)}_Total"]) for kind in KINDS
            }
            self.header = Header(
                simulation_name=simulation_name(file, found),
                snapshot=self.snap,
                scale_factor=float(found["Time"]),
                redshift=float(found["Redshift"]),
                hubble_param=float(found["HubbleParam"]),
                omega0=float(found["Omega0"]),
                omega_lambda=float(found["OmegaLambda"]),
                box_size=float(found["BoxSize"]),
                num_part_total=None,
                num_files=self.n_files,
                mass_table=None,
            )
        except (TypeError, ValueError) as error:
            raise DataFormatError(f"{path}: Header cannot be used: {error}") from error
        except KeyError as error:
            raise DataFormatError(
                f"{path}: Header has no {error.args[0]}; it is not a group catalogue of TNG"
            ) from error
        self.n_ids_total = int(found.get("Nids_Total", 0))

    def _count_name(self, kind: ObjectKind, found: dict[str, Any]) -> str:
        names = _COUNT[kind]
        return next((name for name in names if f"{name}_Total" in found), names[0])

    @property
    def chunks(self) -> list[_Chunk]:
        """Chunks that are there, each opened once to count its objects."""
        if self._chunks is None:
            self._chunks = [
                self._scan(number, path) for number, path in enumerate(self.paths) if path.is_file()
            ]
        return self._chunks

    def _scan(self, number: int, path: Path) -> _Chunk:
        with open_hdf5(path) as file:
            found = attributes(file, path)
            if not np.isclose(float(found.get("Time", np.nan)), self.header.scale_factor):
                raise DataFormatError(
                    f"{path} is of scale factor {found.get('Time')}, the other chunks of "
                    f"{self.header.scale_factor}: chunks of different snapshots are mixed"
                )
            counts = {kind: _rows(file, path, _HDF5_GROUP[kind]) for kind in KINDS}
        return _Chunk(number, path, counts)

    def _check_totals(self, kind: ObjectKind) -> None:
        held = sum(chunk.counts[kind] for chunk in self.chunks)
        if held != self.totals[kind]:
            raise DataFormatError(
                f"the chunks of {group_folder(self.output, self.snap)} hold {held} {kind}s, their "
                f"headers say {self.totals[kind]}: chunks of different catalogues, or damaged ones"
            )

    def _placed(self, kind: ObjectKind, offsets: OffsetsFile | None) -> list[tuple[int, _Chunk]]:
        """Chunks whose global ids are known, each with its first id."""
        if offsets is not None:
            table = offsets.catalogue_files[kind]
            return [(int(table[chunk.number]), chunk) for chunk in self.chunks]
        leading = [chunk for index, chunk in enumerate(self.chunks) if chunk.number == index]
        left_out = len(self.chunks) - len(leading)
        if left_out and kind == "subhalo":
            logger.warning(
                "%d group-catalogue chunks after the first missing one are left out: without the "
                "offsets file the ids of their objects are not known",
                left_out,
            )
        firsts = np.cumsum([0, *(chunk.counts[kind] for chunk in leading)])
        return [(int(first), chunk) for first, chunk in zip(firsts, leading, strict=False)]

    def _column(self, chunk: _Chunk, kind: ObjectKind, field: str) -> NDArray[Any]:
        dataset = self._dataset(chunk.path, kind, field)
        _require_rows(dataset, chunk.counts[kind])
        return dataset.read()

    def _dataset(self, path: Path, kind: ObjectKind, field: str) -> StoredDataset:
        file, name = self._cache.get(path), _HDF5_GROUP[kind]
        group = find_group(file, path, name)
        found = None if group is None else _column_of(group, path, field)
        if found is None:
            hint = _WITHOUT_FLAG if field == "SubhaloFlag" else ""
            raise missing_field(f"{name} of {path}", field, list(group or ()), hint)
        return found

    def _empty(self, kind: ObjectKind, field: str) -> NDArray[Any]:
        """Column of no rows; its type is that of TNG, as far as names tell."""
        shape = (0, *_row(field))
        if field == "SubhaloFlag":
            return np.empty(shape, np.bool_)
        return np.empty(shape, np.int32 if _is_index(field) else np.float32)


def _row(field: str) -> tuple[int, ...]:
    """Shape of a row of a column."""
    if field.endswith("Type"):
        return (N_PART_TYPES,)
    return (3,) if field.endswith(("Pos", "CM", "Vel", "Spin")) else ()


def _is_index(field: str) -> bool:
    return "Len" in field or field.endswith(("GrNr", "Parent", "Nsubs", "FirstSub", "IDMostbound"))


def _column_of(group: h5py.Group, path: Path, field: str) -> StoredDataset | None:
    """Column of a chunk, as TNG has it; None where there is none."""
    found = find_dataset(group, path, field)
    if found is None:
        return None
    row = _row(field)
    if (row or field in _SINGLE) and found.shape[1:] != row:
        raise DataFormatError(
            f"{path}: {found.name} has shape {found.shape}; of TNG it is {(len(found), *row)}"
        )
    allowed = "iu" if _is_index(field) else "biu" if field == "SubhaloFlag" else "fiu"
    if (row or field in _SINGLE) and found.dtype.kind not in allowed:
        words = {"iu": "integers", "biu": "truth values", "fiu": "numbers"}[allowed]
        raise DataFormatError(
            f"{path}: {found.name} is of type {found.dtype}; {words} are expected"
        )
    return found


def _require_rows(dataset: StoredDataset | None, rows: int) -> None:
    if dataset is not None and len(dataset) != rows:
        raise DataFormatError(
            f"{dataset.path}: {dataset.name} has {len(dataset)} rows, other fields {rows}"
        )


def _rows(file: h5py.File, path: Path, name: str) -> int:
    """Objects in a chunk, from the shape of its first dataset."""
    group = find_group(file, path, name)
    return 0 if group is None else count_rows(group, path)


def _signed(field: str, column: NDArray[Any]) -> NDArray[Any]:
    """Give the unsigned 'no subhalo' of the original Illustris as -1."""
    if field != "GroupFirstSub" or column.dtype.kind != "u":
        return column
    signed = column.astype(np.int64)
    signed[signed == _UINT32_NONE] = -1
    return signed
