"""How much of each map of a snapshot is empty, or outside the range of its channel."""

from __future__ import annotations

from sfr.imaging.normalise import Normalisation
from sfr.imaging.ranges import shares
from sfr.progress import Progress, silent
from sfr.recipe import Recipe
from sfr.run.shards import IMAGE_COLUMNS, iter_shards, maps_digest
from sfr.run.tables import RANGES, typed_columns, write_table
from sfr.run.workspace import Workspace, digest

__all__ = ["write_shares"]


def write_shares(
    workspace: Workspace,
    recipe: Recipe,
    snapshot: int,
    normalisation: Normalisation,
    *,
    force: bool = False,
    on_progress: Progress = silent,
) -> bool:
    """Write ``ranges.csv`` of a snapshot: a row a map and channel, see `RANGES`.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    recipe : Recipe
        The experiment.
    snapshot : int
        Snapshot whose maps are there.
    normalisation : Normalisation
        Ranges of the channels.
    force : bool
        Write it even if it is current.
    on_progress : callable
        Hears of shards.

    Returns
    -------
    bool
        Whether it was written; it was current otherwise.
    """
    step, path = f"ranges-{snapshot:03d}", workspace.ranges_csv(snapshot)
    fingerprint = digest({"ranges": normalisation.ranges, "maps": maps_digest(workspace, snapshot)})
    if workspace.check(step, fingerprint, force=force).current:
        return False
    rows: list[tuple[object, ...]] = []
    ranges = normalisation.ranges
    paths = workspace.shards(snapshot)
    for done, shard in enumerate(iter_shards(workspace, snapshot, columns=IMAGE_COLUMNS), 1):
        for image, maps in zip(shard.images(snapshot), shard.maps, strict=True):
            found = zip(recipe.channels, ranges, shares(maps, ranges).tolist(), strict=True)
            for channel, limits, outside in found:
                rows.append((image.subhalo_id, image.view, channel, *limits, *outside))
        on_progress(f"ranges {snapshot}", done, len(paths))
    write_table(workspace, path, typed_columns(RANGES, rows))
    workspace.mark_done(step, fingerprint, [path])
    return True
