"""What the run says, in careful words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sfr.recipe import Recipe
from sfr.report.tables import CaseRow, differs
from sfr.target import Target, target_of

__all__ = ["Verdict", "verdict"]

_CHANNELS = ("entropy", "mass", "temperature")


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


def verdict(rows: Sequence[CaseRow], recipe: Recipe) -> Verdict:
    """Say which case, which channel and which scale predict best, and how sure that is.

    Parameters
    ----------
    rows : sequence of CaseRow
        The table of cases.
    recipe : Recipe
        The experiment.

    Returns
    -------
    Verdict
        Plain sentences.
    """
    stated = [row for row in rows if row.r is not None]
    families: list[tuple[str, Callable[[str], bool]]] = [
        ("Of the single channels", lambda name: name in _CHANNELS),
        ("Of the blurred images", lambda name: name.startswith("gauss")),
        ("Of the structure images", lambda name: name.startswith("structure")),
    ]
    points = []
    best = _best(stated) if stated else CaseRow("", "undefined")
    if len(stated) > 1 and best.r_low is not None and best.r_low > 0:
        points.append(_rivals(best, stated))
        for words, belongs in families:
            family = [row for row in stated if belongs(row.case)]
            if family:
                points.append(_family_point(words, family, recipe))
    return Verdict(
        _headline(rows, stated, target_of(recipe.sample)), points, _cautions(rows, stated, recipe)
    )


def _headline(rows: Sequence[CaseRow], stated: Sequence[CaseRow], target: Target) -> str:
    if not stated:
        if any(row.status == "undefined" for row in rows):
            return "There are too few test images for a correlation; nothing can be said."
        return "Every network is dead (one output for every image), so there is nothing to compare."
    best = _best(stated)
    if len(stated) == 1:
        return f"Only {best.case} can be judged: {_r(best)}, {best.n_test} test images."
    if best.r_low is None:
        return (
            f"{best.case} has the largest correlation, {_r(best)}, but {best.n_test} test images "
            "are too few to tell the cases apart."
        )
    if best.r_low <= 0:
        return (
            f"No case predicts the {target.name} better than chance can: the best, {best.case}, "
            f"has {_r(best)}; the interval reaches 0."
        )
    return f"The {target.name} is predicted best from {best.case}: {_r(best)}."


def _family_point(words: str, family: Sequence[CaseRow], recipe: Recipe) -> str:
    best = _best(family)
    name = best.case + _scale_words(best.case, recipe)
    if len(family) == 1:
        return f"{words} there is only {name}: {_r(best)}."
    return f"{words}, {name} predicts best: {_r(best)}. {_rivals(best, family)}"


def _best(rows: Sequence[CaseRow]) -> CaseRow:
    return max(rows, key=lambda row: -math.inf if row.r is None else row.r)


def _rivals(best: CaseRow, rows: Sequence[CaseRow]) -> str:
    close = [row.case for row in rows if row is not best and not differs(best, row)]
    others = len(rows) - 1
    if not close:
        noun = "case" if others == 1 else f"{others} cases"
        verb = "lies" if others == 1 else "lie"
        return f"The other {noun} {verb} further below than chance explains."
    if len(close) == others:
        return (
            f"The lead over {_listed(close)} is smaller than what {best.n_test} test images can "
            "tell, so the order is not established."
        )
    return (
        f"Not told apart from it: {_listed(close)}; the difference is smaller than what "
        f"{best.n_test} test images can tell. The rest lie further below than chance explains."
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _r(row: CaseRow) -> str:
    text = f"r = {row.r:.3f}"
    if row.r_low is not None and row.r_high is not None:
        text += f" (95 % interval {row.r_low:.3f} to {row.r_high:.3f})"
    return text.replace("-", "\u2212").replace(" = ", "\u00a0=\u00a0").replace(" %", "\u00a0%")


def _scale_words(case: str, recipe: Recipe) -> str:
    """Say where a Gaussian of so many pixels halves the amplitude: at 2 pi / sqrt(2 ln 2) sigma."""
    for family, side in (("gauss", "coarser"), ("structure", "finer")):
        if case.startswith(family):
            pixels = float(case.removeprefix(family))
            pixel = recipe.maps.width_ckpc_h / (recipe.maps.pixels * recipe.maps.bin_scale)
            half = 2 * math.pi / math.sqrt(2 * math.log(2)) * pixels * pixel
            return f" (detail {side} than about {half:.2g} ckpc/h)"
    return ""


def _cautions(rows: Sequence[CaseRow], stated: Sequence[CaseRow], recipe: Recipe) -> list[str]:
    cautions = []
    if any(row.r_low is not None for row in stated):
        cautions.append(
            "The intervals (Fisher's z) and the comparisons take all test images as independent. "
            "They ignore that a galaxy appears in several snapshots, so r is less certain than "
            "stated, and that all cases share the test images, which helps the comparison."
        )
    best = _best(stated) if stated else CaseRow("", "undefined")
    if best.r2 is not None and best.r2 < 0:
        cautions.append(
            f"R\u00b2 of {best.case} is below 0: its predictions follow the order of the truth, "
            "but their values are worse than the mean. The comparison here is by r alone."
        )
    if recipe.split.by == "image":
        cautions.append(
            "The split is by image: where the sample has several snapshots, most test images have "
            "a near-copy of the same galaxy in the training set, which flatters every case."
        )
    if stated and max(row.seeds - row.dead for row in stated) < 2:
        cautions.append("One network a case: the spread between random starts is not known.")
    crosstalk = recipe.cases.act_on == "composite"
    if crosstalk and any(row.case in _CHANNELS for row in stated):
        cautions.append(
            "The single-channel cases are cut from the stretched composite, which mixes the "
            "channels: each carries some of the others."
        )
    for status, words in (
        ("dead", "Dead, so without a statement: {}."),
        ("undefined", "Too few, or equal, test images for a correlation: {}."),
        ("not trained", "Not trained yet, so not compared: {}."),
    ):
        names = [row.case for row in rows if row.status == status]
        if names:
            cautions.append(words.format(_listed(names)))
    return cautions
