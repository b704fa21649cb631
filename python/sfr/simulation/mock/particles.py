"""Particles of one mock galaxy at one time.

A rotating exponential gas disk with spiral arms and clumps, a hot halo, stars old and young, wind,
dark matter and a black hole. Positions and velocities are relative to the galaxy: physical kpc/h
and km/s until `_finish` turns them into code units. Star formation follows from the gas:
Springel & Hernquist (2003, MNRAS 339, 289), cold gas above n_H = 0.1 cm^-3 turns into stars within
t_star = 2.1 Gyr (n_H / 0.1 cm^-3)^-1/2, of which a tenth explodes at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr import units
from sfr.simulation.mock.epochs import HUBBLE_PARAM, Epoch, formation
from sfr.simulation.mock.population import Galaxy, stream

__all__ = ["Parts", "Resolution", "galaxy_particles", "loose_particles", "particle_ids"]

#: Columns of one particle type, all of one length.
Columns = dict[str, NDArray[Any]]
#: Particle type -> columns. ``offset`` is relative to the galaxy [ckpc/h], ``is_bound`` tells what
#: belongs to the subhalo; everything else is a field of the snapshot.
Parts = dict[int, Columns]
Array = NDArray[np.float64]

_THRESHOLD_CM3: Final = 0.1
_TIME_AT_THRESHOLD_GYR: Final = 2.1
_STAR_YIELD: Final = 0.9
#: Recent stars are those born since this age of the universe [Gyr].
_RECENT_GYR: Final = 11.0
_LAST_GYR: Final = 13.81
_YOUNG_GYR: Final = 0.3
#: n_H [cm^-3] of 1e10 Msun/h in a (physical kpc/h)^3.
_HYDROGEN_CM3: Final = float(
    units.density_cgs(1.0, 1.0, HUBBLE_PARAM) * units.HYDROGEN_FRACTION / units.PROTON_MASS_G
)
#: How far the gas of a broken galaxy is moved in x, y and z [ckpc/h].
_OUT_OF_FRAME: Final = 80.0
#: Scatter of the density about the model [dex].
_DISK_SPREAD: Final = 0.12
_STREAMS: Final = {"gas": 11, "old": 12, "recent": 13, "dark": 14, "reference": 15}


@dataclass(frozen=True)
class Resolution:
    """Mass of one particle [1e10 Msun/h]."""

    gas: float
    star: float
    dark_matter: float


@dataclass
class _Gas:
    """Cells of one galaxy before they become columns."""

    position: Array
    velocity: Array
    density: Array  # 1e10 Msun/h per (physical kpc/h)^3
    temperature: Array
    electrons: Array
    forming: NDArray[np.bool_]


def particle_ids(number: int, part_type: int, indices: NDArray[np.integer[Any]]) -> NDArray[Any]:
    """Ids that no other particle has: galaxy, type and index."""
    base = np.uint64((number + 1) << 36 | part_type << 32)
    return base + indices.astype(np.uint64)


def galaxy_particles(galaxy: Galaxy, when: Epoch, size: Resolution, seed: int) -> Parts:
    """Sample all particles of one galaxy.

    Parameters
    ----------
    galaxy : Galaxy
        What it consists of.
    when : Epoch
        Time of the snapshot.
    size : Resolution
        Mass of one particle.
    seed : int
        Seed of the simulation.

    Returns
    -------
    dict of int to dict of str to ndarray
        Columns by particle type; types without particles are left out.
    """
    parts: Parts = {}
    gas, wind = _gas_columns(galaxy, when, size, seed)
    if gas["offset"].size:
        parts[0] = gas
    dark = _dark_matter(galaxy, when, size, seed)
    if dark["offset"].size:
        parts[1] = dark
    stars = _join([_stars(galaxy, when, size, seed), wind])
    if stars["offset"].size:
        parts[4] = stars
    if galaxy.role in _WITH_BLACK_HOLE:
        parts[5] = _black_hole(galaxy, when)
    if galaxy.role == "no-stars":
        # a shell would still lie along the line of sight
        gas["offset"] = 0.1 * gas["offset"] + _OUT_OF_FRAME
    return {kind: _sorted_by_radius(columns) for kind, columns in parts.items()}


def loose_particles(
    number: int, mass: float, when: Epoch, size: Resolution, seed: int, *, spread: float
) -> Parts:
    """Gas and dark matter that belong to no subhalo, in a ball of radius `spread` [kpc/h]."""
    rng = stream(seed, 21, number, when.snap)
    n_gas = max(4, round(0.1 * mass / size.gas))
    n_dark = max(4, round(mass / size.dark_matter))
    temperature = 10.0 ** rng.normal(4.6, 0.2, n_gas)
    gas = _Gas(
        position=spread * _ball(rng, n_gas),
        velocity=rng.normal(0.0, 40.0, (n_gas, 3)),
        density=np.full(n_gas, 0.1 * mass / spread**3) * 10.0 ** rng.normal(0.0, 0.3, n_gas),
        temperature=temperature,
        electrons=_electrons(rng, temperature, np.zeros(n_gas, bool), np.zeros(n_gas)),
        forming=np.zeros(n_gas, bool),
    )
    masses = size.gas * _scatter(rng, n_gas)
    columns = _gas_fields(gas, masses, rng, when)
    columns["ParticleIDs"] = particle_ids(number, 0, np.arange(n_gas))
    columns["is_bound"] = np.zeros(n_gas, bool)
    dark = _finish(spread * _ball(rng, n_dark), rng.normal(0.0, 40.0, (n_dark, 3)), when)
    dark["ParticleIDs"] = particle_ids(number, 1, np.arange(n_dark))
    dark["is_bound"] = np.zeros(n_dark, bool)
    return {0: columns, 1: dark}


_WITH_BLACK_HOLE: Final = {
    "galaxy", "quiescent", "cluster", "heavy", "massive", "member",
    "no-gas", "nan-coordinates", "no-stars", "nan-centre",
}  # fmt: skip


# --- gas -------------------------------------------------------------------------------------


def _gas_columns(
    galaxy: Galaxy, when: Epoch, size: Resolution, seed: int
) -> tuple[Columns, Columns]:
    """Gas cells, and wind particles launched from the star-forming ones."""
    rng = stream(seed, _STREAMS["gas"], galaxy.number, when.snap)
    cold_mass = galaxy.cold_gas * galaxy.gas_factor(when.age_gyr)
    n_cold = max(8, round(cold_mass / size.gas)) if cold_mass else 0
    n_hot = max(4, round(galaxy.hot_gas / size.gas)) if galaxy.hot_gas else 0
    disk = _disk(galaxy, cold_mass, n_cold, when.age_gyr, rng)
    halo = _hot_halo(galaxy, n_hot, rng)
    gas = _Gas(
        *(
            np.concatenate(pair)
            for pair in zip(vars(disk).values(), vars(halo).values(), strict=True)
        )
    )
    masses = np.concatenate(
        [
            _scatter(rng, n_cold) * (cold_mass / max(n_cold, 1)),
            _scatter(rng, n_hot) * (galaxy.hot_gas / max(n_hot, 1)),
        ]
    )
    columns = _gas_fields(gas, masses, rng, when)
    columns["ParticleIDs"] = particle_ids(galaxy.number, 0, np.arange(masses.size))
    radius = np.linalg.norm(gas.position, axis=1)
    columns["is_bound"] = radius < 0.7 * galaxy.radius_200
    n_wind = round(0.02 * float(np.count_nonzero(gas.forming)))
    if galaxy.role == "galaxy" and gas.forming.any():
        n_wind = max(1, n_wind)
    return columns, _wind(galaxy, n_wind, when, size, rng)


def _disk(
    galaxy: Galaxy, mass: float, count: int, age_gyr: float, rng: np.random.Generator
) -> _Gas:
    """Cold gas: an exponential disk with arms, and clumps on the arms."""
    n_clumped = round(galaxy.clump_fraction * count) if count >= 32 else 0
    smooth_mass = mass * (1.0 - n_clumped / max(count, 1))
    radius, phase, height = _draw_disk(galaxy, count - n_clumped, rng)
    planar = _planar(galaxy, radius, phase, height, age_gyr)
    density = smooth_mass * _disk_density(galaxy, radius, phase, height)
    if n_clumped:
        lumps, lump_density = _clumps(galaxy, mass - smooth_mass, n_clumped, age_gyr, rng)
        planar = np.concatenate([planar, lumps])
        density = np.concatenate([density, lump_density])
    density = density * 10.0 ** rng.normal(0.0, _DISK_SPREAD, count)
    hydrogen = density * _HYDROGEN_CM3
    if galaxy.is_quiescent:
        hydrogen = np.minimum(hydrogen, 0.5 * _THRESHOLD_CM3)
    elif galaxy.role == "galaxy" and count and hydrogen.max() <= _THRESHOLD_CM3:
        # with few cells none may fall where the gas is dense, yet the galaxy forms stars
        hydrogen[np.argmax(hydrogen)] = 1.5 * _THRESHOLD_CM3
    density = hydrogen / _HYDROGEN_CM3
    forming = hydrogen > _THRESHOLD_CM3
    temperature = _disk_temperature(rng, hydrogen, forming)
    return _Gas(
        position=planar @ _frame(galaxy.axis),
        velocity=_rotation(galaxy, planar, 9.0, rng) @ _frame(galaxy.axis),
        density=density,
        temperature=temperature,
        electrons=_electrons(rng, temperature, forming, hydrogen),
        forming=forming,
    )


def _draw_disk(galaxy: Galaxy, count: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Radius, angle from the crest of an arm, and height."""
    radius = rng.gamma(2.0, 1.0, count)
    radius = galaxy.gas_scale * np.where(radius > 6.0, 6.0 * np.sqrt(rng.random(count)), radius)
    in_arm = rng.random(count) < _arm_fraction(galaxy)
    phase = np.where(
        in_arm,
        rng.vonmises(0.0, _arm_sharpness(galaxy), count),
        rng.uniform(-np.pi, np.pi, count),
    )
    height = _thickness(galaxy, radius) * np.arctanh(2.0 * _open_unit(rng, count) - 1.0)
    return radius, phase, height


