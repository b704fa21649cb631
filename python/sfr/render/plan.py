"""How the galaxies of a snapshot are cut into shards, whose each shard is, and what it costs.

Which galaxies a shard holds follows from the sample and the recipe only, so any number of
processes, at any time, write the same files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sfr.errors import EmptySelectionError
from sfr.recipe import MapsRecipe, Recipe
from sfr.render.fields import shown
from sfr.render.project import particle_fields
from sfr.run.tables import Table, table_digest
from sfr.run.workspace import Workspace, digest
from sfr.simulation.protocol import GAS, STARS, ObjectKind, Simulation

__all__ = [
    "READ_COLUMNS",
    "SHARD_SIZE",
    "Reading",
    "bytes_to_read",
    "deal_out",
    "maps_fingerprint",
    "particles_shown",
    "plan_shards",
    "readings",
    "rows_of",
    "share_of",
]

#: Columns of the sample that rendering reads.
READ_COLUMNS = (
    "subhalo_id",
    "group_id",
    "x_ckpc_h",
    "y_ckpc_h",
    "z_ckpc_h",
    "stellar_half_mass_radius_ckpc_h",
    "n_gas_group",
    "n_stars",
)
# The boundaries of shards are part of the format: these numbers change the maps' fingerprint.
#: Most galaxies in a shard.
SHARD_SIZE = 32
#: Most bytes of maps in a shard, which a worker holds in memory; one galaxy is always allowed.
_SHARD_BYTES = 64 * 2**20
#: Particles that a shard is worth, some seconds of work: what is lost when a process is killed.
_SHARD_COST = 30_000_000
#: What a galaxy costs whatever its size, in particles.
_GALAXY_COST = 100_000


def plan_shards(rows: Table, recipe: MapsRecipe) -> tuple[NDArray[np.intp], ...]:
    """Cut the galaxies of a snapshot into shards of about the same cost.

    They are taken in the order of the files: group by group, and in a group subhalo by subhalo.
    A group is cut only where it has more galaxies than a shard may hold, so that its gas is read
    by one process, once.

    Parameters
    ----------
    rows : dict of str to ndarray
        Rows of ``sample.csv`` of one snapshot.
    recipe : MapsRecipe
        Pixels and channels: how large the maps are.

    Returns
    -------
    tuple of ndarray of int
        The rows of each shard; every row is in one of them.
    """
    order = np.lexsort((rows["subhalo_id"], rows["group_id"]))
    galaxy_bytes = 4 * len(recipe.channels) * recipe.pixels**2
    most = min(SHARD_SIZE, max(1, _SHARD_BYTES // galaxy_bytes))
    ends = np.cumsum(_costs(rows)[order])
    # some room below the limit, so that shards end where costs say
    usual = max(1, 3 * most // 4)
    fair = ends[-1] / max(-(-len(order) // usual), -(-int(ends[-1]) // _SHARD_COST))
    shards: list[list[int]] = []
    last = -1
    for start, stop in _blocks(rows["group_id"][order], most):
        begin = ends[start - 1] if start else 0
        place = int((begin + ends[stop - 1]) / 2 / fair)
        if place != last or len(shards[-1]) + stop - start > most:
            shards.append([])
        shards[-1] += order[start:stop].tolist()
        last = place
    return tuple(np.array(shard, np.intp) for shard in shards)


def _costs(rows: Table) -> NDArray[np.int64]:
    """Return what each galaxy costs, in particles."""
    return np.asarray(_GALAXY_COST + rows["n_gas_group"] + rows["n_stars"])


def _blocks(group_ids: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Yield start and stop of the runs of one group, cut where they are longer than allowed."""
    edges = np.flatnonzero(np.diff(group_ids)) + 1
    for start, stop in pairwise([0, *edges.tolist(), len(group_ids)]):
        for first in range(start, stop, most):
            yield first, min(first + most, stop)


def share_of(
    shards: Sequence[NDArray[np.intp]], rows: Table, snapshot: int, part: tuple[int, int]
) -> tuple[int, ...]:
    """Return the shards of part i of N."""
    i, n = part
    costs = np.array([_costs(rows)[shard].sum() for shard in shards])
    return tuple(np.flatnonzero(deal_out(costs, n, snapshot) == i - 1).tolist())


def deal_out(costs: NDArray[Any], n: int, snapshot: int) -> NDArray[np.intp]:
    """Deal the shards of a snapshot out to N parts of about the same cost.

    A part has shards that lie one after the other. No part is empty where there are shards enough;
    where there are not, it is other parts from snapshot to snapshot that have none.

    Parameters
    ----------
    costs : ndarray, shape (shards,)
        What each shard costs, in any unit.
    n : int
        Number of parts.
    snapshot : int
        The snapshot.

    Returns
    -------
    ndarray of int, shape (shards,)
        The part of each shard, from 0.
    """
    count = len(costs)
    if count < n:
        places = np.arange(count) * n // count
    else:
        ends = np.concatenate([[0], np.cumsum(costs)])
        cuts: list[int] = []
        for k in range(1, n):
            nearest = int(np.argmin(np.abs(ends - k * ends[-1] / n)))
            # a shard for this part, and one for each that follows
            fewest = cuts[-1] + 1 if cuts else 1
            cuts.append(min(max(nearest, fewest), count - (n - k)))
        places = np.searchsorted(cuts, np.arange(count), side="right")
    return np.asarray((places + snapshot) % n)


