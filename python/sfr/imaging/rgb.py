"""Three normalised maps become an 8-bit RGB image, as the recipe says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sfr.arrays import real
from sfr.errors import ShapeError
from sfr.imaging.lupton import lupton_rgb, quantise
from sfr.recipe import ImageRecipe

__all__ = ["rgb_image"]


def rgb_image(
    maps: NDArray[np.floating], recipe: ImageRecipe, channels: Sequence[str]
) -> NDArray[np.uint8]:
    """Make the picture of a galaxy.

    With ``stretch = "lupton"`` it is that of `lupton_rgb`. With ``none`` each channel is shown as
    it is; where ``brightness`` names a channel, the brightest of red, green and blue of a pixel is
    that channel's value, and the three keep their ratios: bright is what holds much of it, and the
    colour says what the rest is like.

    Parameters
    ----------
    maps : ndarray of float, shape (3, y, x)
        Normalised maps [-], y upwards; channels in the order red, green, blue; NaN counts as 0.
    recipe : ImageRecipe
        The switches.
    channels : sequence of str
        Names of the channels; where ``brightness`` is none of them, each is shown by itself.

    Returns
    -------
    ndarray of uint8, shape (y, x, 3)
        The picture, row 0 at the top.

    Raises
    ------
    ShapeError
        ``maps`` does not have three channels.
    DTypeError
        Its mask or unit would be lost, or it does not hold real numbers.
    """
    if recipe.stretch == "lupton":
        return lupton_rgb(maps, recipe)
    planes = real(maps, "maps")
    if planes.ndim != 3 or len(planes) != 3:
        raise ShapeError(f"maps has shape {planes.shape}; an image is made of (3, y, x)")
    planes = np.clip(np.where(np.isnan(planes), 0.0, planes), 0.0, 1.0)
    if recipe.brightness in channels:
        brightness = planes[list(channels).index(recipe.brightness)]
        brightest = planes.max(axis=0)
        # where brightness is 0 the pixel is black, whatever its colour
        planes = planes * np.divide(
            brightness, brightest, out=np.zeros_like(brightest), where=brightest > 0
        )
    return quantise(planes, recipe)
