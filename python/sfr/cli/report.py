"""``sfr report``: tables, figures, HTML."""

from __future__ import annotations

from sfr.cli import options as opt
from sfr.cli.streams import echo

__all__ = ["report"]


def report(*, folder: opt.Folder, voice: opt.Voice) -> None:
    """Write the report: which channel and which scale tell most about star formation.

    Examples:

      sfr report --work run1
    """
    with voice.console() as console, folder.open(console) as run:
        summary = run.report()
    echo(str(summary.index))
    console.finish(run.failures)
