"""The chunks of the group catalogue of one snapshot."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from illustris_python import groupcat
from numpy.typing import NDArray

from sfr.errors import DataFormatError, DataMissingError, RangeError
from sfr.simulation.hdf5 import (
    FileCache,
    attributes,
    missing_field,
    open_hdf5,
    reading,
    simulation_name,
)
from sfr.simulation.layout import (
    chunk_numbers,
    group_chunk,
    group_folder,
    group_url,
    illustris_group_chunk,
    offsets_file,
    offsets_url,
)
from sfr.simulation.offsets import OffsetsFile
from sfr.simulation.protocol import KINDS, Header, ObjectKind

__all__ = ["GroupFiles"]

logger = logging.getLogger(__name__)

_HDF5_GROUP: dict[ObjectKind, str] = {"group": "Group", "subhalo": "Subhalo"}
_COUNT: dict[ObjectKind, tuple[str, ...]] = {
    "group": ("Ngroups",),
    "subhalo": ("Nsubgroups", "Nsubhalos"),
}
#: Fields that tell where a chunk belongs.
_OWN_IDS: dict[ObjectKind, tuple[str, ...]] = {
    "group": ("GroupFirstSub", "GroupNsubs", "GroupPos"),
    "subhalo": ("SubhaloGrNr", "SubhaloPos"),
}
#: One number for each kind of object.
_Ids = dict[ObjectKind, int]
_OPEN_CHUNKS = 4
_UINT32_NONE = 2**32 - 1
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
        """Fields of every object, through illustris_python."""
        wanted = list(dict.fromkeys(fields))
        self._check_totals(kind)
        if not wanted or not self.totals[kind]:
            return {field: self._empty(kind, field) for field in wanted}
        self._require_fields(kind, wanted)
        said = io.StringIO()
        with contextlib.redirect_stdout(said), reading(group_folder(self.output, self.snap), kind):
            found = groupcat.loadObjects(
                str(self.output), self.snap, _HDF5_GROUP[kind], self._count_name(kind), wanted, 1
            )
        if said.getvalue().strip():
            logger.info("illustris_python: %s", said.getvalue().strip())
        columns = found if isinstance(found, dict) else {wanted[0]: found}
        return {field: _signed(field, columns[field]) for field in wanted}

    def read_present(
        self, kind: ObjectKind, fields: Sequence[str], offsets: OffsetsFile | None
    ) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
        """Global ids and fields of the objects in the chunks that are there."""
        wanted = list(dict.fromkeys(fields))
        placed = self._placed(kind, offsets)
        ids = [np.arange(first, first + chunk.counts[kind]) for first, chunk in placed]
        full = [chunk for _, chunk in placed if chunk.counts[kind]]
        if full:
            self._require_fields(kind, wanted, full)
            columns = {
                field: np.concatenate([self._column(chunk, kind, field) for chunk in full])
                for field in wanted
            }
        else:
            columns = {field: self._empty(kind, field) for field in wanted}
        all_ids = np.concatenate([np.empty(0, np.int64), *ids])
        return all_ids, {field: _signed(field, column) for field, column in columns.items()}

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
        name = f"{_HDF5_GROUP[kind]}/{_HDF5_GROUP[kind]}LenType"
        with reading(path, name):
            dataset = self._cache.get(path)[name]
            row = object_id - int(table[number])
            if row >= dataset.shape[0]:
                raise DataFormatError(
                    f"{offsets.path} places {kind} {object_id} in row {row} of {path}, which has "
                    f"{dataset.shape[0]}: the two are not of the same catalogue"
                )
            return int(dataset[row, part_type])

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
        numbers = chunk_numbers(group_folder(self.output, self.snap))
        paths = [group_chunk(self.output, self.snap, number) for number in numbers]
        # other files of the folder may end in the same way
        path = next(filter(Path.is_file, paths), paths[0])
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

    def _count_name(self, kind: ObjectKind, found: dict[str, Any] | None = None) -> str:
        if found is None:
            return {"group": "groups", "subhalo": "subgroups"}[kind]
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
            counts = {kind: _rows(file, _HDF5_GROUP[kind]) for kind in KINDS}
        return _Chunk(number, path, counts)

    def _check_totals(self, kind: ObjectKind) -> None:
        held = sum(chunk.counts[kind] for chunk in self.chunks)
        if held != self.totals[kind]:
            raise DataFormatError(
                f"the chunks of {group_folder(self.output, self.snap)} hold {held} {kind}s, their "
                f"headers say {self.totals[kind]}: chunks of different catalogues, or damaged ones"
            )

    def _require_fields(
        self, kind: ObjectKind, fields: Sequence[str], chunks: Sequence[_Chunk] | None = None
    ) -> None:
        chunk = next(chunk for chunk in chunks or self.chunks if chunk.counts[kind])
        available = list(self._cache.get(chunk.path)[_HDF5_GROUP[kind]])
        for field in fields:
            if field not in available:
                hint = _WITHOUT_FLAG if field == "SubhaloFlag" else ""
                raise missing_field(f"{_HDF5_GROUP[kind]} of {chunk.path}", field, available, hint)

    def _placed(self, kind: ObjectKind, offsets: OffsetsFile | None) -> list[tuple[int, _Chunk]]:
        """Chunks whose global ids are known, each with its first id."""
        if offsets is not None:
            table = offsets.catalogue_files[kind]
            return [(int(table[chunk.number]), chunk) for chunk in self.chunks]
        firsts = self._first_ids
        left_out = self.unplaced
        if left_out and kind == "subhalo":
            logger.warning(
                "%d group-catalogue chunks are left out, the first is %s: the ids of their objects "
                "do not follow from the chunks that are there; fetch %s (%s of the web API)",
                len(left_out),
                left_out[0].name,
                offsets_file(self.output, self.snap),
                offsets_url(self.snap),
            )
        return [(firsts[c.number][kind], c) for c in self.chunks if c.number in firsts]

    @property
    def unplaced(self) -> tuple[Path, ...]:
        """Chunks that are there, whose objects have no known ids without the offsets file."""
        left = (chunk for chunk in self.chunks if chunk.number not in self._first_ids)
        return tuple(chunk.path for chunk in left if any(chunk.counts.values()))

    @functools.cached_property
    def _first_ids(self) -> dict[int, _Ids]:
        """First global ids of the chunks for which they follow from the chunks themselves.

        They follow by counting from the first chunk on, from the last one back, and from any
        chunk that says where it belongs (`_own_ids`).
        """
        chunks = {chunk.number: chunk for chunk in self.chunks}
        firsts: dict[int, _Ids] = {}
        for chunk in self.chunks:
            counted: _Ids | None = None
            if chunk.number == 0:
                counted = {"group": 0, "subhalo": 0}
            elif chunk.number - 1 in firsts:
                counted = _shifted(firsts[chunk.number - 1], chunks[chunk.number - 1].counts, 1)
            elif chunk.number == self.n_files - 1:
                counted = _shifted(self.totals, chunk.counts, -1)
            stated = self._own_ids(chunk)
            if counted and stated and counted != stated:
                raise DataFormatError(
                    f"{chunk.path} says that it begins at group {stated['group']} and subhalo "
                    f"{stated['subhalo']}, the other chunks make it {counted['group']} and "
                    f"{counted['subhalo']}: chunks of different catalogues, or damaged ones"
                )
            if found := counted or stated:
                firsts[chunk.number] = found
        for chunk in reversed(self.chunks):
            if chunk.number not in firsts and chunk.number + 1 in firsts:
                firsts[chunk.number] = _shifted(firsts[chunk.number + 1], chunk.counts, -1)
        self._require_order(firsts)
        return firsts

    def _own_ids(self, chunk: _Chunk) -> _Ids | None:
        """First ids as a chunk states them: None where it does not, or where they contradict.

        ``SubhaloGrNr`` and ``GroupFirstSub`` are global ids, so one subhalo that is known to be
        the first of one group tells both; it is known by its position, which is that of the group
        to the last bit. Ids alone do not tell: groups of one subhalo each look all the same.
        """
        names = set(_OWN_IDS["group"]) | set(_OWN_IDS["subhalo"])
        columns: dict[str, NDArray[Any]] = {}
        for kind, fields in _OWN_IDS.items():
            group = self._cache.get(chunk.path).get(_HDF5_GROUP[kind], {})
            columns |= {
                field: _signed(field, self._column(chunk, kind, field))
                for field in fields
                if field in group
            }
        if columns.keys() != names or not (chunk.counts["group"] and chunk.counts["subhalo"]):
            return None
        found = _ids_by_position(columns)
        before = [other for other in self.chunks if other.number < chunk.number]
        for kind in KINDS:
            # ids that start anew in each chunk fail here
            least = sum(other.counts[kind] for other in before)
            if len(before) < chunk.number:
                least += 1
            if found is None or not least <= found[kind] <= self.totals[kind] - chunk.counts[kind]:
                return None
        return found

    def _require_order(self, firsts: Mapping[int, _Ids]) -> None:
        placed = [chunk for chunk in self.chunks if chunk.number in firsts]
        for kind in KINDS:
            for chunk, following in pairwise(placed):
                end = firsts[chunk.number][kind] + chunk.counts[kind]
                start = firsts[following.number][kind]
                if end > start or (end != start and following.number == chunk.number + 1):
                    raise DataFormatError(
                        f"{chunk.path} ends at {kind} {end}, {following.path} starts at {start}: "
                        "chunks of different catalogues, or damaged ones"
                    )

    def _column(self, chunk: _Chunk, kind: ObjectKind, field: str) -> NDArray[Any]:
        with reading(chunk.path, f"{_HDF5_GROUP[kind]}/{field}"):
            return np.asarray(self._cache.get(chunk.path)[_HDF5_GROUP[kind]][field][()])

    def _empty(self, kind: ObjectKind, field: str) -> NDArray[Any]:
        """Column of no rows; its type is that of TNG, as far as names tell."""
        if field.endswith(("Type", "TypeInRad")):
            shape: tuple[int, ...] = (0, 6)
        elif field.endswith(("Pos", "CM", "Vel", "Spin")):
            shape = (0, 3)
        else:
            shape = (0,)
        if field == "SubhaloFlag":
            return np.empty(shape, np.bool_)
        integer = "Len" in field or field.endswith(("GrNr", "Parent", "Nsubs", "FirstSub"))
        return np.empty(shape, np.int32 if integer else np.float32)


def _shifted(ids: _Ids, counts: _Ids, sign: int) -> _Ids:
    return {kind: ids[kind] + sign * counts[kind] for kind in KINDS}


def _ids_by_position(columns: Mapping[str, NDArray[Any]]) -> _Ids | None:
    """Find the global ids of the first group and the first subhalo of a chunk.

    Parameters
    ----------
    columns : mapping of str to ndarray
        The fields of `_OWN_IDS` of all rows of the chunk.

    Returns
    -------
    dict or None
        None where no group's position is that of a subhalo, or where rows contradict each other.
    """
    group_of = columns["SubhaloGrNr"].astype(np.int64)
    first_sub, n_subs = (columns[name].astype(np.int64) for name in ("GroupFirstSub", "GroupNsubs"))
    heads = np.flatnonzero(np.diff(group_of, prepend=group_of[0] - 1))
    rows = {columns["SubhaloPos"][row].tobytes(): int(row) for row in heads}
    candidates = set()
    for place in np.flatnonzero(n_subs > 0).tolist():
        row = rows.get(columns["GroupPos"][place].tobytes())
        if row is not None:
            candidates.add((int(group_of[row]) - place, int(first_sub[place]) - row))
    if len(candidates) != 1:
        return None
    group, subhalo = candidates.pop()
    # every subhalo whose group is here must be where its group says
    ids, places = subhalo + np.arange(group_of.size), group_of - group
    here = (places >= 0) & (places < n_subs.size)
    start = first_sub[places[here]]
    fits = (start <= ids[here]) & (ids[here] < start + n_subs[places[here]])
    has = n_subs > 0
    low, high = first_sub[has], first_sub[has] + n_subs[has]
    overlap = np.minimum(high, subhalo + group_of.size) - np.maximum(low, subhalo)
    is_whole = int(np.maximum(overlap, 0).sum()) == int(here.sum())
    return {"group": group, "subhalo": subhalo} if fits.all() and is_whole else None


def _rows(file: h5py.File, name: str) -> int:
    """Objects in a chunk, from the shape of its first dataset."""
    group = file.get(name)
    # the truth value of an h5py group says whether it is open, not whether it is empty
    return int(group[min(group)].shape[0]) if group is not None and len(group) else 0


def _signed(field: str, column: NDArray[Any]) -> NDArray[Any]:
    """Give the unsigned 'no subhalo' of the original Illustris as -1."""
    if field != "GroupFirstSub" or column.dtype.kind != "u":
        return column
    signed = column.astype(np.int64)
    signed[signed == _UINT32_NONE] = -1
    return signed
