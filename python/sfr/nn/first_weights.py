"""The weights that a training starts from: the same for a seed, whatever computes with them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["initial_weights"]


def initial_weights(
    shapes: list[tuple[int, ...]], seed: int, output_bias: float
) -> list[NDArray[np.float32]]:
    """Draw the weights that training starts from.

    Kernels are Glorot-uniform, biases 0, as Keras initialises these layers, but drawn with NumPy:
    the same seed gives the same weights in every case and on every Keras backend.

    Parameters
    ----------
    shapes : list of tuple of int
        Shapes of kernels and biases in the order of the layers.
    seed : int
        Seed of the head.
    output_bias : float
        Bias of the output [dex].

    Returns
    -------
    list of ndarray of float32
        One array a shape.
    """
    rng = np.random.default_rng([seed, 0])
    arrays = []
    for shape in shapes:
        array = np.zeros(shape, np.float32)
        if len(shape) > 1:
            receptive = int(np.prod(shape[:-2]))
            limit = np.sqrt(6.0 / (receptive * (shape[-2] + shape[-1])))
            array[...] = rng.uniform(-limit, limit, shape)
        arrays.append(array)
    arrays[-1][...] = output_bias
    return arrays
