"""Tables of the command line: nothing is dropped or cut, whatever the width of the terminal."""

import io
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sfr.cli
from sfr.cli.console import Console
from sfr.cli.tables import print_table

WIDTHS = (40, 60, 80, 120)
CASE = {
    "case": "structure150", "r": "0.933 ± 0.012", "R2": 0.86, "RMSE [dex]": 0.111,
    "bias [dex]": -0.001234, "NMAD [dex]": 0.1, "outliers": 0.02, "N test": 24, "seeds": 3,
    "dead": 1,
}  # fmt: skip
CUTS = {
    "snapshot": 99, "selected": 40, "subhaloes": 4_371_211, "read": 4_371_210, "with flag": 11,
    "stellar mass": 4_370_000, "total mass": 123, "group not read": 7, "missing chunks": 2,
}  # fmt: skip
CHECK = {
    "check": "99 snapshot",
    "state": "missing",
    "detail": "2 of 680; the first is /data/sims/TNG50-1/output/snapdir_099/snap_099.13.hdf5; "
    "fetch snap_099.13.hdf5, snap_099.14.hdf5",
}
PLAN = {
    "snapshot": 99, "galaxies": 7881, "groups": 5012, "gas cells": 2_123_456_789,
    "stars": 312_345_678, "shards": 62, "there already": 0, "bytes to read": "123 GB",
}  # fmt: skip
ERRORS = {
    "noise": "0.025", "parameter": "theta 10-170", "method": "least squares", "offset": -1.2e-05,
    "median": 1e-06, "dispersion": 0.0012, "bound": None, "rms/bound": 1.01,
    "rms of error/bound": 1.02, "within 1 error": 0.683, "published offset": None,
    "published dispersion": 0.00055,
}  # fmt: skip
FIT = {
    "file": "cutouts/a galaxy, with a name of more than 24 characters.fits", "image": "3",
    "flags": "outside_training:amplitude not_converged resampled", "A [px]": "12.345 ± 0.012",
    "e": "0.5000 ± 0.0012", "theta [deg]": "40.12 ± 0.33", "x [px]": "31.50 ± 0.02",
    "amplitude": "1.001e-05 ± 1.2e-07", "n": "1.000",
}  # fmt: skip
NARROW = {"recipe": "thesis", "description": "what was published, the defects included " * 4}
TABLES = {
    "train": ([CASE, {**CASE, "case": "mass", "r": "dead", "R2": None}], 1),
    "select": ([CUTS, {**CUTS, "snapshot": 98, "read": None}], 1),
    "doctor": ([{**CHECK, "check": "python", "state": "ok", "detail": "3.11.2"}, CHECK], 1),
    "render --dry-run": ([PLAN, {**PLAN, "snapshot": 98}], 1),
    "semantic evaluate": ([ERRORS, {**ERRORS, "parameter": "A"}], 3),
    "semantic fit": ([FIT, {**FIT, "file": "b.npy", "flags": "-"}], 2),
    "recipe list": ([NARROW], 1),
    "a row": ([{"subset": "training", "images": 71}], 1),
}


def printed(capsys, monkeypatch, rows, leading, width):
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(rows, leading)
    return capsys.readouterr().out


def squeezed(*texts):
    return "".join("".join(texts).split())


def read_back(text, rows):
    """Read tables, or records, back: all text of each column, without spaces."""
    if "│" in text:
        return read_tables(text)
    start = max(map(len, rows[0])) + 2
    found, heading = dict.fromkeys(map(squeezed, rows[0]), ""), ""
    for line in text.splitlines():
        heading = squeezed(line[:start]) or heading
        found[heading] += squeezed(line[start:])
    return found


