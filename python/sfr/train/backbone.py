"""The frozen backbone: VGG16 without its top, its weights and its input scaling (METHOD 3)."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from sfr.errors import ConfigError, DataFormatError, DataMissingError
from sfr.recipe import TrainRecipe
from sfr.train.keras_import import load_keras

__all__ = [
    "DOWNSAMPLING",
    "FEATURE_CHANNELS",
    "LAYER_SHAPES",
    "BackboneWeights",
    "build_backbone",
    "random_weights",
    "read_weights",
    "weights_id",
    "weights_label",
]

#: Pixels of the image per pixel of the features.
DOWNSAMPLING: Final = 32
#: Channels of the features.
FEATURE_CHANNELS: Final = 512

#: Kernel and bias of each layer, by the layer's name.
BackboneWeights = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]

#: Filters and number of 3 x 3 convolutions of each block (Simonyan & Zisserman 2015, column D).
_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
#: Means of the ImageNet training images in B, G, R that Keras' preprocess_input subtracts.
_IMAGENET_BGR = (103.939, 116.779, 123.68)
_RANDOM_SEED = 0


def _layer_shapes() -> dict[str, tuple[int, int, int, int]]:
    shapes, inputs = {}, 3
    for block, (filters, count) in enumerate(_BLOCKS, start=1):
        for layer in range(1, count + 1):
            shapes[f"block{block}_conv{layer}"] = (3, 3, inputs, filters)
            inputs = filters
    return shapes


#: Shape of each layer's kernel: height, width, inputs, filters.
LAYER_SHAPES: Final = _layer_shapes()


def weights_label(weights: str) -> str:
    """Name the backbone's weights as tables print them: without folders, with part of the hash."""
    if weights in {"imagenet", "random"}:
        return weights
    return f"{Path(weights).name} (sha256 {weights_id(weights)[:12]})"


def weights_id(weights: str) -> str:
    """Identify the backbone's weights, whatever the file is called.

    Parameters
    ----------
    weights : str
        ``imagenet``, ``random`` or the path of a file.

    Returns
    -------
    str
        The name itself for the two names (Keras checks the hash of its download), else the
        sha256 of the layers' content.

    Raises
    ------
    DataMissingError
        The file is not there.
    DataFormatError
        The file does not hold the weights of this backbone.
    """
    if weights in {"imagenet", "random"}:
        return weights
    content = hashlib.sha256()
    for name, (kernel, bias) in read_weights(Path(weights)).items():
        content.update(name.encode())
        content.update(np.ascontiguousarray(kernel).tobytes())
        content.update(np.ascontiguousarray(bias).tobytes())
    return content.hexdigest()


def random_weights() -> BackboneWeights:
    """Draw untrained weights: Glorot-uniform kernels, zero biases, one fixed draw.

    This is how Keras initialises the network. It keeps features of raw 0..255 images of order 1;
    with He's larger kernels they are of order 100 and most heads die in the first epochs. The draw
    does not depend on a head's seed, nor on the Keras backend.

    Returns
    -------
    dict of str to (ndarray, ndarray)
        Kernel and bias of each layer.
    """
    rng = np.random.default_rng(_RANDOM_SEED)
    drawn = {}
    for name, shape in LAYER_SHAPES.items():
        height, width, inputs, filters = shape
        limit = np.sqrt(6.0 / (height * width * (inputs + filters)))
        kernel = (rng.random(shape, np.float32) * 2.0 - 1.0) * np.float32(limit)
        drawn[name] = (kernel, np.zeros(filters, np.float32))
    return drawn


