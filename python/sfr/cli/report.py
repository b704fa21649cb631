"""``sfr report``: tables, figures, HTML."""

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
    def report(
        work: opt.Work = opt.DEFAULT_WORK,
        recipe: opt.RecipeName = None,
        verbose: opt.Verbose = False,
        quiet: opt.Quiet = False,
    ) -> None:
        """Write the report: which channel and which scale tell most about star formation.

        Examples:

          sfr report --work run1
        """
        console = Console(verbose=verbose, quiet=quiet)
        with open_run(work, recipe, console, must_exist=True) as run:
            index = run.report()
        echo(str(index))
