"""Files as they are met: names that are no text, folders that hold other things, stale inputs."""

from __future__ import annotations

import logging
import re
import stat
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from sfr.errors import DataMissingError

__all__ = [
    "OTHER_SIZE",
    "OTHER_TIME",
    "Marks",
    "changed_files",
    "chosen_files",
    "input_files",
    "mark_files",
    "numbered",
    "plain",
    "require_folder",
    "warn_of_changed_files",
    "without_folders",
]

log = logging.getLogger(__name__)

#: File name -> size [bytes] and time of the last change [ns].
Marks = dict[str, tuple[int, int]]

#: How a file differs from what it was.
OTHER_SIZE, OTHER_TIME = "of another size", "of another time"
#: File systems round times to up to two seconds, and copies are rounded again.
_SAME_TIME_NS = 2_000_000_000
#: Files that systems leave in folders of pictures.
_RUBBISH = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"})
#: Names that are shown of what is left out, for each reason.
_SHOWN = 3


def plain(text: str) -> str:
    r"""Return text that UTF-8 can hold: bytes of file names that are not UTF-8 become ``\xff``."""
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # half of a pair, which some file systems allow in names
        return text.encode("utf-8", "backslashreplace").decode()
    return data.decode("utf-8", "backslashreplace")


def chosen_files(paths: Sequence[Path], suffixes: Collection[str]) -> list[Path]:
    """List the files that somebody gave as input, those of folders as `input_files` does.

    Of several files, as ``new/*`` gives them, those with another ending are left out, and said; a
    single one is for its reader to refuse. So are those that are not there, beside others that are.

    Parameters
    ----------
    paths : sequence of Path
        Files and folders.
    suffixes : collection of str
        Endings in lower case.

    Returns
    -------
    list of Path
        One or more files.

    Raises
    ------
    DataMissingError
        Nothing of it is there, something is no regular file, or a folder holds nothing to read.
    """
    files: list[Path] = []
    stray: list[Path] = []
    absent = [path for path in paths if not path.exists()]
    for path in paths:
        if path in absent and len(absent) == len(paths):
            raise DataMissingError(f"{path} is not there; give files or folders of them")
        if path.exists() and not (path.is_dir() or path.is_file()):
            # a pipe would never end
            raise DataMissingError(f"{path} is no regular file; give files or folders of them")
    for path in paths:
        if path.is_dir():
            files += input_files(path, suffixes)
        elif path in absent or path.name.lower().endswith(tuple(suffixes)):
            files.append(path)
        else:
            stray.append(path)
    if not files:
        return stray
    if stray:
        said = _counted("with another ending", [path.name for path in stray])
        log.warning("%d of %d files are left out: %s", len(stray), len(stray) + len(files), said)
    return files


def input_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """List the files of a folder that can be read, and say once what is left out.

    Left out are names with another ending, hidden files (``._a.png`` of macOS), folders, links that
    lead nowhere, what is no regular file (a pipe would never end), and empty files. Upper case in
    an ending does not matter.

    Parameters
    ----------
    folder : Path
        The folder; those in it are not entered.
    suffixes : collection of str
        Endings in lower case, such as ``.png``.

    Returns
    -------
    list of Path
        Sorted by name; one or more.

    Raises
    ------
    DataMissingError
        Nothing in the folder can be read.
    """
    wanted = tuple(suffixes)
    found: list[Path] = []
    left_out: dict[str, list[str]] = {}
    for path in sorted(folder.iterdir()):
        reason = _reason_against(path, wanted)
        if reason:
            left_out.setdefault(reason, []).append(path.name)
        else:
            found.append(path)
    said = "; ".join(_counted(reason, names) for reason, names in left_out.items())
    if not found:
        raise DataMissingError(
            f"folder {folder} holds no file to read; endings that are read: {' '.join(wanted)}"
            + (f". It holds {said}" if said else "")
        )
    if said:
        n = sum(map(len, left_out.values()))
        log.warning("folder %s: %d of %d entries are left out: %s", folder, n, n + len(found), said)
    return found


