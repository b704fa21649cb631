"""Who renders: processes of this machine, or a Dask cluster; and how much of a machine is ours.

Results are files that the workers write, so only small values travel between processes. Processes
are spawned, never forked: the kernels have threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sfr.errors import (
    ConfigError,
    DataMissingError,
    InternalError,
    SfrError,
    WorkerLostError,
)
from sfr.identity import differences, identity
from sfr.tasks import OnDone, Serial, Work

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = [
    "DaskWorkers",
    "Processes",
    "anonymous_memory",
    "free_memory",
    "open_workers",
    "reuse_memory",
    "usable_cores",
]

log = logging.getLogger(__name__)

JobT = TypeVar("JobT")
TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

#: Memory that a worker should have, where nothing is said [bytes].
_WORKER_MEMORY = 2**30
#: How long a scheduler may take to answer [s].
_PATIENCE_S = 30
#: Time between two looks at the workers of a cluster [s].
_LOOK_S = 5.0
#: Time between two reminders that there are none [s].
_REMIND_S = 600.0
#: How often all workers of a task may die before it is given up, as in Dask.
_MOST_DEATHS = 4
_SCHEDULER_ENDED = (
    "the Dask scheduler ended or cancelled the work; what is whole was kept, the same command "
    "goes on"
)
#: Parameters of glibc's mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_HINTS = {
    "SIGKILL": "mostly the system killed it for want of memory, then fewer --workers help",
    "SIGBUS": "a file changed or could not be read while it was mapped; --no-mmap names the file",
}


# -- what this process may use -------------------------------------------------------------------


def usable_cores(environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> int:
    """Count the cores that this process may keep busy.

    The smallest of the CPU affinity, the CPU quota of the control group (version 1 or 2, and of
    the groups above it) and ``SLURM_CPUS_PER_TASK``.

    Parameters
    ----------
    environ : mapping
        Environment variables.
    root : Path
        Where ``proc`` and ``sys`` are.

    Returns
    -------
    int
        At least 1.
    """
    limits = [float(os.cpu_count() or 1)]
    if hasattr(os, "sched_getaffinity"):
        limits.append(len(os.sched_getaffinity(0)))
    for folder in _control_groups(root, "cpu"):
        # 200000 100000 (quota and period), or max 100000
        words = _words(folder / "cpu.max") or [
            *_words(folder / "cpu.cfs_quota_us"),
            *_words(folder / "cpu.cfs_period_us"),
        ]
        if len(words) == 2 and words[0].isdecimal() and int(words[1]) > 0:
            limits.append(int(words[0]) / int(words[1]))
    slurm = environ.get("SLURM_CPUS_PER_TASK", "")
    if slurm.isdecimal() and int(slurm) > 0:
        limits.append(int(slurm))
    return max(1, int(min(limits)))


def free_memory(environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> int | None:
    """Find the memory that this process and its children may take.

    The smallest of what the system has available, the limits of the control groups and what SLURM
    allotted.

    Parameters
    ----------
    environ, root
        As in `usable_cores`.

    Returns
    -------
    int or None
        Bytes; None where nothing can be found out.
    """
    limits = [
        int(line.split()[1]) * 1024
        for line in _lines(root / "proc/meminfo")
        if line.startswith("MemAvailable:")
    ]
    for folder in _control_groups(root, "memory"):
        words = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
        if words and words[0].isdecimal():
            limits.append(int(words[0]))
    cores = environ.get("SLURM_CPUS_PER_TASK", "1")
    for name, factor in (("SLURM_MEM_PER_NODE", "1"), ("SLURM_MEM_PER_CPU", cores)):
        value = environ.get(name, "")
        if value.isdecimal() and factor.isdecimal() and int(value) > 0:
            limits.append(int(value) * int(factor) * 2**20)
    return min(limits) if limits else None


def anonymous_memory(pids: Sequence[int]) -> int | None:
    """Add up the anonymous memory of processes; pages of mapped files are not part of it.

    Parameters
    ----------
    pids : sequence of int
        Processes; those that have ended count as nothing.

    Returns
    -------
    int or None
        Bytes; None on a system without ``/proc``.
    """
    total = None
    for pid in pids:
        for line in _lines(Path(f"/proc/{pid}/status")):
            if line.startswith("RssAnon:"):
                total = (total or 0) + int(line.split()[1]) * 1024
    return total


@functools.cache
def reuse_memory() -> None:
    """Let glibc keep freed arrays of up to 32 MB for the next galaxy instead of the system.

    Giving pages back and getting them again, cleared, for every map costs more than the maps; Dask
    tells its workers to do so.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
        mallopt(_M_TRIM_THRESHOLD, 64 * 2**20)


