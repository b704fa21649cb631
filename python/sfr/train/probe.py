"""Ridge regression on fixed features: the probe of recipes that want no trained network.

Seconds in place of epochs, no seeds, nothing that can die. Per fold one decomposition serves all
strengths, and the strength is the one that predicts components best of which it has seen nothing:
that is worked out in closed form, which `leave_out_errors` explains.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfr.errors import EmptySelectionError, NonFiniteError, ShapeError

__all__ = [
    "STRENGTHS",
    "OutOfFold",
    "Ridge",
    "Scaling",
    "fit_ridge",
    "folds_of",
    "leave_out_errors",
    "n_fitted",
    "out_of_fold",
    "packed",
    "unpacked",
]

#: Penalties of squared coefficients that are tried, for features of spread 1.
STRENGTHS: Final = tuple(float(10.0 ** (step / 2)) for step in range(-2, 13))
#: Least spread of a feature, in medians of those of its kind: what hardly moves is not blown up.
FLOOR: Final = 0.05
#: Scaled features end here: a few outliers would decide the fit.
CLIP: Final = 5.0
#: Share of the largest squared singular value below which there is rounding only.
_RANK: Final = 1e-12
#: Folds that are fitted at a time, at most: each holds a few copies of the features.
_MOST_THREADS: Final = 4

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Scaling:
    """Shift and scale of features, learned in the training fold.

    Attributes
    ----------
    centre, spread : ndarray of float64, shape (P,)
        Mean of each feature and what it is divided by.
    """

    centre: Floats
    spread: Floats

    @classmethod
    def of(cls, features: Floats, kinds: Ints | None = None, *, floor: float = FLOOR) -> Scaling:
        """Learn it: the spread is a standard deviation, and at least a share of the median one.

        A feature that hardly moves, such as a nearly dead channel, would be noise of the size of
        the others (docs/training.md).

        Parameters
        ----------
        features : ndarray of float64, shape (N, P)
            Training rows.
        kinds : ndarray of int64, shape (P,) or None
            Number of the kind of each feature; medians are those of a kind. None: one kind.
        floor : float
            The share; 0 where features have nothing in common, such as columns of a catalogue.

        Returns
        -------
        Scaling
            A spread is 1 where all rows of a kind agree.
        """
        spread = features.std(axis=0)
        kinds = np.zeros(spread.size, np.int64) if kinds is None else kinds
        for kind in np.unique(kinds):
            mine = kinds == kind
            moving = spread[mine][spread[mine] > 0]
            least = floor * float(np.median(moving)) if moving.size else 1.0
            spread[mine] = np.maximum(spread[mine], least)
        return cls(features.mean(axis=0), np.where(spread > 0, spread, 1.0))

    def apply(self, features: Floats) -> Floats:
        """Return scaled features, none of them beyond `CLIP`."""
        scaled: Floats = np.clip((features - self.centre) / self.spread, -CLIP, CLIP)
        return scaled


@dataclass(frozen=True)
class Ridge:
    """A fitted probe.

    Attributes
    ----------
    scaling : Scaling
        Of the features.
    coefficients : ndarray of float64, shape (P, L)
        Of the scaled features, one column a label.
    intercept : ndarray of float64, shape (L,)
        Prediction where all scaled features are 0.
    strength : ndarray of float64, shape (L,)
        Penalty, of `STRENGTHS`.
    """

    scaling: Scaling
    coefficients: Floats
    intercept: Floats
    strength: Floats

    def predict(self, features: ArrayLike) -> Floats:
        """Predict labels.

        Parameters
        ----------
        features : array_like of float, shape (N, P)
            As in the fit.

        Returns
        -------
        ndarray of float64, shape (N, L)
            In the unit of the labels.
        """
        rows = np.asarray(features, np.float64)
        found: Floats = self.scaling.apply(rows) @ self.coefficients + self.intercept
        return found


def fit_ridge(
    features: ArrayLike,
    labels: ArrayLike,
    component: ArrayLike,
    *,
    kinds: ArrayLike | None = None,
    floor: float = FLOOR,
) -> Ridge:
    """Fit ridge regressions of some labels on the same features.

    Shifting and scaling a label shifts and scales its predictions and nothing else, so labels need
    no scale of their own.

    Parameters
    ----------
    features : array_like of float, shape (N, P)
        Training rows.
    labels : array_like of float, shape (N, L)
        Labels, each fitted by itself with a strength of its own.
    component : array_like of int, shape (N,)
        Rows of one component are left out together where the strength is chosen.
    kinds, floor
        As in `Scaling.of`.

    Returns
    -------
    Ridge
        The fit.

    Raises
    ------
    ShapeError
        The arrays do not fit together.
    NonFiniteError
        A feature or a label is NaN or infinite.
    EmptySelectionError
        The rows are of one component, which leaves none to choose the strength by.
    """
    x, y = _checked(features, labels)
    groups = np.asarray(component, np.int64)
    if np.unique(groups).size < 2:
        raise EmptySelectionError(
            f"the {len(x)} training rows are of one galaxy or group of galaxies, and the strength "
            "of ridge is chosen by leaving one out; select more galaxies"
        )
    scaling = Scaling.of(x, None if kinds is None else np.asarray(kinds, np.int64), floor=floor)
    return _Decomposed.of(scaling, x).fit(y, groups)


def _checked(features: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(features, np.float64), np.asarray(labels, np.float64)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise ShapeError(
            f"features have shape {x.shape}, labels {y.shape}; (N, P) and (N, L) are expected"
        )
    for name, values in (("features", x), ("labels", y)):
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise NonFiniteError(f"{bad} of {values.size} {name} are not finite")
    return x, y


@dataclass(frozen=True)
class _Decomposed:
    """Scaled and centred training features X = U S V^T, whatever of them is not rounding."""

    scaling: Scaling
    #: Mean of the scaled features: those that were clipped have another one than 0.
    middle: Floats
    u: Floats
    s: Floats
    v: Floats

    @classmethod
    def of(cls, scaling: Scaling, features: Floats) -> _Decomposed:
        """Decompose by the smaller of the two products, X^T X or X X^T."""
        x = scaling.apply(features)
        middle = x.mean(axis=0)
        x -= middle
        is_tall = x.shape[0] > x.shape[1]
        squared, vectors = np.linalg.eigh(x.T @ x if is_tall else x @ x.T)
        kept = squared > _RANK * max(float(squared.max(initial=0.0)), 1.0)
        s, vectors = np.sqrt(squared[kept]), vectors[:, kept]
        other = (x if is_tall else x.T) @ vectors / s
        u, v = (other, vectors) if is_tall else (vectors, other)
        return cls(scaling, middle, np.ascontiguousarray(u), s, v)

    def fit(self, labels: Floats, component: Ints) -> Ridge:
        """Fit labels with the strength of each that leaves the smallest error."""
        mean = labels.mean(axis=0)
        errors = leave_out_errors(self.u, self.s, labels - mean, component)
        strength = np.asarray(STRENGTHS)[errors.argmin(axis=0)]
        shrunk = self.s[:, None] / (self.s[:, None] ** 2 + strength)
        coefficients = self.v @ (shrunk * (self.u.T @ (labels - mean)))
        return Ridge(self.scaling, coefficients, mean - self.middle @ coefficients, strength)


def leave_out_errors(u: Floats, s: Floats, labels: Floats, component: Ints) -> Floats:
    """Return how well each strength predicts components that it was not fitted on.

    What a fit without a component leaves of that component's labels is (1 - H)^-1 e, where e is
    what the fit with it leaves, and H the block of the hat matrix U S^2 / (S^2 + strength) U^T +
    1 / N of its rows (Cook and Weisberg 1982, Residuals and Influence in Regression, 2.2): as many
    fits as there are components, at the price of one. Only the features' scaling keeps what it
    learned of all rows.

    Parameters
    ----------
    u : ndarray of float64, shape (N, K)
        Left singular vectors of the centred features.
    s : ndarray of float64, shape (K,)
        Singular values.
    labels : ndarray of float64, shape (N, L)
        Centred labels.
    component : ndarray of int64, shape (N,)
        Which rows are left out together.

    Returns
    -------
    ndarray of float64, shape (strengths, L)
        Mean squared error over the rows [unit of the labels squared].
    """
    n, rank = u.shape
    strengths = np.asarray(STRENGTHS)
    kept = s**2 / (s**2 + strengths[:, None])
    onto = u.T @ labels
    total = np.zeros((strengths.size, labels.shape[1]))
    for rows in _groups(component):
        mine = u[rows]
        weighted = (kept[:, None] * mine).reshape(strengths.size * rows.size, rank)
        hat = (weighted @ mine.T).reshape(strengths.size, rows.size, rows.size) + 1.0 / n
        left = labels[rows] - (weighted @ onto).reshape(strengths.size, rows.size, -1)
        unseen = np.linalg.solve(np.eye(rows.size) - hat, left)
        total += np.sum(unseen**2, axis=1)
    found: Floats = total / n
    return found


def _groups(component: Ints) -> Iterator[Ints]:
    """Yield the rows of each component."""
    order = np.argsort(component, kind="stable")
    edges = np.flatnonzero(np.diff(component[order])) + 1
    yield from np.split(order, edges)


def packed(fits: Sequence[Ridge]) -> dict[str, Floats]:
    """Return fits of as many features and labels as arrays, for a file."""
    return {
        "centre": np.stack([fit.scaling.centre for fit in fits]),
        "spread": np.stack([fit.scaling.spread for fit in fits]),
        "coefficients": np.stack([fit.coefficients for fit in fits]),
        "intercept": np.stack([fit.intercept for fit in fits]),
        "strength": np.stack([fit.strength for fit in fits]),
    }


def unpacked(arrays: Mapping[str, Floats]) -> list[Ridge]:
    """Return the fits that `packed` made arrays of."""
    names = ("centre", "spread", "coefficients", "intercept", "strength")
    rows = zip(*(arrays[name] for name in names), strict=True)
    return [Ridge(Scaling(centre, spread), *others) for centre, spread, *others in rows]


# -- over folds ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OutOfFold:
    """Predictions of rows by fits that have not seen them.

    Attributes
    ----------
    prediction : ndarray of float64, shape (N,) or (N, L)
        NaN in rows that no fold tests.
    fits : dict of int to Ridge
        The fit of each fold.
    """

    prediction: Floats
    fits: dict[int, Ridge]


def folds_of(fold: ArrayLike) -> list[int]:
    """Return the numbers of the folds that test rows; -1 stands for none."""
    return [int(number) for number in np.unique(np.asarray(fold, np.int64)) if number >= 0]


def n_fitted(fold: ArrayLike, number: int) -> int:
    """Count the rows that the fit of a fold sees: all it does not test, validation rows, too."""
    return int(np.count_nonzero(np.asarray(fold, np.int64) != number))


def out_of_fold(
    features: ArrayLike,
    label: ArrayLike,
    fold: ArrayLike,
    component: ArrayLike,
    *,
    kinds: ArrayLike | None = None,
    floor: float = FLOOR,
) -> OutOfFold:
    """Predict every row by a fit on the rows of the other folds.

    Each fold is fitted by one thread, so that results do not depend on how many there are.

    Parameters
    ----------
    features : array_like of float, shape (N, P)
        One row an image.
    label : array_like of float, shape (N,) or (N, L)
        A label, or several that are fitted each by itself.
    fold : array_like of int, shape (N,)
        Fold that tests a row; -1: none, so that it is trained on in every fold.
    component : array_like of int, shape (N,)
        Rows that are not independent: left out together where the strength is chosen.
    kinds, floor
        As in `Scaling.of`.

    Returns
    -------
    OutOfFold
        Predictions, of the shape of the label, and the fits that made them.

    Raises
    ------
    ShapeError, NonFiniteError, EmptySelectionError
        As `fit_ridge`.
    """
    from threadpoolctl import threadpool_limits

    y = np.asarray(label, np.float64)
    x, labels = _checked(features, y[:, None] if y.ndim == 1 else y)
    folds, groups = np.asarray(fold, np.int64), np.asarray(component, np.int64)
    prediction = np.full(labels.shape, np.nan)

    def fit(number: int) -> Ridge:
        train = folds != number
        fitted = fit_ridge(x[train], labels[train], groups[train], kinds=kinds, floor=floor)
        prediction[~train] = fitted.predict(x[~train])
        return fitted

    numbers = folds_of(folds)
    with threadpool_limits(1), ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        fits = dict(zip(numbers, pool.map(fit, numbers), strict=True))
    return OutOfFold(prediction.reshape(y.shape), fits)
