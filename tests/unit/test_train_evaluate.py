"""Metrics of one head, and the table of all cases."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tests.made_heads import add_head

from sfr.errors import DataFormatError, NonFiniteError, ShapeError
from sfr.recipe import load_recipe
from sfr.run.names import ModelId
from sfr.run.workspace import Workspace
from sfr.train.evaluate import (
    AVERAGED,
    case_states,
    head_states,
    metrics,
    read_heads,
)
from sfr.train.evaluate import case_table as table_of
from sfr.train.latest import remember_settings
from sfr.train.output import CaseFiles, ModelOutput


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
    assert found["rmse"] == pytest.approx(np.hypot(d.std(), d.mean()))
    assert found["bias"] == pytest.approx(d.mean())
    assert found["nmad"] == pytest.approx(stats.median_abs_deviation(d, scale=1 / 1.4826))
    far = [x for x in d if x > 0.5 or x < -0.5]
    assert 0 < len(far) < 200
    assert found["outlier_fraction"] == pytest.approx(len(far) / 200)
    assert found["outlier_limit"] == 0.5
    assert (found["n"], found["dead"]) == (200, False)


def test_outliers_of_a_precise_case_are_no_more_than_those_of_a_poor_one():
    """Counted from NMAD, the best cases had 20 to 29 %, the worst none."""
    rng = np.random.default_rng(0)
    truth = rng.normal(4, 0.5, 2000)
    precise = truth + 0.02 * rng.standard_t(2, 2000)
    poor = truth + rng.uniform(-0.9, 0.9, 2000)
    shares = [metrics(truth, p)["outlier_fraction"] for p in (precise, poor)]
    assert shares[0] < 0.01
    assert shares[1] == pytest.approx(4 / 9, abs=0.03)
    # a constant error counts, too
    assert metrics(truth, truth + 0.6)["outlier_fraction"] == 1.0


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
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((truth - constant) ** 2)), rel=1e-5)


def test_constant_truth_has_no_correlation_but_is_not_dead():
    found = metrics(np.full(5, 4.0), np.arange(5.0))
    assert (found["r"], found["spearman"], found["r2"]) == (None, None, None)
    assert found["dead"] is False


@pytest.mark.parametrize(
    "noise", [np.zeros(8), 4e-16 * np.arange(8), 1e-7 * np.array([0, 1, 0, 2, 1, 0, 1, 2])]
)
@pytest.mark.parametrize("label", [-11.3, 0.0, 3.7])
def test_labels_that_are_equal_but_for_rounding_have_no_correlation(label, noise):
    """r, rank correlation and R2 were computed from the rounding."""
    found = metrics(label + noise, np.linspace(3, 4, 8) + 0.01 * noise)
    assert (found["r"], found["spearman"], found["r2"]) == (None, None, None)
    assert found["dead"] is False
    assert found["rmse"] > 0
    json.dumps(found, allow_nan=False)


def test_predictions_that_differ_by_rounding_of_float32_are_dead():
    steps = np.nextafter(np.float32(4), np.float32(5), dtype=np.float32) - np.float32(4)
    prediction = 4 + float(steps) * np.array([0, 1, 2, 3, 4, 0])
    found = metrics(np.arange(6.0), prediction)
    assert (found["dead"], found["r"], found["spearman"]) == (True, None, None)


def test_two_labels_have_the_ranks_of_two_whatever_rounding_adds():
    truth = np.array([3.0, 3.0, 3.0, 3.0, 5.0, 5.0, 5.0, 5.0])
    prediction = np.array([3.1, 3.4, 3.2, 3.3, 4.5, 4.2, 4.4, 4.3])
    plain = metrics(truth, prediction)
    noisy = metrics(truth + 4e-16 * np.array([3, 0, 1, 2, -3, 0, -1, -2]), prediction)
    # ranks 2.5 and 6.5 against 1 to 8
    assert plain["spearman"] == pytest.approx(np.sqrt(32 / 42))
    assert noisy["spearman"] == plain["spearman"]
    assert noisy["r"] == pytest.approx(plain["r"], abs=1e-12)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_rows_give_none_never_nan(n):
    found = metrics(np.arange(float(n)), np.arange(float(n)) + 0.5)
    undefined = {"r", "spearman", "r2", "nmad"}
    if n == 0:
        undefined |= {"rmse", "bias", "outlier_fraction"}
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


TRUTH = np.array([3.0, 3.2, 3.9, 4.4, 4.1, 4.8, 5.0, 5.3, 5.1])


def head(workspace, case, seed, prediction=TRUTH, truth=TRUTH, **values):
    """Write what a training leaves; of its numbers those of the predictions count."""
    entry = {**dict.fromkeys(AVERAGED), "n": 9, "n_train": 20, "weights": "random", "dead": False}
    numbers = np.arange(9)
    columns = {
        "filename": np.array([f"Snap99ID{i}.png" for i in numbers]),
        "snapshot": numbers,
        "subhalo_id": numbers,
        "galaxy_id": numbers // 3,
        "subset": np.array(["test"] * 9),
        "truth": truth,
        "prediction": prediction,
    }
    add_head(workspace, case, seed, columns, {**entry, **values})


def failed(workspace, case, seed, settings):
    reasons = {ModelId(case, seed=seed): "the loss is not finite"}
    CaseFiles(workspace, case).say_failed(settings, reasons)


def test_table_averages_live_heads_and_counts_dead_ones(tmp_path):
    workspace = Workspace(tmp_path)
    noise = np.array([0.1, -0.2, 0.3, 0.0, 0.6, -0.3, 0.2, -0.1, 0.2])
    head(workspace, "mass", 0, TRUTH + noise, outlier_fraction=0.9, r=0.1)
    head(workspace, "mass", 1, np.full(9, 9.0))
    head(workspace, "mass", 2, TRUTH - 2 * noise)
    row = case_table(workspace)[0]
    assert (row["case"], row["state"], row["seeds"], row["dead"]) == ("mass", "trained", 3, 1)
    r = [np.corrcoef(TRUTH, TRUTH + d)[0, 1] for d in (noise, -2 * noise)]
    assert row["r"] == pytest.approx(np.mean(r))
    assert row["r_std"] == pytest.approx(np.std(r, ddof=1))
    assert row["rmse"] == pytest.approx(1.5 * np.sqrt(np.mean(noise**2)))
    assert row["bias"] == pytest.approx(-0.5 * noise.mean())
    # what metrics.json of an older version says is another quantity
    assert row["outlier_fraction"] == pytest.approx((1 + 3) / 18)
    assert row["outlier_limit"] == 0.5
    assert (row["n"], row["n_galaxies"], row["n_train"]) == (9, 3, 20)
    assert row["weights"] == "random"


def test_table_of_dead_heads_only_has_no_values(tmp_path):
    workspace = Workspace(tmp_path)
    head(workspace, "mass", 0, np.zeros(9))
    row = case_table(workspace)[0]
    assert (row["state"], row["dead"]) == ("dead", 1)
    assert row["r"] is None
    assert row["rmse"] is None
    assert row["r_std"] is None


def test_every_head_and_case_has_one_word(tmp_path):
    """Heads that were out of date were called dead, or not trained."""
    workspace = Workspace(tmp_path)
    recipe = load_recipe("thesis").with_fields(
        "cases", names=["composite", "mass", "entropy", "gauss3", "gauss5", "gauss10", "structure3"]
    )
    remember_settings(workspace, "now")
    head(workspace, "composite", 0, settings="now")
    head(workspace, "composite", 1, np.zeros(9), settings="now")
    failed(workspace, "composite", 2, "now")
    head(workspace, "mass", 0, settings="before")
    head(workspace, "entropy", 0, np.zeros(9), settings="now")
    failed(workspace, "gauss3", 0, "now")
    failed(workspace, "gauss5", 0, "before")
    head(workspace, "gauss10", 0, truth=np.full(9, 4.0), settings="now")
    head(workspace, "structure5", 0, settings="before")
    heads = read_heads(workspace, recipe)
    states = head_states(workspace, recipe, heads)
    assert states == {
        ("composite", 0): "trained", ("composite", 1): "dead", ("composite", 2): "failed",
        ("mass", 0): "out of date", ("entropy", 0): "dead", ("gauss3", 0): "failed",
        ("gauss10", 0): "undefined", ("structure5", 0): "out of date",
    }  # fmt: skip
    cases = case_states(recipe, states)
    assert cases == {
        "composite": "trained", "mass": "out of date", "entropy": "dead", "gauss3": "failed",
        "gauss5": "not trained", "gauss10": "undefined", "structure3": "not trained",
        "structure5": "out of date",
    }  # fmt: skip
    table = table_of(heads, cases)
    assert {row["case"]: row["state"] for row in table} == cases
    assert all(row["r"] is None for row in table[1:])
    json.dumps(table, allow_nan=False)
    CaseFiles(workspace, "gauss3").say_failed("now", {})
    assert ("gauss3", 0) not in head_states(workspace, recipe, heads)


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


@pytest.mark.parametrize("text", ["{", "[1]", "{}", '{"heads": [{"seed": 0}]}'])
def test_table_names_a_file_that_it_cannot_read(tmp_path, text):
    workspace = Workspace(tmp_path)
    workspace.write_text(workspace.case("mass") / "metrics.json", text)
    with pytest.raises(DataFormatError, match=r"metrics\.json"):
        case_table(workspace)


def test_no_module_of_training_imports_keras_by_itself():
    names = (
        "nn.keras_import nn.backbone nn.first_weights train.evaluate train.rows train.features "
        "train.head train.loop train.output train.training train.batch train.fit"
    )
    code = (
        "import sys, importlib\n"
        f"for name in '{names}'.split(): importlib.import_module('sfr.' + name)\n"
        "assert not {'keras', 'tensorflow', 'scipy', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_control_without_a_network_leaves_its_numbers_like_any_model(tmp_path):
    """Only what a network had trained could be written, so a control had no way in."""
    workspace = Workspace(tmp_path)
    numbers = np.arange(9)
    images = {
        "filename": np.array([f"Snap99ID{i}.png" for i in numbers]),
        "snapshot": np.full(9, 99),
        "subhalo_id": numbers,
        "view": np.zeros(9, int),
        "galaxy_id": numbers,
        "subset": np.array(["test"] * 9),
        "fold": np.array([0, 0, 0, 0, 0, 1, 1, 1, 1]),
        "truth": TRUTH,
    }
    files = CaseFiles(workspace, "stellar_mass")
    for fold in (0, 1):
        model = ModelId("stellar_mass", fold)
        entry = {
            "case": model.case,
            "fold": fold,
            "seed": 0,
            "kind": "control",
            "n_train": 20 - fold,
        }
        files.gather("f", "k", images, [ModelOutput(model, entry, TRUTH + 0.1 * (1 + fold))])
    assert sorted(path.name for path in files.folder.iterdir()) == [
        "metrics.json",
        "predictions.csv",
    ]
    assert list(files.finished("f")) == [ModelId("stellar_mass"), ModelId("stellar_mass", 1)]
    (row,) = case_table(workspace)
    assert (row["kind"], row["n"], row["n_train"]) == ("control", 9, 19)
    assert row["bias"] == pytest.approx((5 * 0.1 + 4 * 0.2) / 9)


def test_a_control_of_no_channel_is_a_row_of_its_own_kind(tmp_path):
    """It was left out, because no case is called so."""
    workspace = Workspace(tmp_path)
    head(workspace, "mass", 0, TRUTH + 0.1)
    head(workspace, "stellar_mass", 0, kind="control")
    rows = {row["case"]: row["kind"] for row in case_table(workspace)}
    assert rows == {"mass": "case", "stellar_mass": "control"}
