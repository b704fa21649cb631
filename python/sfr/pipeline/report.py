"""The report of a run, and its contact sheet."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from sfr.errors import ConfigError
from sfr.pipeline.current import check_is_run, check_maps
from sfr.pipeline.images import images
from sfr.pipeline.run import Run
from sfr.pipeline.select import say_edits
from sfr.pipeline.train import controls, train
from sfr.recipe import Recipe
from sfr.report import ReportSummary, write_report
from sfr.report.contact_sheet import contact_sheet
from sfr.run.workspace import Workspace
from sfr.sample.select import check_settings
from sfr.sample.split import is_current
from sfr.target import target_of
from sfr.train.controls import PREFIX
from sfr.train.fit import training_of
from sfr.train.latest import outdate_heads

__all__ = ["report", "show"]

log = logging.getLogger(__name__)


def report(run: Run) -> ReportSummary:
    """Write the report, after training where nothing is trained yet.

    A folder that is no run, and a sample or maps that are not what the recipe asks for, are a
    DataMissingError; other errors are those of `sfr.report.write_report`.
    """
    check_is_run(run.workspace)
    if not run.workspace.trained():
        log.info("report: nothing is trained yet, so training comes first")
        train(run)
    if check_maps(run.workspace, run.recipe):
        images(run, only_stale=True)
    say_edits(run)
    stored = run.workspace.stored_recipe() or run.recipe
    if not is_current(run.workspace, stored.split, target_of(stored)):
        log.info("report: sample.csv or split.csv was edited since the last training")
        outdate_heads(run.workspace)
    if not any(name.startswith(PREFIX) for name in run.workspace.trained()):
        controls(run, training_of(run.workspace, run.recipe))
    with run.step("report") as record:
        summary = write_report(run.workspace, run.recipe, on_progress=run.on_progress)
        record["counts"] = {"cases": summary.n_cases, "figures": len(summary.figures)}
    return summary


def show(run: Run, **options: Any) -> Path:  # noqa: ANN401 - those of contact_sheet
    """Make a contact sheet of galaxies; options and errors are those of `contact_sheet`."""
    check_is_run(run.workspace)
    check_settings(run.workspace, run.recipe)
    _check_channels(run.workspace, run.recipe)
    say_edits(run)
    return contact_sheet(run.workspace, run.recipe, **options)


def _check_channels(workspace: Workspace, recipe: Recipe) -> None:
    """Raise ConfigError where the channels are not those that the images were made of."""
    stored = workspace.stored_recipe()
    if stored is not None and stored.channels != recipe.channels:
        shown, wanted = (", ".join(r.channels) for r in (stored, recipe))
        raise ConfigError(
            f"the images of {workspace.root} show {shown}, the recipe has {wanted}; leave "
            "--recipe out, or run sfr render with this recipe"
        )
