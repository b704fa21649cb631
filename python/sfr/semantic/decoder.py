"""The decoder: the galaxy profile itself, with Keras' operations and no weights."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from sfr.nn.keras_import import load_keras
from sfr.semantic.code import Code
from sfr.semantic.profile import PIXELS, Frame

__all__ = ["build_decoder"]

#: What keeps divisions and roots of a network's first guesses finite.
_SMALLEST_SCALE: Final = 1e-4
_SMALLEST_AXIS_RATIO: Final = 1e-2
_SMALLEST_SQUARE: Final = 1e-10


def build_decoder(code: Code, frame: Frame) -> Any:  # noqa: ANN401
    """Build the decoder of a bottleneck; all images of a batch are made at once.

    Parameters
    ----------
    code : Code
        What the bottleneck holds.
    frame : Frame
        Pixels and PSF.

    Returns
    -------
    keras.Model
        Takes the code (N, size), gives images (N, 64, 64), y upwards; it has no weights.
    """
    keras = load_keras()
    ops = keras.ops
    given = keras.Input((code.size,), name="code")
    values = {
        name: ops.reshape(value, (-1, 1, 1)) for name, value in code.tensors(given, ops).items()
    }
    axis = frame.axis.astype(np.float32)
    u = ops.subtract(axis[np.newaxis, np.newaxis, :], values["x"])
    v = ops.subtract(axis[np.newaxis, :, np.newaxis], values["y"])
    scale = ops.maximum(values["A"], _SMALLEST_SCALE)
    steep = 1 / ops.square(ops.maximum(1 - values["e"], _SMALLEST_AXIS_RATIO))
    # x'^2 and y'^2 by the double angle, which needs no half of it
    mean = (ops.square(u) + ops.square(v)) / 2
    turned = (ops.square(u) - ops.square(v)) / 2 * values["cos"] - u * v * values["sin"]
    square = (mean * (1 + steep) + turned * (1 - steep)) / ops.square(scale)
    square = ops.maximum(square, _SMALLEST_SQUARE)
    power = 0.5 / values["n"] if "n" in values else 0.5
    image = ops.exp(-ops.exp(ops.log(square) * power))
    if "amplitude" in values:
        image = image * values["amplitude"]
    if frame.blur is not None:
        blur = frame.blur.astype(np.float32)
        image = ops.matmul(ops.matmul(blur[np.newaxis], image), blur.T[np.newaxis])
    image = ops.reshape(image, (-1, PIXELS, PIXELS))
    return keras.Model(given, image, name="decoder")
