"""A small mock simulation in the folder of its run."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from sfr import __version__
from sfr.errors import ConfigError
from sfr.pipeline.run import Run
from sfr.run.edited_tables import set_aside
from sfr.run.workspace import SIMULATION, Workspace, digest
from sfr.simulation.mock import write_mock

__all__ = ["use_mock"]

log = logging.getLogger(__name__)

#: Note of the mock simulation that a folder has.
_NOTE = "mock"


def use_mock(
    run: Run,
    *,
    galaxies: int = 40,
    cells: int = 20000,
    seed: int = 1,
    snapshots: Sequence[int] = (),
) -> Path:
    """Let a run work on a mock simulation in its folder, written unless the same one is there.

    Parameters
    ----------
    run : Run
        The run; its folder must not be that of another simulation.
    galaxies, cells, seed
        As in `sfr.simulation.mock.write_mock`.
    snapshots : sequence of int
        Snapshots; none: the recipe's.

    Returns
    -------
    Path
        The simulation.

    Raises
    ------
    ConfigError
        The folder holds a run on another simulation, or another demo is at work in it.
    """
    workspace = run.workspace
    if workspace.sample_csv.is_file() and workspace.recalled(_NOTE) is None:
        raise ConfigError(
            f"{workspace.root} holds a run on another simulation; give the demo a folder of its "
            "own with --work"
        )
    snapshots = list(snapshots) or sorted(run.recipe.sample.snapshots)
    settings = digest([galaxies, cells, seed, snapshots, __version__])
    target = workspace.mock(settings)
    # a demo with other settings would replace it
    run.hold(_NOTE, settings)
    with workspace.lock(_NOTE):
        if workspace.recalled(_NOTE) == settings and target.is_dir():
            log.info("mock simulation: already in %s", target)
        else:
            _clear(workspace, target)
            summary = write_mock(
                target,
                galaxies=galaxies,
                snaps=snapshots,
                seed=seed,
                cells=cells,
                on_progress=lambda done, total: run.on_progress("mock simulation", done, total),
            )
            workspace.remember(_NOTE, settings)
            log.info(
                "mock simulation: %d galaxies in %d snapshots, %d gas cells, %.0f MB in %s",
                *(galaxies, len(snapshots), sum(summary.n_gas_cells.values())),
                *(summary.n_bytes / 1e6, target),
            )
    run.simulation_path = target
    return target


def _clear(workspace: Workspace, target: Path) -> None:
    """Remove another mock of an earlier demo, and the sample that was made of it."""
    before = workspace.recalled(_NOTE)
    if before is not None:
        shutil.rmtree(workspace.mock(before), ignore_errors=True)
        set_aside(workspace, workspace.sample_csv)
        workspace.sample_csv.unlink(missing_ok=True)
        workspace.remember(SIMULATION, None)
    shutil.rmtree(target, ignore_errors=True)
