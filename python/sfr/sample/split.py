"""Training, validation and test subsets, and the audit of what leaks between them (METHOD 2.6)."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from sfr.errors import ConfigError, DataFormatError, DataMissingError, EmptySelectionError
from sfr.recipe import SplitRecipe
from sfr.run.cells import Cells
from sfr.run.edited_tables import (
    NO_EDITS,
    SUBSETS,
    SplitEdits,
    image_names,
    set_aside,
    split_cells,
    split_edits,
)
from sfr.run.tables import (
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
from sfr.run.workspace import Workspace, digest
from sfr.target import PUBLISHED, Target, read_values

__all__ = [
    "LeakAudit",
    "SplitSummary",
    "assign",
    "audit",
    "check_folds",
    "is_current",
    "split",
]

log = logging.getLogger(__name__)

#: Note of the settings that the split was drawn with.
_SETTINGS = "split-settings"

#: Below any logarithm: galaxies without a label are a stratum of their own.
_NO_LABEL = -99.0
#: How units are counted: a split of another version is drawn anew.
_COUNTS = "int of the rest"


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
    #: What a person did to ``split.csv``.
    edits: SplitEdits = NO_EDITS


def _rank(seed: int, unit: str, purpose: str) -> str:
    return hashlib.sha256(f"{seed}:{purpose}:{unit}".encode()).hexdigest()


def assign(
    units: Mapping[str, float],
    recipe: SplitRecipe,
    known: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Give each unit a subset; units that have one keep it.

    Of N units int((1 - test_fraction) N) are not in the test subset, and of these M
    int((1 - validation_fraction) M) train, as in the published listing: 7092 and 789 of 7881.
    The draw is a ranking by a hash of seed and name, so it depends on neither order nor platform.

    Parameters
    ----------
    units : mapping of str to float
        Units (images or galaxies) with their mean label, for the strata.
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


def _places(count: int, fraction: float) -> int:
    """Share of so many units that leaves int((1 - fraction) count), as published; never all.

    The fraction is taken as it is written: 1 - 0.9 in binary is less than a tenth.
    """
    left = math.floor(count * (1 - Fraction(str(fraction))))
    return count - max(left, min(count, 1))


def _draw(
    strata: Sequence[Sequence[str]], result: dict[str, str], subset: str, fraction: float, seed: int
) -> None:
    """Add units to a subset until it has its share of the whole and, where it can, of each stratum.

    Where units that have a subset already leave a stratum short of places or of free units, the
    share of the whole counts.
    """
    everyone = [unit for stratum in strata for unit in stratum]
    places = _places(len(everyone), fraction)
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
        drawn = take(stratum, min(places, _places(counted, fraction) - taken))
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


def split(
    workspace: Workspace,
    recipe: SplitRecipe,
    target: Target = PUBLISHED,
    *,
    force: bool = False,
) -> SplitSummary:
    """Write ``split.csv``, or extend it by the rows that the sample has gained.

    A table that a person wrote or edited is never drawn anew without ``force``: its images stay
    where they are, and those that it does not list stay out, unless the sample has gained them
    since.

    Parameters
    ----------
    workspace : Workspace
        The run's folder, with ``sample.csv``.
    recipe : SplitRecipe
        Unit, fractions, strata and seed.
    target : Target
        What the strata are of. Its values are part of what a split is current with.
    force : bool
        Draw anew.

    Returns
    -------
    SplitSummary
        Sizes of the subsets, the leak audit, and what a person did.

    Raises
    ------
    DataMissingError
        There is no sample, it has no column of the target, or galaxies cannot be followed over its
        snapshots.
    ConfigError
        A switch that is not available yet.
    DataFormatError
        ``split.csv`` cannot be read, or names an image that is not in the sample.
    EmptySelectionError
        Too few units for a training and a test subset, or none in one of them.
    """
    check_folds(recipe)
    if not workspace.sample_csv.is_file():
        raise DataMissingError(
            f"{workspace.sample_csv} is not there; run sfr select --snap 99 --work {workspace.root}"
        )
    job = _job(workspace, recipe, target)
    listed = None if force else _listed(workspace)
    drawn = _drawn(workspace, listed)
    if listed is not None and listed.subset_of != drawn:
        return _take_over(job, listed, drawn)
    return _draw_all(job, listed, force=force)


def is_current(workspace: Workspace, recipe: SplitRecipe, target: Target = PUBLISHED) -> bool:
    """Whether nobody edited sample.csv or split.csv since the last split, if there was one.

    Nothing is written; parameters and errors are those of `split`.
    """
    if not (workspace.has_run("split") and workspace.sample_csv.is_file()):
        return True
    job, listed = _job(workspace, recipe, target), _listed(workspace)
    if listed is None:
        return False
    is_theirs = listed.subset_of != _drawn(workspace, listed)
    fingerprint = job.edited(listed.subset_of) if is_theirs else job.fingerprint
    return workspace.check("split", fingerprint).current


def _job(workspace: Workspace, recipe: SplitRecipe, target: Target) -> _Job:
    sample, values = read_values(workspace, target)
    strata = {"strata": [target.column, target.transform]}
    # splits of before there were other targets say nothing of theirs
    is_told = recipe.stratified and strata["strata"] != [PUBLISHED.column, PUBLISHED.transform]
    settings = digest({**asdict(recipe), "counts": _COUNTS, **(strata if is_told else {})})
    rows = {name: sample[name] for name in ("snapshot", "subhalo_id", "galaxy_id")}
    rows[target.column] = values
    fingerprint = digest({"settings": settings, "rows": table_digest(rows)})
    labels = np.full(values.shape, _NO_LABEL)
    labels[target.has_label(values)] = target.on_axis(values)
    return _Job(workspace, recipe, sample, labels, settings, fingerprint)


@dataclass(frozen=True)
class _Job:
    """What a split is made of."""

    workspace: Workspace
    recipe: SplitRecipe
    sample: Table
    #: Labels of the rows; `_NO_LABEL` for a logarithm of 0.
    labels: NDArray[np.float64]
    settings: str
    fingerprint: str

    def summary(
        self, subset_of: Mapping[str, str], reason: str, edits: SplitEdits = NO_EDITS
    ) -> SplitSummary:
        """Count by image, whatever the order of the tables."""
        subsets = np.array([subset_of.get(n, "") for n in image_names(self.sample)], np.str_)
        counts = {name: int((subsets == name).sum()) for name in SUBSETS}
        ids = self.sample["galaxy_id"]
        galaxies = {name: count_galaxies(ids[subsets == name]) for name in counts}
        found = audit(self.sample, subsets)
        return SplitSummary(counts, galaxies, found, self.fingerprint, reason, edits)

    def table(self, subset_of: Mapping[str, str]) -> Table:
        """Make the rows of ``split.csv`` of some images of the sample."""
        names = image_names(self.sample)
        chosen = [name for name in names if name in subset_of]
        ids = dict(zip(names, self.sample["galaxy_id"].tolist(), strict=True))
        groups = chosen if self.recipe.by == "image" else [str(ids[name]) for name in chosen]
        return {
            "filename": np.array(chosen, np.str_),
            "subset": np.array([subset_of[name] for name in chosen], np.str_),
            "group": np.array(groups, np.str_),
            "fold": np.zeros(len(chosen), np.int64),
            "seed": np.full(len(chosen), self.recipe.seed, np.int64),
        }

    def edited(self, subset_of: Mapping[str, str]) -> str:
        """Digest of the split where a person's table says the subsets."""
        return digest([self.fingerprint, dict(sorted(subset_of.items()))])

    @property
    def drawn_with(self) -> str | None:
        """Settings of the last draw; None before the first."""
        found = self.workspace.recalled(_SETTINGS)
        return None if found is None else str(found)


