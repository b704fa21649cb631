"""Workers of a Dask cluster: who may work, who joins, who leaves, and what is said of it."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import sfr
from sfr.errors import ConfigError, DataMissingError

pytest.importorskip("distributed")

SCHEDULER = """
import asyncio
from distributed import Scheduler

async def main():
    async with Scheduler(host="127.0.0.1", port=0, dashboard_address=":0") as scheduler:
        print(scheduler.address, flush=True)
        await scheduler.finished()

asyncio.run(main())
"""
WORKER = """
import asyncio, os, sys
{before}
from distributed import Worker

async def main():
    async with Worker(sys.argv[1], nthreads=1, dashboard_address=":0") as worker:
        print(worker.address, flush=True)
        await worker.finished()

asyncio.run(main())
"""
WORK = """
import os, time
from pathlib import Path

def whoami(job, task, on_done):
    return os.getpid()

def wait_for(job, task, on_done):
    (Path(job) / f"began-{task}").touch()
    while not (Path(job) / "go").exists():
        time.sleep(0.02)
    return os.getpid()
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start Python code as a process; return it with the address that it prints."""
    (tmp_path / "work_of_dask_test.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    root = Path(sfr.__path__[0]).parent
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tmp_path, root)))}
    started = []

    def start(code, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environ,
        )
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in reversed(started):
        process.kill()
        process.communicate()
    sys.modules.pop("work_of_dask_test", None)


@pytest.fixture
def cluster(start):
    """Address of a scheduler, and what starts a worker, after some code of its own."""
    _, address = start(SCHEDULER)
    return address, lambda before="": start(WORKER.format(before=before), address)


NO_SFR = "sys.modules['sfr'] = None"


@pytest.fixture
def another_sfr(tmp_path):
    """What makes a worker import a copy of the package whose maps are twice too bright."""
    copy = tmp_path / "another"
    shutil.copytree(sfr.__path__[0], copy / "sfr", ignore=shutil.ignore_patterns("__pycache__"))
    units = copy / "sfr/units.py"
    old = units.read_text()
    units.write_text(old.replace("UNIT_MASS_MSUN: Final = 1e10", "UNIT_MASS_MSUN: Final = 2e10"))
    assert units.read_text() != old
    return f"sys.path.insert(0, {str(copy)!r})"


def ignore(task, done):
    pass


def work_on(address, name, job, tasks):
    import work_of_dask_test as work

    from sfr.pipeline.workers import open_workers

    with open_workers(scheduler=address) as workers:
        return dict(workers.do_tasks(getattr(work, name), job, tasks, ignore))


def in_background(function):
    """Run a function in a thread; return what waits for its result."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()

    def result():
        thread.join(120)
        assert found
        return found[0]

    return result


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def quick_looks(monkeypatch):
    monkeypatch.setattr("sfr.compute.dask._LOOK_S", 0.2)


def test_workers_that_would_make_other_numbers_are_refused_before_a_job_is_sent(
    cluster, another_sfr, tmp_path
):
    """One with another sfr made maps twice too bright; one without sfr was waited for silently."""
    address, worker = cluster
    _, good = worker()
    _, other = worker(another_sfr)
    _, without = worker(NO_SFR)
    with pytest.raises(ConfigError, match="2 of 3 Dask workers") as refused:
        work_on(address, "wait_for", str(tmp_path), range(3))
    lines = str(refused.value).splitlines()
    assert [line for line in lines if other in line and "code" in line and "(here " in line]
    assert [line for line in lines if without in line and "has no sfr" in line]
    assert good not in str(refused.value)
    assert not list(tmp_path.glob("began-*"))


def test_a_package_of_another_version_is_named(cluster):
    from sfr.pipeline.workers import open_workers

    address, worker = cluster
    worker("import importlib.metadata as m; v = m.version;"
           "m.version = lambda name: '0.1' if name == 'keras' else v(name)")  # fmt: skip
    assert work_on(address, "whoami", None, [1])
    import work_of_dask_test as work

    with (
        open_workers(scheduler=address, packages=["keras"]) as workers,
        pytest.raises(ConfigError, match=r"keras 0\.1 \(here 3"),
    ):
        list(workers.do_tasks(work.whoami, None, [1], ignore))


def test_workers_that_join_are_asked_too(cluster, tmp_path, caplog, quick_looks):
    address, worker = cluster
    good, _ = worker()
    found = in_background(lambda: work_on(address, "wait_for", str(tmp_path), range(6)))
    wait_until((tmp_path / "began-0").exists)
    _, without = worker(NO_SFR)
    wait_until(lambda: without in caplog.text)
    assert "get no work" in caplog.text
    second, _ = worker()
    wait_until(lambda: len(list(tmp_path.glob("began-*"))) == 2)
    (tmp_path / "go").touch()
    assert set(found().values()) == {good.pid, second.pid}


def test_a_worker_that_joins_between_two_steps_does_not_end_the_command(cluster, caplog):
    from sfr.pipeline.workers import open_workers

    address, worker = cluster
    good, _ = worker()
    with open_workers(scheduler=address) as workers:
        import work_of_dask_test as work

        assert dict(workers.do_tasks(work.whoami, None, [1], ignore)) == {1: good.pid}
        _, without = worker(NO_SFR)
        found = dict(workers.do_tasks(work.whoami, None, range(4), ignore))
    assert set(found.values()) == {good.pid}
    assert without in caplog.text


def test_when_the_last_worker_goes_it_is_said_and_the_next_one_goes_on(
    cluster, tmp_path, caplog, quick_looks
):
    address, worker = cluster
    first, where = worker()
    found = in_background(lambda: work_on(address, "wait_for", str(tmp_path), range(3)))
    wait_until((tmp_path / "began-0").exists)
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: "the last Dask worker is gone" in caplog.text)
    (said,) = [r for r in caplog.records if "the last" in r.getMessage()]
    assert where in said.getMessage()
    assert "killed" in said.getMessage()
    assert "3 tasks wait" in said.getMessage()
    assert said.levelno == logging.WARNING
    (tmp_path / "go").touch()
    second, _ = worker()
    assert found() == dict.fromkeys(range(3), second.pid)


def test_without_any_worker_it_is_said_at_once(cluster, caplog, quick_looks):
    address, worker = cluster
    found = in_background(lambda: work_on(address, "whoami", None, [1]))
    wait_until(lambda: "the scheduler has no workers yet" in caplog.text)
    process, _ = worker()
    assert found() == {1: process.pid}


def test_a_task_that_kills_every_worker_is_given_up(cluster, tmp_path, quick_looks, monkeypatch):
    from sfr.errors import WorkerLostError

    monkeypatch.setattr("sfr.compute.dask._MOST_DEATHS", 2)
    address, worker = cluster
    processes = [worker()[0]]
    found = in_background(lambda: work_on(address, "wait_for", str(tmp_path), [0]))
    for _ in range(2):
        wait_until((tmp_path / "began-0").exists)
        processes[-1].kill()
        (tmp_path / "began-0").unlink()
        processes.append(worker()[0])
    assert isinstance(found()[0], WorkerLostError)


def test_a_scheduler_that_ends_is_an_error(start, tmp_path, quick_looks):
    scheduler, address = start(SCHEDULER)
    start(WORKER.format(before=""), address)

    def work():
        try:
            return work_on(address, "wait_for", str(tmp_path), [0])
        except DataMissingError as error:
            return {0: error}

    found = in_background(work)
    wait_until((tmp_path / "began-0").exists)
    scheduler.kill()
    assert isinstance(found()[0], DataMissingError)
