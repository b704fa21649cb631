"""Locks, by which commands that share a folder keep out of each other's way."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import filelock

from sfr.errors import ConfigError, InternalError
from sfr.paths import require_folder
from sfr.run.paths import RunPaths

__all__ = ["RECIPE", "Locks", "held", "process_name"]

log = logging.getLogger(__name__)

#: Step of a folder that all commands with the same recipe share as long as they run.
RECIPE = "recipe"
#: Numbers the parts that this process takes in shared steps: a notebook may open a run twice.
_SHARES = itertools.count()
#: Threads of this process, and the locks that each holds.
_HELD: set[tuple[int, Path]] = set()
#: What a file system without locks answers.
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})


class Locks(RunPaths):
    """Holds steps of a run's folder, and parts of steps, in ``.state/<name>.lock``."""

    def _lock_file(self, name: str) -> Path:
        path = self.state / f"{name}.lock"
        require_folder(path.parent)
        return path

    @contextlib.contextmanager
    def lock(self, step: str) -> Iterator[None]:
        """Hold a step of this folder; wait, and say so, while another process holds it."""
        path = self._lock_file(step)
        with held(path, f"another sfr process at step {step!r} of {self.root}"):
            yield

    @contextlib.contextmanager
    def claim(self, name: str, *, wait: bool) -> Iterator[bool]:
        """Hold a part of a step; False, or wait silently, while another process holds it."""
        try:
            lock = _acquired(self._lock_file(name), wait=wait)
        except filelock.Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    @contextlib.contextmanager
    def sharing(self, step: str, fingerprint: str, *, alone: bool) -> Iterator[bool]:
        """Take part in a step that processes with the same fingerprint do together.

        Enter it while the step's lock is held.

        Parameters
        ----------
        step : str
            Name of the step.
        fingerprint : str
            Digest of what the step is made with.
        alone : bool
            Nobody else may take part, not even with the same fingerprint.

        Yields
        ------
        bool
            Whether nobody else takes part at the moment.

        Raises
        ------
        ConfigError
            Another process works on the step with another fingerprint, or at all with ``alone``.
        """
        prefix = f"{step}.{fingerprint}."
        others = [lock for lock in self._others(step) if alone or not lock.startswith(prefix)]
        if others:
            where = f"at step {step!r} of" if step != RECIPE else "in"
            what = "--force would throw away its work"
            if not alone:
                what = "it has another recipe" if step == RECIPE else "it has other settings"
                what += ", or was given --force"
            hosts = ", ".join(sorted({_holder_of(name) for name in others}))
            raise ConfigError(
                f"another sfr process works {where} {self.root} ({hosts}), and {what}; wait for "
                "it, or use another folder with --work"
            )
        is_alone = not self._others(step)
        path = self._lock_file(f"{prefix}{process_name()}.{next(_SHARES)}")
        lock = _acquired(path, wait=True)
        try:
            yield is_alone
        finally:
            path.unlink(missing_ok=True)
            lock.release()

    def _others(self, step: str) -> list[str]:
        """Names of the lock files of living processes that share a step; others are removed."""
        living = []
        for path in sorted(self.state.glob(f"{step}.*.lock")):
            try:
                lock = _acquired(path, wait=False)
            except filelock.Timeout:
                living.append(path.name)
                continue
            path.unlink(missing_ok=True)
            lock.release()
        return living

    def wait_for_claims(self, prefix: str) -> None:
        """Wait for workers that outlived their command, and may yet write parts of a step.

        Nobody else may take part in the step at the moment.
        """
        for path in sorted(self.state.glob(f"{prefix}*.lock")):
            with held(path, f"a worker of a command that was stopped; it still holds {path}"):
                path.unlink(missing_ok=True)

    def remove_locks(self, prefix: str) -> None:
        """Remove the lock files of parts of a step that is done."""
        for path in self.state.glob(f"{prefix}*.lock"):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def held(path: Path, who: str) -> Iterator[None]:
    """Hold a lock; wait, and say for whom, while another process holds it.

    This thread must not hold it already: it would wait for itself.
    """
    us = (threading.get_ident(), path)
    if us in _HELD:
        raise InternalError(f"{path} is held by this thread already")
    try:
        lock = _acquired(path, wait=False)
    except filelock.Timeout:
        log.warning("waiting for %s", who)
        lock = _acquired(path, wait=True)
    _HELD.add(us)
    try:
        yield
    finally:
        _HELD.remove(us)
        lock.release()


def _acquired(path: Path, *, wait: bool) -> filelock.BaseFileLock:
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


def process_name() -> str:
    """Name this thread of this process of this host, for files that it alone writes."""
    return f"{socket.gethostname()}-{os.getpid()}-{threading.get_native_id()}"


def _holder_of(lock_name: str) -> str:
    """Say whose <step>.<fingerprint>.<host>-<pid>-<thread>.<n>.lock is, a file of `sharing`."""
    host, pid, _ = lock_name.split(".", 2)[2].rsplit("-", 2)
    return f"process {pid} on {host}"
