"""The registry: every quantity that a channel may show, and what the kernels sum for a channel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sfr import units
from sfr.errors import ConfigError, InternalError
from sfr.recipe import Channel, MapsRecipe
from sfr.render import kernels
from sfr.simulation.protocol import DARK_MATTER, GAS

__all__ = [
    "FIELDS",
    "PARTICLES",
    "Field",
    "Kind",
    "Setting",
    "channel_unit",
    "check_fields",
    "finish",
    "is_relative",
    "names",
    "part_type",
    "recipe_fields",
    "required_fields",
    "shown",
    "volume",
    "weight",
]

Fields = Mapping[str, NDArray[np.floating]]
_LOG = "log10_"


@dataclass(frozen=True)
class Kind:
    """A type of particles in words."""

    #: What they are made of.
    matter: str
    #: Several of them.
    particles: str
    #: The same after "sum over", where gas is what is meant without a word.
    summed: str


#: Types of particles that have quantities in the registry.
PARTICLES = {
    GAS: Kind("gas", "gas cells", "cells"),
    DARK_MATTER: Kind("dark matter", "dark matter particles", "dark matter particles"),
}


@dataclass(frozen=True)
class Setting:
    """What a quantity depends on besides its particles.

    Attributes
    ----------
    scale_factor, hubble_param : float
        a and h of the snapshot.
    bulk_velocity_km_s : ndarray of float64, shape (3,), or None
        Peculiar velocity of the galaxy [km/s]; None where no quantity is relative to it.
    pixel_area_kpc2 : float
        Area of a pixel [physical kpc^2].
    """

    scale_factor: float
    hubble_param: float
    bulk_velocity_km_s: NDArray[np.float64] | None
    pixel_area_kpc2: float


class _Recipe(Protocol):
    """How the kernels make a quantity of TNG fields."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the fields, as on disk."""
        ...

    def of(self, fields: Fields, setting: Setting) -> kernels.Quantity:
        """Tell the kernels how to make it for particles with these fields."""
        ...


@dataclass(frozen=True)
class Stored:
    """A field as it is stored."""

    name: str

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the fields, as on disk."""
        return (self.name,)

    def of(self, fields: Fields, setting: Setting) -> kernels.Quantity:
        """Tell the kernels how to make it for particles with these fields."""
        del setting
        return fields[self.name]


@dataclass(frozen=True)
class Product:
    """A factor times fields, over one of them: numbers that cannot be negative."""

    times: tuple[str, ...]
    factor: Callable[[Setting], float] = lambda _: 1.0
    per: str | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the fields, as on disk."""
        return (*self.times, *([] if self.per is None else [self.per]))

    def of(self, fields: Fields, setting: Setting) -> kernels.Quantity:
        """Tell the kernels how to make it for particles with these fields."""
        per = None if self.per is None else fields[self.per]
        times = tuple(fields[name] for name in self.times)
        return kernels.Product(times, self.factor(setting), per)


@dataclass(frozen=True)
class Length:
    """A factor times the length of a vector; of a velocity, that in the frame of the galaxy."""

    name: str
    factor: Callable[[Setting], float]
    is_relative: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the fields, as on disk."""
        return (self.name,)

    def of(self, fields: Fields, setting: Setting) -> kernels.Quantity:
        """Tell the kernels how to make it for particles with these fields."""
        offset = np.zeros(3)
        if self.is_relative:
            if setting.bulk_velocity_km_s is None:
                raise InternalError(
                    f"{self.name} are relative to the galaxy, whose velocity was not given"
                )
            offset = setting.bulk_velocity_km_s
        return kernels.Length(fields[self.name], self.factor(setting), offset)


@dataclass(frozen=True)
class Thermal:
    """A temperature [K], or T / n^(2/3) with a density of electrons [cm^-3] or of matter [code]."""

    density: Literal["none", "electrons", "matter"] = "none"
    #: Whether k_B T is meant, in keV.
    in_kev: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the fields, as on disk."""
        density = () if self.density == "none" else ("Density",)
        return ("InternalEnergy", "ElectronAbundance", *density)

    def of(self, fields: Fields, setting: Setting) -> kernels.Quantity:
        """Tell the kernels how to make it for particles with these fields."""
        factors = units.thermal_factors(setting.scale_factor, setting.hubble_param)
        of_electrons = self.density == "electrons"
        dense, entropic = factors[4] if of_electrons else 1.0, factors[5] if self.in_kev else 1.0
        energy, electrons, *density = (fields[name] for name in self.needs)
        return kernels.Thermal(
            energy,
            electrons,
            (*factors[:4], dense, entropic),
            density[0] if density else None,
            of_electrons,
        )


@dataclass(frozen=True)
class Field:
    """One quantity of one type of particles.

    Attributes
    ----------
    symbol, unit : str
        As in texts.
    recipe : Stored, Product, Length or Thermal
        The TNG fields that it needs, and how the kernels make it of them.
    part_type : int
        Type of the particles.
    is_matter : bool
        Whether it is of the matter itself, which star-forming gas is never left out of.
    """

    symbol: str
    unit: str
    recipe: _Recipe
    part_type: int = GAS
    is_matter: bool = False