def _disk_density(galaxy: Galaxy, radius: Array, phase: Array, height: Array) -> Array:
    """Density of a disk of mass 1 [1/(kpc/h)^3]."""
    scale, thickness = galaxy.gas_scale, _thickness(galaxy, radius)
    surface = np.exp(-radius / scale) / (2.0 * np.pi * scale**2)
    sharpness = _arm_sharpness(galaxy)
    crest = np.exp(sharpness * np.cos(phase)) / np.i0(sharpness)
    arms = (1.0 - _arm_fraction(galaxy)) + _arm_fraction(galaxy) * crest
    return np.asarray(surface * arms / (2.0 * thickness * np.cosh(height / thickness) ** 2))


def _clumps(
    galaxy: Galaxy, mass: float, count: int, age_gyr: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Gaussian clumps near the crests; each lives for less than the time between snapshots."""
    weights = rng.dirichlet(np.full(galaxy.n_clumps, 1.5))
    sizes = rng.uniform(0.09, 0.16, galaxy.n_clumps) * galaxy.gas_scale
    owner = np.sort(rng.choice(galaxy.n_clumps, count, p=weights))
    where = galaxy.gas_scale * rng.uniform(0.4, 3.2, galaxy.n_clumps)
    phase = rng.vonmises(0.0, 2.0 * _arm_sharpness(galaxy), galaxy.n_clumps)
    centre = _planar(galaxy, where, phase, np.zeros(galaxy.n_clumps), age_gyr)
    steps = rng.normal(size=(count, 3))
    positions = centre[owner] + steps * sizes[owner, None]
    central = mass * weights / (2.0 * np.pi * sizes**2) ** 1.5
    return positions, central[owner] * np.exp(-0.5 * np.sum(steps**2, axis=1))


def _planar(galaxy: Galaxy, radius: Array, phase: Array, height: Array, age_gyr: float) -> Array:
    """Cartesian coordinates in the frame of the disk; the arms are logarithmic spirals."""
    winding = np.log(radius / galaxy.gas_scale + 0.5) / np.tan(np.deg2rad(galaxy.pitch_deg))
    # every angle occurs once per arm: the particle's own index decides which arm
    arm = 2.0 * np.pi * (np.arange(radius.size) % galaxy.n_arms)
    angle = (phase + arm) / galaxy.n_arms - winding + galaxy.pattern_speed * age_gyr
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle), height])


def _rotation(
    galaxy: Galaxy, planar: Array, dispersion: Array | float, rng: np.random.Generator
) -> Array:
    """Velocities of circular orbits in the disk's frame, plus a random part."""
    x, y = planar[:, 0], planar[:, 1]
    softened = np.sqrt(x**2 + y**2 + (0.3 * galaxy.gas_scale) ** 2)
    speed = galaxy.rotation_speed / softened
    circular = np.column_stack([-y * speed, x * speed, np.zeros(x.size)])
    random = rng.normal(size=planar.shape) * np.reshape(dispersion, (-1, 1))
    return np.asarray(circular + random)


def _hot_halo(galaxy: Galaxy, count: int, rng: np.random.Generator) -> _Gas:
    """Gas near the virial temperature, with some cooler clouds in pressure balance."""
    core = 0.08
    x = np.linspace(0.0, 1.0, 400)
    enclosed = x - core * np.arctan(x / core)
    fraction = _open_unit(rng, count)
    radius = np.interp(fraction * enclosed[-1], enclosed, x) * galaxy.radius_200
    shape = 1.0 / (1.0 + (radius / (core * galaxy.radius_200)) ** 2)
    central = galaxy.hot_gas / (4.0 * np.pi * galaxy.radius_200**3 * core**2 * enclosed[-1])
    virial = 10.0**5.75 * (galaxy.total_mass / 60.0) ** (2.0 / 3.0)
    temperature = virial * (1.2 - 0.7 * radius / galaxy.radius_200)
    temperature = temperature * 10.0 ** rng.normal(0.0, 0.15, count)
    cloud = rng.random(count) < 0.12
    cooler = 10.0 ** rng.normal(4.4, 0.15, count)
    compression = np.where(cloud, np.clip(temperature / cooler, 1.0, 40.0), 1.0)
    temperature = np.clip(np.where(cloud, cooler, temperature), 1e4, 10.0**7.5)
    ceiling = 0.4 * _THRESHOLD_CM3 / _HYDROGEN_CM3
    density = np.minimum(central * shape * compression, ceiling)
    position = radius[:, None] * _sphere(rng, count)
    spin = 0.25 * galaxy.rotation_speed * np.cross(galaxy.axis, _sphere(rng, count))
    random = rng.normal(0.0, 0.45 * galaxy.rotation_speed, (count, 3))
    none = np.zeros(count, bool)
    return _Gas(
        position=position,
        velocity=spin + random,
        density=density * 10.0 ** rng.normal(0.0, 0.1, count),
        temperature=temperature,
        electrons=_electrons(rng, temperature, none, density),
        forming=none,
    )


def _disk_temperature(
    rng: np.random.Generator, hydrogen: Array, forming: NDArray[np.bool_]
) -> Array:
    """1e4 K, and the effective equation of state where stars form."""
    warm = 10.0 ** rng.normal(4.05, 0.05, hydrogen.size)
    stiff = 1e4 * np.clip(hydrogen / _THRESHOLD_CM3, 1.0, None) ** 0.45
    stiff = np.minimum(stiff, 10.0**5.3) * 10.0 ** rng.normal(0.0, 0.03, hydrogen.size)
    return np.where(forming, stiff, warm)


def _electrons(
    rng: np.random.Generator, temperature: Array, forming: NDArray[np.bool_], hydrogen: Array
) -> Array:
    """Electrons per hydrogen nucleus; too many where stars form, as in the simulations."""
    hot = 1.158 + 0.004 * rng.random(temperature.size)
    # ionisation sets in between 1e4 and 2e4 K
    neutral = 10.0 ** rng.uniform(-3.5, -1.0, temperature.size)
    share = np.clip((np.log10(temperature) - 4.15) / 0.2, 0.0, 1.0)
    quiet = neutral ** (1.0 - share) * hot**share
    dense = np.clip(0.45 * np.clip(hydrogen / _THRESHOLD_CM3, 1.0, None) ** -0.15, 0.05, 1.1)
    electrons = np.where(forming, dense, quiet)
    cold = np.flatnonzero(~forming & (share == 0.0))
    electrons[cold[::200]] = 0.0  # original files hold such cells
    return electrons


def _star_formation_rate(masses: Array, density: Array, forming: NDArray[np.bool_]) -> Array:
    """Msun/yr of cells of mass [1e10 Msun/h] and physical density."""
    hydrogen = np.maximum(density * _HYDROGEN_CM3, 1e-30)
    time_yr = 1e9 * _TIME_AT_THRESHOLD_GYR * np.sqrt(_THRESHOLD_CM3 / hydrogen)
    rate = _STAR_YIELD * units.mass_msun(masses, HUBBLE_PARAM) / time_yr
    return np.where(forming, rate, 0.0)


def _gas_fields(gas: _Gas, masses: Array, rng: np.random.Generator, when: Epoch) -> Columns:
    columns = _finish(gas.position, gas.velocity, when)
    per_energy = units.temperature_k(1.0, gas.electrons)
    hydrogen = gas.density * _HYDROGEN_CM3
    neutral = np.clip(1.0 - gas.electrons / 1.158, 0.0, 1.0) * (gas.temperature < 3e4)
    field_strength = 6.0 * np.clip(hydrogen, 1e-6, 30.0) ** 0.6 * when.scale_factor**2
    columns |= {
        "Masses": masses,
        "Density": gas.density * when.scale_factor**3,
        "InternalEnergy": gas.temperature / per_energy,
        "ElectronAbundance": gas.electrons,
        "StarFormationRate": _star_formation_rate(masses, gas.density, gas.forming),
        "GFM_Metallicity": 0.02
        * 10.0 ** (-0.02 * np.linalg.norm(gas.position, axis=1).clip(0, 60)),
        "NeutralHydrogenAbundance": neutral,
        "MagneticField": field_strength[:, None] * _sphere(rng, masses.size),
        "InternalEnergyOld": gas.temperature / per_energy,
    }
    return columns


# --- stars, wind, dark matter, black hole ------------------------------------------------------


def _stars(galaxy: Galaxy, when: Epoch, size: Resolution, seed: int) -> Columns:
    """Old stars in a bulge and a thick disk, recent ones in a thin disk that traces the arms."""
    parts = [_old_stars(galaxy, when, size, seed)]
    if galaxy.cold_gas and not galaxy.is_quiescent:
        parts.append(_recent_stars(galaxy, when, size, seed))
    if galaxy.number == 0:
        parts.append(_newborn_star(galaxy, when, size))
    return _join(parts)


def _newborn_star(galaxy: Galaxy, when: Epoch, size: Resolution) -> Columns:
    """One star of age 0: at snapshot 99 its formation time is exactly 1, as in original files."""
    frame = _frame(galaxy.axis)
    return _star_columns(
        np.array([[galaxy.gas_scale, 0.0, 0.0]]) @ frame,
        np.array([[0.0, galaxy.rotation_speed, 0.0]]) @ frame,
        np.array([size.star]),
        np.array([when.age_gyr]),
        particle_ids(galaxy.number, 4, np.array([(1 << 31) - 1 - when.snap])),
        galaxy,
        when,
    )


def _old_stars(galaxy: Galaxy, when: Epoch, size: Resolution, seed: int) -> Columns:
    rng = stream(seed, _STREAMS["old"], galaxy.number)
    count = max(16, round(galaxy.old_stars / size.star)) if galaxy.old_stars else 0
    latest = _recent_since(when)
    birth = 0.1 * latest + 0.9 * latest * rng.beta(1.5, 2.0, count)
    n_bulge = round(galaxy.bulge_fraction * count)
    radius = galaxy.star_scale * rng.gamma(2.0, 1.0, count - n_bulge).clip(0, 8)
    angle = rng.uniform(0.0, 2.0 * np.pi, radius.size)
    height = 0.12 * galaxy.star_scale * np.arctanh(2.0 * _open_unit(rng, radius.size) - 1.0)
    disk = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), height])
    root = np.sqrt(_open_unit(rng, n_bulge))
    bulge_radius = 0.25 * galaxy.star_scale * np.minimum(root / (1.0 - root), 20.0)
    bulge = bulge_radius[:, None] * _sphere(rng, n_bulge)
    frame = _frame(galaxy.star_axis)
    moving = _rotation(galaxy, disk, 0.18 * galaxy.rotation_speed, rng)
    random = rng.normal(0.0, 0.55 * galaxy.rotation_speed, (n_bulge, 3))
    mass = galaxy.old_stars / max(count, 1) * _scatter(rng, count)
    return _star_columns(
        np.concatenate([disk, bulge]) @ frame,
        np.concatenate([moving, random]) @ frame,
        mass,
        birth,
        particle_ids(galaxy.number, 4, np.arange(count)),
        galaxy,
        when,
    )


