"""The whole chain from the command line, small: what is written, skipped, redone and refused."""

import json
import os
import shutil
import socket
import zipfile

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from sfr.cli import app
from sfr.recipe import load_recipe
from sfr.train.predict import ABOUT

NAMES = load_recipe("demo").case_names
LABEL = "total-mass sSFR = SFR / (SubhaloMass x 1e10) [h/yr]"
SMALL = 'extends = "demo"\n[maps]\npixels = 32\n[train]\nepochs = 2\n'


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One demo on 8 galaxies at 2 snapshots; its folder and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "small.toml").write_text(SMALL)
    work = folder / "work"
    arguments = ["demo", "--work", work, "--recipe", folder / "small.toml", "--galaxies", 8]
    arguments += ["--cells", 300, "--snaps", "98,99"]
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return work, result, arguments


def test_the_demo_ends_with_the_ten_case_table_and_the_path_of_the_report(demo):
    work, result, _ = demo
    for name in NAMES:
        assert name in result.stdout
    assert result.stdout.splitlines()[-1] == f"report: {work / 'report/index.html'}"
    assert "random" in result.stdout
    assert f"label: {LABEL}" in result.stdout
    assert "recipe small" in result.stderr


def test_the_folder_is_as_designed(demo):
    work, _, _ = demo
    expected = [
        "recipe.toml", "sample.csv", "split.csv", "normalisation.json", "run.jsonl",
        "tables/by_snapshot.csv", "maps/snap_099/part-00000.hdf5", "maps/snap_099/failures.csv",
        "report/index.html", "report/tables/cases.csv",
    ]  # fmt: skip
    for name in NAMES:
        expected += [
            f"train/{name}/{file}"
            for file in (
                "predictions.csv", "metrics.json", "history.csv", "heads.npz",
                "seed-0/head.weights.h5", "seed-0/best.weights.h5", "seed-0/YValues.npy",
                "seed-0/metrics.json", "seed-0/model.keras",
            )
        ]  # fmt: skip
        assert len(list((work / "features").glob(f"{name}-*.npy"))) == 1
    missing = [name for name in expected if not (work / name).is_file()]
    assert not missing
    assert not list((work / ".tmp").glob("*/*"))
    values = np.load(work / "train/mass/seed-0/YValues.npy")
    assert values.shape[0] == 2
    history = (work / "train/mass/history.csv").read_text().splitlines()
    assert history[0] == "fold,seed,epoch,loss,validation_loss"
    assert len(history) == 3


def test_only_the_log_holds_hosts_paths_or_times(demo):
    work, _, _ = demo
    host = socket.gethostname()
    for path in work.rglob("*"):
        inside = path.relative_to(work).as_posix()
        if path.is_file() and not inside.startswith(("mock/", "run.jsonl", "features/")):
            content = path.read_bytes()
            assert str(work).encode() not in content, inside
            if len(host) > 6:
                assert host.encode() not in content, inside


def test_the_second_time_everything_is_there_already(demo):
    _, _, arguments = demo
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0
    assert "training (" not in result.stderr
    assert result.stderr.count("already there") >= 6


def test_the_table_as_json_and_the_report_again(demo, sfr):
    work, _, _ = demo
    table = json.loads(sfr("train", "--work", work, "--all-cases", "--json").stdout)
    assert [row["case"] for row in table["cases"] if row["kind"] == "case"] == list(NAMES)
    controls = {row["case"] for row in table["cases"] if row["kind"] == "control"}
    # quick ones, and ridge on what each head reads
    assert {"control.rung", "control.profiles", "control.ridge.mass"} <= controls
    assert table["weights"] == "random"
    before = (work / "report/index.html").read_bytes()
    assert sfr("report", "--work", work).stdout.strip() == str(work / "report/index.html")
    assert (work / "report/index.html").read_bytes() == before


def test_another_case_and_seed_by_name(demo, sfr):
    work, _, _ = demo
    result = sfr("train", "--work", work, "--case", "gauss7,structure2", "--seeds", 2, "--json")
    assert result.exit_code == 0, result.stderr
    rows = {row["case"]: row for row in json.loads(result.stdout)["cases"]}
    assert rows["gauss7"]["seeds"] == 2
    assert (work / "train/structure2/seed-1/metrics.json").is_file()
    assert "recipe.toml changes: train.seeds" in result.stderr


