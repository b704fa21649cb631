"""Fixtures that all tests share; they import the package inside, to keep collection fast."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from typer.testing import Result

settings.register_profile("fast", max_examples=25, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

PROJECT_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _logger_untouched() -> None:
    """Undo what commands, also those of wider fixtures, set of the logger: it hides records."""
    logger = logging.getLogger("sfr")
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def mock_sim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small mock simulation: snapshots 98 (mini) and 99 (full), 6 galaxies each."""
    from sfr.simulation.mock import write_mock

    folder = tmp_path_factory.mktemp("mock") / "sim"
    return write_mock(folder, galaxies=6, snaps=[99, 98], cells=400).path


@pytest.fixture(scope="session")
def external_data() -> Path:
    """Folder with original files of the simulations."""
    stated = os.environ.get("SFR_TEST_DATA")
    folder = Path(stated) if stated else PROJECT_ROOT.parent / "shared" / "data" / "tng"
    if not folder.is_dir():
        pytest.skip(f"no original simulation files: {folder} is not there (set SFR_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Dask scheduler with two workers, in a process of its own."""
    pytest.importorskip("distributed")
    code = (
        "import sys\nfrom distributed import LocalCluster\n"
        "if __name__ == '__main__':\n"
        "    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)\n"
        "    print(cluster.scheduler_address, flush=True)\n    sys.stdin.read()\n"
    )
    script = tmp_path_factory.mktemp("dask") / "cluster.py"
    script.write_text(code)
    process = subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.communicate()


@pytest.fixture
def sfr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run ``sfr ARGS`` in an empty folder, with no simulation configured."""
    from typer.testing import CliRunner

    from sfr.cli import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SFR_SIM", raising=False)
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])
