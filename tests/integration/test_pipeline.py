"""The steps as a notebook calls them: results, errors, messages and progress, no terminal."""

import json
import logging
import shutil

import h5py
import pytest

from sfr.errors import ConfigError, DataMissingError, SfrError
from sfr.pipeline import open_run
from sfr.pipeline.all_steps import all_steps
from sfr.pipeline.demo import use_mock
from sfr.pipeline.render import plan
from sfr.pipeline.report import show
from sfr.recipe import load_recipe
from sfr.run.workspace import Workspace
from sfr.simulation.mock import write_mock

SMALL = {"maps": {"pixels": 32}}


@pytest.fixture(scope="module")
def rendered(mock_sim, tmp_path_factory):
    """A folder with images of both snapshots, what its steps gave back, and what was heard."""
    work, heard = tmp_path_factory.mktemp("pipeline") / "work", []
    with open_run(
        work,
        simulation=mock_sim,
        changes=SMALL,
        workers=1,
        on_progress=lambda label, done, total, /, **_: heard.append((label, done, total)),
    ) as run:
        made = run.select([98]), run.render([98, 99])
        assert not run.failures
    return work, made, heard


@pytest.fixture
def copy(rendered, tmp_path):
    """A copy of the folder that a test may change."""
    return shutil.copytree(rendered[0], tmp_path / "work")


def log_of(work):
    return [json.loads(line) for line in (work / "run.jsonl").read_text().splitlines()]


def test_a_notebook_selects_one_snapshot_and_renders_two(rendered):
    """Rendering took the sample of the last selection, whatever it was asked for."""
    work, (selected, made), heard = rendered
    assert [(cut.snapshot, cut.n_selected) for cut in selected.cuts] == [(98, 6)]
    assert [(maps.snapshot, maps.n_rendered, maps.n_failed) for maps in made.maps] == [
        (98, 6, 0),
        (99, 6, 0),
    ]
    assert [(images.snapshot, images.n_images) for images in made.images] == [(98, 6), (99, 6)]
    assert len(list((work / "images").iterdir())) == 12
    for label in ("maps 98", "maps 99", "images 99"):
        assert (label, 6, 6) in heard


def test_the_log_names_what_was_called_and_not_the_arguments_of_the_kernel(rendered):
    lines = log_of(rendered[0])
    assert {line["command"] for line in lines} == {"python"}
    assert [line["step"] for line in lines] == [
        *("select", "select", "maps-098", "maps-099", "normalisation", "images-098", "images-099")
    ]
    assert all(line["outcome"] == "done" for line in lines)


def test_nothing_is_printed_and_messages_go_to_the_log(rendered, mock_sim, capfd, caplog):
    with (
        caplog.at_level(logging.INFO, "sfr"),
        open_run(rendered[0], simulation=mock_sim, workers=1) as run,
    ):
        again = run.render()
    assert [maps.reason for maps in again.maps] == ["", ""]
    assert "maps 99: 6 galaxies, 0 failed, already there" in caplog.messages
    assert "images 98: 6, already there" in caplog.messages
    assert capfd.readouterr() == ("", "")


def test_the_folder_is_free_for_another_recipe_once_a_run_is_closed(copy, mock_sim):
    with open_run(copy, simulation=mock_sim) as run:
        run.select([99])
        with (
            open_run(copy, simulation=mock_sim, changes={"maps": {"pixels": 48}}) as other,
            pytest.raises(ConfigError, match="it has another recipe"),
        ):
            other.select([99])
    other.select([99])
    other.close()


def test_a_cell_that_opens_the_run_is_executed_twice(copy, mock_sim):
    """The second run waited for a lock of the first one, in the same thread."""
    first, second = (open_run(copy, simulation=mock_sim) for _ in range(2))
    for run in (first, second):
        assert run.select([99]).cuts[0].reason == ""
    first.close()
    second.close()


def test_failures_are_told_in_words_and_in_the_result(tmp_path, caplog):
    sim = write_mock(tmp_path / "sim", galaxies=2, snaps=[99], cells=300, broken=True).path
    with open_run(tmp_path / "work", simulation=sim, changes=SMALL, workers=1) as run:
        made = run.render([99])
        failed = made.maps[0].failures
        assert made.maps[0].n_failed == len(failed) > 0
        assert run.failures == [f"snapshot 99 subhalo {i}: {reason}" for i, reason in failed]
    with (
        open_run(tmp_path / "w", simulation=sim, changes=SMALL, workers=1, strict=True) as run,
        pytest.raises(Exception, match="snapshot 99 subhalo"),
    ):
        run.render([99])
    assert log_of(tmp_path / "w")[-1]["outcome"] == "failed"


