"""How good predictions are: metrics of one head, and the table of all cases."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfr.arrays import real
from sfr.errors import ConfigError, NonFiniteError, ShapeError
from sfr.recipe import Recipe
from sfr.run.names import ModelId
from sfr.run.tables import TEST, Table, count_galaxies, galaxy_numbers
from sfr.run.workspace import Workspace
from sfr.target import Target, ssfr_of, target_of
from sfr.train.bootstrap import CONSTANT_RANGE, FEWEST_GALAXIES, percentiles, resampled_r
from sfr.train.latest import latest_settings
from sfr.train.output import CaseFiles, CaseOutput, Metrics, seed_column

__all__ = [
    "AVERAGED",
    "CASE",
    "CONTROL",
    "DEAD",
    "FAILED",
    "FEWEST_IMAGES",
    "NOT_TRAINED",
    "OUTLIER_DEX",
    "OUT_OF_DATE",
    "TRAINED",
    "UNDEFINED",
    "Comparison",
    "ScoredHead",
    "case_states",
    "case_table",
    "compare",
    "head_states",
    "metrics",
    "read_heads",
]

log = logging.getLogger(__name__)

#: What has become of a head or of a case, by the same words everywhere. Undefined: its test images
#: are too few, or have one label, for a correlation. Failed: the last training could not train it.
#: Out of date: trained with other settings or images than the last training.
TRAINED, UNDEFINED, DEAD = "trained", "undefined", "dead"
FAILED, OUT_OF_DATE, NOT_TRAINED = "failed", "out of date", "not trained"
#: What a row of the table is: a case, or a control, which is there to be measured against and is
#: never the best.
CASE, CONTROL = "case", "control"
#: A prediction farther than this from the truth is an outlier: a factor of 3.2 [dex]. Labels that
#: are no logarithms have no outliers: what is far depends on the quantity.
OUTLIER_DEX: Final = 0.5
#: Metrics that a table averages over the seeds that are not dead.
AVERAGED: Final = ("r", "spearman", "r2", "rmse", "bias", "nmad", "outlier_fraction")
#: Differences of two r that rounding makes.
_ROUNDING: Final = 1e-9
#: Decimals of a logarithm that the arithmetic of float64 leaves: what agrees in them is a tie.
_DECIMALS: Final = 9
#: Fewest rows for a correlation or a spread.
FEWEST_IMAGES: Final = 3


def metrics(truth: ArrayLike, prediction: ArrayLike, unit: str = "dex") -> Metrics:
    """Compare predictions with the truth.

    d = prediction - truth throughout. What is undefined is None, never NaN: everything for no
    rows; the correlations, ``r2`` and ``nmad`` for fewer than 3 rows; the correlations and
    ``r2`` where the truth is constant; the correlations where the prediction is constant (a dead
    head). Constant is what spans less than `CONSTANT_RANGE`: the rest is rounding.

    Parameters
    ----------
    truth, prediction : array_like of float, shape (N,)
        Labels, with any common offset.
    unit : str
        Unit of their differences: ``dex`` where they are logarithms.

    Returns
    -------
    dict
        ``r`` Pearson's and ``spearman`` rank correlation; ``r2`` = 1 - sum d^2 / sum (truth -
        mean)^2, below 0 when worse than the mean; ``rmse`` = sqrt(mean d^2); ``bias`` = mean d;
        ``nmad`` = 1.4826 median |d - median d|; ``unit`` of these three; ``outlier_fraction``,
        the share of rows with |d| > ``outlier_limit`` = `OUTLIER_DEX`, both None where the unit is
        not dex; ``n`` = N; ``dead``, whether the predictions of 2 rows or more are constant.

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
    dead = n > 1 and _is_constant(p)
    limit = _outlier_limit(unit)
    found: Metrics = dict.fromkeys(AVERAGED)
    if n > 0:
        found["rmse"] = float(np.sqrt(np.mean(d**2)))
        found["bias"] = float(np.mean(d))
        if limit is not None:
            found["outlier_fraction"] = float(np.mean(np.abs(d) > limit))
    if n >= FEWEST_IMAGES:
        found["nmad"] = 1.4826 * float(np.median(np.abs(d - np.median(d))))
    if n >= FEWEST_IMAGES and not _is_constant(y):
        found["r2"] = float(1.0 - np.sum(d**2) / np.sum((y - np.mean(y)) ** 2))
        if not dead:
            found["r"], found["spearman"] = _correlations(y, p)
    return {**found, "unit": unit, "outlier_limit": limit, "n": n, "dead": dead}


