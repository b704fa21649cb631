"""One galaxy's maps: read, orient, project."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfr import units
from sfr.errors import ConfigError, EmptySelectionError, InternalError, NonFiniteError
from sfr.recipe import Channel, MapsRecipe, Recipe
from sfr.render import kernels
from sfr.render.fields import (
    PARTICLES,
    Kind,
    Setting,
    finish,
    is_relative,
    part_type,
    recipe_fields,
    shown,
    volume,
    weight,
)
from sfr.render.orient import GAS_FIELDS, STAR_FIELDS, Galaxy, Orientation, nearby, orient
from sfr.simulation.protocol import GAS, STARS, Header, Particles, Simulation

__all__ = [
    "GalaxyMaps",
    "check_frame",
    "make_maps",
    "particle_fields",
    "render_galaxy",
    "said_of_dropped",
]

#: Largest share of a galaxy's cells whose coordinates may be NaN or infinite, and of cells that
#: are left out of a channel without a word, as are a handful.
MAX_BAD_FRACTION = 0.01
_HANDFUL = 5

_ROUNDING = 1e-9


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


def check_frame(
    recipe: MapsRecipe, header: Header, rotation: NDArray[np.float64] | None = None
) -> None:
    """Raise where a frame reaches beyond the periodic box about its centre.

    Every cell is seen once, at the image nearest to the centre: these fill a cube with the side
    of the box, and a frame that sticks out of the cube lacks gas there. A frame without a depth
    has to fit in the plane of the picture; along the line of sight it ends where the cube does.

    Parameters
    ----------
    recipe : MapsRecipe
        Width and depth of the frame [ckpc/h].
    header : Header
        The box.
    rotation : ndarray of float64, shape (3, 3), or None
        Rotation to the frame; None: any, so that the diagonal has to fit.

    Raises
    ------
    ConfigError
        With the largest frame that fits.
    """
    if header.period is None:
        return
    half = np.array([recipe.width_ckpc_h, recipe.width_ckpc_h, recipe.depth_ckpc_h or 0.0]) / 2
    reach = np.linalg.norm(half) if rotation is None else np.max(np.abs(rotation).T @ half)
    fits = header.period / 2 / float(reach)
    if fits > 1 - _ROUNDING:
        return
    depth = "" if recipe.depth_ckpc_h is None else f" and depth {recipe.depth_ckpc_h:g}"
    less = "" if recipe.depth_ckpc_h is None else f" with a depth of {recipe.depth_ckpc_h * fits:g}"
    raise ConfigError(
        f"a frame of width {recipe.width_ckpc_h:g}{depth} ckpc/h"
        f"{', turned to any direction,' if rotation is None else ''} reaches beyond the box, whose "
        f"side is {header.period:g} ckpc/h in the header; allowed: a width of up to "
        f"{recipe.width_ckpc_h * fits:g}{less}. Lengths of a file are taken as ckpc/h: one in "
        "Mpc/h has to be converted first"
    )


def make_maps(
    segments: Iterable[Particles],
    centre: NDArray[np.float64],
    orientation: Orientation,
    header: Header,
    recipe: MapsRecipe,
    *,
    velocity: NDArray[np.float64] | None = None,
    threads: int | None = None,
) -> GalaxyMaps:
    """Project particles to the recipe's channels.

    Parameters
    ----------
    segments : iterable of Particles
        The particles that the channels show (`fields.part_type`), piece by piece; of fields other
        than ``Coordinates`` only what lies in the frame is looked at.
    centre : ndarray of float64, shape (3,)
        Centre of the frame [ckpc/h, box frame].
    orientation : Orientation
        Rotation to the frame of the maps.
    header : Header
        a, h and box of the snapshot.
    recipe : MapsRecipe
        Pixels, frame and channels.
    velocity : ndarray of float64, shape (3,), or None
        Peculiar velocity of the galaxy [km/s], for channels in its frame (`fields.is_relative`).
    threads : int or None
        As in `sfr.render.kernels`; the result does not depend on it.

    Returns
    -------
    GalaxyMaps
        Maps with y upwards, shape (channel, y, x).

    Raises
    ------
    ConfigError
        The frame reaches beyond the box, or channels show different types of particles.
    EmptySelectionError
        There are no particles, or none of them is in the frame.
    NonFiniteError
        More than one per cent of them have coordinates that are not finite, or none in the frame
        has a finite value of a channel.
    """
    kind = PARTICLES[shown(recipe)]
    check_frame(recipe, header, orientation.rotation)
    weigher = _Weigher(centre, orientation, header, recipe, velocity, threads)
    projection = kernels.project_segments(
        weigher.weigh(segments),
        columns=weigher.n_columns,
        bins=recipe.pixels,
        bin_scale=recipe.bin_scale,
        deposit=recipe.deposit,
        threads=threads,
        **weigher.frame,
    )
    spans = weigher.spans
    _check_ledger(projection.ledger, weigher.n_given, kind, has_sizes=weigher.has_sizes)
    _check_weights(projection.ledger, kind, recipe.channels, spans)
    binned = projection.maps
    finished = [
        finish(channel, binned[i], None if j is None else binned[j])
        for channel, (i, j) in zip((*recipe.channels, *recipe.candidates), spans, strict=True)
    ]
    n = len(recipe.channels)
    return GalaxyMaps(
        _pictures(finished[:n], recipe.pixels),
        _pictures(finished[n:], recipe.pixels),
        _of_channels(projection.ledger, [i for i, _ in spans[:n]]),
        orientation,
    )


def _pictures(maps: Sequence[NDArray[np.float32]], pixels: int) -> NDArray[np.float32]:
    """Stack maps, turned from (x, y) of the kernels to (y, x) of pictures."""
    return (
        np.stack([image.T for image in maps]) if maps else np.zeros((0, pixels, pixels), np.float32)
    )


def _of_channels(ledger: kernels.Ledger, columns: Sequence[int]) -> kernels.Ledger:
    """Keep the entries of the recipe's channels, in their order."""
    return ledger._replace(
        n_bad_weight=tuple(ledger.n_bad_weight[i] for i in columns),
        sum_in_frame=tuple(ledger.sum_in_frame[i] for i in columns),
    )


