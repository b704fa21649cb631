"""Shards of maps to PNG images, one per galaxy and view."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from sfr.compute.tasks import Workers
from sfr.imaging.normalise import Normalisation
from sfr.imaging.png import save_png
from sfr.imaging.rgb import rgb_image
from sfr.progress import Progress, silent
from sfr.recipe import ImageRecipe, Recipe
from sfr.run.names import ImageId
from sfr.run.parts import Parts, do_parts
from sfr.run.shards import IMAGE_COLUMNS, iter_shards, maps_digest, read_shard
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
    """Write the RGB image of every map of a snapshot.

    The images of one shard are one part of the work; parts that an interrupted run finished are
    kept, and processes share them.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    recipe : Recipe
        The experiment.
    snapshot : int
        Snapshot whose maps are there.
    normalisation : Normalisation
        Scales of the channels.
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

    Raises
    ------
    ConfigError
        Another process makes these images with other settings.
    WorkerLostError
        Workers died twice on the same images.
    """
    images = [
        shard.images(snapshot)
        for shard in iter_shards(workspace, snapshot, with_maps=False, columns=IMAGE_COLUMNS)
    ]
    fingerprint = digest(
        {
            "image": recipe.section("image"),
            "ranges": normalisation.ranges,
            "maps": maps_digest(workspace, snapshot),
        }
    )
    step = _Images(
        workspace=workspace,
        step=f"images-{snapshot:03d}",
        fingerprint=fingerprint,
        count=len(images),
        label=f"images {snapshot}",
        words=f"shards of images of snapshot {snapshot}",
        recipe=recipe.image,
        channels=recipe.channels,
        snapshot=snapshot,
        normalisation=normalisation,
        images=images,
    )
    done = do_parts(step, workers=workers, force=force, on_progress=on_progress)
    return ImagesSummary(snapshot, sum(map(len, images)), fingerprint, done.reason)


@dataclass(frozen=True, kw_only=True)
class _Images(Parts[None]):
    """The images of a snapshot: a part is the images of one shard, of which a record is kept."""

    recipe: ImageRecipe
    channels: tuple[str, ...]
    snapshot: int
    normalisation: Normalisation
    #: The images of each shard.
    images: list[list[ImageId]]

    def files(self, parts: Iterable[int]) -> list[Path]:
        return [self.workspace.image(image) for part in parts for image in self.images[part]]

    def size(self, part: int) -> int:
        return len(self.images[part])

    def prepare(self, kept: Collection[int], *, force: bool) -> None:
        for stale in {*self.workspace.images_of(self.snapshot)} - {*self.files(kept)}:
            stale.unlink()

    def make(self, part: int, on_done: Callable[[int], None]) -> None:
        shard = read_shard(self.workspace.shard(self.snapshot, part))
        files = self.files([part])
        with self.workspace.replacing_all(files) as temporaries:
            for count, (maps, file) in enumerate(zip(shard.maps, temporaries, strict=True), 1):
                scaled = self.normalisation.apply(maps)
                save_png(file, rgb_image(scaled, self.recipe, self.channels))
                on_done(count)
        self.record(part, files)

    def finish(self) -> list[Path]:
        return self.files(range(self.count))
