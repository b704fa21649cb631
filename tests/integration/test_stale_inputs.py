"""Files of the simulation that were replaced after results were made from them."""

import os
import shutil

import pytest

from sfr.recipe import load_recipe
from sfr.render.snapshot import render_snapshot
from sfr.run.workspace import Workspace
from sfr.sample.select import select
from sfr.simulation import open_simulation

GROUPS = "output/groups_099/fof_subhalo_tab_099.1.hdf5"
CHUNK = "output/snapdir_099/snap_099.2.hdf5"
#: A chunk in which no galaxy lies.
UNUSED = "output/snapdir_099/snap_099.1.hdf5"
OFFSETS = "postprocessing/offsets/offsets_099.hdf5"


@pytest.fixture(scope="module")
def recipe():
    return load_recipe("thesis").with_fields("maps", pixels=32)


@pytest.fixture(scope="module")
def made(mock_sim, recipe, tmp_path_factory):
    """A run's folder with sample and maps."""
    folder = tmp_path_factory.mktemp("made") / "run"
    make(mock_sim, folder, recipe)
    return folder


def make(sim, folder, recipe, *, force=False, allow_partial=False):
    """Select and render; return what was made, not only found there."""
    workspace = Workspace(folder)
    with open_simulation(sim) as simulation:
        chosen = select(simulation, workspace, recipe, [99], force=force)
        maps = render_snapshot(
            simulation,
            workspace,
            recipe,
            chosen.sample,
            99,
            force=force,
            allow_partial=allow_partial,
        )
    return bool(chosen.cuts[0].reason), bool(maps.reason)


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


@pytest.fixture
def sim(mock_sim, tmp_path):
    # times of the files are kept
    return shutil.copytree(mock_sim, tmp_path / "another name")


def touch(path, seconds):
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + int(seconds * 1e9)))


def test_a_simulation_that_moved_or_was_copied_with_its_times_is_the_same(run, sim, recipe, caplog):
    for path in sim.rglob("*.hdf5"):
        # file systems round
        touch(path, -1.5)
    caplog.clear()
    assert make(sim, run, recipe) == (False, False)
    assert not caplog.records


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_file_of_another_time_is_said_and_nothing_is_made_again(
    run, sim, recipe, caplog, seconds
):
    touch(sim / CHUNK, seconds)
    assert make(sim, run, recipe) == (False, False)
    (record,) = caplog.records
    text = record.getMessage()
    assert text.startswith("maps of snapshot 99: snapdir_099/snap_099.2.hdf5 is written at another")
    assert "if copied only, nothing is wrong" in text
    assert "sfr render --snap 99 --force" in text
    caplog.clear()
    assert make(sim, run, recipe, force=True) == (True, True)
    assert make(sim, run, recipe) == (False, False)
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "said"),
    [(CHUNK, ["maps"]), (GROUPS, ["sample"]), (OFFSETS, ["sample", "maps"])],
)
def test_a_file_of_another_size_makes_results_stale_and_is_said(
    run, sim, recipe, caplog, name, said
):
    with (sim / name).open("ab") as file:
        file.write(b"x")
    assert make(sim, run, recipe) == (False, False)
    texts = [record.getMessage() for record in caplog.records]
    assert [text.split()[0] for text in texts] == said
    assert all("of another size" in text and "--force" in text for text in texts)


def test_a_chunk_that_was_missing_or_damaged_and_is_fetched_later_is_no_news(
    sim, recipe, tmp_path, caplog
):
    whole = (sim / CHUNK).read_bytes()
    (sim / CHUNK).write_bytes(whole[:5000])
    run = tmp_path / "partial"
    make(sim, run, recipe, allow_partial=True)
    reasons = Workspace(run).failures_csv(99).read_text("utf-8")
    # the space in the name of the folder did not end the path
    assert "snap_099.2.hdf5" in reasons
    assert "name/" not in reasons
    (sim / CHUNK).unlink()
    make(sim, run, recipe, allow_partial=True)
    (sim / CHUNK).write_bytes(whole)
    caplog.clear()
    assert make(sim, run, recipe) == (False, True)
    assert "another" not in caplog.text
    caplog.clear()
    assert make(sim, run, recipe) == (False, False)
    assert not caplog.records


def test_a_file_that_nothing_was_made_from_may_change(run, sim, recipe, caplog):
    (sim / UNUSED).write_bytes(b"")
    assert make(sim, run, recipe) == (False, False)
    assert not caplog.records


def test_images_of_maps_that_were_made_again_are_not_current(run, mock_sim, recipe):
    workspace = Workspace(run)
    for step in ("normalisation", "images-099", "images-099-part-00000", "images-098"):
        workspace.mark_done(step, "f", ())
    assert make(mock_sim, run, recipe) == (False, False)
    assert workspace.check("images-099", "f").current
    # the fingerprint of the maps, and so of what is made of them, stays the same
    assert make(mock_sim, run, recipe, force=True) == (True, True)
    for step in ("normalisation", "images-099", "images-099-part-00000"):
        assert not workspace.check(step, "f").current
    assert workspace.check("images-098", "f").current


def test_what_is_known_of_the_files_is_no_part_of_a_fingerprint_or_a_step(made):
    workspace = Workspace(made)
    step = workspace.fingerprint("maps-099")
    names = workspace.sources("maps-099", step)
    assert "snapdir_099/snap_099.2.hdf5" in names
    assert "snapdir_099/snap_099.1.hdf5" not in names
    assert "postprocessing/offsets/offsets_099.hdf5" in names
    assert workspace.sources("maps-099", "of other settings") == {}
    assert workspace.steps("maps-") == ["maps-099"]
    (made / ".state/maps-099.sources").write_text("[]")
    assert workspace.sources("maps-099", step) == {}
