"""Exception classes of the package, and the exit code that each one means.

Every class also inherits the builtin exception that a caller would expect, so ``except
FileNotFoundError`` works as well as ``except SfrError``. Messages say what was found, what is
allowed and what to do.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DTypeError",
    "DataFormatError",
    "DataMissingError",
    "EmptySelectionError",
    "InternalError",
    "NonFiniteError",
    "RangeError",
    "ResourceError",
    "SfrError",
    "ShapeError",
    "TrainingError",
    "WorkerLostError",
]


class SfrError(Exception):
    """Base of every error that the package raises on purpose."""

    #: Exit code of the command line: 1 bug, 2 usage or recipe, 3 data missing or unreadable.
    exit_code = 1


class ConfigError(SfrError, ValueError):
    """A recipe, an option or a combination of them is not valid."""

    exit_code = 2


class ShapeError(SfrError, ValueError):
    """An array has the wrong number of dimensions or the wrong length."""

    exit_code = 3


class DTypeError(SfrError, TypeError):
    """An array has a type that the function does not take."""

    exit_code = 3


class RangeError(SfrError, ValueError):
    """A number lies outside the range that makes sense for it."""

    exit_code = 2


class NonFiniteError(SfrError, ValueError):
    """A value that must be finite is NaN or infinite."""

    exit_code = 3


class DataMissingError(SfrError, FileNotFoundError):
    """A file, a chunk, a field or an earlier step's result is not there."""

    exit_code = 3


class DataFormatError(SfrError, OSError):
    """A file is there but cannot be read as what it should be."""

    exit_code = 3


class ResourceError(SfrError, OSError):
    """The machine has no more of something: open files, memory."""

    exit_code = 3


class EmptySelectionError(SfrError, LookupError):
    """Nothing is left to work on: no galaxy passes the cuts, no particle is in the frame."""

    exit_code = 3


class TrainingError(SfrError, RuntimeError):
    """Training cannot start or go on."""

    exit_code = 3


class WorkerLostError(SfrError, RuntimeError):
    """The process that worked on something died."""

    exit_code = 3


class InternalError(SfrError, RuntimeError):
    """Something that should be impossible happened; please report it."""
