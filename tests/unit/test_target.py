"""What is predicted: which columns can be, on which scale, by which words, and what cannot."""

import csv
import dataclasses
import io
import logging

import numpy as np
import pytest
import tomli_w

from sfr.errors import ConfigError, DataFormatError, DataMissingError, EmptySelectionError
from sfr.recipe import load_recipe
from sfr.run.edited_tables import image_names
from sfr.run.tables import SAMPLE, SPLIT, read_table, write_table
from sfr.run.workspace import Workspace
from sfr.sample.split import is_current, split
from sfr.target import PUBLISHED, QUANTITIES, SSFR, Target, read_values, target_of
from sfr.train.predict import about_model
from sfr.train.rows import read_rows

THESIS = load_recipe("thesis")
NUMBERS = {"snapshot", "subhalo_id", "group_id", "galaxy_id"}
AGES = np.array([0.0, 3.0, 1.5, 12.0, 7.0, 9.0, 4.5, 2.0])


def predicting(column, recipe=THESIS, **fields):
    return recipe.with_fields("target", column=column, **fields)


def write_run(root, *, own=None, **columns):
    """Make a folder of eight galaxies with a split and images, and columns of one's own as text."""
    workspace, n = Workspace(root), AGES.size
    sample = {name: np.arange(1, n + 1) * np.ones(1, kind) for name, kind in SAMPLE.items()}
    sample |= {"snapshot": np.full(n, 99)} | columns
    write_table(workspace, workspace.sample_csv, sample | (own or {}))
    names = image_names(sample)
    subset = ["test" if i % 3 == 0 else "train" for i in range(n)]
    rows = (names, subset, names, np.zeros(n, int), np.zeros(n, int))
    write_table(workspace, workspace.split_csv, dict(zip(SPLIT, rows, strict=True)))
    workspace.images.mkdir()
    for name in names:
        (workspace.images / name).touch()
    return workspace


# -- which columns ---------------------------------------------------------------------------------


def test_every_column_of_the_sample_is_a_known_quantity_or_numbers_galaxies():
    formulae = {name for name, quantity in QUANTITIES.items() if quantity.make is not None}
    assert {SSFR, *QUANTITIES} - formulae == set(SAMPLE) - NUMBERS
    for quantity in QUANTITIES.values():
        assert set(quantity.of) <= set(SAMPLE)


def test_the_published_target_is_the_default_and_keeps_its_numbers(tmp_path):
    values = np.array([2.69e-17, 5.68e-12, 1.0e-10, 0.0])
    for recipe in (THESIS, predicting(SSFR)):
        target = target_of(recipe)
        assert target == PUBLISHED
        np.testing.assert_array_equal(target.label(values[:3]), np.log10(1e15 * values[:3]))
    labels = target.label(values[:3])
    np.testing.assert_array_equal(target.value(labels), 10.0**labels / 1e15)
    np.testing.assert_array_equal(target.shown(labels), labels - 15.0)
    np.testing.assert_array_equal(target.on_axis(values), np.log10(values[:3]))
    assert (target.error_unit, target.zero_words) == ("dex", "SFR = 0")
    rows = read_rows(write_run(tmp_path, ssfr_per_yr=np.geomspace(1e-12, 1e-10, 8)), THESIS)
    assert rows.label[0] == 3.0


@pytest.mark.parametrize(
    ("fields", "axis", "error", "text"),
    [
        (
            {"column": "age_gyr", "transform": "none", "unit": "Gyr", "name": "mean age"},
            "mean age [Gyr]",
            "Gyr",
            "mean age [Gyr]",
        ),
        ({"column": "age", "transform": "none"}, "age", "", "age"),
        ({"column": "cost_$"}, r"log$_{10}$ cost_\$", "dex", "cost_$"),
        (
            {"column": "stellar_mass_msun"},
            "log$_{10}$ M$_{\\rm stars}$ [M$_\\odot$]",
            "dex",
            "stellar mass = SubhaloMassType[4] x 1e10 / h [Msun]",
        ),
        (
            {"column": "gas_fraction", "transform": "none"},
            "f$_{\\rm gas}$",
            "",
            "gas fraction = gas mass / (gas mass + stellar mass)",
        ),
    ],
)
def test_one_line_of_a_recipe_names_another_target(tmp_path, fields, axis, error, text):
    path = tmp_path / "mine.toml"
    path.write_text(tomli_w.dumps({"extends": "thesis", "target": fields}))
    target = target_of(load_recipe(path))
    assert (target.axis, target.error_unit, target.text) == (axis, error, text)
    assert ("its unit is not stated" in target.sentence) == (fields["column"] in ("age", "cost_$"))
    assert not target.is_published


