"""From particles to maps: the compiled kernels and what they promise.

Large arrays are numpy arrays of float32 or float64 in native byte order, C-contiguous and aligned;
they are used where they lie, memory-mapped or read-only as they may be, and nothing is converted
silently: arrays with a mask or a unit, and any other subclass, are refused. They must not change
while a kernel runs. Results are new float64 arrays. The GIL is released, so threads can call at
once, and the bits of a result do not depend on ``threads``: None is the pool that the process
shares (``RAYON_NUM_THREADS``, else all cores), 1 the calling thread, n a pool of n for this call.
Processes must be spawned, not forked, once a kernel has run.

A frame is half-open, ``-half <= q < half`` along each axis. Small arguments such as ``center`` may
be any sequence of real numbers. A rotation has orthonormal rows, to 1e-6, and determinant +1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from sfr import _core

__all__ = [
    "Ledger",
    "Length",
    "Product",
    "Projection",
    "Quantity",
    "Thermal",
    "Weight",
    "bin_2d",
    "build_profile",
    "cull_box",
    "disk_normal",
    "face_on_rotation",
    "project",
    "project_segments",
    "rotate",
]

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Vector: TypeAlias = Sequence[float] | Floats
Matrix: TypeAlias = Sequence[Sequence[float]] | Floats


def build_profile() -> str:
    """Return how the kernels were compiled: ``release``, or ``debug``, which is slow."""
    return _core.build_profile


class Ledger(NamedTuple):
    """Where the particles of a projection went; entries per channel are those of the maps."""

    #: Particles given.
    n_read: int
    #: Particles with finite coordinates in the frame, whatever their weights.
    n_in_frame: int
    #: Particles with a NaN or infinite coordinate; they are in no frame.
    n_bad_coordinates: int
    #: Per channel: particles whose weight is NaN or infinite; in the frame or not from
    #: :func:`project`, in the frame from :func:`project_segments`.
    n_bad_weight: tuple[int, ...]
    #: Per channel: sum of the finite weights of all particles, those not in the frame included;
    #: empty from :func:`project_segments`, which looks at no others than those in the frame.
    sum_read: tuple[float, ...]
    #: Per channel: sum of the finite weights of the particles in the frame.
    sum_in_frame: tuple[float, ...]


@dataclass(frozen=True)
class Product:
    """``factor a b / c`` of numbers that cannot be negative; NaN, so dropped, where one is."""

    #: Up to two arrays of float32 or float64, shape (N,): a and b.
    fields: tuple[Floats, ...]
    #: The same for every particle.
    factor: float = 1.0
    #: float32 or float64, shape (N,): c, if any.
    per: Floats | None = None


@dataclass(frozen=True)
class Length:
    """``|factor v - offset|`` of vectors v."""

    #: float32 or float64, shape (N, 3): v.
    vectors: Floats
    #: The same for every particle.
    factor: float = 1.0
    #: What is subtracted, in the unit of ``factor v``.
    offset: Vector = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Thermal:
    """Temperature or entropy of gas cells.

    ``T = heat u (top / (low + slope x_e))``, and with a density ``K = entropic T n^(-2/3)`` with
    ``n = dense rho x_e`` or, not ``of_electrons``, ``n = dense rho``. `sfr.units` has the factors.
    """

    #: float32 or float64, shape (N,): u.
    internal_energy: Floats
    #: float32 or float64, shape (N,): x_e.
    electron_abundance: Floats
    #: heat, top, low, slope, dense, entropic.
    factors: tuple[float, float, float, float, float, float]
    #: float32 or float64, shape (N,): rho, for the entropy; None: the temperature.
    density: Floats | None = None
    #: Whether the density of K is that of the electrons.
    of_electrons: bool = True


#: A number per particle: stored, or made in the kernel.
Quantity: TypeAlias = Floats | Product | Length | Thermal


@dataclass(frozen=True)
class Weight:
    """What is summed over particles, made in the kernel: one column of sums, or two for a mean."""

    quantity: Quantity
    #: Whether to take the decimal logarithm of the quantity first.
    log10: bool = False
    #: What that is multiplied by, if anything.
    times: Quantity | None = None
    #: float32 or float64, shape (N,): particles for which it is above 0 add nothing.
    without: Floats | None = None
    #: Whether a second column sums ``times``, or ones, of the particles whose product is finite:
    #: what the first is divided by for a mean.
    is_mean: bool = False


class Projection(NamedTuple):
    """Maps of an object and the account of its particles."""

    #: float64, shape (C, nx, ny): sum of weights per pixel, oriented as numpy.histogram2d; a mean
    #: has two of them, one after the other.
    maps: npt.NDArray[np.float64]
    #: Where the particles went.
    ledger: Ledger


def cull_box(
    coordinates: Floats,
    center: Vector,
    half_width: float | Vector,
    *,
    box_size: float | None = None,
    depth: float | None = None,
    rotation: Matrix | None = None,
    threads: int | None = None,
) -> npt.NDArray[np.int64]:
    """Find the particles inside a box about a centre.

    With ``d`` the offset from ``center`` and ``q = R d``, those with
    ``-half_width <= q < half_width`` in x and y, and ``-depth <= q < depth`` in z.
    :func:`project` sees exactly these particles.

    Parameters
    ----------
    coordinates : ndarray of float32 or float64, shape (N, 3)
        Positions [any length]. Those with a NaN or infinite entry are never inside.
    center : sequence of 3 floats
        Centre of the frame [unit of the coordinates].
    half_width : float or pair of floats
        Half extent in x and y, or one for each [unit of the coordinates].
    box_size : float or None
        Period of the simulation box; offsets are then minimum images about ``center``.
    depth : float or None
        Half extent in z; None: no cut in z.
    rotation : array_like, shape (3, 3), or None
        Rows are the axes of the frame; None: those of the box.
    threads : int or None
        None: shared pool; 1: serial; n: own pool. The result does not depend on it.

    Returns
    -------
    ndarray of int64, shape (n_in_frame,)
        Indices of the particles inside, ascending.

    Raises
    ------
    ShapeError
        An array has the wrong shape or is not C-contiguous and aligned.
    DTypeError
        An array is not float32 or float64 in native byte order, a number is not a number.
    RangeError
        ``half_width``, ``depth`` or ``box_size`` not finite and positive; a ``rotation`` that is
        none; ``threads`` below 1.
    NonFiniteError
        ``center`` or ``rotation`` has a NaN or infinite entry.

    Notes
    -----
    The minimum image is ``d - box_size * round(d / box_size)``, ties to even.

    Examples
    --------
    >>> import numpy as np
    >>> positions = np.array([[0.5, 0.0, 0.0], [9.5, 0.0, 0.0], [5.0, 0.0, 0.0]])
    >>> cull_box(positions, (0.0, 0.0, 0.0), 1.0, box_size=10.0)
    array([0, 1])
    """
    return _core.cull_box(
        coordinates,
        center,
        half_width,
        box_size=box_size,
        depth=depth,
        rotation=rotation,
        threads=threads,
    )


def disk_normal(
    coordinates: Floats,
    velocities: Floats,
    masses: Floats,
    *,
    center: Vector,
    bulk_velocity: Vector,
    box_size: float | None = None,
    threads: int | None = None,
) -> npt.NDArray[np.float64]:
    """Find the direction of the angular momentum of particles about a centre.

    Parameters
    ----------
    coordinates : ndarray of float32 or float64, shape (N, 3)
        Positions [any length].
    velocities : ndarray of float32 or float64, shape (N, 3)
        Velocities [any speed].
    masses : ndarray of float32 or float64, shape (N,)
        Masses, or ones for an unweighted sum [any mass].
    center : sequence of 3 floats
        Centre of rotation [unit of the coordinates].
    bulk_velocity : sequence of 3 floats
        Velocity of the centre [unit of the velocities].
    box_size : float or None
        Period of the simulation box; offsets are then minimum images about ``center``.
    threads : int or None
        None: shared pool; 1: serial; n: own pool. The result does not depend on it.

    Returns
    -------
    ndarray of float64, shape (3,)
        Unit vector.

    Raises
    ------
    ShapeError
        An array has the wrong shape or length or is not C-contiguous and aligned.
    DTypeError
        An array is not float32 or float64 in native byte order, a number is not a number.
    RangeError
        ``box_size`` not finite and positive; ``threads`` below 1.
    NonFiniteError
        Any entry is NaN or infinite, or the angular momentum overflows.
    EmptySelectionError
        There are no particles, or their angular momentum is zero.

    Notes
    -----
    The direction of ``L = sum_i m_i d_i x (v_i - bulk_velocity)``.

    Examples
    --------
    >>> import numpy as np
    >>> positions = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    >>> velocities = np.array([[0.0, 2.0, 0.0], [0.0, -2.0, 0.0]])
    >>> disk_normal(positions, velocities, np.ones(2), center=(0, 0, 0), bulk_velocity=(0, 0, 0))
    array([0., 0., 1.])
    """
    return _core.disk_normal(
        coordinates,
        velocities,
        masses,
        center=center,
        bulk_velocity=bulk_velocity,
        box_size=box_size,
        threads=threads,
    )


def face_on_rotation(normal: Vector) -> npt.NDArray[np.float64]:
    """Make the smallest rotation that takes a direction to +z.

    Parameters
    ----------
    normal : sequence of 3 floats
        Direction, of any length but zero.

    Returns
    -------
    ndarray of float64, shape (3, 3)
        ``R`` with ``R normal`` along +z and determinant +1. For -z, where many rotations are
        equally small, the half turn about x.

    Raises
    ------
    ShapeError
        ``normal`` does not have 3 entries.
    DTypeError
        An entry is not a number.
    NonFiniteError
        An entry is NaN or infinite.
    EmptySelectionError
        ``normal`` is zero.

    Notes
    -----
    Rodrigues' rotation by ``theta = arccos(n_z)`` about ``n x z``. With ``(u, v)`` the direction of
    ``(n_x, n_y)`` and ``c = n_z``, the upper left is ``[[c u^2 + v^2, (c - 1) u v],
    [(c - 1) u v, u^2 + c v^2]]``, which divides by nothing that vanishes near -z.

    Examples
    --------
    >>> face_on_rotation((0.0, 2.0, 0.0))
    array([[ 1.,  0.,  0.],
           [ 0.,  0., -1.],
           [ 0.,  1.,  0.]])
    """
    return _core.face_on_rotation(normal)


def rotate(
    coordinates: Floats,
    rotation: Matrix,
    *,
    center: Vector | None = None,
    box_size: float | None = None,
    threads: int | None = None,
) -> npt.NDArray[np.float64]:
    """Turn positions or velocities into a frame.

    ``q = R d`` with ``d`` the offset from ``center``.

    Parameters
    ----------
    coordinates : ndarray of float32 or float64, shape (N, 3)
        Positions or other vectors [any unit]. NaN and infinity pass through.
    rotation : array_like, shape (3, 3)
        Rows are the axes of the frame.
    center : sequence of 3 floats, or None
        Origin of the frame [unit of the coordinates]; None: that of the coordinates.
    box_size : float or None
        Period of the simulation box; offsets are then minimum images about ``center``.
    threads : int or None
        None: shared pool; 1: serial; n: own pool. The result does not depend on it.

    Returns
    -------
    ndarray of float64, shape (N, 3)
        The turned vectors [unit of the coordinates].

    Raises
    ------
    ShapeError
        An array has the wrong shape or is not C-contiguous and aligned.
    DTypeError
        An array is not float32 or float64 in native byte order, a number is not a number.
    RangeError
        ``box_size`` not finite and positive, or without ``center``; a ``rotation`` that is none;
        ``threads`` below 1.
    NonFiniteError
        ``center`` or ``rotation`` has a NaN or infinite entry.

    Examples
    --------
    >>> import numpy as np
    >>> quarter_turn = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    >>> rotate(np.array([[2.0, 1.0, 1.0]]), quarter_turn, center=(1, 1, 1))
    array([[0., 1., 0.]])
    """
    return _core.rotate(coordinates, rotation, center=center, box_size=box_size, threads=threads)


def bin_2d(
    x: Floats,
    y: Floats,
    weights: Iterable[Floats],
    *,
    bins: int | Sequence[int],
    extent: Sequence[Sequence[float]],
    bin_scale: float = 1.0,
    threads: int | None = None,
) -> npt.NDArray[np.float64]:
    """Sum weights over the pixels of a grid.

    Bins are half-open, the last one too, where :func:`numpy.histogram2d` closes it. Particles with
    a NaN or infinite position and weights that are NaN or infinite are dropped.

    Parameters
    ----------
    x, y : ndarray of float32 or float64, shape (N,)
        Positions [any length].
    weights : sequence of C ndarrays of float32 or float64, shape (N,)
        What to sum, one array per channel, at least one; the types may differ.
    bins : int or pair of ints
        Number of bins along x and y, or one for each.
    extent : pair of pairs of floats
        ``((x0, x1), (y0, y1))`` [unit of the positions].
    bin_scale : float
        Factor on the index, above 0 and at most 1.
    threads : int or None
        None: shared pool; 1: serial; n: own pool. The result does not depend on it.

    Returns
    -------
    ndarray of float64, shape (C, nx, ny)
        Sum of weights per pixel; the orientation of :func:`numpy.histogram2d`.

    Raises
    ------
    ShapeError
        Lengths differ, or an array has the wrong shape or is not C-contiguous and aligned.
    DTypeError
        An array is not float32 or float64 in native byte order, a number is not a number.
    RangeError
        No channels; ``bins`` below 1 or more than 2**28 pixels; ``extent`` empty, reversed or not
        finite; ``bin_scale`` out of range; ``threads`` below 1.
    MemoryError
        The maps do not fit in memory.

    Notes
    -----
    The index is ``floor((x - x0) / (x1 - x0) * bin_scale * nx)``; ``bin_scale=0.99`` gives that of
    the published listing. Sums over a pixel are grouped in blocks of particles by index.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.array([0.5, 1.5, 1.6]), np.array([0.5, 0.5, 0.5])
    >>> bin_2d(x, y, [np.array([1.0, 2.0, 4.0])], bins=(2, 1), extent=((0, 2), (0, 1)))
    array([[[1.],
            [6.]]])
    """
    return _core.bin_2d(
        x, y, weights, bins=bins, extent=extent, bin_scale=bin_scale, threads=threads
    )


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
    threads: int | None = None,
) -> Projection:
    """Make maps of the particles about a centre in one pass.

    Recentres, unwraps, rotates, culls and bins without temporaries of length N: what
    :func:`cull_box`, :func:`rotate` and :func:`bin_2d` over ``(-half_width, half_width)`` make in
    three. Bins are half-open, the last one too.

    Parameters
    ----------
    coordinates : ndarray of float32 or float64, shape (N, 3)
        Positions [any length].
    weights : sequence of ndarrays of float32 or float64, shape (N,), Product, ... or Weight
        What to sum, at least one; the types may differ.
    center : sequence of 3 floats
        Centre of the frame [unit of the coordinates].
    box_size : float or None
        Period of the simulation box; offsets are then minimum images about ``center``.
    rotation : array_like, shape (3, 3), or None
        Rows are the axes of the frame; None: those of the box.
    half_width : float or pair of floats
        Half extent in x and y, or one for each [unit of the coordinates].
    bins : int or pair of ints
        Number of bins along x and y, or one for each.
    depth : float or None
        Half extent in z; None: no cut in z.
    bin_scale : float
        Factor on the index, above 0 and at most 1.
    threads : int or None
        None: shared pool; 1: serial; n: own pool. The result does not depend on it.

    Returns
    -------
    Projection
        ``maps``, ndarray of float64, shape (C, nx, ny), the sum of weights per pixel in the
        orientation of :func:`numpy.histogram2d`, and the ``ledger`` of the particles.

    Raises
    ------
    ShapeError
        Lengths differ, or an array has the wrong shape or is not C-contiguous and aligned.
    DTypeError
        An array is not float32 or float64 in native byte order, a number is not a number.
    RangeError
        No channels; ``half_width``, ``depth`` or ``box_size`` not finite and positive; a
        ``rotation`` that is none; ``bins`` below 1 or more than 2**28 pixels; ``bin_scale`` out of
        range; ``threads`` below 1.
    NonFiniteError
        ``center`` or ``rotation`` has a NaN or infinite entry. Bad particles are counted instead.
    MemoryError
        The maps do not fit in memory.

    Notes
    -----
    The index is ``floor((q + half_width) / (2 half_width) * bin_scale * n)``; ``bin_scale=0.99``
    gives that of the published listing. The sums of the ledger are compensated: Neumaier (1974),
    doi:10.1002/zamm.19740540106.

    Examples
    --------
    >>> import numpy as np
    >>> positions = np.array([[0.5, 0.5, 0.0], [9.5, 0.5, 0.0], [5.0, 0.0, 0.0]])
    >>> result = project(
    ...     positions, [np.array([1.0, 2.0, 4.0])],
    ...     center=(0, 0, 0), box_size=10.0, rotation=None, half_width=1.0, bins=(2, 1),
    ... )
    >>> result.maps
    array([[[2.],
            [1.]]])
    >>> result.ledger.n_in_frame, result.ledger.sum_in_frame
    (2, (3.0,))
    """
    return _projection(
        _core.project(
            coordinates,
            weights,
            center=center,
            box_size=box_size,
            rotation=rotation,
            half_width=half_width,
            bins=bins,
            depth=depth,
            bin_scale=bin_scale,
            threads=threads,
        )
    )


def project_segments(
    segments: Iterable[tuple[Floats, Sequence[Quantity | Weight]]],
    *,
    columns: int,
    center: Vector,
    box_size: float | None,
    rotation: Matrix | None,
    half_width: float | Vector,
    bins: int | Sequence[int],
    depth: float | None = None,
    bin_scale: float = 1.0,
    threads: int | None = None,
) -> Projection:
    """Make maps of particles that come in segments, of which one has to fit in memory.

    The same maps, to the bit, as those of :func:`project` of all segments together, wherever they
    are cut. Weights are read only of particles in the frame: what lies elsewhere in their arrays is
    never looked at, so it need not be there.

    Parameters
    ----------
    segments : iterable of (coordinates, weights)
        Consecutive particles, as in :func:`project`. The next one is asked for when the one before
        has been summed.
    columns : int
        Number of columns that the weights of a segment sum, at least one: two for a mean.
    center, box_size, rotation, half_width, bins, depth, bin_scale, threads
        As in :func:`project`.

    Returns
    -------
    Projection
        As of :func:`project`, but ``n_bad_weight`` counts particles in the frame only, and
        ``sum_read`` is empty.

    Raises
    ------
    ShapeError, DTypeError, RangeError, NonFiniteError, MemoryError
        As in :func:`project`; ShapeError also for a segment with another number of weights.

    Examples
    --------
    >>> import numpy as np
    >>> positions, masses = np.array([[0.5, 0.5, 0.0], [9.5, 0.5, 0.0]]), np.array([1.0, 2.0])
    >>> result = project_segments(
    ...     ((positions[k : k + 1], [masses[k : k + 1]]) for k in range(2)), columns=1,
    ...     center=(0, 0, 0), box_size=10.0, rotation=None, half_width=1.0, bins=(2, 1),
    ... )
    >>> result.maps
    array([[[2.],
            [1.]]])
    """
    return _projection(
        _core.project_segments(
            segments,
            columns=columns,
            center=center,
            box_size=box_size,
            rotation=rotation,
            half_width=half_width,
            bins=bins,
            depth=depth,
            bin_scale=bin_scale,
            threads=threads,
        )
    )


def _projection(found: tuple[Any, ...]) -> Projection:
    maps, n_read, n_in_frame, n_bad, n_bad_weight, sum_read, sum_in_frame = found
    ledger = Ledger(
        n_read, n_in_frame, n_bad, tuple(n_bad_weight), tuple(sum_read), tuple(sum_in_frame)
    )
    return Projection(maps, ledger)
