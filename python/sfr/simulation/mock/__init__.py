"""Mock simulations: small galaxies in the exact layout of IllustrisTNG."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import ConfigError, InternalError, RangeError
from sfr.simulation.mock.epochs import epoch
from sfr.simulation.mock.files import FileStyle, write_groups, write_offsets, write_snapshot
from sfr.simulation.mock.population import BROKEN, Galaxy, Halo, make_population
from sfr.simulation.mock.snapshot import Snapshot, build_snapshot, resolutions
from sfr.simulation.mock.trees import build_trees

__all__ = ["SIGNALS", "MockSummary", "write_mock"]

#: What the star formation rate of a mock can follow from.
SIGNALS: Final = ("physical",)
_PLANNED: Final = ("mass", "temperature", "entropy", "clumps", "none")
_FEWEST_CELLS: Final = 100
#: Somewhat more than what 40 galaxies of 20000 cells, and 1 of 100, take on disk.
_BYTES_PER_CELL: Final = 180
_BYTES_PER_SNAPSHOT: Final = 1_000_000
#: What the sample consists of; everything else is there to be rejected, or broken.
_SAMPLE: Final = ("galaxy", "quiescent")


@dataclass(frozen=True)
class MockSummary:
    """What was written."""

    path: Path
    snapshots: tuple[int, ...]
    #: Snapshot -> subhalo ids of the galaxies that pass the cuts of the thesis and can be
    #: rendered; the same place in every tuple is the same galaxy.
    subhalo_ids: dict[int, tuple[int, ...]]
    #: Snapshot -> subhalo ids of those that pass the cuts and cannot be rendered.
    broken_ids: dict[int, tuple[int, ...]]
    n_groups: dict[int, int]
    n_subhalos: dict[int, int]
    n_gas_cells: dict[int, int]
    n_bytes: int


def write_mock(
    out: Path,
    *,
    galaxies: int,
    snaps: Sequence[int],
    seed: int = 1,
    cells: int = 20000,
    signal: str = "physical",
    broken: bool = False,
    compressed: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> MockSummary:
    """Write a simulation of mock galaxies, with every awkward case of original files.

    Parameters
    ----------
    out : Path
        Folder that will hold ``output`` and ``postprocessing``; absent or empty.
    galaxies : int
        Galaxies per snapshot that pass the cuts of the thesis and can be rendered.
    snaps : sequence of int
        TNG snapshot numbers, 0 to 99; order and repeats do not matter. Those that are full in TNG
        hold all fields, the others are mini snapshots.
    seed : int
        The same seed gives the same bytes.
    cells : int
        Mean number of gas cells of a group.
    signal : str
        What the star formation rate follows from: "physical", the density of the gas.
    broken : bool
        Add galaxies that pass the cuts and cannot be rendered: no gas, coordinates that are NaN,
        neither stars nor gas in the frame, a centre that is NaN.
    compressed : bool
        Compress and chunk the datasets, as rewritten files do; original ones are contiguous.
    on_progress : callable or None
        Called with (done, total).

    Returns
    -------
    MockSummary

    Raises
    ------
    ConfigError
        The folder holds something, or the signal is not known.
    RangeError
        A number makes no sense.
    """
    _check(out, galaxies, snaps, seed, cells, signal)
    numbers = tuple(sorted({int(snap) for snap in snaps}))
    # where links lead, so that a rename ends it; long names have no room for more
    target = Path(os.path.realpath(out))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name[:48]}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    writer = _Writer(
        FileStyle(temporary / "output", f"L35n{cells}MOCK{galaxies}_{signal}_{seed}", compressed),
        make_population(galaxies=galaxies, seed=seed, broken=broken),
        numbers,
        cells,
        seed,
        on_progress,
    )
    _require_space(out, galaxies * cells * len(numbers), len(numbers))
    try:
        writer.write_all()
        _require_sample(writer, galaxies)
        n_bytes = sum(path.stat().st_size for path in temporary.rglob("*.hdf5"))
        if target.is_dir():
            target.rmdir()
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return MockSummary(
        path=out,
        snapshots=numbers,
        subhalo_ids={snap: writer.ids(snap, _SAMPLE) for snap in numbers},
        broken_ids={snap: writer.ids(snap, BROKEN) for snap in numbers},
        n_groups={snap: writer.n_groups[snap] for snap in numbers},
        n_subhalos={snap: len(writer.galaxies[snap]) for snap in numbers},
        n_gas_cells={snap: writer.n_gas_cells[snap] for snap in numbers},
        n_bytes=n_bytes,
    )


def _require_space(out: Path, n_cells: int, n_snapshots: int) -> None:
    """Fail before HDF5 does, which does not survive a full disk."""
    folder = next(parent for parent in out.absolute().parents if parent.is_dir())
    needed = _BYTES_PER_CELL * n_cells + _BYTES_PER_SNAPSHOT * n_snapshots
    free = shutil.disk_usage(folder).free
    if free < needed:
        message = f"{out} needs about {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free"
        raise OSError(errno.ENOSPC, message)


def _check(
    out: Path, galaxies: int, snaps: Sequence[int], seed: int, cells: int, signal: str
) -> None:
    if signal in _PLANNED:
        raise ConfigError(f"signal {signal!r} is not available yet; use {', '.join(SIGNALS)}")
    if signal not in SIGNALS:
        raise ConfigError(f"signal is {signal!r}; allowed is {', '.join(SIGNALS)}")
    if galaxies < 1:
        raise RangeError(f"galaxies is {galaxies}; at least 1 is needed")
    if cells < _FEWEST_CELLS:
        raise RangeError(f"cells is {cells}; at least {_FEWEST_CELLS} are needed")
    if seed < 0:
        raise RangeError(f"seed is {seed}; it must be 0 or more")
    if not snaps:
        raise RangeError("snaps is empty; give at least one snapshot, such as 99")
    for snap in snaps:
        epoch(snap)
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty; give a new folder, nothing there is overwritten")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; give a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)


class _Writer:
    """Writes one snapshot after the other; keeps the catalogues for the trees."""

    def __init__(
        self,
        style: FileStyle,
        halos: Sequence[Halo],
        snaps: tuple[int, ...],
        cells: int,
        seed: int,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self._style = style
        self._halos = halos
        self._snaps = snaps
        self._sizes = resolutions(halos, cells)
        self._seed = seed
        self._on_progress = on_progress
        self._done = 0
        #: Snapshot -> the galaxy that each subhalo is.
        self.galaxies: dict[int, list[Galaxy]] = {}
        #: Snapshot -> columns of subhaloes with those of their groups.
        self.tables: dict[int, dict[str, NDArray[Any]]] = {}
        self.n_groups: dict[int, int] = {}
        self.n_gas_cells: dict[int, int] = {}
        self._offsets: dict[int, tuple[Snapshot, Any, Any]] = {}

    def write_all(self) -> None:
        """Write every file."""
        for snap in self._snaps:
            self._write_snapshot(snap)
        trees = build_trees(
            {snap: [galaxy.number for galaxy in found] for snap, found in self.galaxies.items()},
            {g.number: g.in_tree for halo in self._halos for g in halo.galaxies},
            self._mergers(),
            {snap: table["SubhaloGrNr"] for snap, table in self.tables.items()},
        )
        trees.write(self._style, self.tables)
        for snap, (snapshot, chunks, catalogue) in self._offsets.items():
            write_offsets(
                snapshot,
                self._style,
                chunks=chunks,
                catalogue=catalogue,
                trees=trees.offsets[snap],
            )

    def ids(self, snap: int, roles: Sequence[str]) -> tuple[int, ...]:
        """Subhalo ids of the galaxies of some roles, ordered by galaxy."""
        found = [(g.number, i) for i, g in enumerate(self.galaxies[snap]) if g.role in roles]
        return tuple(subhalo_id for _, subhalo_id in sorted(found))

    def _write_snapshot(self, snap: int) -> None:
        snapshot = build_snapshot(
            self._halos,
            self._sizes,
            epoch(snap),
            self._seed,
            is_present=lambda galaxy: self._is_present(galaxy, snap),
            on_group=self._count,
        )
        chunks = write_snapshot(snapshot, self._style)
        catalogue = write_groups(snapshot, self._style)
        self.galaxies[snap] = snapshot.galaxies
        self.n_groups[snap] = len(snapshot.group_starts)
        self.n_gas_cells[snap] = int(snapshot.counts()[0])
        hosts = snapshot.subhalos["SubhaloGrNr"]
        of_hosts = {name: column[hosts] for name, column in snapshot.groups.items()}
        self.tables[snap] = {**snapshot.subhalos, **of_hosts}
        snapshot.parts = {}  # the bulk of the memory
        self._offsets[snap] = (snapshot, chunks, catalogue)

    def _is_present(self, galaxy: Galaxy, snap: int) -> bool:
        place = self._snaps.index(snap)
        return {
            "always": True,
            "odd": snap % 2 == 1,
            "not-last": place < len(self._snaps) - 1,
            "not-middle": len(self._snaps) < 3 or place != len(self._snaps) // 2,
        }[galaxy.presence]

    def _mergers(self) -> dict[int, int]:
        return {
            galaxy.number: halo.galaxies[0].number
            for halo in self._halos
            for galaxy in halo.galaxies
            if galaxy.presence == "not-last"
        }

    def _count(self) -> None:
        self._done += 1
        if self._on_progress is not None:
            self._on_progress(self._done, len(self._snaps) * len(self._halos))


def _require_sample(writer: _Writer, galaxies: int) -> None:
    """Make sure that the cuts of the thesis take what they should."""
    for snap, table in writer.tables.items():
        stars = table["SubhaloMassType"][:, 4]
        passes = table["SubhaloFlag"] & (stars > 0.5) & (stars < 100.0)
        passes &= (table["SubhaloMass"] < 200.0) & (table["GroupMass"] < 500.0)
        wanted = sorted(writer.ids(snap, _SAMPLE) + writer.ids(snap, BROKEN))
        if np.flatnonzero(passes).tolist() != wanted or len(writer.ids(snap, _SAMPLE)) != galaxies:
            raise InternalError(
                f"mock snapshot {snap}: subhaloes {np.flatnonzero(passes).tolist()} pass the cuts, "
                f"{wanted} should"
            )