def _outlier_limit(unit: str) -> float | None:
    return OUTLIER_DEX if unit == "dex" else None


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


def _is_constant(values: NDArray[np.float64]) -> bool:
    return bool(np.ptp(values) < CONSTANT_RANGE)


def _correlations(
    y: NDArray[np.float64], p: NDArray[np.float64]
) -> tuple[float | None, float | None]:
    from scipy import stats

    with warnings.catch_warnings():
        # scipy doubts r of nearly constant input; CONSTANT_RANGE has drawn that line already
        warnings.simplefilter("ignore")
        # values that differ by rounding have no order
        ranked = np.round(y, _DECIMALS), np.round(p, _DECIMALS)
        found = stats.pearsonr(y, p).statistic, stats.spearmanr(*ranked).statistic
    r, spearman = (float(value) if np.isfinite(value) else None for value in found)
    return r, spearman


@dataclass(frozen=True)
class ScoredHead:
    """What the heads of a case and seed left of the images that they are tested on.

    With several folds each image is predicted by the head that has not seen it, and what is said of
    the seed holds for them together: it is dead where one of them is.

    Attributes
    ----------
    case : str
        Version of the image.
    seed : int
        The seed.
    metrics : dict
        Entry of ``metrics.json``, of the first fold, with what `metrics` says of all test images.
    filename : ndarray of str, shape (N,)
        Test images, sorted.
    galaxy_id : ndarray of int64, shape (N,)
        As in ``sample.csv``.
    truth, prediction : ndarray of float64, shape (N,)
        Labels of the target (`sfr.target`).
    histories : tuple of dict of str to ndarray
        Columns epoch, loss, validation_loss (NaN where there is no validation subset) of each head.
    """

    case: str
    seed: int
    metrics: Mapping[str, Any]
    filename: NDArray[np.str_]
    galaxy_id: NDArray[np.int64]
    truth: NDArray[np.float64]
    prediction: NDArray[np.float64]
    histories: tuple[Table, ...] = ()

    @property
    def dead(self) -> bool:
        """Whether a head gives the same number for every image."""
        return bool(self.metrics.get("dead"))

    @property
    def kind(self) -> str:
        """`CASE` or `CONTROL`."""
        return str(self.metrics.get("kind", CASE))

    @property
    def state(self) -> str:
        """`TRAINED`, `DEAD` or `UNDEFINED`."""
        if self.dead:
            return DEAD
        return UNDEFINED if self.metrics.get("r") is None else TRAINED

    @property
    def n_galaxies(self) -> int:
        """Independent galaxies among the test images."""
        return count_galaxies(self.galaxy_id)

    @property
    def n_untracked(self) -> int:
        """Test images of galaxies in no tree, where several snapshots may show the same ones."""
        images = self.filename[self.galaxy_id < 0].tolist()
        snapshots = {name.partition("ID")[0] for name in images}
        return len(images) if len(snapshots) > 1 else 0

    def on(self, images: NDArray[np.str_]) -> ScoredHead:
        """Return the head on some of its images, in this order."""
        at = np.searchsorted(self.filename, images)
        columns: dict[str, Any] = {name: getattr(self, name)[at] for name in _COLUMNS}
        return dataclasses.replace(self, **columns)


_COLUMNS: Final = ("filename", "galaxy_id", "truth", "prediction")


