"""What the run says, in careful words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sfr.recipe import Recipe
from sfr.report.tables import CaseRow
from sfr.target import Target, target_of
from sfr.train.evaluate import (
    CASE,
    DEAD,
    FAILED,
    FEWEST_IMAGES,
    NOT_TRAINED,
    OUT_OF_DATE,
    UNDEFINED,
    Comparison,
)
from sfr.train.standing import Standing

__all__ = ["Verdict", "verdict"]

#: Galaxies below which a bootstrap interval is narrower than it says (docs/training.md).
_FEW_GALAXIES = 20
#: Most cases that the headline names.
_NAMED = 3
_FAMILIES = {
    "channel": "Of the single channels",
    "gauss": "Of the blurred images",
    "structure": "Of the structure images",
    "band": "Of the bands between two blurs",
}


@dataclass(frozen=True)
class Verdict:
    """Sentences of the report.

    Attributes
    ----------
    headline : str
        The answer in one sentence.
    points : list of str
        Channel, blur and structure, one sentence or two each.
    cautions : list of str
        What keeps the answer from being certain.
    """

    headline: str
    points: list[str]
    cautions: list[str]


def verdict(
    rows: Sequence[CaseRow],
    comparison: Comparison,
    recipe: Recipe,
    standing: Mapping[str, Standing] | None = None,
) -> Verdict:
    """Say which case, which channel and which scale predict best, and how sure that is.

    Parameters
    ----------
    rows : sequence of CaseRow
        The table of cases.
    comparison : Comparison
        The same cases on the seeds and test images that all of them have: every sentence rests
        on it.
    recipe : Recipe
        The experiment.
    standing : mapping of str to Standing, optional
        How cases and controls stand.

    Returns
    -------
    Verdict
        Plain sentences.
    """
    rows = [row for row in rows if row.kind == CASE]
    standing = standing or {}
    points = _against_controls(standing)
    if len(comparison.r) > 1 and comparison.above_chance(comparison.best(comparison.r)):
        points.append(_rivals(comparison, list(comparison.r)))
        for family, words in _FAMILIES.items():
            members = [case for case in comparison.r if _family(case, recipe) == family]
            if members:
                points.append(_family_point(words, members, comparison, recipe))
    return Verdict(
        _headline(rows, comparison, target_of(recipe)) + _no_better(comparison, standing),
        points,
        _cautions(rows, comparison, recipe),
    )


def _no_better(comparison: Comparison, standing: Mapping[str, Standing]) -> str:
    """Say it where the best case is not ahead of a control."""
    best = standing.get(comparison.best(comparison.r)) if comparison.r else None
    if best is None or best.beats_controls is not False:
        return ""
    control = standing[best.control]
    return (
        f" That says nothing of the images yet: it is not ahead of a control, "
        f"{best.control_words}, which reaches r\u00a0=\u00a0{control.r:.3f}."
    ).replace("=\u00a0-", "=\u00a0\u2212")


def _against_controls(standing: Mapping[str, Standing]) -> list[str]:
    """Say which cases are ahead of the best control, and which add to the scalars."""
    cases = [found for found in standing.values() if found.beats_controls is not None]
    if not cases:
        return []
    ahead = [found.case for found in cases if found.beats_controls]
    control = cases[0].control_words
    if ahead:
        points = [f"Ahead of the best control ({control}): {_listed(ahead)}."]
    else:
        points = [f"No case is ahead of the best control ({control})."]
    asked = [found for found in cases if found.adds is not None]
    more = [found.case for found in asked if found.adds is not None and found.adds.is_something]
    if asked:
        said = _listed(more) if more else "none"
        points.append(f"Cases that add to what scalars of the catalogue predict: {said}.")
    return points


def _family(case: str, recipe: Recipe) -> str:
    return recipe.case(case).family


def _headline(rows: Sequence[CaseRow], comparison: Comparison, target: Target) -> str:
    if all(row.r is None for row in rows):
        if any(row.status == UNDEFINED for row in rows):
            return f"{_undefined(rows)}, so no correlation exists and nothing can be said."
        return (
            "Every trained network is dead (one output for every image), so there is nothing to "
            "compare."
        )
    if comparison.problem:
        return f"The cases cannot be compared: {comparison.problem}."
    best = comparison.best(comparison.r)
    if len(comparison.r) == 1:
        return f"Only {best} can be judged: {_r(best, comparison)}, {_test_set(comparison)}."
    if comparison.interval(best) is None:
        return (
            f"{best} has the largest correlation, {_r(best, comparison)}, but "
            f"{_test_set(comparison)} are too few to tell the cases apart."
        )
    if not comparison.above_chance(best):
        return (
            f"No case predicts the {target.name} better than chance can: the best, {best}, has "
            f"{_r(best, comparison)}."
        )
    close = _not_told_apart(best, list(comparison.r), comparison)
    tail = ""
    if len(close) == len(comparison.r) - 1:
        tail = ", but no other case is told apart from it"
    elif close:
        named = _listed(close) if len(close) <= _NAMED else f"{len(close)} of the other cases"
        tail = f", not told apart from {named}"
    return f"The {target.name} is predicted best from {best}: {_r(best, comparison)}{tail}."


def _family_point(words: str, family: Sequence[str], comparison: Comparison, recipe: Recipe) -> str:
    best = comparison.best(family)
    name = best + _scale_words(best, recipe)
    if len(family) == 1:
        return f"{words} there is only {name}: {_r(best, comparison)}."
    return f"{words}, {name} predicts best: {_r(best, comparison)}. {_rivals(comparison, family)}"


def _not_told_apart(best: str, cases: Sequence[str], comparison: Comparison) -> list[str]:
    return [case for case in cases if case != best and not comparison.is_ahead(best, case)]


def _rivals(comparison: Comparison, cases: Sequence[str]) -> str:
    close = _not_told_apart(comparison.best(cases), cases, comparison)
    others = len(cases) - 1
    if not close:
        noun = "case" if others == 1 else f"{others} cases"
        verb = "lies" if others == 1 else "lie"
        return f"The other {noun} {verb} further below than chance explains."
    if len(close) == others:
        return (
            f"The lead over {_listed(close)} is smaller than what {_test_set(comparison)} can "
            "tell, so the order is not established."
        )
    return (
        f"Not told apart from it: {_listed(close)}; the difference is smaller than what "
        f"{_test_set(comparison)} can tell. The rest lie further below than chance explains."
    )


def _test_set(comparison: Comparison) -> str:
    images, galaxies = comparison.n_images, comparison.n_galaxies
    return (
        f"{images} test image{'s' * (images != 1)} of "
        f"{galaxies} {'galaxy' if galaxies == 1 else 'galaxies'}"
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _r(case: str, comparison: Comparison) -> str:
    text = f"r = {comparison.r[case]:.3f}"
    interval = comparison.interval(case)
    if interval is not None:
        text += f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})"
    return text.replace("-", "\u2212").replace(" = ", "\u00a0=\u00a0").replace(" %", "\u00a0%")


def _scale_words(case: str, recipe: Recipe) -> str:
    """Say where a Gaussian of so many pixels halves the amplitude: at 2 pi / sqrt(2 ln 2) sigma."""
    meaning = recipe.case(case)
    if meaning.radius_px is None:
        return ""
    half_of_px = 2 * math.pi / math.sqrt(2 * math.log(2)) * recipe.maps.pixel_ckpc_h
    lengths = " to ".join(f"{half_of_px * px:.2g}" for px in meaning.scales_px)
    if meaning.family == "band":
        return f" (detail of about {lengths} ckpc/h)"
    side = "coarser" if meaning.family == "gauss" else "finer"
    return f" (detail {side} than about {lengths} ckpc/h)"


def _cautions(rows: Sequence[CaseRow], comparison: Comparison, recipe: Recipe) -> list[str]:
    cautions = [*_on_galaxies(comparison), *_on_seeds(rows, comparison, recipe)]
    shared = comparison.n_images
    if comparison.r and any(row.n_test != shared for row in rows if row.case in comparison.r):
        cautions.append(
            f"The cases do not have the same test images; they are compared on the {shared} that "
            "all of them have."
        )
    best = comparison.best(comparison.r) if comparison.r else ""
    if any(row.case == best and row.r2 is not None and row.r2 < 0 for row in rows):
        order = "its predictions follow the order of the truth, but " * (comparison.r[best] > 0)
        values = "their values are" if order else "its values are"
        cautions.append(
            f"R\u00b2 of {best} is below 0: {order}{values} worse than the mean. The comparison "
            "here is by r alone."
        )
    if recipe.split.by == "image":
        cautions.append(
            "The split is by image: where the sample has several snapshots, most test images have "
            "a near-copy of the same galaxy in the training set, which flatters every case."
        )
    crosstalk = recipe.cases.act_on == "composite"
    if crosstalk and any(_family(case, recipe) == "channel" for case in comparison.r):
        cautions.append(
            "The single-channel cases are cut from the stretched composite, which mixes the "
            "channels: each carries some of the others."
        )
    for status, words in (
        (DEAD, "Dead, so without a statement: {}."),
        (UNDEFINED, f"{_undefined(rows)}, so that no correlation exists: {{}}."),
        (FAILED, "Training failed, so not compared: {}."),
        (OUT_OF_DATE, "Out of date, so not compared: {}. Settings or images have changed since."),
        (NOT_TRAINED, "Not trained yet, so not compared: {}."),
    ):
        names = [row.case for row in rows if row.status == status]
        if names:
            cautions.append(words.format(_listed(names)))
    return cautions


def _undefined(rows: Sequence[CaseRow]) -> str:
    """Say why cases have no correlation although a network of theirs lives."""
    few = {(row.n_test or 0) < FEWEST_IMAGES for row in rows if row.status == UNDEFINED}
    if few == {True}:
        return f"There are fewer than {FEWEST_IMAGES} test images"
    if few == {False}:
        return "All test images have the same label"
    return "The test images are too few, or all have the same label"


def _on_galaxies(comparison: Comparison) -> list[str]:
    if not comparison.r:
        return []
    galaxies = comparison.n_galaxies
    if not comparison.has_intervals:
        return [
            f"The test images show {galaxies} {'galaxy' if galaxies == 1 else 'galaxies'}: too few "
            "for intervals."
        ]
    cautions = [
        f"Intervals and comparisons resample the {galaxies} galaxies of the test images, each with "
        "all its images, the same draws for all cases. Comparisons hold at 95 % for all pairs "
        "of cases together.".replace(" %", "\u00a0%")
    ]
    if comparison.n_untracked:
        cautions.append(
            f"{comparison.n_untracked} of the test images show galaxies that are in no tree, in "
            "several snapshots; each counts as a galaxy of its own. Where they are the same "
            "galaxies, N is too large and intervals are too narrow."
        )
    if galaxies < _FEW_GALAXIES:
        cautions.append(
            f"{galaxies} galaxies are few: an interval of so few holds the truth in about 90 % of "
            "experiments, not in 95 %.".replace(" %", "\u00a0%")
        )
    return cautions


def _on_seeds(rows: Sequence[CaseRow], comparison: Comparison, recipe: Recipe) -> list[str]:
    cautions = []
    seeds = comparison.seeds
    alive = {row.case: row.seeds - row.dead for row in rows if row.case in comparison.r}
    more = [f"{case} ({count})" for case, count in alive.items() if count > len(seeds)]
    if more and len(alive) > 1:
        listed = _listed([str(seed) for seed in seeds])
        cautions.append(
            f"The cases are compared on seed{'s' * (len(seeds) > 1)} {listed}, which all of them "
            f"have alive; the table also counts further networks of {_listed(more)}."
        )
    if alive and len(seeds) < 2 and recipe.train.probe == "head":
        cautions.append("One network a case: the spread between random starts is not known.")
    if comparison.left_out:
        cautions.append(
            f"Not compared, because none of the seeds that all cases have is alive: "
            f"{_listed(comparison.left_out)}."
        )
    return cautions
