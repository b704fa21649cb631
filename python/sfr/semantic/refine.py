"""From an estimate to the best fit: Gauss-Newton steps on many images, SciPy's fit of one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfr.errors import RangeError, ShapeError
from sfr.semantic.fisher import scatter
from sfr.semantic.profile import (
    NAMES,
    PITCH,
    PIXELS,
    Frame,
    blocks,
    checked,
    linearise,
    moved,
)

__all__ = ["Residual", "from_moments", "gauss_newton", "least_squares_fit", "residuals"]

Floats = NDArray[np.floating[Any]]

#: Threads for blocks of images; more of them only wait for the interpreter.
_MOST_THREADS = 4
#: Damping of a step, relative to the diagonal of the normal equations.
_DAMPING = 1e-6
#: Damping before the first factor, where a step was undone; the factor up and down.
_FIRST_DAMPING, _MORE_DAMPING = 1e-2, 10.0
#: Largest change of a logarithm, or of the centre in units of A, that the last step is not
#: checked for.
_SURE_STEP = 0.1


def gauss_newton(
    images: NDArray[np.float32],
    parameters: NDArray[np.float64],
    frame: Frame,
    free: Sequence[str],
    *,
    steps: int = 1,
    level: bool = False,
) -> NDArray[np.float64]:
    """Improve estimates by Gauss-Newton steps of the least-squares problem, in local coordinates.

    A step that does not lower the squares of the residual is undone, and the next one is damped
    (Levenberg-Marquardt); the last one is checked only where it went far.

    Parameters
    ----------
    images : ndarray of float32, shape (N, 64, 64)
        Noisy images, y upwards.
    parameters : ndarray of float64, shape (N, 7)
        Where to start, columns `NAMES`.
    frame : Frame
        Pixels and PSF.
    free : sequence of str
        Parameters that move.
    steps : int
        How many, those that are undone included.
    level : bool
        A constant over the image is fitted, too: the model only has to follow what is not one.

    Returns
    -------
    ndarray of float64, shape (N, 7)
        Parameters after the steps.

    Raises
    ------
    ShapeError, RangeError
        Images or parameters are not such.
    """
    if images.shape[1:] != (PIXELS, PIXELS) or len(images) != len(parameters):
        raise ShapeError(f"images: shape {images.shape}, not ({len(parameters)}, 64, 64)")
    if steps < 0:
        raise RangeError(f"steps = {steps}; give 0 or more")
    parameters = checked(parameters).copy()
    if steps == 0:
        return parameters
    is_centred = not parameters[:, 3:5].any() and not {"x", "y"} & set(free)
    fold = is_centred and frame.blur is None

    def improve(block: slice) -> None:
        data = _upper_half(images[block]) if fold else images[block]
        # one that runs away ends beyond what float32 holds; its squares are then no better
        with np.errstate(over="ignore", invalid="ignore"):
            parameters[block] = _steps(
                data.reshape(len(data), -1),
                parameters[block],
                frame,
                free,
                steps,
                upper_half=fold,
                level=level,
            )

    # blocks share nothing, and NumPy lets go of the interpreter while it computes
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        for _ in pool.map(improve, blocks(len(parameters))):
            pass
    return parameters


def _steps(
    data: Floats,
    start: NDArray[np.float64],
    frame: Frame,
    free: Sequence[str],
    steps: int,
    *,
    upper_half: bool,
    level: bool,
) -> NDArray[np.float64]:
    """Take one or more steps with a block of images; what raises the squares is undone."""
    here = tried = start
    damping = np.full(len(data), _DAMPING)
    lowest = np.full(len(data), np.inf)
    for place in range(steps):
        linear = linearise(tried, frame, free, np.float32, upper_half=upper_half)
        residual = _counted(data - linear.model, level=level)
        columns = _counted(linear.columns, level=level)
        squares = _squares(residual)
        # what is not finite is no better
        is_better = (squares < lowest) | (place == 0)
        here = np.where(is_better[:, np.newaxis], tried, here)
        lowest = np.where(is_better, squares, lowest)
        new = _normal_equations(columns, residual)
        if place == 0:
            normal, right = new
        else:
            normal[is_better], right[is_better] = new[0][is_better], new[1][is_better]
            raised = np.maximum(damping, _FIRST_DAMPING) * _MORE_DAMPING
            damping = np.where(is_better, np.maximum(damping / _MORE_DAMPING, _DAMPING), raised)
        step = _solve(normal, right, damping)
        tried = moved(here, step, free)
    # the last one: only where it went so far that the model may not be linear
    unit = np.stack([here[:, 0] if n in ("x", "y") else np.ones(len(here)) for n in free], axis=1)
    far = np.flatnonzero((np.abs(step) > _SURE_STEP * unit).any(axis=1))
    if far.size > 0:
        model = linearise(tried[far], frame, (), np.float32, upper_half=upper_half).model
        undone = far[~(_squares(_counted(data[far] - model, level=level)) < lowest[far])]
        tried[undone] = here[undone]
    return tried


def _upper_half(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average images with themselves turned by 180 deg: all that a centred galaxy can tell."""
    half = PIXELS // 2
    turned = images[:, half - 1 :: -1, ::-1]
    return np.asarray((images[:, half:] + turned) * np.float32(0.5))


