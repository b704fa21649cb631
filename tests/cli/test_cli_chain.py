"""mock, select, split, render and map as a user calls them, and bad input."""

import csv
import json
import os
import shutil

import h5py
import numpy as np
import pytest

from sfr.imaging.png import read_png


@pytest.fixture
def sim(mock_sim, tmp_path):
    """A copy of the mock simulation that a test may damage."""
    copy = tmp_path / "sim"
    shutil.copytree(mock_sim, copy)
    return copy


def damage(path, dataset, change):
    with h5py.File(path, "r+") as file:
        values = file[dataset][()]
        change(values)
        file[dataset][...] = values


def gas_chunks(sim, snap):
    found = []
    for path in sorted((sim / f"output/snapdir_{snap:03d}").iterdir()):
        with h5py.File(path) as file:
            if "PartType0" in file:
                found.append(path)
    return found


def test_mock_select_split_render(sfr, tmp_path):
    made = sfr("mock", "sim", "--galaxies", 4, "--snaps", "98-99", "--cells", 300, "--json")
    assert made.exit_code == 0, made.stderr
    assert [row["galaxies"] for row in json.loads(made.stdout)["snapshots"]] == [4, 4]
    selected = sfr("select", "--sim", "sim", "--snap", "98,99", "--json")
    assert [row["selected"] for row in json.loads(selected.stdout)["snapshots"]] == [4, 4]
    assert "8 rows, a galaxy and snapshot each, of 4 galaxies" in sfr(
        "select", "--sim", "sim", "--snap", "98,99"
    ).stdout.replace("\n", " ")
    rendered = sfr("render", "--sim", "sim", "--snap", "98,99", "--json")
    assert rendered.exit_code == 0, rendered.stderr
    assert [row["rendered"] for row in json.loads(rendered.stdout)["snapshots"]] == [4, 4]
    assert len(list((tmp_path / "sfr-work/images").glob("Snap9*ID*.png"))) == 8
    again = sfr("render", "--sim", "sim", "--snap", "98,99")
    assert again.stderr.count("already there") == 6
    split = json.loads(sfr("split", "--json").stdout)
    assert {row["subset"]: row["images"] for row in split["subsets"]}["test"] == 1
    assert {row["subset"]: row["galaxies"] for row in split["subsets"]}["test"] == 1
    lines = [
        json.loads(line) for line in (tmp_path / "sfr-work/run.jsonl").read_text().splitlines()
    ]
    assert {"select", "maps-098", "maps-099", "normalisation", "images-099", "split"} <= {
        line["step"] for line in lines
    }
    assert all(line["outcome"] == "done" and line["fingerprint"] for line in lines)


def test_the_environment_and_the_recipe_configure_a_simulation(
    sfr, mock_sim, monkeypatch, tmp_path
):
    (tmp_path / "r.toml").write_text(f'extends = "thesis"\nsimulation = "{mock_sim}"\n')
    assert sfr("select", "--snap", 99, "--recipe", "r.toml", "--work", "a").exit_code == 0
    monkeypatch.setenv("SFR_SIM", str(mock_sim / "output"))
    assert sfr("select", "--snap", 99, "--work", "b").exit_code == 0


