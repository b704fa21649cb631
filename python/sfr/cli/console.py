"""What a person sees: progress, messages on stderr, results on stdout, errors as exit codes."""

from __future__ import annotations

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

from sfr.errors import SfrError

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = ["FINISHED_WITH_FAILURES", "Console", "exit_codes"]

P = ParamSpec("P")

#: Exit code of a run that finished although some galaxies failed.
FINISHED_WITH_FAILURES = 4
_BUG, _DATA, _INTERRUPTED = 1, 3, 130
_PLAIN_SECONDS = 2.0
#: Whether the command ended because nothing more could be written.
disk_is_full = False
#: Columns of running text.
_LONG = frozenset({"detail", "description"})


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
                _fail(f"no space left on the disk ({error}); what is whole was kept", _DATA)
            if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
                _fail(f"no permission: {error}", _DATA)
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EIO):
                _fail(f"a file or folder cannot be used: {error}", _DATA)
            _bug()
        except (typer.Exit, typer.Abort):
            raise
        except Exception:  # the last resort: a bug, with its traceback
            _bug()

    return wrapped


def _fail(message: str, code: int) -> None:
    typer.secho("error: ", fg="red", err=True, nl=False)
    typer.echo(message, err=True)
    raise typer.Exit(code)


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
        self._plain: dict[str, tuple[float, float]] = {}
        level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.INFO
        handler = _StderrHandler(self)
        logger = logging.getLogger("sfr")
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False

    def say(self, text: str) -> None:
        """Print a message for people on stderr."""
        if not self.quiet:
            self.echo(text)

    def echo(self, text: str) -> None:
        """Print on stderr, above a progress bar if there is one."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            typer.echo(text, err=True)

    def progress(self, label: str, done: int, total: int, /, note: str = "") -> None:
        """Show how far a step is: a bar on a terminal, a line every two seconds elsewhere."""
        if self.quiet:
            return
        if self._terminal:
            self._show_bar(label, done, total, note)
        else:
            self._show_line(label, done, total, note)

    def _show_bar(self, label: str, done: int, total: int, note: str) -> None:
        if self._bar is None:
            from rich.console import Console as RichConsole
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=RichConsole(stderr=True),
                transient=True,
            )
            self._bar.start()
        if label not in self._tasks:
            self._tasks[label] = self._bar.add_task(label, total=total, note=note)
        self._bar.update(self._tasks[label], completed=done, total=total, note=note)
        if done >= total:
            self._bar.remove_task(self._tasks.pop(label))

    def _show_line(self, label: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        start, last = self._plain.setdefault(label, (now, now))
        finished = done >= total
        if now - last >= _PLAIN_SECONDS or (finished and last > start):
            typer.echo(", ".join(filter(None, [f"{label}: {done}/{total}", note])), err=True)
            self._plain[label] = (start, now)
        if finished:
            self._plain.pop(label, None)

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
    ) -> None:
        """Print rows as a table, or as JSON under ``key`` beside ``extra``."""
        self.close()
        if self.as_json:
            typer.echo(json.dumps({**(extra or {}), key: [dict(r) for r in rows]}, allow_nan=False))
            return
        from rich.console import Console as RichConsole
        from rich.markup import escape
        from rich.table import Table

        # where the output is not a terminal, lines must not be folded at 80 columns
        console = RichConsole(width=None if sys.stdout.isatty() else 200)
        table = Table()
        for name in rows[0] if rows else ():
            numeric = all(isinstance(row[name], (int, float, type(None))) for row in rows)
            table.add_column(
                escape(name),
                justify="right" if numeric else "left",
                no_wrap=name not in _LONG,
            )
        for row in rows:
            table.add_row(*(escape(_text(value)) for value in row.values()))
        typer.echo(title)
        if rows and not _LONG & rows[0].keys():
            # on a narrow terminal the last columns go, not the digits of the first
            endless = console.options.update(width=10_000)
            while (
                len(table.columns) > 2
                and console.measure(table, options=endless).maximum > console.width
            ):
                table.columns.pop()
        console.print(table)


class _StderrHandler(logging.Handler):
    """Library messages, in the voice of the command line."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno == logging.WARNING else ""
        self._console.echo(prefix + record.getMessage())


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1e-2 or abs(value) >= 1e5 else f"{value:.3f}"
    return str(value)
