"""Training, validation and test subsets, and the audit of what leaks between them (METHOD 2.6)."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataFormatError, DataMissingError, EmptySelectionError
from sfr.recipe import SplitRecipe
from sfr.run.cells import Cells
from sfr.run.components import Components, components
from sfr.run.edited_tables import (
    NO_EDITS,
    SUBSETS,
    SplitEdits,
    image_names,
    read_drawn,
    set_aside,
    split_cells,
    split_edits,
)
from sfr.run.folds import Place, count_folds, subsets_in
from sfr.run.tables import (
    SPLIT,
    TEST,
    TRAIN,
    VALIDATES,
    VALIDATION,
    Table,
    count_galaxies,
    galaxy_numbers,
    table_digest,
    write_table,
)
from sfr.run.workspace import Workspace, digest
from sfr.sample.folds import Units, draw_folds, draw_subsets, rank, strata_of
from sfr.target import PUBLISHED, Target, read_values

__all__ = [
    "LeakAudit",
    "Part",
    "SplitSummary",
    "assign",
    "audit",
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
#: Of an image that is not in the split.
_NOWHERE = Place("")


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
class Part:
    """One subset of a split in one, or the test subset of one fold of several."""

    name: str
    n_images: int
    n_galaxies: int
    #: Mean label and mean log10 stellar mass of the images that have one; None for none.
    label: float | None
    log_mass: float | None
    #: Images that train and validate the fold; None for a subset.
    n_train: int | None = None
    n_validation: int | None = None


@dataclass(frozen=True)
class SplitSummary:
    """The split and its audit."""

    #: Images, and the galaxies that they show, by subset; with several folds each tests a part.
    counts: dict[str, int]
    galaxies: dict[str, int]
    #: Sizes and balance: the subsets, or the folds.
    parts: tuple[Part, ...]
    folds: int
    audit: LeakAudit
    #: What galaxies over snapshots and FoF groups link.
    components: Components
    fingerprint: str
    #: Why the split was made or extended; empty when it was there already.
    reason: str
    #: What a person did to ``split.csv``.
    edits: SplitEdits = NO_EDITS


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
        free = sorted((u for u in units if u not in result), key=lambda u: rank(seed, u, subset))
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


def audit(sample: Table, places: Sequence[Place]) -> LeakAudit:
    """Count the test images that have a near-copy in the training of the fold that tests them.

    Parameters
    ----------
    sample : dict of str to ndarray
        ``sample.csv``.
    places : sequence of Place, length N
        Where each row stands; of another subset than those there are: not in the split.

    Returns
    -------
    LeakAudit
        The counts.
    """
    tracked = sample["galaxy_id"] >= 0
    several = len(np.unique(sample["snapshot"])) > 1
    groups = sample["snapshot"] * 10**12 + sample["group_id"]
    counts = np.zeros(4, np.int64)
    for fold in range(count_folds(places)):
        subsets = subsets_in(places, fold)
        test, train = subsets == TEST, subsets == TRAIN
        seen = np.unique(sample["galaxy_id"][train & tracked])
        same_galaxy = test & tracked & np.isin(sample["galaxy_id"], seen)
        same_group = test & np.isin(groups, groups[train])
        counts += [int(found.sum()) for found in (test, same_galaxy, same_group, test & ~tracked)]
    n_test, n_galaxy, n_group, n_untracked = counts.tolist()
    return LeakAudit(n_test, n_galaxy, n_group, n_untracked if several else 0)


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
    DataFormatError
        ``split.csv`` cannot be read, or names an image that is not in the sample.
    EmptySelectionError
        Too few units for a training and a test subset, or none in one of them.
    """
    if not workspace.sample_csv.is_file():
        raise DataMissingError(
            f"{workspace.sample_csv} is not there; run sfr select --snap 99 --work {workspace.root}"
        )
    job = _job(workspace, recipe, target)
    listed = None if force else _listed(workspace)
    drawn = _drawn(workspace, listed)
    if listed is not None and listed.place_of != drawn:
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
    is_theirs = listed.place_of != _drawn(workspace, listed)
    fingerprint = job.edited(listed.place_of) if is_theirs else job.fingerprint
    return workspace.check("split", fingerprint).current


