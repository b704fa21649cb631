"""The sample: which subhaloes are galaxies of the experiment, and their sSFR (METHOD 2.1)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfr import units
from sfr.errors import (
    ConfigError,
    DataFormatError,
    DataMissingError,
    EmptySelectionError,
    SfrError,
)
from sfr.paths import Marks, mark_files, warn_of_changed_files
from sfr.progress import Progress, silent
from sfr.recipe import Recipe, SampleRecipe
from sfr.run.cells import Cells, read_cells
from sfr.run.edited_tables import (
    MergedSample,
    SampleEdits,
    galaxy_rows,
    merge_sample,
    read_kept,
    set_aside,
)
from sfr.run.tables import SAMPLE, Table, table_text, write_table
from sfr.run.workspace import SAMPLE_SETTINGS, SIMULATION, Workspace, digest
from sfr.sample.tracks import Bound, bound_of, follow, galaxy_ids
from sfr.simulation.protocol import GAS, STARS, Catalogue, Simulation
from sfr.target import Quantity, ssfr_of

__all__ = [
    "PUBLISHED",
    "SelectSummary",
    "SnapshotCuts",
    "apply_cuts",
    "catalogue_read",
    "check_settings",
    "select",
    "write_by_snapshot",
]

log = logging.getLogger(__name__)

_SUBHALO_FIELDS = (
    "SubhaloFlag",
    "SubhaloGrNr",
    "SubhaloMass",
    "SubhaloMassType",
    "SubhaloSFR",
    "SubhaloPos",
    "SubhaloHalfmassRadType",
    "SubhaloLenType",
)
_GROUP_FIELDS = ("GroupMass", "GroupLenType", "GroupFirstSub")

#: Published rows: snapshot -> z, galaxies, mean [1e-12/yr], min [1e-17/yr], max [1e-10/yr] of sSFR.
PUBLISHED = {
    99: (0.000, 715, 5.68, 2.69, 1.00),
    98: (0.009, 710, 5.61, 2.03, 0.66),
    97: (0.023, 713, 6.03, 11.75, 1.43),
    96: (0.033, 716, 6.75, 2.05, 4.74),
    95: (0.048, 712, 6.54, 3.54, 1.70),
    94: (0.058, 708, 8.22, 5.33, 10.8),
    93: (0.073, 713, 7.98, 225.20, 6.33),
    92: (0.083, 712, 9.23, 2.66, 6.92),
    91: (0.099, 726, 7.51, 6.88, 4.00),
    90: (0.100, 726, 7.99, 15.19, 6.23),
    89: (0.125, 739, 7.73, 6.72, 2.99),
}


@dataclass(frozen=True)
class SnapshotCuts:
    """How many subhaloes of one snapshot each cut leaves.

    ``missing_chunks`` counts chunks of the catalogue that are not there (with allow_partial).
    """

    snapshot: int
    n_total: int
    n_loaded: int
    n_flag: int
    n_stellar_mass: int
    n_total_mass: int
    n_group_mass: int
    n_group_missing: int
    missing_chunks: int
    #: Why the snapshot was selected now; empty when its rows were there already.
    reason: str
    #: Rows of it that were removed from ``sample.csv`` by hand.
    n_removed: int = 0

    @property
    def n_selected(self) -> int:
        """Galaxies in the sample."""
        return self.n_group_mass - self.n_removed


@dataclass(frozen=True)
class SelectSummary:
    """The sample and how it came about."""

    sample: Table
    cuts: tuple[SnapshotCuts, ...]
    fingerprint: str
    #: What a person did to ``sample.csv``.
    edits: SampleEdits
    #: Snapshots that were asked for and have no rows, and why.
    failures: dict[int, str]


def apply_cuts(
    catalogue: Catalogue, recipe: SampleRecipe
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Apply the cuts one after the other.

    Parameters
    ----------
    catalogue : Catalogue
        Fields in code units.
    recipe : SampleRecipe
        Limits [1e10 Msun/h or 1e10 Msun] and their unit; all limits are exclusive.

    Returns
    -------
    keep : ndarray of bool, shape (n_subhalos,)
        The sample.
    counts : dict of str to int
        Subhaloes left after each cut.
    """
    subhalos = catalogue.subhalos
    unit = 1.0 if recipe.mass_unit == "code" else 1.0 / catalogue.header.hubble_param
    stellar = subhalos["SubhaloMassType"][:, STARS].astype(np.float64) * unit
    total = subhalos["SubhaloMass"].astype(np.float64) * unit
    rows, has_group = _group_rows(catalogue)
    group = np.where(has_group, _take(catalogue.groups["GroupMass"], rows), np.nan) * unit
    keep = np.asarray(subhalos["SubhaloFlag"]) != 0
    counts = {"n_flag": int(keep.sum())}
    keep &= (stellar > recipe.stellar_mass_min) & (stellar < recipe.stellar_mass_max)
    counts["n_stellar_mass"] = int(keep.sum())
    keep &= total < recipe.total_mass_max
    counts["n_total_mass"] = int(keep.sum())
    counts["n_group_missing"] = int((keep & ~has_group).sum())
    keep &= has_group & (group < recipe.group_mass_max)
    counts["n_group_mass"] = int(keep.sum())
    return keep, counts


