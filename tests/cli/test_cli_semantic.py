"""``sfr semantic`` from the command line."""

import inspect
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.integration.test_semantic_fits import galaxy
from typer.testing import CliRunner

from sfr.cli import app
from sfr.cli.semantic import fit as fit_command
from sfr.run.tables import read_table
from sfr.semantic.problem import PROBLEMS
from sfr.semantic.profile import PITCH
from sfr.semantic.training import default_training

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--images", "1000", "--epochs", "4", "-q"]


def run(*arguments):
    return CliRunner().invoke(app, ["semantic", *map(str, arguments)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a fast encoder and a small published one, hardly trained."""
    work = tmp_path_factory.mktemp("trained") / "work"
    assert run("train", "--work", work, *SMALL).exit_code == 0
    few = ["--noise", "0.1", "--target", "clean", "--images", "60", "--epochs", "1"]
    result = run("train", "--encoder", "1/64", *few, "--work", work, "-q")
    assert result.exit_code == 0, result.output
    return work


def picture_width(path):
    with Image.open(path) as picture:
        return picture.size[0]


# -- train and evaluate ------------------------------------------------------------------------


def test_training_again_says_that_it_is_there(trained):
    result = run("train", "--work", trained, *SMALL)
    assert result.exit_code == 0
    assert "there already" in result.stdout
    assert "paper-fast" in result.stdout


def test_evaluation_prints_bound_fit_and_paper_and_writes_table_and_figures(trained):
    result = run("evaluate", "paper-fast", "--images", 40, "--work", trained, "--json", "-q")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["errors"]
    assert {r["method"] for r in rows} == {"network", "1 step", "2 steps", "least squares"}
    assert {r["noise"] for r in rows} == {0.025, 0.05, 0.1}
    assert all(r["rms/bound"] > 0 and r["rms of error/bound"] > 0 for r in rows)
    # nothing was published of a network that learned from the true parameters
    assert {(r["learned from"], r["published by"]) for r in rows} == {("true parameters", None)}
    folder = trained / "semantic" / "paper-fast" / "seed-0"
    table = read_table(folder / "evaluation.csv", {"noise": float, "rms": float, "bound": float})
    assert len(table["rms"]) == len(rows)
    for name in ("examples", "recovered", "errors", "limit", "errors_after_steps"):
        assert picture_width(folder / f"{name}.png") > 400


def test_the_self_supervised_come_first_and_every_table_says_what_was_learned_from(
    trained, monkeypatch
):
    """The default encoder, which learns from the truth, stood first and as one of them."""
    noisy = ["--encoder", "1/48", "--noise", "0.1", "--target", "noisy"]
    few = ["--images", "60", "--epochs", "1", "--work", trained]
    assert run("train", *noisy, *few, "-q").exit_code == 0
    result = run("train", *noisy, *few)
    assert "its own input" in result.stdout
    options = ["--images", 20, "--steps", "1", "--no-least-squares", "--noise", "0.1", "-q"]
    monkeypatch.setenv("COLUMNS", "80")
    result = run("evaluate", *options, "--work", trained)
    assert result.exit_code == 0, result.output
    titles = [line for line in result.stdout.splitlines() if "learned from" in line]
    found = [title.partition("learned from ")[2].partition(":")[0] for title in titles]
    assert found == ["its own input", "clean images", "true parameters"]
    assert result.stdout.endswith("sizes.png\n")
    first, _, others = result.stdout.partition(titles[1])
    assert "published" in first
    assert "published" not in others
    folder = trained / "semantic" / "paper-cnn1_48-mae-noise0.1-noisy" / "seed-0"
    columns = {"learned from": str, "published by": str, "method": str}
    table = read_table(folder / "evaluation.csv", columns)
    assert set(table["learned from"]) == {"its own input"}
    # nobody published what a step makes of it
    beside = set(zip(table["method"], table["published by"], strict=True))
    assert beside == {("network", "paper"), ("1 step", "")}
    shutil.rmtree(folder.parent)


def test_the_quick_start_trained_another_network_than_the_first_fit():
    default = inspect.signature(fit_command).parameters["problem"].default
    for name in ("README.md", "docs/semantic.md"):
        text = (ROOT / name).read_text("utf-8")
        lines = [line.strip() for line in text.splitlines() if line.startswith("    sfr semantic")]
        assert lines[0].startswith(f"sfr semantic train --problem {default} "), name


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["train", "--noise", "much", "--encoder", "1/64"], 2, "--noise"),
        (["evaluate"], 3, "sfr semantic train"),
        (["fit", "there-is-none.npy"], 3, "not there"),
        (["fit", "notes.txt"], 2, ".fits"),
        (["fit", "a.npy", "--steps", "-1"], 2, "steps"),
        (["train", "--encoder", ","], 2, "--encoder"),
        (["train", "--encoder", "1/64", "--target", ","], 2, "--target"),
        (["train", "--seed", "-1"], 2, "--seed"),
        (["evaluate", "--noise", ","], 2, "--noise"),
        (["evaluate", "--steps", ","], 2, "--steps"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(sfr, tmp_path, arguments, code, text):
    (tmp_path / "notes.txt").write_text("not an image")
    result = sfr("semantic", *arguments)
    assert result.exit_code == code
    assert text in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["train", "evaluate", "fit"])
def test_every_command_has_help_with_an_example(sfr, command):
    result = sfr("semantic", command, "--help")
    assert result.exit_code == 0
    assert f"sfr semantic {command}" in result.stdout


# -- fits --------------------------------------------------------------------------------------


def test_a_fit_ends_with_a_table_and_a_figure(tmp_path, monkeypatch):
    from sfr.pipeline import semantic as module

    # the steps after it do the rest
    quick = replace(default_training(PROBLEMS["centred"]), images=1000, epochs=4)
    monkeypatch.setattr(module, "default_training", lambda problem: quick)
    monkeypatch.chdir(tmp_path)
    work = tmp_path / "work"
    np.save("good.npy", galaxy())
    np.save("zero.npy", np.zeros((64, 64)))
    result = run("fit", "good.npy", "--work", work)
    assert result.exit_code == 0, result.output
    assert "good.npy" in result.stdout
    assert "training (new)" in result.stderr
    result = run("fit", "good.npy", "zero.npy", "--work", work, "--json", "-q")
    assert result.exit_code == 4
    rows = json.loads(result.stdout)["fits"]
    assert rows[0]["A_px"] == pytest.approx(0.02 / PITCH, rel=0.05)
    assert rows[1]["A_px"] is None
    assert rows[1]["flags"] == "all_zero"
    table = (tmp_path / "semantic-fit" / "fits.csv").read_text().splitlines()
    assert len(table) == 3
    # a folder, with what macOS leaves beside each file
    (tmp_path / "folder").mkdir()
    np.save("folder/good.npy", galaxy())
    (tmp_path / "folder/._good.npy").write_bytes(b"no")
    result = run("fit", "folder", "--work", work, "--out", "other", "--json")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["fits"]) == 1
    assert "there already" in result.stderr
    assert "1 of 2 entries are left out: hidden or of the system: 1 (._good.npy)" in result.stderr
    assert table[0].startswith("file,image,A_px,A_px_error,e,e_error,theta_deg")
    assert picture_width("semantic-fit/fits.png") > 400
    # flags were the first column to go on a narrow terminal
    monkeypatch.setenv("COLUMNS", "40")
    result = run("fit", "good.npy", "zero.npy", "--work", work, "-q")
    assert "all_zero" in result.stdout
    assert result.stdout.index("flags") < result.stdout.index("A [px]")
    # the picture of earlier images does not stay beside a table of others
    assert run("fit", "zero.npy", "--work", work, "-q").exit_code == 4
    assert not (tmp_path / "semantic-fit" / "fits.png").exists()
    result = run("fit", "good.npy", "--work", work, "--out", "good.npy")
    assert result.exit_code == 2
    assert "good.npy is a file" in result.stderr
    assert "--work" not in result.stderr


def test_an_encoder_and_its_seed_are_taken_by_name(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("good.npy", galaxy(amplitude=1.0))
    named = ["--encoder", "paper-fast", "--work", trained]
    result = run("fit", "good.npy", *named, "--json", "-q")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["fits"][0]["A_px"] == pytest.approx(0.02 / PITCH, rel=0.05)
    result = run("fit", "good.npy", *named, "--seed", "7")
    assert result.exit_code == 3
    assert "no trained encoder paper-fast/seed-7" in result.stderr
