"""Many heads side by side in one compiled model, each on batches of its own rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from sfr.nn.keras_import import load_keras
from sfr.recipe import TrainRecipe
from sfr.run.names import ModelId
from sfr.train.head import build_head, head_shapes
from sfr.train.state import State

__all__ = ["Heads", "HeadsInUse", "groups_of", "layout"]

#: Rows a call when predicting; fixed, so that one program serves any number of rows.
_PREDICT_BATCH: Final = 256

Floats = NDArray[np.float32]
Features = NDArray[np.floating[Any]]


class Heads:
    """K heads of the published form; those of a case share its features.

    The weights of a head are one flat variable, so that its optimizer's step is one pass over
    memory. The features of a case lie in a frozen embedding, from which the program gathers the
    batch of each head. The loss is the sum of the K mean squared errors and the optimizers act on
    each weight by itself. No operation has an axis of heads, so each head trains as it would alone.

    Heads of a group are on the same rows, so that these are gathered once, and their 1 x 1
    convolutions are one product of matrices; the results of a head then depend on how many there
    are in its group by rounding. With ``batch_order = "own"`` each head is a group.

    Parameters
    ----------
    recipe : TrainRecipe
        Layers, optimizer and batch.
    features : tuple of int
        Rows, pixels (height times width) and channels of the features of a case.
    dtype : str
        Type that the features are kept in; arithmetic is float32.
    groups : sequence of (int, int)
        Place of the case, from 0, and number of heads of each group, in the order in which they
        lie side by side: `layout`. There are K heads in all.
    """

    def __init__(
        self,
        recipe: TrainRecipe,
        features: tuple[int, int, int],
        dtype: str,
        groups: Sequence[tuple[int, int]],
    ) -> None:
        self.recipe, self.groups = recipe, tuple(groups)
        self.count = sum(heads for _, heads in groups)
        #: Group of each head.
        self._group_of = np.repeat(np.arange(len(groups)), [heads for _, heads in groups])
        self._shapes = head_shapes(recipe, features[1:])
        self._model, self._predictor = _build(recipe, features, dtype, self.groups)
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
        self,
        orders: Sequence[NDArray[np.int64]],
        batches: int,
        label: NDArray[np.float64],
        learning_rate: float,
    ) -> NDArray[np.float64]:
        """Train on rows once, in these orders.

        Parameters
        ----------
        orders : sequence of ndarray of int64
            The rows of each group; their numbers may differ.
        batches : int
            Into how many batches each of them is cut.
        label : ndarray of float64, shape (N,)
            Labels of all rows of the features [dex].
        learning_rate : float
            Of this epoch.

        Returns
        -------
        ndarray of float64, shape (K,)
            Mean squared error of each head's rows as they were trained on [dex^2].
        """
        size, count = self.recipe.batch_size, self.count
        self._model.optimizer.learning_rate = learning_rate
        total = np.zeros(count)
        for parts in zip(*(_cut(order, batches, size) for order in orders), strict=True):
            # what is short of a batch is filled with rows of no weight: one shape, one program
            batch = np.stack([np.resize(part[:1], size) for part in parts], axis=1)
            weight = np.zeros((size, len(parts)))
            for column, part in enumerate(parts):
                batch[: part.size, column] = part
                weight[: part.size, column] = size / part.size
            target = np.zeros((size, 2 * count), np.float32)
            target[:, :count] = label[batch][:, self._group_of]
            target[:, count:] = weight[:, self._group_of]
            found = self._model.train_on_batch(batch.astype(np.int32), target, return_dict=True)
            sizes = np.array([part.size for part in parts])[self._group_of]
            total += _array(found["loss_of_each"]).astype(np.float64) * sizes
        lengths = np.array([order.size for order in orders], np.float64)
        return total / lengths[self._group_of]

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


class HeadsInUse:
    """The compiled models of a process: made when first needed, kept while heads lie alike.

    Parameters
    ----------
    recipe : TrainRecipe
        Layers, optimizer and batch.
    """

    def __init__(self, recipe: TrainRecipe) -> None:
        self._recipe = recipe
        self._heads: Heads | None = None
        #: What the model has of each case, by its place.
        self._loaded: dict[int, Features] = {}
        self._published: tuple[tuple[int, ...], Any] | None = None

    def get(self, models: Sequence[ModelId], features: Mapping[str, Features]) -> Heads:
        """Return the model for some heads, with the features of their cases.

        Parameters
        ----------
        models : sequence of ModelId
            The heads; those of a case, and of them those of a fold, lie side by side.
        features : mapping of str to ndarray, shape (N, height, width, channels)
            Features of the cases, of one shape and type.
        """
        cases = list(dict.fromkeys(model.case for model in models))
        groups = layout(models, self._recipe.batch_order)
        first = features[cases[0]]
        if self._heads is None or self._heads.groups != groups:
            # only one at a time: each holds the features
            self._heads, self._loaded = None, {}
            rows, height, width, channels = first.shape
            shape = rows, height * width, channels
            self._heads = Heads(self._recipe, shape, str(first.dtype), groups)
        for place, case in enumerate(cases):
            if self._loaded.get(place) is not features[case]:
                self._heads.load_features(place, features[case])
                self._loaded[place] = features[case]
        return self._heads

    def published(self, shape: tuple[int, int, int]) -> Any:  # noqa: ANN401
        """Return the head as published, to put weights into, for features of this shape."""
        if self._published is None or self._published[0] != shape:
            self._published = shape, build_head(self._recipe, shape)
        return self._published[1]


def groups_of(
    models: Sequence[ModelId], batch_order: Literal["own", "shared"]
) -> list[tuple[ModelId, ...]]:
    """Split heads into those that are on the same rows of the same case at the same time."""
    if batch_order == "own":
        return [(model,) for model in models]
    alike = itertools.groupby(models, lambda model: (model.case, model.fold))
    return [tuple(group) for _, group in alike]


def layout(
    models: Sequence[ModelId], batch_order: Literal["own", "shared"]
) -> tuple[tuple[int, int], ...]:
    """Return how heads lie side by side, as `Heads` takes it: one program serves all that do so.

    Examples
    --------
    >>> layout([ModelId("mass", seed=0), ModelId("mass", seed=1), ModelId("gauss3")], "shared")
    ((0, 2), (1, 1))
    """
    cases = list(dict.fromkeys(model.case for model in models))
    groups = groups_of(models, batch_order)
    return tuple((cases.index(group[0].case), len(group)) for group in groups)


def _cut(order: NDArray[np.int64], batches: int, size: int) -> list[NDArray[np.int64]]:
    """Cut rows into batches: full ones and a rest, or equal ones where those would be too few."""
    if math.ceil(order.size / size) == batches:
        return np.split(order, range(size, order.size, size))
    return np.array_split(order, batches)


def _build(
    recipe: TrainRecipe,
    features: tuple[int, int, int],
    dtype: str,
    groups: tuple[tuple[int, int], ...],
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
        for place in range(1 + max(case for case, _ in groups))
    ]
    heads = _side_by_side(recipe, features[1:], tuple(count for _, count in groups))
    rows_of = keras.Input((len(groups),), dtype="int32", name="rows")
    gathered = [cases[case](rows_of[:, place]) for place, (case, _) in enumerate(groups)]
    row = keras.Input((), dtype="int32", name="row")
    of_row = [case(row) for case in cases]
    return (
        keras.Model(rows_of, heads(gathered), name="heads"),
        keras.Model(row, heads([of_row[case] for case, _ in groups]), name="heads_on_one_row"),
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
    ops, count = load_keras().ops, prediction.shape[1]

    def of_head(k: int) -> Any:  # noqa: ANN401
        error = prediction[:, k : k + 1] - target[:, k : k + 1]
        return ops.sum(target[:, count + k : count + k + 1] * error**2, axis=-1)

    # head by head: TensorFlow takes the factors of a single one in another order, which rounds
    return sum(of_head(k) for k in range(count))


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
            real = ops.sign(target[:, count:])
            error = (ops.stop_gradient(prediction) - target[:, :count]) ** 2
            # head by head: a sum over rows of K columns is rounded by what K is
            each = ops.stack([ops.sum(real[:, k] * error[:, k]) for k in range(count)])
            self.mean.assign(each / ops.stack([ops.sum(real[:, k]) for k in range(count)]))

        def result(self) -> Any:  # noqa: ANN401
            return ops.convert_to_tensor(self.mean)

    return LossOfEach()


def _array(variable: Any) -> Floats:  # noqa: ANN401
    return np.asarray(load_keras().ops.convert_to_numpy(variable))
