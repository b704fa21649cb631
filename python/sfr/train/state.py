"""Where the training of some heads stands: all that is needed to go on as if never stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfr.nn.first_weights import initial_weights
from sfr.run.checkpoint import read_checkpoint, write_checkpoint
from sfr.run.names import ModelId
from sfr.run.workspace import Workspace

__all__ = ["State", "read_states", "write_states"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class State:
    """K heads after some epochs; every array but the histories has K rows.

    Attributes
    ----------
    models : tuple of ModelId
        The heads; those of a case, and of them those of a fold, lie side by side.
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
    failed : dict of ModelId to int
        Heads that were stopped, and the epoch in which their loss was not finite.
    """

    models: tuple[ModelId, ...]
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
    failed: dict[ModelId, int]

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
            models=tuple(self.models[place] for place in rows),
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
        return self.weights, np.full(len(self.models), self.epoch)

    @property
    def cases(self) -> list[str]:
        """The cases, in the order of their heads."""
        return list(dict.fromkeys(model.case for model in self.models))

    def places(self, case: str) -> list[int]:
        """Return where the heads of a case are."""
        return [place for place, model in enumerate(self.models) if model.case == case]

    def of(self, case: str) -> State:
        """Return the heads of one case, and those of it that were stopped."""
        failed = {model: epoch for model, epoch in self.failed.items() if model.case == case}
        return dataclasses.replace(self.only(self.places(case)), failed=failed)

    def each(self) -> dict[ModelId, State]:
        """Return every head by itself."""
        alone = dataclasses.replace(self, failed={})
        return {model: alone.only([place]) for place, model in enumerate(self.models)}

    @staticmethod
    def fresh(
        shapes: list[tuple[int, ...]], models: Sequence[ModelId], output_bias: Mapping[int, float]
    ) -> State:
        """Return the state from which heads start, before the first epoch.

        Parameters
        ----------
        shapes : list of tuple of int
            Of the weights of a head: `sfr.train.head.head_shapes`.
        models : sequence of ModelId
            The heads; the seed of each decides its initial weights and dropout.
        output_bias : mapping of int to float
            Bias of the outputs at the start, by fold [dex].
        """
        drawn = [initial_weights(shapes, model.seed, output_bias[model.fold]) for model in models]
        count = len(drawn)
        return State(
            models=tuple(models),
            iterations=0,
            weights=tuple(np.stack(arrays) for arrays in zip(*drawn, strict=True)),
            optimizer=(),
            dropout=np.array([[model.seed, 0] for model in models], np.int64),
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
            models=tuple(model for state in states for model in state.models),
            failed={model: epoch for state in states for model, epoch in state.failed.items()},
            marks={e: np.concatenate([state.marks[e] for state in states]) for e in first.marks},
            **arrays,
        )

    @staticmethod
    def by_epoch(heads: Mapping[ModelId, State]) -> list[State]:
        """Put heads side by side, those at the same epoch, in the order of epochs and heads."""
        epochs = sorted({state.epoch for state in heads.values()})
        return [
            State.joined([heads[model] for model in sorted(heads) if heads[model].epoch == epoch])
            for epoch in epochs
        ]


_BY_HEAD = (
    "dropout",
    "loss",
    "validation_loss",
    "best_epoch",
    "validation_epoch",
    "dead_at_first",
)
_LISTS = ("weights", "optimizer", "best_weights", "validation_weights")


def write_states(workspace: Workspace, path: Path, key: str, states: Sequence[State]) -> None:
    """Write states whole, each with heads of its own; the same states give the same bytes.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    path : Path
        The file, ``.npz``.
    key : str
        Digest of settings and inputs that the states belong to.
    states : sequence of State
        The states.
    """
    about = [
        {
            "models": state.models,
            "iterations": state.iterations,
            "failed": [[*model, epoch] for model, epoch in sorted(state.failed.items())],
            "marks": list(state.marks),
        }
        for state in states
    ]
    arrays: dict[str, Any] = {}
    for place, state in enumerate(states):
        kept = {name: getattr(state, name) for name in (*_BY_HEAD, *_LISTS)}
        kept["marks"] = list(state.marks.values())
        arrays |= {f"{place}_{name}": values for name, values in kept.items()}
    write_checkpoint(workspace, path, key, {"states": about}, arrays)


def read_states(path: Path, key: str) -> list[State]:
    """Read states; none if they are not there, are damaged, or belong to another key."""
    about, arrays = read_checkpoint(path, key) or ({"states": []}, {})
    return [_state(arrays, f"{place}_", part) for place, part in enumerate(about["states"])]


def _state(arrays: Mapping[str, Any], prefix: str, about: Mapping[str, Any]) -> State:
    kept: dict[str, Any] = {name: arrays[prefix + name] for name in _BY_HEAD}
    kept |= {name: tuple(arrays[prefix + name]) for name in _LISTS}
    return State(
        models=tuple(ModelId(*model) for model in about["models"]),
        iterations=int(about["iterations"]),
        failed={ModelId(*model): epoch for *model, epoch in about["failed"]},
        marks=dict(zip(about["marks"], arrays[f"{prefix}marks"], strict=True)),
        **kept,
    )
