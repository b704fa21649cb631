"""What stands on the backbone: the published head (METHOD 3), or fitted ridges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sfr.nn.keras_import import load_keras
from sfr.recipe import TrainRecipe
from sfr.train.probe import CLIP, Ridge

__all__ = ["build_head", "build_network", "build_ridge", "head_shapes"]


def build_head(recipe: TrainRecipe, feature_shape: tuple[int, int, int]) -> Any:  # noqa: ANN401
    """Build the head.

    Parameters
    ----------
    recipe : TrainRecipe
        Units, dropout and output.
    feature_shape : tuple of int
        Height, width and channels of the features.

    Returns
    -------
    keras.Model
        Takes features (N, height, width, channels), gives (N, 1), the label of METHOD 3 [dex].
        309 186 weights for 8 x 8 x 512 features and the published units.
    """
    keras = load_keras()
    layers = keras.layers
    features = keras.Input(feature_shape, name="features")
    x = layers.Conv2D(1, 1, activation=recipe.filter, name="conv")(features)
    x = layers.Flatten(name="flatten")(x)
    for place, units in enumerate(recipe.dense_units, start=1):
        x = layers.Dense(units, activation="relu", name=f"dense_{place}")(x)
    x = layers.Dropout(recipe.dropout, seed=0, name="dropout")(x)
    output = layers.Dense(1, activation=recipe.output, name="out_val")(x)
    return keras.Model(features, output, name="head")


def head_shapes(recipe: TrainRecipe, features: tuple[int, int]) -> list[tuple[int, ...]]:
    """Return the shapes of kernels and biases of the head, in the order of its layers.

    Parameters
    ----------
    recipe : TrainRecipe
        Units of the layers.
    features : tuple of int
        Pixels (height times width) and channels of the features.

    Returns
    -------
    list of tuple of int
        Kernel and bias of the convolution, of each dense layer and of the output.
    """
    inputs, channels = features
    shapes: list[tuple[int, ...]] = [(1, 1, channels, 1), (1,)]
    for units in (*recipe.dense_units, 1):
        shapes += [(inputs, units), (units,)]
        inputs = units
    return shapes


def build_network(backbone: Any, head: Any) -> Any:  # noqa: ANN401
    """Join backbone and head; the layers are shared with them, not copied.

    Parameters
    ----------
    backbone, head : keras.Model
        Results of `build_backbone` and `build_head`.

    Returns
    -------
    keras.Model
        Takes RGB images of 0..255, gives the label.
    """
    keras = load_keras()
    x = backbone.output
    for layer in head.layers[1:]:
        x = layer(x)
    return keras.Model(backbone.input, x, name="sfr_network")


def build_ridge(backbone: Any, fits: Sequence[Ridge]) -> Any:  # noqa: ANN401
    """Join a backbone that pools and the fits of all folds, whose mean predicts.

    Parameters
    ----------
    backbone : keras.Model
        Result of `build_backbone` for ridge.
    fits : sequence of Ridge
        Of one label each, on its features, flattened.

    Returns
    -------
    keras.Model
        Takes RGB images of 0..255, gives the label.
    """
    keras = load_keras()
    flat = keras.layers.Flatten(name="flatten")(backbone.output)
    size, found = int(flat.shape[-1]), []
    for fold, fit in enumerate(fits):
        scale = keras.layers.EinsumDense(
            "bp,p->bp", output_shape=(size,), bias_axes="p", name=f"scale_{fold}"
        )
        out = keras.layers.Dense(1, name=f"fold_{fold}")
        found.append(out(keras.ops.clip(scale(flat), -CLIP, CLIP)))
        spread, centre = fit.scaling.spread, fit.scaling.centre
        scale.set_weights([1.0 / spread, -centre / spread])
        out.set_weights([fit.coefficients, fit.intercept])
    mean = keras.ops.mean(keras.ops.concatenate(found, axis=-1), axis=-1, keepdims=True)
    model = keras.Model(backbone.input, mean, name="sfr_network")
    for place, operation in enumerate(model.operations):
        if operation.name.startswith(("clip", "concatenate", "mean")):
            # see name_operations
            operation.name = f"ridge_{place}"
    return model
