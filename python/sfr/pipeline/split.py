"""The split of a run."""

from __future__ import annotations

import logging

from sfr.pipeline.current import check_is_run
from sfr.pipeline.run import Run
from sfr.pipeline.select import say_edits, state_in_words
from sfr.run.components import Components
from sfr.sample.select import check_settings
from sfr.sample.split import SplitSummary
from sfr.sample.split import split as split_sample
from sfr.target import target_of
from sfr.train.latest import outdate_heads
from sfr.train.leaks import audit_neighbours

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
        log.info("split: %s%s", _sizes_in_words(summary), state_in_words(summary.reason))
        if run.recipe.split.by == "component":
            _warn_of_dropped(summary.components)
    say_edits(run)
    problem = audit_neighbours(run.workspace, target_of(run.recipe))
    if problem:
        log.info(
            "leak audit by the nearest neighbour: none, because %s; sfr train makes up for it once "
            "there are maps, as does sfr split",
            problem,
        )
    if summary.reason:
        outdate_heads(run.workspace)
    return summary


def _sizes_in_words(summary: SplitSummary) -> str:
    sizes = [
        f"{n} {name} ({summary.galaxies[name]} galaxies)" for name, n in summary.counts.items() if n
    ]
    if summary.folds == 1:
        return ", ".join(sizes)
    tested = sorted({part.n_images for part in summary.parts})
    span = " to ".join(map(str, [tested[0], *tested[1:][-1:]]))
    return f"{summary.folds} folds of {span} images, {', '.join(sizes)}"


def _warn_of_dropped(found: Components) -> None:
    """Say which groups are divided after all."""
    if found.divided:
        log.warning(
            "the galaxies of %d FoF groups of one time have more images than are tested at a time, "
            "so they cannot be kept together",
            found.divided,
        )
    if found.dropped:
        log.warning(
            "FoF groups link %d of %d images over the snapshots, more than half of what is tested "
            "at a time: groups of snapshots %s do not count, which leaves %d images in the largest "
            "of %d components",
            *(found.largest_linked, found.linked.size, ", ".join(map(str, found.dropped))),
            *(found.largest, found.count),
        )
