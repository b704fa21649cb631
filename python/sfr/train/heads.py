"""Many heads side by side in one compiled model, each on batches of its own order of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.nn.keras_import import load_keras
from sfr.recipe import TrainRecipe
from sfr.train.head import head_shapes
from sfr.train.state import State

__all__ = ["Heads"]

#: Rows a call when predicting; fixed, so that one program serves any number of rows.
_PREDICT_BATCH: Final = 256

Floats = NDArray[np.float32]


class Heads:
    """K heads of the published form; those of a case share its features.

    The weights of a head are one flat variable, so that its optimizer's step is one pass over
    memory. The features of a case lie in a frozen embedding, from which the program gathers the
    batch of each head. The loss is the sum of the K mean squared errors and the optimizers act on
    each weight by itself. No operation has an axis of heads, so each head trains as it would alone.

    With ``batch_order = "shared"`` all heads are on the same rows, so that a case's features are
    gathered once, and the 1 x 1 convolutions of its heads are one product of matrices; the results
    of a head then depend on how many there are by rounding.

    Parameters
    ----------
    recipe : TrainRecipe
        Layers, optimizer and batch.
    features : tuple of int
        Rows, pixels (height times width) and channels of the features of a case.
    dtype : str
        Type that the features are kept in; arithmetic is float32.
    counts : sequence of int
        Heads of each case, in the order in which they lie side by side; their sum is K.
    """

    def __init__(
        self,
        recipe: TrainRecipe,
        features: tuple[int, int, int],
        dtype: str,
        counts: Sequence[int],
    ) -> None:
        self.recipe, self.counts, self.count = recipe, tuple(counts), sum(counts)
        self._shapes = head_shapes(recipe, features[1:])
        self._model, self._predictor = _build(recipe, features, dtype, self.counts)
        keras = load_keras()
        optimizer = keras.optimizers.get(
            {
                "class_name": recipe.optimizer,
                "config": {"learning_rate": recipe.learning_rate, "name": recipe.optimizer},
            }
        )
        optimizer.build(self._model.trainable_variables)
        #: Of each head, its weights and what the optimizer keeps for them, each a flat variable.
        self._flat = [
            (weights, *(slot for slot in optimizer.variables if weights.name in slot.path))
            for weights in self._model.trainable_variables
        ]
        self._optimizer_start = self.optimizer()
        # XLA is slower than TensorFlow's own kernels here, and JAX is nothing without it
        self._model.compile(
            optimizer=optimizer,
            loss=_summed_loss,
            metrics=[_loss_of_each(self.count)],
            jit_compile=keras.backend.backend() == "jax",
        )

    def load_features(self, place: int, array: NDArray[np.floating[Any]]) -> None:
        """Take the features (N, height, width, channels) of one of the cases, counted from 0."""
        layer = self._model.get_layer(f"features_{place}")
        layer.embeddings.assign(array.reshape(len(array), -1))

    def put(self, state: State) -> None:
        """Give the model the weights, optimizer and dropout sequences of a state."""
        optimizer = state.optimizer or self._optimizer_start
        for place, (weights, *slots) in enumerate(self._flat):
            weights.assign(_joined(state.weights, place))
            for which, slot in enumerate(slots):
                slot.assign(_joined(optimizer[which :: len(slots)], place))
        self._model.optimizer.iterations.assign(state.iterations)
        for generator, sequence in zip(self._generators, state.dropout, strict=False):
            generator.state.assign(sequence)

    def weights(self) -> tuple[Floats, ...]:
        """Return the weights, each (K, shape in the published head)."""
        return self._by_weight(0)

    def optimizer(self) -> tuple[Floats, ...]:
        """Return what the optimizer keeps for the first weight, the second ..., as `weights`."""
        kept = [self._by_weight(which) for which in range(1, len(self._flat[0]))]
        return tuple(array for arrays in zip(*kept, strict=True) for array in arrays)

    def iterations(self) -> int:
        """Return the number of steps done."""
        return int(_array(self._model.optimizer.iterations))

    def dropout(self) -> NDArray[np.int64]:
        """Return where the dropout sequence of each head is, shape (K, 2)."""
        states = [_array(generator.state) for generator in self._generators]
        return np.array(states, np.int64) if states else np.zeros((self.count, 2), np.int64)

    def train_epoch(
        self, orders: NDArray[np.int64], label: NDArray[np.float64], learning_rate: float
    ) -> NDArray[np.float64]:
        """Train on rows once, in these orders.

        Parameters
        ----------
        orders : ndarray of int64, shape (rows, K), or (rows, 1) where heads share it
            The rows, a column an order.
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
        for start in range(0, len(orders), size):
            rows = orders[start : start + size]
            # a short last batch is filled with rows of no weight: one shape, one program
            batch = np.repeat(rows[:1], size, axis=0).astype(np.int32)
            batch[: len(rows)] = rows
            target = np.zeros((size, self.count + 1), np.float32)
            target[:, :-1] = label[batch]
            if self._model is self._predictor:
                batch = batch[:, 0]
            target[: len(rows), -1] = size / len(rows)
            found = self._model.train_on_batch(batch, target, return_dict=True)
            total += _array(found["loss_of_each"]).astype(np.float64) * len(rows)
        return total / len(orders)

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
            parts.append(np.asarray(self._predictor.predict_on_batch(batch))[: wanted.size])
        return np.concatenate(parts).astype(np.float64)

    def _by_weight(self, which: int) -> tuple[Floats, ...]:
        flat = np.stack([_array(variables[which]) for variables in self._flat])
        parts = np.split(flat, _ends(self._shapes), axis=1)
        shapes = self._shapes
        return tuple(p.reshape(self.count, *s) for p, s in zip(parts, shapes, strict=True))

    @property
    def _generators(self) -> list[Any]:
        return [layer.seed_generator for layer in self._model.get_layer("side_by_side").dropouts]


