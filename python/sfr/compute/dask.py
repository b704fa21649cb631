"""The workers of a Dask cluster, which do tasks."""

from __future__ import annotations

import logging
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sfr.compute.one_task import log_level, repeat, run_task
from sfr.compute.tasks import OnDone, Work
from sfr.errors import ConfigError, DataMissingError, WorkerLostError

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["DaskWorkers", "differences"]

log = logging.getLogger(__name__)

JobT = TypeVar("JobT")
TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

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


class DaskWorkers:
    """The workers of a running Dask scheduler; files are all that they give back.

    A worker gets a task only after it has said that the same things make its numbers as here.

    Parameters
    ----------
    address : str
        Of the scheduler, for example ``tcp://node1:8786``.
    threads : int or None
        Threads of the kernels in each task; None: 1.
    identity : callable
        Says, in whatever process it is called, what makes the numbers there: name -> version.

    Raises
    ------
    ConfigError
        Dask is not installed, or no scheduler answers.
    """

    def __init__(
        self, address: str, threads: int | None, identity: Callable[[], Mapping[str, str]]
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
        self._crew = _Crew(self._client, identity)

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

    def do_tasks(
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
            run_task,
            self._work,
            self._shared,
            task,
            _ignore,
            log_level(),
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

    def __init__(self, client: Client, identity: Callable[[], Mapping[str, str]]) -> None:
        self._client, self._identity = client, identity
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
        mine = self._identity()
        answers = self._client.run(self._identity, workers=addresses, on_error="return")
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


def differences(theirs: Mapping[str, str], mine: Mapping[str, str]) -> str:
    """Say how another process differs from this one; empty where it does not."""
    return "; ".join(
        f"{name} {theirs.get(name, 'not known')} (here {value})"
        for name, value in mine.items()
        if theirs.get(name) != value
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
    repeat(records)
    return result
