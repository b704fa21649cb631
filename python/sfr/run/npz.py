"""Named arrays in one file (NPZ)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfr.errors import DataFormatError, DataMissingError
from sfr.run.workspace import Workspace

__all__ = ["read_arrays", "write_arrays"]


def write_arrays(workspace: Workspace, path: Path, arrays: Mapping[str, ArrayLike]) -> None:
    """Write named arrays whole (``.npz``); the same arrays give the same bytes."""
    named: dict[str, Any] = dict(arrays)
    with workspace.replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **named)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read what `write_arrays` wrote.

    Raises
    ------
    DataMissingError
        There is no such file.
    DataFormatError
        It cannot be read.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError as error:
        raise DataMissingError(f"{path} is not there") from error
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise DataFormatError(f"{path} cannot be read: {error}") from error
