"""The chunks of the group catalogue of one snapshot."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
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
    missing_field,
    open_hdf5,
    reading,
    require_whole,
)
from sfr.simulation.header import (
    CatalogueHeader,
    require_agreement,
    require_cosmological,
    require_snapshot,
    require_tng_units,
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
from sfr.simulation.protocol import KINDS, N_PART_TYPES, ObjectKind

__all__ = ["GroupFiles"]

logger = logging.getLogger(__name__)

_HDF5_GROUP: dict[ObjectKind, str] = {"group": "Group", "subhalo": "Subhalo"}
#: Fields that tell where a chunk belongs.
_OWN_IDS: dict[ObjectKind, tuple[str, ...]] = {
    "group": ("GroupFirstSub", "GroupNsubs", "GroupPos"),
    "subhalo": ("SubhaloGrNr", "SubhaloPos"),
}
#: One number for each kind of object.
_Ids = dict[ObjectKind, int]
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
        self._cache: FileCache[h5py.File] = FileCache(self._open, _OPEN_CHUNKS)
        self._first: CatalogueHeader | None = None
        self._read_header()
        self._chunks: list[_Chunk] | None = None
        self._checked: dict[str, tuple[Path, dict[str, str]]] = {}
        #: By what the ids that chunks state were found right.
        self._in_order: set[str] = set()

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
        if missing and self.chunks:
            # those that are there agree on the number
            number = self.paths.index(missing[0])
            raise DataMissingError(
                f"{len(missing)} of {self.n_files} group-catalogue chunks are missing; the first "
                f"is {missing[0]} ({group_url(self.snap, number)} of the web API). Fetch them, "
                "or use --allow-partial to work with the objects of the chunks that are there"
            )

    def read_all(self, kind: ObjectKind, fields: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Fields of every object."""
        self._check_totals(kind)
        self._require_in_order()
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
        """Look at everything in a chunk, and whether it is one of this catalogue.

        Raises
        ------
        DataMissingError, DataFormatError
            The first thing that is not as it must be.
        """
        with self._open(path) as file, reading(path, "what it holds"):
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
                require_tng_units(path, column.name, column)
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
        lengths = self.value(kind, object_id, f"{_HDF5_GROUP[kind]}LenType", offsets)
        return int(lengths[part_type])

    def value(
        self, kind: ObjectKind, object_id: int, field: str, offsets: OffsetsFile
    ) -> NDArray[Any]:
        """Row of one object in a field."""
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
        dataset = self._dataset(path, kind, field)
        self._require_placed(kind, number, len(dataset), offsets)
        return dataset.read(object_id - int(table[number]))

    def require_placed(self, offsets: OffsetsFile) -> None:
        """Raise where a chunk holds another number of objects than the offsets file says.

        Raises
        ------
        DataFormatError
            With the chunk and both numbers.
        """
        for kind in KINDS:
            for chunk in self.chunks:
                self._require_placed(kind, chunk.number, chunk.counts[kind], offsets)
        tables = offsets.catalogue_files
        self._require_stated(
            {
                chunk.number: {kind: int(tables[kind][chunk.number]) for kind in KINDS}
                for chunk in self.chunks
            },
            str(offsets.path),
        )

    def _require_in_order(self) -> None:
        """Raise where a chunk of a whole catalogue is under the name of another one."""
        firsts: dict[int, _Ids] = {}
        following: _Ids = {"group": 0, "subhalo": 0}
        for chunk in self.chunks:
            firsts[chunk.number] = following
            following = _shifted(following, chunk.counts, 1)
        self._require_stated(firsts, "counting from the first chunk on")

    def _require_stated(self, firsts: Mapping[int, _Ids], source: str) -> None:
        """Raise where a chunk says that it begins at other ids than it should.

        Chunks whose ids all start anew say nothing.
        """
        if source in self._in_order:
            return
        stated = [(chunk, self._stated_ids(chunk)) for chunk in self.chunks]
        if any(any(found.values()) for _, found in stated if found):
            for chunk, found in stated:
                first = firsts[chunk.number]
                if found and found != first:
                    raise DataFormatError(
                        f"{chunk.path} says that it begins at group {found['group']} and subhalo "
                        f"{found['subhalo']} (SubhaloGrNr, GroupFirstSub), {source} it is group "
                        f"{first['group']} and subhalo {first['subhalo']}: it is another chunk "
                        "under this name, or the offsets file is of another catalogue. Fetch "
                        "both again"
                    )
        self._in_order.add(source)

    def _require_placed(
        self, kind: ObjectKind, number: int, rows: int, offsets: OffsetsFile
    ) -> None:
        firsts = [*offsets.catalogue_files[kind].tolist(), self.totals[kind]]
        if firsts[number + 1] - firsts[number] != rows:
            raise DataFormatError(
                f"{offsets.path}: FileOffsets/{_HDF5_GROUP[kind]} gives "
                f"{group_chunk(self.output, self.snap, number)} "
                f"{firsts[number + 1] - firsts[number]} {kind}s, it holds {rows}: "
                "the two are not of the same catalogue"
            )

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
        with reading(path, "Header"):
            found = CatalogueHeader.read(file, path, self.snap)
        self.first_path, self._first = path, found
        self.header = found.header
        self.n_files = found.header.num_files
        self.totals = found.totals
        self.n_ids_total = found.n_ids_total
        self._require_no_further_chunks()

    def _require_no_further_chunks(self) -> None:
        for number in chunk_numbers(group_folder(self.output, self.snap)):
            path = group_chunk(self.output, self.snap, number)
            if number >= self.n_files and path.is_file():
                raise DataFormatError(
                    f"{path} is chunk {number}, counted from 0; Header/NumFiles of "
                    f"{self.paths[0].name} is {self.n_files}: chunks of different catalogues"
                )

    def _open(self, path: Path) -> h5py.File:
        """Open a chunk and check that it is one of this catalogue."""
        file = open_hdf5(path)
        try:
            self._check(path, file)
        except BaseException:
            file.close()
            raise
        return file

    def _check(self, path: Path, file: h5py.File) -> None:
        with reading(path, "Header"):
            found = CatalogueHeader.read(file, path, self.snap)
        with reading(path, "what it holds"):
            held = {kind: _rows(file, path, _HDF5_GROUP[kind]) for kind in KINDS}
        require_cosmological(path, found.header)
        require_snapshot(path, found.header, self.snap)
        if self._first is not None:
            first, expected = self.first_path, self._first
            require_agreement(path, found.header, first, expected.header)
            for (what, total), (_, other) in zip(
                found.totalled(), expected.totalled(), strict=True
            ):
                if total != other:
                    raise DataFormatError(
                        f"{path}: the catalogue has {total} {what} in all, {first} says {other}: "
                        "chunks of different catalogues are mixed"
                    )
        for kind in KINDS:
            if held[kind] != found.counts[kind]:
                raise DataFormatError(
                    f"{path}: Header says {found.counts[kind]} {kind}s in this file, its datasets "
                    f"hold {held[kind]}: it is damaged"
                )

    @property
    def chunks(self) -> list[_Chunk]:
        """Chunks that are there, each opened once to count its objects."""
        if self._chunks is None:
            self._chunks = [
                self._scan(number, path) for number, path in enumerate(self.paths) if path.is_file()
            ]
        return self._chunks

    def _scan(self, number: int, path: Path) -> _Chunk:
        with self._open(path) as file:
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
            self.require_placed(offsets)
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
        """First ids as a chunk states them, None where they cannot be."""
        found = self._stated_ids(chunk)
        before = [other for other in self.chunks if other.number < chunk.number]
        for kind in KINDS:
            # ids that start anew in each chunk fail here
            least = sum(other.counts[kind] for other in before)
            if len(before) < chunk.number:
                least += 1
            if found is None or not least <= found[kind] <= self.totals[kind] - chunk.counts[kind]:
                return None
        return found

    def _stated_ids(self, chunk: _Chunk) -> _Ids | None:
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
        return _ids_by_position(columns)

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
        require_tng_units(path, found.name, file[name][field])
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
