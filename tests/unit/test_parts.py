"""A step in parts: one rule of resumption, whatever the parts are."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from sfr.compute.processes import Processes
from sfr.compute.tasks import Serial
from sfr.errors import ConfigError, DataFormatError, DataMissingError, WorkerLostError
from sfr.run.parts import do_parts
from sfr.run.workspace import Workspace

#: Steps whose parts are plain files; spawned processes import them by name.
STEPS = '''
import os, signal, sys, time
from dataclasses import dataclass
from pathlib import Path
from sfr.errors import DataMissingError
from sfr.run.parts import Parts, do_parts
from sfr.run.workspace import Workspace

@dataclass(frozen=True, kw_only=True)
class Files(Parts[int]):
    """Part i is a file of i + 1 bytes; the file's first line is its fingerprint."""
    fingerprint: str = "f1"
    count: int = 4
    step: str = "files"
    label: str = "files"
    words: str = "files of the test"
    #: Touched by each try of a part; a part in ``bad`` fails, in ``deadly`` kills its process.
    bad: tuple[int, ...] = ()
    deadly: tuple[int, ...] = ()

    def file(self, part):
        return self.workspace.root / "out" / f"{part}.txt"

    def is_there(self, part):
        try:
            return self.file(part).read_text("utf-8").startswith(self.fingerprint + "\\n")
        except FileNotFoundError:
            return False

    def is_tried_again(self, part):
        return "for now" in self.file(part).read_text("utf-8")

    def why_again(self):
        again = any(self.is_tried_again(i) for i in range(self.count))
        return "some are tried again" * again

    def tries(self, part):
        return len(list(self.workspace.root.glob(f"tries/{part}-*")))

    def make(self, part, on_done):
        folder = self.workspace.root / "tries"
        folder.mkdir(exist_ok=True)
        (folder / f"{part}-{self.tries(part)}").touch()
        if part in self.deadly:
            with self.workspace.replacing(self.file(part)) as temporary:
                temporary.write_bytes(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
        if part in self.bad:
            raise DataMissingError(f"no part {part}")
        on_done(1)
        self.workspace.write_text(self.file(part), f"{self.fingerprint}\\n{part}\\n")
        return 10 * part

    def size(self, part):
        return part + 1

    def prepare(self, kept, *, force):
        for path in self.workspace.root.glob("out/*.txt"):
            if path not in {self.file(part) for part in kept}:
                path.unlink()

    def finish(self):
        files = [self.file(part) for part in range(self.count)]
        whole = self.workspace.root / "out" / "all.txt"
        self.workspace.write_text(whole, "".join(f.read_text("utf-8") for f in files))
        return [*files, whole]

class Lenient(Files):
    """What fails does not stop the others."""
    def give_up(self, part, error):
        pass

class Noted(Files):
    """What is lost leaves a part that says so, and is tried again."""
    def give_up(self, part, error):
        self.workspace.write_text(self.file(part), f"{self.fingerprint}\\nnone for now\\n")

class Recorded(Files):
    """Files that cannot tell what they were made with: a record does."""
    def is_there(self, part):
        return super(Files, self).is_there(part)

    def make(self, part, on_done):
        made = super().make(part, on_done)
        self.record(part, [self.file(part)])
        return made

class Slow(Files):
    """Makes a part while a file named wait is there."""
    def make(self, part, on_done):
        (self.workspace.root / f"begun-{part}").touch()
        while (self.workspace.root / "wait").exists():
            time.sleep(0.01)
        return super().make(part, on_done)

if __name__ == "__main__":
    do_parts(Slow(workspace=Workspace(sys.argv[1])), [0])
'''


@pytest.fixture
def steps(tmp_path, monkeypatch):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "steps_of_test.py").write_text(STEPS)
    monkeypatch.syspath_prepend(folder)
    import steps_of_test

    yield steps_of_test
    sys.modules.pop("steps_of_test")


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "run")


def names(workspace, pattern="out/*"):
    return sorted(path.name for path in workspace.root.glob(pattern))


def test_all_parts_are_made_once_and_the_step_is_finished(steps, workspace):
    step = steps.Files(workspace=workspace)
    done = do_parts(step)
    assert (done.reason, done.made, done.failed) == ("new", {i: 10 * i for i in range(4)}, {})
    assert done.is_complete
    assert (workspace.root / "out" / "all.txt").read_text() == "".join(
        f"f1\n{i}\n" for i in range(4)
    )
    again = do_parts(step)
    assert (again.reason, again.made, again.is_complete) == ("", {}, True)
    assert [step.tries(i) for i in range(4)] == [1] * 4
    assert names(workspace, ".state/*") == ["files.json", "files.lock"]


def test_a_step_without_parts_is_done(steps, workspace):
    done = do_parts(steps.Files(workspace=workspace, count=0))
    assert (done.made, done.is_complete) == ({}, True)
    assert names(workspace) == ["all.txt"]


def test_some_of_the_parts_do_not_finish_the_step_and_the_last_of_them_do(steps, workspace):
    step = steps.Files(workspace=workspace)
    assert not do_parts(step, [1, 3]).is_complete
    assert names(workspace) == ["1.txt", "3.txt"]
    # a share in which nothing is left to do
    assert (do_parts(step, []).made, do_parts(step, [1]).made) == ({}, {})
    assert do_parts(step, [0, 2]).is_complete
    assert "all.txt" in names(workspace)


def test_other_settings_remove_all_that_was_made_with_the_old_ones(steps, workspace):
    do_parts(steps.Files(workspace=workspace, count=6))
    done = do_parts(steps.Files(workspace=workspace, fingerprint="f2"), [0])
    assert "changed" in done.reason
    assert names(workspace) == ["0.txt"]


def test_forced_parts_are_all_made_again(steps, workspace):
    step = steps.Files(workspace=workspace)
    do_parts(step)
    done = do_parts(step, force=True)
    assert (done.reason, len(done.made)) == ("forced", 4)
    assert [step.tries(i) for i in range(4)] == [2] * 4


def test_an_interrupted_step_goes_on_with_what_is_not_there(steps, workspace):
    def interrupt(label, done, total, /, cells=None, note=""):
        if done >= 3:
            raise KeyboardInterrupt

    for force in (False, True):
        with pytest.raises(KeyboardInterrupt):
            do_parts(steps.Files(workspace=workspace), on_progress=interrupt, force=force)
        assert names(workspace) == ["0.txt", "1.txt"]
        assert not workspace.has_run("files")
        assert sorted(do_parts(steps.Files(workspace=workspace)).made) == [2, 3]


@pytest.mark.parametrize("kind", ["Files", "Recorded"])
def test_a_part_whose_file_is_gone_or_cut_costs_itself_only(steps, workspace, kind):
    step = getattr(steps, kind)(workspace=workspace)
    do_parts(step)
    step.file(1).unlink()
    step.file(2).write_text("f")
    done = do_parts(step)
    assert "1.txt" in done.reason
    assert sorted(done.made) == [1, 2]
    assert do_parts(step).reason == ""


def test_records_of_other_settings_are_forgotten_with_the_files(steps, workspace):
    do_parts(steps.Recorded(workspace=workspace, count=6))
    assert len(workspace.steps("files-part-")) == 6
    done = do_parts(steps.Recorded(workspace=workspace, fingerprint="f2"))
    assert sorted(done.made) == [0, 1, 2, 3]
    assert len(workspace.steps("files-part-")) == 4


def test_a_part_that_fails_ends_the_step_unless_the_step_says_otherwise(steps, workspace, caplog):
    with pytest.raises(DataMissingError, match="no part 1"):
        do_parts(steps.Files(workspace=workspace, bad=(1,)))
    assert names(workspace) == ["0.txt"]
    done = do_parts(steps.Lenient(workspace=workspace, bad=(1,)))
    assert sorted(done.made) == [2, 3]
    assert {part: str(error) for part, error in done.failed.items()} == {1: "no part 1"}
    assert "number 1: no part 1" in caplog.text
    assert not done.is_complete
    assert do_parts(steps.Lenient(workspace=workspace)).made == {1: 10}


def test_a_killed_worker_costs_its_part_only_after_two_tries(steps, workspace):
    with Processes(2, 1) as workers:
        step = steps.Lenient(workspace=workspace, deadly=(2,))
        done = do_parts(step, workers=workers)
        assert sorted(done.made) == [0, 1, 3]
        assert isinstance(done.failed[2], WorkerLostError)
        assert step.tries(2) == 2
        assert not list(workspace.root.glob(".tmp/*"))
        with pytest.raises(WorkerLostError):
            do_parts(steps.Files(workspace=workspace, deadly=(2,)), workers=workers)


class LostAfterwards(Serial):
    """Workers that die when a part is made, before they can say so."""

    def do_tasks(self, work, job, tasks, on_done):
        for task, _ in super().do_tasks(work, job, tasks, on_done):
            yield task, WorkerLostError("killed")


def test_a_part_that_was_made_before_its_worker_died_is_kept(steps, workspace):
    done = do_parts(steps.Noted(workspace=workspace), workers=LostAfterwards())
    assert (done.failed, done.is_complete) == ({}, True)
    assert "for now" not in (workspace.root / "out" / "all.txt").read_text()


def test_what_was_lost_and_noted_is_tried_again_by_the_next_command(steps, workspace):
    with Processes(2, 1) as workers:
        done = do_parts(steps.Noted(workspace=workspace, deadly=(2,)), workers=workers)
    assert done.is_complete
    again = do_parts(steps.Noted(workspace=workspace))
    assert (again.reason, again.made) == ("some are tried again", {2: 20})
    assert do_parts(steps.Noted(workspace=workspace)).reason == ""


@pytest.fixture
def busy(steps, workspace):
    """Another process, which makes part 0 until the file ``wait`` is gone, and the file."""
    wait = workspace.root / "wait"
    workspace.root.mkdir()
    wait.touch()
    process = subprocess.Popen([sys.executable, steps.__file__, str(workspace.root)])
    while not (workspace.root / "begun-0").exists():
        assert process.poll() is None
        time.sleep(0.01)
    yield process, wait
    wait.unlink(missing_ok=True)
    process.wait()


def test_processes_share_the_parts_and_wait_for_the_busy_ones_last(steps, workspace, busy, caplog):
    process, wait = busy
    found = []
    thread = threading.Thread(
        target=lambda: found.append(do_parts(steps.Slow(workspace=workspace)))
    )
    # of this process alone: those of the other stand still
    slow = steps.Slow.make
    steps.Slow.make = steps.Files.make
    try:
        thread.start()
        while "waiting for another sfr process that makes 1 of 4 files of the test" not in (
            caplog.text
        ):
            time.sleep(0.01)
        assert names(workspace) == ["1.txt", "2.txt", "3.txt"]
        wait.unlink()
        thread.join()
    finally:
        steps.Slow.make = slow
    assert sorted(found[0].made) == [1, 2, 3]
    assert found[0].is_complete
    assert process.wait() == 0
    assert steps.Files(workspace=workspace).tries(0) == 1


def test_a_killed_process_leaves_its_part_to_those_who_wait(steps, workspace, busy):
    process, wait = busy
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait.unlink()
    assert sorted(do_parts(steps.Files(workspace=workspace)).made) == [0, 1, 2, 3]


def test_a_worker_that_outlived_its_command_is_waited_for_before_its_file_is_removed(
    steps, workspace, caplog
):
    do_parts(steps.Files(workspace=workspace))
    other = steps.Files(workspace=workspace, fingerprint="f2")
    with workspace.claim(other.name(1), wait=False):
        thread = threading.Thread(target=do_parts, args=[other])
        thread.start()
        while "waiting for a worker of a command that was stopped" not in caplog.text:
            time.sleep(0.01)
        assert other.file(1).read_text() == "f1\n1\n"
    thread.join()
    assert other.file(1).read_text() == "f2\n1\n"


@pytest.mark.parametrize(
    ("fingerprint", "force", "words"),
    [("f2", False, "other settings"), ("f1", True, "--force would throw away")],
)
def test_nobody_may_throw_away_what_another_process_makes(
    steps, workspace, busy, fingerprint, force, words
):
    with pytest.raises(ConfigError, match=words):
        do_parts(steps.Files(workspace=workspace, fingerprint=fingerprint), force=force)


def test_nothing_is_thrown_away_for_parts_that_cannot_be_made(steps, workspace, monkeypatch):
    do_parts(steps.Files(workspace=workspace))

    def require(self):
        raise DataFormatError("no input")

    monkeypatch.setattr(steps.Files, "require", require, raising=False)
    before = names(workspace)
    with pytest.raises(DataFormatError):
        do_parts(steps.Files(workspace=workspace, fingerprint="f2"))
    assert names(workspace) == before
    assert workspace.check("files", "f1").current


def test_progress_counts_what_was_not_there_in_its_own_unit(steps, workspace, monkeypatch):
    do_parts(steps.Files(workspace=workspace), [1])
    monkeypatch.setattr(steps.Files, "cells", lambda self, part, done: 100 * done, raising=False)
    heard = []
    do_parts(
        steps.Files(workspace=workspace),
        on_progress=lambda label, done, total, /, cells, note="": heard.append(
            (label, done, total, cells)
        ),
    )
    assert heard[0] == ("files", 0, 8, (0, 800))
    assert heard[-1] == ("files", 8, 8, (800, 800))
    assert [done for _, done, _, _ in heard] == sorted(done for _, done, _, _ in heard)
