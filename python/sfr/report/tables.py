"""The tables of the report: one row per case, the sample, the split, the failures."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sfr.errors import DataMissingError
from sfr.recipe import Recipe
from sfr.report.results import CaseResult
from sfr.store import FAILURES, SPLIT, read_table
from sfr.target import Target
from sfr.train.evaluate import case_table
from sfr.workspace import Workspace, bare

__all__ = [
    "CaseRow",
    "Failure",
    "SubsetRow",
    "as_columns",
    "case_rows",
    "differs",
    "failure_rows",
    "fisher_interval",
    "snapshot_rows",
    "subset_rows",
]

#: Two-sided 95 % of a normal distribution.
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class CaseRow:
    """One case of the table; numbers are None where there is nothing to state."""

    case: str
    #: ``trained``, ``dead`` (every network), ``undefined`` (too few or equal
    #: test images for r), or ``not trained``.
    status: str
    #: Mean over the networks that are not dead, as all metrics, and its scatter between them.
    r: float | None = None
    r_std: float | None = None
    #: Fisher's 95 % interval of r; each test image counts as independent.
    r_low: float | None = None
    r_high: float | None = None
    spearman: float | None = None
    r2: float | None = None
    #: Scatter, mean and robust scatter of predicted - true log10 label [dex].
    rmse_dex: float | None = None
    bias_dex: float | None = None
    nmad_dex: float | None = None
    outlier_fraction: float | None = None
    n_test: int | None = None
    n_train: int | None = None
    #: Networks trained, and how many of them are dead.
    seeds: int = 0
    dead: int = 0
    weights: str = ""
    #: r of each network that is not dead.
    seed_r: tuple[float, ...] = ()


def fisher_interval(r: float | None, n: int | None) -> tuple[float, float] | None:
    """95 % interval of a correlation coefficient by Fisher's z transform.

    Parameters
    ----------
    r : float or None
        Pearson's r [-].
    n : int or None
        Independent pairs.

    Returns
    -------
    tuple of float or None
        Lower and upper end; None for fewer than 4 pairs, |r| = 1 or no r.

    Examples
    --------
    >>> low, high = fisher_interval(0.752, 789)
    >>> round(low, 3), round(high, 3)
    (0.72, 0.781)
    """
    if r is None or n is None or n < 4 or abs(r) >= 1:
        return None
    half = _Z95 / math.sqrt(n - 3)
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def differs(first: CaseRow, second: CaseRow) -> bool:
    """Whether the r of two cases differ by more than chance, at 95 %, as if independent."""
    pairs = [(row.r, row.n_test) for row in (first, second)]
    z, variance = [], 0.0
    for r, n in pairs:
        if r is None or n is None or n < 4:
            return False
        z.append(math.atanh(max(-1 + 1e-12, min(1 - 1e-12, r))))
        variance += 1 / (n - 3)
    return abs(z[0] - z[1]) > _Z95 * math.sqrt(variance)


def case_rows(workspace: Workspace, recipe: Recipe, results: Sequence[CaseResult]) -> list[CaseRow]:
    """Make the table of cases: the trained ones, and those of the recipe that are not trained.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    recipe : Recipe
        The experiment.
    results : sequence of CaseResult
        The trained cases.

    Returns
    -------
    list of CaseRow
        The recipe's cases in its order, then others that are trained.
    """
    trained = {row["case"]: row for row in case_table(workspace, recipe.cases.names)}
    seed_r = {
        result.name: tuple(
            float(head.metrics["r"])
            for head in result.heads
            if not head.dead and head.metrics.get("r") is not None
        )
        for result in results
    }
    names = list(dict.fromkeys([*recipe.cases.names, *trained]))
    return [
        _row(trained[name], seed_r.get(name, ()))
        if name in trained
        else CaseRow(name, "not trained")
        for name in names
    ]


def _row(found: Mapping[str, Any], seed_r: tuple[float, ...]) -> CaseRow:
    r, n_test = found["r"], found["n"]
    low, high = fisher_interval(r, n_test) or (None, None)
    status = "trained" if r is not None else "undefined"
    return CaseRow(
        case=found["case"],
        status="dead" if found["dead"] == found["seeds"] else status,
        r=r,
        r_std=found["r_std"],
        r_low=low,
        r_high=high,
        spearman=found["spearman"],
        r2=found["r2"],
        rmse_dex=found["rmse_dex"],
        bias_dex=found["bias"],
        nmad_dex=found["nmad"],
        outlier_fraction=found["outlier_fraction"],
        n_test=n_test,
        n_train=found["n_train"],
        seeds=found["seeds"],
        dead=found["dead"],
        weights=bare(found["weights"]),
        seed_r=seed_r,
    )


def as_columns(rows: Sequence[CaseRow]) -> dict[str, list[Any]]:
    """Return the table of cases as columns for a CSV file, without the single seeds."""
    names = [field.name for field in dataclasses.fields(CaseRow) if field.name != "seed_r"]
    return {name: [getattr(row, name) for row in rows] for name in names}


def snapshot_rows(workspace: Workspace, target: Target) -> dict[str, list[str]]:
    """Read the sample by snapshot, whatever columns it has; published ones of the same label only.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    target : Target
        The label of the sample.

    Returns
    -------
    dict of str to list of str
        Columns as text; empty when ``sfr select`` has written no such table.
    """
    path = workspace.by_snapshot_csv
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        names, *lines = list(csv.reader(file)) or [[]]
    return {
        name: [line[place] if place < len(line) else "" for line in lines]
        for place, name in enumerate(names)
        if target.is_published or not name.startswith("published_")
    }


@dataclass(frozen=True)
class SubsetRow:
    """How many images and galaxies a subset of the split holds."""

    subset: str
    n_images: int
    n_groups: int


def subset_rows(workspace: Workspace) -> list[SubsetRow]:
    """Count images and undivided groups in each subset; empty without a split."""
    try:
        split = read_table(workspace.split_csv, SPLIT)
    except DataMissingError:
        return []
    order = ["train", "validation", "test"]
    subsets = split["subset"]
    found = sorted(set(subsets.tolist()), key=lambda s: (order.index(s) if s in order else 9, s))
    return [
        SubsetRow(
            name, int((subsets == name).sum()), len(np.unique(split["group"][subsets == name]))
        )
        for name in found
    ]


@dataclass(frozen=True)
class Failure:
    """Galaxies of one snapshot that failed at one stage for one reason."""

    snapshot: int
    stage: str
    reason: str
    count: int
    examples: str


def failure_rows(workspace: Workspace, snapshots: Iterable[int]) -> list[Failure]:
    """Group the galaxies that were not rendered by snapshot, stage and reason.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    snapshots : iterable of int
        Snapshots to look at.

    Returns
    -------
    list of Failure
        By snapshot, the most frequent first; folders are cut from paths in the reasons.
    """
    rows = []
    for snapshot in sorted(snapshots):
        path = workspace.failures_csv(snapshot)
        if not path.is_file():
            continue
        table = read_table(path, FAILURES)
        keys = [
            (str(stage), bare(str(reason)))
            for stage, reason in zip(table["stage"], table["reason"], strict=True)
        ]
        for (stage, reason), count in sorted(
            Counter(keys).items(), key=lambda item: (-item[1], item[0])
        ):
            ids = [
                str(i)
                for i, key in zip(table["subhalo_id"], keys, strict=True)
                if key == (stage, reason)
            ]
            more = ", ..." if len(ids) > 3 else ""
            rows.append(Failure(snapshot, stage, reason, count, ", ".join(ids[:3]) + more))
    return rows
