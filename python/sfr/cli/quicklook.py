"""A quick look at one file: its gas as maps, a figure and an RGB image."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfr.errors import (
    ConfigError,
    DataMissingError,
    EmptySelectionError,
    NonFiniteError,
    RangeError,
)
from sfr.imaging.lupton import lupton_rgb
from sfr.imaging.png import write_png
from sfr.paths import plain
from sfr.plot.maps import map_figure
from sfr.recipe import Channel, MapsRecipe, Recipe, load_recipe, maps_settings
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
from sfr.render.project import GalaxyMaps, make_maps, said_of_dropped
from sfr.run.shards import Shard, write_shard
from sfr.run.workspace import Workspace
from sfr.simulation import Header, open_particle_file
from sfr.simulation.particle_file import ParticleFile

__all__ = ["MapSummary", "map_file"]

log = logging.getLogger(__name__)

_GAS, _STARS = 0, 4
#: Radius about the centre in which the spin is taken, as a share of the width.
_APERTURE = 1 / 6
_VELOCITY_FIELDS = ("Coordinates", "Velocities", "Masses")
#: Cubes across the frame in which cells are counted where a file has no densities.
_CUBES = 10


@dataclass(frozen=True)
class MapSummary:
    """What was mapped, and where the files are."""

    files: tuple[Path, ...]
    centre: tuple[float, float, float]
    orientation: str
    #: What speeds are relative to; empty where no channel shows velocities.
    rest_frame: str
    n_read: int
    n_in_frame: int
    #: What is counted: gas cells, ...
    particles: str
    #: One row per channel: name, unit, extremes and cells dropped.
    rows: list[dict[str, object]]


def map_file(
    path: Path,
    out: Path,
    *,
    recipe: str = "thesis",
    center: tuple[float, float, float] | None = None,
    normal: tuple[float, float, float] | None = None,
    by_spin: bool = False,
    width_ckpc_h: float = 60.0,
    depth_ckpc_h: float | None = None,
    channels: Sequence[str] = ("entropy", "mass", "temperature"),
    pixels: int = 256,
    threads: int | None = None,
) -> MapSummary:
    """Map the gas, or the dark matter, of one snapshot chunk or cutout.

    Parameters
    ----------
    path : Path
        The HDF5 file.
    out : Path
        Folder for maps.hdf5, figure.png and, with one or three channels, rgb.png.
    recipe : str
        Recipe of the channels' readings and of the stretch.
    center : tuple of float or None
        Centre of the frame [ckpc/h]; None: the densest cell.
    normal : tuple of float or None
        Axis to look along, of any length, box frame; None: the z axis.
    by_spin : bool
        Look along the angular momentum of the stars or the gas in the inner third of the frame
        instead, as the recipe's ladder finds it from what the file holds.
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
    MapSummary
        Files and numbers.

    Raises
    ------
    ConfigError
        Unknown channel or a frame that is not possible, such as one wider than the box.
    DataMissingError, DataFormatError
        The file or a field is not there or cannot be read.
    EmptySelectionError
        The file has no gas, or none in the frame.
    """
    experiment = load_recipe(recipe)
    maps_recipe = _maps_recipe(experiment.maps, channels, width_ckpc_h, depth_ckpc_h, pixels)
    with open_particle_file(path) as file:
        shown = fields.part_type(maps_recipe.channels)
        for kind in {_GAS, shown}:  # gas says where the centre is, and stars and gas which way up
            if file.counts[kind] == 0:
                matter = fields.PARTICLES[kind].matter
                raise EmptySelectionError(f"{path} holds no {matter} (PartType{kind})")
        needed = fields.required_fields(
            maps_recipe.channels, star_forming_gas=maps_recipe.star_forming_gas
        )
        is_relative = fields.is_relative(maps_recipe.channels)
        turns_with_gas = by_spin and not _has(file, _STARS, STAR_FIELDS)
        extra = _VELOCITY_FIELDS if is_relative or turns_with_gas else ("Coordinates",)
        for kind, names in ((_GAS, extra), (shown, needed)):
            absent = sorted(set(names) - set(file.readable(kind)))
            if absent:
                raise DataMissingError(
                    f"PartType{kind} of {path} has no field {absent[0]}; it has: "
                    f"{', '.join(file.readable(kind))}. Choose what can be made of these with "
                    "--channels"
                )
        header = file.header
        centre = _densest(file, width_ckpc_h) if center is None else np.array(center)
        orientation = _orientation(file, centre, normal, by_spin, maps_recipe, experiment)
        velocity, n_mean = _rest_frame(file, centre, width_ckpc_h) if is_relative else (None, 0)
        made = make_maps(
            file.stretches(shown),
            centre,
            orientation,
            header,
            maps_recipe,
            velocity=velocity,
            threads=threads,
        )
    if dropped := said_of_dropped(made, maps_recipe.channels):
        log.warning("%s: %s", path, dropped)
    files = _write(path, Workspace(out), made, centre, header, maps_recipe, experiment)
    return MapSummary(
        files=files,
        centre=(float(centre[0]), float(centre[1]), float(centre[2])),
        orientation=f"seen along {orientation.source}",
        rest_frame=""
        if velocity is None
        else f"speed relative to ({', '.join(f'{v:.2f}' for v in velocity)}) km/s, the "
        f"mass-weighted mean of {n_mean} gas cells within {width_ckpc_h / 2:g} ckpc/h of "
        "the centre",
        n_read=made.ledger.n_read,
        n_in_frame=made.ledger.n_in_frame,
        particles=fields.PARTICLES[shown].particles,
        rows=[
            {
                "channel": channel.name,
                "unit": unit,
                "minimum": _extreme(np.nanmin, values),
                "maximum": _extreme(np.nanmax, values),
                "cells dropped": int(dropped),
            }
            for channel, unit, values, dropped in zip(
                maps_recipe.channels,
                _units(maps_recipe),
                made.maps,
                made.ledger.n_bad_weight,
                strict=True,
            )
        ],
    )


def _units(maps: MapsRecipe) -> list[str]:
    return [
        fields.channel_unit(channel, star_forming_gas=maps.star_forming_gas)
        for channel in maps.channels
    ]


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


def _densest(file: ParticleFile, width: float) -> NDArray[np.float64]:
    """Position of the densest cell, or without densities the middle of the most crowded cube."""
    coordinates = file.read(_GAS, ["Coordinates"])["Coordinates"]
    finite = np.isfinite(coordinates).all(axis=1)
    if not finite.any():
        raise NonFiniteError(f"Coordinates of {file.path}: no gas cell has finite ones")
    coordinates = coordinates[finite].astype(np.float64)
    if "Density" in file.fields(_GAS):
        density = file.read(_GAS, ["Density"])["Density"][finite]
        return np.asarray(coordinates[int(np.argmax(np.nan_to_num(density, nan=-np.inf)))])
    side = width / _CUBES
    cubes, counts = np.unique(np.floor(coordinates / side), axis=0, return_counts=True)
    return np.asarray((cubes[int(np.argmax(counts))] + 0.5) * side)


def _orientation(
    file: ParticleFile,
    centre: NDArray[np.float64],
    normal: tuple[float, float, float] | None,
    by_spin: bool,
    maps: MapsRecipe,
    recipe: Recipe,
) -> Orientation:
    if normal is not None and not any(normal):
        raise ConfigError("--normal 0,0,0 has no direction; give an axis to look along, as 0,0,1")
    if normal is not None:
        rotation = kernels.face_on_rotation(np.array(normal))
        source = f"({normal[0]:g}, {normal[1]:g}, {normal[2]:g})"
        return Orientation(rotation, source, 0, np.nan)
    if not by_spin:
        source = "the z axis of the box (face-on: --normal auto)"
        return Orientation(np.eye(3), source, 0, np.nan)
    reach = maps.width_ckpc_h * _APERTURE
    near = partial(nearby, centre=centre, radius=reach, header=file.header)

    def stars_near(formed_after: float) -> dict[str, NDArray[Any]]:
        pieces = file.stretches(_STARS) if _has(file, _STARS, STAR_FIELDS) else ()
        return near(pieces, STAR_FIELDS, formed_after=formed_after)

    def gas_near() -> dict[str, NDArray[Any]]:
        if not _has(file, _GAS, _VELOCITY_FIELDS):
            return near((), GAS_FIELDS)
        return near(file.stretches(_GAS), [f for f in GAS_FIELDS if _has(file, _GAS, (f,))])

    galaxy = Galaxy(centre, reach / recipe.orientation.radius_half_mass)
    found = orient(galaxy, stars_near, gas_near, file.header, recipe.orientation)
    if found.source == "none":
        raise RangeError(
            "--normal auto: too few stars and gas cells with a spin within "
            f"{reach:g} ckpc/h of the centre (a sixth of --width), at least "
            f"{recipe.orientation.minimum_particles} are needed; give --normal x,y,z"
        )
    return replace(found, source=f"the spin of {found.count} {_named(found.source)}")


def _has(file: ParticleFile, part_type: int, fields: Sequence[str]) -> bool:
    return file.counts[part_type] > 0 and set(fields) <= set(file.fields(part_type))


def _named(rung: str) -> str:
    """Name the particles of a rung of the ladder."""
    if rung.startswith("stars<"):
        return f"stars younger than {rung.removeprefix('stars<').removesuffix('Gyr')} Gyr"
    if rung.startswith("youngest"):
        return f"stars, the {rung.replace('youngest', 'youngest ')} of the mass"
    return {"sf_gas": "star-forming gas cells", "stars": "stars", "gas": "gas cells"}[rung]


def _rest_frame(
    file: ParticleFile, centre: NDArray[np.float64], width: float
) -> tuple[NDArray[np.float64], int]:
    """Mean velocity of the gas in the frame [km/s], and of how many cells.

    A smaller sphere would follow the rotation of the side that its centre lies on.
    """
    radius = width / 2
    fields = nearby(
        file.stretches(_GAS), _VELOCITY_FIELDS, centre=centre, radius=radius, header=file.header
    )
    return bulk_velocity(centre, radius, fields, file.header)


def _write(
    path: Path,
    workspace: Workspace,
    made: GalaxyMaps,
    centre: NDArray[np.float64],
    header: Header,
    maps: MapsRecipe,
    recipe: Recipe,
) -> tuple[Path, ...]:
    names, units = fields.names(maps.channels), _units(maps)
    shard = Shard(
        made.maps[np.newaxis],
        {"centre": centre[np.newaxis], "rotation": made.orientation.rotation[np.newaxis]},
        {},
        {
            "channel_names": names,
            "channel_units": units,
            "width_ckpc_h": maps.width_ckpc_h,
            "pixel_scale_ckpc_h": maps.pixel_ckpc_h,
            "axes": "maps[galaxy, channel, y, x]; y upwards",
            "scale_factor": header.scale_factor,
            "hubble_param": header.hubble_param,
            "settings": json.dumps(maps_settings(maps, None)),
            "source": path.name,
        },
    )
    hdf5, figure, rgb = (workspace.root / name for name in ("maps.hdf5", "figure.png", "rgb.png"))
    write_shard(workspace, hdf5, shard)
    has_composite = len(names) in (1, 3)
    picture = lupton_rgb(_by_own_maxima(made.maps), recipe.image) if has_composite else None
    with workspace.replacing(figure) as temporary:
        map_figure(
            temporary,
            made.maps,
            names,
            units,
            width_ckpc_h=maps.width_ckpc_h,
            rgb=picture,
            title=plain(path.name),
            fields=[channel.field for channel in maps.channels],
            bin_scale=maps.bin_scale,
        )
    if picture is None:
        # not that of other channels
        rgb.unlink(missing_ok=True)
        return hdf5, figure
    write_png(workspace, rgb, picture, own_scale=True)
    return hdf5, figure, rgb


def _by_own_maxima(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    three = np.repeat(maps, 3, axis=0) if len(maps) == 1 else maps
    peaks = np.max(np.abs(np.nan_to_num(three)).reshape(3, -1), axis=1)
    return np.asarray(
        three / np.where(peaks > 0, peaks, 1.0)[:, np.newaxis, np.newaxis], np.float64
    )
