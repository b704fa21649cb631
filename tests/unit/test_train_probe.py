"""Ridge on fixed features: the closed form is exact, and test rows change nothing."""

import numpy as np
import pytest

from sfr.errors import EmptySelectionError, NonFiniteError, ShapeError
from sfr.train.probe import (
    STRENGTHS,
    Scaling,
    fit_ridge,
    leave_out_errors,
    out_of_fold,
)


def made(n=120, p=30, *, galaxies=40, noise=0.5, seed=0):
    """Features, a label that some of them carry, and components of three rows each."""
    rng = np.random.default_rng(seed)
    component = np.arange(n) % galaxies
    x = rng.normal(size=(galaxies, p))[component] + 0.3 * rng.normal(size=(n, p))
    y = x[:, :5].sum(axis=1) + noise * rng.normal(size=galaxies)[component]
    return x, y, component


@pytest.mark.parametrize(("n", "p"), [(60, 7), (24, 50)])
def test_the_closed_form_is_what_fits_without_a_component_leave(n, p):
    x, y, component = made(n, p, galaxies=8)
    x -= x.mean(axis=0)
    y = np.stack([y, np.sin(y)], axis=1)
    y -= y.mean(axis=0)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    kept = s > 1e-9
    found = leave_out_errors(u[:, kept], s[kept], y, component)
    for place in (0, 6, 10):
        left = np.zeros_like(y)
        for number in range(8):
            out = component == number
            middle, mean = x[~out].mean(axis=0), y[~out].mean(axis=0)
            z = x[~out] - middle
            penalty = STRENGTHS[place] * np.eye(p)
            b = np.linalg.solve(z.T @ z + penalty, z.T @ (y[~out] - mean))
            left[out] = y[out] - mean - (x[out] - middle) @ b
        np.testing.assert_allclose(found[place], np.mean(left**2, axis=0), rtol=1e-8)


@pytest.mark.parametrize("noise", [0.1, 1.0, 5.0])
def test_the_closed_form_chooses_as_well_as_inner_folds(noise):
    """By R2 on galaxies that neither has seen, over ten samples."""

    def of_strength(x, y, strength):
        scaling = Scaling.of(x)
        z, mean = scaling.apply(x), y.mean()
        b = np.linalg.solve(z.T @ z + strength * np.eye(z.shape[1]), z.T @ (y - mean))
        return lambda other: scaling.apply(other) @ b + mean

    def inner_folds(x, y, component):
        errors = np.zeros(len(STRENGTHS))
        for place, strength in enumerate(STRENGTHS):
            for part in range(5):
                out = component % 5 == part
                found = of_strength(x[~out], y[~out], strength)
                errors[place] += np.sum((found(x[out]) - y[out]) ** 2)
        return STRENGTHS[int(errors.argmin())]

    closed, folded = [], []
    for seed in range(10):
        x, y, component = made(noise=noise, seed=seed)
        fresh, truth, _ = made(600, galaxies=200, noise=noise, seed=seed + 100)
        chosen = fit_ridge(x, y[:, None], component).strength[0]
        for scores, strength in ((closed, chosen), (folded, inner_folds(x, y, component))):
            left = of_strength(x, y, strength)(fresh) - truth
            scores.append(1 - np.mean(left**2) / np.var(truth))
    assert np.mean(closed) >= np.mean(folded) - 0.005


def test_predictions_are_the_same_for_more_features_than_rows_and_fewer():
    x, y, component = made(30, 20, galaxies=10)
    # the same features twice are half as strongly shrunk, and no other function
    wide = np.concatenate([x, x], axis=1)
    few, many = (fit_ridge(f, y[:, None], component) for f in (x, wide))
    strengths = np.asarray(STRENGTHS)
    assert many.strength[0] in strengths[np.abs(np.log10(strengths / few.strength[0])) < 0.51]
    assert np.corrcoef(few.predict(x)[:, 0], many.predict(wide)[:, 0])[0, 1] > 0.995


def test_a_nearly_dead_feature_is_not_blown_up_and_an_outlier_is_clipped():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 5))
    x[:, 0] *= 1e-6
    x[3, 1] = 1e4
    x[:, 2] = 7.0
    scaling = Scaling.of(x)
    scaled = scaling.apply(x)
    assert np.abs(scaled[:, 0]).max() < 1e-3
    assert np.abs(scaled).max() == 5.0
    assert not scaled[:, 2].any()