def _counted(values: Floats, *, level: bool) -> Floats:
    """Return what counts of pixels (the last axis): where a level is fitted, all but a constant."""
    return values - values.mean(axis=-1, keepdims=True) if level else values


def _constant_alone(columns: Floats) -> Floats:
    """Return what the derivatives (N, P, M) cannot follow of a constant (N, M)."""
    one = np.ones((len(columns), columns.shape[2]))
    followed = _solve(*_normal_equations(columns, one))
    return np.asarray(one - np.einsum("np,npm->nm", followed, columns))


def _squares(residual: Floats) -> NDArray[np.float64]:
    """Add up the squares: near the best fit they change by less than float32 can add up."""
    return np.asarray(np.einsum("nm,nm->n", residual, residual, dtype=np.float64))


def _normal_equations(columns: Floats, residual: Floats) -> tuple[Floats, Floats]:
    """Return the normal equations (N, P, P) and (N, P) of a block of images."""
    normal = np.einsum("npm,nqm->npq", columns, columns).astype(np.float64)
    return normal, np.einsum("npm,nm->np", columns, residual).astype(np.float64)


def _solve(
    normal: Floats, right: Floats, damping: NDArray[np.float64] | float = _DAMPING
) -> NDArray[np.float64]:
    """Solve normal equations; the damping is relative to the diagonal."""
    # scaled to ones on the diagonal: the columns differ by orders of magnitude
    size = np.sqrt(np.maximum(np.diagonal(normal, axis1=1, axis2=2), 1e-30))
    scaled = normal / size[:, :, np.newaxis] / size[:, np.newaxis, :]
    diagonal = np.arange(size.shape[1])
    scaled[:, diagonal, diagonal] += np.broadcast_to(damping, len(size))[:, np.newaxis]
    found = np.linalg.solve(scaled, (right / size)[:, :, np.newaxis])[:, :, 0]
    return np.asarray(found / size, np.float64)


@dataclass(frozen=True)
class Residual:
    """What a fit leaves, and how well it is determined.

    Attributes
    ----------
    rms : ndarray of float64, shape (N,)
        Noise that the residuals show, corrected for the parameters fitted [image].
    error : ndarray of float64, shape (N, P)
        Cramer-Rao bound at the estimate for that noise, in the unit of each parameter.
    next_step : ndarray of float64, shape (N,)
        How far another Gauss-Newton step would go, in standard deviations of the fit.
    level : ndarray of float64, shape (N,)
        The constant over the image that a fit of it, too, would find [image].
    level_error : ndarray of float64, shape (N,)
        Its standard deviation [image].
    """

    rms: NDArray[np.float64]
    error: NDArray[np.float64]
    next_step: NDArray[np.float64]
    level: NDArray[np.float64]
    level_error: NDArray[np.float64]


def residuals(
    images: NDArray[np.float32],
    parameters: NDArray[np.float64],
    frame: Frame,
    free: Sequence[str],
    *,
    level: bool = False,
) -> Residual:
    """Measure the residuals of fits and the errors that follow.

    Parameters
    ----------
    images : ndarray of float32, shape (N, 64, 64)
        Noisy images.
    parameters : ndarray of float64, shape (N, 7)
        Fits.
    frame, free, level
        As for `gauss_newton`.

    Returns
    -------
    Residual
        Noise and errors.
    """
    parameters = checked(parameters)
    data = images.reshape(len(images), -1)
    rms, distance, constant, certain = np.empty((4, len(images)))
    error = np.empty((len(images), len(free)))
    for block in blocks(len(parameters)):
        linear = linearise(parameters[block], frame, free, np.float64)
        residual = data[block] - linear.model
        alone = _constant_alone(linear.columns)
        weight = (alone**2).sum(axis=1)
        constant[block] = (alone * residual).sum(axis=1) / weight
        left, columns = (_counted(v, level=level) for v in (residual, linear.columns))
        rms[block] = np.sqrt((left**2).sum(axis=1) / (left.shape[1] - len(free) - level))
        certain[block] = rms[block] / np.sqrt(weight)
        fisher = columns @ columns.transpose(0, 2, 1)
        error[block] = scatter(fisher, parameters[block], free) * rms[block, np.newaxis]
        step = _solve(*_normal_equations(columns, left))
        # a perfect fit has no noise to measure by
        length = np.sqrt(np.einsum("np,npq,nq->n", step, fisher, step))
        distance[block] = length / np.maximum(rms[block], 1e-12)
    return Residual(rms, error, distance, constant, certain)