def _job(workspace: Workspace, recipe: SplitRecipe, target: Target) -> _Job:
    sample, values = read_values(workspace, target)
    strata = {"strata": [target.column, target.transform]}
    # splits of before there were other targets say nothing of theirs
    is_told = recipe.stratified and strata["strata"] != [PUBLISHED.column, PUBLISHED.transform]
    settings = digest({**asdict(recipe), "counts": _COUNTS, **(strata if is_told else {})})
    columns = ["snapshot", "subhalo_id", "galaxy_id"]
    if recipe.folds > 1 or recipe.by == "component":
        columns += ["group_id", "stellar_mass_msun"]
    rows = {name: sample[name] for name in columns}
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

    @cached_property
    def components(self) -> Components:
        """What belongs together, as far as it leaves folds, or a test subset, of even size."""
        share = 1 / self.recipe.folds if self.recipe.folds > 1 else self.recipe.test_fraction
        return components(self.sample, share * len(self.sample["snapshot"]))

    @cached_property
    def keys(self) -> list[str]:
        """What each row belongs to, and is never divided."""
        if self.recipe.by == "image":
            return image_names(self.sample)
        _require_tracks(self.sample, self.recipe)
        if self.recipe.by == "galaxy":
            return [str(i) for i in self.sample["galaxy_id"].tolist()]
        names = image_names(self.sample)
        numbers = self.components.number.tolist()
        first: dict[int, str] = {}
        for name, number in zip(names, numbers, strict=True):
            first.setdefault(number, name)
        return [first[number] for number in numbers]

    def summary(
        self, place_of: Mapping[str, Place], reason: str, edits: SplitEdits = NO_EDITS
    ) -> SplitSummary:
        """Count by image, whatever the order of the tables."""
        places = [place_of.get(name, _NOWHERE) for name in image_names(self.sample)]
        subsets = np.array([place.subset for place in places], np.str_)
        ids, folds = self.sample["galaxy_id"], count_folds(places)
        if folds > 1:
            parts = tuple(self._fold(places, fold) for fold in range(folds))
        else:
            parts = tuple(self._part(name, subsets == name) for name in SUBSETS)
        return SplitSummary(
            counts={name: int((subsets == name).sum()) for name in SUBSETS},
            galaxies={name: count_galaxies(ids[subsets == name]) for name in SUBSETS},
            parts=parts,
            folds=folds,
            audit=audit(self.sample, places),
            components=self.components,
            fingerprint=self.fingerprint,
            reason=reason,
            edits=edits,
        )

    def _fold(self, places: Sequence[Place], fold: int) -> Part:
        subsets = subsets_in(places, fold)
        part = self._part(f"fold {fold}", subsets == TEST)
        trained, validated = (int((subsets == name).sum()) for name in (TRAIN, VALIDATION))
        return replace(part, n_train=trained, n_validation=validated)

    def _part(self, name: str, rows: NDArray[np.bool_]) -> Part:
        labels, mass = self.labels[rows], self.sample["stellar_mass_msun"][rows]
        return Part(
            name,
            int(rows.sum()),
            count_galaxies(self.sample["galaxy_id"][rows]),
            _mean(labels[labels != _NO_LABEL]),
            _mean(np.log10(mass[mass > 0])),
        )

    def draw(self, known: Mapping[str, Place], names: Collection[str]) -> dict[str, Place]:
        """Place images; those whose place is known keep it."""
        if self.recipe.folds == 1 and self.recipe.by != "component":
            return self._draw_published(known)
        chosen = [name in names for name in image_names(self.sample)]
        units = self._units.take(np.flatnonzero(chosen))
        listed = [name for name in image_names(self.sample) if name in names]
        before = [known.get(name) for name in listed]
        validation = self.recipe.validation_fraction
        if self.recipe.folds > 1:
            places = draw_folds(units, self.recipe.folds, validation, before)
        else:
            places = draw_subsets(units, self.recipe.test_fraction, validation, before)
        return dict(zip(listed, places, strict=True))

    @cached_property
    def _units(self) -> Units:
        strata = np.zeros((len(self.keys), 0), np.int64)
        if self.recipe.stratified:
            mass = self.sample["stellar_mass_msun"]
            strata = np.column_stack([strata_of(self.labels), strata_of(mass)])
        galaxies = [str(i) for i in galaxy_numbers(self.sample["galaxy_id"]).tolist()]
        return Units(self.keys, galaxies, strata, self.recipe.seed)

    def _draw_published(self, known: Mapping[str, Place]) -> dict[str, Place]:
        """Draw subsets as the listing does: counted in units."""
        names = image_names(self.sample)
        subset_of = {name: place.subset for name, place in known.items()}
        of_units, _ = _known(subset_of, names, self.keys)
        subsets = assign(_mean_labels(self.keys, self.labels), self.recipe, of_units)
        return {name: Place(subsets[key]) for name, key in zip(names, self.keys, strict=True)}

    def table(self, place_of: Mapping[str, Place]) -> Table:
        """Make the rows of ``split.csv`` of some images of the sample."""
        names = image_names(self.sample)
        chosen = [name for name in names if name in place_of]
        keys = dict(zip(names, self.keys, strict=True))
        places = [place_of[name] for name in chosen]
        table = {
            "filename": np.array(chosen, np.str_),
            "subset": np.array([place.subset for place in places], np.str_),
            "group": np.array([keys[name] for name in chosen], np.str_),
            "fold": np.array([place.fold for place in places], np.int64),
            "seed": np.full(len(chosen), self.recipe.seed, np.int64),
        }
        if count_folds(places) > 1:
            validates = [" ".join(map(str, place.validates)) for place in places]
            table[VALIDATES] = np.array(validates, np.str_)
        return table

    def edited(self, place_of: Mapping[str, Place]) -> str:
        """Digest of the split where a person's table says the places."""
        said = {name: str(place) for name, place in sorted(place_of.items())}
        return digest([self.fingerprint, said])

    @property
    def noun(self) -> str:
        """What an image keeps when others come."""
        return "fold" if self.recipe.folds > 1 else "subset"

    def in_units(self, known: Mapping[str, Place]) -> str:
        """Count what has a place: units, as the listing does, or images."""
        if self.recipe.folds > 1 or self.recipe.by == "component":
            return f"{len(known)} images"
        names = image_names(self.sample)
        units = {key for name, key in zip(names, self.keys, strict=True) if name in known}
        return f"{len(units)} units"

    def divided(self, known: Mapping[str, Place]) -> list[str]:
        """List units of the listing's draw whose images stand in several subsets."""
        if self.recipe.folds > 1 or self.recipe.by == "component":
            # no row moves, and the audit counts what groups of a later snapshot link
            return []
        subset_of = {name: place.subset for name, place in known.items()}
        return _known(subset_of, image_names(self.sample), self.keys)[1]

    def with_folds(self, folds: int) -> _Job:
        """Return the same for another number of folds."""
        return replace(self, recipe=replace(self.recipe, folds=folds))

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
        return job.summary(listed.place_of, "")
    names = image_names(job.sample)
    known: dict[str, Place] = {}
    if listed is not None and job.drawn_with == job.settings:
        known = {name: listed.place_of[name] for name in names if name in listed.place_of}
        if divided := job.divided(known):
            log.warning("split.csv is drawn anew: %s was in two subsets", divided[0])
            known = {}
    place_of = job.draw(known, set(names))
    _require_subsets(job, place_of)
    if force:
        set_aside(workspace, workspace.split_csv)
    table = job.table(place_of)
    write_table(workspace, workspace.split_csv, table)
    write_table(workspace, workspace.kept(workspace.split_csv), table)
    _mark_done(job, job.fingerprint)
    workspace.remember(_SETTINGS, job.settings)
    reason = state.reason or "files missing: split.csv"
    if known:
        is_new = listed is not None and set(names) - listed.place_of.keys()
        reason = f"extended: {job.in_units(known)} keep their {job.noun}"
        if not is_new:
            reason = f"the sample or the target has changed; its images keep their {job.noun}"
    return job.summary(place_of, reason)