def test_kinds_of_features_have_a_floor_each():
    rng = np.random.default_rng(2)
    loud, quiet = 1000.0 * rng.normal(size=(100, 8)), rng.normal(size=(100, 8))
    x = np.concatenate([loud, quiet], axis=1)
    together, apart = Scaling.of(x), Scaling.of(x, np.repeat([0, 1], 8))
    assert together.apply(x)[:, 8:].std() < 0.1
    assert apart.apply(x)[:, 8:].std() == pytest.approx(1.0, rel=0.05)


def test_without_a_floor_columns_of_different_units_count_alike():
    x = np.random.default_rng(3).normal(size=(50, 2)) * [1.0, 1e-6]
    assert Scaling.of(x, floor=0.0).apply(x).std(axis=0) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("factor", [1e-3, -50.0])
def test_a_label_may_have_any_scale_and_offset(factor):
    """A label of -10 left the published head with nothing learned (r = 0)."""
    x, y, component = made()
    fold = component % 4
    plain = out_of_fold(x, y, fold, component).prediction
    moved = out_of_fold(x, factor * y - 10.0, fold, component).prediction
    np.testing.assert_allclose(moved, factor * plain - 10.0, rtol=1e-7, atol=1e-9)


def test_every_row_is_predicted_by_the_fit_that_has_not_seen_it():
    x, y, component = made()
    fold = component % 4
    fold[component == 39] = -1
    found = out_of_fold(x, y, fold, component)
    assert np.isnan(found.prediction[fold == -1]).all()
    assert sorted(found.fits) == [0, 1, 2, 3]
    for number, fit in found.fits.items():
        test = fold == number
        np.testing.assert_array_equal(found.prediction[test], fit.predict(x[test])[:, 0])
        mine = fit_ridge(x[~test], y[~test, None], component[~test])
        np.testing.assert_allclose(found.prediction[test], mine.predict(x[test])[:, 0], rtol=1e-9)
    r = np.corrcoef(found.prediction[fold >= 0], y[fold >= 0])[0, 1]
    assert r > 0.8
    # what is tested changes nothing of the fit
    changed = x.copy()
    changed[fold == 2] += 100.0
    other = out_of_fold(changed, y, fold, component)
    np.testing.assert_array_equal(other.fits[2].coefficients, found.fits[2].coefficients)


def test_labels_side_by_side_are_fitted_each_by_itself():
    x, y, component = made()
    other = np.random.default_rng(4).normal(size=y.size)
    fold = component % 4
    both = out_of_fold(x, np.stack([y, other], axis=1), fold, component)
    alone = out_of_fold(x, other, fold, component)
    np.testing.assert_allclose(both.prediction[:, 1], alone.prediction, rtol=1e-8, atol=1e-12)
    assert both.fits[0].strength[0] != both.fits[0].strength[1]


def test_copies_of_a_galaxy_do_not_choose_the_strength():
    """With copies in both halves, the weakest penalty looks best: the label is known by heart."""
    rng = np.random.default_rng(5)
    component = np.repeat(np.arange(60), 6)
    x = rng.normal(size=(60, 50))[component] + 0.01 * rng.normal(size=(360, 50))
    y = rng.normal(size=60)[component]
    by_component = fit_ridge(x, y[:, None], component).strength[0]
    by_image = fit_ridge(x, y[:, None], np.arange(360)).strength[0]
    assert by_component > 100 * by_image


def test_constant_features_predict_the_mean():
    x, y = np.ones((20, 3)), np.arange(20.0)
    found = fit_ridge(x, y[:, None], np.arange(20)).predict(x)
    np.testing.assert_allclose(found, 9.5)


def test_what_cannot_be_fitted_is_said():
    x, y, component = made(12, 3, galaxies=4)
    with pytest.raises(EmptySelectionError, match="of one galaxy"):
        fit_ridge(x, y[:, None], np.zeros(12, int))
    x[2, 1] = np.nan
    with pytest.raises(NonFiniteError, match="1 of 36 features"):
        fit_ridge(x, y[:, None], component)
    with pytest.raises(ShapeError):
        fit_ridge(x, y[:, None][:5], component)
