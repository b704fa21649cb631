"""Ridge in place of heads, and controls beside the cases, in small folders of galaxies."""

import json

import numpy as np
import pytest
from tests.integration.test_train_heads import content, recipe, write_run, write_split

from sfr.errors import DataFormatError
from sfr.run.cells import read_cells
from sfr.run.names import ModelId
from sfr.run.tables import SAMPLE, read_table, write_table
from sfr.target import target_of
from sfr.train.controls import CONTROLS, PREFIX, fit_controls
from sfr.train.evaluate import CASE, CONTROL, case_table, compare, read_heads
from sfr.train.fit import train_case, train_cases
from sfr.train.output import CaseFiles
from sfr.train.predict import predict_images
from sfr.train.standing import standings
from sfr.train.training import Training

pytestmark = pytest.mark.usefixtures("small_outputs")

N = 24


def ridge(**train):
    return recipe(probe="ridge", **train)


def write_sample(workspace, **columns):
    """Give the sample columns of its own; masses are those of the labels in another order."""
    sample = read_table(workspace.sample_csv, SAMPLE)
    rng = np.random.default_rng(5)
    for name in ("stellar_mass_msun", "total_mass_msun", "group_mass_msun", "n_stars"):
        sample[name] = rng.permutation(np.arange(1, len(sample["snapshot"]) + 1)) * 10
    sample |= columns
    write_table(workspace, workspace.sample_csv, sample)


@pytest.fixture
def workspace(tmp_path):
    made = write_run(tmp_path / "run", N)
    write_sample(made)
    return made


@pytest.fixture
def in_folds(workspace):
    """The same images, every one tested in one of three folds."""
    cells = read_cells(workspace.split_csv, {"filename": str})
    names = list(cells.columns["filename"])
    write_split(workspace, names, ["test"] * N)
    table = {
        name: list(column) for name, column in read_cells(workspace.split_csv, {}).columns.items()
    }
    table["fold"] = [row % 3 for row in range(N)]
    write_table(workspace, workspace.split_csv, table)
    return workspace


# -- ridge -----------------------------------------------------------------------------------------


def test_ridge_leaves_the_files_of_a_case_and_is_there_the_next_time(in_folds):
    summary = train_cases(in_folds, ridge(), ["composite", "mass"])
    assert {r.status for r in summary.results} == {"trained"}
    assert [r.model for r in summary.results][:3] == [ModelId("composite", k) for k in range(3)]
    files = CaseFiles(in_folds, "mass")
    assert set(content(files.folder)) == {
        "predictions.csv", "metrics.json", "blocks.csv", "probe.npz"
    }  # fmt: skip
    heads = read_heads(in_folds, ridge())
    assert [head.metrics["n"] for head in heads["mass"]] == [N]
    assert case_table(heads)[0]["r"] > 0.8
    entry = files.read().metrics[ModelId("mass", 2)]
    assert (entry["probe"], entry["n"], entry["n_train"]) == ("ridge", 8, 16)
    assert [part["block"] for part in entry["blocks"]] == ["block2", "block3", "block4", "block5"]
    again = train_cases(in_folds, ridge(epochs=7, seeds=5), ["composite", "mass"])
    assert {r.status for r in again.results} == {"current"}


def test_features_of_ridge_are_pooled_as_they_come(workspace):
    train_case(workspace, ridge(), "mass")
    (path,) = workspace.root.glob("features/mass-*.npy")
    assert np.load(path).shape == (N, 2, 1408)


def test_one_fold_is_that_of_the_published_subsets(workspace):
    train_case(workspace, ridge(), "mass")
    table = CaseFiles(workspace, "mass").read().predictions
    test = table["subset"] == "test"
    blocks = read_table(CaseFiles(workspace, "mass").blocks, {"block5": float})["block5"]
    assert np.isfinite(blocks[test]).all()
    assert np.isnan(blocks[~test]).all()
    assert np.isfinite(table["seed_0"]).all()


