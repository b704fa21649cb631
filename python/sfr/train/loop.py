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

from sfr.recipe import TrainRecipe
from sfr.train.bootstrap import CONSTANT_RANGE
from sfr.train.heads import Heads
from sfr.train.state import State

__all__ = ["Data", "epoch_order", "epoch_orders", "learning_rate", "train"]

log = logging.getLogger(__name__)

#: First part of the seed of every order of rows.
_ORDER: Final = 1

#: Returns a model for heads of these cases, with their features.
GetHeads = Callable[[tuple[str, ...]], Heads]


@dataclass(frozen=True)
class Data:
    """What heads are trained on, besides the features.

    Attributes
    ----------
    label : ndarray of float64, shape (N,)
        log10(1e15 label) [dex].
    training, validation : ndarray of int64
        Rows of each subset; validation may be empty.
    """

    label: NDArray[np.float64]
    training: NDArray[np.int64]
    validation: NDArray[np.int64]


def epoch_order(training: NDArray[np.int64], epoch: int, seed: int) -> NDArray[np.int64]:
    """Return the order of the training rows in an epoch, from 1, for heads of a seed."""
    return np.random.default_rng([_ORDER, epoch, seed]).permutation(training)


def epoch_orders(
    training: NDArray[np.int64],
    epoch: int,
    seeds: Sequence[int],
    batch_order: Literal["own", "shared"],
) -> NDArray[np.int64]:
    """Return the orders of the training rows in an epoch, for heads side by side.

    Parameters
    ----------
    training : ndarray of int64
        The rows.
    epoch : int
        The epoch, from 1.
    seeds : sequence of int
        Seed of each head.
    batch_order : str
        ``train.batch_order`` of the recipe.

    Returns
    -------
    ndarray of int64, shape (rows, heads), or (rows, 1) where they share one
        Results of `epoch_order`, of seed 0 where heads share one.
    """
    wanted = (0,) if batch_order == "shared" else tuple(seeds)
    orders = {seed: epoch_order(training, epoch, seed) for seed in set(wanted)}
    return np.stack([orders[seed] for seed in wanted], axis=1)


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
        Returns a model for heads of these cases, with their features.
    recipe : TrainRecipe
        Epochs, schedule, which epoch predicts.
    data : Data
        Labels and subsets.
    state : State
        Where the heads stand.

    Yields
    ------
    State
        After each epoch. Weights, optimizer and dropout are those of the last call of `settled`.
    """
    if not state.seeds:
        return
    heads = get_heads(state.cases)
    heads.put(state)
    while state.epoch < recipe.epochs and state.seeds:
        epoch = state.epoch + 1
        loss = heads.train_epoch(
            epoch_orders(data.training, epoch, state.seeds, recipe.batch_order),
            data.label,
            learning_rate(recipe, epoch),
        )
        state = _after_epoch(heads, recipe, data, state, loss)
        bad = np.flatnonzero(~np.isfinite(loss))
        if bad.size:
            state = _without(settled(heads, state), bad, epoch)
            if state.seeds:
                heads = get_heads(state.cases)
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


def _after_epoch(
    heads: Heads, recipe: TrainRecipe, data: Data, state: State, loss: NDArray[np.float64]
) -> State:
    epoch = state.epoch + 1
    validation = np.full(len(state.seeds), np.nan)
    if data.validation.size:
        error = heads.predict(data.validation) - data.label[data.validation, np.newaxis]
        validation = np.mean(error**2, axis=0)
    if epoch == 1:
        state = dataclasses.replace(
            state, dead_at_first=np.ptp(heads.predict(data.training), axis=0) < CONSTANT_RANGE
        )
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
    failed = {(state.cases[place], state.seeds[place]): epoch for place in bad.tolist()}
    for case, seed in failed:
        log.error("%s, seed %d stops: its loss is not finite in epoch %d", case, seed, epoch)
    good = np.setdiff1d(np.arange(len(state.seeds)), bad)
    return dataclasses.replace(state.only(good.tolist()), failed={**state.failed, **failed})
