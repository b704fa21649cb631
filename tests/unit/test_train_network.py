"""Backbone, its weights, and the head."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from sfr.errors import ConfigError, DataFormatError, DataMissingError
from sfr.nn.backbone import (
    block_widths,
    build_backbone,
    chosen_precision,
    random_weights,
    read_weights,
    weights_id,
    weights_label,
)
from sfr.nn.diagnose import describe_backend
from sfr.nn.first_weights import initial_weights
from sfr.nn.keras_import import load_keras
from sfr.recipe import load_recipe
from sfr.train.head import build_head, build_network, head_shapes

THESIS = load_recipe("thesis").train


def recipe(**changes):
    return load_recipe("thesis").with_fields("train", **{"weights": "random", **changes}).train


@pytest.fixture(scope="module")
def keras():
    return load_keras()


@pytest.fixture(scope="module")
def vgg16(keras):
    return keras.applications.VGG16(include_top=False, weights=None)


@pytest.fixture(scope="module")
def drawn(vgg16):
    """Other weights than the built-in random ones."""
    return {name: (k + 0.5, b + 1.0) for name, (k, b) in random_weights(vgg16).items()}


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
    assert list(found) == list(wanted)
    for name in wanted:
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


# -- other backbones and precisions ------------------------------------------------------------


@pytest.mark.parametrize("name", ["MobileNetV2", "EfficientNetV2B0"])
def test_any_keras_application_can_be_the_backbone(keras, name, tmp_path):
    settings = recipe(backbone=name, input_scaling="backbone")
    model = build_backbone(settings, 64)
    assert tuple(model.output.shape) == (None, 2, 2, 1280)
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    wanted = model.predict_on_batch(image)
    assert wanted.std() > 0.0
    network = model.get_layer(name.lower())
    network.save_weights(tmp_path / "other.weights.h5")
    loaded = build_backbone(
        recipe(
            backbone=name,
            input_scaling="backbone",
            weights=str(tmp_path / "other.weights.h5"),
        ),
        64,
    )
    np.testing.assert_array_equal(loaded.predict_on_batch(image), wanted)
    with pytest.raises(DataFormatError, match="the file must hold VGG16"):
        read_weights(tmp_path / "other.weights.h5", "VGG16")


@pytest.mark.parametrize("name", ["VGG17", "vgg16", "load_model"])
def test_unknown_backbone_lists_the_known_ones(keras, name):
    with pytest.raises(ConfigError, match=r"train\.backbone.*VGG16"):
        build_backbone(recipe(backbone=name), 64)


def test_bfloat16_backbone_gives_nearly_the_same_features(keras):
    image = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3)).astype(np.float32)
    exact = build_backbone(recipe(), 64).predict_on_batch(image)
    rough = build_backbone(recipe(precision="bfloat16"), 64).predict_on_batch(image)
    assert rough.dtype == np.float32
    difference = np.sqrt(np.mean((rough - exact) ** 2) / np.mean(exact**2))
    assert 1e-5 < difference < 0.03
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize(
    ("flags", "gpu", "wanted"),
    [
        ("fpu avx2", False, "float32"),
        ("fpu avx512_bf16 avx2", False, "bfloat16"),
        ("fpu amx_bf16", False, "bfloat16"),
        ("fpu avx2", True, "bfloat16"),
        (None, False, "float32"),
    ],
)
def test_auto_precision_is_what_the_machine_does_faster(tmp_path, flags, gpu, wanted):
    for folder in ("dev", "proc"):
        (tmp_path / folder).mkdir()
    if flags is not None:
        (tmp_path / "proc/cpuinfo").write_text(f"flags : {flags}\n")
    if gpu:
        (tmp_path / "dev/nvidiactl").touch()
    assert chosen_precision("auto", tmp_path) == wanted
    assert chosen_precision("float32", tmp_path) == "float32"
    for folder in ("dev", "proc"):
        for path in (tmp_path / folder).iterdir():
            path.unlink()
        (tmp_path / folder).rmdir()


# -- weights of the backbone -------------------------------------------------------------------


def test_random_weights_are_one_draw_with_keras_distribution(keras, vgg16):
    first, second = random_weights(vgg16), random_weights(vgg16)
    assert_same_weights(first, second)
    kernel = first["block3_conv2"][0]
    by_keras = keras.ops.convert_to_numpy(keras.initializers.GlorotUniform(1)(kernel.shape))
    assert kernel.std() == pytest.approx(by_keras.std(), rel=0.01)
    assert np.abs(kernel).max() == pytest.approx(np.abs(by_keras).max(), rel=0.01)
    assert weights_id(recipe()) == weights_label(recipe()) == "random"


def test_legacy_file_is_read_layer_by_layer(legacy_file, drawn):
    assert_same_weights(read_weights(legacy_file), drawn)


def test_keras_files_are_read_and_identified_by_content(keras, legacy_file, drawn, tmp_path):
    backbone = build_backbone(recipe(weights=str(legacy_file)), 32)
    found = {n: backbone.get_layer("vgg16").get_layer(n).get_weights() for n in drawn}
    assert_same_weights(found, drawn)
    backbone.get_layer("vgg16").save_weights(tmp_path / "vgg16.weights.h5")
    build_network(backbone, build_head(recipe(), (1, 1, 512))).save(tmp_path / "whole.keras")
    assert_same_weights(read_weights(tmp_path / "vgg16.weights.h5"), drawn)
    assert_same_weights(read_weights(tmp_path / "whole.keras"), drawn)
    identities = {
        weights_id(recipe(weights=str(p)))
        for p in (legacy_file, tmp_path / "vgg16.weights.h5", tmp_path / "whole.keras")
    }
    assert len(identities) == 1
    label = weights_label(recipe(weights=str(legacy_file)))
    assert label == f"notop.h5 (sha256 {identities.pop()[:12]})"


def test_missing_file_says_what_is_allowed(tmp_path):
    with pytest.raises(DataMissingError, match="imagenet, random or an existing file"):
        weights_id(recipe(weights=str(tmp_path / "none.h5")))


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


@pytest.mark.parametrize("extra", ["block3_conv4", "block6_conv1"])
@pytest.mark.parametrize("layout", ["legacy", "weights.h5", "keras"])
def test_the_weights_of_a_larger_network_are_refused(
    keras, vgg16, legacy_file, tmp_path, layout, extra
):
    """VGG19's file was taken for VGG16: all layers of the one are in the other."""
    if layout == "legacy":
        path = Path(shutil.copy(legacy_file, tmp_path / "other.h5"))
        with h5py.File(path, "r+") as file:
            group = file.create_group(extra)
            group.attrs["weight_names"] = [f"{extra}_W_1:0".encode()]
            group[f"{extra}_W_1:0"] = np.zeros((3, 3, 8, 8), np.float32)
    else:
        # cheaper than a whole VGG19, and laid out by Keras itself
        more = keras.layers.Conv2D(1, 1, name=extra)(vgg16.output)
        model = keras.Model(vgg16.input, more)
        path = tmp_path / f"other.{layout}"
        model.save(path) if layout == "keras" else model.save_weights(path)
    with pytest.raises(DataFormatError, match=f"another network than VGG16.*{extra}"):
        read_weights(path)


