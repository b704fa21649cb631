"""Fixtures of the tests that train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sfr.run.workspace import Workspace


@pytest.fixture
def small_outputs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the 60 MB of the whole network where a test is not about it."""
    if "whole_network" not in request.fixturenames:
        monkeypatch.setattr("sfr.train.published._SHOWN_SEED", None)


@pytest.fixture
def whole_network() -> None:
    """Save the network of seed 0, as users have it."""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A run's folder of synthetic galaxies, ready to be trained on."""
    from tests.integration.test_train_heads import write_run

    return write_run(tmp_path / "run")
