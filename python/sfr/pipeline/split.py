"""The split of a run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sfr.pipeline.current import check_is_run, outdate_heads
from sfr.pipeline.select import say_edits, state_in_words
from sfr.sample.select import check_settings
from sfr.sample.split import SplitSummary
from sfr.sample.split import split as split_sample

if TYPE_CHECKING:
    from sfr.pipeline.run import Run

__all__ = ["split"]

log = logging.getLogger(__name__)


def split(run: Run, *, force: bool = False, only_stale: bool = False) -> SplitSummary:
    """Make or extend the split.

    Parameters
    ----------
    run : Run
        The run.
    force : bool
        Draw anew what is current or edited.
    only_stale : bool
        Do not mention a split that is current.

    Returns
    -------
    SplitSummary
        Sizes of the subsets and the leak audit.

    Raises
    ------
    DataMissingError
        There is no run, or its sample was selected with other settings.
    ConfigError, DataFormatError, EmptySelectionError
        As `sfr.sample.split.split`.
    """
    check_is_run(run.workspace)
    check_settings(run.workspace, run.recipe)
    with run.step("split", "split") as record:
        summary = split_sample(run.workspace, run.recipe.split, force=force)
        record["fingerprint"] = summary.fingerprint
        record["counts"] = summary.counts
        record["seeds"] = [run.recipe.split.seed]
        record["reason"] = summary.reason
    if summary.reason or not only_stale:
        sizes = (
            f"{n} {name} ({summary.galaxies[name]} galaxies)"
            for name, n in summary.counts.items()
            if n
        )
        log.info("split: %s%s", ", ".join(sizes), state_in_words(summary.reason))
    say_edits(run)
    if summary.reason:
        outdate_heads(run.workspace)
    return summary
