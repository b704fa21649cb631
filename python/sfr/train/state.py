"""Where the training of some heads stands: all that is needed to go on as if never stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfr.nn.first_weights import initial_weights
from sfr.run.checkpoint import read_checkpoint, write_checkpoint
from sfr.run.workspace import Workspace

__all__ = ["State", "read_state", "write_state"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class State:
    """K heads after some epochs; every array but the histories has K rows.

    Attributes
    ----------
    cases : tuple of str
        Case of each head; those of a case lie side by side.
    seeds : tuple of int
        Seed of each head.
    iterations : int
        Steps done.
    weights : tuple of ndarray of float32, shape (K, ...)
        Weights in the published head's order and shapes.
    optimizer : tuple of ndarray of float32, shape (K, ...)
        The optimizer's variables; empty before the first epoch.
    dropout : ndarray of int64, shape (K, 2)
        Where each head's dropout sequence is.
    loss, validation_loss : ndarray of float64, shape (K, epochs)
        Mean squared errors [dex^2]; the second NaN without validation rows.
    best_epoch : ndarray of int64, shape (K,)
        Epoch of the lowest training loss so far; 0 before the first.
    best_weights : tuple of ndarray of float32
        Weights of that epoch, like ``weights``; empty before the first.
    validation_epoch, validation_weights
        The same for the lowest validation loss, where the recipe predicts from it; else 0, empty.
    dead_at_first : ndarray of bool, shape (K,)
        Heads whose output was constant after the first epoch.
    marks : dict of int to ndarray of float64, shape (K, N)
        Predictions for all rows at the epochs of ``train.evaluate_at`` passed so far [dex].
    failed : dict of (str, int) to int
        Cases and seeds of heads that were stopped, and the epoch in which their loss was not
        finite.
    """

    cases: tuple[str, ...]
    seeds: tuple[int, ...]
    iterations: int
    weights: tuple[Floats, ...]
    optimizer: tuple[Floats, ...]
    dropout: NDArray[np.int64]
    loss: NDArray[np.float64]
    validation_loss: NDArray[np.float64]
    best_epoch: NDArray[np.int64]
    best_weights: tuple[Floats, ...]
    validation_epoch: NDArray[np.int64]
    validation_weights: tuple[Floats, ...]
    dead_at_first: NDArray[np.bool_]
    marks: dict[int, NDArray[np.float64]]
    failed: dict[tuple[str, int], int]

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return int(self.loss.shape[1])

    def only(self, places: Sequence[int]) -> State:
        """Return some of the heads."""
        rows = list(places)
        arrays: dict[str, Any] = {name: getattr(self, name)[rows] for name in _BY_HEAD}
        for name in _LISTS:
            arrays[name] = tuple(array[rows] for array in getattr(self, name))
        return dataclasses.replace(
            self,
            cases=tuple(self.cases[place] for place in rows),
            seeds=tuple(self.seeds[place] for place in rows),
            marks={epoch: array[rows] for epoch, array in self.marks.items()},
            **arrays,
        )

    def predicting(self, which: str) -> tuple[tuple[Floats, ...], NDArray[np.int64]]:
        """Return the weights that predict, and the epoch that they are of for each head.

        Parameters
        ----------
        which : {"last", "best_training", "best_validation"}
            ``train.predict_from`` of the recipe.
        """
        if which == "best_training" and self.best_weights:
            return self.best_weights, self.best_epoch
        if which == "best_validation" and self.validation_weights:
            return self.validation_weights, self.validation_epoch
        return self.weights, np.full(len(self.seeds), self.epoch)

    def places(self, case: str) -> list[int]:
        """Return where the heads of a case are."""
        return [place for place, name in enumerate(self.cases) if name == case]

    def of(self, case: str) -> State:
        """Return the heads of one case, and those of it that were stopped."""
        failed = {head: epoch for head, epoch in self.failed.items() if head[0] == case}
        return dataclasses.replace(self.only(self.places(case)), failed=failed)

    @staticmethod
    def fresh(
        shapes: list[tuple[int, ...]], case: str, seeds: Sequence[int], output_bias: float
    ) -> State:
        """Return the state from which heads of a case start, before the first epoch.

        Parameters
        ----------
        shapes : list of tuple of int
            Of the weights of a head: `sfr.train.head.head_shapes`.
        case : str
            The case.
        seeds : sequence of int
            Each decides initial weights and dropout of its head.
        output_bias : float
            Bias of the outputs at the start [dex].
        """
        drawn = [initial_weights(shapes, seed, output_bias) for seed in seeds]
        count = len(seeds)
        return State(
            cases=(case,) * count,
            seeds=tuple(seeds),
            iterations=0,
            weights=tuple(np.stack(arrays) for arrays in zip(*drawn, strict=True)),
            optimizer=(),
            dropout=np.array([[seed, 0] for seed in seeds], np.int64),
            loss=np.zeros((count, 0)),
            validation_loss=np.zeros((count, 0)),
            best_epoch=np.zeros(count, np.int64),
            best_weights=(),
            validation_epoch=np.zeros(count, np.int64),
            validation_weights=(),
            dead_at_first=np.zeros(count, bool),
            marks={},
            failed={},
        )

    @staticmethod
    def joined(states: Sequence[State]) -> State:
        """Put heads that stand at the same epoch side by side."""

        def stack(name: str) -> tuple[Floats, ...]:
            columns = zip(*(getattr(state, name) for state in states), strict=True)
            return tuple(np.concatenate(column) for column in columns)

        first = states[0]
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(state, name) for state in states]) for name in _BY_HEAD
        }
        arrays |= {name: stack(name) for name in _LISTS}
        return dataclasses.replace(
            first,
            cases=tuple(case for state in states for case in state.cases),
            failed={head: epoch for state in states for head, epoch in state.failed.items()},
            seeds=tuple(seed for state in states for seed in state.seeds),
            marks={e: np.concatenate([state.marks[e] for state in states]) for e in first.marks},
            **arrays,
        )


_BY_HEAD = (
    "dropout",
    "loss",
    "validation_loss",
    "best_epoch",
    "validation_epoch",
    "dead_at_first",
)
_LISTS = ("weights", "optimizer", "best_weights", "validation_weights")


def write_state(workspace: Workspace, path: Path, key: str, state: State) -> None:
    """Write a state whole; the same state gives the same bytes.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    path : Path
        The file, ``.npz``.
    key : str
        Digest of settings and inputs that the state belongs to.
    state : State
        The state.
    """
    about = {
        "cases": state.cases,
        "seeds": state.seeds,
        "iterations": state.iterations,
        "failed": [[*head, epoch] for head, epoch in sorted(state.failed.items())],
        "marks": list(state.marks),
    }
    arrays = {name: getattr(state, name) for name in (*_BY_HEAD, *_LISTS)}
    arrays["marks"] = list(state.marks.values())
    write_checkpoint(workspace, path, key, about, arrays)


def read_state(path: Path, key: str) -> State | None:
    """Read a state; None if it is not there, is damaged, or belongs to another key."""
    saved = read_checkpoint(path, key)
    if saved is None:
        return None
    about, arrays = saved
    state: dict[str, Any] = {name: arrays[name] for name in _BY_HEAD}
    state |= {name: tuple(arrays[name]) for name in _LISTS}
    return State(
        cases=tuple(about["cases"]),
        seeds=tuple(about["seeds"]),
        iterations=int(about["iterations"]),
        failed={(case, seed): epoch for case, seed, epoch in about["failed"]},
        marks=dict(zip(about["marks"], arrays["marks"], strict=True)),
        **state,
    )
