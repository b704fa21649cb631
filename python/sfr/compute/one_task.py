"""One task in a worker of any kind: its result or error, and what it logged, go back."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

from sfr.compute.machine import reuse_memory
from sfr.compute.tasks import Work
from sfr.errors import SfrError

__all__ = ["log_level", "repeat", "run_task"]

JobT = TypeVar("JobT")
TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


def run_task(
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


def repeat(records: Sequence[tuple[str, int, str]]) -> None:
    """Log here what a task logged in a worker."""
    for name, level, text in records:
        logging.getLogger(name).log(level, "%s", text)


def log_level() -> int:
    """Return the level from which on a task shall log, which is that of this process."""
    return logging.getLogger("sfr").getEffectiveLevel()
