"""Backbone, its weights, and the head."""

import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from sfr.errors import ConfigError, DataFormatError, DataMissingError
from sfr.recipe import load_recipe
from sfr.train.backbone import (
    LAYER_SHAPES,
    build_backbone,
    random_weights,
    read_weights,
    weights_id,
    weights_label,
)
from sfr.train.head import build_head, build_network, initial_weights, reset_head
from sfr.train.keras_import import load_keras

THESIS = load_recipe("thesis").train


def recipe(**changes):
    return load_recipe("thesis").with_fields("train", **{"weights": "random", **changes}).train


@pytest.fixture(scope="module")
def keras():
    return load_keras()


@pytest.fixture(scope="module")
def drawn():
    """Other weights than the built-in random ones."""
    return {name: (k + 0.5, b + 1.0) for name, (k, b) in random_weights().items()}


@pytest.fixture(scope="module")
def legacy_file(drawn, tmp_path_factory):
    """The layout of the file that Keras downloads, written by hand."""
    path = tmp_path_factory.mktemp("weights") / "notop.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in ("input_1", *drawn, "block5_pool")]
        for name, (kernel, bias) in drawn.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}_W_1:0".encode(), f"{name}_b_1:0".encode()]
            group[f"{name}_W_1:0"] = kernel
            group[f"{name}_b_1:0"] = bias
    yield path
    path.unlink()


@pytest.fixture(autouse=True)
def _no_large_leftovers(tmp_path):
    """Remove weights files, 60 MB each, which pytest would keep."""
    yield
    for path in tmp_path.iterdir():
        path.unlink()


def assert_same_weights(found, wanted):
    for name in LAYER_SHAPES:
        for a, b in zip(found[name], wanted[name], strict=True):
            np.testing.assert_array_equal(a, b)


# -- the network -------------------------------------------------------------------------------


def counts(model):
    def count(weights):
        return sum(int(np.prod(weight.shape)) for weight in weights)

    return count(model.non_trainable_weights), count(model.trainable_weights)


@pytest.mark.parametrize("scaling", ["raw", "backbone"])
def test_network_has_the_published_number_of_weights(keras, scaling):
    settings = recipe(input_scaling=scaling)
    backbone = build_backbone(settings, 256)
    head = build_head(settings, tuple(backbone.output.shape[1:]))
    network = build_network(backbone, head)
    assert tuple(backbone.output.shape[1:]) == (8, 8, 512)
    assert counts(network) == (14_714_688, 309_186)
    assert network.layers[-1].name == "out_val"
    assert network.layers[-1].activation is keras.activations.relu


def test_layer_table_is_that_of_keras(keras):
    model = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    shapes = {v.path.split("/")[-2]: tuple(v.shape) for v in model.weights if len(v.shape) == 4}
    assert shapes == LAYER_SHAPES


def test_backbone_scaling_is_that_of_keras(keras):
    image = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    raw = build_backbone(recipe(), 32)
    scaled = build_backbone(recipe(input_scaling="backbone"), 32)
    by_keras = keras.applications.vgg16.preprocess_input(image.astype(np.float32))
    wanted = raw.predict_on_batch(by_keras)
    np.testing.assert_allclose(scaled.predict_on_batch(image), wanted, rtol=1e-5, atol=1e-6)
    assert not np.allclose(raw.predict_on_batch(image), wanted)


def test_backbone_needs_32_pixels():
    with pytest.raises(ConfigError, match=r"maps\.pixels"):
        build_backbone(recipe(), 31)


# -- weights of the backbone -------------------------------------------------------------------


def test_random_weights_are_one_draw_with_keras_distribution(keras):
    first, second = random_weights(), random_weights()
    assert_same_weights(first, second)
    kernel = first["block3_conv2"][0]
    by_keras = keras.ops.convert_to_numpy(keras.initializers.GlorotUniform(1)(kernel.shape))
    assert kernel.std() == pytest.approx(by_keras.std(), rel=0.01)
    assert np.abs(kernel).max() == pytest.approx(np.abs(by_keras).max(), rel=0.01)
    assert weights_id("random") == weights_label("random") == "random"


def test_legacy_file_is_read_layer_by_layer(legacy_file, drawn):
    assert_same_weights(read_weights(legacy_file), drawn)