def _reason_against(path: Path, suffixes: tuple[str, ...]) -> str:
    """Say why an entry of a folder is not read; empty where it is."""
    name = path.name.lower()
    if name.startswith(".") or name in _RUBBISH:
        return "hidden or of the system"
    try:
        status = path.stat()
    except OSError:
        return "links that lead nowhere" if path.is_symlink() else "not accessible"
    if stat.S_ISDIR(status.st_mode):
        return "folders"
    if not name.endswith(suffixes):
        return "with another ending"
    if not stat.S_ISREG(status.st_mode):
        return "no regular files"
    return "" if status.st_size else "empty"


def _counted(reason: str, names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
    return f"{reason}: {len(names)} ({shown})"


def numbered(folder: Path, pattern: str) -> list[tuple[int, Path]]:
    """List entries of a folder whose whole name matches; the first group is their number.

    Copies (``part-00000 (1).hdf5``), hidden files and what else programs leave are not ours.
    """
    if not folder.is_dir():
        return []
    matches = ((re.fullmatch(pattern, path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in matches if match)


def mark_files(files: Mapping[str, Path]) -> Marks:
    """Look at size and time of files, by any name; those that are not there are left out."""
    marks: Marks = {}
    for name, path in files.items():
        try:
            status = path.stat()
        except OSError:
            continue
        marks[name] = (status.st_size, status.st_mtime_ns)
    return marks


def changed_files(before: Marks, now: Marks) -> dict[str, str]:
    """Say of files that were there before how they differ now.

    Files that are new or gone do not count, so what is fetched later changes nothing.

    Parameters
    ----------
    before, now : dict
        Results of `mark_files`.

    Returns
    -------
    dict of str to str
        Name -> `OTHER_SIZE` or `OTHER_TIME`.
    """
    changes = {}
    for name in before.keys() & now.keys():
        (old_size, old_time), (size, time) = before[name], now[name]
        if size != old_size:
            changes[name] = OTHER_SIZE
        elif abs(time - old_time) > _SAME_TIME_NS:
            changes[name] = OTHER_TIME
    return dict(sorted(changes.items()))


def warn_of_changed_files(
    what: str, before: Marks, find: Callable[[str], Path], command: str
) -> None:
    """Say which files a result was made from are not what they were, and what to do.

    Parameters
    ----------
    what : str
        The result.
    before : dict
        What `mark_files` gave then.
    find : callable
        Gives the path of a file by its name.
    command : str
        What makes the result again.
    """
    changes = changed_files(before, mark_files({name: find(name) for name in before}))
    resized = [name for name, change in changes.items() if change == OTHER_SIZE]
    touched = [name for name, change in changes.items() if change != OTHER_SIZE]
    if resized:
        log.warning(
            "%s: made from other files than those that are there now: %s of another size; "
            "%s makes it again",
            what,
            _first_of(resized),
            command,
        )
    if touched:
        log.warning(
            "%s: %s written at another time than when it was made; if copied only, nothing is "
            "wrong, if replaced, %s makes it again",
            what,
            _first_of(touched),
            command,
        )


def _first_of(names: list[str]) -> str:
    """Name the first of some files, and how many more there are."""
    if len(names) == 1:
        return f"{names[0]} is"
    return f"{names[0]} and {len(names) - 1} more are"


def require_folder(folder: Path) -> None:
    """Make a folder with its parents.

    Raises
    ------
    DataMissingError
        Something on the way is no folder: a file, or a link that leads nowhere or in a circle.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        for part in reversed((folder, *folder.parents)):
            if part.is_dir():
                continue
            if part.is_symlink():
                raise DataMissingError(
                    f"{part} is a link to {part.readlink()}, which is no folder that can be "
                    "reached; make that folder, mount its disk, or remove the link"
                ) from error
            if part.exists():
                raise DataMissingError(
                    f"{part} is a file where a folder is needed; move it away"
                ) from error
        raise


def without_folders(text: str, *roots: Path) -> str:
    """Cut the folders from absolute paths in a text: results may be passed on.

    Paths with spaces or quotes in them end where nobody can tell; ``roots`` are folders that may
    have such names, with plain ones below.
    """
    for root in roots:
        text = re.sub(rf"{re.escape(str(root))}/(?:[^\s/]+/)*", "", text)
    return re.sub(
        r"(?<![\w.)/])(?:[A-Za-z]:|~)?[/\\](?:[^\s/\\:'\",]+[/\\])+([^\s/\\:'\",]*)", r"\1", text
    )
