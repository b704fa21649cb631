"""The versions of a galaxy that are compared: a registry of pure functions (METHOD 2.7).

A case is made of the 8-bit RGB composite or of the float maps (``cases.act_on``); what its name
means is said in one place, `sfr.recipe.parse_case`. A further family of cases is an entry of
``SCALED_FAMILIES`` there, and of `IMAGE_FAMILIES` or `MAP_FAMILIES` here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sfr.arrays import real
from sfr.errors import ConfigError, DTypeError, RangeError, ShapeError
from sfr.imaging.cases.images import IMAGE_FAMILIES, RGB, single_channel
from sfr.imaging.cases.maps import MAP_FAMILIES, CaseMaps, Maps, network_input
from sfr.recipe import CasesRecipe, parse_case

__all__ = [
    "RGB",
    "CaseFunction",
    "CaseMaps",
    "MapCaseFunction",
    "case_function",
    "map_case_function",
    "network_input",
]

#: A case of the composite: image in, image out.
CaseFunction = Callable[[RGB], RGB]
#: A case of the maps: maps in 0..1 in, three maps out.
MapCaseFunction = Callable[[Maps], CaseMaps]

#: Of maps in 0..1, what a blur may be off by rounding.
_ROUNDING = 1e-5


def case_function(case: str, recipe: CasesRecipe, channels: Sequence[str]) -> CaseFunction:
    """Return the function of a case of the 8-bit composite.

    Parameters
    ----------
    case : str
        Name of the case.
    recipe : CasesRecipe
        How cases are made.
    channels : sequence of str
        Names of the channels of the composite: red, green and blue.

    Returns
    -------
    callable
        Takes and returns uint8 arrays of shape (y, x, 3).

    Raises
    ------
    ConfigError
        Unknown case, or the recipe makes cases of float maps.
    """
    if recipe.act_on != "composite":
        raise ConfigError(
            f'case {case}: cases.act_on = "{recipe.act_on}" is not available for images; use '
            '"composite"'
        )
    meaning = parse_case(case, channels, recipe.act_on)

    def apply(image: RGB) -> RGB:
        if image.dtype != np.uint8:
            raise DTypeError(f"image has type {image.dtype}; a case takes uint8")
        if image.ndim != 3 or image.shape[2] != 3:
            raise ShapeError(f"image has shape {image.shape}; a case takes (y, x, 3)")
        if meaning.channel is not None:
            return single_channel(image, meaning.channel)
        if not meaning.scales_px:
            return image.copy()
        return IMAGE_FAMILIES[meaning.family](image, recipe, *meaning.scales_px)

    return apply


def map_case_function(case: str, recipe: CasesRecipe, channels: Sequence[str]) -> MapCaseFunction:
    """Return the function of a case of the float maps.

    Parameters
    ----------
    case : str
        Name of the case.
    recipe : CasesRecipe
        How cases are made; ``edge`` and ``gain`` act.
    channels : sequence of str
        Names of the channels, in the order of the maps.

    Returns
    -------
    callable
        Takes maps in 0..1 of float32 or float64, shape (channel, y, x), and returns a `CaseMaps`
        of the same type.

    Raises
    ------
    ConfigError
        Unknown case, or the recipe makes cases of the composite.
    """
    if recipe.act_on != "maps":
        raise ConfigError(
            f'case {case}: cases.act_on = "{recipe.act_on}" makes it of images; use "maps"'
        )
    meaning = parse_case(case, channels, recipe.act_on)

    def apply(maps: Maps) -> CaseMaps:
        _check(maps, len(channels))
        made = maps if meaning.channel is None else maps[meaning.channel, np.newaxis]
        if meaning.scales_px:
            made = MAP_FAMILIES[meaning.family](made, recipe, *meaning.scales_px)
        outside = (made < -_ROUNDING) | (made > 1 + _ROUNDING)
        made = np.clip(made, 0.0, 1.0)
        planes = np.repeat(made, 3, axis=0) if len(made) == 1 else made.copy()
        return CaseMaps(planes, float(outside.mean()))

    return apply


def _check(maps: Maps, n_channels: int) -> None:
    real(maps, "maps")
    if maps.dtype.kind != "f" or maps.dtype.itemsize < 4:
        raise DTypeError(f"maps has type {maps.dtype}; a case takes float32 or float64")
    if maps.ndim != 3 or len(maps) != n_channels:
        raise ShapeError(f"maps has shape {maps.shape}; a case takes ({n_channels}, y, x)")
    if not (np.all(maps >= 0) and np.all(maps <= 1)):
        raise RangeError("maps leaves 0..1 or holds NaN; scale it by the ranges of its channels")
