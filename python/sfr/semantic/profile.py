"""The galaxy model of METHOD 6, its images and their derivatives, in NumPy.

Images are ``image[y, x]`` with y upwards (row 0 at the bottom), coordinates those of the authors'
notebook. In the frame turned by theta (x' = x cos t - y sin t, y' = x sin t + y cos t), so with the
major axis clockwise from +x, the intensity is amplitude exp(-r'^(1/n)) with
r'^2 = (x'/A)^2 + (y'/B)^2 and B = A (1 - e). With n = 1, amplitude 1 and centre 0 that is the
published model.

Derivatives are taken in **local coordinates**, in which nothing is singular for round galaxies:
ln sqrt(AB); the (conformal) shear l = ln(A/B) along the major axis, and the same across it, at 45
degrees (2 l times the angle); x and y of the centre; ln amplitude; ln n.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sfr.errors import RangeError, ShapeError

__all__ = [
    "NAMES",
    "PITCH",
    "PIXELS",
    "SHAPE",
    "Frame",
    "Linear",
    "angle_difference",
    "blocks",
    "checked",
    "linearise",
    "local_to_natural",
    "moved",
    "render",
]

Floats = NDArray[np.floating[Any]]

#: Columns of a parameter array, always all of them: A, x, y in the notebook's coordinates, theta
#: in degrees, amplitude in units of the image.
NAMES: Final = ("A", "e", "theta", "x", "y", "amplitude", "n")
#: The three that every problem leaves free.
SHAPE: Final = ("A", "e", "theta")

PIXELS: Final = 64
#: Distance between pixels in the notebook: linspace(-1, 1, 64) * 4 / 64.
PITCH: Final = 2 / 63 * 4 / 64

#: Images a block: what is worked on together should stay in the processor's cache.
_BLOCK: Final = 64
#: A round galaxy's radius at its own centre, where the profile has a cusp [scale lengths].
_TINY: Final = 1e-12
#: Largest change of a logarithm in one step, and the largest shear ln(A/B).
_LARGEST_STEP: Final = 0.7
_LARGEST_SHEAR: Final = 3.0


@dataclass(frozen=True)
class Frame:
    """The pixels, and how the telescope blurs.

    The frame always has 64 x 64 pixels on the same sky; an image of another size has its own
    pixels there, which are rendered and then averaged (or, where they are larger, interpolated)
    like the image itself.

    Attributes
    ----------
    psf_fwhm : float
        Full width at half maximum of a Gaussian point spread function [pixel of the image];
        0: none. The profile is rendered beyond the edges, so that light is blurred into the
        frame, too.
    size : int
        Pixels a side of the image before it became 64 x 64.
    """

    psf_fwhm: float = 0.0
    size: int = PIXELS

    def __post_init__(self) -> None:
        if not 0 <= self.psf_fwhm <= self.size / 4:
            raise RangeError(
                f"psf_fwhm = {self.psf_fwhm} is not a width from 0 to {self.size / 4:g} pixels, "
                "a quarter of the image"
            )
        if self.size < 2:
            raise RangeError(f"size = {self.size}: an image has 2 pixels a side or more")

    @property
    def _sigma(self) -> float:
        return float(self.psf_fwhm / np.sqrt(8 * np.log(2)))

    @property
    def _pad(self) -> int:
        return int(np.ceil(5 * self._sigma))

    @cached_property
    def axis(self) -> NDArray[np.float64]:
        """Coordinates of the pixels that are rendered, along either axis."""
        places = np.arange(-self._pad, self.size + self._pad)
        return np.asarray((places - (self.size - 1) / 2) * (PITCH * PIXELS / self.size), np.float64)

    @cached_property
    def blur(self) -> NDArray[np.float64] | None:
        """Matrix (64, rendered) that blurs, crops and averages one axis; None: nothing to do."""
        if self.psf_fwhm == 0:
            return None if self.size == PIXELS else self._average
        offset = np.arange(-self._pad, self.size + self._pad) - np.arange(self.size)[:, np.newaxis]
        kernel = np.exp(-0.5 * (offset / self._sigma) ** 2)
        return np.asarray(self._average @ (kernel / kernel.sum(axis=1, keepdims=True)))

    @cached_property
    def _average(self) -> NDArray[np.float64]:
        """Matrix (64, size): overlap of each pixel with those of the image, or interpolation."""
        if self.size < PIXELS:
            # of neighbours on the axis; the outermost are carried on
            places = (np.arange(PIXELS) + 0.5) * self.size / PIXELS - 0.5
            weight = 1 - np.abs(
                np.clip(places, 0, self.size - 1)[:, np.newaxis] - np.arange(self.size)
            )
            return np.asarray(np.maximum(weight, 0.0))
        edges = np.arange(PIXELS + 1) * self.size / PIXELS
        left, right = np.arange(self.size), np.arange(self.size) + 1
        overlap = np.minimum(edges[1:, np.newaxis], right) - np.maximum(
            edges[:-1, np.newaxis], left
        )
        return np.asarray(np.maximum(overlap, 0.0) * PIXELS / self.size)

    @property
    def noise_share(self) -> float:
        """Rms noise of the 64 x 64 pixels over that of the image, for white noise."""
        return float((self._average**2).sum(axis=1).mean())

    def averaged(self, image: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn an image (size, size) into one of 64 x 64 pixels."""
        return np.asarray(self._average @ image @ self._average.T)