def read_weights(path: Path) -> BackboneWeights:
    """Read the backbone's weights from a file, layer by layer.

    Layers are found by name, so a file with more than the backbone (VGG16 with its top, or a whole
    network that this package saved) is taken too.

    Parameters
    ----------
    path : Path
        Legacy HDF5 (``..._notop.h5``), Keras 3 ``.weights.h5``, or ``.keras``.

    Returns
    -------
    dict of str to (ndarray, ndarray)
        Kernel and bias of each layer, float32.

    Raises
    ------
    DataMissingError
        The file is not there.
    DataFormatError
        The file cannot be read, or a layer is missing or has another shape.
    """
    path = path.expanduser()
    if not path.is_file():
        raise DataMissingError(
            f"--weights {path} is not there; give imagenet, random or an existing file"
        )
    if not path.name.endswith((".h5", ".hdf5", ".keras")):
        raise DataFormatError(f"--weights {path}: allowed are .h5, .weights.h5 and .keras files")
    try:
        with _open_hdf5(path) as file:
            found = _collect(file)
    except (OSError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise DataFormatError(f"--weights {path} cannot be read: {error}") from error
    return {name: _checked_layer(path, name, found) for name in LAYER_SHAPES}


@contextlib.contextmanager
def _open_hdf5(path: Path) -> Iterator[h5py.File]:
    if path.name.endswith(".keras"):
        with zipfile.ZipFile(path) as archive:
            member = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(member, "r") as file:
            yield file
    else:
        with h5py.File(path, "r") as file:
            yield file


def _collect(file: h5py.File) -> dict[tuple[str, int], NDArray[np.generic]]:
    """Return the arrays of all known layers by layer name and number of dimensions."""
    found: dict[tuple[str, int], NDArray[np.generic]] = {}

    def visit(path: str, item: h5py.Group | h5py.Dataset) -> None:
        if not isinstance(item, h5py.Dataset) or path.startswith("optimizer"):
            return
        # legacy files name the layer in the path, Keras 3 in an attribute of the enclosing group
        names = {*path.split("/"), str(item.parent.attrs.get("name", ""))}
        layer = next((name for name in LAYER_SHAPES if name in names), None)
        if layer is not None:
            found[layer, item.ndim] = np.asarray(item[()])

    file.visititems(visit)
    return found


def _checked_layer(
    path: Path, name: str, found: dict[tuple[str, int], NDArray[np.generic]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    shape = LAYER_SHAPES[name]
    arrays = []
    for what, wanted in (("kernel", shape), ("bias", shape[-1:])):
        array = found.get((name, len(wanted)))
        if array is None:
            raise DataFormatError(
                f"--weights {path}: layer {name!r} has no {what}; the file must hold VGG16"
            )
        if array.shape != wanted:
            raise DataFormatError(
                f"--weights {path}: {what} of layer {name!r} has shape {array.shape}, VGG16 needs "
                f"{wanted}"
            )
        if not np.isfinite(array).all():
            raise DataFormatError(f"--weights {path}: {what} of layer {name!r} is not finite")
        arrays.append(array.astype(np.float32))
    return arrays[0], arrays[1]


def _imagenet_weights() -> BackboneWeights:
    keras = load_keras()
    try:
        # Keras shows the download on stdout, which belongs to results
        with contextlib.redirect_stdout(sys.stderr):
            model = keras.applications.VGG16(
                include_top=False, weights="imagenet", input_shape=(DOWNSAMPLING, DOWNSAMPLING, 3)
            )
    except Exception as error:
        cache = Path(os.environ.get("KERAS_HOME", "~/.keras")) / "models"
        raise DataMissingError(
            f"the ImageNet weights of VGG16 could not be downloaded: {error}. Offline, put "
            "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5 into "
            f"{cache}, where Keras looks for it, or give any file with --weights FILE; "
            "--weights random works without a file, but its results mean nothing"
        ) from error
    return {name: tuple(model.get_layer(name).get_weights()) for name in LAYER_SHAPES}


def _load_weights(weights: str) -> BackboneWeights:
    if weights == "imagenet":
        return _imagenet_weights()
    return random_weights() if weights == "random" else read_weights(Path(weights))


def build_backbone(recipe: TrainRecipe, pixels: int) -> Any:  # noqa: ANN401
    """Build the frozen part of the network, from the 8-bit image to the features.

    Parameters
    ----------
    recipe : TrainRecipe
        Backbone, weights and input scaling.
    pixels : int
        Pixels of an image on a side, 32 or more.

    Returns
    -------
    keras.Model
        Takes RGB images (N, pixels, pixels, 3) of 0..255, gives features (N, pixels // 32,
        pixels // 32, 512); 14 714 688 weights, none of them trainable.

    Raises
    ------
    ConfigError
        The images are smaller than 32 pixels.
    DataMissingError
        The weights are not there and cannot be downloaded.
    DataFormatError
        The weights file does not hold this backbone.
    TrainingError
        Keras has no backend.
    """
    if pixels < DOWNSAMPLING:
        raise ConfigError(f"maps.pixels = {pixels}: the backbone needs {DOWNSAMPLING} or more")
    keras = load_keras()
    weights = _load_weights(recipe.weights)
    shape = (pixels, pixels, 3)
    network = keras.applications.VGG16(
        include_top=False,
        weights=None,
        input_tensor=keras.Input(shape, name="scaled"),
        name="vgg16",
    )
    for name, arrays in weights.items():
        network.get_layer(name).set_weights(list(arrays))
    network.trainable = False
    image = keras.Input(shape, name="image")
    scaled = image
    if recipe.input_scaling == "backbone":
        scaled = keras.ops.flip(image, axis=-1) - np.array(_IMAGENET_BGR, np.float32)
    # inference mode also while a head on top is trained
    model = keras.Model(image, network(scaled, training=False), name="backbone")
    for place, operation in enumerate(model.operations[1:-1]):
        # Keras counts its own names up within a process; a saved network must not show that
        operation.name = f"scaling_{place}"
    return model
