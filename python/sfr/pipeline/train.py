"""The heads of a run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

from sfr.compute.dask import DaskWorkers
from sfr.compute.processes import Processes
from sfr.nn.keras_import import stated_backend
from sfr.pipeline.current import check_is_run, check_maps
from sfr.pipeline.images import images
from sfr.pipeline.run import Run
from sfr.pipeline.split import split
from sfr.pipeline.workers import open_workers
from sfr.target import target_of
from sfr.train.controls import PREFIX, fit_controls
from sfr.train.evaluate import NOT_TRAINED, case_states, case_table, head_states, read_heads
from sfr.train.fit import TrainSummary, train_cases
from sfr.train.training import Training

__all__ = ["case_rows", "controls", "train"]

log = logging.getLogger(__name__)


def train(
    run: Run,
    cases: Sequence[str] = (),
    *,
    save_models: bool = False,
    workers: int | None = None,
) -> TrainSummary:
    """Train the heads of some cases: here, by so many workers, or on the Dask cluster.

    No cases mean every one of the recipe, no ``workers`` this process or the run's scheduler. The
    other options, what comes back and errors are those of `sfr.train.fit.train_cases`; a folder
    that is no run, and a sample or maps that are not what the recipe asks for, are a
    DataMissingError, too.
    """
    for case in cases:
        run.recipe.case(case)
    check_is_run(run.workspace)
    # before split.csv is touched
    has_maps = check_maps(run.workspace, run.recipe)
    split(run, only_stale=True)
    if has_maps:
        images(run, only_stale=True)
    with (
        _trainers(run, workers) as trainers,
        run.step("train", "train", "cases", "target") as record,
    ):
        summary = train_cases(
            run.workspace,
            run.recipe,
            cases or run.recipe.case_names,
            force=run.options.force,
            save_models=save_models,
            workers=trainers,
            on_progress=run.on_progress,
        )
        record["workers"] = 1 if trainers is None else trainers.count
        record["fingerprint"] = summary.fingerprint
        record["seeds"] = list(range(run.recipe.train.seeds))
        record["counts"] = {
            "heads": len(summary.results),
            "dead": len(summary.dead),
            f"left out, {target_of(run.recipe).zero_words}": summary.n_dropped_zero,
            "without image": summary.n_missing_images,
        }
        record["seconds_backbone"] = round(summary.seconds_features, 3)
        record["seconds_heads"] = round(summary.seconds_heads, 3)
        record["failures"] = [{**r.model._asdict(), "reason": r.reason} for r in summary.failures]
        controls(run, summary.training)
    run.failures += [f"{r.model}: {r.reason}" for r in summary.failures]
    return summary


def controls(run: Run, training: Training) -> None:
    """Predict what cases are measured against; what cannot be had is said, and is no failure."""
    trained = [case for case in run.workspace.trained() if not case.startswith(PREFIX)]
    absent = fit_controls(training, tuple(trained), on_progress=run.on_progress)
    for name, reason in absent.items():
        log.info("%s is not there: %s", name, reason)


def _trainers(run: Run, workers: int | None) -> Processes | DaskWorkers | nullcontext[None]:
    """Find those who train; a context of nobody where this process does."""
    if workers in (None, 1) and run.options.scheduler is None:
        return nullcontext()
    backends = [stated_backend(), *filter(find_spec, ("tensorflow", "jax", "torch"))]
    packages = ("keras", *list(filter(None, backends))[:1])
    return open_workers(workers=workers, scheduler=run.options.scheduler, packages=packages)


def case_rows(run: Run) -> list[dict[str, Any]]:
    """Return the table of all trained cases, in the recipe's order."""
    heads = read_heads(run.workspace, run.recipe)
    states = case_states(run.recipe, head_states(run.workspace, run.recipe, heads))
    return case_table(heads, {c: state for c, state in states.items() if state != NOT_TRAINED})