def _group_rows(catalogue: Catalogue) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Rows of the loaded groups that host each subhalo, and whether the group is loaded."""
    group_of = np.asarray(catalogue.subhalos["SubhaloGrNr"]).astype(np.int64)
    rows = np.searchsorted(catalogue.group_ids, group_of)
    if len(catalogue.group_ids) == 0:
        return np.zeros(len(group_of), np.intp), np.zeros(len(group_of), np.bool_)
    rows = np.minimum(rows, len(catalogue.group_ids) - 1)
    return rows, catalogue.group_ids[rows] == group_of


def _take(column: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[np.float64]:
    if len(column) == 0:
        return np.full(len(rows), np.nan)
    return np.asarray(column[rows].astype(np.float64))


def _snapshot_rows(
    simulation: Simulation,
    catalogue: Catalogue,
    keep: NDArray[np.bool_],
    recipe: SampleRecipe,
    snapshot: int,
) -> Table:
    """Make the rows of ``sample.csv`` for one snapshot: the only place where units change."""
    h = catalogue.header.hubble_param
    taken = {name: np.asarray(column)[keep] for name, column in catalogue.subhalos.items()}
    rows = _group_rows(catalogue)[0][keep]
    groups = {name: np.asarray(column)[rows] for name, column in catalogue.groups.items()}
    ids = catalogue.subhalo_ids[keep].astype(np.int64)
    stellar = units.mass_msun(taken["SubhaloMassType"][:, STARS], h)
    sfr = taken["SubhaloSFR"].astype(np.float64)
    if recipe.ssfr_mass == "total_code":
        denominator = _label_mass(taken, recipe) * units.UNIT_MASS_MSUN
    else:
        denominator = stellar
    n = len(ids)
    return {
        "snapshot": np.full(n, snapshot, np.int64),
        "subhalo_id": ids,
        "group_id": taken["SubhaloGrNr"].astype(np.int64),
        "galaxy_id": galaxy_ids(simulation, snapshot, ids),
        "redshift": np.full(n, catalogue.header.redshift),
        "sfr_msun_per_yr": sfr,
        "stellar_mass_msun": stellar,
        "total_mass_msun": units.mass_msun(taken["SubhaloMass"], h),
        "group_mass_msun": units.mass_msun(groups["GroupMass"], h),
        "gas_mass_msun": units.mass_msun(taken["SubhaloMassType"][:, GAS], h),
        "ssfr_per_yr": sfr / denominator,
        "is_central": (groups["GroupFirstSub"].astype(np.int64) == ids).astype(np.int64),
        "x_ckpc_h": taken["SubhaloPos"][:, 0].astype(np.float64),
        "y_ckpc_h": taken["SubhaloPos"][:, 1].astype(np.float64),
        "z_ckpc_h": taken["SubhaloPos"][:, 2].astype(np.float64),
        "stellar_half_mass_radius_ckpc_h": taken["SubhaloHalfmassRadType"][:, STARS].astype(
            np.float64
        ),
        "n_gas_group": groups["GroupLenType"][:, GAS].astype(np.int64),
        "n_stars": taken["SubhaloLenType"][:, STARS].astype(np.int64),
    }


def _label_mass(subhalos: Mapping[str, NDArray[Any]], recipe: SampleRecipe) -> NDArray[np.float64]:
    """Mass that the SFR is divided by [1e10 Msun/h]."""
    if recipe.ssfr_mass == "total_code":
        return np.asarray(subhalos["SubhaloMass"], np.float64)
    return np.asarray(subhalos["SubhaloMassType"][:, STARS], np.float64)


def select(
    simulation: Simulation,
    workspace: Workspace,
    recipe: Recipe,
    snapshots: Sequence[int],
    *,
    allow_partial: bool = False,
    force: bool = False,
    on_progress: Progress = silent,
) -> SelectSummary:
    """Select the galaxies of some snapshots and write ``sample.csv``.

    The file is the union of all snapshots ever selected in the folder; snapshots that were
    selected with other settings are selected again. What a person did to it stays: rows that were
    removed, labels that were edited, further columns. A snapshot that cannot be selected does not
    stop the others.

    Parameters
    ----------
    simulation : Simulation
        Where the catalogues come from.
    workspace : Workspace
        The run's folder.
    recipe : Recipe
        Cuts and label.
    snapshots : sequence of int
        The snapshots to add.
    allow_partial : bool
        Take what is there when chunks of a catalogue are missing.
    force : bool
        Select even what is current, and undo what a person did to the rows of these snapshots.
    on_progress : callable
        Hears of every snapshot.

    Returns
    -------
    SelectSummary
        The whole sample, and the counts of the snapshots asked for.

    Raises
    ------
    EmptySelectionError
        No galaxy passes the cuts in any of the snapshots.
    DataMissingError
        A chunk or a field of the catalogue is missing, of all snapshots or of one whose rows
        have to be selected again.
    DataFormatError
        ``sample.csv`` holds what the catalogue does not.
    ConfigError
        The folder holds a run on another simulation, and ``force`` is not set.
    """
    name, failures = _simulation_name(simulation, workspace, snapshots, force=force)
    theirs, base = _tables_so_far(workspace, name, snapshots, force=force)
    known = {snap for snap, _ in galaxy_rows(theirs)} if theirs is not None else set()
    known |= set(base["snapshot"].tolist()) if base is not None else set()
    kept = read_kept(workspace) if theirs is not None else None
    gone = known - {*snapshots} - {*simulation.snapshots()}
    for snap in sorted(gone):
        log.warning("snapshot %d is not in the simulation any more; its rows are kept", snap)
    wanted = sorted({*snapshots, *known} - {*failures})
    parts: list[Table] = []
    done: dict[int, _Done] = {}
    for place, snap in enumerate(wanted, start=1):
        try:
            found = _one_snapshot(
                simulation,
                workspace,
                recipe,
                snap,
                kept,
                is_gone=snap in gone,
                allow_partial=allow_partial,
                force=force and snap in snapshots,
            )
        except (EmptySelectionError, DataMissingError, DataFormatError) as error:
            if snap in known and not isinstance(error, EmptySelectionError):
                # its rows cannot be brought up to date, nor stay beside those of other settings
                raise
            failures[snap] = error
        else:
            done[snap] = found
            parts.append(found.rows)
        on_progress("catalogues", place, len(wanted))
    if failures and not done:
        raise next(iter(failures.values()))
    fresh = {column: np.concatenate([part[column] for part in parts]) for column in SAMPLE}
    fresh["galaxy_id"] = follow(fresh, {snap: found.bound for snap, found in done.items()})
    if theirs is None:
        merged = MergedSample(fresh, {}, SampleEdits())
    else:
        merged = merge_sample(theirs, base, fresh)
    cuts = [replace(d.cuts, n_removed=merged.edits.removed.get(s, 0)) for s, d in done.items()]
    if any(cut.reason for cut in cuts) or known & {*failures} or theirs is None:
        _say_what_stays(workspace, merged, cuts)
        if force:
            set_aside(workspace, workspace.sample_csv)
        write_table(workspace, workspace.sample_csv, {**merged.table, **merged.further})
        # after it: whatever ends this between the two, no row counts as removed by hand
        write_table(workspace, workspace.kept(workspace.sample_csv), fresh)
        workspace.remember(SIMULATION, name)
        workspace.remember(SAMPLE_SETTINGS, digest(_label_section(recipe)))
        _record(workspace, done, forgotten=known & {*failures})
    write_by_snapshot(workspace, merged.table, recipe.sample)
    fingerprint = digest({snap: found.fingerprint for snap, found in done.items()})
    texts = {snap: str(error) for snap, error in sorted(failures.items())}
    return SelectSummary(merged.table, tuple(cuts), fingerprint, merged.edits, texts)


@dataclass(frozen=True)
class _Done:
    """A snapshot as the catalogue has it."""

    rows: Table
    cuts: SnapshotCuts
    fingerprint: str
    marks: Marks
    #: What tells galaxies apart where there are no trees.
    bound: Bound | None


def _record(workspace: Workspace, done: Mapping[int, _Done], *, forgotten: Iterable[int]) -> None:
    """Keep what each snapshot's rows were made from."""
    for snap in forgotten:
        workspace.forget(f"select-{snap:03d}")
    for snap, found in done.items():
        step, files = f"select-{snap:03d}", [workspace.kept(workspace.sample_csv)]
        workspace.mark_done(step, found.fingerprint, files)
        if found.cuts.reason:
            counts = {"read": found.cuts.n_loaded, "total": found.cuts.n_total}
            workspace.remember(_catalogue_note(snap), counts)
            workspace.keep_sources(step, found.fingerprint, found.marks)
            bound = None if found.bound is None else found.bound.to_json()
            if bound != workspace.recalled(f"bound-{snap:03d}"):
                workspace.remember(f"bound-{snap:03d}", bound)


