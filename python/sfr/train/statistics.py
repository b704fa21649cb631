"""What out-of-fold predictions allow to be said: correlations, differences, chance, regimes.

Formulas and sources stand in docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfr.train.bootstrap import CONSTANT_RANGE, FEWEST_GALAXIES, percentiles, resampled_r
from sfr.train.probe import folds_of

__all__ = [
    "FAMILY_WISE",
    "Adds",
    "Difference",
    "adds",
    "area_under_curve",
    "correlation",
    "differences",
    "fisher_mean",
    "information",
    "mean_over_folds",
    "permutation_test",
    "permuted_labels",
    "rank_probabilities",
    "standard_error",
]

#: Chance that one of all paired differences is called one where there is none.
FAMILY_WISE: Final = 0.01
#: Draws of labels that a permutation test makes.
PERMUTATIONS: Final = 2000
#: Parts into which the components are cut where a second fit needs rows that it has not seen.
_PARTS: Final = 5
_SEED: Final = 1808
#: Fewest rows whose r has a variance by Fisher's z.
_FEWEST: Final = 4

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def correlation(truth: ArrayLike, prediction: ArrayLike) -> float | None:
    """Return Pearson's r; None for fewer than 3 rows, or where one of them is constant."""
    y, p = np.asarray(truth, np.float64), np.asarray(prediction, np.float64)
    if y.size < 3 or np.ptp(y) < CONSTANT_RANGE or np.ptp(p) < CONSTANT_RANGE:
        return None
    return float(np.clip(np.corrcoef(y, p)[0, 1], -1.0, 1.0))


# -- correlations ----------------------------------------------------------------------------------


def fisher_mean(r: ArrayLike, count: ArrayLike) -> float | None:
    """Average correlations by Fisher's z = artanh r, whose variance is 1 / (n - 3).

    Parameters
    ----------
    r : array_like of float, shape (K,)
        Correlations.
    count : array_like of int, shape (K,)
        Independent rows behind each; those with fewer than 4 have no weight.

    Returns
    -------
    float or None
        tanh of the weighted mean of z; None where nothing has weight.

    Examples
    --------
    >>> round(fisher_mean([0.9, 0.5], [23, 23]), 4)
    0.7661
    """
    n = np.asarray(count, np.float64)
    weight = np.maximum(n - 3.0, 0.0)
    if not weight.sum() > 0:
        return None
    # r of exactly 1 has no z
    z = np.arctanh(np.clip(np.asarray(r, np.float64), -1 + 1e-12, 1 - 1e-12))
    return float(np.tanh(np.sum(weight * z) / weight.sum()))


def mean_over_folds(
    truth: ArrayLike, prediction: ArrayLike, fold: ArrayLike, component: ArrayLike
) -> float | None:
    """Correlate in each fold by itself, and average by Fisher's z.

    Folds are predicted by different fits, which differ in offset: that lowers the pooled r, and
    where labels differ between folds it may raise it.

    Parameters
    ----------
    truth, prediction : array_like of float, shape (N,)
        Labels and their out-of-fold predictions.
    fold, component : array_like of int, shape (N,)
        Fold that tests each row, and what is independent: a fold counts by its components.

    Returns
    -------
    float or None
        None where no fold has a correlation.
    """
    y, p = np.asarray(truth, np.float64), np.asarray(prediction, np.float64)
    folds, groups = np.asarray(fold, np.int64), np.asarray(component, np.int64)
    found, count = [], []
    for number in folds_of(folds):
        mine = folds == number
        r = correlation(y[mine], p[mine])
        if r is not None:
            found.append(r)
            count.append(np.unique(groups[mine]).size)
    return fisher_mean(found, count) if found else None


def standard_error(r: float, independent: int) -> float | None:
    """Return the standard error of r, (1 - r^2) / sqrt(N - 1): how much a difference must be.

    Examples
    --------
    >>> round(standard_error(0.75, 715), 4)
    0.0164
    """
    return (1.0 - r**2) / float(np.sqrt(independent - 1)) if independent > 1 else None


