"""The frozen backbone: a Keras application without its top, its weights, scaling and precision."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from sfr.errors import ConfigError, DataFormatError, DataMissingError
from sfr.hdf5 import open_hdf5, require_stored
from sfr.nn.keras_import import keras_home, load_keras
from sfr.recipe import TrainRecipe

__all__ = [
    "BackboneWeights",
    "block_widths",
    "build_backbone",
    "chosen_precision",
    "name_operations",
    "random_weights",
    "read_weights",
    "weights_id",
    "weights_label",
]

#: Arrays of each layer in Keras' order, by the layer's name.
BackboneWeights = dict[str, list[NDArray[np.float32]]]

_RANDOM_SEED = 0
#: Blocks that ridge reads, and the number of the last: its images are 2^5 times smaller.
_BLOCKS: Final = 4
_LAST_BLOCK: Final = 5
#: Least ratio of the sizes of a block and the one after it, which is 2 but for edges.
_NEXT: Final = 1.5
#: Processor features that make bfloat16 faster than float32.
_FAST_BFLOAT16: Final = frozenset({"avx512_bf16", "amx_bf16"})


# -- precision -----------------------------------------------------------------------------------


def chosen_precision(
    precision: Literal["auto", "float32", "bfloat16"], root: Path = Path("/")
) -> Literal["float32", "bfloat16"]:
    """Decide what ``auto`` means on this machine.

    Parameters
    ----------
    precision : str
        ``auto``, ``float32`` or ``bfloat16``.
    root : Path
        Where ``proc`` and ``dev`` are.

    Returns
    -------
    str
        What was named. For ``auto``: ``bfloat16`` with an NVIDIA GPU or a processor that has
        instructions for it (AVX512-BF16, AMX); else ``float32``, because without them bfloat16 was
        measured to be no faster (docs/training.md).
    """
    if precision != "auto":
        return precision
    if (root / "dev/nvidiactl").exists():
        return "bfloat16"
    try:
        words = set((root / "proc/cpuinfo").read_text("utf-8").split())
    except OSError:
        return "float32"
    return "bfloat16" if words & _FAST_BFLOAT16 else "float32"


# -- weights -------------------------------------------------------------------------------------


def weights_label(train: TrainRecipe) -> str:
    """Name the backbone's weights as tables print them: without folders, with part of the hash."""
    if train.weights in {"imagenet", "random"}:
        return train.weights
    return f"{Path(train.weights).name} (sha256 {weights_id(train)[:12]})"


