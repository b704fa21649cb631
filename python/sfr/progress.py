"""How long-running steps tell how far they are; only the command line knows a progress bar."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "readable_bytes", "silent"]


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


def readable_bytes(count: int) -> str:
    """Write a number of bytes with three digits and a unit of powers of 1000."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{value:.3g} {unit}"
