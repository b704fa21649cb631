"""The maps of a run, and with them its images."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sfr.imaging.images import ImagesSummary
from sfr.pipeline.current import sample_of
from sfr.pipeline.images import images
from sfr.pipeline.meter import Meter
from sfr.pipeline.run import Run
from sfr.pipeline.select import say_failures, select, state_in_words
from sfr.render import kernels
from sfr.render.plan import maps_fingerprint
from sfr.render.snapshot import RenderPlan, RenderSummary, plan_render, render_snapshot
from sfr.run.tables import Table
from sfr.sample.select import select as select_galaxies

__all__ = ["Rendered", "plan", "render"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rendered:
    """What rendering made or found, one summary a snapshot.

    Attributes
    ----------
    maps : tuple of RenderSummary
        Galaxies, failures, shards.
    images : tuple of ImagesSummary
        Images; none where a part of the maps was asked for.
    """

    maps: tuple[RenderSummary, ...]
    images: tuple[ImagesSummary, ...]


def render(run: Run, snapshots: Sequence[int] = (), *, sample: Table | None = None) -> Rendered:
    """Make maps and images; a part of the maps only where one is asked for.

    No snapshots mean the sample's, else the recipe's; ``sample`` is one that was selected just now.
    Errors are those of `select`, `sfr.render.snapshot.render_snapshot` and `images`.
    """
    snapshots = _snapshots(run, snapshots)
    if kernels.build_profile() == "debug":
        log.warning("the kernels are a debug build, which is slow")
    if sample is None:
        sample = select(run, snapshots).sample
    meter = Meter(run.on_progress, run.workers.memory)
    maps = tuple(_maps(run, sample, snap, meter) for snap in _with_galaxies(snapshots, sample))
    i, n = run.options.part
    if n == 1:
        found = tuple(images(run))
    else:
        found = ()
        waiting = ", ".join(str(made.snapshot) for made in maps if not made.is_complete)
        log.info(
            "part %d of %d of the maps is done, %s; when all parts are, the same command without "
            "--shard checks them and makes the images",
            *(i, n, f"not yet all of snapshots {waiting}" if waiting else "so are the others"),
        )
    run.end_workers()
    return Rendered(maps, found)


def plan(run: Run, snapshots: Sequence[int] = ()) -> list[RenderPlan]:
    """Say what rendering would take; nothing is written into the run's folder.

    Parameters, errors and what is left out are those of `render`.
    """
    snapshots = _snapshots(run, snapshots)
    with tempfile.TemporaryDirectory(prefix="sfr-") as folder:
        scratch = run.workspace.copy_of_sample(Path(folder))
        summary = select_galaxies(
            run.simulation,
            scratch,
            run.recipe,
            snapshots,
            allow_partial=run.options.allow_partial,
            on_progress=run.on_progress,
        )
        say_failures(run, summary)
        sample = summary.sample
        return [
            plan_render(
                run.simulation,
                run.workspace,
                run.recipe,
                sample,
                snap,
                fingerprint=maps_fingerprint(scratch, run.recipe, sample, snap),
                part=run.options.part,
                force=run.options.force,
                allow_partial=run.options.allow_partial,
            )
            for snap in _with_galaxies(snapshots, sample)
        ]


def _snapshots(run: Run, given: Sequence[int]) -> list[int]:
    if given:
        return list(given)
    sample = sample_of(run.workspace)
    return sorted(
        run.recipe.sample.snapshots if sample is None else set(sample["snapshot"].tolist())
    )


def _with_galaxies(snapshots: Sequence[int], sample: Table) -> list[int]:
    """Leave out, and say, snapshots of which the sample has no row."""
    there = set(sample["snapshot"].tolist())
    for snap in snapshots:
        if snap not in there:
            log.info("maps %d: left out, sample.csv has no galaxy of it", snap)
    return [snap for snap in snapshots if snap in there]


def _maps(run: Run, sample: Table, snapshot: int, meter: Meter) -> RenderSummary:
    """Render one snapshot: the part of it that is asked for."""
    options = run.options
    # processes share this step shard by shard, so its lock is not held throughout
    with run.step(f"maps-{snapshot:03d}", "maps", "orientation", locked=False) as record:
        summary = render_snapshot(
            run.simulation,
            run.workspace,
            run.recipe,
            sample,
            snapshot,
            workers=run.workers,
            part=options.part,
            threads=options.threads,
            force=options.force,
            strict=options.strict,
            allow_partial=options.allow_partial,
            on_progress=meter,
        )
        record["fingerprint"] = summary.fingerprint
        record["reason"] = summary.reason
        record["counts"] = {
            "galaxies": summary.n_rendered,
            "failed": summary.n_failed,
            "cells": summary.n_particles,
            "shards": summary.n_shards,
            "shards made": summary.n_shards_made,
        }
        record["part"] = "/".join(map(str, options.part))
        record["workers"] = run.workers.count
        record["peak_anonymous_bytes"] = meter.peak_memory
        record["failures"] = [{"subhalo_id": i, "reason": text} for i, text in summary.failures]
    log.info(
        "maps %d: %d galaxies, %d failed%s%s",
        *(snapshot, summary.n_rendered, summary.n_failed, state_in_words(summary.reason)),
        meter.summary(f"maps {snapshot}"),
    )
    if options.part != (1, 1):
        log.info("maps %d: %s", snapshot, _share(summary, options.part))
    run.failures += [f"snapshot {snapshot} subhalo {i}: {text}" for i, text in summary.failures]
    return summary


def _share(summary: RenderSummary, part: tuple[int, int]) -> str:
    """Say how much of a snapshot a part is."""
    i, n = part
    text = f"part {i} of {n} has {summary.n_shards} of {summary.n_shards_of_all} shards"
    if summary.n_shards_of_all < n:
        text += f", which are too few for {n} parts: {n - summary.n_shards_of_all} have none"
    return text