def _control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folder of this process' control group and those above it."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / (controller if controllers else "")
        own = base / path.lstrip("/")
        yield own
        yield from (folder for folder in own.parents if folder.is_relative_to(base))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


# -- workers -------------------------------------------------------------------------------------


def open_workers(
    *,
    workers: int | None = None,
    threads: int | None = None,
    scheduler: str | None = None,
    packages: Sequence[str] = (),
) -> Processes | DaskWorkers:
    """Find those who do the work; use it in a ``with`` block.

    Parameters
    ----------
    workers : int or None
        Processes of this machine; None: as many as there are cores and memory for.
    threads : int or None
        Threads of each worker; None: what is left of the cores, 1 on a cluster.
    scheduler : str or None
        Address of a running Dask scheduler, whose workers do all instead.
    packages : sequence of str
        Distributions that the work needs, of which these workers must have the same versions.

    Returns
    -------
    Processes or DaskWorkers

    Raises
    ------
    ConfigError
        Options that exclude each other, no Dask, or no scheduler at the address.
    """
    if scheduler is None:
        return Processes(workers, threads)
    if workers is not None:
        raise ConfigError(
            "--workers and --scheduler exclude each other: a Dask cluster has its own workers"
        )
    return DaskWorkers(scheduler, threads, packages)


def _run(
    work: Work[JobT, TaskT, ResultT],
    job: JobT,
    task: TaskT,
    on_done: Callable[[int], None],
    level: int,
) -> tuple[ResultT | Exception, list[tuple[str, int, str]]]:
    """Do one task in a worker; return its result or error, and what it logged."""
    reuse_memory()
    records = _Records()
    logger = logging.getLogger("sfr")
    logger.setLevel(level)
    logger.addHandler(records)
    result: ResultT | Exception
    try:
        result = work(job, task, on_done)
    except Exception as error:  # the caller decides what it costs
        if not isinstance(error, SfrError):
            error.add_note("in a worker:\n" + traceback.format_exc())
        result = error
    finally:
        logger.removeHandler(records)
    return result, records.found


