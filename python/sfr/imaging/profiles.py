"""Radial profiles of float maps: what is left of a galaxy without any structure in its disc."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["annuli", "radial_profiles"]


def annuli(pixels: int, count: int) -> NDArray[np.int64]:
    """Give rings of one width about the centre of a square map numbers.

    Parameters
    ----------
    pixels : int
        Side of the map.
    count : int
        Rings up to the middle of the sides; the corners are no part of them.

    Returns
    -------
    ndarray of int64, shape (pixels, pixels)
        Ring of each pixel by its centre, from 0; ``count`` in the corners.
    """
    offset = np.arange(pixels) - (pixels - 1) / 2
    radius = np.hypot(offset[:, None], offset)
    return np.asarray(np.minimum(2 * count / pixels * radius, count), np.int64)


def radial_profiles(maps: NDArray[np.floating[Any]], count: int = 16) -> NDArray[np.float64]:
    """Take the mean of maps over rings.

    Parameters
    ----------
    maps : ndarray of float, shape (..., y, x)
        Square maps; NaN where a pixel is empty.
    count : int
        Rings; fewer on maps of few pixels, so that each has a pixel.

    Returns
    -------
    ndarray of float64, shape (..., rings)
        Mean of the pixels that hold something, in the unit of the map; NaN where none does.
    """
    pixels = maps.shape[-1]
    count = min(count, max(1, pixels // 2))
    ring = annuli(pixels, count).ravel()
    order = np.argsort(ring, kind="stable")
    starts = np.searchsorted(ring[order], np.arange(count + 1))
    inside, starts = order[: starts[-1]], starts[:-1]
    values = maps.reshape(*maps.shape[:-2], -1)[..., inside].astype(np.float64)
    filled = ~np.isnan(values)
    sums = np.add.reduceat(np.where(filled, values, 0.0), starts, axis=-1)
    counts = np.add.reduceat(filled, starts, axis=-1, dtype=np.int64)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