def weights_id(train: TrainRecipe) -> str:
    """Identify the backbone's weights, whatever the file is called.

    Parameters
    ----------
    train : TrainRecipe
        Backbone and weights: ``imagenet``, ``random`` or the path of a file.

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
    if train.weights in {"imagenet", "random"}:
        return train.weights
    content = hashlib.sha256()
    for name, arrays in read_weights(Path(train.weights), train.backbone).items():
        content.update(name.encode())
        for array in arrays:
            content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()


def random_weights(network: Any) -> BackboneWeights:  # noqa: ANN401
    """Draw untrained weights: Glorot-uniform kernels in one fixed draw, the rest as Keras starts.

    This is how Keras initialises VGG16. It keeps features of raw 0..255 images of order 1;
    with He's larger kernels they are of order 100 and most heads die in the first epochs. The draw
    does not depend on a head's seed, nor on the Keras backend.

    Parameters
    ----------
    network : keras.Model
        The application.

    Returns
    -------
    dict of str to list of ndarray
        Arrays of each layer that has any.
    """
    rng = np.random.default_rng(_RANDOM_SEED)
    return {
        layer.name: [_drawn(rng, array) for array in layer.get_weights()]
        for layer in network.layers
        if layer.weights
    }


def _drawn(rng: np.random.Generator, start: NDArray[np.float32]) -> NDArray[np.float32]:
    if start.ndim < 2:
        return start
    *receptive, inputs, outputs = start.shape
    limit = np.sqrt(6.0 / (int(np.prod(receptive)) * (inputs + outputs)))
    return (rng.random(start.shape, np.float32) * 2.0 - 1.0) * np.float32(limit)


def read_weights(path: Path, backbone: str = "VGG16") -> BackboneWeights:
    """Read the backbone's weights from a file, layer by layer.

    Layers are found by name, so a file with more than the backbone (with its top, or a whole
    network that this package saved) is taken too; one with more layers of the backbone's kinds of
    blocks is another network, such as VGG19 for VGG16.

    Parameters
    ----------
    path : Path
        Legacy HDF5 (``..._notop.h5``), Keras 3 ``.weights.h5``, or ``.keras``.
    backbone : str
        Name of the Keras application.

    Returns
    -------
    dict of str to list of ndarray
        Arrays of each layer that has any, float32.

    Raises
    ------
    DataMissingError
        The file is not there.
    DataFormatError
        The file cannot be read, a layer is missing, has another shape or is there twice, or the
        file holds another network.
    """
    path = path.expanduser()
    if not path.is_file():
        raise DataMissingError(
            f"--weights {path} is not there; give imagenet, random or an existing file"
        )
    if not path.name.endswith((".h5", ".hdf5", ".keras")):
        raise DataFormatError(f"--weights {path}: allowed are .h5, .weights.h5 and .keras files")
    wanted = {
        layer.name: [tuple(weight.shape) for weight in layer.weights]
        for layer in _application(backbone, None).layers
        if layer.weights
    }
    try:
        with _open_hdf5(path) as file:
            found = _collect(file, path, frozenset(wanted))
    except (OSError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise DataFormatError(f"--weights {path} cannot be read: {error}") from error
    checked = {
        name: _checked_layer(f"--weights {path}", backbone, name, shapes, found.get(name, []))
        for name, shapes in wanted.items()
    }
    families = {_family(name) for name in wanted} - {""}
    others = sorted(n for n in found if n not in wanted and _family(n) in families)
    if others:
        raise DataFormatError(
            f"--weights {path} holds another network than {backbone}, which has no layer "
            f"{', '.join(others[:4])}{' ...' if len(others) > 4 else ''}; set train.backbone to "
            f"the network of the file, or give a file of {backbone}"
        )
    return checked


@contextlib.contextmanager
def _open_hdf5(path: Path) -> Iterator[h5py.File]:
    if path.name.endswith(".keras"):
        with zipfile.ZipFile(path) as archive:
            member = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(member, "r") as file:
            yield file
    else:
        with open_hdf5(path) as file:
            yield file


def _family(layer: str) -> str:
    """Return what a layer's name has before its first number: ``block`` of ``block3_conv4``."""
    match = re.match(r"(\D+?)_?\d", layer)
    return match[1] if match else ""


def _collect(
    file: h5py.File, path: Path, names: frozenset[str]
) -> dict[str, list[NDArray[np.generic]]]:
    """Return the arrays of all layers in Keras' order, by a layer's name; those asked for first."""
    found: dict[str, list[NDArray[np.generic]]] = {}

    def visit(place: str, item: h5py.Group | h5py.Dataset) -> None:
        if not isinstance(item, h5py.Group) or place.startswith("optimizer"):
            return
        if "weight_names" in item.attrs:
            # a legacy file: a group per layer, which lists its arrays in order
            listed = [n.decode() if isinstance(n, bytes) else n for n in item.attrs["weight_names"]]
            name, keys = place.split("/")[-1], listed
        else:
            # Keras 3: the arrays are numbered, and an attribute or the path names the layer
            named = item.attrs.get("name", item.parent.attrs.get("name"))
            parts = [part for part in reversed(place.split("/")) if part != "vars"]
            candidates = [str(named), *parts] if named is not None else parts
            name = next((n for n in candidates if n in names), candidates[0] if candidates else "")
            keys = sorted((key for key in item if key.isdecimal()), key=int)
        if not keys:
            return
        if name in found and name in names:
            raise ValueError(f"layer {name!r} is there twice")
        # of other layers the name is enough
        found[name] = [_array(item[key], path) for key in keys] if name in names else []

    file.visititems(visit)
    return found


def _array(dataset: h5py.Dataset, path: Path) -> NDArray[np.generic]:
    require_stored(dataset, path, dataset.name)
    return np.asarray(dataset[()])


