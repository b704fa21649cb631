"""Components of galaxies and FoF groups, and the folds that are made of them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfr.errors import DataFormatError, EmptySelectionError
from sfr.recipe import load_recipe
from sfr.report.tables import subset_rows
from sfr.run.components import components, connect
from sfr.run.edited_tables import image_names, read_split
from sfr.run.folds import Place, count_folds, subsets_in
from sfr.run.tables import SAMPLE, TEST, TRAIN, VALIDATION, write_table
from sfr.run.workspace import Workspace
from sfr.sample.folds import Units, draw_folds, draw_parts, draw_subsets, strata_of
from sfr.sample.split import split
from sfr.train.rows import read_rows
from sfr.train.training import Training

RECIPE = dataclasses.replace(load_recipe("corrected").split, by="component", folds=4)


def links(snapshot, galaxy, group):
    names = ("snapshot", "galaxy_id", "group_id")
    return {
        name: np.array(column)
        for name, column in zip(names, (snapshot, galaxy, group), strict=True)
    }


def units_of(names, values=None, seed=0):
    values = np.arange(len(names)) if values is None else values
    return Units(names, names, strata_of(values)[:, None], seed)


@st.composite
def units(draw):
    """Return units of 1 to 6 images with labels."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=50))
    names = [f"u{number}" for number, size in enumerate(sizes) for _ in range(size)]
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    order = rng.permutation(len(names))
    return units_of([names[i] for i in order], rng.normal(size=len(names)))


# -- components ------------------------------------------------------------------------------------


def test_galaxies_and_groups_link_over_snapshots():
    """7 is in one group with 8 at 98 and 8 with 9 at 99: one component; -1 and -2 are others."""
    sample = links([98, 98, 99, 99, 99, 99], [7, 8, 8, 9, -1, -2], [0, 0, 1, 1, 2, 3])
    assert connect(sample, np.ones(sample["snapshot"].size, bool)).tolist() == [0, 0, 0, 0, 1, 2]
    assert connect(sample, sample["snapshot"] == 99).tolist() == [0, 1, 1, 1, 2, 3]
    assert connect(sample, np.zeros(6, bool)).tolist() == [0, 1, 1, 2, 3, 4]


def test_groups_of_different_snapshots_with_one_number_are_not_linked():
    sample = links([98, 99], [1, 2], [5, 5])
    assert connect(sample, np.ones(sample["snapshot"].size, bool)).tolist() == [0, 1]


def test_where_groups_link_too_much_those_of_the_earliest_snapshots_are_dropped():
    """Pairs that change partners at 98 link all galaxies in a ring."""
    snapshot, galaxy = np.repeat([97, 98, 99], 8), np.tile(np.arange(8), 3)
    pairs, others = np.arange(8) // 2, (np.arange(8) + 1) % 8 // 2
    sample = links(snapshot, galaxy, np.concatenate([pairs, others, pairs]))
    found = components(sample, 12)
    assert (found.count, found.largest, found.dropped, found.divided) == (4, 6, (97, 98), 0)
    assert (found.count_linked, found.largest_linked) == (1, 24)
    assert components(sample, 48).dropped == ()


