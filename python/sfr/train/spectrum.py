"""What a map says without any network: its radial profile, and the power at each scale."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sfr.errors import ShapeError
from sfr.imaging.profiles import annuli

__all__ = [
    "channel_means",
    "power_spectrum",
    "radial_profile",
    "shape_features",
    "shape_kinds",
    "wavelengths",
]

#: Annuli of equal width from the centre to the edge of the frame.
ANNULI: Final = 16
#: Bins of equal ratio from one wave in the frame to two pixels a wave, where there are as many.
_SCALES: Final = 24
#: Power below which a map is flat but for rounding [grey levels squared].
_FAINTEST: Final = 1e-6

Maps = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class _Bins(NamedTuple):
    """Bin of each pixel or mode; those of the number of bins lie in none."""

    place: Ints
    held: Floats


def radial_profile(maps: Maps) -> Floats:
    """Average maps over annuli.

    Parameters
    ----------
    maps : ndarray of float, shape (..., y, x)
        Square maps, the galaxy in the middle.

    Returns
    -------
    ndarray of float64, shape (..., ANNULI)
        Means, from the centre to half the width of the frame [unit of the maps].
    """
    return _means(maps, _annuli(_pixels(maps)))


def power_spectrum(maps: Maps) -> Floats:
    """Return how much maps vary at each scale, beside their radial profile.

    What the profile knows is taken off first, in annuli of a pixel: else the disc itself fills the
    long waves.

    Parameters
    ----------
    maps : ndarray of float, shape (..., y, x)
        Square maps in 0..255.

    Returns
    -------
    ndarray of float64, shape (..., scales)
        log10 of the mean power of the modes in each bin of `wavelengths`, from the longest waves
        to those of two pixels; white noise of variance 1 has 0 throughout.
    """
    pixels = _pixels(maps)
    rings, modes = _rings(pixels), _modes(pixels)
    values = np.asarray(maps, np.float64)
    left = values - _means(values, rings)[..., rings.place]
    power = np.abs(np.fft.fft2(left)) ** 2 / pixels**2
    found: Floats = np.log10(_means(power, modes) + _FAINTEST)
    return found


def wavelengths(pixels: int) -> Floats:
    """Return the mean wavelength of each bin of `power_spectrum` [px], the longest first."""
    return 1.0 / _means(_frequency(pixels), _modes(pixels))


def channel_means(maps: Maps) -> Floats:
    """Return mean and standard deviation over the pixels, shape (..., 2)."""
    values = np.asarray(maps, np.float64)
    return np.stack([values.mean(axis=(-2, -1)), values.std(axis=(-2, -1))], axis=-1)


def shape_features(maps: Maps) -> Floats:
    """Put power spectrum and radial profile of each channel side by side.

    Parameters
    ----------
    maps : ndarray of float, shape (channel, y, x)
        A galaxy.

    Returns
    -------
    ndarray of float64, shape (P,)
        Channel by channel; `shape_kinds` says which is which.
    """
    parts = [power_spectrum(maps), radial_profile(maps)]
    return np.concatenate(parts, axis=-1).ravel()


def shape_kinds(channels: int, pixels: int) -> Ints:
    """Return the kind of each of `shape_features`: even for a spectrum, odd for a profile."""
    scales = wavelengths(pixels).size
    one = np.repeat([0, 1], [scales, ANNULI])
    return np.concatenate([one + 2 * channel for channel in range(channels)])


def _pixels(maps: Maps) -> int:
    if maps.ndim < 2 or maps.shape[-1] != maps.shape[-2]:
        raise ShapeError(f"maps have shape {maps.shape}; square ones, (..., y, x), are expected")
    return int(maps.shape[-1])


def _means(maps: Maps, bins: _Bins) -> Floats:
    """Average the last two axes over bins."""
    shape = maps.shape[:-2]
    flat = np.asarray(maps, np.float64).reshape(-1, bins.place.size)
    place, size = bins.place.ravel(), bins.held.size
    found = [np.bincount(place, row, size + 1)[:size] / bins.held for row in flat]
    return np.array(found).reshape(*shape, size)


def _bins(place: Ints, size: int) -> _Bins:
    """Give numbers from 0 to the bins that hold something; all else is in none."""
    inside = (place >= 0) & (place < size)
    kept, count = np.unique(place[inside], return_counts=True)
    number = np.full(place.shape, kept.size)
    number[inside] = np.searchsorted(kept, place[inside])
    return _Bins(number, count.astype(np.float64))


def _radius(pixels: int) -> Floats:
    """Distance of each pixel from the middle [px]."""
    place = np.arange(pixels) - (pixels - 1) / 2
    found: Floats = np.hypot(place[:, None], place)
    return found


def _frequency(pixels: int) -> Floats:
    """Waves a pixel of each mode of `numpy.fft.fft2`."""
    waves = np.fft.fftfreq(pixels)
    found: Floats = np.hypot(waves[:, None], waves)
    return found


@lru_cache(4)
def _annuli(pixels: int) -> _Bins:
    return _bins(annuli(pixels, ANNULI), ANNULI)


@lru_cache(4)
def _rings(pixels: int) -> _Bins:
    return _bins(_radius(pixels).astype(np.int64), pixels)


@lru_cache(4)
def _modes(pixels: int) -> _Bins:
    edges = np.geomspace(0.999 / pixels, 0.501, _SCALES + 1)
    return _bins(np.digitize(_frequency(pixels), edges) - 1, _SCALES)