def _checked_layer(
    source: str,
    backbone: str,
    name: str,
    shapes: list[tuple[int, ...]],
    found: list[NDArray[np.generic]],
) -> list[NDArray[np.float32]]:
    if len(found) != len(shapes):
        raise DataFormatError(
            f"{source}: layer {name!r} has {len(found)} arrays, {backbone} needs {len(shapes)}; "
            f"the file must hold {backbone}"
        )
    for array, shape in zip(found, shapes, strict=True):
        if array.shape != shape:
            raise DataFormatError(
                f"{source}: layer {name!r} has shape {array.shape}, {backbone} needs {shape}"
            )
        if not np.isfinite(array).all():
            raise DataFormatError(f"{source}: layer {name!r} is not finite")
    return [array.astype(np.float32) for array in found]


# -- the network ---------------------------------------------------------------------------------


def _application(
    name: str,
    tensor: Any,  # noqa: ANN401
    weights: str | None = None,
    *,
    precision: str = "float32",
) -> Any:  # noqa: ANN401
    """Return a Keras application without its top; ``tensor`` None: of any size."""
    keras = load_keras()
    function = getattr(keras.applications, name, None)
    if not callable(function) or not name[:1].isupper():
        known = [n for n in dir(keras.applications) if n[:1].isupper()]
        raise ConfigError(
            f"train.backbone = {name!r} is none of Keras' applications: {', '.join(known)}"
        )
    with _policy(keras.config, precision):
        return function(include_top=False, weights=weights, input_tensor=tensor)


def _imagenet(name: str) -> BackboneWeights:
    try:
        # Keras shows the download on stdout, which belongs to results
        with contextlib.redirect_stdout(sys.stderr):
            network = _application(name, None, "imagenet")
    except ConfigError:
        raise
    except Exception as error:
        cache = keras_home() / "models"
        file = (
            "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
            if name == "VGG16"
            else "the file of this address"
        )
        raise DataMissingError(
            f"the ImageNet weights of {name} could not be downloaded: {error}. Offline, put "
            f"{file} into {cache}, where Keras looks for it, or give any file with --weights FILE; "
            "--weights random works without a file, but its results mean nothing"
        ) from error
    return {layer.name: layer.get_weights() for layer in network.layers if layer.weights}


def _scaled(name: str, image: Any) -> Any:  # noqa: ANN401
    """Apply the preprocessing of a Keras application to images of 0..255."""
    applications = load_keras().applications
    for module in vars(applications).values():
        if hasattr(module, "preprocess_input") and hasattr(module, name):
            return module.preprocess_input(image)
    raise ConfigError(f"train.backbone = {name!r} has no preprocessing; use input_scaling = 'raw'")


@contextlib.contextmanager
def _policy(config: Any, precision: str) -> Iterator[None]:  # noqa: ANN401
    before = config.dtype_policy()
    config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        yield
    finally:
        config.set_dtype_policy(before)


def build_backbone(recipe: TrainRecipe, pixels: int) -> Any:  # noqa: ANN401
    """Build the frozen part of the network, from the 8-bit image to the features.

    Parameters
    ----------
    recipe : TrainRecipe
        Backbone, weights, input scaling, precision, and the probe that the features are for.
    pixels : int
        Pixels of an image on a side, 32 or more.

    Returns
    -------
    keras.Model
        Takes RGB images (N, pixels, pixels, 3) of 0..255, gives float32 features: for heads (N,
        height, width, channels) of the last block, for ridge (N, 2, channels), mean and standard
        deviation over places of all channels of `block_widths`. VGG16 has 14 714 688 weights and
        gives (N, pixels // 32, pixels // 32, 512), or (N, 2, 1408); none of the weights is
        trainable.

    Raises
    ------
    ConfigError
        Unknown backbone, or the images are too small for it.
    DataMissingError
        The weights are not there and cannot be downloaded.
    DataFormatError
        The weights file does not hold this backbone.
    TrainingError
        Keras has no backend.
    """
    if pixels < 32:
        raise ConfigError(f"maps.pixels = {pixels}: the backbone needs 32 or more")
    keras = load_keras()
    name, shape = recipe.backbone, (pixels, pixels, 3)
    precision = chosen_precision(recipe.precision)
    network = _application(name, keras.Input(shape, name="scaled"), precision=precision)
    for layer, arrays in _weights(recipe, network).items():
        network.get_layer(layer).set_weights(arrays)
    if recipe.probe == "ridge":
        ends = [network.get_layer(layer).output for layer in _block_ends(network).values()]
        network = keras.Model(network.input, ends)
    network.trainable = False
    network.name = name.lower()
    image = keras.Input(shape, name="image")
    scaled = _scaled(name, image) if recipe.input_scaling == "backbone" else image
    # inference mode also while a head on top is trained
    found = network(scaled, training=False)
    features = _pooled(found) if recipe.probe == "ridge" else keras.ops.cast(found, "float32")
    if len(features.shape) != (3 if recipe.probe == "ridge" else 4):
        raise ConfigError(f"train.backbone = {name!r} does not give features of an image")
    model = keras.Model(image, features, name="backbone")
    name_operations(model, network)
    return model


