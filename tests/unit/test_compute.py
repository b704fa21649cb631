"""Workers: results, progress, messages, deaths; and how much of a machine is ours."""

import ast
import mmap
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sfr.compute.dask import differences
from sfr.compute.machine import anonymous_memory, free_memory, usable_cores
from sfr.compute.processes import Processes
from sfr.compute.tasks import Serial, run_all
from sfr.errors import ConfigError, DataMissingError, WorkerLostError
from sfr.pipeline.identity import identity
from sfr.pipeline.workers import open_workers

#: Functions that spawned processes import by name.
WORK = """
import logging, os, signal, time
from pathlib import Path
from sfr.errors import DataMissingError

def square(job, task, on_done):
    on_done(1)
    logging.getLogger("sfr.test").warning("task %d", task)
    return job * task**2

def die(job, task, on_done):
    if task == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return task

def die_once(job, task, on_done):
    marker = Path(job) / f"{task}"
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGBUS)
    return task

def fail(job, task, on_done):
    if task == 1:
        raise DataMissingError("no file")
    raise ZeroDivisionError("a bug")

def sleep(job, task, on_done):
    (Path(job) / f"{os.getpid()}").touch()
    time.sleep(60)

def fail_or_sleep(job, task, on_done):
    if task == 0:
        raise ZeroDivisionError
    time.sleep(60)

def whoami(job, task, on_done):
    return os.getpid(), id(job)
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    (tmp_path / "work_of_test.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    import work_of_test

    yield work_of_test
    sys.modules.pop("work_of_test")


@pytest.fixture
def two():
    with Processes(2, 1) as workers:
        yield workers
    assert not multiprocessing.active_children()


def ignore(task, done):
    pass


def test_results_progress_and_messages_come_back(work, two, caplog):
    heard = []
    found = dict(two.do_tasks(work.square, 10, range(5), lambda *args: heard.append(args)))
    assert found == {i: 10 * i * i for i in range(5)}
    assert sorted(heard) == [(i, 1) for i in range(5)]
    assert sorted(r.getMessage() for r in caplog.records) == [f"task {i}" for i in range(5)]
    assert {r.name for r in caplog.records} == {"sfr.test"}


def test_serial_does_the_same(work, caplog):
    found = dict(Serial().do_tasks(work.square, 10, range(5), ignore))
    assert found == {i: 10 * i * i for i in range(5)}
    errors = dict(Serial().do_tasks(work.fail, None, [1], ignore))
    assert isinstance(errors[1], DataMissingError)


def test_processes_stay_and_keep_the_job(work, two):
    job = {"a": 1}
    found = {who for _, who in two.do_tasks(work.whoami, job, range(6), ignore)}
    assert 1 <= len(found) <= 2
    assert os.getpid() not in {pid for pid, _ in found}
    assert found | {who for _, who in two.do_tasks(work.whoami, job, range(6), ignore)} == found


def test_a_killed_worker_costs_its_task_only_and_is_named(work, two):
    found = dict(run_all(two, work.die, None, range(6), ignore))
    assert isinstance(found.pop(2), WorkerLostError)
    assert found == {i: i for i in (0, 1, 3, 4, 5)}
    (lost,) = (r for _, r in two.do_tasks(work.die, None, [2], ignore))
    assert "SIGKILL" in str(lost)
    assert "memory" in str(lost)


def test_a_task_whose_worker_died_is_done_once_more(work, two, tmp_path):
    found = dict(run_all(two, work.die_once, str(tmp_path), range(4), ignore))
    assert found == {i: i for i in range(4)}


def test_errors_keep_their_class_and_bugs_say_where(work, two):
    found = dict(two.do_tasks(work.fail, None, [1, 2], ignore))
    assert isinstance(found[1], DataMissingError)
    assert isinstance(found[2], ZeroDivisionError)
    assert "work_of_test.py" in found[2].__notes__[0]
    with pytest.raises(DataMissingError, match="no file"):
        list(run_all(two, work.fail, None, [1, 1, 1], ignore))


def test_who_stops_listening_stops_the_work(work, two):
    start = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        list(run_all(two, work.fail_or_sleep, None, range(3), ignore))
    assert len(multiprocessing.active_children()) == 1
    assert time.monotonic() - start < 30


def test_workers_end_when_their_parent_is_killed(work, tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import work_of_test as w;"
        "from sfr.compute.processes import Processes\n"
        "if __name__ == '__main__':\n"
        "    list(Processes(2, 1).do_tasks(w.sleep, sys.argv[1], range(2), print))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, script, tmp_path])
    deadline = time.monotonic() + 60
    while len(pids := [int(p.name) for p in tmp_path.iterdir() if p.name.isdecimal()]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    while [pid for pid in pids if is_running(pid)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def fake_root(tmp_path, files):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "environ", "expected"),
    [
        ({}, {}, None),
        ({}, {"SLURM_CPUS_PER_TASK": "1"}, 1),
        ({}, {"SLURM_CPUS_PER_TASK": "rubbish"}, None),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
                "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
            },
            {},
            1,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/m\n3:cpu,cpuacct:/j\n0::/\n",
                "sys/fs/cgroup/cpu/j/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu/j/cpu.cfs_period_us": "100000\n",
            },
            {},
            1,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu:/j\n",
                "sys/fs/cgroup/cpu/j/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/j/cpu.cfs_period_us": "100000\n",
            },
            {},
            None,
        ),
    ],
)
def test_cores_are_those_of_affinity_slurm_and_control_groups(tmp_path, files, environ, expected):
    everything = min(os.cpu_count(), len(os.sched_getaffinity(0)))
    root = fake_root(tmp_path, files)
    assert usable_cores(environ, root) == (everything if expected is None else expected)


def test_memory_is_the_smallest_limit(tmp_path):
    assert free_memory({}, tmp_path / "nothing") is None
    root = fake_root(
        tmp_path,
        {
            "proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 8000000 kB\n",
            "proc/self/cgroup": "5:memory:/j\n0::/k\n",
            "sys/fs/cgroup/memory/j/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/k/memory.max": "5000000000\n",
        },
    )
    assert free_memory({}, root) == 5_000_000_000
    slurm = {"SLURM_MEM_PER_CPU": "1000", "SLURM_CPUS_PER_TASK": "2"}
    assert free_memory(slurm, root) == 2000 * 2**20
    assert free_memory({"SLURM_MEM_PER_NODE": "100"}, root) == 100 * 2**20


def test_cores_are_shared_out_and_never_more_than_there_are(monkeypatch, caplog):
    monkeypatch.delenv("RAYON_NUM_THREADS", raising=False)
    monkeypatch.setattr("sfr.compute.processes.usable_cores", lambda **_: 8)
    monkeypatch.setattr("sfr.compute.processes.free_memory", lambda: 100 * 2**30)
    assert Processes().count == 8
    assert [Processes().threads(n) for n in (1, 2, 3, 8, 99)] == [None, 4, 2, 1, 1]
    assert Processes(threads=4).count == 2
    assert Processes(4).threads(99) == 2
    assert Processes(4, 1).threads(99) == 1
    monkeypatch.setattr("sfr.compute.processes.free_memory", lambda: 3 * 2**30)
    assert Processes().count == 3
    monkeypatch.setenv("RAYON_NUM_THREADS", "4")
    assert (Processes().count, Processes().threads(9)) == (2, 4)
    assert not caplog.records
    Processes(4, 4)
    assert "4 workers of 4 threads share 8 cores" in caplog.text


def test_anonymous_memory_grows_with_what_is_held():
    before = anonymous_memory([os.getpid()])
    # pages of its own: the heap may have room from earlier tests
    with mmap.mmap(-1, 50_000_000, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        held.write(b"x" * len(held))
        assert anonymous_memory([os.getpid(), 2**22 + 1]) - before > 40_000_000


def test_workers_and_a_scheduler_exclude_each_other():
    with pytest.raises(ConfigError, match="--workers"):
        open_workers(workers=2, scheduler="tcp://127.0.0.1:1")


def test_a_scheduler_without_dask_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"tng-sfr\[cluster\]"):
        open_workers(scheduler="tcp://127.0.0.1:1")


@pytest.mark.parametrize("address", ["nowhere", "tcp://node1", "ftp://node1:1", ""])
def test_an_address_that_is_none_is_refused_before_a_client_hangs(monkeypatch, address):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(distributed, "Client", lambda *_, **__: pytest.fail("made a client"))
    with pytest.raises(ConfigError, match=r"no Dask scheduler .*such as tcp://node1:8786"):
        open_workers(scheduler=address)


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr("sfr.compute.dask._PATIENCE_S", 0.5)
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:9.* no Dask scheduler"):
        open_workers(scheduler="tcp://127.0.0.1:9")


def test_what_makes_the_numbers_is_the_same_in_every_process_and_for_any_threads():
    packages = ["keras", "no-such-package"]
    mine = identity(packages)
    assert mine["no-such-package"] == "not installed"
    assert {"sfr", "kernels", "numpy", "h5py", "pillow", "keras"} < mine.keys()
    code = (
        "from sfr.pipeline.identity import identity;print(identity(['keras', 'no-such-package']))"
    )
    environ = {**os.environ, "RAYON_NUM_THREADS": "3"}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
    assert differences(ast.literal_eval(found.stdout), mine) == ""
    assert differences({**mine, "numpy": "1.0"}, mine) == f"numpy 1.0 (here {mine['numpy']})"
    assert differences({}, {"sfr": "2"}) == "sfr not known (here 2)"
