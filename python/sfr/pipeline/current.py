"""What in a folder is as recipe and tables ask for now, and what is not."""

from __future__ import annotations

import shlex

from sfr.errors import DataMissingError
from sfr.recipe import Recipe
from sfr.render.plan import maps_fingerprint
from sfr.run.edited_tables import read_sample
from sfr.run.tables import Table
from sfr.run.workspace import Workspace
from sfr.sample.select import check_settings

__all__ = ["check_is_run", "check_maps", "rendered_snapshots", "sample_of"]


def check_is_run(workspace: Workspace) -> None:
    """Raise DataMissingError where a step that cannot start a run has none to go on with."""
    if workspace.stored_recipe() is None:
        raise DataMissingError(
            f"{workspace.root} is not the folder of a run; run sfr select --work {workspace.root} "
            "first, or all steps with sfr run"
        )


def sample_of(workspace: Workspace) -> Table | None:
    """Return ``sample.csv``, or None before the first selection."""
    return read_sample(workspace) if workspace.sample_csv.is_file() else None


def rendered_snapshots(workspace: Workspace, recipe: Recipe) -> dict[int, bool]:
    """Return the snapshots that have maps, and whether recipe and sample ask for these."""
    sample = sample_of(workspace)
    found = {}
    for step in workspace.steps("maps-"):
        number = step.removeprefix("maps-")
        if number.isdecimal():
            snapshot = int(number)
            found[snapshot] = (
                sample is not None
                and snapshot in sample["snapshot"]
                and workspace.check(
                    step, maps_fingerprint(workspace, recipe, sample, snapshot)
                ).current
            )
    return found


def check_maps(workspace: Workspace, recipe: Recipe) -> bool:
    """Raise DataMissingError where sample or maps are not what the recipe asks for.

    Returns whether there are maps.
    """
    check_settings(workspace, recipe)
    rendered = rendered_snapshots(workspace, recipe)
    stale = [snapshot for snapshot, is_current in rendered.items() if not is_current]
    if stale:
        listed = ",".join(map(str, stale))
        raise DataMissingError(
            f"the maps of snapshots {listed} were made with other settings or rows than "
            f"recipe.toml and sample.csv say now; run sfr render --snap {listed} "
            f"--work {shlex.quote(str(workspace.root))}"
        )
    return bool(rendered)
