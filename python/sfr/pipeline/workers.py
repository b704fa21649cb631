"""Who does the work: processes of this machine, or a Dask cluster."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sfr.compute.dask import DaskWorkers
from sfr.compute.processes import Processes
from sfr.errors import ConfigError
from sfr.pipeline.identity import identity

__all__ = ["open_workers"]


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
    return DaskWorkers(scheduler, threads, partial(identity, packages))