def _require_subsets(job: _Job, place_of: Mapping[str, Place]) -> None:
    """Raise EmptySelectionError where a fold, or the one split, lacks training or test images."""
    count, places = len(set(job.keys)), list(place_of.values())
    nouns = {"image": "images", "galaxy": "galaxies"}
    units = f"{count} {nouns.get(job.recipe.by, 'components of galaxies and FoF groups')}"
    tested = {place.fold for place in places if place.subset == TEST}
    if job.recipe.folds > len(tested) or count_folds(places) > len(tested):
        if job.recipe.folds == 1:
            raise EmptySelectionError(
                f"{units} are too few for a training and a test subset; select more snapshots or "
                "galaxies"
            )
        raise EmptySelectionError(
            f"{units} are too few for {job.recipe.folds} folds; set a smaller split.folds, or "
            "select more snapshots or galaxies"
        )
    for fold in range(job.recipe.folds):
        if TRAIN not in subsets_in(places, fold).tolist():
            raise EmptySelectionError(
                f"{units} are too few for a training and a test subset; select more snapshots or "
                "galaxies"
            )


def _take_over(job: _Job, listed: _Listed, drawn: Mapping[str, Place] | None) -> SplitSummary:
    """Keep a person's table as it is; images that are new in the sample are drawn and added."""
    workspace, path = job.workspace, job.workspace.split_csv
    names = image_names(job.sample)
    lost = [name for name in listed.place_of if name not in set(names)]
    row_of = {name: row for row, name in enumerate(listed.place_of)}
    for name in lost:
        if name not in (drawn or {}):
            raise DataFormatError(
                f"{listed.cells.where(row_of[name])}: {name} is not in sample.csv; remove "
                "the row, or select that galaxy"
            )
    place_of = {name: place for name, place in listed.place_of.items() if name not in lost}
    # what a person has seen and not listed is theirs to leave out
    seen = names if drawn is None else drawn
    new = [name for name in names if name not in place_of and name not in seen]
    if new:
        places = job.with_folds(count_folds(place_of.values())).draw(place_of, {*place_of, *new})
        place_of |= {name: places[name] for name in new}
    folds = count_folds(place_of.values())
    for fold in range(folds):
        subsets = subsets_in(list(place_of.values()), fold).tolist()
        for subset in (TRAIN, TEST):
            if subset not in subsets:
                of_fold = f" for fold {fold}" if folds > 1 else ""
                raise EmptySelectionError(
                    f"{path} has no image of subset {subset!r} in the sample{of_fold}"
                )
    if folds != job.recipe.folds:
        log.warning(
            "%s has folds = %d, split.folds is %d: the table counts; sfr split --force draws anew",
            path,
            folds,
            job.recipe.folds,
        )
    fingerprint = job.edited(place_of)
    state = workspace.check("split", fingerprint)
    table = job.table(place_of)
    if new or lost or not set(SPLIT) <= set(listed.cells.columns):
        further = {
            column: [texts[row_of[n]] if n in row_of else "" for n in place_of]
            for column, texts in listed.cells.columns.items()
            if column not in (*SPLIT, VALIDATES)
        }
        order = {name: place for place, name in enumerate(place_of)}
        chosen = [order[name] for name in table["filename"].tolist()]
        further = {name: [texts[i] for i in chosen] for name, texts in further.items()}
        write_table(workspace, path, {**table, **further})
    if not state.current:
        # images that nobody drew have no subset of ours
        ours = {n: (drawn or {}).get(n, place_of[n] if n in new else _NOWHERE) for n in names}
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
    return job.summary(place_of, reason, split_edits(workspace))


