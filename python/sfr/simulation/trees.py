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


class SubLinkFiles:
    """Tree files with one numbering of rows over all of them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        counts = []
        for path in self.paths:
            with open_hdf5(path) as file:
                counts.append(len(_leaves(file, path)))
        #: First row of each file, and the number of rows of all.
        self.starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def main_leaf_ids(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Value of MainLeafProgenitorID in each row, -1 for row -1."""
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
                    result[here] = _leaves(file, path).take(rows[here] - start)
        return result


def _leaves(file: h5py.File, path: Path) -> StoredDataset:
    found = find_dataset(file, path, _FIELD)
    if found is None:
        raise DataFormatError(
            f"{path} has no dataset {_FIELD}: not a file of extended SubLink trees"
        )
    if found.dtype.kind not in "iu" or len(found.shape) != 1:
        raise DataFormatError(
            f"{path}: {_FIELD} has type {found.dtype} and shape {found.shape}; one integer a row "
            "is expected"
        )
    return found