def _one_snapshot(
    simulation: Simulation,
    workspace: Workspace,
    recipe: Recipe,
    snap: int,
    kept: Table | None,
    *,
    is_gone: bool,
    allow_partial: bool,
    force: bool,
) -> _Done:
    """Select one snapshot, or take the rows that are current."""
    step = f"select-{snap:03d}"
    marks: Marks = {}
    if is_gone:
        fingerprint = workspace.fingerprint(step)
    else:
        fingerprint = _fingerprint(simulation, recipe, snap, allow_partial=allow_partial)
        # before they are read, so that what is replaced meanwhile is noticed the next time
        marks = mark_files(simulation.catalogue_sources(snap))
    state = workspace.check(step, fingerprint, force=force)
    rows = {n: c[kept["snapshot"] == snap] for n, c in kept.items()} if kept else {}
    if state.current and kept and len(rows["snapshot"]):
        warn_of_changed_files(
            f"sample of snapshot {snap}",
            workspace.sources(step, fingerprint),
            simulation.source_path,
            f"sfr select --snap {snap} --force",
        )
        bound = Bound.of_json(workspace.recalled(f"bound-{snap:03d}"))
        return _Done(rows, _cuts_unchanged(rows, snap), fingerprint, marks, bound)
    reason = state.reason or "new"
    rows, cuts, period = _select_one(simulation, recipe, snap, reason, allow_partial=allow_partial)
    bound = bound_of(
        simulation, snap, rows["subhalo_id"], period=period, allow_partial=allow_partial
    )
    return _Done(rows, cuts, fingerprint, marks, bound)


