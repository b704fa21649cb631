"""Training of the heads of a run: what is current is skipped, the rest is planned and done."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from sfr.compute.tasks import Workers, run_all
from sfr.errors import ConfigError, SfrError, WorkerLostError
from sfr.imaging.cases import case_function
from sfr.nn.backbone import chosen_precision
from sfr.nn.keras_import import chosen_backend, stated_backend
from sfr.progress import Progress, silent
from sfr.recipe import Recipe
from sfr.run.names import ModelId
from sfr.run.workspace import Workspace, digest
from sfr.train.batch import BatchResult, train_batch
from sfr.train.evaluate import SETTINGS
from sfr.train.published import complete_network
from sfr.train.training import Training

__all__ = ["HeadResult", "TrainSummary", "train_case", "train_cases"]

log = logging.getLogger(__name__)

#: Features of the cases that train in one program, at most [bytes]: they all lie in memory.
_TOGETHER_BYTES: Final = 2 << 30
#: Held while something is computed: Keras is not made for several threads of a process.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class HeadResult:
    """What happened to one head.

    Attributes
    ----------
    model : ModelId
        The head.
    status : str
        ``trained``, ``current`` (it was there already) or ``failed``.
    reason : str
        Why it was trained, or why it failed; empty when current.
    metrics : dict
        Its entry of ``metrics.json``; empty when failed.
    """

    model: ModelId
    status: Literal["trained", "current", "failed"]
    reason: str
    metrics: Mapping[str, Any]

    @property
    def dead(self) -> bool:
        """Whether the head's output is constant."""
        return bool(self.metrics.get("dead"))


@dataclass(frozen=True)
class TrainSummary:
    """What a training did.

    Attributes
    ----------
    results : tuple of HeadResult
        One entry per head, in the order of the cases.
    fingerprint : str
        Digest of the heads' fingerprints.
    n_missing_images, n_dropped_zero_sfr : int
        Rows of the split that were left out.
    seconds_features, seconds_heads : float
        Time in the backbone and in the heads, of all processes together [s].
    """

    results: tuple[HeadResult, ...]
    fingerprint: str
    n_missing_images: int
    n_dropped_zero_sfr: int
    seconds_features: float
    seconds_heads: float

    @property
    def failures(self) -> tuple[HeadResult, ...]:
        """Heads that could not be trained."""
        return tuple(result for result in self.results if result.status == "failed")

    @property
    def dead(self) -> tuple[HeadResult, ...]:
        """Heads whose output is constant."""
        return tuple(result for result in self.results if result.dead)


def train_cases(
    workspace: Workspace,
    recipe: Recipe,
    cases: Sequence[str],
    *,
    force: bool = False,
    save_models: bool = False,
    workers: Workers | None = None,
    on_progress: Progress = silent,
) -> TrainSummary:
    """Train heads for some cases, with seeds 0 to ``train.seeds`` - 1 each.

    A head is skipped when settings, images, labels and split are as they were. Heads of a case
    that are not, of any seed, stop counting as finished before the first new one is trained, so
    that a table never averages heads of different settings. An error costs its case; it is raised
    where every case has one. The features of all cases come first, then the heads.

    Parameters
    ----------
    workspace : Workspace
        A run's folder with sample, split and images.
    recipe : Recipe
        The experiment; what its precision ``auto`` means is decided here, for all workers.
    cases : sequence of str
        Versions of the image; repeats count once.
    force : bool
        Compute features and train even what is current.
    save_models : bool
        Save the whole network of every seed, not only of seed 0.
    workers : Workers or None
        Who trains; None: this process.
    on_progress : callable
        Hears of batches of images and of epochs.

    Returns
    -------
    TrainSummary
        One result a head. A head whose loss is not finite is a failure, as are those of a case
        that could not be trained; the others go on.

    Raises
    ------
    ConfigError
        No case, an unknown one, or settings that do not go together.
    DataMissingError
        Split, sample, images or weights are not there.
    DataFormatError
        One of them cannot be read or does not fit.
    EmptySelectionError
        No training row or no test row is left.
    TrainingError
        Keras has no backend, or a worker runs another one.
    WorkerLostError
        The processes that worked on the cases died.
    """
    names = list(dict.fromkeys(cases))
    if not names:
        raise ConfigError("no case to train; name one with --case, or all with --all-cases")
    for name in names:
        case_function(name, recipe.cases, recipe.channels)
    decided = recipe.with_fields("train", precision=chosen_precision(recipe.train.precision))
    training = Training(workspace, decided, stated_backend(), save_models)
    training.data.batches(decided.train.batch_size)
    plans = {name: _plan(training, name, force=force) for name in names}
    pending = {name: list(plan.pending) for name, plan in plans.items() if plan.pending}
    done = _do(training, _feature_tasks(pending, force=force), workers, on_progress)
    for name in done.errors:
        del pending[name]
    if len(done.errors) < len(names):
        # from here on heads of other settings are out of date
        workspace.remember(SETTINGS, training.settings)
    done.add(_do(training, _head_tasks(training, pending, workers, force), workers, on_progress))
    if len(done.errors) == len(names) and not done.trained:
        raise done.errors[names[0]]
    results = [result for name in names for result in _results(training, plans[name], done)]
    for name in names:
        _settle(training, name, [result for result in results if result.model.case == name], done)
    return TrainSummary(
        results=tuple(results),
        fingerprint=digest([training.fingerprint(name) for name in names]),
        n_missing_images=training.rows.n_missing_images,
        n_dropped_zero_sfr=training.rows.n_dropped_zero_sfr,
        seconds_features=done.seconds_features,
        seconds_heads=done.seconds_heads,
    )


