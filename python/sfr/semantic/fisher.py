"""The Cramer-Rao bound: the smallest scatter that any unbiased estimate can have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sfr.semantic.profile import (
    NAMES,
    SHAPE,
    Frame,
    blocks,
    checked,
    linearise,
    local_to_natural,
)

__all__ = ["UNIFORM_ANGLE_DEG", "bound", "mean_bound", "scatter"]

#: Scatter of an angle of which nothing is known [deg].
UNIFORM_ANGLE_DEG: Final = 180 / np.sqrt(12)


def bound(
    parameters: NDArray[np.float64],
    frame: Frame,
    free: Sequence[str] = SHAPE,
) -> NDArray[np.float64]:
    """Return the Cramer-Rao bound for white Gaussian noise of unit standard deviation a pixel.

    Parameters
    ----------
    parameters : ndarray of float64, shape (N, 7)
        Galaxies, columns `NAMES`.
    frame : Frame
        Pixels and PSF.
    free : sequence of str
        Parameters that are fitted together; the others are known.

    Returns
    -------
    ndarray of float64, shape (N, P)
        Standard deviation per unit noise, in the unit of each parameter; infinite for the angle of
        a round galaxy.
    """
    parameters = checked(parameters)
    found = np.empty((len(parameters), len(free)))
    for block in blocks(len(parameters)):
        columns = linearise(parameters[block], frame, free).columns
        found[block] = scatter(columns @ columns.transpose(0, 2, 1), parameters[block], free)
    return found


def scatter(
    fisher: NDArray[np.float64], parameters: NDArray[np.float64], free: Sequence[str]
) -> NDArray[np.float64]:
    """Turn the Fisher matrix in local coordinates into standard deviations of the parameters.

    Parameters
    ----------
    fisher : ndarray of float64, shape (N, P, P)
        Products of the columns of `linearise`.
    parameters : ndarray of float64, shape (N, 7)
        Where it was taken.
    free : sequence of str
        Its rows.

    Returns
    -------
    ndarray of float64, shape (N, P)
        Standard deviations per unit noise; NaN where the matrix is singular.
    """
    # rows of very different size: invert what is scaled to ones on the diagonal
    size = np.sqrt(np.maximum(np.diagonal(fisher, axis1=1, axis2=2), 1e-300))
    scaled = fisher / size[:, :, np.newaxis] / size[:, np.newaxis, :]
    singular = np.linalg.cond(scaled) > 1e12
    scaled[singular] = np.eye(len(free))
    covariance = np.linalg.inv(scaled) / size[:, :, np.newaxis] / size[:, np.newaxis, :]
    natural = local_to_natural(parameters, free)
    # each row of the map has few entries; infinity times zero must not make NaN of an angle
    found = np.empty(size.shape)
    for place in range(len(free)):
        row = natural[:, place]
        used = (row != 0).any(axis=0)
        part = covariance[:, used][:, :, used]
        with np.errstate(invalid="ignore"):
            variance = np.einsum("ni,nij,nj->n", row[:, used], part, row[:, used])
        found[:, place] = np.sqrt(variance)
    found[singular] = np.nan
    return found


def mean_bound(
    ranges: Mapping[str, tuple[float, float]], *, nodes: int = 24, angles: int = 12
) -> dict[str, float]:
    """Return the bound of the published model, rms over ranges of A, e and theta, by quadrature.

    Parameters
    ----------
    ranges : mapping of str to tuple of float
        Lowest and highest A and e; all angles count.
    nodes : int
        Gauss-Legendre nodes in A and in e.
    angles : int
        Angles in the first 90 deg; the square frame makes the others equal to these.

    Returns
    -------
    dict of str to float
        Per unit noise: A [coordinate], e, theta [deg].
    """
    points, weights = np.polynomial.legendre.leggauss(nodes)
    (a_low, a_high), (e_low, e_high) = ranges["A"], ranges["e"]
    scale = a_low + (points + 1) / 2 * (a_high - a_low)
    ellipticity = e_low + (points + 1) / 2 * (e_high - e_low)
    theta = (np.arange(angles) + 0.5) * 90 / angles
    mesh = np.meshgrid(scale, ellipticity, theta, indexing="ij")
    weight = np.broadcast_to(np.multiply.outer(weights, weights)[..., np.newaxis], mesh[0].shape)
    parameters = np.zeros((weight.size, len(NAMES)))
    parameters[:, :3] = np.stack([values.ravel() for values in mesh], axis=1)
    parameters[:, 5:] = 1.0
    squares = bound(parameters, Frame()) ** 2
    mean = np.average(squares, axis=0, weights=weight.ravel())
    return dict(zip(SHAPE, np.sqrt(mean).tolist(), strict=True))