def _tables_so_far(
    workspace: Workspace, simulation_name: str, forced: Sequence[int], *, force: bool
) -> tuple[Cells | None, Table | None]:
    """Read the sample that a selection extends, and what the last selection found.

    That of another simulation does not count, nor do, with ``force``, rows of the snapshots that
    are selected anew.
    """
    is_other = workspace.recalled(SIMULATION) not in (None, simulation_name)
    if is_other or not workspace.sample_csv.is_file():
        return None, None
    try:
        cells = read_cells(workspace.sample_csv, SAMPLE)
        rows_of = galaxy_rows(cells)
    except DataFormatError as error:
        if not force:
            raise
        log.warning("%s", error)
        return None, None
    base = read_kept(workspace)
    if force:
        cells = cells.take([i for (snap, _), i in rows_of.items() if snap not in forced])
        if base is not None:
            rows = ~np.isin(base["snapshot"], list(forced))
            base = {name: column[rows] for name, column in base.items()}
    return cells, base


def _say_what_stays(
    workspace: Workspace, merged: MergedSample, cuts: Sequence[SnapshotCuts]
) -> None:
    """Say what a person's table keeps, and loses, where it is written anew."""
    path = workspace.sample_csv
    if str(merged.edits):
        changed = any("settings" in cut.reason for cut in cuts)
        log.warning(
            "%s: %s%s; sfr select --force takes what the catalogue says",
            path,
            merged.edits,
            ", and stay so with the changed [sample]" if changed else ", and stay so",
        )
    if merged.n_cut:
        log.warning("%s: %d rows do not pass [sample] any more and go", path, merged.n_cut)