def test_show_writes_a_contact_sheet(demo, sfr, tmp_path):
    work, _, _ = demo
    result = sfr("show", "--work", work, "--count", 6, "--out", "sheet.png")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    assert sfr("show", "--work", work, "--case", "nothing").exit_code == 2
    assert sfr("show", "--work", work, "--order", "colour").exit_code == 2
    assert sfr("show", "--work", work, "--snap", 50).exit_code == 3
    random = sfr("show", "--work", work, "--order", "random", "--subset", "test", "--out", "r.png")
    assert random.exit_code == 0, random.stderr


@pytest.mark.parametrize("weights", ["imagenet", "nothing.h5"])
def test_weights_that_cannot_be_had_say_how_to_give_a_file(
    demo, sfr, weights, monkeypatch, tmp_path
):
    work, _, _ = demo
    # nobody listens on port 9 of this machine: a download fails at once, as without a network
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    recipe = (work / "recipe.toml").read_text()
    result = sfr("train", "--work", work, "--case", "mass", "--weights", weights)
    (work / "recipe.toml").write_text(recipe)
    assert result.exit_code == 3
    assert "--weights" in result.stderr


def test_the_demo_leaves_a_users_files_alone(sfr, tmp_path):
    (tmp_path / "d/mock").mkdir(parents=True)
    (tmp_path / "d/mock/precious.txt").write_text("precious")
    (tmp_path / "small.toml").write_text(SMALL)
    arguments = ("demo", "--work", "d", "--recipe", "small.toml", "--cells", 300, "--snaps", 99)
    for galaxies in (6, 7):
        result = sfr(*arguments, "--galaxies", galaxies, "--epochs", 1)
        assert result.exit_code == 0, result.stderr
    assert (tmp_path / "d/mock/precious.txt").read_text() == "precious"
    assert len(list((tmp_path / "d/mock").iterdir())) == 2


@pytest.mark.parametrize("who", ["two processes", "Dask"])
def test_workers_train_the_bytes_of_one_process(demo, sfr, who, tmp_path, request):
    work, _, _ = demo
    copy = tmp_path / "copy"
    left_out = shutil.ignore_patterns("mock", "features", "train", "train-*.json")
    shutil.copytree(work, copy, ignore=left_out)
    (copy / "run.jsonl").unlink()
    many = ("--workers", 2)
    if who == "Dask":
        many = ("--scheduler", request.getfixturevalue("scheduler"))
    command = ("train", "--work", copy, "--case", "mass,gauss3", "--seeds", 1, *many)
    result = sfr(*command, "--json")
    assert result.exit_code == 0, result.stderr
    rows = [row for row in json.loads(result.stdout)["cases"] if row["kind"] == "case"]
    assert [row["case"] for row in rows] == ["mass", "gauss3"]
    for name in ("mass", "gauss3"):
        made, wanted = (folder / "train" / name / "seed-0" for folder in (copy, work))
        assert {p.name for p in made.iterdir()} == {p.name for p in wanted.iterdir()}
        for path in wanted.iterdir():
            assert (made / path.name).read_bytes() == path.read_bytes(), path.name
    log = [json.loads(line) for line in (copy / "run.jsonl").read_text().splitlines()]
    assert log[-1]["workers"] == 2
    assert log[-1]["seconds_heads"] > 0
    again = sfr(*command)
    assert again.stderr.count("there already") == 2, again.stderr
    shutil.rmtree(copy)


def test_the_table_compares_heads_of_the_same_settings_only(demo, sfr, tmp_path):
    work, _, _ = demo
    copy = tmp_path / "copy"
    shutil.copytree(work, copy, ignore=shutil.ignore_patterns("mock"))
    result = sfr("train", "--work", copy, "--case", "mass,gauss3", "--epochs", 3, "--json")
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)["cases"]
    states = {row["case"]: row["state"] for row in rows if row["kind"] == "case"}
    assert [case for case, state in states.items() if state != "out of date"] == ["mass", "gauss3"]
    assert states["composite"] == "out of date"
    assert "out of date, so not compared: composite seed 0, " in result.stderr
    assert sfr("report", "--work", copy).exit_code == 0
    assert "composite" in (copy / "report/tables/cases.csv").read_text()
    back = sfr("train", "--work", copy, "--all-cases", "--epochs", 2, "--json")
    assert len(json.loads(back.stdout)["cases"]) >= 10
    assert back.stderr.count("there already") >= 8


