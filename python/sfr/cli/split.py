"""``sfr split``: training and test subsets."""

from __future__ import annotations

from sfr.cli import options as opt
from sfr.cli.streams import echo

__all__ = ["split"]


def split(force: opt.Force = False, *, folder: opt.Folder, output: opt.Output) -> None:
    """Split the sample into training, validation and test, and count what leaks.

    A snapshot that is selected later extends the split; no row moves. A split.csv that you
    wrote or edited is taken as it is, and drawn anew with --force only.

    Examples:

      sfr split --work run1

      sfr split --work run1 --force
    """
    with output.console() as console, folder.open(console, force=force) as run:
        summary = run.split(force=force)
    rows = [
        {"subset": name, "images": n, "galaxies": summary.galaxies[name]}
        for name, n in summary.counts.items()
    ]
    leak = summary.audit
    console.table(
        f"split by {run.recipe.split.by}: {run.workspace.split_csv}",
        rows,
        key="subsets",
        extra={
            "test": leak.n_test,
            "test_same_galaxy_in_training": leak.n_same_galaxy,
            "test_same_group_in_training": leak.n_same_group,
            "test_untracked": leak.n_untracked,
        },
    )
    if not output.as_json:
        echo(
            f"leak audit: of {leak.n_test} test images, {leak.n_same_galaxy} show a galaxy "
            f"that is in training at another time, {leak.n_same_group} one whose FoF group is "
            f"in training at the same time; {leak.n_untracked} cannot be told (in no tree)"
        )
