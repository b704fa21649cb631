"""Whole files, fingerprints, locks and the log."""

import errno
import json
import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import h5py
import numpy as np
import pytest

from sfr.errors import ConfigError, DataFormatError, DataMissingError, InternalError
from sfr.run.names import ImageId, ModelId
from sfr.run.shards import Shard, read_shard, write_shard
from sfr.run.tables import read_table, write_table
from sfr.run.workspace import Workspace, digest


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    workspace = Workspace(tmp_path)
    path = tmp_path / "a" / "file.txt"
    workspace.write_text(path, "old")

    def fail() -> None:
        with workspace.replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["file.txt"]


def test_files_written_together_are_all_old_until_all_are_flushed(tmp_path, monkeypatch):
    workspace = Workspace(tmp_path)
    paths = [tmp_path / f"{i}.txt" for i in range(20)]
    workspace.write_text(paths[0], "old")
    flushed, fsync = [], os.fsync

    def look(descriptor):
        assert [p for p in paths if p.exists()] == paths[:1]
        assert paths[0].read_text() == "old"
        flushed.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    with workspace.replacing_all(paths) as temporaries:
        for i, temporary in enumerate(temporaries):
            temporary.write_text(str(i))
    assert [path.read_text() for path in paths] == [str(i) for i in range(20)]
    assert sorted(flushed) == sorted(path.stat().st_ino for path in paths)
    assert not any((tmp_path / ".tmp").iterdir())


@pytest.mark.parametrize("when", ["writing", "flushing"])
def test_files_of_which_one_failed_are_none_of_them_there(tmp_path, monkeypatch, when):
    workspace = Workspace(tmp_path)
    paths = [tmp_path / f"{i}.txt" for i in range(20)]
    workspace.write_text(paths[0], "old")
    full = OSError(errno.ENOSPC, "no space left")

    def fail(*_):
        raise full

    def write() -> None:
        with workspace.replacing_all(paths) as temporaries:
            for temporary in temporaries:
                temporary.write_text("new")
            if when == "writing":
                fail()
            monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(OSError, match="no space"):
        write()
    assert paths[0].read_text() == "old"
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["0.txt"]


def test_a_killed_writer_of_images_leaves_none_that_counts_as_done(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from sfr.run.workspace import Workspace\n"
        "w = Workspace(sys.argv[1])\n"
        "paths = [w.images / f'{i}.png' for i in range(3)]\n"
        "with w.replacing_all(paths) as temporaries:\n"
        "    [t.write_text('whole') for t in temporaries]\n"
        "    if sys.argv[2] == 'before': os._exit(9)\n"
        "    replace = Path.replace\n"
        "    Path.replace = lambda a, b: os._exit(9) if b == paths[1] else replace(a, b)\n"
        "w.mark_done('images', 'f', paths)\n"
    )
    for when, there in (("before", []), ("between two renames", ["0.png"])):
        command = [sys.executable, "-c", code, str(tmp_path), when]
        assert subprocess.run(command, check=False).returncode == 9
        workspace = Workspace(tmp_path)
        assert sorted(p.name for p in workspace.images.glob("*")) == there
        assert not workspace.check("images", "f").current
        workspace.clean_scratch()
        assert not (tmp_path / ".tmp").exists()


def test_scratch_of_dead_processes_is_removed_and_of_living_ones_kept(tmp_path):
    workspace = Workspace(tmp_path)
    host = workspace._scratch.name.rsplit("-", 2)[0]
    process = multiprocessing.get_context("spawn").Process(target=print)
    process.start()
    process.join()
    for pid in (process.pid, os.getppid()):
        (tmp_path / ".tmp" / f"{host}-{pid}").mkdir(parents=True)
    (tmp_path / ".tmp" / f"otherhost-{process.pid}").mkdir()
    workspace.clean_scratch()
    left = sorted(p.name for p in (tmp_path / ".tmp").iterdir())
    assert left == sorted([f"{host}-{os.getppid()}", f"otherhost-{process.pid}"])


