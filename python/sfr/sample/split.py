"""Training, validation and test subsets, and the audit of what leaks between them (METHOD 2.6)."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from sfr.errors import ConfigError, DataMissingError, EmptySelectionError
from sfr.recipe import SplitRecipe
from sfr.store import (
    SAMPLE,
    SPLIT,
    TEST,
    TRAIN,
    VALIDATION,
    Table,
    count_galaxies,
    read_table,
    table_digest,
    write_table,
)
from sfr.workspace import Workspace, digest, image_name

__all__ = ["LeakAudit", "SplitSummary", "assign", "audit", "check_folds", "split"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeakAudit:
    """Test images whose likeness is in training."""

    n_test: int
    #: Test images of a galaxy that is also in training, in another snapshot.
    n_same_galaxy: int
    #: Test images of a FoF group that is also in training, in the same snapshot.
    n_same_group: int
    #: Test images whose galaxy no tree follows over several snapshots, so that it cannot be told.
    n_untracked: int


@dataclass(frozen=True)
class SplitSummary:
    """The split and its audit."""

    #: Images, and the galaxies that they show, by subset.
    counts: dict[str, int]
    galaxies: dict[str, int]
    audit: LeakAudit
    fingerprint: str
    #: Why the split was made or extended; empty when it was there already.
    reason: str


def _rank(seed: int, unit: str, purpose: str) -> str:
    return hashlib.sha256(f"{seed}:{purpose}:{unit}".encode()).hexdigest()


def assign(
    units: Mapping[str, float],
    recipe: SplitRecipe,
    known: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Give each unit a subset; units that have one keep it.

    The draw is a ranking by a hash of seed and name, so it depends on neither order nor platform.

    Parameters
    ----------
    units : mapping of str to float
        Units (images or galaxies) with their mean log sSFR, for the strata.
    recipe : SplitRecipe
        Fractions, strata and seed.
    known : mapping of str to str
        Subsets that must not change.

    Returns
    -------
    dict of str to str
        ``train``, ``validation`` or ``test`` for every unit.
    """
    known = dict(known or {})
    result = {unit: known[unit] for unit in units if unit in known}
    strata = _strata(units) if recipe.stratified else [sorted(units)]
    _draw(strata, result, TEST, recipe.test_fraction, recipe.seed)
    rest = [[u for u in stratum if result.get(u) != TEST] for stratum in strata]
    _draw(rest, result, VALIDATION, recipe.validation_fraction, recipe.seed)
    for unit in units:
        result.setdefault(unit, TRAIN)
    return result


def _draw(
    strata: Sequence[Sequence[str]], result: dict[str, str], subset: str, fraction: float, seed: int
) -> None:
    """Add units to a subset until it has its share of the whole and, where it can, of each stratum.

    Where units that have a subset already leave a stratum short of places or of free units, the
    share of the whole counts.
    """
    everyone = [unit for stratum in strata for unit in stratum]
    smallest = 1 if fraction > 0 and len(everyone) > 1 else 0
    places = max(round(len(everyone) * fraction), smallest)
    places -= sum(result.get(unit) == subset for unit in everyone)

    def take(units: Sequence[str], wanted: int) -> int:
        free = sorted((u for u in units if u not in result), key=lambda u: _rank(seed, u, subset))
        drawn = free[: max(0, wanted)]
        result.update(dict.fromkeys(drawn, subset))
        return len(drawn)

    counted = taken = 0
    for stratum in strata:
        counted += len(stratum)
        taken += sum(result.get(unit) == subset for unit in stratum)
        drawn = take(stratum, min(places, round(counted * fraction) - taken))
        taken += drawn
        places -= drawn
    take(everyone, places)


