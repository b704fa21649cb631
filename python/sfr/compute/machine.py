"""How much of this machine is ours: cores, memory."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["anonymous_memory", "free_memory", "reuse_memory", "usable_cores"]

#: Parameters of glibc's mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


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
