"""``sfr recipe``: the experiments that come with the package, and what a file resolves to."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sfr.cli import options as opt
from sfr.cli.console import Console, exit_codes
from sfr.cli.streams import echo

if TYPE_CHECKING:
    from sfr.recipe_diff import Difference

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

    @group.command("diff")
    @exit_codes
    def diff(
        first: Annotated[str, typer.Argument(metavar="A", help="Built-in name or TOML file.")],
        second: Annotated[str, typer.Argument(metavar="B", help="Built-in name or TOML file.")],
        as_json: opt.Json = False,
    ) -> None:
        """Compare two recipes, field by field, with the reason of each difference.

        A recipe file gives its own reasons under [reasons], with the fields as keys:
        maps.pixels = "finer arms".

        Examples:

          sfr recipe diff thesis corrected

          sfr recipe diff thesis mine.toml --json
        """
        import dataclasses
        import json

        from sfr.recipe_diff import differences

        found = differences(first, second)
        if as_json:
            rows = [dataclasses.asdict(difference) for difference in found]
            text = json.dumps({"first": first, "second": second, "differences": rows})
        else:
            text = _for_people(first, second, found)
        echo(text)


def _for_people(first: str, second: str, found: Sequence[Difference]) -> str:
    """Write differences one below the other, as wide as the terminal is."""
    width = min(shutil.get_terminal_size().columns, 100)
    count = {0: "no difference", 1: "1 difference"}.get(len(found), f"{len(found)} differences")
    lines = [f"{first} -> {second}: {count}"]
    for difference in found:
        values = f"{_value(difference.first)} -> {_value(difference.second)}"
        for text, indent in (
            (f"{difference.field}: {values}", "  "),
            (difference.reason or "no reason stated", "      "),
        ):
            hanging = indent if text == difference.reason else indent + "    "
            lines += textwrap.wrap(
                text,
                width,
                initial_indent=indent,
                subsequent_indent=hanging,
                break_long_words=False,
                break_on_hyphens=False,
            )
    return "\n".join(lines)


def _value(value: object) -> str:
    """Write a value as a recipe file does; a channel in words, without what it has not."""
    import json

    if value is None:
        return "left out"
    if isinstance(value, dict):
        return "(" + ", ".join(f"{k} {part}" for k, part in value.items() if part != "none") + ")"
    return json.dumps(value)
