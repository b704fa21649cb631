"""The versions of an image that are compared: a registry of pure functions (METHOD 2.7).

A case takes the 8-bit RGB composite, shape (y, x, 3), and returns an 8-bit RGB image of the same
shape. What a name means follows from the recipe's channels: `sfr.recipe.parse_case`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sfr.errors import ConfigError, DTypeError, ShapeError
from sfr.recipe import CasesRecipe, parse_case

__all__ = ["RGB", "CaseFunction", "case_function"]

#: An 8-bit image, shape (y, x, 3), row 0 at the top.
RGB = NDArray[np.uint8]
#: A case: image in, image out.
CaseFunction = Callable[[RGB], RGB]


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


def case_function(case: str, recipe: CasesRecipe, channels: Sequence[str]) -> CaseFunction:
    """Return the function of a case under a recipe.

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
        Unknown case, or the recipe wants a variant of it that is not built.
    """
    meaning = parse_case(case, channels)
    if recipe.act_on != "composite" and meaning.family != "composite":
        raise ConfigError(
            f'case {case}: cases.act_on = "{recipe.act_on}" is not available yet; use "composite"'
        )
    if recipe.structure != "wrap" and meaning.family == "structure":
        raise ConfigError(
            f'case {case}: cases.structure = "{recipe.structure}" is not available yet; use "wrap"'
        )
    function: CaseFunction = composite
    if meaning.channel is not None:
        function = partial(single_channel, channel=meaning.channel)
    elif meaning.radius_px is not None:
        blurred = {"gauss": gauss, "structure": structure}[meaning.family]
        function = partial(blurred, radius_px=meaning.radius_px)
    return _checked(function)


def _checked(case: CaseFunction) -> CaseFunction:
    def apply(image: RGB) -> RGB:
        if image.dtype != np.uint8:
            raise DTypeError(f"image has type {image.dtype}; a case takes uint8")
        if image.ndim != 3 or image.shape[2] != 3:
            raise ShapeError(f"image has shape {image.shape}; a case takes (y, x, 3)")
        return case(image)

    return apply
