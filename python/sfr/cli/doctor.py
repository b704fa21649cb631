"""``sfr doctor``: what is there, what is missing, what to fetch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sfr.cli import options as opt
from sfr.errors import DataMissingError, SfrError
from sfr.progress import readable_bytes

if TYPE_CHECKING:
    from sfr.simulation import FileStatus, LocalSimulation, ParticleFile

__all__ = ["doctor"]

Rows = list[dict[str, object]]

_SHOWN = 3
#: States with which something that sfr needs cannot be done.
_BAD = frozenset({"missing", "unreadable", "failed", "full", "read only"})
#: Free space with which hardly a file can be written, and that of `sfr demo` [bytes].
_FULL, _DEMO = 100e6, 1.2e9


def doctor(
    snap: opt.Snap = None,
    sim: opt.Sim = None,
    work: opt.Work = opt.DEFAULT_WORK,
    *,
    output: opt.Output,
) -> None:
    """Check versions, the network's backend and weights, disk, and the simulation's files.

    --sim may also name a single snapshot chunk or cutout. Every check is shown, whatever
    becomes of the others. The exit code is 3 where something is missing, cannot be read or
    fails, and where the folder of the run has no room or may not be written to.

    Examples:

      sfr doctor

      sfr doctor --sim TNG50-1 --snap 97-99

      sfr doctor --sim cutout_123.hdf5
    """
    console = output.console()
    snapshots = opt.parse_snapshots(snap)
    rows = [
        *_software(),
        *_tried("disk", _disk, work),
        *_tried("simulation", _data, sim, work, snapshots),
    ]
    console.table("sfr doctor", rows, key="checks")
    if any(row["state"] in _BAD for row in rows):
        raise typer.Exit(DataMissingError.exit_code)


def _tried(what: str, check: Callable[..., Rows], *about: object) -> Rows:
    """Do a check; whatever ends it is its result."""
    try:
        return check(*about)
    except Exception as error:  # a doctor does not fall ill with the patient
        return [_ended(what, error)]


def _ended(what: str, error: Exception) -> dict[str, object]:
    """Say what ended a check."""
    if isinstance(error, DataMissingError):
        return _row(what, "missing", str(error))
    if isinstance(error, SfrError):
        return _row(what, "unreadable", str(error))
    if isinstance(error, OSError):
        from sfr.hdf5 import explained

        place = f"{error.filename} cannot be looked at: " if error.filename else ""
        return _row(what, "unreadable", f"{place}{explained(error)[1] or error}")
    return _row(what, "failed", f"{type(error).__name__}: {error}")


def _row(what: str, state: str, detail: str) -> dict[str, object]:
    return {"check": what, "state": state, "detail": detail}


def _software() -> Rows:
    packages = ("tng-sfr", "numpy", "h5py", "illustris_python", "keras")
    return [
        *_python(),
        *(row for name in packages for row in _tried(name, _package, name)),
        *_tried("kernels", _kernels),
        *_tried("network backend", _backend),
        *_tried("ImageNet weights", _weights),
    ]


def _python() -> Rows:
    import platform

    return [_row("python", "ok", platform.python_version())]


def _package(name: str) -> Rows:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return [_row(name, "ok", version(name))]
    except PackageNotFoundError:
        return [_row(name, "missing", f"pip install {name}")]


def _kernels() -> Rows:
    from sfr.render import kernels

    build = kernels.build_profile()
    advice = "" if build == "release" else "; slow: build with maturin develop --release"
    return [_row("kernels", "ok", f"{build} build, {os.cpu_count()} cores{advice}")]


def _backend() -> Rows:
    from sfr.nn.diagnose import describe_backend

    try:
        return [_row("network backend", "ok", describe_backend())]
    except SfrError as error:
        return [_row("network backend", "missing", str(error))]


def _weights() -> Rows:
    from sfr.nn.diagnose import find_imagenet_weights

    weights = find_imagenet_weights()
    if weights:
        return [_row("ImageNet weights", "ok", str(weights))]
    advice = "downloaded at first use (58 MB); without a network give --weights FILE"
    return [_row("ImageNet weights", "not here", advice)]


def _disk(work: Path) -> Rows:
    """Say what room there is for a run, and whether it may be used."""
    folder = work.absolute()
    while not folder.is_dir():
        if folder.exists():
            return [_row("disk", "unreadable", f"{folder} is a file; --work needs a folder")]
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    system = os.statvfs(folder)
    said = f"{readable_bytes(free)} free for {work}"
    if free < _FULL:
        return [_row("disk", "full", f"{said}; make room, or give --work on another disk")]
    if system.f_files and not system.f_favail:
        return [_row("disk", "full", f"{said}, but no further file can be made (no free inodes)")]
    if not os.access(folder, os.W_OK | os.X_OK):
        return [_row("disk", "read only", f"{said}, but {folder} may not be written to")]
    if free < _DEMO:
        return [_row("disk", "low", f"{said}; sfr demo takes {readable_bytes(int(_DEMO))}")]
    return [_row("disk", "ok", said)]


def _data(sim: Path | None, work: Path, snapshots: Sequence[int]) -> Rows:
    """Look at the simulation that is named, else at that of the run's recipe."""
    rows: Rows = []
    if sim is None:
        try:
            sim = _stored_simulation(work)
        except (SfrError, OSError) as error:
            rows = [_ended("recipe", error)]
    if sim is None:
        none = _row("simulation", "none", "give --sim or set SFR_SIM; sfr demo needs none")
        return [*rows, none]
    return _one_file(sim) if sim.is_file() else _simulation(sim, snapshots)