def _recent_stars(galaxy: Galaxy, when: Epoch, size: Resolution, seed: int) -> Columns:
    since = _recent_since(when)
    times, formed = _formed_mass(galaxy, since, seed)
    total = round(float(formed[-1]) / size.star)
    rng = stream(seed, _STREAMS["recent"], galaxy.number)
    # the same draws whenever the snapshot is, so a star keeps its orbit and its id
    birth = np.interp((np.arange(total) + 0.5) / max(total, 1) * formed[-1], formed, times)
    radius = 0.7 * galaxy.gas_scale * rng.gamma(2.0, 1.0, total).clip(0, 8)
    phase = rng.vonmises(0.0, 1.5 * _arm_sharpness(galaxy), total)
    wander = rng.uniform(-np.pi, np.pi, total)
    height = 0.5 * _thickness(galaxy, radius) * np.arctanh(2.0 * _open_unit(rng, total) - 1.0)
    mass = size.star * _scatter(rng, total)
    kicks = rng.normal(size=(total, 3))

    born = birth <= when.age_gyr
    age = when.age_gyr - birth
    leaves = np.clip(age / _YOUNG_GYR, 0.0, 1.0)
    planar = _planar(galaxy, radius, phase + leaves * wander, height, when.age_gyr)
    circular = _rotation(galaxy, planar, 0.0, rng)
    velocity = circular + kicks * (9.0 + 8.0 * np.sqrt(np.clip(age, 0.0, None)))[:, None]
    frame = _frame(galaxy.axis)
    ids = particle_ids(galaxy.number, 4, np.arange(total) + (1 << 31))
    return _star_columns(
        planar[born] @ frame,
        velocity[born] @ frame,
        mass[born],
        birth[born],
        ids[born],
        galaxy,
        when,
    )


