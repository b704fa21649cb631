"""Numbers do not depend on the user's keras.json, environment or notebook."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.test_train_heads import content, recipe, write_run

from sfr.errors import TrainingError
from sfr.nn import keras_import
from sfr.nn.keras_import import keras_home, load_keras, stated_backend
from sfr.train.fit import train_case

ROOT = Path(__file__).resolve().parents[2]
NASTY = {
    "floatx": "float16",
    "epsilon": 1,
    "image_data_format": "channels_first",
    "nnx_enabled": True,
    "dtype_policy": "mixed_float16",
    "max_epochs": 1,
}
VARIABLES = {
    "KERAS_MAX_EPOCHS": "one",
    "KERAS_MAX_STEPS_PER_EPOCH": "1",
    "KERAS_NNX_ENABLED": "true",
    "JAX_ENABLE_X64": "1",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "TF_ENABLE_AUTO_MIXED_PRECISION": "1",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty folder of Keras' settings, and no backend named."""
    folder = tmp_path / "keras home"
    folder.mkdir()
    monkeypatch.setenv("KERAS_HOME", str(folder))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    return folder


def test_keras_json_and_variables_that_change_numbers_change_no_byte(tmp_path, home):
    backend = load_keras().backend.backend()
    (home / "keras.json").write_text(json.dumps({**NASTY, "backend": backend}))
    (tmp_path / "origin.txt").write_text("weights")
    code = (
        "import pathlib\n"
        "from tests.integration.test_train_heads import recipe, write_run\n"
        "from sfr.train.fit import train_case\n"
        "from sfr.nn.keras_import import load_keras\n"
        f"train_case(write_run({str(tmp_path / 'other')!r}), recipe(seeds=2), 'composite')\n"
        f"origin = pathlib.Path({str(tmp_path / 'origin.txt')!r}).as_uri()\n"
        "print(load_keras().utils.get_file('downloaded.txt', origin=origin))\n"
    )
    environment = {**os.environ, **VARIABLES}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "PYTHONPATH": path},
        check=True,
        capture_output=True,
        text=True,
    )
    # what Keras downloads stays where the user has it
    assert Path(done.stdout.splitlines()[-1]).is_relative_to(home)
    assert json.loads((home / "keras.json").read_text())["floatx"] == "float16"
    workspace = write_run(tmp_path / "mine")
    train_case(workspace, recipe(seeds=2), "composite")
    mine, other = (content(tmp_path / name / "train" / "composite") for name in ("mine", "other"))
    assert mine == other


def test_a_notebook_that_set_keras_otherwise_gets_the_same_numbers(tmp_path, caplog):
    keras = load_keras()
    first, second = (write_run(tmp_path / name) for name in "ab")
    train_case(first, recipe(), "composite")
    keras.config.set_floatx("float64")
    keras.config.set_image_data_format("channels_first")
    keras.config.set_epsilon(0.1)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        train_case(second, recipe(), "composite")
        assert keras.config.floatx() == "float32"
    finally:
        load_keras()
    assert "floatx float64 -> float32" in caplog.text
    assert content(first.case("composite")) == content(second.case("composite"))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"backend": 7}', '{"floatx": "float128"}', "\x00", "[" * 100_000],
)
def test_a_keras_json_that_names_no_backend_leaves_it_open(home, text):
    (home / "keras.json").write_text(text)
    assert keras_import.chosen_backend() in {"tensorflow", "jax", "torch"}


def test_a_keras_json_that_is_a_folder_or_not_there_leaves_it_open(home):
    assert keras_import._named_backend() == ""
    (home / "keras.json").mkdir()
    assert keras_import._named_backend() == ""


def test_the_backend_of_keras_json_is_the_users(home, monkeypatch):
    (home / "keras.json").write_text('{"backend": "jax"}')
    assert keras_import.chosen_backend() == "jax"
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert keras_import.chosen_backend() == "torch"
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "keras", raising=False)
        assert stated_backend() == "torch"
        patch.delenv("KERAS_BACKEND")
        assert stated_backend() == "jax"
        (home / "keras.json").write_text('{"backend": "tensorflow"}')
        assert stated_backend() == ""


def test_an_unknown_backend_says_who_names_it(home, monkeypatch):
    (home / "keras.json").write_text('{"backend": "theano"}')
    with pytest.raises(TrainingError, match=r"keras\.json.*'theano'; allowed: tensorflow, jax"):
        keras_import.chosen_backend()
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    with pytest.raises(TrainingError, match="KERAS_BACKEND names the Keras backend 'numpy'"):
        keras_import.chosen_backend()


def test_keras_home_is_that_of_keras(home, monkeypatch):
    assert keras_home() == home
    monkeypatch.setenv("KERAS_HOME", "")
    monkeypatch.setenv("HOME", str(home))
    assert keras_home() == home / ".keras"
