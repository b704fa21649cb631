"""The same galaxy over snapshots: identity by the main branch of the merger tree."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from sfr.simulation.protocol import Simulation

__all__ = ["galaxy_ids"]

log = logging.getLogger(__name__)

_SNAPSHOT_STRIDE = 10**12


def _untracked_id(snapshot: int, subhalo_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ids of galaxies that no tree follows: negative, unique to subhalo and snapshot."""
    return -(snapshot * _SNAPSHOT_STRIDE + subhalo_ids) - 1


def galaxy_ids(
    simulation: Simulation, snapshot: int, subhalo_ids: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Give subhaloes of one galaxy in different snapshots the same id.

    The id is SubLink's MainLeafProgenitorID, which all subhaloes on one main branch share.

    Parameters
    ----------
    simulation : Simulation
        Where the trees come from.
    snapshot : int
        Snapshot of the subhaloes.
    subhalo_ids : ndarray of int64, shape (N,)
        Their indices in the catalogue.

    Returns
    -------
    ndarray of int64, shape (N,)
        Ids; negative where a subhalo is in no tree, or the simulation has no trees: such a galaxy
        is known in this snapshot only.
    """
    alone = _untracked_id(snapshot, subhalo_ids)
    leaves = simulation.main_leaf_ids(snapshot, subhalo_ids)
    if leaves is None:
        log.warning(
            "snapshot %d: no SubLink trees, so galaxies cannot be followed over snapshots", snapshot
        )
        return alone
    lost = int(np.sum(leaves < 0))
    if lost:
        log.info("snapshot %d: %d of %d galaxies are in no tree", snapshot, lost, len(leaves))
    return np.where(leaves >= 0, leaves, alone)
