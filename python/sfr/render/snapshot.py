"""The maps of a snapshot's galaxies, a step whose parts are shards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sfr.compute.tasks import Workers
from sfr.errors import DataFormatError, DataMissingError, SfrError, WorkerLostError
from sfr.paths import mark_files, warn_of_changed_files
from sfr.progress import Progress, silent
from sfr.recipe import Recipe
from sfr.render.fields import PARTICLES, shown
from sfr.render.plan import (
    READ_COLUMNS,
    Reading,
    bytes_to_read,
    maps_fingerprint,
    particles_shown,
    plan_shards,
    readings,
    rows_of,
    share_of,
)
from sfr.render.project import check_frame, particle_fields
from sfr.render.shard import TRIED_AGAIN, ShardWork
from sfr.run.parts import Parts, do_parts
from sfr.run.shards import Shard, read_shard, write_shard
from sfr.run.tables import FAILURES, Table, read_table, write_table
from sfr.run.workspace import Workspace
from sfr.simulation.protocol import Simulation

__all__ = ["RenderPlan", "RenderSummary", "plan_render", "render_snapshot"]


@dataclass(frozen=True)
class RenderSummary:
    """What happened to the maps of one snapshot."""

    snapshot: int
    #: Galaxies, whatever their views.
    n_rendered: int
    n_failed: int
    #: Particles of the kind that the maps show, read for each galaxy; and what they are.
    n_particles: int
    particles: str
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
    #: Particles of the kind that the maps show, for each galaxy; and what they are.
    n_particles: int
    particles: str
    n_stars: int
    #: Shards, and those of them that are there already.
    n_shards: int
    n_shards_there: int
    #: Bytes of particles that the shards to be made need, every group once.
    n_bytes: int


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
    rows = rows_of(sample, snapshot)
    fingerprint = maps_fingerprint(workspace, recipe, sample, snapshot)
    step = _maps(
        ShardWork(simulation, recipe, snapshot, fingerprint, threads, strict),
        workspace,
        rows,
        allow_partial=allow_partial,
    )
    mine = share_of(step.shards, rows, snapshot, part)
    done = do_parts(step, mine, workers=workers, force=force, on_progress=on_progress)
    if not done.reason:
        step.say_what_changed()
    return step.summary(mine, done.reason, len(done.made) + len(done.failed))


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
    rows = rows_of(sample, snapshot)
    work = ShardWork(simulation, recipe, snapshot, fingerprint, threads=None, strict=False)
    step = _maps(work, workspace, rows, allow_partial=allow_partial)
    mine = share_of(step.shards, rows, snapshot, part)
    step.require()
    there = [i for i in mine if not force and step.is_there(i) and not step.is_tried_again(i)]
    chosen = _joined(step.shards[i] for i in mine)
    todo = _joined(step.shards[i] for i in mine if i not in there)
    return RenderPlan(
        snapshot,
        len(chosen),
        len(np.unique(rows["group_id"][chosen])),
        int(step.shown[chosen].sum()),
        step.particles,
        int(rows["n_stars"][chosen].sum()),
        len(mine),
        len(there),
        bytes_to_read(simulation, snapshot, step.readings(todo)),
    )


def _joined(shards: Iterable[NDArray[np.intp]]) -> NDArray[np.intp]:
    return np.concatenate([np.empty(0, np.intp), *shards])


def _maps(work: ShardWork, workspace: Workspace, rows: Table, *, allow_partial: bool) -> _Maps:
    shards = plan_shards(rows, work.recipe.maps)
    return _Maps(
        workspace=workspace,
        step=f"maps-{work.snapshot:03d}",
        fingerprint=work.fingerprint,
        count=len(shards),
        label=f"maps {work.snapshot}",
        words=f"shards of snapshot {work.snapshot}",
        work=work,
        rows={name: rows[name] for name in READ_COLUMNS},
        shown=particles_shown(
            work.simulation, work.recipe, work.snapshot, rows, allow_partial=allow_partial
        ),
        shards=shards,
        allow_partial=allow_partial,
    )


@dataclass(frozen=True, kw_only=True)
class _Maps(Parts[None]):
    """The maps of a snapshot: a part is a shard, whose file holds its fingerprint."""

    work: ShardWork
    #: Rows of the snapshot, and which of them each shard holds.
    rows: Table
    #: Particles of each row's group that the channels show.
    shown: NDArray[np.int64]
    shards: tuple[NDArray[np.intp], ...]
    allow_partial: bool

    @property
    def snapshot(self) -> int:
        return self.work.snapshot

    @property
    def particles(self) -> str:
        """What the maps show, such as gas cells."""
        return PARTICLES[shown(self.work.recipe.maps)].particles

    def path(self, part: int) -> Path:
        return self.workspace.shard(self.snapshot, part)

    def rows_in(self, part: int) -> Table:
        return {name: column[self.shards[part]] for name, column in self.rows.items()}

    # -- what `do_parts` asks for ----------------------------------------------------------------

    def require(self) -> None:
        source, recipe = self.work.simulation, self.work.recipe
        source.require(self.snapshot, particle_fields(recipe), allow_partial=self.allow_partial)
        check_frame(recipe.maps, source.header(self.snapshot))

    def is_there(self, part: int) -> bool:
        try:
            return self._columns(part).attributes["fingerprint"] == self.fingerprint
        except (DataFormatError, DataMissingError):
            return False

    def is_tried_again(self, part: int) -> bool:
        return not TRIED_AGAIN.isdisjoint(self._columns(part).failures["stage"].tolist())

    def why_again(self) -> str:
        failures = read_table(self.workspace.failures_csv(self.snapshot), FAILURES)
        is_open = not TRIED_AGAIN.isdisjoint(failures["stage"].tolist())
        return "files that could not be read are tried again" if is_open else ""

    def prepare(self, kept: Collection[int], *, force: bool) -> None:
        if force:
            # the new maps have the same fingerprint, but may come from files that were replaced
            for step in ("normalisation", f"images-{self.snapshot:03d}"):
                self.workspace.outdate(step, "maps were made anew")
        paths = {self.path(part) for part in kept}
        for path in self.workspace.shards(self.snapshot):
            if path not in paths:
                path.unlink(missing_ok=True)
        self._keep_sources(is_new=not kept)

    def with_threads(self, threads: int | None) -> Self:
        return replace(self, work=replace(self.work, threads=self.work.threads or threads))

    def size(self, part: int) -> int:
        return len(self.shards[part])

    def cells(self, part: int, done: int) -> int:
        return int(self._cells[part][done])

    @cached_property
    def _cells(self) -> list[NDArray[np.int64]]:
        """Cells before each galaxy of each shard."""
        return [np.cumsum([0, *self.shown[shard]]) for shard in self.shards]

    def make(self, part: int, on_done: Callable[[int], None]) -> None:
        shard = self.work.make(self.rows_in(part), on_done)
        write_shard(self.workspace, self.path(part), shard)

    def give_up(self, part: int, error: SfrError) -> None:
        """Let a shard whose worker was lost consist of failures; all else ends the command."""
        if not isinstance(error, WorkerLostError):
            raise error
        shard = self.work.give_up(self.rows_in(part), str(error))
        write_shard(self.workspace, self.path(part), shard)

    def finish(self) -> list[Path]:
        """Write the table of failures of all shards, whoever made them."""
        found = [self._checked(part).failures for part in range(self.count)]
        table = {name: np.concatenate([failures[name] for failures in found]) for name in FAILURES}
        failures_csv = self.workspace.failures_csv(self.snapshot)
        write_table(self.workspace, failures_csv, table)
        self._forget_bad_sources(table)
        return [*map(self.path, range(self.count)), failures_csv]

    # -- what the maps were made from ------------------------------------------------------------

    def say_what_changed(self) -> None:
        """Say which files are not what finished maps were made from."""
        warn_of_changed_files(
            f"maps of snapshot {self.snapshot}",
            self.workspace.sources(self.step, self.fingerprint),
            self.work.simulation.source_path,
            f"sfr render --snap {self.snapshot} --force",
        )

    def readings(self, which: NDArray[np.intp] | slice = np.s_[:]) -> list[Reading]:
        """Say what is read for some rows, or for all."""
        return readings(
            self.work.simulation,
            self.work.recipe,
            self.snapshot,
            {name: column[which] for name, column in self.rows.items()},
            allow_partial=self.allow_partial,
        )

    def _keep_sources(self, *, is_new: bool) -> None:
        """Remember, before shards are made, what the files are that they are made from.

        Shards that are there already stand for the files as they were when the first was made.
        """
        files: dict[str, Path] = {}
        for read in self.readings():
            files |= self.work.simulation.particle_sources(
                self.snapshot, read.kind, read.part_type, read.ids, read.lengths
            )
        marks = mark_files(files)
        if not is_new:
            self.say_what_changed()
            marks |= self.workspace.sources(self.step, self.fingerprint)
        self.workspace.keep_sources(self.step, self.fingerprint, marks)

    def _forget_bad_sources(self, failures: Table) -> None:
        """Let no file that failed count as one that maps were made from: it is fetched again."""
        known = self.workspace.sources(self.step, self.fingerprint)
        reasons = "\n".join(failures["reason"].tolist())
        good = {name: mark for name, mark in known.items() if Path(name).name not in reasons}
        if good != known:
            self.workspace.keep_sources(self.step, self.fingerprint, good)

    # -- what is there ---------------------------------------------------------------------------

    def summary(self, mine: Sequence[int], reason: str, n_made: int) -> RenderSummary:
        """Say what is in some of the shards."""
        rendered: set[int] = set()
        n_particles = 0
        failures: list[tuple[int, str]] = []
        for part in mine:
            shard = self._checked(part)
            rendered.update(shard.columns["subhalo_id"].tolist())
            n_particles += int(shard.columns["n_read"].sum())
            pairs = (shard.failures[name].tolist() for name in ("subhalo_id", "reason"))
            failures += zip(*pairs, strict=True)
        return RenderSummary(
            self.snapshot,
            len(rendered),
            len({galaxy for galaxy, _ in failures}),
            n_particles,
            self.particles,
            self.fingerprint,
            reason,
            tuple(failures),
            len(mine),
            n_made,
            self.count,
            all(self.path(part).is_file() for part in range(self.count)),
        )

    def _columns(self, part: int) -> Shard:
        return read_shard(self.path(part), with_maps=False, columns=("subhalo_id", "n_read"))

    def _checked(self, part: int) -> Shard:
        shard = self._columns(part)
        if shard.attributes["fingerprint"] != self.fingerprint:
            raise DataFormatError(
                f"{self.path(part)} was replaced by another process with other settings; run the "
                "command again"
            )
        return shard
