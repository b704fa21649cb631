"""Deposits against exact columns through the Voronoi mesh, on the cells of mock galaxies.

A cell of AREPO is a Voronoi polyhedron of constant density. Volumes are those of the mesh that
SciPy builds from the positions (the mock's Density knows of none), columns are the mean of
4 x 4 rays a pixel through it (vortrace). It needs the environment of bench_deposits.py
with vortrace and scipy:

    sfr mock mock --galaxies 40 --snaps 99 --seed 1 --cells 40000
    sfr select --sim mock --snap 99 --work thesis
    PYTHONPATH=python /tmp/peers/bin/python benches/python/voronoi_columns.py mock thesis
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import vortrace
from bench_deposits import JOBS, Array, Cells
from scipy.spatial import ConvexHull, Voronoi
from timing import table

from sfr.simulation import open_simulation

SNAP, HALF, BINS, RAYS = 99, 30.0, 128, 4
WAYS = ("sfr smoothed", "sfr histogram", "swiftsimio fast", "swiftsimio subsampled", "yt")


def gas_near(simulation: str, group: int) -> tuple[Array, Array]:
    """Positions about the densest cell and masses, within twice the frame."""
    source = open_simulation(simulation)
    period = source.header(SNAP).box_size
    names = ["Coordinates", "Masses", "Density"]
    pieces = [piece.read(names) for piece in source.segments(SNAP, "group", group, 0)]
    x, m, density = (np.concatenate([p[name] for p in pieces]).astype(float) for name in names)
    x -= x[np.argmax(density)]
    x -= period * np.rint(x / period)
    near = (np.abs(x) < 2 * HALF).all(axis=1)
    return x[near], m[near]


def volumes(x: Array) -> Array:
    """Volumes of the Voronoi cells; NaN of those at the rim."""
    mesh = Voronoi(x)
    found = np.full(len(x), np.nan)
    for i, region in enumerate(mesh.point_region):
        corners = mesh.vertices[mesh.regions[region]]
        if -1 not in mesh.regions[region] and np.abs(corners).max() < 4 * HALF:
            found[i] = ConvexHull(corners).volume
    return found


def columns(x: Array, density: Array) -> Array:
    """Mean column density of each pixel."""
    n = BINS * RAYS
    middles = (np.arange(n) + 0.5) * 2 * HALF / n - HALF
    plane = np.stack(np.meshgrid(middles, middles, indexing="ij"), -1).reshape(-1, 2)
    depth = np.full((len(plane), 1), 2 * HALF * 0.999)
    cloud = vortrace.ProjectionCloud(x, density, boundbox=[-2 * HALF, 2 * HALF] * 3)
    found = cloud.projection(np.hstack([plane, -depth]), np.hstack([plane, depth]))
    return found.reshape(BINS, RAYS, BINS, RAYS).mean((1, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("simulation")
    parser.add_argument("work")
    parser.add_argument("--galaxies", type=int, default=3)
    options = parser.parse_args()
    rows = []
    sample = csv.DictReader((Path(options.work) / "sample.csv").read_text("utf-8").splitlines())
    for row in list(sample)[: options.galaxies]:
        x, m = gas_near(options.simulation, int(row["group_id"]))
        volume = volumes(x)
        whole = np.isfinite(volume)
        exact = columns(x, np.where(whole, m / volume, 0.0)) * (2 * HALF / BINS) ** 2
        cells = Cells.of((x[whole] + HALF) * BINS / (2 * HALF), m[whole],
                         volume[whole] * (BINS / (2 * HALF)) ** 3, BINS)  # fmt: skip
        for name in WAYS:
            image = JOBS[name](cells)()
            off = np.abs(image / exact - 1)
            with np.errstate(divide="ignore"):
                dex = np.log10(image / exact)
            rms = np.sqrt(np.mean(dex[image > 0] ** 2))
            rows.append(
                (row["subhalo_id"], f"{whole.sum():,}", name, f"{np.median(off):.1%}",
                 f"{rms:.3f}", f"{np.mean(image == 0):.0%}",
                 f"{image.sum() / exact.sum() - 1:+.2%}")
            )  # fmt: skip
    header = ("galaxy", "cells", "deposit", "median off", "rms off [dex], of pixels with gas",
              "empty", "all, off")  # fmt: skip
    print(table(header, rows))


if __name__ == "__main__":
    main()