def test_vgg19_is_vgg19_and_not_vgg16(keras, tmp_path):
    keras.applications.VGG19(include_top=False, weights=None).save_weights(
        tmp_path / "vgg19.weights.h5"
    )
    assert len(read_weights(tmp_path / "vgg19.weights.h5", "VGG19")) == 16
    with pytest.raises(DataFormatError, match=r"VGG16.*block3_conv4, block4_conv4, block5_conv4"):
        read_weights(tmp_path / "vgg19.weights.h5", "VGG16")


def test_a_layer_that_is_there_twice_is_not_chosen_by_chance(tmp_path, legacy_file):
    path = Path(shutil.copy(legacy_file, tmp_path / "twice.h5"))
    with h5py.File(path, "r+") as file:
        file.copy("block1_conv1", file.create_group("second"), "block1_conv1")
    with pytest.raises(DataFormatError, match="'block1_conv1' is there twice"):
        read_weights(path)


def test_a_file_with_its_top_is_taken(tmp_path, legacy_file, drawn):
    path = Path(shutil.copy(legacy_file, tmp_path / "with_top.h5"))
    with h5py.File(path, "r+") as file:
        for name in ("fc1", "fc2", "predictions"):
            group = file.create_group(name)
            group.attrs["weight_names"] = [b"kernel:0"]
            group["kernel:0"] = np.zeros((4, 4), np.float32)
    assert_same_weights(read_weights(path), drawn)


def spoil(path, how):
    layer = "block4_conv2"
    with h5py.File(path, "r+") as file:
        kernel = file[layer][f"{layer}_W_1:0"]
        if how == "has 0 arrays":
            del file[layer]
        elif how == "has shape":
            del file[layer][f"{layer}_W_1:0"]
            file[layer][f"{layer}_W_1:0"] = np.zeros((3, 3, 512, 7))
        else:
            kernel[0, 0, 0, 0] = np.nan


