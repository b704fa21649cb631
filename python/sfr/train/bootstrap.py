"""How sure a correlation is: galaxies are drawn again, each with all its images."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["CONSTANT_RANGE", "FEWEST_GALAXIES", "RESAMPLES", "percentiles", "resampled_r"]

#: Labels or predictions that span less than this are one number but for rounding, of catalogues and
#: of arithmetic in float32, so that nothing correlates with them [dex].
CONSTANT_RANGE: Final = 1e-5
#: Fewer galaxies give intervals that are far too narrow (docs/training.md), so they give none.
FEWEST_GALAXIES: Final = 6
#: Draws of as many galaxies as there are.
RESAMPLES: Final = 20_000
_SEED: Final = 20220
_AT_ONCE: Final = 500
#: Share of the variance below which what was drawn is constant but for rounding.
_CONSTANT: Final = 1e-12
#: Largest share of draws without a correlation: beyond it the others say too little.
_MOST_UNDEFINED: Final = 0.05

Floats = NDArray[np.float64]


def resampled_r(truth: ArrayLike, predictions: ArrayLike, galaxy: ArrayLike) -> Floats:
    """Draw galaxies with replacement, and correlate what was drawn.

    The draws depend on the number of galaxies alone: they are the same for all heads, so that
    differences between heads are those of pairs, and the same each time.

    Parameters
    ----------
    truth : array_like of float, shape (N,)
        Label of each image.
    predictions : array_like of float, shape (H, N)
        Of each head.
    galaxy : array_like of int, shape (N,)
        Result of `sfr.run.tables.galaxy_numbers`.

    Returns
    -------
    ndarray of float64, shape (H, RESAMPLES)
        Pearson's r; NaN where what was drawn is constant.
    """
    numbers = np.asarray(galaxy, np.int64)
    y, least_y = _standard(np.asarray(truth, np.float64))
    p, least_p = _standard(np.asarray(predictions, np.float64))
    n_galaxies = int(numbers.max()) + 1
    # one row a galaxy: a resample is then a matrix product
    columns = [np.ones((1, y.size)), y[None], y[None] ** 2, p, p**2, p * y]
    by_image = np.concatenate(columns).T
    by_galaxy = np.zeros((n_galaxies, by_image.shape[1]))
    np.add.at(by_galaxy, numbers, by_image)
    rng, found = np.random.default_rng(_SEED), []
    first = np.arange(_AT_ONCE)[:, None] * n_galaxies
    for _ in range(0, RESAMPLES, _AT_ONCE):
        drawn = rng.integers(n_galaxies, size=(_AT_ONCE, n_galaxies)) + first
        counts = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        sums = counts.astype(np.float64) @ by_galaxy
        found.append(_correlation(sums, len(p), least_y, least_p))
    return np.concatenate(found).T


def _standard(values: Floats) -> tuple[Floats, Floats]:
    """Shift and scale each row to mean 0 and variance 1, so that sums of squares lose no digits.

    Beside it stands the variance, on that scale, up to which what was drawn is constant.
    """
    centred = values - values.mean(axis=-1, keepdims=True)
    scale = centred.std(axis=-1, keepdims=True)
    scale = np.where(scale > 0, scale, 1.0)
    return centred / scale, np.maximum(_CONSTANT, (CONSTANT_RANGE / 2 / scale[..., 0]) ** 2)


def _correlation(sums: Floats, heads: int, least_y: Floats, least_p: Floats) -> Floats:
    n, y, yy = (column[:, None] for column in sums[:, :3].T)
    p, pp, py = np.split(sums[:, 3:], [heads, 2 * heads], axis=1)
    truth, prediction = yy / n - (y / n) ** 2, pp / n - (p / n) ** 2
    is_defined = (truth > least_y) & (prediction > least_p)
    spread = np.sqrt(np.where(is_defined, truth * prediction, 1.0))
    return np.where(is_defined, np.clip((py / n - y / n * p / n) / spread, -1.0, 1.0), np.nan)


def percentiles(draws: Floats, beyond: float = 0.05) -> tuple[float, float] | None:
    """Return the limits that a share of the draws lies beyond, half of it on either side.

    Parameters
    ----------
    draws : ndarray of float, shape (RESAMPLES,)
        A statistic of each resample; NaN where it does not exist.
    beyond : float
        The share: 0.05 for a 95 % interval.

    Returns
    -------
    tuple of float or None
        Lower and upper limit; None where more than 1 in 20 draws do not exist.
    """
    good = draws[np.isfinite(draws)]
    if good.size == 0 or good.size < (1 - _MOST_UNDEFINED) * draws.size:
        return None
    low, high = np.quantile(good, [beyond / 2, 1 - beyond / 2])
    return float(low), float(high)
