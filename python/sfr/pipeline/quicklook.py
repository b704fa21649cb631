"""A quick look at one file: its gas as maps, a figure and an RGB image."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sfr.errors import (
    ConfigError,
    DataMissingError,
    EmptySelectionError,
    NonFiniteError,
    RangeError,
)
from sfr.imaging.normalise import range_normalisation
from sfr.imaging.png import write_png
from sfr.imaging.rgb import rgb_image
from sfr.paths import plain
from sfr.plot.maps import map_figure
from sfr.recipe import Channel, ImageRecipe, MapsRecipe, Recipe, load_recipe, maps_settings
from sfr.render import fields, kernels
from sfr.render.orient import (
    GAS_FIELDS,
    STAR_FIELDS,
    Galaxy,
    Orientation,
    bulk_velocity,
    nearby,
    orient,
)
from sfr.render.project import make_maps, said_of_dropped
from sfr.run.shards import Shard, write_shard
from sfr.run.workspace import Workspace
from sfr.simulation import Header, open_particle_file
from sfr.simulation.particle_file import ParticleFile
from sfr.simulation.protocol import GAS, STARS

__all__ = ["FileMaps", "map_file"]

log = logging.getLogger(__name__)

#: Radius about the centre in which the spin is taken, as a share of the width.
_APERTURE = 1 / 6
_VELOCITY_FIELDS = ("Coordinates", "Velocities", "Masses")
#: Cubes across the frame in which cells are counted where a file has no densities.
_CUBES = 10


Vector = tuple[float, float, float]


@dataclass(frozen=True)
class FileMaps:
    """The gas, or the dark matter, of one file, mapped; a notebook shows the figure.

    Attributes
    ----------
    source : str
        Name of the file.
    settings : MapsRecipe
        Frame, pixels and channels.
    maps : ndarray of float32, shape (channel, y, x)
        Maps, y upwards [``units``]; without a gas cell a pixel is 0 in sums and NaN in means.
    n_dropped : tuple of int
        Cells of the frame that have no value of a channel and are left out of it.
    rgb : ndarray of uint8, shape (y, x, 3), or None
        Composite of one or three channels by the recipe's stretch, each over its range or else its
        own maximum; row 0 at the top.
    centre : tuple of float
        Centre of the frame, box frame [ckpc/h].
    rotation : ndarray of float64, shape (3, 3)
        From the axes of the box to those of the frame.
    orientation, rest_frame : str
        Along what the gas is seen, and what speeds are relative to (empty where no channel shows
        velocities), in words.
    n_read, n_in_frame : int
        Cells or particles of the file, and of the frame (``particles``).
    files : tuple of Path
        What was written; empty without a folder.
    """

    source: str
    settings: MapsRecipe
    maps: NDArray[np.float32]
    n_dropped: tuple[int, ...]
    rgb: NDArray[np.uint8] | None
    centre: Vector
    rotation: NDArray[np.float64]
    orientation: str
    rest_frame: str
    n_read: int
    n_in_frame: int
    files: tuple[Path, ...] = ()

    @property
    def particles(self) -> str:
        """What is counted: gas cells, ..."""
        return fields.PARTICLES[fields.part_type(self.settings.channels)].particles

    @property
    def channels(self) -> list[str]:
        """Names of the channels."""
        return fields.names(self.settings.channels)

    @property
    def units(self) -> list[str]:
        """What the pixels of each channel are, with their unit."""
        return [
            fields.channel_unit(channel, star_forming_gas=self.settings.star_forming_gas)
            for channel in self.settings.channels
        ]

    def rows(self) -> list[dict[str, object]]:
        """Return a row a channel: name, unit, extremes (None where no pixel has a value)."""
        columns = zip(self.channels, self.units, self.maps, self.n_dropped, strict=True)
        return [
            {
                "channel": name,
                "unit": unit,
                "minimum": _extreme(np.nanmin, values),
                "maximum": _extreme(np.nanmax, values),
                "cells dropped": dropped,
            }
            for name, unit, values, dropped in columns
        ]

    def figure(self) -> bytes:
        """Draw the channels and the composite with their scales, as PNG."""
        return map_figure(
            self.maps,
            self.channels,
            self.units,
            width_ckpc_h=self.settings.width_ckpc_h,
            rgb=self.rgb,
            title=plain(self.source),
            fields=[channel.field for channel in self.settings.channels],
            bin_scale=self.settings.bin_scale,
        )

    def _repr_png_(self) -> bytes:
        return self.figure()


def map_file(
    path: str | Path,
    recipe: Recipe | str = "thesis",
    *,
    out: str | Path | None = None,
    centre: Vector | None = None,
    normal: Vector | Literal["auto"] | None = None,
    width_ckpc_h: float = 60.0,
    depth_ckpc_h: float | None = None,
    channels: Sequence[str] = ("entropy", "mass", "temperature"),
    pixels: int = 256,
    threads: int | None = None,
) -> FileMaps:
    """Map the gas, or the dark matter, of one snapshot chunk or cutout.

    Parameters
    ----------
    path : str or Path
        The HDF5 file.
    recipe : Recipe or str
        Recipe of the channels' readings and of the stretch, its name, or its file.
    out : str, Path or None
        Folder for maps.hdf5, figure.png and, with one or three channels, rgb.png; None: nothing is
        written.
    centre : tuple of float or None
        Centre of the frame, box frame [ckpc/h]; None: the densest cell.
    normal : tuple of float, "auto" or None
        Axis to look along, of any length, box frame; None: the z axis. ``auto``: the angular
        momentum of the stars or the gas in the inner third of the frame, as the recipe's ladder
        finds it from what the file holds.
    width_ckpc_h, depth_ckpc_h : float
        Frame [ckpc/h]; no depth: all along the line of sight.
    channels : sequence of str
        Names of the recipe's channels or of quantities (then their mass-weighted mean).
    pixels : int
        Pixels on a side.
    threads : int or None
        As in `sfr.render.kernels`.

    Returns
    -------
    FileMaps
        Maps, numbers and files.

    Raises
    ------
    ConfigError
        Unknown channel or a frame that is not possible, such as one wider than the box.
    DataMissingError, DataFormatError
        The file or a field is not there or cannot be read.
    EmptySelectionError
        The file has no gas, or none in the frame.

    Examples
    --------
    >>> from sfr.pipeline import quicklook
    >>> look = quicklook.map_file("cutout_123.hdf5", normal="auto", width_ckpc_h=100)
    >>> look  # the figure
    >>> look.maps[1].sum(), look.units[1]
    """
    path = Path(path)
    experiment = load_recipe(recipe) if isinstance(recipe, str) else recipe
    maps = _maps_recipe(experiment.maps, channels, width_ckpc_h, depth_ckpc_h, pixels)
    with open_particle_file(path) as file:
        _check_fields(file, maps, by_spin=normal == "auto")
        header = file.header
        middle = _densest(file, width_ckpc_h) if centre is None else _vector("center", centre)
        orientation = _orientation(file, middle, normal, maps, experiment)
        velocity, rest_frame = None, ""
        if fields.is_relative(maps.channels):
            velocity, rest_frame = _rest_frame(file, middle, width_ckpc_h)
        made = make_maps(
            file.segments(fields.part_type(maps.channels)),
            middle,
            orientation,
            header,
            maps,
            velocity=velocity,
            threads=threads,
        )
    if dropped := said_of_dropped(made, maps.channels):
        log.warning("%s: %s", path, dropped)
    x, y, z = middle.tolist()
    found = FileMaps(
        source=path.name,
        settings=maps,
        maps=made.maps,
        n_dropped=tuple(map(int, made.ledger.n_bad_weight)),
        rgb=_composite(made.maps, maps.channels, experiment),
        centre=(x, y, z),
        rotation=orientation.rotation,
        orientation=f"seen along {orientation.source}",
        rest_frame=rest_frame,
        n_read=made.ledger.n_read,
        n_in_frame=made.ledger.n_in_frame,
    )
    return found if out is None else replace(found, files=_write(Workspace(out), found, header))


def _check_fields(file: ParticleFile, maps: MapsRecipe, *, by_spin: bool) -> None:
    """Raise where the particles of a file have not what their maps need."""
    shown = fields.part_type(maps.channels)
    for kind in {GAS, shown}:  # gas says where the centre is, and stars and gas which way up
        if file.counts[kind] == 0:
            matter = fields.PARTICLES[kind].matter
            raise EmptySelectionError(f"{file.path} holds no {matter} (PartType{kind})")
    needed = fields.required_fields(maps.channels, star_forming_gas=maps.star_forming_gas)
    turns_with_gas = by_spin and not _has(file, STARS, STAR_FIELDS)
    moves = fields.is_relative(maps.channels) or turns_with_gas
    extra = _VELOCITY_FIELDS if moves else ("Coordinates",)
    for kind, names in ((GAS, extra), (shown, needed)):
        absent = sorted(set(names) - set(file.readable(kind)))
        if absent:
            raise DataMissingError(
                f"PartType{kind} of {file.path} has no field {absent[0]}; it has: "
                f"{', '.join(file.readable(kind))}. Choose what can be made of these with "
                "--channels"
            )


def _extreme(reduce: Callable[..., Any], values: NDArray[np.float32]) -> float | None:
    return float(reduce(values)) if np.isfinite(values).any() else None


def _maps_recipe(
    recipe: MapsRecipe, names: Sequence[str], width: float, depth: float | None, pixels: int
) -> MapsRecipe:
    known = {channel.name: channel for channel in recipe.channels}
    chosen = [
        known.get(name) or Channel(name=name, field=name, weight="mass", statistic="mean")
        for name in names
    ]
    if not chosen or len(set(names)) != len(names):
        raise ConfigError(f"--channels {','.join(names)!r}: give one or more different names")
    fields.required_fields(chosen)
    for option, length in (("--width", width), ("--depth", depth)):
        if length is not None and not 0 < length < np.inf:
            raise ConfigError(f"{option} {length:g}: allowed is a length above 0 [ckpc/h]")
    return recipe.changed(
        width_ckpc_h=width,
        depth_ckpc_h=depth,
        pixels=pixels,
        channels=[asdict(channel) for channel in chosen],
        candidates=[],
    )


def _vector(name: str, values: Sequence[float]) -> NDArray[np.float64]:
    vector = np.asarray(values, np.float64)
    if vector.shape != (3,) or not np.isfinite(vector).all():
        raise ConfigError(f"--{name} {values}: give three finite numbers, x, y and z")
    return vector


def _densest(file: ParticleFile, width: float) -> NDArray[np.float64]:
    """Position of the densest cell, or without densities the middle of the most crowded cube."""
    coordinates = file.read(GAS, ["Coordinates"])["Coordinates"]
    finite = np.isfinite(coordinates).all(axis=1)
    if not finite.any():
        raise NonFiniteError(f"Coordinates of {file.path}: no gas cell has finite ones")
    coordinates = coordinates[finite].astype(np.float64)
    if "Density" in file.fields(GAS):
        density = file.read(GAS, ["Density"])["Density"][finite]
        return np.asarray(coordinates[int(np.argmax(np.nan_to_num(density, nan=-np.inf)))])
    side = width / _CUBES
    cubes, counts = np.unique(np.floor(coordinates / side), axis=0, return_counts=True)
    return np.asarray((cubes[int(np.argmax(counts))] + 0.5) * side)


def _orientation(
    file: ParticleFile,
    centre: NDArray[np.float64],
    normal: Vector | Literal["auto"] | None,
    maps: MapsRecipe,
    recipe: Recipe,
) -> Orientation:
    if normal is None:
        source = "the z axis of the box (face-on: --normal auto)"
        return Orientation(np.eye(3), source, 0, np.nan)
    if not isinstance(normal, str):
        x, y, z = axis = _vector("normal", normal)
        if not axis.any():
            raise ConfigError("--normal 0,0,0 has no direction; give an axis to look along: 0,0,1")
        source = f"({x:g}, {y:g}, {z:g})"
        return Orientation(kernels.face_on_rotation(axis), source, 0, np.nan)
    if normal != "auto":
        raise ConfigError(f"--normal {normal!r} is neither auto nor three numbers")
    reach = maps.width_ckpc_h * _APERTURE
    near = partial(nearby, centre=centre, radius=reach, header=file.header)

    def stars_near(formed_after: float) -> dict[str, NDArray[Any]]:
        pieces = file.segments(STARS) if _has(file, STARS, STAR_FIELDS) else ()
        return near(pieces, STAR_FIELDS, formed_after=formed_after)

    def gas_near() -> dict[str, NDArray[Any]]:
        if not _has(file, GAS, _VELOCITY_FIELDS):
            return near((), GAS_FIELDS)
        return near(file.segments(GAS), [f for f in GAS_FIELDS if _has(file, GAS, (f,))])

    galaxy = Galaxy(centre, reach / recipe.orientation.radius_half_mass)
    found = orient(galaxy, stars_near, gas_near, file.header, recipe.orientation)
    if found.source == "none":
        raise RangeError(
            "--normal auto: too few stars and gas cells with a spin within "
            f"{reach:g} ckpc/h of the centre (a sixth of --width), at least "
            f"{recipe.orientation.minimum_particles} are needed; give --normal x,y,z"
        )
    return replace(found, source=f"the spin of {found.count} {found.particles}")


def _has(file: ParticleFile, part_type: int, names: Sequence[str]) -> bool:
    return file.counts[part_type] > 0 and set(names) <= set(file.fields(part_type))


def _rest_frame(
    file: ParticleFile, centre: NDArray[np.float64], width: float
) -> tuple[NDArray[np.float64], str]:
    """Mean velocity of the gas in the frame [km/s], and what it is in words.

    A smaller sphere would follow the rotation of the side that its centre lies on.
    """
    radius = width / 2
    moving = nearby(
        file.segments(GAS), _VELOCITY_FIELDS, centre=centre, radius=radius, header=file.header
    )
    velocity, count = bulk_velocity(centre, radius, moving, file.header)
    return velocity, (
        f"speed relative to ({', '.join(f'{v:.2f}' for v in velocity)}) km/s, the mass-weighted "
        f"mean of {count} gas cells within {radius:g} ckpc/h of the centre"
    )


def _composite(
    maps: NDArray[np.float32], channels: Sequence[Channel], recipe: Recipe
) -> NDArray[np.uint8] | None:
    if len(maps) not in (1, 3):
        return None
    names = fields.names(channels)
    if _has_ranges(channels):
        scaled = range_normalisation(channels, names).apply(maps)
    else:
        scaled = _by_own_extremes(maps, recipe.image)
    return rgb_image(np.repeat(scaled, 3 // len(names), axis=0), recipe.image, names)


def _has_ranges(channels: Sequence[Channel]) -> bool:
    """Whether the colours of a picture can be compared with those of others."""
    return all(channel.range is not None for channel in channels)


def _by_own_extremes(maps: NDArray[np.float32], recipe: ImageRecipe) -> NDArray[np.float64]:
    """Scale each map by its largest pixel, or without a stretch from its smallest on."""
    filled = np.isfinite(maps)
    low = np.zeros((len(maps), 1, 1), np.float32)
    if recipe.stretch == "none":
        least = maps.min(axis=(1, 2), keepdims=True, where=filled, initial=np.inf)
        low = np.where(np.isfinite(least), least, low)
    size = np.abs(maps - low).max(axis=(1, 2), keepdims=True, where=filled, initial=0.0)
    return np.asarray((maps - low) / np.where(size > 0, size, 1.0), np.float64)


def _write(workspace: Workspace, found: FileMaps, header: Header) -> tuple[Path, ...]:
    settings = found.settings
    shard = Shard(
        found.maps[np.newaxis],
        {"centre": np.array([found.centre]), "rotation": found.rotation[np.newaxis]},
        {},
        {
            "channel_names": found.channels,
            "channel_units": found.units,
            "width_ckpc_h": settings.width_ckpc_h,
            "pixel_scale_ckpc_h": settings.pixel_ckpc_h,
            "axes": "maps[galaxy, channel, y, x]; y upwards",
            "scale_factor": header.scale_factor,
            "hubble_param": header.hubble_param,
            "settings": json.dumps(maps_settings(settings, None)),
            "source": found.source,
        },
    )
    hdf5, figure, rgb = (workspace.root / name for name in ("maps.hdf5", "figure.png", "rgb.png"))
    write_shard(workspace, hdf5, shard)
    content = found.figure()
    with workspace.replacing(figure) as temporary:
        temporary.write_bytes(content)
    if found.rgb is None:
        # not that of other channels
        rgb.unlink(missing_ok=True)
        return hdf5, figure
    write_png(workspace, rgb, found.rgb, own_scale=not _has_ranges(settings.channels))
    return hdf5, figure, rgb
