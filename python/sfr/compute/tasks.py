"""Units of work, and who does them: steps know this protocol, and nothing of who works."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from sfr.errors import WorkerLostError

__all__ = ["OnDone", "Serial", "Work", "Workers", "run_all"]

JobT = TypeVar("JobT")
TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

#: A function of a module: what all tasks share, one task, and a callable that hears how many
#: objects of the task are done. It writes files and returns something small.
Work = Callable[[JobT, TaskT, Callable[[int], None]], ResultT]
#: Called with a task and the number of its objects that are done.
OnDone = Callable[[TaskT, int], None]


class Workers(Protocol):
    """Who does tasks: this process, processes of this machine, or a cluster."""

    @property
    def count(self) -> int:
        """How many tasks are done at the same time."""
        ...

    def threads(self, n_tasks: int) -> int | None:
        """Threads that each of so many tasks may use, as in `sfr.render.kernels`."""
        ...

    def do_tasks(
        self,
        work: Work[JobT, TaskT, ResultT],
        job: JobT,
        tasks: Sequence[TaskT],
        on_done: OnDone[TaskT],
    ) -> Iterator[tuple[TaskT, ResultT | Exception]]:
        """Do the tasks; yield each with its result, or what it raised, as soon as it ends.

        A `WorkerLostError` stands for a task whose process died. Whoever stops listening before
        the end stops the tasks that run.
        """
        ...


class Serial:
    """The process itself, one task after the other."""

    @property
    def count(self) -> int:
        """One."""
        return 1

    def threads(self, n_tasks: int) -> int | None:
        """All cores for the one task at a time."""
        return None

    def do_tasks(
        self,
        work: Work[JobT, TaskT, ResultT],
        job: JobT,
        tasks: Sequence[TaskT],
        on_done: OnDone[TaskT],
    ) -> Iterator[tuple[TaskT, ResultT | Exception]]:
        """Do the tasks in order."""
        for task in tasks:
            try:
                yield task, work(job, task, lambda done, task=task: on_done(task, done))  # type: ignore[misc]
            except Exception as error:  # the caller decides what it costs
                yield task, error


def run_all(
    workers: Workers,
    work: Work[JobT, TaskT, ResultT],
    job: JobT,
    tasks: Sequence[TaskT],
    on_done: OnDone[TaskT],
) -> Iterator[tuple[TaskT, ResultT | WorkerLostError]]:
    """Do tasks, those of a process that died once more at the end; any other error is raised.

    Parameters
    ----------
    workers : Workers
        Who does them.
    work : callable
        What is done.
    job : object
        What all tasks share; pickled for other processes.
    tasks : sequence
        Small values, pickled for other processes.
    on_done : callable
        Hears of progress inside a task, where the workers can tell.

    Yields
    ------
    tuple
        A task and its result, or the error of a task that lost its process twice.
    """
    lost = []
    for task, result in workers.do_tasks(work, job, tasks, on_done):
        if isinstance(result, WorkerLostError):
            lost.append(task)
        elif isinstance(result, Exception):
            raise result
        else:
            yield task, result
    for task, result in workers.do_tasks(work, job, lost, on_done):
        if isinstance(result, Exception) and not isinstance(result, WorkerLostError):
            raise result
        yield task, result
