"""Cases that workers train: the same heads, errors that cost one case, and backends that differ."""

import pickle

import pytest
from tests.integration.test_train_heads import content, recipe, write_run

from sfr.compute.tasks import Serial
from sfr.errors import ConfigError, TrainingError, WorkerLostError
from sfr.nn.keras_import import load_keras, use_backend
from sfr.train import fit as fit_module
from sfr.train.fit import train_cases

pytestmark = pytest.mark.usefixtures("small_outputs")


class Loses:
    """Workers whose process dies at one case, always or the first time."""

    def __init__(self, case, times):
        self.case, self.times = case, times

    def do_tasks(self, work, job, tasks, on_done):
        for task in tasks:
            if self.case in task.cases and self.times:
                self.times -= 1
                yield task, WorkerLostError("its worker process was killed by SIGKILL")
            else:
                # as a process of its own would get it
                yield from Serial().do_tasks(work, pickle.loads(pickle.dumps(job)), [task], on_done)


def statuses(summary):
    return [(r.case, r.seed, r.status) for r in summary.results]


def test_workers_train_the_same_heads_and_tell_how_far_they_are(tmp_path):
    first, second = (write_run(tmp_path / name) for name in "ab")
    chosen, heard = recipe(seeds=2), []
    alone = train_cases(first, chosen, ["composite", "gauss3"])
    spread = train_cases(
        second,
        chosen,
        ["composite", "gauss3"],
        workers=Loses("composite", 1),
        on_progress=lambda *args: heard.append(args),
    )
    assert statuses(spread) == statuses(alone)
    assert spread.fingerprint == alone.fingerprint
    for case in ("composite", "gauss3"):
        for seed in (0, 1):
            assert content(first.head(case, seed)) == content(second.head(case, seed))
    # 12 images and 3 epochs of each case
    assert {args[0] for args in heard} == {"images and epochs of 2 cases"}
    assert [args[1] for args in heard] == sorted(args[1] for args in heard)
    assert heard[-1][1:3] == (30, 30)
    assert min(spread.seconds_features, spread.seconds_heads) > 0.0


@pytest.mark.parametrize("workers", [None, Loses("gauss3", 1)])
def test_seeds_apart_are_the_heads_of_each_seed_alone(tmp_path, monkeypatch, caplog, workers):
    caplog.set_level("INFO", "sfr")
    monkeypatch.setattr(fit_module, "_CHECKPOINT_SECONDS", 0.0)
    first, second = (write_run(tmp_path / name) for name in "ab")
    cases = ["composite", "gauss3"]
    train_cases(first, recipe(seeds=1), cases)
    summary = train_cases(
        second, recipe(seeds=2), cases, seeds_apart=True, workers=workers, force=True
    )
    assert statuses(summary) == [(c, s, "trained") for c in cases for s in (0, 1)]
    for case in cases:
        ours = content(second.head(case, 0))
        assert ours == content(first.head(case, 0))
        assert ours != content(second.head(case, 1))
    # once in each folder, though each seed was told to do it again
    assert caplog.text.count("features of gauss3: 12 images") == 2
    again = train_cases(second, recipe(seeds=2), cases, seeds_apart=True, workers=workers)
    assert {result.status for result in again.results} == {"current"}


def test_a_seed_apart_goes_on_from_its_checkpoint(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "sfr")
    monkeypatch.setattr(fit_module, "_CHECKPOINT_SECONDS", 0.0)
    first, second = (write_run(tmp_path / name) for name in "ab")

    def stop(label, done, total, note=""):
        if label == "training composite seed 1" and done == 2:
            raise KeyboardInterrupt

    chosen = recipe(seeds=2)
    train_cases(first, chosen, ["composite"], seeds_apart=True)
    with pytest.raises(KeyboardInterrupt):
        train_cases(second, chosen, ["composite"], seeds_apart=True, on_progress=stop)
    left = second.case_checkpoint("composite", [1])
    assert left.name == "checkpoint-1.npz"
    assert left.exists()
    copy = left.read_bytes()
    train_cases(second, chosen, ["composite"], seeds_apart=True)
    assert "seed 0: there already" in caplog.text
    assert "going on after epoch 2" in caplog.text
    for seed in (0, 1):
        assert content(first.head("composite", seed)) == content(second.head("composite", seed))
    assert not left.exists()
    # heads that train side by side have no use for it
    left.write_bytes(copy)
    train_cases(second, chosen, ["composite"], force=True)
    assert not left.exists()


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("workers", [None, Serial()])
def test_an_error_costs_its_case_only(workspace, monkeypatch, caplog, workers, together):
    def fail(workspace, recipe, case, *args, **options):
        if case != "gauss3":
            raise ConfigError(f"no features of {case}")
        return extract(workspace, recipe, case, *args, **options)

    extract = fit_module.extract_features
    monkeypatch.setattr(fit_module, "extract_features", fail)
    chosen = recipe(epochs=1, seeds=2)
    summary = train_cases(
        workspace, chosen, ["mass", "gauss3", "entropy"], together=together, workers=workers
    )
    assert statuses(summary) == [
        ("mass", 0, "failed"),
        ("mass", 1, "failed"),
        ("gauss3", 0, "trained"),
        ("gauss3", 1, "trained"),
        ("entropy", 0, "failed"),
        ("entropy", 1, "failed"),
    ]
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


def test_no_case_at_a_time_is_refused(workspace):
    with pytest.raises(ConfigError, match="0 cases together"):
        train_cases(workspace, recipe(), ["mass"], together=0)


def test_a_worker_with_another_backend_says_so(workspace):
    here = load_keras().backend.backend()
    use_backend(here)
    use_backend("")
    with pytest.raises(TrainingError, match=f"backend other.* has loaded {here}"):
        use_backend("other")
