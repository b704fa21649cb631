"""How long-running steps tell how far they are; only the command line knows a progress bar."""

from __future__ import annotations

from typing import Protocol

__all__ = ["NotedProgress", "Progress", "silent", "silent_note"]


class Progress(Protocol):
    """Called with a label, the number done so far and the total, in units of the label.

    ``cells`` are the gas cells behind the number done and behind the total, where they tell the
    time left better.
    """

    def __call__(
        self, label: str, done: int, total: int, /, cells: tuple[int, int] | None = None
    ) -> None:
        """Hear of it."""
        ...


def silent(label: str, done: int, total: int, /, cells: tuple[int, int] | None = None) -> None:
    """Tell nobody."""


class NotedProgress(Protocol):
    """A `Progress` that takes a note as well, such as how the training is going."""

    def __call__(self, label: str, done: int, total: int, /, note: str = "") -> None:
        """Hear of it."""
        ...


def silent_note(label: str, done: int, total: int, /, note: str = "") -> None:
    """Tell nobody."""
