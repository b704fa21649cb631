"""``sfr run``: all steps."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from sfr.cli import options as opt
from sfr.cli.console import Console, exit_codes
from sfr.cli.steps import Run, open_run
from sfr.cli.streams import echo
from sfr.cli.train import print_cases

__all__ = ["register", "run_all"]


def run_all(run: Run, console: Console, snapshots: Sequence[int], *, save_models: bool) -> None:
    """Run every step, print the table of cases and the report's path."""
    run.check_available(snapshots)
    run.select(snapshots)
    run.split()
    run.render(snapshots)
    run.train(run.recipe.case_names, save_models=save_models)
    index = run.report()
    print_cases(run, console)
    console.close()
    if console.as_json:
        console.say(f"report: {index}")
    else:
        echo(f"report: {index}")
    run.finish()


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command()
    @exit_codes
    def run(
        snap: opt.Snap = None,
        sim: opt.Sim = None,
        work: opt.Work = opt.DEFAULT_WORK,
        recipe: opt.RecipeName = None,
        weights: opt.Weights = None,
        epochs: opt.Epochs = None,
        seeds: opt.Seeds = None,
        precision: opt.Precision = None,
        save_models: opt.SaveModels = False,
        workers: opt.Workers = None,
        scheduler: opt.Scheduler = None,
        threads: opt.WorkerThreads = None,
        strict: opt.Strict = False,
        allow_partial: opt.AllowPartial = False,
        reference_share: opt.ReferenceShare = None,
        no_images: opt.NoImages = False,
        no_mmap: opt.NoMmap = False,
        force: opt.Force = False,
        as_json: opt.Json = False,
        verbose: opt.Verbose = False,
        quiet: opt.Quiet = False,
    ) -> None:
        """Run every step: select, split, render, train all cases, report.

        Steps whose results are current are skipped.

        Examples:

          sfr run --sim TNG50-1 --work run1

          sfr run --sim TNG50-1 --snap 97-99 --epochs 300 --seeds 3
        """
        console = Console(verbose=verbose, quiet=quiet, as_json=as_json)
        changes: dict[str, dict[str, object]] = {
            "normalisation": {"reference_share": reference_share},
            "train": {
                "weights": weights,
                "epochs": epochs,
                "seeds": seeds,
                "precision": precision,
            },
        }
        snapshots = opt.parse_snapshots(snap)
        with open_run(
            work,
            recipe,
            console,
            changes=changes,
            sim_path=sim,
            n_workers=workers,
            scheduler=scheduler,
            threads=threads,
            strict=strict,
            allow_partial=allow_partial,
            force=force,
            mapped=not no_mmap,
            with_images=not no_images,
        ) as context:
            wanted = snapshots or sorted(context.recipe.sample.snapshots)
            run_all(context, console, wanted, save_models=save_models)