def _recent_since(when: Epoch) -> float:
    """Age of the universe from which on star formation is followed [Gyr]."""
    return _RECENT_GYR if when.age_gyr > _RECENT_GYR + 1.0 else 0.8 * when.age_gyr


def _formed_mass(galaxy: Galaxy, since: float, seed: int) -> tuple[Array, Array]:
    """Give times [Gyr] and the stellar mass formed until then [1e10 Msun/h]."""
    last = _LAST_GYR if since == _RECENT_GYR else since / 0.8 + 1e-6
    times = np.linspace(since, last, 9)
    rates = []
    for time in times:
        rng = stream(seed, _STREAMS["reference"], galaxy.number)
        mass = galaxy.cold_gas * galaxy.gas_factor(float(time))
        gas = _disk(galaxy, mass, 600, float(time), rng)
        masses = np.full(600, mass / 600)
        rates.append(float(np.sum(_star_formation_rate(masses, gas.density, gas.forming))))
    per_gyr = np.array(rates) * 1e9 / units.mass_msun(1.0, HUBBLE_PARAM)
    steps = 0.5 * (per_gyr[1:] + per_gyr[:-1]) * np.diff(times)
    return times, np.concatenate([[0.0], np.cumsum(steps)])


def _star_columns(
    position: Array,
    velocity: Array,
    masses: Array,
    birth_gyr: Array,
    ids: NDArray[Any],
    galaxy: Galaxy,
    when: Epoch,
) -> Columns:
    columns = _finish(position, velocity, when)
    age = np.clip(when.age_gyr - birth_gyr, 1e-3, None)
    brightness = -2.5 * np.log10(units.mass_msun(masses, HUBBLE_PARAM)) + 4.8
    fading = 1.9 * np.log10(age / 5.0)
    colours = np.array([1.1, 0.9, 0.0, -2.6, 0.5, -0.3, -0.6, -0.8])
    columns |= {
        "Masses": masses,
        "GFM_InitialMass": 1.4 * masses,
        "GFM_StellarFormationTime": formation(birth_gyr),
        "GFM_Metallicity": 0.02 * 10.0 ** (-0.04 * np.linalg.norm(position, axis=1).clip(0, 30)),
        "GFM_StellarPhotometrics": (brightness + fading)[:, None] + colours,
        "Potential": _potential(galaxy, position, when),
        "ParticleIDs": ids,
        "is_bound": np.ones(masses.size, bool),
    }
    return columns


