"""How rendering scales: galaxies, workers, Dask, memory, kills, opened chunks.

    python benches/python/render_scaling.py WHAT [--folder DIR] [--galaxies N] [--cells N] ...

Every WHAT checks its result before it prints a number; `docs/cluster.md` holds a table of them. The
mock simulations are written into ``--folder`` once and kept there.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from sfr.compute.machine import anonymous_memory

SFR = (sys.executable, "-c", "from sfr.cli import main; main()")
SNAP = 99


def mock(folder: Path, galaxies: int, cells: int) -> Path:
    """Mock simulation of so many galaxies with one snapshot, written where it is not there."""
    from sfr.simulation.mock import write_mock

    path = folder / f"mock-{galaxies}-{cells}"
    if not path.is_dir():
        write_mock(path, galaxies=galaxies, snaps=[SNAP], cells=cells)
    return path


def recipe(folder: Path, readings: int) -> Path:
    """The thesis with so many candidate readings: more to compute, no more to write."""
    entries = [
        f'{{ name = "{field}_{weight}_{statistic}", field = "{field}", weight = "{weight}", '
        f'statistic = "{statistic}" }}'
        for statistic in ("sum", "mean")
        for weight in ("none", "mass", "volume")
        for base in ("temperature", "entropy", "density")
        for field in (base, f"log10_{base}")
    ]
    path = folder / f"readings-{readings}.toml"
    chosen = ",\n  ".join(entries[:readings])
    path.write_text(f'extends = "thesis"\n[maps]\ncandidates = [\n  {chosen}\n]\n', "utf-8")
    return path


def command(sim: Path, work: Path, *options: object) -> list[str]:
    words = [*SFR, "render", "--sim", sim, "--snap", SNAP, "--work", work, "--quiet", *options]
    return [str(word) for word in words]


def render(sim: Path, work: Path, *options: object) -> dict[str, Any]:
    """Render; return the last line of run.jsonl of each step."""
    subprocess.run(command(sim, work, *options), check=True, stdout=subprocess.DEVNULL)
    return log(work)


def log(work: Path) -> dict[str, Any]:
    """Return the last line of run.jsonl of each step."""
    lines = map(json.loads, (work / "run.jsonl").read_text("utf-8").splitlines())
    return {line["step"]: line for line in lines}


def peak_memory(sim: Path, work: Path, *options: object) -> int:
    """Render; return the largest anonymous memory of all its processes, by looking often."""
    process = subprocess.Popen(command(sim, work, *options), stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, anonymous_memory([process.pid, *children_of(process.pid)]) or 0)
        time.sleep(0.01)
    assert process.returncode == 0
    return peak


def seconds(steps: dict[str, Any]) -> float:
    """Time of maps and images; start and imports are not part of it."""
    return sum(steps[f"{name}-{SNAP:03d}"]["seconds"] for name in ("maps", "images"))


def results(work: Path) -> dict[str, str]:
    """Hash of every result: all files but the log, the locks and what a killed process left.

    A process that is killed while the disk is busy dies late; its scratch is for the next start.
    """
    files = {path.relative_to(work): path for path in sorted(work.rglob("*")) if path.is_file()}
    return {
        name.as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files.items()
        if name.parts[0] not in {"run.jsonl", ".tmp"} and path.suffix != ".lock"
    }


def digest(work: Path) -> str:
    """One hash of all results."""
    return hashlib.sha256(json.dumps(results(work)).encode()).hexdigest()


def flat(folder: Path, arguments: argparse.Namespace) -> None:
    """Cost per galaxy and peak anonymous memory against the number of galaxies."""
    print(f"{'galaxies':>8} {'shards':>7} {'ms/galaxy':>10} {'of it maps':>10} {'peak MB':>8}")
    costs = []
    for galaxies in arguments.series:
        sim = mock(folder, galaxies, arguments.cells)
        found = []
        for _ in range(arguments.repeat):
            with tempfile.TemporaryDirectory(dir=folder) as work:
                peak = peak_memory(sim, Path(work), "--workers", 1, "--threads", 1)
                steps = log(Path(work))
            maps = steps[f"maps-{SNAP:03d}"]
            assert maps["counts"]["galaxies"] == galaxies
            found.append((1e3 * seconds(steps) / galaxies, maps, peak))
        cost, maps, peak = sorted(found, key=lambda one: one[0])[len(found) // 2]
        costs.append(cost)
        print(
            f"{galaxies:8} {maps['counts']['shards']:7} {cost:10.2f} "
            f"{1e3 * maps['seconds'] / galaxies:10.2f} {peak / 1e6:8.1f}",
            flush=True,
        )
    middle = (max(costs) + min(costs)) / 2
    print(f"cost per galaxy within +-{100 * (max(costs) - middle) / middle:.1f} %")


def workers(folder: Path, arguments: argparse.Namespace) -> None:
    """Two workers of one thread against one worker of one thread, interleaved."""
    sim = mock(folder, arguments.galaxies, arguments.cells)
    times: dict[int, list[float]] = {1: [], 2: []}
    digests = set()
    for _ in range(arguments.repeat):
        for count, found in times.items():
            with tempfile.TemporaryDirectory(dir=folder) as work:
                found.append(seconds(render(sim, Path(work), "--workers", count, "--threads", 1)))
                digests.add(digest(Path(work)))
    assert len(digests) == 1, "results differ"
    one, two = (statistics.median(times[n]) for n in (1, 2))
    print(f"{arguments.galaxies} galaxies, {arguments.cells} cells a group, same bytes")
    print(f"1 worker {one:.2f} s, 2 workers {two:.2f} s: {one / two:.2f}x (median of {times})")


def dask(folder: Path, arguments: argparse.Namespace) -> None:
    """Time --workers 2, or with --scheduler a Dask cluster of two local workers; they are long."""
    sim = mock(folder, arguments.galaxies, arguments.cells)
    with contextlib.ExitStack() as stack:
        options: list[object] = ["--workers", 2, "--threads", 1]
        if arguments.scheduler:
            from distributed import LocalCluster

            cluster = stack.enter_context(
                LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
            )
            options = ["--scheduler", cluster.scheduler_address]
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        steps = render(sim, work, *options, "--recipe", recipe(folder, arguments.readings))
        print(f"{options[0]}: {seconds(steps):.2f} s, results {digest(work)[:16]}")


def kills(folder: Path, arguments: argparse.Namespace) -> None:
    """Kill -9 the command, or one of its workers, at random moments until it gets through."""
    sim = mock(folder, arguments.galaxies, arguments.cells)
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        whole, broken = Path(name, "whole"), Path(name, "broken")
        start = time.monotonic()
        render(sim, whole, "--workers", 2, "--threads", 1)
        duration = time.monotonic() - start
        made = done = 0
        for cycle in range(arguments.cycles):
            # the moments crawl over the run, so that every step is hit
            process = subprocess.Popen(
                command(sim, broken, "--workers", 1 + cycle % 2, "--threads", 1),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(rng.uniform(0.1, 1.0) * duration)
            if process.poll() is None:
                victim = process.pid
                children = children_of(process.pid)
                if cycle % 4 == 3 and children:
                    victim = rng.choice(children)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                made += 1
            done += process.wait() == 0
            if process.returncode == 0:
                check_same(whole, broken)
                # begin again, so that every cycle has something to kill
                subprocess.run(["rm", "-rf", str(broken)], check=True)
        render(sim, broken, "--workers", 2, "--threads", 1)
        check_same(whole, broken)
    print(
        f"{arguments.cycles} cycles of {duration:.1f} s runs, {made} kills, {done} got through by "
        "themselves: results byte-identical"
    )


def children_of(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
    except OSError:
        return []
    return [int(word) for word in text.split()]


def check_same(whole: Path, broken: Path) -> None:
    expected, found = results(whole), results(broken)
    names = [n for n in {**expected, **found} if expected.get(n) != found.get(n)]
    if names:
        raise SystemExit(f"results differ: {sorted(names)}")


def opens(folder: Path, arguments: argparse.Namespace) -> None:
    """Count opened snapshot chunks of a mock that is cut into 16 of them."""
    from typer.testing import CliRunner

    from sfr.cli import app
    from sfr.simulation import hdf5, particle_file

    sim = cut_into_chunks(mock(folder, arguments.galaxies, arguments.cells), folder, 16)
    counts: Counter[str] = Counter()
    original = hdf5.open_hdf5

    def counted(path: Path):
        counts[path.name] += 1
        return original(path)

    particle_file.open_hdf5 = counted
    for part in ("1/1", "1/4", "1/12"):
        needed = needed_chunks(sim, *map(int, part.split("/")))
        counts.clear()
        with tempfile.TemporaryDirectory(dir=folder) as work:
            options = () if part == "1/1" else ("--shard", part)
            words = (
                "render",
                "--sim",
                sim,
                "--snap",
                SNAP,
                "--work",
                work,
                "--workers",
                1,
                *options,
            )
            result = CliRunner().invoke(app, [str(word) for word in words])
            assert result.exit_code == 0, result.output
        opened = {name for name in counts if name.startswith("snap_")}
        print(
            f"part {part}: {len(opened)} of 16 chunks opened, {sum(counts.values())} opens; "
            f"the galaxies lie in {len(needed)}"
        )
        assert opened - needed <= {f"snap_{SNAP:03d}.0.hdf5"}, "opened what no galaxy needs"


def needed_chunks(sim: Path, part: int, n_parts: int) -> set[str]:
    """Chunks that hold particles of a part of the sample, from the offsets alone."""
    import numpy as np

    from sfr.recipe import load_recipe
    from sfr.render.plan import plan_shards
    from sfr.run.workspace import Workspace
    from sfr.sample.select import select
    from sfr.simulation import open_simulation

    with tempfile.TemporaryDirectory() as work, open_simulation(sim) as simulation:
        thesis = load_recipe("thesis")
        sample = select(simulation, Workspace(work), thesis, [SNAP]).sample
        shards = plan_shards(sample, thesis.maps)
        first, last = ((i * len(shards)) // n_parts for i in (part - 1, part))
        rows = np.concatenate(shards[first:last])
        segments = [
            segment
            for kind, ids, part_type in (
                ("group", sample["group_id"][rows], 0),
                ("subhalo", sample["subhalo_id"][rows], 4),
            )
            for i in ids
            for segment in simulation.rows(SNAP, kind, int(i), part_type)
        ]
        return {segment.path.name for segment in segments}


def cut_into_chunks(sim: Path, folder: Path, n_chunks: int) -> Path:
    """Copy a mock simulation with its snapshot cut into so many chunks of the same size."""
    import shutil

    import h5py
    import numpy as np

    target = folder / f"{sim.name}-in-{n_chunks}"
    if target.is_dir():
        return target
    temporary = folder / f"{target.name}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(sim, temporary)
    chunks = sorted((temporary / f"output/snapdir_{SNAP:03d}").glob("*.hdf5"))
    columns: dict[str, dict[str, list]] = {}
    attributes = {}
    for path in chunks:
        with h5py.File(path) as file:
            others = {name: dict(file[name].attrs) for name in file if name != "Header"}
            header = dict(file["Header"].attrs)
            for name in file:
                if name.startswith("PartType"):
                    for field, dataset in file[name].items():
                        columns.setdefault(name, {}).setdefault(field, []).append(dataset[()])
                else:
                    attributes[name] = others.get(name, header)
        path.unlink()
    joined = {
        name: {field: np.concatenate(parts) for field, parts in fields.items()}
        for name, fields in columns.items()
    }
    starts = np.zeros((n_chunks, 6), np.int64)
    for number in range(n_chunks):
        here = np.zeros(6, np.int32)
        with h5py.File(chunks[0].with_name(f"snap_{SNAP:03d}.{number}.hdf5"), "w") as file:
            for name, fields in joined.items():
                kind = int(name.removeprefix("PartType"))
                n = len(next(iter(fields.values())))
                first, last = (i * n // n_chunks for i in (number, number + 1))
                starts[number, kind], here[kind] = first, last - first
                if last > first:
                    for field, values in fields.items():
                        file.create_dataset(f"{name}/{field}", data=values[first:last])
            for name, values in attributes.items():
                file.require_group(name).attrs.update(values)
            file["Header"].attrs["NumPart_ThisFile"] = here
            file["Header"].attrs["NumFilesPerSnapshot"] = np.int32(n_chunks)
    with h5py.File(temporary / f"postprocessing/offsets/offsets_{SNAP:03d}.hdf5", "r+") as file:
        del file["FileOffsets/SnapByType"]
        file["FileOffsets/SnapByType"] = starts
    temporary.rename(target)
    return target


def main() -> None:
    """Run one of the benches."""
    benches = {"flat": flat, "workers": workers, "dask": dask, "kills": kills, "opens": opens}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=benches)
    parser.add_argument("--folder", type=Path, default=Path("bench-render"))
    parser.add_argument("--galaxies", type=int, default=300)
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--series", type=int, nargs="+", default=[100, 500, 2000, 5000])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--readings", type=int, default=36, help="dask: candidate readings")
    parser.add_argument("--scheduler", action="store_true", help="dask: on a Dask cluster")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    benches[arguments.what](folder, arguments)


if __name__ == "__main__":
    main()