def test_a_case_changes_between_head_and_ridge_without_leaving_anything_of_the_other(workspace):
    train_case(workspace, recipe(), "mass")
    folder = CaseFiles(workspace, "mass").folder
    with_head = set(content(folder))
    assert "heads.npz" in with_head
    train_case(workspace, ridge(), "mass")
    assert set(content(folder)) == {"predictions.csv", "metrics.json", "blocks.csv", "probe.npz"}
    assert len(read_heads(workspace, ridge())["mass"]) == 1
    train_case(workspace, recipe(), "mass")
    assert set(content(folder)) == with_head


def test_a_saved_ridge_predicts_what_the_fits_say(in_folds, whole_network):
    train_case(in_folds, ridge(), "composite")
    path = in_folds.head(ModelId("composite"))
    files = sorted(in_folds.images.glob("*.png"))[:5]
    found = predict_images(path, files)
    training = Training(in_folds, ridge())
    fits = training.files("composite").fits(training.fingerprint("composite"))
    assert len(fits) == 3
    features = np.asarray(training.features("composite").array, float).reshape(N, -1)
    wanted = np.mean([fit.predict(features)[:, 0] for fit in fits], axis=0)
    place = {name: row for row, name in enumerate(training.rows.filenames)}
    at = [place[file.name] for file in files]
    np.testing.assert_allclose(found.table["prediction"], wanted[at], atol=2e-3)
    # it follows from the fits
    (path / "model.keras").unlink()
    assert {r.status for r in train_case(in_folds, ridge(), "composite").results} == {"current"}
    assert (path / "model.keras").is_file()


def test_the_network_of_a_head_is_not_taken_for_that_of_ridge(workspace, whole_network):
    train_case(workspace, recipe(), "mass")
    path = workspace.head(ModelId("mass")) / "model.keras"
    of_head = path.read_bytes()
    train_case(workspace, ridge(), "mass")
    assert path.read_bytes() != of_head
    assert [file.name for file in path.parent.iterdir()] == ["model.keras"]


def test_fits_that_cannot_be_read_are_named_where_their_network_is_made_again(
    in_folds, whole_network
):
    """Keras was asked to average the predictions of no fold."""
    train_case(in_folds, ridge(), "mass")
    (in_folds.head(ModelId("mass")) / "model.keras").unlink()
    path = CaseFiles(in_folds, "mass").probe
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(DataFormatError, match=r"probe\.npz cannot be read"):
        train_case(in_folds, ridge(), "mass")
    assert train_case(in_folds, ridge(), "mass", force=True).results[0].status == "trained"
    assert (in_folds.head(ModelId("mass")) / "model.keras").is_file()


# -- controls --------------------------------------------------------------------------------------


def controls(workspace, chosen, cases=("mass",)):
    """Train, predict the controls, and return what is read of all of them and what is absent."""
    training = train_cases(workspace, chosen, list(cases)).training
    absent = fit_controls(training, tuple(cases))
    return read_heads(workspace, chosen), absent


def test_controls_stand_beside_the_cases_and_are_never_the_best(in_folds):
    heads, absent = controls(in_folds, ridge())
    found = [name for name, seeds in heads.items() if seeds[0].kind == CONTROL]
    assert set(found) == {f"{PREFIX}{name}" for name in CONTROLS} - absent.keys()
    assert compare(heads).r.keys() == {"mass"}
    rows = {row["case"]: row for row in case_table(heads)}
    # the brightness of an image is its label
    assert rows["control.channel_means"]["r"] > 0.95
    assert rows["control.profiles"]["r"] > 0.9
    assert abs(rows["control.stellar_mass"]["r"]) < 0.7
    assert rows["control.profiles"]["n_train"] == rows["mass"]["n_train"], "fitted on the same rows"
    assert rows["control.permuted"]["seeds"] == 20
    assert rows["control.permuted"]["r"] < 0.5
    assert all(row["kind"] == (CASE if row["case"] == "mass" else CONTROL) for row in rows.values())


