"""``sfr split``: training and test subsets, or folds."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from sfr.cli import options as opt
from sfr.cli.streams import echo

if TYPE_CHECKING:
    from sfr.sample.split import Part, SplitSummary

__all__ = ["split"]


def split(force: opt.Force = False, *, folder: opt.Folder, output: opt.Output) -> None:
    """Split the sample into training, validation and test, or into folds, and count what leaks.

    A snapshot that is selected later extends the split; no row moves. A split.csv that you
    wrote or edited is taken as it is, and drawn anew with --force only.

    Examples:

      sfr split --work run1

      sfr split --work run1 --force
    """
    from sfr.run.leaks import read_neighbours

    with output.console() as console, folder.open(console, force=force) as run:
        summary = run.split(force=force)
        neighbours = read_neighbours(run.workspace)
    leak, found = summary.audit, summary.components
    console.table(
        f"split by {run.recipe.split.by}: {run.workspace.split_csv}",
        [_row(part, summary.folds) for part in summary.parts],
        key="subsets" if summary.folds == 1 else "folds",
        extra={
            "test": leak.n_test,
            "test_same_galaxy_in_training": leak.n_same_galaxy,
            "test_same_group_in_training": leak.n_same_group,
            "test_untracked": leak.n_untracked,
            "components": found.count,
            "largest_component": found.largest,
            "components_with_all_groups": found.count_linked,
            "largest_component_with_all_groups": found.largest_linked,
            "snapshots_whose_groups_do_not_count": list(found.dropped),
            "groups_too_large_for_a_fold": found.divided,
            "neighbours": list(map(asdict, neighbours)),
        },
    )
    if not output.as_json:
        echo(_components_in_words(summary))
        echo(
            f"leak audit: of {leak.n_test} test images, {leak.n_same_galaxy} show a galaxy "
            f"that is in training at another time, {leak.n_same_group} one whose FoF group is "
            f"in training at the same time; {leak.n_untracked} cannot be told (in no tree)"
        )
        for row in neighbours:
            echo(f"leak audit, {row}")


def _row(part: Part, folds: int) -> dict[str, object]:
    row: dict[str, object] = {
        "subset" if folds == 1 else "fold": part.name.removeprefix("fold "),
        "images": part.n_images,
        "galaxies": part.n_galaxies,
        "mean label": None if part.label is None else float(f"{part.label:.4g}"),
        "mean log M*": None if part.log_mass is None else round(part.log_mass, 3),
    }
    if folds > 1:
        row |= {"train": part.n_train, "validation": part.n_validation}
    return row


def _components_in_words(summary: SplitSummary) -> str:
    """Say what the same galaxies and FoF groups link, whatever the split is by."""
    found = summary.components
    text = (
        f"galaxies over snapshots and FoF groups link the {found.linked.size} images to "
        f"{found.count_linked} components, the largest of {found.largest_linked} images"
    )
    without = [f"the groups of snapshots {', '.join(map(str, found.dropped))}"] * bool(
        found.dropped
    )
    if found.divided:
        without.append(f"{found.divided} groups that are larger than a fold")
    if without:
        text += (
            f"; without {' and '.join(without)}, {found.count} components, the largest of "
            f"{found.largest}"
        )
    return text
