"""Locks, by which commands that share a folder keep out of each other's way."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterator
from pathlib import Path

import filelock

from sfr.errors import ConfigError

__all__ = ["acquired", "held", "holder_of"]

log = logging.getLogger(__name__)

#: What a file system without locks answers.
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})


@contextlib.contextmanager
def held(path: Path, who: str) -> Iterator[None]:
    """Hold a lock; wait, and say for whom, while another process holds it."""
    try:
        lock = acquired(path, wait=False)
    except filelock.Timeout:
        log.warning("waiting for %s", who)
        lock = acquired(path, wait=True)
    try:
        yield
    finally:
        lock.release()


def acquired(path: Path, *, wait: bool) -> filelock.BaseFileLock:
    """Take a lock, which ends with its process, however that ends; filelock.Timeout: it is held."""
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except filelock.Timeout:
        raise
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        raise ConfigError(
            f"{path.parent.parent} is on a file system without locks ({error}), by which commands "
            "keep out of each other's way; give a folder on another disk with --work, or mount "
            "this one with them (Lustre: flock; NFS: a lock daemon, or local_lock=flock where one "
            "machine uses it)"
        ) from error
    return lock


def holder_of(lock_name: str) -> str:
    """Say whose <step>.<fingerprint>.<host>-<pid>-<thread>.<n>.lock is, a file of `sharing`."""
    host, pid, _ = lock_name.split(".", 2)[2].rsplit("-", 2)
    return f"process {pid} on {host}"
