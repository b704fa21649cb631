"""``sfr doctor``: what is there, what is missing, what to fetch."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sfr.cli import options as opt
from sfr.cli.console import Console, exit_codes
from sfr.errors import SfrError

if TYPE_CHECKING:
    from sfr.simulation import FileStatus, LocalSimulation, ParticleFile

__all__ = ["register"]

_DATA_MISSING = 3
_SHOWN = 3


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command()
    @exit_codes
    def doctor(
        snap: opt.Snap = None,
        sim: opt.Sim = None,
        work: opt.Work = opt.DEFAULT_WORK,
        as_json: opt.Json = False,
        verbose: opt.Verbose = False,
        quiet: opt.Quiet = False,
    ) -> None:
        """Check versions, the network's backend and weights, disk, and the simulation's files.

        --sim may also name a single snapshot chunk or cutout. The exit code is 3 where something
        is missing or cannot be read.

        Examples:

          sfr doctor

          sfr doctor --sim TNG50-1 --snap 97-99

          sfr doctor --sim cutout_123.hdf5
        """
        console = Console(verbose=verbose, quiet=quiet, as_json=as_json)
        rows = [*_software(), *_disk(work)]
        if sim is None:
            sim = _stored_simulation(work)
        if sim is not None:
            rows += _one_file(sim) if sim.is_file() else _simulation(sim, opt.parse_snapshots(snap))
        else:
            rows.append(
                _row("simulation", "none", "give --sim or set SFR_SIM; sfr demo needs none")
            )
        console.table("sfr doctor", rows, key="checks")
        if any(row["state"] in ("missing", "unreadable") for row in rows):
            raise typer.Exit(_DATA_MISSING)


def _row(what: str, state: str, detail: str) -> dict[str, object]:
    return {"check": what, "state": state, "detail": detail}


def _software() -> list[dict[str, object]]:
    import os
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from sfr.render import kernels
    from sfr.train.diagnose import describe_backend, find_imagenet_weights

    rows = [_row("python", "ok", platform.python_version())]
    for package in ("tng-sfr", "numpy", "h5py", "illustris_python", "keras"):
        try:
            rows.append(_row(package, "ok", version(package)))
        except PackageNotFoundError:
            rows.append(_row(package, "missing", f"pip install {package}"))
    build = kernels.build_profile()
    advice = "" if build == "release" else "; slow: build with maturin develop --release"
    rows.append(_row("kernels", "ok", f"{build} build, {os.cpu_count()} cores{advice}"))
    try:
        rows.append(_row("network backend", "ok", describe_backend()))
    except SfrError as error:
        rows.append(_row("network backend", "missing", str(error)))
    weights = find_imagenet_weights()
    rows.append(
        _row("ImageNet weights", "ok", str(weights))
        if weights
        else _row(
            "ImageNet weights",
            "not here",
            "downloaded at first use (58 MB); without a network give --weights FILE",
        )
    )
    return rows


def _stored_simulation(work: Path) -> Path | None:
    from sfr.workspace import Workspace

    recipe = Workspace(work).stored_recipe()
    return None if recipe is None or recipe.simulation is None else Path(recipe.simulation)


def _disk(work: Path) -> list[dict[str, object]]:
    folder = work.absolute()
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return [_row("disk", "ok", f"{free / 1e9:.1f} GB free for {work}")]


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


def _simulation(path: Path, snapshots: Sequence[int]) -> list[dict[str, object]]:
    from sfr.simulation import open_simulation

    try:
        simulation = open_simulation(path)
        found = simulation.snapshots()
    except SfrError as error:
        return [_row("simulation", "missing", str(error))]
    if not found:
        return [_no_catalogue(simulation.output)]
    rows = [_named(simulation, found)]
    for snap in snapshots or found:
        try:
            statuses = simulation.inventory(snap)
        except SfrError as error:
            rows.append(_row(f"{snap} group catalogue", "unreadable", str(error)))
            continue
        rows += [
            _files(snap, kind, [s for s in statuses if s.kind == kind])
            for kind in dict.fromkeys(status.kind for status in statuses)
        ]
    return rows


def _named(simulation: LocalSimulation, found: Sequence[int]) -> dict[str, object]:
    try:
        return _row("simulation", "ok", f"{simulation.name}: snapshots {_ranges(found)}")
    except SfrError as error:
        return _row("simulation", "unreadable", str(error))


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
    if broken:
        return _row(what, "unreadable", broken[0].detail)
    if absent:
        names = ", ".join(s.fetch for s in absent[:_SHOWN])
        more = f" and {len(absent) - _SHOWN} more" if len(absent) > _SHOWN else ""
        return _row(
            what,
            "missing",
            f"{len(absent)} of {len(statuses)}; the first is {absent[0].path}; fetch {names}{more}",
        )
    return _row(what, "ok", f"{len(statuses)} files")


def _ranges(numbers: Sequence[int]) -> str:
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts) or "none"
