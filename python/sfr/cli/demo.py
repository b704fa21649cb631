"""``sfr demo``: everything on a small mock simulation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sfr.cli import options as opt
from sfr.cli.run import do_all_steps

__all__ = ["demo"]

#: Not the default folder of a run, so that the demo's recipe does not slip into real work.
_DEMO_WORK = Path("sfr-demo")


def demo(
    work: Annotated[Path, typer.Option("--work", help="Folder of the demo.")] = _DEMO_WORK,
    galaxies: Annotated[
        int, typer.Option("--galaxies", help="Galaxies of the mock simulation.")
    ] = 40,
    cells: Annotated[
        int, typer.Option("--cells", help="Mean number of gas cells per group.")
    ] = 20000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the mock simulation.")] = 1,
    snap: opt.Snap = None,
    recipe: Annotated[str, typer.Option("--recipe", help="Recipe.")] = "demo",
    workers: opt.Workers = None,
    threads: opt.WorkerThreads = None,
    force: opt.Force = False,
    *,
    training: opt.Training,
    output: opt.Output,
) -> None:
    """Write a small mock simulation and run everything on it, in minutes and offline.

    The backbone has random weights, so the table shows that the machinery learns; it is no
    result of science.

    Examples:

      sfr demo

      sfr demo --work /tmp/demo --galaxies 60 --epochs 100
    """
    from sfr.pipeline.demo import use_mock

    snapshots = opt.parse_snapshots(snap)
    how = {"changes": training.changes, "workers": workers, "threads": threads, "force": force}
    with output.console() as console, opt.Folder(work, recipe).open(console, **how) as run:
        use_mock(run, galaxies=galaxies, cells=cells, seed=seed, snapshots=snapshots)
        do_all_steps(run, console, snapshots, save_models=training.save_models)
