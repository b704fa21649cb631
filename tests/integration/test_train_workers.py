"""Cases that workers train: the same heads, errors that cost one case, and backends that differ."""

import pickle

import pytest
from tests.integration.test_train_heads import content, recipe, trained_heads, write_run

from sfr.compute.tasks import Serial
from sfr.errors import ConfigError, TrainingError, WorkerLostError
from sfr.nn.keras_import import load_keras, use_backend
from sfr.train import batch as batch_module
from sfr.train import training as training_module
from sfr.train.fit import train_cases
from sfr.train.output import CaseFiles

pytestmark = pytest.mark.usefixtures("small_outputs")


class Loses:
    """Workers whose process dies at one case, always or the first time."""

    def __init__(self, case, times, count=1):
        self.case, self.times, self.count = case, times, count

    def threads(self, n_tasks):
        return None

    def do_tasks(self, work, job, tasks, on_done):
        for task in tasks:
            batch = job.batches[task.part] if job.step == "heads" else ()
            if self.times and self.case in {model.case for model in batch}:
                self.times -= 1
                yield task, WorkerLostError("its worker process was killed by SIGKILL")
            else:
                # as a process of its own would get it
                yield from Serial().do_tasks(work, pickle.loads(pickle.dumps(job)), [task], on_done)


class Stops(Serial):
    """Workers that end when a seed has come to an epoch."""

    def __init__(self, seed, epoch, count):
        self.seed, self.epoch, self.many = seed, epoch, count

    @property
    def count(self):
        return self.many

    def do_tasks(self, work, job, tasks, on_done):
        for task in tasks:

            def hear(task, done):
                seed = job.batches[task.part][0].seed if job.step == "heads" else None
                if (seed, done) == (self.seed, self.epoch):
                    raise KeyboardInterrupt

            yield from super().do_tasks(work, job, [task], hear)


def statuses(summary):
    return [(r.model.case, r.model.seed, r.status) for r in summary.results]


def test_workers_train_the_same_heads_and_tell_how_far_they_are(tmp_path):
    first, second = (write_run(tmp_path / name) for name in "ab")
    chosen, heard = recipe(seeds=2), []
    alone = train_cases(first, chosen, ["composite", "gauss3"])
    spread = train_cases(
        second,
        chosen,
        ["composite", "gauss3"],
        workers=Loses("composite", 1),
        on_progress=lambda *args, **_: heard.append(args),
    )
    assert statuses(spread) == statuses(alone)
    assert spread.fingerprint == alone.fingerprint
    for case in ("composite", "gauss3"):
        assert content(first.case(case)) == content(second.case(case))
    # 12 images and 3 epochs of each case
    for label, total in [("images of 2 cases", 24), ("epochs of 2 cases", 6)]:
        done = [args[1] for args in heard if args[0] == label]
        assert done == sorted(done)
        assert done[-1] == total
    assert len({args[0] for args in heard}) == 2
    assert min(spread.seconds_features, spread.seconds_heads) > 0.0


@pytest.mark.parametrize("lost", [0, 1])
def test_seeds_that_several_workers_train_leave_the_files_of_one(
    tmp_path, monkeypatch, caplog, lost
):
    """Whoever finishes gathers, in whatever order."""
    if load_keras().backend.backend() != "tensorflow":
        pytest.skip("other backends compile all heads as one and round otherwise")
    caplog.set_level("INFO", "sfr")
    first, second = (write_run(tmp_path / name) for name in "ab")
    cases, chosen = ["composite", "gauss3"], recipe(seeds=3)
    train_cases(first, chosen, cases)
    workers = Loses("gauss3", lost, count=5)
    summary = train_cases(second, chosen, cases, workers=workers, force=True)
    assert statuses(summary) == [(c, s, "trained") for c in cases for s in (0, 1, 2)]
    # three workers for the three seeds of a case
    assert caplog.text.count("gauss3, seed 1: training") == 1
    for case in cases:
        assert content(first.case(case)) == content(second.case(case))
    # once in each folder, though each seed was told to do it again
    assert caplog.text.count("features of gauss3: 12 images") == 2
    again = train_cases(second, chosen, cases, workers=workers)
    assert {result.status for result in again.results} == {"current"}


def test_seeds_apart_go_on_from_their_checkpoints_whoever_trains_them_next(
    tmp_path, monkeypatch, caplog
):
    """A checkpoint served only who trained the same seeds side by side again."""
    if load_keras().backend.backend() != "tensorflow":
        pytest.skip("other backends compile all heads as one and round otherwise")
    caplog.set_level("INFO", "sfr")
    monkeypatch.setattr(batch_module, "_CHECKPOINT_SECONDS", 0.0)
    first, second = (write_run(tmp_path / name) for name in "ab")
    chosen = recipe(seeds=3, epochs=4)
    train_cases(first, chosen, ["composite"])
    with pytest.raises(KeyboardInterrupt):
        train_cases(second, chosen, ["composite"], workers=Stops(seed=1, epoch=2, count=3))
    assert trained_heads(second) == [("composite", 0)]
    files = CaseFiles(second, "composite")
    assert [path.name for path in files.checkpoints()] == [
        "checkpoint-0-0.npz", "checkpoint-0-1.npz",
    ]  # fmt: skip
    train_cases(second, chosen, ["composite"])
    assert "composite, seed 0: there already" in caplog.text
    assert "composite, seed 1: going on after epoch 2" in caplog.text
    assert content(first.case("composite")) == content(second.case("composite"))


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("workers", [None, Serial()])
def test_an_error_costs_its_case_only(workspace, monkeypatch, caplog, workers, seeds):
    def fail(workspace, recipe, case, *args, **options):
        if case != "gauss3":
            raise ConfigError(f"no features of {case}")
        return extract(workspace, recipe, case, *args, **options)

    extract = training_module.extract_features
    monkeypatch.setattr(training_module, "extract_features", fail)
    chosen, cases = recipe(epochs=1, seeds=seeds), ["mass", "gauss3", "entropy"]
    summary = train_cases(workspace, chosen, cases, workers=workers)
    status = {"mass": "failed", "gauss3": "trained", "entropy": "failed"}
    assert statuses(summary) == [(c, s, status[c]) for c in cases for s in range(seeds)]
    assert summary.results[0].reason == "no features of mass"
    assert "mass failed: no features of mass" in caplog.text
    with pytest.raises(ConfigError, match="no features of mass"):
        train_cases(workspace, chosen, ["mass", "entropy"], workers=workers)


def test_a_case_whose_process_dies_twice_fails(workspace):
    chosen = recipe(epochs=1)
    summary = train_cases(workspace, chosen, ["mass", "gauss3"], workers=Loses("mass", 2))
    assert statuses(summary) == [("mass", 0, "failed"), ("gauss3", 0, "trained")]
    assert "SIGKILL" in summary.failures[0].reason
    with pytest.raises(WorkerLostError):
        train_cases(workspace, chosen, ["mass"], workers=Loses("mass", 2))


def test_a_worker_with_another_backend_says_so(workspace):
    here = load_keras().backend.backend()
    use_backend(here)
    use_backend("")
    with pytest.raises(TrainingError, match=f"backend other.* has loaded {here}"):
        use_backend("other")
