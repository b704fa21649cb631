"""Which heads may stand in one table: those with the settings of the last training."""

from __future__ import annotations

from typing import Final

from sfr.run.workspace import Workspace

__all__ = ["latest_settings", "outdate_heads", "remember_settings"]

_NOTE: Final = "train-settings"
#: Settings that no head has.
_NOBODYS: Final = ""


def remember_settings(workspace: Workspace, settings: str) -> None:
    """Let heads of other settings be out of date from here on."""
    workspace.remember(_NOTE, settings)


def latest_settings(workspace: Workspace) -> str | None:
    """Return the settings of the last training; None before the first."""
    found = workspace.recalled(_NOTE)
    return None if found is None else str(found)


def outdate_heads(workspace: Workspace) -> None:
    """Let all heads be out of date until the next training: split or images are others."""
    if latest_settings(workspace) is not None:
        workspace.remember(_NOTE, _NOBODYS)
