"""The colour stretch: three normalised maps become an 8-bit RGB image (METHOD 2.5)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sfr.arrays import real
from sfr.errors import ShapeError
from sfr.recipe import ImageRecipe

__all__ = ["lupton_rgb", "quantise", "stretch"]


def stretch(maps: NDArray[np.floating], recipe: ImageRecipe) -> NDArray[np.float64]:
    """Stretch three channels with the asinh of their mean intensity.

    With I = (r + g + b) / 3 each channel becomes c asinh(|I| / beta) / (asinh(1 / beta) I), and 0
    where I = 0. With ``negative = "listing"`` the divisor is I, so all signs flip where I < 0;
    with ``absolute`` it is |I|. Channels above 1 are left as they are.

    Parameters
    ----------
    maps : ndarray of float, shape (3, y, x)
        Normalised maps [-]; NaN counts as 0.
    recipe : ImageRecipe
        ``beta`` and ``negative``.

    Returns
    -------
    ndarray of float64, shape (3, y, x)
        Stretched channels, about 0 to 3.

    Raises
    ------
    ShapeError
        ``maps`` does not have three channels.
    DTypeError
        Its mask or unit would be lost, or it does not hold real numbers.

    Notes
    -----
    Lupton et al. (2004), PASP 116, 133, with the softening of the published listing.
    """
    channels = real(maps, "maps")
    if channels.ndim != 3 or channels.shape[0] != 3:
        raise ShapeError(f"maps has shape {channels.shape}; the stretch takes (3, y, x)")
    channels = np.nan_to_num(channels, nan=0.0)  # a copy, stretched in place
    intensity = channels.mean(axis=0)
    divisor = np.abs(intensity) if recipe.negative == "absolute" else intensity
    stretched = np.arcsinh(np.abs(intensity) / recipe.beta) / np.arcsinh(1.0 / recipe.beta)
    factor = np.divide(stretched, divisor, out=np.zeros_like(stretched), where=intensity != 0)
    channels *= factor
    return channels


def lupton_rgb(maps: NDArray[np.floating], recipe: ImageRecipe) -> NDArray[np.uint8]:
    """Stretch and quantise three normalised maps to an 8-bit picture.

    Parameters
    ----------
    maps : ndarray of float, shape (3, y, x)
        Normalised maps [-], y upwards; channels in the order red, green, blue.
    recipe : ImageRecipe
        The switches of the stretch.

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
    channels = stretch(maps, recipe)
    if recipe.above_one == "scale":
        channels /= np.maximum(channels.max(axis=0), 1.0)
    return quantise(channels, recipe)


def quantise(planes: NDArray[np.float64], recipe: ImageRecipe) -> NDArray[np.uint8]:
    """Turn planes in 0..1, shape (3, y, x), into an 8-bit picture; what lies outside is clipped."""
    scaled = np.clip(planes, 0.0, 1.0)
    scaled *= 255.0
    if recipe.quantise != "floor":
        np.rint(scaled, out=scaled)
    # numbers are cut towards zero, to their floor
    levels = scaled.astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(levels[:, ::-1, :], 0, -1))
