"""What every source of simulation data offers, and the plain records that it hands out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DARK_MATTER",
    "FULL_SNAPSHOTS",
    "GAS",
    "KINDS",
    "N_PART_TYPES",
    "STARS",
    "Catalogue",
    "FileKind",
    "FileStatus",
    "Header",
    "ObjectKind",
    "Particles",
    "Simulation",
]

#: A FoF group with everything in it, or one gravitationally bound subhalo.
ObjectKind = Literal["group", "subhalo"]
FileKind = Literal["group catalogue", "snapshot", "offsets", "trees"]
#: Types of particles.
GAS, DARK_MATTER, STARS = 0, 1, 4
KINDS: tuple[ObjectKind, ...] = ("group", "subhalo")

#: Gas, dark matter, (low-resolution dark matter), tracers, stars and wind, black holes.
N_PART_TYPES = 6

#: The TNG snapshots that hold every field; the other 80 are mini snapshots.
FULL_SNAPSHOTS = (2, 3, 4, 6, 8, 11, 13, 17, 21, 25, 33, 40, 50, 59, 67, 72, 78, 84, 91, 99)


@dataclass(frozen=True)
class Header:
    """What the header of a snapshot, a cutout or a group catalogue says."""

    #: Internal name (L35n2160TNG), or "unknown" where the files do not say.
    simulation_name: str
    #: Snapshot number, -1 where neither the header nor the file name says.
    snapshot: int
    #: a [-].
    scale_factor: float
    #: z [-]; snapshot 99 of TNG stores 2.2e-16, not 0.
    redshift: float
    #: h [-].
    hubble_param: float
    #: Omega_m [-].
    omega0: float
    #: Omega_Lambda [-].
    omega_lambda: float
    #: Side of the box [ckpc/h].
    box_size: float
    #: Particles of each type in the whole snapshot; None where only the group catalogue is there.
    num_part_total: tuple[int, ...] | None
    #: Chunks of the snapshot (of the group catalogue where only that is there).
    num_files: int
    #: Mass of every particle of a type [1e10 Msun/h], 0 where they differ; None as above.
    mass_table: tuple[float, ...] | None

    #: Whether a, z and ages of the universe mean something; else a is 1 and z is 0.
    is_cosmological: bool = True
    #: Whether positions repeat beyond the box.
    is_periodic: bool = True

    @property
    def period(self) -> float | None:
        """Side of the box where it is periodic [ckpc/h]."""
        return self.box_size if self.is_periodic else None


@dataclass(frozen=True)
class Catalogue:
    """Columns of the group catalogue of one snapshot, with the global id of every row.

    Values are as on disk, in code units; ``GroupFirstSub`` is signed, -1 for no subhalo.
    """

    header: Header
    #: Global ids of the rows of ``subhalos`` and ``groups``, int64, ascending.
    subhalo_ids: NDArray[np.int64]
    group_ids: NDArray[np.int64]
    #: Field name -> array of one row per loaded object.
    subhalos: Mapping[str, NDArray[Any]]
    groups: Mapping[str, NDArray[Any]]
    n_subhalos_total: int
    n_groups_total: int
    n_files: int
    #: Chunks that are not there; rows of such chunks are not in the arrays.
    missing_files: tuple[Path, ...] = ()

    @property
    def scale_factor(self) -> float:
        """A of the snapshot [-]."""
        return self.header.scale_factor

    @property
    def redshift(self) -> float:
        """Z of the snapshot [-]."""
        return self.header.redshift

    @property
    def is_complete(self) -> bool:
        """Whether every group and every subhalo of the snapshot is loaded."""
        return (
            self.subhalo_ids.size == self.n_subhalos_total
            and self.group_ids.size == self.n_groups_total
        )


@dataclass(frozen=True)
class FileStatus:
    """One file that a simulation needs: whether it is there and how to get it."""

    kind: FileKind
    path: Path
    present: bool
    #: It opens as HDF5 (false for a truncated download).
    readable: bool
    #: What is wrong, or what the file holds.
    detail: str
    #: Path of the file in the web API, below ``/api/<simulation>/``.
    fetch: str

    @property
    def ok(self) -> bool:
        """Present and readable."""
        return self.present and self.readable


class Particles(Protocol):
    """Consecutive particles of one object, which fit in memory."""

    @property
    def part_type(self) -> int:
        """Type of the particles, as in `Simulation.particles`."""
        ...

    def __len__(self) -> int:
        """Count the particles."""
        ...

    def read(
        self, fields: Sequence[str], *, needed: NDArray[np.int64] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Read fields, in code units; rows other than those needed may come as zeros."""
        ...

    def take(self, fields: Sequence[str], rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Read some rows of fields, in code units; they are ascending."""
        ...

    def is_mapped(self, fields: Sequence[str]) -> bool:
        """Whether reading these fields costs nothing before they are looked at."""
        ...


class Simulation(Protocol):
    """A source of catalogues and particles: files on disk, or the web API."""

    @property
    def name(self) -> str:
        """Name for people: TNG50-1, or the internal name where that is not known."""
        ...

    def close(self) -> None:
        """Give files and connections back."""
        ...

    def identity(self, snap: int) -> dict[str, Any]:
        """JSON-able record of which data these are, wherever they lie."""
        ...

    def snapshots(self) -> list[int]:
        """Snapshots with a group catalogue, ascending."""
        ...

    def header(self, snap: int) -> Header:
        """Header of one snapshot."""
        ...

    def catalogue(
        self,
        snap: int,
        *,
        subhalo_fields: Sequence[str],
        group_fields: Sequence[str],
        allow_partial: bool = False,
    ) -> Catalogue:
        """Columns of the group catalogue."""
        ...

    def value(self, snap: int, kind: ObjectKind, object_id: int, field: str) -> NDArray[Any]:
        """One field of the catalogue for one object, in code units."""
        ...

    def missing_catalogue_files(self, snap: int) -> tuple[Path, ...]:
        """Chunks of the group catalogue whose objects are not to be had."""
        ...

    def catalogue_sources(self, snap: int) -> dict[str, Path]:
        """Files that are there of which a sample is made, by names that last."""
        ...

    def particle_sources(
        self,
        snap: int,
        kind: ObjectKind,
        part_type: int,
        object_ids: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> dict[str, Path]:
        """Files that are there of which particles of some objects are read."""
        ...

    def source_path(self, name: str) -> Path:
        """Path of a file by the name that lasts, there or not."""
        ...

    def require(
        self, snap: int, fields: Mapping[int, Sequence[str]], *, allow_partial: bool = False
    ) -> None:
        """Fail with one clear message where a whole snapshot cannot be read."""
        ...

    def particles(
        self, snap: int, kind: ObjectKind, object_id: int, part_type: int, fields: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        """Fields of the particles of one object, always one array per requested field."""
        ...

    def segments(
        self, snap: int, kind: ObjectKind, object_id: int, part_type: int
    ) -> Iterator[Particles]:
        """Yield the particles of one object piece by piece, in file order."""
        ...

    def main_leaf_ids(
        self, snap: int, subhalo_ids: NDArray[np.integer[Any]]
    ) -> NDArray[np.int64] | None:
        """Id of the end of each subhalo's main branch: the same galaxy over snapshots."""
        ...
