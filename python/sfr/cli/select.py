"""``sfr select``: the sample."""

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
    def select(
        snap: opt.Snap = None,
        sim: opt.Sim = None,
        work: opt.Work = opt.DEFAULT_WORK,
        recipe: opt.RecipeName = None,
        allow_partial: opt.AllowPartial = False,
        force: opt.Force = False,
        as_json: opt.Json = False,
        verbose: opt.Verbose = False,
        quiet: opt.Quiet = False,
    ) -> None:
        """Select the galaxies and write sample.csv.

        The file is the union of all snapshots selected in the folder. Rows that you remove from it
        and labels that you edit stay so; --force takes back what the catalogue says. A snapshot
        without galaxies does not stop the others; the exit code is then 4.
        Its column ssfr_per_yr is with thesis SFR / (SubhaloMass x 1e10), total mass in Msun/h, with
        corrected SFR / stellar mass in Msun; by_snapshot.csv says which. What is predicted is
        target.column of the recipe.

        Examples:

          sfr select --sim TNG50-1 --snap 99

          sfr select --sim TNG50-1 --snap 89-99 --work run1

          sfr select --sim TNG100-2 --snap 99 --recipe mine.toml --allow-partial
        """
        from sfr.run.tables import count_galaxies
        from sfr.target import target_of

        console = Console(verbose=verbose, quiet=quiet, as_json=as_json)
        snapshots = opt.parse_snapshots(snap)
        with open_run(
            work, recipe, console, sim_path=sim, allow_partial=allow_partial, force=force
        ) as run:
            summary = run.select(snapshots or sorted(run.recipe.sample.snapshots), force=force)
        label = target_of(run.recipe).text
        rows = [
            {
                "snapshot": cut.snapshot,
                "selected": cut.n_selected,
                "subhaloes": cut.n_total if cut.reason else None,
                "read": cut.n_loaded if cut.reason else None,
                "with flag": cut.n_flag if cut.reason else None,
                "stellar mass": cut.n_stellar_mass if cut.reason else None,
                "total mass": cut.n_total_mass if cut.reason else None,
                "group not read": cut.n_group_missing if cut.reason else None,
                "missing chunks": cut.missing_chunks if cut.reason else None,
            }
            for cut in summary.cuts
        ]
        n_galaxies = count_galaxies(summary.sample["galaxy_id"])
        console.table(
            f"{len(summary.sample['snapshot'])} rows, a galaxy and snapshot each, of {n_galaxies} "
            f"galaxies in {run.workspace.sample_csv}; label: {label}",
            rows,
            key="snapshots",
            extra={"sample": str(run.workspace.sample_csv), "label": label},
        )
        run.finish()
