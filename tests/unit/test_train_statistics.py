"""Statistics of out-of-fold predictions: right on cases where the answer is known."""

import numpy as np
import pytest
from scipy import stats

from sfr.train.bootstrap import resampled_r
from sfr.train.statistics import (
    adds,
    area_under_curve,
    correlation,
    differences,
    fisher_mean,
    information,
    mean_over_folds,
    permutation_test,
    permuted_labels,
    rank_probabilities,
    standard_error,
)


def test_a_mean_of_correlations_is_one_of_z():
    assert fisher_mean([0.9, 0.5], [23, 23]) == pytest.approx(
        np.tanh((np.arctanh(0.9) + np.arctanh(0.5)) / 2)
    )
    assert fisher_mean([0.9, 0.1], [1003, 3]) == pytest.approx(0.9)
    assert fisher_mean([1.0, 1.0], [10, 10]) == pytest.approx(1.0)
    assert fisher_mean([0.5], [3]) is None


def test_offsets_between_folds_lower_the_pooled_r_and_not_that_by_fold():
    rng = np.random.default_rng(0)
    fold = np.arange(400) % 4
    y = rng.normal(size=400)
    p = y + 0.5 * rng.normal(size=400) + 3.0 * fold
    by_fold = mean_over_folds(y, p, fold, np.arange(400))
    assert correlation(y, p) < 0.5
    assert by_fold == pytest.approx(1 / np.sqrt(1.25), abs=0.03)
    assert mean_over_folds(y, np.zeros(400), fold, np.arange(400)) is None


def test_the_standard_error_is_the_scatter_of_r():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4000, 200))
    y = 0.75 * x + np.sqrt(1 - 0.75**2) * rng.normal(size=x.shape)
    scatter = np.std([np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)])
    assert standard_error(0.75, 200) == pytest.approx(scatter, rel=0.05)
    assert standard_error(0.75, 715) == pytest.approx(0.016, abs=0.001)


def test_information_of_a_gaussian_is_what_its_correlation_allows():
    rng = np.random.default_rng(2)
    p = rng.normal(size=200_000)
    y = p + 0.5 * rng.normal(size=p.size)
    r2 = 1 / 1.25
    assert information(y, p) == pytest.approx(-0.5 * np.log(1 - r2), abs=0.01)
    assert information(y, p + 10.0) == 0.0
    assert information(np.ones(5), np.arange(5.0)) is None


def test_the_area_under_the_curve_is_that_of_mann_and_whitney():
    rng = np.random.default_rng(3)
    p, quenched = np.round(rng.normal(size=80), 1), rng.random(80) < 0.3
    u = stats.mannwhitneyu(p[~quenched], p[quenched]).statistic
    assert area_under_curve(quenched, p) == pytest.approx(u / (quenched.sum() * (~quenched).sum()))
    assert area_under_curve([True, True, False], [0.0, 1.0, 2.0]) == 1.0
    assert area_under_curve([False, False], [0.0, 1.0]) is None


def test_ranks_are_probabilities_and_ties_share():
    rng = np.random.default_rng(4)
    draws = {"a": rng.normal(1.0, 1.0, 5000), "b": rng.normal(0.0, 1.0, 5000)}
    draws["c"] = draws["b"]
    found = rank_probabilities(draws)
    assert all(places.sum() == pytest.approx(1.0) for places in found.values())
    assert np.sum(list(found.values()), axis=0) == pytest.approx(1.0)
    np.testing.assert_allclose(found["b"], found["c"])
    assert found["a"][0] == pytest.approx(stats.norm.cdf(1 / np.sqrt(2)), abs=0.02)


def drawn(y, p, rng, count=400):
    """r of each row of p in resamples of the images."""
    at = rng.integers(y.size, size=(count, y.size))
    centred = [v - v.mean(axis=-1, keepdims=True) for v in (y[at], p[:, at])]
    scale = [np.sqrt(np.sum(v**2, axis=-1)) for v in centred]
    return np.sum(centred[0] * centred[1], axis=-1) / (scale[0] * scale[1])


def test_paired_differences_hold_for_all_pairs_together():
    """Of ten equal cases, one pair in ten or more would be called different at 95 % each."""
    rng = np.random.default_rng(5)
    wrong, experiments = 0, 60
    for _ in range(experiments):
        y = rng.normal(size=60)
        p = y + rng.normal(size=(6, 60))
        draws = drawn(y, p, rng)
        r = {str(i): correlation(y, row) for i, row in enumerate(p)}
        found = differences(r, dict(zip(r, draws, strict=True)), beyond=0.05)
        assert len(found) == 15
        wrong += any(pair.is_one for pair in found)
    assert wrong <= 9  # 3 are expected, and more than 9 in 1 of 1000


