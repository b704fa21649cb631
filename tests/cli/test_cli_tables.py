"""sample.csv and split.csv under a person's hand, as commands treat them."""

import csv
import json

import pytest


@pytest.fixture
def rendered(sfr, mock_sim, tmp_path):
    """A folder with images of two snapshots and a split; returns the folder."""
    (tmp_path / "a.toml").write_text('extends = "demo"\n[maps]\npixels = 32\n')
    made = sfr("render", "--sim", mock_sim, "--snap", "98,99", "--recipe", "a.toml")
    assert made.exit_code == 0, made.stderr
    assert sfr("split").exit_code == 0
    return tmp_path / "sfr-work"


def edit(path, change):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    change(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_edits_are_said_by_the_commands_that_use_them(sfr, mock_sim, rendered):
    def change(rows):
        rows[0]["ssfr_per_yr"] = "1e-10"
        del rows[-1]

    edit(rendered / "sample.csv", change)
    said = "sample.csv, edited by hand: 1 row is taken out, 1 label differs from the catalogue's"
    for arguments in (
        ("select", "--sim", mock_sim, "--snap", "98,99"),
        ("split",),
        ("show", "--count", 2),
        ("render", "--sim", mock_sim, "--snap", "98,99"),
    ):
        result = sfr(*arguments)
        assert result.exit_code == 0, result.stderr
        assert " ".join(result.stderr.split()).count(said) == 1
    with (rendered / "sample.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 11
    assert len(list((rendered / "images").glob("Snap99*.png"))) == 5


def test_a_training_that_cannot_start_left_another_split(sfr, rendered, tmp_path):
    before = (rendered / "split.csv").read_bytes()
    (tmp_path / "b.toml").write_text(
        'extends = "a.toml"\n[sample]\nstellar_mass_min = 1.5\n[split]\nseed = 9\n'
    )
    (tmp_path / "c.toml").write_text(
        'extends = "a.toml"\n[maps]\nwidth_ckpc_h = 50.0\n[split]\nseed = 9\n'
    )
    for recipe, command in (("b.toml", "sfr select"), ("c.toml", "sfr render")):
        result = sfr("train", "--case", "mass", "--recipe", recipe)
        assert result.exit_code == 3
        assert command in result.stderr
        assert (rendered / "split.csv").read_bytes() == before
    assert sfr("split", "--recipe", "b.toml").exit_code == 3
    assert (rendered / "split.csv").read_bytes() == before


def test_a_snapshot_that_is_not_there_does_not_stop_the_others(sfr, mock_sim, tmp_path):
    result = sfr("select", "--sim", mock_sim, "--snap", "50,98,99", "--json")
    assert result.exit_code == 4
    assert [row["snapshot"] for row in json.loads(result.stdout)["snapshots"]] == [98, 99]
    assert "select 50: none" in result.stderr
    result = sfr("render", "--sim", mock_sim, "--snap", "50,98,99")
    assert result.exit_code == 4
    assert len(list((tmp_path / "sfr-work/images").glob("*.png"))) == 12
    plan = sfr("render", "--sim", mock_sim, "--snap", "50,98,99", "--dry-run", "--json")
    assert plan.exit_code == 4
    assert [row["snapshot"] for row in json.loads(plan.stdout)["snapshots"]] == [98, 99]
