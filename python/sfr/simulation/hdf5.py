"""Opening HDF5 files with errors that name the file, and keeping a few of them open."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataFormatError, DataMissingError

__all__ = [
    "FileCache",
    "missing_field",
    "open_hdf5",
    "reading",
    "take_rows",
]


class _Closable(Protocol):
    def close(self) -> None: ...


FileT = TypeVar("FileT", bound=_Closable)


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises
    ------
    DataMissingError
        There is no such file.
    DataFormatError
        It is not HDF5, or cut short.
    """
    if path.is_dir():
        raise DataMissingError(f"{path} is a folder; give a file")
    if not path.is_file():
        raise DataMissingError(f"{path} is not there")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        size = path.stat().st_size
        raise DataFormatError(
            f"{path} ({size} bytes) cannot be opened as HDF5: {error}. "
            "It may be an incomplete download; fetch it again"
        ) from error


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn what h5py raises inside the block into an error that names the file."""
    try:
        yield
    except (DataFormatError, DataMissingError):
        raise
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise DataFormatError(f"{path}: {what} cannot be read: {error}") from error


def take_rows(dataset: h5py.Dataset, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Rows of a dataset in any order; only what is needed is read where that is faster."""
    few = rows.size * 1000 < dataset.shape[0]
    if not few:
        return np.asarray(dataset[()][rows])
    result = np.empty((rows.size, *dataset.shape[1:]), dataset.dtype)
    for index in np.argsort(rows, kind="stable"):
        result[index] = dataset[rows[index]]
    return result


class FileCache(Generic[FileT]):
    """The files used last, open; the one unused for longest is closed first."""

    def __init__(self, opener: Callable[[Path], FileT], capacity: int) -> None:
        self._opener = opener
        self._capacity = capacity
        self._open: OrderedDict[Path, FileT] = OrderedDict()

    def get(self, path: Path) -> FileT:
        """Open file of a path."""
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        file = self._opener(path)
        self._open[path] = file
        while len(self._open) > self._capacity:
            self._open.popitem(last=False)[1].close()
        return file

    def close(self) -> None:
        """Close all."""
        while self._open:
            self._open.popitem()[1].close()


def missing_field(what: str, field: str, available: Sequence[str], hint: str) -> DataMissingError:
    """Error for a field that a file does not hold."""
    listed = ", ".join(sorted(available)) or "no field at all"
    return DataMissingError(f"{what} has no field {field}{hint}. It has: {listed}")
