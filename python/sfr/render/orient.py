"""The rotation that shows a galaxy face-on, from the ladder of DESIGN 6."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sfr import units
from sfr.errors import EmptySelectionError
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

Fields = Mapping[str, NDArray[Any]]
_FORMED = "GFM_StellarFormationTime"
#: An angular momentum below this share of sum(r v) is rounding, not rotation.
_ROUNDING = 1e-10
#: Particles whose temporaries stay in a core's cache.
_PIECE = 1 << 16
#: Spans of time in which the youngest stars are counted.
_TIMES = 4096
_BOX_FRAME = np.eye(3)


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


class _Rung(NamedTuple):
    """Particles that may tell the spin: the name of the rung in tables, and what they are."""

    source: str
    particles: str
    fields: Fields


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
        for rows, coordinates in _placed(segment, formed_after):
            near = kernels.cull_box(
                np.ascontiguousarray(coordinates),
                centre,
                radius,
                depth=radius,
                box_size=header.period,
                threads=threads,
            )
            if len(near):
                found = segment.take(others, near if rows is None else rows[near])
                found["Coordinates"] = coordinates.take(near, axis=0)
                for name in fields:
                    parts[name].append(found[name])
    return {name: np.concatenate(arrays[1:] or arrays) for name, arrays in parts.items()}


def _placed(
    segment: Particles, formed_after: float | None
) -> Iterator[tuple[NDArray[np.int64] | None, NDArray[Any]]]:
    """Yield rows, None for all, and their coordinates."""
    if formed_after is None:
        yield None, segment.read(["Coordinates"])["Coordinates"]
        return
    chosen = np.flatnonzero(segment.read([_FORMED])[_FORMED] > formed_after)
    for piece in _pieces(len(chosen)):
        yield chosen[piece], segment.take(["Coordinates"], chosen[piece])["Coordinates"]


def _pieces(count: int) -> Iterator[slice]:
    return (slice(start, start + _PIECE) for start in range(0, count, _PIECE))


def orient(
    galaxy: Galaxy,
    stars: Callable[[float], Fields],
    gas: Callable[[], Fields],
    header: Header,
    recipe: OrientationRecipe,
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

    Returns
    -------
    Orientation
        The rotation; the identity with source ``none`` where no rung holds.
    """
    radius = recipe.radius_half_mass * galaxy.half_mass_radius
    if radius > 0:
        for source, particles, fields in _rungs(galaxy.centre, radius, stars, gas, header, recipe):
            spin = _spin(galaxy.centre, radius, fields, header, by_mass=recipe.mass_weighted)
            length = float(np.linalg.norm(spin.momentum))
            is_rotation = length > _ROUNDING * spin.of_speeds and spin.normal.any()
            if spin.n_used >= recipe.minimum_particles and is_rotation:
                rotation = kernels.face_on_rotation(spin.normal)
                alignment = length / spin.of_lengths
                return Orientation(rotation, source, spin.n_used, alignment, particles)
    return Orientation(np.eye(3), "none", 0, float("nan"))


def _spin(
    centre: NDArray[np.float64], radius: float, fields: Fields, header: Header, *, by_mass: bool
) -> kernels.Spin:
    return kernels.spin(
        *(np.ascontiguousarray(fields[name]) for name in ("Coordinates", "Velocities", "Masses")),
        center=centre,
        radius=radius,
        box_size=header.period,
        velocity_factor=float(np.sqrt(header.scale_factor)),
        by_mass=by_mass,
    )


def _rungs(
    centre: NDArray[np.float64],
    radius: float,
    stars: Callable[[float], Fields],
    gas: Callable[[], Fields],
    header: Header,
    recipe: OrientationRecipe,
) -> Iterator[_Rung]:
    """Yield the rungs of the ladder from the top; a rung is made when it is asked for."""
    if recipe.rule == "youngest_fraction":
        formed = stars(0.0)
        rows = _inside(centre, radius, header, formed)
        born, masses = (formed[name].take(rows) for name in (_FORMED, "Masses"))
        young = rows[_youngest(born, masses, recipe.youngest_fraction)]
        share = f"{100 * recipe.youngest_fraction:g}%"
        words = f"stars, the youngest {share} of the mass"
        yield _Rung(f"youngest{share}", words, _take(formed, young))
    elif header.is_cosmological:
        for limit in recipe.age_limits_gyr:
            young_stars = stars(_formed_before(limit, header))
            yield _Rung(f"stars<{limit:g}Gyr", f"stars younger than {limit:g} Gyr", young_stars)
    cells = gas()
    rates = cells.get("StarFormationRate", np.zeros(len(cells["Masses"])))
    forming = _take(cells, np.flatnonzero(rates > 0))
    yield _Rung("sf_gas", "star-forming gas cells", forming)
    yield _Rung("stars", "stars", stars(0.0))
    yield _Rung("gas", "gas cells", cells)


def _take(fields: Fields, rows: NDArray[np.intp]) -> Fields:
    return {name: values.take(rows, axis=0) for name, values in fields.items()}


def _youngest(
    born: NDArray[np.floating], masses: NDArray[np.floating], fraction: float
) -> NDArray[np.intp]:
    """Rows of the youngest stars that make up a fraction of the mass, ascending.

    Of stars born at the same time the first count. Only those of the short time in which the
    fraction is reached are sorted.
    """
    if not len(born):
        return np.empty(0, np.intp)
    limit = fraction * float(masses.sum(dtype=np.float64))
    last, span = float(born.max()), float(np.ptp(born))
    times = ((last - born.astype(np.float64)) * (_TIMES / span if span else 0.0)).astype(np.intp)
    reached = np.cumsum(np.bincount(times, masses))
    edge = min(int(np.searchsorted(reached, limit)), len(reached) - 1)
    unsure = np.flatnonzero(times == edge)
    unsure = unsure[np.argsort(-born[unsure], kind="stable")]
    before = reached[edge - 1] if edge else 0.0
    count = np.searchsorted(before + np.cumsum(masses[unsure], dtype=np.float64), limit) + 1
    return np.sort(np.concatenate([np.flatnonzero(times < edge), unsure[:count]]))


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


def _inside(
    centre: NDArray[np.float64], radius: float, header: Header, fields: Fields
) -> NDArray[np.intp]:
    """Rows of the finite particles in a sphere, ascending."""
    found = [np.empty(0, np.intp)]
    for piece in _pieces(len(fields["Masses"])):
        coordinates = np.ascontiguousarray(fields["Coordinates"][piece])
        offsets = kernels.rotate(
            coordinates, _BOX_FRAME, center=centre, box_size=header.period, threads=1
        )
        masses = fields["Masses"][piece]
        with np.errstate(invalid="ignore"):
            chosen = np.einsum("ij,ij->i", offsets, offsets) < radius**2
        for component in (*fields["Velocities"][piece].T, masses):
            chosen &= np.isfinite(component)
        found.append(piece.start + np.flatnonzero(chosen & (masses > 0)))
    return np.concatenate(found)


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
    spin = _spin(centre, radius, fields, header, by_mass=True)
    if not spin.n_used:
        raise EmptySelectionError(
            f"no gas within {radius:g} ckpc/h of the centre, whose mean velocity speeds are "
            "relative to; choose another centre or a wider frame"
        )
    return spin.mean_velocity, spin.n_used
