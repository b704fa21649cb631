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

Particles are put into maps in one of two ways. Of ``histogram`` they are points. Of ``smoothed``
they are cells with a volume V, each spread over a cubic spline (M4, seen along the line of sight)
that reaches 2.5 r far, r = (3 V / 4 pi)^(1/3). Its profiles along x and y are exact, and the cell
is taken as their product, at most 2.6 % of its central column off; one that reaches three pixels or
more is written in 5 x 5 splines of a grid as coarse as itself, each profile at most 4 % of its peak
off. What a cell holds is conserved to rounding in a frame that contains it, however small it is
against a pixel. A cell whose centre is beyond the frame leaves what reaches in, and counts as in
the frame; along the line of sight its centre decides. Cells whose volume is negative, infinite or
NaN count as those with bad coordinates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from sfr import _core

__all__ = [
    "Frame",
    "Ledger",
    "Length",
    "Product",
    "Projection",
    "Quantity",
    "Spin",
    "Thermal",
    "Weight",
    "build_profile",
    "cull_box",
    "disk_normal",
    "face_on_rotation",
    "project",
    "project_frames",
    "project_segments",
    "rotate",
    "spin",
]

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Vector: TypeAlias = Sequence[float] | Floats
Matrix: TypeAlias = Sequence[Sequence[float]] | Floats


def build_profile() -> str:
    """Return how the kernels were compiled: ``release``, or ``debug``, which is slow."""
    return _core.build_profile


class Ledger(NamedTuple):
    """Where the particles of a projection went: all read are in the frame, out of it, or bad.

    Entries per column are those of the maps.
    """

    #: Particles given.
    n_read: int
    #: Particles with finite coordinates in the frame, whatever their weights.
    n_in_frame: int
    #: Particles with finite coordinates that are not in the frame.
    n_out_of_frame: int
    #: Particles with a NaN or infinite coordinate; they are in no frame.
    n_bad_coordinates: int
    #: Per column: particles in the frame whose weight is NaN or infinite.
    n_bad_weight: tuple[int, ...]
    #: Per column: sum of the finite weights of the particles in the frame.
    sum_in_frame: tuple[float, ...]
    #: Per column: sum of the finite weights of all others, those with bad coordinates included;
    #: empty where only weights of particles in the frame were looked at.
    sum_out_of_frame: tuple[float, ...]


@dataclass(frozen=True)
class Frame:
    """A frame about a centre; the arguments of :func:`cull_box`."""

    center: Vector
    half_width: float | Vector
    depth: float | None = None
    rotation: Matrix | None = None


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


class Spin(NamedTuple):
    """How the particles in a sphere turn about its centre."""

    #: Finite particles with a mass above 0 in the sphere.
    n_used: int
    #: float64, shape (3,): their mass-weighted mean velocity; NaN where there is none.
    mean_velocity: npt.NDArray[np.float64]
    #: float64, shape (3,): direction of the sum of their angular momenta; 0 where there is none.
    normal: npt.NDArray[np.float64]
    #: float64, shape (3,): that sum.
    momentum: npt.NDArray[np.float64]
    #: Sum of the lengths of the angular momenta.
    of_lengths: float
    #: Sum of ``w |d| |v|``: a ``momentum`` whose length is a tiny share of it is rounding.
    of_speeds: float


