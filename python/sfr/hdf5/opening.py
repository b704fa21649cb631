"""Opening HDF5 files: what keeps one from being read, in words, and a few of them kept open."""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import h5py

from sfr.errors import DataFormatError, DataMissingError, ResourceError, SfrError

__all__ = ["FileCache", "affordable", "explained", "open_hdf5", "other_file", "reading"]

#: Descriptors for everything else: the interpreter, locks, pipes of workers, files written.
_RESERVED = 40
#: Bytes at the start of a file that hold its superblock and the name of its driver.
_HEAD = 4096

_LOCKED = (
    "another program holds it open for writing. Wait until that one has closed it; what is read "
    "while a file changes is not reliable. Only if none does, HDF5_USE_FILE_LOCKING=FALSE in the "
    "environment does without locks"
)
_NO_LOCKS = (
    "its file system has no locks ({name}). Set HDF5_USE_FILE_LOCKING=FALSE in the environment to "
    "do without them"
)
_BY_ERRNO = {
    errno.EACCES: "there is no permission to read it",
    errno.EPERM: "there is no permission to read it",
    errno.EIO: (
        "the disk or the file server reports an error ({name}): try again, and copy the file "
        "elsewhere if that fails"
    ),
    errno.ESTALE: (
        "the file server says that it was replaced or removed ({name}): run the command again"
    ),
    errno.EISDIR: "it is a folder; give a file",
    errno.ELOOP: "it is a link that leads back to itself",
}
_RESOURCES = {
    errno.EMFILE: (
        "too many files are open ({name}; this process may open {limit}). Raise the limit "
        "(ulimit -n 1024) or use fewer --workers"
    ),
    errno.ENFILE: (
        "too many files are open on the whole machine ({name}). Close other programs or use "
        "fewer --workers"
    ),
    errno.ENOMEM: "there is not enough memory ({name}); use fewer --workers",
}
_DAMAGED = "It may be an incomplete download; fetch it again"
_WRITING = (
    "another program is writing it, or ended before it had closed it. Wait for that program; if "
    "none is left, fetch or make the file again (h5clear -s {name} clears the mark, but what was "
    "not written stays missing)"
)
_FAMILY = "it is one part of a file in several (HDF5's {driver} driver). Join them with h5repart"
_SPLIT = "it is one part of a file in several (HDF5's {driver} driver). Write it again as one file"


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
        It is not HDF5, cut short, locked by another program, or may not be read.
    ResourceError
        Too many files are open.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        target = f": it is a link to {path.readlink()}" if path.is_symlink() else ""
        raise DataMissingError(f"{path} is not there{target}") from error
    except NotADirectoryError as error:
        raise DataMissingError(f"{path} is not there") from error
    except OSError as error:
        raise _unopened(path, error) from error
    if stat.S_ISDIR(mode):
        raise DataMissingError(f"{path} is a folder; give a file")
    if not stat.S_ISREG(mode):
        raise DataFormatError(f"{path} is a pipe or a device; a plain file is needed")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise _unopened(path, error) from error


def _unopened(path: Path, error: OSError) -> SfrError:
    kind, reason = explained(error)
    if reason:
        return kind(f"{path} cannot be opened: {reason}")
    text = str(error)
    if "already open" in text:
        return DataFormatError(f"{path} cannot be opened: {_WRITING.format(name=path.name)}")
    with path.open("rb") as file:
        head = file.read(_HEAD)
    size = path.stat().st_size
    found = f"{path} ({size} bytes) cannot be opened as HDF5"
    for name, driver, advice in (
        (b"NCSAfami", "family", _FAMILY),
        (b"NCSAmult", "split or multi", _SPLIT),
    ):
        if name in head:
            return DataFormatError(f"{found}: {advice.format(driver=driver)}")
    if "signature not found" in text:
        begin = f"it begins with {head[:16]!r}" if head else "it is empty"
        return DataFormatError(f"{found}: {begin}. {_DAMAGED}")
    return DataFormatError(f"{found}: {error}. {_DAMAGED}")


def other_file(name: str, beside: Path, variable: str) -> Path | None:
    """Find a file that an HDF5 file refers to, where HDF5 looks for it.

    Parameters
    ----------
    name : str
        As the file says.
    beside : Path
        The file.
    variable : str
        Environment variable with more folders.

    Returns
    -------
    Path or None
        The first that is there.
    """
    here = beside.absolute().parent
    prefixes = [
        prefix.replace("${ORIGIN}", str(here))
        for prefix in os.environ.get(variable, "").split(os.pathsep)
        if prefix
    ]
    names = [name, Path(name).name] if Path(name).is_absolute() else [name]
    folders = [*map(Path, prefixes), here, Path.cwd(), beside.resolve().parent]
    for candidate in names:
        for folder in folders:
            found = folder / candidate
            if found.exists():
                return found
    return None


def explained(error: OSError) -> tuple[type[DataFormatError] | type[ResourceError], str]:
    """Class and reason of what the operating system refused; no reason where it is not known."""
    number = error.errno
    if number is None:
        return DataFormatError, ""
    name = f"{errno.errorcode.get(number, number)}: {os.strerror(number)}"
    if number in _RESOURCES:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return ResourceError, _RESOURCES[number].format(name=name, limit=limit)
    if "lock file" in str(error):
        is_held = number in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)
        return DataFormatError, _LOCKED if is_held else _NO_LOCKS.format(name=name)
    return DataFormatError, _BY_ERRNO.get(number, name).format(name=name)


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn what h5py raises inside the block into an error that names the file."""
    try:
        yield
    except SfrError:
        raise
    except OSError as error:
        kind, reason = explained(error)
        raise kind(f"{path}: {what} cannot be read: {reason or error}") from error
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise DataFormatError(f"{path}: {what} cannot be read: {error}") from error


def affordable(most: int, *, each: int) -> int:
    """How many files may stay open at once, at least one.

    Parameters
    ----------
    most : int
        How many are of use.
    each : int
        Descriptors of one.

    Returns
    -------
    int
        As many as the limit of this process leaves room for.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return most
    return max(1, min(most, (limit - _RESERVED) // each))


class FileCache(Generic[FileT]):
    """The files used last, open; the one unused for longest is closed first.

    It is also closed where the system refuses to open another one.
    """

    def __init__(self, opener: Callable[[Path], FileT], capacity: int) -> None:
        self._opener = opener
        self._capacity = capacity
        self._open: OrderedDict[Path, FileT] = OrderedDict()

    def get(self, path: Path) -> FileT:
        """Open file of a path."""
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        while len(self._open) >= self._capacity:
            self._close_oldest()
        file = self._opened(path)
        self._open[path] = file
        return file

    def _opened(self, path: Path) -> FileT:
        while True:
            try:
                return self._opener(path)
            except ResourceError:
                if not self._open:
                    raise
            self._close_oldest()

    def _close_oldest(self) -> None:
        self._open.popitem(last=False)[1].close()

    def close(self) -> None:
        """Close all."""
        while self._open:
            self._open.popitem()[1].close()
