"""Names that are no text, links to other file systems, and folders that hold other things."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from sfr.errors import ConfigError, DataMissingError
from sfr.paths import changed_files, input_files, mark_files, plain
from sfr.recipe import load_recipe
from sfr.report.files import save
from sfr.run.shards import Shard, read_shard, write_shard
from sfr.run.tables import read_table, write_table
from sfr.run.workspace import Workspace

#: A file name in Latin-1, as Python has it.
LATIN = os.fsdecode(b"gal\xe9xies")


@pytest.fixture
def elsewhere(tmp_path):
    """Give a folder on another file system than the test's own."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system: /dev/shm is not there or not another one")
    folder = Path(tempfile.mkdtemp(dir=memory, prefix="sfr-test-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def files_below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


# -- links ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("linked", ["maps", "maps/snap_099", ".tmp", ".state"])
def test_a_folder_that_is_a_link_to_another_file_system_is_written_into(
    tmp_path, elsewhere, linked
):
    link = tmp_path / "run" / linked
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    workspace = Workspace(tmp_path / "run")
    path = workspace.shard(99, 0)
    workspace.write_text(path, "x")
    workspace.mark_done("maps-099", "f", [path])
    assert path.read_text() == "x"
    assert workspace.check("maps-099", "f").current
    assert link.is_symlink()
    assert not [name for name in files_below(elsewhere) if "-probe" in name or ".tmp" in name]


def test_what_is_in_progress_lies_on_the_file_system_of_its_target(tmp_path, elsewhere):
    (tmp_path / "maps").symlink_to(elsewhere)
    workspace = Workspace(tmp_path)
    with workspace.replacing(workspace.shard(99, 0)) as temporary:
        temporary.write_text("x")
        assert temporary.resolve().stat().st_dev == elsewhere.stat().st_dev
        # nobody takes it for a shard
        assert workspace.shards(99) == []
    assert files_below(elsewhere) == ["snap_099/part-00000.hdf5"]
    assert files_below(tmp_path / ".tmp") == []


def test_a_link_to_a_file_elsewhere_stays_one(tmp_path, elsewhere):
    (elsewhere / "real.csv").write_text("old")
    (tmp_path / "sample.csv").symlink_to(elsewhere / "real.csv")
    workspace = Workspace(tmp_path)
    workspace.write_text(workspace.sample_csv, "new")
    assert (elsewhere / "real.csv").read_text() == "new"
    assert workspace.sample_csv.is_symlink()
    assert files_below(elsewhere) == ["real.csv"]


def test_what_a_killed_process_left_on_another_file_system_is_removed(tmp_path, elsewhere):
    (tmp_path / "maps").symlink_to(elsewhere)
    code = (
        "import os, sys; from sfr.run.workspace import Workspace\n"
        "w = Workspace(sys.argv[1])\n"
        "with w.replacing(w.shard(99, 0)) as t:\n"
        "    t.write_text('half'); os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 9
    assert len(files_below(elsewhere)) == 1
    Workspace(tmp_path).clean_scratch()
    assert files_below(elsewhere) == []
    assert not (tmp_path / ".tmp").exists()


@pytest.mark.parametrize("target", ["/nowhere/at/all", "maps"])
def test_a_link_that_leads_nowhere_or_in_a_circle_is_named(tmp_path, target):
    (tmp_path / "maps").symlink_to(target)
    workspace = Workspace(tmp_path)
    with pytest.raises(DataMissingError, match=f"maps is a link to {target}"):
        workspace.write_text(workspace.shard(99, 0), "x")
    (tmp_path / "table.csv").symlink_to("/nowhere/at/all/table.csv")
    with pytest.raises(DataMissingError, match=r"table\.csv is a link to /nowhere"):
        workspace.write_text(tmp_path / "table.csv", "x")
    (tmp_path / "work").symlink_to(target)
    if target != "maps":
        with pytest.raises(ConfigError, match="work is a link to"):
            Workspace(tmp_path / "work")


def test_a_file_where_a_folder_is_needed_is_named(tmp_path):
    (tmp_path / "maps").write_text("")
    workspace = Workspace(tmp_path)
    with pytest.raises(DataMissingError, match="maps is a file where a folder is needed"):
        workspace.write_text(workspace.shard(99, 0), "x")


def test_a_file_outside_of_a_run_needs_nothing_of_it_and_leaves_nothing_beside_it(tmp_path):
    save(Workspace(tmp_path / "read-only"), tmp_path / "out/sheet.png", b"x")
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))] == [
        "out",
        "out/sheet.png",
    ]


def test_the_longest_names_that_a_file_system_takes_can_be_written(tmp_path):
    workspace = Workspace(tmp_path)
    for name in ("n" * 250 + ".csv", "é" * 125 + ".csv"):
        workspace.write_text(tmp_path / name, "x")
        assert (tmp_path / name).read_text() == "x"


# -- names that are no text ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é", "plain é"),
        (LATIN, r"gal\xe9xies"),
        # in a C locale Python has the bytes of UTF-8 one by one
        ("caf\udcc3\udca9", "café"),
        ("half \ud800", r"half \ud800"),
    ],
)
def test_names_become_text_that_any_file_can_hold(text, expected):
    assert plain(text) == expected
    assert plain(text).encode()


