"""The trainable head: 1 x 1 convolution, five dense layers, one output (METHOD 3)."""

from __future__ import annotations

from typing import Any

from sfr.nn.keras_import import load_keras
from sfr.recipe import TrainRecipe

__all__ = ["build_head", "build_network", "head_shapes"]


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
