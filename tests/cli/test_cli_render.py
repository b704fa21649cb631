"""sfr render on several processes, in parts, beside others, and after what goes wrong."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest

from sfr.compute.tasks import Serial
from sfr.errors import WorkerLostError
from sfr.imaging.png import save_png
from sfr.recipe import load_recipe
from sfr.render.snapshot import render_snapshot
from sfr.run.shards import read_shard
from sfr.run.workspace import Workspace
from sfr.sample.select import select
from sfr.simulation import open_simulation
from sfr.simulation.mock import write_mock

N = 70
SFR = (sys.executable, "-c", "from sfr.cli import main; main()")


@pytest.fixture(scope="module")
def sim(tmp_path_factory):
    """A mock of 70 galaxies: three or four shards."""
    folder = tmp_path_factory.mktemp("many") / "sim"
    return write_mock(folder, galaxies=N, snaps=[99], cells=300).path


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """The thesis with small maps."""
    path = tmp_path_factory.mktemp("recipe") / "r.toml"
    path.write_text('extends = "thesis"\n[maps]\npixels = 32\n')
    return path


@pytest.fixture(scope="module")
def whole(sim, recipe, tmp_path_factory):
    """Files of a run that nothing disturbed."""
    work = tmp_path_factory.mktemp("whole") / "work"
    command = [*SFR, "render", "--sim", sim, "--snap", "99", "--work", work]
    subprocess.run([*command, "--recipe", recipe, "--workers", "1"], check=True)
    return contents(work)


def contents(work):
    """Every file but the log, the locks and scratch; that also tells of files too many."""
    files = {path.relative_to(work): path for path in sorted(Path(work).rglob("*"))}
    return {
        str(name): path.read_bytes()
        for name, path in files.items()
        if path.is_file() and name.parts[0] not in {"run.jsonl", ".tmp"} and path.suffix != ".lock"
    }


def log_of(work, step):
    lines = map(json.loads, (Path(work) / "run.jsonl").read_text().splitlines())
    return [line for line in lines if line["step"] == step]


def start(sim, recipe, work, *options):
    command = [*SFR, "render", "--sim", sim, "--snap", "99", "--work", work, "--recipe", recipe]
    return subprocess.Popen(
        [*map(str, command), *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_workers_write_the_bytes_of_one(sfr, sim, recipe, whole, tmp_path):
    result = sfr("render", "--sim", sim, "--snap", 99, "--recipe", recipe, "--workers", 2, "--json")
    assert result.exit_code == 0, result.stderr
    assert contents(tmp_path / "sfr-work") == whole
    assert not list((tmp_path / "sfr-work/.tmp").glob("*/*"))
    row = json.loads(result.stdout)["snapshots"][0]
    assert row["rendered"] == N
    assert row["shards made"] == row["shards"] >= 3
    assert log_of(tmp_path / "sfr-work", "maps-099")[0]["workers"] == 2
    assert log_of(tmp_path / "sfr-work", "maps-099")[0]["peak_anonymous_bytes"] > 0


def test_two_commands_share_a_folder_and_make_each_shard_once(sim, recipe, whole, tmp_path):
    commands = [start(sim, recipe, tmp_path / "w", "--workers", 1) for _ in range(2)]
    for command in commands:
        _, stderr = command.communicate()
        assert command.returncode == 0, stderr
    assert contents(tmp_path / "w") == whole
    made = [line["counts"]["shards made"] for line in log_of(tmp_path / "w", "maps-099")]
    assert sum(made) == log_of(tmp_path / "w", "maps-099")[0]["counts"]["shards"]


def test_parts_then_the_whole_command_make_the_same_files(sfr, sim, recipe, whole, tmp_path):
    common = ("render", "--sim", sim, "--snap", 99, "--recipe", recipe, "--workers", 1)
    for part in ("2/2", "1/2"):
        result = sfr(*common, "--shard", part, "--json")
        assert result.exit_code == 0, result.stderr
        assert "without --shard" in result.stderr
        assert not (tmp_path / "sfr-work/images").exists()
    assert "not yet" not in result.stderr
    last = sfr(*common)
    assert "already there" in last.stderr
    assert contents(tmp_path / "sfr-work") == whole


def test_more_parts_than_shards_leave_some_without_work(sfr, sim, recipe, tmp_path):
    made = []
    for i in range(1, 10):
        result = sfr(
            "render", "--sim", sim, "--recipe", recipe, "--snap", 99, "--shard", f"{i}/9", "--json"
        )
        assert result.exit_code == 0, result.stderr
        made.append(json.loads(result.stdout)["snapshots"][0]["shards made"])
        assert f"part {i} of 9 has {made[-1]} of " in result.stderr
        assert "too few for 9 parts" in result.stderr
    assert set(made) == {0, 1}
    assert sum(made) == len(list((tmp_path / "sfr-work/maps/snap_099").glob("part-*")))


@pytest.mark.parametrize("value", ["0/4", "5/4", "4", "a/b", "1/0", "-1/2"])
def test_a_part_that_does_not_exist_is_a_usage_error(sfr, sim, value):
    result = sfr("render", "--sim", sim, "--shard", value)
    assert result.exit_code == 2
    assert "--shard" in result.stderr


def test_options_that_exclude_each_other(sfr, sim):
    assert sfr("render", "--sim", sim, "--shard", "1/2", "--force").exit_code == 2
    result = sfr("render", "--sim", sim, "--snap", 99, "--workers", 2, "--scheduler", "tcp://a:1")
    assert result.exit_code == 2
    assert "--scheduler" in result.stderr


def test_a_dry_run_counts_and_writes_nothing(sfr, sim, recipe, tmp_path):
    common = ("render", "--sim", sim, "--snap", 99, "--recipe", recipe)
    before = sfr(*common, "--dry-run", "--json")
    assert before.exit_code == 0, before.stderr
    assert not (tmp_path / "sfr-work").exists()
    plan = json.loads(before.stdout)
    row = plan["snapshots"][0]
    assert row["galaxies"] == N
    assert plan["shards_to_make"] == row["shards"] >= 3
    # coordinates f64 3, then mass, density, energy, electron abundance, SFR, velocities in f32
    assert row["bytes to read"] > 40 * row["gas cells"] * row["groups"] / N
    assert sfr(*common, "--shard", "1/2").exit_code == 0
    left = contents(tmp_path / "sfr-work")
    after = json.loads(sfr(*common, "--dry-run", "--json").stdout)
    assert 0 < after["shards_to_make"] < plan["shards_to_make"]
    assert 0 < after["bytes_to_read"] < plan["bytes_to_read"]
    assert contents(tmp_path / "sfr-work") == left
    text = sfr(*common, "--dry-run").stdout
    assert "nothing was written" in text
    assert "B to read" in text


def test_other_settings_and_force_are_refused_while_another_process_renders(
    sfr, sim, recipe, whole, tmp_path
):
    common = ("render", "--sim", sim, "--snap", 99, "--workers", 1)
    assert sfr(*common, "--recipe", recipe, "--shard", "1/2").exit_code == 0
    workspace = Workspace(tmp_path / "sfr-work")
    shard = read_shard(workspace.shards(99)[0], with_maps=False)
    before = contents(workspace.root)
    with workspace.sharing("maps-099", str(shard.attributes["fingerprint"]), alone=False):
        other = sfr(*common, "--recipe", "thesis")
        assert other.exit_code == 2
        assert "other settings" in other.stderr
        forced = sfr(*common, "--recipe", recipe, "--force")
        assert forced.exit_code == 2
        assert "--force" in forced.stderr
        assert {k: v for k, v in contents(workspace.root).items() if k in before} == before
        same = start(sim, recipe, workspace.root)
        same.communicate()
        assert same.returncode == 0
    assert sfr(*common, "--recipe", recipe, "--force").exit_code == 0
    assert contents(workspace.root) == whole


def test_who_waits_for_a_shard_finds_it_made_or_makes_it(sim, recipe, whole, tmp_path):
    workspace = Workspace(tmp_path / "w")
    fingerprint = json.loads(whole[".state/maps-099.json"])["fingerprint"]
    with (
        workspace.sharing("maps-099", fingerprint, alone=False),
        workspace.claim("maps-099-part-00001", wait=False) as is_ours,
    ):
        assert is_ours
        # which the other process keeps before it begins
        (workspace.root / ".state/maps-099.sources").write_bytes(whole[".state/maps-099.sources"])
        command = start(sim, recipe, workspace.root, "--workers", 1)
        assert "waiting for another sfr process that makes 1 of" in read_until(command, "waiting")
        assert len(workspace.shards(99)) == len(maps_of(whole)) - 1
    command.communicate()
    assert command.returncode == 0
    assert contents(workspace.root) == whole


def read_until(command, word):
    for line in command.stderr:
        if word in line:
            return line
    return ""


def maps_of(files):
    return [name for name in files if name.endswith(".hdf5")]


def test_a_killed_worker_is_replaced_and_nothing_is_lost(sim, recipe, whole, tmp_path):
    command = start(sim, recipe, tmp_path / "w", "--workers", 2)
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children")
    deadline = time.monotonic() + 60
    while not (pids := children.read_text().split()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(int(pids[-1]), signal.SIGKILL)
    _, stderr = command.communicate()
    assert command.returncode == 0, stderr
    assert contents(tmp_path / "w") == whole


def is_held(work, prefix):
    """Whether a process holds a lock of such parts (looked up, because trying it disturbs)."""
    try:
        inodes = [p.stat().st_ino for p in Path(work).glob(f".state/{prefix}*.lock")]
    except FileNotFoundError:
        return False
    locks = Path("/proc/locks").read_text()
    return any(f":{inode} " in locks for inode in inodes)


def orphans_in(command, work, prefix):
    """Halt the workers of a command while one holds such a part, and kill the command."""
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children")
    deadline = time.monotonic() + 60
    pids = []
    while not (pids and is_held(work, prefix)):
        # halted between two parts they hold none
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        while not is_held(work, prefix):
            assert time.monotonic() < deadline
        pids = list(map(int, children.read_text().split()))
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    command.kill()
    command.wait()
    # the workers hold the other ends
    command.stdout.close()
    command.stderr.close()
    return pids


@pytest.mark.parametrize("prefix", ["maps-099-part", "images-099-part"])
def test_a_worker_that_outlives_its_command_is_waited_for(sim, recipe, whole, prefix, tmp_path):
    pids = orphans_in(start(sim, recipe, tmp_path / "w", "--workers", 2), tmp_path / "w", prefix)
    command = start(sim, recipe, tmp_path / "w", "--workers", 2)
    waited = read_until(command, "waiting for a worker of a command that was stopped")
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    command.communicate()
    assert waited
    assert command.returncode == 0
    assert contents(tmp_path / "w") == whole


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_bytes(sim, recipe, whole, tmp_path):
    rng = random.Random(2)
    for cycle in range(20):
        command = start(sim, recipe, tmp_path / "w", "--workers", 1 + cycle % 2)
        time.sleep(rng.uniform(0.2, 2.0))
        command.kill()
        command.communicate()
    command = start(sim, recipe, tmp_path / "w", "--workers", 2)
    _, stderr = command.communicate()
    assert command.returncode == 0, stderr
    assert contents(tmp_path / "w") == whole


class Unlucky(Serial):
    """Workers that die on one shard whenever they get it."""

    def do_tasks(self, work, job, tasks, on_done):
        for task, result in super().do_tasks(work, job, tasks, on_done):
            unlucky = task.part == 1
            if unlucky:
                job.path(1).unlink()
            yield task, WorkerLostError("killed by SIGKILL") if unlucky else result


def test_a_shard_that_kills_its_worker_twice_consists_of_failures_and_is_tried_again(
    sim, recipe, whole, tmp_path
):
    workspace, simulation, settings = Workspace(tmp_path), open_simulation(sim), load_recipe(recipe)
    sample = select(simulation, workspace, settings, [99]).sample
    first = render_snapshot(simulation, workspace, settings, sample, 99, workers=Unlucky())
    assert 0 < first.n_failed < N
    assert first.is_complete
    assert {reason for _, reason in first.failures} == {"killed by SIGKILL"}
    assert "worker" in workspace.failures_csv(99).read_text()
    again = render_snapshot(simulation, workspace, settings, sample, 99)
    assert (again.n_rendered, again.n_failed, again.n_shards_made) == (N, 0, 1)
    files = contents(tmp_path)
    assert {name: files[name] for name in maps_of(whole)} == {n: whole[n] for n in maps_of(whole)}


def test_strict_stops_all_workers_at_the_first_galaxy(sfr, sim, recipe, tmp_path):
    broken = tmp_path / "broken"
    write_mock(broken, galaxies=N, snaps=[99], cells=300, broken=True)
    common = ("render", "--sim", broken, "--recipe", recipe, "--snap", 99, "--workers", 2)
    strict = sfr(*common, "--strict", "--work", "strict")
    assert strict.exit_code == 3
    assert "snapshot 99 subhalo" in strict.stderr.splitlines()[-1]
    assert not (tmp_path / "strict/maps/snap_099/failures.csv").exists()
    lenient = sfr(*common, "--json")
    assert lenient.exit_code == 4
    failures = json.loads(lenient.stdout)["failures"]
    assert len(failures) == 4
    assert all(f"subhalo {f['subhalo_id']}: " in lenient.stderr for f in failures)
    listed = log_of(tmp_path / "sfr-work", "maps-099")[0]["failures"]
    assert [f["subhalo_id"] for f in listed] == [f["subhalo_id"] for f in failures]


def test_galaxies_of_a_fetched_chunk_get_images_and_enter_the_normalisation(
    sfr, sim, recipe, whole, tmp_path
):
    from shutil import copytree

    copy = tmp_path / "copy"
    copytree(sim, copy)
    chunk = copy / "output/snapdir_099/snap_099.1.hdf5"
    aside = tmp_path / "aside.hdf5"
    chunk.rename(aside)
    common = ("render", "--sim", copy, "--recipe", recipe, "--snap", 99, "--workers", 1)
    refused = sfr(*common, "--allow-partial")
    assert refused.exit_code == 3
    assert f"of {N} galaxies of snapshot 99" in refused.stderr
    partial = contents(tmp_path / "sfr-work")
    assert len(partial) < len(whole)
    assert not (tmp_path / "sfr-work/images").exists()
    asked = sfr(*common, "--allow-partial", "--reference-share", 0.01, "--work", "asked")
    assert asked.exit_code == 4
    assert "warning: the scale of the images is set by" in asked.stderr
    counts = json.loads((tmp_path / "asked/normalisation.json").read_text())["galaxies"]
    assert counts["set_the_scale"] + counts["not_read"] == counts["in_the_sample"] == N
    assert len(list((tmp_path / "asked/images").iterdir())) == counts["set_the_scale"]
    aside.rename(chunk)
    assert sfr(*common).exit_code == 0
    assert contents(tmp_path / "sfr-work") == whole


def test_interrupted_images_go_on_where_they_were(sfr, sim, recipe, whole, monkeypatch, tmp_path):
    written = []

    def interrupt(file, image):
        if len(written) == N // 2:
            raise KeyboardInterrupt
        written.append(file.name)
        save_png(file, image)

    common = ("render", "--sim", sim, "--recipe", recipe, "--snap", 99, "--workers", 1)
    monkeypatch.setattr("sfr.imaging.images.save_png", interrupt)
    assert sfr(*common).exit_code == 130
    monkeypatch.setattr("sfr.imaging.images.save_png", lambda *a: written.append(save_png(*a)))
    assert sfr(*common).exit_code == 0
    assert N < len(written) < N + 33
    assert contents(tmp_path / "sfr-work") == whole


def test_not_enough_memory_costs_the_galaxy_and_is_tried_again(
    sfr, sim, recipe, whole, monkeypatch, tmp_path
):
    from sfr.render.shard import render_galaxy

    calls = []

    def large(*args, **options):
        calls.append(args)
        if len(calls) == 3:
            raise MemoryError
        return render_galaxy(*args, **options)

    common = ("render", "--sim", sim, "--recipe", recipe, "--snap", 99, "--workers", 1, "--json")
    monkeypatch.setattr("sfr.render.shard.render_galaxy", large)
    result = sfr(*common)
    assert result.exit_code == 4
    assert "not enough memory" in json.loads(result.stdout)["failures"][0]["reason"]
    assert sfr(*common).exit_code == 0
    assert contents(tmp_path / "sfr-work") == whole


def test_a_full_disk_leaves_whole_shards_only(sfr, sim, recipe, whole, monkeypatch, tmp_path):
    real, count = os.fsync, []

    def full(descriptor):
        count.append(descriptor)
        if len(count) > 12:
            raise OSError(28, "No space left on device")
        real(descriptor)

    common = ("render", "--sim", sim, "--recipe", recipe, "--snap", 99, "--workers", 1)
    monkeypatch.setattr(os, "fsync", full)
    result = sfr(*common)
    assert result.exit_code == 3
    assert "no space left" in result.stderr
    monkeypatch.undo()
    left = contents(tmp_path / "sfr-work")
    assert maps_of(left)
    assert {name: left[name] for name in maps_of(left)} == {n: whole[n] for n in maps_of(left)}


def test_a_dask_cluster_writes_the_same_files(scheduler, sim, recipe, whole, tmp_path):
    command = start(sim, recipe, tmp_path / "w", "--scheduler", scheduler, "--json")
    stdout, stderr = command.communicate()
    assert command.returncode == 0, stderr
    assert json.loads(stdout)["snapshots"][0]["rendered"] == N
    assert contents(tmp_path / "w") == whole
    assert log_of(tmp_path / "w", "maps-099")[0]["workers"] == 2


def test_failures_on_a_dask_cluster_are_told(scheduler, recipe, tmp_path):
    broken = tmp_path / "broken"
    write_mock(broken, galaxies=3, snaps=[99], cells=300, broken=True)
    command = start(broken, recipe, tmp_path / "w", "--scheduler", scheduler, "--json")
    stdout, stderr = command.communicate()
    assert command.returncode == 4, stderr
    failures = json.loads(stdout)["failures"]
    assert len(failures) == 4
    assert all(f["reason"] in stderr for f in failures if "no gas" in f["reason"])


def test_a_shard_holds_the_maximum_of_each_map(whole, tmp_path):
    name = maps_of(whole)[0]
    (tmp_path / "part.hdf5").write_bytes(whole[name])
    with h5py.File(tmp_path / "part.hdf5") as file:
        assert (file["channel_maximum"][()] == file["maps"][()].max(axis=(2, 3))).all()
