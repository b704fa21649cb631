"""Ridge on the pooled outputs of the backbone: what a case leaves where the recipe asks for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sfr.errors import SfrError
from sfr.progress import Progress, silent
from sfr.run.names import ModelId
from sfr.train.batch import BatchResult, named, say_r
from sfr.train.evaluate import metrics
from sfr.train.output import Metrics
from sfr.train.probe import OutOfFold, n_fitted, out_of_fold, packed
from sfr.train.published import complete_network
from sfr.train.training import Training

__all__ = ["block_columns", "block_kinds", "fit_case"]

log = logging.getLogger(__name__)


def fit_case(
    training: Training,
    models: Sequence[ModelId],
    *,
    on_progress: Progress = silent,
) -> BatchResult:
    """Fit ridge on the pooled features of a case, in all folds at once.

    Parameters
    ----------
    training : Training
        The training.
    models : sequence of ModelId
        The case's, one a fold.
    on_progress : callable
        Hears of images.

    Returns
    -------
    BatchResult
        Every fold is in it, or the case among the errors.
    """
    result, start = BatchResult(), time.monotonic()
    case = models[0].case
    try:
        training.load_backend()
        pooled = training.features(case, on_progress=on_progress).array
        result.seconds_features = time.monotonic() - start
        result.trained = _fit(training, case, np.asarray(pooled, np.float64))
    except SfrError as error:
        result.errors[case] = error
        return result
    result.seconds_heads = time.monotonic() - start - result.seconds_features
    r = say_r([entry["r"] for entry in result.trained.values()])
    log.info("%s: ridge, %s", named(models), r)
    return result


def _fit(training: Training, case: str, pooled: NDArray[np.float64]) -> dict[ModelId, Metrics]:
    """Fit all blocks together, which is the case's answer, and each by itself; write both."""
    rows, widths = training.rows, training.backbone.blocks
    flat, kinds = pooled.reshape(len(pooled), -1), block_kinds(widths)
    columns = block_columns(widths)

    def fitted(these: NDArray[np.int64]) -> OutOfFold:
        where = training.tested_in, rows.component
        return out_of_fold(flat[:, these], rows.label, *where, kinds=kinds[these])

    alone = {block: fitted(these).prediction for block, these in columns.items()}
    together = fitted(np.arange(flat.shape[1]))
    found = {}
    for fold, fit in together.fits.items():
        model, test = ModelId(case, fold), training.data.folds[fold].test
        prediction = fit.predict(flat)[:, 0]
        blocks = [
            {"block": block, **metrics(rows.label[test], values[test], rows.target.error_unit)}
            for block, values in alone.items()
        ]
        entry = {
            **training.scores(model, prediction),
            **training.network_facts(),
            "n_train": n_fitted(training.tested_in, fold),
            "n_validation": 0,
            "probe": "ridge",
            "strength": float(fit.strength[0]),
            "blocks": blocks,
        }
        found[model] = (entry, prediction)
    training.files(case).replace(
        training.fingerprint(case),
        training.images,
        found,
        fits=packed([together.fits[fold] for fold in sorted(together.fits)]),
        blocks=alone,
    )
    complete_network(training, ModelId(case))
    return {model: entry for model, (entry, _) in found.items()}


def block_columns(widths: Mapping[str, int]) -> dict[str, NDArray[np.int64]]:
    """Return where the features of each block lie among the flattened ones.

    Parameters
    ----------
    widths : mapping of str to int
        Result of `sfr.nn.backbone.block_widths`.

    Returns
    -------
    dict of str to ndarray of int64
        Means of the block's channels, then standard deviations.
    """
    total, start, found = sum(widths.values()), 0, {}
    for block, width in widths.items():
        mine = np.arange(start, start + width)
        found[block] = np.concatenate([mine, mine + total])
        start += width
    return found


def block_kinds(widths: Mapping[str, int]) -> NDArray[np.int64]:
    """Return the kinds of the flattened features: means, and spreads, of each block."""
    place = np.repeat(np.arange(len(widths)), list(widths.values()))
    return np.concatenate([place, place + len(widths)])
