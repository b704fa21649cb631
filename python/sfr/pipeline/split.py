"""The split of a run."""

from __future__ import annotations

import logging

from sfr.pipeline.current import check_is_run
from sfr.pipeline.run import Run
from sfr.pipeline.select import say_edits, state_in_words
from sfr.sample.select import check_settings
from sfr.sample.split import SplitSummary
from sfr.sample.split import split as split_sample
from sfr.target import target_of
from sfr.train.latest import outdate_heads

__all__ = ["split"]

log = logging.getLogger(__name__)


def split(run: Run, *, force: bool = False, only_stale: bool = False) -> SplitSummary:
    """Make or extend the split; with ``only_stale`` one that is current is not mentioned.

    ``force``, what comes back and errors are those of `sfr.sample.split.split`; a sample that was
    selected with other settings is a DataMissingError, too.
    """
    check_is_run(run.workspace)
    check_settings(run.workspace, run.recipe)
    with run.step("split", "split", "target") as record:
        summary = split_sample(run.workspace, run.recipe.split, target_of(run.recipe), force=force)
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
