"""``sfr recipe``: the experiments that come with the package, and what a file resolves to."""

from __future__ import annotations

from typing import Annotated

import typer

from sfr.cli import options as opt
from sfr.cli.console import Console, exit_codes
from sfr.cli.streams import echo

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    group = typer.Typer(help="Recipes: the experiment as data.", no_args_is_help=True)
    app.add_typer(group, name="recipe")

    @group.command("list")
    @exit_codes
    def list_recipes(as_json: opt.Json = False) -> None:
        """List the built-in recipes.

        Examples:

          sfr recipe list
        """
        from sfr.recipe import BUILT_IN, load_recipe

        rows = [{"recipe": name, "description": load_recipe(name).description} for name in BUILT_IN]
        Console(as_json=as_json).table("built-in recipes", rows, key="recipes")

    @group.command("show")
    @exit_codes
    def show(
        name: Annotated[str, typer.Argument(help="Built-in name or TOML file.")],
        as_json: opt.Json = False,
    ) -> None:
        """Print a recipe with everything that it extends resolved, as TOML.

        A file that says extends = "thesis" and lists what differs is a recipe, too.

        Examples:

          sfr recipe show thesis

          sfr recipe show mine.toml > resolved.toml
        """
        import json

        import tomli_w

        from sfr.recipe import load_recipe

        data = load_recipe(name).to_dict()
        echo(json.dumps(data) if as_json else tomli_w.dumps(data), end="\n" if as_json else "")
