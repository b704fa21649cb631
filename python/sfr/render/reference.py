"""The kernels once more in plain numpy, for tests only: slow, memory-hungry and easy to check.

Same names, signatures (but for ``threads``) and arithmetic as :mod:`sfr.render.kernels`, which
documents them; arguments are taken as valid. Sums are not grouped in blocks, so maps agree to
rounding; everything else agrees to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from sfr.render.kernels import (
    Floats,
    Ledger,
    Length,
    Matrix,
    Product,
    Projection,
    Quantity,
    Thermal,
    Vector,
    Weight,
)

__all__ = [
    "bin_2d",
    "columns",
    "cull_box",
    "disk_normal",
    "face_on_rotation",
    "project",
    "rotate",
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


def bin_2d(
    x: Floats,
    y: Floats,
    weights: Iterable[Quantity | Weight],
    *,
    bins: int | Sequence[int],
    extent: Sequence[Sequence[float]],
    bin_scale: float = 1.0,
) -> npt.NDArray[np.float64]:
    """Sum weights over the pixels of a grid."""
    shape = tuple(int(n) for n in _pair(bins))
    inside = np.ones(x.shape, dtype=bool)
    for values, (low, high) in zip((x, y), extent, strict=True):
        wide = values.astype(np.float64)
        inside &= (wide >= low) & (wide < high)
    index = []
    for values, (low, high), n in zip((x, y), extent, shape, strict=True):
        place = (values[inside].astype(np.float64) - low) / (high - low) * bin_scale * n
        index.append(np.minimum(np.floor(place).astype(np.int64), n - 1))
    maps = []
    for channel in (column for weight in weights for column in columns(weight)):
        chosen = channel[inside].astype(np.float64)
        image = np.zeros(shape)
        np.add.at(image, tuple(index), np.where(np.isfinite(chosen), chosen, 0.0))
        maps.append(image)
    return np.stack(maps)


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
) -> Projection:
    """Make maps of the particles about a centre."""
    channels = [column for weight in weights for column in columns(weight)]
    inside = cull_box(
        coordinates, center, half_width, box_size=box_size, depth=depth, rotation=rotation
    )
    q = _turned(_offsets(coordinates[inside], center, box_size), rotation)
    maps = bin_2d(
        q[:, 0],
        q[:, 1],
        [channel[inside] for channel in channels],
        bins=bins,
        extent=[(-half, half) for half in _pair(half_width)],
        bin_scale=bin_scale,
    )
    finite = [np.isfinite(channel) for channel in channels]
    kept = [channel[good] for channel, good in zip(channels, finite, strict=True)]
    seen = [channel[inside][good[inside]] for channel, good in zip(channels, finite, strict=True)]
    ledger = Ledger(
        n_read=len(coordinates),
        n_in_frame=len(inside),
        n_bad_coordinates=int(np.count_nonzero(~np.isfinite(coordinates).all(axis=1))),
        n_bad_weight=tuple(int(np.count_nonzero(~good)) for good in finite),
        sum_read=tuple(math.fsum(values) for values in kept),
        sum_in_frame=tuple(math.fsum(values) for values in seen),
    )
    return Projection(maps, ledger)