def _draw_all(job: _Job, listed: _Listed | None, *, force: bool) -> SplitSummary:
    """Draw the split, or extend the one that was drawn with the same settings."""
    workspace = job.workspace
    state = workspace.check("split", job.fingerprint, force=force)
    if state.current and listed is not None:
        return job.summary(listed.subset_of, "")
    names = image_names(job.sample)
    keys = _unit_keys(job.sample, job.recipe)
    units = _units(keys, job.labels)
    known: dict[str, str] = {}
    if listed is not None and job.drawn_with == job.settings:
        subsets_of, divided = _known(listed.subset_of, names, keys)
        if divided:
            log.warning("split.csv is drawn anew: %s was in two subsets", divided[0])
        else:
            known = subsets_of
    subsets = assign(units, job.recipe, known)
    subset_of = {name: subsets[key] for name, key in zip(names, keys, strict=True)}
    if not {TRAIN, TEST} <= set(subset_of.values()):
        raise EmptySelectionError(
            f"{len(units)} {'galaxies' if job.recipe.by == 'galaxy' else 'images'} are too few "
            "for a training and a test subset; select more snapshots or galaxies"
        )
    if force:
        set_aside(workspace, workspace.split_csv)
    table = job.table(subset_of)
    write_table(workspace, workspace.split_csv, table)
    write_table(workspace, workspace.kept(workspace.split_csv), table)
    _mark_done(job, job.fingerprint)
    workspace.remember(_SETTINGS, job.settings)
    reason = state.reason or "files missing: split.csv"
    if known:
        is_new = listed is not None and set(names) - listed.subset_of.keys()
        reason = f"extended: {len(known)} units keep their subset"
        if not is_new:
            reason = "the sample or the target has changed; its images keep their subset"
    return job.summary(subset_of, reason)


