"""Cells with a size on a picture: this project beside the packages that people use for it.

The same cells, the same picture, two threads where a package has threads; each time is the median
of runs in turn. Every answer is compared with the columns of the cubic spline, pixel by pixel and
in all, so a fast wrong answer is seen. Packages that are not installed are left out with a word:
``make bench`` has swiftsimio. All of them need an environment of their own:

    python -m venv /tmp/peers && /tmp/peers/bin/pip install numpy swiftsimio pynbody yt sphinterp \
        paicos msgspec filelock tomli-w
    PYTHONPATH=python NUMBA_NUM_THREADS=2 /tmp/peers/bin/python benches/python/bench_deposits.py

py-sphviewer 1.2 does not build with a current setuptools; sarracen takes frames of pandas, whose
making is not a deposit. Kernels differ: swiftsimio's is Wendland C2, here with the same support.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from timing import medians, table

from sfr.recipe import load_recipe
from sfr.render import kernels
from sfr.render.orient import Orientation
from sfr.render.project import make_maps
from sfr.simulation.protocol import Header

Array = NDArray[np.float64]
Job = Callable[[], Array]
SUPPORT = 2.5
#: Support over smoothing length of swiftsimio's Wendland C2 in three dimensions.
WENDLAND = 1.936492
THREADS = 2
#: How many times the time of each peer that spreads cells, the fastest included.
GOAL = "3"


class Cells:
    """A disc in a halo, in pixels of the picture: three quarters of the cells are in the frame."""

    def __init__(self, n: int, bins: int, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self.n, self.bins = n, bins
        radius = 1.12 * bins * rng.random(n) ** 1.5
        cos, phi = 2 * rng.random(n) - 1, 2 * np.pi * rng.random(n)
        sin = np.sqrt(1 - cos**2)
        flat = radius[:, None] * np.column_stack([sin * np.cos(phi), sin * np.sin(phi)])
        self.x, self.y = np.ascontiguousarray((flat + bins / 2).T)
        self.z = np.zeros(n)
        #: Radius of a sphere of a cell's volume: half a pixel in the disc, several in the halo.
        self.r = 0.5 * (1 + radius / (bins / 16)) * rng.lognormal(0, 0.35, n)
        self.m = rng.uniform(0.5, 2, n)
        self.rho = self.m / (4 / 3 * np.pi * self.r**3)

    @classmethod
    def of(cls, positions: Array, masses: Array, volumes: Array, bins: int) -> Cells:
        """Cells of one's own: positions and volumes in pixels."""
        cells = cls.__new__(cls)
        cells.n, cells.bins = len(masses), bins
        cells.x, cells.y, cells.z = np.ascontiguousarray(positions.T)
        cells.r = np.cbrt(3 * volumes / (4 * np.pi))
        cells.m, cells.rho = masses, masses / volumes
        return cells

    def near(self, reach: float) -> NDArray[np.bool_]:
        """Those whose centre is in the frame: some packages must be given no others."""
        inside = [(v > reach) & (v < self.bins - reach) for v in (self.x, self.y)]
        return inside[0] & inside[1]


def ours(cells: Cells, *, is_smoothed: bool) -> Job:
    coordinates = np.column_stack([cells.x, cells.y, cells.z])
    volumes = kernels.Product((cells.m,), per=cells.rho) if is_smoothed else None
    middle = cells.bins / 2
    return lambda: kernels.project(
        coordinates,
        [cells.m],
        center=(middle, middle, 0),
        box_size=None,
        rotation=None,
        half_width=middle,
        bins=cells.bins,
        volumes=volumes,
        threads=THREADS,
    ).maps[0]


def swiftsimio(cells: Cells, backend: str) -> Job:
    numba = importlib.import_module("numba")
    module = importlib.import_module("swiftsimio.visualisation.projection_backends")
    numba.set_num_threads(min(THREADS, numba.config.NUMBA_NUM_THREADS))
    x, y = cells.x / cells.bins, cells.y / cells.bins
    m = cells.m.astype(np.float32)
    h = (SUPPORT * cells.r / WENDLAND / cells.bins).astype(np.float32)
    deposit = module.backends_parallel[backend]
    area = cells.bins**-2
    return lambda: np.asarray(deposit(x=x, y=y, m=m, h=h, res=cells.bins)) * area


def sphinterp(cells: Cells) -> Job:
    project = importlib.import_module("sphinterp").projection
    h = SUPPORT * cells.r / 2
    weight, kind = cells.m / (cells.rho * h**3), np.ones(cells.n, np.int32)
    size = (cells.bins, cells.bins)
    return lambda: np.asarray(
        project(
            cells.x, cells.y, cells.z, h, weight, cells.rho, kind, cells.n, 0.0, 0.0, *size,
            1.0, 1.0, False, 0.0, 0.0,  # noqa: FBT003
        )
    ).reshape(size)  # fmt: skip


