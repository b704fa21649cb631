"""A recipe with channels of its own, from the command line: cases are what their names say."""

import csv
import json
import shutil
import zipfile

import numpy as np
import pytest
from typer.testing import CliRunner

from sfr.cli import app
from sfr.imaging.png import read_png
from sfr.train.predict import ABOUT

RECIPE = """
extends = "demo"
[maps]
pixels = 32
channels = [
  { name = "metals", field = "metallicity", weight = "mass", statistic = "mean" },
  { name = "entropy", field = "entropy" },
  { name = "mass", field = "mass" },
]
[cases]
names = ["entropy", "mass"]
[train]
epochs = 2
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory, mock_sim):
    """A run whose channels are neither those of the thesis nor in the order of the alphabet."""
    folder = tmp_path_factory.mktemp("channels")
    (folder / "mine.toml").write_text(RECIPE)
    arguments = ["run", "--sim", mock_sim, "--snap", "98,99", "--work", folder / "work"]
    arguments += ["--recipe", folder / "mine.toml"]
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return folder / "work"


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_predict_divides_each_channel_by_its_own_maximum(work, sfr, tmp_path):
    """The keys of sfr.json are sorted, and divisors were taken in that order."""
    wanted = {
        row["filename"]: float(row["seed_0"])
        for row in rows_of(work / "train/mass/predictions.csv")
    }
    for source in (work / "images", work / "maps/snap_099"):
        result = sfr("predict", work / "train/mass/seed-0", source, "--out", "found.csv")
        assert result.exit_code == 0, result.stderr
        found = [row for row in rows_of(tmp_path / "found.csv") if row["image"] in wanted]
        assert len(found) >= 5
        for row in found:
            assert float(row["prediction"]) == pytest.approx(wanted[row["image"]], abs=2e-3)


def test_a_model_that_was_trained_on_another_channel_than_it_says_is_refused(work, sfr, tmp_path):
    """Earlier versions trained the case entropy on the first channel, whatever that was."""
    older = tmp_path / "older.keras"
    with (
        zipfile.ZipFile(work / "train/entropy/seed-0/model.keras") as model,
        zipfile.ZipFile(older, "w") as copy,
    ):
        for name in model.namelist():
            content = model.read(name)
            if name == ABOUT:
                about = json.loads(content)
                assert about.pop("channel") == 1
                content = json.dumps(about).encode()
            copy.writestr(name, content)
    result = sfr("predict", older, work / "images")
    assert result.exit_code == 3
    assert "trained it on channel metals of metals, entropy, mass" in result.stderr


def test_a_case_is_looked_for_among_the_channels_of_the_run(work, sfr):
    for command in (("train", "--case", "temperature"), ("show", "--case", "temperature")):
        result = sfr(command[0], "--work", work, *command[1:])
        assert result.exit_code == 2, result.output
        assert "composite, metals, entropy, mass" in result.stderr


def test_images_of_other_channels_are_not_shown_under_the_names_of_a_recipe(work, sfr):
    result = sfr("show", "--work", work, "--recipe", "demo", "--case", "entropy")
    assert result.exit_code == 2
    assert "show metals, entropy, mass, the recipe has entropy, mass, temperature" in result.stderr


def test_the_contact_sheet_of_a_channel_is_cut_at_its_place(work, sfr, monkeypatch):
    from sfr.report import contact_sheet as module

    tiles = []
    monkeypatch.setattr(module, "_sheet", lambda found, *_: tiles.extend(found) or b"png")
    assert sfr("show", "--work", work, "--case", "mass", "--count", 1).exit_code == 0
    made, label = tiles[0]
    snapshot, subhalo = label.splitlines()[0].removeprefix("Snap").split(" ID")
    image = read_png(work / f"images/Snap{snapshot}ID{subhalo}.png")
    np.testing.assert_array_equal(made, np.repeat(image[:, :, 2:], 3, axis=2))


def test_a_folder_goes_over_to_other_channels_with_their_cases(work, sfr, mock_sim, tmp_path):
    """recipe.toml took the maps over step by step, and its cases named channels of before."""
    copy = tmp_path / "copy"
    shutil.copytree(work, copy)
    result = sfr("render", "--work", copy, "--sim", mock_sim, "--snap", "98,99", "--recipe", "demo")
    assert result.exit_code == 0, result.stderr
    assert 'name = "temperature"' in (copy / "recipe.toml").read_text()
    result = sfr("train", "--work", copy, "--case", "temperature", "--epochs", 1, "--json")
    assert result.exit_code == 0, result.stderr
    states = {
        row["case"]: row["state"]
        for row in json.loads(result.stdout)["cases"]
        if row["kind"] == "case"
    }
    assert states.pop("temperature") != "out of date"
    assert set(states.values()) == {"out of date"}


def test_a_case_that_is_no_channel_ends_the_command_before_its_first_step(sfr, mock_sim, tmp_path):
    (tmp_path / "bad.toml").write_text(RECIPE.replace('"entropy", "mass"]', '"temperature"]'))
    for command in (
        ("recipe", "show", "bad.toml"),
        ("run", "--sim", mock_sim, "--recipe", "bad.toml"),
    ):
        result = sfr(*command)
        assert result.exit_code == 2
        assert "cases.names: unknown case 'temperature'" in result.stderr
    assert not (tmp_path / "sfr-work").exists()