def _strata(units: Mapping[str, float]) -> list[list[str]]:
    order = sorted(units, key=lambda unit: (units[unit], unit))
    n = min(10, max(1, len(order) // 5))
    return [list(part) for part in np.array_split(np.array(order, object), n)]


def audit(sample: Table, subsets: NDArray[np.str_]) -> LeakAudit:
    """Count the test images that have a near-copy in training.

    Parameters
    ----------
    sample : dict of str to ndarray
        ``sample.csv``.
    subsets : ndarray of str, shape (N,)
        Subset of each row.

    Returns
    -------
    LeakAudit
        The counts.
    """
    test, train = subsets == TEST, subsets == TRAIN
    tracked = sample["galaxy_id"] >= 0
    seen = np.unique(sample["galaxy_id"][train & tracked])
    several = len(np.unique(sample["snapshot"])) > 1
    groups = sample["snapshot"] * 10**12 + sample["group_id"]
    return LeakAudit(
        n_test=int(test.sum()),
        n_same_galaxy=int((test & tracked & np.isin(sample["galaxy_id"], seen)).sum()),
        n_same_group=int((test & np.isin(groups, groups[train])).sum()),
        n_untracked=int((test & ~tracked).sum()) if several else 0,
    )


def check_folds(recipe: SplitRecipe) -> None:
    """Raise ConfigError for more than one fold, which is not available yet."""
    if recipe.folds != 1:
        raise ConfigError(f"split.folds = {recipe.folds} is not available yet; use folds = 1")


def split(workspace: Workspace, recipe: SplitRecipe, *, force: bool = False) -> SplitSummary:
    """Write ``split.csv``, or extend it by the rows that the sample has gained.

    Parameters
    ----------
    workspace : Workspace
        The run's folder, with ``sample.csv``.
    recipe : SplitRecipe
        Unit, fractions, strata and seed.
    force : bool
        Draw anew.

    Returns
    -------
    SplitSummary
        Sizes of the subsets and the leak audit.

    Raises
    ------
    DataMissingError
        There is no sample, or galaxies cannot be followed over its snapshots.
    ConfigError
        A switch that is not available yet.
    EmptySelectionError
        Too few units for a training and a test subset.
    """
    check_folds(recipe)
    if not workspace.sample_csv.is_file():
        raise DataMissingError(
            f"{workspace.sample_csv} is not there; run sfr select --snap 99 --work {workspace.root}"
        )
    sample = read_table(workspace.sample_csv, SAMPLE)
    settings = digest(asdict(recipe))
    rows = {name: sample[name] for name in ("snapshot", "subhalo_id", "galaxy_id", "ssfr_per_yr")}
    fingerprint = digest({"settings": settings, "rows": table_digest(rows)})
    state = workspace.check("split", fingerprint, force=force)
    keys = _unit_keys(sample, recipe)
    if state.current:
        table = read_table(workspace.split_csv, SPLIT)
        return _summary(sample, table["subset"], fingerprint, "")
    units = _units(keys, sample)
    known = {}
    if not force and workspace.has_run("split-settings"):
        known = _known(workspace, settings, sample, keys)
    subsets_of = assign(units, recipe, known)
    subsets = np.array([subsets_of[key] for key in keys], np.str_)
    if not {TRAIN, TEST} <= set(subsets.tolist()):
        raise EmptySelectionError(
            f"{len(units)} {'galaxies' if recipe.by == 'galaxy' else 'images'} are too few for a "
            "training and a test subset; select more snapshots or galaxies"
        )
    n = len(keys)
    table = {
        "filename": _filenames(sample),
        "subset": subsets,
        "group": np.array(keys, np.str_),
        "fold": np.zeros(n, np.int64),
        "seed": np.full(n, recipe.seed, np.int64),
    }
    write_table(workspace, workspace.split_csv, table)
    workspace.mark_done("split-settings", settings, [workspace.split_csv])
    workspace.mark_done("split", fingerprint, [workspace.split_csv])
    reason = f"extended: {len(known)} units keep their subset" if known else state.reason
    return _summary(sample, subsets, fingerprint, reason)


def _filenames(sample: Table) -> NDArray[np.str_]:
    pairs = zip(sample["snapshot"].tolist(), sample["subhalo_id"].tolist(), strict=True)
    return np.array([image_name(snapshot, subhalo) for snapshot, subhalo in pairs], np.str_)


def _unit_keys(sample: Table, recipe: SplitRecipe) -> list[str]:
    if recipe.by == "image":
        return [str(name) for name in _filenames(sample)]
    snapshots = np.unique(sample["snapshot"])
    tracked = sample["galaxy_id"] >= 0
    blind = [int(snap) for snap in snapshots if not tracked[sample["snapshot"] == snap].any()]
    if len(snapshots) > 1 and blind:
        raise DataMissingError(
            'split.by = "galaxy" over several snapshots needs SubLink trees, and snapshots '
            f"{blind} were selected without; fetch postprocessing/trees/SubLink and the offsets "
            'files and select again, use one snapshot, or split by "image"'
        )
    return [str(i) for i in sample["galaxy_id"].tolist()]


def _units(keys: Sequence[str], sample: Table) -> dict[str, float]:
    labels: dict[str, list[float]] = defaultdict(list)
    for key, ssfr in zip(keys, sample["ssfr_per_yr"].tolist(), strict=True):
        labels[key].append(float(np.log10(ssfr)) if ssfr > 0 else -99.0)
    return {key: float(np.mean(values)) for key, values in labels.items()}


def _known(
    workspace: Workspace, settings: str, sample: Table, keys: Sequence[str]
) -> dict[str, str]:
    """Subsets of units that an earlier split with the same settings has drawn."""
    if workspace.fingerprint("split-settings") != settings or not workspace.split_csv.is_file():
        return {}
    old = read_table(workspace.split_csv, SPLIT)
    by_file = dict(zip(old["filename"].tolist(), old["subset"].tolist(), strict=True))
    known: dict[str, str] = {}
    for filename, key in zip(_filenames(sample).tolist(), keys, strict=True):
        subset = by_file.get(filename)
        if subset is not None and known.setdefault(key, subset) != subset:
            log.warning("split.csv is drawn anew: %s was in two subsets", key)
            return {}
    return known


def _summary(
    sample: Table, subsets: NDArray[np.generic], fingerprint: str, reason: str
) -> SplitSummary:
    names = subsets.astype(np.str_)
    counts = {name: int((names == name).sum()) for name in (TRAIN, VALIDATION, TEST)}
    galaxies = {name: count_galaxies(sample["galaxy_id"][names == name]) for name in counts}
    return SplitSummary(counts, galaxies, audit(sample, names), fingerprint, reason)
