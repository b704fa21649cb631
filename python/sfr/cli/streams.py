"""Standard output and standard error that cannot end a command in a traceback.

Any encoding will do: what it cannot hold is written as the nearest ASCII. Messages that nobody
hears any more are dropped and the work goes on; a result that nobody takes ends the command.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
import unicodedata
from typing import TextIO

__all__ = ["OutputLostError", "echo", "open_standard_streams"]

_ERRORS = "sfr.nearest-ascii"
#: As shells show a program that SIGPIPE ended.
_PIPE, _DATA = 141, 3
_NEAREST = {
    "\N{MINUS SIGN}": "-",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{GREATER-THAN OR EQUAL TO}": ">=",
    "\N{PLUS-MINUS SIGN}": "+-",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{MIDDLE DOT}": "*",
    "\N{DEGREE SIGN}": " deg",
    "\N{GREEK SMALL LETTER THETA}": "theta",
    "\N{RIGHTWARDS ARROW}": "->",
    "\N{LEFT SINGLE QUOTATION MARK}": "'",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{BULLET}": "*",
}


class OutputLostError(BaseException):
    """The result cannot be written; like an interrupt, nothing on the way may catch it.

    Attributes
    ----------
    exit_code : int
        141 where the reader went away (``sfr ... | head -1``), 3 where writing failed.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output cannot be written: {error.strerror or error}")
        self.exit_code = _PIPE if error.errno == errno.EPIPE else _DATA


class _Output(io.FileIO):
    """A descriptor whose first failure is told, once."""

    is_lost = False

    def write(self, data: object) -> int:
        if self.is_lost:
            return len(memoryview(data))  # type: ignore[arg-type]
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            # what is left in buffers is not tried again when the interpreter ends
            self.is_lost = True
            raise OutputLostError(error) from error


class _Messages(io.FileIO):
    """A descriptor that drops what it cannot write."""

    def write(self, data: object) -> int:
        try:
            written = super().write(data)  # type: ignore[arg-type]
        except OSError:
            written = None
        return len(memoryview(data)) if written is None else written  # type: ignore[arg-type]


def echo(text: str, *, err: bool = False, end: str = "\n") -> None:
    """Write text to standard output or standard error, and flush it."""
    stream = sys.stderr if err else sys.stdout
    stream.write(text + end)
    stream.flush()


def open_standard_streams() -> None:
    """Make standard output and standard error safe to write to.

    A descriptor that the caller closed leads to nowhere: otherwise the next file that is opened
    takes its place, and messages of C libraries end in it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # the lowest free number, which is this one
            os.open(os.devnull, os.O_RDWR)
    codecs.register_error(_ERRORS, _nearest)
    sys.stdout = _opened(sys.stdout, 1, _Output)
    sys.stderr = _opened(sys.stderr, 2, _Messages)


def _opened(stream: TextIO | None, descriptor: int, kind: type[io.FileIO]) -> TextIO:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    buffer = getattr(stream, "buffer", None)
    # without a buffer (PYTHONUNBUFFERED) the descriptor stands in its place
    raw = getattr(buffer, "raw", buffer)
    if stream is not None and type(raw) is not io.FileIO:
        # a console of another kind, or a stream that somebody else put there
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)
        return stream
    if stream is not None:
        stream.flush()
    buffered = io.BufferedWriter(kind(descriptor, "w", closefd=False))
    return io.TextIOWrapper(
        buffered, encoding=encoding, errors=_ERRORS, line_buffering=kind is _Messages
    )


def _nearest(error: UnicodeError) -> tuple[str | bytes, int]:
    """Stand for the first character that an encoding does not have."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character, place = error.object[error.start], error.start + 1
    if 0xDC80 <= ord(character) <= 0xDCFF:
        # a byte of a file name that is not UTF-8: the byte itself
        return bytes([ord(character) - 0xDC00]), place
    if character in _NEAREST:
        return _NEAREST[character], place
    if not unicodedata.category(character).startswith("L"):
        digits = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        if digits:
            return digits, place
        return "?", place
    return character.encode("ascii", "backslashreplace").decode(), place