def test_a_snapshot_that_cannot_be_selected_is_a_failure_beside_the_others(mock_sim, tmp_path):
    with open_run(tmp_path / "work", simulation=mock_sim) as run:
        summary = run.select([50, 99])
        assert [cut.snapshot for cut in summary.cuts] == [99]
        assert [text.partition(":")[0] for text in run.failures] == ["select 50"]


@pytest.mark.parametrize("step", ["split", "train", "report", "show"])
def test_a_step_that_needs_earlier_ones_names_the_command_and_makes_no_folder(step, tmp_path):
    with (
        open_run(tmp_path / "typo") as run,
        pytest.raises(DataMissingError, match="run sfr select"),
    ):
        show(run) if step == "show" else getattr(run, step)()
    assert not (tmp_path / "typo").exists()


def test_without_a_simulation_nothing_is_written(tmp_path):
    with (
        open_run(tmp_path / "work") as run,
        pytest.raises(ConfigError, match=r"--sim PATH .*SFR_SIM.*recipe.*sfr demo"),
    ):
        run.render([99])
    assert not (tmp_path / "work").exists()


def test_an_unknown_case_or_option_is_refused_before_the_first_step(copy):
    with open_run(copy) as run, pytest.raises(ConfigError, match="unknown case 'colour'"):
        run.train(["colour"])
    assert not (copy / "split.csv").exists()
    with pytest.raises(TypeError, match="wokers"):
        open_run(copy, wokers=2)


def test_training_stops_at_maps_of_other_settings_before_it_writes_a_split(copy):
    changes = {"orientation": {"radius_half_mass": 1.0}}
    with (
        open_run(copy, changes=changes) as run,
        pytest.raises(DataMissingError, match=r"sfr render --snap 98,99"),
    ):
        run.train(["mass"])
    assert not (copy / "split.csv").exists()


def test_a_plan_counts_and_writes_nothing(rendered, mock_sim, tmp_path):
    with open_run(tmp_path / "new", simulation=mock_sim, changes=SMALL) as run:
        fresh = plan(run, [98, 99])
    assert not (tmp_path / "new").exists()
    assert [(p.n_galaxies, p.n_shards_there) for p in fresh] == [(6, 0), (6, 0)]
    with open_run(rendered[0], simulation=mock_sim) as run:
        made = plan(run)
    assert [p.n_shards_there for p in made] == [p.n_shards for p in fresh]


def test_all_steps_end_before_the_first_where_a_later_one_cannot_work(mock_sim, tmp_path):
    with (
        open_run(tmp_path / "work", "demo", simulation=mock_sim) as run,
        pytest.raises(ConfigError, match="snapshot 99, which is not among those of this run"),
    ):
        all_steps(run, [97, 98])
    assert not (tmp_path / "work").exists()


def test_a_mock_is_kept_while_its_settings_are_and_stays_out_of_a_real_run(rendered, tmp_path):
    with open_run(rendered[0]) as run, pytest.raises(ConfigError, match="another simulation"):
        use_mock(run, galaxies=2, cells=300)
    small = {"galaxies": 2, "cells": 300, "snapshots": [99]}
    with open_run(tmp_path / "demo", "demo") as run:
        first = use_mock(run, **small)
        stamp = first.stat().st_mtime_ns
        assert use_mock(run, **small) == first == run.simulation_path
        assert first.stat().st_mtime_ns == stamp
        assert run.simulation.identity(99)["snapshot"] == 99
    with open_run(tmp_path / "demo", "demo") as run:
        second = use_mock(run, **(small | {"galaxies": 3}))
    assert second != first
    assert not first.exists()


def test_a_step_takes_over_its_own_sections_of_the_recipe_only(copy):
    """Cases are named after channels, so they change hands together."""
    changes = {"split": {"seed": 5}, "train": {"epochs": 7}}
    with open_run(copy, changes=changes) as run:
        run.split()
    stored = Workspace(copy).stored_recipe()
    assert stored.split.seed == 5
    assert stored.train.epochs == load_recipe("thesis").train.epochs
    assert stored.maps.pixels == 32


def test_without_the_reference_the_maps_are_kept_and_the_command_to_run_is_named(
    mock_sim, tmp_path, caplog
):
    work = tmp_path / "a folder"
    how = {"simulation": mock_sim, "changes": SMALL, "workers": 1}
    with (
        open_run(work, **how) as run,
        pytest.raises(DataMissingError, match=r"sfr render --snap 98,99 --work '.*a folder'"),
    ):
        run.render([98])
    assert (work / "maps/snap_098/part-00000.hdf5").is_file()
    assert not (work / "images").exists()
    with caplog.at_level(logging.INFO, "sfr"), open_run(work, **how) as run:
        run.render([98, 99])
    assert "maps 98: 6 galaxies, 0 failed, already there" in caplog.messages
    assert "select 99: 6 galaxies (new)" in caplog.messages
    assert len(list((work / "images").iterdir())) == 12