@pytest.mark.parametrize("how", ["has 0 arrays", "has shape", "not finite"])
def test_wrong_weights_name_the_layer(tmp_path, legacy_file, how):
    path = Path(shutil.copy(legacy_file, tmp_path / "wrong.h5"))
    spoil(path, how)
    with pytest.raises(DataFormatError, match=f"'block4_conv2'.*{how}"):
        read_weights(path)


def test_failed_download_says_how_to_go_on(keras, monkeypatch):
    vgg16 = keras.applications.VGG16

    def fail(*, weights, **settings):
        if weights is None:
            return vgg16(weights=None, **settings)
        raise Exception("URL fetch failure on https://somewhere")

    monkeypatch.setattr(keras.applications, "VGG16", fail)
    with pytest.raises(DataMissingError, match=r"URL fetch failure.*models.*--weights FILE"):
        build_backbone(recipe(weights="imagenet"), 32)


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_missing_backend_says_what_to_install(backend):
    code = (
        f"import sys, os\nsys.modules['{backend}'] = None\n"
        f"os.environ['KERAS_BACKEND'] = '{backend}'\n"
        "from sfr.errors import TrainingError\nfrom sfr.nn.keras_import import load_keras\n"
        "try: load_keras()\nexcept TrainingError as e: assert 'pip install' in str(e), e\n"
        "else: raise SystemExit('no error')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_backend_and_device_are_named(keras, monkeypatch):
    said = describe_backend()
    assert said.startswith(f"{keras.backend.backend()}, Keras {keras.__version__}, uses ")
    assert re.search(r"uses (cpu|gpu|cuda|tpu)\b.*; --precision auto is (float32|bfloat16)", said)

    def fail():
        raise AttributeError("as Keras' backend of PyTorch does")

    monkeypatch.setattr(keras.distribution, "list_devices", fail)
    assert re.search(r"uses \S*(cpu|gpu|cuda|tpu)", describe_backend(), re.IGNORECASE)


# -- the head ----------------------------------------------------------------------------------


def test_head_shapes_are_those_of_keras(keras):
    head = build_head(THESIS, (8, 8, 512))
    assert head_shapes(THESIS, (64, 512)) == [tuple(w.shape) for w in head.weights]


def test_initial_weights_depend_on_the_seed_only(keras):
    shapes = head_shapes(THESIS, (64, 512))
    first, again, other = (initial_weights(shapes, seed, 1.5) for seed in (5, 5, 6))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])
    assert first[-1] == np.float32(1.5)


def test_initial_weights_have_the_distribution_of_keras(keras):
    for shape in ((1, 1, 512, 1), (512, 256)):
        mine = initial_weights([shape, (1,)], 0, 0.0)[0]
        by_keras = keras.ops.convert_to_numpy(keras.initializers.GlorotUniform(1)(shape))
        assert mine.std() == pytest.approx(by_keras.std(), rel=0.1)
        assert np.abs(mine).max() == pytest.approx(np.abs(by_keras).max(), rel=0.05)


def test_output_follows_the_recipe(keras):
    settings = recipe(output="linear", dense_units=(4,), dropout=0.0)
    head = build_head(settings, (1, 1, 512))
    head.set_weights(initial_weights(head_shapes(settings, (1, 512)), 0, -2.0))
    assert head.predict_on_batch(np.zeros((1, 1, 1, 512), np.float32))[0, 0] == -2.0
    assert [layer.name for layer in head.layers][-3:] == ["dense_1", "dropout", "out_val"]


def test_ridge_reads_mean_and_spread_of_the_outputs_of_blocks_2_to_5():
    settings = load_recipe("demo").with_fields("train", probe="ridge").train
    keras = load_keras()
    model = build_backbone(settings, 64)
    network = next(layer for layer in model.layers if layer.name == "vgg16")
    image = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    found = model.predict_on_batch(image)
    start = 0
    for block, width in block_widths("VGG16").items():
        pool = keras.Model(network.input, network.get_layer(f"{block}_pool").output)
        output = pool.predict_on_batch(image)
        mine = found[..., start : start + width]
        np.testing.assert_allclose(mine[:, 0], output.mean(axis=(1, 2)), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(mine[:, 1], output.std(axis=(1, 2)), rtol=1e-3, atol=1e-3)
        start += width
    assert found.shape == (2, 2, start) == (2, 2, 1408)


@pytest.mark.parametrize(
    ("name", "widths"),
    [("VGG16", [128, 256, 512, 512]), ("MobileNetV2", [144, 192, 576, 1280])],
)
def test_another_backbone_is_one_name(name, widths):
    """Layers of 1 x 1 pixel on the way to the output were once taken for its last block."""
    assert list(block_widths(name).values()) == widths