def _wind(
    galaxy: Galaxy, count: int, when: Epoch, size: Resolution, rng: np.random.Generator
) -> Columns:
    """Gas on its way out of the disk: stored with the stars, formation time 0 or less."""
    side = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    height = side * rng.uniform(1.0, 8.0, count)
    wide = rng.normal(size=(count, 2)) * (0.3 * galaxy.gas_scale + 0.3 * np.abs(height[:, None]))
    planar = np.column_stack([wide, height])
    speed = np.column_stack(
        [20.0 * rng.normal(size=(count, 2)), side * rng.uniform(150, 350, count)]
    )
    frame = _frame(galaxy.axis)
    masses = size.gas * _scatter(rng, count)
    columns = _star_columns(
        planar @ frame,
        speed @ frame,
        masses,
        np.full(count, when.age_gyr),
        particle_ids(galaxy.number, 4, np.arange(count) + (3 << 30)),
        galaxy,
        when,
    )
    columns["GFM_StellarFormationTime"] = -1e-3 * rng.random(count)
    columns["GFM_StellarFormationTime"][:1] = 0.0
    return columns


def _dark_matter(galaxy: Galaxy, when: Epoch, size: Resolution, seed: int) -> Columns:
    rng = stream(seed, _STREAMS["dark"], galaxy.number)
    count = max(4, round(galaxy.dark_matter / size.dark_matter)) if galaxy.dark_matter else 0
    x = np.linspace(0.0, 1.0, 400)
    enclosed = np.log1p(8.0 * x) - 8.0 * x / (1.0 + 8.0 * x)
    radius = np.interp(_open_unit(rng, count) * enclosed[-1], enclosed, x) * galaxy.radius_200
    position = radius[:, None] * _sphere(rng, count)
    velocity = rng.normal(0.0, 0.6 * galaxy.rotation_speed, (count, 3))
    columns = _finish(position, velocity, when)
    columns["ParticleIDs"] = particle_ids(galaxy.number, 1, np.arange(count))
    columns["is_bound"] = radius < 0.85 * galaxy.radius_200
    return columns


