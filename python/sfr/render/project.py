"""One galaxy's maps: read, orient, project."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfr import units
from sfr.errors import (
    EmptySelectionError,
    NonFiniteError,
)
from sfr.recipe import Channel, MapsRecipe, Recipe
from sfr.render import gas, kernels
from sfr.render.orient import GAS_FIELDS, STAR_FIELDS, Galaxy, Orientation, orient
from sfr.simulation.protocol import Header, Simulation

__all__ = ["GalaxyMaps", "gas_fields", "make_maps", "render_galaxy"]

log = logging.getLogger(__name__)

#: Largest share of a galaxy's cells whose coordinates may be NaN or infinite.
MAX_BAD_FRACTION = 0.01

_GAS, _STARS = 0, 4


@dataclass(frozen=True)
class GalaxyMaps:
    """The maps of one galaxy.

    Attributes
    ----------
    maps : ndarray of float32, shape (channel, y, x)
        Unnormalised maps of the recipe's channels, face-on frame, y upwards.
    candidates : ndarray of float32, shape (candidate, y, x)
        Maps of the further readings.
    ledger : Ledger
        Counts and sums of the particles, one entry per channel of the recipe.
    orientation : Orientation
        The rotation used.
    """

    maps: NDArray[np.float32]
    candidates: NDArray[np.float32]
    ledger: kernels.Ledger
    orientation: Orientation


def make_maps(
    particles: Mapping[str, NDArray[np.generic]],
    centre: NDArray[np.float64],
    orientation: Orientation,
    header: Header,
    recipe: MapsRecipe,
    *,
    threads: int | None = None,
) -> GalaxyMaps:
    """Project gas cells to the recipe's channels.

    Parameters
    ----------
    particles : mapping of str to ndarray
        ``Coordinates`` [ckpc/h] and the fields that the channels need, code units as on disk.
    centre : ndarray of float64, shape (3,)
        Centre of the frame [ckpc/h, box frame].
    orientation : Orientation
        Rotation to the frame of the maps.
    header : Header
        a, h and box of the snapshot.
    recipe : MapsRecipe
        Pixels, frame and channels.
    threads : int or None
        As in `sfr.render.kernels`; the result does not depend on it.

    Returns
    -------
    GalaxyMaps
        Maps with y upwards, shape (channel, y, x).

    Raises
    ------
    EmptySelectionError
        There is no gas, or none of it is in the frame.
    NonFiniteError
        More than one per cent of the cells have coordinates that are not finite.
    """
    coordinates = np.ascontiguousarray(particles["Coordinates"])
    if len(coordinates) == 0:
        raise EmptySelectionError("no gas: the group has no cell of PartType0")
    cells = _cells(particles, orientation, header, recipe)
    columns, spans = _columns((*recipe.channels, *recipe.candidates), cells, recipe)
    projection = kernels.project(
        coordinates,
        columns,
        center=centre,
        box_size=header.box_size,
        rotation=orientation.rotation,
        half_width=recipe.width_ckpc_h / 2,
        depth=None if recipe.depth_ckpc_h is None else recipe.depth_ckpc_h / 2,
        bins=recipe.pixels,
        bin_scale=recipe.bin_scale,
        threads=threads,
    )
    _check_ledger(projection.ledger)
    _check_weights(projection.ledger, recipe.channels, spans)
    # kernels return (channel, x, y); pictures are (channel, y, x)
    binned = projection.maps.transpose(0, 2, 1)
    finished = [
        gas.finish(channel, binned[i], None if j is None else binned[j])
        for channel, (i, j) in zip((*recipe.channels, *recipe.candidates), spans, strict=True)
    ]
    shape = (recipe.pixels, recipe.pixels)
    n = len(recipe.channels)
    return GalaxyMaps(
        np.stack(finished[:n]),
        np.stack(finished[n:]) if finished[n:] else np.zeros((0, *shape), np.float32),
        _of_channels(projection.ledger, [i for i, _ in spans[:n]]),
        orientation,
    )


def _of_channels(ledger: kernels.Ledger, columns: Sequence[int]) -> kernels.Ledger:
    """Keep the entries of the recipe's channels, in their order."""
    return ledger._replace(
        n_bad_weight=tuple(ledger.n_bad_weight[i] for i in columns),
        sum_read=tuple(ledger.sum_read[i] for i in columns),
        sum_in_frame=tuple(ledger.sum_in_frame[i] for i in columns),
    )


