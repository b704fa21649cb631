"""Cells with a size on a picture: this project beside the packages that people use for it.

The same cells, the same picture, two threads where a package has threads; each time is the median
of runs in turn. Every answer is compared with the columns of the cubic spline, pixel by pixel and
in all, so a fast wrong answer is seen. Packages that are not installed are left out with a word.
They need an environment of their own:

    python -m venv /tmp/peers && /tmp/peers/bin/pip install numpy swiftsimio pynbody yt sphinterp \
        paicos vortrace
    PYTHONPATH=python NUMBA_NUM_THREADS=2 /tmp/peers/bin/python benches/python/deposits.py

py-sphviewer 1.2 does not build with a current setuptools; sarracen takes frames of pandas, whose
making is not a deposit. Kernels differ: swiftsimio's is Wendland C2, here with the same support.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from timing import medians, table

from sfr.render import kernels

Array = NDArray[np.float64]
Job = Callable[[], Array]
SUPPORT = 2.5
#: Support over smoothing length of swiftsimio's Wendland C2 in three dimensions.
WENDLAND = 1.936492
THREADS = 2


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
        f"swiftsimio {name}": lambda cells, name=name: swiftsimio(cells, name)  # type: ignore[misc]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=671_000)
    parser.add_argument("--bins", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="names of jobs")
    options = parser.parse_args()
    cells, few = Cells(options.cells, options.bins), Cells(6_000, 64)
    exact = columns(few)
    full = exact > few.m.mean()
    jobs, errors = {}, {}
    for name, make in JOBS.items():
        if options.only and name not in options.only:
            continue
        try:
            image = make(few)()
            jobs[name] = make(cells)
            jobs[name]()
        except ImportError as missing:
            print(f"{name}: left out, {missing}")
        except Exception as error:
            print(f"{name}: left out, {type(error).__name__}: {error}")
        else:
            off = np.sqrt(np.mean((image[full] / exact[full] - 1) ** 2))
            errors[name] = f"{off:.2%}", f"{image.sum() / exact.sum() - 1:+.2e}"
    times = medians(jobs, options.rounds)
    first = times.get("sfr smoothed", float("nan"))
    rows = [
        (name, f"{1e3 * t:.1f}", f"{1e9 * t / cells.n:.0f}", f"{t / first:.2f}", *errors[name])
        for name, t in sorted(times.items(), key=lambda item: item[1])
    ]
    header = ("deposit", "ms", "ns a cell", "over smoothed", "rms off", "all, off")
    print(f"{cells.n} cells, {cells.bins} px, {THREADS} threads; median radius "
          f"{np.median(cells.r):.2f} px, {cells.near(0).mean():.0%} in the frame")  # fmt: skip
    print(table(header, rows))


if __name__ == "__main__":
    main()
