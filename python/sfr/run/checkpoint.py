"""Checkpoints: where a training stands, in one file (NPZ) that only its own settings go on from."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from sfr.run.workspace import Workspace

__all__ = ["Saved", "read_checkpoint", "write_checkpoint"]

log = logging.getLogger(__name__)

#: Changed when files of before cannot be read.
_FORMAT = 1
#: Plain data, and arrays by name or lists of arrays.
Saved: TypeAlias = tuple[dict[str, Any], dict[str, Any]]


def write_checkpoint(
    workspace: Workspace,
    path: Path,
    key: str,
    about: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any] | Sequence[NDArray[Any]]],
) -> None:
    """Write a state whole; the same state gives the same bytes.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    path : Path
        The file, ``.npz``.
    key : str
        Digest of the settings and inputs that the state belongs to.
    about : mapping
        What JSON can hold, but for ``format``, ``key`` and ``lengths``.
    arrays : mapping of str to ndarray, or to sequence of ndarray
        Numbers of the state; a sequence may be empty.
    """
    lists = {name: v for name, v in arrays.items() if not isinstance(v, np.ndarray)}
    lengths = {name: len(values) for name, values in lists.items()}
    named: dict[str, Any] = {name: v for name, v in arrays.items() if name not in lists}
    for name, values in lists.items():
        named |= {f"{name}_{place}": array for place, array in enumerate(values)}
    head = {"format": _FORMAT, "key": key, "lengths": lengths}
    named["about"] = np.array(json.dumps({**head, **about}))
    with workspace.replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **named)


def read_checkpoint(path: Path, key: str) -> Saved | None:
    """Return what `write_checkpoint` wrote: about, and arrays, sequences of them as lists.

    None where there is no file, and, said, where it is of another key or cannot be read.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            named: dict[str, Any] = dict(file)
        about = dict(json.loads(str(named.pop("about"))))
        if (about.pop("format", 0), about.pop("key")) != (_FORMAT, key):
            log.info("%s is of other settings or an earlier version; training from the start", path)
            return None
        for name, length in about.pop("lengths").items():
            named[name] = [named.pop(f"{name}_{place}") for place in range(length)]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        log.warning("%s cannot be read; training from the start: %s", path, error)
        return None
    return about, named