def train_case(
    workspace: Workspace,
    recipe: Recipe,
    case: str,
    *,
    force: bool = False,
    save_models: bool = False,
    on_progress: Progress = silent,
) -> TrainSummary:
    """Train the heads of one case; see `train_cases`."""
    return train_cases(
        workspace, recipe, [case], force=force, save_models=save_models, on_progress=on_progress
    )


# -- what there is to do ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """What there is of a case, and why the rest is trained."""

    case: str
    current: Mapping[ModelId, Mapping[str, Any]]
    pending: Mapping[ModelId, str]


def _plan(training: Training, case: str, *, force: bool) -> _Plan:
    files, models = training.files(case), training.models(case)
    state = files.check(training.fingerprint(case), force=force)
    finished = files.read().metrics if state.current else {}
    reason = state.reason or "new"
    return _Plan(
        case,
        {model: finished[model] for model in models if model in finished},
        {model: reason for model in models if model not in finished},
    )


@dataclass(frozen=True)
class _Task:
    """Features of a case, or heads of one case or several that are trained in one go."""

    step: Literal["features", "heads"]
    models: tuple[ModelId, ...]
    force: bool

    @property
    def cases(self) -> list[str]:
        return list(dict.fromkeys(model.case for model in self.models))


def _feature_tasks(pending: Mapping[str, Sequence[ModelId]], *, force: bool) -> list[_Task]:
    return [_Task("features", tuple(models), force) for models in pending.values()]


