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

from sfr.render.kernels import Floats, Ledger, Matrix, Projection, Vector

__all__ = ["bin_2d", "cull_box", "disk_normal", "face_on_rotation", "project", "rotate"]


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


def bin_2d(
    x: Floats,
    y: Floats,
    weights: Iterable[Floats],
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
    for channel in weights:
        chosen = channel[inside].astype(np.float64)
        image = np.zeros(shape)
        np.add.at(image, tuple(index), np.where(np.isfinite(chosen), chosen, 0.0))
        maps.append(image)
    return np.stack(maps)


def project(
    coordinates: Floats,
    weights: Iterable[Floats],
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
    channels = list(weights)
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
