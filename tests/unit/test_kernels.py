"""The kernels against their numpy twins, against numpy.histogram2d, and against themselves."""

import doctest
import inspect
import math
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sfr import _core
from sfr.render import kernels, reference
from sfr.render.reference import KERNELS

BLOCK = 1 << 16
THREADS = [1, 2, 3, 7, None]
fast = settings(deadline=None, max_examples=60)

values = st.one_of(
    st.floats(-4, 4, width=32),
    st.integers(-8, 8).map(lambda k: k / 2),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e30, -1e30, -0.0]),
)
plain = st.floats(-4, 4, width=32)
dtypes = st.sampled_from([np.float32, np.float64])
boxes = st.one_of(st.none(), st.sampled_from([3.0, 8.0, 0.7]))
halves = st.one_of(st.sampled_from([0.5, 1.0, 2.5]), st.tuples(*[st.sampled_from([0.5, 3.0])] * 2))
centers = st.tuples(plain, plain, plain)


@st.composite
def arrays(draw, columns=None, count=None, elements=values):
    n = draw(st.integers(0, 50)) if count is None else count
    shape = (n,) if columns is None else (n, columns)
    return draw(hnp.arrays(draw(dtypes), shape, elements=elements))


#: Changes signs, so what lies on an edge goes to the other side.
HALF_TURN = np.diag([-1.0, -1.0, 1.0])


@st.composite
def rotations(draw):
    normal = draw(centers.filter(lambda v: any(abs(x) > 1e-3 for x in v)))
    return draw(st.sampled_from([None, kernels.face_on_rotation(normal), HALF_TURN, np.eye(3)]))


@st.composite
def scenes(draw):
    coordinates = draw(arrays(columns=3))
    n = len(coordinates)
    weights = [draw(arrays(count=n)) for _ in range(draw(st.integers(1, 3)))]
    frame = {
        "center": draw(centers),
        "half_width": draw(halves),
        "box_size": draw(boxes),
        "rotation": draw(rotations()),
        "depth": draw(st.sampled_from([None, 0.5, 2.0])),
    }
    return coordinates, weights, frame


def many(rng, n, dtype=np.float32):
    coordinates = rng.normal(0.0, 1.0, (n, 3)).astype(dtype)
    weights = [rng.uniform(0.5, 2.0, n), rng.normal(5.0, 1.0, n).astype(np.float32)]
    return coordinates, weights


def assert_maps_close(found, expected):
    scale = np.nanmax(np.abs(expected), initial=1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * scale)


def sums_of(x, y, weights, **options):
    """Project particles in the plane of the picture."""
    coordinates = np.stack([x, y, np.zeros(len(x))], axis=1)
    frame = {"center": (0, 0, 0), "box_size": None, "rotation": None}
    return kernels.project(coordinates, weights, **frame, **options).maps


# Against the twins


def numbers(result):
    """Give the numbers of what a kernel gives, array by array."""
    if isinstance(result, np.ndarray):
        return [result]
    if isinstance(result, list):
        return [part for entry in result for part in numbers(entry)]
    if isinstance(result, kernels.Spin):
        return [np.asarray(entry) for entry in result]
    return [result.maps, *(np.asarray(entry) for entry in result.ledger)]


def takes(function):
    return list(inspect.signature(function).parameters)


def test_every_compiled_function_is_in_the_table_and_takes_what_its_twin_takes():
    compiled = {name for name in dir(_core) if callable(getattr(_core, name)) and name[0] != "_"}
    assert compiled == {kernel.name for kernel in KERNELS}
    for kernel in KERNELS:
        assert takes(kernel.function) == takes(getattr(_core, kernel.name))
        without_threads = [name for name in takes(kernel.function) if name != "threads"]
        assert without_threads == takes(kernel.twin)


