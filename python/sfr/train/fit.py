"""Training of the heads of a run: what is current is skipped, what a head leaves is whole."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import re
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from sfr.compute.tasks import Workers, run_all
from sfr.errors import ConfigError, SfrError, WorkerLostError
from sfr.imaging.cases import case_function
from sfr.nn.backbone import chosen_precision, weights_label
from sfr.nn.keras_import import (
    load_keras,
    stated_backend,
    use_backend,
    without_keras_json,
)
from sfr.progress import Progress, silent
from sfr.recipe import Recipe
from sfr.run.documents import read_json
from sfr.run.tables import TEST, TRAIN, VALIDATION, count_galaxies, write_table
from sfr.run.workspace import StepState, Workspace, digest
from sfr.train.evaluate import SETTINGS, metrics
from sfr.train.features import (
    BackboneInUse,
    extract_features,
    feature_key,
    features_of,
    images_digest,
)
from sfr.train.head import build_head, build_network, head_shapes
from sfr.train.heads import Heads
from sfr.train.loop import Data, settled, train
from sfr.train.predict import ABOUT, about_model
from sfr.train.rows import read_rows
from sfr.train.state import State, read_state, write_state

__all__ = ["HeadResult", "TrainSummary", "train_case", "train_cases"]

log = logging.getLogger(__name__)

Features = NDArray[np.floating[Any]]

#: The seed whose whole network is always saved.
_SHOWN_SEED: Final = 0
#: Where a finished head's training can be continued from, in its folder.
_CHECKPOINT: Final = "checkpoint.npz"
#: Weights of the lowest training loss, which the listing keeps and does not predict from.
_BEST_WEIGHTS: Final = "best.weights.h5"
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
#: Time between two checkpoints: what a killed training loses at most [s].
_CHECKPOINT_SECONDS: Final = 30.0
#: Test images on which bfloat16 is compared with float32.
_COMPARED: Final = 16
#: Time between two looks at the test subset, for the progress only [s].
_LOOK_SECONDS: Final = 5.0
#: Held while a case is trained: Keras is not made for several threads of a process.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class HeadResult:
    """What happened to one head.

    Attributes
    ----------
    case : str
        Version of the image.
    seed : int
        Its seed.
    status : str
        ``trained``, ``current`` (it was there already) or ``failed``.
    reason : str
        Why it was trained, or why it failed; empty when current.
    metrics : dict
        Content of ``metrics.json``; empty when failed.
    """

    case: str
    seed: int
    status: Literal["trained", "current", "failed"]
    reason: str
    metrics: dict[str, Any]

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
        One entry per case and seed, in the order of the cases.
    fingerprint : str
        Digest of the heads' fingerprints.
    n_missing_images, n_dropped_zero : int
        Rows of the split that were left out.
    seconds_features, seconds_heads : float
        Time in the backbone and in the heads, of all processes together [s].
    """

    results: tuple[HeadResult, ...]
    fingerprint: str
    n_missing_images: int
    n_dropped_zero: int
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
    together: int = 1,
    seeds_apart: bool = False,
    workers: Workers | None = None,
    on_progress: Progress = silent,
) -> TrainSummary:
    """Train heads for some cases, with seeds 0 to ``train.seeds`` - 1 each.

    A head is skipped when settings, images, labels and split are as they were. Heads of a case
    that are not, of any seed, stop counting as finished before the first new one is trained, so
    that a table never averages heads of different settings. An error costs its case; it is raised
    where every case has one.

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
    together : int
        Cases that are trained in one program, which holds the features of all of them in memory.
    seeds_apart : bool
        Every seed is trained by itself, after the features of all cases are there: for more
        workers than cases.
    workers : Workers or None
        Who trains, a group of so many cases each; None: this process, one group after the other.
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
        No case, an unknown one, none at a time, or settings that do not go together.
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
    if together < 1:
        raise ConfigError(f"{together} cases together; at least 1 is needed")
    decided = recipe.with_fields("train", precision=chosen_precision(recipe.train.precision))
    job = _Job(workspace, decided, force, save_models, stated_backend())
    outcomes = []
    if seeds_apart:
        tasks = [_Task((name,), (), "features") for name in names]
        outcomes = _outcomes(job, tasks, workers, on_progress)
    there = [name for name in names if not any(name in outcome.errors for outcome in outcomes)]
    parts = [(seed,) for seed in range(decided.train.seeds)] if seeds_apart else [()]
    tasks = [
        _Task(tuple(there[start : start + together]), part, "heads" if seeds_apart else "all")
        for start in range(0, len(there), together)
        for part in parts
    ]
    outcomes += _outcomes(job, tasks, workers, on_progress)
    errors = {case: error for outcome in outcomes for case, error in outcome.errors.items()}
    some = any(head.status == "trained" for outcome in outcomes for head in outcome.heads)
    if len(errors) == len(names) and not some:
        raise errors[names[0]]
    run = job.run
    results: list[HeadResult] = []
    for name in names:
        heads = [head for outcome in outcomes for head in outcome.heads if head.case == name]
        results += heads
        if name in errors:
            log.error("%s failed: %s", name, errors[name])
            results += run.not_trained(name, {head.seed for head in heads}, errors[name])
    for result in results:
        if result.status == "failed":
            workspace.mark_failed(result.case, result.seed, run.settings, result.reason)
        else:
            workspace.unmark_failed(result.case, result.seed)
    return TrainSummary(
        results=tuple(results),
        fingerprint=digest([run.fingerprint(name) for name in names]),
        n_missing_images=run.rows.n_missing_images,
        n_dropped_zero=run.rows.n_dropped_zero,
        seconds_features=sum(outcome.seconds["features"] for outcome in outcomes),
        seconds_heads=sum(outcome.seconds["heads"] for outcome in outcomes),
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


# -- who trains ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    """What is done in one go for some cases and some seeds (none named: all)."""

    cases: tuple[str, ...]
    seeds: tuple[int, ...]
    step: Literal["features", "heads", "all"]

    def size(self, images: int, epochs: int) -> int:
        """Images and epochs that it takes."""
        return (self.step != "heads") * images * len(self.cases) + (
            self.step != "features"
        ) * epochs


@dataclass(frozen=True)
class _Outcome:
    """What came of a task: heads, the time they took [s], and what stopped a case."""

    heads: Sequence[HeadResult] = ()
    seconds: dict[str, float] = dataclasses.field(
        default_factory=lambda: {"features": 0.0, "heads": 0.0}
    )
    errors: dict[str, SfrError] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class _Job:
    """What the cases share; a process that takes several keeps what they have in common."""

    workspace: Workspace
    recipe: Recipe
    force: bool
    save_models: bool
    #: The Keras backend to use, where one is stated.
    backend: str

    @cached_property
    def run(self) -> _Run:
        return _Run(self.workspace, self.recipe, force=self.force, save_models=self.save_models)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "run"}


def _outcomes(
    job: _Job, tasks: list[_Task], workers: Workers | None, on_progress: Progress
) -> list[_Outcome]:
    """Do the tasks, here or elsewhere."""
    if workers is None:
        job.run.on_progress = on_progress
        return [job.run.outcome(task) for task in tasks]
    tally = _Tally(tasks, job.run.rows.label.size, job.recipe.train.epochs, on_progress)
    found = []
    for task, outcome in run_all(workers, _train_elsewhere, job, tasks, tally):
        tally.finish(task)
        if isinstance(outcome, WorkerLostError):
            found.append(_Outcome(errors=dict.fromkeys(task.cases, outcome)))
        else:
            found.append(outcome)
    # of workers that were killed
    job.workspace.clean_scratch()
    return found


def _train_elsewhere(job: _Job, task: _Task, on_done: Callable[[int], None]) -> _Outcome:
    """Do a task in a worker."""
    done: dict[str, int] = {}

    def hear(label: str, now: int, /, *_: object, **__: object) -> None:
        done[label] = now
        on_done(sum(done.values()))

    with _ONE_AT_A_TIME:
        use_backend(job.backend)
        job.run.on_progress = hear
        return job.run.outcome(task)


class _Tally:
    """Adds up the images and epochs that are done of tasks that are done at the same time."""

    def __init__(
        self, tasks: Sequence[_Task], images: int, epochs: int, on_progress: Progress
    ) -> None:
        self._total = {task: task.size(images, epochs) for task in tasks}
        self._done = dict.fromkeys(tasks, 0)
        self._on_progress = on_progress
        what = {"features": "images", "heads": "epochs", "all": "images and epochs"}
        cases = {case for task in tasks for case in task.cases}
        self._label = f"{what[tasks[0].step]} of {len(cases)} cases" if tasks else ""

    def __call__(self, task: _Task, done: int) -> None:
        self._done[task] = min(done, self._total[task])
        self._on_progress(self._label, sum(self._done.values()), sum(self._total.values()))

    def finish(self, task: _Task) -> None:
        self(task, self._total[task])


# -- training --------------------------------------------------------------------------------------


class _Run:
    """One training: what all its heads share."""

    def __init__(
        self,
        workspace: Workspace,
        recipe: Recipe,
        *,
        force: bool,
        save_models: bool,
    ) -> None:
        self.workspace = workspace
        self.recipe = recipe
        self.force = force
        self.save_models = save_models
        self.on_progress: Progress = silent
        #: What is done at the moment.
        self.task = _Task((), (), "all")
        self.backbone = BackboneInUse(recipe)
        self.rows = read_rows(workspace, recipe)
        #: Features of the cases at work, and of those which the model has.
        self._arrays: dict[str, Features] = {}
        self._loaded: dict[int, Features] = {}
        self._model: Heads | None = None
        self._head: Any = None
        self.seconds = {"features": 0.0, "heads": 0.0}
        #: Why each head is trained.
        self._reasons: dict[tuple[str, int], str] = {}
        best = recipe.train.predict_from == "best_validation"
        if best and self.rows.indices(VALIDATION).size == 0:
            raise ConfigError(
                'train.predict_from = "best_validation" needs a validation subset; set '
                "split.validation_fraction above 0 and run sfr split, or choose another epoch"
            )

    @cached_property
    def images(self) -> str:
        """Digest of the images."""
        return images_digest(self.workspace, self.rows.filenames)

    @cached_property
    def weights(self) -> str:
        """Name of the backbone's weights in tables."""
        return weights_label(self.recipe.train)

    @cached_property
    def data(self) -> Data:
        """Labels and subsets."""
        rows = self.rows
        return Data(rows.label, rows.indices(TRAIN), rows.indices(VALIDATION))

    def feature_key(self, case: str) -> str:
        return feature_key(self.recipe, case, images=self.images, weights=self.backbone.weights_id)

    @cached_property
    def settings(self) -> str:
        """Digest of all that the heads of a run share, so that a table compares like with like."""
        return self._settings()

    def _settings(self, *without: str) -> str:
        settings = self.recipe.section("train")
        # more seeds leave the earlier ones as they are; the weights count by their content
        for name in ("seeds", "weights", *without):
            del settings[name]
        settings["precision"] = self.backbone.precision
        return digest([settings, self.backbone.weights_id, self.images, self.rows.digest()])

    def fingerprint(self, case: str) -> str:
        """Digest of all that a case's heads depend on, but for the seed."""
        return digest([self.settings, self.feature_key(case)])

    def resume_key(self, case: str) -> str:
        """Digest of all that a case's heads depend on up to any epoch of their training."""
        ends_count = self.recipe.train.schedule != "constant"
        settings = self.settings if ends_count else self._settings("epochs")
        return digest([settings, self.feature_key(case)])

    def outcome(self, task: _Task) -> _Outcome:
        """Do what is not current of a task, and keep errors with the heads before them."""
        self.task, self._arrays = task, {}
        self.seconds = {"features": 0.0, "heads": 0.0}
        heads: list[HeadResult] = []
        errors: dict[str, SfrError] = {}
        starts: list[State] = []
        for case in task.cases:
            try:
                if task.step == "features":
                    self._extract(case)
                else:
                    # what there is before an error stays in the list
                    starts += self._prepare(case, heads)
            except SfrError as error:
                errors[case] = error
        for epoch in sorted({start.epoch for start in starts}):
            start = State.joined([state for state in starts if state.epoch == epoch])
            try:
                heads.extend(self._side_by_side(start))
            except SfrError as error:
                done = {(head.case, head.seed) for head in heads}
                missing = [h for h in zip(start.cases, start.seeds, strict=True) if h not in done]
                errors |= {case: error for case, _ in missing}
        return _Outcome(heads, self.seconds, errors)

    def not_trained(self, case: str, known: set[int], error: SfrError) -> list[HeadResult]:
        """Return what became of the other heads of a case that was stopped by an error."""
        fingerprint = self.fingerprint(case)
        return [
            HeadResult(case, seed, "failed", str(error), {})
            for seed in range(self.recipe.train.seeds)
            if seed not in known
            and not self.workspace.check(_step(case, seed), fingerprint).current
        ]

    def _extract(self, case: str) -> None:
        """Make the features of a case, where a head needs them."""
        if not all(state.current for state in self._checked(case).values()):
            load_keras()
            self._features(case)

    def _prepare(self, case: str, heads: list[HeadResult]) -> list[State]:
        """List the heads of a case that are current; return where the others start."""
        states = self._checked(case)
        pending = [seed for seed, state in states.items() if not state.current]
        if pending:
            # what cannot be had, such as weights or a backend, must not cost earlier results
            load_keras()
            self._arrays[case] = self._features(case)
        self._retire(case, self.fingerprint(case))
        self.workspace.remember(SETTINGS, self.settings)
        for seed in sorted(states.keys() - pending):
            log.info("%s, seed %d: there already", case, seed)
            self._complete_model(case, seed)
            heads.append(HeadResult(case, seed, "current", "", self._read_metrics(case, seed)))
        self._reasons |= {(case, seed): states[seed].reason for seed in pending}
        for seed in pending:
            self.workspace.forget(_step(case, seed))
            (self.workspace.head(case, seed) / "metrics.json").unlink(missing_ok=True)
        return list(self._starts(case, pending))

    def _checked(self, case: str) -> dict[int, StepState]:
        """Look which heads of a case are current, of the task's seeds or of all."""
        fingerprint = self.fingerprint(case)
        return {
            seed: self.workspace.check(_step(case, seed), fingerprint, force=self.force)
            for seed in self.task.seeds or range(self.recipe.train.seeds)
        }

    def _side_by_side(self, start: State) -> Iterator[HeadResult]:
        """Train heads that stand at the same epoch, of one case or several."""
        with self._clock("heads"):
            everything = self._train(start)
            predictions = self._predict(everything)
        for case in dict.fromkeys([*start.cases, *(case for case, _ in start.failed)]):
            end, prediction = everything.of(case), predictions[:, everything.places(case)]
            yield from self._finish_case(case, end, prediction)

    def _finish_case(
        self, case: str, end: State, prediction: NDArray[np.float64]
    ) -> Iterator[HeadResult]:
        """Write what the heads of a case leave."""
        if self.backbone.precision != "float32" and end.seeds:
            self._say_effect(case, end, prediction)
        for (_, seed), epoch in end.failed.items():
            reason = (
                f"the loss is not finite in epoch {epoch}; lower train.learning_rate "
                f"({self.recipe.train.learning_rate})"
            )
            log.error("%s, seed %d failed: %s", case, seed, reason)
            yield HeadResult(case, seed, "failed", reason, {})
        r = []
        for place, seed in enumerate(end.seeds):
            found = self._finish(case, end.only([place]), prediction[:, place])
            r.append(found["r"])
            yield HeadResult(case, seed, "trained", self._reasons[case, seed], found)
        if r:
            # a bar on a terminal is gone by now
            log.info("%s, %s: trained, %s", case, _named(end.seeds), _test_r(r))
        self._checkpoint(case).unlink(missing_ok=True)
        if not self.task.seeds:
            # of seeds that were trained apart and stopped
            for stale in self.workspace.case(case).glob("checkpoint-*.npz"):
                stale.unlink()

    def _checkpoint(self, case: str) -> Path:
        return self.workspace.case_checkpoint(case, self.task.seeds)

    # -- epochs --------------------------------------------------------------------------------

    def _heads(self, cases: tuple[str, ...]) -> Heads:
        """Return the compiled model for heads of these cases, with their features."""
        names = list(dict.fromkeys(cases))
        counts = tuple(cases.count(name) for name in names)
        if self._model is None or self._model.counts != counts:
            # only one at a time: each holds the features
            self._model, self._loaded = None, {}
            array = self._arrays[names[0]]
            self._model = Heads(self.recipe.train, _rows_of(array), str(array.dtype), counts)
        for place, name in enumerate(names):
            if self._loaded.get(place) is not self._arrays[name]:
                self._model.load_features(place, self._arrays[name])
                self._loaded[place] = self._arrays[name]
        return self._model

    def _starts(self, case: str, pending: list[int]) -> Iterator[State]:
        """Yield where the heads of a case stand, those at the same epoch side by side."""
        key, epochs = self.resume_key(case), self.recipe.train.epochs
        if self.force or not pending:
            fresh, done = pending, {}
        else:
            interrupted = read_state(self._checkpoint(case), key)
            if interrupted is not None and interrupted.epoch <= epochs:
                failed = {seed for _, seed in interrupted.failed}
                same = {*interrupted.seeds} | failed == {*pending}
                if same:
                    log.info("%s: going on after epoch %d", case, interrupted.epoch)
                    yield interrupted
                    return
            done = self._done_before(case, pending, key)
            fresh = [seed for seed in pending if seed not in done]
        for epoch in sorted({state.epoch for state in done.values()}):
            states = [state for state in done.values() if state.epoch == epoch]
            seeds = [seed for state in states for seed in state.seeds]
            log.info("%s, %s: going on after epoch %d", case, _named(seeds), epoch)
            yield State.joined(states)
        if fresh:
            log.info("%s, %s: training", case, _named(fresh))
            bias = float(self.data.label[self.data.training].mean())
            _, *features = _rows_of(self._arrays[case])
            yield State.fresh(
                head_shapes(self.recipe.train, (features[0], features[1])),
                case,
                fresh,
                bias if self.recipe.train.output_bias == "mean_label" else 0.0,
            )

    def _done_before(self, case: str, pending: list[int], key: str) -> dict[int, State]:
        """Return the states of heads that were finished with fewer epochs."""
        found = {}
        for seed in pending:
            state = read_state(self.workspace.head(case, seed) / _CHECKPOINT, key)
            if state is not None and state.epoch <= self.recipe.train.epochs:
                found[seed] = state
        return found

    def _train(self, start: State) -> State:
        """Train heads side by side to the end, with a checkpoint from time to time."""
        cases = list(dict.fromkeys(start.cases))
        state, saved = start, time.monotonic()
        test_r = _LastLook(self._test_r)
        for state in train(self._heads, self.recipe.train, self.data, start):
            now = time.monotonic()
            if now - saved >= _CHECKPOINT_SECONDS:
                self._write_checkpoints(cases, self._settled(state))
                saved = time.monotonic()
            if state.seeds:
                label, epochs = f"training {_named_heads(state)}", self.recipe.train.epochs
                r = test_r.of(state, is_last=state.epoch >= epochs)
                note = f"loss {state.loss[:, -1].mean():.4f}, {r}"
                self.on_progress(label, state.epoch, epochs, note=note)
        return self._settled(state)

    def _settled(self, state: State) -> State:
        return settled(self._heads(state.cases), state) if state.seeds else state

    def _write_checkpoints(self, cases: Sequence[str], state: State) -> None:
        for case in cases:
            key = self.resume_key(case)
            write_state(self.workspace, self._checkpoint(case), key, state.of(case))

    def _test_r(self, state: State) -> str:
        """Say the mean r of the heads on the test subset, of those that have one."""
        test = self.rows.indices(TEST)
        found = self._heads(state.cases).predict(test).T
        return _test_r([metrics(self.rows.label[test], values)["r"] for values in found])

    def _weights_used(self, end: State) -> tuple[NDArray[np.float32], ...]:
        """Return the weights of the epoch that the recipe predicts from."""
        return end.predicting(self.recipe.train.predict_from)[0]

    def _predict(self, end: State) -> NDArray[np.float64]:
        """Predict all rows with the epoch that the recipe asks for, shape (N, K)."""
        if not end.seeds:
            return np.zeros((self.rows.label.size, 0))
        heads = self._heads(end.cases)
        heads.put(dataclasses.replace(end, weights=self._weights_used(end)))
        return heads.predict(np.arange(self.rows.label.size))

    def _features(self, case: str) -> NDArray[np.floating[Any]]:
        with self._clock("features"):
            return extract_features(
                self.workspace,
                self.recipe,
                case,
                self.rows.filenames,
                backbone=self.backbone,
                key=self.feature_key(case),
                force=self.force and self.task.step != "heads",
                on_progress=self.on_progress,
            ).array

    def _say_effect(self, case: str, end: State, prediction: NDArray[np.float64]) -> None:
        """Run some test images through the float32 backbone, and say what that changes."""
        rows = self.rows.indices(TEST)[:_COMPARED]
        exact = self.recipe.with_fields("train", precision="float32")
        features = features_of(
            self.workspace, exact, case, [self.rows.filenames[row] for row in rows]
        )
        array = self._arrays[case]
        used = np.asarray(array[rows], np.float64)
        change = np.sqrt(
            np.mean((used - features) ** 2) / np.mean(features.astype(np.float64) ** 2)
        )
        head, difference = self._published_head(_feature_shape(array)), []
        for place in range(len(end.seeds)):
            head.set_weights([array[place] for array in self._weights_used(end)])
            found = np.asarray(head.predict_on_batch(features))[:, 0]
            difference.append(prediction[rows, place] - found)
        log.info(
            "%s: %s against float32 on %d test images: features differ by %.2g %%, predictions by "
            "%.2g dex (rms), at most %.2g dex",
            case,
            self.backbone.precision,
            rows.size,
            100.0 * change,
            np.sqrt(np.mean(np.square(difference))),
            np.abs(difference).max(),
        )

    # -- what a head leaves --------------------------------------------------------------------

    def _finish(self, case: str, end: State, prediction: NDArray[np.float64]) -> dict[str, Any]:
        """Write the files of one trained head, ``metrics.json`` last."""
        (seed,) = end.seeds
        folder = self.workspace.head(case, seed)
        files = self._write_tables(folder, end, prediction)
        head = self._published_head(_feature_shape(self._arrays[case]))
        for name, weights in (
            (_BEST_WEIGHTS, end.best_weights),
            ("head.weights.h5", self._weights_used(end)),
        ):
            head.set_weights([array[0] for array in weights])
            files.append(folder / name)
            with self.workspace.replacing(files[-1]) as temporary, without_keras_json():
                head.save_weights(temporary)
        write_state(self.workspace, folder / _CHECKPOINT, self.resume_key(case), end)
        (folder / "model.keras").unlink(missing_ok=True)
        self._complete_model(case, seed)
        found = self._metrics(case, end, prediction)
        files.append(folder / "metrics.json")
        with self._claim(case):
            self.workspace.write_json(files[-1], found)
            self.workspace.mark_done(_step(case, seed), self.fingerprint(case), files)
        if found["dead"]:
            log.warning("%s, seed %d is dead: its output is the same for all images", case, seed)
        return found

    def _write_tables(
        self, folder: Path, end: State, prediction: NDArray[np.float64]
    ) -> list[Path]:
        rows, history = self.rows, folder / "history.csv"
        for stale in folder.glob("predictions-epoch-*.csv"):
            stale.unlink()
        columns = {
            "epoch": np.arange(1, end.epoch + 1),
            "loss": end.loss[0],
            "validation_loss": end.validation_loss[0],
        }
        write_table(self.workspace, history, columns)
        files = [history, folder / "predictions.csv"]
        self._write_predictions(files[-1], prediction)
        for epoch, array in sorted(end.marks.items()):
            files.append(folder / f"predictions-epoch-{epoch:05d}.csv")
            self._write_predictions(files[-1], array[0])
        values, test = folder / "YValues.npy", rows.indices(TEST)
        with self.workspace.replacing(values) as temporary:
            np.save(temporary, np.stack([rows.label[test], prediction[test]]))
        return [*files, values]

    def _write_predictions(self, path: Path, prediction: NDArray[np.float64]) -> None:
        rows = self.rows
        columns = {
            "filename": np.array(rows.filenames),
            "snapshot": rows.snapshot,
            "subhalo_id": rows.subhalo_id,
            "galaxy_id": rows.galaxy_id,
            "subset": rows.subset,
            "truth": rows.label,
            "prediction": prediction,
        }
        write_table(self.workspace, path, columns)

    def _metrics(self, case: str, end: State, prediction: NDArray[np.float64]) -> dict[str, Any]:
        rows, recipe = self.rows, self.recipe.train
        test, unit = rows.indices(TEST), rows.target.error_unit
        return {
            **metrics(rows.label[test], prediction[test], unit),
            "n_galaxies": count_galaxies(rows.galaxy_id[test]),
            "weights": self.weights,
            "seed": end.seeds[0],
            "case": case,
            "n_train": int(rows.indices(TRAIN).size),
            "n_validation": int(rows.indices(VALIDATION).size),
            "n_missing_images": rows.n_missing_images,
            "n_dropped_zero": rows.n_dropped_zero,
            "epochs": recipe.epochs,
            "epoch_used": int(end.predicting(recipe.predict_from)[1][0]),
            "best_training_epoch": int(end.best_epoch[0]),
            "dead_at_first_epoch": bool(end.dead_at_first[0]),
            "at_epochs": [
                {"epoch": epoch, **metrics(rows.label[test], array[0][test], unit)}
                for epoch, array in sorted(end.marks.items())
            ],
            "backbone": recipe.backbone,
            "precision": self.backbone.precision,
            "keras_backend": load_keras().backend.backend(),
            "recipe": self.recipe.name,
            "label": rows.target.text,
            "settings": self.settings,
        }

    def _read_metrics(self, case: str, seed: int) -> dict[str, Any]:
        return read_json(self.workspace.head(case, seed) / "metrics.json", "train with --force")

    def _retire(self, case: str, fingerprint: str) -> None:
        """Take heads of other settings out of the tables; their files stay until replaced."""
        with self._claim(case):
            others = [
                seed
                for name, seed in self.workspace.trained()
                if name == case and not self.workspace.check(_step(case, seed), fingerprint).current
            ]
            for seed in others:
                (self.workspace.head(case, seed) / "metrics.json").unlink(missing_ok=True)
        for seed in others:
            if seed >= self.recipe.train.seeds:
                log.warning(
                    "%s, seed %d has other settings or inputs and no longer counts; train it again "
                    "with --seeds %d",
                    case,
                    seed,
                    seed + 1,
                )

    def _claim(self, case: str) -> AbstractContextManager[bool]:
        """Keep a head that another worker finishes from being taken for one of other settings."""
        return self.workspace.claim(f"heads-{case}", wait=True)

    # -- the whole network ---------------------------------------------------------------------

    def _published_head(self, shape: tuple[int, int, int]) -> Any:  # noqa: ANN401
        """Return the head as published, for features (height, width, channels)."""
        if self._head is None:
            self._head = build_head(self.recipe.train, shape)
        return self._head

    def _complete_model(self, case: str, seed: int) -> None:
        """Save the whole network of a head, where it is wanted and not there.

        It follows from the head, so it is not among the files that make a head current: removing
        it costs no training.
        """
        folder = self.workspace.head(case, seed)
        model = folder / "model.keras"
        if (self.save_models or seed == _SHOWN_SEED) and not model.is_file():
            self._save_model(model)

    def _save_model(self, path: Path) -> None:
        backbone = self.backbone.model
        head = self._published_head(_feature_shape(backbone.output))
        with without_keras_json():
            head.load_weights(path.parent / "head.weights.h5")
        network = build_network(backbone, head)
        normalisation = self.workspace.normalisation_json
        about = about_model(
            self.recipe,
            path.parents[1].name,
            weights=self.weights,
            normalisation=read_json(normalisation) if normalisation.is_file() else None,
        )
        with self.workspace.replacing(path) as temporary:
            with without_keras_json():
                network.save(temporary)
            _complete_archive(temporary, about)

    @contextmanager
    def _clock(self, what: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[what] += time.monotonic() - start


def _test_r(scores: Sequence[float | None]) -> str:
    """Say the mean r of those heads that have one."""
    r = [score for score in scores if score is not None]
    return f"test r {np.mean(r):.3f}" if r else "test r undefined"


class _LastLook:
    """What a look at the heads last said: it costs time, so most epochs repeat it, with its epoch.

    Parameters
    ----------
    look : callable
        Says something of a state.
    """

    def __init__(self, look: Callable[[State], str]) -> None:
        self._look = look
        self._said, self._epoch, self._when = "", 0, -math.inf

    def of(self, state: State, *, is_last: bool) -> str:
        """Look again where it is time, and always at the last epoch."""
        if is_last or time.monotonic() - self._when >= _LOOK_SECONDS:
            self._said, self._epoch = self._look(state), state.epoch
            self._when = time.monotonic()
        return self._said if self._epoch == state.epoch else f"{self._said} (epoch {self._epoch})"


def _feature_shape(features: Any) -> tuple[int, int, int]:  # noqa: ANN401
    height, width, channels = features.shape[1:]
    return int(height), int(width), int(channels)


def _rows_of(features: Features) -> tuple[int, int, int]:
    """Return rows, pixels and channels."""
    rows, height, width, channels = features.shape
    return rows, height * width, channels


def _named_heads(state: State) -> str:
    """Return ``mass seed 3`` or ``4 cases seeds 0-7``."""
    cases = list(dict.fromkeys(state.cases))
    named = cases[0] if len(cases) == 1 else f"{len(cases)} cases"
    return f"{named} {_named(sorted(set(state.seeds)))}"


def _named(seeds: Sequence[int]) -> str:
    """Return ``seed 3`` or ``seeds 0-7``."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    is_range = len(seeds) > 0 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"seeds {seeds[0]}-{seeds[-1]}" if is_range else f"seeds {','.join(map(str, seeds))}"


def _step(case: str, seed: int) -> str:
    return f"train-{case}-seed-{seed}"


def _complete_archive(path: Path, about: dict[str, Any]) -> None:
    """Rewrite a ``.keras`` archive with what its images are, and without times and addresses."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(members["metadata.json"])
    metadata.pop("date_saved", None)
    members["metadata.json"] = json.dumps(metadata, sort_keys=True).encode()
    members[ABOUT] = json.dumps(about, sort_keys=True).encode()
    members["config.json"] = _renumbered(members["config.json"])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), members[name])


def _renumbered(config: bytes) -> bytes:
    """Replace the addresses that Keras names shared objects by, in order of appearance."""
    numbers: dict[bytes, bytes] = {}

    def number(match: re.Match[bytes]) -> bytes:
        return match[1] + numbers.setdefault(match[2], str(len(numbers)).encode())

    return re.sub(rb'("shared_object_id": )(\d+)', number, config)