class _Weigher:
    """What the kernels sum for the channels of a recipe, piece by piece."""

    def __init__(
        self,
        centre: NDArray[np.float64],
        orientation: Orientation,
        header: Header,
        recipe: MapsRecipe,
        velocity: NDArray[np.float64] | None,
        threads: int | None,
    ) -> None:
        self._recipe = recipe
        self._threads = threads
        self._part_type = shown(recipe)
        #: Arguments that the kernels share.
        self.frame: dict[str, Any] = {
            "center": centre,
            "half_width": recipe.width_ckpc_h / 2,
            "depth": None if recipe.depth_ckpc_h is None else recipe.depth_ckpc_h / 2,
            "box_size": header.period,
            "rotation": orientation.rotation,
        }
        pixel_kpc = units.length_kpc(recipe.pixel_ckpc_h, header.scale_factor, header.hubble_param)
        self._setting = Setting(
            header.scale_factor, header.hubble_param, velocity, float(pixel_kpc**2)
        )
        self._sums: list[Channel] = []
        #: For each channel and candidate where its numerator and denominator are.
        self.spans: list[tuple[int, int | None]] = []
        #: Columns of sums.
        self.n_columns = 0
        #: Particles given so far.
        self.n_given = 0
        self._plan((*recipe.channels, *recipe.candidates))
        self._fields = recipe_fields(recipe)
        #: Whether particles have sizes, which are handed over with them.
        self.has_sizes = recipe.deposit == "smoothed"

    def _plan(self, channels: Sequence[Channel]) -> None:
        seen: dict[tuple[str, str, str], tuple[int, int | None]] = {}
        for channel in channels:
            key = (channel.field, channel.weight, channel.statistic)
            if key not in seen:
                is_mean = channel.statistic == "mean"
                index = self.n_columns
                seen[key] = (index, index + 1 if is_mean else None)
                self.n_columns += 2 if is_mean else 1
                self._sums.append(channel)
            self.spans.append(seen[key])

    def weigh(self, segments: Iterable[Particles]) -> Iterator[kernels.Segment]:
        """Yield positions, weights and, for cells with a size, volumes of each piece."""
        for segment in segments:
            if segment.part_type != self._part_type:
                raise InternalError(
                    f"particles of type {segment.part_type} given for channels of "
                    f"{PARTICLES[self._part_type].matter}, which are of type {self._part_type}"
                )
            coordinates = np.ascontiguousarray(segment.read(["Coordinates"])["Coordinates"])
            self.n_given += len(coordinates)
            rows = None
            # whether a cell reaches into the frame depends on its size
            if not self.has_sizes and not segment.is_mapped(self._fields):
                rows = kernels.cull_box(coordinates, threads=self._threads, **self.frame)
            fields = segment.read(self._fields, needed=rows)
            weights = [
                weight(
                    channel, fields, self._setting, star_forming_gas=self._recipe.star_forming_gas
                )
                for channel in self._sums
            ]
            if self.has_sizes:
                yield coordinates, weights, volume(fields)
            else:
                yield coordinates, weights


def _no_particles(kind: Kind) -> EmptySelectionError:
    return EmptySelectionError(f"no {kind.matter}: the group has none of its {kind.particles}")


def _check_ledger(ledger: kernels.Ledger, n_given: int, kind: Kind, *, has_sizes: bool) -> None:
    """Raise where particles were lost or counted twice, or where too few of them can be seen."""
    bad, read = ledger.n_bad_coordinates, ledger.n_read
    if not n_given == read == ledger.n_in_frame + ledger.n_out_of_frame + bad:
        raise InternalError(
            f"the ledger does not add up: of {n_given} {kind.particles} {read} were read, "
            f"{ledger.n_in_frame} in the frame, {ledger.n_out_of_frame} outside, {bad} without a "
            "place"
        )
    if read == 0:
        raise _no_particles(kind)
    if bad > MAX_BAD_FRACTION * read:
        raise NonFiniteError(
            f"{_without_place(bad, read, kind, has_sizes=has_sizes)}, more than "
            f"{MAX_BAD_FRACTION:.0%}"
        )
    if ledger.n_in_frame == 0:
        raise EmptySelectionError(
            f"no {kind.matter} in the frame: all {read} {kind.particles} lie outside"
        )


