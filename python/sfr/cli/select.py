"""``sfr select``: the sample."""

from __future__ import annotations

from sfr.cli import options as opt

__all__ = ["select"]


def select(
    snap: opt.Snap = None,
    sim: opt.Sim = None,
    allow_partial: opt.AllowPartial = False,
    force: opt.Force = False,
    *,
    folder: opt.Folder,
    output: opt.Output,
) -> None:
    """Select the galaxies and write sample.csv.

    The file is the union of all snapshots selected in the folder. Rows that you remove from it
    and labels that you edit stay so; --force takes back what the catalogue says. A snapshot
    without galaxies does not stop the others; the exit code is then 4. The column ssfr_per_yr is
    with thesis SFR / (SubhaloMass x 1e10), total mass in Msun/h, with corrected SFR / stellar mass
    in Msun; by_snapshot.csv says which. What is predicted is target.column of the recipe.

    Examples:

      sfr select --sim TNG50-1 --snap 99

      sfr select --sim TNG50-1 --snap 89-99 --work run1

      sfr select --sim TNG100-2 --snap 99 --recipe mine.toml --allow-partial
    """
    from sfr.run.tables import count_galaxies
    from sfr.target import target_of

    snapshots = opt.parse_snapshots(snap)
    with (
        output.console() as console,
        folder.open(console, simulation=sim, allow_partial=allow_partial, force=force) as run,
    ):
        summary = run.select(snapshots, force=force)
    label = target_of(run.recipe).text
    rows = [
        {
            "snapshot": cut.snapshot,
            "selected": cut.n_selected,
            "subhaloes": cut.n_total if cut.reason else None,
            "read": cut.n_loaded if cut.reason else None,
            "with flag": cut.n_flag if cut.reason else None,
            "stellar mass": cut.n_stellar_mass if cut.reason else None,
            "total mass": cut.n_total_mass if cut.reason else None,
            "group not read": cut.n_group_missing if cut.reason else None,
            "missing chunks": cut.missing_chunks if cut.reason else None,
        }
        for cut in summary.cuts
    ]
    n_galaxies = count_galaxies(summary.sample["galaxy_id"])
    console.table(
        f"{len(summary.sample['snapshot'])} rows, a galaxy and snapshot each, of {n_galaxies} "
        f"galaxies in {run.workspace.sample_csv}; label: {label}",
        rows,
        key="snapshots",
        extra={"sample": str(run.workspace.sample_csv), "label": label},
    )
    console.finish(run.failures)
