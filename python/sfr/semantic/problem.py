"""What is fitted: which parameters are free, over which ranges, under which noise and PSF."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import ConfigError, RangeError
from sfr.semantic.profile import NAMES, PITCH, SHAPE, Frame, render

__all__ = ["PROBLEMS", "Problem", "add_noise", "get_problem"]

Range = tuple[float, float]

_ALL_ANGLES: Final[Range] = (0.0, 180.0)
#: The published model: centre 0, amplitude 1, exponential.
_FIXED: Final = (0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Problem:
    """A family of galaxy images.

    Attributes
    ----------
    name : str
        Its name.
    description : str
        One line for people.
    ranges : mapping of str to tuple of float
        Free parameters and their ranges, drawn uniformly; the others are centre 0, amplitude 1
        and n = 1.
    noise : tuple of float
        Standard deviation of the Gaussian noise a pixel, drawn log-uniformly between these two
        unless one level is asked for; the published profiles peak at 1.
    frame : Frame
        Pixels and PSF.
    """

    name: str
    description: str
    ranges: Mapping[str, Range]
    noise: Range
    frame: Frame = field(default_factory=Frame)

    def __post_init__(self) -> None:
        if tuple(n for n in NAMES if n in self.ranges) != tuple(self.ranges):
            raise ConfigError(f"ranges {list(self.ranges)}: free parameters in the order {NAMES}")
        if tuple(self.ranges)[:3] != SHAPE:
            raise ConfigError(f"ranges {list(self.ranges)}: {SHAPE} are always free")
        low, high = self.noise
        if not 0 <= low <= high < np.inf or (low == 0 and high > 0):
            raise RangeError(f"noise {low} to {high} is no range of standard deviations")

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the free parameters, in the order of `NAMES`."""
        return tuple(self.ranges)

    @property
    def columns(self) -> list[int]:
        """Places of the free parameters among `NAMES`."""
        return [NAMES.index(name) for name in self.free]

    def with_psf(self, fwhm: float) -> Problem:
        """Return the problem behind a Gaussian PSF [FWHM in pixels]."""
        return replace(self, frame=Frame(fwhm))

    def with_noise(self, low: float, high: float) -> Problem:
        """Return the problem with another range of noise."""
        return replace(self, noise=(low, high))

    def settings(self) -> dict[str, Any]:
        """Return what results depend on, as plain data."""
        return {
            "ranges": {name: list(limits) for name, limits in self.ranges.items()},
            "noise": list(self.noise),
            "psf_fwhm": self.frame.psf_fwhm,
        }

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw galaxies.

        Parameters
        ----------
        count : int
            How many.
        rng : numpy.random.Generator
            Source of chance.

        Returns
        -------
        ndarray of float64, shape (count, 7)
            Parameters, columns `NAMES`.
        """
        parameters = np.tile(_FIXED, (count, 1))
        for name, (low, high) in self.ranges.items():
            parameters[:, NAMES.index(name)] = rng.uniform(low, high, count)
        return parameters

    def draw_noise(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw the noise level of each of a number of images, log-uniformly."""
        low, high = self.noise
        if low == high:
            return np.full(count, low)
        return np.exp(rng.uniform(np.log(low), np.log(high), count))

    def images(self, parameters: NDArray[np.float64]) -> NDArray[np.float32]:
        """Render clean images, float32 (N, 64, 64)."""
        return np.asarray(render(parameters, self.frame), np.float32)


def add_noise(
    images: NDArray[np.float32], noise: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return images with white Gaussian noise, one standard deviation an image."""
    drawn = rng.standard_normal(images.shape, np.float32)
    drawn *= noise.astype(np.float32)[:, np.newaxis, np.newaxis]
    drawn += images
    return drawn


def _problem(name: str, description: str, noise: Range, **ranges: Range) -> Problem:
    return Problem(name, description, MappingProxyType(ranges), noise)


#: Problems by name.
PROBLEMS: Final[Mapping[str, Problem]] = MappingProxyType(
    {
        problem.name: problem
        for problem in (
            _problem(
                "paper",
                "A, e, theta over the paper's ranges, amplitude 1",
                (0.02, 0.12),
                A=(0.01, 0.05),
                e=(0.2, 0.8),
                theta=_ALL_ANGLES,
            ),
            _problem(
                "notebook",
                "A, e, theta over the public notebook's ranges",
                (0.02, 0.12),
                A=(0.01, 0.05),
                e=(0.2, 0.75),
                theta=_ALL_ANGLES,
            ),
            _problem(
                "centred",
                "A, e (round galaxies, too), theta and amplitude, known centre",
                (0.01, 0.12),
                A=(0.006, 0.05),
                e=(0.0, 0.85),
                theta=_ALL_ANGLES,
                amplitude=(0.6, 1.6),
            ),
            _problem(
                "free",
                "all seven: also the centre within 4 pixels, and the Sersic index n",
                (0.01, 0.12),
                A=(0.006, 0.04),
                e=(0.0, 0.85),
                theta=_ALL_ANGLES,
                x=(-4 * PITCH, 4 * PITCH),
                y=(-4 * PITCH, 4 * PITCH),
                amplitude=(0.6, 1.6),
                n=(0.6, 2.0),
            ),
        )
    }
)


def get_problem(name: str) -> Problem:
    """Return a problem by name.

    Raises
    ------
    ConfigError
        No problem has that name.
    """
    if name not in PROBLEMS:
        raise ConfigError(f"problem {name!r} is not known; there are: {', '.join(PROBLEMS)}")
    return PROBLEMS[name]