def _take_over(job: _Job, listed: _Listed, drawn: Mapping[str, str] | None) -> SplitSummary:
    """Keep a person's table as it is; images that are new in the sample are drawn and added."""
    workspace, path = job.workspace, job.workspace.split_csv
    names = image_names(job.sample)
    lost = [name for name in listed.subset_of if name not in set(names)]
    for name in lost:
        if name not in (drawn or {}):
            raise DataFormatError(
                f"{listed.cells.where(listed.places[name])}: {name} is not in sample.csv; remove "
                "the row, or select that galaxy"
            )
    subset_of = {name: s for name, s in listed.subset_of.items() if name not in lost}
    # what a person has seen and not listed is theirs to leave out
    seen = names if drawn is None else drawn
    new = [name for name in names if name not in subset_of and name not in seen]
    if new:
        keys = _unit_keys(job.sample, job.recipe)
        known, _ = _known(subset_of, names, keys)
        subsets = assign(_units(keys, job.labels), job.recipe, known)
        key_of = dict(zip(names, keys, strict=True))
        subset_of |= {name: subsets[key_of[name]] for name in new}
    for subset in (TRAIN, TEST):
        if subset not in subset_of.values():
            raise EmptySelectionError(f"{path} has no image of subset {subset!r} in the sample")
    fingerprint = job.edited(subset_of)
    state = workspace.check("split", fingerprint)
    table = job.table(subset_of)
    if new or lost or not set(SPLIT) <= set(listed.cells.columns):
        further = {
            column: [texts[listed.places[n]] if n in listed.places else "" for n in subset_of]
            for column, texts in listed.cells.columns.items()
            if column not in SPLIT
        }
        order = {name: place for place, name in enumerate(subset_of)}
        chosen = [order[name] for name in table["filename"].tolist()]
        further = {name: [texts[i] for i in chosen] for name, texts in further.items()}
        write_table(workspace, path, {**table, **further})
    if not state.current:
        # images that nobody drew have no subset of ours
        ours = {n: (drawn or {}).get(n, subset_of[n] if n in new else "") for n in names}
        write_table(workspace, workspace.kept(path), job.table(ours))
        _mark_done(job, fingerprint)
        if drawn is None:
            workspace.remember(_SETTINGS, job.settings)
    if job.drawn_with not in (None, job.settings):
        log.warning(
            "[split] has changed, but images of %s were placed by hand, so none of its images is "
            "moved; sfr split --force draws all anew",
            path,
        )
    if lost:
        log.warning("%s: %d images that the sample has lost are taken out", path, len(lost))
    reason = "edited by hand" if not state.current else ""
    if new:
        reason = f"extended by {len(new)} images; none is moved"
    return job.summary(subset_of, reason, split_edits(workspace))


def _mark_done(job: _Job, fingerprint: str) -> None:
    # not split.csv: what changes there is found by its content
    job.workspace.mark_done("split", fingerprint, [job.workspace.kept(job.workspace.split_csv)])


@dataclass(frozen=True)
class _Listed:
    """``split.csv`` as it stands."""

    cells: Cells
    places: dict[str, int]
    subset_of: dict[str, str]


def _listed(workspace: Workspace) -> _Listed | None:
    if not workspace.split_csv.is_file():
        return None
    cells, places = split_cells(workspace)
    return _Listed(cells, places, {n: cells.columns["subset"][i] for n, i in places.items()})


def _drawn(workspace: Workspace, listed: _Listed | None) -> dict[str, str] | None:
    """Subsets that were drawn, by image; None where nothing is known of a draw."""
    kept = workspace.kept(workspace.split_csv)
    if not kept.is_file():
        # versions that kept no copy remembered the size of the file
        untouched = listed is not None and workspace.has_run("split")
        if untouched and workspace.check("split", workspace.fingerprint("split")).current:
            return listed.subset_of if listed is not None else None
        return None
    table = read_table(kept, SPLIT)
    return dict(zip(table["filename"].tolist(), table["subset"].tolist(), strict=True))


def _unit_keys(sample: Table, recipe: SplitRecipe) -> list[str]:
    if recipe.by == "image":
        return image_names(sample)
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


def _units(keys: Sequence[str], labels: NDArray[np.float64]) -> dict[str, float]:
    """Mean label of each unit."""
    labels_of: dict[str, list[float]] = defaultdict(list)
    for key, label in zip(keys, labels.tolist(), strict=True):
        labels_of[key].append(label)
    return {key: float(np.mean(values)) for key, values in labels_of.items()}


def _known(
    subset_of: Mapping[str, str], names: Sequence[str], keys: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    """Subsets of units whose images have one, and the units whose images lie in several.

    Such a unit has the subset of most of its images, or the first of train, validation, test.
    """
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for name, key in zip(names, keys, strict=True):
        if name in subset_of:
            votes[key][subset_of[name]] += 1
    known = {key: max(SUBSETS, key=vote.__getitem__) for key, vote in votes.items()}
    return known, [key for key, vote in votes.items() if len(vote) > 1]