def yt(cells: Cells) -> Job:
    routines = importlib.import_module("yt.utilities.lib.pixelization_routines")
    one, size = np.ones(cells.n), (cells.bins, cells.bins)
    bounds = (0.0, cells.bins, 0.0, cells.bins, -1e9, 1e9)
    h = SUPPORT * cells.r
    period = np.full(3, 1e9)

    def run() -> Array:
        image, mask = np.zeros(size), np.zeros(size, np.uint8)
        routines.pixelize_sph_kernel_projection(
            image, mask, cells.x, cells.y, cells.z, h, cells.m, cells.rho, cells.rho * one, bounds,
            _check_period=np.zeros(3, int), period=period,
        )  # fmt: skip
        return image

    return run


def paicos(cells: Cells) -> Job:
    project = importlib.import_module("paicos.cython.sph_projectors").project_image_omp
    keep = cells.near(0)
    x, y, m, h = (v[keep] for v in (cells.x, cells.y, cells.m, SUPPORT * cells.r))
    bins, middle = float(cells.bins), cells.bins / 2
    return lambda: np.asarray(
        project(x, y, m, h, cells.bins, middle, middle, bins, bins, 1e9, THREADS)
    )


def pynbody(cells: Cells, *, is_approximate: bool) -> Job:
    module = importlib.import_module("pynbody")
    renderers = importlib.import_module("pynbody.sph.renderers")
    module.config["number_of_threads"] = THREADS
    snapshot = module.new(gas=cells.n)
    middle = cells.bins / 2
    snapshot["pos"] = np.column_stack([cells.x - middle, cells.y - middle, cells.z])
    snapshot["mass"], snapshot["rho"] = cells.m, cells.rho
    snapshot["smooth"] = SUPPORT * cells.r / 2
    snapshot["pos"].units = snapshot["smooth"].units = "kpc"
    snapshot["mass"].units, snapshot["rho"].units = "Msol", "Msol kpc**-3"
    pipeline = renderers.make_render_pipeline(
        snapshot, quantity="rho", width=cells.bins, resolution=cells.bins,
        out_units="Msol kpc**-2", threaded=True, approximate_fast=is_approximate,
    )  # fmt: skip
    return lambda: np.asarray(pipeline.render()).T


JOBS: dict[str, Callable[[Cells], Job]] = {
    "sfr smoothed": lambda cells: ours(cells, is_smoothed=True),
    "sfr histogram": lambda cells: ours(cells, is_smoothed=False),
    **{
        f"swiftsimio {name}": partial(swiftsimio, backend=name)
        for name in ("histogram", "fast", "renormalised", "subsampled")
    },
    "pynbody": lambda cells: pynbody(cells, is_approximate=False),
    "pynbody approximate": lambda cells: pynbody(cells, is_approximate=True),
    "yt": yt,
    "sphinterp": sphinterp,
    "paicos": paicos,
}


def columns(cells: Cells, fine: int = 4) -> Array:
    """Columns of the cubic splines on a finer grid, each cell normalised to what it holds."""
    t = np.linspace(0, 1, 2001)
    nodes, weights = np.polynomial.legendre.leggauss(100)
    far = np.sqrt(1 - t**2)[:, None]
    q = np.sqrt(t[:, None] ** 2 + (far * nodes) ** 2)
    spline = np.where(q < 0.5, 1 - 6 * q**2 + 6 * q**3, 2 * (1 - q).clip(0) ** 3)
    column = (far * spline * weights).sum(1)
    n = cells.bins * fine
    room = 2 * int(np.ceil(SUPPORT * cells.r.max() * fine)) + 4
    image = np.zeros((n + 2 * room, n + 2 * room))
    for x, y, r, m in zip(cells.x, cells.y, cells.r, cells.m, strict=True):
        s = SUPPORT * r * fine
        if min(x, y) < -SUPPORT * r or max(x, y) > cells.bins + SUPPORT * r:
            continue
        lows = [int(np.floor(v * fine - s)) for v in (x, y)]
        width = int(2 * s) + 2
        dx, dy = (
            np.arange(low, low + width) + 0.5 - v * fine
            for low, v in zip(lows, (x, y), strict=True)
        )
        share = np.interp(np.hypot(dx[:, None], dy) / s, t, column, right=0)
        a, b = (low + room for low in lows)
        image[a : a + width, b : b + width] += m * share / share.sum()
    image = image[room:-room, room:-room]
    return image.reshape(cells.bins, fine, cells.bins, fine).sum((1, 3))


def run(rounds: int) -> str:
    """The section of docs/benchmarks.md."""
    return f"{beside_peers(671_000, 256, rounds)}\n\n{per_galaxy(rounds)}"


