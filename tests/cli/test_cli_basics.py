"""Help, version, options, and what is imported when."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from sfr.cli.options import parse_snapshots
from sfr.errors import ConfigError

COMMANDS = (
    "demo",
    "mock",
    "doctor",
    "select",
    "split",
    "render",
    "train",
    "predict",
    "report",
    "run",
    "show",
    "map",
    "cite",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(sfr, command):
    result = sfr(command, "--help")
    assert result.exit_code == 0
    assert f"sfr {command}" in result.stdout
    assert "Examples" in result.stdout


def test_version_and_bare_call(sfr):
    assert sfr("--version").stdout.startswith("sfr 0.")
    assert "demo" in sfr("--help").stdout
    assert sfr("nonsense").exit_code == 2


def test_the_command_line_imports_nothing_heavy():
    code = (
        "import sys, sfr.cli; heavy = {'keras', 'tensorflow', 'matplotlib', 'h5py', 'numpy', "
        "'scipy', 'PIL', 'jinja2'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_steps_before_training_never_import_keras(mock_sim, tmp_path):
    code = (
        "import sys; from typer.testing import CliRunner; from sfr.cli import app;"
        f"r = CliRunner().invoke(app, ['render', '--sim', {str(mock_sim)!r}, '--snap', '99',"
        f" '--work', {str(tmp_path / 'w')!r}]); assert r.exit_code == 0, r.output;"
        "heavy = {'keras', 'tensorflow', 'matplotlib'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["99"], [99]),
        (["98,99"], [98, 99]),
        (["97-99"], [97, 98, 99]),
        (["99", "97-98", "98"], [97, 98, 99]),
        (["1, 3"], [1, 3]),
        (None, []),
    ],
)
def test_snapshots_are_read_as_lists_ranges_and_repeats(given, expected):
    assert parse_snapshots(given) == expected


@pytest.mark.parametrize("given", ["x", "99-97", "-1", "1.5", "", "9999", "1-2-3"])
def test_what_is_not_a_snapshot_is_a_usage_error(given):
    with pytest.raises(ConfigError, match="--snap"):
        parse_snapshots([given])


def test_recipes_are_listed_and_shown(sfr, tmp_path):
    listed = json.loads(sfr("recipe", "list", "--json").stdout)
    assert [r["recipe"] for r in listed["recipes"]] == ["thesis", "corrected", "demo"]
    shown = sfr("recipe", "show", "thesis").stdout
    path = tmp_path / "copy.toml"
    path.write_text(shown)
    assert sfr("recipe", "show", path).stdout == shown
    result = sfr("recipe", "show", "thesiss")
    assert result.exit_code == 2
    assert "did you mean 'thesis'" in result.stderr


def test_doctor_without_a_simulation(sfr):
    result = sfr("doctor", "--json")
    checks = {row["check"]: row for row in json.loads(result.stdout)["checks"]}
    assert result.exit_code == 0
    assert checks["kernels"]["state"] == "ok"
    assert "sfr demo" in checks["simulation"]["detail"]


def test_doctor_names_what_is_missing_and_what_to_fetch(sfr, mock_sim, tmp_path):
    assert sfr("doctor", "--sim", mock_sim).exit_code == 0
    copy = tmp_path / "sim"
    shutil.copytree(mock_sim, copy)
    (copy / "output/snapdir_099/snap_099.1.hdf5").unlink()
    (copy / "postprocessing/offsets/offsets_098.hdf5").unlink()
    result = sfr("doctor", "--sim", copy, "--json")
    assert result.exit_code == 3
    checks = {row["check"]: row for row in json.loads(result.stdout)["checks"]}
    assert checks["99 snapshot"]["state"] == "missing"
    assert "snapshot-99.1.hdf5" in checks["99 snapshot"]["detail"]
    assert checks["98 offsets"]["state"] == "missing"
    assert checks["99 offsets"]["state"] == "ok"
    assert sfr("doctor", "--sim", copy, "--snap", "98", "--json").exit_code == 3


DOCTOR = """
import ctypes, os, sys
if os.geteuid() == 0:
    # root without its privileges, so that permissions hold
    version = ctypes.byref((ctypes.c_uint32 * 2)(0x20080522, 0))
    ctypes.CDLL(None).capset(version, ctypes.byref((ctypes.c_uint32 * 6)()))
