"""A simulation whose files lie on disk, in the layout of IllustrisTNG."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfr.errors import ConfigError, DataFormatError, DataMissingError, RangeError, SfrError
from sfr.hdf5 import FileCache, affordable, explained
from sfr.paths import numbered
from sfr.simulation.group_files import GroupFiles
from sfr.simulation.header import require_agreement, require_cosmological, require_snapshot
from sfr.simulation.layout import (
    chunk_numbers,
    group_chunk,
    group_folder,
    group_url,
    offsets_file,
    offsets_url,
    postprocessing_folder,
    snapshot_chunk,
    snapshot_folder,
    snapshot_url,
    tree_file,
    tree_files,
    tree_url,
)
from sfr.simulation.offsets import OffsetsFile
from sfr.simulation.particle_file import ParticleFile, Segment, empty_field
from sfr.simulation.protocol import (
    KINDS,
    N_PART_TYPES,
    Catalogue,
    FileKind,
    FileStatus,
    Header,
    ObjectKind,
)
from sfr.simulation.trees import SubLinkFiles

__all__ = ["FileRows", "LocalSimulation", "open_simulation"]

logger = logging.getLogger(__name__)

#: Chunks that are kept open, where the limit on open files allows as many.
_OPEN_CHUNKS = 64
_NAMES = {
    "L35n2160TNG": "TNG50-1",
    "L35n1080TNG": "TNG50-2",
    "L35n540TNG": "TNG50-3",
    "L35n270TNG": "TNG50-4",
    "L75n1820TNG": "TNG100-1",
    "L75n910TNG": "TNG100-2",
    "L75n455TNG": "TNG100-3",
    "L205n2500TNG": "TNG300-1",
    "L205n1250TNG": "TNG300-2",
    "L205n625TNG": "TNG300-3",
}
_LAYOUT = (
    "A simulation folder looks like TNG50-1/output/groups_099/fof_subhalo_tab_099.0.hdf5, "
    "TNG50-1/output/snapdir_099/snap_099.0.hdf5 and TNG50-1/postprocessing/offsets/; "
    "give TNG50-1 or TNG50-1/output"
)


@dataclass(frozen=True)
class FileRows:
    """Rows ``start:stop`` of one particle type in one snapshot chunk."""

    path: Path
    start: int
    stop: int


def open_simulation(path: str | Path, *, mapped: bool = False) -> LocalSimulation:
    """Open a simulation on disk.

    Parameters
    ----------
    path : str or Path
        The simulation's folder or the folder ``output`` in it; ``~`` is expanded.
    mapped : bool
        Map particles into memory instead of reading them, where that is possible.

    Returns
    -------
    LocalSimulation

    Raises
    ------
    DataMissingError
        The folder is not there, or holds no simulation.
    """
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.is_file() else "is not there"
        raise DataMissingError(f"simulation folder {folder} {what}. {_LAYOUT}")
    for candidate in (folder / "output", folder):
        # a folder that may not be listed is an error of its own, which a glob would swallow
        entries = candidate.iterdir() if candidate.is_dir() else ()
        if any(re.match(r"(groups|snapdir)_\d", path.name) and path.is_dir() for path in entries):
            return LocalSimulation(_at_home(candidate), mapped=mapped)
    found = sorted(entry.name for entry in folder.iterdir())
    shown = ", ".join(found[:8]) + (" ..." if len(found) > 8 else "") if found else "nothing"
    raise DataMissingError(f"{folder} holds no simulation; found in it: {shown}. {_LAYOUT}")


def _at_home(output: Path) -> Path:
    """Follow a link to the folder output, where only beside its target offsets and trees lie."""
    target = output.resolve()
    is_alone = not postprocessing_folder(output).is_dir()
    return target if is_alone and postprocessing_folder(target).is_dir() else output


class LocalSimulation:
    """Files of an IllustrisTNG-like simulation; ``output`` is the folder of that name.

    With ``mapped``, arrays of particles that lie in one chunk are read-only views of the file.
    Files are opened when needed and a few kept open; ``close`` (or a ``with`` block) closes
    them. Safe to use from several threads, which then read one after the other; a copy made by
    pickle opens its own files.
    """

    def __init__(self, output: Path, *, mapped: bool = False) -> None:
        self.output = output
        self.mapped = mapped
        self._lock = threading.RLock()
        self._chunks: FileCache[ParticleFile] = FileCache(
            ParticleFile, affordable(_OPEN_CHUNKS, each=ParticleFile.DESCRIPTORS)
        )
        self._offsets: dict[int, OffsetsFile] = {}
        self._groups: dict[int, GroupFiles] = {}
        #: Of each snapshot its first chunk that can be used, and the header of that.
        self._headers: dict[int, tuple[Path, Header]] = {}
        self._trees: SubLinkFiles | None = None

    def __reduce__(self) -> tuple[Callable[..., LocalSimulation], tuple[Any, ...]]:
        return partial(LocalSimulation, mapped=self.mapped), (self.output,)

    def __enter__(self) -> LocalSimulation:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all files; a later call opens them again."""
        with self._lock:
            self._chunks.close()
            for offsets in self._offsets.values():
                offsets.close()
            for groups in self._groups.values():
                groups.close()
            self._offsets.clear()
            self._groups.clear()

    @property
    def name(self) -> str:
        """TNG50-1 and the like, or the internal name."""
        snapshots = self.snapshots()
        if not snapshots:
            return "unknown"
        internal = self._group_files(snapshots[-1]).header.simulation_name
        return _NAMES.get(internal, internal)

    def identity(self, snap: int) -> dict[str, Any]:
        """JSON-able record of which data these are.

        It comes from the group catalogue alone, so it does not change when snapshot files are
        fetched later or the folder moves.
        """
        with self._lock:
            groups = self._group_files(snap)
            header = groups.header
            return {
                "name": header.simulation_name,
                "box_size": header.box_size,
                "snapshot": snap,
                "scale_factor": header.scale_factor,
                "n_groups": groups.totals["group"],
                "n_subhalos": groups.totals["subhalo"],
                "n_particles_in_groups": groups.n_ids_total,
            }

    def missing_catalogue_files(self, snap: int) -> tuple[Path, ...]:
        """Chunks of the group catalogue whose objects are not to be had, in order.

        They are not there, or the ids of their objects are not known without the offsets file.
        """
        with self._lock:
            groups = self._group_files(snap)
            missing = groups.missing
            if missing and not offsets_file(self.output, snap).is_file():
                return tuple(sorted({*missing, *groups.unplaced}, key=groups.paths.index))
            return missing

    def snapshots(self) -> list[int]:
        """Snapshots with at least one chunk of a group catalogue, ascending."""
        return [n for n in self.snapshot_folders() if chunk_numbers(group_folder(self.output, n))]

    def snapshot_folders(self) -> list[int]:
        """Snapshots with a folder for a group catalogue, whatever may be read of it, ascending."""
        return [number for number, _ in numbered(self.output, r"groups_(\d{3,})")]

    def catalogue_sources(self, snap: int) -> dict[str, Path]:
        """Files that are there of which a sample is made, by names that last (`source_path`)."""
        numbers = chunk_numbers(group_folder(self.output, snap))
        chunks = [group_chunk(self.output, snap, number) for number in numbers]
        return self._named([*chunks, offsets_file(self.output, snap), *tree_files(self.output)])

    def particle_sources(
        self,
        snap: int,
        kind: ObjectKind,
        part_type: int,
        object_ids: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> dict[str, Path]:
        """Files that are there of which particles of some objects are read; none is opened.

        Parameters
        ----------
        snap : int
            Snapshot number.
        kind : {"group", "subhalo"}
            What the objects are.
        part_type : int
            Type of the particles.
        object_ids, lengths : ndarray of int, shape (n,)
            The objects, and how many such particles each has.

        Returns
        -------
        dict of str to Path
            The offsets file and the chunks, by names that last (`source_path`).
        """
        with self._lock:
            offsets = self._offsets_file(snap)
            table = offsets.snapshot_files[:, part_type]
            holding = {*np.flatnonzero(np.diff(table)).tolist(), table.size - 1}
            numbers: set[int] = set()
            for object_id, length in zip(object_ids.tolist(), lengths.tolist(), strict=True):
                if length:
                    start = offsets.start(kind, object_id, part_type)
                    ends = np.searchsorted(table, [start, start + length - 1], side="right")
                    numbers.update(range(int(ends[0]) - 1, int(ends[1])))
        used = sorted(numbers & holding)
        chunks = [snapshot_chunk(self.output, snap, number) for number in used]
        return self._named([offsets_file(self.output, snap), *chunks])

    def _named(self, paths: Sequence[Path]) -> dict[str, Path]:
        roots = {path: self._root(path) for path in paths if path.is_file()}
        return {path.relative_to(root).as_posix(): path for path, root in roots.items()}

    def _root(self, path: Path) -> Path:
        return self.output if path.is_relative_to(self.output) else self.output.parent

    def source_path(self, name: str) -> Path:
        """Path of a file that `catalogue_sources` or `particle_sources` named, there or not."""
        path = self.output / name
        return path if path.is_file() else self.output.parent / name

    def header(self, snap: int) -> Header:
        """Header of a snapshot.

        Of the first snapshot chunk that is there; of the group catalogue, without particle
        numbers, where none is.

        Raises
        ------
        DataMissingError
            Neither is there.
        DataFormatError
            The two say different things, or the run is not cosmological.
        """
        with self._lock:
            if snap not in self._headers:
                numbers = [
                    number
                    for number in chunk_numbers(snapshot_folder(self.output, snap))
                    if snapshot_chunk(self.output, snap, number).is_file()
                ]
                if not numbers:
                    return self._group_files(snap).header
                first = next(self._readable(snap, numbers))
                self._headers[snap] = first.path, first.header
            return self._headers[snap][1]

    def catalogue(
        self,
        snap: int,
        *,
        subhalo_fields: Sequence[str],
        group_fields: Sequence[str],
        allow_partial: bool = False,
    ) -> Catalogue:
        """Columns of the group catalogue, in code units.

        Parameters
        ----------
        snap : int
            Snapshot number.
        subhalo_fields, group_fields : sequence of str
            Names as in the files.
        allow_partial : bool
            Take the chunks that are there; otherwise a missing chunk is an error.

        Returns
        -------
        Catalogue

        Raises
        ------
        DataMissingError
            A chunk or a field is not there.
        DataFormatError
            A chunk cannot be read, or chunks do not belong together.
        """
        with self._lock:
            groups = self._group_files(snap)
            missing = groups.missing
            if missing and not allow_partial:
                groups.require_all()
            columns: dict[ObjectKind, dict[str, NDArray[Any]]] = {}
            ids: dict[ObjectKind, NDArray[np.int64]] = {}
            for kind, fields in zip(KINDS, (group_fields, subhalo_fields), strict=True):
                if missing:
                    known = self._offsets_if_there(snap)
                    ids[kind], columns[kind] = groups.read_present(kind, fields, known)
                else:
                    columns[kind] = groups.read_all(kind, fields)
                    ids[kind] = np.arange(groups.totals[kind], dtype=np.int64)
            return Catalogue(
                header=groups.header,
                subhalo_ids=ids["subhalo"],
                group_ids=ids["group"],
                subhalos=columns["subhalo"],
                groups=columns["group"],
                n_subhalos_total=groups.totals["subhalo"],
                n_groups_total=groups.totals["group"],
                n_files=groups.n_files,
                missing_files=missing,
            )

    def value(self, snap: int, kind: ObjectKind, object_id: int, field: str) -> NDArray[Any]:
        """One field of the group catalogue for one object, in code units.

        Parameters
        ----------
        snap : int
            Snapshot number.
        kind : {"group", "subhalo"}
            Of which table.
        object_id : int
            Global id.
        field : str
            Name as in the files.

        Returns
        -------
        ndarray
            The row of the object.

        Raises
        ------
        DataMissingError
            The chunk or the offsets file is not there.
        DataFormatError
            The field cannot be read, or files do not belong together.
        RangeError
            No such object.
        """
        with self._lock:
            groups, offsets = self._group_files(snap), self._offsets_file(snap)
            return groups.value(kind, object_id, field, offsets)

    def particles(
        self, snap: int, kind: ObjectKind, object_id: int, part_type: int, fields: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        """Fields of the particles of one object.

        Parameters
        ----------
        snap : int
            Snapshot number.
        kind : {"group", "subhalo"}
            "group" includes every subhalo of the group and what is bound to none.
        object_id : int
            Global id.
        part_type : int
            0 gas, 1 dark matter, 3 tracers, 4 stars and wind, 5 black holes.
        fields : sequence of str
            Names as in the files.

        Returns
        -------
        dict of str to ndarray
            One array per field, in code units and file order; of length 0, with the field's
            shape and type, where the object has no such particles.

        Raises
        ------
        DataMissingError
            A chunk, the offsets file or a field is not there.
        DataFormatError
            A file cannot be read, or files do not belong together.
        RangeError
            No such object or particle type.
        """
        with self._lock:
            rows = self.rows(snap, kind, object_id, part_type)
            if not rows:
                return {field: self._empty(snap, part_type, field) for field in fields}
            parts = [
                self._chunks.get(part.path).read(
                    part_type, fields, start=part.start, stop=part.stop, mapped=self.mapped
                )
                for part in rows
            ]
        if len(parts) == 1:
            return parts[0]
        return {field: np.concatenate([part[field] for part in parts]) for field in fields}

    def segments(
        self, snap: int, kind: ObjectKind, object_id: int, part_type: int
    ) -> Iterator[Segment]:
        """Yield the particles of one object in pieces that fit in memory, in file order.

        Parameters and errors are those of `particles`; nothing is read before a piece is.
        """
        for part in self.rows(snap, kind, object_id, part_type):
            opened = partial(self._opened, part.path)
            with opened() as file:
                pieces = file.segments(
                    part_type, start=part.start, stop=part.stop, mapped=self.mapped, opened=opened
                )
            yield from pieces

    def rows(self, snap: int, kind: ObjectKind, object_id: int, part_type: int) -> list[FileRows]:
        """Where the particles of one object lie, for callers that read them piece by piece.

        Parameters and errors are those of `particles`.
        """
        if kind not in KINDS:
            raise ConfigError(f"kind is {kind!r}; allowed are {', '.join(KINDS)}")
        if not 0 <= part_type < N_PART_TYPES:
            raise RangeError(f"part_type is {part_type}; allowed are 0 to {N_PART_TYPES - 1}")
        with self._lock:
            offsets = self._offsets_file(snap)
            groups = self._group_files(snap)
            length = groups.length(kind, object_id, part_type, offsets)
            start = offsets.start(kind, object_id, part_type)
            return self._split(snap, part_type, start, length) if length else []

    def main_leaf_ids(
        self, snap: int, subhalo_ids: NDArray[np.integer[Any]]
    ) -> NDArray[np.int64] | None:
        """SubLink's MainLeafProgenitorID of each subhalo.

        All subhaloes of one main branch share it, so it tells the same galaxy over snapshots.

        Parameters
        ----------
        snap : int
            Snapshot number.
        subhalo_ids : ndarray of int
            Global ids.

        Returns
        -------
        ndarray of int64 or None
            -1 where a subhalo is in no tree; None where there are no trees.
        """
        ids = np.asarray(subhalo_ids, np.int64)
        with self._lock:
            offsets = self._offsets_if_there(snap)
            if offsets is None or not offsets.has_trees():
                return None
            paths = tree_files(self.output)
            if not paths:
                logger.warning(
                    "%s links subhaloes to SubLink trees, but %s is not there",
                    offsets.path,
                    tree_file(self.output, 0),
                )
                return None
            n_subhalos = offsets.n_objects("subhalo")
            if ids.size and not 0 <= ids.min() <= ids.max() < n_subhalos:
                raise RangeError(
                    f"subhalo ids {ids.min()} to {ids.max()} asked; snapshot {snap} has "
                    f"{n_subhalos}"
                )
            if self._trees is None:
                self._trees = SubLinkFiles(paths)
            rows = offsets.tree_rows(ids)
            return self._trees.main_leaf_ids(rows, snap=snap, subhalo_ids=ids)

    def require(
        self,
        snap: int,
        fields: Mapping[int, Sequence[str]],
        *,
        allow_partial: bool = False,
    ) -> None:
        """Fail with one clear message where a whole snapshot cannot be read.

        Parameters
        ----------
        snap : int
            Snapshot number.
        fields : mapping of int to sequence of str
            Fields that will be read, by particle type.
        allow_partial : bool
            Missing chunks are left for the objects that lie in them.

        Raises
        ------
        DataMissingError
            The offsets file, a chunk or a field is not there.
        """
        with self._lock:
            self._offsets_file(snap)
            header = self.header(snap)
            n_files = len(self._offsets_file(snap).snapshot_files)
            paths = [snapshot_chunk(self.output, snap, number) for number in range(n_files)]
            absent = [path for path in paths if not path.is_file()]
            if len(absent) == n_files or (absent and not allow_partial):
                raise DataMissingError(
                    f"{len(absent)} of {n_files} snapshot chunks are missing; the first is "
                    f"{absent[0]} ({snapshot_url(snap, int(absent[0].name.split('.')[1]))} of the "
                    "web API); fetch them, or use --allow-partial for the galaxies that need none"
                    " of them"
                )
            for part_type, names in fields.items():
                if header.num_part_total is not None and header.num_part_total[part_type] == 0:
                    continue
                for name in names:
                    self._empty(snap, part_type, name)

    def inventory(self, snap: int) -> list[FileStatus]:
        """State of every file that one snapshot needs.

        Parameters
        ----------
        snap : int
            Snapshot number.

        Returns
        -------
        list of FileStatus
            Group-catalogue chunks, snapshot chunks, the offsets file, the trees. Chunks whose
            number no file states are listed as one missing first chunk.
        """
        n_groups, n_snapshot = self._numbers_of_files(snap)
        groups = _statuses(
            "group catalogue",
            group_folder(self.output, snap),
            lambda: [
                _status(
                    "group catalogue",
                    group_chunk(self.output, snap, number),
                    group_url(snap, number),
                    lambda path: self._group_files(snap).check(path),
                )
                for number in range(n_groups)
            ],
        )
        chunks = _statuses(
            "snapshot",
            snapshot_folder(self.output, snap),
            lambda: [
                _status(
                    "snapshot",
                    snapshot_chunk(self.output, snap, number),
                    snapshot_url(snap, number),
                    partial(self._check_chunk, snap, number, compare=_are_whole(groups)),
                )
                for number in range(n_snapshot)
            ],
        )
        offsets = _status(
            "offsets",
            offsets_file(self.output, snap),
            offsets_url(snap),
            lambda _: self._check_offsets(snap, compare=_are_whole([*groups, *chunks])),
        )
        trees = _statuses(
            "trees",
            tree_file(self.output, 0).parent,
            lambda: [
                _status("trees", path, tree_url(), lambda path: SubLinkFiles([path]))
                for path in tree_files(self.output) or [tree_file(self.output, 0)]
            ],
        )
        return [*groups, *chunks, offsets, *trees]

    def _numbers_of_files(self, snap: int) -> tuple[int, int]:
        """Chunks that the catalogue and the snapshot should have, at least one each."""
        n_groups, n_snapshot, numbers = 1, 0, list[int]()
        try:
            n_groups = self._group_files(snap).n_files
        except (SfrError, OSError) as error:
            logger.debug("inventory: %s", error)
        try:
            numbers = chunk_numbers(snapshot_folder(self.output, snap))
        except OSError as error:
            logger.debug("inventory: %s", error)
        for number in numbers:
            try:
                n_snapshot = self._chunk(snap, number).header.num_files
                break
            except (SfrError, OSError) as error:
                logger.debug("inventory: %s", error)
        # the writer of TNG makes as many of the one as of the other
        return n_groups, n_snapshot or max([n_groups, *(number + 1 for number in numbers)])

    def _split(self, snap: int, part_type: int, start: int, length: int) -> list[FileRows]:
        """Distribute a range of global particle indices over the chunks."""
        table = self._offsets_file(snap).snapshot_files[:, part_type]
        number = int(np.searchsorted(table, start, side="right")) - 1
        rows = []
        remaining, row = length, start - int(table[number])
        while remaining:
            if number >= table.size:
                raise DataFormatError(
                    f"{remaining} of {length} particles of type {part_type} lie behind the last of "
                    f"{table.size} chunks of snapshot {snap}: catalogue, offsets and snapshot do "
                    "not belong together"
                )
            chunk = self._holding(snap, number, part_type)
            if chunk is not None:
                held = chunk.counts[part_type]
                taken = min(remaining, held - row)
                if taken > 0:
                    rows.append(FileRows(chunk.path, row, row + taken))
                    remaining -= taken
            number, row = number + 1, 0
        return rows

    def _holding(self, snap: int, number: int, part_type: int) -> ParticleFile | None:
        """Open a chunk that holds what the offsets file says; None where that is nothing."""
        table = self._offsets_file(snap).snapshot_files[:, part_type]
        totals = self.header(snap).num_part_total
        is_last = number + 1 == table.size
        if is_last and totals is None:
            # there is no chunk at all, which opening this one says
            return self._chunk(snap, number)
        end = totals[part_type] if is_last and totals is not None else table[number + 1]
        expected = int(end) - int(table[number])
        if not expected:
            return None
        chunk = self._chunk(snap, number)
        if chunk.counts[part_type] != expected:
            source = "offsets file and NumPart_Total say" if is_last else "offsets file says"
            raise DataFormatError(
                f"{chunk.path} holds {chunk.counts[part_type]} particles of type {part_type}, the "
                f"{source} {expected}: it is damaged or of another snapshot"
            )
        return chunk

    def _empty(self, snap: int, part_type: int, field: str) -> NDArray[Any]:
        """Array of no particles, as the chunks that do have the type hold the field."""
        table = self._offsets_file(snap).snapshot_files[:, part_type]
        holding = [*np.flatnonzero(np.diff(table) > 0).tolist(), table.size - 1]
        present = [n for n in holding if snapshot_chunk(self.output, snap, n).is_file()]
        lacking: DataMissingError | DataFormatError | None = None
        for chunk in self._readable(snap, present):
            if not chunk.counts[part_type]:
                continue
            try:
                return chunk.read(part_type, [field], stop=0)[field]
            except (DataMissingError, DataFormatError) as error:
                # such a chunk costs what lies in it, not the snapshot
                lacking = lacking or error
        if lacking is not None:
            raise lacking
        return empty_field(field)

    def _readable(self, snap: int, numbers: Sequence[int]) -> Iterator[ParticleFile]:
        """Open some chunks in turn: a damaged one costs only what lies in it, unless all are."""
        has_opened = False
        for number in numbers:
            try:
                chunk = self._chunk(snap, number)
            except (DataMissingError, DataFormatError) as error:
                if number == numbers[-1] and not has_opened:
                    raise
                logger.warning("%s", error)
                continue
            has_opened = True
            yield chunk

    def _chunk(self, snap: int, number: int) -> ParticleFile:
        path = snapshot_chunk(self.output, snap, number)
        if not path.is_file():
            raise DataMissingError(
                f"{path} is not there ({snapshot_url(snap, number)} of the web API)"
            )
        chunk = self._chunks.get(path)
        require_cosmological(path, chunk.header)
        require_snapshot(path, chunk.header, snap)
        for other in self._others(snap):
            require_agreement(path, chunk.header, *other)
        return chunk

    def _others(self, snap: int) -> Iterator[tuple[Path, Header]]:
        """Headers that those of all chunks of a snapshot must agree with."""
        if group_folder(self.output, snap).is_dir():
            groups = self._group_files(snap)
            yield groups.first_path, groups.header
        if snap in self._headers:
            yield self._headers[snap]

    @contextmanager
    def _opened(self, path: Path) -> Iterator[ParticleFile]:
        """Chunk for as long as one thread reads it; others may have closed it before."""
        with self._lock:
            yield self._chunks.get(path)

    def _group_files(self, snap: int) -> GroupFiles:
        if snap not in self._groups:
            self._groups[snap] = GroupFiles(self.output, snap)
        return self._groups[snap]

    def _offsets_file(self, snap: int) -> OffsetsFile:
        if snap not in self._offsets:
            offsets = OffsetsFile(self.output, snap)
            try:
                self._require_matching_offsets(offsets, snap)
            except SfrError:
                offsets.close()
                raise
            self._offsets[snap] = offsets
        return self._offsets[snap]

    def _offsets_if_there(self, snap: int) -> OffsetsFile | None:
        if not offsets_file(self.output, snap).is_file():
            return None
        return self._offsets_file(snap)

    def _check_chunk(self, snap: int, number: int, path: Path, *, compare: bool) -> None:
        """Raise where a chunk is not whole, or not of the same snapshot as the catalogue."""
        with ParticleFile(path) as chunk:
            chunk.check()
        if compare:
            self._chunk(snap, number)

    def _check_offsets(self, snap: int, *, compare: bool) -> None:
        """Raise where the offsets file is not whole, or does not fit the chunks that are there."""
        offsets = OffsetsFile(self.output, snap)
        try:
            offsets.check()
        finally:
            offsets.close()
        if not compare:
            return
        self._group_files(snap).require_placed(self._offsets_file(snap))
        for number in range(len(offsets.snapshot_files)):
            if not snapshot_chunk(self.output, snap, number).is_file():
                continue
            for part_type in range(N_PART_TYPES):
                self._holding(snap, number, part_type)

    def _require_matching_offsets(self, offsets: OffsetsFile, snap: int) -> None:
        groups = self._group_files(snap)
        for kind in KINDS:
            rows, total = offsets.n_objects(kind), groups.totals[kind]
            # some private offsets files carry one row more, the end of the last object
            if rows not in (total, total + 1):
                raise DataFormatError(
                    f"{offsets.path} has {rows} {kind}s, the group catalogue of snapshot {snap} "
                    f"has {total}: they do not belong together"
                )
            firsts = offsets.catalogue_files[kind]
            if firsts.shape != (groups.n_files,) or np.any(firsts > total):
                raise DataFormatError(
                    f"{offsets.path} has {len(firsts)} chunks of {kind}s and the last starts at "
                    f"{firsts[-1:].tolist()}; the group catalogue of snapshot {snap} has "
                    f"{groups.n_files} chunks with {total} {kind}s: they do not belong together"
                )
        header = self.header(snap)
        if header.num_part_total is None:
            return
        source, _ = self._headers[snap]
        if header.num_files != len(offsets.snapshot_files):
            raise DataFormatError(
                f"{offsets.path} has {len(offsets.snapshot_files)} snapshot chunks, {source} says "
                f"{header.num_files} (NumFilesPerSnapshot): they do not belong together"
            )
        if np.any(offsets.snapshot_files[-1] > np.array(header.num_part_total)):
            raise DataFormatError(
                f"{offsets.path} starts the last chunk at {offsets.snapshot_files[-1].tolist()}, "
                f"{source} counts {list(header.num_part_total)} particles (NumPart_Total): they "
                "do not belong together"
            )


def _are_whole(statuses: Sequence[FileStatus]) -> bool:
    """Whether other files can be compared with these: what is wrong with one is said once."""
    return any(status.ok for status in statuses) and not any(
        status.present and not status.readable for status in statuses
    )


def _statuses(
    kind: FileKind, folder: Path, look: Callable[[], list[FileStatus]]
) -> list[FileStatus]:
    """List the files of a folder; the folder itself where it may not be looked into."""
    try:
        return look()
    except OSError as error:
        detail = _refused(folder, error)
        return [FileStatus(kind, folder, present=True, readable=False, detail=detail, fetch="")]


def _status(kind: FileKind, path: Path, fetch: str, check: Callable[[Path], object]) -> FileStatus:
    is_there, is_good, detail = True, False, "missing"
    try:
        is_there = path.is_file()
        if is_there:
            check(path)
            is_good, detail = True, f"{path.stat().st_size} bytes"
    except SfrError as error:
        detail = str(error)
    except OSError as error:
        detail = _refused(path, error)
    return FileStatus(kind, path, present=is_there, readable=is_good, detail=detail, fetch=fetch)


def _refused(path: Path, error: OSError) -> str:
    """Say why the system does not let a file or a folder be looked at."""
    return f"{error.filename or path} cannot be looked at: {explained(error)[1] or error}"
