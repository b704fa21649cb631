"""Checkpoints: where a training stands, in one file (NPZ) that only its own settings go on from."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfr.errors import DataFormatError, DataMissingError
from sfr.run.workspace import Workspace

__all__ = ["Checkpoint", "read_arrays", "write_arrays"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """The file of a training's state: named arrays, lists of arrays, and plain data about them.

    Attributes
    ----------
    workspace : Workspace
        The run's folder.
    path : Path
        The file, ``.npz``.
    key : str
        Digest of the settings and inputs that the state belongs to.
    """

    workspace: Workspace
    path: Path
    key: str

    def write(
        self,
        about: Mapping[str, Any],
        arrays: Mapping[str, NDArray[Any] | Sequence[NDArray[Any]]],
    ) -> None:
        """Write a state whole; the same state gives the same bytes.

        Parameters
        ----------
        about : mapping
            What JSON can hold, but for ``key`` and ``lengths``.
        arrays : mapping of str to ndarray, or to sequence of ndarray
            Numbers of the state; a sequence may be empty.
        """
        lists = {name: v for name, v in arrays.items() if not isinstance(v, np.ndarray)}
        lengths = {name: len(values) for name, values in lists.items()}
        named = {"about": np.array(json.dumps({"key": self.key, "lengths": lengths, **about}))}
        for name, values in arrays.items():
            if name in lists:
                named |= {f"{name}_{place}": array for place, array in enumerate(values)}
            else:
                named[name] = np.asarray(values)
        write_arrays(self.workspace, self.path, named)

    def read(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Return what was written last: about, and arrays, lists of them as lists.

        None where there is no file of this key; one that is damaged is said.
        """
        try:
            named: dict[str, Any] = read_arrays(self.path)
            about = dict(json.loads(str(named.pop("about"))))
            if about.pop("key") != self.key:
                log.info("%s: training from the start: it is of other settings", self.path)
                return None
            for name, length in about.pop("lengths").items():
                named[name] = [named.pop(f"{name}_{place}") for place in range(length)]
        except DataMissingError:
            return None
        except (DataFormatError, ValueError, KeyError, TypeError) as error:
            log.warning("%s: training from the start: %s", self.path, error)
            return None
        return about, named

    def remove(self) -> None:
        """Remove the file, where there is one."""
        self.path.unlink(missing_ok=True)


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
