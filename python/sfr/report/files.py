"""Whole-file writes of pictures, inside the run's folder or anywhere else."""

from __future__ import annotations

from pathlib import Path

from sfr.workspace import Workspace

__all__ = ["save"]


def save(workspace: Workspace, path: Path, data: bytes) -> None:
    """Write a file whole: it is the old one, the new one or absent, never a part.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    path : Path
        The file.
    data : bytes
        Its content.
    """
    with workspace.replacing(Path(path).absolute()) as temporary:
        temporary.write_bytes(data)
