"""Output that cannot be written, in any encoding, and help that fits any terminal."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sfr.cli import app

SFR = "import sys; from sfr.cli import main; sys.argv[0] = 'sfr'; main()"
NO_NAME = os.fsdecode(b"no \xe9[/red]\n.toml")


def run(*arguments, env=None, **options):
    command = [sys.executable, "-c", SFR, *arguments]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "check": False, **options}
    return subprocess.run(command, env={**os.environ, **(env or {})}, **settings)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [("recipe", "show", "thesis"), ("--help",), ("--version",)])
def test_a_reader_that_went_away_ends_a_command_without_a_word(arguments, unbuffered):
    read, write = os.pipe()
    os.close(read)
    done = run(*arguments, stdout=write, env={"PYTHONUNBUFFERED": unbuffered})
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_result_that_does_not_fit_on_the_disk_is_an_error_in_words():
    with Path("/dev/full").open("wb") as full:
        done = run("recipe", "show", "thesis", stdout=full)
    assert done.returncode == 3
    assert done.stderr.startswith(b"error: standard output cannot be written: No space left")
    assert b"Traceback" not in done.stderr


def test_what_the_machine_refuses_is_no_bug():
    done = run("recipe", "show", "n" * 300)
    assert done.returncode == 3
    assert b"File name too long" in done.stderr
    assert b"Traceback" not in done.stderr


def test_messages_that_nobody_hears_do_not_end_the_work(mock_sim, tmp_path):
    read, write = os.pipe()
    os.close(read)
    work = tmp_path / "work"
    done = run("select", "--sim", mock_sim, "--snap", "99", "--work", work, stderr=write)
    os.close(write)
    assert done.returncode == 0
    assert (work / "sample.csv").is_file()
    assert b"99" in done.stdout


def test_closed_descriptors_are_not_taken_by_files_of_the_run(mock_sim, tmp_path):
    work = tmp_path / "work"
    code = "import os; os.close(1); os.close(2); " + SFR
    arguments = ["select", "--sim", str(mock_sim), "--snap", "99", "--work", str(work)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=False)
    assert done.returncode == 0
    assert (work / "sample.csv").read_text().startswith("snapshot,")


ENCODINGS = (
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1:strict"},
    {"PYTHONIOENCODING": "cp1252"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "utf-8:strict"},
)


@pytest.mark.parametrize("env", ENCODINGS, ids=lambda env: " ".join(env.values()))
def test_no_encoding_ends_in_a_traceback(env):
    done = run("recipe", "list", env=env)
    assert done.returncode == 0
    assert b"thesis" in done.stdout
    if "utf-8:strict" not in env.values():
        assert done.stdout.isascii()
    # the bytes of a name come back as they were given
    done = run("recipe", "show", os.fsencode("\u2212θ≤…□ ") + os.fsencode(NO_NAME), env=env)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: recipe ")
    assert b"Traceback" not in done.stderr


def test_what_an_encoding_lacks_is_written_as_the_nearest_ascii():
    code = (
        "from sfr.cli.streams import open_standard_streams, echo; open_standard_streams();"
        "echo('r = \\u22120.5 ± 0.1, θ ≤ 3°, log₁₀ M², é ☃ \\udce9')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"r = -0.5 +- 0.1, theta <= 3 deg, log10 M2, \\xe9 ? \xe9\n"


def commands(group, names=()):
    for command in group.registered_commands:
        yield (*names, command.name or command.callback.__name__), command.callback
    for inner in group.registered_groups:
        yield from commands(inner.typer_instance, (*names, inner.name))


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize(
    ("names", "callback"),
    list(commands(app)),
    ids=lambda x: " ".join(x) if type(x) is tuple else "",
)
def test_help_is_broken_where_the_terminal_ends(monkeypatch, names, callback, width):
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", width)
    text = CliRunner().invoke(app, [*names, "--help"]).stdout
    lines = [line.strip() for line in text.partition("╭")[0].splitlines()]
    paragraphs = [" ".join(p.split()) for p in inspect.getdoc(callback).split("\n\n")]
    shown = re.split(r"\n\n+", "\n".join(lines).strip())[1:]
    assert [" ".join(p.split()) for p in shown] == paragraphs
    for paragraph in shown:
        for line, following in zip(paragraph.split("\n"), paragraph.split("\n")[1:], strict=False):
            # one column on either side, and two more before an example
            assert len(line) + 1 + len(following.split()[0]) > width - 4, line