def beside_peers(n: int, bins: int, rounds: int, only: Sequence[str] = ()) -> str:
    cells, few = Cells(n, bins), Cells(6_000, 64)
    exact = columns(few)
    full = exact > few.m.mean()
    jobs, errors, left_out = {}, {}, []
    for name, make in JOBS.items():
        if only and name not in only:
            continue
        try:
            image = make(few)()
            jobs[name] = make(cells)
            jobs[name]()
        except Exception as error:  # a package that is not there, or not for these versions
            left_out.append(f"{name} ({error})")
        else:
            off = np.sqrt(np.mean((image[full] / exact[full] - 1) ** 2))
            errors[name] = f"{off:.2%}", f"{image.sum() / exact.sum() - 1:+.2e}"
    times = medians(jobs, rounds)
    first = times.get("sfr smoothed", float("nan"))
    rows = [
        (
            name,
            f"{1e3 * t:.1f}",
            f"{1e9 * t / n:.0f}",
            f"{t / first:.2f}",
            "" if name.startswith("sfr") or "histogram" in name else GOAL,
            *errors[name],
        )
        for name, t in sorted(times.items(), key=lambda item: item[1])
    ]
    header = ("deposit", "ms", "ns a cell", "over smoothed", "goal", "rms off", "all, off")
    text = (
        f"{n:,} cells, {bins} px, {THREADS} threads; median radius {np.median(cells.r):.2f} px, "
        f"{cells.near(0).mean():.0%} in the frame. Off: against columns of the cubic spline on a "
        "grid four times as fine, over pixels with more than a cell's mass, and of all mass.\n\n"
    )
    if left_out:
        text += f"Left out: {'; '.join(left_out)}.\n\n"
    return text + table(header, rows)


# --- a galaxy in the recipes -------------------------------------------------------------------


def per_galaxy(rounds: int, n: int = 671_000) -> str:
    """Maps of one galaxy, from cells in memory: CPU time, which other programs add less to."""
    cells = gas_cells(n)
    face_on = Orientation(np.eye(3), "z", 0, np.nan)
    thesis, corrected = (load_recipe(name).maps for name in ("thesis", "corrected"))
    plain = thesis.changed(candidates=[])
    ways = {
        "thesis": thesis,
        "thesis without candidates": plain,
        "corrected, histogram": corrected.changed(deposit="histogram"),
        "corrected": corrected,
        "thesis without candidates, smoothed": plain.changed(deposit="smoothed", bin_scale=1.0),
        "thesis, smoothed": thesis.changed(deposit="smoothed", bin_scale=1.0),
    }
    jobs = {
        name: lambda way=way: make_maps([cells], CENTRE, face_on, GALAXY, way, threads=THREADS)
        for name, way in ways.items()
    }
    times = medians(jobs, rounds, clock=time.process_time)
    like = {"corrected": "corrected, histogram", "thesis, smoothed": "thesis",
            "thesis without candidates, smoothed": "thesis without candidates"}  # fmt: skip
    rows = []
    for name, t in times.items():
        over = f"{t / times[like[name]]:.1f}" if name in like else ""
        goal = "2" if name == "corrected" else ""
        rows.append((name, f"{1e3 * t:.0f}", f"{t / times['thesis']:.1f}", over, goal))
    header = ("maps", "ms of CPU", "over thesis", "over its histogram", "goal")
    return (
        f"A galaxy of {n:,} cells in the frame of `corrected`, {THREADS} threads, files not "
        f"counted.\n\n{table(header, rows)}"
    )


class InMemory:
    """Gas as `sfr.render.project` reads it."""

    part_type = 0

    def __init__(self, fields: dict[str, NDArray[np.floating]]) -> None:
        self.fields = fields

    def __len__(self) -> int:
        return len(self.fields["Masses"])

    def read(self, fields: Sequence[str], *, needed: object = None) -> dict[str, NDArray]:
        return {name: self.fields[name] for name in fields}

    def is_mapped(self, fields: Sequence[str]) -> bool:
        return True


GALAXY = Header("bench", 99, 1.0, 0.0, 0.6774, 0.3089, 0.6911, 35_000.0, None, 1, None)
CENTRE = np.full(3, 17_500.0)


def gas_cells(n: int) -> InMemory:
    """The same disc and halo as TNG stores cells, 60 ckpc/h over 256 pixels."""
    cells = Cells(n, 256)
    pixel = 60 / 256
    rng = np.random.default_rng(2)
    flat = np.column_stack([cells.x - 128, cells.y - 128, rng.normal(0, 20, n)])
    fields = {"Coordinates": flat * pixel + CENTRE}
    volume = 4 / 3 * np.pi * (cells.r * pixel) ** 3
    columns = {
        "Masses": cells.m * 5e-6,
        "Density": cells.m * 5e-6 / volume,
        "InternalEnergy": 10 ** rng.uniform(2, 5, n),
        "ElectronAbundance": rng.uniform(0.01, 1.2, n),
    }
    return InMemory(fields | {name: v.astype(np.float32) for name, v in columns.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=671_000)
    parser.add_argument("--bins", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=(), help="names of jobs")
    options = parser.parse_args()
    print(beside_peers(options.cells, options.bins, options.rounds, options.only))
    print(f"\n{per_galaxy(options.rounds)}")


if __name__ == "__main__":
    main()