class _Records(logging.Handler):
    """Keeps what the thread that made it logs."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, int, str]] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.found.append((record.name, record.levelno, record.getMessage()))


def _repeat(records: Sequence[tuple[str, int, str]]) -> None:
    for name, level, text in records:
        logging.getLogger(name).log(level, "%s", text)


def _level() -> int:
    return logging.getLogger("sfr").getEffectiveLevel()


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

    def map_shards(
        self,
        work: Work[JobT, TaskT, ResultT],
        job: JobT,
        tasks: Sequence[TaskT],
        on_done: OnDone[TaskT],
    ) -> Iterator[tuple[TaskT, ResultT | Exception]]:
        """Do the tasks, each in the next process that is free, in order of their start."""
        if self.count == 1 or (len(tasks) <= 1 and not self._has_started):
            yield from Serial().map_shards(work, job, tasks, on_done)
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
                        _repeat(records)
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
        order = _Order(work, None if job is self._job else job, task, _level())
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
        connection.send(_run(order.work, job, order.task, connection.send, order.level))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class DaskWorkers:
    """The workers of a running Dask scheduler; files are all that they give back.

    A worker gets a task only after it has said that the same things make its numbers as here.

    Parameters
    ----------
    address : str
        Of the scheduler, for example ``tcp://node1:8786``.
    threads : int or None
        Threads of the kernels in each task; None: 1.
    packages : sequence of str
        Distributions that the tasks use besides those that all use, as in `sfr.identity`.

    Raises
    ------
    ConfigError
        Dask is not installed, or no scheduler answers.
    """

    def __init__(
        self, address: str, threads: int | None = None, packages: Sequence[str] = ()
    ) -> None:
        try:
            from distributed import Client
            from distributed.comm import get_address_host_port
        except ImportError as error:
            raise ConfigError(
                '--scheduler needs Dask, which is not installed: pip install "tng-sfr[cluster]"'
            ) from error
        try:
            # a client that was given no port hangs when it is thrown away
            get_address_host_port(address)
            self._client: Client = Client(address, timeout=_PATIENCE_S, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"--scheduler {address}: no Dask scheduler answers there ({error}); start one with "
                "dask scheduler, or with dask-jobqueue, and give its address, such as "
                "tcp://node1:8786"
            ) from error
        self._threads = threads or 1
        self._crew = _Crew(self._client, packages)

    def __enter__(self) -> DaskWorkers:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the scheduler; it and its workers go on."""
        self._client.close()

    @property
    def count(self) -> int:
        """Threads of the cluster at the moment, each of which does one task."""
        return sum(self._client.nthreads().values())

    def memory(self) -> None:
        """Return nothing: the memory of other machines is on the dashboard of Dask."""

    def threads(self, n_tasks: int) -> int:
        """Use one thread: a Dask worker has a thread for each of its tasks."""
        return self._threads

    def map_shards(
        self,
        work: Work[JobT, TaskT, ResultT],
        job: JobT,
        tasks: Sequence[TaskT],
        on_done: OnDone[TaskT],
    ) -> Iterator[tuple[TaskT, ResultT | Exception]]:
        """Do the tasks on the cluster; progress inside a task is not heard of.

        Raises
        ------
        ConfigError
            Before the first task is sent: workers that would make other numbers.
        DataMissingError
            The scheduler has ended.
        """
        if not tasks:
            return
        self._crew.look(len(tasks))
        sent = _Sent(self._client, self._crew, work, job)
        waiting = deque((task, i, 0) for i, task in enumerate(tasks))
        looked = time.monotonic()
        try:
            while waiting or sent.tasks:
                if time.monotonic() - looked >= _LOOK_S:
                    self._crew.look(len(waiting) + len(sent.tasks))
                    looked = time.monotonic()
                    for task, place, deaths in sent.take_back():
                        if deaths < _MOST_DEATHS:
                            waiting.appendleft((task, place, deaths))
                        else:
                            cause = f"all Dask workers that had it died, {deaths} times"
                            yield task, WorkerLostError(cause)
                while waiting and len(sent.tasks) < self._crew.room:
                    sent.send(*waiting.popleft())
                future = sent.next_done(_LOOK_S)
                if future is not None:
                    entry = sent.tasks.pop(future)
                    result = _outcome(future)
                    if isinstance(result, _ResultLost):
                        waiting.appendleft(entry[:3])
                    else:
                        yield entry[0], result
        finally:
            sent.cancel()


class _ResultLost(Exception):
    """A task ended, and the worker that kept its result did before it was fetched."""


class _Sent(Generic[JobT, TaskT]):
    """Tasks that are with workers, each bound to those that were known to be right.

    Only some for each thread are sent at a time, so that workers that join get their share.
    """

    def __init__(
        self, client: Client, crew: _Crew, work: Work[JobT, TaskT, Any], job: JobT
    ) -> None:
        self._client, self._crew, self._work, self._job = client, crew, work, job
        self._done: queue.SimpleQueue[Future] = queue.SimpleQueue()
        #: The job travels once to a worker, which keeps it with its open files.
        self._shared: Future | None = None
        self._holders: frozenset[str] = frozenset()
        #: Future -> task, its place, how often all its workers died, and these workers.
        self.tasks: dict[Future, tuple[TaskT, int, int, frozenset[str]]] = {}

    def send(self, task: TaskT, place: int, deaths: int) -> None:
        """Give a task to the workers."""
        crew = frozenset(self._crew.right)
        if self._shared is None or not self._holders & crew:
            self._holders = crew
            self._shared = self._client.submit(_same, self._job, pure=False, workers=sorted(crew))
        future = self._client.submit(
            _run,
            self._work,
            self._shared,
            task,
            _ignore,
            _level(),
            pure=False,
            priority=-place,
            workers=sorted(crew),
        )
        self.tasks[future] = task, place, deaths, crew
        future.add_done_callback(self._done.put)

    def next_done(self, seconds: float) -> Future | None:
        """Wait for a task that has ended, at most so long."""
        try:
            future = self._done.get(timeout=seconds)
        except queue.Empty:
            return None
        return future if future in self.tasks else None

    def take_back(self) -> Iterator[tuple[TaskT, int, int]]:
        """Yield the tasks whose workers are all gone, and how often that happened."""
        lost = [f for f, entry in self.tasks.items() if not entry[3] & self._crew.right]
        for future in lost:
            task, place, deaths, _ = self.tasks.pop(future)
            future.cancel()
            yield task, place, deaths + 1

    def cancel(self) -> None:
        """Stop what is not done."""
        self._client.cancel([*self.tasks, *([self._shared] if self._shared else [])])


