"""Rates, time left and memory while galaxies are rendered."""

import pytest

from sfr.cli.console import Console
from sfr.pipeline.meter import Meter
from sfr.progress import readable_bytes


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_a_line_tells_rates_memory_and_the_time_left_by_cells(clock, capsys):
    memory = iter([2e8, 5e8, 3e8])
    meter = Meter(Console().progress, lambda: int(next(memory)))
    # half of the galaxies are there already; rates are of what is done now
    meter("maps 99", 50, 100, cells=(1000, 10_000))
    clock[0] += 10
    meter("maps 99", 60, 100, cells=(4000, 10_000))
    line = capsys.readouterr().err.strip()
    assert line == "maps 99: 60/100, 1 galaxies/s, 3.00e+02 cells/s, 500 MB, 0:00:20 left"
    clock[0] += 30
    meter("maps 99", 100, 100, cells=(10_000, 10_000))
    assert capsys.readouterr().err.strip().endswith("maps 99: 100/100")
    assert meter.peak_memory == 500_000_000
    assert meter.summary("maps 99") == (
        ", 1.25 galaxies/s, 2.25e+02 cells/s, at most 500 MB of memory"
    )
    assert meter.summary("maps 98") == ""


def test_without_cells_or_known_memory_less_is_said(clock, capsys):
    meter = Meter(Console().progress, lambda: None)
    meter("images 99", 0, 10)
    clock[0] += 5
    meter("images 99", 5, 10)
    assert capsys.readouterr().err.strip() == "images 99: 5/10, 1 galaxies/s, 0:00:05 left"
    Meter(Console(quiet=True).progress, lambda: None)("images 99", 0, 10)
    assert capsys.readouterr().err == ""


def test_the_end_of_a_step_is_told_once(clock, capsys):
    console = Console()
    console.progress("figures", 0, 3)
    for done in (1, 2, 3):
        clock[0] += 5
        console.progress("figures", done, 3)
    assert capsys.readouterr().err.splitlines() == [
        "figures: 1/3, 0:00:10 left",
        "figures: 2/3, 0:00:05 left",
        "figures: 3/3",
    ]


def test_the_last_line_tells_how_a_training_ended(clock, capsys):
    console = Console()
    for done, note in ((0, "loss 9"), (1, "loss 1.1252"), (2, "loss 0.1100, test r 0.890")):
        clock[0] += 5
        console.progress("training mass seed 0", done, 2, note=note)
    assert capsys.readouterr().err.splitlines() == [
        "training mass seed 0: 1/2, loss 1.1252, 0:00:05 left",
        "training mass seed 0: 2/2, loss 0.1100, test r 0.890",
    ]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_900, "1 MB"), (2.7e12, "2.7 TB")],
)
def test_bytes_are_readable(count, text):
    assert readable_bytes(int(count)) == text