def read_heads(workspace: Workspace, recipe: Recipe) -> dict[str, list[ScoredHead]]:
    """Read what the finished heads of a run left of the test subset.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    recipe : Recipe
        The experiment: its cases come first, in its order; any others follow by name.

    Returns
    -------
    dict of str to list of ScoredHead
        By case, in the order of their seeds. Heads whose settings or images are not those of the
        last training are left out, with a warning: only like is compared with like. So are those
        that predict another target than the recipe's, those of a case that is none of its
        channels, and seeds that lack the head of a fold.

    Raises
    ------
    DataMissingError, DataFormatError
        ``metrics.json``, ``predictions.csv`` or ``history.csv`` of a case cannot be read.
    """
    found: dict[str, list[ScoredHead]] = {}
    outdated: list[str] = []
    others: dict[str, list[str]] = {}
    latest, target = latest_settings(workspace), target_of(recipe)
    for case in workspace.trained():
        output = CaseFiles(workspace, case).read()
        for seed, heads in _by_seed(output).items():
            if not _is_shown(case, heads, recipe):
                why = f"the channels of the recipe are {', '.join(recipe.channels)}"
                log.warning("%s, seed %d is left out: %s", case, seed, why)
            elif predicts := _other_target(heads, recipe):
                others.setdefault(predicts, []).append(f"{case} seed {seed}")
            elif latest is not None and any(head.get("settings") != latest for head in heads):
                outdated.append(f"{case} seed {seed}")
            elif missing := _missing_folds(output, seed):
                log.warning(
                    "%s, seed %d is left out: folds %s are not trained", case, seed, missing
                )
            else:
                found.setdefault(case, []).append(_scored(output, seed, target.error_unit))
    _say_others(others, outdated, target)
    order = {name: place for place, name in enumerate(recipe.case_names)}
    names = sorted(found, key=lambda name: (order.get(name, len(order)), name))
    return {name: found[name] for name in names}


def _by_seed(output: CaseOutput) -> dict[int, list[Metrics]]:
    """Return the entries of the heads of each seed, in the order of seeds and folds."""
    found: dict[int, list[Metrics]] = {
        seed: [] for seed in sorted({m.seed for m in output.metrics})
    }
    for model, entry in output.metrics.items():
        found[model.seed].append(entry)
    return found


def _say_others(
    others: Mapping[str, Sequence[str]], outdated: Sequence[str], target: Target
) -> None:
    """Warn of heads that predict something else, and of those that are out of date."""
    for predicts, names in others.items():
        log.warning(
            "left out, because they predict %s and the recipe %s [%s]: %s; train them again",
            predicts,
            target.text,
            target.error_unit or "no unit",
            ", ".join(names),
        )
    if outdated:
        log.warning(
            "out of date, so not compared: %s; trained with other settings or images than the "
            "last training, train again to have the numbers",
            ", ".join(outdated),
        )


def head_states(
    workspace: Workspace, recipe: Recipe, heads: Mapping[str, Sequence[ScoredHead]]
) -> dict[tuple[str, int], str]:
    """Say what has become of every head that was ever trained, or failed to be.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    recipe : Recipe
        The experiment.
    heads : mapping of str to sequence of ScoredHead
        Result of `read_heads`: those of which there are numbers.

    Returns
    -------
    dict of (str, int) to str
        By case and seed, cases in the order of the recipe: one of the words of this module.
    """
    states = {(head.case, head.seed): head.state for found in heads.values() for head in found}
    latest = latest_settings(workspace)
    for case in workspace.failed():
        settings, reasons = CaseFiles(workspace, case).failures()
        if settings == latest and _is_case(case, recipe):
            for model in reasons:
                states.setdefault((case, model.seed), FAILED)
    for case in workspace.trained():
        for model, entry in CaseFiles(workspace, case).read().metrics.items():
            is_other = entry.get("settings") != latest or _other_target([entry], recipe)
            if is_other and _is_shown(case, [entry], recipe):
                states.setdefault((case, model.seed), OUT_OF_DATE)
    order = {name: place for place, name in enumerate(recipe.case_names)}
    return dict(sorted(states.items(), key=lambda item: (order.get(item[0][0], 999), item[0])))


