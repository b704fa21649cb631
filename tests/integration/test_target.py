"""From a column of one's own, without a logarithm, to predictions and report: one small run."""

import json

import numpy as np
import pytest

from sfr.imaging.png import write_png
from sfr.recipe import load_recipe
from sfr.report import write_report
from sfr.run.edited_tables import image_names
from sfr.run.names import ModelId
from sfr.run.tables import SAMPLE, write_table
from sfr.run.workspace import Workspace
from sfr.sample.split import split
from sfr.target import target_of
from sfr.train.fit import train_cases
from sfr.train.output import CaseFiles
from sfr.train.predict import predict_images

pytestmark = pytest.mark.usefixtures("small_outputs")

PIXELS = 32
N = 16
AGES = np.linspace(-2.0, 9.0, N)


def make_run(root):
    """A run's folder in which the brightness of an image follows a column of one's own."""
    workspace, rng = Workspace(root), np.random.default_rng(3)
    sample = {name: np.zeros(N, kind) for name, kind in SAMPLE.items()}
    sample |= {"snapshot": np.full(N, 99), "subhalo_id": np.arange(N), "galaxy_id": np.arange(N)}
    write_table(workspace, workspace.sample_csv, sample | {"age_gyr": AGES})
    for name, age in zip(image_names(sample), AGES, strict=True):
        image = rng.normal(60 + 12 * age, 5, (PIXELS, PIXELS, 3)).clip(0, 255)
        write_png(workspace, workspace.images / name, image.astype(np.uint8))
    return workspace


def test_a_column_of_ones_own_is_predicted_in_its_unit_from_table_to_report(tmp_path):
    """All galaxies of this sample have SFR = 0: nothing of it may depend on the sSFR."""
    workspace = make_run(tmp_path / "run")
    recipe = load_recipe("demo").with_fields("maps", pixels=PIXELS)
    recipe = recipe.with_fields("target", column="age_gyr", transform="none", unit="Gyr")
    recipe = recipe.with_fields("cases", names=["composite"])
    small = {"epochs": 2, "batch_size": 4, "dense_units": (16, 8), "evaluate_at": (1,)}
    recipe = recipe.with_fields("train", **small)
    split(workspace, recipe.split, target_of(recipe))
    summary = train_cases(workspace, recipe, ["composite"], save_models=True)
    assert summary.n_dropped_zero == 0
    head = workspace.head(ModelId("composite"))
    table = CaseFiles(workspace, "composite").read().predictions
    assert sorted(table["truth"]) == AGES.tolist()
    stored = json.loads((head / "metrics.json").read_text())
    assert (stored["label"], stored["unit"], stored["n_train"]) == ("age_gyr [Gyr]", "Gyr", 12)
    assert (stored["outlier_fraction"], stored["outlier_limit"]) == (None, None)
    test = table["subset"] == "test"
    difference = (table["seed_0"] - table["truth"])[test]
    assert stored["rmse"] == pytest.approx(np.sqrt(np.mean(difference**2)))
    assert stored["at_epochs"][0]["unit"] == "Gyr"

    found = predict_images(head, [workspace.images])
    assert list(found.table) == ["image", "prediction", "age_gyr", "label"]
    assert found.table["age_gyr"] == found.table["prediction"]
    wanted = dict(zip(table["filename"].tolist(), table["seed_0"].tolist(), strict=True))
    for name, value in zip(found.table["image"], found.table["age_gyr"], strict=True):
        assert value == pytest.approx(wanted[name], abs=1e-3)
    assert set(found.table["label"]) == {"age_gyr [Gyr]"}

    report = write_report(workspace, recipe)
    page = report.index.read_text()
    assert "sSFR" not in page
    assert "RMSE [Gyr]" in page
    # another training on the same images
    other = recipe.with_fields("target", unit="Gyr", name="mean stellar age")
    train_cases(workspace, other, ["composite"])
    stored = json.loads((head / "metrics.json").read_text())
    assert stored["label"] == "mean stellar age [Gyr]"
