"""Which objects a mock simulation holds: the galaxies of the sample, and what cuts must reject.

Lengths are physical kpc/h, masses 1e10 Msun/h, velocities km/s, times Gyr.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sfr import units
from sfr.simulation.mock.epochs import HUBBLE_PARAM, Epoch, epoch

__all__ = ["BOX_SIZE", "BROKEN", "Galaxy", "Halo", "make_population", "stream"]

#: Side of the box [ckpc/h], that of TNG50.
BOX_SIZE: Final = 35000.0
#: Ways in which a galaxy cannot be rendered, for --broken; without stars its gas is far away, too,
#: because gas alone would do.
BROKEN: Final = ("no-gas", "nan-coordinates", "no-stars", "nan-centre")

#: G [(km/s)^2 (kpc/h) / (1e10 Msun/h)].
_GRAVITY: Final = 43007.1
#: Way of 1 km/s in 1 Gyr [kpc/h].
_WAY: Final = units.GYR_IN_S * 1e5 / units.UNIT_LENGTH_CM * HUBBLE_PARAM
_TODAY: Final = epoch(99).age_gyr
#: Speed of satellites about the centre of their group [km/s].
_ORBIT_SPEED: Final = 140.0
#: One galaxy in so many is a satellite, or forms no stars.
_SATELLITE_SHARE: Final = 5
_QUIESCENT_SHARE: Final = 12
#: Scale factor since which galaxies have their full size.
_FULL_SIZE: Final = 0.4


def stream(seed: int, *path: int) -> np.random.Generator:
    """Random numbers that depend on the seed and the path only."""
    return np.random.default_rng([seed, *path])


@dataclass(frozen=True)
class Galaxy:
    """One subhalo, the same at all times."""

    number: int
    role: str
    #: Stars formed more than 2 to 3 Gyr ago, cold gas and hot gas today, dark matter.
    old_stars: float
    cold_gas: float
    hot_gas: float
    dark_matter: float
    gas_scale: float
    star_scale: float
    bulge_fraction: float
    clump_fraction: float
    n_clumps: int
    n_arms: int
    pitch_deg: float
    arm_fraction: float
    arm_width: float
    pattern_speed: float
    axis: NDArray[np.float64]
    star_axis: NDArray[np.float64]
    #: Amplitude [dex], period [Gyr] and phase of the terms of the gas mass over time.
    variation: NDArray[np.float64]
    #: Orbit of a satellite about the centre of its group: radius, phase, two axes.
    orbit_radius: float = 0.0
    orbit_phase: float = 0.0
    orbit_axes: NDArray[np.float64] = field(default_factory=lambda: np.eye(3)[:2])
    #: Size relative to today's.
    compactness: float = 1.0
    is_flagged: bool = True
    in_tree: bool = True
    #: Presence: "always", "odd" snapshots only, "not-last", "not-middle".
    presence: str = "always"

    @property
    def total_mass(self) -> float:
        """Mass of everything."""
        return self.old_stars + self.cold_gas + self.hot_gas + self.dark_matter

    @property
    def radius_200(self) -> float:
        """Virial radius of its halo."""
        today = 163.0 * np.cbrt(max(self.total_mass, 1e-3) / 100.0)
        return float(self.compactness * today)

    @property
    def rotation_speed(self) -> float:
        """Flat part of the rotation curve."""
        return 1.25 * float(np.sqrt(_GRAVITY * self.total_mass / self.radius_200))

    @property
    def is_quiescent(self) -> bool:
        """Has gas, but none dense enough to form stars."""
        return self.role == "quiescent"

    def at(self, scale_factor: float) -> Galaxy:
        """Give the galaxy the size that it has at a time: the early ones are compact."""
        size = min(1.0, scale_factor / _FULL_SIZE)
        return replace(
            self,
            gas_scale=size * self.gas_scale,
            star_scale=size * self.star_scale,
            orbit_radius=size * self.orbit_radius,
            compactness=size,
        )

    def gas_factor(self, age_gyr: float) -> float:
        """Cold gas mass at a time, relative to the long-term mean."""
        amplitude, period, phase = self.variation
        waves = amplitude * np.sin(2.0 * np.pi * age_gyr / period + phase)
        return float(10.0 ** np.sum(waves))

    def offset(self, age_gyr: float) -> NDArray[np.float64]:
        """Position relative to the centre of the group."""
        if not self.orbit_radius:
            return np.zeros(3)
        angle = self._orbit_angle(age_gyr)
        first, second = self.orbit_axes
        return np.asarray(self.orbit_radius * (np.cos(angle) * first + np.sin(angle) * second))

    def relative_velocity(self, age_gyr: float) -> NDArray[np.float64]:
        """Velocity relative to the centre of the group."""
        if not self.orbit_radius:
            return np.zeros(3)
        angle = self._orbit_angle(age_gyr)
        first, second = self.orbit_axes
        return np.asarray(_ORBIT_SPEED * (np.cos(angle) * second - np.sin(angle) * first))

    def _orbit_angle(self, age_gyr: float) -> float:
        turn = _ORBIT_SPEED * _WAY / self.orbit_radius
        return self.orbit_phase + turn * (age_gyr - _TODAY)


@dataclass(frozen=True)
class Halo:
    """One FoF group: its galaxies, the central one first, and its way through the box."""

    number: int
    galaxies: tuple[Galaxy, ...]
    #: Centre today [ckpc/h] and peculiar velocity [km/s].
    centre_today: NDArray[np.float64]
    velocity: NDArray[np.float64]
    #: Dark matter and gas of a group in which no subhalo is bound.
    loose_mass: float = 0.0

    @property
    def gas_mass(self) -> float:
        """Gas of all members today."""
        return sum(g.cold_gas + g.hot_gas for g in self.galaxies) + 0.1 * self.loose_mass

    def centre(self, when: Epoch) -> NDArray[np.float64]:
        """Centre at a time [ckpc/h], inside the box."""
        drift = self.velocity * _WAY * (when.age_gyr - _TODAY)
        return np.asarray((self.centre_today + drift) % BOX_SIZE)


def make_population(*, galaxies: int, seed: int, broken: bool) -> list[Halo]:
    """Draw the objects of a simulation.

    Parameters
    ----------
    galaxies : int
        Number of galaxies that pass the cuts of the thesis and can be rendered.
    seed : int
        Seed of all random numbers.
    broken : bool
        Add galaxies that pass the cuts and cannot be rendered.

    Returns
    -------
    list of Halo
    """
    builder = _Builder(seed)
    sample = builder.sample(galaxies)
    groups = [*sample, *builder.rejected()]
    if broken:
        groups += [[builder.broken(how)] for how in BROKEN]
    n_loose = 2
    centres = _centres(len(groups) + n_loose, stream(seed, 1))
    velocities = stream(seed, 2).normal(0.0, 80.0, (len(groups) + n_loose, 3))
    velocities[:2] = 0.0  # these stay on the edge of the box
    halos = [
        Halo(number, tuple(members), centres[number], velocities[number])
        for number, members in enumerate(groups)
    ]
    for extra in range(n_loose):
        number = len(groups) + extra
        halos.append(Halo(number, (), centres[number], velocities[number], 1.5 + extra))
    return halos


class _Builder:
    """Draws galaxies one after the other; each has its own stream of random numbers."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._next = 0

    def sample(self, galaxies: int) -> list[list[Galaxy]]:
        """Draw groups with the galaxies that pass the cuts."""
        n_satellites = galaxies // _SATELLITE_SHARE
        n_centrals = galaxies - n_satellites
        n_quiescent = galaxies // _QUIESCENT_SHARE
        # one permutation spreads the gas fractions evenly, also over few galaxies
        rank = (stream(self._seed, 3).permutation(galaxies) + 0.5) / galaxies
        gas_fractions = 10.0 ** (-1.35 + 1.5 * rank)
        groups: list[list[Galaxy]] = []
        for index in range(n_centrals):
            quiet = index >= n_centrals - n_quiescent
            groups.append([self._central(float(gas_fractions[index]), quiescent=quiet)])
        hosts = stream(self._seed, 4).permutation(n_centrals)[:n_satellites]
        for index, host in enumerate(np.resize(hosts, n_satellites)):
            fraction = float(gas_fractions[n_centrals + index])
            groups[host].append(self._satellite(0.8 * fraction))
        return groups

    def rejected(self) -> list[list[Galaxy]]:
        """Draw groups of which the cuts must take nothing."""
        cluster = [self._plain("cluster", 180.0, 1.0, 12.0, 520.0)]
        cluster += [self._satellite(0.3, role="member") for _ in range(3)]
        cluster += [
            self._small("starless", 0.0, 0.0, 2.0),
            self._small("skipper", 0.2, 0.02, 3.0, presence="not-middle"),
            self._small("shifter", 0.05, 0.0, 2.5, presence="odd"),
        ]
        heavy = [self._plain("heavy", 30.0, 2.0, 8.0, 240.0)]
        heavy += [
            self._small("gasless", 0.1, 0.0, 3.0),
            self._small("merger", 0.15, 0.05, 4.0, presence="not-last"),
        ]
        massive = [self._plain("massive", 130.0, 1.5, 6.0, 45.0)]
        clump = self._small("clump", 0.8, 0.3, 0.0)
        massive.append(replace(clump, is_flagged=False, in_tree=False))
        dwarfs = [[self._plain("dwarf", 0.15, 0.08, 0.05, 8.0)] for _ in range(2)]
        return [cluster, heavy, massive, *dwarfs]

    def broken(self, how: str) -> Galaxy:
        """Draw a galaxy that passes the cuts and cannot be rendered."""
        galaxy = self._central(0.4, quiescent=False)
        if how == "no-gas":
            return replace(galaxy, role=how, cold_gas=0.0, hot_gas=0.0, clump_fraction=0.0)
        return replace(galaxy, role=how)

    def _random(self) -> tuple[int, np.random.Generator]:
        number = self._next
        self._next += 1
        return number, stream(self._seed, 5, number)

    def _central(self, gas_fraction: float, *, quiescent: bool) -> Galaxy:
        number, rng = self._random()
        stars = float(10.0 ** rng.uniform(-0.15, 1.35))
        total = min(30.0 * stars**0.5 * 10.0 ** rng.normal(0.0, 0.1), 170.0)
        total = max(total, 3.0 * stars)
        cold = 0.02 * stars if quiescent else gas_fraction * stars / (1.0 + 0.12 * stars)
        hot = 0.03 * total
        role = "quiescent" if quiescent else "galaxy"
        dark = total - stars - cold - hot
        return self._shape(number, rng, role, stars, cold, hot, dark)

    def _satellite(self, gas_fraction: float, role: str = "galaxy") -> Galaxy:
        number, rng = self._random()
        stars = float(10.0 ** rng.uniform(-0.1, 0.6))
        shape = self._shape(
            number, rng, role, stars, gas_fraction * stars, 0.05 * stars, 5.0 * stars
        )
        return _bound(shape, rng, 70.0, 130.0)

    def _plain(self, role: str, stars: float, cold: float, hot: float, dark: float) -> Galaxy:
        number, rng = self._random()
        return self._shape(number, rng, role, stars, cold, hot, dark)

    def _small(
        self, role: str, stars: float, cold: float, dark: float, presence: str = "always"
    ) -> Galaxy:
        number, rng = self._random()
        shape = self._shape(number, rng, role, stars, cold, 0.0, dark)
        return replace(
            _bound(shape, rng, 90.0, 150.0), presence=presence, in_tree=presence != "odd"
        )

    def _shape(
        self,
        number: int,
        rng: np.random.Generator,
        role: str,
        stars: float,
        cold: float,
        hot: float,
        dark: float,
    ) -> Galaxy:
        axis = _direction(rng)
        gas_scale = 4.8 * (max(stars, 0.05) / 3.0) ** 0.22 * 10.0 ** rng.normal(0.0, 0.08)
        if role == "quiescent":
            gas_scale *= 1.6
        tilt = np.deg2rad(rng.uniform(1.0, 3.0))
        star_axis = np.cos(tilt) * axis + np.sin(tilt) * _perpendicular(axis, rng)
        variation = np.array(
            [
                np.array([0.10, 0.05, 0.03]) * rng.uniform(0.6, 1.4, 3),
                [rng.uniform(3.0, 7.0), rng.uniform(1.0, 2.0), rng.uniform(0.4, 0.7)],
                rng.uniform(0.0, 2.0 * np.pi, 3),
            ]
        )
        return Galaxy(
            number=number,
            role=role,
            old_stars=stars,
            cold_gas=cold,
            hot_gas=hot,
            dark_matter=dark,
            gas_scale=gas_scale,
            star_scale=0.65 * gas_scale,
            bulge_fraction=float(rng.uniform(0.1, 0.35)),
            clump_fraction=0.0 if role == "quiescent" else float(rng.uniform(0.05, 0.12)),
            n_clumps=int(rng.integers(12, 30)),
            n_arms=int(rng.choice([2, 2, 3, 4])),
            pitch_deg=float(rng.uniform(14.0, 26.0)),
            arm_fraction=float(rng.uniform(0.4, 0.65)),
            arm_width=float(rng.uniform(0.4, 0.7)),
            pattern_speed=float(rng.uniform(2.0, 6.0)),
            axis=axis,
            star_axis=star_axis / np.linalg.norm(star_axis),
            variation=variation,
        )


