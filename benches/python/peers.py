"""The same maps, made in the ways that people make them."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfr import units
from sfr.render import kernels

BOX, HALF, BINS = 35_000.0, 30.0, 256
EXTENT = [[-HALF, HALF]] * 2
ROTATION = np.array([[2, -2, 1], [1, 2, 2], [-2, -1, 2]]) / 3
CENTRE = np.array([17_000.0, 34_990.0, 12.0])
SCALE_FACTOR, HUBBLE = 1.0, 0.6774
FACTORS = units.thermal_factors(SCALE_FACTOR, HUBBLE)


@dataclass(frozen=True)
class Gas:
    """Cells as a TNG snapshot stores them."""

    coordinates: NDArray[np.float64]
    energy: NDArray[np.float32]
    electrons: NDArray[np.float32]
    density: NDArray[np.float32]
    masses: NDArray[np.float32]

    def first(self, n: int) -> Gas:
        return Gas(*(getattr(self, name)[:n] for name in self.__dataclass_fields__))


def halo(n: int, seed: int = 1, reach: float = 80.0) -> NDArray[np.float64]:
    """Positions about the centre: with a reach of 80 three quarters are in the frame."""
    rng = np.random.default_rng(seed)
    radius = reach * rng.random(n) ** 2
    cos, phi = 2 * rng.random(n) - 1, 2 * np.pi * rng.random(n)
    sin = np.sqrt(1 - cos * cos)
    offsets = np.stack([radius * sin * np.cos(phi), radius * sin * np.sin(phi), radius * cos], 1)
    return np.mod(offsets + CENTRE, BOX)


def extended_halo(n: int, seed: int = 1, reach: float = 540.0) -> NDArray[np.float64]:
    """Positions of an isothermal halo in rough order of radius, as subhaloes lie in files.

    TNG stores a group subhalo by subhalo, each by binding energy; with a reach of 540 a tenth of
    the cells is in the frame.
    """
    rng = np.random.default_rng(seed)
    radius = reach * rng.random(n)
    radius = radius[np.argsort(radius * rng.lognormal(0, 0.3, n))]
    directions = rng.normal(size=(n, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return np.mod(radius[:, None] * directions + CENTRE, BOX)


def gas(n: int, seed: int = 1) -> Gas:
    rng = np.random.default_rng(seed)
    return Gas(
        halo(n, seed),
        (10 ** rng.uniform(2, 5, n)).astype(np.float32),
        rng.uniform(0.01, 1.2, n).astype(np.float32),
        (10 ** rng.uniform(-8, -3, n)).astype(np.float32),
        rng.uniform(4e-6, 8e-6, n).astype(np.float32),
    )


def derive(g: Gas) -> list[NDArray[np.floating]]:
    """K, m and log10 T of every cell, with numpy."""
    temperature = units.temperature_k(g.energy, g.electrons)
    number = units.electron_density_cgs(g.density, g.electrons, SCALE_FACTOR, HUBBLE)
    return [units.entropy_kev_cm2(temperature, number), g.masses, np.log10(temperature)]


def turn(coordinates: NDArray[np.floating]) -> NDArray[np.float64]:
    """Offsets in the frame of every cell, with numpy."""
    d = coordinates - CENTRE
    d -= BOX * np.rint(d / BOX)
    return d @ ROTATION.T


def with_numpy(g: Gas) -> NDArray[np.float64]:
    q, weights = turn(g.coordinates), derive(g)
    inside = (np.abs(q[:, :2]) < HALF).all(axis=1)
    x, y = q[inside, 0], q[inside, 1]
    return np.stack([np.histogram2d(x, y, BINS, EXTENT, weights=w[inside])[0] for w in weights])


def with_fast_histogram(g: Gas) -> NDArray[np.float64]:
    from fast_histogram import histogram2d

    q, weights = turn(g.coordinates), derive(g)
    x, y = np.ascontiguousarray(q[:, 0]), np.ascontiguousarray(q[:, 1])
    return np.stack([histogram2d(x, y, BINS, EXTENT, weights=w) for w in weights])


def with_boost_histogram(g: Gas) -> NDArray[np.float64]:
    import boost_histogram as bh

    q, weights = turn(g.coordinates), derive(g)
    x, y = np.ascontiguousarray(q[:, 0]), np.ascontiguousarray(q[:, 1])
    axes = [bh.axis.Regular(BINS, -HALF, HALF)] * 2
    return np.stack([bh.Histogram(*axes).fill(x, y, weight=w, threads=2).view() for w in weights])


def with_swiftsimio(g: Gas) -> NDArray[np.float64]:
    from swiftsimio.visualisation.projection_backends.histogram import scatter

    q, weights = turn(g.coordinates), derive(g)
    x, y = ((q[:, axis] + HALF) / (2 * HALF) for axis in (0, 1))
    small = np.full(len(x), 1e-3, np.float32)
    area = BINS * BINS  # it divides by the area of a pixel
    return np.stack([scatter(x, y, w, small, BINS, 0.0, 0.0) / area for w in weights])


class Loops:
    """The loops of peers.c."""

    def __init__(self) -> None:
        folder = Path(tempfile.mkdtemp())
        library, source = folder / "peers.so", Path(__file__).with_name("peers.c")
        command = ["cc", "-O3", "-fopenmp", "-shared", "-fPIC", source, "-o", library, "-lm"]
        subprocess.run(command, check=True)
        self._library = ctypes.CDLL(str(library))
        self._library.read_all.restype = ctypes.c_double

    def listing(self, g: Gas, *, scale: float = 1.0) -> NDArray[np.float32]:
        """The published way: numpy, then a C loop for each channel."""
        q, weights = turn(g.coordinates), derive(g)
        inside = (np.abs(q[:, :2]) < HALF).all(axis=1)
        x, y = q[inside, 0].copy(), q[inside, 1].copy()
        images = np.zeros((3, BINS, BINS), np.float32)
        for image, w in zip(images, weights, strict=True):
            chosen = w[inside].astype(np.float64)
            self._library.listing_histogram(
                _pointer(x), _pointer(y), _pointer(chosen), ctypes.c_long(len(x)),
                ctypes.c_double(-HALF), ctypes.c_double(HALF), ctypes.c_double(scale), BINS,
                _pointer(image),
            )  # fmt: skip
        return images

    def fused(self, g: Gas, threads: int) -> NDArray[np.float64]:
        """All in one hand-written C loop with OpenMP."""
        image = np.zeros((BINS, BINS, 3))
        heat, top, low, slope, dense, entropic = FACTORS
        factors = np.array([heat * top, low, slope, dense, entropic])
        fields = (g.coordinates, g.energy, g.electrons, g.density, g.masses)
        self._library.fused_project(
            *(_pointer(field) for field in fields), ctypes.c_long(len(g.masses)),
            _pointer(CENTRE), ctypes.c_double(BOX), _pointer(ROTATION), ctypes.c_double(HALF), BINS,
            _pointer(factors), threads, _pointer(image),
        )  # fmt: skip
        return image.transpose(2, 0, 1)

    def read(self, values: NDArray[np.float64], threads: int) -> float:
        """Read every byte once."""
        n = ctypes.c_long(values.size)
        return float(self._library.read_all(_pointer(values), n, threads))


def _pointer(array: NDArray[np.generic]) -> ctypes.c_void_p:
    if not array.flags.c_contiguous:
        raise ValueError("the C loops take contiguous arrays")
    return array.ctypes.data_as(ctypes.c_void_p)


def weights(g: Gas) -> list[kernels.Quantity | kernels.Weight]:
    """K, m and log10 T for the kernels to make."""
    return [
        kernels.Thermal(g.energy, g.electrons, FACTORS, g.density),
        g.masses,
        kernels.Weight(kernels.Thermal(g.energy, g.electrons, FACTORS), log10=True),
    ]


def ours(g: Gas, threads: int | None, extra: int = 0) -> NDArray[np.float64]:
    return kernels.project(
        g.coordinates,
        [*weights(g), *[g.electrons] * extra],
        center=CENTRE,
        box_size=BOX,
        rotation=ROTATION,
        half_width=HALF,
        bins=BINS,
        threads=threads,
    ).maps
