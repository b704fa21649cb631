"""Metrics of one head, and the table of all cases."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sfr.errors import DataFormatError, NonFiniteError, ShapeError
from sfr.recipe import load_recipe
from sfr.store import write_table
from sfr.train.evaluate import AVERAGED, metrics, read_heads
from sfr.train.evaluate import case_table as table_of
from sfr.workspace import Workspace


def some(n=200, seed=1):
    rng = np.random.default_rng(seed)
    truth = rng.normal(4.0, 0.8, n)
    return truth, truth + rng.standard_t(3, n) * 0.2 + 0.05


def test_metrics_agree_with_independent_formulae():
    truth, prediction = some()
    d = prediction - truth
    found = metrics(truth, prediction)
    ranks = [np.argsort(np.argsort(v)) for v in (truth, prediction)]
    assert found["r"] == pytest.approx(np.corrcoef(truth, prediction)[0, 1], rel=1e-12)
    assert found["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1], rel=1e-12)
    assert found["r2"] == pytest.approx(1 - d.var() / truth.var() - d.mean() ** 2 / truth.var())
    assert found["rmse_dex"] == pytest.approx(np.hypot(d.std(), d.mean()))
    assert found["bias"] == pytest.approx(d.mean())
    assert found["nmad"] == pytest.approx(stats.median_abs_deviation(d, scale=1 / 1.4826))
    far = [x for x in d if abs(x - np.median(d)) > 3 * found["nmad"]]
    assert found["outlier_fraction"] == pytest.approx(len(far) / 200)
    assert (found["n"], found["dead"]) == (200, False)


def test_outliers_of_gaussian_errors_are_few_and_of_far_rows_are_all():
    rng = np.random.default_rng(0)
    error = rng.normal(0, 0.1, 20000)
    assert metrics(np.zeros(20000), error)["outlier_fraction"] == pytest.approx(0.0027, abs=0.0015)
    error[:2000] = 5.0
    assert metrics(np.zeros(20000), error)["outlier_fraction"] == pytest.approx(0.1, abs=0.003)


@given(st.floats(-5, 5), st.floats(0.1, 10))
def test_correlations_ignore_offset_and_scale_of_the_prediction(offset, scale):
    truth, prediction = some(30)
    a, b = metrics(truth, prediction), metrics(truth, scale * prediction + offset)
    assert b["r"] == pytest.approx(a["r"])
    assert b["spearman"] == pytest.approx(a["spearman"])


@pytest.mark.parametrize("constant", [0.0, 3.7])
def test_constant_prediction_is_dead_and_has_no_correlation(constant):
    truth, _ = some(10)
    found = metrics(truth, np.full(10, constant) + np.linspace(0, 1e-7, 10))
    assert found["dead"] is True
    assert found["r"] is None
    assert found["spearman"] is None
    assert found["r2"] <= 0.0
    assert found["rmse_dex"] == pytest.approx(np.sqrt(np.mean((truth - constant) ** 2)), rel=1e-5)


def test_constant_truth_has_no_correlation_but_is_not_dead():
    found = metrics(np.full(5, 4.0), np.arange(5.0))
    assert (found["r"], found["spearman"], found["r2"]) == (None, None, None)
    assert found["dead"] is False


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_rows_give_none_never_nan(n):
    found = metrics(np.arange(float(n)), np.arange(float(n)) + 0.5)
    undefined = {"r", "spearman", "r2", "nmad", "outlier_fraction"}
    if n == 0:
        undefined |= {"rmse_dex", "bias"}
    assert {name for name in AVERAGED if found[name] is None} == undefined
    assert found["n"] == n
    assert found["dead"] is False
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_values_that_are_not_finite_raise(bad, which):
    pair = [np.arange(4.0), np.arange(4.0)]
    pair[which][2] = bad
    with pytest.raises(NonFiniteError, match=("truth", "prediction")[which]):
        metrics(*pair)


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((3, 1), (3, 1))])
def test_wrong_shapes_raise(shapes):
    with pytest.raises(ShapeError, match="truth"):
        metrics(np.zeros(shapes[0]), np.zeros(shapes[1]))


def case_table(workspace, names=None):
    return table_of(read_heads(workspace, load_recipe("thesis").with_fields("cases", names=names)))


def head(workspace, case, seed, **values):
    content = {**dict.fromkeys(AVERAGED), "n": 9, "n_train": 20, "weights": "random", "dead": False}
    numbers = np.arange(9)
    columns = {
        "filename": [f"Snap99ID{i}.png" for i in numbers],
        "snapshot": numbers,
        "subhalo_id": numbers,
        "galaxy_id": numbers // 3,
        "subset": ["test"] * 9,
        "truth": numbers * 1.0,
        "prediction": numbers * 1.0,
    }
    write_table(workspace, workspace.head(case, seed) / "predictions.csv", columns)
    workspace.write_json(workspace.head(case, seed) / "metrics.json", {**content, **values})


def test_table_averages_live_heads_and_counts_dead_ones(tmp_path):
    workspace = Workspace(tmp_path)
    head(workspace, "mass", 0, r=0.5, rmse_dex=0.2, bias=0.1)
    head(workspace, "mass", 1, rmse_dex=9.0, bias=9.0, dead=True)
    head(workspace, "mass", 2, r=0.7, rmse_dex=0.4, bias=-0.1)
    row = case_table(workspace)[0]
    assert (row["case"], row["seeds"], row["dead"]) == ("mass", 3, 1)
    assert row["r"] == pytest.approx(0.6)
    assert row["r_std"] == pytest.approx(np.std([0.5, 0.7], ddof=1))
    assert row["rmse_dex"] == pytest.approx(0.3)
    assert row["bias"] == pytest.approx(0.0)
    assert (row["n"], row["n_galaxies"], row["n_train"]) == (9, 3, 20)
    assert row["weights"] == "random"


def test_table_of_dead_heads_only_has_no_values(tmp_path):
    workspace = Workspace(tmp_path)
    head(workspace, "mass", 0, dead=True, rmse_dex=1.0)
    row = case_table(workspace)[0]
    assert row["dead"] == 1
    assert row["r"] is None
    assert row["rmse_dex"] is None
    assert row["r_std"] is None


def test_table_has_the_order_of_the_cases_then_of_names(tmp_path):
    workspace = Workspace(tmp_path)
    for case in ("gauss7", "composite", "mass", "gauss3"):
        head(workspace, case, 0)
    names = [row["case"] for row in case_table(workspace, ["mass", "entropy", "composite"])]
    assert names == ["mass", "composite", "gauss3", "gauss7"]
    published = [row["case"] for row in case_table(workspace)]
    assert published == ["composite", "mass", "gauss3", "gauss7"]


def test_heads_of_a_case_that_the_recipe_has_no_channel_for_are_left_out(tmp_path, caplog):
    workspace = Workspace(tmp_path)
    for case in ("mass", "metals"):
        head(workspace, case, 0)
    assert [row["case"] for row in case_table(workspace)] == ["mass"]
    assert "metals, seed 0 is left out" in caplog.text


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_table_names_a_file_that_it_cannot_read(tmp_path, text):
    workspace = Workspace(tmp_path)
    workspace.write_text(workspace.head("mass", 0) / "metrics.json", text)
    with pytest.raises(DataFormatError, match=r"metrics\.json"):
        case_table(workspace)


def test_no_module_of_training_imports_keras_by_itself():
    names = "evaluate rows keras_import backbone features head loop fit"
    code = (
        "import sys, importlib\n"
        f"for name in '{names}'.split(): importlib.import_module('sfr.train.' + name)\n"
        "assert not {'keras', 'tensorflow', 'scipy', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
