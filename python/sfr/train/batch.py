"""Heads that are trained side by side, from where they stand to what they leave."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import SfrError
from sfr.progress import Progress, silent
from sfr.run.names import ModelId
from sfr.train.evaluate import metrics
from sfr.train.features import features_of
from sfr.train.head import head_shapes
from sfr.train.heads import Heads
from sfr.train.loop import Data, on_own_rows, settled, train
from sfr.train.output import Metrics, ModelOutput, Values
from sfr.train.published import publish
from sfr.train.state import State, write_states
from sfr.train.training import Training

__all__ = ["BatchResult", "named", "say_r", "train_batch"]

log = logging.getLogger(__name__)

Features = NDArray[np.floating[Any]]

#: Time between two checkpoints: what a killed training loses at most [s].
_CHECKPOINT_SECONDS: Final = 30.0
#: Time between two predictions of the test subset, for the progress only [s].
_TEST_SECONDS: Final = 5.0
#: Test images on which bfloat16 is compared with float32.
_COMPARED: Final = 16


@dataclass
class BatchResult:
    """What became of heads that were trained in one go.

    Attributes
    ----------
    trained : dict of ModelId to dict
        Entries of ``metrics.json``.
    stopped : dict of ModelId to int
        Epoch in which a loss was not finite.
    errors : dict of str to SfrError
        What stopped a case.
    seconds_features, seconds_heads : float
        Time that they took [s].
    """

    trained: dict[ModelId, Metrics] = field(default_factory=dict)
    stopped: dict[ModelId, int] = field(default_factory=dict)
    errors: dict[str, SfrError] = field(default_factory=dict)
    seconds_features: float = 0.0
    seconds_heads: float = 0.0

    def add(self, other: BatchResult) -> None:
        """Take what became of others, too."""
        self.trained |= other.trained
        self.stopped |= other.stopped
        self.errors |= other.errors
        self.seconds_features += other.seconds_features
        self.seconds_heads += other.seconds_heads


def train_batch(
    training: Training,
    models: Sequence[ModelId],
    *,
    force: bool = False,
    on_progress: Progress = silent,
) -> BatchResult:
    """Train heads side by side, those that stand at the same epoch at a time.

    What is finished is in the files of its case when it stands in the result; a process that is
    killed loses what it had in hand since its last checkpoint.

    Parameters
    ----------
    training : Training
        The training.
    models : sequence of ModelId
        The heads, of one case or several.
    force : bool
        Begin at the first epoch.
    on_progress : callable
        Hears of images and of epochs.

    Returns
    -------
    BatchResult
        Every head is in it, or its case among the errors.
    """
    result = BatchResult()
    features: dict[str, Features] = {}
    waiting: dict[ModelId, State] = {}
    start = time.monotonic()
    for case in dict.fromkeys(model.case for model in models):
        mine = [model for model in models if model.case == case]
        try:
            # what cannot be had, such as weights or a backend, must not cost earlier results
            training.load_backend()
            features[case] = training.features(case, on_progress=on_progress).array
            _retire(training, case, mine)
            heads, stopped = _starts(training, mine, features[case].shape, force=force)
        except SfrError as error:
            result.errors[case] = error
        else:
            waiting |= heads
            result.stopped |= stopped
    result.seconds_features = time.monotonic() - start
    while waiting:
        epoch = min(state.epoch for state in waiting.values())
        # in the order of the cases: heads of a case lie side by side
        now = [model for model in models if model in waiting and waiting[model].epoch == epoch]
        together = State.joined([waiting.pop(model) for model in now])
        try:
            with_features = {case: features[case] for case in together.cases}
            _SideBySide(training, with_features, on_progress).train(together, waiting, result)
        except SfrError as error:
            missing = {model.case for model in now} - {model.case for model in result.trained}
            result.errors |= dict.fromkeys(missing, error)
    result.seconds_heads = time.monotonic() - start - result.seconds_features
    return result


def _retire(training: Training, case: str, models: Sequence[ModelId]) -> None:
    """Take heads of other settings, and those that are trained again, out of the tables."""
    others = training.files(case).start(training.fingerprint(case), models)
    known = training.models(case)
    for model in others:
        if model not in known:
            log.warning(
                "%s has other settings or inputs and no longer counts; train it again with "
                "--seeds %d",
                model,
                model.seed + 1,
            )


def _starts(
    training: Training, models: Sequence[ModelId], shape: tuple[int, ...], *, force: bool
) -> tuple[dict[ModelId, State], dict[ModelId, int]]:
    """Return where heads of a case start, and those that a training before had to stop."""
    case, epochs = models[0].case, training.recipe.train.epochs
    found: dict[ModelId, State] = {}
    stopped: dict[ModelId, int] = {}
    if not force:
        found, stopped = training.files(case).states(training.resume_key(case), epochs)
    found = {model: found[model] for model in models if model in found}
    stopped = {model: stopped[model] for model in models if model in stopped}
    for epoch in sorted({state.epoch for state in found.values()}):
        these = [model for model, state in found.items() if state.epoch == epoch]
        log.info("%s: going on after epoch %d", named(these), epoch)
    fresh = [model for model in models if model not in found and model not in stopped]
    if fresh:
        log.info("%s: training", named(fresh))
        _, height, width, channels = shape
        shapes = head_shapes(training.recipe.train, (height * width, channels))
        found |= State.fresh(shapes, fresh, _output_bias(training)).each()
    return found, stopped


def _output_bias(training: Training) -> dict[int, float]:
    """Return the bias that the outputs of each fold start with [dex]."""
    from_label = training.recipe.train.output_bias == "mean_label"
    data = training.data
    return {
        number: float(data.label[fold.training].mean()) if from_label else 0.0
        for number, fold in enumerate(data.folds)
    }


@dataclass(frozen=True)
class _SideBySide:
    """Heads that stand at the same epoch, on the features of their cases."""

    training: Training
    features: Mapping[str, Features]
    on_progress: Progress

    @property
    def data(self) -> Data:
        return self.training.data

    def get_heads(self, models: Sequence[ModelId]) -> Heads:
        return self.training.heads.get(models, self.features)

    def train(self, start: State, waiting: Mapping[ModelId, State], result: BatchResult) -> None:
        """Train heads to the last epoch, and write what they leave."""
        end = self._run(start, waiting)
        prediction = self._predict(end)
        for case in start.cases:
            mine, predicted = end.of(case), prediction[:, end.places(case)]
            if self.training.backbone.precision != "float32" and mine.models:
                self._say_effect(case, mine, predicted)
            result.trained |= self._finish(case, mine, predicted)
        result.stopped |= end.failed

    def _run(self, start: State, waiting: Mapping[ModelId, State]) -> State:
        """Train to the last epoch, with a checkpoint from time to time."""
        state, saved = start, time.monotonic()
        test_r = _NowAndThen(self._test_r)
        recipe = self.training.recipe.train
        for state in train(self.get_heads, recipe, self.data, start):
            if time.monotonic() - saved >= _CHECKPOINT_SECONDS:
                self._write_checkpoints(self._settled(state), waiting)
                saved = time.monotonic()
            if state.models:
                r = test_r.of(state, is_last=state.epoch >= recipe.epochs)
                note = f"loss {state.loss[:, -1].mean():.4f}, {r}"
                label = f"training {_heads_in_words(state)}"
                self.on_progress(label, state.epoch, recipe.epochs, note=note)
        return self._settled(state)

    def _settled(self, state: State) -> State:
        return settled(self.get_heads(state.models), state) if state.models else state

    def _write_checkpoints(self, state: State, waiting: Mapping[ModelId, State]) -> None:
        """Keep where the heads are, and those of their cases whose turn comes later."""
        for case in self.features:
            later = {model: other for model, other in waiting.items() if model.case == case}
            mine = state.of(case)
            states = [mine, *State.by_epoch(later)]
            path = self.training.files(case).checkpoint([*mine.models, *mine.failed, *later])
            key = self.training.resume_key(case)
            write_states(self.training.workspace, path, key, states)

    def _test_r(self, state: State) -> str:
        """Say the mean r of the heads on their test images, of those that have one."""
        found = on_own_rows(self.get_heads(state.models), self.data, "test", state.models)
        label = self.data.label
        return say_r([metrics(label[rows], values)["r"] for rows, values in found])

    def _predict(self, end: State) -> Values:
        """Predict all images with the epoch that the recipe asks for, shape (N, K)."""
        every = np.arange(self.data.label.size)
        if not end.models:
            return np.zeros((every.size, 0))
        heads = self.get_heads(end.models)
        used, _ = end.predicting(self.training.recipe.train.predict_from)
        heads.put(dataclasses.replace(end, weights=used))
        return heads.predict(every)

    def _finish(self, case: str, end: State, prediction: Values) -> dict[ModelId, Metrics]:
        """Write what the heads of a case leave."""
        training = self.training
        _, height, width, channels = self.features[case].shape
        outputs = []
        for place, (model, state) in enumerate(end.each().items()):
            values = np.ascontiguousarray(prediction[:, place])
            outputs.append(ModelOutput(model, training.metrics(values, state), values, state))
            publish(training, outputs[-1], (height, width, channels))
        if outputs:
            training.files(case).gather(
                training.fingerprint(case), training.resume_key(case), training.images, outputs
            )
            # a bar on a terminal is gone by now
            r = say_r([output.metrics["r"] for output in outputs])
            log.info("%s: trained, %s", named(end.models), r)
        found = {output.model: output.metrics for output in outputs}
        for model, entry in found.items():
            if entry["dead"]:
                log.warning("%s is dead: its output is the same for all images", model)
        return found

    def _say_effect(self, case: str, end: State, prediction: Values) -> None:
        """Run some test images through the float32 backbone, and say what that changes."""
        training, array = self.training, self.features[case]
        rows = self.data.folds[end.models[0].fold].test[:_COMPARED]
        exact = training.recipe.with_fields("train", precision="float32")
        names = [training.rows.filenames[row] for row in rows]
        features = features_of(training.workspace, exact, case, names)
        used = np.asarray(array[rows], np.float64)
        change = np.sqrt(
            np.mean((used - features) ** 2) / np.mean(features.astype(np.float64) ** 2)
        )
        _, height, width, channels = array.shape
        head, difference = training.heads.published((height, width, channels)), []
        weights, _ = end.predicting(training.recipe.train.predict_from)
        for place in range(len(end.models)):
            head.set_weights([array[place] for array in weights])
            found = np.asarray(head.predict_on_batch(features))[:, 0]
            difference.append(prediction[rows, place] - found)
        log.info(
            "%s: %s against float32 on %d test images: features differ by %.2g %%, predictions by "
            "%.2g dex (rms), at most %.2g dex",
            case,
            training.backbone.precision,
            rows.size,
            100.0 * change,
            np.sqrt(np.mean(np.square(difference))),
            np.abs(difference).max(),
        )


class _NowAndThen:
    """What is said of a state: it costs time, so most epochs repeat it, with the epoch it is of.

    Parameters
    ----------
    say : callable
        Says something of a state.
    """

    def __init__(self, say: Callable[[State], str]) -> None:
        self._say = say
        self._said, self._epoch, self._when = "", 0, -math.inf

    def of(self, state: State, *, is_last: bool) -> str:
        """Say it anew where it is time, and always at the last epoch."""
        if is_last or time.monotonic() - self._when >= _TEST_SECONDS:
            self._said, self._epoch = self._say(state), state.epoch
            self._when = time.monotonic()
        return self._said if self._epoch == state.epoch else f"{self._said} (epoch {self._epoch})"


def say_r(scores: Sequence[float | None]) -> str:
    """Say the mean r of those heads that have one."""
    r = [score for score in scores if score is not None]
    if not r:
        return "test r undefined"
    of_how_many = f", mean of {len(r)}" if len(r) > 1 else ""
    return f"test r {np.mean(r):.3f}{of_how_many}"


def named(models: Sequence[ModelId]) -> str:
    """Name heads of a case in words.

    Examples
    --------
    >>> named([ModelId("mass", 0, seed) for seed in range(8)])
    'mass, seeds 0-7'
    """
    return f"{models[0].case}, {_numbered(models)}"


def _heads_in_words(state: State) -> str:
    """Return ``mass seed 3`` or ``4 cases seeds 0-7``."""
    cases = state.cases
    return f"{cases[0] if len(cases) == 1 else f'{len(cases)} cases'} {_numbered(state.models)}"


def _numbered(models: Sequence[ModelId]) -> str:
    """Return ``seed 3``, ``seeds 0-7`` or ``folds 0-9, seeds 0-7``."""
    folds, seeds = ({getattr(model, name) for model in models} for name in ("fold", "seed"))
    said = [_series("seed", seeds)]
    if folds != {0}:
        said.insert(0, _series("fold", folds))
    return ", ".join(said)


def _series(noun: str, numbers: set[int]) -> str:
    ordered = sorted(numbers)
    if len(ordered) == 1:
        return f"{noun} {ordered[0]}"
    is_range = ordered == list(range(ordered[0], ordered[-1] + 1))
    listed = f"{ordered[0]}-{ordered[-1]}" if is_range else ",".join(map(str, ordered))
    return f"{noun}s {listed}"
