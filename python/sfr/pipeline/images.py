"""The images of a run."""

from __future__ import annotations

import logging
import shlex

from sfr.errors import DataMissingError
from sfr.imaging.images import ImagesSummary, write_images
from sfr.imaging.normalise import Normalisation, normalise
from sfr.imaging.shares import write_shares
from sfr.pipeline.current import rendered_snapshots
from sfr.pipeline.meter import Meter
from sfr.pipeline.run import Run
from sfr.pipeline.select import state_in_words
from sfr.sample.select import catalogue_read
from sfr.train.latest import outdate_heads

__all__ = ["images"]

log = logging.getLogger(__name__)


def images(run: Run, *, only_stale: bool = False) -> list[ImagesSummary]:
    """Scale the maps and write the images of all that are current.

    ``only_stale`` neither repeats nor mentions those that are current, and makes no images where
    networks read float maps and nobody has asked for images. Returns a summary a snapshot. With
    ``normalisation.by = "maximum"`` a reference snapshot that is not rendered is a
    DataMissingError; other errors are those of `sfr.imaging.normalise.normalise`.
    """
    workspace, recipe = run.workspace, run.recipe
    by_range = recipe.normalisation.by == "range"
    reads_maps = recipe.cases.act_on == "maps"
    rendered = rendered_snapshots(workspace, recipe)
    current = [snapshot for snapshot, is_current in rendered.items() if is_current]
    reference = current[0] if by_range and current else recipe.normalisation.reference_snapshot
    if reference not in current:
        wanted = ",".join(map(str, sorted({*rendered, reference})))
        raise DataMissingError(
            f"the images are normalised by snapshot {reference}, which is not rendered with "
            "these settings yet; the maps that are rendered are kept. Run: "
            f"sfr render --snap {wanted} --work {shlex.quote(str(workspace.root))}"
        )
    force = run.options.force and not only_stale
    normalisation = _normalisation(run, reference, force=force)
    if normalisation.is_partial or (normalisation.galaxies and not only_stale):
        level = logging.WARNING if normalisation.is_partial else logging.INFO
        log.log(level, "the scale of the images is set by %s", normalisation.galaxies)
    summaries, counted_anew = [], False
    for snapshot in rendered:
        if snapshot not in current:
            log.info(
                "images %d: left alone, its maps were made with other settings or rows", snapshot
            )
            continue
        if by_range:
            counted_anew |= _shares(run, snapshot, normalisation, force=force)
        is_asked_for = run.options.pictures
        if only_stale:
            is_asked_for = not reads_maps or workspace.has_run(f"images-{snapshot:03d}")
        if is_asked_for:
            summary = _images(run, snapshot, normalisation, force=force)
            if summary.reason or not only_stale:
                state = state_in_words(summary.reason)
                log.info("images %d: %d%s", snapshot, summary.n_images, state)
            summaries.append(summary)
    if counted_anew if reads_maps else any(summary.reason for summary in summaries):
        outdate_heads(workspace)
    return summaries


def _normalisation(run: Run, snapshot: int, *, force: bool) -> Normalisation:
    catalogue = catalogue_read(run.workspace, snapshot)
    # the ranges are those of the channels
    with run.step("normalisation", "normalisation", "maps") as record:
        normalisation = normalise(
            run.workspace, run.recipe, snapshot, catalogue=catalogue, force=force
        )
        record["fingerprint"] = run.workspace.fingerprint("normalisation")
        record["galaxies"] = normalisation.document.get("galaxies")
    return normalisation


def _shares(run: Run, snapshot: int, normalisation: Normalisation, *, force: bool) -> bool:
    """Count pixels that are empty or out of range; whether they were counted anew."""
    with run.step(f"ranges-{snapshot:03d}", "normalisation"):
        return write_shares(
            run.workspace,
            run.recipe,
            snapshot,
            normalisation,
            force=force,
            on_progress=run.on_progress,
        )


def _images(run: Run, snapshot: int, normalisation: Normalisation, *, force: bool) -> ImagesSummary:
    with run.step(f"images-{snapshot:03d}", "image", locked=False) as record:
        summary = write_images(
            run.workspace,
            run.recipe,
            snapshot,
            normalisation,
            workers=run.workers,
            force=force,
            on_progress=Meter(run.on_progress, run.workers.memory),
        )
        record["fingerprint"] = summary.fingerprint
        record["counts"] = {"images": summary.n_images}
        record["reason"] = summary.reason
    return summary
