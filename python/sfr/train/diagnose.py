"""What the network would run on: the backend, its devices, the weights at hand."""

from __future__ import annotations

import os
from pathlib import Path

from sfr.train.keras_import import load_keras

_IMAGENET_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"

__all__ = ["describe_backend", "find_imagenet_weights"]


def describe_backend() -> str:
    """Name the Keras backend, its version and its devices.

    Returns
    -------
    str
        For example ``tensorflow, Keras 3.15.1, devices: cpu:0``.

    Raises
    ------
    TrainingError
        No backend can be imported.
    """
    keras = load_keras()
    devices = ", ".join(map(str, keras.distribution.list_devices())) or "cpu"
    return f"{keras.backend.backend()}, Keras {keras.__version__}, devices: {devices}"


def find_imagenet_weights() -> Path | None:
    """Return the ImageNet weights that Keras has downloaded before, or None."""
    home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    path = home / "models" / _IMAGENET_FILE
    return path if path.is_file() else None
