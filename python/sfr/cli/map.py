"""``sfr map``: a quick look at one file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from sfr.cli import options as opt
from sfr.cli.console import Console, exit_codes
from sfr.cli.streams import echo
from sfr.errors import ConfigError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command("map")
    @exit_codes
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
        width: Annotated[
            float, typer.Option("--width", help="Width of the frame in ckpc/h.")
        ] = 60.0,
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
        as_json: opt.Json = False,
        verbose: opt.Verbose = False,
        quiet: opt.Quiet = False,
    ) -> None:
        """Map the gas of one file: maps.hdf5, figure.png, and with three channels rgb.png.

        The image is normalised by its own maxima. Speeds are relative to the mean velocity of
        the gas in the frame. Lengths, masses and velocities are those of IllustrisTNG; a file
        that states other units is refused with what to convert. Files of runs that are not
        cosmological are taken with a = 1.

        Examples:

          sfr map cutout_123.hdf5

          sfr map snap_099.4.hdf5 --center 1200,3400,560 --width 200 --channels mass,temperature

          sfr map cutout_123.hdf5 --normal auto --channels density,metallicity,entropy
        """
        from sfr.cli.quicklook import map_file

        console = Console(verbose=verbose, quiet=quiet, as_json=as_json)
        target = out or Path(f"{file.stem}-map")
        summary = map_file(
            file,
            target,
            recipe=recipe,
            center=None if center is None else _vector("--center", center),
            normal=None if normal in (None, "auto") else _vector("--normal", str(normal)),
            by_spin=normal == "auto",
            width_ckpc_h=width,
            depth_ckpc_h=depth,
            channels=[name.strip() for name in channels.split(",") if name.strip()],
            pixels=pixels,
            threads=threads,
        )
        frame = f"; {summary.rest_frame}" if summary.rest_frame else ""
        console.table(
            f"{summary.n_in_frame} of {summary.n_read} {summary.particles} in the frame, centre "
            f"{', '.join(f'{x:.3f}' for x in summary.centre)} ckpc/h, {summary.orientation}{frame}",
            summary.rows,
            key="channels",
            extra={
                "files": [str(path) for path in summary.files],
                "centre_ckpc_h": list(summary.centre),
                "orientation": summary.orientation,
                "rest_frame": summary.rest_frame,
                "n_read": summary.n_read,
                "n_in_frame": summary.n_in_frame,
            },
        )
        if not as_json:
            for path in summary.files:
                echo(str(path))


def _vector(option: str, text: str) -> tuple[float, float, float]:
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"{option} {text!r} is not three numbers such as 1200,3400,560") from None
    if not all(map(math.isfinite, (x, y, z))):
        raise ConfigError(f"{option} {text!r}: the three numbers must be finite")
    return x, y, z
