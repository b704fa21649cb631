"""Every way to call a kernel wrongly: the class, and the name of the argument at fault."""

import numpy as np
import pytest

from sfr import errors
from sfr.render import kernels

X = np.zeros((4, 3))
W = np.ones(4)
ORIGIN = (0.0, 0.0, 0.0)
NAN, INF = float("nan"), float("inf")


def misaligned(array):
    raw = np.zeros(array.nbytes + 4, dtype=np.uint8)
    view = np.frombuffer(raw, dtype=array.dtype, count=array.size, offset=4).reshape(array.shape)
    if view.flags.aligned:
        view = np.frombuffer(raw, dtype=array.dtype, count=array.size, offset=1)
        view = view.reshape(array.shape)
    assert not view.flags.aligned
    return view


GOOD = {
    "cull_box": {"coordinates": X, "center": ORIGIN, "half_width": 1.0},
    "disk_normal": {
        "coordinates": np.tile((1.0, 0, 0), (4, 1)), "velocities": np.tile((0, 1.0, 0), (4, 1)),
        "masses": W,
        "center": ORIGIN, "bulk_velocity": ORIGIN,
    },
    "face_on_rotation": {"normal": (0, 0, 1)},
    "rotate": {"coordinates": X, "rotation": np.eye(3), "center": ORIGIN},
    "spin": {
        "coordinates": X, "velocities": X, "masses": W, "center": ORIGIN, "radius": 1.0,
        "velocity_factor": 1.0,
    },
    "project": {
        "coordinates": X, "weights": [W, W], "center": ORIGIN, "box_size": 9.0,
        "rotation": np.eye(3), "half_width": 1.0, "bins": 2,
    },
}  # fmt: skip


def call(function, **changes):
    return getattr(kernels, function)(**{**GOOD[function], **changes})


def takers(argument):
    extra = {"threads": 5, "box_size": 5, "depth": 2, "bin_scale": 2}
    if argument not in extra:
        return [name for name, good in GOOD.items() if argument in good]
    return {
        "threads": [name for name in GOOD if name not in {"face_on_rotation", "spin"}],
        "box_size": ["cull_box", "disk_normal", "rotate", "spin", "project"],
        "depth": ["cull_box", "project"],
        "bin_scale": ["project"],
    }[argument]


def cases(table):
    return [
        pytest.param(function, argument, value, id=f"{function}-{argument}-{k}")
        for argument, wrong in table.items()
        for function in takers(argument)
        for k, value in enumerate(wrong)
    ]


@pytest.mark.parametrize("function", GOOD)
def test_the_unchanged_call_works(function):
    call(function)


POINTS_SHAPE = [W, np.zeros((4, 2)), np.zeros((4, 3, 1)), np.zeros(()), X.T.copy().T, X[::2],
                np.zeros((8, 3), order="F"), misaligned(X)]  # fmt: skip
VALUES_SHAPE = [X, np.ones(8)[::2], np.ones(4)[::-1], misaligned(W), np.ones(())]


@pytest.mark.parametrize(
    ("function", "argument", "value"),
    cases({
        "coordinates": POINTS_SHAPE,
        "velocities": [*POINTS_SHAPE, X[:3].copy()],
        "masses": [*VALUES_SHAPE, W[:3].copy()],
        "weights": [[X], [np.ones(8)[::2]], [misaligned(W)], [W, W[:3].copy()], [np.ones(5)]],
        "center": [(0, 0), (0, 0, 0, 0), 1.0],
        "bulk_velocity": [(0, 0), 1.0],
        "normal": [(0, 0), 1.0, (0, 0, 0, 1)],
        "rotation": [np.eye(2), np.zeros(9), 1.0, np.zeros((4, 3))],
        "half_width": [(1.0,), (1.0, 1.0, 1.0)],
        "bins": [(1,), (1, 1, 1)],
    }),
)  # fmt: skip
def test_shapes(function, argument, value):
    with pytest.raises(errors.ShapeError, match=argument):
        call(function, **{argument: value})


BAD_TYPES = [np.int64, np.int32, np.float16, ">f8", ">f4", np.complex128, bool, object]


