"""A step in parts: check, claim, work, lost worker, clean up, done, tally, for whatever is made.

One rule of resumption holds for all such steps:

- A part is there when its files are whole and were made with the step's fingerprint. What is
  there is kept, whoever made it and however the command ended; all else is removed first.
- Processes that share a folder and a fingerprint share the parts: each makes what nobody else
  works on, and waits for the busy ones last.
- A worker that is killed costs its part. The part is made once more, and then given up.
- What failed for a reason that may be gone (`Parts.is_tried_again`) is made again by the next
  command that works alone.
- The step is done once all of its parts are there, and whoever finds that so first finishes it.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar

from sfr.compute.tasks import Serial, Workers, run_all
from sfr.errors import SfrError, WorkerLostError
from sfr.progress import Progress, silent
from sfr.run.workspace import StepState, Workspace

__all__ = ["Parts", "PartsDone", "do_parts"]

log = logging.getLogger(__name__)

MadeT = TypeVar("MadeT")


@dataclass(frozen=True, kw_only=True)
class Parts(ABC, Generic[MadeT]):
    """A step whose parts are numbered from 0, the same in every process; pickled for workers.

    Attributes
    ----------
    workspace : Workspace
        The run's folder.
    step : str
        Name of the step, such as ``maps-099``.
    fingerprint : str
        Digest of all that the parts are made with.
    count : int
        How many parts the step has.
    label : str
        What progress is shown under, such as ``maps 99``.
    words : str
        What the parts are, such as ``shards of snapshot 99``.
    """

    workspace: Workspace
    step: str
    fingerprint: str
    count: int
    label: str
    words: str

    @abstractmethod
    def make(self, part: int, on_done: Callable[[int], None]) -> MadeT:
        """Make a part, in any process; its files are whole or absent.

        ``on_done`` hears how much of the part's `size` is done. What is returned is small. An
        `SfrError` is given to `give_up`, any other ends the command.
        """

    @abstractmethod
    def finish(self) -> Iterable[Path]:
        """Write what is known once all parts are there; return the files the step answers for."""

    def is_there(self, part: int) -> bool:
        """Whether a part is whole and of this fingerprint: by what `record` kept, if not by more.

        Steps whose files tell by themselves look at those.
        """
        return self.workspace.check(self.name(part), self.fingerprint).current

    def record(self, part: int, files: Iterable[Path]) -> None:
        """Keep, at the end of `make`, that a part is there, for files that cannot tell."""
        self.workspace.mark_done(self.name(part), self.fingerprint, files)

    def size(self, part: int) -> int:
        """How much there is to do in a part, in the unit of progress: galaxies, images, bytes."""
        return 1

    def cells(self, part: int, done: int) -> int:
        """Gas cells behind so much of a part, where they tell the time left better."""
        return 0

    def require(self) -> None:
        """Raise where the parts cannot be made, before anything is thrown away for them."""

    def prepare(self, kept: Collection[int], *, force: bool) -> None:
        """Remove all files of the step but those of the parts that are kept.

        Called while no other process works on the step, before parts are made.
        """

    def why_again(self) -> str:
        """Say why a step that is done has parts to try again; empty where it has none."""
        return ""

    def is_tried_again(self, part: int) -> bool:
        """Whether a part that is there holds failures that another try may mend."""
        return False

    def with_threads(self, threads: int | None) -> Self:
        """Return the step for workers that may use so many threads each (None: all cores)."""
        return self

    def give_up(self, part: int, error: SfrError) -> None:
        """Say what a part costs that failed, or lost its process twice: all, unless overridden.

        Where this returns, the other parts go on.
        """
        raise error

    def name(self, part: int) -> str:
        """Name of a part's record and claim."""
        return f"{_prefix(self)}{part:05d}"


@dataclass(frozen=True)
class PartsDone(Generic[MadeT]):
    """What `do_parts` did.

    Attributes
    ----------
    reason : str
        Why there was something to do; empty where all was there.
    made : dict of int to object
        What `Parts.make` returned of the parts that this call made.
    failed : dict of int to SfrError
        Parts that were given up.
    is_complete : bool
        Whether all parts of the step are there.
    """

    reason: str
    made: dict[int, MadeT] = field(default_factory=dict)
    failed: dict[int, SfrError] = field(default_factory=dict)
    is_complete: bool = True


def do_parts(
    step: Parts[MadeT],
    parts: Sequence[int] | None = None,
    *,
    workers: Workers | None = None,
    force: bool = False,
    on_progress: Progress = silent,
) -> PartsDone[MadeT]:
    """Make the parts of a step that are not there, and finish the step once all are.

    Parameters
    ----------
    step : Parts
        The step.
    parts : sequence of int or None
        Only these; None: all.
    workers : Workers or None
        Who makes them; None: this process.
    force : bool
        Make even what is there; nobody else may work on the step meanwhile.
    on_progress : callable
        Hears of what is done of the parts that were not there.

    Returns
    -------
    PartsDone
        What was made, and whether the step is done.

    Raises
    ------
    ConfigError
        Another process works on the step with another fingerprint, or at all with ``force``.
    SfrError
        What `Parts.require` or `Parts.give_up` raise.
    """
    workspace = step.workspace
    if _state(step, force=force).current:
        return PartsDone("")
    step.require()
    wanted = range(step.count) if parts is None else parts
    with ExitStack() as stack:
        with workspace.lock(step.step):
            sharing = workspace.sharing(step.step, step.fingerprint, alone=force)
            is_alone = stack.enter_context(sharing)
            state = _state(step, force=force)
            if state.current:
                # another process finished it while this one waited
                return PartsDone("")
            workspace.forget(step.step)
            if is_alone:
                workspace.wait_for_claims(_prefix(step))
            there = _there(step, wanted if is_alone else (), force=force)
            if is_alone:
                _forget_others(step, there)
                step.prepare(there, force=force)
        missing = [part for part in wanted if part not in there]
        made, failed = _make(step, missing, workers or Serial(), on_progress)
        # of workers that were killed
        workspace.clean_scratch()
        with workspace.lock(step.step):
            unsure = {*range(step.count)} - {*wanted} | failed.keys()
            is_complete = all(step.is_there(part) for part in sorted(unsure))
            if is_complete and not workspace.check(step.step, step.fingerprint).current:
                workspace.mark_done(step.step, step.fingerprint, step.finish())
                workspace.remove_locks(_prefix(step))
    return PartsDone(state.reason, made, failed, is_complete)


