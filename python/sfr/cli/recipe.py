"""``sfr recipe``: the experiments that come with the package, and what a file resolves to."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sfr.cli import options as opt
from sfr.cli.console import Console
from sfr.cli.streams import echo

if TYPE_CHECKING:
    from sfr.recipe import FieldRow
    from sfr.recipe.differences import Difference
    from sfr.run.workspace import Workspace

__all__ = ["diff", "list_recipes", "ranges", "show"]


def list_recipes(as_json: opt.Json = False) -> None:
    """List the built-in recipes.

    Examples:

      sfr recipe list
    """
    from sfr.recipe import BUILT_IN, load_recipe

    rows = [{"recipe": name, "description": load_recipe(name).description} for name in BUILT_IN]
    Console(as_json=as_json).table("built-in recipes", rows, key="recipes")


def show(
    name: Annotated[str, typer.Argument(help="Built-in name or TOML file.")],
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Say above each field what it means, its unit, what is allowed."
        ),
    ] = False,
    as_json: opt.Json = False,
) -> None:
    """Print a recipe with everything that it extends resolved, as TOML.

    A file that says extends = "thesis" and lists what differs is a recipe, too.

    Examples:

      sfr recipe show thesis

      sfr recipe show mine.toml > resolved.toml

      sfr recipe show mine.toml --explain
    """
    import json
    from dataclasses import asdict

    import tomli_w

    from sfr.recipe import fields, load_recipe
    from sfr.render.fields import check_fields

    recipe = load_recipe(name)
    check_fields(recipe.maps)
    if as_json:
        rows = {"fields": list(map(asdict, fields()))} if explain else {}
        echo(json.dumps({**recipe.to_json(), **rows}))
        return
    lines = tomli_w.dumps(recipe.to_dict()).splitlines()
    lines.append(f"# cases: {', '.join(recipe.case_names)}")
    echo("\n".join(_explained(lines) if explain else lines))


def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="Built-in name or TOML file.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Built-in name or TOML file.")],
    as_json: opt.Json = False,
) -> None:
    """Compare two recipes, field by field, with the reason of each difference.

    A recipe file gives its own reasons in a table named reasons, with the fields as keys:
    maps.pixels = "finer arms".

    Examples:

      sfr recipe diff thesis corrected

      sfr recipe diff thesis mine.toml --json
    """
    import dataclasses
    import json

    from sfr.recipe.differences import differences

    found = differences(first, second)
    if as_json:
        rows = [dataclasses.asdict(difference) for difference in found]
        text = json.dumps({"first": first, "second": second, "differences": rows})
    else:
        text = _for_people(first, second, found)
    echo(text)


def ranges(
    work: opt.Work = opt.DEFAULT_WORK,
    snap: Annotated[
        int | None,
        typer.Option(
            "--snap",
            min=0,
            max=999,
            help="The snapshot. Default: the last one that is rendered.",
            show_default=False,
        ),
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """Propose a range for each channel, from the rendered maps of one snapshot.

    A range becomes 0..1 of images and networks (normalisation.by = "range"). The one proposed
    leaves at most 0.5 % of the pixels with gas below and 0.01 % above, every galaxy counting
    alike, and is rounded outwards. It is learned from the maps alone, never from the label,
    and it is yours to widen: what other snapshots hold is not seen. To have maps before there
    are ranges, render with normalisation.by = "maximum" and no range; they are kept when
    ranges come.

    Examples:

      sfr recipe ranges --work run1

      sfr recipe ranges --work run1 --snap 99 --json
    """
    from sfr.imaging.ranges import propose_ranges
    from sfr.run.shards import iter_shards
    from sfr.run.workspace import Workspace

    workspace = Workspace(work)
    snapshot = _rendered(workspace, snap)
    proposals = propose_ranges(iter_shards(workspace, snapshot))
    rows = [
        {
            "channel": found.channel,
            "range": list(found.range),
            "unit": found.unit,
            "galaxies": found.n_galaxies,
            "empty": found.empty,
            "below": found.below,
            "above": found.above,
        }
        for found in proposals
    ]
    console = Console(as_json=as_json)
    console.table(
        f"ranges that snapshot {snapshot} proposes; shares of pixels: empty of all, below and "
        "above of those with gas",
        rows,
        key="ranges",
        extra={"snapshot": snapshot},
    )


def _rendered(workspace: Workspace, snapshot: int | None) -> int:
    """Return the snapshot that is asked for, else the last one; it must have maps."""
    from sfr.errors import DataMissingError

    found = sorted(int(step.removeprefix("maps-")) for step in workspace.steps("maps-"))
    if not found or snapshot not in (None, *found):
        held = ", ".join(map(str, found)) or "no snapshot"
        raise DataMissingError(
            f"{workspace.root} has finished maps of {held}"
            + ("" if snapshot is None else f", not of {snapshot}")
            + "; run sfr render first"
        )
    return found[-1] if snapshot is None else snapshot


def _explained(lines: Sequence[str]) -> Iterator[str]:
    """Write above each field of a TOML file what it means."""
    from sfr.recipe import fields

    rows = {row.field: row for row in fields()}
    section, told = "", set()
    for line in lines:
        header = re.fullmatch(r"\[+([\w.]+)\]+", line)
        key = re.match(r"(\w+) = ", line)
        section = header[1] + "." if header else section
        name = section.removesuffix(".") if header else section + key[1] if key else ""
        if name in rows and name not in told:
            told.add(name)
            yield from textwrap.wrap(
                _sentence(rows[name]), 100, initial_indent="# ", subsequent_indent="# "
            )
        yield line


def _sentence(row: FieldRow) -> str:
    unit = f" [{row.unit}]" if row.unit else ""
    return f"{row.meaning}{unit} Allowed: {row.allowed}."


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
