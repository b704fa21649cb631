"""Whole files: a file of a run's folder that exists is whole.

It is written under ``.tmp/<host>-<pid>-<thread>/``, flushed and renamed; where links lead to
another file system, it is written beside its target there. Files that belong together are flushed
together, before any is renamed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sfr.errors import ConfigError, DataMissingError
from sfr.paths import plain, require_folder
from sfr.run.locks import process_name
from sfr.run.paths import RunPaths

__all__ = ["WholeFiles"]

#: Files that are flushed at once: a disk writes so many in about the time of one.
_FLUSHED_AT_ONCE = 8


class WholeFiles(RunPaths):
    """Writes the files of a run's folder."""

    def __init__(self, root: str | Path) -> None:
        super().__init__(root)
        #: Folders -> whether files can be renamed into them from the run's own scratch folder.
        self._is_near: dict[Path, bool] = {}

    @property
    def _scratch(self) -> Path:
        return self.scratch / process_name()

    @contextlib.contextmanager
    def replacing(self, path: Path) -> Iterator[Path]:
        """Yield a temporary path that becomes ``path`` when the block ends without an error.

        The content is flushed to disk before the rename, so ``path`` is the old file, the new
        one, or absent; never a part.
        """
        with self._temporary(path) as (temporary, target):
            yield temporary
            _flush(temporary)
            temporary.replace(target)

    @contextlib.contextmanager
    def replacing_all(self, paths: Sequence[Path]) -> Iterator[list[Path]]:
        """Yield temporary paths that become ``paths`` when the block ends without an error.

        As `replacing` each, in a tenth of the time for many small files: all contents are flushed
        before the first rename. Until then no path has changed.
        """
        with contextlib.ExitStack() as stack:
            pairs = [stack.enter_context(self._temporary(path)) for path in paths]
            temporaries = [temporary for temporary, _ in pairs]
            yield temporaries
            with ThreadPoolExecutor(_FLUSHED_AT_ONCE) as pool:
                list(pool.map(_flush, temporaries))
            for temporary, target in pairs:
                temporary.replace(target)

    @contextlib.contextmanager
    def _temporary(self, path: Path) -> Iterator[tuple[Path, Path]]:
        """Yield where a file is written and where it belongs; remove what is left there."""
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; give a file")
        require_folder(path.parent)
        try:
            require_folder(self._scratch)
        except FileNotFoundError:
            # between its parent and it, another process removed the empty parent
            require_folder(self._scratch)
        # what is linked stays linked
        target = Path(os.path.realpath(path))
        if not target.parent.is_dir():
            raise DataMissingError(
                f"{path} is a link to {target}, whose folder is not there; make that folder, mount "
                "its disk, or remove the link"
            )
        # long names have no room for more; how they end tells libraries what to write
        name = hashlib.sha256(os.fsencode(path)).hexdigest()[:8] + "-" + path.name[-48:]
        temporary = note = self._scratch / name
        if not self._can_rename_into(target.parent):
            temporary = target.parent / f".{self._scratch.name}-{name}"
            with contextlib.suppress(OSError):
                # tells `clean_scratch` of the file, should this process be killed
                note.symlink_to(temporary)
        try:
            yield temporary, target
        finally:
            temporary.unlink(missing_ok=True)
            note.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._scratch.rmdir()

    def _can_rename_into(self, folder: Path) -> bool:
        """Whether a folder is on the file system of the run's scratch folder, found by trying."""
        if folder not in self._is_near:
            probe, there = self._scratch / "probe", folder / f".{self._scratch.name}-probe"
            try:
                probe.touch()
                probe.rename(there)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise OSError(error.errno, error.strerror, str(folder)) from error
            self._is_near[folder] = not probe.exists()
            for left in (probe, there):
                left.unlink(missing_ok=True)
        return self._is_near[folder]

    def write_text(self, path: Path, text: str) -> None:
        """Write a whole text file (UTF-8, Unix line ends)."""
        with self.replacing(path) as temporary:
            temporary.write_bytes(plain(text).encode())

    def write_json(self, path: Path, value: object) -> None:
        """Write a whole JSON file; keys keep their order, NaN is refused."""
        self.write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")

    def clean_scratch(self) -> None:
        """Remove the temporary folders of this host's dead processes."""
        host = socket.gethostname()
        folders: list[Path] = []
        with contextlib.suppress(FileNotFoundError):
            # another process may remove it meanwhile
            folders += self.scratch.glob(f"{host}-*")
        for folder in folders:
            pid = folder.name.removeprefix(f"{host}-").partition("-")[0]
            if pid.isdecimal() and int(pid) != os.getpid() and not _is_alive(int(pid)):
                for note in filter(Path.is_symlink, folder.glob("*")):
                    with contextlib.suppress(OSError):
                        note.readlink().unlink(missing_ok=True)
                shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.scratch.rmdir()


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
