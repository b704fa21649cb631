"""``sfr demo``: everything on a small mock simulation."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from sfr.cli import options as opt
from sfr.cli.console import Console, exit_codes
from sfr.cli.run import run_all
from sfr.cli.steps import Run, open_run
from sfr.errors import ConfigError
from sfr.run.workspace import SIMULATION, Workspace, digest

__all__ = ["register"]

#: Not the default folder of a run, so that the demo's recipe does not slip into real work.
_DEMO_WORK = Path("sfr-demo")
#: Step under which a folder remembers its mock simulation.
_STEP = "mock"


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command()
    @exit_codes
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
        weights: opt.Weights = None,
        epochs: opt.Epochs = None,
        seeds: opt.Seeds = None,
        precision: opt.Precision = None,
        save_models: opt.SaveModels = False,
        workers: opt.Workers = None,
        threads: opt.WorkerThreads = None,
        force: opt.Force = False,
        as_json: opt.Json = False,
        verbose: opt.Verbose = False,
        quiet: opt.Quiet = False,
    ) -> None:
        """Write a small mock simulation and run everything on it, in minutes and offline.

        The backbone has random weights, so the table shows that the machinery learns; it is no
        result of science.

        Examples:

          sfr demo

          sfr demo --work /tmp/demo --galaxies 60 --epochs 100
        """
        console = Console(verbose=verbose, quiet=quiet, as_json=as_json)
        changes = {
            "train": {
                "weights": weights,
                "epochs": epochs,
                "seeds": seeds,
                "precision": precision,
            }
        }
        snapshots = opt.parse_snapshots(snap)
        _refuse_a_real_run(Workspace(work))
        with open_run(
            work,
            recipe,
            console,
            changes=changes,
            n_workers=workers,
            threads=threads,
            force=force,
        ) as run:
            wanted = snapshots or sorted(run.recipe.sample.snapshots)
            run.sim_path = _mock(run, galaxies=galaxies, cells=cells, seed=seed, snapshots=wanted)
            run_all(run, console, wanted, save_models=save_models)


def _refuse_a_real_run(workspace: Workspace) -> None:
    """Keep the demo out of a folder in which somebody works with a simulation."""
    if workspace.sample_csv.is_file() and workspace.recalled(_STEP) is None:
        raise ConfigError(
            f"{workspace.root} holds a run on another simulation; give the demo a folder of its "
            "own with --work"
        )


def _mock(run: Run, *, galaxies: int, cells: int, seed: int, snapshots: list[int]) -> Path:
    """Write the mock simulation, unless the folder holds the same one."""
    from sfr import __version__

    workspace = run.workspace
    settings = digest([galaxies, cells, seed, snapshots, __version__])
    target = workspace.mock(settings)
    # a demo with other settings would replace it
    run.hold(_STEP, settings)
    with workspace.lock(_STEP):
        if workspace.recalled(_STEP) == settings and target.is_dir():
            run.console.say(f"mock simulation: already in {target}")
            return target
        _clear(workspace, target)
        _write(run, target, galaxies=galaxies, cells=cells, seed=seed, snapshots=snapshots)
        workspace.remember(_STEP, settings)
    return target


def _clear(workspace: Workspace, target: Path) -> None:
    """Remove another mock of an earlier demo, and the sample that was made of it."""
    from sfr.run.edited_tables import set_aside

    before = workspace.recalled(_STEP)
    if before is not None:
        shutil.rmtree(workspace.mock(before), ignore_errors=True)
        set_aside(workspace, workspace.sample_csv)
        workspace.sample_csv.unlink(missing_ok=True)
        workspace.remember(SIMULATION, None)
    shutil.rmtree(target, ignore_errors=True)


def _write(
    run: Run, target: Path, *, galaxies: int, cells: int, seed: int, snapshots: list[int]
) -> None:
    from sfr.simulation.mock import write_mock

    summary = write_mock(
        target,
        galaxies=galaxies,
        snaps=snapshots,
        seed=seed,
        cells=cells,
        on_progress=lambda done, total: run.console.progress("mock simulation", done, total),
    )
    cells_written = sum(summary.n_gas_cells.values())
    run.console.say(
        f"mock simulation: {galaxies} galaxies in {len(snapshots)} snapshots, "
        f"{cells_written} gas cells, {summary.n_bytes / 1e6:.0f} MB in {target}"
    )