def test_a_formula_of_columns_is_predicted_like_a_column(tmp_path):
    gas, stars = AGES * 1e9, np.full(8, 3e9)
    workspace = write_run(tmp_path, gas_mass_msun=gas, stellar_mass_msun=stars)
    recipe = predicting("gas_fraction", transform="none")
    _, values = read_values(workspace, target_of(recipe))
    np.testing.assert_allclose(values, AGES / (AGES + 3))
    assert read_rows(workspace, recipe).label.tolist() == values.tolist()
    with pytest.raises(DataFormatError, match="gas_fraction is a column of your own"):
        read_values(write_run(tmp_path / "b", own={"gas_fraction": AGES}), target_of(recipe))


def test_columns_of_ones_own_are_found_by_galaxy_in_any_order_of_rows(tmp_path):
    workspace = write_run(tmp_path, own={"age_gyr": AGES})
    rows = list(csv.reader(io.StringIO(workspace.sample_csv.read_text())))
    workspace.sample_csv.write_text("\n".join(",".join(row) for row in [rows[0], *rows[:0:-1]]))
    _, values = read_values(workspace, target_of(predicting("age_gyr")))
    np.testing.assert_array_equal(values, AGES)


def test_a_value_of_zero_is_left_out_and_counted_where_labels_are_logarithms(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    workspace = write_run(tmp_path, own={"age_gyr": AGES})
    rows = read_rows(workspace, predicting("age_gyr", scale=1.0))
    assert (rows.label.size, rows.n_dropped_zero) == (7, 1)
    np.testing.assert_array_equal(rows.label, np.log10(AGES[1:]))
    assert "1 images of galaxies with age_gyr = 0 are left out" in caplog.text
    rows = read_rows(workspace, predicting("age_gyr", transform="none"))
    assert (rows.label.tolist(), rows.n_dropped_zero) == (AGES.tolist(), 0)


# -- what a target cannot be -----------------------------------------------------------------------


@pytest.mark.parametrize("column", [*sorted(NUMBERS), "image", "prediction", "label"])
def test_numbers_of_galaxies_and_names_of_our_tables_are_no_targets(column):
    with pytest.raises(ConfigError, match=rf"target\.column = '{column}'.*ssfr_per_yr, sfr_msun"):
        target_of(predicting(column))


@pytest.mark.parametrize("words", [{"unit": "Msun"}, {"name": "mass"}])
def test_a_known_column_keeps_its_words(words):
    with pytest.raises(ConfigError, match="stellar_mass_msun is known: stellar mass = "):
        target_of(predicting("stellar_mass_msun", **words))


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path):
    workspace = write_run(tmp_path, own={"age_gyr": AGES})
    with pytest.raises(DataMissingError, match=r"sample\.csv has no column 'ages'.*: age_gyr;"):
        read_rows(workspace, predicting("ages"))


@pytest.mark.parametrize(
    ("cell", "transform", "words"),
    [
        ("-1.0", "log10", 'is -1.0 .*0 or more, because target.transform = "log10"'),
        ("", "none", "is nan"),
        ("inf", "none", "is inf"),
        ("old", "none", "'old' is not a number"),
        ("1,5", "none", "decimal point"),
    ],
)
def test_a_value_that_is_no_label_is_named_with_its_file_column_and_image(
    tmp_path, cell, transform, words
):
    texts = [*map(str, AGES[:-1]), f'"{cell}"' if "," in cell else cell]
    workspace = write_run(tmp_path, own={"age_gyr": AGES})
    lines = workspace.sample_csv.read_text().splitlines()
    lines[1:] = [
        f"{line.rpartition(',')[0]},{text}" for line, text in zip(lines[1:], texts, strict=True)
    ]
    workspace.sample_csv.write_text("\n".join(lines))
    with pytest.raises(DataFormatError, match=rf"sample\.csv: age_gyr of Snap99ID8\.png.*{words}"):
        read_rows(workspace, predicting("age_gyr", transform=transform))


@pytest.mark.parametrize(
    ("values", "transform", "words"),
    [
        (np.full(8, 4.0), "log10", "age_gyr differ by 0 over 8 images"),
        (AGES * 1e-9, "none", 'or use target.transform = "log10"'),
    ],
)
def test_labels_that_are_all_equal_are_refused(tmp_path, values, transform, words):
    workspace = write_run(tmp_path, own={"age_gyr": values})
    with pytest.raises(DataFormatError, match=rf"sample\.csv.*{words}"):
        read_rows(workspace, predicting("age_gyr", transform=transform))


