"""The tables of the report: one row per case, the sample, the split, the failures."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataMissingError
from sfr.paths import without_folders
from sfr.run.cells import read_cells
from sfr.run.edited_tables import SUBSETS, image_names, read_sample, read_split
from sfr.run.folds import Place, count_folds
from sfr.run.tables import FAILURES, TEST, Table, count_galaxies, read_table
from sfr.run.workspace import Workspace
from sfr.target import SSFR, Target
from sfr.train.evaluate import CASE, Comparison, ScoredHead, case_table

__all__ = [
    "CaseRow",
    "ComparedRow",
    "Failure",
    "SubsetRow",
    "as_columns",
    "case_rows",
    "compared_rows",
    "failure_rows",
    "snapshot_rows",
    "subset_rows",
]


@dataclass(frozen=True)
class CaseRow:
    """One case of the table; numbers are None where there is nothing to state."""

    case: str
    #: One of the words of `sfr.train.evaluate`.
    status: str
    #: A case, or a control, which is never the best.
    kind: str = CASE
    #: Mean over the networks that are not dead, as all metrics, and its scatter between them.
    r: float | None = None
    r_std: float | None = None
    #: 95 % interval of that mean, from a bootstrap over galaxies; None: too few of them.
    r_low: float | None = None
    r_high: float | None = None
    spearman: float | None = None
    r2: float | None = None
    #: Scatter, mean and robust scatter of predicted - true label, and their unit.
    rmse: float | None = None
    bias: float | None = None
    nmad: float | None = None
    unit: str = ""
    #: Share of the test images whose prediction is farther than this from the truth [unit]; None
    #: where labels are no logarithms.
    outlier_fraction: float | None = None
    outlier_limit: float | None = None
    #: Test images, and the galaxies that they show.
    n_test: int | None = None
    n_galaxies: int | None = None
    n_train: int | None = None
    #: Networks trained, and how many of them are dead.
    seeds: int = 0
    dead: int = 0
    weights: str = ""
    #: r of each network that is not dead.
    seed_r: tuple[float, ...] = ()


def case_rows(
    states: Mapping[str, str], heads: Mapping[str, Sequence[ScoredHead]]
) -> list[CaseRow]:
    """Make the table of cases: those with numbers, and those of which there are none.

    Parameters
    ----------
    states : mapping of str to str
        Result of `sfr.train.evaluate.case_states`.
    heads : mapping of str to sequence of ScoredHead
        Result of `sfr.train.evaluate.read_heads`.

    Returns
    -------
    list of CaseRow
        In the order of the states.
    """
    return [_row(row, heads.get(row["case"], ())) for row in case_table(heads, states)]


def _row(found: Mapping[str, Any], heads: Sequence[ScoredHead]) -> CaseRow:
    return CaseRow(
        case=found["case"],
        status=found["state"],
        kind=found["kind"],
        r=found["r"],
        r_std=found["r_std"],
        r_low=found["r_low"],
        r_high=found["r_high"],
        spearman=found["spearman"],
        r2=found["r2"],
        rmse=found["rmse"],
        bias=found["bias"],
        nmad=found["nmad"],
        unit=found["unit"] or "",
        outlier_fraction=found["outlier_fraction"],
        outlier_limit=found["outlier_limit"],
        n_test=found["n"],
        n_galaxies=found["n_galaxies"],
        n_train=found["n_train"],
        seeds=found["seeds"],
        dead=found["dead"],
        weights=without_folders(found["weights"]),
        seed_r=tuple(
            float(head.metrics["r"])
            for head in heads
            if not head.dead and head.metrics.get("r") is not None
        ),
    )


@dataclass(frozen=True)
class ComparedRow:
    """One case beside the best, on the seeds and test images that all cases have."""

    case: str
    r: float
    #: 95 % interval of r by itself.
    r_low: float | None
    r_high: float | None
    #: r of the best case minus this, and its interval, at 95 % for all pairs of cases together.
    behind: float
    behind_low: float | None
    behind_high: float | None
    #: Whether that interval leaves out 0.
    told_apart: bool
    seeds: str
    n_test: int
    n_galaxies: int


def compared_rows(comparison: Comparison) -> list[ComparedRow]:
    """List the cases beside the best of them, the best first."""
    if not comparison.r:
        return []
    best = comparison.best(comparison.r)
    seeds = " ".join(map(str, comparison.seeds))
    rows = []
    for case, r in sorted(comparison.r.items(), key=lambda item: -item[1]):
        low, high = comparison.interval(case) or (None, None)
        lead = None if case == best else comparison.lead(best, case)
        behind_low, behind_high = lead or (None, None)
        rows.append(
            ComparedRow(
                case=case,
                r=r,
                r_low=low,
                r_high=high,
                behind=comparison.r[best] - r,
                behind_low=behind_low,
                behind_high=behind_high,
                told_apart=comparison.is_ahead(best, case),
                seeds=seeds,
                n_test=comparison.n_images,
                n_galaxies=comparison.n_galaxies,
            )
        )
    return rows


def as_columns(kind: type[CaseRow | ComparedRow], rows: Sequence[object]) -> dict[str, list[Any]]:
    """Return a table as columns for a CSV file, without the single seeds."""
    names = [field.name for field in dataclasses.fields(kind) if field.name != "seed_r"]
    return {name: [getattr(row, name) for row in rows] for name in names}


def snapshot_rows(
    workspace: Workspace, target: Target, sample: Table, values: NDArray[np.float64]
) -> dict[str, list[Any]]:
    """Return the target by snapshot.

    Of the sSFR it is what ``sfr select`` wrote, whatever columns that has, with published ones
    where they are of this sSFR.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    target : Target
        What is predicted.
    sample : dict of str to ndarray
        ``sample.csv``.
    values : ndarray of float64, shape (N,)
        The target in its rows.

    Returns
    -------
    dict of str to list
        Columns; empty when ``sfr select`` has written no such table.

    Raises
    ------
    DataFormatError
        It cannot be read.
    """
    if target.column != SSFR:
        return _by_snapshot(target, sample, values)
    path = workspace.by_snapshot_csv
    if not path.is_file():
        return {}
    return {
        name: cells
        for name, cells in read_cells(path, ("snapshot", "redshift", "n")).columns.items()
        if target.is_published or not name.startswith("published_")
    }


def _by_snapshot(
    target: Target, sample: Table, values: NDArray[np.float64]
) -> dict[str, list[Any]]:
    snapshots = sorted(set(sample["snapshot"].tolist()), reverse=True)
    parts = [values[sample["snapshot"] == snapshot] for snapshot in snapshots]
    redshift = dict(zip(sample["snapshot"].tolist(), sample["redshift"].tolist(), strict=True))
    return {
        "snapshot": snapshots,
        "redshift": [redshift[snapshot] for snapshot in snapshots],
        "n": [part.size for part in parts],
        "n_zero": [int(np.count_nonzero(part == 0.0)) for part in parts],
        "mean": [float(part.mean()) for part in parts],
        "min": [float(part.min()) for part in parts],
        "max": [float(part.max()) for part in parts],
        "label": [target.text] * len(parts),
    }


@dataclass(frozen=True)
class SubsetRow:
    """How many images and galaxies a subset of the split, or the test subset of a fold, holds."""

    subset: str
    n_images: int
    n_galaxies: int


def subset_rows(workspace: Workspace) -> list[SubsetRow]:
    """Count images and galaxies in each subset, or fold; empty without a split."""
    try:
        places = read_split(workspace)
    except DataMissingError:
        return []
    galaxy = _galaxies(workspace, list(places))
    words = np.array(
        [_subset_in_words(place, count_folds(places.values())) for place in places.values()]
    )
    order = {word: number for number, word in enumerate(SUBSETS)}
    found = sorted(set(words.tolist()), key=lambda word: (order.get(word, 9), len(word), word))
    return [
        SubsetRow(name, int((words == name).sum()), count_galaxies(galaxy[words == name]))
        for name in found
    ]


def _subset_in_words(place: Place, folds: int) -> str:
    """Name the subset, and which fold tests where there are several."""
    return f"test, fold {place.fold}" if folds > 1 and place.subset == TEST else place.subset


def _galaxies(workspace: Workspace, filenames: Sequence[str]) -> NDArray[np.int64]:
    """Return the galaxy of each image."""
    sample = read_sample(workspace)
    galaxy = dict(zip(image_names(sample), sample["galaxy_id"].tolist(), strict=True))
    # an image that the sample does not hold is known as itself only
    return np.array([galaxy.get(name, -1) for name in filenames], np.int64)


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
            (str(stage), without_folders(str(reason)))
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
