"""The deposit smoothed: cells with a size, against the twin, exact columns and a finer grid."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sfr import errors
from sfr.render import kernels, reference

BINS = 64
FRAME = {"center": (0, 0, 0), "box_size": None, "rotation": None, "half_width": BINS / 2}
#: Radii from a thousandth of a pixel to a hundred pixels.
SIZES = [1e-3, 0.01, 0.1, 0.39, 0.41, 0.7, 0.95, 1.19, 1.21, 2.0, 5.0, 12.0]
SUPPORT = 2.5


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def volume(radius):
    return 4 / 3 * np.pi * np.asarray(radius, np.float64) ** 3


def smoothed(places, radii, weights=None, *, bins=BINS, **changes):
    """Maps of cells in the plane of the picture, whose pixels have side 1."""
    coordinates = np.column_stack([places, np.zeros(len(places))])
    weights = [np.ones(len(places))] if weights is None else weights
    options = {**FRAME, "half_width": bins / 2, "bins": bins, **changes}
    return kernels.project(coordinates, weights, volumes=volume(radii), **options)


def column(radius):
    """Column of the cubic spline of support 1 by numerical integration along the line of sight."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    far = np.sqrt(np.maximum(1 - np.asarray(radius) ** 2, 0))[..., None]
    q = np.sqrt(np.asarray(radius)[..., None] ** 2 + (far * nodes) ** 2)
    spline = np.where(q < 0.5, 1 - 6 * q**2 + 6 * q**3, 2 * np.maximum(1 - q, 0) ** 3)
    return 8 / np.pi * (far * spline * weights).sum(-1)


RADII = np.linspace(0, 1, 2001)
COLUMN = column(RADII)


def columns_in_pixels(place, support, bins, fine=16):
    """A cell's share of every pixel, from its column on a grid that is 16 times finer."""
    middle = (np.arange(bins * fine) + 0.5) / fine - bins / 2
    distance = np.hypot(middle[:, None] - place[0], middle[None, :] - place[1]) / support
    made = np.zeros(distance.shape)
    made[distance < 1] = np.interp(distance[distance < 1], RADII, COLUMN) / (support * fine) ** 2
    return made.reshape(bins, fine, bins, fine).sum((1, 3))


@pytest.mark.parametrize("radius", [*SIZES, 100.0])
def test_what_a_cell_holds_is_conserved_whatever_its_size_against_a_pixel(radius, rng):
    bins = BINS if radius < 13 else 512
    room = bins / 2 - SUPPORT * radius
    corners = [*itertools.product([-room, room], repeat=2)]
    on_edges = rng.integers(-int(room), int(room) + 1, (8, 2)).astype(float)
    for place in [*rng.uniform(-room, room, (12, 2)), *corners, *on_edges, (0.0, 0.0)]:
        maps = smoothed([place], [radius * (1 - 1e-12)], bins=bins).maps
        assert abs(maps.sum() - 1) < 1e-12
        assert (maps >= 0).all()


def test_many_cells_of_all_sizes_hold_what_they_held(rng):
    radii = 10 ** rng.uniform(-3, 0.9, 5000)
    room = (BINS / 2 - SUPPORT * radii)[:, None]
    weights = [rng.uniform(0.5, 2, 5000), rng.normal(5, 1, 5000).astype(np.float32)]
    made = smoothed(rng.uniform(-1, 1, (5000, 2)) * room, radii, weights)
    for image, held in zip(made.maps, weights, strict=True):
        assert image.sum() == pytest.approx(held.astype(float).sum(), rel=1e-12)


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 6, 9])
def test_small_cells_are_what_the_twin_makes(columns, rng):
    n = 700
    coordinates = rng.uniform(-BINS * 0.6, BINS * 0.6, (n, 3))
    radii = 10 ** rng.uniform(-3, np.log10(1.19), n)
    weights = [rng.normal(size=n) for _ in range(columns)]
    options = {**FRAME, "bins": BINS, "depth": 20.0, "volumes": volume(radii)}
    found = kernels.project(coordinates, weights, **options)
    expected = reference.project(coordinates, weights, **options)
    np.testing.assert_allclose(found.maps, expected.maps, rtol=0, atol=1e-12)
    assert found.ledger[:5] == expected.ledger[:5]


