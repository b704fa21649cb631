"""The maps of a snapshot's galaxies, shard by shard: resumable, one failure at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfr import __version__
from sfr.errors import DataFormatError, DataMissingError, EmptySelectionError, SfrError
from sfr.progress import Progress, silent
from sfr.recipe import Recipe
from sfr.render import gas
from sfr.render.orient import STAR_FIELDS, Galaxy
from sfr.render.project import GalaxyMaps, gas_fields, render_galaxy
from sfr.simulation.protocol import Simulation
from sfr.store import FAILURES, Shard, Table, read_shard, table_digest, write_shard, write_table
from sfr.workspace import StepState, Workspace, bare, digest

__all__ = ["SHARD_SIZE", "RenderSummary", "maps_fingerprint", "render_snapshot"]

log = logging.getLogger(__name__)

_GAS, _STARS = 0, 4

#: Stage of failures that end when the missing or damaged file is fetched: they are tried again.
_READ = "read"
#: Columns of the sample that rendering reads.
_READ_COLUMNS = (
    "subhalo_id",
    "group_id",
    "x_ckpc_h",
    "y_ckpc_h",
    "z_ckpc_h",
    "stellar_half_mass_radius_ckpc_h",
)
#: Galaxies in a shard; part of the format, so that boundaries depend on the sample only.
SHARD_SIZE = 32


@dataclass(frozen=True)
class RenderSummary:
    """What happened to the maps of one snapshot."""

    snapshot: int
    n_rendered: int
    n_failed: int
    n_cells: int
    fingerprint: str
    #: Why the maps were made; empty when they were there already.
    reason: str
    #: subhalo_id and reason of each failure.
    failures: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class _Job:
    """What all shards of a snapshot are made with."""

    simulation: Simulation
    recipe: Recipe
    snapshot: int
    fingerprint: str
    threads: int | None
    strict: bool


@dataclass(frozen=True)
class _Result:
    subhalo_id: int
    galaxy: Galaxy
    maps: GalaxyMaps


def maps_fingerprint(workspace: Workspace, recipe: Recipe, sample: Table, snapshot: int) -> str:
    """Digest of everything that the maps of a snapshot depend on."""
    rows = sample["snapshot"] == snapshot
    return digest(
        {
            "rows": table_digest({name: sample[name][rows] for name in _READ_COLUMNS}),
            "format": 2,
            "shard": SHARD_SIZE,
            "orientation": recipe.section("orientation"),
            "maps": recipe.section("maps"),
            "sample": workspace.fingerprint(f"select-{snapshot:03d}"),
        }
    )


def render_snapshot(
    simulation: Simulation,
    workspace: Workspace,
    recipe: Recipe,
    sample: Table,
    snapshot: int,
    *,
    threads: int | None = None,
    force: bool = False,
    strict: bool = False,
    allow_partial: bool = False,
    on_progress: Progress = silent,
) -> RenderSummary:
    """Write the maps of all galaxies of a snapshot's sample, shard by shard.

    A shard that is there with the same fingerprint is kept, so an interrupted run goes on where it
    stopped. A galaxy that cannot be rendered is recorded in ``failures.csv`` and the batch goes on.

    Parameters
    ----------
    simulation : Simulation
        Where the particles come from.
    workspace : Workspace
        The run's folder.
    recipe : Recipe
        The experiment.
    sample : dict of str to ndarray
        ``sample.csv``; rows of other snapshots are left out.
    snapshot : int
        The snapshot.
    threads : int or None
        As in `sfr.render.kernels`; the files do not depend on it.
    force : bool
        Render even what is current.
    strict : bool
        Stop at the first galaxy that fails.
    allow_partial : bool
        Go on when chunks of the snapshot are missing; galaxies that lie in them fail.
    on_progress : callable
        Hears of every galaxy.

    Returns
    -------
    RenderSummary
        Counts and failures.

    Raises
    ------
    EmptySelectionError
        The sample has no galaxy in this snapshot.
    DataMissingError
        The offsets, a chunk or a field is not there.
    SfrError
        With ``strict``, what the first galaxy failed with.
    """
    rows = {name: column[sample["snapshot"] == snapshot] for name, column in sample.items()}
    n = len(rows["subhalo_id"])
    if n == 0:
        raise EmptySelectionError(f"sample.csv has no galaxy in snapshot {snapshot}")
    step = f"maps-{snapshot:03d}"
    fingerprint = maps_fingerprint(workspace, recipe, sample, snapshot)
    job = _Job(simulation, recipe, snapshot, fingerprint, threads, strict)
    state = workspace.check(step, fingerprint, force=force)
    starts = range(0, n, SHARD_SIZE)
    paths = [workspace.shard(snapshot, i) for i in range(len(starts))]
    if state.current and not all(_is_current(path, fingerprint) for path in paths):
        state = StepState(current=False, reason="files that could not be read are tried again")

    def report(start: int, done: int) -> None:
        on_progress(f"maps {snapshot}", start + done, n)

    if not state.current:
        simulation.require(
            snapshot,
            {_GAS: gas_fields(recipe), _STARS: STAR_FIELDS},
            allow_partial=allow_partial,
        )
        workspace.forget(step)
        _remove_stale(workspace, snapshot, paths, fingerprint, force=force)
        for path, start in zip(paths, starts, strict=True):
            if not path.is_file():
                part = {name: column[start : start + SHARD_SIZE] for name, column in rows.items()}
                write_shard(workspace, path, _render_shard(job, part, partial(report, start)))
            report(min(start + SHARD_SIZE, n), 0)
    summary = _summarise(paths, snapshot, fingerprint, state.reason, workspace)
    if not state.current:
        workspace.mark_done(step, fingerprint, [*paths, workspace.failures_csv(snapshot)])
    return summary


def _remove_stale(
    workspace: Workspace, snapshot: int, keep: list[Path], fingerprint: str, *, force: bool
) -> None:
    for path in workspace.shards(snapshot):
        if force or path not in keep or not _is_current(path, fingerprint):
            path.unlink()


def _is_current(path: Path, fingerprint: str) -> bool:
    """Whether a shard is whole, made with these settings, and of files that could be read."""
    try:
        shard = read_shard(path, with_maps=False)
    except SfrError:
        return False
    is_same = shard.attributes["fingerprint"] == fingerprint
    return is_same and _READ not in shard.failures["stage"].tolist()


def _render_shard(job: _Job, rows: Table, on_done: Callable[[int], None]) -> Shard:
    results: list[_Result] = []
    failures: list[tuple[int, str, str]] = []
    for i in range(len(rows["subhalo_id"])):
        subhalo_id = int(rows["subhalo_id"][i])
        centre = np.array([rows[f"{axis}_ckpc_h"][i] for axis in "xyz"], np.float64)
        galaxy = Galaxy(centre, float(rows["stellar_half_mass_radius_ckpc_h"][i]))
        try:
            maps = render_galaxy(
                job.simulation,
                job.snapshot,
                subhalo_id,
                int(rows["group_id"][i]),
                galaxy,
                job.recipe,
                threads=job.threads,
            )
            results.append(_Result(subhalo_id, galaxy, maps))
        except SfrError as error:
            if job.strict:
                where = f"snapshot {job.snapshot} subhalo {subhalo_id}"
                raise type(error)(f"{where}: {error}") from error
            log.warning("snapshot %d subhalo %d: %s", job.snapshot, subhalo_id, error)
            unread = isinstance(error, (DataMissingError, DataFormatError))
            failures.append((subhalo_id, _READ if unread else "render", bare(str(error))))
        on_done(i + 1)
    return Shard(
        _stack([r.maps.maps for r in results], _map_shape(job.recipe), np.float32),
        _columns(results, job.recipe),
        {
            name: np.array([failure[i] for failure in failures], kind)
            for i, (name, kind) in enumerate(
                zip(FAILURES, (np.int64, np.str_, np.str_), strict=True)
            )
        },
        _attributes(job),
    )


def _map_shape(recipe: Recipe) -> tuple[int, int, int]:
    return (len(recipe.maps.channels), recipe.maps.pixels, recipe.maps.pixels)


def _stack(values: Sequence[Any], shape: tuple[int, ...], kind: type) -> NDArray[Any]:
    """Make an array of one row per galaxy, also of none."""
    return np.array(values, kind).reshape(len(values), *shape)


def _columns(results: Sequence[_Result], recipe: Recipe) -> dict[str, NDArray[Any]]:
    orientations = [r.maps.orientation for r in results]
    ledgers = [r.maps.ledger for r in results]
    channels, candidates = (len(recipe.maps.channels),), (len(recipe.maps.candidates),)
    columns = {
        "subhalo_id": _stack([r.subhalo_id for r in results], (), np.int64),
        "centre": _stack([r.galaxy.centre for r in results], (3,), np.float64),
        "rotation": _stack([o.rotation for o in orientations], (3, 3), np.float64),
        "orientation_source": np.array([o.source for o in orientations], np.str_),
        "orientation_count": _stack([o.count for o in orientations], (), np.int64),
        "alignment": _stack([o.alignment for o in orientations], (), np.float64),
    }
    for name in ("n_read", "n_in_frame", "n_bad_coordinates"):
        columns[name] = _stack([getattr(ledger, name) for ledger in ledgers], (), np.int64)
    for name, kind in (
        ("n_bad_weight", np.int64),
        ("sum_in_frame", np.float64),
    ):
        columns[name] = _stack([getattr(ledger, name) for ledger in ledgers], channels, kind)
    for extreme, reduce in (("maximum", np.max), ("minimum", np.min)):
        values = [[reduce(np.nan_to_num(c)) for c in r.maps.candidates] for r in results]
        columns[f"candidate_{extreme}"] = _stack(values, candidates, np.float64)
    return columns


def _attributes(job: _Job) -> dict[str, object]:
    maps, header = job.recipe.maps, job.simulation.header(job.snapshot)
    attributes: dict[str, object] = {}
    for kind, channels in (("channel", maps.channels), ("candidate", maps.candidates)):
        texts = gas.names(channels), [gas.channel_unit(channel) for channel in channels]
        for what, values in zip(("names", "units"), texts, strict=True):
            # h5py cannot store an empty list of strings
            attributes[f"{kind}_{what}"] = values or np.array([], "S1")
    return attributes | {
        "pixel_scale_ckpc_h": maps.width_ckpc_h / (maps.pixels * maps.bin_scale),
        "width_ckpc_h": maps.width_ckpc_h,
        "axes": "maps[galaxy, channel, y, x]; y upwards, z (line of sight) along the spin",
        "frame": "q = rotation @ (box position - centre), periodic offsets, comoving kpc/h",
        "simulation": header.simulation_name,
        "snapshot": job.snapshot,
        "scale_factor": header.scale_factor,
        "hubble_param": header.hubble_param,
        "fingerprint": job.fingerprint,
        "sfr_version": __version__,
    }


def _summarise(
    paths: list[Path], snapshot: int, fingerprint: str, reason: str, workspace: Workspace
) -> RenderSummary:
    shards = [read_shard(path, with_maps=False) for path in paths]
    table = {name: np.concatenate([s.failures[name] for s in shards]) for name in FAILURES}
    if reason:
        write_table(workspace, workspace.failures_csv(snapshot), table)
    return RenderSummary(
        snapshot,
        sum(len(s.columns["subhalo_id"]) for s in shards),
        len(table["subhalo_id"]),
        int(sum(s.columns["n_read"].sum() for s in shards)),
        fingerprint,
        reason,
        tuple(zip(table["subhalo_id"].tolist(), table["reason"].tolist(), strict=True)),
    )
