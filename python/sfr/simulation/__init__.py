"""Where particles come from: simulations on disk, single files, and mock simulations."""

from __future__ import annotations

from sfr.simulation.local import FileRows, LocalSimulation, open_simulation
from sfr.simulation.particle_file import ParticleFile, open_particle_file
from sfr.simulation.protocol import (
    FULL_SNAPSHOTS,
    Catalogue,
    FileStatus,
    Header,
    ObjectKind,
    Simulation,
)

__all__ = [
    "FULL_SNAPSHOTS",
    "Catalogue",
    "FileRows",
    "FileStatus",
    "Header",
    "LocalSimulation",
    "ObjectKind",
    "ParticleFile",
    "Simulation",
    "open_particle_file",
    "open_simulation",
]
