"""The maps of a snapshot's galaxies, shard by shard: resumable, shared, one failure at a time.

A shard is the unit of work and of resumption: a file of the galaxies of some groups that lie one
after the other in the snapshot. Which galaxies those are follows from the sample and the recipe
only, so any number of processes, at any time, write the same files.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sfr import __version__
from sfr.compute.tasks import Serial, Workers, run_all
from sfr.errors import (
    DataFormatError,
    DataMissingError,
    EmptySelectionError,
    SfrError,
    WorkerLostError,
)
from sfr.paths import mark_files, warn_of_changed_files
from sfr.progress import Progress, silent
from sfr.recipe import MapsRecipe, Recipe, maps_settings
from sfr.render import fields
from sfr.render.orient import Galaxy
from sfr.render.project import (
    GalaxyMaps,
    check_frame,
    particle_fields,
    render_galaxy,
    said_of_dropped,
)
from sfr.run.names import bare
from sfr.run.shards import Shard, read_shard, write_shard
from sfr.run.tables import FAILURES, FOR_GOOD, Table, read_table, table_digest, write_table
from sfr.run.workspace import StepState, Workspace, digest
from sfr.simulation.protocol import Simulation

__all__ = [
    "SHARD_SIZE",
    "RenderPlan",
    "RenderSummary",
    "maps_fingerprint",
    "plan_parts",
    "plan_render",
    "plan_shards",
    "render_snapshot",
]

log = logging.getLogger(__name__)

_GAS, _STARS = 0, 4

#: Stages of failures that may end by themselves, when a file is fetched or a machine has more
#: memory: the next run tries those shards again.
_READ, _MEMORY, _WORKER = "read", "memory", "worker"
_TRIED_AGAIN = frozenset({_READ, _MEMORY, _WORKER})
#: Columns of the sample that rendering reads.
_READ_COLUMNS = (
    "subhalo_id",
    "group_id",
    "x_ckpc_h",
    "y_ckpc_h",
    "z_ckpc_h",
    "stellar_half_mass_radius_ckpc_h",
    "n_gas_group",
    "n_stars",
)
# The boundaries of shards are part of the format: these numbers change the maps' fingerprint.
#: Most galaxies in a shard.
SHARD_SIZE = 32
#: Most bytes of maps in a shard, which a worker holds in memory; one galaxy is always allowed.
_SHARD_BYTES = 64 * 2**20
#: Particles that a shard is worth, some seconds of work: what is lost when a process is killed.
_SHARD_COST = 30_000_000
#: What a galaxy costs whatever its size, in particles.
_GALAXY_COST = 100_000


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
    #: Shards of this part of the snapshot, those that this call made, and those of all parts.
    n_shards: int
    n_shards_made: int
    n_shards_of_all: int
    #: Whether all shards of the snapshot are there.
    is_complete: bool


@dataclass(frozen=True)
class RenderPlan:
    """What rendering a snapshot, or a part of it, would take."""

    snapshot: int
    n_galaxies: int
    n_groups: int
    n_cells: int
    n_stars: int
    #: Shards, and those of them that are there already.
    n_shards: int
    n_shards_there: int
    #: Bytes of particles that the shards to be made need, every group once.
    n_bytes: int


@dataclass(frozen=True)
class _Job:
    """What all shards of a snapshot are made with."""

    simulation: Simulation
    workspace: Workspace
    recipe: Recipe
    snapshot: int
    fingerprint: str
    #: Rows of the snapshot, and which of them each shard holds.
    rows: Table
    shards: tuple[NDArray[np.intp], ...]
    threads: int | None
    strict: bool

    @property
    def step(self) -> str:
        """Name of the step in the run's folder."""
        return f"maps-{self.snapshot:03d}"

    def path(self, index: int) -> Path:
        """File of a shard."""
        return self.workspace.shard(self.snapshot, index)

    def part(self, index: int) -> Table:
        """Rows of a shard."""
        return {name: column[self.shards[index]] for name, column in self.rows.items()}


@dataclass(frozen=True)
class _Task:
    """One shard; with ``wait``, also after another process that works on it."""

    index: int
    wait: bool = False


@dataclass(frozen=True)
class _Result:
    subhalo_id: int
    galaxy: Galaxy
    maps: GalaxyMaps