def test_weights_that_cannot_be_had_cost_no_earlier_result(demo, sfr, tmp_path):
    work, _, _ = demo
    copy = tmp_path / "copy"
    shutil.copytree(work, copy, ignore=shutil.ignore_patterns("mock"))
    assert sfr("train", "--work", copy, "--case", "mass", "--weights", "no.h5").exit_code == 3
    assert (copy / "train/mass/metrics.json").is_file()
    table = json.loads(sfr("train", "--work", copy, "--case", "mass", "--json").stdout)
    assert "mass" in [row["case"] for row in table["cases"]]


def test_predict_gives_the_numbers_of_the_training_on_images_and_on_maps(demo, sfr, tmp_path):
    work, _, _ = demo
    table = np.genfromtxt(
        work / "train/mass/predictions.csv", delimiter=",", names=True, dtype=None
    )
    wanted = dict(zip(table["filename"].tolist(), table["seed_0"].tolist(), strict=True))
    for source in (work / "images", work / "maps/snap_099"):
        result = sfr("predict", work / "train/mass/seed-0", source, "--out", "found.csv")
        assert result.exit_code == 0, result.stderr
        assert "random" in result.stderr
        assert f"label: {LABEL}; the mass is all of the subhalo's" in result.stderr
        found = np.genfromtxt(tmp_path / "found.csv", delimiter=",", names=True, dtype=None)
        both = [row for row in found if row["image"] in wanted]
        assert len(both) >= 5
        for row in both:
            assert row["prediction"] == pytest.approx(wanted[row["image"]], abs=2e-3)
            assert row["ssfr_per_yr"] == pytest.approx(10 ** (row["prediction"] - 15))
            assert row["label"] == LABEL


def test_predict_says_what_is_wrong(demo, sfr, tmp_path):
    work, _, _ = demo
    model, image = work / "train/mass/seed-0", next((work / "images").iterdir())
    (tmp_path / "empty").mkdir()
    assert "is not there" in sfr("predict", "none.keras", image).stderr
    assert "holds no file to read" in sfr("predict", model, "empty").stderr
    assert "not a model" in sfr("predict", image, image).stderr
    (tmp_path / "no.png").write_text("no")
    result = sfr("predict", model, "no.png")
    assert result.exit_code == 3
    assert result.stdout == ""
    result = sfr("predict", model, image, "--out", "empty")
    assert result.exit_code == 2
    assert "is a folder" in result.stderr


def test_predict_leaves_out_stray_files_and_names_those_that_it_cannot_use(demo, sfr, tmp_path):
    work, _, _ = demo
    model, image = work / "train/mass/seed-0", next((work / "images").iterdir())
    folder = tmp_path / "new [red]$_{"
    folder.mkdir()
    shutil.copy(image, folder / os.fsdecode(b"gal\xe9xy.PNG"))
    for name in ("._a.png", ".DS_Store", "Thumbs.db", "notes.txt"):
        (folder / name).write_text("x")
    clean = sfr("predict", model, folder)
    assert clean.exit_code == 0, clean.stderr
    assert "4 of 5 entries are left out" in clean.stderr
    assert len(clean.stdout.splitlines()) == 2
    assert sfr("predict", model, folder, "--out", "t.csv").exit_code == 0
    assert r"gal\xe9xy.PNG" in (tmp_path / "t.csv").read_text("utf-8")
    (folder / "damaged.png").write_text("no")
    found = sfr("predict", model, folder)
    assert found.exit_code == 4
    assert "damaged.png" in found.stderr
    assert found.stdout == clean.stdout
    named = sfr("predict", model, image, folder / "notes.txt")
    assert named.exit_code == 0
    assert "1 of 2 files are left out: with another ending: 1 (notes.txt)" in named.stderr


def changed_maps(source, path, **attributes):
    shutil.copy(source, path)
    with h5py.File(path, "r+") as file:
        for name, value in attributes.items():
            file.attrs[name] = value
    return path