def _build(
    recipe: TrainRecipe, features: tuple[int, int, int], dtype: str, counts: tuple[int, ...]
) -> tuple[Any, Any]:
    """Make the model that is trained, and the one that predicts all heads on the same rows."""
    keras = load_keras()
    rows, pixels, channels = features
    cases = [
        keras.layers.Embedding(
            rows,
            pixels * channels,
            embeddings_initializer="zeros",
            trainable=False,
            dtype=dtype,
            name=f"features_{place}",
        )
        for place in range(len(counts))
    ]
    row = keras.Input((), dtype="int32", name="row")
    of_row = [case(row) for case in cases]
    if recipe.batch_order == "shared":
        heads = _side_by_side(recipe, features[1:], counts)
        model = keras.Model(row, heads(of_row), name="heads")
        return model, model
    case_of = [case for case, count in enumerate(counts) for _ in range(count)]
    heads = _side_by_side(recipe, features[1:], (1,) * len(case_of))
    rows_of = keras.Input((len(case_of),), dtype="int32", name="rows")
    gathered = [cases[case](rows_of[:, place]) for place, case in enumerate(case_of)]
    return (
        keras.Model(rows_of, heads(gathered), name="heads"),
        keras.Model(row, heads([of_row[case] for case in case_of]), name="heads_on_one_row"),
    )