@dataclass(frozen=True)
class Linear:
    """A block of models with their derivatives.

    Attributes
    ----------
    model : ndarray, shape (N, pixels)
        Images.
    columns : ndarray, shape (N, P, pixels)
        Derivatives in local coordinates, in the order of `NAMES`.
    """

    model: Floats
    columns: Floats


def checked(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return parameters as float64 (N, 7), or say what is wrong with them."""
    array = np.asarray(parameters, np.float64)
    if array.ndim != 2 or array.shape[1] != len(NAMES):
        raise ShapeError(f"parameters: shape {array.shape}, not (N, {len(NAMES)}): {NAMES}")
    if not (array[:, [0, 5, 6]] > 0).all() or not ((array[:, 1] >= 0) & (array[:, 1] < 1)).all():
        raise RangeError("parameters: A, amplitude and n must be positive and e in [0, 1)")
    return array


def blocks(count: int, size: int = _BLOCK) -> Iterator[slice]:
    """Cut a number of images into blocks."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def render(
    parameters: NDArray[np.float64], frame: Frame, dtype: DTypeLike = np.float32
) -> NDArray[Any]:
    """Render galaxies.

    Parameters
    ----------
    parameters : ndarray of float64, shape (N, 7)
        Columns `NAMES`.
    frame : Frame
        Pixels and PSF.
    dtype : dtype
        Of the images and of the arithmetic.

    Returns
    -------
    ndarray, shape (N, 64, 64)
        Images ``[galaxy, y, x]``, y upwards.

    Raises
    ------
    ShapeError, RangeError
        The parameters are not such.
    """
    parameters = checked(parameters)
    images = np.empty((len(parameters), PIXELS, PIXELS), dtype)
    for block in blocks(len(parameters)):
        geometry = _Geometry(parameters[block], frame, np.dtype(dtype), frame.axis)
        images[block] = geometry.blurred(geometry.intensity)
    return images


