"""What must not be divided by a split: galaxies over snapshots, and FoF groups at one time."""

from __future__ import annotations

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
    divided : int
        FoF groups, of one time, that do not count because a fold cannot hold their galaxies.
    """

    number: NDArray[np.int64]
    linked: NDArray[np.int64]
    dropped: tuple[int, ...] = ()
    divided: int = 0

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
    group of the same snapshot. A group whose galaxies have more images than a fold cannot be kept
    together, and links nothing. Over many snapshots, groups that meet and part link nearly
    everything. So while the largest component has more images than half a fold, the links of
    groups of the earliest snapshot that still has some are dropped; but not where it is as large
    for the groups of one time, or the images of one galaxy, alone. Links of galaxies are never
    dropped.

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
    snapshot = sample["snapshot"]
    snapshots = np.unique(snapshot).tolist()
    linked = connect(sample, np.ones(snapshot.size, bool))
    group, images = _group_sizes(sample)
    keeps = images <= fold
    number = connect(sample, keeps)
    of_one_time = (_largest(connect(sample, keeps & (snapshot == snap))) for snap in snapshots)
    most = max(fold / 2, *of_one_time, 0)
    dropped: list[int] = []
    while _largest(number) > most:
        dropped.append(snapshots[len(dropped)])
        number = connect(sample, keeps & (snapshot > dropped[-1]))
    # a galaxy by itself is no group that could be divided
    several = (np.bincount(group)[group] > 1) & (snapshot > max(dropped, default=-1))
    divided = np.unique(group[several & ~keeps]).size
    return Components(number, linked, tuple(dropped), divided)


def _group_sizes(sample: Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the number of each row's group, of one time, and the images of all its galaxies."""
    _, group = np.unique(
        np.column_stack([sample["snapshot"], sample["group_id"]]), axis=0, return_inverse=True
    )
    group, galaxy = group.ravel(), galaxy_numbers(sample["galaxy_id"])
    images = np.bincount(galaxy)[galaxy]
    return group, np.bincount(group, images).astype(np.int64)[group]


def connect(sample: Table, counts: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Give the components numbers, with the links of some groups only.

    Parameters
    ----------
    sample : dict of str to ndarray
        As of `components`.
    counts : ndarray of bool, shape (N,)
        Whether the group of each row counts.

    Returns
    -------
    ndarray of int64, shape (N,)
        From 0, in the order of their first rows.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = np.arange(sample["snapshot"].size)
    group = _group_sizes(sample)[0][counts]
    # a node for each row, each galaxy and each group
    galaxies = rows.size + galaxy_numbers(sample["galaxy_id"])
    above = int(galaxies.max(initial=rows.size - 1)) + 1
    start = np.concatenate([rows, rows[counts]])
    end = np.concatenate([galaxies, above + group])
    size = int(end.max(initial=-1)) + 1
    graph = coo_array((np.ones(start.size, np.int8), (start, end)), shape=(size, size))
    found = connected_components(graph, directed=False)[1][: rows.size]
    _, first, number = np.unique(found, return_index=True, return_inverse=True)
    place = np.empty(first.size, np.int64)
    place[np.argsort(first)] = np.arange(first.size)
    return place[number.ravel()]


def _largest(number: NDArray[np.int64]) -> int:
    return int(np.bincount(number).max(initial=0))
