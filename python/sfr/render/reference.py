"""The kernels once more in plain numpy, for tests only: slow, memory-hungry and easy to check.

Same names, signatures (but for ``threads``) and arithmetic as :mod:`sfr.render.kernels`, which
documents them; arguments are taken as valid. Sums are not grouped in blocks, so maps agree to
rounding; everything else agrees to the bit. `KERNELS` lists them all, for tests and benches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sfr.render import kernels
from sfr.render.kernels import (
    Floats,
    Frame,
    Ledger,
    Length,
    Matrix,
    Product,
    Projection,
    Quantity,
    Segment,
    Spin,
    Thermal,
    Vector,
    Weight,
)

__all__ = [
    "KERNELS",
    "Kernel",
    "columns",
    "cull_box",
    "disk_normal",
    "face_on_rotation",
    "project",
    "project_frames",
    "rotate",
    "spin",
    "values",
]


def _pair(value: float | Vector | Sequence[int]) -> list[float]:
    return [float(v) for v in np.broadcast_to(np.asarray(value, dtype=np.float64), 2)]


def _offsets(
    coordinates: Floats, center: Vector | None, box_size: float | None
) -> npt.NDArray[np.float64]:
    d = coordinates.astype(np.float64)
    if center is not None:
        d = d - np.asarray(center, dtype=np.float64)
    if box_size is not None:
        d = d - box_size * np.rint(d / box_size)
    return d


def _turned(offsets: npt.NDArray[np.float64], rotation: Matrix | None) -> npt.NDArray[np.float64]:
    r = np.eye(3) if rotation is None else np.asarray(rotation, dtype=np.float64)
    x, y, z = offsets.T
    return np.stack([row[0] * x + row[1] * y + row[2] * z for row in r], axis=1)


def cull_box(
    coordinates: Floats,
    center: Vector,
    half_width: float | Vector,
    *,
    box_size: float | None = None,
    depth: float | None = None,
    rotation: Matrix | None = None,
) -> npt.NDArray[np.int64]:
    """Find the particles inside a box about a centre."""
    with np.errstate(all="ignore"):
        q = _turned(_offsets(coordinates, center, box_size), rotation)
    inside = np.isfinite(coordinates).all(axis=1)
    limits = [*_pair(half_width), *([] if depth is None else [depth])]
    for axis, half in enumerate(limits):
        inside &= (q[:, axis] >= -half) & (q[:, axis] < half)
    return np.flatnonzero(inside).astype(np.int64)


def disk_normal(
    coordinates: Floats,
    velocities: Floats,
    masses: Floats,
    *,
    center: Vector,
    bulk_velocity: Vector,
    box_size: float | None = None,
) -> npt.NDArray[np.float64]:
    """Find the direction of the angular momentum of particles about a centre."""
    d = _offsets(coordinates, center, box_size)
    v = velocities.astype(np.float64) - np.asarray(bulk_velocity, dtype=np.float64)
    parts = masses.astype(np.float64)[:, None] * np.cross(d, v)
    total = np.array([math.fsum(component) for component in parts.T])
    normal: npt.NDArray[np.float64] = total / np.linalg.norm(total)
    return normal


def face_on_rotation(normal: Vector) -> npt.NDArray[np.float64]:
    """Make the smallest rotation that takes a direction to +z.

    A different route from the kernel's, so that the two check each other: two half turns,
    about the normal and about the middle between it and z. Good where the normal is not near -z.
    """
    n = np.asarray(normal, dtype=np.float64)
    n = n / np.abs(n).max()
    n = n / np.linalg.norm(n)
    middle = n + np.array([0.0, 0.0, 1.0])
    middle = middle / np.linalg.norm(middle)
    half_turn: npt.NDArray[np.float64] = 2.0 * np.outer(middle, middle) - np.eye(3)
    return half_turn @ (2.0 * np.outer(n, n) - np.eye(3))


def rotate(
    coordinates: Floats,
    rotation: Matrix,
    *,
    center: Vector | None = None,
    box_size: float | None = None,
) -> npt.NDArray[np.float64]:
    """Turn positions or velocities into a frame."""
    return _turned(_offsets(coordinates, center, box_size), rotation)


def spin(
    coordinates: Floats,
    velocities: Floats,
    masses: Floats,
    *,
    center: Vector,
    radius: float,
    box_size: float | None = None,
    velocity_factor: float = 1.0,
    by_mass: bool = True,
) -> Spin:
    """Add up the angular momenta of the particles in a sphere about its centre."""
    d = _offsets(coordinates, center, box_size)
    x, y, z = d.T
    with np.errstate(invalid="ignore", over="ignore"):
        inside = (x * x + y * y + z * z < radius**2) & (masses > 0)
    inside &= np.isfinite(velocities).all(axis=1) & np.isfinite(masses)
    d, m = d[inside], masses[inside].astype(np.float64)
    v = velocities[inside].astype(np.float64) * velocity_factor
    if not len(m):
        return Spin(0, np.full(3, np.nan), np.zeros(3), np.zeros(3), 0.0, 0.0)
    mean = np.average(v, axis=0, weights=m)
    weights = m if by_mass else np.ones(len(m))
    momenta = weights[:, np.newaxis] * np.cross(d, v - mean)
    total = momenta.sum(axis=0)
    length = float(np.linalg.norm(total))
    return Spin(
        len(m),
        mean,
        total / length if length else np.zeros(3),
        total,
        float(np.linalg.norm(momenta, axis=1).sum()),
        float(np.sum(weights * np.linalg.norm(d, axis=1) * np.linalg.norm(v, axis=1))),
    )


def _not_negative(values: Floats) -> npt.NDArray[np.float64]:
    return np.where(values >= 0, values, np.nan).astype(np.float64)


def values(quantity: Quantity) -> npt.NDArray[np.float64]:
    """Compute a quantity of every particle."""
    with np.errstate(all="ignore"):
        if isinstance(quantity, Product):
            made = np.array(quantity.factor, np.float64)
            for field in quantity.fields:
                made = made * _not_negative(field)
            return made if quantity.per is None else made / _not_negative(quantity.per)
        if isinstance(quantity, Length):
            parts = quantity.vectors.astype(np.float64) * quantity.factor - quantity.offset
            x, y, z = parts.T
            return np.asarray(np.sqrt(x * x + y * y + z * z))
        if isinstance(quantity, Thermal):
            heat, top, low, slope, dense, entropic = quantity.factors
            x_e = _not_negative(quantity.electron_abundance)
            made = heat * _not_negative(quantity.internal_energy) * (top / (low + slope * x_e))
            if quantity.density is None:
                return made
            n = dense * _not_negative(quantity.density) * (x_e if quantity.of_electrons else 1.0)
            return np.asarray(entropic * made / np.cbrt(n) ** 2)
    return quantity.astype(np.float64)


def columns(weight: Quantity | Weight) -> list[npt.NDArray[np.float64]]:
    """Compute what a weight sums: values, and the divisors of a mean."""
    if not isinstance(weight, Weight):
        return [values(weight)]
    with np.errstate(all="ignore"):
        found = np.log10(values(weight.quantity)) if weight.log10 else values(weight.quantity)
        divisors = np.ones(len(found)) if weight.times is None else values(weight.times)
        found = found * divisors
        if weight.without is not None:
            found, divisors = (np.where(weight.without > 0, 0.0, v) for v in (found, divisors))
    return [found, np.where(np.isfinite(found), divisors, 0.0)] if weight.is_mean else [found]


def _binned(
    places: npt.NDArray[np.float64],
    half_width: Sequence[float],
    shape: Sequence[int],
    bin_scale: float,
    values: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Sum values over the pixels of a frame that all places are in."""
    index = []
    for place, half, n in zip(places.T, half_width, shape, strict=True):
        found = (place + half) / (2 * half) * bin_scale * n
        index.append(np.minimum(np.floor(found).astype(np.int64), n - 1))
    image = np.zeros(shape)
    np.add.at(image, tuple(index), np.where(np.isfinite(values), values, 0.0))
    return image