def _without_place(bad: int, read: int, kind: Kind, *, has_sizes: bool) -> str:
    if not has_sizes:
        return f"Coordinates: {bad} of {read} {kind.particles} have NaN or infinite coordinates"
    return (
        f"Coordinates, Masses, Density: {bad} of {read} {kind.particles} have NaN or infinite "
        "coordinates, or no volume, as Masses / Density is negative, infinite or NaN"
    )


def _check_weights(
    ledger: kernels.Ledger,
    kind: Kind,
    channels: Sequence[Channel],
    spans: Sequence[tuple[int, int | None]],
) -> None:
    for channel, (column, _) in zip(channels, spans, strict=False):
        if ledger.n_bad_weight[column] == ledger.n_in_frame:
            raise NonFiniteError(
                f"channel {channel.name!r}: none of {ledger.n_in_frame} {kind.particles} in the "
                "frame has a finite value"
            )


def said_of_dropped(made: GalaxyMaps, recipe: MapsRecipe) -> str:
    """Say which cells are in no map because they have no value; empty where next to all have one.

    A few cells without electrons, whose entropy is infinite, are nothing unusual.

    Parameters
    ----------
    made : GalaxyMaps
        The maps.
    recipe : MapsRecipe
        What they were made by.

    Returns
    -------
    str
        Numbers of cells, and channels.
    """
    ledger, channels, said = made.ledger, recipe.channels, []
    kind = PARTICLES[part_type(channels)]
    many = kind.particles
    if bad := ledger.n_bad_coordinates:
        has_sizes = recipe.deposit == "smoothed"
        said.append(f"{_without_place(bad, ledger.n_read, kind, has_sizes=has_sizes)}; dropped")
    without = [
        f"{count} have no {channel.name}"
        for channel, count in zip(channels, ledger.n_bad_weight, strict=True)
        if count > max(_HANDFUL, MAX_BAD_FRACTION * ledger.n_in_frame)
    ]
    if without:
        said.append(
            f"of {ledger.n_in_frame} {many} in the frame {', '.join(without)} (NaN, infinite, "
            "or of numbers that cannot be negative); dropped"
        )
    return "; ".join(said)


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
    """Read, orient and project one galaxy: its FoF group, turned by the stars of the subhalo.

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
    if not np.isfinite(galaxy.centre).all():
        raise NonFiniteError(f"SubhaloPos = {galaxy.centre.tolist()} is not finite")
    header = simulation.header(snapshot)
    maps = recipe.maps
    kind = shown(maps)
    particles = list(simulation.segments(snapshot, "group", group_id, kind))
    if not particles:
        raise _no_particles(PARTICLES[kind])
    radius = recipe.orientation.radius_half_mass * galaxy.half_mass_radius
    near = partial(nearby, centre=galaxy.centre, radius=radius, header=header, threads=threads)
    stars = list(simulation.segments(snapshot, "subhalo", subhalo_id, STARS))
    orientation = orient(
        galaxy,
        lambda scale_factor: near(stars, STAR_FIELDS, formed_after=scale_factor),
        lambda: near(simulation.segments(snapshot, "group", group_id, GAS), GAS_FIELDS),
        header,
        recipe.orientation,
    )
    return make_maps(
        particles,
        galaxy.centre,
        orientation,
        header,
        maps,
        velocity=_velocity(simulation, snapshot, subhalo_id, maps),
        threads=threads,
    )


def _velocity(
    simulation: Simulation, snapshot: int, subhalo_id: int, recipe: MapsRecipe
) -> NDArray[np.float64] | None:
    """Velocity of the subhalo [km/s], where a channel is relative to it."""
    if not is_relative((*recipe.channels, *recipe.candidates)):
        return None
    found = simulation.value(snapshot, "subhalo", subhalo_id, "SubhaloVel")
    velocity = np.asarray(found, np.float64)
    if velocity.shape != (3,) or not np.isfinite(velocity).all():
        raise NonFiniteError(f"SubhaloVel = {velocity.tolist()}; allowed: three finite numbers")
    return velocity


def particle_fields(recipe: Recipe) -> dict[int, list[str]]:
    """List the fields that a galaxy's maps and orientation need, by particle type."""
    maps = recipe.maps
    needed = {GAS: {*GAS_FIELDS}, STARS: {*STAR_FIELDS}}
    needed.setdefault(shown(maps), {"Coordinates"}).update(recipe_fields(maps))
    return {kind: sorted(names) for kind, names in needed.items()}
