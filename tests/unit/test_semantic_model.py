"""The galaxy model, its derivatives, its bound and its fits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from sfr.errors import ConfigError, RangeError, ShapeError
from sfr.semantic.fisher import UNIFORM_ANGLE_DEG, bound, mean_bound
from sfr.semantic.problem import PROBLEMS, Problem, add_noise, get_problem
from sfr.semantic.profile import (
    NAMES,
    PITCH,
    PIXELS,
    SHAPE,
    Frame,
    angle_difference,
    linearise,
    local_to_natural,
    moved,
    render,
)
from sfr.semantic.refine import from_moments, gauss_newton, least_squares_fit, residuals


def row(**values):
    fixed = dict(zip(NAMES, (0.03, 0.5, 30.0, 0.0, 0.0, 1.0, 1.0), strict=True))
    return np.array([list({**fixed, **values}.values())])


def by_hand(A, e, theta, x=0.0, y=0.0, amplitude=1.0, n=1.0):
    """METHOD 6, pixel by pixel."""
    axis = np.linspace(-1, 1, 64) * 4 / 64
    t = np.radians(theta)
    image = np.zeros((64, 64))
    for i, v in enumerate(axis - y):
        for j, u in enumerate(axis - x):
            along, across = u * np.cos(t) - v * np.sin(t), u * np.sin(t) + v * np.cos(t)
            radius = np.hypot(along / A, across / (A * (1 - e)))
            image[i, j] = amplitude * np.exp(-(radius ** (1 / n)))
    return image


@pytest.mark.parametrize(
    "values",
    [
        {"A": 0.01, "e": 0.8, "theta": 10},
        {"A": 0.05, "e": 0.0, "theta": 0},
        {"A": 0.02, "e": 0.4, "theta": 135, "x": 0.004, "y": -0.01, "amplitude": 3.0, "n": 1.7},
    ],
)
def test_the_profile_is_the_published_formula_in_the_notebooks_coordinates(values):
    found = render(row(**values), Frame(), np.float64)[0]
    np.testing.assert_allclose(found, by_hand(**{"A": 0.03, "e": 0.5, "theta": 30, **values}))
    single = render(row(**values), Frame())
    assert single.dtype == np.float32
    np.testing.assert_allclose(single[0], found, atol=2e-6)


def test_the_pitch_is_that_of_the_notebook():
    np.testing.assert_allclose(Frame().axis, np.linspace(-1, 1, 64) * 4 / 64, atol=1e-15)
    assert pytest.approx(1.984e-3, rel=1e-3) == PITCH


def test_theta_turns_the_major_axis_clockwise_from_x_with_y_upwards():
    image = render(row(A=0.012, theta=20.0, e=0.6), Frame(), np.float64)[0]
    y, x = np.mgrid[:64, :64] - 31.5
    angle = 0.5 * np.degrees(np.arctan2(2 * (image * x * y).sum(), (image * (x**2 - y**2)).sum()))
    assert angle == pytest.approx(-20, abs=2)


@given(
    st.floats(0.008, 0.05),
    st.one_of(st.just(0.0), st.floats(0.0, 0.85)),
    st.floats(0, 180),
    st.floats(-0.008, 0.008),
    st.floats(0.5, 2.0),
    st.floats(0.6, 2.0),
    st.sampled_from([0.0, 2.5]),
)
def test_derivatives_are_those_of_the_rendered_images(A, e, theta, x, amplitude, n, psf):
    frame, here = Frame(psf), row(A=A, e=e, theta=theta, x=x, amplitude=amplitude, n=n)
    columns = linearise(here, frame, NAMES).columns[0]
    for place, name in enumerate(NAMES):
        step = np.zeros((1, len(NAMES)))
        step[0, place] = size = 1e-8 if name in ("x", "y") else 1e-5
        difference = render(moved(here, step, NAMES), frame, np.float64)
        difference = difference - render(moved(here, -step, NAMES), frame, np.float64)
        numeric = difference[0].ravel() / (2 * size)
        # at the cusp, half a step from a pixel, differences say nothing
        off = np.sort(np.abs(numeric - columns[place]))[:-2]
        assert off.max() <= 2e-4 * np.abs(columns[place]).max() + 1e-9, name


def test_derivatives_of_the_parameters_follow_from_the_local_ones():
    here = row(A=0.02, e=0.4, theta=50.0, n=1.3)
    natural = local_to_natural(here, NAMES)[0]
    for place in range(len(NAMES)):
        step = np.zeros((1, len(NAMES)))
        step[0, place] = 1e-6
        change = (moved(here, step, NAMES) - moved(here, -step, NAMES))[0] / 2e-6
        np.testing.assert_allclose(change, natural[:, place], rtol=1e-5, atol=1e-8)


def test_half_the_rows_hold_the_derivatives_of_all():
    here = row(A=0.02, e=0.6, theta=70.0)
    whole = linearise(here, Frame(), SHAPE)
    half = linearise(here, Frame(), SHAPE, upper_half=True)
    np.testing.assert_allclose(half.columns, whole.columns[:, :, 2048:])
    turned = whole.columns.reshape(3, 64, 64)[:, ::-1, ::-1]
    np.testing.assert_allclose(turned.reshape(1, 3, -1), whole.columns, atol=1e-12)


@pytest.mark.parametrize(
    ("ellipticity", "expected"),
    [
        ((0.2, 0.8), {"A": 4.209e-3, "e": 0.12267, "theta": 11.984}),
        ((0.2, 0.75), {"A": 4.033e-3, "e": 0.12576, "theta": 12.431}),
    ],
)
def test_the_bound_is_that_of_method_6(ellipticity, expected):
    found = mean_bound({"A": (0.01, 0.05), "e": ellipticity})
    assert found == pytest.approx(expected, rel=2e-4)


def test_the_bound_agrees_with_a_fisher_matrix_from_differences_of_images():
    step = {"A": 1e-6, "e": 1e-5, "theta": 1e-3}
    slopes = []
    for name, size in step.items():
        here = row(A=0.02, e=0.4, theta=25.0)
        above, below = here.copy(), here.copy()
        above[0, NAMES.index(name)] += size
        below[0, NAMES.index(name)] -= size
        difference = render(above, Frame(), np.float64) - render(below, Frame(), np.float64)
        slopes.append(difference.ravel() / (2 * size))
    covariance = np.linalg.inv(np.array(slopes) @ np.array(slopes).T)
    expected = np.sqrt(np.diag(covariance))
    found = bound(row(A=0.02, e=0.4, theta=25.0), Frame())[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_round_galaxy_has_no_angle_but_a_scale_and_an_ellipticity():
    found = bound(row(e=0.0), Frame())[0]
    assert found[2] == np.inf
    assert np.isfinite(found[:2]).all()
    assert pytest.approx(51.96, abs=0.01) == UNIFORM_ANGLE_DEG


def test_a_psf_blurs_like_scipy_and_keeps_the_light_of_what_is_beyond_the_edges():
    fine = render(row(A=0.01, e=0.3), Frame(), np.float64)[0]
    blurred = render(row(A=0.01, e=0.3), Frame(4.0), np.float64)[0]
    expected = ndimage.gaussian_filter(fine, 4.0 / np.sqrt(8 * np.log(2)), truncate=6)
    inside = slice(16, 48)
    np.testing.assert_allclose(blurred[inside, inside], expected[inside, inside], atol=1e-5)
    large = row(A=0.05, e=0.2)
    edge = render(large, Frame(4.0), np.float64)[0, 0] / render(large, Frame(), np.float64)[0, 0]
    assert (np.abs(edge - 1) < 0.02).all()


@pytest.mark.parametrize("size", [48, 64, 100, 150, 256])
def test_images_of_other_sizes_become_64_pixels_as_the_model_does(size):
    frame = Frame(0.0, size)
    native = Frame()
    flat = np.full((size, size), 3.0)
    np.testing.assert_allclose(frame.averaged(flat), 3.0)
    if size >= PIXELS:
        pixels = np.random.default_rng(1).normal(size=(size, size))
        assert frame.averaged(pixels).mean() == pytest.approx(pixels.mean())
    model = render(row(A=0.03, e=0.2), frame, np.float64)[0]
    assert np.abs(model - render(row(A=0.03, e=0.2), native, np.float64)[0]).max() < 0.02


def test_a_free_level_is_that_of_a_fit_with_one_parameter_more():
    from scipy.optimize import least_squares

    problem, rng = PROBLEMS["centred"], np.random.default_rng(3)
    truth = problem.draw(3, rng)
    data = add_noise(problem.images(truth), np.full(3, 0.03), rng) + np.float32(0.2)
    columns = problem.columns
    found = gauss_newton(data, truth, problem.frame, problem.free, steps=8, level=True)
    left = residuals(data, found, problem.frame, problem.free, level=True)
    for place, image in enumerate(data):

        def off(point, image=image):
            full = truth[:1].copy()
            full[0, columns] = point[:-1]
            return (render(full, problem.frame, np.float64)[0] + point[-1] - image).ravel()

        start = np.append(truth[place, columns], 0.2)
        best = least_squares(off, start, x_scale=np.append(np.abs(start[:-1]) + 1e-3, 0.1))
        scatter = np.sqrt(2 * best.cost / (image.size - len(start)))
        errors = scatter * np.sqrt(np.diag(np.linalg.inv(best.jac.T @ best.jac)))
        distance = np.abs(np.append(found[place, columns], left.level[place]) - best.x)
        assert (distance < 0.02 * errors).all()
        np.testing.assert_allclose(left.rms[place], scatter, rtol=1e-3)
        np.testing.assert_allclose(left.error[place], errors[:-1], rtol=0.02)
        np.testing.assert_allclose(left.level_error[place], errors[-1], rtol=0.02)


def test_gauss_newton_and_scipy_find_the_same_best_fit():
    problem, rng = PROBLEMS["free"], np.random.default_rng(3)
    truth = problem.draw(12, rng)
    data = add_noise(problem.images(truth), np.full(12, 0.02), rng)
    steps = gauss_newton(data, truth, problem.frame, problem.free, steps=6)
    scipy = [
        least_squares_fit(d, t, problem.frame, problem.free)
        for d, t in zip(data, truth, strict=True)
    ]
    error = residuals(data, steps, problem.frame, problem.free)
    off = (steps - np.array(scipy))[:, problem.columns]
    off[:, 2] = angle_difference(steps[:, 2], np.array(scipy)[:, 2])
    assert (np.abs(off) < 0.02 * error.error).all()
    assert (error.next_step < 0.02).all()
    np.testing.assert_allclose(error.rms, 0.02, rtol=0.06)


def test_the_fit_of_scipy_reaches_the_bound_without_a_network():
    problem, rng = PROBLEMS["paper"], np.random.default_rng(5)
    truth = problem.draw(300, rng)
    data = add_noise(problem.images(truth), np.full(300, 0.05), rng)
    found = np.array(
        [least_squares_fit(d, from_moments(d), problem.frame, problem.free) for d in data]
    )
    off = (found - truth)[:, :3]
    off[:, 2] = angle_difference(found[:, 2], truth[:, 2])
    ratio = np.sqrt(((off / (0.05 * bound(truth, problem.frame))) ** 2).mean(axis=0))
    # 300 images scatter by 4 %
    assert (np.abs(ratio - 1) < 0.15).all()


def test_folding_the_image_gives_the_fit_of_the_whole_image():
    problem, rng = PROBLEMS["paper"], np.random.default_rng(7)
    truth = problem.draw(8, rng)
    data = add_noise(problem.images(truth), np.full(8, 0.05), rng)
    folded = gauss_newton(data, truth, problem.frame, problem.free, steps=3)
    shifted = truth.copy()
    # a centre off by nothing that counts takes the way without folding
    shifted[:, 3] = 1e-12
    whole = gauss_newton(data, shifted, problem.frame, problem.free, steps=3)
    np.testing.assert_allclose(folded[:, :3], whole[:, :3], rtol=1e-4)


def test_steps_pass_through_round_galaxies():
    start = row(A=0.02, e=0.05, theta=10.0)
    image = render(row(A=0.021, e=0.05, theta=100.0), Frame())
    found = gauss_newton(image, start, Frame(), SHAPE, steps=5)
    np.testing.assert_allclose(found[0, :3], [0.021, 0.05, 100.0], rtol=1e-3)


@given(st.floats(-400, 400), st.floats(-400, 400))
def test_differences_of_axes_lie_within_90_degrees(a, b):
    found = float(angle_difference(np.array(a), np.array(b)))
    assert -90 <= found <= 90
    assert (found - (a - b)) % 180 == pytest.approx(0, abs=1e-6) or (
        found - (a - b)
    ) % 180 == pytest.approx(180, abs=1e-6)


def test_parameters_that_cannot_be_are_refused():
    with pytest.raises(ShapeError, match="parameters"):
        render(np.ones((3, 2)), Frame())
    for bad in ({"A": 0.0}, {"e": 1.0}, {"e": -0.1}, {"amplitude": -1.0}, {"A": np.nan}):
        with pytest.raises(RangeError, match="parameters"):
            render(row(**bad), Frame())
    with pytest.raises(RangeError, match="psf_fwhm"):
        Frame(40.0)
    with pytest.raises(ShapeError, match="images"):
        gauss_newton(np.zeros((2, 64, 64), np.float32), row(), Frame(), SHAPE)
    with pytest.raises(RangeError, match="steps"):
        gauss_newton(np.zeros((1, 64, 64), np.float32), row(), Frame(), SHAPE, steps=-1)


def test_problems_are_checked_and_named():
    with pytest.raises(ConfigError, match="centred"):
        get_problem("other")
    with pytest.raises(ConfigError, match="always free"):
        Problem("p", "", {"A": (0.01, 0.05), "e": (0.2, 0.8)}, (0.1, 0.1))
    with pytest.raises(RangeError, match="noise"):
        PROBLEMS["paper"].with_noise(0.2, 0.1)


def test_draws_fill_the_ranges_and_mix_the_noise():
    problem, rng = PROBLEMS["free"], np.random.default_rng(1)
    drawn = problem.draw(4000, rng)
    for name, (low, high) in problem.ranges.items():
        column = drawn[:, NAMES.index(name)]
        assert low <= column.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < column.max() <= high
    noise = problem.draw_noise(4000, rng)
    assert noise.min() >= problem.noise[0]
    assert np.median(noise) == pytest.approx(np.sqrt(np.prod(problem.noise)), rel=0.1)
    clean = np.zeros((2, 64, 64), np.float32)
    found = add_noise(clean, np.array([0.0, 0.1]), rng)
    assert not found[0].any()
    assert found[1].std() == pytest.approx(0.1, rel=0.05)


def test_more_steps_never_fit_worse_even_from_a_bad_start():
    problem, rng = PROBLEMS["free"], np.random.default_rng(11)
    truth = problem.draw(200, rng)
    images = add_noise(problem.images(truth), np.full(200, 0.1), rng)
    start, last = problem.draw(200, rng), None
    for steps in (0, 1, 3, 8):
        fit = gauss_newton(images, start, problem.frame, problem.free, steps=steps)
        squares = ((images - render(fit, problem.frame)) ** 2).sum(axis=(1, 2))
        assert last is None or (squares <= last * (1 + 1e-5)).all()
        last = squares
    assert np.median(last) < 1.02 * 64**2 * 0.1**2


def test_a_fit_that_runs_away_is_no_line_of_numpy():
    """What overflowed on its way was a RuntimeWarning on the terminal."""
    images = np.ones((1, 64, 64), np.float32)
    start = np.array([[0.002, 0.5, 10.0, 0.0, 0.0, 1.0, 0.05]])
    found = gauss_newton(images, start, Frame(), NAMES, steps=3)
    assert found.shape == (1, 7)
