"""Training of the heads of a run: what is current is skipped, the rest is planned and done.

Two steps in parts: the features of the cases, then their heads.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy as np

from sfr.compute.tasks import Workers
from sfr.errors import ConfigError, SfrError
from sfr.nn.backbone import chosen_precision
from sfr.nn.keras_import import chosen_backend, stated_backend
from sfr.progress import Progress, silent
from sfr.recipe import Recipe
from sfr.run.names import ModelId
from sfr.run.parts import Parts, PartsDone, do_parts
from sfr.run.workspace import Workspace, digest
from sfr.train.batch import BatchResult, train_batch
from sfr.train.latest import remember_settings
from sfr.train.probes import fit_case
from sfr.train.published import complete_network
from sfr.train.training import Training

__all__ = ["HeadResult", "TrainSummary", "train_case", "train_cases", "training_of"]

log = logging.getLogger(__name__)

MadeT = TypeVar("MadeT")

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
    n_missing_images, n_dropped_zero : int
        Rows of the split that were left out.
    seconds_features, seconds_heads : float
        Time in the backbone and in the heads, of all processes together [s].
    training : Training
        What was trained.
    """

    results: tuple[HeadResult, ...]
    fingerprint: str
    n_missing_images: int
    n_dropped_zero: int
    seconds_features: float
    seconds_heads: float
    training: Training = field(repr=False, compare=False)

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
        recipe.case(name)
    training = training_of(workspace, recipe, save_models=save_models)
    if not training.is_ridge:
        training.data.batches(training.recipe.train.batch_size)
    plans = {name: _plan(training, name, force=force) for name in names}
    pending = {name: list(plan.pending) for name, plan in plans.items() if plan.pending}
    done = _extract(training, list(pending), workers, on_progress, force=force)
    pending = {name: models for name, models in pending.items() if name not in done.errors}
    if len(done.errors) < len(names):
        remember_settings(workspace, training.settings)
    batches = _batches(training, pending, workers)
    done.add(_train(training, batches, workers, on_progress, force=force))
    if len(done.errors) == len(names) and not done.trained:
        raise done.errors[names[0]]
    results = [result for name in names for result in _results(training, plans[name], done)]
    for name in names:
        mine = [result for result in results if result.model.case == name]
        _settle(training, name, mine, done.errors.get(name))
    return TrainSummary(
        results=tuple(results),
        fingerprint=digest([training.fingerprint(name) for name in names]),
        n_missing_images=training.rows.n_missing_images,
        n_dropped_zero=training.rows.n_dropped_zero,
        seconds_features=done.seconds_features,
        seconds_heads=done.seconds_heads,
        training=training,
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


def training_of(workspace: Workspace, recipe: Recipe, *, save_models: bool = False) -> Training:
    """Return the training that `train_cases` does, with a precision that is decided here."""
    decided = recipe.with_fields("train", precision=chosen_precision(recipe.train.precision))
    return Training(workspace, decided, stated_backend(), save_models)


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
    finished = files.finished(training.fingerprint(case)) if state.current else {}
    reason = state.reason or "new"
    return _Plan(
        case,
        {model: finished[model] for model in models if model in finished},
        {model: reason for model in models if model not in finished},
    )


def _batches(
    training: Training, pending: Mapping[str, Sequence[ModelId]], workers: Workers | None
) -> list[tuple[ModelId, ...]]:
    """Decide which heads train side by side: those of a case, unless another way is faster.

    No byte depends on it, so that it may depend on who works: other backends, and a shared order,
    round heads by what else is in their program.
    """
    batches = [tuple(models) for models in pending.values()]
    if not batches:
        return []
    backend = stated_backend() or chosen_backend()
    if training.is_ridge:
        return batches
    free = backend == "tensorflow" and training.recipe.train.batch_order == "own"
    if free and workers is None and all(len(models) == 1 for models in batches):
        return _joined(training, batches)
    if free and workers is not None and len(batches) < workers.count:
        count = -(-workers.count // len(batches))
        return [part for models in batches for part in _parts(models, count)]
    return batches


def _joined(
    training: Training, batches: Sequence[tuple[ModelId, ...]]
) -> list[tuple[ModelId, ...]]:
    """Put cases of one head each together, which share the cost of a step: docs/training.md."""
    sizes = [training.features_file(models[0].case).stat().st_size for models in batches]
    most = max(1, _TOGETHER_BYTES // max(sizes))
    starts = range(0, len(batches), most)
    return [tuple(m for models in batches[at : at + most] for m in models) for at in starts]


def _parts(models: Sequence[ModelId], count: int) -> list[tuple[ModelId, ...]]:
    """Cut the heads of a case into so many parts for workers that would have nothing to do."""
    ends = np.linspace(0, len(models), min(count, len(models)) + 1).astype(int).tolist()
    return [tuple(models[a:b]) for a, b in itertools.pairwise(ends)]


# -- the two steps ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Step(Parts[MadeT]):
    """One of the two, whose parts are cases or heads: what fails costs these, and no others."""

    training: Training
    force: bool
    #: Hears of a part by name, where this process makes it; None: others do.
    hear: Progress | None = None

    def give_up(self, part: int, error: SfrError) -> None:
        """Leave it out."""

    def hearing(self, on_done: Callable[[int], None]) -> Progress:
        """Return what hears of a part that is being made."""
        return self.hear or _counting(on_done)

    def run(self, workers: Workers | None, on_progress: Progress) -> PartsDone[MadeT]:
        """Make all parts that are not there, here or elsewhere."""
        if workers is None:
            return do_parts(dataclasses.replace(self, hear=on_progress), force=self.force)
        return do_parts(self, workers=workers, force=self.force, on_progress=on_progress)


@dataclass(frozen=True, kw_only=True)
class _Features(_Step[float]):
    """Features of some cases, a case a part, which returns the time that it took [s]."""

    cases: tuple[str, ...]

    def make(self, part: int, on_done: Callable[[int], None]) -> float:
        """Run the backbone over a case."""
        start = time.monotonic()
        with _ONE_AT_A_TIME:
            self.training.load_backend()
            on_progress = self.hearing(on_done)
            self.training.features(self.cases[part], force=self.force, on_progress=on_progress)
        return time.monotonic() - start

    def is_there(self, part: int) -> bool:
        """Whether the file of a case is whole."""
        return not self.force and self.training.has_features(self.cases[part])

    def size(self, part: int) -> int:
        """Images of a case."""
        return self.training.rows.label.size

    def finish(self) -> Iterable[Path]:
        """Answer for the cases' files."""
        return map(self.training.features_file, self.cases)


@dataclass(frozen=True, kw_only=True)
class _Heads(_Step[BatchResult]):
    """Heads that are to be trained, a batch a part."""

    batches: tuple[tuple[ModelId, ...], ...]

    def make(self, part: int, on_done: Callable[[int], None]) -> BatchResult:
        """Train a batch."""
        with _ONE_AT_A_TIME:
            on_progress, batch = self.hearing(on_done), self.batches[part]
            if self.training.is_ridge:
                return fit_case(self.training, batch, on_progress=on_progress)
            return train_batch(self.training, batch, force=self.force, on_progress=on_progress)

    def is_there(self, part: int) -> bool:
        """Whether all heads of a batch are finished."""
        return not self.force and all(map(self.training.finished, self.batches[part]))

    def why_again(self) -> str:
        """There are heads to train, whatever is known of those before."""
        return "new"

    def size(self, part: int) -> int:
        """Epochs of a batch; ridge has none, and counts as one."""
        return 1 if self.training.is_ridge else self.training.recipe.train.epochs

    def finish(self) -> Iterable[Path]:
        """Answer for nothing: `CaseFiles` knows what of a case is current."""
        return ()


def _counting(on_done: Callable[[int], None]) -> Progress:
    """Return what adds up the images or epochs that are done, for another process."""
    done: dict[str, int] = {}

    def hear(label: str, now: int, /, *_: object, **__: object) -> None:
        done[label] = now
        on_done(sum(done.values()))

    return hear


def _extract(
    training: Training,
    cases: Sequence[str],
    workers: Workers | None,
    on_progress: Progress,
    *,
    force: bool,
) -> BatchResult:
    """Make the features of cases, here or elsewhere."""
    done = BatchResult()
    if not cases:
        return done
    step = _Features(
        workspace=training.workspace,
        step="features",
        fingerprint=digest([training.feature_key(case) for case in cases]),
        count=len(cases),
        label=f"images of {len(cases)} cases",
        words="features",
        training=training,
        cases=tuple(cases),
        force=force,
    )
    found = step.run(workers, on_progress)
    done.errors = {cases[part]: error for part, error in found.failed.items()}
    done.seconds_features = sum(found.made.values())
    return done


def _train(
    training: Training,
    batches: Sequence[tuple[ModelId, ...]],
    workers: Workers | None,
    on_progress: Progress,
    *,
    force: bool,
) -> BatchResult:
    """Train batches of heads, here or elsewhere."""
    done = BatchResult()
    if not batches:
        return done
    cases = {model.case for models in batches for model in models}
    step = _Heads(
        workspace=training.workspace,
        step="heads",
        fingerprint=digest([batches, [training.fingerprint(case) for case in sorted(cases)]]),
        count=len(batches),
        label=f"epochs of {len(cases)} cases",
        words="heads",
        training=training,
        batches=tuple(batches),
        force=force,
    )
    found = step.run(workers, on_progress)
    for result in found.made.values():
        done.add(result)
    for part, error in found.failed.items():
        done.errors |= dict.fromkeys((model.case for model in batches[part]), error)
    return done


# -- what came of it -------------------------------------------------------------------------------


def _results(training: Training, plan: _Plan, done: BatchResult) -> list[HeadResult]:
    """Return what became of every head of a case."""
    rate = training.recipe.train.learning_rate
    trained = dict(done.trained)
    if not plan.pending.keys() <= trained.keys() | done.stopped.keys():
        # what a worker finished before it died
        trained |= training.files(plan.case).finished(training.fingerprint(plan.case))
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


def _settle(
    training: Training, case: str, results: Sequence[HeadResult], error: SfrError | None
) -> None:
    """Keep which heads of a case failed; remove what only an interrupted training needs."""
    files = training.files(case)
    failed = {result.model: result.reason for result in results if result.status == "failed"}
    files.say_failed(training.settings, failed)
    if error is not None:
        log.error("%s failed: %s", case, error)
        return
    for path in files.checkpoints():
        path.unlink()