def test_check_says_why_a_step_is_not_current(tmp_path):
    workspace = Workspace(tmp_path)
    made = tmp_path / "made.txt"
    assert workspace.check("step", "f1").reason == "new"
    workspace.write_text(made, "x")
    workspace.mark_done("step", "f1", [made])
    assert workspace.check("step", "f1").current
    assert workspace.check("step", "f1", force=True).reason == "forced"
    assert "changed" in workspace.check("step", "f2").reason
    made.unlink()
    assert "made.txt" in workspace.check("step", "f1").reason


def test_an_outdated_step_says_why_until_it_is_done_again(tmp_path):
    """Maps that were made anew had the same fingerprint, and images of the old ones counted."""
    workspace = Workspace(tmp_path)
    workspace.outdate("images", "never made")
    assert workspace.check("images", "f").reason == "new"
    for name in ("images", "images-part-00000", "images-part-00001", "images-2-part-00000"):
        workspace.mark_done(name, "f", ())
    workspace.outdate("images", "maps were made anew")
    state = workspace.check("images", "f")
    assert (state.current, state.reason) == (False, "maps were made anew")
    assert workspace.has_run("images")
    assert workspace.steps("images") == ["images", "images-2-part-00000"]
    workspace.mark_done("images", "f", ())
    assert workspace.check("images", "f").current


def test_a_second_process_waits_for_the_lock_and_says_so(tmp_path, caplog):
    workspace = Workspace(tmp_path)
    order = []

    def second() -> None:
        with Workspace(tmp_path).lock("render"):
            order.append("second")

    with workspace.lock("render"):
        thread = threading.Thread(target=second)
        thread.start()
        while not caplog.records:
            time.sleep(0.01)
        with Workspace(tmp_path).lock("other"):
            order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert "waiting for another sfr process at step 'render'" in caplog.text


def test_a_step_that_is_held_already_is_a_bug_and_no_endless_wait(tmp_path):
    workspace = Workspace(tmp_path)
    with workspace.lock("images-099"):
        with pytest.raises(InternalError, match="images-099"), workspace.lock("images-099"):
            pass
        with workspace.lock("images-098"):
            pass
    with workspace.lock("images-099"):
        pass


def test_the_log_gains_one_json_line_each(tmp_path):
    workspace = Workspace(tmp_path / "new")
    workspace.log({"step": "a"})
    workspace.log({"step": "b"})
    lines = workspace.run_log.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == ["a", "b"]


def test_digest_ignores_key_order_and_refuses_nan():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest([1]) != digest([2])
    with pytest.raises(ValueError, match="Out of range"):
        digest(float("nan"))


def test_image_names_go_both_ways():
    for image, name in (
        (ImageId(99, 123), "Snap99ID123.png"),
        (ImageId(4, 0, 12), "Snap4ID0V12.png"),
    ):
        assert image.filename == name
        assert ImageId.parse(name) == image
        assert ImageId.is_name(name)
    for name in ("Snap9.png", "Snap99ID123V0.png", "Snap99ID123V.png", "Snap99ID12 3.png", "a.png"):
        assert not ImageId.is_name(name)
        with pytest.raises(DataFormatError, match=re.escape(name)):
            ImageId.parse(name)


def test_models_are_named_in_words():
    assert str(ModelId("mass", seed=3)) == "mass, seed 3"
    assert str(ModelId("gauss3", 2, 1)) == "gauss3, fold 2, seed 1"


def test_what_is_remembered_is_recalled_until_it_is_forgotten(tmp_path):
    workspace = Workspace(tmp_path)
    assert workspace.recalled("label") is None
    for value in ("a", ["b", 3], {"read": 1}):
        workspace.remember("label", value)
        assert workspace.recalled("label") == value
    assert not workspace.has_run("label")
    (tmp_path / ".state" / "label.note").write_text("{")
    assert workspace.recalled("label") is None


def test_work_must_not_be_a_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        Workspace(path)


def test_tables_keep_every_bit_of_a_float(tmp_path):
    workspace = Workspace(tmp_path)
    path = tmp_path / "t.csv"
    values = np.array([0.1, 1e-300, np.pi, np.nan])
    write_table(
        workspace, path, {"x": values, "name": ["a", 'b"', "c,d", "é"], "n": [1, 2, 3, 2**60]}
    )
    table = read_table(path, {"name": str, "x": float, "n": int})
    np.testing.assert_array_equal(table["x"], values)
    assert table["name"].tolist() == ["a", 'b"', "c,d", "é"]
    assert table["n"][3] == 2**60


