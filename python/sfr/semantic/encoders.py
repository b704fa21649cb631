"""The encoders: the published network in seven sizes, and a fast one on principal components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import ConfigError
from sfr.nn.keras_import import load_keras
from sfr.semantic.profile import PIXELS, blocks

__all__ = [
    "FAST",
    "PUBLISHED_SIZES",
    "build_cnn",
    "build_fast",
    "check_encoder",
    "fast_weights",
    "principal_components",
    "run_fast",
    "scale_to_images",
]

#: Name of the encoder on principal components.
FAST: Final = "fast"
#: Kernels of the six convolutions and units of the first two dense layers (METHOD 6).
PUBLISHED_SIZES: Final[Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]] = MappingProxyType(
    {
        "1": ((32, 32, 64, 64, 128, 128), (64, 32)),
        "1/4": ((16, 16, 32, 32, 64, 64), (32, 16)),
        "1/16": ((8, 8, 16, 16, 32, 32), (16, 8)),
        "1/24": ((6, 6, 13, 13, 26, 26), (13, 6)),
        "1/32": ((5, 5, 11, 11, 22, 22), (11, 5)),
        "1/48": ((4, 4, 9, 9, 19, 19), (9, 4)),
        "1/64": ((4, 4, 8, 8, 16, 16), (8, 4)),
    }
)
_HIDDEN: Final = (256, 256, 256)
#: Images that `run_fast` works on at a time.
_BLOCK: Final = 512
#: Noise at which a component counts half [image].
_INPUT_NOISE: Final = 0.03


def check_encoder(name: str) -> str:
    """Return the name of an encoder, or say which there are.

    Raises
    ------
    ConfigError
        No encoder has that name.
    """
    if name != FAST and name not in PUBLISHED_SIZES:
        raise ConfigError(
            f"encoder {name!r} is not known; there are: {FAST}, and of the published network "
            f"the sizes {', '.join(PUBLISHED_SIZES)}"
        )
    return name


def build_cnn(size: str, outputs: int = 3, *, activation: str = "sigmoid") -> Any:  # noqa: ANN401
    """Build the published encoder in one of its sizes.

    Parameters
    ----------
    size : str
        Key of `PUBLISHED_SIZES`.
    outputs : int
        Numbers of the bottleneck; 3 are published.
    activation : str
        Of the last layer; ``sigmoid`` is published.

    Returns
    -------
    keras.Model
        Takes images (N, 64, 64), gives (N, outputs).
    """
    keras = load_keras()
    layers = keras.layers
    kernels, units = PUBLISHED_SIZES[size]
    image = keras.Input((PIXELS, PIXELS), name="image")
    x = layers.Reshape((PIXELS, PIXELS, 1), name="channel")(image)
    for place, count in enumerate(kernels, start=1):
        x = layers.Conv2D(count, 3, padding="same", activation="relu", name=f"conv_{place}")(x)
        if place % 2 == 0:
            x = layers.MaxPooling2D(2, name=f"pool_{place // 2}")(x)
    x = layers.Flatten(name="flatten")(x)
    for place, count in enumerate(units, start=1):
        x = layers.Dense(count, activation="sigmoid", name=f"dense_{place}")(x)
    code = layers.Dense(outputs, activation=activation, name="code")(x)
    return keras.Model(image, code, name="cnn")


def scale_to_images(
    network: Any,  # noqa: ANN401
    images: NDArray[np.float32],
    outputs: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> None:
    """Scale the first weights of a chain of layers by what some images make of them.

    Every unit of every layer gets mean 0 and scatter 1 before its activation. Without it two
    layers of sigmoids let so little through that a network learns the mean galaxy, and stays there.

    Parameters
    ----------
    network : keras.Model
        Layers one after the other; changed in place.
    images : ndarray of float32, shape (N, 64, 64)
        Some hundred noisy images.
    outputs : tuple of ndarray of float64, shape (size,), or None
        Mean and scatter that the outputs get; None: 0 and 1, like all other units.
    """
    keras = load_keras()
    x: Any = keras.ops.convert_to_tensor(images)
    for layer in network.layers[1:]:
        if layer.weights:
            activation, layer.activation = layer.activation, keras.activations.linear
            found = keras.ops.convert_to_numpy(layer(x))
            layer.activation = activation
            axes = tuple(range(found.ndim - 1))
            mean, scatter = found.mean(axis=axes), np.maximum(found.std(axis=axes), 1e-6)
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel / scatter, (bias - mean) / scatter])
        x = layer(x)
    if outputs is not None:
        mean, scatter = outputs
        kernel, bias = layer.get_weights()
        layer.set_weights([kernel * scatter, bias * scatter + mean])


def principal_components(
    images: NDArray[np.float32], rng: np.random.Generator, count: int
) -> list[NDArray[np.float32]]:
    """Find the principal components of clean images, as weights of a dense layer.

    Parameters
    ----------
    images : ndarray of float32, shape (N, 64, 64)
        Clean images.
    rng : numpy.random.Generator
        Start of the iteration.
    count : int
        How many components.

    Returns
    -------
    list of ndarray of float32, shapes (4096, count) and (count,)
        Kernel and bias that turn images into components, each divided by its scatter among the
        images plus some noise: of order one for a network. Falling variance; signs are fixed.
    """
    from scipy.sparse.linalg import svds

    flat = images.reshape(len(images), -1)
    mean = flat.mean(axis=0, dtype=np.float64).astype(np.float32)
    _, values, rows = svds(flat - mean, k=count, v0=rng.standard_normal(min(flat.shape)))
    order = np.argsort(values)[::-1]
    vectors = rows[order].T.astype(np.float64)
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(count)])
    scale = np.sqrt(values[order].astype(np.float64) ** 2 / len(images) + _INPUT_NOISE**2)
    kernel = vectors * signs / scale
    return [kernel.astype(np.float32), -(mean @ kernel).astype(np.float32)]


def build_fast(outputs: int, components: int = 64) -> tuple[Any, Any]:
    """Build the fast encoder: principal components, then three hidden layers of 256.

    Parameters
    ----------
    outputs : int
        Numbers of the code.
    components : int
        Principal components.

    Returns
    -------
    tuple of keras.Model
        The encoder, which takes images (N, 64, 64), and the part behind the components, which is
        what is trained; they share their layers.
    """
    keras = load_keras()
    layers = keras.layers
    head = x = keras.Input((components,), name="components")
    for place, units in enumerate(_HIDDEN, start=1):
        x = layers.Dense(units, activation="silu", name=f"hidden_{place}")(x)
    head = keras.Model(head, layers.Dense(outputs, name="code")(x), name="head")
    image = keras.Input((PIXELS, PIXELS), name="image")
    flat = layers.Reshape((PIXELS * PIXELS,), name="flatten")(image)
    found = layers.Dense(components, trainable=False, name="compression")(flat)
    return keras.Model(image, head(found), name="fast"), head


def fast_weights(network: Any) -> list[NDArray[np.float32]]:  # noqa: ANN401
    """Return kernels and biases of an encoder of `build_fast`, from the image to the code."""
    layers = [network.get_layer(name) for name in ("compression", "head")]
    return [array for layer in layers for array in layer.get_weights()]


def run_fast(
    weights: Sequence[NDArray[np.float32]], images: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Run the fast encoder in NumPy, which takes images where they are and compiles nothing.

    Parameters
    ----------
    weights : sequence of ndarray of float32
        Result of `fast_weights`.
    images : ndarray of float32, shape (N, 64, 64)
        Images.

    Returns
    -------
    ndarray of float32, shape (N, outputs)
        What the network gives, but for rounding.
    """
    kernel, bias, *hidden, last, last_bias = weights
    code = np.empty((len(images), len(last_bias)), np.float32)
    for block in blocks(len(images), _BLOCK):
        x = images[block].reshape(-1, PIXELS**2) @ kernel + bias
        for place in range(0, len(hidden), 2):
            x = x @ hidden[place]
            x += hidden[place + 1]
            # silu; beyond float32 the exponential is infinite, and the result 0
            with np.errstate(over="ignore"):
                x /= 1 + np.exp(-x)
        code[block] = x @ last + last_bias
    return code
