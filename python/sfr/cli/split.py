"""``sfr split``: training and test subsets."""

from __future__ import annotations

import typer

from sfr.cli import options as opt
from sfr.cli.console import Console, exit_codes
from sfr.cli.steps import open_run
from sfr.cli.streams import echo

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command()
    @exit_codes
    def split(
        work: opt.Work = opt.DEFAULT_WORK,
        recipe: opt.RecipeName = None,
        force: opt.Force = False,
        as_json: opt.Json = False,
        verbose: opt.Verbose = False,
        quiet: opt.Quiet = False,
    ) -> None:
        """Split the sample into training, validation and test, and count what leaks.

        A snapshot that is selected later extends the split; no row moves. A split.csv that you
        wrote or edited is taken as it is, and drawn anew with --force only.

        Examples:

          sfr split --work run1

          sfr split --work run1 --force
        """
        console = Console(verbose=verbose, quiet=quiet, as_json=as_json)
        with open_run(work, recipe, console, force=force, must_exist=True) as run:
            summary = run.split(force=force)
        rows = [
            {"subset": name, "images": n, "galaxies": summary.galaxies[name]}
            for name, n in summary.counts.items()
        ]
        leak = summary.audit
        console.table(
            f"split by {run.recipe.split.by}: {run.workspace.split_csv}",
            rows,
            key="subsets",
            extra={
                "test": leak.n_test,
                "test_same_galaxy_in_training": leak.n_same_galaxy,
                "test_same_group_in_training": leak.n_same_group,
                "test_untracked": leak.n_untracked,
            },
        )
        if not as_json:
            echo(
                f"leak audit: of {leak.n_test} test images, {leak.n_same_galaxy} show a galaxy "
                f"that is in training at another time, {leak.n_same_group} one whose FoF group is "
                f"in training at the same time; {leak.n_untracked} cannot be told (in no tree)"
            )