def test_current_maps_need_no_particles(copy, mock_sim, tmp_path):
    sim = shutil.copytree(mock_sim, tmp_path / "sim")
    for snap in ("098", "099"):
        shutil.rmtree(sim / f"output/snapdir_{snap}")
    with open_run(copy, simulation=sim, workers=1) as run:
        assert [maps.reason for maps in run.render().maps] == ["", ""]


def test_maps_follow_the_rows_of_the_sample(copy, mock_sim, tmp_path):
    sim = shutil.copytree(mock_sim, tmp_path / "sim")
    for path in (sim / "output/groups_099").iterdir():
        with h5py.File(path, "r+") as file:
            if "SubhaloPos" in file["Subhalo"]:
                file["Subhalo/SubhaloPos"][...] += 1.0
    with open_run(copy, simulation=sim, workers=1) as run:
        run.select([99], force=True)
        reasons = [maps.reason for maps in run.render([98, 99]).maps]
    assert reasons == ["", "settings or inputs changed"]


@pytest.mark.parametrize("content", [b"", b"\x93\x00\xff\xfe" * 50])
def test_a_damaged_sample_is_named_and_can_be_made_again(copy, mock_sim, content):
    (copy / "sample.csv").write_bytes(content)
    with open_run(copy, simulation=mock_sim) as run:
        with pytest.raises(SfrError, match=r"sample\.csv") as error:
            run.split()
        assert error.value.exit_code == 3
        run.select([98, 99], force=True)
        run.split()


def test_a_damaged_image_or_state_is_made_again(copy, mock_sim):
    image = next((copy / "images").glob("Snap99*"))
    before = image.read_bytes()
    image.write_bytes(b"")
    (copy / ".state/maps-099.json").write_text("[]")
    with open_run(copy, simulation=mock_sim, workers=1) as run:
        run.render()
    assert image.read_bytes() == before


def test_changed_cuts_are_not_trained_on_the_old_sample(copy):
    with (
        open_run(copy, changes={"sample": {"stellar_mass_min": 1.5}}) as run,
        pytest.raises(DataMissingError, match="sfr select"),
    ):
        run.train(["mass"])


def test_a_split_that_is_not_possible_fails_before_rendering(mock_sim, tmp_path):
    sim = shutil.copytree(mock_sim, tmp_path / "sim")
    shutil.rmtree(sim / "postprocessing/trees")
    for path in (sim / "output/groups_098").glob("*.hdf5"):
        # nothing tells then which galaxy is which
        with h5py.File(path, "r+") as file:
            if "SubhaloPos" in file.get("Subhalo", {}):
                file["Subhalo/SubhaloPos"][...] = (file["Subhalo/SubhaloPos"][...] + 7000) % 35000
                file["Subhalo/SubhaloIDMostbound"][...] = 0
    with (
        open_run(tmp_path / "work", "demo", simulation=sim) as run,
        pytest.raises(DataMissingError, match="SubLink"),
    ):
        all_steps(run, [98, 99])
    assert not (tmp_path / "work/maps").exists()


def test_without_trees_a_split_by_galaxy_finds_the_galaxies_itself(mock_sim, tmp_path):
    sim = shutil.copytree(mock_sim, tmp_path / "sim")
    shutil.rmtree(sim / "postprocessing/trees")
    with open_run(tmp_path / "with", "demo", simulation=mock_sim) as run:
        known = run.select([98, 99]).sample["galaxy_id"]
    with open_run(tmp_path / "without", "demo", simulation=sim) as run:
        found = run.select([98, 99]).sample["galaxy_id"]
        summary = run.split()
    assert (known[:, None] == known).tolist() == (found[:, None] == found).tolist()
    assert summary.audit.n_same_galaxy == summary.audit.n_untracked == 0


def test_training_never_uses_images_of_another_recipe(copy, caplog):
    images = sorted((copy / "images").iterdir())
    before = [image.read_bytes() for image in images]
    changes = {"image": {"beta": 0.1}, "train": {"weights": "nowhere.h5"}}
    with (
        caplog.at_level(logging.INFO, "sfr"),
        open_run(copy, changes=changes, workers=1) as run,
        pytest.raises(DataMissingError, match=r"nowhere\.h5"),
    ):
        run.train(["mass"])
    assert "images 98: 6 (settings or inputs changed)" in caplog.messages
    assert sorted((copy / "images").iterdir()) == images
    assert all(old != new.read_bytes() for old, new in zip(before, images, strict=True))
