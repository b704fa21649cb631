"""How good predictions are: metrics of one head, and the table of all cases."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfr.arrays import real
from sfr.errors import DataFormatError, NonFiniteError, ShapeError
from sfr.imaging.cases import NAMES
from sfr.workspace import Workspace

__all__ = ["AVERAGED", "DEAD_RANGE", "SETTINGS_STEP", "case_table", "metrics"]

log = logging.getLogger(__name__)

#: Predictions that span less than this are one constant: the head is dead [dex].
DEAD_RANGE: Final = 1e-6
#: Step under which the settings of the last training are kept.
SETTINGS_STEP: Final = "train-settings"
#: Metrics that a table averages over the seeds that are not dead.
AVERAGED: Final = ("r", "spearman", "r2", "rmse_dex", "bias", "nmad", "outlier_fraction")
#: Fewest rows for a correlation or a spread.
_FEWEST = 3

Metrics = dict[str, Any]


def metrics(truth: ArrayLike, prediction: ArrayLike) -> Metrics:
    """Compare predictions with the truth.

    d = prediction - truth throughout. What is undefined is None, never NaN: everything for no
    rows; all but ``rmse_dex`` and ``bias`` for fewer than 3 rows; the correlations and ``r2``
    where the truth is constant; the correlations where the prediction is constant (a dead head).

    Parameters
    ----------
    truth, prediction : array_like of float, shape (N,)
        log10 sSFR, with any common offset [dex].

    Returns
    -------
    dict
        ``r`` Pearson's and ``spearman`` rank correlation; ``r2`` = 1 - sum d^2 / sum (truth -
        mean)^2, below 0 when worse than the mean; ``rmse_dex`` = sqrt(mean d^2); ``bias`` = mean d;
        ``nmad`` = 1.4826 median |d - median d|; ``outlier_fraction``, the share of rows with
        |d - median d| > 3 ``nmad`` (0.0027 for Gaussian errors); ``n`` = N; ``dead``, whether
        the predictions of 2 rows or more span less than `DEAD_RANGE`.

    Raises
    ------
    ShapeError
        The two are not vectors of one length.
    NonFiniteError
        A value is NaN or infinite.

    Examples
    --------
    >>> metrics([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])["r"] is None
    True
    """
    y, p = _vectors(truth, prediction)
    n = y.size
    d = p - y
    dead = bool(n > 1 and np.ptp(p) < DEAD_RANGE)
    found: Metrics = dict.fromkeys(AVERAGED)
    if n > 0:
        found["rmse_dex"] = float(np.sqrt(np.mean(d**2)))
        found["bias"] = float(np.mean(d))
    if n >= _FEWEST:
        found["nmad"], found["outlier_fraction"] = _spread(d)
    if n >= _FEWEST and np.ptp(y) > 0.0:
        found["r2"] = float(1.0 - np.sum(d**2) / np.sum((y - np.mean(y)) ** 2))
        if not dead:
            found["r"], found["spearman"] = _correlations(y, p)
    return {**found, "n": n, "dead": dead}


def _vectors(
    truth: ArrayLike, prediction: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, p = real(truth, "truth"), real(prediction, "prediction")
    if y.ndim != 1 or y.shape != p.shape:
        raise ShapeError(
            f"truth has shape {y.shape}, prediction {p.shape}; both must be vectors of one length"
        )
    for name, values in (("truth", y), ("prediction", p)):
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise NonFiniteError(f"{name} has {bad} values of {values.size} that are not finite")
    return y, p


def _spread(d: NDArray[np.float64]) -> tuple[float, float]:
    deviation = np.abs(d - np.median(d))
    nmad = 1.4826 * float(np.median(deviation))
    return nmad, float(np.mean(deviation > 3.0 * nmad))


def _correlations(
    y: NDArray[np.float64], p: NDArray[np.float64]
) -> tuple[float | None, float | None]:
    from scipy import stats

    with warnings.catch_warnings():
        # scipy doubts r of nearly constant input; DEAD_RANGE has drawn that line already
        warnings.simplefilter("ignore")
        found = stats.pearsonr(y, p).statistic, stats.spearmanr(y, p).statistic
    r, spearman = (float(value) if np.isfinite(value) else None for value in found)
    return r, spearman


def case_table(workspace: Workspace, cases: Sequence[str] = NAMES) -> list[dict[str, Any]]:
    """Summarise all finished heads of a run, one row a case.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    cases : sequence of str
        Cases that come first, in this order, for example those of the recipe; any others follow
        by name.
        Cases without a finished head have no row, nor have those whose settings or images are not
        those of the last training: only like is compared with like.

    Returns
    -------
    list of dict
        ``case``, ``seeds`` (heads), ``dead`` (heads with a constant output), then for each of
        `AVERAGED` its mean over the heads that are not dead and, as ``<name>_std``, the standard
        deviation (n - 1) of two or more of them; ``n`` test rows and ``n_train`` rows; ``weights``
        of the backbone. None where a value is undefined.

    Raises
    ------
    DataFormatError
        A ``metrics.json`` cannot be read.
    """
    by_case: dict[str, list[Mapping[str, Any]]] = {}
    latest = workspace.fingerprint(SETTINGS_STEP) if workspace.has_run(SETTINGS_STEP) else None
    for case, seed in workspace.trained():
        head = _read_metrics(workspace, case, seed)
        if latest is None or head.get("settings") == latest:
            by_case.setdefault(case, []).append(head)
        else:
            log.warning(
                "%s, seed %d was trained with other settings or images than the last training, so "
                "it is not compared; train it again to have it in the table",
                case,
                seed,
            )
    order = {name: place for place, name in enumerate(cases)}
    names = sorted(by_case, key=lambda name: (order.get(name, len(order)), name))
    return [_case_row(name, by_case[name]) for name in names]


def _read_metrics(workspace: Workspace, case: str, seed: int) -> Metrics:
    path = workspace.head(case, seed) / "metrics.json"
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataFormatError(f"{path} cannot be read: {error}; train this case again") from error
    if not isinstance(content, dict):
        raise DataFormatError(f"{path} does not hold the metrics of a head; train this case again")
    return content


def _case_row(case: str, heads: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    live = [head for head in heads if not head.get("dead")]
    row: dict[str, Any] = {"case": case, "seeds": len(heads), "dead": len(heads) - len(live)}
    for name in AVERAGED:
        values = [float(head[name]) for head in live if head.get(name) is not None]
        row[name] = float(np.mean(values)) if values else None
        row[f"{name}_std"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    row["n"] = heads[0].get("n")
    row["n_train"] = heads[0].get("n_train")
    row["weights"] = _joined(head.get("weights") for head in heads)
    return row


def _joined(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values))