def _black_hole(galaxy: Galaxy, when: Epoch) -> Columns:
    columns = _finish(np.zeros((1, 3)), np.zeros((1, 3)), when)
    mass = np.array([2e-3 * galaxy.old_stars])
    columns |= {
        "Masses": 1.1 * mass,
        "BH_Mass": mass,
        "BH_Mdot": 0.01 * mass,
        "Potential": _potential(galaxy, np.zeros((1, 3)), when),
        "ParticleIDs": particle_ids(galaxy.number, 5, np.arange(1)),
        "is_bound": np.ones(1, bool),
    }
    return columns


def _potential(galaxy: Galaxy, position: Array, when: Epoch) -> Array:
    radius = np.linalg.norm(position, axis=1)
    depth = galaxy.rotation_speed**2 * np.log1p(galaxy.radius_200 / (radius + 1.0))
    return np.asarray(-depth * when.scale_factor)


# --- helpers -----------------------------------------------------------------------------------


def _finish(position: Array, velocity: Array, when: Epoch) -> Columns:
    """Code units: comoving lengths, velocities in km sqrt(a)/s."""
    return {
        "offset": position / when.scale_factor,
        "Velocities": velocity / np.sqrt(when.scale_factor),
    }


def _join(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _sorted_by_radius(columns: Columns) -> Columns:
    """Most bound first, the loose ones last."""
    radius = np.linalg.norm(columns["offset"], axis=1)
    order = np.lexsort((radius, ~columns["is_bound"]))
    return {name: values[order] for name, values in columns.items()}


def _frame(axis: Array) -> Array:
    """Rows: two directions in the plane of a disk, and its axis."""
    helper = np.eye(3)[np.argmin(np.abs(axis))]
    first = np.cross(axis, helper)
    first /= np.linalg.norm(first)
    return np.array([first, np.cross(axis, first), axis])


def _thickness(galaxy: Galaxy, radius: Array) -> Array:
    flat = 0.16 if galaxy.is_quiescent else 0.11
    return np.asarray(flat * galaxy.gas_scale * (1.0 + (radius / (4.0 * galaxy.gas_scale)) ** 2))


def _arm_fraction(galaxy: Galaxy) -> float:
    return 0.0 if galaxy.is_quiescent else galaxy.arm_fraction


def _arm_sharpness(galaxy: Galaxy) -> float:
    return 1.0 / galaxy.arm_width**2


def _scatter(rng: np.random.Generator, count: int) -> Array:
    """Masses around 1, within a factor of 2 of each other."""
    return rng.uniform(0.75, 1.25, count)


def _open_unit(rng: np.random.Generator, count: int) -> Array:
    return np.clip(rng.random(count), 1e-6, 1.0 - 1e-6)


def _sphere(rng: np.random.Generator, count: int) -> Array:
    vectors = rng.normal(size=(count, 3))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _ball(rng: np.random.Generator, count: int) -> Array:
    return np.asarray(np.cbrt(rng.random((count, 1))) * _sphere(rng, count))
