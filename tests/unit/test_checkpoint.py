"""Where a training stands, in one file: the same state comes back, or none."""

import json
import logging

import numpy as np
import pytest

from sfr.run.checkpoint import read_checkpoint, write_checkpoint
from sfr.run.workspace import Workspace

ABOUT = {"rng": {"state": 2**100, "inc": 3}, "seeds": [0, 7]}
ARRAYS = {
    "losses": np.array([[0.5, np.nan]]),
    "weights": [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((0, 4), np.float32)],
    "optimizer": (),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "checkpoint.npz"
    write_checkpoint(Workspace(tmp_path), path, "key", ABOUT, ARRAYS)
    return path


def test_a_state_comes_back_as_it_was_with_its_empty_lists(path):
    about, arrays = read_checkpoint(path, "key")
    assert about == ABOUT
    assert {name: type(value) for name, value in arrays.items()} == {
        "losses": np.ndarray, "weights": list, "optimizer": list,
    }  # fmt: skip
    np.testing.assert_array_equal(arrays["losses"], ARRAYS["losses"])
    assert arrays["optimizer"] == []
    for found, given in zip(arrays["weights"], ARRAYS["weights"], strict=True):
        assert (found.dtype, found.shape) == (given.dtype, given.shape)
        np.testing.assert_array_equal(found, given)


def test_the_same_state_gives_the_same_bytes(path):
    before = path.read_bytes()
    write_checkpoint(Workspace(path.parent), path, "key", ABOUT, ARRAYS)
    assert path.read_bytes() == before


def test_a_state_of_other_settings_or_none_is_none(path, caplog):
    assert read_checkpoint(path.with_name("none.npz"), "key") is None
    assert caplog.text == ""
    with caplog.at_level(logging.INFO, "sfr"):
        assert read_checkpoint(path, "other") is None
    assert "of other settings" in caplog.text


@pytest.mark.parametrize("damage", ["half", "no list", "no about", "about", "an array"])
def test_a_damaged_state_is_said_and_none(path, caplog, damage):
    with np.load(path) as file:
        named = dict(file)
    if damage == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "an array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        if damage == "about":
            named["about"] = np.array(json.dumps(["key"]))
        else:
            del named["weights_1" if damage == "no list" else "about"]
        np.savez(path, **named)
    assert read_checkpoint(path, "key") is None
    assert f"{path} cannot be read; training from the start" in caplog.text