@pytest.mark.parametrize("n", [1, 300, BLOCK + 1])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_every_kernel_makes_what_its_twin_makes(kernel, n):
    inputs = kernel.inputs(n, np.random.default_rng(n))
    found, expected = kernel.function(**inputs), kernel.twin(**inputs)
    for ours, twin in zip(numbers(found), numbers(expected), strict=True):
        if kernel.is_exact:
            np.testing.assert_array_equal(ours, twin)
        else:
            np.testing.assert_allclose(ours, twin, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "kernel", [k for k in KERNELS if "threads" in takes(k.function)], ids=lambda kernel: kernel.name
)
@pytest.mark.parametrize("n", [1000, 5 * BLOCK + 99])
def test_bits_do_not_depend_on_threads(kernel, n):
    inputs = kernel.inputs(n, np.random.default_rng(5))
    first, *others = (
        [part.tobytes() for part in numbers(kernel.function(**inputs, threads=threads))]
        for threads in THREADS
    )
    assert all(other == first for other in others)


@pytest.mark.parametrize("n", [1, 5, 8, 127, 130, 1000, BLOCK + 5, 3 * BLOCK])
@pytest.mark.parametrize("by_mass", [True, False])
def test_sums_of_spin_have_the_bits_of_numpy_on_which_published_alignments_rest(n, by_mass):
    (kernel,) = (kernel for kernel in KERNELS if kernel.name == "spin")
    inputs = kernel.inputs(n, np.random.default_rng(n)) | {"radius": 9.0, "by_mass": by_mass}
    found, expected = kernel.function(**inputs), kernel.twin(**inputs)
    assert found.n_used == expected.n_used == n
    np.testing.assert_array_equal(found.mean_velocity, expected.mean_velocity)
    np.testing.assert_array_equal(found.momentum, expected.momentum)
    assert found.of_lengths == expected.of_lengths


@fast
@given(scenes())
def test_cull_box_finds_what_the_twin_finds(scene):
    coordinates, _, frame = scene
    found = kernels.cull_box(coordinates, **frame)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, reference.cull_box(coordinates, **frame))


@fast
@given(scenes(), st.sampled_from([1, 4, (3, 5)]), st.sampled_from([1.0, 0.99, 0.3]))
def test_project_makes_what_the_twin_makes(scene, bins, bin_scale):
    coordinates, weights, frame = scene
    options = {**frame, "bins": bins, "bin_scale": bin_scale}
    found = kernels.project(coordinates, weights, **options)
    expected = reference.project(coordinates, weights, **options)
    assert found.maps.shape == expected.maps.shape
    assert found.maps.dtype == np.float64
    assert_maps_close(found.maps, expected.maps)
    assert found.ledger[:5] == expected.ledger[:5]
    for c, channel in enumerate(weights):
        size = np.abs(channel[np.isfinite(channel)].astype(np.float64)).sum()
        for sums in ("sum_in_frame", "sum_out_of_frame"):
            error = getattr(found.ledger, sums)[c] - getattr(expected.ledger, sums)[c]
            assert abs(error) <= 1e-14 * size
    assert found.ledger.n_in_frame == len(kernels.cull_box(coordinates, **frame))


@fast
@given(arrays(columns=3), rotations(), st.one_of(st.none(), centers), boxes)
def test_rotate_turns_as_the_twin_does(coordinates, rotation, center, box_size):
    rotation = np.eye(3) if rotation is None else rotation
    box_size = None if center is None else box_size
    found = kernels.rotate(coordinates, rotation, center=center, box_size=box_size)
    with np.errstate(invalid="ignore"):
        expected = reference.rotate(coordinates, rotation, center=center, box_size=box_size)
    np.testing.assert_array_equal(found, expected)


