"""The sample of a run."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sfr.pipeline.current import sample_of
from sfr.pipeline.run import Run
from sfr.run.edited_tables import edits_in_words
from sfr.sample.select import SelectSummary, write_by_snapshot
from sfr.sample.select import select as select_galaxies

__all__ = ["say_edits", "say_failures", "select", "state_in_words"]

log = logging.getLogger(__name__)


def select(run: Run, snapshots: Sequence[int] = (), *, force: bool = False) -> SelectSummary:
    """Make or extend the sample by snapshots, or by the recipe's.

    ``force``, what comes back and errors are those of `sfr.sample.select.select`; no simulation is
    a ConfigError, too, as are others in the folder with another recipe.
    """
    simulation = run.simulation
    with run.step("select", "sample") as record:
        summary = select_galaxies(
            simulation,
            run.workspace,
            run.recipe,
            snapshots or sorted(run.recipe.sample.snapshots),
            allow_partial=run.options.allow_partial,
            force=force,
            on_progress=run.on_progress,
        )
        record |= {
            "fingerprint": summary.fingerprint,
            "counts": {str(c.snapshot): c.n_selected for c in summary.cuts},
            "reason": "; ".join(f"{c.snapshot}: {c.reason}" for c in summary.cuts if c.reason),
        }
    for cut in summary.cuts:
        state = state_in_words(cut.reason)
        log.info("select %d: %d galaxies%s", cut.snapshot, cut.n_selected, state)
    say_failures(run, summary)
    say_edits(run)
    return summary


def say_failures(run: Run, summary: SelectSummary) -> None:
    """Say which snapshots have no galaxies while the others go on."""
    for snapshot, reason in summary.failures.items():
        log.info("select %d: none, and the others go on: %s", snapshot, reason)
        run.failures.append(f"select {snapshot}: {reason}")


def say_edits(run: Run) -> None:
    """Say once what a person did to sample.csv and split.csv; it counts in what is made."""
    edits = edits_in_words(run.workspace)
    for name in edits.keys() - run.said:
        log.info("%s, edited by hand: %s", name, edits[name])
    run.said |= edits.keys()
    sample = sample_of(run.workspace)
    if edits and sample is not None:
        write_by_snapshot(run.workspace, sample, run.recipe.sample)


def state_in_words(reason: str) -> str:
    """Say why something was made, or that it was there."""
    return f" ({reason})" if reason else ", already there"