def _stored_simulation(work: Path) -> Path | None:
    from sfr.run.workspace import Workspace

    recipe = Workspace(work).stored_recipe()
    return None if recipe is None or recipe.simulation is None else Path(recipe.simulation)


def _one_file(path: Path) -> list[dict[str, object]]:
    from sfr.simulation import open_particle_file

    try:
        with open_particle_file(path) as file:
            header = file.header
            epoch = f"z = {header.redshift:.4g}" if header.is_cosmological else "not cosmological"
            rows = [
                _row(
                    path.name,
                    "ok",
                    f"{header.simulation_name}, snapshot {header.snapshot}, {epoch}, "
                    f"box {header.box_size:g} ckpc/h, one of {header.num_files} chunks",
                )
            ]
            for part_type, count in enumerate(file.counts):
                if count:
                    fields = ", ".join(file.fields(part_type))
                    rows.append(_row(f"PartType{part_type}", "ok", f"{count} particles: {fields}"))
            if not any(file.counts):
                rows.append(_row("particles", "missing", "the file holds a header only"))
            rows += _whole(file)
            return rows
    except SfrError as error:
        return [_row(path.name, "unreadable", str(error))]


def _whole(file: ParticleFile) -> list[dict[str, object]]:
    """Say what is wrong with the datasets of a file; nothing where all is well."""
    try:
        file.check()
    except SfrError as error:
        return [_row("datasets", "unreadable", str(error))]
    return []


def _simulation(path: Path, snapshots: Sequence[int]) -> Rows:
    from sfr.simulation import open_simulation

    simulation = open_simulation(path)
    try:
        found = simulation.snapshots()
    except PermissionError:
        found = simulation.snapshot_folders()
    if not found:
        return [_no_catalogue(simulation.output)]
    rows = _tried("simulation", _named, simulation, found)
    for snap in snapshots or found:
        rows += _tried(f"{snap} group catalogue", _snapshot, simulation, snap)
    return rows


def _snapshot(simulation: LocalSimulation, snap: int) -> Rows:
    statuses = simulation.inventory(snap)
    return [
        _files(snap, kind, [s for s in statuses if s.kind == kind])
        for kind in dict.fromkeys(status.kind for status in statuses)
    ]


def _named(simulation: LocalSimulation, found: Sequence[int]) -> Rows:
    there = f"snapshots {_ranges(found)}"
    try:
        return [_row("simulation", "ok", f"{simulation.name}: {there}")]
    except (SfrError, OSError) as error:
        row = _ended("simulation", error)
        return [row | {"detail": f"{there}; its name is not known: {row['detail']}"}]


def _no_catalogue(output: Path) -> dict[str, object]:
    folders = [
        f"{folder.name} ({len(list(folder.glob('*.hdf5')))} files)"
        for folder in sorted(output.glob("snapdir_*"))[:_SHOWN]
    ]
    return _row(
        "simulation",
        "missing",
        f"{output} has no group catalogue (groups_NNN), only {', '.join(folders)}: a subbox or an "
        "incomplete download; sfr map looks at single files",
    )


def _files(snap: int, kind: str, statuses: Sequence[FileStatus]) -> dict[str, object]:
    what = f"{snap} {kind}"
    absent = [s for s in statuses if not s.present]
    broken = [s for s in statuses if s.present and not s.readable]
    said = []
    if broken:
        others = f" ({len(broken)} of {len(statuses)} files; this is the first)"
        said.append(broken[0].detail + others * (len(broken) > 1))
    if absent:
        names = ", ".join(s.fetch for s in absent[:_SHOWN])
        more = f" and {len(absent) - _SHOWN} more" if len(absent) > _SHOWN else ""
        count = f"{len(absent)} of {len(statuses)}"
        count += " are missing" if broken else ""
        said.append(f"{count}; the first is {absent[0].path}; fetch {names}{more}")
    if said:
        return _row(what, "unreadable" if broken else "missing", "; ".join(said))
    return _row(what, "ok", f"{len(statuses)} files")


def _ranges(numbers: Sequence[int]) -> str:
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts) or "none"