def _cells(
    particles: Mapping[str, NDArray[np.generic]],
    orientation: Orientation,
    header: Header,
    recipe: MapsRecipe,
) -> gas.Cells:
    pixel = recipe.width_ckpc_h / (recipe.pixels * recipe.bin_scale)
    pixel_kpc = units.length_kpc(pixel, header.scale_factor, header.hubble_param)
    return gas.Cells(
        particles,  # type: ignore[arg-type]
        header.scale_factor,
        header.hubble_param,
        orientation.bulk_velocity,
        float(pixel_kpc**2),
    )


def _columns(
    channels: Sequence[Channel], cells: gas.Cells, recipe: MapsRecipe
) -> tuple[list[NDArray[np.floating]], list[tuple[int, int | None]]]:
    """Weights to bin, and for each channel where its numerator and denominator are."""
    columns: list[NDArray[np.floating]] = []
    spans: list[tuple[int, int | None]] = []
    seen: dict[tuple[str, str, str], tuple[int, int | None]] = {}
    for channel in channels:
        key = (channel.field, channel.weight, channel.statistic)
        if key not in seen:
            numerator, denominator = gas.weights(
                channel, cells, star_forming_gas=recipe.star_forming_gas
            )
            columns.append(numerator)
            index = len(columns) - 1
            if denominator is not None:
                columns.append(np.ascontiguousarray(denominator))
            seen[key] = (index, None if denominator is None else index + 1)
        spans.append(seen[key])
    return columns, spans


def _check_ledger(ledger: kernels.Ledger) -> None:
    bad, read = ledger.n_bad_coordinates, ledger.n_read
    if bad > MAX_BAD_FRACTION * read:
        raise NonFiniteError(
            f"Coordinates: {bad} of {read} gas cells are NaN or infinite, more than "
            f"{MAX_BAD_FRACTION:.0%}"
        )
    if bad:
        log.warning("%d of %d gas cells have NaN or infinite coordinates; dropped", bad, read)
    if ledger.n_in_frame == 0:
        raise EmptySelectionError(f"no gas in the frame: all {read} cells lie outside")


def _check_weights(
    ledger: kernels.Ledger, channels: Sequence[Channel], spans: Sequence[tuple[int, int | None]]
) -> None:
    for channel, (column, _) in zip(channels, spans, strict=False):
        if ledger.n_bad_weight[column] == ledger.n_read:
            raise NonFiniteError(
                f"channel {channel.name!r}: none of {ledger.n_read} gas cells has a finite value"
            )


def render_galaxy(
    simulation: Simulation,
    snapshot: int,
    subhalo_id: int,
    group_id: int,
    galaxy: Galaxy,
    recipe: Recipe,
    *,
    threads: int | None = None,
) -> GalaxyMaps:
    """Read, orient and project one galaxy: gas of its FoF group, stars of the subhalo.

    Parameters
    ----------
    simulation : Simulation
        Where the particles come from.
    snapshot, subhalo_id, group_id : int
        The galaxy.
    galaxy : Galaxy
        Its centre and size.
    recipe : Recipe
        The experiment.
    threads : int or None
        As in `sfr.render.kernels`.

    Returns
    -------
    GalaxyMaps
        The maps.

    Raises
    ------
    SfrError
        What keeps this galaxy from being rendered.
    """
    header = simulation.header(snapshot)
    cells = simulation.particles(snapshot, "group", group_id, _GAS, gas_fields(recipe))
    stars = simulation.particles(snapshot, "subhalo", subhalo_id, _STARS, STAR_FIELDS)
    if not np.isfinite(galaxy.centre).all():
        raise NonFiniteError(f"SubhaloPos = {galaxy.centre.tolist()} is not finite")
    if len(cells["Coordinates"]) == 0:
        raise EmptySelectionError("no gas: the group has no cell of PartType0")
    orientation = orient(galaxy, stars, cells, header, recipe.orientation, threads=threads)
    return make_maps(cells, galaxy.centre, orientation, header, recipe.maps, threads=threads)


def gas_fields(recipe: Recipe) -> list[str]:
    """List the fields of PartType0 that a galaxy's maps and orientation need."""
    maps = recipe.maps
    needed = gas.required_fields(
        (*maps.channels, *maps.candidates), star_forming_gas=maps.star_forming_gas
    )
    return sorted({*GAS_FIELDS, *needed})
