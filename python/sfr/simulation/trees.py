"""The SubLink merger trees, as far as they tell which galaxy is which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataFormatError
from sfr.hdf5 import StoredDataset, find_dataset, open_hdf5

__all__ = ["SubLinkFiles"]

_FIELD = "MainLeafProgenitorID"
#: What a row of a tree is: snapshot, and subhalo in it.
_IDENTITY = ("SnapNum", "SubfindID")


class SubLinkFiles:
    """Tree files with one numbering of rows over all of them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        counts = []
        for path in self.paths:
            with open_hdf5(path) as file:
                counts.append(len(_column(file, path, _FIELD)))
        #: First row of each file, and the number of rows of all.
        self.starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def main_leaf_ids(
        self, rows: NDArray[np.int64], *, snap: int, subhalo_ids: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Value of MainLeafProgenitorID in each row, -1 for row -1.

        Raises
        ------
        DataFormatError
            A row is not that of the subhalo of the snapshot, or is not there.
        """
        result = np.full(rows.shape, -1, np.int64)
        if rows.size and int(rows.max()) >= int(self.starts[-1]):
            raise DataFormatError(
                f"row {rows.max()} of the trees asked, the {len(self.paths)} files beside "
                f"{self.paths[0]} hold {self.starts[-1]}: some tree files are missing"
            )
        for path, start, stop in zip(self.paths, self.starts, self.starts[1:], strict=False):
            here = (rows >= start) & (rows < stop)
            if here.any():
                with open_hdf5(path) as file:
                    result[here] = _column(file, path, _FIELD).take(rows[here] - start)
                    _require_same(file, path, rows[here] - start, snap, subhalo_ids[here])
        return result


def _require_same(
    file: h5py.File,
    path: Path,
    rows: NDArray[np.int64],
    snap: int,
    subhalo_ids: NDArray[np.int64],
) -> None:
    """Raise where rows are not those of the subhaloes of a snapshot."""
    for name, expected in zip(_IDENTITY, (np.full(len(rows), snap), subhalo_ids), strict=True):
        if name not in file:
            continue
        found = _column(file, path, name).take(rows).astype(np.int64)
        if wrong := np.flatnonzero(found != expected).tolist():
            first = wrong[0]
            raise DataFormatError(
                f"{path}: {name} in row {rows[first]} is {found[first]}, the offsets file says "
                f"that the row is of subhalo {subhalo_ids[first]} of snapshot {snap}: trees "
                "and offsets are not of the same simulation"
            )


def _column(file: h5py.File, path: Path, name: str) -> StoredDataset:
    found = find_dataset(file, path, name)
    if found is None:
        raise DataFormatError(f"{path} has no dataset {name}: not a file of extended SubLink trees")
    if found.dtype.kind not in "iu" or len(found.shape) != 1:
        raise DataFormatError(
            f"{path}: {name} has type {found.dtype} and shape {found.shape}; one integer a row "
            "is expected"
        )
    return found
