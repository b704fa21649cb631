"""From files to maps: mapped and culled beside illustris_python, on the same warm files."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import peers
from illustris_python import snapshot as il
from numpy.typing import NDArray
from timing import medians, table

from sfr.recipe import load_recipe
from sfr.render.orient import Orientation
from sfr.render.project import make_maps
from sfr.simulation import open_simulation
from sfr.simulation.mock import write_mock

N = 1_500_000
FIELDS = ["Coordinates", "InternalEnergy", "ElectronAbundance", "Density", "Masses"]
CHANNELS = ("entropy", "mass", "log10_temperature")


def spread(output: Path, group: int, halo: Callable[[int], NDArray[np.float64]]) -> None:
    """Lay the cells of a group about the centre of the benches."""
    with open_simulation(output) as simulation:
        parts = simulation.rows(99, "group", group, 0)
    total = sum(part.stop - part.start for part in parts)
    places, done = halo(total), 0
    for part in parts:
        with h5py.File(part.path, "r+") as file:
            rows = part.stop - part.start
            file["PartType0/Coordinates"][part.start : part.stop] = places[done : done + rows]
            done += rows


def load(output: Path, group: int) -> peers.Gas:
    found = il.loadHalo(str(output), 99, group, "gas", fields=FIELDS)
    return peers.Gas(*(found[name] for name in FIELDS))


def run(rounds: int) -> str:
    loops, text = peers.Loops(), []
    recipe = replace(load_recipe("thesis").maps, bin_scale=1.0, candidates=())
    orientation = Orientation(peers.ROTATION, "none", 0, np.nan)
    with tempfile.TemporaryDirectory() as folder:
        output = write_mock(Path(folder) / "sim", galaxies=1, snaps=[99], cells=N).path / "output"
        group = largest_group(output)
        rows = []
        for name, halo, goal in (
            ("compact", lambda n: peers.halo(n, reach=40.0), 2),
            ("extended", peers.extended_halo, 4),
        ):
            spread(output, group, halo)
            mapped, read = (open_simulation(output, mapped=m) for m in (True, False))

            def ours(simulation):
                return make_maps(
                    simulation.segments(99, "group", group, 0), peers.CENTRE, orientation,
                    simulation.header(99), recipe, threads=2,
                )  # fmt: skip

            jobs = {
                "sfr, mapped": partial(ours, mapped),
                "sfr, read": partial(ours, read),
                "loadHalo, then sfr project": lambda: peers.ours(load(output, group), 2),
                "the published way": lambda: loops.listing(load(output, group)),
            }
            made = ours(mapped)
            if ours(read).maps.tobytes() != made.maps.tobytes():
                raise SystemExit("mapped and read maps differ")
            share = made.ledger.n_in_frame / made.ledger.n_read
            times = medians(jobs, rounds)
            goals = {"loadHalo, then sfr project": goal, "the published way": 10}
            rows += [
                (f"{name} ({share:.0%})", way, f"{1e3 * t:.1f}",
                 f"{t / times['sfr, mapped']:.2f}", goals.get(way, ""))
                for way, t in times.items()
            ]  # fmt: skip
            mapped.close()
            read.close()
        cells = made.ledger.n_read
        text.append(
            f"A group of {cells:,} cells, files in the page cache, two threads, T and K made."
        )
        text.append(table(("halo", "way", "ms", "times ours", "goal"), rows))
    text.append(memory())
    return "\n\n".join(text)


def largest_group(output: Path) -> int:
    from illustris_python import groupcat

    lengths = groupcat.loadHalos(str(output), 99, fields=["GroupLenType"])
    return int(np.argmax(lengths[:, 0]))


def memory() -> str:
    """Anonymous memory of a group of 50 million cells, read and mapped, each in a process."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "snap_099.0.hdf5"
        write_chunk(path, 50_000_000)
        for mapped in ("mapped", "read"):
            code = [sys.executable, str(Path(__file__).with_name("big_group.py")), path, mapped]
            done = subprocess.run(code, check=True, capture_output=True, text=True)
            found.append(f"{mapped}: {done.stdout.strip()}")
    return "A group of 50 million cells: " + "; ".join(found) + " (goal: less than 400 MB)."


def write_chunk(path: Path, n: int) -> None:
    """One snapshot chunk with nothing but gas, written piece by piece."""
    with h5py.File(path, "w") as file:
        header = {
            "Time": 1.0, "Redshift": 0.0, "HubbleParam": 0.6774, "Omega0": 0.3089,
            "OmegaLambda": 0.6911, "BoxSize": peers.BOX, "NumPart_ThisFile": [n, 0, 0, 0, 0, 0],
            "MassTable": np.zeros(6), "NumFilesPerSnapshot": 1,
        }  # fmt: skip
        file.create_group("Header").attrs.update(header)
        group = file.create_group("PartType0")
        group.create_dataset("Coordinates", (n, 3), np.float64)
        for name in FIELDS[1:]:
            group.create_dataset(name, (n,), np.float32)
        piece = peers.gas(1_000_000)
        values = (piece.coordinates, piece.energy, piece.electrons, piece.density, piece.masses)
        for start in range(0, n, 1_000_000):
            for name, column in zip(FIELDS, values, strict=True):
                group[name][start : start + 1_000_000] = column
