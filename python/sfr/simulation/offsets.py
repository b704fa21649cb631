"""The offsets file of one snapshot: where the particles of every object start."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataFormatError, DataMissingError, RangeError
from sfr.hdf5 import StoredDataset, find_dataset, open_hdf5, require_whole
from sfr.simulation.layout import offsets_file, offsets_url
from sfr.simulation.protocol import N_PART_TYPES, ObjectKind

__all__ = ["OffsetsFile"]

logger = logging.getLogger(__name__)

_GROUPS: dict[ObjectKind, str] = {"group": "Group", "subhalo": "Subhalo"}


class OffsetsFile:
    """Offsets of one snapshot.

    The tables of files are read at once (a row per file); those of objects, with millions of
    rows, row by row.
    """

    def __init__(self, output: Path, snap: int) -> None:
        self.path = offsets_file(output, snap)
        if not self.path.is_file():
            raise DataMissingError(
                f"{self.path} is not there; it says where the particles of every object start. "
                f"It is {offsets_url(snap)} of the web API and lies in postprocessing/offsets"
            )
        self._file = open_hdf5(self.path)
        try:
            #: First particle of each type in each snapshot chunk, (n_files, 6).
            self.snapshot_files = self._by_type(self._table("FileOffsets/SnapByType"))
            #: First object of each group-catalogue chunk.
            self.catalogue_files = {
                kind: self._of_files(f"FileOffsets/{name}") for kind, name in _GROUPS.items()
            }
            self._starts = {
                kind: self._integers(f"{name}/SnapByType", (N_PART_TYPES,))
                for kind, name in _GROUPS.items()
            }
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def n_objects(self, kind: ObjectKind) -> int:
        """Count the rows of groups or subhaloes."""
        starts = self._starts[kind]
        return 0 if starts is None else len(starts)

    def check(self) -> None:
        """Look at everything in the file.

        Raises
        ------
        DataMissingError, DataFormatError
            The first thing that is not as it must be.
        """
        require_whole(self._file, self.path)
        self.has_trees()

    def start(self, kind: ObjectKind, object_id: int, part_type: int) -> int:
        """Global index of the first particle of an object."""
        starts = self._starts[kind]
        if starts is None or not 0 <= object_id < len(starts):
            raise RangeError(
                f"{kind} {object_id} asked; {self.path} has {self.n_objects(kind)} of them"
            )
        start = int(starts.read((object_id, part_type)))
        if start < 0:
            raise DataFormatError(
                f"{self.path}: {starts.name}[{object_id}, {part_type}] is {start}; offsets that do "
                "not fit 32 bits must be stored as int64"
            )
        return start

    def has_trees(self) -> bool:
        """Whether it links subhaloes to SubLink."""
        return self._tree_rows is not None

    def tree_rows(self, subhalo_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row of each subhalo over all SubLink files, -1 where it is in no tree."""
        if self._tree_rows is None:
            raise DataFormatError(f"{self.path} has no dataset Subhalo/SubLink/RowNum")
        return self._tree_rows.take(subhalo_ids).astype(np.int64)

    @cached_property
    def _tree_rows(self) -> StoredDataset | None:
        return self._integers("Subhalo/SubLink/RowNum", ())

    def _integers(self, name: str, row: tuple[int, ...]) -> StoredDataset | None:
        """Table of objects, with rows of a shape; None where there is none."""
        found = find_dataset(self._file, self.path, name)
        if found is None:
            return None
        self._require_integers(found)
        if len(found) and found.shape[1:] != row:
            raise DataFormatError(
                f"{self.path}: {name} has shape {found.shape}; {('N', *row)} is expected"
            )
        return found

    def _require_integers(self, found: StoredDataset) -> None:
        if found.dtype.kind not in "iu":
            raise DataFormatError(
                f"{self.path}: {found.name} has type {found.dtype}; offsets are integers"
            )

    def _table(self, name: str) -> NDArray[np.int64]:
        found = find_dataset(self._file, self.path, name)
        if found is None:
            raise DataFormatError(f"{self.path} has no dataset {name}: not an offsets file of TNG")
        self._require_integers(found)
        values = found.read()
        # unsigned offsets wrap in differences
        table: NDArray[np.int64] = values.astype(np.int64)
        rows = table.T if _looks_transposed(table) else table
        if np.any(rows < 0) or np.any(np.diff(rows, axis=0) < 0):
            raise DataFormatError(
                f"{self.path}: {name} is not ascending; offsets that do not fit 32 bits must be "
                "stored as int64"
            )
        return table

    def _of_files(self, name: str) -> NDArray[np.int64]:
        table = self._table(name)
        if table.ndim != 1 or not table.size or table[0]:
            raise DataFormatError(
                f"{self.path}: {name} has shape {table.shape} and begins with "
                f"{table[:1].tolist()}; one number per chunk, the first 0, is expected"
            )
        return table

    def _by_type(self, table: NDArray[Any]) -> NDArray[np.int64]:
        if _looks_transposed(table):
            logger.warning("%s: FileOffsets/SnapByType is (type, file); transposed", self.path)
            table = np.ascontiguousarray(table.T)
        if table.ndim != 2 or table.shape[1] != N_PART_TYPES or np.any(table[:1] != 0):
            raise DataFormatError(
                f"{self.path}: FileOffsets/SnapByType has shape {table.shape} and first row "
                f"{table[:1].tolist()}; one row of {N_PART_TYPES} per snapshot chunk, the first of "
                "zeros, is expected"
            )
        return table


def _looks_transposed(table: NDArray[Any]) -> bool:
    """One row per type instead of one per file: then the first column is of zeros."""
    if table.ndim != 2 or table.shape[0] != N_PART_TYPES or table.size == 0:
        return False
    if table.shape[1] != N_PART_TYPES:
        return True
    return bool(np.all(table[:, 0] == 0) and np.any(table[0] != 0))
