"""The rotation that shows a galaxy face-on, from the ladder of DESIGN 6."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sfr import units
from sfr.errors import EmptySelectionError, NonFiniteError
from sfr.recipe import OrientationRecipe
from sfr.render import kernels
from sfr.simulation.particle_file import empty_field
from sfr.simulation.protocol import Header, Particles

__all__ = [
    "GAS_FIELDS",
    "STAR_FIELDS",
    "Galaxy",
    "Orientation",
    "bulk_velocity",
    "nearby",
    "orient",
]

#: TNG fields of PartType4 and PartType0 that the ladder reads.
STAR_FIELDS = ("Coordinates", "Velocities", "Masses", "GFM_StellarFormationTime")
GAS_FIELDS = ("Coordinates", "Velocities", "Masses", "StarFormationRate")

Fields = Mapping[str, NDArray[np.generic]]
_FORMED = "GFM_StellarFormationTime"
#: An angular momentum below this share of sum(r v) is rounding, not rotation.
_ROUNDING = 1e-10


@dataclass(frozen=True)
class Galaxy:
    """Where a galaxy is and how large its stellar body is.

    Attributes
    ----------
    centre : ndarray of float64, shape (3,)
        Position in the box [ckpc/h].
    half_mass_radius : float
        Stellar half-mass radius [ckpc/h]; 0 without stars.
    """

    centre: NDArray[np.float64]
    half_mass_radius: float


@dataclass(frozen=True)
class Orientation:
    """A rotation to the face-on frame and how far it can be trusted.

    Attributes
    ----------
    rotation : ndarray of float64, shape (3, 3)
        q = R d takes box offsets d to the face-on frame, spin along +z.
    source : str
        Rung of the ladder: ``stars<0.1Gyr``, ``youngest25%``, ``sf_gas``, ``stars``, ``gas`` or
        ``none``.
    count : int
        Particles used.
    alignment : float
        |sum of angular momenta| / sum of |angular momenta|, 1 for a cold disk; NaN for ``none``.
    particles: str
        What the particles of the rung are, in words; empty for ``none``.
    """

    rotation: NDArray[np.float64]
    source: str
    count: int
    alignment: float
    particles: str = ""


@dataclass(frozen=True)
class _Body:
    """Finite particles inside the aperture: offsets [ckpc/h], peculiar velocities [km/s]."""

    offsets: NDArray[np.float64]
    velocities: NDArray[np.float64]
    masses: NDArray[np.float64]
    extra: NDArray[np.float64]

    def take(self, which: NDArray[np.generic]) -> _Body:
        return _Body(
            self.offsets[which], self.velocities[which], self.masses[which], self.extra[which]
        )


class _Rung(NamedTuple):
    """Particles that may tell the spin: the name of the rung in tables, and what they are."""

    source: str
    particles: str
    body: _Body


def nearby(
    segments: Iterable[Particles],
    fields: Sequence[str],
    *,
    centre: NDArray[np.float64],
    radius: float,
    header: Header,
    formed_after: float | None = None,
    threads: int | None = None,
) -> dict[str, NDArray[Any]]:
    """Read the particles in the cube about a sphere.

    Parameters
    ----------
    segments : iterable of Particles
        The particles piece by piece.
    fields : sequence of str
        Fields to read; ``Coordinates`` has to be among them.
    centre : ndarray of float64, shape (3,)
        Centre of the sphere [ckpc/h].
    radius : float
        Its radius [ckpc/h]; 0: no particle is near.
    header : Header
        Box of the snapshot.
    formed_after : float or None
        Of stars, only those formed after this scale factor; wind has a negative one.
    threads : int or None
        As in `sfr.render.kernels`.

    Returns
    -------
    dict of str to ndarray
        One array per field, code units, file order.
    """
    parts: dict[str, list[NDArray[Any]]] = {name: [empty_field(name)] for name in fields}
    if not radius > 0:
        return {name: arrays[0] for name, arrays in parts.items()}
    others = [name for name in fields if name != "Coordinates"]
    for segment in segments:
        rows = None
        if formed_after is not None:
            born = segment.read([_FORMED])[_FORMED]
            rows = np.flatnonzero(born > formed_after)
        coordinates = segment.read(["Coordinates"], needed=rows)["Coordinates"]
        chosen = coordinates if rows is None else coordinates[rows]
        near = kernels.cull_box(
            np.ascontiguousarray(chosen),
            centre,
            radius,
            depth=radius,
            box_size=header.period,
            threads=threads,
        )
        rows = near if rows is None else rows[near]
        if len(rows):
            found = {"Coordinates": coordinates, **segment.read(others, needed=rows)}
            for name in fields:
                parts[name].append(found[name][rows])
    return {name: np.concatenate(arrays[1:] or arrays) for name, arrays in parts.items()}


def orient(
    galaxy: Galaxy,
    stars: Callable[[float], Fields],
    gas: Callable[[], Fields],
    header: Header,
    recipe: OrientationRecipe,
    *,
    threads: int | None = None,
) -> Orientation:
    """Find the face-on rotation of a galaxy.

    Young stars first, then star-forming gas, all stars and all gas, each within the same radius;
    the first rung with enough particles and a finite, non-zero angular momentum counts.

    Parameters
    ----------
    galaxy : Galaxy
        Centre and size.
    stars : callable
        Gives the fields `STAR_FIELDS`, code units as on disk, of the stars formed after a scale
        factor, at least of those within the radius.
    gas : callable
        Gives the same of `GAS_FIELDS` of all gas; called only where the young stars do not do.
        Without StarFormationRate no gas counts as star-forming.
    header : Header
        Cosmology and box of the snapshot; stars have no ages where it is not cosmological.
    recipe : OrientationRecipe
        The rule, its radius and its limits.
    threads : int or None
        As in `sfr.render.kernels`.

    Returns
    -------
    Orientation
        The rotation; the identity with source ``none`` where no rung holds.
    """
    for source, particles, body in _rungs(galaxy, stars, gas, header, recipe):
        if len(body.masses) < recipe.minimum_particles:
            continue
        bulk = _mean_velocity(body)
        counts = body.masses if recipe.mass_weighted else np.ones(len(body.masses))
        momentum, alignment = _momentum(body, counts, bulk)
        speeds = np.linalg.norm(body.offsets, axis=1) * np.linalg.norm(body.velocities, axis=1)
        if not momentum > _ROUNDING * np.sum(counts * speeds):
            continue
        try:
            normal = kernels.disk_normal(
                body.offsets,
                body.velocities,
                counts,
                center=np.zeros(3),
                bulk_velocity=bulk,
                threads=threads,
            )
        except (EmptySelectionError, NonFiniteError):
            continue
        rotation = kernels.face_on_rotation(normal)
        return Orientation(rotation, source, len(body.masses), alignment, particles)
    return Orientation(np.eye(3), "none", 0, float("nan"))


def _rungs(
    galaxy: Galaxy,
    stars: Callable[[float], Fields],
    gas: Callable[[], Fields],
    header: Header,
    recipe: OrientationRecipe,
) -> Iterator[_Rung]:
    """Yield the rungs of the ladder from the top; a rung is made when it is asked for."""
    radius = recipe.radius_half_mass * galaxy.half_mass_radius

    def formed_after(scale_factor: float) -> _Body:
        return _body(galaxy.centre, stars(scale_factor), _FORMED, radius, header)

    if recipe.rule == "youngest_fraction":
        share = f"{100 * recipe.youngest_fraction:g}%"
        youngest = _youngest(formed_after(0.0), recipe.youngest_fraction)
        yield _Rung(f"youngest{share}", f"stars, the youngest {share} of the mass", youngest)
    elif header.is_cosmological:
        for limit in recipe.age_limits_gyr:
            young = formed_after(_formed_before(limit, header))
            yield _Rung(f"stars<{limit:g}Gyr", f"stars younger than {limit:g} Gyr", young)
    all_gas = _body(galaxy.centre, gas(), "StarFormationRate", radius, header)
    yield _Rung("sf_gas", "star-forming gas cells", all_gas.take(all_gas.extra > 0))
    yield _Rung("stars", "stars", formed_after(0.0))
    yield _Rung("gas", "gas cells", all_gas)


def _youngest(stars: _Body, fraction: float) -> _Body:
    """Give the youngest stars that make up a fraction of the mass."""
    order = np.argsort(-stars.extra, kind="stable")
    cumulative = np.cumsum(stars.masses[order])
    limit = fraction * (cumulative[-1] if len(cumulative) else 0.0)
    return stars.take(order[: int(np.searchsorted(cumulative, limit)) + 1])


def _formed_before(age_gyr: float, header: Header) -> float:
    """Scale factor at a time before the snapshot."""
    now = units.scale_factor_age_gyr(header.scale_factor, **_cosmology(header))
    return units.scale_factor_at_age(float(now) - age_gyr, **_cosmology(header))


def _cosmology(header: Header) -> dict[str, float]:
    return {
        "omega0": header.omega0,
        "omega_lambda": header.omega_lambda,
        "hubble_param": header.hubble_param,
    }


def _body(
    centre: NDArray[np.float64], fields: Fields, extra: str, radius: float, header: Header
) -> _Body:
    offsets = kernels.rotate(
        np.ascontiguousarray(fields["Coordinates"]),
        np.eye(3),
        center=centre,
        box_size=header.period,
    )
    velocities = fields["Velocities"].astype(np.float64) * np.sqrt(header.scale_factor)
    masses = fields["Masses"].astype(np.float64)
    with np.errstate(invalid="ignore"):
        inside = np.einsum("ij,ij->i", offsets, offsets) < radius**2
    finite = np.isfinite(velocities).all(axis=1) & np.isfinite(masses) & (masses > 0)
    extras = np.asarray(fields.get(extra, np.zeros(len(masses))), np.float64)
    body = _Body(offsets, velocities, masses, extras)
    return body.take(inside & finite)


def _mean_velocity(body: _Body) -> NDArray[np.float64]:
    return np.asarray(np.average(body.velocities, axis=0, weights=body.masses))


def bulk_velocity(
    centre: NDArray[np.float64], radius: float, fields: Fields, header: Header
) -> tuple[NDArray[np.float64], int]:
    """Mass-weighted mean velocity of the particles in a sphere.

    Parameters
    ----------
    centre : ndarray of float64, shape (3,)
        Centre of the sphere [ckpc/h, box frame].
    radius : float
        Its radius [ckpc/h].
    fields : mapping of str to ndarray
        ``Coordinates``, ``Velocities`` and ``Masses``, code units as on disk.
    header : Header
        a and box of the snapshot.

    Returns
    -------
    velocity : ndarray of float64, shape (3,)
        Peculiar velocity [km/s].
    count : int
        Particles used.

    Raises
    ------
    EmptySelectionError
        No particle with a finite velocity and a mass is in the sphere.
    """
    body = _body(centre, fields, "", radius, header)
    if not len(body.masses):
        raise EmptySelectionError(
            f"no gas within {radius:g} ckpc/h of the centre, whose mean velocity speeds are "
            "relative to; choose another centre or a wider frame"
        )
    return _mean_velocity(body), len(body.masses)


def _momentum(
    body: _Body, counts: NDArray[np.float64], bulk: NDArray[np.float64]
) -> tuple[float, float]:
    """Length of the summed angular momentum, and its share of the sum of lengths."""
    momenta = counts[:, np.newaxis] * np.cross(body.offsets, body.velocities - bulk)
    total = float(np.linalg.norm(momenta.sum(axis=0)))
    lengths = float(np.linalg.norm(momenta, axis=1).sum())
    return total, total / lengths if lengths > 0 else 0.0