def test_a_group_that_no_fold_holds_is_divided_and_the_others_stay_together():
    """A cluster at 97 had all links of all groups dropped, also of small ones."""
    snapshot, galaxy = np.repeat([97, 98, 99], 8), np.tile(np.arange(8), 3)
    group = np.concatenate([np.zeros(8, int), np.arange(8) // 2, np.arange(8)])
    found = components(links(snapshot, galaxy, group), 12)
    assert (found.count, found.largest, found.dropped, found.divided) == (4, 6, (), 1)
    assert components(links(snapshot, galaxy, group), 24).divided == 0


def test_a_group_that_fits_into_a_fold_stays_together_in_a_small_sample():
    """Three galaxies at three times are more than half a fold of 12, and no percolation."""
    snapshot, galaxy = np.repeat([97, 98, 99], 8), np.tile(np.arange(8), 3)
    group = np.tile([0, 0, 0, 1, 2, 3, 4, 5], 3)
    found = components(links(snapshot, galaxy, group), 12)
    assert (found.largest, found.count, found.dropped) == (9, 6, ())


def test_links_that_are_not_to_blame_stay():
    """A galaxy of three snapshots is three images, whatever is dropped."""
    found = components(links([97, 98, 99, 99], [1, 1, 1, 2], [0, 0, 0, 1]), 2)
    assert (found.dropped, found.divided, found.largest, found.count) == ((), 0, 3, 2)


@given(st.lists(st.tuples(st.integers(95, 99), st.integers(-3, 9), st.integers(0, 5)), max_size=40))
def test_a_component_holds_its_galaxies_and_groups(rows):
    sample = links(*(np.array([row[i] for row in rows], int) for i in range(3)))
    number = connect(sample, np.ones(len(rows), bool))
    for a, (snapshot, galaxy, group) in enumerate(rows):
        for b in range(a):
            same_galaxy = galaxy == rows[b][1] and galaxy >= 0
            if same_galaxy or (snapshot, group) == (rows[b][0], rows[b][2]):
                assert number[a] == number[b]


# -- parts -----------------------------------------------------------------------------------------


def test_bins_that_no_image_is_in_are_no_bins():
    """Relative to a part's share of nothing, what it holds of it was 0 / 0."""
    names = [f"u{i}" for i in range(8)]
    found = Units(names, names, np.array([[5], [9]] * 4), 0)
    assert np.bincount(draw_parts(found, [0.5, 0.5], "x"), found.strata[:, 0] == 5).tolist() == [
        2, 2,
    ]  # fmt: skip


@given(units(), st.integers(2, 8))
def test_folds_are_a_partition_into_whole_units_of_bounded_size(found, folds):
    fold = draw_parts(found, [1 / folds] * folds, "fold")
    assert fold.min() >= 0
    assert fold.max() < folds
    names = np.array(found.unit)
    assert all(len(set(fold[names == name].tolist())) == 1 for name in set(found.unit))
    sizes, largest = np.bincount(fold, minlength=folds), max(map(found.unit.count, found.unit))
    assert np.abs(sizes - fold.size / folds).max() <= max(largest, folds)
    if len(set(found.unit)) >= folds:
        assert sizes.min() > 0


@given(units(), st.integers(2, 5), st.sampled_from([0.0, 0.1, 0.25]))
def test_every_image_is_tested_once_and_validation_is_made_of_whole_units(found, folds, share):
    places = draw_folds(found, folds, share)
    names = np.array(found.unit)
    tested = np.zeros(names.size, int)
    for fold in range(folds):
        subsets = subsets_in(places, fold)
        tested += subsets == TEST
        for name in set(found.unit):
            assert len(set(subsets[names == name].tolist())) == 1
        rest = np.flatnonzero(subsets != TEST)
        if share and len(set(names[rest].tolist())) > 1:
            assert {TRAIN, VALIDATION} <= set(subsets.tolist())
        if not share:
            assert VALIDATION not in subsets
    assert (tested == 1).all()


@given(units(), units(), st.integers(2, 5))
def test_images_that_come_later_move_no_row(first, second, folds):
    before = draw_folds(first, folds, 0.2)
    grown = Units(
        [*first.unit, *second.unit],
        [*first.galaxy, *second.galaxy],
        np.concatenate([first.strata, second.strata]),
        first.seed,
    )
    after = draw_folds(grown, folds, 0.2, [*before, *[None] * len(second.unit)])
    assert after[: len(before)] == before
    # and those of a unit that has a place join it
    fold_of = dict(zip(first.unit, (place.fold for place in before), strict=True))
    for name, place in zip(second.unit, after[len(before) :], strict=True):
        assert place.fold == fold_of.get(name, place.fold)


def test_a_draw_depends_on_seed_and_names_and_not_on_the_order_of_rows():
    names = [f"u{i // 3}" for i in range(60)]
    found = units_of(names)
    order = np.random.default_rng(0).permutation(60)
    fold = draw_parts(found, [0.25] * 4, "fold")
    assert draw_parts(found.take(order), [0.25] * 4, "fold").tolist() == fold[order].tolist()
    assert draw_parts(units_of(names, seed=1), [0.25] * 4, "fold").tolist() != fold.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_folds_are_alike_in_label_and_mass(seed):
    """Means of 20 units at random scatter by 0.22 sigma."""
    label, mass = np.repeat(np.random.default_rng(seed).normal(size=(2, 200)), 3, axis=1)
    names = [f"u{i // 3}" for i in range(600)]
    strata = np.column_stack([strata_of(label), strata_of(mass)])
    fold = draw_parts(Units(names, names, strata, seed), [0.1] * 10, "fold")
    assert set(np.bincount(fold).tolist()) == {60}
    for values in (label, mass):
        assert np.std([values[fold == k].mean() for k in range(10)]) < 0.14


def test_subsets_of_components_are_counted_in_images():
    names = [f"u{i}" for i in range(40) for _ in range(1 + i % 3)]
    places = draw_subsets(units_of(names), 0.25, 0.1)
    counts = [sum(p.subset == name for p in places) for name in (TEST, VALIDATION, TRAIN)]
    assert sum(counts) == len(names) == 79
    assert counts[0] == pytest.approx(0.25 * 79, abs=3)
    assert counts[1] == pytest.approx(0.075 * 79, abs=3)


# -- split.csv -------------------------------------------------------------------------------------


def write_sample(workspace, snapshots, galaxies=40):
    rows = [(snap, i) for snap in snapshots for i in range(galaxies)]
    rng = np.random.default_rng(1)
    table = {name: np.zeros(len(rows), kind) for name, kind in SAMPLE.items()}
    table["snapshot"] = np.array([snap for snap, _ in rows])
    table["subhalo_id"] = np.array([10 * i + snap % 3 for snap, i in rows])
    table["galaxy_id"] = np.array([1000 + i for _, i in rows])
    table["group_id"] = np.array([i // 2 for _, i in rows])
    table["ssfr_per_yr"] = 10 ** rng.uniform(-13, -10, len(rows))
    table["stellar_mass_msun"] = 10 ** rng.uniform(10, 12, len(rows))
    write_table(workspace, workspace.sample_csv, table)
    return table


def test_folds_of_a_run_and_their_summary(tmp_path):
    workspace = Workspace(tmp_path)
    sample = write_sample(workspace, [98, 99])
    found = split(workspace, RECIPE)
    assert found.counts == {"train": 0, "validation": 0, "test": 80}
    assert [(part.name, part.n_images) for part in found.parts] == [
        (f"fold {k}", 20) for k in range(4)
    ]
    assert {part.n_train + part.n_validation for part in found.parts} == {60}
    assert (found.components.count, found.components.largest) == (20, 4)
    assert (found.audit.n_test, found.audit.n_same_galaxy, found.audit.n_same_group) == (80, 0, 0)
    places = read_split(workspace)
    assert count_folds(places.values()) == 4
    names = [name for name, place in places.items() if place.fold == 0]
    rows = [image_names(sample).index(name) for name in names]
    assert found.parts[0].log_mass == np.log10(sample["stellar_mass_msun"][rows]).mean()
    assert split(workspace, RECIPE).reason == ""


def test_a_later_snapshot_extends_folds_and_moves_no_row(tmp_path):
    workspace = Workspace(tmp_path)
    write_sample(workspace, [99])
    split(workspace, RECIPE)
    before = read_split(workspace)
    write_sample(workspace, [98, 99])
    found = split(workspace, RECIPE)
    assert found.reason == "extended: 40 images keep their fold"
    after = read_split(workspace)
    assert {name: after[name] for name in before} == before
    assert found.audit.n_same_galaxy == found.audit.n_same_group == 0
    assert [part.n_images for part in found.parts] == [20] * 4


def test_groups_that_meet_later_leak_rather_than_move_rows(tmp_path):
    workspace = Workspace(tmp_path)
    write_sample(workspace, [98])
    split(workspace, RECIPE)
    before = read_split(workspace)
    table = write_sample(workspace, [98, 99])
    # at 99 galaxies of folds 0 and 1 are in one group
    one, other = (
        next(row for row, name in enumerate(before) if before[name].fold == fold) for fold in (0, 1)
    )
    table["group_id"][40 + one] = table["group_id"][40 + other]
    write_table(workspace, workspace.sample_csv, table)
    found = split(workspace, RECIPE)
    after = read_split(workspace)
    assert {name: after[name] for name in before} == before
    assert found.audit.n_same_galaxy == 0
    assert found.audit.n_same_group > 0


def test_a_fold_that_a_person_edits_stays(tmp_path):
    workspace = Workspace(tmp_path)
    write_sample(workspace, [99])
    split(workspace, RECIPE)
    before = read_split(workspace)
    name, place = next((n, p) for n, p in before.items() if p.fold == 0 and not p.validates)
    lines = workspace.split_csv.read_text().splitlines()
    row = next(i for i, line in enumerate(lines) if line.startswith(name))
    cells = lines[row].split(",")
    cells[3] = "2"
    lines[row] = ",".join(cells)
    workspace.split_csv.write_text("\n".join(lines) + "\n")
    found = split(workspace, RECIPE)
    assert str(found.edits) == "1 image is placed by hand"
    write_sample(workspace, [98, 99])
    split(workspace, RECIPE)
    after = read_split(workspace)
    expected = {**before, name: Place(place.subset, 2)}
    assert {name: after[name] for name in before} == expected


def test_folds_written_by_hand_need_name_and_fold_only(tmp_path, caplog):
    workspace = Workspace(tmp_path)
    sample = write_sample(workspace, [99], galaxies=12)
    names = image_names(sample)
    lines = [f"{name},test,{row % 3}" for row, name in enumerate(names[:-1])]
    text = "filename,subset,fold\n" + "\n".join([*lines, f"{names[-1]},train,"]) + "\n"
    workspace.split_csv.write_text(text)
    found = split(workspace, RECIPE)
    assert [part.n_images for part in found.parts] == [4, 4, 3]
    assert [part.n_train for part in found.parts] == [8, 8, 9]
    assert "has folds = 3, split.folds is 4: the table counts" in caplog.text


def test_too_few_components_for_the_folds_are_refused(tmp_path):
    workspace = Workspace(tmp_path)
    table = write_sample(workspace, [99], galaxies=6)
    write_table(workspace, workspace.sample_csv, table | {"galaxy_id": np.arange(6) // 2})
    with pytest.raises(EmptySelectionError, match=r"3 components .* are too few for 4 folds"):
        split(workspace, RECIPE)
    assert not workspace.split_csv.exists()


@pytest.mark.parametrize("by", ["image", "galaxy"])
def test_folds_of_images_and_of_galaxies_leak_what_they_divide(tmp_path, by):
    workspace = Workspace(tmp_path)
    write_sample(workspace, [98, 99])
    found = split(workspace, dataclasses.replace(RECIPE, by=by))
    assert [part.n_images for part in found.parts] == [20] * 4
    assert (found.audit.n_same_galaxy > 0) == (by == "image")
    assert found.audit.n_same_group > 0


def test_one_split_by_component(tmp_path):
    workspace = Workspace(tmp_path)
    write_sample(workspace, [98, 99])
    chosen = dataclasses.replace(RECIPE, folds=1, test_fraction=0.25, validation_fraction=0.0)
    found = split(workspace, chosen)
    assert found.counts == {"train": 60, "validation": 0, "test": 20}
    assert found.audit.n_same_group == 0


def test_the_trainer_gets_the_rows_of_each_fold(tmp_path):
    """Every image is tested once; one without an image, and one without a label, are left out."""
    workspace = Workspace(tmp_path)
    table = write_sample(workspace, [98, 99])
    table["ssfr_per_yr"][3] = 0.0
    write_table(workspace, workspace.sample_csv, table)
    split(workspace, RECIPE)
    workspace.images.mkdir()
    for name in image_names(table)[:-1]:
        (workspace.images / name).touch()
    recipe = load_recipe("demo")
    rows = read_rows(workspace, recipe)
    assert rows.n_folds == 4
    assert len(rows.filenames) == 78
    places = read_split(workspace)
    tested = [rows.indices(TEST, fold).tolist() for fold in range(4)]
    assert sorted(row for part in tested for row in part) == list(range(78))
    for fold, found in enumerate(Training(workspace, recipe).data.folds):
        assert {places[rows.filenames[row]].fold for row in found.test} == {fold}
        assert {places[rows.filenames[row]].fold for row in found.training} == {*range(4)} - {fold}
        assert all(fold in places[rows.filenames[row]].validates for row in found.validation)
        every = np.concatenate([found.training, found.validation, found.test])
        assert sorted(every.tolist()) == list(range(78))
        groups = [set(rows.group[rows_of].tolist()) for rows_of in dataclasses.astuple(found)]
        assert not groups[0] & groups[1]
        assert not groups[0] & groups[2]
        assert not groups[1] & groups[2]
    images = Training(workspace, recipe).images
    assert images["fold"].tolist() == [places[name].fold for name in rows.filenames]
    assert set(images["subset"].tolist()) == {TEST}


def test_a_fold_without_an_image_to_test_is_refused(tmp_path):
    workspace = Workspace(tmp_path)
    write_sample(workspace, [99], galaxies=12)
    split(workspace, RECIPE)
    workspace.images.mkdir()
    for name, place in read_split(workspace).items():
        if place.fold != 3:
            (workspace.images / name).touch()
    with pytest.raises(EmptySelectionError, match="no test image of fold 3 is left"):
        read_rows(workspace, load_recipe("demo"))
    assert [row.subset for row in subset_rows(workspace)] == [f"test, fold {k}" for k in range(4)]


def test_images_that_are_trained_on_in_every_fold_are_tested_in_none(tmp_path):
    workspace = Workspace(tmp_path)
    names = image_names(write_sample(workspace, [99], galaxies=12))
    lines = [f"{name},test,{row % 3}" for row, name in enumerate(names[2:])]
    always = [f"{names[0]},train,", f"{names[1]},validation,"]
    workspace.split_csv.write_text("filename,subset,fold\n" + "\n".join([*always, *lines]) + "\n")
    split(workspace, RECIPE)
    workspace.images.mkdir()
    for name in names:
        (workspace.images / name).touch()
    training = Training(workspace, load_recipe("demo"))
    assert training.images["fold"].tolist()[:4] == [-1, -1, 0, 1]
    assert training.images["subset"].tolist()[:4] == ["train", "validation", "test", "test"]
    for found in training.data.folds:
        assert 0 in found.training
        assert found.validation.tolist() == [1]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["test,0,", "test,1,0 x", "test,2,"], r"line 3: validates = '0 x'; allowed: numbers"),
        (
            ["test,0,", "test,1,1", "test,2,"],
            r"line 3: validates = '1'; allowed: folds that do not",
        ),
        (["test,0,", "test,1,7", "test,2,"], r"line 3: validates = '7'; allowed"),
        (["test,0,", "train,,0", "test,1,"], r"line 3: validates = '0'; allowed"),
        (["test,0,", "validation,1,", "test,1,"], r"line 3: fold = 1 with subset 'validation'"),
        (["test,-1,", "test,0,", "test,1,"], r"line 2: fold = -1 with subset 'test'"),
        (["test,0,", "test,2,", "test,0,"], r"line 3: fold = 2, but fold 1 tests no image"),
        (["test,0,", "test,first,", "test,1,"], r"line 3: fold = 'first' is not a whole number"),
    ],
)
def test_folds_that_cannot_be_are_named_by_their_line(tmp_path, rows, words):
    workspace = Workspace(tmp_path)
    names = image_names(write_sample(workspace, [99], galaxies=3))
    lines = [f"{name},{row}" for name, row in zip(names, rows, strict=True)]
    workspace.split_csv.write_text("filename,subset,fold,validates\n" + "\n".join(lines) + "\n")
    with pytest.raises(DataFormatError, match=words):
        split(workspace, RECIPE)