def test_a_folder_that_is_no_simulation(sfr, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in ("empty", "nowhere"):
        result = sfr("select", "--sim", path, "--snap", 99)
        assert result.exit_code == 3
        assert path in result.stderr


def test_a_snapshot_that_is_not_there(sfr, mock_sim):
    result = sfr("select", "--sim", mock_sim, "--snap", 50)
    assert result.exit_code == 3
    assert "50" in result.stderr


def test_a_missing_catalogue_chunk_is_counted_and_named_or_allowed(sfr, sim, tmp_path):
    (sim / "output/groups_099/fof_subhalo_tab_099.1.hdf5").unlink()
    result = sfr("select", "--sim", sim, "--snap", 99)
    assert result.exit_code == 3
    assert "1 of " in result.stderr
    assert "fof_subhalo_tab_099.1.hdf5" in result.stderr
    assert not (tmp_path / "sfr-work/sample.csv").exists()


def test_a_missing_snapshot_chunk_is_named(sfr, sim):
    (sim / "output/snapdir_099/snap_099.1.hdf5").unlink()
    result = sfr("render", "--sim", sim, "--snap", 99)
    assert result.exit_code == 3
    assert "snap_099.1.hdf5" in result.stderr


def test_missing_offsets_say_where_to_get_them(sfr, sim):
    (sim / "postprocessing/offsets/offsets_099.hdf5").unlink()
    result = sfr("render", "--sim", sim, "--snap", 99)
    assert result.exit_code == 3
    assert "offsets_099.hdf5" in result.stderr


@pytest.mark.parametrize(("snap", "kind"), [(99, "full"), (98, "mini")])
def test_a_missing_field_is_named_with_the_snapshot_type(sfr, sim, snap, kind):
    for path in (sim / f"output/snapdir_{snap:03d}").iterdir():
        with h5py.File(path, "r+") as file:
            if "PartType0" in file:
                del file["PartType0/ElectronAbundance"]
    result = sfr("render", "--sim", sim, "--snap", snap)
    assert result.exit_code == 3
    assert "ElectronAbundance" in result.stderr
    assert kind in result.stderr


def test_a_truncated_chunk_costs_its_galaxies_and_is_reported(sfr, tmp_path):
    sfr("mock", "sim", "--galaxies", 12, "--snaps", 99, "--cells", 300)
    path = tmp_path / "sim/output/snapdir_099/snap_099.1.hdf5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = sfr("render", "--sim", "sim", "--snap", 99, "--json")
    assert result.exit_code == 4
    rows = json.loads(result.stdout)
    assert 0 < len(rows["failures"]) < 12
    assert rows["snapshots"][0]["rendered"] == 12 - len(rows["failures"])
    assert path.name in result.stderr
    assert path.name in (tmp_path / "sfr-work/maps/snap_099/failures.csv").read_text()


def test_some_nan_coordinates_are_dropped_counted_and_warned_of(sfr, sim, tmp_path):
    for path in gas_chunks(sim, 99):
        damage(path, "PartType0/Coordinates", lambda x: x.__setitem__(slice(0, None, 500), np.nan))
    result = sfr("render", "--sim", sim, "--snap", 99, "--json")
    rendered = json.loads(result.stdout)["snapshots"][0]
    assert rendered["rendered"] >= 1
    assert "NaN or infinite coordinates" in result.stderr
    with h5py.File(tmp_path / "sfr-work/maps/snap_099/part-00000.hdf5") as file:
        assert file["n_bad_coordinates"][()].sum() > 0
        assert np.isfinite(file["maps"][()]).all()


def test_many_nan_coordinates_fail_that_galaxy_only(sfr, sim, tmp_path):
    for path in gas_chunks(sim, 99):
        damage(path, "PartType0/Coordinates", lambda x: x.__setitem__(slice(0, None, 10), np.nan))
    result = sfr("render", "--sim", sim, "--snap", 99)
    text = (tmp_path / "sfr-work/maps/snap_099/failures.csv").read_text()
    assert result.exit_code in (3, 4)
    assert "more than 1%" in text


def test_galaxies_that_cannot_be_rendered_are_listed_and_the_rest_goes_on(sfr, tmp_path):
    sfr("mock", "sim", "--galaxies", 3, "--snaps", 99, "--cells", 300, "--broken")
    result = sfr("render", "--sim", "sim", "--snap", 99, "--json")
    rows = json.loads(result.stdout)
    assert result.exit_code == 4
    assert rows["snapshots"][0]["rendered"] >= 3
    assert rows["failures"]
    lines = (tmp_path / "sfr-work/maps/snap_099/failures.csv").read_text().splitlines()
    assert lines[0] == "subhalo_id,view,stage,reason"
    assert len(lines) == 1 + len(rows["failures"])
    strict = sfr("render", "--sim", "sim", "--snap", 99, "--strict", "--work", "strict")
    assert strict.exit_code == 3
    assert not list((tmp_path / "strict/maps").rglob("part-*"))


def test_empty_sample(sfr, mock_sim, tmp_path):
    (tmp_path / "r.toml").write_text('extends = "thesis"\n[sample]\nstellar_mass_min = 99.0\n')
    result = sfr("render", "--sim", mock_sim, "--snap", 99, "--recipe", "r.toml")
    assert result.exit_code == 3
    assert "no galaxy passes the cuts" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("render", "--recipe", "nothing"),
        ("train", "--case", "colour"),
        ("train",),
        ("train", "--all-cases", "--case", "mass"),
        ("train", "--all-cases", "--epochs", 0),
        ("mock", "out", "--galaxies", 0),
        ("mock", "out", "--signal", "colour"),
        ("select", "--snap", "a"),
        ("render", "--threads", 0),
    ],
)
def test_usage_errors_exit_with_2_and_leave_nothing_behind(sfr, arguments, tmp_path):
    result = sfr(*arguments)
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_no_space_left_is_a_clear_message(sfr, mock_sim, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = sfr("select", "--sim", mock_sim, "--snap", 99)
    assert result.exit_code == 3
    assert "no space left" in result.stderr


def test_interrupting_keeps_what_is_whole(sfr, mock_sim, monkeypatch, tmp_path):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sfr.render.shard.render_galaxy", interrupt)
    result = sfr("render", "--sim", mock_sim, "--snap", 99)
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
    left = sorted(p.name for p in (tmp_path / "sfr-work").rglob("*") if p.is_file())
    assert "sample.csv" in left
    assert not [name for name in left if name.startswith("part-")]
    monkeypatch.undo()


def test_map_of_one_chunk(sfr, mock_sim, tmp_path):
    path = mock_sim / "output/snapdir_099/snap_099.0.hdf5"
    result = sfr("map", path, "--width", 80, "--pixels", 64, "--normal", "1,1,0", "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["n_in_frame"] > 0
    folder = tmp_path / "snap_099.0-map"
    with h5py.File(folder / "maps.hdf5") as file:
        maps = file["maps"][0]
    assert maps.shape == (3, 64, 64)
    assert (maps[1] > 0).any()
    assert read_png(folder / "rgb.png").shape == (64, 64, 3)
    assert (folder / "figure.png").stat().st_size > 5000


def test_a_map_that_is_not_possible_says_why(sfr, mock_sim, tmp_path):
    path = mock_sim / "output/snapdir_099/snap_099.0.hdf5"
    for arguments, words in [
        (("--normal", "0,0,0"), "normal"),
        (("--center", "1,2"), "three numbers"),
        (("--center", "nan,1,2"), "finite"),
    ]:
        result = sfr("map", path, *arguments)
        assert (result.exit_code, words in result.stderr) == (2, True), result.stderr
    assert not (tmp_path / "snap_099.0-map").exists()
    assert sfr("map", "nothing.hdf5").exit_code == 3


def test_a_fetched_chunk_is_tried_again_without_force(sfr, sim, tmp_path):
    path = max(gas_chunks(sim, 99), key=lambda p: p.stat().st_size)
    aside = tmp_path / "aside.hdf5"
    path.rename(aside)
    partial = sfr("render", "--sim", sim, "--snap", 99, "--allow-partial")
    assert partial.exit_code in (3, 4)
    assert ",read," in (tmp_path / "sfr-work/maps/snap_099/failures.csv").read_text()
    aside.rename(path)
    whole = sfr("render", "--sim", sim, "--snap", 99, "--json")
    assert whole.exit_code == 0, whole.stderr
    assert json.loads(whole.stdout)["snapshots"][0]["rendered"] == 6
    assert "tried again" in whole.stderr


def test_a_fetched_catalogue_chunk_enters_a_partial_sample(sfr, sim, tmp_path):
    chunks = sorted((sim / "output/groups_099").iterdir())
    holding = [p for p in chunks if h5py.File(p)["Header"].attrs["Nsubgroups_ThisFile"] > 0]
    aside = tmp_path / "aside.hdf5"
    holding[-1].rename(aside)
    arguments = ("select", "--sim", sim, "--snap", 99, "--allow-partial", "--json")
    before = sfr(*arguments)
    aside.rename(holding[-1])
    after = sfr(*arguments)
    rows = json.loads(after.stdout)["snapshots"][0]
    assert rows["selected"] == 6
    assert rows["missing chunks"] == 0
    if before.exit_code == 0:
        assert "changed" in after.stderr


def test_missing_chunks_with_allow_partial_cost_the_galaxies_in_them_only(sfr, tmp_path):
    sfr("mock", "sim", "--galaxies", 12, "--snaps", 99, "--cells", 300)
    (tmp_path / "sim/output/snapdir_099/snap_099.1.hdf5").unlink()
    result = sfr("render", "--sim", "sim", "--snap", 99, "--allow-partial", "--json")
    rows = json.loads(result.stdout)
    assert result.exit_code == 4
    assert 0 < len(rows["failures"]) < 12
    assert rows["snapshots"][0]["rendered"] + len(rows["failures"]) == 12
    text = (tmp_path / "sfr-work/maps/snap_099/failures.csv").read_text()
    assert "snap_099.1.hdf5" in text
    assert str(tmp_path) not in text


def test_a_folder_that_is_no_run_is_not_made_by_looking(sfr, tmp_path):
    for command in (("report",), ("show",), ("split",), ("train", "--all-cases")):
        result = sfr(*command, "--work", "typo")
        assert result.exit_code == 3
        assert not (tmp_path / "typo").exists()


def test_galaxies_without_finite_energy_fail(sfr, sim):
    for path in gas_chunks(sim, 98):
        damage(path, "PartType0/InternalEnergy", lambda x: x.__setitem__(slice(None), np.nan))
    result = sfr("render", "--sim", sim, "--snap", "98,99", "--json")
    assert result.exit_code == 4
    rows = json.loads(result.stdout)
    assert [row["failed"] for row in rows["snapshots"]] == [6, 0]
    assert "finite value" in rows["failures"][0]["reason"]


def test_galaxies_without_a_label_are_left_out(sfr, sim):
    first = int(sfr_sample(sfr, sim, "before")[0]["subhalo_id"])
    row = 0
    for path in sorted((sim / "output/groups_099").iterdir()):
        with h5py.File(path, "r+") as file:
            n = int(file["Header"].attrs["Nsubgroups_ThisFile"])
            if row <= first < row + n:
                file["Subhalo/SubhaloSFR"][first - row] = np.nan
            row += n
    after = [int(r["subhalo_id"]) for r in sfr_sample(sfr, sim, "after")]
    assert len(after) == 5
    assert first not in after


def sfr_sample(sfr, sim, work):
    result = sfr("select", "--sim", sim, "--snap", 99, "--work", work)
    assert result.exit_code == 0, result.stderr
    with (sim.parent / work / "sample.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_work_folder_that_cannot_be_is_a_usage_error(sfr, mock_sim, tmp_path):
    (tmp_path / "file").write_text("")
    for work in ("file", "file/below"):
        assert sfr("select", "--sim", mock_sim, "--snap", 99, "--work", work).exit_code == 2
    assert sfr("select", "--sim", mock_sim, "--snap", 99, "--work", "/proc/xx").exit_code == 3


def test_a_relative_simulation_is_relative_to_its_recipe(sfr, sim, tmp_path, monkeypatch):
    (tmp_path / "r.toml").write_text('extends = "thesis"\nsimulation = "sim"\n')
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert sfr("select", "--snap", 99, "--recipe", "../r.toml", "--work", "../w").exit_code == 0