def _msun_per_area(setting: Setting) -> float:
    return float(units.mass_msun(1.0, setting.hubble_param)) / setting.pixel_area_kpc2


def _density_cgs(setting: Setting) -> float:
    return float(units.density_cgs(1.0, setting.scale_factor, setting.hubble_param))


def _electrons_cgs(setting: Setting) -> float:
    return float(units.electron_density_cgs(1.0, 1.0, setting.scale_factor, setting.hubble_param))


def _gauss(setting: Setting) -> float:
    return float(units.magnetic_field_gauss(1.0, setting.scale_factor, setting.hubble_param))


def _peculiar(setting: Setting) -> float:
    return float(np.sqrt(setting.scale_factor))


#: Unit of a quantity that has none.
_FRACTION = "mass fraction"
_AREA = "m / pixel area", "Msun/kpc^2"
_MASS = "m", "1e10 Msun/h"

#: Every quantity that a channel may name, besides ``log10_`` of each.
FIELDS: dict[str, Field] = {
    "mass": Field(*_MASS, Stored("Masses"), is_matter=True),
    "surface_density": Field(*_AREA, Product(("Masses",), _msun_per_area), is_matter=True),
    "temperature": Field("T", "K", Thermal()),
    "entropy": Field("K", "keV cm^2", Thermal("electrons", in_kev=True)),
    "entropy_k_cm2": Field("T / n_e^(2/3)", "K cm^2", Thermal("electrons")),
    "entropy_code": Field("T / rho^(2/3)", "K (ckpc/h)^2 (1e10 Msun/h)^(-2/3)", Thermal("matter")),
    "density": Field("rho", "g/cm^3", Product(("Density",), _density_cgs)),
    "electron_density": Field(
        "n_e", "cm^-3", Product(("Density", "ElectronAbundance"), _electrons_cgs)
    ),
    "metallicity": Field("Z", _FRACTION, Stored("GFM_Metallicity")),
    "sfr": Field("SFR", "Msun/yr", Stored("StarFormationRate"), is_matter=True),
    "internal_energy": Field("u", "km^2/s^2", Stored("InternalEnergy")),
    "speed": Field("|v|", "km/s", Length("Velocities", _peculiar, is_relative=True)),
    "magnetic_field": Field("|B|", "G", Length("MagneticField", _gauss)),
    "dark_matter_mass": Field(*_MASS, Stored("Masses"), DARK_MATTER, is_matter=True),
    "dark_matter_surface_density": Field(
        *_AREA, Product(("Masses",), _msun_per_area), DARK_MATTER, is_matter=True
    ),
}

#: What a quantity may be multiplied by.
_WEIGHTS = {
    "mass": Field(*_MASS, Stored("Masses")),
    "volume": Field("V", "(ckpc/h)^3", Product(("Masses",), per="Density")),
}


def _lookup(channel: Channel) -> tuple[Field, bool]:
    name = channel.field.removeprefix(_LOG)
    if name not in FIELDS:
        raise ConfigError(
            f"channel {channel.name!r}: unknown field {channel.field!r}; known: "
            f"{', '.join(FIELDS)}, and log10_ before any of them"
        )
    field = FIELDS[name]
    if channel.weight == "volume" and field.part_type != GAS:
        raise ConfigError(
            f"channel {channel.name!r}: {PARTICLES[field.part_type].particles} have no volume; "
            "allowed for their fields: weight none or mass"
        )
    return field, channel.field.startswith(_LOG)


def _is_left_out(field: Field, star_forming_gas: str) -> bool:
    return star_forming_gas == "out" and not field.is_matter


def part_type(channels: Iterable[Channel]) -> int:
    """Say of which type the particles are that channels show.

    Parameters
    ----------
    channels : iterable of Channel
        The channels, at least one.

    Returns
    -------
    int
        For example 0, gas.

    Raises
    ------
    ConfigError
        An unknown quantity, or channels of more than one type of particles.
    """
    found = {channel.name: _lookup(channel)[0].part_type for channel in channels}
    types = sorted(set(found.values()))
    if len(types) != 1:
        said = "; ".join(
            f"{PARTICLES[kind].matter}: {', '.join(n for n, k in found.items() if k == kind)}"
            for kind in types
        )
        raise ConfigError(
            f"the channels of a recipe are of one type of particles; found {said or 'no channel'}. "
            "Make one recipe, and one --work, for each type"
        )
    return types[0]


def shown(recipe: MapsRecipe) -> int:
    """Say of which type the particles are that the maps of a recipe show; see `part_type`."""
    return part_type((*recipe.channels, *recipe.candidates))


def check_fields(recipe: MapsRecipe) -> None:
    """Raise ConfigError where no particles could have the maps of a recipe; see `recipe_fields`."""
    recipe_fields(recipe)


def required_fields(channels: Iterable[Channel], *, star_forming_gas: str = "in") -> list[str]:
    """List the TNG fields that channels need of the particles that they show, sorted.

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
        As of `part_type`.
    """
    channels = tuple(channels)
    if channels:
        part_type(channels)
    needed: set[str] = set()
    for channel in channels:
        field, _ = _lookup(channel)
        needed.update(field.recipe.needs)
        if channel.weight != "none":
            needed.update(_WEIGHTS[channel.weight].recipe.needs)
        if _is_left_out(field, star_forming_gas):
            needed.add("StarFormationRate")
    return sorted(needed)


