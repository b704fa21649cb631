"""The versions of an image that are compared: a registry of pure functions (METHOD 2.7).

A case takes the 8-bit RGB composite, shape (y, x, 3), and returns an 8-bit RGB image of the same
shape. ``gauss<px>`` and ``structure<px>`` take any positive number of pixels.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sfr.errors import ConfigError, DTypeError, ShapeError
from sfr.recipe import CasesRecipe

__all__ = ["NAMES", "RGB", "Case", "case_function", "get_case"]

#: An 8-bit image, shape (y, x, 3), row 0 at the top.
RGB = NDArray[np.uint8]
#: A case: image in, image out.
Case = Callable[[RGB], RGB]

_SCALED = re.compile(r"(gauss|structure)(\d+(?:\.\d+)?)")


def composite(image: RGB) -> RGB:
    """Return the three channels as they are."""
    return image.copy()


def single_channel(image: RGB, *, channel: int) -> RGB:
    """Copy one channel of the stretched composite into all three.

    The stretch mixes the channels, so this image carries f(I)/I of all of them (METHOD 2.7).
    """
    return np.repeat(image[:, :, channel : channel + 1], 3, axis=2)


def gauss(image: RGB, *, radius_px: float) -> RGB:
    """Blur with Pillow's GaussianBlur, three extended box blurs on 8 bits."""
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius_px))).copy()


def structure(image: RGB, *, radius_px: float) -> RGB:
    """Subtract the blurred image in 8 bits: negative differences wrap modulo 256."""
    return image - gauss(image, radius_px=radius_px)


_FIXED: dict[str, Case] = {
    "composite": composite,
    "entropy": partial(single_channel, channel=0),
    "mass": partial(single_channel, channel=1),
    "temperature": partial(single_channel, channel=2),
}
_FAMILIES: dict[str, Callable[..., RGB]] = {"gauss": gauss, "structure": structure}

#: The ten published cases, in the order of the tables.
NAMES = (*_FIXED, "gauss3", "gauss5", "gauss10", "structure3", "structure5", "structure10")


def get_case(name: str) -> Case:
    """Return the function of a case.

    Parameters
    ----------
    name : str
        One of `NAMES`, or ``gauss<px>`` / ``structure<px>`` with a number of pixels above 0.

    Returns
    -------
    callable
        Takes and returns uint8 arrays of shape (y, x, 3).

    Raises
    ------
    ConfigError
        Unknown name.
    """
    if name in _FIXED:
        return _checked(_FIXED[name])
    match = _SCALED.fullmatch(name)
    if match is None or not 0 < float(match[2]) <= 1000:
        raise ConfigError(
            f"unknown case {name!r}; known: {', '.join(_FIXED)}, and gauss<px> or structure<px> "
            "with 0 < px <= 1000, for example gauss3"
        )
    return _checked(partial(_FAMILIES[match[1]], radius_px=float(match[2])))


def case_function(case: str, recipe: CasesRecipe) -> Case:
    """Return the function of a case under a recipe.

    Raises
    ------
    ConfigError
        Unknown case, or the recipe wants a variant of it that is not built.
    """
    function = get_case(case)
    if recipe.act_on != "composite" and case != "composite":
        raise ConfigError(
            f'case {case}: cases.act_on = "{recipe.act_on}" is not available yet; use "composite"'
        )
    if recipe.structure != "wrap" and case.startswith("structure"):
        raise ConfigError(
            f'case {case}: cases.structure = "{recipe.structure}" is not available yet; use "wrap"'
        )
    return function


def _checked(case: Case) -> Case:
    def apply(image: RGB) -> RGB:
        if image.dtype != np.uint8:
            raise DTypeError(f"image has type {image.dtype}; a case takes uint8")
        if image.ndim != 3 or image.shape[2] != 3:
            raise ShapeError(f"image has shape {image.shape}; a case takes (y, x, 3)")
        return case(image)

    return apply
