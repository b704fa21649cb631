"""``sfr render``: maps and images."""

from __future__ import annotations

import typer

from sfr.cli import options as opt
from sfr.cli.console import Console, exit_codes
from sfr.cli.steps import open_run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command()
    @exit_codes
    def render(
        snap: opt.Snap = None,
        sim: opt.Sim = None,
        work: opt.Work = opt.DEFAULT_WORK,
        recipe: opt.RecipeName = None,
        threads: opt.Threads = None,
        strict: opt.Strict = False,
        allow_partial: opt.AllowPartial = False,
        no_mmap: opt.NoMmap = False,
        force: opt.Force = False,
        as_json: opt.Json = False,
        verbose: opt.Verbose = False,
        quiet: opt.Quiet = False,
    ) -> None:
        """Turn each galaxy face-on, make its maps, and from them its RGB image.

        Images are normalised by the reference snapshot of the recipe (99), so that one has to be
        rendered too. A galaxy that cannot be rendered is listed in failures.csv and the rest goes
        on; the exit code is then 4.

        Examples:

          sfr render --sim TNG50-1 --snap 99

          sfr render --sim TNG50-1 --snap 89-99 --work run1 --threads 8
        """
        console = Console(verbose=verbose, quiet=quiet, as_json=as_json)
        snapshots = opt.parse_snapshots(snap)
        with open_run(
            work,
            recipe,
            console,
            sim_path=sim,
            threads=threads,
            strict=strict,
            allow_partial=allow_partial,
            force=force,
            mapped=not no_mmap,
        ) as run:
            summaries = run.render(run.snapshots(snapshots))
        rows = [
            {
                "snapshot": s.snapshot,
                "rendered": s.n_rendered,
                "failed": s.n_failed,
                "gas cells": s.n_cells,
            }
            for s in summaries
        ]
        failures = [
            {"snapshot": s.snapshot, "subhalo_id": subhalo_id, "reason": reason}
            for s in summaries
            for subhalo_id, reason in s.failures
        ]
        console.table(
            f"images in {run.workspace.images}",
            rows,
            key="snapshots",
            extra={"images": str(run.workspace.images), "failures": failures},
        )
        run.finish()