def test_predict_refuses_maps_of_another_scale_or_unit(demo, sfr, tmp_path):
    """Only the names of the channels were compared."""
    work, _, _ = demo
    model, shard = work / "train/mass/seed-0", next((work / "maps/snap_099").glob("*.hdf5"))
    for name, changes in {
        "units": {"channel_units": ["keV cm^2", "Msun/kpc^2", "log10(K)"]},
        "pixels": {"pixel_scale_ckpc_h": 1.5},
    }.items():
        result = sfr("predict", model, changed_maps(shard, tmp_path / f"{name}.hdf5", **changes))
        assert result.exit_code == 3, result.stderr
        assert f"has {name}" in result.stderr


def test_maps_whose_unit_does_not_name_the_statistic_are_refused(demo, sfr, tmp_path):
    """The text of older versions: it can be that of another statistic."""
    work, _, _ = demo
    shard = next((work / "maps/snap_099").glob("*.hdf5"))
    older = ["keV cm^2", "1e10 Msun/h", "log10(K)"]
    result = sfr(
        "predict", work / "train/mass/seed-0",
        changed_maps(shard, tmp_path / "older.hdf5", channel_units=older),
    )  # fmt: skip
    assert result.exit_code == 3
    assert "sum over cells of log10 T [K]" in result.stderr
    assert "older version" in result.stderr


def test_the_normalisation_has_the_units_of_all_readings(demo):
    work, _, _ = demo
    document = json.loads((work / "normalisation.json").read_text())
    units = {name: entry["unit"] for name, entry in document["channels"].items()}
    assert units == {
        "entropy": "sum over cells of K [keV cm^2]",
        "mass": "sum over cells of m [1e10 Msun/h]",
        "temperature": "sum over cells of log10 T [K]",
    }
    readings = document["candidates"]
    assert readings["sum_mass_temperature"]["unit"] == "sum over cells of m T [1e10 Msun/h K]"
    kelvin, code = readings["sum_log10_entropy_k_cm2"], readings["sum_log10_entropy_code"]
    assert kelvin["unit"] == "sum over cells of log10 (T / n_e^(2/3)) [K cm^2]"
    assert code["unit"].startswith("sum over cells of log10 (T / rho^(2/3)) [K (ckpc/h)^2")
    assert code["maximum"] > kelvin["maximum"] > readings["sum_log10_entropy"]["maximum"]


def test_a_contact_sheet_does_not_name_another_label_than_the_sample_has(demo, sfr):
    work, _, _ = demo
    result = sfr("show", "--work", work, "--recipe", "corrected", "--out", "sheet.png")
    assert result.exit_code == 3
    assert "other settings than the recipe's [sample]" in result.stderr
    assert sfr("show", "--work", work, "--out", "sheet.png").exit_code == 0


def test_predict_on_maps_needs_a_model_that_knows_its_pixels(demo, sfr, tmp_path):
    work, _, _ = demo
    shard = next((work / "maps/snap_099").glob("*.hdf5"))
    older = tmp_path / "older.keras"
    with (
        zipfile.ZipFile(work / "train/mass/seed-0/model.keras") as model,
        zipfile.ZipFile(older, "w") as copy,
    ):
        for name in model.namelist():
            content = model.read(name)
            if name == ABOUT:
                about = json.loads(content)
                del about["pixel_scale_ckpc_h"], about["label"]
                content = json.dumps(about).encode()
            copy.writestr(name, content)
    result = sfr("predict", older, shard)
    assert result.exit_code == 3, result.stderr
    assert "size of its pixels" in result.stderr
    found = sfr("predict", older, work / "images")
    assert found.exit_code == 0
    assert found.stdout.splitlines()[1].endswith(",not stated by this model")


def test_predict_takes_maps_that_name_no_galaxy(demo, sfr, tmp_path):
    """Those of sfr map were a traceback."""
    work, _, _ = demo
    shard = next((work / "maps/snap_099").glob("*.hdf5"))
    nameless = changed_maps(shard, tmp_path / "maps.hdf5")
    with h5py.File(nameless, "r+") as file:
        del file.attrs["snapshot"]
        del file["subhalo_id"]
    tables = []
    for path in (shard, nameless):
        assert sfr("predict", work / "train/mass/seed-0", path, "--out", "t.csv").exit_code == 0
        tables.append(np.genfromtxt(tmp_path / "t.csv", delimiter=",", names=True, dtype=None))
    np.testing.assert_array_equal(tables[0]["prediction"], tables[1]["prediction"])
    assert tables[1]["image"][0] == "maps.hdf5[0]"