def plan_shards(rows: Table, recipe: MapsRecipe) -> tuple[NDArray[np.intp], ...]:
    """Cut the galaxies of a snapshot into shards of about the same cost.

    They are taken in the order of the files: group by group, and in a group subhalo by subhalo.
    A group is cut only where it has more galaxies than a shard may hold, so that its gas is read
    by one process, once.

    Parameters
    ----------
    rows : dict of str to ndarray
        Rows of ``sample.csv`` of one snapshot.
    recipe : MapsRecipe
        Pixels and channels: how large the maps are.

    Returns
    -------
    tuple of ndarray of int
        The rows of each shard; every row is in one of them.
    """
    order = np.lexsort((rows["subhalo_id"], rows["group_id"]))
    galaxy_bytes = 4 * len(recipe.channels) * recipe.pixels**2
    most = min(SHARD_SIZE, max(1, _SHARD_BYTES // galaxy_bytes))
    ends = np.cumsum(_costs(rows)[order])
    # some room below the limit, so that shards end where costs say
    usual = max(1, 3 * most // 4)
    fair = ends[-1] / max(-(-len(order) // usual), -(-int(ends[-1]) // _SHARD_COST))
    shards: list[list[int]] = []
    last = -1
    for start, stop in _blocks(rows["group_id"][order], most):
        begin = ends[start - 1] if start else 0
        place = int((begin + ends[stop - 1]) / 2 / fair)
        if place != last or len(shards[-1]) + stop - start > most:
            shards.append([])
        shards[-1] += order[start:stop].tolist()
        last = place
    return tuple(np.array(shard, np.intp) for shard in shards)


def _costs(rows: Table) -> NDArray[np.int64]:
    """Return what each galaxy costs, in particles."""
    return np.asarray(_GALAXY_COST + rows["n_gas_group"] + rows["n_stars"])


def _blocks(group_ids: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Yield start and stop of the runs of one group, cut where they are longer than allowed."""
    edges = np.flatnonzero(np.diff(group_ids)) + 1
    for start, stop in pairwise([0, *edges.tolist(), len(group_ids)]):
        for first in range(start, stop, most):
            yield first, min(first + most, stop)


def maps_fingerprint(workspace: Workspace, recipe: Recipe, sample: Table, snapshot: int) -> str:
    """Digest of everything that the maps of a snapshot depend on."""
    rows = sample["snapshot"] == snapshot
    return digest(
        {
            "rows": table_digest({name: sample[name][rows] for name in _READ_COLUMNS}),
            "format": 4,
            "shard": [SHARD_SIZE, _SHARD_BYTES, _SHARD_COST, _GALAXY_COST],
            "orientation": recipe.section("orientation"),
            "maps": recipe.section("maps"),
            "sample": workspace.fingerprint(f"select-{snapshot:03d}"),
        }
    )


def _rows(sample: Table, snapshot: int) -> Table:
    rows = {name: column[sample["snapshot"] == snapshot] for name, column in sample.items()}
    if len(rows["subhalo_id"]) == 0:
        raise EmptySelectionError(f"sample.csv has no galaxy in snapshot {snapshot}")
    return rows


def _share(
    shards: Sequence[NDArray[np.intp]], rows: Table, snapshot: int, part: tuple[int, int]
) -> tuple[int, ...]:
    """Return the shards of part i of N."""
    i, n = part
    costs = np.array([_costs(rows)[shard].sum() for shard in shards])
    return tuple(np.flatnonzero(plan_parts(costs, n, snapshot) == i - 1).tolist())


def plan_parts(costs: NDArray[Any], n: int, snapshot: int) -> NDArray[np.intp]:
    """Deal the shards of a snapshot out to N parts of about the same cost.

    A part has shards that lie one after the other. No part is empty where there are shards enough;
    where there are not, it is other parts from snapshot to snapshot that have none.

    Parameters
    ----------
    costs : ndarray, shape (shards,)
        What each shard costs, in any unit.
    n : int
        Number of parts.
    snapshot : int
        The snapshot.

    Returns
    -------
    ndarray of int, shape (shards,)
        The part of each shard, from 0.
    """
    count = len(costs)
    if count < n:
        places = np.arange(count) * n // count
    else:
        ends = np.concatenate([[0], np.cumsum(costs)])
        cuts: list[int] = []
        for k in range(1, n):
            nearest = int(np.argmin(np.abs(ends - k * ends[-1] / n)))
            # a shard for this part, and one for each that follows
            fewest = cuts[-1] + 1 if cuts else 1
            cuts.append(min(max(nearest, fewest), count - (n - k)))
        places = np.searchsorted(cuts, np.arange(count), side="right")
    return np.asarray((places + snapshot) % n)


def render_snapshot(
    simulation: Simulation,
    workspace: Workspace,
    recipe: Recipe,
    sample: Table,
    snapshot: int,
    *,
    workers: Workers | None = None,
    part: tuple[int, int] = (1, 1),
    threads: int | None = None,
    force: bool = False,
    strict: bool = False,
    allow_partial: bool = False,
    on_progress: Progress = silent,
) -> RenderSummary:
    """Write the maps of all galaxies of a snapshot's sample, shard by shard.

    A shard that is there with the same fingerprint is kept, so an interrupted run goes on where it
    stopped, and several processes, on several machines, may render a snapshot into one folder. A
    galaxy that cannot be rendered is recorded in its shard and in ``failures.csv``, and the batch
    goes on.

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
    workers : Workers or None
        Who renders the shards; None: this process.
    part : tuple of int
        i and N: only the i-th of N parts of the shards, of about equal cost, i from 1 to N.
    threads : int or None
        Threads of the kernels for each worker; None: what suits the workers. The files do not
        depend on it.
    force : bool
        Render even what is current.
    strict : bool
        Stop at the first galaxy that fails.
    allow_partial : bool
        Go on when chunks of the snapshot are missing; galaxies that lie in them fail.
    on_progress : callable
        Hears of galaxies and cells.

    Returns
    -------
    RenderSummary
        Counts and failures of the part.

    Raises
    ------
    EmptySelectionError
        The sample has no galaxy in this snapshot.
    DataMissingError
        The offsets, a chunk or a field is not there.
    ConfigError
        Another process renders the snapshot into this folder with other settings, or the frame
        is wider than the box.
    SfrError
        With ``strict``, what the first galaxy failed with.
    """
    rows = _rows(sample, snapshot)
    workers = workers or Serial()
    shards = plan_shards(rows, recipe.maps)
    mine = _share(shards, rows, snapshot, part)
    job = _Job(
        simulation,
        workspace,
        recipe,
        snapshot,
        maps_fingerprint(workspace, recipe, sample, snapshot),
        {name: rows[name] for name in _READ_COLUMNS},
        shards,
        threads,
        strict,
    )
    if (state := _state(job, force=force)).current:
        _say_what_changed(job)
        return _summarise(job, mine, "", 0)
    simulation.require(snapshot, particle_fields(recipe), allow_partial=allow_partial)
    check_frame(recipe.maps, simulation.header(snapshot))
    with ExitStack() as stack:
        with workspace.lock(job.step):
            sharing = workspace.sharing(job.step, job.fingerprint, alone=force)
            is_alone = stack.enter_context(sharing)
            if (now := _state(job, force=force)).current:
                # another process finished it while this one waited
                return _summarise(job, mine, "", 0)
            state = now
            workspace.forget(job.step)
            if is_alone:
                workspace.wait_for_claims(f"{job.step}-part-")
            _remove_stale(job, mine if is_alone else (), force=force)
            _keep_sources(job, is_new=is_alone and not workspace.shards(snapshot))
        made = _render(job, [i for i in mine if not job.path(i).is_file()], workers, on_progress)
        with workspace.lock(job.step):
            if not _state(job, force=False).current:
                _finish(job)
            return _summarise(job, mine, state.reason, made)


def plan_render(
    simulation: Simulation,
    workspace: Workspace,
    recipe: Recipe,
    sample: Table,
    snapshot: int,
    *,
    fingerprint: str,
    part: tuple[int, int] = (1, 1),
    force: bool = False,
    allow_partial: bool = False,
) -> RenderPlan:
    """Say what `render_snapshot` would do, from the sample and the smallest group.

    Parameters and errors are those of `render_snapshot`; ``fingerprint`` is that of the maps, and
    ``workspace`` holds the shards that are there already.

    Returns
    -------
    RenderPlan
        Counts, and the bytes that the shards to be made would read.
    """
    rows = _rows(sample, snapshot)
    shards = plan_shards(rows, recipe.maps)
    mine = _share(shards, rows, snapshot, part)
    simulation.require(snapshot, particle_fields(recipe), allow_partial=allow_partial)
    check_frame(recipe.maps, simulation.header(snapshot))
    paths = {i: workspace.shard(snapshot, i) for i in mine}
    there = [i for i in mine if not force and _is_current(paths[i], fingerprint)]
    chosen = _joined(shards[i] for i in mine)
    todo = _joined(shards[i] for i in mine if i not in there)
    return RenderPlan(
        snapshot,
        len(chosen),
        len(np.unique(rows["group_id"][chosen])),
        int(rows["n_gas_group"][chosen].sum()),
        int(rows["n_stars"][chosen].sum()),
        len(mine),
        len(there),
        _bytes_to_read(simulation, recipe, snapshot, {n: c[todo] for n, c in rows.items()}),
    )


def _joined(parts: Iterable[NDArray[np.intp]]) -> NDArray[np.intp]:
    return np.concatenate([np.empty(0, np.intp), *parts])


def _bytes_to_read(simulation: Simulation, recipe: Recipe, snapshot: int, rows: Table) -> int:
    """Count the bytes of the gas of each group and the stars of each subhalo."""
    if len(rows["subhalo_id"]) == 0:
        return 0
    fields = particle_fields(recipe)
    # types differ between full and mini snapshots; the smallest group shows them
    i = int(np.argmin(rows["n_gas_group"]))
    group_id, subhalo_id = int(rows["group_id"][i]), int(rows["subhalo_id"][i])
    gas_cells = simulation.particles(snapshot, "group", group_id, _GAS, fields[_GAS])
    stars = simulation.particles(snapshot, "subhalo", subhalo_id, _STARS, fields[_STARS])
    _, first = np.unique(rows["group_id"], return_index=True)
    return int(
        rows["n_gas_group"][first].sum() * _bytes_per_particle(gas_cells)
        + rows["n_stars"].sum() * _bytes_per_particle(stars)
    )


def _bytes_per_particle(particles: dict[str, NDArray[Any]]) -> int:
    return sum(
        values.itemsize * int(np.prod(values.shape[1:], dtype=int)) for values in particles.values()
    )


def _state(job: _Job, *, force: bool) -> StepState:
    """Say whether all maps are there; galaxies that may do better now are tried again."""
    state = job.workspace.check(job.step, job.fingerprint, force=force)
    if state.current:
        failures = read_table(job.workspace.failures_csv(job.snapshot), FAILURES)
        if _TRIED_AGAIN.intersection(failures["stage"].tolist()):
            reason = "files that could not be read are tried again"
            return StepState(current=False, reason=reason)
    return state


def _remove_stale(job: _Job, retry: Sequence[int], *, force: bool) -> None:
    """Remove shards of other settings, and of ``retry`` those with failures to try again."""
    if force:
        _outdate_what_is_made_of(job)
    kept = {job.path(index): index in retry for index in range(len(job.shards))}
    for path in job.workspace.shards(job.snapshot):
        if (
            force
            or path not in kept
            or not _is_current(path, job.fingerprint, or_failed=not kept[path])
        ):
            path.unlink(missing_ok=True)


def _outdate_what_is_made_of(job: _Job) -> None:
    """Let nothing that was made of the old maps count as current, should this be interrupted.

    The new ones have the same fingerprint, but may come from files that were replaced.
    """
    workspace = job.workspace
    for step in workspace.steps(f"images-{job.snapshot:03d}-part-"):
        workspace.forget(step)
    for step in ("normalisation", f"images-{job.snapshot:03d}"):
        if workspace.has_run(step):
            workspace.mark_done(step, "maps were made anew", ())


def _say_what_changed(job: _Job) -> None:
    """Say which files are not what finished maps were made from."""
    warn_of_changed_files(
        f"maps of snapshot {job.snapshot}",
        job.workspace.sources(job.step, job.fingerprint),
        job.simulation.source_path,
        f"sfr render --snap {job.snapshot} --force",
    )


def _keep_sources(job: _Job, *, is_new: bool) -> None:
    """Remember, before shards are made, what the files are that they are made from.

    Shards that are there already stand for the files as they were when the first was made.
    """
    _, first = np.unique(job.rows["group_id"], return_index=True)
    groups, cells = (job.rows[name][first] for name in ("group_id", "n_gas_group"))
    files = job.simulation.particle_sources(job.snapshot, "group", _GAS, groups, cells)
    subhalos, stars = job.rows["subhalo_id"], job.rows["n_stars"]
    files |= job.simulation.particle_sources(job.snapshot, "subhalo", _STARS, subhalos, stars)
    marks = mark_files(files)
    if not is_new:
        _say_what_changed(job)
        marks |= job.workspace.sources(job.step, job.fingerprint)
    job.workspace.keep_sources(job.step, job.fingerprint, marks)


def _forget_bad_sources(job: _Job, failures: Table) -> None:
    """Let no file that failed count as one that maps were made from: it will be fetched again."""
    known = job.workspace.sources(job.step, job.fingerprint)
    reasons = "\n".join(failures["reason"].tolist())
    good = {name: mark for name, mark in known.items() if Path(name).name not in reasons}
    if good != known:
        job.workspace.keep_sources(job.step, job.fingerprint, good)


def _is_current(path: Path, fingerprint: str, *, or_failed: bool = False) -> bool:
    """Whether a shard is whole, made with these settings, and of files that could be read."""
    try:
        shard = read_shard(path, with_maps=False, columns=())
    except (DataFormatError, DataMissingError):
        return False
    if shard.attributes["fingerprint"] != fingerprint:
        return False
    return or_failed or not _TRIED_AGAIN.intersection(shard.failures["stage"].tolist())


def _render(job: _Job, missing: list[int], workers: Workers, on_progress: Progress) -> int:
    """Make shards, first those that no other process works on; return how many this one made."""
    job = replace(job, threads=job.threads or workers.threads(len(missing)))
    tally = _Tally(job, missing, on_progress)
    made, busy = 0, []
    for task, state in run_all(workers, _make_shard, job, list(map(_Task, missing)), tally):
        if state == "busy":
            busy.append(_Task(task.index, wait=True))
        else:
            made += _account(job, task, state, tally)
    if busy:
        log.warning(
            "waiting for another sfr process that renders %d of %d shards of snapshot %d",
            len(busy),
            len(job.shards),
            job.snapshot,
        )
    for task, state in run_all(workers, _make_shard, job, busy, tally):
        made += _account(job, task, state, tally)
    # of workers that were killed
    job.workspace.clean_scratch()
    return made


def _account(job: _Job, task: _Task, state: _ShardState | WorkerLostError, tally: _Tally) -> bool:
    """Count a shard that was made; one whose process died twice consists of failures."""
    if isinstance(state, WorkerLostError):
        log.warning("snapshot %d, shard %d: %s", job.snapshot, task.index, state)
        failures = [(int(i), _WORKER, str(state)) for i in job.part(task.index)["subhalo_id"]]
        with job.workspace.claim(_claim_name(job, task.index), wait=True):
            write_shard(job.workspace, job.path(task.index), _shard(job, [], failures))
    # not all workers tell how far they are inside a shard
    tally(task, len(job.shards[task.index]))
    return state != "there"


class _Tally:
    """Counts galaxies and cells over the shards that are made, in whatever order they come."""

    def __init__(self, job: _Job, missing: Sequence[int], on_progress: Progress) -> None:
        cells = job.rows["n_gas_group"]
        self._label = f"maps {job.snapshot}"
        self._on_progress = on_progress
        self._cells = {i: np.cumsum([0, *cells[job.shards[i]]]) for i in missing}
        self._done = dict.fromkeys(missing, 0)
        self._total = (
            sum(len(job.shards[i]) for i in missing),
            sum(int(total[-1]) for total in self._cells.values()),
        )
        self._galaxies = self._n_cells = 0
        if missing:
            self._report()

    def __call__(self, task: _Task, done: int) -> None:
        before, cells = self._done[task.index], self._cells[task.index]
        if done == before:
            return
        self._done[task.index] = done
        self._galaxies += done - before
        self._n_cells += int(cells[done] - cells[before])
        self._report()

    def _report(self) -> None:
        galaxies, cells = self._total
        self._on_progress(self._label, self._galaxies, galaxies, cells=(self._n_cells, cells))


_ShardState = Literal["made", "there", "busy"]


def _claim_name(job: _Job, index: int) -> str:
    return f"{job.step}-part-{index:05d}"


def _make_shard(job: _Job, task: _Task, on_done: Callable[[int], None]) -> _ShardState:
    """Make one shard, unless it is there or another process works on it; in any process."""
    path = job.path(task.index)
    n = len(job.shards[task.index])
    with job.workspace.claim(_claim_name(job, task.index), wait=task.wait) as is_ours:
        if not is_ours:
            return "busy"
        if path.is_file():
            on_done(n)
            return "there"
        write_shard(job.workspace, path, _render_shard(job, job.part(task.index), on_done))
        return "made"


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
            if dropped := said_of_dropped(maps, job.recipe.maps.channels):
                log.warning("snapshot %d subhalo %d: %s", job.snapshot, subhalo_id, dropped)
            results.append(_Result(subhalo_id, galaxy, maps))
        except (SfrError, OSError, MemoryError) as error:
            stage, reason = _explain(error)
            if job.strict:
                kind = type(error) if isinstance(error, SfrError) else DataFormatError
                where = f"snapshot {job.snapshot} subhalo {subhalo_id}"
                raise kind(f"{where}: {reason}") from error
            log.warning("snapshot %d subhalo %d: %s", job.snapshot, subhalo_id, reason)
            root = job.simulation.source_path(".")
            failures.append((subhalo_id, stage, bare(reason, root)))
        on_done(i + 1)
    return _shard(job, results, failures)


def _explain(error: Exception) -> tuple[str, str]:
    """Return the stage and the reason of a galaxy's failure."""
    if isinstance(error, MemoryError):
        return _MEMORY, "not enough memory for its particles; fewer --workers leave more for each"
    if isinstance(error, OSError):
        return _READ, str(error)
    return FOR_GOOD, str(error)


def _shard(
    job: _Job, results: Sequence[_Result], failures: Sequence[tuple[int, str, str]]
) -> Shard:
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
    # the first pass of the normalisation reads these instead of the maps
    peaks = [np.nanmax(r.maps.maps, axis=(1, 2), initial=-np.inf) for r in results]
    columns["channel_maximum"] = _stack(peaks, channels, np.float32)
    for extreme, reduce in (("maximum", np.max), ("minimum", np.min)):
        values = [[reduce(np.nan_to_num(c)) for c in r.maps.candidates] for r in results]
        columns[f"candidate_{extreme}"] = _stack(values, candidates, np.float64)
    return columns


def _attributes(job: _Job) -> dict[str, object]:
    maps, header = job.recipe.maps, job.simulation.header(job.snapshot)
    attributes: dict[str, object] = {}
    for kind, channels in (("channel", maps.channels), ("candidate", maps.candidates)):
        gas_in = maps.star_forming_gas
        texts = (
            fields.names(channels),
            [fields.channel_unit(channel, star_forming_gas=gas_in) for channel in channels],
        )
        for what, values in zip(("names", "units"), texts, strict=True):
            # h5py cannot store an empty list of strings
            attributes[f"{kind}_{what}"] = values or np.array([], "S1")
    return attributes | {
        "pixel_scale_ckpc_h": maps.pixel_ckpc_h,
        "width_ckpc_h": maps.width_ckpc_h,
        "axes": "maps[galaxy, channel, y, x]; y upwards, z (line of sight) along the spin",
        "frame": "q = rotation @ (box position - centre), periodic offsets, comoving kpc/h",
        "simulation": header.simulation_name,
        "snapshot": job.snapshot,
        "scale_factor": header.scale_factor,
        "hubble_param": header.hubble_param,
        "settings": json.dumps(maps_settings(maps, job.recipe.orientation)),
        "fingerprint": job.fingerprint,
        "sfr_version": __version__,
    }


def _summarise(job: _Job, mine: Sequence[int], reason: str, made: int) -> RenderSummary:
    n_rendered = n_cells = 0
    failures: list[tuple[int, str]] = []
    for index in mine:
        shard = _read_checked(job, index)
        n_rendered += len(shard.columns["n_read"])
        n_cells += int(shard.columns["n_read"].sum())
        pairs = (shard.failures[name].tolist() for name in ("subhalo_id", "reason"))
        failures += zip(*pairs, strict=True)
    return RenderSummary(
        job.snapshot,
        n_rendered,
        len(failures),
        n_cells,
        job.fingerprint,
        reason,
        tuple(failures),
        len(mine),
        made,
        len(job.shards),
        all(job.path(index).is_file() for index in range(len(job.shards))),
    )


def _read_checked(job: _Job, index: int) -> Shard:
    shard = read_shard(job.path(index), with_maps=False, columns=["n_read"])
    if shard.attributes["fingerprint"] != job.fingerprint:
        raise DataFormatError(
            f"{job.path(index)} was replaced by another process with other settings; run the "
            "command again"
        )
    return shard


def _finish(job: _Job) -> None:
    """Write what is known of all shards, once they are there, whoever made them."""
    paths = [job.path(index) for index in range(len(job.shards))]
    if not all(path.is_file() for path in paths):
        return
    found = [_read_checked(job, index).failures for index in range(len(paths))]
    table = {name: np.concatenate([failures[name] for failures in found]) for name in FAILURES}
    failures_csv = job.workspace.failures_csv(job.snapshot)
    write_table(job.workspace, failures_csv, table)
    _forget_bad_sources(job, table)
    job.workspace.mark_done(job.step, job.fingerprint, [*paths, failures_csv])
    job.workspace.remove_locks(f"{job.step}-part-")
