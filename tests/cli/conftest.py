"""How CLI tests run a command."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner, Result


@pytest.fixture
def sfr(tmp_path, monkeypatch):
    """Run ``sfr ARGS`` in an empty folder, with no simulation configured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SFR_SIM", raising=False)
    from sfr.cli import app

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return run
