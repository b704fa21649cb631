"""``sfr predict``: a trained case on new images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sfr.cli import options as opt
from sfr.cli.console import FINISHED_WITH_FAILURES
from sfr.cli.streams import echo

__all__ = ["predict"]


def predict(
    model: Annotated[
        Path, typer.Argument(help="model.keras of a head, or its folder.", show_default=False)
    ],
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Composite PNG images, shards of maps (.hdf5), or folders of either.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="CSV file. Default: standard output.", show_default=False),
    ] = None,
    *,
    voice: opt.Voice,
) -> None:
    """Predict what a model was trained on, of galaxies in new images or maps.

    The images are composites, as sfr render writes them; the case that the model was trained on
    is applied here. Maps are normalised and stretched as those of the model's run were. The
    table has the image, the predicted label (thesis: log10 of 1e15 sSFR), its value under the
    name of the target's column (ssfr_per_yr), and what it is: total-mass sSFR = SFR /
    (SubhaloMass x 1e10) in h/yr for models of the recipe thesis.
    Files that cannot be used are named and left out; the exit code is then 4.

    Examples:

      sfr predict sfr-work/train/mass/seed-0/model.keras new/Snap80ID7.png

      sfr predict sfr-work/train/mass/seed-0 other-run/maps/snap_080 --out predictions.csv
    """
    from sfr.run.tables import table_text
    from sfr.run.workspace import Workspace
    from sfr.train.predict import predict_images

    with voice.console() as console:
        found = predict_images(model, images, on_progress=console.progress)
    text = table_text(found.table)
    if out is None:
        echo(text, end="")
    else:
        folder = Workspace(out.parent)
        folder.write_text(out, text)
        folder.clean_scratch()
    console.say(
        f"{len(found.table['image'])} images, case {found.case}, backbone weights: "
        f"{found.weights}\nlabel: {found.label}"
    )
    if found.failures:
        console.say(f"{len(found.failures)} files were left out")
        raise typer.Exit(FINISHED_WITH_FAILURES)
