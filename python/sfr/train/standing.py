"""How each case stands against controls, chance and other cases, on the images that all have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.run.edited_tables import galaxy_keys, read_groups, read_sample
from sfr.run.names import ImageId
from sfr.run.tables import Table
from sfr.run.workspace import Workspace
from sfr.target import SSFR, Target
from sfr.train.bootstrap import FEWEST_GALAXIES, percentiles, resampled_r
from sfr.train.controls import PREFIX, is_rival, words_of
from sfr.train.evaluate import CASE, ScoredHead
from sfr.train.output import CaseFiles
from sfr.train.rows import components_of
from sfr.train.statistics import (
    Adds,
    Difference,
    adds,
    area_under_curve,
    correlation,
    differences,
    information,
    mean_over_folds,
    permutation_test,
    rank_probabilities,
    standard_error,
)

__all__ = ["QUENCHED", "Difference", "Standing", "standings"]

#: sSFR below which a galaxy counts as quenched [1/yr].
QUENCHED: Final = 1e-11
#: What the scalars of the catalogue predict, which a case should add to.
_SCALARS: Final = f"{PREFIX}scalars"

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Standing:
    """One row of the table of cases, as far as it compares; None where something cannot be said.

    Attributes
    ----------
    case, kind, words : str
        A case or a control; of a control also what it predicts from.
    r : float or None
        Of the mean prediction of all seeds.
    r_low, r_high : float or None
        Its 95 % interval, from a bootstrap over components.
    r_folds : float or None
        r of each fold by itself, averaged by Fisher's z.
    information_nat : float or None
        1/2 ln(var y / mean squared error).
    p_chance : float or None
        Chance of such an r with labels exchanged between components.
    best : float or None
        Chance of being the best of the cases; None for controls.
    control, control_words : str
        The control with the largest r that is no rival; empty for controls.
    ahead, ahead_low, ahead_high : float or None
        r minus that of the control, and an interval that holds for all cases together.
    adds : Adds or None
        What it adds to the scalars.
    standard_error : float or None
        Of r, were the components independent draws: how large a difference must be to be seen.
    auc, r_forming, r_snapshot, r_central : float or None
        Area under the curve for quenched galaxies, and r within those that form stars, within each
        snapshot (averaged by Fisher's z), and within central galaxies.
    """

    case: str
    kind: str = CASE
    words: str = ""
    r: float | None = None
    r_low: float | None = None
    r_high: float | None = None
    r_folds: float | None = None
    information_nat: float | None = None
    p_chance: float | None = None
    best: float | None = None
    control: str = ""
    control_words: str = ""
    ahead: float | None = None
    ahead_low: float | None = None
    ahead_high: float | None = None
    adds: Adds | None = None
    auc: float | None = None
    r_forming: float | None = None
    r_snapshot: float | None = None
    r_central: float | None = None
    standard_error: float | None = None
    #: Components that it was tested on.
    count: int = 0

    def as_row(self) -> dict[str, Any]:
        """Return it as one row of a table, without what is inside of `adds`."""
        row = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "adds"}
        gains = [f.name for f in fields(Adds)]
        return row | {f"adds_{name}": getattr(self.adds, name, None) for name in gains}

    @property
    def beats_controls(self) -> bool | None:
        """Whether it is ahead of the best control by more than chance; None: no control."""
        return (
            None if self.ahead is None else bool(self.ahead_low is not None and self.ahead_low > 0)
        )


def standings(
    workspace: Workspace, target: Target, heads: Mapping[str, Sequence[ScoredHead]]
) -> tuple[dict[str, Standing], list[Difference]]:
    """Say how cases and controls stand, each by the mean prediction of its seeds.

    Parameters
    ----------
    workspace : Workspace
        The run's folder, with sample and split.
    target : Target
        What is predicted.
    heads : mapping of str to sequence of ScoredHead
        Result of `sfr.train.evaluate.read_heads`.

    Returns
    -------
    dict of str to Standing
        In the same order; empty where heads have no image in common.
    list of Difference
        Of all pairs of cases, family-wise; empty where there are too few galaxies.
    """
    alive = {name: [h for h in found if not h.dead] for name, found in heads.items()}
    alive = {name: found for name, found in alive.items() if found}
    if not alive:
        return {}, []
    shared = set.intersection(
        *(set(h.filename.tolist()) for found in alive.values() for h in found)
    )
    if not shared:
        return {}, []
    images = np.array(sorted(shared), np.str_)
    rows = _Rows.of(workspace, target, images, next(iter(alive.values()))[0].on(images))
    predictions = {
        name: np.mean([head.on(images).prediction for head in found], axis=0)
        for name, found in alive.items()
    }
    # heads of one table have the same rows in the same folds, as their settings say
    fold = _folds(workspace, next(iter(alive)), images)
    draws = rows.draws(predictions)
    r = {name: correlation(rows.truth, p) for name, p in predictions.items()}
    cases = [name for name in alive if heads[name][0].kind == CASE and r[name] is not None]
    ranks = rank_probabilities({name: draws[name] for name in cases if name in draws})
    controls = [n for n in alive if n not in cases and r[n] is not None and not is_rival(n)]
    best = max(controls, key=lambda name: r[name] or 0.0, default="")
    by_chance = permutation_test(rows.truth, list(predictions.values()), rows.component)
    chance = dict(zip(predictions, by_chance, strict=True))
    found = {}
    for name, p in predictions.items():
        is_case = name in cases
        lead = _lead(r, draws, name, best, len(cases)) if is_case and best else {}
        known = predictions.get(_SCALARS) if is_case else None
        found[name] = Standing(
            case=name,
            kind=heads[name][0].kind,
            words=words_of(name) if name.startswith(PREFIX) else "",
            r=r[name],
            count=rows.count,
            **_interval(draws.get(name)),
            r_folds=mean_over_folds(rows.truth, p, fold, rows.component),
            information_nat=information(rows.truth, p),
            p_chance=chance[name],
            best=float(ranks[name][0]) if name in ranks else None,
            adds=None if known is None else adds(rows.truth, known, p, rows.component),
            standard_error=None if r[name] is None else standard_error(r[name] or 0.0, rows.count),
            **lead,
            **rows.regimes(p),
        )
    compared = {name: r[name] or 0.0 for name in cases if name in draws}
    return found, differences(compared, draws)


def _interval(draws: Floats | None) -> dict[str, Any]:
    limits = None if draws is None else percentiles(draws)
    return {} if limits is None else {"r_low": limits[0], "r_high": limits[1]}


def _lead(
    r: Mapping[str, float | None], draws: Mapping[str, Floats], name: str, best: str, cases: int
) -> dict[str, Any]:
    """Compare a case with the best control; the interval holds for all cases together."""
    found: dict[str, Any] = {"control": best, "control_words": words_of(best)}
    found |= {"ahead": (r[name] or 0.0) - (r[best] or 0.0)}
    if name in draws and best in draws:
        limits = percentiles(draws[name] - draws[best], 0.05 / max(1, cases))
        if limits is not None:
            found |= {"ahead_low": limits[0], "ahead_high": limits[1]}
    return found


def _folds(workspace: Workspace, name: str, images: NDArray[np.str_]) -> Ints:
    """Fold that tests each image of a case."""
    table: Table = CaseFiles(workspace, name).read().predictions
    place = {file: row for row, file in enumerate(table["filename"].tolist())}
    return np.asarray(table["fold"][[place[file] for file in images.tolist()]], np.int64)


@dataclass(frozen=True)
class _Rows:
    """The images that are compared."""

    truth: Floats
    component: Ints
    snapshot: Ints
    is_central: NDArray[np.bool_]
    #: None where the target is no sSFR.
    is_quenched: NDArray[np.bool_] | None

    @classmethod
    def of(
        cls, workspace: Workspace, target: Target, images: NDArray[np.str_], head: ScoredHead
    ) -> _Rows:
        """Look images up in sample and split."""
        sample, groups = read_sample(workspace), read_groups(workspace)
        place = {ImageId(*key).filename: row for row, key in enumerate(galaxy_keys(sample))}
        ids = [ImageId.parse(name) for name in images.tolist()]
        at = [place[image._replace(view=0).filename] for image in ids]
        kept = [groups.get(name, name) for name in images.tolist()]
        value = target.value(head.truth)
        return cls(
            truth=head.truth,
            component=components_of(kept, head.galaxy_id),
            snapshot=np.array([image.snapshot for image in ids], np.int64),
            is_central=np.asarray(sample["is_central"])[at] == 1,
            is_quenched=value < QUENCHED if target.column == SSFR else None,
        )

    @property
    def count(self) -> int:
        """Components."""
        return int(self.component.max()) + 1

    def draws(self, predictions: Mapping[str, Floats]) -> dict[str, Floats]:
        """R of each in the same resamples of components; none with too few of them."""
        if self.count < FEWEST_GALAXIES:
            return {}
        found = resampled_r(self.truth, np.stack(list(predictions.values())), self.component)
        return dict(zip(predictions, found, strict=True))

    def regimes(self, prediction: Floats) -> dict[str, Any]:
        """Return the numbers that a pooled r hides."""

        def within(mine: NDArray[np.bool_]) -> float | None:
            return correlation(self.truth[mine], prediction[mine])

        quenched = self.is_quenched
        return {
            "auc": None if quenched is None else area_under_curve(quenched, prediction),
            "r_forming": None if quenched is None else within(~quenched),
            "r_snapshot": mean_over_folds(self.truth, prediction, self.snapshot, self.component),
            "r_central": within(self.is_central),
        }
