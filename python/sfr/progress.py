"""How long-running steps tell how far they are; only the command line knows a progress bar."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "silent"]

#: Called with a label, the number done so far and the total, in units of the label.
Progress = Callable[[str, int, int], None]


def silent(label: str, done: int, total: int) -> None:
    """Tell nobody."""
