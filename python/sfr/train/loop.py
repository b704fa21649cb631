"""The training loop: epochs on a state, its checkpoints, and which epoch predicts."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from sfr.errors import ConfigError
from sfr.recipe import TrainRecipe
from sfr.run.names import ModelId
from sfr.train.bootstrap import CONSTANT_RANGE
from sfr.train.heads import Heads, groups_of
from sfr.train.state import State

__all__ = [
    "Data",
    "Fold",
    "epoch_order",
    "epoch_orders",
    "learning_rate",
    "on_own_rows",
    "settled",
    "train",
]

log = logging.getLogger(__name__)

#: First part of the seed of every order of rows.
_ORDER: Final = 1

#: Returns a model for these heads, with the features of their cases.
GetHeads = Callable[[tuple[ModelId, ...]], Heads]


@dataclass(frozen=True)
class Fold:
    """Rows that the heads of a fold are trained on, validated and tested on; sorted.

    Attributes
    ----------
    training, validation, test : ndarray of int64
        The rows; validation may be empty.
    """

    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True)
class Data:
    """What heads are trained on, besides the features: the same rows for all of them.

    Attributes
    ----------
    label : ndarray of float64, shape (N,)
        log10(1e15 label) [dex].
    folds : tuple of Fold
        Rows of each fold, by its number.
    """

    label: NDArray[np.float64]
    folds: tuple[Fold, ...]

    def rows_of(self, subset: str, models: Sequence[ModelId]) -> list[NDArray[np.int64]]:
        """Return the rows of a subset of the fold of each head."""
        return [getattr(self.folds[model.fold], subset) for model in models]

    def batches(self, size: int) -> int:
        """Return the batches of an epoch: those of the largest fold, for all of them.

        Heads of a smaller fold, which would need fewer, get as many, each smaller by as much. So
        an epoch is as many steps in every fold, and a fold trains alike in company and alone.
        """
        counts = [fold.training.size for fold in self.folds]
        batches = math.ceil(max(counts) / size)
        if min(counts) < batches:
            raise ConfigError(
                f"fold {counts.index(min(counts))} has {min(counts)} training images, and an "
                f"epoch of the largest one {batches} batches; use fewer folds or larger batches"
            )
        return batches


def epoch_order(training: NDArray[np.int64], epoch: int, seed: int) -> NDArray[np.int64]:
    """Return the order of the training rows in an epoch, from 1, for heads of a seed."""
    return np.random.default_rng([_ORDER, epoch, seed]).permutation(training)


def epoch_orders(
    data: Data, epoch: int, models: Sequence[ModelId], batch_order: Literal["own", "shared"]
) -> list[NDArray[np.int64]]:
    """Return the orders of the training rows in an epoch, for heads side by side.

    Parameters
    ----------
    data : Data
        The rows of the folds.
    epoch : int
        The epoch, from 1.
    models : sequence of ModelId
        The heads.
    batch_order : str
        ``train.batch_order`` of the recipe.

    Returns
    -------
    list of ndarray of int64
        Results of `epoch_order` for each group of `sfr.train.heads.groups_of`, of seed 0 where its
        heads share one.
    """
    return [
        epoch_order(
            data.folds[group[0].fold].training,
            epoch,
            0 if batch_order == "shared" else group[0].seed,
        )
        for group in groups_of(models, batch_order)
    ]


def learning_rate(recipe: TrainRecipe, epoch: int) -> float:
    """Return the learning rate of an epoch, from 1.

    Parameters
    ----------
    recipe : TrainRecipe
        Learning rate, schedule, warm-up and epochs.
    epoch : int
        The epoch.

    Returns
    -------
    float
        With warm-up over w epochs, epoch / w of the rate in the first w; with ``cosine`` times
        (1 + cos(pi (epoch - 1) / epochs)) / 2.
    """
    rate = recipe.learning_rate * min(1.0, epoch / max(1, recipe.warmup_epochs))
    if recipe.schedule == "cosine":
        rate *= 0.5 * (1.0 + math.cos(math.pi * (epoch - 1) / recipe.epochs))
    return rate


def train(get_heads: GetHeads, recipe: TrainRecipe, data: Data, state: State) -> Iterator[State]:
    """Train heads up to the recipe's last epoch.

    A head whose loss is not finite leaves the state, and the others go on without it. Between two
    epochs the model must not be used for training.

    Parameters
    ----------
    get_heads : callable
        Returns a model for these heads, with the features of their cases.
    recipe : TrainRecipe
        Epochs, schedule, which epoch predicts.
    data : Data
        Labels and folds.
    state : State
        Where the heads stand.

    Yields
    ------
    State
        After each epoch. Weights, optimizer and dropout are those of the last call of `settled`.
    """
    if not state.models:
        return
    heads, batches = get_heads(state.models), data.batches(recipe.batch_size)
    heads.put(state)
    while state.epoch < recipe.epochs and state.models:
        epoch = state.epoch + 1
        loss = heads.train_epoch(
            epoch_orders(data, epoch, state.models, recipe.batch_order),
            batches,
            data.label,
            learning_rate(recipe, epoch),
        )
        state = _after_epoch(heads, recipe, data, state, loss)
        bad = np.flatnonzero(~np.isfinite(loss))
        if bad.size:
            state = _without(settled(heads, state), bad, epoch)
            if state.models:
                heads = get_heads(state.models)
                heads.put(state)
        yield state


def settled(heads: Heads, state: State) -> State:
    """Return a state with the weights, optimizer and dropout that the model has now."""
    return dataclasses.replace(
        state,
        weights=heads.weights(),
        optimizer=heads.optimizer(),
        dropout=heads.dropout(),
        iterations=heads.iterations(),
    )


def on_own_rows(
    heads: Heads, data: Data, subset: str, models: Sequence[ModelId]
) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Return the rows of a subset of each head's fold, and its predictions for them [dex]."""
    mine = data.rows_of(subset, models)
    every = np.unique(np.concatenate(mine))
    predicted = heads.predict(every)
    return [(rows, predicted[np.searchsorted(every, rows), k]) for k, rows in enumerate(mine)]


