"""What differs between two recipes, and why."""

import dataclasses
import json

import pytest
from typer.testing import CliRunner

from sfr.cli import app
from sfr.errors import ConfigError
from sfr.recipe import BUILT_IN, changed_fields, load_recipe
from sfr.recipe.differences import _settings, differences, general_reasons


def write(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def by_field(found):
    return {difference.field: difference for difference in found}


def test_every_field_has_a_reason_and_every_reason_a_field():
    reasons = general_reasons()
    fields = {field for name in BUILT_IN for field in _settings(load_recipe(name).to_dict())}
    channels = {f for f in fields if f.startswith(("maps.channels.", "maps.candidates."))}
    assert fields - channels <= reasons.keys()
    left_out = {"simulation", "maps.depth_ckpc_h", "cases.names", "target.name", "target.unit"}
    assert reasons.keys() - fields == left_out
    for reason in reasons.values():
        assert reason.endswith(".")
        assert len(reason) > 15


@pytest.mark.parametrize("first", BUILT_IN)
@pytest.mark.parametrize("second", BUILT_IN)
def test_built_in_recipes_differ_where_their_fields_do_and_say_why(first, second):
    found = differences(first, second)
    a, b = load_recipe(first).to_dict(), load_recipe(second).to_dict()
    expected = {
        f"{section}.{name}"
        for section in a
        if isinstance(a[section], dict)
        for name in {**a[section], **b[section]}
        if a[section].get(name) != b[section].get(name)
    }
    assert {".".join(d.field.split(".")[:2]) for d in found} == expected
    assert all(d.reason for d in found)
    mirrored = [(d.field, d.second, d.first, d.reason) for d in differences(second, first)]
    assert {(m[0], str(m[1]), str(m[2]), m[3]) for m in mirrored} == {
        (d.field, str(d.first), str(d.second), d.reason) for d in found
    }


def test_thesis_and_corrected_differ_in_the_label_and_in_each_channel():
    found = by_field(differences("thesis", "corrected"))
    assert (found["sample.ssfr_mass"].first, found["sample.ssfr_mass"].second) == (
        "total_code", "stellar_msun",
    )  # fmt: skip
    assert "stellar mass in Msun" in found["sample.ssfr_mass"].reason
    assert found["maps.channels.temperature"].first["field"] == "log10_temperature"
    assert found["maps.channels.temperature"].second["range"] == [3.5, 7.0]
    assert "maps.channels" not in found, "the channels have the same names in the same order"
    assert found["maps.candidates"].second == []
    assert not [field for field in found if field.startswith("maps.candidates.")]


def test_two_files_of_a_user(tmp_path):
    a = write(tmp_path, "a.toml", 'extends = "thesis"\n[maps]\npixels = 64\ndepth_ckpc_h = 20\n')
    b = write(
        tmp_path,
        "b.toml",
        'extends = "a.toml"\n[maps]\npixels = 512\n[train]\nseeds = 3\n'
        '[reasons]\nmaps.pixels = "finer arms"\ntrain.epochs = "inherited"\n',
    )
    found = by_field(differences(a, b))
    assert found.keys() == {"maps.pixels", "train.seeds"}
    assert found["maps.pixels"].reason == "b: finer arms"
    assert found["train.seeds"].reason == general_reasons()["train.seeds"]
    depth = by_field(differences("thesis", b))["maps.depth_ckpc_h"]
    assert (depth.first, depth.second) == (None, 20.0)
    assert differences(a, a) == []


def test_a_reason_goes_with_the_value_that_it_was_given_for(tmp_path):
    write(
        tmp_path, "a.toml", 'extends = "thesis"\n[train]\nseeds = 3\n[reasons]\ntrain.seeds = "x"\n'
    )
    b = write(tmp_path, "b.toml", 'extends = "a.toml"\n[train]\nseeds = 5\n')
    (found,) = differences("thesis", b)
    assert found.reason == general_reasons()["train.seeds"]
    c = write(
        tmp_path, "c.toml", 'extends = "thesis"\n[train]\nseeds = 2\n[reasons]\ntrain.seeds = "y"\n'
    )
    (found,) = differences(tmp_path / "a.toml", c)
    assert found.reason == "a: x; c: y"


def test_channels_that_are_added_renamed_or_moved_are_told_apart(tmp_path):
    channels = [
        '{ name = "mass", field = "mass" }',
        '{ name = "metals", field = "metallicity", weight = "mass", statistic = "mean" }',
        '{ name = "entropy", field = "entropy" }',
    ]
    text = 'extends = "thesis"\n[maps]\nchannels = [' + ", ".join(channels) + "]\n"
    found = by_field(differences("thesis", write(tmp_path, "m.toml", text)))
    assert found["maps.channels"].second == ["mass", "metals", "entropy"]
    assert found["maps.channels.metals"].first is None
    assert found["maps.channels.temperature"].second is None
    assert found.keys() == {
        "maps.channels", "maps.channels.metals", "maps.channels.temperature",
    }  # fmt: skip
    assert all(difference.reason for difference in found.values())


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[reasons]\nmaps.pixel = "x"\n', "did you mean maps.pixels"),
        ("[reasons]\nmaps.pixels = 3\n", "is not a text"),
        ('reasons = "because"\n', "reasons"),
    ],
)
def test_a_reason_for_no_field_is_an_error(tmp_path, text, named):
    path = write(tmp_path, "a.toml", 'extends = "thesis"\n' + text)
    with pytest.raises(ConfigError, match=named):
        differences("thesis", path)


