"""Galaxies to PNG: the pipeline on two cores beside the published way, on the same mock."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import peers
from illustris_python import groupcat
from illustris_python import snapshot as il
from PIL import Image
from timing import table

from sfr import units
from sfr.compute.machine import reuse_memory
from sfr.imaging.lupton import lupton_rgb
from sfr.imaging.png import write_png
from sfr.recipe import load_recipe
from sfr.render.orient import Galaxy
from sfr.render.project import render_galaxy
from sfr.render.reference import face_on_rotation
from sfr.run.workspace import Workspace
from sfr.simulation import open_simulation
from sfr.simulation.mock import write_mock

GALAXIES, CELLS, SNAP = 20, 700_000, 99
GAS = ["Coordinates", "InternalEnergy", "ElectronAbundance", "Density", "Masses"]
STARS = ["Coordinates", "Velocities", "Masses", "GFM_StellarFormationTime"]
#: Any fixed numbers: both sides divide by the same.
MAXIMA = np.array([6.21e3, 1.56e-2, 1.25e4])

_simulation = None
#: Without the maps of other readings, which the published way does not make either.
_recipe = load_recipe("thesis")
_recipe = replace(_recipe, maps=replace(_recipe.maps, candidates=()))


def _start(output: str) -> None:
    global _simulation
    reuse_memory()  # as every worker of sfr render does
    _simulation = open_simulation(output, mapped=True)
    _simulation.header(SNAP)


def ours(job: tuple[int, int, np.ndarray, float, str]) -> int:
    subhalo, group, centre, radius, out = job
    galaxy = Galaxy(centre, radius)
    found = render_galaxy(_simulation, SNAP, subhalo, group, galaxy, _recipe, threads=1)
    rgb = lupton_rgb(found.maps / MAXIMA[:, None, None], _recipe.image)
    write_png(Workspace(Path(out)), Path(out) / f"ours{subhalo}.png", rgb)
    return found.ledger.n_read


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
    loops = peers.Loops()
    with tempfile.TemporaryDirectory() as folder:
        made = write_mock(Path(folder) / "sim", galaxies=GALAXIES, snaps=[SNAP], cells=CELLS)
        output, out = made.path / "output", Path(folder) / "png"
        out.mkdir()
        work = jobs(output, made.subhalo_ids[SNAP], str(out))
        context = multiprocessing.get_context("spawn")
        times: dict[str, list[float]] = {"sfr, two processes": [], "the published way": []}
        with ProcessPoolExecutor(2, context, _start, (str(output),)) as pool:
            cells = list(pool.map(ours, work))
            for _ in range(rounds):
                begin = time.perf_counter()
                list(pool.map(ours, work))
                times["sfr, two processes"].append(time.perf_counter() - begin)
                begin = time.perf_counter()
                for job in work:
                    published(output, loops, job)
                times["the published way"].append(time.perf_counter() - begin)
        differences = sorted(_difference(out, job[0]) for job in work)
    medians = {name: float(np.median(found)) / GALAXIES for name, found in times.items()}
    best = medians["sfr, two processes"]
    rows = [(name, f"{1e3 * t:.1f}", f"{t / best:.1f}") for name, t in medians.items()]
    return (
        f"{GALAXIES} galaxies of groups of {min(cells):,} to {max(cells):,} cells (mean "
        f"{int(np.mean(cells)):,}); same stars and orientation read, imports excluded. Of "
        f"the median image {differences[len(differences) // 2]:.1%} of the pixels differ by more "
        f"than one level; {sum(d > 0.01 for d in differences)} galaxies, without enough young "
        "stars, are oriented by a rung that the published way does not have. Goal: 8 times.\n\n"
        + table(("way", "ms a galaxy", "times ours"), rows)
    )


def _difference(out: Path, subhalo: int) -> float:
    pair = [np.asarray(Image.open(out / f"{who}{subhalo}.png"), int) for who in ("ours", "theirs")]
    return float((np.abs(pair[0] - pair[1]).max(axis=-1) > 1).mean())
