"""The registry of gas quantities, and the channels that are made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfr import units
from sfr.errors import ConfigError, InternalError
from sfr.recipe import Channel
from sfr.render.kernels import Thermal, Weight

__all__ = [
    "FIELDS",
    "Cells",
    "GasField",
    "channel_unit",
    "is_relative",
    "kernel_weights",
    "required_fields",
    "weights",
]

Array = NDArray[np.floating]
_LOG = "log10_"


@dataclass(frozen=True)
class Cells:
    """Gas cells of one galaxy in code units, with what a quantity may need besides.

    Attributes
    ----------
    fields : mapping of str to ndarray
        TNG fields by their names on disk, first axis N.
    scale_factor, hubble_param : float
        a and h of the snapshot.
    bulk_velocity_km_s : ndarray of float64, shape (3,), or None
        Peculiar velocity of the galaxy [km/s]; None where no quantity is relative to it.
    pixel_area_kpc2 : float
        Area of a pixel [physical kpc^2].
    """

    fields: Mapping[str, Array]
    scale_factor: float
    hubble_param: float
    bulk_velocity_km_s: NDArray[np.float64] | None
    pixel_area_kpc2: float


@dataclass(frozen=True)
class GasField:
    """One quantity: symbol and unit, the TNG fields that it needs, and how it follows from them."""

    symbol: str
    unit: str
    needs: tuple[str, ...]
    compute: Callable[[Cells], Array]


def _density(cells: Cells) -> Array:
    return units.density_cgs(cells.fields["Density"], cells.scale_factor, cells.hubble_param)


def _electron_density(cells: Cells) -> Array:
    return units.electron_density_cgs(
        cells.fields["Density"],
        cells.fields["ElectronAbundance"],
        cells.scale_factor,
        cells.hubble_param,
    )


def _temperature(cells: Cells) -> Array:
    return units.temperature_k(cells.fields["InternalEnergy"], cells.fields["ElectronAbundance"])


def _entropy(cells: Cells) -> Array:
    return units.entropy_kev_cm2(_temperature(cells), _electron_density(cells))


def _per_two_thirds(temperature: Array, density: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        # the square of a root hides the sign
        return np.where(density >= 0, temperature / np.cbrt(density) ** 2, np.nan)


def _entropy_k_cm2(cells: Cells) -> Array:
    return _per_two_thirds(_temperature(cells), _electron_density(cells))


def _entropy_code(cells: Cells) -> Array:
    return _per_two_thirds(_temperature(cells), cells.fields["Density"].astype(np.float64))


def _surface_density(cells: Cells) -> Array:
    return units.mass_msun(cells.fields["Masses"], cells.hubble_param) / cells.pixel_area_kpc2


def _speed(cells: Cells) -> Array:
    if cells.bulk_velocity_km_s is None:
        raise InternalError("speed is relative to the galaxy, whose velocity was not given")
    peculiar = cells.fields["Velocities"].astype(np.float64) * np.sqrt(cells.scale_factor)
    return np.asarray(np.linalg.norm(peculiar - cells.bulk_velocity_km_s, axis=1))


def _magnetic_field(cells: Cells) -> Array:
    strength = np.linalg.norm(cells.fields["MagneticField"].astype(np.float64), axis=1)
    return units.magnetic_field_gauss(strength, cells.scale_factor, cells.hubble_param)


def _plain(name: str) -> Callable[[Cells], Array]:
    return lambda cells: cells.fields[name]


_THERMAL = ("InternalEnergy", "ElectronAbundance")
#: Unit of a quantity that has none.
_FRACTION = "mass fraction"

#: Every quantity that a channel may name, besides ``log10_`` of each. The entropies differ in the
#: density: of the electrons, physical [cm^-3], or of the matter, in comoving code units.
FIELDS: dict[str, GasField] = {
    "mass": GasField("m", "1e10 Msun/h", ("Masses",), _plain("Masses")),
    "surface_density": GasField("m / pixel area", "Msun/kpc^2", ("Masses",), _surface_density),
    "temperature": GasField("T", "K", _THERMAL, _temperature),
    "entropy": GasField("K", "keV cm^2", (*_THERMAL, "Density"), _entropy),
    "entropy_k_cm2": GasField("T / n_e^(2/3)", "K cm^2", (*_THERMAL, "Density"), _entropy_k_cm2),
    "entropy_code": GasField(
        "T / rho^(2/3)",
        "K (ckpc/h)^2 (1e10 Msun/h)^(-2/3)",
        (*_THERMAL, "Density"),
        _entropy_code,
    ),
    "density": GasField("rho", "g/cm^3", ("Density",), _density),
    "electron_density": GasField(
        "n_e", "cm^-3", ("Density", "ElectronAbundance"), _electron_density
    ),
    "metallicity": GasField("Z", _FRACTION, ("GFM_Metallicity",), _plain("GFM_Metallicity")),
    "sfr": GasField("SFR", "Msun/yr", ("StarFormationRate",), _plain("StarFormationRate")),
    "internal_energy": GasField("u", "km^2/s^2", ("InternalEnergy",), _plain("InternalEnergy")),
    "speed": GasField("|v|", "km/s", ("Velocities",), _speed),
    "magnetic_field": GasField("|B|", "G", ("MagneticField",), _magnetic_field),
}

#: Quantities that are as stored.
_STORED = {
    "mass": "Masses",
    "metallicity": "GFM_Metallicity",
    "sfr": "StarFormationRate",
    "internal_energy": "InternalEnergy",
}

#: Entropies: whether the density is that of the electrons, and whether k_B T is in keV.
_ENTROPIES = {
    "entropy": (True, True),
    "entropy_k_cm2": (True, False),
    "entropy_code": (False, False),
}

_WEIGHTS: dict[str, tuple[tuple[str, ...], Callable[[Cells], Array]]] = {
    "mass": (("Masses",), _plain("Masses")),
    "volume": (
        ("Masses", "Density"),
        lambda cells: cells.fields["Masses"].astype(np.float64) / cells.fields["Density"],
    ),
}
_WEIGHT_SYMBOLS = {"mass": ("m", "1e10 Msun/h"), "volume": ("V", "(ckpc/h)^3")}
#: Quantities of the matter itself, which star-forming gas is never left out of.
_MATTER = frozenset({"mass", "surface_density", "sfr"})


def _lookup(channel: Channel) -> tuple[GasField, bool]:
    name = channel.field.removeprefix(_LOG)
    if name not in FIELDS:
        raise ConfigError(
            f"channel {channel.name!r}: unknown field {channel.field!r}; known: "
            f"{', '.join(FIELDS)}, and log10_ before any of them"
        )
    return FIELDS[name], channel.field.startswith(_LOG)


def required_fields(channels: Iterable[Channel], *, star_forming_gas: str = "in") -> list[str]:
    """List the TNG fields of PartType0 that the channels need, sorted.

    Parameters
    ----------
    channels : iterable of Channel
        The channels.
    star_forming_gas : {"in", "out"}
        ``out`` needs StarFormationRate.

    Returns
    -------
    list of str
        Names as on disk.

    Raises
    ------
    ConfigError
        A channel names an unknown quantity.
    """
    names: set[str] = set()
    for channel in channels:
        names.update(_lookup(channel)[0].needs)
        if channel.weight != "none":
            names.update(_WEIGHTS[channel.weight][0])
    if star_forming_gas == "out":
        names.add("StarFormationRate")
    return sorted(names)


def is_relative(channels: Iterable[Channel]) -> bool:
    """Whether a channel shows velocities, which are in the frame of the galaxy."""
    return any("Velocities" in _lookup(channel)[0].needs for channel in channels)


def channel_unit(channel: Channel, *, star_forming_gas: str = "in") -> str:
    """Say what a pixel of a channel's finished map is: statistic, quantity and unit.

    Parameters
    ----------
    channel : Channel
        The channel.
    star_forming_gas : {"in", "out"}
        As in `weights`.

    Returns
    -------
    str
        For example ``sum over cells of log10 T [K]``.

    Raises
    ------
    ConfigError
        Unknown quantity.
    """
    field, is_log = _lookup(channel)
    cells = "cells"
    if star_forming_gas == "out" and channel.field.removeprefix(_LOG) not in _MATTER:
        cells = "cells without star formation"
    value, unit = f"log10 {_grouped(field.symbol)}" if is_log else field.symbol, field.unit
    if channel.statistic == "mean":
        weighted = "" if channel.weight == "none" else f"{channel.weight}-weighted "
        statistic = f"{weighted}mean"
    else:
        statistic = "sum"
        if channel.weight != "none":
            value, unit = _times(*_WEIGHT_SYMBOLS[channel.weight], field, is_log=is_log)
    text = f"{statistic} over {cells} of {value} [{unit}]"
    return f"log10 of the {text}" if channel.transform == "log10" else text


def _times(symbol: str, unit: str, field: GasField, *, is_log: bool) -> tuple[str, str]:
    """Symbol and unit of a weight times a quantity, or times its logarithm, which has no unit."""
    if is_log:
        argument = field.symbol
        if field.unit != _FRACTION:
            argument = f"{_grouped(field.symbol)} / {_grouped(field.unit)}"
        return f"{symbol} log10({argument})", unit
    if field.symbol == symbol:
        return f"{symbol}^2", f"({unit})^2"
    product = unit if field.unit == _FRACTION else f"{unit} {_grouped(field.unit)}"
    return f"{symbol} {_grouped(field.symbol)}", product


def _grouped(text: str) -> str:
    """Put brackets around a product or quotient that something is to be multiplied with."""
    return f"({text})" if " " in text or "/" in text else text


def weights(
    channel: Channel, cells: Cells, *, star_forming_gas: str = "in"
) -> tuple[Array, Array | None]:
    """Compute what is summed over the cells of a pixel for one channel.

    Parameters
    ----------
    channel : Channel
        The channel.
    cells : Cells
        The gas.
    star_forming_gas : {"in", "out"}
        ``out`` gives cells with SFR > 0 no weight, except in maps of the matter itself.

    Returns
    -------
    numerator : ndarray of float, shape (N,)
        Values to sum; not finite where the quantity is not defined.
    denominator : ndarray of float or None
        Weights to divide the sum by, for a mean.

    Raises
    ------
    ConfigError
        Unknown quantity.
    """
    field, is_log = _lookup(channel)
    values = field.compute(cells)
    if is_log:
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.log10(values, dtype=np.float64)
    denominator: Array | None = None
    if channel.weight != "none":
        denominator = _WEIGHTS[channel.weight][1](cells)
        with np.errstate(invalid="ignore"):
            values = values.astype(np.float64) * denominator
    if star_forming_gas == "out" and channel.field.removeprefix(_LOG) not in _MATTER:
        quiet = ~(cells.fields["StarFormationRate"] > 0)
        values = np.where(quiet, values, 0.0)
        denominator = None if denominator is None else np.where(quiet, denominator, 0.0)
    if channel.statistic == "sum":
        return np.ascontiguousarray(values), None
    if denominator is None:
        denominator = np.ones(len(values))
    return np.ascontiguousarray(values), np.where(np.isfinite(values), denominator, 0.0)


def kernel_weights(
    channel: Channel, cells: Cells, *, star_forming_gas: str = "in"
) -> tuple[Weight, Weight | None] | None:
    """Describe what `weights` computes, for the kernels to compute it of the cells in the frame.

    Parameters
    ----------
    channel, cells, star_forming_gas
        As in `weights`.

    Returns
    -------
    tuple of numerator and denominator, or None
        None where the kernels cannot: then `weights` does it.
    """
    _, is_log = _lookup(channel)
    name = channel.field.removeprefix(_LOG)
    is_left_out = star_forming_gas == "out" and name not in _MATTER
    # a mean leaves cells out of its denominator too where the quantity is not finite
    if is_left_out or channel.statistic == "mean" or channel.weight == "volume":
        return None
    times = cells.fields["Masses"] if channel.weight == "mass" else None
    if name == "temperature" or name in _ENTROPIES:
        density = None if name == "temperature" else cells.fields["Density"]
        of_electrons, in_kev = _ENTROPIES.get(name, (True, True))
        factors = units.thermal_factors(cells.scale_factor, cells.hubble_param)
        dense, entropic = (factors[4] if of_electrons else 1.0), (factors[5] if in_kev else 1.0)
        factors = (*factors[:4], dense, entropic)
        energy, electrons = (cells.fields[field] for field in _THERMAL)
        return Thermal(energy, electrons, factors, density, times, is_log, of_electrons), None
    if times is None and not is_log and name in _STORED:
        return cells.fields[_STORED[name]], None
    return None


def finish(channel: Channel, total: Array, divisor: Array | None) -> NDArray[np.float32]:
    """Make a channel's map from binned sums: divide for a mean, then transform.

    Parameters
    ----------
    channel : Channel
        The channel.
    total : ndarray of float64, shape (y, x)
        Binned numerators.
    divisor : ndarray of float64 or None
        Binned denominators, for a mean.

    Returns
    -------
    ndarray of float32, shape (y, x)
        The map; NaN where a mean or a logarithm is not defined.
    """
    result = np.asarray(total, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        if divisor is not None:
            result = np.where(divisor > 0, result / divisor, np.nan)
        if channel.transform == "log10":
            result = np.where(result > 0, np.log10(result), np.nan)
    return result.astype(np.float32)


def names(channels: Sequence[Channel]) -> list[str]:
    """Return the channels' names."""
    return [channel.name for channel in channels]
