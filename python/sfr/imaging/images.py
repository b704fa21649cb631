"""Shards of maps to PNG images, one per galaxy."""

from __future__ import annotations

from dataclasses import dataclass

from sfr.imaging.lupton import lupton_rgb
from sfr.imaging.normalise import Normalisation
from sfr.imaging.png import write_png
from sfr.progress import Progress, silent
from sfr.recipe import Recipe
from sfr.store import iter_shards, read_shard
from sfr.workspace import Workspace, digest

__all__ = ["ImagesSummary", "write_images"]


@dataclass(frozen=True)
class ImagesSummary:
    """What happened to the images of one snapshot."""

    snapshot: int
    n_images: int
    fingerprint: str
    #: Empty when the images were there already.
    reason: str


def write_images(
    workspace: Workspace,
    recipe: Recipe,
    snapshot: int,
    normalisation: Normalisation,
    *,
    force: bool = False,
    on_progress: Progress = silent,
) -> ImagesSummary:
    """Write the RGB image of every rendered galaxy of a snapshot.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    recipe : Recipe
        The experiment.
    snapshot : int
        Snapshot whose maps are there.
    normalisation : Normalisation
        Divisors of the channels.
    force : bool
        Write them even if they are current.
    on_progress : callable
        Hears of every shard.

    Returns
    -------
    ImagesSummary
        Number of images and why they were made.
    """
    step = f"images-{snapshot:03d}"
    fingerprint = digest(
        {
            "image": recipe.section("image"),
            "maxima": normalisation.maxima,
            "maps": workspace.fingerprint(f"maps-{snapshot:03d}"),
        }
    )
    state = workspace.check(step, fingerprint, force=force)
    if state.current:
        n = sum(
            len(s.columns["subhalo_id"]) for s in iter_shards(workspace, snapshot, with_maps=False)
        )
        return ImagesSummary(snapshot, n, fingerprint, "")
    workspace.forget(step)
    for stale in workspace.images_of(snapshot):
        stale.unlink()
    paths = workspace.shards(snapshot)
    written = []
    for done, path in enumerate(paths, start=1):
        shard = read_shard(path)
        for maps, subhalo_id in zip(shard.maps, shard.columns["subhalo_id"], strict=True):
            target = workspace.image(snapshot, int(subhalo_id))
            write_png(workspace, target, lupton_rgb(normalisation.apply(maps), recipe.image))
            written.append(target)
        on_progress(f"images {snapshot}", done, len(paths))
    workspace.mark_done(step, fingerprint, written)
    return ImagesSummary(snapshot, len(written), fingerprint, state.reason)