def test_recipe_diff_prints_values_and_reasons_and_json(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "72")
    path = write(tmp_path, "mine.toml", 'extends = "thesis"\n[train]\nseeds = 8\n')
    run = CliRunner()
    shown = run.invoke(app, ["recipe", "diff", "thesis", str(path)])
    assert shown.exit_code == 0
    assert "  train.seeds: 1 -> 8\n" in shown.stdout
    assert " ".join(shown.stdout.split()).endswith(general_reasons()["train.seeds"])
    assert max(map(len, shown.stdout.splitlines()[1:])) <= 72
    told = run.invoke(app, ["recipe", "diff", "thesis", str(path), "--json"])
    assert json.loads(told.stdout) == {
        "first": "thesis",
        "second": str(path),
        "differences": [
            {"field": "train.seeds", "first": 1, "second": 8,
             "reason": general_reasons()["train.seeds"]}
        ],
    }  # fmt: skip
    assert "no difference" in run.invoke(app, ["recipe", "diff", "demo", "demo"]).stdout
    assert run.invoke(app, ["recipe", "diff", "thesis", "no.toml"]).exit_code == 2


@pytest.mark.parametrize("given", ["3", "[1]", '[{ field = "mass" }]', "[{ name = 3 }]"])
def test_channels_that_another_file_replaces_were_a_traceback(tmp_path, given):
    (tmp_path / "base.toml").write_text(f'extends = "thesis"\n[maps]\nchannels = {given}\n')
    channels = ", ".join(f'{{ name = "{name}", field = "mass" }}' for name in "abc")
    path = tmp_path / "mine.toml"
    path.write_text(f'extends = "base.toml"\n[maps]\nchannels = [{channels}]\n')
    found = {d.field: d.second for d in differences("thesis", path)}
    assert found["maps.channels"] == ["a", "b", "c"]


def test_what_a_folder_says_of_its_recipe_is_what_the_comparison_says():
    """A second comparison named the whole list of channels, and the recipe's description."""
    thesis = load_recipe("thesis")
    first, *others = thesis.maps.channels
    maps = dataclasses.replace(
        thesis.maps, pixels=64, channels=(dataclasses.replace(first, weight="volume"), *others)
    )
    other = dataclasses.replace(thesis, maps=maps, description="mine")
    assert changed_fields(thesis, other) == ["maps.pixels", f"maps.channels.{first.name}"]
    assert changed_fields(thesis, thesis) == []
    named = [found.field for found in differences("thesis", "corrected")]
    assert changed_fields(thesis, load_recipe("corrected")) == named
