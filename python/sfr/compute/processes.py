"""Processes of this machine, which do tasks.

Results are files that they write, so only small values travel between processes. They are spawned,
never forked: the kernels have threads.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, TypeVar

from sfr.compute.machine import anonymous_memory, free_memory, usable_cores
from sfr.compute.one_task import log_level, repeat, run_task
from sfr.compute.tasks import OnDone, Serial, Work
from sfr.errors import InternalError, WorkerLostError

__all__ = ["Processes"]

log = logging.getLogger(__name__)

JobT = TypeVar("JobT")
TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

#: Memory that a worker should have, where nothing is said [bytes].
_WORKER_MEMORY = 2**30
_HINTS = {
    "SIGKILL": "mostly the system killed it for want of memory, then fewer --workers help",
    "SIGBUS": "a file changed or could not be read while it was mapped; --no-mmap names the file",
}


class Processes:
    """Processes of this machine; with one of them, this process itself.

    A process that dies costs the task that it worked on. They end when this process does, however
    it ends.

    Parameters
    ----------
    count : int or None
        How many; None: one for each ``threads`` cores and each GiB of memory.
    threads : int or None
        Threads of each; None: ``RAYON_NUM_THREADS``, else the cores shared out evenly.
    """

    def __init__(self, count: int | None = None, threads: int | None = None) -> None:
        self._cores = usable_cores()
        stated = os.environ.get("RAYON_NUM_THREADS", "")
        self._stated = int(stated) if stated.isdecimal() and int(stated) > 0 else None
        self._threads = threads
        if count is None:
            memory = free_memory()
            room = self._cores if memory is None else memory // _WORKER_MEMORY
            count = max(1, min(self._cores // (threads or self._stated or 1), room))
        elif count > 1 and count * (threads or 1) > self._cores:
            log.warning("%d workers of %d threads share %d cores", count, threads or 1, self._cores)
        self.count = count
        self._workers: list[_Worker] = []
        self._has_started = False

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def memory(self) -> int | None:
        """Anonymous memory of this process and its workers [bytes]."""
        return anonymous_memory([os.getpid(), *(worker.pid for worker in self._workers)])

    def threads(self, n_tasks: int) -> int | None:
        """Share the cores out over the tasks that run at the same time."""
        active = max(1, min(self.count, n_tasks))
        if self._threads is None and active == 1 and self._cores == usable_cores(environ={}):
            # the pool that the process shares has as many, and need not be made for every call
            return None
        return self._threads or self._stated or max(1, self._cores // active)

    def do_tasks(
        self,
        work: Work[JobT, TaskT, ResultT],
        job: JobT,
        tasks: Sequence[TaskT],
        on_done: OnDone[TaskT],
    ) -> Iterator[tuple[TaskT, ResultT | Exception]]:
        """Do the tasks, each in the next process that is free, in order of their start."""
        if self.count == 1 or (len(tasks) <= 1 and not self._has_started):
            yield from Serial().do_tasks(work, job, tasks, on_done)
            return
        waiting = deque(tasks)
        busy: dict[Any, tuple[_Worker, TaskT]] = {}
        try:
            while waiting or busy:
                while waiting and len(busy) < self.count:
                    worker, task = self._free(), waiting.popleft()
                    worker.start(work, job, task)
                    busy[worker.connection] = worker, task
                for connection in wait(list(busy)):
                    worker, task = busy[connection]
                    message = worker.receive()
                    if isinstance(message, int):
                        on_done(task, message)
                        continue
                    del busy[connection]
                    if isinstance(message, WorkerLostError):
                        self._workers.remove(worker)
                        yield task, message
                    else:
                        result, records = message
                        repeat(records)
                        yield task, result
        finally:
            for worker, _ in busy.values():
                self._workers.remove(worker)
                worker.kill()

    def _free(self) -> _Worker:
        """Find a process that does nothing, or start one."""
        for worker in self._workers:
            if not worker.is_busy:
                return worker
        self._has_started = True
        self._workers.append(_Worker())
        return self._workers[-1]


@dataclass(frozen=True)
class _Order:
    """What is to be done; ``job`` is None where it is the same as the last time."""

    work: Work[Any, Any, Any]
    job: object | None
    task: object
    level: int


class _Worker:
    """One spawned process, at the other end of a pipe."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self.is_busy = False
        self._job: object | None = None

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid or 0

    def start(self, work: Work[Any, Any, Any], job: object, task: object) -> None:
        """Give it a task; it keeps the job, and with it the open files, for the next one."""
        order = _Order(work, None if job is self._job else job, task, log_level())
        self._job = job
        self.is_busy = True
        # a process that is dead already is noticed when its answer is read
        with contextlib.suppress(OSError):
            self.connection.send(order)

    def receive(self) -> int | tuple[Any, list[tuple[str, int, str]]] | WorkerLostError:
        """Read a count of objects done, the result with what was logged, or why it died.

        Raises
        ------
        InternalError
            It ended by itself, which it never does.
        """
        try:
            message: Any = self.connection.recv()
        except (EOFError, OSError):
            return self._autopsy()
        if not isinstance(message, int):
            self.is_busy = False
        return message  # type: ignore[no-any-return]

    def kill(self) -> None:
        """End it at once: what it writes is whole or absent."""
        self._process.kill()
        self._process.join()
        self.connection.close()

    def _autopsy(self) -> WorkerLostError:
        self._process.join()
        self.connection.close()
        code = self._process.exitcode or 0
        if code >= 0:
            raise InternalError(f"a worker process ended with exit code {code}; see above")
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = f"; {_HINTS[name]}" if name in _HINTS else ""
        return WorkerLostError(f"its worker process was killed by {name}{hint}")


def _serve(connection: Connection) -> None:
    """Work until the other end hangs up; the life of a spawned process."""
    # Ctrl-C reaches the whole group of processes; the parent alone answers it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job: object | None = None
    while True:
        try:
            order: _Order = connection.recv()
        except (EOFError, OSError):
            # no clean-up of HDF5 or rayon is wanted
            os._exit(0)
        job = job if order.job is None else order.job
        connection.send(run_task(order.work, job, order.task, connection.send, order.level))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