Segment: TypeAlias = (
    tuple[Floats, Iterable[Quantity | Weight]]
    | tuple[Floats, Iterable[Quantity | Weight], Quantity]
)


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
    found: npt.NDArray[np.int64] = _core.cull_box(
        coordinates,
        center,
        half_width,
        box_size=box_size,
        depth=depth,
        rotation=rotation,
        threads=threads,
    )
    return found


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
    direction: npt.NDArray[np.float64] = _core.disk_normal(
        coordinates,
        velocities,
        masses,
        center=center,
        bulk_velocity=bulk_velocity,
        box_size=box_size,
        threads=threads,
    )
    return direction


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
    rotation: npt.NDArray[np.float64] = _core.face_on_rotation(normal)
    return rotation


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
    turned: npt.NDArray[np.float64] = _core.rotate(
        coordinates, rotation, center=center, box_size=box_size, threads=threads
    )
    return turned


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
    """Add up the angular momenta of the particles in a sphere about its centre.

    Particles with an entry that is NaN or infinite, or a mass that is not above 0, are left out.

    Parameters
    ----------
    coordinates : ndarray of float32 or float64, shape (N, 3)
        Positions [any length].
    velocities : ndarray of float32 or float64, shape (N, 3)
        Velocities [any speed, over ``velocity_factor``].
    masses : ndarray of float32 or float64, shape (N,)
        Masses [any mass].
    center : sequence of 3 floats
        Centre of the sphere and of rotation [unit of the coordinates].
    radius : float
        Radius of the sphere [unit of the coordinates].
    box_size : float or None
        Period of the simulation box; offsets are then minimum images about ``center``.
    velocity_factor : float
        What velocities are multiplied by.
    by_mass : bool
        Whether angular momenta are weighted by mass; else all count alike.

    Returns
    -------
    Spin
        Sums over the particles in the sphere.

    Raises
    ------
    ShapeError
        An array has the wrong shape or length or is not C-contiguous and aligned.
    DTypeError
        An array is not float32 or float64 in native byte order, a number is not a number.
    RangeError
        ``radius``, ``box_size`` or ``velocity_factor`` not finite and positive.
    NonFiniteError
        ``center`` has a NaN or infinite entry.

    Notes
    -----
    ``w d x (v - mean_velocity)`` for each particle. Sums have the bits of NumPy's; those of
    ``normal`` are grouped as :func:`disk_normal` does.

    Examples
    --------
    >>> import numpy as np
    >>> positions = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    >>> velocities = np.array([[7.0, 2.0, 0.0], [7.0, -2.0, 0.0], [0.0, 0.0, 0.0]])
    >>> found = spin(positions, velocities, np.ones(3), center=(0, 0, 0), radius=3.0)
    >>> found.n_used, found.mean_velocity, found.normal, found.momentum, found.of_lengths
    (2, array([7., 0., 0.]), array([0., 0., 1.]), array([0., 0., 4.]), 4.0)
    """
    return Spin(
        *_core.spin(
            coordinates,
            velocities,
            masses,
            center=center,
            radius=radius,
            box_size=box_size,
            velocity_factor=velocity_factor,
            by_mass=by_mass,
        )
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
    volumes: Quantity | None = None,
    threads: int | None = None,
) -> Projection:
    """Make maps of the particles about a centre in one pass.

    Recentres, unwraps, rotates, culls and bins without temporaries of length N: what
    :func:`cull_box`, :func:`rotate` and :func:`numpy.histogram2d` over
    ``(-half_width, half_width)`` make in three, but for the last bin, which is half-open as the
    others are.

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
    volumes : ndarray of float32 or float64, shape (N,), Product, ... or None
        Volumes of cells, which are then smoothed [unit of the coordinates, cubed]; pixels have to
        be square. None: particles are points.
    threads : int or None
        None: shared pool; 1: serial; n: own pool. The result does not depend on it.

    Returns
    -------
    Projection
        ``maps``, ndarray of float64, shape (C, nx, ny), the sum of weights per pixel in the
        orientation of :func:`numpy.histogram2d`, and the ``ledger`` of the particles, with the
        weights of all of them.

    Raises
    ------
    ShapeError
        Lengths differ, or an array has the wrong shape or is not C-contiguous and aligned.
    DTypeError
        An array is not float32 or float64 in native byte order, a number is not a number.
    RangeError
        No channels; ``half_width``, ``depth`` or ``box_size`` not finite and positive; a
        ``rotation`` that is none; ``bins`` below 1, more than 2**28 pixels, or pixels that are not
        square where there are ``volumes``; ``bin_scale`` out of range; ``threads`` below 1.
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
    frame = Frame(center, half_width, depth, rotation)
    segment: Segment = (coordinates, weights)
    if volumes is not None:
        segment = (coordinates, weights, volumes)
    return project_frames(
        [segment],
        [frame],
        box_size=box_size,
        bins=bins,
        bin_scale=bin_scale,
        deposit="histogram" if volumes is None else "smoothed",
        whole=True,
        threads=threads,
    )[0]


def project_segments(
    segments: Iterable[Segment],
    *,
    columns: int | None = None,
    center: Vector,
    box_size: float | None,
    rotation: Matrix | None,
    half_width: float | Vector,
    bins: int | Sequence[int],
    depth: float | None = None,
    bin_scale: float = 1.0,
    deposit: str = "histogram",
    threads: int | None = None,
) -> Projection:
    """Make maps of particles that come in segments, of which one has to fit in memory.

    :func:`project_frames` with one frame.

    Parameters
    ----------
    segments
        As in :func:`project_frames`.
    columns, deposit
        As in :func:`project_frames`.
    center, box_size, rotation, half_width, bins, depth, bin_scale, threads
        As in :func:`project`.

    Returns
    -------
    Projection
        As of :func:`project`, but without ``sum_out_of_frame``.

    Raises
    ------
    ShapeError, DTypeError, RangeError, NonFiniteError, MemoryError
        As in :func:`project_frames`.

    Examples
    --------
    >>> import numpy as np
    >>> positions, masses = np.array([[0.5, 0.5, 0.0], [9.5, 0.5, 0.0]]), np.array([1.0, 2.0])
    >>> result = project_segments(
    ...     ((positions[k : k + 1], [masses[k : k + 1]]) for k in range(2)),
    ...     center=(0, 0, 0), box_size=10.0, rotation=None, half_width=1.0, bins=(2, 1),
    ... )
    >>> result.maps
    array([[[2.],
            [1.]]])
    """
    frame = Frame(center, half_width, depth, rotation)
    return project_frames(
        segments,
        [frame],
        columns=columns,
        box_size=box_size,
        bins=bins,
        bin_scale=bin_scale,
        deposit=deposit,
        threads=threads,
    )[0]


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
    threads: int | None = None,
) -> list[Projection]:
    """Make maps in several frames, such as views of a galaxy, in one pass over the particles.

    The same maps, to the bit, as those of :func:`project` of all segments together in each frame,
    wherever the segments are cut and whatever the other frames. Weights are read only of particles
    in a frame: what lies elsewhere in their arrays is never looked at, so it need not be there.

    Parameters
    ----------
    segments : iterable of (coordinates, weights), or (coordinates, weights, volumes)
        Consecutive particles, as in :func:`project`, of which one segment has to fit in memory. The
        next one is asked for when the one before has been summed.
    frames : sequence of Frame
        The frames.
    columns : int or None
        Number of columns that the weights of a segment sum, two for a mean; None: as those of the
        first segment, of which there has to be one.
    box_size, bins, bin_scale, threads
        As in :func:`project`; every frame has these bins.
    deposit : {"histogram", "smoothed"}
        How particles are put into maps; ``smoothed`` takes segments with volumes.
    whole : bool
        Look at the weights of all particles, for ``sum_out_of_frame``.

    Returns
    -------
    list of Projection
        One for each frame.

    Raises
    ------
    ShapeError, DTypeError, RangeError, NonFiniteError, MemoryError
        As in :func:`project`; ShapeError also for a segment with another number of columns.

    Examples
    --------
    >>> import numpy as np
    >>> positions, masses = np.array([[0.5, 0.5, 0.0], [9.5, 0.5, 0.0]]), np.array([1.0, 2.0])
    >>> half_turn = [[-1, 0, 0], [0, -1, 0], [0, 0, 1]]
    >>> frames = [Frame((0, 0, 0), 1.0), Frame((0, 0, 0), 1.0, rotation=half_turn)]
    >>> made = project_frames([(positions, [masses])], frames, box_size=10.0, bins=(2, 1))
    >>> [projection.maps.ravel() for projection in made]
    [array([2., 1.]), array([1., 2.])]
    """
    found = _core.project_frames(
        segments,
        frames,
        columns=columns,
        box_size=box_size,
        bins=bins,
        bin_scale=bin_scale,
        deposit=deposit,
        whole=whole,
        threads=threads,
    )
    return [
        Projection(maps, Ledger(*counts, *(tuple(column) for column in columns)))
        for maps, counts, *columns in found
    ]
