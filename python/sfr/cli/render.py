"""``sfr render``: maps and images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sfr.cli import options as opt
from sfr.cli.console import Console
from sfr.errors import ConfigError
from sfr.progress import readable_bytes

if TYPE_CHECKING:
    from sfr.render.snapshot import RenderPlan

__all__ = ["render"]


def render(
    snap: opt.Snap = None,
    shard: opt.Shard = None,
    dry_run: opt.DryRun = False,
    force: opt.Force = False,
    *,
    folder: opt.Folder,
    rendering: opt.Rendering,
    output: opt.Output,
) -> None:
    """Turn each galaxy face-on, make its maps, and from them its RGB image.

    Images are normalised by the ranges of the recipe's channels, else by its reference snapshot
    (99), so that one has to be rendered too. A galaxy that cannot be rendered is listed in
    failures.csv and the rest goes on; the exit code is then 4. Whatever stops the command, the
    same command goes on; several may work in one folder at the same time.

    Examples:

      sfr render --sim TNG50-1 --snap 99

      sfr render --sim TNG50-1 --snap 89-99 --work run1 --workers 8

      sfr render --snap 99 --dry-run

      sfr render --snap 89-99 --shard $SLURM_ARRAY_TASK_ID/8

      sfr render --snap 89-99 --scheduler tcp://node1:8786
    """
    snapshots = opt.parse_snapshots(snap)
    part = opt.parse_shard(shard)
    if force and shard is not None:
        raise ConfigError(
            "--force and --shard exclude each other: each part would throw away the others; "
            "render into another folder, or delete maps/ first"
        )
    how = {"changes": rendering.changes, "part": part, "force": force, **rendering.options}
    with output.console() as console, folder.open(console, **how) as run:
        if dry_run:
            from sfr.pipeline.render import plan

            _print_plan(console, plan(run, snapshots))
            console.finish(run.failures)
            return
        maps = run.render(snapshots).maps
    rows = [
        {
            "snapshot": made.snapshot,
            "rendered": made.n_rendered,
            "failed": made.n_failed,
            made.particles: made.n_particles,
            "shards": made.n_shards,
            "shards made": made.n_shards_made,
        }
        for made in maps
    ]
    failures = [
        {"snapshot": made.snapshot, "subhalo_id": subhalo_id, "reason": reason}
        for made in maps
        for subhalo_id, reason in made.failures
    ]
    made_in = f"part {shard} of the maps"
    if shard is None:
        made_in = f"images in {run.workspace.images}"
    if rendering.no_images:
        made_in = f"maps in {run.workspace.all_maps}"
    console.table(
        made_in,
        rows,
        key="snapshots",
        extra={"images": str(run.workspace.images), "failures": failures},
    )
    console.finish(run.failures)


def _print_plan(console: Console, plans: Sequence[RenderPlan]) -> None:
    rows = [
        {
            "snapshot": plan.snapshot,
            "galaxies": plan.n_galaxies,
            "groups": plan.n_groups,
            plan.particles: plan.n_particles,
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