def _after_epoch(
    heads: Heads, recipe: TrainRecipe, data: Data, state: State, loss: NDArray[np.float64]
) -> State:
    epoch = state.epoch + 1
    validation = np.full(len(state.models), np.nan)
    for place, (rows, predicted) in enumerate(on_own_rows(heads, data, "validation", state.models)):
        if rows.size:
            # head by head: a mean over rows of K columns is rounded by what K is
            validation[place] = np.mean((predicted - data.label[rows]) ** 2)
    if epoch == 1:
        spans = [np.ptp(found) for _, found in on_own_rows(heads, data, "training", state.models)]
        state = dataclasses.replace(state, dead_at_first=np.array(spans) < CONSTANT_RANGE)
    if epoch in recipe.evaluate_at:
        everything = heads.predict(np.arange(data.label.size)).T
        state = dataclasses.replace(state, marks={**state.marks, epoch: everything})
    state = dataclasses.replace(
        state,
        loss=np.column_stack([state.loss, loss]),
        validation_loss=np.column_stack([state.validation_loss, validation]),
    )
    state = _keep_best(heads, state, "best", state.loss)
    if recipe.predict_from == "best_validation":
        return _keep_best(heads, state, "validation", state.validation_loss)
    return state


def _keep_best(heads: Heads, state: State, kept: str, scores: NDArray[np.float64]) -> State:
    """Keep the weights of the heads that have never been better."""
    better = scores[:, -1] < np.min(scores[:, :-1], axis=1, initial=np.inf)
    if not better.any():
        return state
    chosen = heads.weights()
    best: tuple[NDArray[np.float32], ...] = getattr(state, f"{kept}_weights")
    if best and not better.all():
        chosen = tuple(
            np.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in zip(chosen, best, strict=True)
        )
    epochs = np.where(better, state.epoch, getattr(state, f"{kept}_epoch"))
    changes: dict[str, Any] = {f"{kept}_weights": chosen, f"{kept}_epoch": epochs}
    return dataclasses.replace(state, **changes)


def _without(state: State, bad: NDArray[np.int64], epoch: int) -> State:
    failed = {state.models[place]: epoch for place in bad.tolist()}
    for model in failed:
        log.error("%s stops: its loss is not finite in epoch %d", model, epoch)
    good = np.setdiff1d(np.arange(len(state.models)), bad)
    return dataclasses.replace(state.only(good.tolist()), failed={**state.failed, **failed})
