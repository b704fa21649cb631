"""The way in: a run that has its steps as methods."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfr.pipeline.run import Options, Run
from sfr.progress import Progress, silent
from sfr.recipe import changed_fields, load_recipe
from sfr.render.fields import check_fields
from sfr.run.workspace import Workspace

if TYPE_CHECKING:
    from sfr.pipeline.render import Rendered
    from sfr.report import ReportSummary
    from sfr.sample.select import SelectSummary
    from sfr.sample.split import SplitSummary
    from sfr.train.fit import TrainSummary

__all__ = ["OpenRun", "open_run"]

log = logging.getLogger(__name__)


class OpenRun(Run):
    """A run with the steps that most people need as methods, made by `open_run`.

    What a step needs is loaded when it is called.
    """

    def select(self, snapshots: Sequence[int] = (), *, force: bool = False) -> SelectSummary:
        """Make or extend the sample: `sfr.pipeline.select.select`."""
        from sfr.pipeline.select import select

        return select(self, snapshots, force=force)

    def split(self, *, force: bool = False) -> SplitSummary:
        """Make or extend the split: `sfr.pipeline.split.split`."""
        from sfr.pipeline.split import split

        return split(self, force=force)

    def render(self, snapshots: Sequence[int] = ()) -> Rendered:
        """Make maps and images: `sfr.pipeline.render.render`."""
        from sfr.pipeline.render import render

        return render(self, snapshots)

    def train(self, cases: Sequence[str] = (), **options: Any) -> TrainSummary:  # noqa: ANN401
        """Train the heads of some cases: `sfr.pipeline.train.train`."""
        from sfr.pipeline.train import train

        return train(self, cases, **options)

    def report(self) -> ReportSummary:
        """Write tables, figures and the page: `sfr.pipeline.report.report`."""
        from sfr.pipeline.report import report

        return report(self)


def open_run(
    work: str | Path,
    recipe: str | Path | None = None,
    *,
    simulation: str | Path | None = None,
    changes: Mapping[str, Mapping[str, object]] | None = None,
    on_progress: Progress = silent,
    command: str = "python",
    **options: Any,  # noqa: ANN401 - those of Options
) -> OpenRun:
    """Open a run's folder with its recipe; the first step that is done remembers it there.

    Parameters
    ----------
    work : str or Path
        The folder; made by the first step that writes.
    recipe : str, Path or None
        Name or file; None: the folder's recipe, else ``thesis``.
    simulation : str, Path or None
        The simulation; None: the recipe's.
    changes : dict
        Section -> fields that differ from the recipe; a value of None leaves a field.
    on_progress : callable
        Hears of how far a step is.
    command : str
        What ``run.jsonl`` says was called.
    **options
        Those of `Options`.

    Returns
    -------
    OpenRun
        The run, to be used in a ``with`` block.

    Raises
    ------
    ConfigError
        A recipe that is not valid, or another one in the folder that cannot be read.
    """
    workspace = Workspace(work)
    stored = workspace.stored_recipe()
    chosen = load_recipe(str(recipe)) if recipe is not None else stored or load_recipe("thesis")
    for section, fields in (changes or {}).items():
        chosen = chosen.with_fields(section, **fields)
    check_fields(chosen.maps)
    if stored is not None and stored != chosen:
        log.info("recipe.toml changes: %s", ", ".join(changed_fields(stored, chosen)))
    workspace.clean_scratch()
    origin = "" if recipe is not None or stored is None else f", from {workspace.recipe_toml}"
    log.info("recipe %s%s: %s", chosen.name, origin, chosen.description)
    path = None if simulation is None else Path(simulation)
    return OpenRun(workspace, chosen, Options(**options), path, on_progress, command)