def _below(t: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the share of a cubic spline of support 1 that lies below ``t`` along an axis."""
    a, u = np.maximum(1 - np.abs(t), 0), np.maximum(0.5 - np.abs(t), 0)
    tail = a**5 * (1.6 - 16 / 15 * a) - u**5 * (3.2 - 64 / 15 * u)
    return np.asarray(np.where(t > 0, 1 - tail, tail))


def reach(volumes: Quantity) -> npt.NDArray[np.float64]:
    """Return how far cells of these volumes reach: 2.5 radii of a sphere."""
    with np.errstate(invalid="ignore"):
        return np.asarray(2.5 * np.cbrt(values(volumes) * 3 / (4 * np.pi)))


def smooth(
    places: npt.NDArray[np.float64],
    reaches: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    half: Sequence[float],
    shape: Sequence[int],
    bin_scale: float = 1.0,
) -> npt.NDArray[np.float64]:
    """Spread cells over the pixels of a picture, each by its exact profiles along x and y."""
    shares = []
    for axis in (0, 1):
        high = 2 * half[axis] / bin_scale - half[axis]
        edges = np.linspace(-half[axis], high, shape[axis] + 1)
        t = (edges - places[:, axis, None]) / np.maximum(reaches, 1e-300)[:, None]
        shares.append(np.diff(_below(t), axis=1))
    return np.asarray(np.einsum("n,nx,ny->xy", weights, *shares))


def project(
    coordinates: Floats,
    weights: Iterable[Quantity | Weight],
    *,
    center: Vector,
    box_size: float | None,
    rotation: Matrix | None,
    half_width: float | Vector,
    bins: int | Sequence[int],
    depth: float | None = None,
    bin_scale: float = 1.0,
    volumes: Quantity | None = None,
) -> Projection:
    """Make maps of the particles about a centre.

    Those of cells with ``volumes`` are what the kernels come near to: they write large ones in a
    few splines.
    """
    channels = _columns(weights)
    inside = cull_box(
        coordinates, center, half_width, box_size=box_size, depth=depth, rotation=rotation
    )
    half, shape = _pair(half_width), [int(n) for n in _pair(bins)]
    bad = ~np.isfinite(coordinates).all(axis=1)
    if volumes is None:
        q = _turned(_offsets(coordinates[inside], center, box_size), rotation)
        maps = [_binned(q[:, :2], half, shape, bin_scale, c[inside]) for c in channels]
    else:
        far = reach(volumes)
        bad |= ~(np.isfinite(far) & (far >= 0))
        with np.errstate(invalid="ignore"):
            q = _turned(_offsets(coordinates, center, box_size), rotation)
            flat = np.abs(q[:, :2]) - far[:, None] < half
            deep = (q[:, 2] >= -(depth or np.inf)) & (q[:, 2] < (depth or np.inf))
        inside = np.flatnonzero(flat.all(axis=1) & deep & ~bad)
        held = [np.where(np.isfinite(c), c, 0)[inside] for c in channels]
        maps = [smooth(q[inside], far[inside], c, half, shape, bin_scale) for c in held]
    n_bad = int(np.count_nonzero(bad))
    is_in = np.isin(np.arange(len(coordinates)), inside)
    finite = [np.isfinite(channel) for channel in channels]
    pairs = list(zip(channels, finite, strict=True))
    ledger = Ledger(
        n_read=len(coordinates),
        n_in_frame=len(inside),
        n_out_of_frame=len(coordinates) - len(inside) - n_bad,
        n_bad_coordinates=n_bad,
        n_bad_weight=tuple(int(np.count_nonzero(is_in & ~good)) for good in finite),
        sum_in_frame=tuple(math.fsum(channel[is_in & good]) for channel, good in pairs),
        sum_out_of_frame=tuple(math.fsum(channel[~is_in & good]) for channel, good in pairs),
    )
    return Projection(np.stack(maps), ledger)


def project_frames(
    segments: Iterable[Segment],
    frames: Sequence[Frame],
    *,
    columns: int | None = None,
    box_size: float | None,
    bins: int | Sequence[int],
    bin_scale: float = 1.0,
    deposit: str = "histogram",
    whole: bool = False,
) -> list[Projection]:
    """Make maps in several frames."""
    del columns
    given = [(segment[0], _columns(segment[1]), segment[2:]) for segment in segments]
    coordinates = np.concatenate([part for part, _, _ in given])
    weights = [np.concatenate(column) for column in zip(*(c for _, c, _ in given), strict=True)]
    volumes = None
    if deposit == "smoothed":
        volumes = np.concatenate([values(size) for _, _, sizes in given for size in sizes])
    made = [
        project(
            coordinates,
            weights,
            center=frame.center,
            box_size=box_size,
            rotation=frame.rotation,
            half_width=frame.half_width,
            bins=bins,
            depth=frame.depth,
            bin_scale=bin_scale,
            volumes=volumes,
        )
        for frame in frames
    ]
    if whole:
        return made
    return [p._replace(ledger=p.ledger._replace(sum_out_of_frame=())) for p in made]


def _columns(weights: Iterable[Quantity | Weight]) -> list[npt.NDArray[np.float64]]:
    return [column for weight in weights for column in columns(weight)]


@dataclass(frozen=True)
class Kernel:
    """A compiled function, and what tests and benches need to know of it."""

    #: Of `sfr.render.kernels`, and the one here that does the same.
    function: Callable[..., Any]
    twin: Callable[..., Any]
    #: Makes arguments for a number of particles from a generator of random numbers.
    inputs: Callable[[int, np.random.Generator], dict[str, Any]]
    #: Whether both agree to the bit.
    is_exact: bool = True

    @property
    def name(self) -> str:
        """Name of both functions, and of the compiled one."""
        return self.function.__name__


_TILT = kernels.face_on_rotation((1.0, -2.0, 0.5))
_CENTER = (0.1, -0.2, 9.9)
_BOX = {"center": _CENTER, "box_size": 10.0}


def _positions(n: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return rng.normal(0.0, 1.2, (n, 3)) % 10.0


def _of_project(n: int, rng: np.random.Generator) -> dict[str, Any]:
    u, x_e, rho, m, sfr = (rng.uniform(0.1, 9.0, n).astype(np.float32) for _ in range(5))
    entropy = Thermal(u, x_e, (80.8, 4.0, 3.28, 3.04, 141.0, 8.6e-8), rho)
    weights = [
        entropy,
        m,
        Weight(
            entropy,
            log10=True,
            times=Product((m,), 2.0, rho),
            without=np.maximum(sfr - 7, 0),
            is_mean=True,
        ),
        Weight(Length(rng.normal(size=(n, 3)), 0.9, (1.0, 2.0, 3.0)), is_mean=True),
    ]
    frames = [Frame(_CENTER, (1.5, 1.0), 2.0, _TILT), Frame((0.0, 0.0, 0.0), 3.0)]
    return {
        "segments": [(_positions(n, rng), weights)],
        "frames": frames,
        "box_size": 10.0,
        "bins": (31, 40),
        "bin_scale": 0.99,
        "whole": True,
    }


#: Every kernel: one that is not here is neither tested nor measured.
KERNELS = (
    Kernel(
        kernels.cull_box,
        cull_box,
        lambda n, rng: {
            "coordinates": _positions(n, rng),
            "half_width": 1.0,
            "rotation": _TILT,
            **_BOX,
        },
    ),
    Kernel(
        kernels.disk_normal,
        disk_normal,
        lambda n, rng: {
            "coordinates": _positions(n, rng),
            "velocities": rng.normal(size=(n, 3)).astype(np.float32),
            "masses": rng.uniform(1.0, 2.0, n),
            "bulk_velocity": (0.1, 0.2, 0.3),
            **_BOX,
        },
        is_exact=False,
    ),
    Kernel(
        kernels.face_on_rotation,
        face_on_rotation,
        lambda _, rng: {"normal": [*rng.normal(size=2), 1.0]},
        is_exact=False,
    ),
    Kernel(
        kernels.rotate,
        rotate,
        lambda n, rng: {"coordinates": _positions(n, rng), "rotation": _TILT, **_BOX},
    ),
    Kernel(
        kernels.spin,
        spin,
        lambda n, rng: {
            "coordinates": _positions(n, rng),
            "velocities": rng.normal(size=(n, 3)).astype(np.float32),
            "masses": rng.uniform(1.0, 2.0, n).astype(np.float32),
            "radius": 2.0,
            "velocity_factor": 0.7,
            **_BOX,
        },
        is_exact=False,
    ),
    Kernel(kernels.project_frames, project_frames, _of_project, is_exact=False),
)
