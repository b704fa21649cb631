"""The images of a run."""

from __future__ import annotations

import logging
import shlex

from sfr.errors import DataMissingError
from sfr.imaging.images import ImagesSummary, write_images
from sfr.imaging.normalise import Normalisation, normalise
from sfr.pipeline.current import rendered_snapshots
from sfr.pipeline.meter import Meter
from sfr.pipeline.run import Run
from sfr.pipeline.select import state_in_words
from sfr.sample.select import catalogue_read
from sfr.train.latest import outdate_heads

__all__ = ["images"]

log = logging.getLogger(__name__)


def images(run: Run, *, only_stale: bool = False) -> list[ImagesSummary]:
    """Normalise by the reference snapshot and write the images of all current maps.

    ``only_stale`` neither repeats nor mentions those that are current. Returns a summary a
    snapshot. A reference snapshot that is not rendered is a DataMissingError; other errors are
    those of `sfr.imaging.normalise.normalise`.
    """
    workspace, recipe = run.workspace, run.recipe
    rendered = rendered_snapshots(workspace, recipe)
    reference = recipe.normalisation.reference_snapshot
    if not rendered.get(reference):
        wanted = ",".join(map(str, sorted({*rendered, reference})))
        raise DataMissingError(
            f"the images are normalised by snapshot {reference}, which is not rendered with "
            "these settings yet; the maps that are rendered are kept. Run: "
            f"sfr render --snap {wanted} --work {shlex.quote(str(workspace.root))}"
        )
    force = run.options.force and not only_stale
    normalisation = _normalisation(run, force=force)
    if normalisation.is_partial or (normalisation.galaxies and not only_stale):
        level = logging.WARNING if normalisation.is_partial else logging.INFO
        log.log(level, "the scale of the images is set by %s", normalisation.galaxies)
    meter = Meter(run.on_progress, run.workers.memory)
    summaries = []
    for snapshot, is_current in rendered.items():
        if not is_current:
            log.info(
                "images %d: left alone, its maps were made with other settings or rows", snapshot
            )
            continue
        with run.step(f"images-{snapshot:03d}", "image", locked=False) as record:
            summary = write_images(
                workspace,
                recipe,
                snapshot,
                normalisation,
                workers=run.workers,
                force=force,
                on_progress=meter,
            )
            record["fingerprint"] = summary.fingerprint
            record["counts"] = {"images": summary.n_images}
            record["reason"] = summary.reason
        if summary.reason or not only_stale:
            state = state_in_words(summary.reason)
            log.info("images %d: %d%s", snapshot, summary.n_images, state)
        summaries.append(summary)
    if any(summary.reason for summary in summaries):
        outdate_heads(workspace)
    return summaries


def _normalisation(run: Run, *, force: bool) -> Normalisation:
    catalogue = catalogue_read(run.workspace, run.recipe.normalisation.reference_snapshot)
    with run.step("normalisation", "normalisation") as record:
        normalisation = normalise(run.workspace, run.recipe, catalogue=catalogue, force=force)
        record["fingerprint"] = run.workspace.fingerprint("normalisation")
        record["galaxies"] = normalisation.document.get("galaxies")
    return normalisation
