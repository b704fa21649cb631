"""``sfr run``: all steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sfr.cli import options as opt
from sfr.cli.console import Console
from sfr.cli.streams import echo
from sfr.cli.train import print_cases

if TYPE_CHECKING:
    from sfr.pipeline import OpenRun

__all__ = ["do_all_steps", "run"]


def do_all_steps(
    run: OpenRun, console: Console, snapshots: Sequence[int], *, save_models: bool
) -> None:
    """Do every step, print the table of cases and the report's path."""
    from sfr.pipeline.all_steps import all_steps

    summary = all_steps(run, snapshots, save_models=save_models)
    print_cases(run, console)
    if console.as_json:
        console.say(f"report: {summary.index}")
    else:
        echo(f"report: {summary.index}")
    console.finish(run.failures)


def run(
    snap: opt.Snap = None,
    force: opt.Force = False,
    *,
    folder: opt.Folder,
    rendering: opt.Rendering,
    training: opt.Training,
    output: opt.Output,
) -> None:
    """Run every step: select, split, render, train all cases, report.

    Steps whose results are current are skipped.

    Examples:

      sfr run --sim TNG50-1 --work run1

      sfr run --sim TNG50-1 --snap 97-99 --epochs 300 --seeds 3
    """
    snapshots = opt.parse_snapshots(snap)
    changes = rendering.changes | training.changes
    with (
        output.console() as console,
        folder.open(console, changes=changes, force=force, **rendering.options) as opened,
    ):
        do_all_steps(opened, console, snapshots, save_models=training.save_models)