def read_tables(text):
    found = {}
    for band in re.split("└.*┘", text):
        split = [line[1:-1].split(line[0]) for line in band.splitlines() if line[:1] in ("┃", "│")]
        is_head = ["┃" in line for line in band.splitlines() if line[:1] in ("┃", "│")]
        for parts in zip(*split, strict=True):
            head = squeezed(*(part for part, head in zip(parts, is_head, strict=True) if head))
            cells = (part for part, head in zip(parts, is_head, strict=True) if not head)
            found[head] = squeezed(*cells)
    return found


def as_text(value):
    if value is None:
        return "-"
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 0.01
        else (f"{value:.3f}" if isinstance(value, float) else str(value))
    )


def expected(rows):
    return {squeezed(name): squeezed(*(as_text(row[name]) for row in rows)) for name in rows[0]}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", TABLES)
def test_columns_vanished_and_cells_were_cut_on_a_narrow_terminal(
    command, width, capsys, monkeypatch
):
    rows, leading = TABLES[command]
    text = printed(capsys, monkeypatch, rows, leading, width)
    assert read_back(text, rows) == expected(rows)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


@given(
    rows=st.integers(1, 8).flatmap(
        lambda columns: st.lists(
            st.lists(st.text("ab/ -.", max_size=60), min_size=columns, max_size=columns),
            min_size=1,
            max_size=3,
        )
    ),
    width=st.integers(30, 130),
)
def test_any_text_is_in_the_table_whatever_the_width(rows, width):
    """As above, with the cells of many shapes."""
    rows = [{f"heading {place}": cell for place, cell in enumerate(row)} for row in rows]
    with pytest.MonkeyPatch.context() as patch:
        stream = io.StringIO()
        patch.setattr("sys.stdout", stream)
        patch.setenv("COLUMNS", str(width))
        print_table(rows)
    assert read_back(stream.getvalue(), rows) == expected(rows)
    assert max(map(len, stream.getvalue().splitlines())) <= width


@pytest.mark.parametrize("width", [1, 7, 20, 30])
@pytest.mark.parametrize("command", TABLES)
def test_no_width_is_too_narrow(command, width, capsys, monkeypatch):
    rows, leading = TABLES[command]
    text = printed(capsys, monkeypatch, rows, leading, width)
    wanted = "".join(squeezed(*row, *map(as_text, row.values())) for row in rows)
    if "│" not in text:
        assert Counter(squeezed(text)) == Counter(wanted)
    assert "…" not in text


def test_a_path_is_folded_at_a_slash_and_a_value_not_at_all(capsys, monkeypatch):
    text = printed(capsys, monkeypatch, [CHECK], 1, 60)
    assert "snap_099.13.hdf5;" in text
    text = printed(capsys, monkeypatch, *TABLES["train"], 60)
    assert text.count("0.933 ± 0.012") == 1


def test_characters_of_two_columns_are_counted_as_such(capsys, monkeypatch):
    text = printed(capsys, monkeypatch, [{"file": "銀河" * 30, "flags": "round"}], 1, 40)
    assert text.count("銀") == 30
    assert "…" not in text


def test_what_another_program_reads_is_not_folded(capsys, monkeypatch):
    """Lines were folded at 200 columns."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(shutil.os, "get_terminal_size", no_terminal)
    long = {"check": "simulation", "detail": "/a/long/path" * 40 + " and a word"}
    print_table([long])
    assert long["detail"] in capsys.readouterr().out


def no_terminal(_):
    raise OSError


def test_markup_in_a_cell_is_text(capsys, monkeypatch):
    assert "[bold]a[/bold]" in printed(capsys, monkeypatch, [{"file": "[bold]a[/bold]"}], 1, 80)


def test_no_rows_are_no_table(capsys):
    Console().table("0 images", [], key="fits")
    assert capsys.readouterr().out == "0 images\n"


def test_there_is_one_way_to_print_tables():
    folder = Path(sfr.cli.__file__).parents[1]
    users = {p.name for p in folder.rglob("*.py") if "rich.table" in p.read_text("utf-8")}
    assert users == {"tables.py"}
