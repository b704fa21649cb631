"""Where a training stands, in one file: the same state comes back, or none."""

import json
import logging

import numpy as np
import pytest

from sfr.run.npz import Checkpoint, read_arrays, write_arrays
from sfr.run.workspace import Workspace

ABOUT = {"rng": {"state": 2**100, "inc": 3}, "seeds": [0, 7]}
ARRAYS = {
    "losses": np.array([[0.5, np.nan]]),
    "weights": [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((0, 4), np.float32)],
    "optimizer": (),
}


@pytest.fixture
def checkpoint(tmp_path):
    return Checkpoint(Workspace(tmp_path), tmp_path / "checkpoint.npz", "key")


def test_a_state_comes_back_as_it_was_with_its_empty_lists(checkpoint):
    checkpoint.write(ABOUT, ARRAYS)
    about, arrays = checkpoint.read()
    assert about == ABOUT
    assert {name: type(value) for name, value in arrays.items()} == {
        "losses": np.ndarray, "weights": list, "optimizer": list,
    }  # fmt: skip
    np.testing.assert_array_equal(arrays["losses"], ARRAYS["losses"])
    assert arrays["optimizer"] == []
    for found, given in zip(arrays["weights"], ARRAYS["weights"], strict=True):
        assert (found.dtype, found.tolist()) == (given.dtype, given.tolist())


def test_the_same_state_gives_the_same_bytes(checkpoint):
    checkpoint.write(ABOUT, ARRAYS)
    before = checkpoint.path.read_bytes()
    checkpoint.write(ABOUT, ARRAYS)
    assert checkpoint.path.read_bytes() == before


def test_a_state_of_other_settings_or_none_is_none(checkpoint, caplog):
    assert checkpoint.read() is None
    assert caplog.text == ""
    checkpoint.write(ABOUT, ARRAYS)
    other = Checkpoint(checkpoint.workspace, checkpoint.path, "other")
    with caplog.at_level(logging.INFO, "sfr"):
        assert other.read() is None
    assert "of other settings" in caplog.text
    checkpoint.remove()
    checkpoint.remove()
    assert not checkpoint.path.exists()


@pytest.mark.parametrize("damage", ["half", "no list", "no about", "about"])
def test_a_damaged_state_is_said_and_none(checkpoint, caplog, damage):
    checkpoint.write(ABOUT, ARRAYS)
    named = read_arrays(checkpoint.path)
    if damage == "half":
        content = checkpoint.path.read_bytes()
        checkpoint.path.write_bytes(content[: len(content) // 2])
    else:
        if damage == "no list":
            del named["weights_1"]
        elif damage == "no about":
            del named["about"]
        else:
            named["about"] = np.array(json.dumps(["key"]))
        write_arrays(checkpoint.workspace, checkpoint.path, named)
    assert checkpoint.read() is None
    assert f"{checkpoint.path}: training from the start" in caplog.text
