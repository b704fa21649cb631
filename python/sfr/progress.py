"""How long-running steps tell how far they are; only the command line knows a progress bar."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "silent"]


class Progress(Protocol):
    """Called with a label, the number done so far and the total, in units of the label.

    ``cells`` are the gas cells behind the number done and behind the total, where they tell the
    time left better; ``note`` is what else there is to say, such as how a training is going.
    """

    def __call__(
        self,
        label: str,
        done: int,
        total: int,
        /,
        cells: tuple[int, int] | None = None,
        note: str = "",
    ) -> None:
        """Hear of it."""
        ...


def silent(
    label: str,
    done: int,
    total: int,
    /,
    cells: tuple[int, int] | None = None,
    note: str = "",
) -> None:
    """Tell nobody."""