def linearise(
    parameters: NDArray[np.float64],
    frame: Frame,
    free: Sequence[str],
    dtype: DTypeLike = np.float64,
    *,
    upper_half: bool = False,
) -> Linear:
    """Render a block of galaxies with their derivatives in local coordinates.

    Parameters
    ----------
    parameters : ndarray of float64, shape (N, 7)
        Columns `NAMES`; not checked.
    frame : Frame
        Pixels and PSF.
    free : sequence of str
        Parameters that vary, in the order of `NAMES`; `SHAPE` are always among them. Empty: the
        images alone.
    dtype : dtype
        Of the result and of the arithmetic.
    upper_half : bool
        Only the upper 32 rows; a galaxy at the centre has the same in the lower ones, turned by
        180 deg. Without a PSF only.

    Returns
    -------
    Linear
        Images and derivatives; all at once in memory, so give a block (`blocks`).
    """
    rows = frame.axis[PIXELS // 2 :] if upper_half else frame.axis
    geometry = _Geometry(parameters, frame, np.dtype(dtype), rows)
    count = len(parameters)
    columns = np.empty((count, len(free), PIXELS // (1 + upper_half), PIXELS), dtype)
    if free:
        for place, values in enumerate(geometry.derivatives(free)):
            columns[:, place] = geometry.blurred(values)
    model = geometry.blurred(geometry.intensity).reshape(count, -1)
    return Linear(model, columns.reshape(count, len(free), model.shape[1]))


class _Geometry:
    """A block of galaxies on the pixels: what image and derivatives share."""

    def __init__(
        self,
        parameters: NDArray[np.float64],
        frame: Frame,
        dtype: np.dtype[Any],
        rows: NDArray[np.float64],
    ) -> None:
        self.frame, self.dtype = frame, dtype
        scale, ellipticity, theta, x, y, amplitude, sersic = parameters.T
        self.minor, self.sersic = 1 - ellipticity, sersic
        self.cos, self.sin, self.scale = np.cos(np.radians(theta)), np.sin(np.radians(theta)), scale
        u = (frame.axis[np.newaxis] - x[:, np.newaxis]) / scale[:, np.newaxis]
        v = (rows[np.newaxis] - y[:, np.newaxis]) / scale[:, np.newaxis]
        minor = self.minor[:, np.newaxis]
        cos, sin = self.cos[:, np.newaxis], self.sin[:, np.newaxis]
        # along the axes of the ellipse, in units of its half axes
        self.major_axis = self._plane(u * cos, -v * sin)
        self.minor_axis = self._plane(u * sin / minor, v * cos / minor)
        self.major_squared = self.major_axis * self.major_axis
        self.minor_squared = self.minor_axis * self.minor_axis
        radius = self.major_squared + self.minor_squared
        np.sqrt(radius, out=radius)
        self.radius = np.maximum(radius, self.dtype.type(_TINY), out=radius)
        # n = 1 saves two powers a pixel
        self.is_exponential = bool((sersic == 1).all())
        self.power = radius if self.is_exponential else radius ** self._per_galaxy(1 / sersic)
        self.intensity = np.exp(-self.power)
        if not (amplitude == 1).all():
            self.intensity *= self._per_galaxy(amplitude)

    def _plane(self, along_x: NDArray[np.float64], along_y: NDArray[np.float64]) -> Floats:
        rows, columns = along_y.astype(self.dtype), along_x.astype(self.dtype)
        return np.asarray(rows[:, :, np.newaxis] + columns[:, np.newaxis, :])

    def _per_galaxy(self, values: NDArray[np.float64]) -> Floats:
        return values.astype(self.dtype)[:, np.newaxis, np.newaxis]

    def blurred(self, values: Floats) -> Floats:
        """Blur with the PSF and crop to the frame."""
        if self.frame.blur is None:
            return values
        blur = self.frame.blur.astype(self.dtype)
        return np.asarray(blur @ values @ blur.T)

    def derivatives(self, free: Sequence[str]) -> Iterator[Floats]:
        """Yield dI/d(local coordinate) for each free parameter."""
        flux = self.intensity * self.power
        if not self.is_exponential:
            flux *= self._per_galaxy(1 / self.sersic)
        # -dI/d(ln r) = flux; every length enters through ln r
        slope = flux / (self.radius * self.radius)
        shear = -np.log(self.minor)
        for name in free:
            if name == "A":
                yield flux
            elif name == "e":
                yield slope * (self.major_squared - self.minor_squared) * self.dtype.type(0.5)
            elif name == "theta":
                turn = self._per_galaxy(-_sinhc(shear))
                yield slope * self.major_axis * self.minor_axis * turn
            elif name in ("x", "y"):
                yield slope * self._towards(name)
            elif name == "amplitude":
                yield self.intensity
            else:
                yield flux * np.log(self.radius)

    def _towards(self, name: str) -> Floats:
        """Return -d(r^2 / 2)/d(centre)."""
        cos, sin = (self.cos, self.sin) if name == "x" else (-self.sin, self.cos)
        across = self._per_galaxy(sin / (self.minor * self.scale)) * self.minor_axis
        return np.asarray(self._per_galaxy(cos / self.scale) * self.major_axis + across)


def _sinhc(values: NDArray[np.float64]) -> NDArray[np.float64]:
    small = values < 1e-4
    safe = np.where(small, 1.0, values)
    return np.asarray(np.where(small, 1.0, np.sinh(safe) / safe))


def moved(
    parameters: NDArray[np.float64], steps: NDArray[np.float64], free: Sequence[str]
) -> NDArray[np.float64]:
    """Move parameters by steps in local coordinates.

    Parameters
    ----------
    parameters : ndarray of float64, shape (N, 7)
        Where to start.
    steps : ndarray of float64, shape (N, P)
        Steps, shortened where a logarithm would change by more than 0.7.
    free : sequence of str
        What the steps move.

    Returns
    -------
    ndarray of float64, shape (N, 7)
        New parameters, theta in [0, 180) deg.
    """
    step = dict(zip(free, np.clip(steps, -_LARGEST_STEP, _LARGEST_STEP).T, strict=True))
    new = parameters.copy()
    scale, ellipticity, theta = parameters[:, 0], parameters[:, 1], np.radians(parameters[:, 2])
    shear = -np.log1p(-ellipticity)
    along, across = shear + step["e"], step["theta"]
    turned = np.hypot(along, across)
    new_shear = np.minimum(turned, _LARGEST_SHEAR)
    mean_scale = np.log(scale) - shear / 2 + step["A"]
    new[:, 0] = np.exp(mean_scale + new_shear / 2)
    new[:, 1] = -np.expm1(-new_shear)
    new[:, 2] = np.degrees(theta + np.arctan2(across, along) / 2) % 180
    for place, name in enumerate(NAMES):
        if name in ("x", "y") and name in step:
            new[:, place] += step[name]
        elif name in ("amplitude", "n") and name in step:
            new[:, place] *= np.exp(step[name])
    return new


def local_to_natural(parameters: NDArray[np.float64], free: Sequence[str]) -> NDArray[np.float64]:
    """Return d(parameter)/d(local coordinate).

    Parameters
    ----------
    parameters : ndarray of float64, shape (N, 7)
        Where.
    free : sequence of str
        Rows and columns, in the order of `NAMES`.

    Returns
    -------
    ndarray of float64, shape (N, P, P)
        Infinite for theta where e = 0 [deg for theta, else the unit of the parameter].
    """
    by_name = dict(zip(NAMES, parameters.T, strict=True))
    shear = -np.log1p(-by_name["e"])
    matrix = np.zeros((len(parameters), len(free), len(free)))
    for place, name in enumerate(free):
        if name == "A":
            matrix[:, place, place] = by_name["A"]
            matrix[:, place, free.index("e")] = by_name["A"] / 2
        elif name == "e":
            matrix[:, place, place] = 1 - by_name["e"]
        elif name == "theta":
            with np.errstate(divide="ignore"):
                matrix[:, place, place] = np.degrees(0.5 / shear)
        else:
            matrix[:, place, place] = 1.0 if name in ("x", "y") else by_name[name]
    return matrix


def angle_difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a - b of two axes, in [-90, 90) deg."""
    return np.asarray((a - b + 90) % 180 - 90)
