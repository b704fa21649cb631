"""Many heads side by side: one compiled model, one pass over the cached features for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.recipe import TrainRecipe
from sfr.train.head import head_shapes, initial_weights
from sfr.train.keras_import import load_keras
from sfr.train.state import State

__all__ = ["Heads"]

#: Rows a call when predicting; fixed, so that one program serves any number of rows.
_PREDICT_BATCH: Final = 256

Floats = NDArray[np.float32]


class Heads:
    """K heads of the published form that share features and batches, and nothing else.

    Their weights are stacked: the 1 x 1 convolutions are one matrix (channels, K), each dense layer
    is an array (K, inputs, units). The loss is the sum of the K mean squared errors and the
    optimizers act on each weight by itself, so each head trains as it would alone with the same
    order of rows.
    The features lie in a frozen embedding, from which the program gathers its batches.

    Parameters
    ----------
    recipe : TrainRecipe
        Layers, optimizer and batch.
    features : tuple of int
        Rows, pixels (height times width) and channels of the features.
    dtype : str
        Type that the features are kept in; arithmetic is float32.
    count : int
        K.
    """

    def __init__(
        self, recipe: TrainRecipe, features: tuple[int, int, int], dtype: str, count: int
    ) -> None:
        self.recipe, self.count = recipe, count
        self._features = features
        self._model = _build(recipe, features, dtype, count)
        keras = load_keras()
        optimizer = keras.optimizers.get(
            {
                "class_name": recipe.optimizer,
                "config": {"learning_rate": recipe.learning_rate, "name": recipe.optimizer},
            }
        )
        optimizer.build(self._model.trainable_variables)
        self._slots = [variable for variable in optimizer.variables if len(variable.shape) > 0]
        self._optimizer_start = self.optimizer()
        # XLA is slower than TensorFlow's own kernels here, and JAX is nothing without it
        self._model.compile(
            optimizer=optimizer,
            loss=_summed_loss,
            metrics=[_loss_of_each(count)],
            jit_compile=keras.backend.backend() == "jax",
        )

    def load_features(self, array: NDArray[np.floating[Any]]) -> None:
        """Take the features (N, height, width, channels) of a case."""
        self._model.get_layer("features").embeddings.assign(array.reshape(len(array), -1))

    def start(self, seeds: Sequence[int], output_bias: float) -> State:
        """Return the state from which heads of some seeds start, before the first epoch.

        Parameters
        ----------
        seeds : sequence of int
            K seeds; each decides initial weights and dropout of its head.
        output_bias : float
            Bias of the outputs at the start [dex].
        """
        shapes = head_shapes(self.recipe, self._features[1:])
        drawn = [initial_weights(shapes, seed, output_bias) for seed in seeds]
        count = len(seeds)
        return State(
            seeds=tuple(seeds),
            iterations=0,
            weights=tuple(np.stack(arrays) for arrays in zip(*drawn, strict=True)),
            optimizer=self._optimizer_start,
            dropout=np.array([[seed, 0] for seed in seeds], np.int64),
            loss=np.zeros((count, 0)),
            validation_loss=np.zeros((count, 0)),
            best_epoch=np.zeros(count, np.int64),
            best_weights=(),
            dead_at_first=np.zeros(count, bool),
            marks={},
            failed={},
        )

    def put(self, state: State) -> None:
        """Give the model the weights, optimizer and dropout sequences of a state."""
        variables = [*self._model.trainable_variables, *self._slots]
        for variable, value in zip(variables, [*state.weights, *state.optimizer], strict=True):
            # heads come first in a state, and last in the matrix of the convolutions
            stacked = np.moveaxis(value, 0, -1) if _is_convolution(variable) else value
            variable.assign(stacked.reshape(variable.shape))
        self._model.optimizer.iterations.assign(state.iterations)
        for generator, sequence in zip(self._generators, state.dropout, strict=False):
            generator.state.assign(sequence)

    def weights(self) -> tuple[Floats, ...]:
        """Return the weights, each (K, shape in the published head)."""
        arrays = [_by_head(variable) for variable in self._model.trainable_variables]
        shapes = head_shapes(self.recipe, self._features[1:])
        return tuple(a.reshape(self.count, *s) for a, s in zip(arrays, shapes, strict=True))

    def optimizer(self) -> tuple[Floats, ...]:
        """Return the optimizer's variables, each with K rows."""
        return tuple(_by_head(variable) for variable in self._slots)

    def iterations(self) -> int:
        """Return the number of steps done."""
        return int(_array(self._model.optimizer.iterations))

    def dropout(self) -> NDArray[np.int64]:
        """Return where the dropout sequence of each head is, shape (K, 2)."""
        states = [_array(generator.state) for generator in self._generators]
        return np.array(states, np.int64) if states else np.zeros((self.count, 2), np.int64)

    def train_epoch(
        self, order: NDArray[np.int64], label: NDArray[np.float64], learning_rate: float
    ) -> NDArray[np.float64]:
        """Train on rows once, in this order.

        Parameters
        ----------
        order : ndarray of int64
            The rows.
        label : ndarray of float64, shape (N,)
            Labels of all rows of the features [dex].
        learning_rate : float
            Of this epoch.

        Returns
        -------
        ndarray of float64, shape (K,)
            Mean squared error of each head's rows as they were trained on [dex^2].
        """
        size = self.recipe.batch_size
        self._model.optimizer.learning_rate = learning_rate
        total = np.zeros(self.count)
        for start in range(0, order.size, size):
            rows = order[start : start + size]
            # a short last batch is filled with rows of no weight: one shape, one program
            batch = np.full(size, rows[0], np.int32)
            batch[: rows.size] = rows
            target = np.zeros((size, 2), np.float32)
            target[:, 0] = label[batch]
            target[: rows.size, 1] = size / rows.size
            # newer versions of Keras do this themselves
            self._model.reset_metrics()
            found = self._model.train_on_batch(batch, target, return_dict=True)
            total += _array(found["loss_of_each"]).astype(np.float64) * rows.size
        return total / order.size

    def predict(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Predict the label of rows.

        Parameters
        ----------
        rows : ndarray of int64
            The rows.

        Returns
        -------
        ndarray of float64, shape (rows, K)
            [dex].
        """
        parts = [np.zeros((0, self.count))]
        for start in range(0, rows.size, _PREDICT_BATCH):
            wanted = rows[start : start + _PREDICT_BATCH]
            batch = np.zeros(_PREDICT_BATCH, np.int32)
            batch[: wanted.size] = wanted
            parts.append(np.asarray(self._model.predict_on_batch(batch))[: wanted.size])
        return np.concatenate(parts).astype(np.float64)

    @property
    def _generators(self) -> list[Any]:
        if self.recipe.dropout == 0.0:
            return []
        names = [f"dropout_{place}" for place in range(self.count)]
        return [self._model.get_layer(name).seed_generator for name in names]


def _build(recipe: TrainRecipe, features: tuple[int, int, int], dtype: str, count: int) -> Any:  # noqa: ANN401
    keras = load_keras()
    layers = keras.layers
    rows, pixels, channels = features
    place = keras.Input((), dtype="int32", name="row")
    x = layers.Embedding(
        rows,
        pixels * channels,
        embeddings_initializer="zeros",
        trainable=False,
        dtype=dtype,
        name="features",
    )(place)
    x = layers.Reshape((pixels, channels), dtype=dtype)(x)
    # a 1 x 1 convolution is a dense layer on each pixel
    x = keras.ops.transpose(
        layers.Dense(count, activation=recipe.filter, name="conv")(x), (0, 2, 1)
    )
    for number, units in enumerate(recipe.dense_units, start=1):
        x = layers.EinsumDense(
            "bki,kio->bko",
            (count, units),
            activation="relu",
            bias_axes="ko",
            name=f"dense_{number}",
        )(x)
    if recipe.dropout > 0.0:
        # Keras' own dropout for each head, so that its sequence does not depend on the others
        dropped = [
            layers.Dropout(recipe.dropout, seed=0, name=f"dropout_{k}")(x[:, k])
            for k in range(count)
        ]
        x = keras.ops.stack(dropped, axis=1)
    x = layers.EinsumDense(
        "bki,kio->bko", (count, 1), activation=recipe.output, bias_axes="ko", name="out_val"
    )(x)
    return keras.Model(place, layers.Reshape((count,))(x), name="heads")


def _summed_loss(target: Any, prediction: Any) -> Any:  # noqa: ANN401
    """Squared errors of all heads, summed; Keras takes the mean over the batch."""
    ops = load_keras().ops
    return ops.sum(target[:, 1:] * (prediction - target[:, :1]) ** 2, axis=-1)


def _loss_of_each(count: int) -> Any:  # noqa: ANN401
    """Make the metric that keeps the heads' losses apart."""
    keras = load_keras()
    ops = keras.ops

    class LossOfEach(keras.metrics.Metric):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__(name="loss_of_each")
            self.total = self.add_weight(shape=(count,), initializer="zeros", name="total")
            self.rows = self.add_weight(shape=(), initializer="zeros", name="rows")

        def update_state(
            self,
            target: Any,  # noqa: ANN401
            prediction: Any,  # noqa: ANN401
            sample_weight: None = None,
        ) -> None:
            # the PyTorch backend hands over arrays as they came
            target = ops.convert_to_tensor(target)
            real = ops.sign(target[:, 1:])
            error = (ops.stop_gradient(prediction) - target[:, :1]) ** 2
            self.total.assign_add(ops.sum(real * error, axis=0))
            self.rows.assign_add(ops.sum(real))

        def result(self) -> Any:  # noqa: ANN401
            return self.total / self.rows

    return LossOfEach()


def _array(variable: Any) -> Floats:  # noqa: ANN401
    return np.asarray(load_keras().ops.convert_to_numpy(variable))


def _by_head(variable: Any) -> Floats:  # noqa: ANN401
    """Return a variable with its heads along the first axis."""
    array = _array(variable)
    return np.moveaxis(array, -1, 0).copy() if _is_convolution(variable) else array


def _is_convolution(variable: Any) -> bool:  # noqa: ANN401
    """Whether a weight, or what an optimizer keeps for it, has its heads along the last axis."""
    return "conv" in variable.path