def _side_by_side(recipe: TrainRecipe, features: tuple[int, int], groups: tuple[int, ...]) -> Any:  # noqa: ANN401
    """Make the layer from each group's features (batch, pixels * channels) to outputs (batch, K).

    Heads of a group are on the same rows of the same case.
    """
    keras = load_keras()
    ops, activation = keras.ops, keras.activations.get
    pixels, channels = features
    shapes = head_shapes(recipe, features)
    count = sum(groups)

    class SideBySide(keras.layers.Layer):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__(dtype="float32", name="side_by_side")
            size = sum(map(math.prod, shapes))
            self.heads = [
                self.add_weight(shape=(size,), initializer="zeros", name=f"head_{k:05d}_")
                for k in range(count)
            ]
            # Keras' own dropout for each head, so that its sequence does not depend on the others
            self.dropouts = [
                keras.layers.Dropout(recipe.dropout, seed=0, name=f"dropout_{k}")
                for k in range(count if recipe.dropout > 0.0 else 0)
            ]

        def call(self, cached: Any, training: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002
            outputs: list[Any] = []
            for features, heads in zip(cached, groups, strict=True):
                mine = range(len(outputs), len(outputs) + heads)
                outputs += self._of_a_group(features, mine, training=training)
            return ops.concatenate(outputs, axis=1)

        def _of_a_group(self, cached: Any, places: range, *, training: bool) -> list[Any]:  # noqa: ANN401
            heads = [self._weights(self.heads[place]) for place in places]
            # a 1 x 1 convolution is a dense layer on each pixel
            filters = ops.stack([ops.reshape(kernel, (channels,)) for kernel, *_ in heads])
            maps = ops.einsum("pc,kc->kp", ops.reshape(cached, (-1, channels)), filters)
            outputs = []
            for k, (_, bias, *dense, last, last_bias) in enumerate(heads):
                x = ops.reshape(activation(recipe.filter)(maps[k] + bias), (-1, pixels))
                for layer in range(0, len(dense), 2):
                    x = ops.relu(ops.matmul(x, dense[layer]) + dense[layer + 1])
                if self.dropouts:
                    x = self.dropouts[places[k]](x, training=training)
                outputs.append(activation(recipe.output)(ops.matmul(x, last) + last_bias))
            return outputs

        def _weights(self, head: Any) -> list[Any]:  # noqa: ANN401
            parts = ops.split(head, _ends(shapes))
            return [ops.reshape(p, s) for p, s in zip(parts, shapes, strict=True)]

    return SideBySide()


def _ends(shapes: Sequence[tuple[int, ...]]) -> list[int]:
    """Where the parts of a flat variable end, but for the last."""
    return np.cumsum([math.prod(shape) for shape in shapes])[:-1].tolist()  # type: ignore[no-any-return]


def _joined(arrays: Sequence[Floats], place: int) -> Floats:
    """Return one head's part of some arrays as one flat array."""
    return np.concatenate([array[place].ravel() for array in arrays])


def _summed_loss(target: Any, prediction: Any) -> Any:  # noqa: ANN401
    """Squared errors of all heads, summed; Keras takes the mean over the batch."""
    ops = load_keras().ops

    def of_head(k: int) -> Any:  # noqa: ANN401
        error = prediction[:, k : k + 1] - target[:, k : k + 1]
        return ops.sum(target[:, -1:] * error**2, axis=-1)

    # head by head: TensorFlow takes the factors of a single one in another order, which rounds
    return sum(of_head(k) for k in range(prediction.shape[1]))


def _loss_of_each(count: int) -> Any:  # noqa: ANN401
    """Make the metric that keeps the heads' losses apart: those of the last batch."""
    keras = load_keras()
    ops = keras.ops

    class LossOfEach(keras.metrics.Metric):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__(name="loss_of_each")
            self.mean = self.add_weight(shape=(count,), initializer="zeros", name="mean")

        def update_state(
            self,
            target: Any,  # noqa: ANN401
            prediction: Any,  # noqa: ANN401
            sample_weight: None = None,
        ) -> None:
            # the PyTorch backend hands over arrays as they came
            target = ops.convert_to_tensor(target)
            real = ops.sign(target[:, -1])
            error = (ops.stop_gradient(prediction) - target[:, :-1]) ** 2
            # head by head: a sum over rows of K columns is rounded by what K is
            each = ops.stack([ops.sum(real * error[:, k]) for k in range(count)])
            self.mean.assign(each / ops.sum(real))

        def result(self) -> Any:  # noqa: ANN401
            return ops.convert_to_tensor(self.mean)

    return LossOfEach()


def _array(variable: Any) -> Floats:  # noqa: ANN401
    return np.asarray(load_keras().ops.convert_to_numpy(variable))