def test_a_run_in_a_folder_that_is_not_utf8(tmp_path):
    workspace = Workspace(tmp_path / LATIN)
    path = workspace.shard(99, 0)
    shard = Shard(
        np.zeros((1, 1, 2, 2), np.float32),
        {"subhalo_id": np.arange(1)},
        {"subhalo_id": np.array([7]), "reason": np.array([f"{LATIN} is not there"])},
        {"source": LATIN},
    )
    write_shard(workspace, path, shard)
    found = read_shard(path)
    assert found.failures["reason"].tolist() == [r"gal\xe9xies is not there"]
    assert found.attributes["source"] == r"gal\xe9xies"
    write_table(workspace, workspace.sample_csv, {"name": [LATIN, "[red]\n%s #"]})
    assert read_table(workspace.sample_csv, {"name": str})["name"].tolist() == [
        r"gal\xe9xies",
        "[red]\n%s #",
    ]
    workspace.mark_done("maps-099", "f", [path])
    assert workspace.check("maps-099", "f").current
    workspace.log({"command": LATIN})
    assert rb"\udce9" in workspace.run_log.read_bytes()


def test_a_recipe_file_may_have_any_name_and_a_mark_of_windows(tmp_path):
    path = tmp_path / f"{LATIN}.toml"
    path.write_text('\ufeffextends = "thesis"\n', "utf-8")
    recipe = load_recipe(path)
    assert recipe.name == r"gal\xe9xies"
    workspace = Workspace(tmp_path / "run")
    workspace.store_recipe(recipe)
    assert workspace.stored_recipe() == recipe


def test_a_recipe_that_cannot_be_kept_is_refused_before_the_first_step():
    with pytest.raises(ConfigError, match=r"train\.weights = 'gal\\\\xe9xies' holds bytes"):
        load_recipe("thesis").with_fields("train", weights=LATIN)


# -- folders that hold other things --------------------------------------------------------------


def test_one_stray_file_never_stops_a_folder_and_is_said_once(tmp_path, caplog):
    for name in ("b.PNG", "a.png", "c.fits.fz", "._a.png", ".DS_Store", "Thumbs.db", "notes.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "gone.png").symlink_to("/nowhere")
    (tmp_path / "circle.png").symlink_to("circle.png")
    (tmp_path / os.fsdecode(b"\xff.png")).write_text("x")
    (tmp_path / "linked.png").symlink_to(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    found = []
    reader = threading.Thread(
        target=lambda: found.extend(input_files(tmp_path, [".png", ".fits.fz"])), daemon=True
    )
    reader.start()
    reader.join(20)
    names = ["a.png", "b.PNG", "c.fits.fz", "linked.png", os.fsdecode(b"\xff.png")]
    assert [p.name for p in found] == names
    (record,) = caplog.records
    text = record.getMessage()
    assert "9 of 14 entries are left out" in text
    for words in (
        "hidden or of the system: 3 (.DS_Store, ._a.png, Thumbs.db)",
        "links that lead nowhere: 2 (circle.png, gone.png)",
        "empty: 1 (empty.png)",
        "folders: 1 (folder.png)",
        "with another ending: 1 (notes.txt)",
        "no regular files: 1 (pipe.png)",
    ):
        assert words in text


def test_a_folder_with_nothing_to_read_says_what_it_holds(tmp_path):
    (tmp_path / "a.jpeg2000").write_text("x")
    with pytest.raises(DataMissingError, match=r"endings that are read: \.png.*a\.jpeg2000"):
        input_files(tmp_path, [".png"])


def test_copies_and_hidden_files_are_no_part_of_a_run(tmp_path):
    workspace = Workspace(tmp_path)
    maps, train = workspace.maps(99), tmp_path / "train"
    for path in (
        *(maps / n for n in ("part-00000.hdf5", "part-00000 (1).hdf5", "._part-00001.hdf5")),
        *(train / "mass" / n for n in ("metrics.json", "metrics (1).json", "failed (1).json")),
        train / "mass (copy)/metrics.json",
        train / "._mass",
        *(
            tmp_path / ".state" / n
            for n in ("maps-099.json", "maps-099 (1).json", "._maps-099.json")
        ),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (maps / "part-00002.hdf5").symlink_to("/nowhere")
    assert [p.name for p in workspace.shards(99)] == ["part-00000.hdf5"]
    assert workspace.trained() == ["mass"]
    assert workspace.failed() == []
    assert workspace.steps("maps-") == ["maps-099"]


# -- stale inputs --------------------------------------------------------------------------------


def test_files_that_are_new_moved_or_gone_have_not_changed(tmp_path):
    path = tmp_path / "a"
    path.write_text("abc")
    before = mark_files({"a": path, "gone": tmp_path / "gone"})
    assert list(before) == ["a"]
    moved = path.rename(tmp_path / "b")
    shutil.copy2(moved, tmp_path / "c")
    for place in (moved, tmp_path / "c"):
        assert changed_files(before, mark_files({"a": place, "new": place})) == {}
    os.utime(moved, ns=(0, before["a"][1] + 10**10))
    assert changed_files(before, mark_files({"a": moved})) == {"a": "of another time"}
    moved.write_text("abcd")
    assert changed_files(before, mark_files({"a": moved})) == {"a": "of another size"}
    assert changed_files(before, {}) == {}
