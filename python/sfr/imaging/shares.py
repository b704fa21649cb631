"""How much of maps is empty or outside the range of its channel, and how much a gain clips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sfr.imaging.normalise import Normalisation
from sfr.imaging.ranges import SHARES, shares
from sfr.progress import Progress, silent
from sfr.recipe import Recipe
from sfr.run.shards import IMAGE_COLUMNS, iter_shards, maps_digest
from sfr.run.tables import RANGES, read_table, typed_columns, write_table
from sfr.run.workspace import Workspace, digest

__all__ = ["clipped_share", "mean_shares", "remember_clipped", "write_shares"]


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


def mean_shares(
    workspace: Workspace, recipe: Recipe, snapshots: Iterable[int]
) -> list[dict[str, Any]]:
    """Sum up what `write_shares` counted, a row a channel.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    recipe : Recipe
        The experiment.
    snapshots : iterable of int
        Those that have no such table are left out.

    Returns
    -------
    list of dict
        ``channel``, ``low``, ``high``, ``maps`` (how many), and for each of `SHARES` the mean over
        them and, as ``<name>_most``, the largest of one map. Empty where nothing was counted.
    """
    tables = [
        read_table(path, RANGES)
        for path in map(workspace.ranges_csv, sorted(set(snapshots)))
        if path.is_file()
    ]
    rows: list[dict[str, Any]] = []
    for channel in recipe.channels:
        mine = [{n: c[table["channel"] == channel] for n, c in table.items()} for table in tables]
        found = {name: np.concatenate([[], *(table[name] for table in mine)]) for name in SHARES}
        if not found[SHARES[0]].size:
            continue
        low, high = (next(t[name][0] for t in mine if len(t[name])) for name in ("low", "high"))
        row = {"channel": channel, "low": float(low), "high": float(high)}
        row["maps"] = int(found[SHARES[0]].size)
        for name, values in found.items():
            row |= {name: float(values.mean()), f"{name}_most": float(values.max())}
        rows.append(row)
    return rows


def remember_clipped(
    workspace: Workspace, case: str, key: str, part: int, shares_of_images: Sequence[float]
) -> None:
    """Keep how much the gain of a case clipped in a part of the images.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    case : str
        Version of the maps.
    key : str
        What the case is made of and how; what was kept with another one is dropped.
    part : int
        Number of the part.
    shares_of_images : sequence of float
        Share of the pixels of each image; none where it is not counted.
    """
    if not shares_of_images:
        return
    note = workspace.recalled(_note(case))
    if note is None or note["key"] != key:
        note = {"key": key, "parts": {}}
    counted = {"sum": float(np.sum(shares_of_images)), "images": len(shares_of_images)}
    note["parts"][str(part)] = counted
    workspace.remember(_note(case), note)


def clipped_share(workspace: Workspace, case: str) -> float | None:
    """Return the mean share of pixels that the gain clipped in a case; None: not counted."""
    parts = (workspace.recalled(_note(case)) or {}).get("parts", {})
    images = sum(part["images"] for part in parts.values())
    return sum(part["sum"] for part in parts.values()) / images if images else None


def _note(case: str) -> str:
    return f"clipped-{case}"
