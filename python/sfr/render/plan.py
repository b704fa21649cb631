"""How the galaxies of a snapshot are cut into shards, whose each shard is, and what it costs.

Which galaxies a shard holds follows from the sample and the recipe only, so any number of
processes, at any time, write the same files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfr.errors import EmptySelectionError
from sfr.recipe import MapsRecipe, Recipe
from sfr.render.project import particle_fields
from sfr.run.tables import Table, table_digest
from sfr.run.workspace import Workspace, digest
from sfr.simulation.protocol import Simulation

__all__ = [
    "GAS",
    "READ_COLUMNS",
    "SHARD_SIZE",
    "STARS",
    "bytes_to_read",
    "deal_out",
    "maps_fingerprint",
    "plan_shards",
    "rows_of",
    "share_of",
]

#: Particle types.
GAS, STARS = 0, 4
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


def bytes_to_read(simulation: Simulation, recipe: Recipe, snapshot: int, rows: Table) -> int:
    """Count the bytes of the gas of each group and the stars of each subhalo."""
    if len(rows["subhalo_id"]) == 0:
        return 0
    fields = particle_fields(recipe)
    # types differ between full and mini snapshots; the smallest group shows them
    i = int(np.argmin(rows["n_gas_group"]))
    group_id, subhalo_id = int(rows["group_id"][i]), int(rows["subhalo_id"][i])
    gas_cells = simulation.particles(snapshot, "group", group_id, GAS, fields[GAS])
    stars = simulation.particles(snapshot, "subhalo", subhalo_id, STARS, fields[STARS])
    _, first = np.unique(rows["group_id"], return_index=True)
    return int(
        rows["n_gas_group"][first].sum() * _bytes_per_particle(gas_cells)
        + rows["n_stars"].sum() * _bytes_per_particle(stars)
    )


def _bytes_per_particle(particles: dict[str, NDArray[Any]]) -> int:
    return sum(
        values.itemsize * int(np.prod(values.shape[1:], dtype=int)) for values in particles.values()
    )