def _prefix(step: Parts[Any]) -> str:
    return f"{step.step}-part-"


def _state(step: Parts[Any], *, force: bool) -> StepState:
    """Say whether the step is done, with nothing to try again."""
    state = step.workspace.check(step.step, step.fingerprint, force=force)
    if state.current and (why := step.why_again()):
        return StepState(current=False, reason=why)
    return state


def _there(step: Parts[Any], wanted: Sequence[int], *, force: bool) -> set[int]:
    """Return the parts that are there, without those of ``wanted`` that are tried again."""
    if force:
        return set()
    there = set(filter(step.is_there, range(step.count)))
    return there - {part for part in there.intersection(wanted) if step.is_tried_again(part)}


def _forget_others(step: Parts[Any], kept: Collection[int]) -> None:
    """Forget the records of all parts but these, of other fingerprints too."""
    names = {step.name(part) for part in kept}
    for name in step.workspace.steps(_prefix(step)):
        if name not in names:
            step.workspace.forget(name)


def _make(
    step: Parts[MadeT], missing: Sequence[int], workers: Workers, on_progress: Progress
) -> tuple[dict[int, MadeT], dict[int, SfrError]]:
    """Make parts, first those that no other process works on."""
    tally = _Tally(step, missing, on_progress)
    step = step.with_threads(workers.threads(len(missing)))
    made: dict[int, MadeT] = {}
    failed: dict[int, SfrError] = {}
    busy: list[_Task] = []
    for task, result in _rounds(step, missing, workers, busy, tally):
        if result.error is not None:
            with step.workspace.claim(step.name(task.part), wait=True):
                if not step.is_there(task.part):
                    step.give_up(task.part, result.error)
                    log.warning("%s, number %d: %s", step.words, task.part, result.error)
                    failed[task.part] = result.error
        elif result.state == "busy":
            busy.append(_Task(task.part, wait=True))
            continue
        elif result.state == "made":
            made[task.part] = result.made
        # not all workers tell how far they are inside a part
        tally(task, step.size(task.part))
    return made, failed


def _rounds(
    step: Parts[Any], missing: Sequence[int], workers: Workers, busy: list[_Task], tally: _Tally
) -> Iterator[tuple[_Task, _Result]]:
    """Yield results of the parts that are free, then of those that were busy."""
    for tasks in (list(map(_Task, missing)), busy):
        if tasks is busy and busy:
            log.warning(
                "waiting for another sfr process that makes %d of %d %s",
                len(busy),
                step.count,
                step.words,
            )
        for task, result in run_all(workers, _make_one, step, tuple(tasks), tally):
            if isinstance(result, WorkerLostError):
                yield task, _Result("failed", error=result)
            else:
                yield task, result


@dataclass(frozen=True)
class _Task:
    """One part; with ``wait``, also after another process that works on it."""

    part: int
    wait: bool = False


@dataclass(frozen=True)
class _Result:
    state: Literal["made", "there", "busy", "failed"]
    made: Any = None
    error: SfrError | None = None


def _make_one(step: Parts[Any], task: _Task, on_done: Callable[[int], None]) -> _Result:
    """Make one part, unless it is there or another process works on it; in any process."""
    with step.workspace.claim(step.name(task.part), wait=task.wait) as is_ours:
        if not is_ours:
            return _Result("busy")
        if step.is_there(task.part):
            return _Result("there")
        try:
            return _Result("made", step.make(task.part, on_done))
        except SfrError as error:
            return _Result("failed", error=error)


class _Tally:
    """Counts what is done over the parts that are made, in whatever order they come."""

    def __init__(self, step: Parts[Any], missing: Sequence[int], on_progress: Progress) -> None:
        self._step = step
        self._on_progress = on_progress
        self._done = dict.fromkeys(missing, 0)
        sizes = {part: step.size(part) for part in missing}
        self._total = sum(sizes.values())
        self._all_cells = sum(step.cells(part, size) for part, size in sizes.items())
        self._n = self._cells = 0
        if missing:
            self._report()

    def __call__(self, task: _Task, done: int) -> None:
        part, before = task.part, self._done[task.part]
        if done == before:
            return
        self._done[part] = done
        self._n += done - before
        self._cells += self._step.cells(part, done) - self._step.cells(part, before)
        self._report()

    def _report(self) -> None:
        cells = (self._cells, self._all_cells) if self._all_cells else None
        self._on_progress(self._step.label, self._n, self._total, cells=cells)