@pytest.mark.parametrize(
    ("function", "argument", "value"),
    cases({
        "coordinates": [*(X.astype(t) for t in BAD_TYPES), X.tolist(), None],
        "velocities": [*(X.astype(t) for t in BAD_TYPES), X.tolist(), None],
        "masses": [*(W.astype(t) for t in BAD_TYPES), W.tolist(), None],
        "weights": [*([W.astype(t)] for t in BAD_TYPES), [W.tolist()], W, None, 1.0, [None]],
        "center": [("a", 0, 0), (None, 0, 0), "abc"],
        "bulk_velocity": [("a", 0, 0)],
        "normal": [("a", 0, 0), "abc"],
        "rotation": [[["a", 0, 0]] * 3],
        "half_width": ["ab", None, (1.0, None)],
        "bins": [2.5, None, (2, 2.0), "ab"],
        "box_size": ["a", (1.0, 1.0)],
        "depth": ["a"],
        "radius": ["a", None],
        "velocity_factor": ["a"],
        "bin_scale": ["a"],
        "threads": ["a", 1.5],
    }),
)  # fmt: skip
def test_types(function, argument, value):
    with pytest.raises(errors.DTypeError, match=argument):
        call(function, **{argument: value})


POSITIVE = [0.0, -1.0, NAN, INF]


@pytest.mark.parametrize(
    ("function", "argument", "value"),
    cases({
        "threads": [0, -1, 10**6, 10**30],
        "box_size": [*POSITIVE, 10**400],
        "depth": [*POSITIVE, 1e308],
        "radius": POSITIVE,
        "velocity_factor": POSITIVE,
        "half_width": [*POSITIVE, (1.0, 0.0), (NAN, 1.0), 1e308],
        "bins": [0, -1, (1, 0), 2**40, (2**20, 2**20), 10**30],
        "bin_scale": [0.0, -0.5, 1.5, NAN],
        "weights": [[], ()],
    }),
)  # fmt: skip
def test_ranges(function, argument, value):
    with pytest.raises(errors.RangeError, match=argument):
        call(function, **{argument: value})


def test_a_box_without_a_center_is_refused():
    with pytest.raises(errors.RangeError, match="box_size"):
        kernels.rotate(X, np.eye(3), box_size=1.0)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize(
    ("function", "argument"),
    [(f, a) for a in ("center", "bulk_velocity", "normal", "rotation") for f in takers(a)],
)
def test_small_arguments_must_be_finite(function, argument, bad):
    value = np.eye(3)
    value[1, 2] = bad
    with pytest.raises(errors.NonFiniteError, match=argument):
        call(function, **{argument: value if argument == "rotation" else value[1]})


@pytest.mark.parametrize("bad", [NAN, INF])
@pytest.mark.parametrize("argument", ["coordinates", "velocities", "masses"])
def test_disk_normal_takes_no_bad_particle(argument, bad):
    value = GOOD["disk_normal"][argument].copy()
    value[2] = bad
    with pytest.raises(errors.NonFiniteError, match=rf"{argument}.* 2"):
        call("disk_normal", **{argument: value})


def test_disk_normal_that_overflows():
    with pytest.raises(errors.NonFiniteError, match="angular momentum"):
        call(
            "disk_normal",
            coordinates=np.tile((1e300, 0, 0), (4, 1)),
            velocities=np.tile((0, 1e300, 0), (4, 1)),
        )


def test_disk_normal_of_nothing():
    with pytest.raises(errors.EmptySelectionError, match="no particles"):
        call("disk_normal", coordinates=X[:0], velocities=X[:0], masses=W[:0])
    with pytest.raises(errors.EmptySelectionError, match="angular momentum"):
        call("disk_normal", velocities=X)


def test_face_on_rotation_of_nothing():
    with pytest.raises(errors.EmptySelectionError, match="normal"):
        kernels.face_on_rotation((0, 0, 0))


def test_errors_say_what_was_found_and_what_is_allowed():
    with pytest.raises(errors.DTypeError, match=r"coordinates.*int64.*float32 and float64"):
        call("cull_box", coordinates=X.astype(np.int64))
    with pytest.raises(errors.ShapeError, match=r"coordinates.*\[4, 2\].*\(N, 3\)"):
        call("cull_box", coordinates=np.zeros((4, 2)))