@fast
@given(st.data(), boxes)
def test_disk_normal_points_as_the_twin_does(data, box_size):
    n = data.draw(st.integers(1, 30))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    dtype = data.draw(dtypes)
    coordinates = rng.normal(0, 1, (n, 3)).astype(dtype)
    velocities = rng.normal(0, 1, (n, 3)).astype(data.draw(dtypes))
    masses = rng.uniform(1, 2, n).astype(data.draw(dtypes))
    options = {"center": (0.1, 0.2, 0.3), "bulk_velocity": (0.0, 1.0, 0.0), "box_size": box_size}
    found = kernels.disk_normal(coordinates, velocities, masses, **options)
    expected = reference.disk_normal(coordinates, velocities, masses, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert abs(np.linalg.norm(found) - 1) < 1e-14


@pytest.mark.parametrize("n", [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_several_blocks_make_what_the_twin_makes(n, dtype):
    coordinates, weights = many(np.random.default_rng(n), n, dtype)
    frame = {"center": (0.1, 0, 0), "half_width": 1.5, "rotation": None, "box_size": 6.0}
    found = kernels.project(coordinates, weights, **frame, bins=(40, 33), threads=2)
    expected = reference.project(coordinates, weights, **frame, bins=(40, 33))
    assert_maps_close(found.maps, expected.maps)
    assert found.ledger[:5] == expected.ledger[:5]


# Against numpy.histogram2d, which closes the last edge


@pytest.mark.parametrize("n", [0, 1, 1000, 2 * BLOCK])
def test_maps_have_the_orientation_of_histogram2d(n):
    rng = np.random.default_rng(3)
    x, y = rng.uniform(-0.7, 0.7, (2, n))
    weights = rng.uniform(0, 1, n)
    found = sums_of(x, y, [weights, np.ones(n)], half_width=0.5, bins=(6, 9))
    for image, w in zip(found, (weights, None), strict=True):
        limits = ((-0.5, 0.5), (-0.5, 0.5))
        expected = np.histogram2d(x, y, bins=(6, 9), range=limits, weights=w)[0]
        np.testing.assert_allclose(image, expected, rtol=1e-12)


@fast
@given(st.lists(st.tuples(st.integers(-10, 10), st.integers(-10, 10)), max_size=50))
def test_maps_differ_from_histogram2d_only_at_the_last_edge(places):
    x, y = np.array(places, dtype=np.float64).reshape(-1, 2).T.copy() / 2
    found = sums_of(x, y, [np.ones(len(x))], half_width=4, bins=8)[0]
    open_end = (x != 4) & (y != 4)
    expected = np.histogram2d(x[open_end], y[open_end], bins=8, range=((-4, 4), (-4, 4)))[0]
    np.testing.assert_array_equal(found, expected)


# Edges and bad values


def test_frames_are_half_open():
    below = np.nextafter(1.0, 0.0)
    x = np.array([[-1.0, 0, 0], [1.0, 0, 0], [below, 0, 0], [0, 1.0, 0], [0, -1.0, 0], [0, 0, 1.0]])
    np.testing.assert_array_equal(kernels.cull_box(x, (0, 0, 0), 1.0), [0, 2, 4, 5])
    np.testing.assert_array_equal(kernels.cull_box(x, (0, 0, 0), 1.0, depth=1.0), [0, 2, 4])


def test_an_index_that_rounds_up_falls_in_the_last_bin():
    rng = np.random.default_rng(8)
    rounded_up = 0
    for half, n in zip(rng.uniform(0.1, 9, 2000), rng.integers(1, 300, 2000), strict=True):
        x = np.array([np.nextafter(half, 0)])
        rounded_up += (x[0] + half) / (2 * half) * n >= n
        image = sums_of(x, np.zeros(1), [np.ones(1)], half_width=half, bins=(int(n), 1))
        assert image[0, -1, 0] == 1
    assert rounded_up


def test_the_scale_gives_the_index_of_the_listing():
    x = np.linspace(-0.5, 0.5, 5000, endpoint=False)
    options = {"half_width": 0.5, "bins": (256, 1), "bin_scale": 0.99}
    image = sums_of(x, np.zeros(5000), [np.ones(5000)], **options)[0, :, 0]
    index = [int((v + 0.5) / (0.5 + 0.5) * 0.99 * 256) for v in x]
    np.testing.assert_array_equal(image, np.bincount(index, minlength=256))
    assert not image[254:].any()


@pytest.mark.parametrize("huge", [1e300, -1e300, 1.7e308])
@pytest.mark.parametrize("box_size", [None, 10.0, 1e-300])
def test_huge_coordinates_are_outside_and_not_bad(huge, box_size):
    coordinates = np.array([[huge, 0.0, 0.0], [0.0, 0.0, 0.0]])
    result = kernels.project(
        coordinates,
        [np.ones(2)],
        center=(0, 0, 0),
        box_size=box_size,
        rotation=None,
        half_width=1.0,
        bins=1,
    )
    assert result.ledger.n_bad_coordinates == 0
    inside = kernels.cull_box(coordinates, (0, 0, 0), 1.0, box_size=box_size)
    assert result.ledger.n_in_frame == len(inside)
    assert 1 in inside


def test_huge_weights_overflow_to_infinity_not_nan():
    result = kernels.project(
        np.zeros((9, 3)),
        [np.full(9, 1.5e308)],
        center=(0, 0, 0),
        box_size=None,
        rotation=None,
        half_width=1.0,
        bins=1,
    )
    assert result.maps[0, 0, 0] == math.inf
    assert result.ledger.sum_in_frame == (math.inf,)
    assert result.ledger.sum_out_of_frame == (0.0,)
    assert result.ledger.n_bad_weight == (0,)


@pytest.mark.parametrize("weight", [0.1, 0.7, 1 / 3])
@pytest.mark.parametrize("bins", [1, 64])
def test_sums_agree_with_fsum(weight, bins):
    n = 5 * BLOCK + 3
    rng = np.random.default_rng(0)
    coordinates = rng.normal(0, 1, (n, 3)).astype(np.float32)
    weights = [np.full(n, weight), rng.lognormal(0, 3, n)]
    result = kernels.project(
        coordinates,
        weights,
        center=(0, 0, 0),
        box_size=None,
        rotation=None,
        half_width=1.0,
        bins=bins,
    )
    inside = kernels.cull_box(coordinates, (0, 0, 0), 1.0)
    for c, channel in enumerate(weights):
        exact = math.fsum(channel[inside])
        assert math.isclose(result.ledger.sum_in_frame[c], exact, rel_tol=1e-14)
        rest = math.fsum(np.delete(channel, inside))
        assert math.isclose(result.ledger.sum_out_of_frame[c], rest, rel_tol=1e-14)
        assert math.isclose(math.fsum(result.maps[c].ravel()), exact, rel_tol=1e-12)


def test_no_particles_make_zero_maps():
    none = np.empty((0, 3), dtype=np.float32)
    assert kernels.cull_box(none, (0, 0, 0), 1.0).shape == (0,)
    assert kernels.rotate(none, np.eye(3)).shape == (0, 3)
    result = kernels.project(
        none,
        [none[:, 0].copy()],
        center=(0, 0, 0),
        box_size=1.0,
        rotation=np.eye(3),
        half_width=1.0,
        bins=(2, 3),
    )
    np.testing.assert_array_equal(result.maps, np.zeros((1, 2, 3)))
    assert result.ledger == kernels.Ledger(0, 0, 0, 0, (0,), (0.0,), (0.0,))


@fast
@given(scenes())
def test_what_was_read_is_in_the_frame_out_of_it_or_bad(scene):
    coordinates, weights, frame = scene
    whole = [np.where(np.isfinite(w), w, 1).astype(w.dtype) for w in weights]
    ledger = kernels.project(coordinates, whole, **frame, bins=2).ledger
    assert ledger.n_read == ledger.n_in_frame + ledger.n_out_of_frame + ledger.n_bad_coordinates
    for weight, inside, outside in zip(
        whole, ledger.sum_in_frame, ledger.sum_out_of_frame, strict=True
    ):
        size = np.abs(weight.astype(float)).sum()
        assert abs(inside + outside - math.fsum(weight.tolist())) <= 1e-14 * size


# Rotations


NORMALS = [
    (0, 0, 1), (0, 0, -1), (1e-9, 0, 1), (1e-9, 0, -1), (-1e-10, 5e-10, -1), (0, 1e-12, -1),
    (1, 0, 0), (0, -1, 0), (1, 2, -3), (1e-200, 1e-200, -1), (3e-8, -1e-8, -1), (5e-324, 0, -1),
]  # fmt: skip


@pytest.mark.parametrize("normal", NORMALS)
@pytest.mark.parametrize("length", [1.0, 1e-200, 1e200])
def test_face_on_rotation_is_proper_smallest_and_exact(normal, length):
    given_normal = np.array(normal, dtype=np.float64) * length
    r = kernels.face_on_rotation(given_normal)
    n = given_normal / np.abs(given_normal).max()
    n /= np.linalg.norm(n)
    np.testing.assert_allclose(r @ n, [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(r @ r.T, np.eye(3), atol=1e-12)
    assert abs(np.linalg.det(r) - 1) < 1e-12
    assert abs(np.trace(r) - (1 + 2 * n[2])) < 1e-12
    if n[2] > -0.99:
        np.testing.assert_allclose(r, reference.face_on_rotation(given_normal), atol=1e-12)


def test_face_on_rotation_of_minus_z_is_a_half_turn_about_x():
    np.testing.assert_array_equal(kernels.face_on_rotation([0, 0, -3]), np.diag([1.0, -1, -1]))
    np.testing.assert_array_equal(kernels.face_on_rotation([0, 0, 3]), np.eye(3))


# Threads


def test_two_python_threads_at_once_get_the_same_maps():
    coordinates, weights = many(np.random.default_rng(6), 4 * BLOCK)
    options = {
        "center": (0, 0, 0), "box_size": None, "rotation": None, "half_width": 1.0, "bins": 64,
    }  # fmt: skip
    expected = kernels.project(coordinates, weights, **options)
    results = []

    def work(threads):
        results.extend(
            kernels.project(coordinates, weights, **options, threads=threads) for _ in range(4)
        )

    workers = [threading.Thread(target=work, args=(t,)) for t in (None, 1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 12
    for maps, ledger in results:
        assert maps.tobytes() == expected.maps.tobytes()
        assert ledger == expected.ledger


def test_the_gil_is_released():
    coordinates, weights = many(np.random.default_rng(7), 40 * BLOCK)
    old = sys.getswitchinterval()
    # With the GIL held, the other thread could not run before the call ends.
    sys.setswitchinterval(60)
    ticks, started, stop = [], threading.Event(), threading.Event()

    def tick():
        started.set()
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.0005)

    other = threading.Thread(target=tick)
    try:
        other.start()
        started.wait()
        begin = time.perf_counter()
        kernels.project(
            coordinates, weights, center=(0, 0, 0), box_size=None, rotation=None, half_width=1.0,
            bins=64, threads=1,
        )  # fmt: skip
        end = time.perf_counter()
    finally:
        stop.set()
        sys.setswitchinterval(old)
        other.join()
    assert sum(begin < t < end for t in ticks) >= 2


def test_spawned_processes_get_the_same_bits():
    code = (
        "import numpy as np; from sfr.render import kernels; import hashlib;"
        "r = np.random.default_rng(1); x = r.normal(size=(200000, 3));"
        "m = kernels.project(x, [x[:, 0].copy()], center=(0, 0, 0), box_size=None, rotation=None,"
        "half_width=1.0, bins=32).maps; print(hashlib.sha256(m.tobytes()).hexdigest())"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True,
            env={"RAYON_NUM_THREADS": n},
        ).stdout
        for n in ("1", "3")
    }  # fmt: skip
    assert len(hashes) == 1


# Arrays as they come


def test_read_only_and_mapped_arrays_are_taken(tmp_path):
    coordinates, weights = many(np.random.default_rng(1), 100)
    options = {
        "center": (0, 0, 0), "box_size": None, "rotation": None, "half_width": 1.0, "bins": 4,
    }  # fmt: skip
    expected = kernels.project(coordinates, weights, **options).maps
    coordinates.tofile(tmp_path / "coordinates")
    mapped = np.memmap(tmp_path / "coordinates", np.float32, "r", shape=(100, 3))
    for w in weights:
        w.flags.writeable = False
    np.testing.assert_array_equal(kernels.project(mapped, weights, **options).maps, expected)


def test_results_are_new_and_writable():
    coordinates = np.zeros((3, 3))
    for result in (
        kernels.cull_box(coordinates, (0, 0, 0), 1.0),
        kernels.rotate(coordinates, np.eye(3)),
        kernels.face_on_rotation((0, 0, 1)),
        sums_of(*coordinates.T[:2], [np.ones(3)], half_width=1, bins=2),
    ):
        assert result.flags.writeable
        assert result.flags.c_contiguous
        assert not np.shares_memory(result, coordinates)


def test_build_says_what_it_is():
    assert _core.build_profile in {"debug", "release"}
    assert _core.__version__.count(".") == 2


def test_examples_of_the_docstrings():
    found = doctest.testmod(kernels)
    assert found.attempted
    assert not found.failed