sys.argv = ["sfr", "doctor", "--json", *sys.argv[1:]]
from sfr.cli import main
main()
"""


def examined(*arguments):
    """Return the checks of a doctor who may not read everything, by name."""
    done = subprocess.run(
        [sys.executable, "-c", DOCTOR, *map(str, arguments)],
        # a backend takes seconds to load
        env=os.environ | {"KERAS_BACKEND": "none"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    return {row["check"]: row for row in json.loads(done.stdout)["checks"]}


@pytest.fixture
def forbidden(mock_sim, tmp_path):
    """Copy the simulation; return it with a function that forbids to read a part."""
    copy = Path(shutil.copytree(mock_sim, tmp_path / "sim"))
    closed = []

    def forbid(name):
        closed.append(copy / name)
        closed[-1].chmod(0)

    yield copy, forbid
    for path in closed:
        path.chmod(0o755)


@pytest.mark.parametrize(
    ("name", "checks"),
    [
        ("output/groups_099", ["99 group catalogue", "simulation"]),
        ("output/snapdir_098", ["98 snapshot"]),
        ("output/snapdir_098/snap_098.0.hdf5", ["98 snapshot"]),
        ("postprocessing", ["98 offsets", "99 offsets", "98 trees", "99 trees"]),
        ("output", ["simulation"]),
        ("", ["simulation"]),
    ],
)
def test_doctor_shows_every_check_where_a_part_may_not_be_read(forbidden, name, checks):
    """A folder without permission ended the command without a table."""
    sim, forbid = forbidden
    forbid(name)
    rows = examined("--sim", sim)
    assert {c for c, row in rows.items() if row["state"] == "unreadable"} == set(checks)
    for check in checks:
        assert "there is no permission to read it" in rows[check]["detail"]
        assert "download" not in rows[check]["detail"]
    assert rows["kernels"]["state"] == "ok"
    if name == "output/groups_099":
        assert rows["99 snapshot"]["detail"] == rows["98 snapshot"]["detail"]


def test_doctor_shows_every_check_where_the_folder_of_the_run_may_not_be_read(forbidden):
    sim, forbid = forbidden
    forbid("output")
    rows = examined("--work", sim / "output")
    assert rows["recipe"]["state"] == "unreadable"
    assert rows["disk"]["state"] == "read only"
    rows = examined("--work", sim / "output/run", "--sim", sim)
    assert rows["disk"]["state"] == rows["simulation"]["state"] == "unreadable"


@pytest.mark.parametrize(
    ("free", "state", "code"),
    [(0, "full", 3), (40_000_000, "full", 3), (500_000_000, "low", 0), (10**12, "ok", 0)],
)
def test_doctor_does_not_call_a_full_disk_ok(sfr, tmp_path, monkeypatch, free, state, code):
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    result = sfr("doctor", "--work", tmp_path, "--json")
    rows = {row["check"]: row for row in json.loads(result.stdout)["checks"]}
    assert (rows["disk"]["state"], result.exit_code) == (state, code)
    assert rows["disk"]["detail"].startswith(("0 B", "40 MB", "500 MB", "1 TB"))


def test_doctor_goes_on_after_a_recipe_or_a_backend_that_cannot_be_used(sfr, tmp_path, monkeypatch):
    from sfr.nn import diagnose

    def broken():
        raise RuntimeError("no device")

    monkeypatch.setattr(diagnose, "describe_backend", broken)
    (tmp_path / "recipe.toml").write_text("name = [")
    result = sfr("doctor", "--work", tmp_path, "--json")
    assert result.exit_code == 3
    rows = {row["check"]: row for row in json.loads(result.stdout)["checks"]}
    assert (rows["recipe"]["state"], rows["network backend"]["state"]) == ("unreadable", "failed")
    assert rows["network backend"]["detail"] == "RuntimeError: no device"
    assert rows["disk"]["state"] == "ok"
    result = sfr("doctor", "--work", tmp_path / "recipe.toml" / "run", "--json")
    rows = {row["check"]: row for row in json.loads(result.stdout)["checks"]}
    assert "is a file" in rows["disk"]["detail"]


def test_doctor_describes_a_single_file(sfr, mock_sim):
    path = mock_sim / "output/snapdir_099/snap_099.0.hdf5"
    result = sfr("doctor", "--sim", path, "--json")
    assert result.exit_code == 0
    checks = {row["check"]: row for row in json.loads(result.stdout)["checks"]}
    assert "Coordinates" in checks["PartType0"]["detail"]


def test_doctor_says_what_is_half_written(sfr, mock_sim, tmp_path):
    copy = Path(shutil.copytree(mock_sim, tmp_path / "copy"))
    path = copy / "output/snapdir_099/snap_099.1.hdf5"
    with h5py.File(path, "r+") as file:
        shape = file["PartType0/Masses"].shape
        del file["PartType0/Masses"]
        file.create_dataset("PartType0/Masses", shape, "f4")
    for where, check in ((copy, "99 snapshot"), (path, "datasets")):
        result = sfr("doctor", "--sim", where, "--json")
        assert result.exit_code == 3
        rows = {row["check"]: row for row in json.loads(result.stdout)["checks"]}
        assert rows[check]["state"] == "unreadable"
        assert "PartType0/Masses was never written" in rows[check]["detail"]
