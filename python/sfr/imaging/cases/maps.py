"""Cases of float maps: what the network reads, unrounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sfr.recipe import CasesRecipe

__all__ = ["MAP_FAMILIES", "CaseMaps", "Maps", "band", "gauss", "network_input", "structure"]

#: Maps in 0..1, shape (channel, y, x), y upwards.
Maps = NDArray[np.floating[Any]]


class CaseMaps(NamedTuple):
    """One version of a galaxy's maps.

    Attributes
    ----------
    maps : ndarray of float, shape (3, y, x)
        In 0..1, y upwards; three equal planes for a single channel.
    clipped : float
        Share of the pixels that the gain drove out of 0..1, and that were cut to it.
    """

    maps: Maps
    clipped: float


def gauss(maps: Maps, recipe: CasesRecipe, radius_px: float) -> Maps:
    """Blur each map with a Gaussian of this standard deviation, cut off at 4 of them."""
    from scipy.ndimage import gaussian_filter

    blurred: Maps = gaussian_filter(maps, (0.0, radius_px, radius_px), mode=recipe.edge)
    return blurred


def structure(maps: Maps, recipe: CasesRecipe, radius_px: float) -> Maps:
    """Return 0.5 + gain (I - G): what a blur takes away."""
    return _signed(maps - gauss(maps, recipe, radius_px), recipe)


def band(maps: Maps, recipe: CasesRecipe, inner_px: float, radius_px: float) -> Maps:
    """Return 0.5 + gain (G_inner - G): what lies between two blurs, a scale by itself."""
    return _signed(gauss(maps, recipe, inner_px) - gauss(maps, recipe, radius_px), recipe)


def _signed(difference: Maps, recipe: CasesRecipe) -> Maps:
    assert recipe.gain is not None, "the schema asks for it"
    return 0.5 + recipe.gain * difference


#: What is made at a scale: maps, recipe and the scales [px] in, maps out, not yet cut to 0..1.
MAP_FAMILIES: Final[Mapping[str, Callable[..., Maps]]] = {
    "gauss": gauss,
    "structure": structure,
    "band": band,
}


def network_input(maps: Maps) -> NDArray[np.float32]:
    """Turn maps into what a network made for 8-bit images takes: 255 times them, unrounded.

    Parameters
    ----------
    maps : ndarray of float, shape (3, y, x)
        In 0..1, y upwards.

    Returns
    -------
    ndarray of float32, shape (y, x, 3)
        In 0..255, row 0 at the top, as images have it.
    """
    return np.ascontiguousarray(np.moveaxis(255 * maps[:, ::-1, :], 0, -1), np.float32)
