"""What a split leaks, as the audit found it and the report shows it: ``tables/leaks.csv``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sfr.run.tables import LEAKS, read_table
from sfr.run.workspace import Workspace

__all__ = ["Neighbours", "r_in_words", "read_neighbours"]


@dataclass(frozen=True)
class Neighbours:
    """What the nearest training image says of each test image.

    Attributes
    ----------
    split : str
        Which split it is.
    n_test : int
        Test images.
    r : float or None
        Pearson's r of their labels and their neighbours'; None where it does not exist.
    r_permuted, r_permuted_std : float or None
        The same with the labels of galaxies permuted between galaxies: mean and standard deviation
        of many permutations. 0 within its scatter where nothing leaks.
    n_same_galaxy : int
        Test images whose neighbour shows the same galaxy.
    n_near : int
        Test images with a neighbour that is closer than ``distance``.
    distance : float
        The distance that 1 in 1000 pairs of unrelated images are closer than [ranks].
    """

    split: str
    n_test: int
    r: float | None
    r_permuted: float | None
    r_permuted_std: float | None
    n_same_galaxy: int
    n_near: int
    distance: float

    def __str__(self) -> str:
        """Say it in one sentence."""
        copied = r_in_words(self.r_permuted)
        if self.r_permuted_std is not None:
            copied += f" +- {self.r_permuted_std:.2f}"
        return (
            f"split {self.split}: the label of the nearest training image in radial profiles has "
            f"r = {r_in_words(self.r)} with that of {self.n_test} test images, {copied} with "
            "labels permuted between galaxies, which copies alone can know; "
            f"{self.n_same_galaxy} of these neighbours show the same galaxy, {self.n_near} are "
            "near-copies (closer than 1 in 1000 pairs of unrelated images)"
        )


def read_neighbours(workspace: Workspace) -> list[Neighbours]:
    """Read ``tables/leaks.csv``; nothing where it is not there."""
    if not workspace.leaks_csv.is_file():
        return []
    columns = read_table(workspace.leaks_csv, LEAKS)
    rows: list[list[Any]] = [[] for _ in columns["split"]]
    for column in columns.values():
        for row, value in zip(rows, column.tolist(), strict=True):
            row.append(value if value == value else None)
    return [Neighbours(*row) for row in rows]


def r_in_words(r: float | None) -> str:
    """Write a correlation; a word where it does not exist."""
    return "undefined" if r is None else f"{r:.2f}"