def name_operations(model: Any, *without: Any) -> None:  # noqa: ANN401
    """Name the steps of a model by their places, but for its inner models.

    Keras counts its own names up within a process; a saved network must not show that.
    """
    for place, operation in enumerate(model.operations[1:]):
        if operation not in without:
            operation.name = f"step_{place}"


def block_widths(name: str) -> dict[str, int]:
    """Return the channels of the blocks that ridge reads, from the finest, by block.

    Parameters
    ----------
    name : str
        A Keras application.

    Returns
    -------
    dict of str to int
        VGG16: block2 128, block3 256, block4 512, block5 512. A block is what has images of 1/4,
        1/8, 1/16 and 1/32 of the size.

    Raises
    ------
    ConfigError
        No such application, or it has no such blocks.
    """
    network = _application(name, load_keras().Input((256, 256, 3)))
    ends = _block_ends(network)
    return {block: int(network.get_layer(layer).output.shape[-1]) for block, layer in ends.items()}


def _block_ends(network: Any) -> dict[str, str]:  # noqa: ANN401
    """Find the last layer of each of the four coarsest blocks: the last of its size.

    Where the network ends in pooling, as VGG does, so do its blocks.
    """
    images = [layer for layer in network.layers if len(layer.output.shape) == 4]
    kind = type(images[-1])
    if "Pooling" in kind.__name__:
        images = [layer for layer in images if isinstance(layer, kind)]
    last = {int(layer.output.shape[1]): layer.name for layer in images}
    # what is smaller than the output are weights of channels on the way to it; what is hardly
    # larger than another size is that one with an edge
    sizes = [int(images[-1].output.shape[1])]
    for size in sorted(last):
        if size >= _NEXT * sizes[-1] and len(sizes) < _BLOCKS:
            sizes.append(size)
    if len(sizes) < _BLOCKS:
        raise ConfigError(
            f"train.backbone = {network.name!r} has {len(sizes)} sizes of images inside, and ridge "
            f"reads {_BLOCKS}; use VGG16 or another one, or train.probe = 'head'"
        )
    first = _LAST_BLOCK - _BLOCKS + 1
    return {f"block{first + place}": last[size] for place, size in enumerate(reversed(sizes))}


def _pooled(blocks: Sequence[Any]) -> Any:  # noqa: ANN401
    """Return mean and standard deviation over places of all channels of blocks."""
    ops = load_keras().ops
    found = [ops.cast(block, "float32") for block in blocks]
    means = ops.concatenate([ops.mean(block, axis=(1, 2)) for block in found], axis=-1)
    spreads = ops.concatenate([ops.std(block, axis=(1, 2)) for block in found], axis=-1)
    return ops.stack([means, spreads], axis=1)


def _weights(recipe: TrainRecipe, network: Any) -> BackboneWeights:  # noqa: ANN401
    if recipe.weights == "imagenet":
        return _imagenet(recipe.backbone)
    if recipe.weights == "random":
        return random_weights(network)
    return read_weights(Path(recipe.weights), recipe.backbone)