def case_states(recipe: Recipe, states: Mapping[tuple[str, int], str]) -> dict[str, str]:
    """Say what has become of every case: what the best of its heads is.

    Parameters
    ----------
    recipe : Recipe
        The experiment.
    states : mapping of (str, int) to str
        Result of `head_states`.

    Returns
    -------
    dict of str to str
        The recipe's cases in its order, then others.
    """
    cases = dict.fromkeys([*recipe.case_names, *(case for case, _ in states)])
    words = (TRAINED, UNDEFINED, DEAD, FAILED, OUT_OF_DATE)
    return {
        case: next(
            (word for word in words if word in {s for (c, _), s in states.items() if c == case}),
            NOT_TRAINED,
        )
        for case in cases
    }


def _is_shown(case: str, heads: Iterable[Metrics], recipe: Recipe) -> bool:
    """Whether heads are of a control, or of a case of the recipe's channels."""
    return any(head.get("kind") == CONTROL for head in heads) or _is_case(case, recipe)


def _is_case(name: str, recipe: Recipe) -> bool:
    try:
        recipe.case(name)
    except ConfigError:
        return False
    return True


def _other_target(heads: Iterable[Metrics], recipe: Recipe) -> str:
    """Name what heads predict where that is not the recipe's target; else empty."""
    target, older = target_of(recipe), ssfr_of(recipe.sample).text
    for head in heads:
        predicts = str(head.get("label", older))
        if predicts != target.text or head.get("unit", "dex") != target.error_unit:
            return predicts
    return ""


def _missing_folds(output: CaseOutput, seed: int) -> str:
    """List the folds that test images and have no head of a seed; empty where there is none."""
    folds = {fold for fold in output.predictions["fold"].tolist() if fold >= 0}
    return ", ".join(map(str, sorted(folds - {m.fold for m in output.metrics if m.seed == seed})))


def _scored(output: CaseOutput, seed: int, unit: str) -> ScoredHead:
    """Put the heads of a seed together, each on the images that it is tested on."""
    models = [model for model in output.metrics if model.seed == seed]
    table = output.predictions
    prediction = table[seed_column(seed)]
    rows = np.flatnonzero(
        (table["subset"] == TEST) & np.isfinite(table["truth"]) & np.isfinite(prediction)
    )
    first = output.metrics[models[0]]
    found = {**first, **metrics(table["truth"][rows], prediction[rows], unit)}
    if len(models) > 1:
        found["dead"] = any(output.metrics[model].get("dead") for model in models)
        found["n_train"] = min(output.metrics[model]["n_train"] for model in models)
        epochs = {output.metrics[model].get("epoch_used") for model in models}
        found["epoch_used"] = epochs.pop() if len(epochs) == 1 else _span(epochs)
    if first.get("kind") == CONTROL:
        # the mean of the labels is constant, and there for its errors
        found["dead"] = False
    rows = rows[np.argsort(table["filename"][rows], kind="stable")]
    return ScoredHead(
        output.files.case,
        seed,
        found,
        table["filename"][rows],
        table["galaxy_id"][rows],
        table["truth"][rows],
        prediction[rows],
        _histories(output, models),
    )


def _span(numbers: set[Any]) -> str:
    """Say between which numbers the folds of a seed differ."""
    known = sorted(number for number in numbers if number is not None)
    return f"{known[0]} to {known[-1]}"


def _histories(output: CaseOutput, models: Iterable[ModelId]) -> tuple[Table, ...]:
    """Return the losses of some heads, of those that have any."""
    if output.history is None:
        return ()
    found = map(output.history_of, models)
    columns = ("epoch", "loss", "validation_loss")
    return tuple({n: part[n] for n in columns} for part in found if part["epoch"].size)