def _head_tasks(
    training: Training,
    pending: Mapping[str, Sequence[ModelId]],
    workers: Workers | None,
    force: bool,  # noqa: FBT001
) -> list[_Task]:
    """Decide which heads train side by side: those of a case, unless another way is faster.

    No byte depends on it, so that it may depend on who works: other backends, and a shared order,
    round heads by what else is in their program.
    """
    backend = stated_backend() or chosen_backend()
    free = backend == "tensorflow" and training.recipe.train.batch_order == "own"
    tasks: list[tuple[ModelId, ...]] = [tuple(models) for models in pending.values()]
    if free and tasks and workers is None:
        tasks = _joined(training, tasks)
    elif free and workers is not None and 0 < len(tasks) < workers.count:
        count = -(-workers.count // len(tasks))
        tasks = [part for models in tasks for part in _parts(models, count)]
    return [_Task("heads", models, force) for models in tasks]


def _joined(training: Training, tasks: Sequence[tuple[ModelId, ...]]) -> list[tuple[ModelId, ...]]:
    """Put cases of one head each together, which share the cost of a step: docs/training.md."""
    if max(map(len, tasks)) > 1:
        return list(tasks)
    case = tasks[0][0].case
    size = training.workspace.features(case, training.feature_key(case)).stat().st_size
    most = max(1, _TOGETHER_BYTES // size)
    starts = range(0, len(tasks), most)
    return [tuple(m for task in tasks[at : at + most] for m in task) for at in starts]


def _parts(models: Sequence[ModelId], count: int) -> list[tuple[ModelId, ...]]:
    """Cut the heads of a case into so many parts for workers that would have nothing to do."""
    ends = np.linspace(0, len(models), min(count, len(models)) + 1).astype(int).tolist()
    return [tuple(models[a:b]) for a, b in itertools.pairwise(ends)]


# -- who does it -----------------------------------------------------------------------------------


class _Done(BatchResult):
    """What came of several tasks."""

    def add(self, other: BatchResult) -> None:
        self.trained |= other.trained
        self.stopped |= other.stopped
        self.errors |= other.errors
        self.seconds_features += other.seconds_features
        self.seconds_heads += other.seconds_heads


def _do(
    training: Training, tasks: list[_Task], workers: Workers | None, on_progress: Progress
) -> _Done:
    """Do the tasks, here or elsewhere."""
    done = _Done()
    if workers is None:
        for task in tasks:
            done.add(_do_one(training, task, on_progress))
        return done
    tally = _Tally(training, tasks, on_progress)
    for task, result in run_all(workers, _do_elsewhere, training, tasks, tally):
        tally.finish(task)
        if isinstance(result, WorkerLostError):
            done.errors |= dict.fromkeys(task.cases, result)
        else:
            done.add(result)
    # of workers that were killed
    training.workspace.clean_scratch()
    return done


def _do_elsewhere(training: Training, task: _Task, on_done: Callable[[int], None]) -> BatchResult:
    """Do a task in a worker."""
    done: dict[str, int] = {}

    def hear(label: str, now: int, /, *_: object, **__: object) -> None:
        done[label] = now
        on_done(sum(done.values()))

    with _ONE_AT_A_TIME:
        return _do_one(training, task, hear)


def _do_one(training: Training, task: _Task, on_progress: Progress) -> BatchResult:
    if task.step == "heads":
        return train_batch(training, task.models, force=task.force, on_progress=on_progress)
    result, start = BatchResult(), time.monotonic()
    for case in task.cases:
        try:
            training.load_backend()
            training.features(case, force=task.force, on_progress=on_progress)
        except SfrError as error:
            result.errors[case] = error
    result.seconds_features = time.monotonic() - start
    return result


class _Tally:
    """Adds up the images or epochs that are done of tasks that are done at the same time."""

    def __init__(self, training: Training, tasks: Sequence[_Task], on_progress: Progress) -> None:
        images, epochs = training.rows.label.size, training.recipe.train.epochs
        self._total = {
            task: images * len(task.cases) if task.step == "features" else epochs for task in tasks
        }
        self._done = dict.fromkeys(tasks, 0)
        self._on_progress = on_progress
        cases = {case for task in tasks for case in task.cases}
        what = "images" if tasks and tasks[0].step == "features" else "epochs"
        self._label = f"{what} of {len(cases)} cases"

    def __call__(self, task: _Task, done: int) -> None:
        self._done[task] = min(done, self._total[task])
        self._on_progress(self._label, sum(self._done.values()), sum(self._total.values()))

    def finish(self, task: _Task) -> None:
        self(task, self._total[task])


# -- what came of it -------------------------------------------------------------------------------


def _results(training: Training, plan: _Plan, done: _Done) -> list[HeadResult]:
    """Return what became of every head of a case."""
    rate, files = training.recipe.train.learning_rate, training.files(plan.case)
    trained = dict(done.trained)
    if plan.case in done.errors and files.check(training.fingerprint(plan.case)).current:
        # a worker that died later has finished these
        trained = {**files.read().metrics, **trained}
    found = []
    for model in training.models(plan.case):
        if model in plan.current:
            log.info("%s: there already", model)
            complete_network(training, model)
            found.append(HeadResult(model, "current", "", plan.current[model]))
        elif model in trained:
            found.append(HeadResult(model, "trained", plan.pending[model], trained[model]))
        elif model in done.stopped:
            reason = (
                f"the loss is not finite in epoch {done.stopped[model]}; lower "
                f"train.learning_rate ({rate})"
            )
            log.error("%s failed: %s", model, reason)
            found.append(HeadResult(model, "failed", reason, {}))
        else:
            found.append(HeadResult(model, "failed", str(done.errors[plan.case]), {}))
    return found


def _settle(training: Training, case: str, results: Sequence[HeadResult], done: _Done) -> None:
    """Keep which heads of a case failed; remove what only an interrupted training needs."""
    files = training.files(case)
    failed = {result.model: result.reason for result in results if result.status == "failed"}
    files.say_failed(training.settings, failed)
    if case in done.errors:
        log.error("%s failed: %s", case, done.errors[case])
        return
    for path in files.checkpoints():
        path.unlink()