def information(truth: ArrayLike, prediction: ArrayLike) -> float | None:
    """Return 1/2 ln(var y / mean (y - prediction)^2) [nat], at least 0.

    A lower bound of what the prediction tells of the label where the label is Gaussian: a code
    that sends the prediction and what it leaves needs so much less than one that sends the label.
    It counts errors of scale and offset, which r does not see.
    """
    y, p = np.asarray(truth, np.float64), np.asarray(prediction, np.float64)
    error = float(np.mean((y - p) ** 2)) if y.size else 0.0
    if y.size < 3 or np.ptp(y) < CONSTANT_RANGE or error == 0.0:
        return None
    return max(0.0, 0.5 * float(np.log(np.var(y) / error)))


def area_under_curve(is_quenched: ArrayLike, prediction: ArrayLike) -> float | None:
    """Return the chance that a quenched row is predicted below one that is not.

    Parameters
    ----------
    is_quenched : array_like of bool, shape (N,)
        Which rows are quenched.
    prediction : array_like of float, shape (N,)
        Predicted labels, low for quenched ones.

    Returns
    -------
    float or None
        0.5 for chance, 1 where all are told apart; ties count half. None where one kind is
        missing.
    """
    from scipy.stats import rankdata

    quenched = np.asarray(is_quenched, bool)
    low, high = int(quenched.sum()), int((~quenched).sum())
    if not low or not high:
        return None
    ranks = rankdata(np.asarray(prediction, np.float64))
    above = float(ranks[~quenched].sum()) - high * (high + 1) / 2
    return above / (low * high)


# -- cases against each other ----------------------------------------------------------------------