def _mark_done(job: _Job, fingerprint: str) -> None:
    # not split.csv: what changes there is found by its content
    job.workspace.mark_done("split", fingerprint, [job.workspace.kept(job.workspace.split_csv)])


@dataclass(frozen=True)
class _Listed:
    """``split.csv`` as it stands, images in the order of its rows."""

    cells: Cells
    place_of: dict[str, Place]


def _listed(workspace: Workspace) -> _Listed | None:
    if not workspace.split_csv.is_file():
        return None
    return _Listed(*split_cells(workspace))


def _drawn(workspace: Workspace, listed: _Listed | None) -> dict[str, Place] | None:
    """Places that were drawn, by image; None where nothing is known of a draw."""
    if not workspace.kept(workspace.split_csv).is_file():
        # versions that kept no copy remembered the size of the file
        untouched = listed is not None and workspace.has_run("split")
        if untouched and workspace.check("split", workspace.fingerprint("split")).current:
            return listed.place_of if listed is not None else None
        return None
    return read_drawn(workspace)


def _require_tracks(sample: Table, recipe: SplitRecipe) -> None:
    """Raise DataMissingError where galaxies cannot be kept together over the snapshots."""
    snapshots = np.unique(sample["snapshot"])
    tracked = sample["galaxy_id"] >= 0
    blind = [int(snap) for snap in snapshots if not tracked[sample["snapshot"] == snap].any()]
    if len(snapshots) > 1 and blind:
        raise DataMissingError(
            f'split.by = "{recipe.by}" over several snapshots needs to know which galaxies are the '
            f"same, and no galaxy of snapshots {blind} is found in another one: they were selected "
            "without SubLink trees, and by their most bound particles, positions and masses "
            "nothing matches; fetch postprocessing/trees/SubLink and the offsets files and select "
            'again, use one snapshot, or split by "image"'
        )


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if values.size else None


def _mean_labels(keys: Sequence[str], labels: NDArray[np.float64]) -> dict[str, float]:
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
