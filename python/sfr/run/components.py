"""What must not be divided by a split: galaxies over snapshots, and FoF groups at one time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfr.run.tables import Table, galaxy_numbers

__all__ = ["Components", "components", "connect"]


@dataclass(frozen=True)
class Components:
    """Images that belong together.

    Attributes
    ----------
    number : ndarray of int64, shape (N,)
        Component of each row, from 0 in the order of their first rows.
    linked : ndarray of int64, shape (N,)
        The same with the links of all groups.
    dropped : tuple of int
        Snapshots whose groups do not count, because the largest component would be too large.
    """

    number: NDArray[np.int64]
    linked: NDArray[np.int64]
    dropped: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """Components."""
        return int(self.number.max(initial=-1)) + 1

    @property
    def largest(self) -> int:
        """Images of the largest component."""
        return _largest(self.number)

    @property
    def count_linked(self) -> int:
        """Components with the links of all groups."""
        return int(self.linked.max(initial=-1)) + 1

    @property
    def largest_linked(self) -> int:
        """Images of the largest of them."""
        return _largest(self.linked)


def components(sample: Table, fold: float) -> Components:
    """Find the connected components of the sample.

    Two rows are linked where they show the same galaxy (``galaxy_id``), or lie in the same FoF
    group of the same snapshot. Over many snapshots, groups that meet and part link nearly
    everything. So while the largest component has more images than half a fold, the links of
    groups of the earliest snapshot that still has some are dropped. Those of galaxies never are,
    nor those of groups of one time that fit into a fold with all their galaxies have been.

    Parameters
    ----------
    sample : dict of str to ndarray
        Columns snapshot, group_id and galaxy_id of ``sample.csv``.
    fold : float
        Images of a fold.

    Returns
    -------
    Components
        Of each row.
    """
    snapshots = np.unique(sample["snapshot"]).tolist()
    linked = number = connect(sample, snapshots)
    of_one_time = max((_largest(connect(sample, [snapshot])) for snapshot in snapshots), default=0)
    alone = _largest(connect(sample, []))
    most = max(fold / 2, alone, of_one_time if of_one_time <= fold else 0)
    dropped: list[int] = []
    while _largest(number) > most:
        dropped.append(snapshots[len(dropped)])
        number = connect(sample, snapshots[len(dropped) :])
    return Components(number, linked, tuple(dropped))


def connect(sample: Table, snapshots: Collection[int]) -> NDArray[np.int64]:
    """Give the components numbers, with the groups of some snapshots only.

    Parameters
    ----------
    sample : dict of str to ndarray
        As of `components`.
    snapshots : collection of int
        Those whose groups count.

    Returns
    -------
    ndarray of int64, shape (N,)
        From 0, in the order of their first rows.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = np.arange(sample["snapshot"].size)
    counts = np.isin(sample["snapshot"], list(snapshots))
    groups = np.column_stack([sample["snapshot"], sample["group_id"]])[counts]
    _, group = np.unique(groups, axis=0, return_inverse=True)
    # a node for each row, each galaxy and each group
    galaxies = rows.size + galaxy_numbers(sample["galaxy_id"])
    above = int(galaxies.max(initial=rows.size - 1)) + 1
    start = np.concatenate([rows, rows[counts]])
    end = np.concatenate([galaxies, above + group.ravel()])
    size = int(end.max(initial=-1)) + 1
    graph = coo_array((np.ones(start.size, np.int8), (start, end)), shape=(size, size))
    found = connected_components(graph, directed=False)[1][: rows.size]
    _, first, number = np.unique(found, return_index=True, return_inverse=True)
    place = np.empty(first.size, np.int64)
    place[np.argsort(first)] = np.arange(first.size)
    return place[number.ravel()]


def _largest(number: NDArray[np.int64]) -> int:
    return int(np.bincount(number).max(initial=0))
