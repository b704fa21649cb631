"""The same galaxy over snapshots: by the merger tree, or, without one, by what it is made of."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataMissingError
from sfr.run.tables import Table
from sfr.simulation.protocol import Simulation

__all__ = ["Bound", "bound_of", "follow", "galaxy_ids", "match"]

log = logging.getLogger(__name__)

Ints = NDArray[np.int64]

_SNAPSHOT_STRIDE = 10**12
#: First id of galaxies that are matched, above all of SubLink's.
_MATCHED: Final = 2**62
#: Factor in stellar mass within which a galaxy stays, where its most bound particle is the same,
#: and where only its position speaks.
_MASS_BY_ID, _MASS_BY_PLACE = 3.0, 1.5
#: How far a galaxy moves from one snapshot to the next, at most [ckpc/h], and over how many.
_WAY, _FEW = 150.0, 3


def _untracked_id(snapshot: int, subhalo_ids: Ints) -> Ints:
    """Return ids of galaxies that no tree follows: negative, unique to subhalo and snapshot."""
    return -(snapshot * _SNAPSHOT_STRIDE + subhalo_ids) - 1


def galaxy_ids(simulation: Simulation, snapshot: int, subhalo_ids: Ints) -> Ints:
    """Give subhaloes of one galaxy in different snapshots the same id.

    The id is SubLink's MainLeafProgenitorID, which all subhaloes on one main branch share.

    Parameters
    ----------
    simulation : Simulation
        Where the trees come from.
    snapshot : int
        Snapshot of the subhaloes.
    subhalo_ids : ndarray of int64, shape (N,)
        Their indices in the catalogue.

    Returns
    -------
    ndarray of int64, shape (N,)
        Ids; negative where a subhalo is in no tree, or the simulation has no trees: such a galaxy
        is known in this snapshot only, unless `follow` finds it in another.
    """
    alone = _untracked_id(snapshot, subhalo_ids)
    leaves = simulation.main_leaf_ids(snapshot, subhalo_ids)
    if leaves is None:
        log.warning(
            "snapshot %d: no SubLink trees, so galaxies are followed by their most bound particle, "
            "position and mass, where another snapshot is selected",
            snapshot,
        )
        return alone
    lost = int(np.sum(leaves < 0))
    if lost:
        log.info("snapshot %d: %d of %d galaxies are in no tree", snapshot, lost, len(leaves))
    return np.where(leaves >= 0, leaves, alone)


# -- without trees ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bound:
    """What tells galaxies of a snapshot without trees from each other.

    Attributes
    ----------
    particle : dict of int to int
        By subhalo the id of its most bound particle; empty where the catalogue has none.
    period : float or None
        Side of the box [ckpc/h], where it is periodic.
    """

    particle: dict[int, int]
    period: float | None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"particle": list(self.particle.items()), "period": self.period}

    @classmethod
    def of_json(cls, found: Mapping[str, Any] | None) -> Bound | None:
        """Read it back."""
        return None if found is None else cls(dict(found["particle"]), found["period"])


def bound_of(
    simulation: Simulation,
    snapshot: int,
    subhalo_ids: Ints,
    *,
    period: float | None,
    allow_partial: bool,
) -> Bound | None:
    """Read what `follow` needs of some galaxies of a snapshot; None where there are trees."""
    if simulation.main_leaf_ids(snapshot, np.zeros(0, np.int64)) is not None:
        return None
    try:
        catalogue = simulation.catalogue(
            snapshot,
            subhalo_fields=("SubhaloIDMostbound",),
            group_fields=(),
            allow_partial=allow_partial,
        )
    except DataMissingError:
        log.warning(
            "snapshot %d: the catalogue has no SubhaloIDMostbound, so galaxies are followed by "
            "position and mass alone",
            snapshot,
        )
        return Bound({}, period)
    rows = np.searchsorted(catalogue.subhalo_ids, subhalo_ids)
    ids = catalogue.subhalos["SubhaloIDMostbound"][rows].tolist()
    return Bound(dict(zip(subhalo_ids.tolist(), ids, strict=True)), period)


def match(first: Table, second: Table, *, steps: int, period: float | None) -> tuple[Ints, int]:
    """Find the galaxies of one snapshot in another.

    Two subhaloes are the same galaxy where their most bound particle is the same, in these two
    alone, and their stellar masses agree within a factor of 3. Of the others, where each is the
    one nearest to the other, not farther than 150 ckpc/h a snapshot and over 3 snapshots at most,
    and their stellar masses agree within a factor of 1.5.

    Parameters
    ----------
    first, second : dict of str to ndarray
        ``most_bound`` (0: not known), ``position`` [ckpc/h], shape (N, 3), and ``mass`` [any].
    steps : int
        Snapshots from one to the other.
    period : float or None
        Side of the box [ckpc/h]; None: not periodic.

    Returns
    -------
    pairs : ndarray of int64, shape (M, 2)
        Rows of both; no row is there twice.
    by_particle : int
        How many of them, the first ones, share the most bound particle.
    """
    pairs = _same_particle(first, second)
    by_particle = len(pairs)
    if steps <= _FEW:
        pairs += _nearest(first, second, pairs, _WAY * steps, period)
    return np.array(pairs, np.int64).reshape(-1, 2), by_particle


def _same_particle(first: Table, second: Table) -> list[tuple[int, int]]:
    places: list[dict[int, int]] = []
    for table in (first, second):
        ids, place, count = np.unique(table["most_bound"], return_index=True, return_counts=True)
        good = (count == 1) & (ids != 0)
        places.append(dict(zip(ids[good].tolist(), place[good].tolist(), strict=True)))
    both = [(a, places[1][particle]) for particle, a in places[0].items() if particle in places[1]]
    return [(a, b) for a, b in both if _alike(first, second, a, b, _MASS_BY_ID)]


def _nearest(
    first: Table,
    second: Table,
    known: list[tuple[int, int]],
    way: float,
    period: float | None,
) -> list[tuple[int, int]]:
    from scipy.spatial import cKDTree

    free = [
        np.setdiff1d(np.arange(len(table["mass"])), [pair[side] for pair in known])
        for side, table in enumerate((first, second))
    ]
    if not all(rows.size for rows in free):
        return []
    points = [table["position"][rows] for table, rows in zip((first, second), free, strict=True)]
    if period is not None:
        points = [np.mod(point, period) for point in points]
    trees = [cKDTree(point, boxsize=period) for point in points]
    distance, there = trees[1].query(points[0])
    _, back = trees[0].query(points[1])
    mutual = (back[there] == np.arange(there.size)) & (distance <= way)
    pairs = zip(free[0][mutual].tolist(), free[1][there[mutual]].tolist(), strict=True)
    return [(a, b) for a, b in pairs if _alike(first, second, a, b, _MASS_BY_PLACE)]


def _alike(first: Table, second: Table, a: int, b: int, factor: float) -> bool:
    one, other = float(first["mass"][a]), float(second["mass"][b])
    return one <= factor * other and other <= factor * one


def follow(sample: Table, bound: Mapping[int, Bound | None]) -> Ints:
    """Give galaxies of snapshots without trees the id that they have in others.

    Neighbouring snapshots of the sample are matched (`match`), where one of them has no trees; then
    those two and three apart, for galaxies that did not pass the cuts in between.

    Parameters
    ----------
    sample : dict of str to ndarray
        Columns of ``sample.csv``.
    bound : mapping of int to Bound or None
        By snapshot; None where there are trees, whose ids stay.

    Returns
    -------
    ndarray of int64, shape (N,)
        Ids: that of the tree where a chain of matches leads to one, else one of the chain's own,
        above all of SubLink's; negative where nothing matches.
    """
    ids = np.array(sample["galaxy_id"], np.int64)
    rows = {snap: np.flatnonzero(sample["snapshot"] == snap) for snap in sorted(bound)}
    for snap, found in bound.items():
        if found is not None:
            ids[rows[snap]] = _untracked_id(snap, sample["subhalo_id"][rows[snap]])
    later_of: dict[int, int] = {}
    by_particle = 0
    for early, late in _pairs_of_snapshots(list(rows)):
        known = bound[early] or bound[late]
        if known is None:
            continue
        ends = [
            np.setdiff1d(rows[early], list(later_of)),
            np.setdiff1d(rows[late], list(later_of.values())),
        ]
        tables = [
            _of_snapshot(sample, end, bound[s]) for s, end in zip((early, late), ends, strict=True)
        ]
        pairs, count = match(*tables, steps=late - early, period=known.period)
        by_particle += count
        both = (end[pairs[:, side]].tolist() for side, end in enumerate(ends))
        later_of |= dict(zip(*both, strict=True))
    if later_of:
        log.info(
            "without trees: %d links between galaxies of two snapshots, %d by their most bound "
            "particle, %d by position and mass",
            *(len(later_of), by_particle, len(later_of) - by_particle),
        )
    return _named(ids, sample, later_of, {snap for snap in bound if bound[snap] is not None})


def _pairs_of_snapshots(snapshots: list[int]) -> list[tuple[int, int]]:
    """Return neighbours, then those two apart, and so on."""
    gaps = range(1, _FEW + 1)
    return [pair for gap in gaps for pair in zip(snapshots[:-gap], snapshots[gap:], strict=True)]


def _of_snapshot(sample: Table, rows: Ints, bound: Bound | None) -> Table:
    particle = {} if bound is None else bound.particle
    ids = [particle.get(subhalo, 0) for subhalo in sample["subhalo_id"][rows].tolist()]
    return {
        "most_bound": np.array(ids, np.uint64),
        "position": np.column_stack([sample[f"{axis}_ckpc_h"][rows] for axis in "xyz"]),
        "mass": sample["stellar_mass_msun"][rows],
    }


def _named(ids: Ints, sample: Table, later_of: Mapping[int, int], treeless: set[int]) -> Ints:
    """Give the rows of each chain of matches one id."""
    free = np.isin(sample["snapshot"], list(treeless))
    earlier_of = {late: early for early, late in later_of.items()}
    for last in earlier_of.keys() - later_of.keys():
        chain = [last]
        while chain[-1] in earlier_of:
            chain.append(earlier_of[chain[-1]])
        in_trees = [int(ids[row]) for row in chain if not free[row] and ids[row] >= 0]
        first = int(sample["snapshot"][last]) * _SNAPSHOT_STRIDE + int(sample["subhalo_id"][last])
        name = in_trees[0] if in_trees else _MATCHED + first
        for row in chain:
            if free[row]:
                ids[row] = name
    return ids