def test_a_table_that_is_not_right_says_where(tmp_path):
    path = tmp_path / "t.csv"
    with pytest.raises(DataMissingError):
        read_table(path, {"x": int})
    path.write_text("x\n99999999999999999999\n")
    with pytest.raises(DataFormatError, match="not a whole number of 64 bits: it is too large"):
        read_table(path, {"x": int})
    path.write_text("x,y\n1,2\nz,3\n")
    with pytest.raises(DataFormatError, match="'w' is missing"):
        read_table(path, {"w": int})
    with pytest.raises(DataFormatError, match="line 3"):
        read_table(path, {"x": int})


def _shard(n: int) -> Shard:
    rng = np.random.default_rng(3)
    return Shard(
        rng.normal(size=(n, 3, 4, 4)).astype(np.float32),
        {
            "subhalo_id": np.arange(n),
            "orientation_source": np.array(["stars<0.1Gyr"] * n, np.str_),
        },
        {"subhalo_id": np.array([7]), "reason": np.array(["no gas: é"])},
        {"channel_names": ["a", "b", "c"], "snapshot": 99},
    )


@pytest.mark.parametrize("n", [0, 1, 3])
def test_shards_come_back_and_have_the_same_bytes_twice(tmp_path, n):
    workspace = Workspace(tmp_path)
    for name in ("a.hdf5", "b.hdf5"):
        write_shard(workspace, tmp_path / name, _shard(n))
    assert (tmp_path / "a.hdf5").read_bytes() == (tmp_path / "b.hdf5").read_bytes()
    back = read_shard(tmp_path / "a.hdf5")
    np.testing.assert_array_equal(back.maps, _shard(n).maps)
    assert back.columns["orientation_source"].tolist() == ["stars<0.1Gyr"] * n
    assert back.failures["reason"].tolist() == ["no gas: é"]
    assert len(read_shard(tmp_path / "a.hdf5", with_maps=False).maps) == 0


def test_a_truncated_shard_is_a_clear_error(tmp_path):
    path = tmp_path / "a.hdf5"
    write_shard(Workspace(tmp_path), path, _shard(3))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataFormatError, match="not a shard"):
        read_shard(path)


def _instead(name: str, value: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = value

    return change


def _half(file: h5py.File) -> None:
    shape = file["maps"].shape
    del file["maps"]
    file.create_dataset("maps", shape, "f4", chunks=(1, *shape[1:]))[0] = 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_half, "maps is stored in part: 1 of 3 chunks"),
        (_instead("maps", np.zeros((3, 4, 4))), r"maps has shape \(3, 4, 4\)"),
        (_instead("maps", 1.0), "maps holds a single value"),
        (_instead("maps", np.zeros((3, 1, 1, 1), "c8")), "maps is of type complex64"),
        (_instead("maps", h5py.SoftLink("/x")), "maps is a link to /x"),
        (lambda file: file.pop("maps"), "has no dataset maps"),
        (_instead("subhalo_id", np.arange(2)), "subhalo_id has 2 rows, maps has 3"),
        (_instead("subhalo_id", h5py.Empty("i8")), "subhalo_id holds no value"),
        (lambda file: file.create_group("x"), "x is a group; a dataset is needed"),
        (_instead("failures", 1), "failures is a dataset; a group is needed"),
    ],
)
def test_a_file_that_is_no_shard_says_why(tmp_path, change, words):
    """Maps from elsewhere: a half-written file gave maps of zeros, others tracebacks."""
    path = tmp_path / "a.hdf5"
    write_shard(Workspace(tmp_path), path, _shard(3))
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises((DataFormatError, DataMissingError), match=rf"a\.hdf5.*{words}"):
        read_shard(path)


def test_a_shard_that_is_not_there(tmp_path):
    with pytest.raises(DataMissingError, match="is not there"):
        read_shard(tmp_path / "a.hdf5")