def from_moments(image: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Guess parameters from an image alone: the start of a fit without a network.

    Light, centre and second moments within the isophote at a fifth of the peak of the image
    smoothed by two pixels, where noise has little weight.

    Parameters
    ----------
    image : ndarray, shape (64, 64)
        One image, y upwards.

    Returns
    -------
    ndarray of float64, shape (7,)
        Parameters with the centre at 0 and n = 1; amplitude 1.
    """
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(np.asarray(image, np.float64), 2.0)
    weight = np.where(smooth > smooth.max() / 5, smooth, 0.0)
    axis = (np.arange(PIXELS) - (PIXELS - 1) / 2) * PITCH
    total = weight.sum()
    xx = float((weight * axis[np.newaxis, :] ** 2).sum() / total)
    yy = float((weight * axis[:, np.newaxis] ** 2).sum() / total)
    xy = float((weight * axis[:, np.newaxis] * axis[np.newaxis, :]).sum() / total)
    mean, half = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    axis_ratio = np.sqrt(max(mean - half, 0.01 * mean) / (mean + half))
    # y upwards and the published sense of rotation: the major axis lies clockwise from +x
    theta = np.degrees(-0.5 * np.arctan2(2 * xy, xx - yy)) % 180
    scale = 1.2 * np.sqrt(mean + half)
    return np.array([scale, 1 - min(axis_ratio, 0.98), theta, 0.0, 0.0, 1.0, 1.0])


def least_squares_fit(
    image: NDArray[np.floating[Any]],
    start: NDArray[np.float64],
    frame: Frame,
    free: Sequence[str],
) -> NDArray[np.float64]:
    """Fit one image with SciPy's Levenberg-Marquardt and the analytic derivatives.

    Parameters
    ----------
    image : ndarray, shape (64, 64)
        One noisy image, y upwards.
    start : ndarray of float64, shape (7,)
        Where to start, for example `from_moments`.
    frame : Frame
        Pixels and PSF.
    free : sequence of str
        Parameters that are fitted.

    Returns
    -------
    ndarray of float64, shape (7,)
        The best fit.
    """
    from scipy.optimize import least_squares

    data = np.asarray(image, np.float64).ravel()
    problem = _OneImage(data, start, frame, free)
    found = least_squares(
        problem.residual, problem.coordinates(start), jac=problem.jacobian, method="lm"
    )
    return problem.parameters(found.x)


class _OneImage:
    """One least-squares problem, in coordinates in which it has no edges and no singular point.

    ln sqrt(AB), ln(A/B) times (cos 2 theta, sin 2 theta), x, y in units of the start's A,
    ln amplitude, ln n.
    """

    def __init__(
        self,
        data: NDArray[np.float64],
        start: NDArray[np.float64],
        frame: Frame,
        free: Sequence[str],
    ) -> None:
        self.data, self.start, self.frame, self.free = data, start, frame, tuple(free)
        self._place = {name: place for place, name in enumerate(free)}
        self._point: bytes = b""

    def coordinates(self, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        scale, ellipticity, theta = parameters[:3]
        shear, twice = -np.log1p(-ellipticity), 2 * np.radians(theta)
        values = {
            "A": np.log(scale) - shear / 2,
            "e": shear * np.cos(twice),
            "theta": shear * np.sin(twice),
            "x": parameters[3] / self.start[0],
            "y": parameters[4] / self.start[0],
            "amplitude": np.log(parameters[5]),
            "n": np.log(parameters[6]),
        }
        return np.array([values[name] for name in self.free])

    def parameters(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        found = self.start.copy()
        value = dict(zip(self.free, point, strict=True))
        shear = np.hypot(value["e"], value["theta"])
        found[0] = np.exp(np.clip(value["A"] + shear / 2, -30, 30))
        found[1] = min(-np.expm1(-shear), 1 - 1e-12)
        found[2] = np.degrees(np.arctan2(value["theta"], value["e"]) / 2) % 180
        for name in ("x", "y"):
            if name in value:
                found[NAMES.index(name)] = value[name] * self.start[0]
        for name in ("amplitude", "n"):
            if name in value:
                found[NAMES.index(name)] = np.exp(np.clip(value[name], -30, 30))
        return found

    def _linearise(self, point: NDArray[np.float64]) -> None:
        """Compute model and derivatives once for the residual and the Jacobian of a point."""
        if point.tobytes() == self._point:
            return
        parameters = self.parameters(point)
        linear = linearise(parameters[np.newaxis], self.frame, self.free)
        columns = linear.columns[0].copy()
        along, across = self._place["e"], self._place["theta"]
        cos, sin = np.cos(2 * np.radians(parameters[2])), np.sin(2 * np.radians(parameters[2]))
        columns[along] = cos * linear.columns[0, along] - sin * linear.columns[0, across]
        columns[across] = sin * linear.columns[0, along] + cos * linear.columns[0, across]
        for name in ("x", "y"):
            if name in self._place:
                columns[self._place[name]] *= self.start[0]
        self._model, self._columns, self._point = linear.model[0], columns, point.tobytes()

    def residual(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        self._linearise(point)
        return np.asarray(self._model - self.data, np.float64)

    def jacobian(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        self._linearise(point)
        return np.asarray(self._columns.T, np.float64)
