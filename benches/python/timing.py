"""Interleaved timings, and the table that they make."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def medians(
    jobs: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each job, run in turn so that a drifting machine hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for round_ in range(rounds + 1):
        for name, job in jobs.items():
            begin = clock()
            job()
            if round_:  # the first is a warm-up
                times[name].append(clock() - begin)
    return {name: statistics.median(found) for name, found in times.items()}


def table(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """Markdown."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def anonymous_mb() -> float:
    """Memory that only this process has [MB]."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no RssAnon in /proc/self/status; this needs Linux")