def test_a_real_difference_is_found():
    rng = np.random.default_rng(6)
    y = rng.normal(size=200)
    p = np.stack([y + 0.3 * rng.normal(size=200), y + 2.0 * rng.normal(size=200)])
    r = {"good": correlation(y, p[0]), "bad": correlation(y, p[1])}
    draws = dict(zip(r, resampled_r(y, p, np.arange(200)), strict=True))
    (found,) = differences(r, draws)
    assert found.is_one
    assert found.low < found.difference < found.high
    assert differences({"good": 0.9}, draws) == []


def test_labels_are_exchanged_between_components_and_not_torn_apart():
    component = np.array([5, 5, 5, 2, 2, 2, 9, 9, 9])
    y = np.array([1.0, 1.1, 1.2, 2.0, 2.1, 2.2, 3.0, 3.1, 3.2])
    found = permuted_labels(y, component, 50)
    assert found.shape == (9, 50)
    for column in found.T:
        assert sorted(column) == sorted(y)
        for number in (5, 2, 9):
            assert np.diff(column[component == number]) == pytest.approx([0.1, 0.1])
    assert len({tuple(column) for column in found.T}) == 6


def test_components_of_different_size_take_each_others_labels_at_even_steps():
    component = np.array([0, 0, 0, 0, 1, 1])
    y = np.array([1.0, 2.0, 3.0, 4.0, 8.0, 9.0])
    other = {tuple(column) for column in permuted_labels(y, component, 20).T} - {tuple(y)}
    assert other == {(8.0, 8.0, 9.0, 9.0, 1.0, 3.0)}


def test_a_permutation_test_is_right_by_chance_as_often_as_it_says():
    rng = np.random.default_rng(7)
    component = np.repeat(np.arange(30), 5)
    found = []
    for _ in range(200):
        # images of a galaxy are copies: by image, every second test would find something
        y, p = (rng.normal(size=30)[component] + 0.1 * rng.normal(size=150) for _ in range(2))
        found += permutation_test(y, [p], component, 199)
    assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=0.045)
    y = rng.normal(size=150)
    several = [y + rng.normal(size=150), np.zeros(150)]
    assert permutation_test(y, several, component, 199) == [1 / 200, None]
    assert permutation_test(y[:10], [y[:10]], np.zeros(10, int)) == [None]


def test_a_case_that_repeats_the_scalars_adds_nothing():
    """A label that follows gas mass alone: the mass map reaches .8 and adds -.001 +- .003."""
    rng = np.random.default_rng(8)
    gas = rng.normal(size=300)
    y = gas + 0.3 * rng.normal(size=300)
    image = gas + 0.4 * rng.normal(size=300)
    found = adds(y, gas, image, np.arange(300))
    assert correlation(y, image) > 0.8
    assert abs(found.r_gain) < 0.003
    assert not found.is_something


def test_a_case_that_knows_more_adds_it():
    rng = np.random.default_rng(9)
    gas, shape = rng.normal(size=(2, 300))
    y = gas + shape + 0.3 * rng.normal(size=300)
    found = adds(y, gas, 0.5 * shape + 3.0, np.arange(300))
    assert found.is_something
    assert found.r_gain == pytest.approx(0.27, abs=0.06)
    assert found.r2_low < found.r2_gain < found.r2_high
    assert found.r2_low > 0.2
    assert found.weight == pytest.approx(2.0, rel=0.1)


def test_an_anti_correlated_prediction_is_not_turned_into_a_finding():
    """A prediction with r = -.07 became +.13 in a second fit that may flip its sign."""
    rng = np.random.default_rng(10)
    y = rng.normal(size=200)
    scalars, image = y + rng.normal(size=200), -y + rng.normal(size=200)
    found = adds(y, scalars, image, np.arange(200))
    assert found.weight == 0.0
    assert found.r_gain == 0.0
    assert not found.is_something


def test_too_few_galaxies_say_nothing_of_what_is_added():
    y = np.random.default_rng(11).normal(size=20)
    assert adds(y, y + 1.0, y, np.arange(20) % 5) is None