def case_table(
    heads: Mapping[str, Sequence[ScoredHead]], states: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Summarise heads, one row a case.

    Parameters
    ----------
    heads : mapping of str to sequence of ScoredHead
        Result of `read_heads`.
    states : mapping of str to str, optional
        Part of `case_states`: its cases have a row, too, in this order before any others.

    Returns
    -------
    list of dict
        ``case``, ``kind`` (`CASE` or `CONTROL`), ``state`` in one word, ``seeds`` (heads), ``dead``
        (heads with a constant output), then for each of `AVERAGED` its mean over the heads that are
        not dead and, as ``<name>_std``, the standard deviation (n - 1) of two or more of them;
        ``r_low`` and ``r_high``, the 95 % interval of that mean of r from a bootstrap over
        galaxies; ``unit`` of errors and ``outlier_limit``, what ``outlier_fraction`` counts from;
        ``n`` test images of ``n_galaxies`` galaxies and ``n_train`` images; ``weights`` of the
        backbone. None where a value is undefined, or where there are too few galaxies for an
        interval.
    """
    draws = _draws({case: _stated(found) for case, found in heads.items()})
    rows = []
    for case in dict.fromkeys([*(states or {}), *heads]):
        found = heads.get(case, ())
        words = {head.state for head in found}
        known = [word for word in (TRAINED, UNDEFINED, DEAD) if word in words]
        state = known[0] if known else (states or {})[case]
        rows.append(_case_row(case, state, found, draws.get(case)))
    return rows


def _stated(heads: Iterable[ScoredHead]) -> list[ScoredHead]:
    """Heads that have a correlation."""
    return [head for head in heads if head.metrics.get("r") is not None]


def _case_row(
    case: str, state: str, heads: Sequence[ScoredHead], draws: NDArray[np.float64] | None
) -> dict[str, Any]:
    live = [head for head in heads if not head.dead]
    kind = heads[0].kind if heads else CASE
    row: dict[str, Any] = {"case": case, "kind": kind, "state": state}
    row |= {"seeds": len(heads), "dead": len(heads) - len(live)}
    for name in AVERAGED:
        values = [float(head.metrics[name]) for head in live if head.metrics.get(name) is not None]
        row[name] = float(np.mean(values)) if values else None
        row[f"{name}_std"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
        if name == "r":
            interval = None if draws is None else percentiles(draws)
            row["r_low"], row["r_high"] = interval or (None, None)
    first = heads[0] if heads else None
    row["unit"] = first.metrics.get("unit") if first else None
    row["outlier_limit"] = first.metrics.get("outlier_limit") if first else None
    row["n"] = first.metrics.get("n") if first else None
    row["n_galaxies"] = first.n_galaxies if first else None
    row["n_train"] = first.metrics.get("n_train") if first else None
    row["weights"] = _joined(head.metrics.get("weights") for head in heads)
    return row


def _draws(heads: Mapping[str, Sequence[ScoredHead]]) -> dict[str, NDArray[np.float64]]:
    """Mean r of each case in each resample, where its heads have the same, and enough, galaxies."""
    alike: dict[tuple[bytes, ...], list[str]] = {}
    for case, found in heads.items():
        images = {(h.filename.tobytes(), h.galaxy_id.tobytes(), h.truth.tobytes()) for h in found}
        if len(images) == 1 and found[0].n_galaxies >= FEWEST_GALAXIES:
            alike.setdefault(images.pop(), []).append(case)
    draws: dict[str, NDArray[np.float64]] = {}
    for cases in alike.values():
        # one pass for all of them
        chosen = [head for case in cases for head in heads[case]]
        galaxy = galaxy_numbers(chosen[0].galaxy_id)
        r = iter(resampled_r(chosen[0].truth, [head.prediction for head in chosen], galaxy))
        for case in cases:
            draws[case] = np.mean([next(r) for _ in heads[case]], axis=0)
    return draws


def _joined(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values))


@dataclass(frozen=True)
class Comparison:
    """Cases side by side: the same seeds, test images and resamples of galaxies for all.

    Attributes
    ----------
    seeds : tuple of int
        Seeds that are trained, and alive, in every case compared.
    n_images, n_galaxies : int
        Test images that all of them have, and their galaxies.
    n_untracked : int
        Of those images the ones of galaxies in no tree, where they are of several snapshots: each
        counts as a galaxy, though some may be the same.
    r : dict of str to float
        Pearson's r of each case, mean over the seeds.
    left_out : tuple of str
        Cases that have no such seed, though some head of theirs is alive.
    problem : str
        Why nothing can be compared; empty where it can.
    draws : dict of str to ndarray of float64, shape (RESAMPLES,)
        r of each case in each resample; empty with fewer than `FEWEST_GALAXIES` galaxies.
    """

    seeds: tuple[int, ...] = ()
    n_images: int = 0
    n_galaxies: int = 0
    n_untracked: int = 0
    r: dict[str, float] = dataclasses.field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    problem: str = ""
    draws: dict[str, NDArray[np.float64]] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def has_intervals(self) -> bool:
        """Whether there are enough galaxies for intervals and comparisons."""
        return bool(self.draws)

    def best(self, cases: Iterable[str]) -> str:
        """Return the case with the largest r among some."""
        return max((case for case in self.r if case in set(cases)), key=self.r.__getitem__)

    def interval(self, case: str) -> tuple[float, float] | None:
        """95 % interval of r, of this case by itself."""
        return percentiles(self.draws[case]) if case in self.draws else None

    def above_chance(self, case: str) -> bool:
        """Whether r is above 0, at 95 % for all cases together."""
        if case not in self.draws:
            return False
        found = percentiles(self.draws[case], 0.05 / len(self.r))
        return found is not None and found[0] > 0

    def lead(self, case: str, other: str) -> tuple[float, float] | None:
        """Interval of the difference of two r, at 95 % for all pairs of cases together.

        The best of many is ahead of some by chance: with ten equal cases, intervals at 95 % each
        set the best apart from another in two of three experiments.
        """
        if case not in self.draws or other not in self.draws:
            return None
        pairs = max(1, len(self.r) * (len(self.r) - 1) // 2)
        return percentiles(self.draws[case] - self.draws[other], 0.05 / pairs)

    def is_ahead(self, case: str, other: str) -> bool:
        """Whether a case is better than another by more than chance explains."""
        found = self.lead(case, other)
        return found is not None and found[0] > _ROUNDING


def compare(heads: Mapping[str, Sequence[ScoredHead]]) -> Comparison:
    """Put cases side by side on the seeds and test images that all of them have.

    Parameters
    ----------
    heads : mapping of str to sequence of ScoredHead
        Result of `read_heads`. Cases without a head that has a correlation are not compared, and
        controls never: none of them is the best, nor decides which seeds and images count.

    Returns
    -------
    Comparison
        With ``problem`` where seeds, images or labels have nothing in common.
    """
    cases = [case for case, found in heads.items() if all(head.kind == CASE for head in found)]
    alive = {case: {head.seed: head for head in _stated(heads[case])} for case in cases}
    alive = {case: found for case, found in alive.items() if found}
    if not alive:
        return Comparison(problem="no case has a correlation")
    trained = _common({head.seed for head in heads[case]} for case in alive)
    kept = {case: found for case, found in alive.items() if trained & found.keys()}
    left_out = tuple(case for case in alive if case not in kept)
    seeds = tuple(sorted(trained.intersection(*kept.values()) if kept else ()))
    if not seeds:
        return Comparison(left_out=left_out, problem="no seed is alive in all of them")
    shared = _common(set(kept[case][seed].filename.tolist()) for case in kept for seed in seeds)
    images = np.array(sorted(shared), np.str_)
    chosen = {case: [kept[case][seed].on(images) for seed in seeds] for case in kept}
    first = chosen[next(iter(chosen))][0]
    everything = [head for found in chosen.values() for head in found]
    if not all(_same_galaxies(head, first) for head in everything):
        return Comparison(problem="their test images have different labels or galaxies")
    means = {case: float(np.mean([_r(head) for head in found])) for case, found in chosen.items()}
    if np.isnan(list(means.values())).any():
        return Comparison(
            problem="the test images that all of them have are too few, or have one label"
        )
    draws = _draws(chosen)
    return Comparison(
        seeds, images.size, first.n_galaxies, first.n_untracked, means, left_out, "", draws
    )


def _common(sets: Iterable[set[Any]]) -> set[Any]:
    first, *others = sets
    return first.intersection(*others)


def _same_galaxies(head: ScoredHead, other: ScoredHead) -> bool:
    return np.array_equal(head.truth, other.truth) and np.array_equal(
        head.galaxy_id, other.galaxy_id
    )


def _r(head: ScoredHead) -> float:
    found = metrics(head.truth, head.prediction)["r"]
    return np.nan if found is None else float(found)