def test_a_target_that_is_zero_everywhere_leaves_nothing_to_train_on(tmp_path):
    workspace = write_run(tmp_path, own={"age_gyr": 0 * AGES})
    with pytest.raises(EmptySelectionError, match="8 have age_gyr = 0"):
        read_rows(workspace, predicting("age_gyr"))


def test_labels_that_a_relu_cannot_reach_are_told(tmp_path, caplog):
    workspace = write_run(tmp_path, own={"age_gyr": AGES / 4})
    read_rows(workspace, predicting("age_gyr", scale=1.0))
    assert '3 of 7 labels are below 0, where train.output = "relu" cannot predict' in caplog.text
    caplog.clear()
    read_rows(workspace, predicting("age_gyr"))
    read_rows(workspace, predicting("age_gyr", load_recipe("demo"), scale=1.0))
    assert not caplog.text


def test_labels_that_are_too_wide_for_a_network_are_told(tmp_path, caplog):
    workspace = write_run(tmp_path, own={"age_yr": AGES * 1e9})
    read_rows(workspace, predicting("age_yr", transform="none"))
    assert "the labels of age_yr span 1.2e+10" in caplog.text
    caplog.clear()
    read_rows(workspace, predicting("age_yr"))
    assert not caplog.text


# -- what depends on it ----------------------------------------------------------------------------


def test_strata_are_those_of_the_target(tmp_path):
    """They were of the sSFR whatever was predicted."""
    n = 40
    rng = np.random.default_rng(1)
    ages, workspace = rng.permutation(np.arange(1.0, n + 1)), Workspace(tmp_path)
    sample = {name: np.arange(1, n + 1) * np.ones(1, kind) for name, kind in SAMPLE.items()}
    sample["snapshot"] = np.full(n, 99)
    write_table(workspace, workspace.sample_csv, sample | {"age_gyr": ages})
    recipe = dataclasses.replace(THESIS.split, stratified=True, test_fraction=0.2)
    target = target_of(predicting("age_gyr", transform="none"))
    split(workspace, recipe, target)
    subsets = read_table(workspace.split_csv, SPLIT)["subset"]
    assert sorted((ages[subsets == "test"] - 1) // 5) == list(range(8))
    assert is_current(workspace, recipe, target)
    assert not is_current(workspace, recipe)
    assert split(workspace, recipe).reason == "settings or inputs changed"
    subsets = read_table(workspace.split_csv, SPLIT)["subset"]
    assert sorted((sample[SSFR][subsets == "test"] - 1) // 5) == list(range(8))


def test_rows_of_another_target_are_other_rows(tmp_path):
    workspace = write_run(tmp_path, own={"age_gyr": AGES, "same": AGES})
    found = [
        read_rows(workspace, recipe).digest()
        for recipe in (
            predicting("age_gyr", transform="none"),
            predicting("same", transform="none"),
            predicting("age_gyr", transform="none", unit="Gyr"),
            predicting("age_gyr"),
        )
    ]
    assert len(set(found)) == 4, "words of a model are those that it was trained with"


@pytest.mark.parametrize(
    "recipe", [THESIS, predicting("age_gyr", transform="none"), predicting("age_gyr", scale=10.0)]
)
def test_a_saved_model_knows_its_target(recipe):
    about = about_model(recipe, "mass", weights="random", normalisation=None)["label"]
    target, found = target_of(recipe), Target.of_model(about)
    labels = np.array([1.0, 2.5])
    assert (found.column, found.name) == (target.column, target.text)
    np.testing.assert_array_equal(found.value(labels), target.value(labels))


def test_a_model_of_before_targets_predicts_the_ssfr():
    found = Target.of_model({"text": "total-mass sSFR", "sentence": ""})
    assert found.column == SSFR
    assert found.value(np.array([4.0])).tolist() == [1e-11]


def test_a_recipe_stored_before_targets_is_read(tmp_path):
    data = THESIS.to_dict()
    del data["target"]
    data["train"]["zero_sfr"] = "drop"
    path = tmp_path / "recipe.toml"
    path.write_text(tomli_w.dumps(data))
    assert load_recipe(path) == THESIS
    data["train"]["zero_sfr"] = "keep"
    path.write_text(tomli_w.dumps(data))
    with pytest.raises(ConfigError, match=r"train\.zero_sfr is not a field"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("transform", "unit", "value", "words"),
    [
        ("none", "Gyr", -3.25, "age = \u22123.25 Gyr"),
        ("none", "", 0.0, "age = 0"),
        ("log10", "Gyr", 0.01, "log age = \u22122.00"),
        ("log10", "Gyr", 0.0, "age = 0"),
    ],
)
def test_a_value_beside_a_picture(transform, unit, value, words):
    target = target_of(predicting("age", transform=transform, unit=unit))
    assert target.tile(value) == words
