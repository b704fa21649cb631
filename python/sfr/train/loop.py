"""The training loop: minibatch descent on the mean squared error, the same bytes on every run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import TrainingError
from sfr.recipe import TrainRecipe
from sfr.train.head import reset_head
from sfr.train.keras_import import load_keras

__all__ = ["Fit", "Trainer"]

#: Rows a call when predicting.
_PREDICT_BATCH: Final = 256

#: Called after each epoch with its number, from 1.
OnEpoch = Callable[[int], None]


@dataclass(frozen=True)
class Fit:
    """How one training went.

    Attributes
    ----------
    loss : ndarray of float64, shape (epochs,)
        Mean squared error of the training rows as they were trained on, dropout in [dex^2].
    validation_loss : ndarray of float64, shape (epochs,)
        Mean squared error of the validation rows after the epoch [dex^2]; NaN without any.
    epoch : int
        The epoch whose weights the model now has, from 1.
    """

    loss: NDArray[np.float64]
    validation_loss: NDArray[np.float64]
    epoch: int


class Trainer:
    """A compiled model that is trained again and again, each time from the start.

    Compiling costs more than training a small head, so all heads of a run share one model:
    `fit` first resets weights, dropout sequence and optimizer.

    Parameters
    ----------
    recipe : TrainRecipe
        Optimizer, batch, epochs and which epoch predicts.
    head : keras.Model
        The trainable part.
    model : keras.Model or None
        The model that is trained, which contains the head; None: the head itself.
    """

    def __init__(
        self,
        recipe: TrainRecipe,
        head: Any,  # noqa: ANN401
        model: Any = None,  # noqa: ANN401
    ) -> None:
        keras = load_keras()
        self.recipe = recipe
        self.head = head
        # a model of its own around the head's layers keeps the optimizer out of the head's file
        self.model = keras.Model(head.input, head.output) if model is None else model
        optimizer = keras.optimizers.get(
            {
                "class_name": recipe.optimizer,
                "config": {"learning_rate": recipe.learning_rate, "name": recipe.optimizer},
            }
        )
        optimizer.build(self.model.trainable_variables)
        self._optimizer_start = [variable.numpy() for variable in optimizer.variables]
        # XLA compiles anew for every batch shape, and JAX is nothing without it
        compiled = keras.backend.backend() == "jax"
        self.model.compile(optimizer=optimizer, loss="mse", jit_compile=compiled)

    def fit(
        self,
        inputs: NDArray[np.generic],
        label: NDArray[np.float64],
        *,
        training: NDArray[np.int64],
        validation: NDArray[np.int64],
        seed: int,
        on_epoch: OnEpoch = lambda _: None,
    ) -> Fit:
        """Train from the start.

        Parameters
        ----------
        inputs : ndarray, shape (N, ...)
            Features, or images where the model takes images; may be mapped from a file.
        label : ndarray of float64, shape (N,)
            log10(1e15 sSFR) [dex].
        training, validation : ndarray of int64
            Rows of each subset; validation may be empty.
        seed : int
            Decides initial weights, dropout and the order of the rows.
        on_epoch : callable
            Hears of every epoch.

        Returns
        -------
        Fit
            Losses; the model has the weights of the epoch that the recipe asks for.

        Raises
        ------
        TrainingError
            The loss is not finite, or no epoch can be chosen.
        """
        self._reset(seed, label[training])
        keep = self.recipe.predict_from
        if keep == "best_validation" and validation.size == 0:
            raise TrainingError(
                'train.predict_from = "best_validation" needs validation rows; none is left'
            )
        rng = np.random.default_rng([seed, 1])
        target = label.astype(np.float32)[:, np.newaxis]
        losses, validation_losses = [], []
        best, best_loss, best_weights = self.recipe.epochs, np.inf, None
        for epoch in range(1, self.recipe.epochs + 1):
            loss = self._epoch(inputs, target, rng.permutation(training))
            if not np.isfinite(loss):
                raise TrainingError(
                    f"the loss became {loss} in epoch {epoch}; lower train.learning_rate "
                    f"({self.recipe.learning_rate})"
                )
            losses.append(loss)
            validation_losses.append(self._loss(inputs, label, validation))
            score = loss if keep == "best_training" else validation_losses[-1]
            if keep != "last" and score < best_loss:
                best, best_loss, best_weights = epoch, score, self.head.get_weights()
            on_epoch(epoch)
        if best_weights is not None:
            self.head.set_weights(best_weights)
        return Fit(np.array(losses), np.array(validation_losses), best)

    def predict(
        self, inputs: NDArray[np.generic], rows: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        """Predict the label.

        Parameters
        ----------
        inputs : ndarray, shape (N, ...)
            As for `fit`.
        rows : ndarray of int64 or None
            Rows to predict; None: all.

        Returns
        -------
        ndarray of float64
            One value a row [dex].
        """
        rows = np.arange(len(inputs)) if rows is None else rows
        parts = [
            self.model.predict_on_batch(np.asarray(inputs[rows[start : start + _PREDICT_BATCH]]))
            for start in range(0, rows.size, _PREDICT_BATCH)
        ]
        return np.concatenate([np.zeros((0, 1)), *parts])[:, 0].astype(np.float64)

    def _reset(self, seed: int, label: NDArray[np.float64]) -> None:
        bias = float(label.mean()) if self.recipe.output_bias == "mean_label" else 0.0
        reset_head(self.head, seed, bias)
        for variable, start in zip(
            self.model.optimizer.variables, self._optimizer_start, strict=True
        ):
            variable.assign(start)

    def _epoch(
        self,
        inputs: NDArray[np.generic],
        target: NDArray[np.float32],
        order: NDArray[np.int64],
    ) -> float:
        """Train on all rows once; return their mean loss."""
        total = 0.0
        for start in range(0, order.size, self.recipe.batch_size):
            rows = order[start : start + self.recipe.batch_size]
            self.model.reset_metrics()
            found = self.model.train_on_batch(
                np.asarray(inputs[rows]), target[rows], return_dict=True
            )
            total += float(found["loss"]) * rows.size
        return total / order.size

    def _loss(
        self,
        inputs: NDArray[np.generic],
        label: NDArray[np.float64],
        rows: NDArray[np.int64],
    ) -> float:
        if rows.size == 0:
            return float("nan")
        return float(np.mean((self.predict(inputs, rows) - label[rows]) ** 2))
