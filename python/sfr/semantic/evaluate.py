"""Evaluation: errors of the estimates beside the Cramer-Rao bound, SciPy's fit and the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import ConfigError
from sfr.progress import Progress, silent
from sfr.semantic.fisher import UNIFORM_ANGLE_DEG, bound
from sfr.semantic.problem import Problem, add_noise
from sfr.semantic.profile import NAMES, Frame, render
from sfr.semantic.refine import from_moments, gauss_newton, least_squares_fit
from sfr.semantic.trained import Encoder, difference
from sfr.semantic.training import Training

__all__ = ["PUBLISHED", "Evaluation", "Published", "evaluate", "published_beside", "size_rows"]

Floats = NDArray[np.float64]

#: True angles that the paper's dispersion of clean images counts, away from the jump [deg].
_NO_JUMP_DEG: Final = (10.0, 170.0)
_NO_JUMP: Final = "theta 10-170"
#: Offset and dispersion by parameter; None: not stated.
Values = Mapping[str, tuple[float | None, float | None]]


@dataclass(frozen=True)
class Published:
    """What was published of one way of training, on one family of images (METHOD 6).

    Attributes
    ----------
    by : str
        ``paper`` or ``notebook``.
    learned_from : str
        As `Training.learned_from`.
    problem : str
        Name of the ranges.
    noise : float
        Of the training and of the images.
    values : mapping
        Mean offset (of the angle of clean images the median) and dispersion.
    """

    by: str
    learned_from: str
    problem: str
    noise: float
    values: Values


_OFFSETS: Final = MappingProxyType({"A": (0.0005, None), "e": (-0.005, None)})
_CLEAN: Final = MappingProxyType(
    {"A": (0.00052, 0.00049), "e": (-0.0069, 0.0096), _NO_JUMP: (0.20, 1.13)}
)
_NOTEBOOK: Final = MappingProxyType(
    {"A": (None, 0.00055), "e": (None, 0.0091), "theta": (None, 0.92)}
)
PUBLISHED: Final = (
    Published("paper", "its own input", "paper", 0.0, _CLEAN),
    Published("paper", "its own input", "paper", 0.05, _OFFSETS),
    Published("paper", "its own input", "paper", 0.1, _OFFSETS),
    Published("notebook", "clean images", "notebook", 0.025, _NOTEBOOK),
)
_FIT_BATCH: Final = 50
#: Images that are kept for a figure.
_SHOWN: Final = 5


@dataclass(frozen=True)
class Evaluation:
    """Estimates of one set of images.

    Attributes
    ----------
    noise : float
        Standard deviation of the noise of all images.
    free : tuple of str
        Free parameters.
    truth : ndarray of float64, shape (N, 7)
        What was put in.
    found : dict of str to ndarray of float64, shape (N, 7)
        Parameters by method: ``network``, ``1 step``, ``2 steps``, ``least squares``.
    bound : ndarray of float64, shape (N, P)
        Cramer-Rao bound at the truth, for an angle at most the scatter of a random one.
    errors : dict of str to ndarray of float64, shape (N, P)
        Calibrated errors that the encoder gives its own estimates.
    data : ndarray of float32, shape (K, 64, 64)
        The first images, for a figure.
    frame : Frame
        Pixels and PSF.
    learned_from : str
        What the network was compared with in its training.
    published : Published or None
        What was published of the same training, on the same ranges and noise.
    """

    noise: float
    free: tuple[str, ...]
    truth: Floats
    found: Mapping[str, Floats]
    bound: Floats
    errors: Mapping[str, Floats]
    data: NDArray[np.float32]
    frame: Frame
    learned_from: str
    published: Published | None

    def models(self, method: str, count: int) -> Floats:
        """Render what was found in the first images."""
        return np.asarray(render(self.found[method][:count], self.frame), np.float64)

    def off(self, method: str) -> Floats:
        """Errors (N, P) of the free parameters; of the angle modulo 180 deg, within 90 deg."""
        columns = [NAMES.index(name) for name in self.free]
        return difference(self.found[method], self.truth)[:, columns]

    def rows(self) -> list[dict[str, Any]]:
        """Return the table: a row per parameter and method, and one as the paper counts angles."""
        everything = np.ones(len(self.truth), bool)
        counted = [(name, place, everything) for place, name in enumerate(self.free)]
        low, high = _NO_JUMP_DEG
        no_jump = (self.truth[:, 2] >= low) & (self.truth[:, 2] <= high)
        if self.noise == 0 and no_jump.any():
            counted.append((_NO_JUMP, 2, no_jump))
        return [
            self._row(name, method, place, images)
            for name, place, images in counted
            for method in self.found
        ]

    def _row(
        self, name: str, method: str, place: int, counted: NDArray[np.bool_]
    ) -> dict[str, Any]:
        off, bound = self.off(method)[counted, place], self.bound[counted, place]
        rms, rms_bound = (float(np.sqrt((values**2).mean())) for values in (off, bound))
        within: float | None = None
        if method in self.errors and self.noise > 0:
            within = float((np.abs(off) <= self.errors[method][counted, place]).mean())
        # steps are a fit of the model, which nobody published
        beside = self.published if method == "network" else None
        offset, dispersion = beside.values.get(name, (None, None)) if beside else (None, None)
        return {
            "learned from": self.learned_from,
            "noise": self.noise,
            "parameter": name,
            "method": method,
            "offset": float(off.mean()),
            "median": float(np.median(off)),
            "dispersion": float(off.std()),
            "rms": rms,
            "bound": rms_bound,
            "rms/bound": rms / rms_bound if self.noise > 0 else None,
            "rms of error/bound": float(np.sqrt(((off / bound) ** 2).mean()))
            if self.noise > 0
            else None,
            "within 1 error": within,
            "published by": beside.by if beside else None,
            "published offset": offset,
            "published dispersion": dispersion,
            "N": len(off),
        }


def evaluate(
    encoder: Encoder,
    noise: float,
    *,
    images: int = 5000,
    steps: Sequence[int] = (1, 2),
    with_least_squares: bool = True,
    seed: int = 0,
    problem: Problem | None = None,
    on_progress: Progress = silent,
) -> Evaluation:
    """Evaluate an encoder on new images, all with the same noise, all angles counted.

    Parameters
    ----------
    encoder : Encoder
        What is evaluated.
    noise : float
        Standard deviation of the noise; 0: clean images.
    images : int
        How many; the same galaxies for every encoder, noise level and method.
    steps : sequence of int
        Numbers of Gauss-Newton steps from the network's estimate, each a method of the table.
    with_least_squares : bool
        Also fit every image with SciPy, from its moments (no network).
    seed : int
        Of the images; they are never those of the training.
    problem : Problem or None
        Ranges to draw from; None: those of the training.
    on_progress : callable
        Hears of the images.

    Returns
    -------
    Evaluation
        Estimates and bounds.
    """
    if images < 2:
        raise ConfigError(f"images = {images}; a scatter needs 2 or more, a stated one thousands")
    if not 0 <= noise < np.inf:
        raise ConfigError(f"noise = {noise} is no standard deviation")
    problem = encoder.training.problem if problem is None else problem
    label = f"evaluating {encoder.training.name} at noise {noise:g}"
    rng = np.random.default_rng([seed, 6])
    truth = problem.draw(images, rng)
    data = problem.images(truth)
    data = add_noise(data, np.full(images, noise), rng)
    limit = noise * bound(truth, problem.frame, problem.free)
    limit[:, 2] = np.fmin(limit[:, 2], UNIFORM_ANGLE_DEG)
    found: dict[str, Floats] = {"network": encoder.estimate(data)}
    errors = {"network": encoder.errors(data, found["network"], steps=0)}
    for count in sorted(set(steps) - {0}):
        name = f"{count} step{'s' if count > 1 else ''}"
        found[name] = gauss_newton(data, found["network"], problem.frame, problem.free, steps=count)
        errors[name] = encoder.errors(data, found[name], steps=count)
    if with_least_squares:
        fits = np.empty_like(truth)
        for place, image in enumerate(data):
            fits[place] = least_squares_fit(image, from_moments(image), problem.frame, problem.free)
            if place % _FIT_BATCH == 0 or place == images - 1:
                on_progress(f"{label}, least squares", place + 1, images)
        found["least squares"] = fits
    else:
        on_progress(label, images, images)
    return Evaluation(
        noise=noise,
        free=problem.free,
        truth=truth,
        found=found,
        bound=limit,
        errors=errors,
        data=data[:_SHOWN].copy(),
        frame=problem.frame,
        learned_from=encoder.training.learned_from,
        published=published_beside(encoder.training, problem, noise),
    )


def published_beside(training: Training, problem: Problem, noise: float) -> Published | None:
    """Return what was published of the same: training, ranges, and noise of training and images.

    Parameters
    ----------
    training : Training
        How a network was trained.
    problem : Problem
        Ranges that the images are drawn from.
    noise : float
        Their noise.

    Returns
    -------
    Published or None
        None where nothing alike was published.
    """
    low, high = training.problem.noise
    if problem.frame != Frame() or training.problem.frame != Frame() or not low <= noise <= high:
        return None
    key = (training.learned_from, problem.name, noise)
    return next((p for p in PUBLISHED if (p.learned_from, p.problem, p.noise) == key), None)


def size_rows(found: Sequence[tuple[Training, Evaluation]]) -> list[dict[str, Any]]:
    """Return mean absolute errors of the network alone, for the study of sizes.

    Parameters
    ----------
    found : sequence of (Training, Evaluation)
        Evaluations of published networks.

    Returns
    -------
    list of dict
        What tells the trainings apart (problem, PSF, noise that it was trained with, target, seed),
        size, noise, and for A, e, theta the mean absolute error.
    """
    rows = []
    for training, evaluation in found:
        mean = np.abs(evaluation.off("network")).mean(axis=0)
        rows.append(
            {
                "problem": training.problem.name,
                "psf": training.problem.frame.psf_fwhm,
                "trained_noise": training.problem.noise[1],
                "target": training.target,
                "size": training.encoder,
                "seed": training.seed,
                "noise": evaluation.noise,
                **dict(zip(evaluation.free, mean.tolist(), strict=True)),
            }
        )
    return rows
