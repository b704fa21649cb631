"""Intervals, cleaned texts, numbers of the report's tables, and its verdict."""

import numpy as np
import pytest

from sfr.recipe import load_recipe
from sfr.report.html import number, table_number
from sfr.report.tables import CaseRow, bare, differs, fisher_interval
from sfr.report.verdict import verdict


@pytest.fixture
def recipe():
    return load_recipe("thesis")


def row(case, r, n=400, **kwargs):
    low, high = fisher_interval(r, n) or (None, None)
    status = "trained" if r is not None else "dead"
    values = {"status": status, "n_test": n, "seeds": 1, "r_low": low, "r_high": high}
    return CaseRow(case, r=r, **(values | kwargs))


def test_fisher_interval_covers_the_true_correlation_in_95_of_100_samples():
    rng = np.random.default_rng(3)
    draws = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], (2000, 50))
    hits = 0
    for pair in draws:
        low, high = fisher_interval(float(np.corrcoef(pair.T)[0, 1]), 50)
        hits += low < 0.6 < high
    assert hits / len(draws) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(("r", "n"), [(None, 10), (0.5, 3), (0.5, None), (1.0, 10), (-1.0, 10)])
def test_fisher_interval_is_none_where_it_is_undefined(r, n):
    assert fisher_interval(r, n) is None


def test_differs_needs_more_images_for_a_smaller_difference():
    assert not differs(row("a", 0.80, 50), row("b", 0.70, 50))
    assert differs(row("a", 0.80, 500), row("b", 0.70, 500))
    assert not differs(row("a", None), row("b", 0.7))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/me/run/x.hdf5 is short", "x.hdf5 is short"),
        ("no file '/data/tng/snap_099.3.hdf5'", "no file 'snap_099.3.hdf5'"),
        (r"C:\data\tng\x.hdf5", "x.hdf5"),
        ("~/runs/w.h5", "w.h5"),
        ("1e10 Msun/h, km/s and ckpc/h", "1e10 Msun/h, km/s and ckpc/h"),
        ("SFR / (SubhaloMass * 1e10)", "SFR / (SubhaloMass * 1e10)"),
        ("0.1/yr/kpc", "0.1/yr/kpc"),
    ],
)
def test_bare_cuts_folders_and_keeps_units(text, expected):
    assert bare(text) == expected


def test_numbers_have_true_minus_signs_and_a_dash_for_nothing():
    assert number(-0.25) == "\u22120.250"
    assert number(-0.0001) == "0.000"
    assert number(None) == number(float("nan")) == "\u2013"
    assert table_number("") == "\u2013"
    assert table_number("5.684321e-12") == "5.684e\u221212"
    assert table_number("715") == "715"
    assert table_number("TNG50-1") == "TNG50-1"


def test_verdict_names_case_channel_and_scale(recipe):
    found = verdict(
        [row("composite", 0.5), row("mass", 0.9), row("temperature", 0.89), row("structure3", 0.7),
         row("structure10", 0.2), row("gauss3", 0.6)],
        recipe,
    )  # fmt: skip
    assert "best from mass" in found.headline
    assert "Not told apart from it: temperature" in found.points[0]
    assert "The lead over temperature is smaller" in found.points[1]
    assert "there is only gauss3 (detail coarser than about 3.8 ckpc/h)" in found.points[2]
    assert "structure3 (detail finer than about 3.8 ckpc/h) predicts best" in found.points[3]
    assert any("near-copy" in caution for caution in found.cautions)
    assert any("One network a case" in caution for caution in found.cautions)


def test_verdict_does_not_call_chance_a_result(recipe):
    found = verdict([row("mass", 0.05), row("entropy", -0.1)], recipe)
    assert "better than chance" in found.headline
    assert found.points == []


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row("mass", None)], "Every network is dead"),
        ([row("mass", None, status="undefined")], "too few test images"),
        ([row("mass", 0.8)], "Only mass can be judged"),
        ([row("mass", 0.8, 3), row("entropy", 0.7, 3)], "too few to tell"),
    ],
)
def test_verdict_without_enough_to_compare(recipe, rows, words):
    assert words in verdict(rows, recipe).headline


def test_verdict_warns_when_a_good_r_hides_bad_values(recipe):
    rows = [row("mass", 0.9, r2=-3.0), row("entropy", 0.5, r2=0.2)]
    assert any("mass is below 0" in caution for caution in verdict(rows, recipe).cautions)


def test_verdict_of_the_corrected_recipe_does_not_speak_of_mixed_channels():
    rows = [row("mass", 0.8), row("entropy", 0.3)]
    cautions = verdict(rows, load_recipe("corrected")).cautions
    assert not any(
        "stretched composite" in caution or "near-copy" in caution for caution in cautions
    )
