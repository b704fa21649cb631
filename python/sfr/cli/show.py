"""``sfr show``: a contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sfr.cli import options as opt
from sfr.cli.streams import echo

__all__ = ["show"]


def show(
    case: Annotated[str, typer.Option("--case", help="Version of the images.")] = "composite",
    count: Annotated[int, typer.Option("--count", min=1, help="Number of galaxies.")] = 20,
    order: Annotated[
        Literal["label", "random", "id"],
        typer.Option("--order", help="Spread over the range of labels, random, or by id."),
    ] = "label",
    subset: Annotated[
        str | None,
        typer.Option("--subset", help="train, validation or test only.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of --order random.")] = 0,
    snap: opt.Snap = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="PNG to write. Default: WORK/show-<case>.png.", show_default=False
        ),
    ] = None,
    *,
    folder: opt.Folder,
    voice: opt.Voice,
) -> None:
    """Make a contact sheet of galaxies, labelled with what the recipe predicts.

    What that is stands above the images: the sSFR, or the recipe's target.column.

    Examples:

      sfr show --work run1

      sfr show --case structure3 --count 12 --out structure3.png

      sfr show --order random --subset test --snap 99
    """
    from sfr.pipeline.report import show as make_sheet

    with voice.console() as console, folder.open(console) as run:
        path = make_sheet(
            run,
            path=out,
            case=case,
            count=count,
            order=order,
            subset=subset,
            seed=seed,
            snapshots=opt.parse_snapshots(snap) or None,
        )
    echo(str(path))
