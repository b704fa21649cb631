"""``sfr render``: maps and images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from sfr.cli import options as opt
from sfr.cli.console import Console, exit_codes, readable_bytes
from sfr.cli.steps import open_run
from sfr.errors import ConfigError

if TYPE_CHECKING:
    from sfr.render.snapshot import RenderPlan

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command()
    @exit_codes
    def render(
        snap: opt.Snap = None,
        sim: opt.Sim = None,
        work: opt.Work = opt.DEFAULT_WORK,
        recipe: opt.RecipeName = None,
        workers: opt.Workers = None,
        threads: opt.WorkerThreads = None,
        scheduler: opt.Scheduler = None,
        shard: opt.Shard = None,
        dry_run: opt.DryRun = False,
        strict: opt.Strict = False,
        allow_partial: opt.AllowPartial = False,
        reference_share: opt.ReferenceShare = None,
        no_mmap: opt.NoMmap = False,
        force: opt.Force = False,
        as_json: opt.Json = False,
        verbose: opt.Verbose = False,
        quiet: opt.Quiet = False,
    ) -> None:
        """Turn each galaxy face-on, make its maps, and from them its RGB image.

        Images are normalised by the reference snapshot of the recipe (99), so that one has to be
        rendered too. A galaxy that cannot be rendered is listed in failures.csv and the rest goes
        on; the exit code is then 4. Whatever stops the command, the same command goes on; several
        may work in one folder at the same time.

        Examples:

          sfr render --sim TNG50-1 --snap 99

          sfr render --sim TNG50-1 --snap 89-99 --work run1 --workers 8

          sfr render --snap 99 --dry-run

          sfr render --snap 89-99 --shard $SLURM_ARRAY_TASK_ID/8

          sfr render --snap 89-99 --scheduler tcp://node1:8786
        """
        console = Console(verbose=verbose, quiet=quiet, as_json=as_json)
        snapshots = opt.parse_snapshots(snap)
        part = opt.parse_shard(shard)
        if force and shard is not None:
            raise ConfigError(
                "--force and --shard exclude each other: each part would throw away the others; "
                "render into another folder, or delete maps/ first"
            )
        with open_run(
            work,
            recipe,
            console,
            changes={"normalisation": {"reference_share": reference_share}},
            sim_path=sim,
            n_workers=workers,
            scheduler=scheduler,
            part=part,
            threads=threads,
            strict=strict,
            allow_partial=allow_partial,
            force=force,
            mapped=not no_mmap,
        ) as run:
            if dry_run:
                _print_plan(console, run.plan(run.snapshots(snapshots)))
                run.finish()
                return
            summaries = run.render(run.snapshots(snapshots))
        rows = [
            {
                "snapshot": s.snapshot,
                "rendered": s.n_rendered,
                "failed": s.n_failed,
                "gas cells": s.n_cells,
                "shards": s.n_shards,
                "shards made": s.n_shards_made,
            }
            for s in summaries
        ]
        failures = [
            {"snapshot": s.snapshot, "subhalo_id": subhalo_id, "reason": reason}
            for s in summaries
            for subhalo_id, reason in s.failures
        ]
        console.table(
            f"images in {run.workspace.images}" if shard is None else f"part {shard} of the maps",
            rows,
            key="snapshots",
            extra={"images": str(run.workspace.images), "failures": failures},
        )
        run.finish()


def _print_plan(console: Console, plans: Sequence[RenderPlan]) -> None:
    rows = [
        {
            "snapshot": plan.snapshot,
            "galaxies": plan.n_galaxies,
            "groups": plan.n_groups,
            "gas cells": plan.n_cells,
            "stars": plan.n_stars,
            "shards": plan.n_shards,
            "there already": plan.n_shards_there,
            "bytes to read": plan.n_bytes if console.as_json else readable_bytes(plan.n_bytes),
        }
        for plan in plans
    ]
    total = sum(plan.n_bytes for plan in plans)
    todo = sum(plan.n_shards - plan.n_shards_there for plan in plans)
    console.table(
        f"{sum(plan.n_galaxies for plan in plans)} galaxies, {todo} shards to be made, at most "
        f"{readable_bytes(total)} to read; nothing was written",
        rows,
        key="snapshots",
        extra={"shards_to_make": todo, "bytes_to_read": total},
    )
