"""Shards of maps to PNG images, one per galaxy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sfr.compute.tasks import Serial, Workers, run_all
from sfr.errors import WorkerLostError
from sfr.imaging.lupton import lupton_rgb
from sfr.imaging.normalise import Normalisation
from sfr.imaging.png import write_png
from sfr.progress import Progress, silent
from sfr.recipe import ImageRecipe, Recipe
from sfr.run.names import ImageId
from sfr.run.shards import iter_shards, maps_digest, read_shard
from sfr.run.workspace import Workspace, digest

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
    workers: Workers | None = None,
    force: bool = False,
    on_progress: Progress = silent,
) -> ImagesSummary:
    """Write the RGB image of every rendered galaxy of a snapshot.

    The images of one shard are one piece of work; pieces that an interrupted run finished are
    kept.

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
    workers : Workers or None
        Who writes them; None: this process.
    force : bool
        Write them even if they are current.
    on_progress : callable
        Hears of galaxies.

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
            "maps": maps_digest(workspace, snapshot),
        }
    )
    job = _Job(workspace, recipe.image, snapshot, normalisation, fingerprint)
    ids = [
        shard.columns["subhalo_id"].tolist()
        for shard in iter_shards(workspace, snapshot, with_maps=False, columns=["subhalo_id"])
    ]
    n = sum(map(len, ids))
    state = workspace.check(step, fingerprint, force=force)
    if state.current:
        return ImagesSummary(snapshot, n, fingerprint, "")
    workspace.forget(step)
    workspace.wait_for_claims(f"{step}-part-")
    if force:
        _forget_parts(job)
    missing = [i for i in range(len(ids)) if not workspace.check(job.part(i), fingerprint).current]
    images = {
        i: [workspace.image(ImageId(snapshot, j)) for j in part] for i, part in enumerate(ids)
    }
    kept = {path for i, paths in images.items() if i not in missing for path in paths}
    for stale in workspace.images_of(snapshot):
        if stale not in kept:
            stale.unlink()
    done = dict.fromkeys(missing, 0)

    def report(index: int, galaxies: int) -> None:
        done[index] = galaxies
        on_progress(f"images {snapshot}", len(kept) + sum(done.values()), n)

    for index, result in run_all(workers or Serial(), _write_part, job, missing, report):
        if isinstance(result, WorkerLostError):
            raise result
        report(index, result)
    # of workers that were killed
    workspace.clean_scratch()
    workspace.mark_done(step, fingerprint, [path for paths in images.values() for path in paths])
    _forget_parts(job)
    workspace.remove_locks(f"{step}-part-")
    return ImagesSummary(snapshot, n, fingerprint, state.reason)


@dataclass(frozen=True)
class _Job:
    """What all images of a snapshot are made with."""

    workspace: Workspace
    recipe: ImageRecipe
    snapshot: int
    normalisation: Normalisation
    fingerprint: str

    def part(self, index: int) -> str:
        """Step of the images of one shard."""
        return f"images-{self.snapshot:03d}-part-{index:05d}"


def _write_part(job: _Job, index: int, on_done: Callable[[int], None]) -> int:
    """Write the images of one shard, in any process."""
    shard = read_shard(job.workspace.shard(job.snapshot, index))
    written = []
    # whoever runs the command next waits until this worker has ended
    with job.workspace.claim(job.part(index), wait=True):
        for maps, subhalo_id in zip(shard.maps, shard.columns["subhalo_id"], strict=True):
            target = job.workspace.image(ImageId(job.snapshot, int(subhalo_id)))
            write_png(job.workspace, target, lupton_rgb(job.normalisation.apply(maps), job.recipe))
            written.append(target)
            on_done(len(written))
        job.workspace.mark_done(job.part(index), job.fingerprint, written)
    return len(written)


def _forget_parts(job: _Job) -> None:
    for step in job.workspace.steps(f"images-{job.snapshot:03d}-part-"):
        job.workspace.forget(step)
