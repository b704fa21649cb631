"""A run's folder at work: what its steps share, and the line that each leaves in the log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from sfr.compute.dask import DaskWorkers
from sfr.compute.processes import Processes
from sfr.errors import ConfigError
from sfr.pipeline.record import NOT_THE_EXPERIMENT, provenance, take_over
from sfr.pipeline.workers import open_workers
from sfr.progress import Progress, silent
from sfr.recipe import Recipe
from sfr.run.workspace import RECIPE, Workspace, digest
from sfr.simulation import Simulation, open_simulation

__all__ = ["Options", "Run"]

_NO_SIMULATION = (
    "no simulation is configured; give --sim PATH (TNG50-1 or TNG50-1/output), set SFR_SIM, or "
    "write simulation = PATH in the recipe; sfr demo runs without one"
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the steps work; what they make does not depend on it.

    Attributes
    ----------
    workers : int or None
        Processes that render; None: as many as there are cores and memory for.
    scheduler : str or None
        Address of a running Dask scheduler, whose workers do the work instead.
    threads : int or None
        Threads of each worker; None: the cores shared out.
    part : tuple of int
        Part i of N of the maps, i from 1.
    force : bool
        Render and train even what is current.
    strict : bool
        Stop at the first galaxy that fails.
    allow_partial : bool
        Work with the chunks of the simulation that are there.
    mapped : bool
        Map the files of particles instead of reading them.
    pictures : bool
        Make PNG images of the maps.
    """

    workers: int | None = None
    scheduler: str | None = None
    threads: int | None = None
    part: tuple[int, int] = (1, 1)
    force: bool = False
    strict: bool = False
    allow_partial: bool = False
    mapped: bool = True
    pictures: bool = True


@dataclass
class Run:
    """A run's folder at work; use it in a ``with`` block.

    Each step is a function of its own module, which has a run as its first argument;
    `sfr.pipeline.opening` opens runs.

    Attributes
    ----------
    workspace : Workspace
        The folder.
    recipe : Recipe
        The experiment.
    options : Options
        How the steps work.
    simulation_path : Path or None
        Of the simulation; None: the recipe's.
    on_progress : callable
        Hears of how far a step is.
    command : str
        What ``run.jsonl`` says was called.
    failures : list of str
        Galaxies, snapshots and heads that failed so far while the others went on.
    """

    workspace: Workspace
    recipe: Recipe
    options: Options = field(default_factory=Options)
    simulation_path: Path | None = None
    on_progress: Progress = silent
    command: str = "python"
    failures: list[str] = field(default_factory=list)
    #: What is said once.
    said: set[str] = field(default_factory=set)
    _workers: Processes | DaskWorkers | None = None
    _simulation: Simulation | None = None
    _holds: ExitStack = field(default_factory=ExitStack)
    _held: set[tuple[str, str]] = field(default_factory=set)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, close the simulation, and let others into the folder."""
        self.end_workers()
        if self._simulation is not None:
            self._simulation.close()
            self._simulation = None
        self._holds.close()
        self._held.clear()

    @property
    def simulation(self) -> Simulation:
        """The configured simulation, opened once."""
        if self._simulation is None:
            path = self.simulation_path or self.recipe.simulation
            if path is None:
                raise ConfigError(_NO_SIMULATION)
            self._simulation = open_simulation(path, mapped=self.options.mapped)
        return self._simulation

    @property
    def workers(self) -> Processes | DaskWorkers:
        """Who renders, found once and kept for all snapshots."""
        if self._workers is None:
            self._workers = open_workers(
                workers=self.options.workers,
                threads=self.options.threads,
                scheduler=self.options.scheduler,
            )
        return self._workers

    def end_workers(self) -> None:
        """Give their memory back; the next step that needs them finds them again."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    def hold(self, what: str, fingerprint: str) -> None:
        """Keep others with something else out of the folder, until the run is closed.

        Raises
        ------
        ConfigError
            Another process is at work with something else, or at all with ``force``.
        """
        if (what, fingerprint) not in self._held:
            with self.workspace.lock(what):
                sharing = self.workspace.sharing(what, fingerprint, alone=self.options.force)
                self._holds.enter_context(sharing)
            self._held.add((what, fingerprint))

    @contextmanager
    def step(self, name: str, *sections: str, locked: bool = True) -> Iterator[dict[str, Any]]:
        """Hold the step's lock and leave a line in run.jsonl, however it ends.

        When it is done, recipe.toml takes over the sections that it used.

        Parameters
        ----------
        name : str
            The step, for example ``maps-099``.
        *sections : str
            Sections of the recipe that it uses.
        locked : bool
            Whether one process at a time does it.

        Yields
        ------
        dict
            The line, for what else there is to tell.
        """
        # from the first step on: looking at a run needs no hold
        experiment = {k: v for k, v in self.recipe.to_dict().items() if k not in NOT_THE_EXPERIMENT}
        self.hold(RECIPE, digest([experiment, self.options.force]))
        start = time.monotonic()
        record: dict[str, Any] = {"step": name, "outcome": "failed"}
        try:
            with self.workspace.lock(name) if locked else nullcontext():
                yield record
            take_over(self.workspace, self.recipe, sections)
            record["outcome"] = "done"
        except BaseException as error:
            record["error"] = f"{type(error).__name__}: {error}"
            raise
        finally:
            record["seconds"] = round(time.monotonic() - start, 3)
            known = provenance(self.options.threads)
            known |= {"command": self.command, "recipe": self.recipe.name}
            self.workspace.log({**known, **record})
