"""All steps of a run."""

from __future__ import annotations

from collections.abc import Sequence

from sfr.errors import ConfigError
from sfr.pipeline.render import render
from sfr.pipeline.report import report
from sfr.pipeline.run import Run
from sfr.pipeline.select import select
from sfr.pipeline.split import split
from sfr.pipeline.train import train
from sfr.recipe import Recipe
from sfr.report import ReportSummary
from sfr.run.workspace import Workspace

__all__ = ["all_steps", "check_available"]


def all_steps(
    run: Run, snapshots: Sequence[int] = (), *, save_models: bool = False
) -> ReportSummary:
    """Select, split, render, train all cases, report: the snapshots, or the recipe's.

    Errors are those of the steps; what a later one cannot do ends the run before the first one.
    """
    snapshots = snapshots or sorted(run.recipe.sample.snapshots)
    check_available(run.workspace, run.recipe, snapshots)
    sample = select(run, snapshots).sample
    split(run)
    render(run, snapshots, sample=sample)
    train(run, save_models=save_models)
    return report(run)


def check_available(workspace: Workspace, recipe: Recipe, snapshots: Sequence[int]) -> None:
    """Raise ConfigError where a later step cannot do what the recipe asks for."""
    if recipe.normalisation.by == "range":
        return
    reference = recipe.normalisation.reference_snapshot
    if reference not in snapshots and not workspace.has_run(f"maps-{reference:03d}"):
        raise ConfigError(
            f"the images are normalised by snapshot {reference}, which is not among those of "
            f"this run ({', '.join(map(str, snapshots))}); add it to --snap, or set "
            "normalisation.reference_snapshot in a recipe"
        )
