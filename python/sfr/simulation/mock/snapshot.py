"""All objects of one mock snapshot in file order, and the catalogue that follows from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.simulation.mock.epochs import Epoch
from sfr.simulation.mock.particles import (
    Columns,
    Parts,
    Resolution,
    galaxy_particles,
    loose_particles,
    particle_ids,
)
from sfr.simulation.mock.population import BOX_SIZE, Galaxy, Halo, stream
from sfr.simulation.protocol import N_PART_TYPES

__all__ = ["Snapshot", "build_snapshot", "resolutions"]

_TYPES: Final = tuple(range(N_PART_TYPES))
_FUZZ_SHARE: Final = 0.004
_FUZZ_NUMBER: Final = 1 << 24
_LOOSE_NUMBER: Final = 1 << 22
_DARK_SHARE: Final = 0.12
_FEWEST: Final = 0.2
_MOST: Final = 3.0
_NO_LIGHT: Final = 1e38


@dataclass
class Snapshot:
    """What goes into the files of one snapshot."""

    when: Epoch
    #: Mass of a dark-matter particle [1e10 Msun/h].
    dark_matter_mass: float
    #: Columns by particle type, in file order: group after group (subhaloes, inner fuzz), then
    #: outer fuzz.
    parts: Parts
    groups: Columns
    subhalos: Columns
    #: First particle of each type of each object, and of the outer fuzz.
    group_starts: NDArray[np.int64]
    subhalo_starts: NDArray[np.int64]
    fuzz_start: NDArray[np.int64]
    #: The galaxy that each subhalo is.
    galaxies: list[Galaxy]

    def counts(self) -> NDArray[np.int64]:
        """Particles of each type."""
        return np.array(
            [len(self.parts[kind]["Coordinates"]) if kind in self.parts else 0 for kind in _TYPES]
        )


@dataclass
class _Member:
    galaxy: Galaxy
    #: Position relative to the centre of the group [ckpc/h].
    offset: NDArray[np.float64]
    bound: Parts
    loose: Parts
    row: dict[str, Any]


@dataclass
class _Group:
    centre: NDArray[np.float64]
    members: list[_Member]
    loose: Parts
    row: dict[str, Any]


def resolutions(halos: Sequence[Halo], cells: int) -> list[Resolution]:
    """Particle masses of every group, such that groups hold `cells` gas cells on average.

    One mass for all, as in the simulation, except that no group gets fewer than a fifth of the
    mean number or more than three times it.
    """
    gas = np.array([halo.gas_mass for halo in halos])
    low, high = gas[gas > 0].min() / (4.0 * cells), gas.max() / (cells / 50.0)
    for _ in range(60):
        middle = np.sqrt(low * high)
        mean = np.clip(gas / middle, _FEWEST * cells, _MOST * cells)[gas > 0].mean()
        low, high = (middle, high) if mean > cells else (low, middle)
    counts = np.clip(gas / low, _FEWEST * cells, _MOST * cells)
    masses = np.where(gas > 0, gas, 1.0) / counts
    typical = np.median([g.dark_matter for h in halos for g in h.galaxies if not g.orbit_radius])
    dark = float(typical / max(_DARK_SHARE * cells, 16.0))
    return [
        Resolution(float(mass), _star_mass(halo, float(mass), cells), dark)
        for halo, mass in zip(halos, masses, strict=True)
    ]


def _star_mass(halo: Halo, gas_mass: float, cells: int) -> float:
    """Mass of a star particle, so that no galaxy has more stars than a group has cells."""
    heaviest = max((galaxy.old_stars for galaxy in halo.galaxies), default=0.0)
    return max(0.7 * gas_mass, heaviest / cells)


def build_snapshot(
    halos: Sequence[Halo],
    sizes: Sequence[Resolution],
    when: Epoch,
    seed: int,
    *,
    is_present: Callable[[Galaxy], bool],
    on_group: Callable[[], None],
) -> Snapshot:
    """Sample every object at one time and put all in the order of the files.

    Parameters
    ----------
    halos, sizes : sequence of Halo, of Resolution
        The groups, and the particle masses of each.
    when : Epoch
        Time of the snapshot.
    seed : int
        Seed of the simulation.
    is_present : callable
        Whether a galaxy is found in this snapshot.
    on_group : callable
        Called after each group.

    Returns
    -------
    Snapshot
    """
    groups = []
    for halo, size in zip(halos, sizes, strict=True):
        groups.append(_group(halo, size, when, seed, is_present))
        on_group()
    groups.sort(key=lambda group: -int(group.row["GroupLen"]))
    dark_mass = sizes[0].dark_matter
    return _in_order(groups, _outer_fuzz(groups, sizes, when, seed), when, dark_mass)


# --- one group ---------------------------------------------------------------------------------


def _group(
    halo: Halo, size: Resolution, when: Epoch, seed: int, is_present: Callable[[Galaxy], bool]
) -> _Group:
    present = [galaxy.at(when.scale_factor) for galaxy in halo.galaxies if is_present(galaxy)]
    members = [_member(halo, galaxy, size, when, seed) for galaxy in present]
    members[1:] = sorted(members[1:], key=lambda member: -int(member.row["SubhaloLen"]))
    loose = _gather([(member.loose, member.offset) for member in members])
    if halo.loose_mass:
        number = _LOOSE_NUMBER + halo.number
        found = loose_particles(number, halo.loose_mass, when, size, seed, spread=25.0)
        loose = {kind: _as_stored(columns) for kind, columns in found.items()}
    everything = _gather(
        [*((member.bound, member.offset) for member in members), (loose, np.zeros(3))]
    )
    centre = halo.centre(when)
    row = _group_row(centre, members, everything, size.dark_matter, when)
    return _Group(centre, members, loose, row)


def _member(halo: Halo, galaxy: Galaxy, size: Resolution, when: Epoch, seed: int) -> _Member:
    found = galaxy_particles(galaxy, when, size, seed)
    parts = {kind: _as_stored(columns) for kind, columns in found.items()}
    bulk = halo.velocity + galaxy.relative_velocity(when.age_gyr)
    for columns in parts.values():
        columns["Velocities"] += (bulk / np.sqrt(when.scale_factor)).astype(np.float32)
    bound = {kind: _where(columns, columns["is_bound"]) for kind, columns in parts.items()}
    loose = {kind: _where(columns, ~columns["is_bound"]) for kind, columns in parts.items()}
    offset = galaxy.offset(when.age_gyr) / when.scale_factor
    row = _subhalo_row(galaxy, bound, halo.centre(when) + offset, size.dark_matter, when)
    if galaxy.role == "no-stars":
        del bound[4]
        row["SubhaloLenType"][4] = 0
    if galaxy.role == "nan-centre":
        row["SubhaloPos"] = np.full(3, np.nan)
    if galaxy.role == "nan-coordinates":
        for kind in (0, 4):
            for columns in (bound[kind], loose[kind]):
                columns["offset"][:] = np.nan
    return _Member(galaxy, offset, bound, loose, row)


def _as_stored(columns: Columns) -> Columns:
    """Types of the files, so that the catalogue follows from what readers see."""
    return {
        name: values if name == "offset" or values.dtype.kind != "f" else values.astype(np.float32)
        for name, values in columns.items()
    }


def _where(columns: Columns, mask: NDArray[np.bool_]) -> Columns:
    return {name: values[mask] for name, values in columns.items()}


def _gather(pieces: Sequence[tuple[Parts, NDArray[np.float64]]]) -> Parts:
    """Particles of several pieces, each moved by its offset."""
    gathered: Parts = {}
    for kind in _TYPES:
        found = [
            {**parts[kind], "offset": parts[kind]["offset"] + shift}
            for parts, shift in pieces
            if kind in parts
        ]
        if found:
            gathered[kind] = {
                name: np.concatenate([columns[name] for columns in found]) for name in found[0]
            }
    return gathered


# --- rows of the catalogue ---------------------------------------------------------------------


@dataclass
class _Totals:
    """Sums over the particles of one object."""

    lengths: NDArray[np.int32]
    #: Masses by type; wind counts as gas, unlike in the lengths.
    masses: NDArray[np.float64]
    wind: float
    centre: NDArray[np.float64]
    velocity: NDArray[np.float64]


def _masses(kind: int, columns: Columns, dark_mass: float) -> NDArray[np.float64]:
    if kind == 1:
        return np.full(len(columns["offset"]), dark_mass)
    return columns["Masses"].astype(np.float64)


def _is_wind(columns: Columns) -> NDArray[np.bool_]:
    return np.asarray(columns["GFM_StellarFormationTime"] <= 0)


def _sum_up(parts: Parts, dark_mass: float, when: Epoch) -> _Totals:
    lengths, masses = np.zeros(N_PART_TYPES, np.int32), np.zeros(N_PART_TYPES)
    wind, moment, momentum = 0.0, np.zeros(3), np.zeros(3)
    for kind, columns in parts.items():
        mass = _masses(kind, columns, dark_mass)
        lengths[kind] = mass.size
        masses[kind] = mass.sum()
        moment += mass @ columns["offset"]
        momentum += mass @ columns["Velocities"].astype(np.float64)
        if kind == 4:
            wind = float(mass[_is_wind(columns)].sum())
    masses[0] += wind
    masses[4] -= wind
    total = masses.sum() or 1.0
    velocity = momentum / total * np.sqrt(when.scale_factor)
    return _Totals(lengths, masses, wind, moment / total, velocity)


def _subhalo_row(
    galaxy: Galaxy,
    parts: Parts,
    position: NDArray[np.float64],
    dark_mass: float,
    when: Epoch,
) -> dict[str, Any]:
    totals = _sum_up(parts, dark_mass, when)
    profile = _Profile(parts, dark_mass)
    half_mass = profile.half_mass_radii()
    star_radius = half_mass[4]
    row: dict[str, Any] = {
        "SubhaloFlag": galaxy.is_flagged,
        "SubhaloLen": totals.lengths.sum(),
        "SubhaloLenType": totals.lengths,
        "SubhaloMass": totals.masses.sum(),
        "SubhaloMassType": totals.masses,
        "SubhaloPos": position % BOX_SIZE,
        "SubhaloCM": (position + totals.centre) % BOX_SIZE,
        "SubhaloVel": totals.velocity,
        "SubhaloSpin": _spin(parts, dark_mass, totals, when),
        "SubhaloVelDisp": 0.5 * galaxy.rotation_speed,
        "SubhaloVmax": galaxy.rotation_speed,
        "SubhaloVmaxRad": galaxy.gas_scale / when.scale_factor,
        "SubhaloHalfmassRad": profile.half_mass_radius(),
        "SubhaloHalfmassRadType": half_mass,
        "SubhaloIDMostbound": _most_bound(parts),
        "SubhaloWindMass": totals.wind,
        "SubhaloBHMass": _column_sum(parts, 5, "BH_Mass"),
        "SubhaloBHMdot": _column_sum(parts, 5, "BH_Mdot"),
        "SubhaloStellarPhotometrics": _light(parts),
    }
    radii = {"": np.inf, "inRad": 2.0 * star_radius, "inHalfRad": star_radius}
    for suffix, radius in radii.items():
        row[f"SubhaloSFR{suffix}"] = profile.sum_inside(0, "StarFormationRate", radius)
        if suffix:
            within = profile.masses_inside(radius)
            name = "SubhaloMassI" + suffix[1:]
            row[name], row[f"{name}Type"] = within.sum(), within
    row |= _metallicities("Subhalo", parts)
    return row


def _group_row(
    centre: NDArray[np.float64],
    members: Sequence[_Member],
    parts: Parts,
    dark_mass: float,
    when: Epoch,
) -> dict[str, Any]:
    totals = _sum_up(parts, dark_mass, when)
    mass = totals.masses.sum()
    if any(member.galaxy.role == "nan-coordinates" for member in members):
        totals.centre = np.zeros(3)
    row: dict[str, Any] = {
        "GroupLen": totals.lengths.sum(),
        "GroupLenType": totals.lengths,
        "GroupMass": mass,
        "GroupMassType": totals.masses,
        "GroupPos": centre,
        "GroupCM": (centre + totals.centre) % BOX_SIZE,
        "GroupVel": totals.velocity * when.scale_factor,
        "GroupNsubs": len(members),
        "GroupSFR": _column_sum(parts, 0, "StarFormationRate"),
        "GroupWindMass": totals.wind,
        "GroupBHMass": _column_sum(parts, 5, "BH_Mass"),
        "GroupBHMdot": _column_sum(parts, 5, "BH_Mdot"),
    }
    radius = members[0].galaxy.radius_200 if members else 25.0
    for name, shrink in {"Crit200": 1.0, "Crit500": 0.65, "Mean200": 1.6, "TopHat200": 1.3}.items():
        row[f"Group_R_{name}"] = shrink * radius / when.scale_factor
        row[f"Group_M_{name}"] = min(shrink**0.8 * 0.9, 1.0) * mass
    row |= _metallicities("Group", parts)
    return row


class _Profile:
    """Masses of one object by distance from its centre."""

    def __init__(self, parts: Parts, dark_mass: float) -> None:
        self._parts = parts
        self._radii = {k: np.linalg.norm(c["offset"], axis=1) for k, c in parts.items()}
        self._masses = {k: _masses(k, c, dark_mass) for k, c in parts.items()}
        if 4 in parts:
            self._masses[4] = np.where(_is_wind(parts[4]), 0.0, self._masses[4])

    def half_mass_radii(self) -> NDArray[np.float64]:
        """Half-mass radius of every type [ckpc/h], 0 where there is none."""
        result = np.zeros(N_PART_TYPES)
        for kind, radii in self._radii.items():
            result[kind] = _half_mass(radii, self._masses[kind])
        return result

    def half_mass_radius(self) -> float:
        """Half-mass radius of everything [ckpc/h]."""
        if not self._radii:
            return 0.0
        radii = np.concatenate(list(self._radii.values()))
        return _half_mass(radii, np.concatenate(list(self._masses.values())))

    def masses_inside(self, radius: float) -> NDArray[np.float64]:
        """Mass by type inside a radius."""
        result = np.zeros(N_PART_TYPES)
        for kind, radii in self._radii.items():
            result[kind] = self._masses[kind][radii < radius].sum()
        return result

    def sum_inside(self, kind: int, name: str, radius: float) -> float:
        """Sum of a column inside a radius."""
        if kind not in self._parts:
            return 0.0
        return float(self._parts[kind][name][self._radii[kind] < radius].sum(dtype=np.float64))


def _half_mass(radii: NDArray[np.float64], masses: NDArray[np.float64]) -> float:
    order = np.argsort(radii)
    inside = np.cumsum(masses[order])
    if not inside.size or inside[-1] <= 0:
        return 0.0
    return float(radii[order][np.searchsorted(inside, 0.5 * inside[-1])])


def _spin(parts: Parts, dark_mass: float, totals: _Totals, when: Epoch) -> NDArray[np.float64]:
    """Mean of r x v [(physical kpc/h) km/s]."""
    spin = np.zeros(3)
    for kind, columns in parts.items():
        mass = _masses(kind, columns, dark_mass)
        velocity = columns["Velocities"] * np.sqrt(when.scale_factor) - totals.velocity
        spin += mass @ np.cross(columns["offset"] * when.scale_factor, velocity)
    return np.asarray(spin / (totals.masses.sum() or 1.0))


def _most_bound(parts: Parts) -> np.uint64:
    for kind in (5, 4, 1, 0):
        if kind in parts and len(parts[kind]["ParticleIDs"]):
            return np.uint64(parts[kind]["ParticleIDs"][0])
    return np.uint64(0)


def _column_sum(parts: Parts, kind: int, name: str) -> float:
    return float(parts[kind][name].sum(dtype=np.float64)) if kind in parts else 0.0


def _light(parts: Parts) -> NDArray[np.float64]:
    """Magnitudes of all stars together."""
    if 4 not in parts:
        return np.full(8, _NO_LIGHT)
    magnitudes = parts[4]["GFM_StellarPhotometrics"][~_is_wind(parts[4])].astype(np.float64)
    if not len(magnitudes):
        return np.full(8, _NO_LIGHT)
    return np.asarray(-2.5 * np.log10(np.sum(10.0 ** (-0.4 * magnitudes), axis=0)))


def _metallicities(prefix: str, parts: Parts) -> dict[str, float]:
    result = {}
    for name, kind in {"Gas": 0, "Star": 4}.items():
        mean = 0.0
        if kind in parts and len(parts[kind]["Masses"]):
            mean = float(np.average(parts[kind]["GFM_Metallicity"], weights=parts[kind]["Masses"]))
        result[f"{prefix}{name}Metallicity"] = mean
    return result


# --- file order --------------------------------------------------------------------------------


def _outer_fuzz(
    groups: Sequence[_Group], sizes: Sequence[Resolution], when: Epoch, seed: int
) -> Parts:
    """Gas and dark matter anywhere in the box, in no group."""
    rng = stream(seed, 31, when.snap)
    lengths = np.sum([group.row["GroupLenType"] for group in groups], axis=0)
    median = Resolution(float(np.median([size.gas for size in sizes])), 1.0, sizes[0].dark_matter)
    counts = {kind: max(8, round(_FUZZ_SHARE * int(lengths[kind]))) for kind in (0, 1)}
    spread = BOX_SIZE / 2.0
    mass = max(10.0 * counts[0] * median.gas, counts[1] * median.dark_matter)
    found = loose_particles(_FUZZ_NUMBER, mass, when, median, seed, spread=spread)
    fuzz = {}
    for kind, columns in found.items():
        stored = _as_stored({name: values[: counts[kind]] for name, values in columns.items()})
        stored["offset"] = rng.uniform(0.0, BOX_SIZE, stored["offset"].shape)
        stored["ParticleIDs"] = particle_ids(_FUZZ_NUMBER, kind, np.arange(len(stored["offset"])))
        fuzz[kind] = stored
    return fuzz


def _in_order(groups: Sequence[_Group], fuzz: Parts, when: Epoch, dark_mass: float) -> Snapshot:
    pieces: list[tuple[Parts, NDArray[np.float64]]] = []
    starts: list[NDArray[np.int64]] = []
    first_subhalo = 0
    position = np.zeros(N_PART_TYPES, np.int64)
    group_starts = []
    for number, group in enumerate(groups):
        group_starts.append(position.copy())
        group.row["GroupFirstSub"] = first_subhalo if group.members else -1
        first_subhalo += len(group.members)
        for member in group.members:
            starts.append(position.copy())
            member.row["SubhaloGrNr"] = number
            member.row["SubhaloParent"] = 0
            pieces.append((member.bound, group.centre + member.offset))
            position += _lengths(member.bound)
        pieces.append((group.loose, group.centre))
        position += _lengths(group.loose)
    pieces.append((fuzz, np.zeros(3)))
    parts = _gather(pieces)
    for columns in parts.values():
        columns["Coordinates"] = _inside_box(columns.pop("offset"))
        del columns["is_bound"]
    members = [member for group in groups for member in group.members]
    return Snapshot(
        when=when,
        dark_matter_mass=dark_mass,
        parts=parts,
        groups=_table([group.row for group in groups]),
        subhalos=_table([member.row for member in members]),
        group_starts=np.array(group_starts),
        subhalo_starts=np.array(starts),
        fuzz_start=position,
        galaxies=[member.galaxy for member in members],
    )


def _lengths(parts: Parts) -> NDArray[np.int64]:
    return np.array([len(parts[kind]["offset"]) if kind in parts else 0 for kind in _TYPES])


def _inside_box(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions in [0, box), also after rounding to single precision."""
    wrapped = positions % BOX_SIZE
    wrapped[wrapped.astype(np.float32) >= BOX_SIZE] = 0.0
    return wrapped


def _table(rows: Sequence[dict[str, Any]]) -> Columns:
    table = {}
    for name in rows[0]:
        column = np.array([row[name] for row in rows])
        if column.dtype == np.float64:
            column = column.astype(np.float32)
        elif column.dtype == np.int64:
            column = column.astype(np.int32)
        table[name] = column
    for name in ("GroupPos", "GroupCM", "SubhaloPos", "SubhaloCM"):
        if name in table:
            table[name][table[name] >= BOX_SIZE] = 0.0
    return table