def _bound(galaxy: Galaxy, rng: np.random.Generator, nearest: float, farthest: float) -> Galaxy:
    first = _direction(rng)
    return replace(
        galaxy,
        orbit_radius=float(rng.uniform(nearest, farthest)),
        orbit_phase=float(rng.uniform(0.0, 2.0 * np.pi)),
        orbit_axes=np.array([first, _perpendicular(first, rng)]),
    )


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    vector = rng.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))


def _perpendicular(axis: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    vector = np.cross(axis, _direction(rng))
    return np.asarray(vector / np.linalg.norm(vector))


def _centres(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Well separated places in the box [ckpc/h]; the first two lie on its faces."""
    side = int(np.ceil((count + 1) ** (1.0 / 3.0))) + 1
    cells = np.argwhere(np.ones((side, side, side), bool))
    interior = cells[np.all(cells > 0, axis=1)]
    chosen = rng.permutation(interior)[: count - 1]
    spacing = BOX_SIZE / side
    places = (chosen + 0.5 + rng.uniform(-0.15, 0.15, chosen.shape)) * spacing
    places[:1, 2] = BOX_SIZE - 2.0
    edge = np.array([[3.0, BOX_SIZE - 4.0, 0.5 * spacing]])
    return np.concatenate([edge, places])