def check_settings(workspace: Workspace, recipe: Recipe) -> None:
    """Raise DataMissingError where ``sample.csv`` was selected with other settings."""
    wanted = digest(_label_section(recipe))
    if workspace.recalled(SAMPLE_SETTINGS) not in (None, wanted):
        raise DataMissingError(
            f"{workspace.sample_csv} was selected with other settings than the recipe's [sample]; "
            "run sfr select or sfr render with this recipe first"
        )


def catalogue_read(workspace: Workspace, snapshot: int) -> tuple[int, int]:
    """Subhaloes that the sample of a snapshot was chosen from, and those in the catalogue.

    They differ where chunks of the catalogue were missing; 1 and 1 where nothing is known.
    """
    found = workspace.recalled(_catalogue_note(snapshot))
    return (1, 1) if found is None else (int(found["read"]), int(found["total"]))


def _catalogue_note(snapshot: int) -> str:
    return f"catalogue-{snapshot:03d}"


def _simulation_name(
    simulation: Simulation, workspace: Workspace, snapshots: Sequence[int], *, force: bool
) -> tuple[str, dict[int, SfrError]]:
    """Name the simulation that a folder is for, and keep the folder to one.

    Also returns the snapshots that do not tell, and why; one that does is enough.
    """
    failures: dict[int, SfrError] = {}
    for snap in sorted(set(snapshots), reverse=True):
        try:
            identity = simulation.identity(snap)
            break
        except (DataMissingError, DataFormatError) as error:
            failures[snap] = error
    else:
        raise failures[max(failures)]
    name = f"{identity['name']}, box {identity['box_size']:g} ckpc/h"
    before = workspace.recalled(SIMULATION)
    if before not in (None, name) and not force:
        raise ConfigError(
            f"{workspace.root} holds a run on another simulation ({before}; this is {name}); "
            "give this run another folder with --work, or start over with --force"
        )
    return name, failures


def _fingerprint(
    simulation: Simulation, recipe: Recipe, snapshot: int, *, allow_partial: bool
) -> str:
    absent = simulation.missing_catalogue_files(snapshot) if allow_partial else ()
    nobody = np.zeros(0, np.int64)
    return digest(
        {
            "format": 1,
            "sample": _label_section(recipe),
            "simulation": simulation.identity(snapshot),
            "missing": [path.name for path in absent],
            "trees": simulation.main_leaf_ids(snapshot, nobody) is not None,
        }
    )


def _label_section(recipe: Recipe) -> dict[str, Any]:
    """Return the settings that a row depends on: all but the list of snapshots."""
    section = recipe.section("sample")
    section.pop("snapshots")
    return section


