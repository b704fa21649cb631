"""``sfr mock``: a synthetic simulation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sfr.cli import options as opt

__all__ = ["mock"]


def mock(
    out: Annotated[Path, typer.Argument(help="Folder to write; must not hold anything yet.")],
    galaxies: Annotated[
        int, typer.Option("--galaxies", help="Galaxies per snapshot that pass the cuts.")
    ] = 40,
    snap: Annotated[
        list[str] | None,
        typer.Option("--snap", "--snaps", help="Snapshots. Default: 98,99.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed.")] = 1,
    signal: Annotated[
        str, typer.Option("--signal", help="What the SFR follows: physical (the dense gas).")
    ] = "physical",
    cells: Annotated[
        int, typer.Option("--cells", help="Mean number of gas cells per group.")
    ] = 20000,
    broken: Annotated[
        bool, typer.Option("--broken", help="Add galaxies that cannot be rendered.")
    ] = False,
    *,
    output: opt.Output,
) -> None:
    """Write a synthetic simulation in the exact layout of IllustrisTNG.

    illustris_python reads all of it: OUT/output and OUT/postprocessing.

    Examples:

      sfr mock mock-sim --galaxies 40 --snaps 97-99

      sfr mock mock-sim --galaxies 5 --snaps 99 --cells 2000 --seed 7 --broken
    """
    from sfr.simulation.mock import write_mock

    console = output.console()
    with console:
        summary = write_mock(
            out,
            galaxies=galaxies,
            snaps=opt.parse_snapshots(snap) or [98, 99],
            seed=seed,
            cells=cells,
            signal=signal,
            broken=broken,
            on_progress=lambda done, total: console.progress("mock simulation", done, total),
        )
    rows = [
        {
            "snapshot": snap,
            "galaxies": len(summary.subhalo_ids[snap]),
            "cannot be rendered": len(summary.broken_ids.get(snap, ())),
            "groups": summary.n_groups[snap],
            "subhaloes": summary.n_subhalos[snap],
            "gas cells": summary.n_gas_cells[snap],
        }
        for snap in summary.snapshots
    ]
    console.table(f"mock simulation in {out}", rows, key="snapshots", extra={"path": str(out)})