def maps_fingerprint(workspace: Workspace, recipe: Recipe, sample: Table, snapshot: int) -> str:
    """Digest of everything that the maps of a snapshot depend on."""
    rows = sample["snapshot"] == snapshot
    return digest(
        {
            "rows": table_digest({name: sample[name][rows] for name in READ_COLUMNS}),
            "format": 5,
            "shard": [SHARD_SIZE, _SHARD_BYTES, _SHARD_COST, _GALAXY_COST],
            "orientation": recipe.section("orientation"),
            "maps": recipe.section("maps"),
            "sample": workspace.fingerprint(f"select-{snapshot:03d}"),
        }
    )


def rows_of(sample: Table, snapshot: int) -> Table:
    """Return the rows of a snapshot; EmptySelectionError where there are none."""
    rows = {name: column[sample["snapshot"] == snapshot] for name, column in sample.items()}
    if len(rows["subhalo_id"]) == 0:
        raise EmptySelectionError(f"sample.csv has no galaxy in snapshot {snapshot}")
    return rows


class Reading(NamedTuple):
    """Particles of one type that rendering may read, each object once.

    Attributes
    ----------
    kind : {"group", "subhalo"}
        What the objects are.
    part_type : int
        Type of the particles.
    fields : list of str
        What is read of them.
    ids, lengths : ndarray of int64, shape (n,)
        The objects, and how many such particles each has.
    """

    kind: ObjectKind
    part_type: int
    fields: list[str]
    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]


def readings(
    simulation: Simulation, recipe: Recipe, snapshot: int, rows: Table, *, allow_partial: bool
) -> list[Reading]:
    """Say what the maps of some rows are made from: stars of subhaloes, all else of groups.

    Parameters
    ----------
    simulation : Simulation
        Where they come from; asked only for numbers that the sample does not have.
    recipe : Recipe
        The experiment.
    snapshot : int
        The snapshot.
    rows : dict of str to ndarray
        Rows of ``sample.csv`` of this snapshot.
    allow_partial : bool
        Whether chunks of the catalogue may be missing.

    Returns
    -------
    list of Reading
        An entry per kind of object and type of particles.
    """
    _, first = np.unique(rows["group_id"], return_index=True)
    of_groups = {name: rows[name][first] for name in ("group_id", "n_gas_group")}
    found = []
    for kind, fields in particle_fields(recipe).items():
        if kind == STARS:
            found.append(Reading("subhalo", kind, fields, rows["subhalo_id"], rows["n_stars"]))
        if kind in {shown(recipe.maps), GAS}:
            lengths = _in_groups(simulation, snapshot, of_groups, kind, allow_partial=allow_partial)
            found.append(Reading("group", kind, fields, of_groups["group_id"], lengths))
    return found


def particles_shown(
    simulation: Simulation, recipe: Recipe, snapshot: int, rows: Table, *, allow_partial: bool
) -> NDArray[np.int64]:
    """Count, for each row, the particles of its group that the channels show; see `readings`."""
    kind = shown(recipe.maps)
    return _in_groups(simulation, snapshot, rows, kind, allow_partial=allow_partial)


def _in_groups(
    simulation: Simulation, snapshot: int, rows: Table, kind: int, *, allow_partial: bool
) -> NDArray[np.int64]:
    """Count particles of a type in the group of each row; 0 where the catalogue lacks the group."""
    if kind == GAS:
        return rows["n_gas_group"]
    catalogue = simulation.catalogue(
        snapshot, subhalo_fields=(), group_fields=("GroupLenType",), allow_partial=allow_partial
    )
    ids, row = np.unique(rows["group_id"], return_inverse=True)
    _, mine, there = np.intersect1d(ids, catalogue.group_ids, return_indices=True)
    lengths = np.zeros(len(ids), np.int64)
    lengths[mine] = catalogue.groups["GroupLenType"][there, kind]
    return lengths[row]


def bytes_to_read(simulation: Simulation, snapshot: int, read: Sequence[Reading]) -> int:
    """Count the bytes of all that may be read of some objects."""
    return sum(
        int(reading.lengths.sum()) * _bytes_per_particle(simulation, snapshot, reading)
        for reading in read
        if reading.lengths.any()
    )


def _bytes_per_particle(simulation: Simulation, snapshot: int, reading: Reading) -> int:
    """Look at the smallest object that has some: types differ between full and mini snapshots."""
    there = np.flatnonzero(reading.lengths)
    smallest = int(reading.ids[there[np.argmin(reading.lengths[there])]])
    found = simulation.particles(
        snapshot, reading.kind, smallest, reading.part_type, reading.fields
    )
    return sum(
        values.itemsize * int(np.prod(values.shape[1:], dtype=int)) for values in found.values()
    )
