"""Whole-file writes of pictures, inside the run's folder or anywhere else."""

from __future__ import annotations

from pathlib import Path

from sfr.run.workspace import Workspace

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
    path = Path(path).absolute()
    if path.is_relative_to(workspace.root):
        with workspace.replacing(path) as temporary:
            temporary.write_bytes(data)
        return
    # a run may be read only
    elsewhere = Workspace(path.parent)
    with elsewhere.replacing(path) as temporary:
        temporary.write_bytes(data)
    elsewhere.clean_scratch()