def recipe_fields(recipe: MapsRecipe) -> list[str]:
    """List the TNG fields that the maps of a recipe need besides ``Coordinates``, sorted.

    Raises
    ------
    ConfigError
        As of `part_type`, or particles without a size that are to be smoothed.
    """
    channels = (*recipe.channels, *recipe.candidates)
    needed = required_fields(channels, star_forming_gas=recipe.star_forming_gas)
    if recipe.deposit == "smoothed":
        needed += _size_fields(shown(recipe))
    return sorted(set(needed))


def _size_fields(kind: int) -> list[str]:
    """List the fields that tell the sizes of particles of a type; raise where they have none."""
    if kind != GAS:
        raise ConfigError(
            f'maps.deposit = "smoothed" spreads gas cells by their volume; '
            f'{PARTICLES[kind].particles} have none: allowed is "histogram"'
        )
    return ["Density", "Masses"]


def volume(fields: Fields) -> kernels.Product:
    """Return the volumes of gas cells, mass over density, for the kernels to make [(ckpc/h)^3]."""
    return kernels.Product((fields["Masses"],), per=fields["Density"])


def is_relative(channels: Iterable[Channel]) -> bool:
    """Whether a channel shows velocities, which are in the frame of the galaxy."""
    recipes = (_lookup(channel)[0].recipe for channel in channels)
    return any(isinstance(recipe, Length) and recipe.is_relative for recipe in recipes)


def channel_unit(channel: Channel, *, star_forming_gas: str = "in") -> str:
    """Say what a pixel of a channel's finished map is: statistic, quantity and unit.

    Parameters
    ----------
    channel : Channel
        The channel.
    star_forming_gas : {"in", "out"}
        As in `weight`.

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
    many = PARTICLES[field.part_type].summed
    if _is_left_out(field, star_forming_gas):
        many += " without star formation"
    value, unit = f"log10 {_grouped(field.symbol)}" if is_log else field.symbol, field.unit
    if channel.statistic == "mean":
        weighted = "" if channel.weight == "none" else f"{channel.weight}-weighted "
        statistic = f"{weighted}mean"
    else:
        statistic = "sum"
        if channel.weight != "none":
            value, unit = _times(_WEIGHTS[channel.weight], field, is_log=is_log)
    text = f"{statistic} over {many} of {value} [{unit}]"
    return f"log10 of the {text}" if channel.transform == "log10" else text


def _times(weight: Field, field: Field, *, is_log: bool) -> tuple[str, str]:
    """Symbol and unit of a weight times a quantity, or times its logarithm, which has no unit."""
    symbol, unit = weight.symbol, weight.unit
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


def weight(
    channel: Channel, fields: Fields, setting: Setting, *, star_forming_gas: str = "in"
) -> kernels.Weight:
    """Tell the kernels what to sum over the particles of a pixel for one channel.

    Parameters
    ----------
    channel : Channel
        The channel.
    fields : mapping of str to ndarray
        TNG fields of the particles by their names on disk, code units, first axis N.
    setting : Setting
        What else the quantity depends on.
    star_forming_gas : {"in", "out"}
        ``out`` leaves out cells with SFR > 0, except of maps of the matter itself.

    Returns
    -------
    Weight
        For `kernels.project_segments`; it sums two columns for a mean.

    Raises
    ------
    ConfigError
        Unknown quantity.
    """
    field, is_log = _lookup(channel)
    times = None
    if channel.weight != "none":
        times = _WEIGHTS[channel.weight].recipe.of(fields, setting)
    is_left_out = _is_left_out(field, star_forming_gas)
    return kernels.Weight(
        field.recipe.of(fields, setting),
        log10=is_log,
        times=times,
        without=fields["StarFormationRate"] if is_left_out else None,
        is_mean=channel.statistic == "mean",
    )


def finish(
    channel: Channel, total: NDArray[Any], divisor: NDArray[Any] | None
) -> NDArray[np.float32]:
    """Make a channel's map from binned sums: divide for a mean, then transform.

    Parameters
    ----------
    channel : Channel
        The channel.
    total : ndarray of float64, shape (x, y)
        Binned numerators.
    divisor : ndarray of float64 or None
        Binned denominators, for a mean.

    Returns
    -------
    ndarray of float32, shape (x, y)
        The map; NaN where a mean or a logarithm is not defined.
    """
    result = np.asarray(total, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        if divisor is not None:
            result = result / divisor  # NaN in empty pixels
            result[(divisor <= 0) & ~np.isnan(result)] = np.nan
        if channel.transform == "log10":
            # 0 / 0 is NaN, of which a logarithm is quick; that of 0 is not, nor is numpy.where
            result = np.log10(result / (result > 0))
    return result.astype(np.float32)


def names(channels: Sequence[Channel]) -> list[str]:
    """Return the channels' names."""
    return [channel.name for channel in channels]