class _Crew:
    """The workers of a cluster that make the same numbers as this process."""

    def __init__(self, client: Client, packages: Sequence[str]) -> None:
        self._client, self._packages = client, tuple(packages)
        self._wrong: set[str] = set()
        self._silent: set[str] = set()
        self._threads: dict[str, int] = {}
        self._told: float | None = None
        self._has_looked = False
        #: Addresses of the workers that may get tasks.
        self.right: set[str] = set()

    @property
    def room(self) -> int:
        """Tasks that may be with the workers at a time, one for each thread and one to follow."""
        return sum(2 * self._threads[address] for address in self.right)

    def look(self, n_waiting: int) -> None:
        """Learn who came and who left, and say what stops the work.

        Raises
        ------
        ConfigError
            At the first look, workers that would make other numbers.
        DataMissingError
            The scheduler has ended.
        """
        try:
            self._threads = self._client.nthreads()
            there = set(self._threads)
            faults = self._faults(sorted(there - self.right - self._wrong))
        except (OSError, RuntimeError, TimeoutError) as error:
            raise DataMissingError(f"{_SCHEDULER_ENDED} ({error})") from error
        listed = "".join(f"\n  {address}: {fault}" for address, fault in faults.items())
        is_first, self._has_looked = not self._has_looked, True
        if faults and is_first:
            raise ConfigError(
                f"{len(faults)} of {len(there)} Dask workers would not make the numbers of this "
                f"command:{listed}\ninstall the same there, or start them in this environment"
            )
        if faults:
            log.warning("workers that joined get no work, they would make other numbers:%s", listed)
        gone = self.right - there
        self._wrong = (self._wrong & there) | set(faults)
        self.right = there - self._wrong - self._silent
        if self.right:
            self._told = None
        elif self._told is None or time.monotonic() - self._told >= _REMIND_S:
            self._told = time.monotonic()
            why = "the scheduler has no workers yet"
            if gone:
                causes = "; ".join(f"{address} {self._cause(address)}" for address in sorted(gone))
                why = f"the last Dask worker is gone: {causes}"
            elif self._wrong:
                why = "the scheduler has no workers that make the numbers of this command"
            log.warning("%s; %d tasks wait for another one (Ctrl-C ends)", why, n_waiting)

    def _faults(self, addresses: list[str]) -> dict[str, str]:
        """Ask workers what makes their numbers; return those that differ, and how."""
        if not addresses:
            return {}
        self._silent.clear()
        mine = identity(self._packages)
        answers = self._client.run(identity, self._packages, workers=addresses, on_error="return")
        faults = {}
        for address, answer in answers.items():
            if isinstance(answer, OSError):
                # it is leaving, and is asked again should it be there at the next look
                self._silent.add(address)
            elif isinstance(answer, Exception):
                faults[address] = f"has no sfr like this one ({answer})"
            elif found := differences(answer, mine):
                faults[address] = found
        return faults

    def _cause(self, address: str) -> str:
        """Say why a worker left, as far as the scheduler knows."""
        events = [event for _, event in self._client.get_events(address) or ()]
        left = [event for event in events if event.get("action") == "remove-worker"]
        if any(event.get("action") == "retire-workers" for event in events) or (
            left and left[-1].get("expected")
        ):
            return "was told to stop (walltime, scaling down, or whoever started it)"
        why = str(left[-1].get("stimulus_id", "")) if left else ""
        how = "stopped answering" if "heartbeat" in why or "ttl" in why else "broke off"
        return (
            f"{how}: killed (for want of memory, or by the batch system), ended with an error "
            "that its own log tells, or out of reach"
        )


def _same(job: JobT) -> JobT:
    return job


def _ignore(done: int) -> None:
    pass


def _outcome(future: Future) -> Any:  # noqa: ANN401 - the result of any work
    from distributed import KilledWorker

    if future.cancelled():
        return DataMissingError(_SCHEDULER_ENDED)
    try:
        result, records = future.result(timeout=_PATIENCE_S)
    except KilledWorker as error:
        return WorkerLostError(f"the Dask workers that had it died: {error}")
    except TimeoutError as error:
        return _ResultLost(error)
    except Exception as error:  # the caller decides what it costs
        return error
    _repeat(records)
    return result