def rank_probabilities(draws: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return how often each case takes each place in the resamples.

    Parameters
    ----------
    draws : mapping of str to ndarray of float64, shape (R,)
        r of each case in the same resamples.

    Returns
    -------
    dict of str to ndarray of float64, shape (cases,)
        Probability of being the best, the second, ... Resamples without r of every case are left
        out; ties share the places that they take.
    """
    from scipy.stats import rankdata

    names = list(draws)
    values = np.array([draws[name] for name in names])
    values = -values[:, np.isfinite(values).all(axis=0)]
    first = rankdata(values, axis=0, method="min").astype(int) - 1
    last = rankdata(values, axis=0, method="max").astype(int) - 1
    found = {}
    for name, low, high in zip(names, first, last, strict=True):
        share = 1.0 / (high - low + 1)
        places = [np.sum(share * ((low <= at) & (at <= high))) for at in range(len(names))]
        found[name] = np.array(places) / max(1, values.shape[1])
    return found


@dataclass(frozen=True)
class Difference:
    """r of a case minus that of another.

    Attributes
    ----------
    case, other : str
        The two.
    difference, low, high : float
        The difference and its interval, which holds for all pairs together.
    """

    case: str
    other: str
    difference: float
    low: float
    high: float

    @property
    def is_one(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def differences(
    r: Mapping[str, float], draws: Mapping[str, Floats], beyond: float = FAMILY_WISE
) -> list[Difference]:
    """Compare all pairs of cases, with intervals that hold for all of them together.

    The largest |difference in a resample - difference| / standard error over the pairs is drawn
    with the resamples, and its quantile widens every interval alike (Romano and Wolf 2005, one
    step). Unlike a percentile at 0.01 / 45 it does not hang on a handful of draws, and pairs that
    move together cost less.

    Parameters
    ----------
    r : mapping of str to float
        Of each case.
    draws : mapping of str to ndarray of float64, shape (R,)
        The same in the same resamples.
    beyond : float
        Chance that an interval of one pair or more misses.

    Returns
    -------
    list of Difference
        Every pair once, in the order of the cases; empty for fewer than two.
    """
    pairs = list(combinations(r, 2))
    if not pairs:
        return []
    apart = np.array([draws[a] - draws[b] for a, b in pairs])
    apart = apart[:, np.isfinite(apart).all(axis=0)]
    middle = np.array([r[a] - r[b] for a, b in pairs])
    spread = apart.std(axis=1)
    moves = spread > 0
    scaled = np.abs(apart - middle[:, None])[moves] / spread[moves, None]
    width = float(np.quantile(scaled.max(axis=0), 1 - beyond)) if moves.any() else 0.0
    return [
        Difference(a, b, float(d), float(d - width * s), float(d + width * s))
        for (a, b), d, s in zip(pairs, middle, spread, strict=True)
    ]


# -- chance ----------------------------------------------------------------------------------------


def permuted_labels(
    label: ArrayLike, component: ArrayLike, count: int, *, seed: int = _SEED
) -> Floats:
    """Exchange labels between components, so that rows of one keep belonging together.

    A component takes the labels of another one in their order; of one with more or fewer rows, at
    even steps.

    Parameters
    ----------
    label : array_like of float, shape (N,)
        Labels.
    component : array_like of int, shape (N,)
        What is independent.
    count : int
        Draws.
    seed : int
        Of the draws.

    Returns
    -------
    ndarray of float64, shape (N, count)
        Labels without a relation to the images.
    """
    y, groups = np.asarray(label, np.float64), np.asarray(component, np.int64)
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(number, kind="stable")
    start = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    # place of each row in its component
    place = np.empty(y.size, np.int64)
    place[order] = np.arange(y.size) - np.repeat(start, sizes)
    rng, found = np.random.default_rng(seed), np.empty((y.size, count))
    for draw in range(count):
        donor = rng.permutation(sizes.size)[number]
        step = (place * sizes[donor]) // sizes[number]
        found[:, draw] = y[order[start[donor] + step]]
    return found


def permutation_test(
    truth: ArrayLike, predictions: ArrayLike, component: ArrayLike, count: int = PERMUTATIONS
) -> list[float | None]:
    """Return the chance of an r as large where labels are exchanged between components.

    One-sided, (1 + draws with r as large) / (1 + draws) (Phipson and Smyth 2010).

    Parameters
    ----------
    truth : array_like of float, shape (N,)
        Labels.
    predictions : array_like of float, shape (H, N)
        Out-of-fold predictions of several cases, which see the same draws.
    component : array_like of int, shape (N,)
        What is independent.
    count : int
        Draws.

    Returns
    -------
    list of float or None
        The p-value of each; None where r does not exist, or there are fewer than
        `FEWEST_GALAXIES` components.
    """
    y, p = np.asarray(truth, np.float64), np.asarray(predictions, np.float64)
    r = [correlation(y, row) for row in p]
    if np.unique(np.asarray(component)).size < FEWEST_GALAXIES or not any(r):
        return [None] * len(p)
    drawn = permuted_labels(y, component, count)
    drawn -= drawn.mean(axis=0)
    norm = np.sqrt(np.sum(drawn**2, axis=0))
    found: list[float | None] = []
    for row, value in zip(p, r, strict=True):
        centred = row - row.mean()
        scale = norm * np.sqrt(np.sum(centred**2))
        by_chance = centred @ drawn / np.where(scale > 0, scale, np.inf)
        at_least = None if value is None else np.count_nonzero(by_chance >= value - 1e-12)
        found.append(None if at_least is None else float((1 + at_least) / (1 + count)))
    return found


# -- what a case adds ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Adds:
    """What a prediction adds to another one.

    Attributes
    ----------
    r, r2 : float
        Of the other prediction alone, after the same second fit.
    r_gain, r2_gain : float
        What both together have more.
    r_low, r_high, r2_low, r2_high : float or None
        95 % intervals of the gains, from a bootstrap over components; None with too few of them.
    weight : float
        Mean coefficient of the prediction, in the unit of label / unit of prediction.
    """

    r: float
    r2: float
    r_gain: float
    r2_gain: float
    r_low: float | None
    r_high: float | None
    r2_low: float | None
    r2_high: float | None
    weight: float

    @property
    def is_something(self) -> bool:
        """Whether the gain in r is above 0, at 95 %."""
        return self.r_low is not None and self.r_low > 0


def adds(
    truth: ArrayLike, known: ArrayLike, prediction: ArrayLike, component: ArrayLike
) -> Adds | None:
    """Say what a prediction adds to what is known already.

    Label = a + b known + c prediction is fitted on four fifths of the components and predicts the
    rest, beside a + b known. c is not negative: a prediction that is anti-correlated by chance
    would be turned round into a finding.

    Parameters
    ----------
    truth : array_like of float, shape (N,)
        Labels.
    known, prediction : array_like of float, shape (N,)
        Two out-of-fold predictions of them, such as from scalars and from images.
    component : array_like of int, shape (N,)
        What is independent.

    Returns
    -------
    Adds or None
        None where there are fewer than `FEWEST_GALAXIES` components, or no correlation exists.
    """
    y = np.asarray(truth, np.float64)
    columns = [np.asarray(values, np.float64) for values in (known, prediction)]
    _, number = np.unique(np.asarray(component, np.int64), return_inverse=True)
    if number.max(initial=-1) + 1 < FEWEST_GALAXIES or correlation(y, columns[0]) is None:
        return None
    part = np.random.default_rng(_SEED).permutation(number.max() + 1)[number] % _PARTS
    alone, both, weights = np.empty(y.size), np.empty(y.size), []
    for out in (part == place for place in range(_PARTS)):
        alone[out] = _second_fit(y, columns[:1], out)[0]
        both[out], weight = _second_fit(y, columns, out)
        weights.append(weight)
    r = [correlation(y, found) for found in (alone, both)]
    if r[0] is None or r[1] is None:
        return None
    r2 = [_r2(y, found) for found in (alone, both)]
    first, second = resampled_r(y, np.stack([alone, both]), number)
    in_r = percentiles(second - first)
    in_r2 = percentiles(_resampled_gain(y, alone, both, number))
    return Adds(
        r=r[0],
        r2=r2[0],
        r_gain=r[1] - r[0],
        r2_gain=r2[1] - r2[0],
        r_low=in_r[0] if in_r else None,
        r_high=in_r[1] if in_r else None,
        r2_low=in_r2[0] if in_r2 else None,
        r2_high=in_r2[1] if in_r2 else None,
        weight=float(np.mean(weights)),
    )


def _second_fit(y: Floats, columns: list[Floats], out: NDArray[np.bool_]) -> tuple[Floats, float]:
    """Fit y on columns where not out, the last of two at least 0, and predict what is out."""
    design = np.stack([np.ones(y.size), *columns], axis=1)
    coefficients = np.linalg.lstsq(design[~out], y[~out])[0]
    if len(columns) > 1 and coefficients[-1] < 0:
        return _second_fit(y, columns[:-1], out)[0], 0.0
    return design[out] @ coefficients, float(coefficients[-1])


def _r2(y: Floats, p: Floats) -> float:
    return float(1 - np.sum((y - p) ** 2) / np.sum((y - y.mean()) ** 2))


def _resampled_gain(y: Floats, alone: Floats, both: Floats, number: Ints) -> Floats:
    """Difference of the two R2 in resamples of components."""
    columns = np.stack([np.ones(y.size), y, y**2, (y - alone) ** 2 - (y - both) ** 2], axis=1)
    sums = np.zeros((int(number.max()) + 1, columns.shape[1]))
    np.add.at(sums, number, columns)
    rng, found = np.random.default_rng(_SEED), []
    for _ in range(0, PERMUTATIONS, 100):
        drawn = rng.integers(len(sums), size=(100, len(sums)))
        n, first, square, gain = sums[drawn].sum(axis=1).T
        total = square - first**2 / n
        found.append(np.where(total > 0, gain / np.where(total > 0, total, 1.0), np.nan))
    return np.concatenate(found)
