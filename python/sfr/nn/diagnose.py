"""What the network would run on: the backend, its devices, the weights at hand."""

from __future__ import annotations

from pathlib import Path

from sfr.nn.backbone import chosen_precision
from sfr.nn.keras_import import keras_home, load_keras

_IMAGENET_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"

__all__ = ["describe_backend", "find_imagenet_weights"]


def describe_backend() -> str:
    """Name the Keras backend, its version and its devices.

    Returns
    -------
    str
        For example ``tensorflow, Keras 3.15.1, uses cpu:0; --precision auto is float32 here``.

    Raises
    ------
    TrainingError
        No backend can be imported.
    """
    keras = load_keras()
    try:
        found = [str(device) for device in keras.distribution.list_devices()]
    except (AttributeError, NotImplementedError):
        # Keras cannot list those of PyTorch; the one that tensors are made on will be used
        found = [str(keras.ops.zeros(1).device)]
    used = [name for name in found if not name.startswith("cpu")] or found
    return (
        f"{keras.backend.backend()}, Keras {keras.__version__}, uses {', '.join(used)}; "
        f"--precision auto is {chosen_precision('auto')} here"
    )


def find_imagenet_weights() -> Path | None:
    """Return the ImageNet weights that Keras has downloaded before, or None."""
    path = keras_home() / "models" / _IMAGENET_FILE
    return path if path.is_file() else None