@pytest.mark.parametrize("function", [f for f in GOOD if f != "face_on_rotation"])
def test_options_are_keyword_only(function):
    with pytest.raises(TypeError, match="positional"):
        getattr(kernels, function)(*[None] * 10)


class Measured(np.ndarray):
    """An array with a unit, as astropy's Quantity and unyt's array are."""

    unit = "kpc"


def hidden(array):
    """Arrays whose class says more of the entries than the numbers do."""
    array = np.asarray(array, float)
    mask = np.zeros(array.shape, bool)
    mask.flat[0] = True
    found = [np.ma.masked_array(array, mask), np.ma.masked_array(array), array.view(Measured)]
    return [*found, array.view(np.recarray)]


@pytest.mark.parametrize(
    ("function", "argument", "value"),
    cases({
        **{name: hidden(X) for name in ("coordinates", "velocities")},
        "masses": hidden(W),
        "weights": [[W, array] for array in hidden(W)] + hidden(np.ones((2, 4)))[:3],
        **{name: hidden((1, 2, 3)) for name in ("center", "bulk_velocity", "normal")},
        "rotation": hidden(np.eye(3)),
        "half_width": [*hidden((1, 2)), *hidden(1.0)],
        "bins": [np.ma.masked_array([2, 2], [True, False])],
        **{name: hidden(1.0) for name in ("box_size", "depth", "bin_scale")},
        "threads": [np.ma.masked_array(1, True)],
    }),
)  # fmt: skip
def test_masks_and_units_are_not_dropped(function, argument, value):
    """The mask of a masked array was ignored: masked particles were in the map."""
    with pytest.raises(errors.DTypeError, match=rf"{argument}.*(mask|unit)"):
        call(function, **{argument: value})


def test_a_quantity_of_astropy_is_not_taken_for_its_number():
    units = pytest.importorskip("astropy.units")
    for argument, value in (("coordinates", X * units.Mpc), ("half_width", 1.0 * units.Mpc)):
        with pytest.raises(errors.DTypeError, match=rf"{argument}.*Quantity.*unit"):
            call("project", **{argument: value})


