"""Galaxies to PNG: the pipeline on two cores beside the published way, on the same mock."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import peers
from illustris_python import groupcat
from illustris_python import snapshot as il
from PIL import Image
from timing import table

from sfr import units
from sfr.compute.machine import reuse_memory
from sfr.imaging.normalise import Normalisation, range_normalisation
from sfr.imaging.png import save_png
from sfr.imaging.rgb import rgb_image
from sfr.recipe import Recipe, load_recipe
from sfr.render.fields import channel_unit
from sfr.render.orient import Galaxy
from sfr.render.project import render_galaxy
from sfr.render.reference import face_on_rotation
from sfr.run.workspace import Workspace
from sfr.simulation import open_simulation
from sfr.simulation.mock import write_mock

GALAXIES, CELLS, SNAP = 20, 700_000, 99
#: The images of a shard are flushed together; those of a run have about 24 galaxies.
N_SHARDS = 2
GAS = ["Coordinates", "InternalEnergy", "ElectronAbundance", "Density", "Masses"]
STARS = ["Coordinates", "Velocities", "Masses", "GFM_StellarFormationTime"]
RECIPES = ("thesis", "corrected")
PUBLISHED = "the published way"
#: Any fixed numbers: both sides divide by the same.
MAXIMA = np.array([6.21e3, 1.56e-2, 1.25e4])

_simulation = None


def _start(output: str) -> None:
    global _simulation
    reuse_memory()  # as every worker of sfr render does
    _simulation = open_simulation(output, mapped=True)
    _simulation.header(SNAP)


def _recipe(name: str) -> Recipe:
    """A recipe without the maps of other readings, which the published way does not make either."""
    recipe = load_recipe(name)
    return replace(recipe, maps=replace(recipe.maps, candidates=()))


def _normalisation(recipe: Recipe) -> Normalisation:
    channels = recipe.maps.channels
    if recipe.normalisation.by == "range":
        return range_normalisation(channels, [channel_unit(channel) for channel in channels])
    return Normalisation(tuple((0.0, float(m)) for m in MAXIMA), clips=False, document={})


def ours(name: str, shard: list[tuple]) -> tuple[list[int], float]:
    """Cells of the galaxies of a shard, and CPU seconds; images are flushed as those of a run."""
    begin = time.process_time()
    recipe = _recipe(name)
    normalisation, channels = _normalisation(recipe), [c.name for c in recipe.maps.channels]
    out, cells = Path(shard[0][-1]), []
    paths = [out / f"{name}{job[0]}.png" for job in shard]
    with Workspace(out).replacing_all(paths) as files:
        for (subhalo, group, centre, radius, _), file in zip(shard, files, strict=True):
            galaxy = Galaxy(centre, radius)
            found = render_galaxy(_simulation, SNAP, subhalo, group, galaxy, recipe, threads=1)
            save_png(file, rgb_image(normalisation.apply(found.maps), recipe.image, channels))
            cells.append(found.ledger.n_read)
    return cells, time.process_time() - begin


def published(output: Path, loops: peers.Loops, job: tuple) -> None:
    """illustris_python, NumPy, a C loop for each channel, Pillow."""
    subhalo, group, centre, radius, out = job
    header = groupcat.loadHeader(str(output), SNAP)
    cells = il.loadHalo(str(output), SNAP, group, "gas", fields=GAS)
    stars = il.loadSubhalo(str(output), SNAP, subhalo, "stars", fields=STARS)
    box = header["BoxSize"]
    rotation = np.eye(3)
    if stars["count"]:
        born = stars["GFM_StellarFormationTime"]
        d = stars["Coordinates"] - centre
        d -= box * np.rint(d / box)
        near = (born > 0) & ((d**2).sum(axis=1) < (2 * radius) ** 2)
        cosmology = {
            "omega0": header["Omega0"],
            "omega_lambda": header["OmegaLambda"],
            "hubble_param": header["HubbleParam"],
        }
        now = units.scale_factor_age_gyr(np.array([header["Time"]]), **cosmology)
        ages = now - units.scale_factor_age_gyr(np.abs(born), **cosmology)
        for limit in (0.1, 0.3, 1.0):
            young = near & (ages < limit)
            if young.sum() >= 100:
                v = stars["Velocities"][young] * np.sqrt(header["Time"])
                bulk = np.average(v, axis=0, weights=stars["Masses"][young])
                rotation = face_on_rotation(np.cross(d[young], v - bulk).sum(axis=0))
                break
    g = peers.Gas(*(cells[name] for name in GAS))
    old = peers.CENTRE.copy(), peers.ROTATION.copy()
    peers.CENTRE[:], peers.ROTATION[:] = centre, rotation
    images = loops.listing(g, scale=0.99)
    peers.CENTRE[:], peers.ROTATION[:] = old
    r, g_, b = images / MAXIMA[:, None, None]
    intensity = (r + g_ + b) / 3
    f = np.arcsinh(np.abs(intensity) / 0.001) / np.arcsinh(1 / 0.001)
    with np.errstate(invalid="ignore", divide="ignore"):
        rgb = np.nan_to_num(np.stack([r, g_, b], -1) * (f / intensity)[..., None])
    picture = (255 * np.clip(rgb, 0, 1)).astype(np.uint8).transpose(1, 0, 2)[::-1]
    Image.fromarray(np.ascontiguousarray(picture)).save(Path(out) / f"theirs{subhalo}.png")


def jobs(output: Path, ids: tuple[int, ...], out: str) -> list[tuple]:
    fields = ["SubhaloPos", "SubhaloGrNr", "SubhaloHalfmassRadType"]
    found = groupcat.loadSubhalos(str(output), SNAP, fields=fields)
    return [
        (i, int(found["SubhaloGrNr"][i]), found["SubhaloPos"][i].astype(np.float64),
         float(found["SubhaloHalfmassRadType"][i, 4]), out)
        for i in ids
    ]  # fmt: skip


def run(rounds: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        made = write_mock(Path(folder) / "sim", galaxies=GALAXIES, snaps=[SNAP], cells=CELLS)
        return compare(made.path / "output", made.subhalo_ids[SNAP], Path(folder) / "png", rounds)


def compare(output: Path, ids: tuple[int, ...], out: Path, rounds: int) -> str:
    """Time all ways in turn on galaxies of a simulation; write images into a folder."""
    out.mkdir(exist_ok=True)
    loops = peers.Loops()
    work = jobs(output, ids, str(out))
    shards = [work[i::N_SHARDS] for i in range(N_SHARDS)]
    wall: dict[str, list[float]] = {name: [] for name in (*RECIPES, PUBLISHED)}
    cpu: dict[str, list[float]] = {name: [] for name in wall}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, _start, (str(output),)) as pool:

        def in_pool(name: str) -> tuple[list[int], float]:
            found = list(pool.map(partial(ours, name), shards))
            return [n for cells, _ in found for n in cells], sum(seconds for _, seconds in found)

        cells, _ = in_pool("thesis")
        in_pool("corrected")
        for _ in range(rounds):
            for name in wall:
                begin, used = time.perf_counter(), time.process_time()
                if name == PUBLISHED:
                    for job in work:
                        published(output, loops, job)
                    seconds = time.process_time() - used
                else:
                    _, seconds = in_pool(name)
                wall[name].append(time.perf_counter() - begin)
                cpu[name].append(seconds)
    differences = sorted(_difference(out, job[0]) for job in work)
    walls, cpus = (
        {name: 1e3 * float(np.median(found)) / len(work) for name, found in times.items()}
        for times in (wall, cpu)
    )
    rows = [
        (
            name if name == PUBLISHED else f"sfr, two processes, `{name}`",
            f"{walls[name]:.1f}",
            f"{cpus[name]:.1f}",
            f"{walls[PUBLISHED] / walls[name]:.1f}",
        )
        for name in wall
    ]
    return (
        f"{len(work)} galaxies of groups of {min(cells):,} to {max(cells):,} cells (mean "
        f"{int(np.mean(cells)):,}); same stars and orientation read, imports excluded; images are "
        f"flushed {len(shards[0])} together. Of the median image of `thesis` "
        f"{differences[len(differences) // 2]:.1%} of the pixels differ by more than one level; "
        f"{sum(d > 0.01 for d in differences)} galaxies, without enough young stars, are oriented "
        "by a rung that the published way does not have. Goal: 8 times.\n\n"
        + table(("way", "ms a galaxy", "CPU ms a galaxy", "times the published way"), rows)
    )


def _difference(out: Path, subhalo: int) -> float:
    names = (f"thesis{subhalo}.png", f"theirs{subhalo}.png")
    pair = [np.asarray(Image.open(out / name), int) for name in names]
    return float((np.abs(pair[0] - pair[1]).max(axis=-1) > 1).mean())
