"""Headers: every number that is used is checked, and the headers of one snapshot must agree."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sfr import units
from sfr.errors import DataFormatError
from sfr.hdf5 import reading
from sfr.simulation.layout import snapshot_number
from sfr.simulation.protocol import KINDS, N_PART_TYPES, Header, ObjectKind

__all__ = [
    "CatalogueHeader",
    "Stated",
    "particle_header",
    "require_agreement",
    "require_cosmological",
    "require_snapshot",
    "require_tng_units",
]

#: Largest |a (1 + z) - 1|: headers round.
_EPOCH_TOLERANCE = 1e-3
#: Largest relative difference of one number in two places: headers in single precision.
_AGREEMENT = 1e-5
#: Largest relative difference from the units of TNG, which writers round.
_UNIT_TOLERANCE = 1e-4
#: Largest difference of exponents, and of Omega0 + OmegaLambda from 1.
_EXPONENT_TOLERANCE, _FLAT_TOLERANCE = 1e-6, 1e-2
_MOST_FILES = 100_000

#: Groups that state parameters of the run besides Header; GADGET-4 has its cosmology there.
_OTHER_GROUPS = ("Parameters", "Units")
#: Names of the code units in AREPO, EAGLE, GADGET and TNG, in GIZMO, and in SWIFT.
_CODE_UNITS = {
    "length": (
        ("UnitLength_in_cm", "UnitLength_In_CGS", "Unit length in cgs (U_L)"),
        units.UNIT_LENGTH_CM,
        "ckpc/h",
    ),
    "mass": (
        ("UnitMass_in_g", "UnitMass_In_CGS", "Unit mass in cgs (U_M)"),
        units.UNIT_MASS_G,
        "1e10 Msun/h",
    ),
    "velocity": (
        ("UnitVelocity_in_cm_per_s", "UnitVelocity_In_CGS"),
        units.UNIT_VELOCITY_CM_S,
        "km/s",
    ),
    "time": (
        ("UnitTime_in_s", "Unit time in cgs (U_t)"),
        units.UNIT_LENGTH_CM / units.UNIT_VELOCITY_CM_S,
        "kpc/h / (km/s)",
    ),
}
#: Other names of the attributes that state the unit of a dataset, in EAGLE and in SWIFT.
_OTHER_SCALINGS = {
    "a_scaling": ("aexp-scale-exponent", "a-scale exponent"),
    "h_scaling": ("h-scale-exponent", "h-scale exponent"),
    "to_cgs": (
        "CGSConversionFactor",
        "Conversion factor to CGS (not including cosmological corrections)",
    ),
}
_COUNT_NAMES: dict[ObjectKind, tuple[str, ...]] = {
    "group": ("Ngroups",),
    "subhalo": ("Nsubgroups", "Nsubhalos"),
}


class Stated:
    """What a file states in the attributes of Header, Parameters and Units.

    Attributes are read one by one, so that an odd one that nobody asks for harms nobody. What is
    stated in several of the groups must be the same in all of them.

    Raises
    ------
    DataFormatError
        The file has no group Header.
    """

    def __init__(self, file: h5py.File, path: Path) -> None:
        self.path = path
        self._groups: dict[str, h5py.Group] = {}
        for name in ("Header", *_OTHER_GROUPS):
            found = _member(file, name)
            if isinstance(found, h5py.Group):
                self._groups[name] = found
            elif name == "Header":
                what = "no Header group" if found is None else "a Header that is no group"
                raise DataFormatError(
                    f"{path} has {what}; it holds {sorted(file) or 'nothing'}. "
                    "Files of IllustrisTNG all have one"
                )

    def has(self, name: str) -> bool:
        """Whether Header states it."""
        return name in self._groups["Header"].attrs

    def error(self, what: str) -> DataFormatError:
        """Error about the header of this file."""
        return DataFormatError(f"{self.path}: Header cannot be used: {what}")

    def missing(self, name: str) -> DataFormatError:
        """Error for an attribute that has to be there."""
        held = sorted(map(str, self._groups["Header"].attrs))
        return DataFormatError(
            f"{self.path}: Header has no {name}; it holds {held}. "
            "This is not a file of IllustrisTNG"
        )

    def number(
        self,
        name: str,
        default: float | None = None,
        *,
        above: float = -np.inf,
        below: float = np.inf,
        or_zero: bool = False,
    ) -> float:
        """Give a number between two others, both excluded, from wherever it is stated."""
        found = self.everywhere(name)
        if not found:
            if default is None:
                raise self.missing(name)
            return default
        for where, value in found.items():
            if not (above < value < below or (or_zero and value == 0)):
                allowed = f"more than {above:g}" + (" or 0" if or_zero else "")
                allowed += f", less than {below:g}" if np.isfinite(below) else ""
                raise self.error(f"{where} is {value:.10g}; allowed: {allowed}")
        (first, value), *others = found.items()
        for where, other in others:
            if not _same(other, value):
                raise self.error(
                    f"{first} is {value:.10g}, {where} is {other:.10g}; allowed: the same in both"
                )
        return value

    def flag(self, name: str) -> bool | None:
        """Give a switch of the run, None where it is not stated."""
        return None if not self.everywhere(name) else bool(self.number(name))

    def integer(self, name: str, default: int | None = None, *, low: int, high: int) -> int:
        """Give a whole number of Header between two others, both included."""
        if not self.has(name):
            if default is None:
                raise self.missing(name)
            return default
        value = self._integers(name, 1)[0]
        if not low <= value <= high:
            raise self.error(f"Header/{name} is {value}; allowed: {low} to {high}")
        return value

    def counts(self, name: str) -> tuple[int, ...] | None:
        """Give numbers of particles by type of Header, None where they are not stated."""
        if not self.has(name):
            return None
        values = self._integers(name, N_PART_TYPES)
        if min(values) < 0:
            raise self.error(
                f"Header/{name} is {list(values)}; allowed: numbers of particles, 0 or more"
            )
        return values

    def masses(self) -> tuple[float, ...] | None:
        """Give MassTable, None where it is not stated."""
        if not self.has("MassTable"):
            return None
        values = self._numbers("Header", "MassTable", N_PART_TYPES)
        if np.any(values < 0):
            raise self.error(f"Header/MassTable is {values.tolist()}; allowed: masses, 0 or more")
        return tuple(float(value) for value in values)

    def simulation_name(self) -> str:
        """Find the internal name of the simulation, or that of its initial conditions."""
        name = self._text("Header", "SimulationName")
        if name:
            return name
        match = re.search(r"L\d+n\d+[A-Za-z]\w*", self._text("Parameters", "InitCondFile"))
        return match[0] if match else "unknown"

    def everywhere(self, name: str) -> dict[str, float]:
        """Give a number under the name of each place that states it."""
        return {
            f"{group}/{name}": float(self._numbers(group, name, 1)[0])
            for group, held in self._groups.items()
            if name in held.attrs
        }

    def _numbers(self, group: str, name: str, count: int) -> NDArray[Any]:
        what = f"{group}/{name}"
        return _checked_numbers(self.path, what, _value(self._groups[group], name), count)

    def _integers(self, name: str, count: int) -> tuple[int, ...]:
        values = self._numbers("Header", name, count)
        exact = values.dtype.kind in "iu" or (
            # whole numbers survive as floats below this
            np.all(values == np.rint(values))
            and np.all(np.abs(values) < 2.0 ** np.finfo(values.dtype).nmant)
        )
        if not exact:
            shown = values.tolist() if count > 1 else values[0]
            raise self.error(f"Header/{name} is {shown} ({values.dtype}); allowed: whole numbers")
        return tuple(int(value) for value in values)

    def _text(self, group: str, name: str) -> str:
        held = self._groups.get(group)
        if held is None or name not in held.attrs:
            return ""
        value = _value(held, name)
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.reshape(-1)[0]
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return value if isinstance(value, str) else ""


@dataclass(frozen=True)
class CatalogueHeader:
    """What the header of one chunk of a group catalogue says."""

    header: Header
    #: Objects of each kind in the catalogue, and in this chunk.
    totals: dict[ObjectKind, int]
    counts: dict[ObjectKind, int]
    #: Particles in groups.
    n_ids_total: int

    def totalled(self) -> list[tuple[str, int]]:
        """List what is counted over the whole catalogue, and the numbers."""
        counted = [(f"{kind}s", self.totals[kind]) for kind in KINDS]
        return [*counted, ("particles", self.n_ids_total)]

    @staticmethod
    def read(file: h5py.File, path: Path, snap: int) -> CatalogueHeader:
        """Read and check the header of a chunk of the catalogue of a snapshot.

        Raises
        ------
        DataFormatError
            An attribute is missing or not what it must be.
        """
        stated = Stated(file, path)
        _require_code_units(stated)
        names = {
            kind: next((name for name in choice if stated.has(f"{name}_Total")), choice[0])
            for kind, choice in _COUNT_NAMES.items()
        }
        most = np.iinfo(np.int64).max
        totals, counts = (
            {kind: stated.integer(f"{names[kind]}_{which}", low=0, high=most) for kind in KINDS}
            for which in ("Total", "ThisFile")
        )
        n_files = stated.integer("NumFiles", low=1, high=_MOST_FILES)
        header = Header(
            **_universe(stated),
            simulation_name=stated.simulation_name(),
            snapshot=stated.integer("SnapshotNumber", snap, low=-1, high=10**6),
            num_part_total=None,
            num_files=n_files,
            mass_table=None,
        )
        n_ids = stated.integer("Nids_Total", 0, low=0, high=most)
        return CatalogueHeader(header, totals, counts, n_ids)


def particle_header(stated: Stated) -> Header:
    """Read and check the header of a snapshot chunk or a cutout.

    Raises
    ------
    DataFormatError
        An attribute is missing or not what it must be, or the file is in other units than TNG's.
    """
    _require_code_units(stated)
    path = stated.path
    return Header(
        **_universe(stated),
        simulation_name=stated.simulation_name(),
        snapshot=stated.integer("SnapshotNumber", snapshot_number(path), low=-1, high=10**6),
        num_part_total=_totals(stated),
        num_files=stated.integer("NumFilesPerSnapshot", 1, low=1, high=_MOST_FILES),
        mass_table=stated.masses(),
    )


def require_agreement(path: Path, header: Header, other_path: Path, other: Header) -> None:
    """Raise where the headers of two files of one snapshot say different things.

    Parameters
    ----------
    path, other_path : Path
        The files, for the message.
    header, other : Header
        Their checked headers, in which z follows from a. Numbers of files and particles are
        compared where both are of the same kind, names of simulations where both are known.

    Raises
    ------
    DataFormatError
        With the attribute, both values and both files.
    """
    pairs: dict[str, tuple[Any, Any]] = {
        "Time (a)": (header.scale_factor, other.scale_factor),
        "BoxSize": (header.box_size, other.box_size),
        "HubbleParam": (header.hubble_param, other.hubble_param),
        "Omega0": (header.omega0, other.omega0),
        "OmegaLambda": (header.omega_lambda, other.omega_lambda),
    }
    if "unknown" not in (header.simulation_name, other.simulation_name):
        pairs["the simulation's name"] = (header.simulation_name, other.simulation_name)
    if (header.num_part_total is None) == (other.num_part_total is None):
        pairs["the number of files"] = (header.num_files, other.num_files)
        pairs["NumPart_Total"] = (header.num_part_total, other.num_part_total)
    for name, (found, expected) in pairs.items():
        if not _same(found, expected):
            raise DataFormatError(
                f"{path}: {name} is {_shown(found)}, {other_path} says {_shown(expected)}: "
                "files of different snapshots or simulations are mixed"
            )


def require_snapshot(path: Path, header: Header, snap: int) -> None:
    """Raise where a file states another snapshot than the folder that it is in."""
    if header.snapshot not in (-1, snap):
        raise DataFormatError(
            f"{path}: Header/SnapshotNumber is {header.snapshot}, its folder is that of snapshot "
            f"{snap}: files of different snapshots are mixed"
        )


def require_cosmological(path: Path, header: Header) -> None:
    """Raise where a file is not of a cosmological run.

    Raises
    ------
    DataFormatError
        It is not: galaxies are selected and rendered at redshifts and ages.
    """
    if not header.is_cosmological:
        raise DataFormatError(
            f"{path} is not of a cosmological run (ComovingIntegrationOn is 0, or Omega0 is 0): "
            "Time is a time, there is no redshift and no age of the universe. Galaxies are "
            "selected and rendered in cosmological simulations only; sfr map takes single files "
            "of any run"
        )


def require_tng_units(path: Path, name: str, dataset: h5py.Dataset) -> None:
    """Raise where the unit that a dataset states is not that of TNG.

    Parameters
    ----------
    path : Path
        The file, for the message.
    name : str
        Name of the dataset in the file, the field last.
    dataset : h5py.Dataset
        Its attributes ``a_scaling``, ``h_scaling``, ``length_scaling``, ``mass_scaling``,
        ``velocity_scaling`` and ``to_cgs`` are compared, as far as they are there, also under
        the names that EAGLE and SWIFT give them.

    Raises
    ------
    DataFormatError
        One of them is another one than TNG's, or not a number.
    """
    field = name.rpartition("/")[2]
    unit = units.FIELD_UNITS.get(field)
    if unit is None:
        return
    for scaling, right in unit.attributes().items():
        for attribute in (scaling, *_OTHER_SCALINGS.get(scaling, ())):
            with reading(path, f"attributes of {name}"):
                if attribute not in dataset.attrs:
                    continue
                value = _value(dataset, attribute)
            found = float(_checked_numbers(path, f"{name} {attribute}", value, 1)[0])
            if scaling != "to_cgs":
                is_same, allowed = abs(found - right) < _EXPONENT_TOLERANCE, f"{right:g}"
            elif right == 0:
                # dimensionless: TNG says 0, other writers 1
                is_same, allowed = found in (0.0, 1.0), "0 or 1"
            else:
                tolerance = _UNIT_TOLERANCE * max(1.0, sum(map(abs, unit.exponents)))
                is_same = abs(found / right - 1) < tolerance
                allowed = f"{right:.7g} within {tolerance:.0e}"
            if not is_same:
                raise DataFormatError(
                    f"{path}: {name} has {attribute} {found:.7g}; allowed: {allowed}, the units of "
                    f"TNG ({unit.text}). Convert a copy of the file to these and state them"
                )


def _universe(stated: Stated) -> dict[str, Any]:
    """Read epoch, cosmology and box: of a cosmological run, or with a = 1 of another one."""
    comoving = stated.flag("ComovingIntegrationOn")
    omega0 = stated.number("Omega0", 0.0 if comoving is False else None)
    if comoving and omega0 == 0:
        raise stated.error(
            "Omega0 is 0 and ComovingIntegrationOn is 1; allowed: Omega0 above 0, or "
            "ComovingIntegrationOn 0 (not a cosmological run)"
        )
    is_cosmological = omega0 != 0 if comoving is None else comoving
    universe = _cosmological(stated) if is_cosmological else _newtonian(stated)
    is_periodic = stated.flag("PeriodicBoundariesOn") is not False and universe["box_size"] > 0
    return {**universe, "is_cosmological": is_cosmological, "is_periodic": is_periodic}


def _cosmological(stated: Stated) -> dict[str, float]:
    scale_factor = stated.number("Time", above=0.0)
    redshift = stated.number("Redshift", 1.0 / scale_factor - 1.0, above=-1.0)
    if not abs(scale_factor * (1 + redshift) - 1) < _EPOCH_TOLERANCE:
        raise stated.error(
            f"Time is {scale_factor:.10g} and Redshift {redshift:.10g}; allowed: "
            f"|Time (1 + Redshift) - 1| below {_EPOCH_TOLERANCE:g}, as Time is the scale factor a "
            "of a cosmological run"
        )
    omega0 = stated.number("Omega0", above=0.0)
    omega_lambda = stated.number("OmegaLambda", above=0.0)
    if not abs(omega0 + omega_lambda - 1) < _FLAT_TOLERANCE:
        raise stated.error(
            f"Omega0 is {omega0:.10g} and OmegaLambda {omega_lambda:.10g}; allowed: a sum of 1 "
            f"within {_FLAT_TOLERANCE:g}, as ages are those of a flat universe"
        )
    return {
        "scale_factor": scale_factor,
        "redshift": redshift,
        # not H0 in km/s/Mpc
        "hubble_param": stated.number("HubbleParam", above=0.0, below=10.0),
        "omega0": omega0,
        "omega_lambda": omega_lambda,
        "box_size": stated.number("BoxSize", above=0.0),
    }


def _newtonian(stated: Stated) -> dict[str, float]:
    redshift = stated.number("Redshift", 0.0)
    if redshift != 0:
        raise stated.error(
            f"Redshift is {redshift:.10g} in a run that is not cosmological "
            "(ComovingIntegrationOn 0, or Omega0 0); allowed: 0"
        )
    return {
        "scale_factor": 1.0,
        "redshift": 0.0,
        # these runs state 0, too, where it means nothing
        "hubble_param": stated.number("HubbleParam", 1.0, above=0.0, below=10.0, or_zero=True)
        or 1.0,
        "omega0": stated.number("Omega0", 0.0, above=0.0, or_zero=True),
        "omega_lambda": stated.number("OmegaLambda", 0.0, above=0.0, or_zero=True),
        "box_size": stated.number("BoxSize", 0.0, above=0.0, or_zero=True),
    }


def _totals(stated: Stated) -> tuple[int, ...]:
    """Particles in the whole snapshot; a cutout states only its own."""
    low = stated.counts("NumPart_Total")
    if low is None:
        here = stated.counts("NumPart_ThisFile")
        if here is None:
            raise stated.missing("NumPart_ThisFile")
        return here
    high = stated.counts("NumPart_Total_HighWord") or (0,) * N_PART_TYPES
    return tuple(part | (word << 32) for part, word in zip(low, high, strict=True))


def _require_code_units(stated: Stated) -> None:
    """Raise where the code units that a file states are not those of TNG."""
    ratios: dict[str, float] = {}
    said = []
    for kind, (names, right, text) in _CODE_UNITS.items():
        for name in names:
            for where, value in stated.everywhere(name).items():
                ratios[kind] = value / right
                if not abs(ratios[kind] - 1) <= _UNIT_TOLERANCE:
                    said.append(f"{where} is {value:.7g}; allowed: {right:.7g} ({text})")
    if said:
        raise stated.error(
            f"{'; '.join(said)}, within {_UNIT_TOLERANCE:g}. Write a copy in the units of TNG"
            f"{_conversion(ratios)}, and state the allowed units in it"
        )


def _conversion(ratios: Mapping[str, float]) -> str:
    """Say what to multiply by what."""
    if min(ratios.values()) <= 0:
        return ""
    length, mass = ratios.get("length", 1.0), ratios.get("mass", 1.0)
    # a time states a velocity, where that is not stated
    velocity = length / ratios["time"] if "time" in ratios else 1.0
    velocity = ratios.get("velocity", velocity)
    factors = {
        "lengths (Coordinates, BoxSize)": length,
        "Masses": mass,
        "Velocities": velocity,
        "Density": mass / length**3,
        "InternalEnergy": velocity**2,
    }
    changed = [
        f"{what} times {by:.7g}"
        for what, by in factors.items()
        if abs(by - 1) > 10 * _UNIT_TOLERANCE
    ]
    return f": {', '.join(changed)}"


def _member(file: h5py.File, name: str) -> Any:  # noqa: ANN401 - group, dataset or named type
    try:
        return file.get(name)
    except (OSError, RuntimeError, ValueError):
        return None


def _value(held: h5py.Group | h5py.Dataset, name: str) -> Any:  # noqa: ANN401 - as stored
    """Read an attribute; what HDF5 or h5py cannot read is given as the text of the error."""
    try:
        return held.attrs[name]
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        return f"not readable: {error}"


def _checked_numbers(path: Path, what: str, value: Any, count: int) -> NDArray[Any]:  # noqa: ANN401
    """Give an attribute as finite numbers, ``count`` of them."""
    array = np.asarray(None if isinstance(value, h5py.Empty) else value)
    is_number = array.dtype.kind in "iufb" and array.size == count
    if not is_number or not np.isfinite(array).all():
        allowed = "one number" if count == 1 else f"{count} numbers"
        kind = "" if array.dtype.kind in "iufbO" else f" of type {array.dtype}"
        shown = "empty" if isinstance(value, h5py.Empty) else _shortened(value)
        raise DataFormatError(
            f"{path}: Header cannot be used: {what} is {shown}{kind}; allowed: {allowed}"
            if what.startswith(("Header/", *_OTHER_GROUPS))
            else f"{path}: {what} is {shown}{kind}; allowed: {allowed}"
        )
    return array.reshape(-1).astype(np.int8 if array.dtype.kind == "b" else array.dtype)


def _shortened(value: Any) -> str:  # noqa: ANN401 - anything
    text = repr(value.tolist() if isinstance(value, np.ndarray | np.generic) else value)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def _same(found: Any, expected: Any) -> bool:  # noqa: ANN401 - any value
    if isinstance(found, float):
        return math.isclose(found, expected, rel_tol=_AGREEMENT)
    return bool(found == expected)


def _shown(value: Any) -> str:  # noqa: ANN401 - any value
    if isinstance(value, float):
        return f"{value:.10g}"
    return str(list(value)) if isinstance(value, tuple) else str(value)
