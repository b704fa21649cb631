"""Datasets and groups by name: what is there must be what it should be, and all of it."""

from __future__ import annotations

import logging
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataFormatError, DataMissingError, SfrError
from sfr.hdf5.opening import explained, open_hdf5, other_file, reading
from sfr.hdf5.storage import require_spare_descriptors, require_stored

__all__ = [
    "Mapping",
    "StoredDataset",
    "count_rows",
    "find_dataset",
    "find_group",
    "missing_field",
    "require_dataset",
    "require_whole",
]

logger = logging.getLogger(__name__)

#: Rows are read one by one where there are so many more in the dataset.
_FEW = 1000


@dataclass(frozen=True)
class Mapping:
    """All bytes of an open file, in memory as they are looked at.

    Views of it stay valid when the file is closed.
    """

    #: HDF5's number of the file.
    number: int
    content: mmap.mmap

    @classmethod
    def of(cls, file: h5py.File, path: Path) -> Self | None:
        """Map a file that is open; None where it has to be read."""
        # what is not a plain file, or not only HDF5, goes through HDF5
        if file.driver != "sec2" or file.userblock_size:
            return None
        try:
            content = mmap.mmap(file.id.get_vfd_handle(), 0, access=mmap.ACCESS_READ)
        except (OSError, OverflowError) as error:
            reason = explained(error)[1] if isinstance(error, OSError) else str(error)
            logger.warning("%s cannot be mapped (%s); it is read instead", path, reason)
            return None
        return cls(h5py.h5o.get_info(file.id).fileno, content)


