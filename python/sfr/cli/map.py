"""``sfr map``: a quick look at one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sfr.cli import options as opt
from sfr.cli.streams import echo
from sfr.errors import ConfigError

__all__ = ["map_"]


def map_(
    file: Annotated[Path, typer.Argument(help="Snapshot chunk or web-API cutout (HDF5).")],
    center: Annotated[
        str | None,
        typer.Option(
            "--center",
            help="x,y,z in ckpc/h. Default: the densest gas cell.",
            show_default=False,
        ),
    ] = None,
    width: Annotated[float, typer.Option("--width", help="Width of the frame in ckpc/h.")] = 60.0,
    depth: Annotated[
        float | None,
        typer.Option(
            "--depth", help="Depth of the frame in ckpc/h. Default: no cut.", show_default=False
        ),
    ] = None,
    channels: Annotated[
        str,
        typer.Option("--channels", help="Channels of the recipe, or quantities of the gas."),
    ] = "entropy,mass,temperature",
    normal: Annotated[
        str | None,
        typer.Option(
            "--normal",
            help="x,y,z of the axis to look along, or auto: face-on, along the spin of the "
            "young stars, else of the gas. Default: the z axis of the box.",
            show_default=False,
        ),
    ] = None,
    pixels: Annotated[int, typer.Option("--pixels", help="Pixels on a side.")] = 256,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder to write. Default: <name of the file>-map.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        str, typer.Option("--recipe", help="Recipe of channels and stretch.")
    ] = "thesis",
    threads: opt.Threads = None,
    *,
    output: opt.Output,
) -> None:
    """Map the gas of one file: maps.hdf5, figure.png, and with three channels rgb.png.

    The image is scaled by the ranges of the channels where the recipe states them (corrected),
    else by its own maxima. Speeds are relative to the mean velocity of
    the gas in the frame. Lengths, masses and velocities are those of IllustrisTNG; a file
    that states other units is refused with what to convert. Files of runs that are not
    cosmological are taken with a = 1.

    Examples:

      sfr map cutout_123.hdf5

      sfr map snap_099.4.hdf5 --center 1200,3400,560 --width 200 --channels mass,temperature

      sfr map cutout_123.hdf5 --normal auto --channels density,metallicity,entropy
    """
    from sfr.pipeline import quicklook
    from sfr.recipe import load_recipe

    console = output.console()
    look = quicklook.map_file(
        file,
        load_recipe(recipe),
        out=out or Path(f"{file.stem}-map"),
        centre=_vector("--center", center),
        normal="auto" if normal == "auto" else _vector("--normal", normal),
        width_ckpc_h=width,
        depth_ckpc_h=depth,
        channels=[name.strip() for name in channels.split(",") if name.strip()],
        pixels=pixels,
        threads=threads,
    )
    frame = f"; {look.rest_frame}" if look.rest_frame else ""
    console.table(
        f"{look.n_in_frame} of {look.n_read} {look.particles} in the frame, centre "
        f"{', '.join(f'{x:.3f}' for x in look.centre)} ckpc/h, {look.orientation}{frame}",
        look.rows(),
        key="channels",
        extra={
            "files": [str(path) for path in look.files],
            "centre_ckpc_h": list(look.centre),
            "orientation": look.orientation,
            "rest_frame": look.rest_frame,
            "n_read": look.n_read,
            "n_in_frame": look.n_in_frame,
        },
    )
    if not output.as_json:
        for path in look.files:
            echo(str(path))


def _vector(option: str, text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        x, y, z = map(float, text.split(","))
    except ValueError:
        raise ConfigError(f"{option} {text!r} is not three numbers such as 1200,3400,560") from None
    return x, y, z