def _select_one(
    simulation: Simulation,
    recipe: Recipe,
    snapshot: int,
    reason: str,
    *,
    allow_partial: bool,
) -> tuple[Table, SnapshotCuts, float | None]:
    """Return the rows, how they were cut, and the side of the box where it is periodic."""
    log.info("snapshot %d: reading the group catalogue", snapshot)
    catalogue = simulation.catalogue(
        snapshot,
        subhalo_fields=_SUBHALO_FIELDS,
        group_fields=_GROUP_FIELDS,
        allow_partial=allow_partial,
    )
    keep, counts = apply_cuts(catalogue, recipe.sample)
    sfr = np.asarray(catalogue.subhalos["SubhaloSFR"])
    mass = _label_mass(catalogue.subhalos, recipe.sample)
    for fault, is_label in (
        ("SubhaloSFR is NaN, infinite or negative", (sfr >= 0) & (sfr < np.inf)),
        ("mass, by which the SFR is divided, is not above 0", (mass > 0) & (mass < np.inf)),
    ):
        unlabelled = keep & ~is_label
        if unlabelled.any():
            left_out = int(unlabelled.sum())
            log.warning("snapshot %d: %d galaxies whose %s are left out", snapshot, left_out, fault)
            keep &= is_label
            counts["n_group_mass"] -= left_out
    cuts = SnapshotCuts(
        snapshot=snapshot,
        n_total=catalogue.n_subhalos_total,
        n_loaded=len(catalogue.subhalo_ids),
        missing_chunks=len(catalogue.missing_files),
        reason=reason,
        **counts,
    )
    if cuts.n_selected == 0:
        absent = f" ({cuts.missing_chunks} of {catalogue.n_files} chunks are missing)"
        raise EmptySelectionError(
            f"snapshot {snapshot}: no galaxy passes the cuts: {cuts.n_loaded} subhaloes"
            f"{absent if cuts.missing_chunks else ''}, "
            f"{cuts.n_flag} with SubhaloFlag, {cuts.n_stellar_mass} in the range of stellar mass, "
            f"{cuts.n_total_mass} below the total mass, {cuts.n_group_mass} below the group mass; "
            "adapt [sample] in a recipe file"
        )
    rows = _snapshot_rows(simulation, catalogue, keep, recipe.sample, snapshot)
    return rows, cuts, catalogue.header.period


def _cuts_unchanged(rows: Table, snapshot: int) -> SnapshotCuts:
    n = len(rows["subhalo_id"])
    return SnapshotCuts(snapshot, 0, 0, 0, 0, 0, n, 0, 0, "")


def write_by_snapshot(workspace: Workspace, sample: Table, recipe: SampleRecipe) -> None:
    """Write ``tables/by_snapshot.csv``, unless it is there: the sample may have been edited."""
    path, text = workspace.by_snapshot_csv, table_text(by_snapshot(sample, ssfr_of(recipe)))
    if not path.is_file() or path.read_bytes() != text.encode():
        workspace.write_text(path, text)


def by_snapshot(sample: Table, ssfr: Quantity) -> dict[str, list[Any]]:
    """Make the table of the sSFR by snapshot, beside the published rows if they are of that sSFR.

    Parameters
    ----------
    sample : dict of str to ndarray
        ``sample.csv``.
    ssfr : Quantity
        What its column ``ssfr_per_yr`` is.

    Returns
    -------
    dict of str to list
        z, N, mean, minimum and maximum of the sSFR, and which one it is. The mean counts all
        galaxies, the minimum those with SFR > 0; published values are None for other snapshots.
    """
    table: dict[str, list[Any]] = {name: [] for name in _BY_SNAPSHOT}
    for snap in sorted(set(sample["snapshot"].tolist()), reverse=True):
        rows = sample["snapshot"] == snap
        values = sample[ssfr.column][rows]
        positive = values[values > 0]
        z, n, mean, low, high = PUBLISHED.get(snap, (None,) * 5)
        row = (
            snap,
            float(sample["redshift"][rows][0]),
            len(values),
            len(values) - len(positive),
            float(values.mean()),
            _or_none(positive, np.mean),
            _or_none(positive, np.min),
            _or_none(positive, np.max),
            z,
            n,
            _scaled(mean, 1e-12),
            _scaled(low, 1e-17),
            _scaled(high, 1e-10),
            ssfr.text,
        )
        for name, value in zip(_BY_SNAPSHOT, row, strict=True):
            table[name].append(value)
    if ssfr.is_published:
        return table
    return {name: values for name, values in table.items() if not name.startswith("published_")}


_BY_SNAPSHOT = (
    "snapshot",
    "redshift",
    "n",
    "n_zero_sfr",
    "mean_ssfr",
    "mean_positive_ssfr",
    "min_ssfr",
    "max_ssfr",
    "published_redshift",
    "published_n",
    "published_mean_ssfr",
    "published_min_ssfr",
    "published_max_ssfr",
    "label",
)


def _or_none(values: NDArray[Any], reduce: Any) -> float | None:  # noqa: ANN401
    return float(reduce(values)) if len(values) else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else float(f"{value * factor:.6g}")