class StoredDataset:
    """A dataset of numbers, with one row or more dimensions, every byte of which is stored.

    Parameters
    ----------
    found : h5py.Dataset
        The dataset.
    path, name : Path, str
        File and name, for messages.
    text : bool
        Whether it may hold text instead of numbers.

    Raises
    ------
    DataMissingError
        Another file, in which its bytes lie, is not there.
    DataFormatError
        It holds no numbers, has no rows, or some of its bytes are not stored.
    """

    def __init__(self, found: h5py.Dataset, path: Path, name: str, *, text: bool = False) -> None:
        self.path = path
        self.name = name
        self._found = found
        with reading(path, name):
            self.dtype: np.dtype[Any] = found.dtype
            shape = found.shape
        self._require_type(text=text)
        if shape is None or shape == ():
            what = "no value at all" if shape is None else "a single value"
            raise DataFormatError(f"{path}: {name} holds {what}; a dataset with rows is needed")
        self.shape: tuple[int, ...] = shape
        self._sources = require_stored(found, path, name)

    def __len__(self) -> int:
        return self.shape[0]

    def _require_type(self, *, text: bool) -> None:
        kind = self.dtype.kind
        is_number = kind in "iub" or (kind == "f" and self.dtype.itemsize <= 8)
        if not is_number and not (text and h5py.check_string_dtype(self.dtype)):
            raise DataFormatError(
                f"{self.path}: {self.name} is of type {_words(self.dtype)}; integers and floats "
                "of up to 64 bits are read"
            )

    def read(self, selection: Any = ()) -> NDArray[Any]:  # noqa: ANN401 - what h5py takes
        """Values of all rows or of a selection, in the byte order of the machine."""
        self._before_reading()
        with reading(self.path, self.name):
            values = np.asarray(self._found[selection])
        return values.astype(values.dtype.newbyteorder("="), copy=False)

    def read_runs(self, start: int, stop: int, runs: list[tuple[int, int]]) -> NDArray[Any]:
        """Read rows ``start:stop``, of which only some runs are needed; between is zero."""
        self._before_reading()
        result = np.zeros((stop - start, *self.shape[1:]), self.dtype.newbyteorder("="))
        with reading(self.path, self.name):
            for begin, end in runs:
                self._found.read_direct(
                    result, np.s_[start + begin : start + end], np.s_[begin:end]
                )
        return result

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows in any order; only what is needed is read where that is faster."""
        if rows.size * _FEW >= self.shape[0]:
            return np.asarray(self.read()[rows])
        result = np.empty((rows.size, *self.shape[1:]), self.dtype.newbyteorder("="))
        for index in np.argsort(rows, kind="stable"):
            result[index] = self.read(rows[index])
        return result

    def text(self) -> NDArray[np.str_]:
        """All values, as text."""
        self._before_reading()
        with reading(self.path, self.name):
            return np.array(self._found.asstr()[()], np.str_)

    @property
    def attrs(self) -> Any:  # noqa: ANN401
        """Attributes, as h5py gives them."""
        return self._found.attrs

    @property
    def is_text(self) -> bool:
        """Whether it holds text."""
        return h5py.check_string_dtype(self.dtype) is not None

    def view(self, mapping: Mapping) -> NDArray[Any] | None:
        """Rows as they lie in a mapped file; None where they have to be read.

        They are not copied where the very file that is mapped holds them in one piece, as plain
        numbers of this machine. They may not be aligned: original files hold 8-byte types at 4
        mod 8.
        """
        offset = self._found.id.get_offset()
        if offset is None or not self._is_plain():
            return None
        size = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
        is_here = h5py.h5o.get_info(self._found.id).fileno == mapping.number
        if not is_here or offset + size > len(mapping.content):
            return None
        return np.ndarray(self.shape, self.dtype, mapping.content, offset)

    def _is_plain(self) -> bool:
        creation = self._found.id.get_create_plist()
        if creation.get_layout() != h5py.h5d.CONTIGUOUS or creation.get_external_count():
            return False
        if self.dtype.kind not in "fiu" or not self.dtype.isnative:
            return False
        # integers of 12 bits have the dtype of whole ones
        return bool(self._found.id.get_type().equal(h5py.h5t.py_create(self.dtype)))

    def _before_reading(self) -> None:
        if self._sources:
            require_spare_descriptors(self.path, self.name)


def _words(dtype: np.dtype[Any]) -> str:
    if dtype.names:
        return f"compound ({', '.join(dtype.names)})"
    if dtype.subdtype:
        return f"array of {dtype.subdtype[1]} {dtype.subdtype[0]}"
    if h5py.check_string_dtype(dtype):
        return "text"
    if h5py.check_vlen_dtype(dtype) is not None:
        return "lists of different length"
    if h5py.check_ref_dtype(dtype) is not None:
        return "references"
    if dtype.kind == "f":
        return f"float of {8 * dtype.itemsize} bits"
    return "opaque" if dtype.kind == "V" else str(dtype)


_KINDS = ((h5py.Dataset, "a dataset"), (h5py.Group, "a group"), (h5py.Datatype, "a named type"))


def _kind(found: object) -> str:
    return next((words for kind, words in _KINDS if isinstance(found, kind)), "of unknown kind")


def _find(group: h5py.Group, path: Path, name: str) -> Any | None:  # noqa: ANN401
    """Object of a name below a group; None where there is no such name.

    Raises
    ------
    DataMissingError
        A link leads nowhere.
    DataFormatError
        Something on the way is no group.
    """
    here: Any = group
    for part in name.split("/"):
        if not isinstance(here, h5py.Group):
            raise DataFormatError(f"{path}: {here.name} is {_kind(here)}; a group is needed")
        try:
            here = here[part]
        except (KeyError, OSError, RuntimeError, TypeError) as error:
            link = here.get(part, getlink=True)
            if link is None:
                return None
            where = f"{here.name.rstrip('/')}/{part}".lstrip("/")
            raise _broken(path, where, link, error) from error
    return here


def _broken(path: Path, name: str, link: object, error: Exception) -> SfrError:
    reason = error.args[0] if error.args else error
    if isinstance(link, h5py.ExternalLink):
        what = f"{path}: {name} is a link to {link.path} in the file {link.filename}"
        target = other_file(link.filename, path, "HDF5_EXT_PREFIX")
        if target is None:
            return DataMissingError(
                f"{what}, which is not there: fetch that file, too, and put it beside this one"
            )
        try:
            open_hdf5(target).close()
        except SfrError as other:
            return type(other)(f"{what}: {other}")
        return DataMissingError(f"{what}, which cannot be followed: {reason}")
    if isinstance(link, h5py.SoftLink):
        return DataMissingError(f"{path}: {name} is a link to {link.path}: {reason}")
    return DataFormatError(f"{path}: {name} cannot be opened: {reason}")


def find_group(group: h5py.Group, path: Path, name: str) -> h5py.Group | None:
    """Group of a name; None where there is none.

    Raises
    ------
    DataMissingError
        It is a link that leads nowhere.
    DataFormatError
        It is something else.
    """
    found = _find(group, path, name)
    if found is not None and not isinstance(found, h5py.Group):
        raise DataFormatError(f"{path}: {name} is {_kind(found)}; a group is needed")
    return found


def find_dataset(
    group: h5py.Group, path: Path, name: str, *, text: bool = False
) -> StoredDataset | None:
    """Dataset of a name; None where there is none.

    Parameters
    ----------
    group : h5py.Group
        Group or file, below which the name is looked up.
    path : Path
        Its file, for messages.
    name : str
        Name, with those of groups before it.
    text : bool
        Whether it may hold text.

    Raises
    ------
    DataMissingError
        It is a link that leads nowhere, or lies in a file that is not there.
    DataFormatError
        It is something else, or not all of it is stored.
    """
    found = _find(group, path, name)
    if found is None:
        return None
    full = f"{group.name.strip('/')}/{name}".lstrip("/")
    if not isinstance(found, h5py.Dataset):
        raise DataFormatError(f"{path}: {full} is {_kind(found)}; a dataset is needed")
    return StoredDataset(found, path, full, text=text)


def require_dataset(
    group: h5py.Group, path: Path, name: str, *, text: bool = False
) -> StoredDataset:
    """Dataset of a name; as `find_dataset`, with an error where there is none."""
    found = find_dataset(group, path, name, text=text)
    if found is None:
        raise DataFormatError(
            f"{path} has no dataset {name}; {group.name} holds {sorted(group) or 'nothing'}"
        )
    return found


def count_rows(group: h5py.Group, path: Path) -> int:
    """Rows of the first dataset of a group; 0 where there is none.

    What has no rows does not count: a named type, a group, a single number.
    """
    for name in sorted(group):
        found = _find(group, path, name)
        if isinstance(found, h5py.Dataset) and found.shape:
            return int(found.shape[0])
    return 0


def missing_field(what: str, field: str, available: Sequence[str], hint: str) -> DataMissingError:
    """Error for a field that a group of a file does not hold."""
    listed = ", ".join(sorted(available)) or "no field at all"
    return DataMissingError(f"{what} has no field {field}{hint}. It has: {listed}")


def require_whole(file: h5py.File, path: Path) -> None:
    """Fail where a link of a file leads nowhere, or a dataset is not stored to the end.

    Raises
    ------
    DataMissingError, DataFormatError
        The first thing that is wrong.
    """
    for found, name in _objects(file, path, "", {h5py.h5o.get_info(file.id).addr}):
        if isinstance(found, h5py.Dataset):
            require_stored(found, path, name)


def _objects(
    group: h5py.Group, path: Path, above: str, seen: set[int]
) -> Iterator[tuple[object, str]]:
    for part in group:
        found, name = _find(group, path, part), f"{above}{part}"
        yield found, name
        if isinstance(found, h5py.Group) and found.file == group.file:
            address = h5py.h5o.get_info(found.id).addr
            # a group may hold itself
            if address not in seen:
                seen.add(address)
                yield from _objects(found, path, f"{name}/", seen)