def test_what_an_input_lacks_makes_a_control_absent_with_a_reason_and_never_zero(in_folds):
    _, absent = controls(in_folds, ridge())
    # no maps in this folder, and a catalogue of no gas
    assert absent.keys() == {
        "control.cells",
        "control.rung",
        "control.orientation",
        "control.gas_mass",
    }
    assert "is 0 for all galaxies" in absent["control.gas_mass"]
    assert "have no maps" in absent["control.rung"]
    for name in absent:
        assert not CaseFiles(in_folds, name).metrics.is_file()
        kept = json.loads(CaseFiles(in_folds, name).failed.read_text())
        assert kept["heads"][0]["reason"]
    write_sample(in_folds, gas_mass_msun=np.arange(1.0, N + 1))
    heads, absent = controls(in_folds, ridge())
    assert "control.gas_mass" in heads
    assert not CaseFiles(in_folds, "control.gas_mass").failed.is_file()


def test_a_control_of_the_label_itself_is_none(in_folds):
    chosen = ridge().with_fields("target", column="stellar_mass_msun", scale=1.0)
    training = Training(in_folds, chosen)
    absent = fit_controls(training)
    assert "part of the label" in absent["control.stellar_mass"]


def test_the_mean_is_a_control_for_its_errors(workspace):
    """As a head it would be dead, and left out of every mean."""
    heads, _ = controls(workspace, ridge())
    row = next(row for row in case_table(heads) if row["case"] == "control.mean")
    truth, training = heads["control.mean"][0].truth, Training(workspace, ridge())
    mean = training.rows.label[training.tested_in != 0].mean()
    assert row["r"] is None
    assert row["dead"] == 0
    assert row["rmse"] == pytest.approx(np.sqrt(np.mean((truth - mean) ** 2)))


def test_heads_have_ridge_on_their_own_features_as_a_control(workspace):
    heads, _ = controls(workspace, recipe())
    control = heads["control.ridge.mass"][0]
    assert control.kind == CONTROL
    assert np.isfinite(control.prediction).all()


def test_controls_are_there_the_next_time(in_folds):
    controls(in_folds, ridge())
    before = content(CaseFiles(in_folds, "control.profiles").folder)
    stamp = CaseFiles(in_folds, "control.profiles").metrics.stat().st_mtime_ns
    controls(in_folds, ridge())
    assert content(CaseFiles(in_folds, "control.profiles").folder) == before
    assert CaseFiles(in_folds, "control.profiles").metrics.stat().st_mtime_ns == stamp


def test_controls_are_predicted_again_where_the_catalogue_says_something_else(in_folds):
    """A selection with other masses left those of before in the tables."""
    controls(in_folds, ridge())
    names = ("stellar_mass", "scalars", "scalars_boosted")
    before = [CaseFiles(in_folds, PREFIX + name).read().predictions["seed_0"] for name in names]
    write_sample(in_folds, stellar_mass_msun=np.arange(1.0, N + 1) ** 2)
    controls(in_folds, ridge())
    after = [CaseFiles(in_folds, PREFIX + name).read().predictions["seed_0"] for name in names]
    for old, new in zip(before, after, strict=True):
        assert not np.array_equal(old, new)


def test_a_mass_that_one_galaxy_lacks_makes_its_control_absent_and_is_no_scalar(in_folds):
    controls(in_folds, ridge())
    masses = np.arange(1.0, N + 1)
    masses[3] = np.nan
    write_sample(in_folds, stellar_mass_msun=masses)
    heads, absent = controls(in_folds, ridge())
    assert "no stellar_mass_msun of some galaxies" in absent["control.stellar_mass"]
    assert "control.stellar_mass" not in heads
    assert np.isfinite(heads["control.scalars"][0].prediction).all()


def test_a_case_that_does_not_beat_its_controls_is_marked(in_folds):
    """The brightness of an image is all that a network sees here, and two numbers say it, too."""
    heads, _ = controls(in_folds, ridge())
    found, pairs = standings(in_folds, target_of(ridge()), heads)
    assert pairs == []
    case = found["mass"]
    assert case.kind == CASE
    assert case.beats_controls is False
    assert found[case.control].r > case.r - 0.1
    assert case.control_words
    assert case.p_chance < 0.01
    assert case.best == 1.0
    assert case.adds.is_something
    assert found["control.permuted"].beats_controls is None
    assert 0 <= case.auc <= 1