@pytest.mark.parametrize("bin_scale", [0.5, 0.99])
def test_small_cells_are_what_the_twin_makes_where_pixels_lie_beyond_the_frame(bin_scale, rng):
    """The twin divided the frame by all pixels."""
    coordinates = rng.uniform(-BINS * 0.6, BINS * 0.6, (700, 3))
    radii = 10 ** rng.uniform(-3, np.log10(1.19), 700)
    options = {**FRAME, "bins": BINS, "bin_scale": bin_scale, "volumes": volume(radii)}
    found = kernels.project(coordinates, [np.ones(700)], **options)
    expected = reference.project(coordinates, [np.ones(700)], **options)
    np.testing.assert_allclose(found.maps, expected.maps, rtol=0, atol=1e-12)
    assert found.ledger[:5] == expected.ledger[:5]


def test_large_cells_are_near_to_the_twin(rng):
    for radius in np.geomspace(1.2, 60, 25):
        place = rng.uniform(-40, 40, 2)
        found = smoothed([place], [radius]).maps[0]
        twin = reference.smooth(
            place[None], np.array([SUPPORT * radius]), np.ones(1), [BINS / 2] * 2, [BINS] * 2
        )
        assert np.abs(found - twin).max() < 0.075 * 1.97 / (SUPPORT * radius) ** 2


@pytest.mark.parametrize("radius", SIZES[1:])
def test_a_cell_is_the_column_of_its_spline(radius, rng):
    for place in rng.uniform(-1, 1, (4, 2)):
        found = smoothed([place], [radius]).maps[0]
        expected = columns_in_pixels(place, SUPPORT * radius, BINS)
        if radius > 0.3:
            # narrower than a few fine pixels the sum of the column is no integral
            assert np.abs(found - expected).max() < 0.075 * expected.max()
        spread = [((np.arange(BINS) + 0.5 - BINS / 2 - p) ** 2) for p in place]
        widths = [found.sum(1) @ spread[0], found.sum(0) @ spread[1]]
        # of the spline, and what a pixel adds
        inside = (0.27386 * SUPPORT * radius) ** 2
        assert all(w <= 1.08 * inside + 0.3 for w in widths)