def test_mapped_files_are_plain_arrays(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    assert call("project", coordinates=mapped).ledger.n_in_frame == 4


@pytest.mark.parametrize(
    ("function", "argument", "value"),
    cases({
        "center": [(1 + 2j, 0, 0), np.ones(3, complex), (True, 0, 0), {0: 1, 1: 2, 2: 3},
                   {1.0, 2.0, 3.0}, b"abc", np.ones((3, 1)), (np.ones(1), 0, 0)],
        "rotation": [np.eye(3, dtype=complex), np.eye(3, dtype=bool)],
        "half_width": [True, 1 + 0j, np.complex128(1), {1: 1, 2: 2}, np.True_],
        "bins": [True, (2, True), b"ab"],
        "threads": [True],
        "weights": [{"mass": W}],
    }),
)  # fmt: skip
def test_what_float_would_take_but_is_no_number(function, argument, value):
    with pytest.raises(errors.DTypeError, match=argument):
        call(function, **{argument: value})


def test_a_whole_number_that_float64_cannot_hold():
    for value in (2**53 + 1, np.int64(2**60 + 1)):
        with pytest.raises(errors.RangeError, match=r"center.*float64"):
            call("project", center=(value, 0, 0))
    assert call("project", center=(2**60, 0, 0)).ledger.n_read == 4


NO_ROTATIONS = {
    "zero": np.zeros((3, 3)),
    "mirror": np.diag([1.0, 1, -1]),
    "point reflection": -np.eye(3),
    "scaled": 2 * np.eye(3),
    "sheared": [[1, 0.1, 0], [0, 1, 0], [0, 0, 1]],
    "two equal rows": [[1, 0, 0], [1, 0, 0], [0, 0, 1]],
    "few digits": [[0.707, -0.707, 0], [0.707, 0.707, 0], [0, 0, 1]],
}


@pytest.mark.parametrize("function", ["cull_box", "rotate", "project"])
@pytest.mark.parametrize("name", NO_ROTATIONS)
def test_a_rotation_that_is_none_is_refused(function, name):
    with pytest.raises(errors.RangeError, match=r"rotation.*determinant"):
        call(function, rotation=NO_ROTATIONS[name])


def test_a_rotation_of_single_precision_is_one():
    rotation = kernels.face_on_rotation((0.3, -0.7, 0.4)).astype(np.float32)
    call("project", rotation=rotation)


def test_one_array_in_place_of_a_list_of_them_says_so():
    """``project(x, w)`` said "got numpy.float64"."""
    made = kernels.Thermal(W, W, (1.0,) * 6)
    for one in (W, made, kernels.Weight(made), kernels.Product((W,)), kernels.Length(X)):
        with pytest.raises(errors.DTypeError, match=r"weights: got one .*give \[weights\]"):
            call("project", weights=one)
    assert call("project", weights=np.ones((2, 4))).maps.shape == (2, 2, 2)


@pytest.mark.parametrize(
    ("made", "kind", "match"),
    [
        (kernels.Product((W, W, W)), errors.ShapeError, r"\[0\]\.fields.*up to 2"),
        (kernels.Product(7), errors.DTypeError, r"\[0\]\.fields"),
        (kernels.Product((W, W[:2])), errors.ShapeError, r"\[0\]\.fields\[1\]"),
        (kernels.Product((W,), "2"), errors.DTypeError, r"\[0\]\.factor"),
        (kernels.Product((W,), per=W[:2]), errors.ShapeError, r"\[0\]\.per"),
        (kernels.Length(W), errors.ShapeError, r"\[0\]\.vectors.*\(N, 3\)"),
        (kernels.Length(X[:2]), errors.ShapeError, r"\[0\]\.vectors"),
        (kernels.Length(X, offset=(1, 2)), errors.ShapeError, r"\[0\]\.offset"),
        (kernels.Weight(W, times=W[:1]), errors.ShapeError, r"\[0\]\.times"),
        (kernels.Weight(W, without=W[:1]), errors.ShapeError, r"\[0\]\.without"),
        (kernels.Weight(W, times=kernels.Length(X[:1])), errors.ShapeError, r"\.times\.vectors"),
        (kernels.Weight(kernels.Weight(W)), errors.DTypeError, r"weights\[0\]"),
    ],
)
def test_recipes_of_weights_say_which_field_is_wrong(made, kind, match):
    with pytest.raises(kind, match=match):
        call("project", weights=[made])


FRAME = {"center": ORIGIN, "box_size": None, "rotation": None, "half_width": 1.0, "bins": 2}


def test_frames_that_are_none():
    options = {"columns": 1, "box_size": None, "bins": 2}
    for frames in (None, [ORIGIN], [{"center": ORIGIN}]):
        with pytest.raises(errors.DTypeError, match=r"frames.*Frame"):
            kernels.project_frames([], frames, **options)
    with pytest.raises(errors.RangeError, match="half_width"):
        kernels.project_frames([], [kernels.Frame(ORIGIN, 0.0)], **options)
    with pytest.raises(errors.RangeError, match="weights"):
        kernels.project_frames([], [kernels.Frame(ORIGIN, 1.0)], **{**options, "columns": None})
    assert kernels.project_frames([(X, [W])], [], **options) == []


@pytest.mark.parametrize(
    ("columns", "segments", "kind", "match"),
    [
        (-1, [], errors.RangeError, "columns"),
        (True, [], errors.DTypeError, "columns"),
        (1.0, [], errors.DTypeError, "columns"),
        (1, None, errors.DTypeError, "segments"),
        (1, [(X,)], errors.ShapeError, "segments"),
        (1, [X], errors.ShapeError, "segments"),
        (1, [(X, W)], errors.DTypeError, r"give \[weights\]"),
        (1, [(X, [np.ma.masked_array(W)])], errors.DTypeError, "mask"),
    ],
)
def test_segments(columns, segments, kind, match):
    with pytest.raises(kind, match=match):
        kernels.project_segments(segments, columns=columns, **FRAME)
