"""How long-running steps tell how far they are; only the command line knows a progress bar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["NotedProgress", "Progress", "silent", "silent_note"]

#: Called with a label, the number done so far and the total, in units of the label.
Progress = Callable[[str, int, int], None]


def silent(label: str, done: int, total: int) -> None:
    """Tell nobody."""


class NotedProgress(Protocol):
    """A `Progress` that takes a note as well, such as how the training is going."""

    def __call__(self, label: str, done: int, total: int, /, note: str = "") -> None:
        """Hear of it."""
        ...


def silent_note(label: str, done: int, total: int, /, note: str = "") -> None:
    """Tell nobody."""