def test_a_cell_that_an_edge_of_pixels_cuts_leaves_its_share_on_either_side():
    # the marginal along x: the column integrated along y
    t = np.linspace(-1, 1, 401)
    marginal = np.interp(np.hypot(t[:, None], t), RADII, COLUMN, right=0).sum(1) * (t[1] - t[0])
    for radius in SIZES[:8]:
        for offset in (0.0, 0.3, -2.0):
            image = smoothed([(offset * radius, 0.5)], [radius]).maps[0]
            is_low = 0.5 * (np.sign(-(t * SUPPORT + offset)) + 1)
            low = (is_low * marginal).sum() * (t[1] - t[0])
            assert image[: BINS // 2].sum() == pytest.approx(low, abs=2e-3)


def test_a_uniform_lattice_gives_a_uniform_map():
    # three cells a pixel along each axis: of finer waves the spline leaves nothing
    places = np.stack(np.meshgrid(*[np.arange(-40, 40, 1 / 3)] * 2), -1).reshape(-1, 2)
    for radius in (0.62 / 3, 0.62, 1.5, 3.0):
        inner = smoothed(places, np.full(len(places), radius)).maps[0][20:-20, 20:-20]
        assert np.std(inner) < 2e-3 * np.mean(inner)
        assert np.mean(inner) == pytest.approx(9, rel=2e-3)


def test_a_disc_of_known_profile_comes_out():
    rng = np.random.default_rng(3)
    n, scale = 200_000, 6.0
    distance = scale * rng.gamma(2, size=n)
    angle = rng.uniform(0, 2 * np.pi, n)
    places = distance[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    image = smoothed(places, np.full(n, 0.5)).maps[0]
    middle = np.arange(BINS) + 0.5 - BINS / 2
    r = np.hypot(*np.meshgrid(middle, middle))
    for low in (2, 6, 10, 15, 20):
        ring = (r >= low) & (r < low + 3)
        expected = n / (2 * np.pi * scale**2) * np.exp(-r[ring] / scale)
        assert image[ring].mean() == pytest.approx(expected.mean(), rel=0.02)


def test_maps_converge_to_those_of_a_grid_16_times_finer():
    rng = np.random.default_rng(5)
    n = 300
    radii = 10 ** rng.uniform(-0.4, 0.7, n)
    places = rng.normal(0, 3, (n, 2))
    expected = sum(
        columns_in_pixels(place, SUPPORT * radius, BINS)
        for place, radius in zip(places, radii, strict=True)
    )
    found = smoothed(places, radii).maps[0]
    full = expected > 1
    assert full.sum() > 50
    assert np.sqrt(np.mean((found[full] / expected[full] - 1) ** 2)) < 0.01


def test_cells_that_reach_in_from_outside_are_seen_and_those_that_do_not_are_not():
    places = [(BINS / 2 + 2.4, 0), (BINS / 2 + 2.6, 0), (0, -BINS / 2 - 2.4), (300, 0), (-36, -36)]
    made = smoothed(places, [1, 1, 1, 100 / SUPPORT, 2])
    assert (made.ledger.n_in_frame, made.ledger.n_out_of_frame) == (3, 2)
    assert 0 < made.maps.sum() < 0.1
    assert not made.maps[0, BINS // 4 : BINS // 2, BINS // 4 : BINS // 2].any()
    # a cell wider than the frame covers all of it
    wide = smoothed([(0, 0)], [1000.0]).maps[0]
    assert wide.sum() == pytest.approx(BINS**2 * 1.91 / 2500**2, rel=0.1)


def test_the_centre_decides_along_the_line_of_sight():
    coordinates = np.array([[0, 0, 0.9], [0, 0, 1.1], [0, 0, -1.0]])
    options = {**FRAME, "bins": BINS, "depth": 1.0, "volumes": volume([2, 2, 2])}
    made = kernels.project(coordinates, [np.array([1.0, 2.0, 4.0])], **options)
    assert made.maps.sum() == pytest.approx(5)


def test_cells_without_a_volume_are_bad_and_none_of_them_is_in_a_map():
    radii = np.array([1.0, np.nan, np.inf, -1.0, 0.0])
    made = smoothed(np.zeros((5, 2)), radii, [np.array([1.0, 2.0, 4.0, 8.0, 16.0])])
    assert made.ledger.n_bad_coordinates == 3
    assert made.ledger.n_in_frame == 2
    assert made.maps.sum() == pytest.approx(17)


def test_a_mean_of_smoothed_cells_lies_between_their_values(rng):
    n = 2000
    mean = kernels.Weight(rng.uniform(3, 4, n), times=rng.uniform(1, 2, n), is_mean=True)
    radii = 10 ** rng.uniform(-2, 1, n)
    total, weight = smoothed(rng.uniform(-40, 40, (n, 2)), radii, [mean]).maps
    seen = weight > 0
    assert seen.mean() > 0.9
    assert ((total[seen] / weight[seen] > 2.999999) & (total[seen] / weight[seen] < 4.000001)).all()


def test_bits_depend_on_no_threads_and_no_segments(rng):
    n = 2 * 65536 + 777
    coordinates = rng.normal(0, 15, (n, 3)).astype(np.float32)
    volumes = kernels.Product((rng.uniform(1, 9, n),), per=(10 ** rng.uniform(-2, 3, n)))
    weights = [rng.uniform(1, 2, n), rng.normal(size=n).astype(np.float32)]
    expected = kernels.project(coordinates, weights, volumes=volumes, bins=BINS, **FRAME)
    options = {**FRAME, "bins": BINS, "deposit": "smoothed"}
    for threads, step in [(1, n), (2, n), (3, 40_000), (1, 65_537), (2, 12_345)]:
        pieces = (
            (
                coordinates[k : k + step],
                [w[k : k + step] for w in weights],
                kernels.Product((volumes.fields[0][k : k + step],), per=volumes.per[k : k + step]),
            )
            for k in range(0, n, step)
        )
        found = kernels.project_segments(pieces, threads=threads, **options)
        np.testing.assert_array_equal(found.maps, expected.maps)
        assert found.ledger.sum_in_frame == expected.ledger.sum_in_frame


def test_what_the_deposit_needs_is_asked_for(rng):
    coordinates, masses = rng.normal(size=(4, 3)), np.ones(4)
    options = {**FRAME, "bins": BINS}
    with pytest.raises(errors.RangeError, match="square pixels"):
        kernels.project(coordinates, [masses], volumes=masses, **{**options, "bins": (64, 32)})
    with pytest.raises(errors.ShapeError, match="volumes: 3 entries, expected 4"):
        kernels.project(coordinates, [masses], volumes=masses[:3], **options)
    with pytest.raises(errors.RangeError, match=r'deposit.*"histogram" or "smoothed"'):
        kernels.project_segments([(coordinates, [masses])], deposit="cubes", **options)
    with pytest.raises(errors.ShapeError, match="volumes"):
        kernels.project_segments([(coordinates, [masses])], deposit="smoothed", **options)
