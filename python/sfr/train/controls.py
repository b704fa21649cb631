"""Controls: what predicts the label without looking at the images as a network does.

A case that is no better than these says nothing of its map. They are predicted out of fold, on the
same folds, and stand in the same table as rows of another kind.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataMissingError, SfrError
from sfr.progress import Progress, silent
from sfr.run.names import ModelId
from sfr.run.workspace import digest
from sfr.train.evaluate import CONTROL
from sfr.train.features import open_features
from sfr.train.known import Known
from sfr.train.output import CaseFiles, Metrics
from sfr.train.probe import FLOOR, Scaling, folds_of, n_fitted, out_of_fold
from sfr.train.statistics import permuted_labels
from sfr.train.training import Training

__all__ = ["CONTROLS", "PREFIX", "Control", "fit_controls", "is_rival", "words_of"]

log = logging.getLogger(__name__)

#: Controls have folders like cases; no case is called so.
PREFIX: Final = "control."
#: Changed where the same name becomes another prediction.
_VERSION: Final = 1
#: Of boosted trees: fewer leaves and steps than scikit-learn's, for samples of hundreds.
_BOOSTING: Final = {"max_iter": 150, "learning_rate": 0.06, "max_leaf_nodes": 12}

#: Draws of labels of other galaxies, each a seed of the table.
_PERMUTED: Final = 20

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Folds:
    """What a control is fitted on.

    Attributes
    ----------
    label : ndarray of float64, shape (N,)
        Labels.
    fold, component : ndarray of int64, shape (N,)
        As of `sfr.train.probe.out_of_fold`.
    """

    label: Floats
    fold: Ints
    component: Ints

    def linear(self, features: Floats, kinds: Ints | None = None, floor: float = 0.0) -> Floats:
        """Predict by ridge."""
        where = self.fold, self.component
        return out_of_fold(features, self.label, *where, kinds=kinds, floor=floor).prediction

    def boosted(self, features: Floats) -> Floats:
        """Predict by boosted trees."""
        from sklearn.ensemble import HistGradientBoostingRegressor
        from threadpoolctl import threadpool_limits

        def fit(train: NDArray[np.bool_]) -> Callable[[Floats], Floats]:
            least = min(20, max(2, int(train.sum()) // 20))
            trees = HistGradientBoostingRegressor(
                **_BOOSTING, min_samples_leaf=least, early_stopping=False, random_state=0
            )
            trees.fit(features[train], self.label[train])
            predict: Callable[[Floats], Floats] = trees.predict
            return predict

        # threads that wait for each other cost more than they save on so few rows
        with threadpool_limits(1):
            return self._by_fold(features, fit)

    def nearest(self, features: Floats, kinds: Ints | None = None) -> Floats:
        """Predict the label of the training row that is most alike."""
        from scipy.spatial import KDTree

        def fit(train: NDArray[np.bool_]) -> Callable[[Floats], Floats]:
            scaling = Scaling.of(features[train], kinds, floor=FLOOR)
            tree, label = KDTree(scaling.apply(features[train])), self.label[train]
            return lambda rows: label[tree.query(scaling.apply(rows))[1]]

        return self._by_fold(features, fit)

    def mean(self) -> Floats:
        """Predict the mean of the training rows."""
        return self._by_fold(
            self.label[:, None],
            lambda train: lambda rows: np.full(len(rows), self.label[train].mean()),
        )

    def permuted(self, features: Floats, kinds: Ints) -> Floats:
        """Predict by ridge that has learned labels of other galaxies, shape (N, draws)."""
        wrong = permuted_labels(self.label, self.component, _PERMUTED)
        where = self.fold, self.component
        return out_of_fold(features, wrong, *where, kinds=kinds).prediction

    def _by_fold(
        self, features: Floats, fit: Callable[[NDArray[np.bool_]], Callable[[Floats], Floats]]
    ) -> Floats:
        prediction = np.full(self.label.size, np.nan)
        for number in folds_of(self.fold):
            test = self.fold == number
            prediction[test] = fit(~test)(features[test])
        return prediction


@dataclass(frozen=True)
class Control:
    """One control.

    Attributes
    ----------
    words : str
        What it predicts from, for tables.
    predict : callable
        From what is known and the folds to out-of-fold predictions, shape (N,) or (N, seeds).
    is_rival : bool
        Whether it reads the images in all detail: another way to the same end, which a case need
        not beat.
    """

    words: str
    predict: Callable[[Known, Folds], Floats]
    is_rival: bool = False


#: By the name after `PREFIX`, in the order of tables.
CONTROLS: Final[dict[str, Control]] = {
    "mean": Control("mean of the training labels", lambda _, folds: folds.mean()),
    "stellar_mass": Control(
        "log stellar mass", lambda known, folds: folds.linear(known.scalar("stellar_mass_msun"))
    ),
    "gas_mass": Control(
        "log gas mass", lambda known, folds: folds.linear(known.scalar("gas_mass_msun"))
    ),
    "scalars": Control(
        "all scalars of the catalogue, linear", lambda known, folds: folds.linear(known.scalars())
    ),
    "scalars_boosted": Control(
        "all scalars of the catalogue, boosted trees",
        lambda known, folds: folds.boosted(known.scalars()),
    ),
    "channel_means": Control(
        "mean and spread of each channel", lambda known, folds: folds.linear(known.means())
    ),
    "cells": Control(
        "gas cells in the frame, share of empty pixels",
        lambda known, folds: folds.linear(known.cells()),
    ),
    "rung": Control(
        "rung of the orientation ladder", lambda known, folds: folds.linear(known.rung())
    ),
    "orientation": Control(
        "orientation: rung, number of particles, alignment",
        lambda known, folds: folds.linear(known.orientation()),
    ),
    "snapshot": Control("snapshot", lambda known, folds: folds.linear(known.snapshot())),
    "profiles": Control(
        "radial profiles, ridge",
        lambda known, folds: folds.linear(known.profiles(), known.profile_kinds, FLOOR),
    ),
    "profiles_boosted": Control(
        "radial profiles, boosted trees", lambda known, folds: folds.boosted(known.profiles())
    ),
    "neighbour": Control(
        "nearest neighbour in radial profiles",
        lambda known, folds: folds.nearest(known.profiles(), known.profile_kinds),
    ),
    "spectrum": Control(
        "power spectra and radial profiles, ridge",
        lambda known, folds: folds.linear(known.shapes(), known.shape_kinds, FLOOR),
        is_rival=True,
    ),
    "spectrum_boosted": Control(
        "power spectra and radial profiles, boosted trees",
        lambda known, folds: folds.boosted(known.shapes()),
        is_rival=True,
    ),
    "permuted": Control(
        "power spectra and radial profiles, labels of other galaxies",
        lambda known, folds: folds.permuted(known.shapes(), known.shape_kinds),
        is_rival=True,
    ),
}


def words_of(name: str) -> str:
    """Say what a control predicts from, by the name of its folder."""
    known = CONTROLS.get(name.removeprefix(PREFIX))
    if known is not None:
        return known.words
    return f"ridge on the last block of the backbone, {name.removeprefix(_OF_CASE)}"


#: Controls of a case that has heads: ridge on the features that these read.
_OF_CASE: Final = f"{PREFIX}ridge."


def is_rival(name: str) -> bool:
    """Whether a control, by the name of its folder, reads images in all detail."""
    known = CONTROLS.get(name.removeprefix(PREFIX))
    return known is None or known.is_rival


def fit_controls(
    training: Training, cases: tuple[str, ...] = (), *, on_progress: Progress = silent
) -> dict[str, str]:
    """Predict all controls that are not current, and write them beside the cases.

    Parameters
    ----------
    training : Training
        The rows and folds.
    cases : tuple of str
        Cases with heads, whose features ridge is fitted on, too, where they are kept.
    on_progress : callable
        Hears of images that are measured.

    Returns
    -------
    dict of str to str
        Controls that cannot be had, and why; in the tables they are absent.
    """
    rows = training.rows
    known = Known(training, on_progress)
    folds = Folds(rows.label, training.tested_in, rows.component)
    wanted: dict[str, Callable[[], Floats]] = {
        f"{PREFIX}{name}": partial(control.predict, known, folds)
        for name, control in CONTROLS.items()
    }
    for case in () if training.is_ridge else cases:
        wanted[f"{_OF_CASE}{case}"] = partial(_last_block, training, case, folds)
    absent: dict[str, str] = {}
    for name, predict in wanted.items():
        files = training.files(name)
        fingerprint = digest([_VERSION, name, training.settings, known.catalogue])
        if files.check(fingerprint).current:
            continue
        try:
            prediction = predict()
        except SfrError as error:
            absent[name] = str(error)
            _forget(files)
        else:
            _write(training, files, fingerprint, prediction)
        reasons = {ModelId(name): absent[name]} if name in absent else {}
        files.say_failed(training.settings, reasons)
    return absent


def _last_block(training: Training, case: str, folds: Folds) -> Floats:
    """Predict by ridge on mean and spread over places of the features that heads read."""
    path, count = training.features_file(case), training.rows.label.size
    array = open_features(path, count, training.recipe.train.feature_type)
    if array is None:
        raise DataMissingError(f"the features of {case} are not kept in {path.parent}")
    parts = []
    for start in range(0, count, 256):
        block = np.asarray(array[start : start + 256], np.float64)
        pooled = [block.mean(axis=(1, 2)), block.std(axis=(1, 2))]
        parts.append(np.concatenate(pooled, axis=1))
    features = np.concatenate(parts)
    return folds.linear(features, np.repeat([0, 1], features.shape[1] // 2), FLOOR)


def _write(training: Training, files: CaseFiles, fingerprint: str, prediction: Floats) -> None:
    found: dict[ModelId, tuple[Metrics, Floats]] = {}
    columns = prediction.reshape(len(prediction), -1).T
    for fold, (seed, column) in product(folds_of(training.tested_in), enumerate(columns)):
        model = ModelId(files.case, fold, seed)
        entry = training.scores(model, column, CONTROL)
        entry |= {"weights": "", "n_train": n_fitted(training.tested_in, fold)}
        found[model] = (entry, column)
    files.replace(fingerprint, training.images, found)


def _forget(files: CaseFiles) -> None:
    """Remove what an earlier control left that cannot be had any more."""
    for path in (files.metrics, files.predictions):
        path.unlink(missing_ok=True)
