"""What a person sees: progress, messages on stderr, results on stdout, errors as exit codes."""

from __future__ import annotations

import datetime
import errno
import functools
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec

import typer

from sfr.cli.streams import OutputLostError, echo
from sfr.cli.tables import print_table
from sfr.errors import SfrError

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = ["FINISHED_WITH_FAILURES", "Console", "exit_codes"]

P = ParamSpec("P")

#: Exit code of a run that finished although some galaxies failed.
FINISHED_WITH_FAILURES = 4
_BUG, _DATA, _INTERRUPTED = 1, 3, 130
#: Errors of the system that only a fault of ours can cause.
_OURS = frozenset({errno.EBADF, errno.EINVAL, errno.EFAULT, errno.EDEADLK})
#: What the system's loader says of a library that does not fit into memory.
_LOADER_WITHOUT_MEMORY = ("failed to map segment", "cannot allocate memory", "Cannot allocate")
_NO_MEMORY = (
    "there is not enough memory; use fewer --workers or --threads, close other programs, or raise "
    "the limit (ulimit -v, or that of the batch job)"
)
_PLAIN_SECONDS = 2.0
#: Whether the command ended because nothing more could be written.
disk_is_full = False


def exit_codes(command: Callable[P, None]) -> Callable[P, None]:
    """Turn errors of a command into one line on stderr and an exit code (DESIGN 4)."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except SfrError as error:
            _fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            _fail("interrupted; what is whole was kept, the same command goes on", _INTERRUPTED)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                global disk_is_full
                disk_is_full = True
                # HDF5 adds lines on its own state
                what = str(error).partition(" (file write failed")[0]
                _fail(f"no space left on the disk ({what}); what is whole was kept", _DATA)
            if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
                _fail(f"no permission: {error}", _DATA)
            if error.errno in (errno.EMFILE, errno.ENFILE):
                _fail(f"too many files are open: {error}; raise the limit (ulimit -n 1024)", _DATA)
            if error.errno is None or error.errno in _OURS:
                _bug()
            # what the machine refuses: names too long, links in a circle, disks that went away
            _fail(f"a file or folder cannot be used: {error}", _DATA)
        except (typer.Exit, typer.Abort):
            raise
        except MemoryError as error:
            _fail(f"{_NO_MEMORY}{f' ({error})' if str(error) else ''}", _DATA)
        except ImportError as error:
            if not any(words in str(error) for words in _LOADER_WITHOUT_MEMORY):
                _bug()
            _fail(f"{_NO_MEMORY} ({error})", _DATA)
        except Exception:  # the last resort: a bug, with its traceback
            _bug()

    return wrapped


def _fail(message: str, code: int) -> None:
    typer.secho("error: ", fg="red", err=True, nl=False)
    echo(message, err=True)
    raise typer.Exit(code)


def tell_of_lost_output(error: OutputLostError) -> None:
    """Say that a result could not be written; a reader that went away wants no words."""
    if error.exit_code == _DATA:
        echo(f"error: {error}", err=True)


def _bug() -> None:
    traceback.print_exc()
    _fail("this is a bug; please report it with the lines above", _BUG)


class Console:
    """Messages, progress and tables of one command.

    Parameters
    ----------
    verbose, quiet : bool
        More, or only errors and the result.
    as_json : bool
        Results as JSON.
    """

    def __init__(
        self, *, verbose: bool = False, quiet: bool = False, as_json: bool = False
    ) -> None:
        self.quiet = quiet
        self.as_json = as_json
        self._terminal = sys.stderr.isatty() and not quiet
        self._bar: Any = None
        self._tasks: dict[str, TaskID] = {}
        self._tracks: dict[str, _Track] = {}
        level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.INFO
        handler = _StderrHandler(self)
        logger = logging.getLogger("sfr")
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def say(self, text: str) -> None:
        """Print a message for people on stderr."""
        if not self.quiet:
            self.echo(text)

    def echo(self, text: str) -> None:
        """Print on stderr, above a progress bar if there is one."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            echo(text, err=True)

    def progress(
        self,
        label: str,
        done: int,
        total: int,
        /,
        cells: tuple[int, int] | None = None,
        note: str = "",
    ) -> None:
        """Show how far a step is: a bar on a terminal, a line every two seconds elsewhere."""
        if self.quiet:
            return
        so_far, whole = (done, total) if cells is None or not cells[1] else cells
        share = so_far / whole if whole else 1.0
        track = self._tracks.setdefault(label, _Track(share))
        parts = [note, track.left(share)]
        if self._terminal:
            self._show_bar(label, done, total, ", ".join(filter(None, parts)))
        else:
            line = ", ".join(filter(None, [f"{label}: {done}/{total}", *parts]))
            self._show_line(track, line, is_last=done >= total)
        if done >= total:
            self._tracks.pop(label)

    def _show_bar(self, label: str, done: int, total: int, note: str) -> None:
        if self._bar is None:
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=RichConsole(stderr=True),
                transient=True,
                expand=True,
            )
            self._bar.start()
        if label not in self._tasks:
            self._tasks[label] = self._bar.add_task(label, total=total, note=note)
        self._bar.update(self._tasks[label], completed=done, total=total, note=note)
        if done >= total:
            self._bar.remove_task(self._tasks.pop(label))

    def _show_line(self, track: _Track, line: str, *, is_last: bool) -> None:
        now = time.monotonic()
        if now - track.last >= _PLAIN_SECONDS or (is_last and track.shown):
            echo(line, err=True)
            track.last, track.shown = now, True

    def close(self) -> None:
        """Take the progress bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            self._tasks.clear()

    def table(
        self,
        title: str,
        rows: Sequence[Mapping[str, object]],
        *,
        key: str,
        extra: Mapping[str, object] | None = None,
        leading: int = 1,
    ) -> None:
        """Print rows as a table whose ``leading`` columns name a row, or as JSON.

        JSON has the rows under ``key``, beside ``extra``.
        """
        self.close()
        if self.as_json:
            echo(json.dumps({**(extra or {}), key: [dict(r) for r in rows]}, allow_nan=False))
            return
        echo(title)
        if rows:
            print_table(rows, leading)

    def finish(self, failures: Sequence[str]) -> None:
        """End the command with its exit code where something failed on the way."""
        if failures:
            self.say(f"{len(failures)} failed; the first is {failures[0]}")
            raise typer.Exit(FINISHED_WITH_FAILURES)


class _Track:
    """When a step began and how far it was then."""

    def __init__(self, share: float) -> None:
        self.start = self.last = time.monotonic()
        self.first = share
        #: Whether a line was printed.
        self.shown = False

    def left(self, share: float) -> str:
        """Say how much time is left at the pace so far."""
        elapsed = time.monotonic() - self.start
        if elapsed < 1 or not self.first < share < 1:
            return ""
        seconds = elapsed * (1 - share) / (share - self.first)
        return f"{datetime.timedelta(seconds=round(seconds))} left"


class _StderrHandler(logging.Handler):
    """Library messages, in the voice of the command line."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno == logging.WARNING else ""
        self._console.echo(prefix + record.getMessage())