def test_keras_files_are_read_and_identified_by_content(keras, legacy_file, drawn, tmp_path):
    backbone = build_backbone(recipe(weights=str(legacy_file)), 32)
    found = {n: backbone.get_layer("vgg16").get_layer(n).get_weights() for n in LAYER_SHAPES}
    assert_same_weights(found, drawn)
    backbone.get_layer("vgg16").save_weights(tmp_path / "vgg16.weights.h5")
    build_network(backbone, build_head(recipe(), (1, 1, 512))).save(tmp_path / "whole.keras")
    assert_same_weights(read_weights(tmp_path / "vgg16.weights.h5"), drawn)
    assert_same_weights(read_weights(tmp_path / "whole.keras"), drawn)
    identities = {
        weights_id(str(p))
        for p in (legacy_file, tmp_path / "vgg16.weights.h5", tmp_path / "whole.keras")
    }
    assert len(identities) == 1
    label = weights_label(str(legacy_file))
    assert label == f"notop.h5 (sha256 {identities.pop()[:12]})"


def test_missing_file_says_what_is_allowed(tmp_path):
    with pytest.raises(DataMissingError, match="imagenet, random or an existing file"):
        weights_id(str(tmp_path / "none.h5"))


@pytest.mark.parametrize("name", ["bad.h5", "bad.weights.h5", "bad.keras", "bad.bin"])
def test_corrupt_file_raises(tmp_path, name):
    (tmp_path / name).write_bytes(b"no weights" * 100)
    with pytest.raises(DataFormatError, match=name):
        read_weights(tmp_path / name)


def test_cut_file_raises(tmp_path, legacy_file):
    data = legacy_file.read_bytes()
    (tmp_path / "cut.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataFormatError, match=r"cut\.h5"):
        read_weights(tmp_path / "cut.h5")


def spoil(path, how):
    layer = "block4_conv2"
    with h5py.File(path, "r+") as file:
        kernel = file[layer][f"{layer}_W_1:0"]
        if how == "no kernel":
            del file[layer][f"{layer}_W_1:0"]
        elif how == "has shape":
            del file[layer][f"{layer}_W_1:0"]
            file[layer][f"{layer}_W_1:0"] = np.zeros((3, 3, 512, 7))
        else:
            kernel[0, 0, 0, 0] = np.nan


@pytest.mark.parametrize("how", ["no kernel", "has shape", "not finite"])
def test_wrong_weights_name_the_layer(tmp_path, legacy_file, how):
    path = Path(shutil.copy(legacy_file, tmp_path / "wrong.h5"))
    spoil(path, how)
    with pytest.raises(DataFormatError, match=f"'block4_conv2'.*{how}"):
        read_weights(path)


def test_failed_download_says_how_to_go_on(keras, monkeypatch):
    def fail(**_):
        raise Exception("URL fetch failure on https://somewhere")

    monkeypatch.setattr(keras.applications, "VGG16", fail)
    with pytest.raises(DataMissingError, match=r"URL fetch failure.*models.*--weights FILE"):
        build_backbone(recipe(weights="imagenet"), 32)


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_missing_backend_says_what_to_install(backend):
    code = (
        f"import sys, os\nsys.modules['{backend}'] = None\n"
        f"os.environ['KERAS_BACKEND'] = '{backend}'\n"
        "from sfr.errors import TrainingError\nfrom sfr.train.keras_import import load_keras\n"
        "try: load_keras()\nexcept TrainingError as e: assert 'pip install' in str(e), e\n"
        "else: raise SystemExit('no error')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- the head ----------------------------------------------------------------------------------


def test_initial_weights_depend_on_the_seed_only(keras):
    head = build_head(THESIS, (8, 8, 512))
    other = build_head(THESIS, (8, 8, 512))
    for model in (head, other):
        reset_head(model, 5, 1.5)
    for a, b in zip(head.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    reset_head(other, 6, 1.5)
    assert not np.array_equal(head.get_weights()[0], other.get_weights()[0])
    assert head.get_weights()[-1] == np.float32(1.5)


def test_initial_weights_have_the_distribution_of_keras(keras):
    for shape in ((1, 1, 512, 1), (512, 256)):
        mine = initial_weights([shape, (1,)], 0, 0.0)[0]
        by_keras = keras.ops.convert_to_numpy(keras.initializers.GlorotUniform(1)(shape))
        assert mine.std() == pytest.approx(by_keras.std(), rel=0.1)
        assert np.abs(mine).max() == pytest.approx(np.abs(by_keras).max(), rel=0.05)


def test_output_follows_the_recipe(keras):
    head = build_head(recipe(output="linear", dense_units=(4,), dropout=0.0), (1, 1, 512))
    reset_head(head, 0, -2.0)
    assert head.predict_on_batch(np.zeros((1, 1, 1, 512), np.float32))[0, 0] == -2.0
    assert [layer.name for layer in head.layers][-3:] == ["dense_1", "dropout", "out_val"]
