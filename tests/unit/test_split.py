"""The split: fractions, stability under extension, strata, and what leaks."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfr.errors import DataMissingError, EmptySelectionError
from sfr.recipe import load_recipe
from sfr.run.tables import SAMPLE, SPLIT, read_table, write_table
from sfr.run.workspace import Workspace, digest
from sfr.sample.split import _places, assign, split

BY_IMAGE = load_recipe("thesis").split
BY_GALAXY = dataclasses.replace(BY_IMAGE, by="galaxy", test_fraction=0.25)


def write_sample(workspace, snapshots, galaxies=40, *, tracked=True):
    rows = [(snap, i) for snap in snapshots for i in range(galaxies)]
    rng = np.random.default_rng(1)
    table = {
        name: np.zeros(len(rows), kind if kind is not str else np.str_)
        for name, kind in SAMPLE.items()
    }
    table["snapshot"] = np.array([snap for snap, _ in rows])
    table["subhalo_id"] = np.array([10 * i + snap % 3 for snap, i in rows])
    sign = 1 if tracked else -1
    table["galaxy_id"] = np.array([sign * (1000 + i) for _, i in rows])
    table["group_id"] = np.array([i // 2 for _, i in rows])
    table["ssfr_per_yr"] = 10 ** rng.uniform(-13, -10, len(rows))
    write_table(workspace, workspace.sample_csv, table)


def subsets(workspace):
    table = read_table(workspace.split_csv, SPLIT)
    return dict(zip(table["filename"].tolist(), table["subset"].tolist(), strict=True))


@given(st.integers(2, 400), st.sampled_from([0.1, 0.25, 0.5]), st.booleans(), st.integers(0, 5))
def test_the_test_subset_has_its_share(n, fraction, stratified, seed):
    recipe = dataclasses.replace(
        BY_IMAGE, test_fraction=fraction, stratified=stratified, seed=seed, validation_fraction=0.1
    )
    units = {f"u{i}": float(i % 17) for i in range(n)}
    found = assign(units, recipe)
    n_test = sum(v == "test" for v in found.values())
    n_validation = sum(v == "validation" for v in found.values())
    assert n_test == n - int((1 - fraction) * n)
    assert n_validation == n - n_test - max(1, int(0.9 * (n - n_test)))
    assert found == assign(dict(reversed(units.items())), recipe)


@pytest.mark.parametrize("stratified", [False, True])
def test_the_published_numbers_of_training_and_test_images(stratified):
    """788 of 7881 images were tested, the listing's int(0.9 N) leaves 789."""
    units = {f"u{i}": float(i % 97) for i in range(7881)}
    found = assign(units, dataclasses.replace(BY_IMAGE, stratified=stratified))
    counts = [sum(v == name for v in found.values()) for name in ("train", "test")]
    assert counts == [7092, 789]


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.3, 0.7, 0.9, 0.25, 1 / 3])
def test_counts_are_those_of_the_fraction_as_it_is_written(fraction):
    """int((1 - 0.9) * 10) is 0 in binary numbers."""
    for n in [*range(2, 300), 7881, 10_000]:
        exact = n * (10_000_000 - round(fraction * 10_000_000)) // 10_000_000
        if fraction == 1 / 3:
            exact = int(n * (1 - fraction) + 1e-9)
        assert _places(n, fraction) == n - max(1, exact)
        if fraction == 0.1:
            assert n - _places(n, fraction) == max(1, int(0.9 * n))


def test_subsets_of_galaxies_are_counted_in_galaxies(tmp_path):
    workspace = Workspace(tmp_path)
    write_sample(workspace, [98, 99], galaxies=39)
    recipe = dataclasses.replace(BY_GALAXY, validation_fraction=0.1)
    # 39 galaxies: int(0.75 * 39) = 29 are left, of which int(0.9 * 29) = 26 train
    assert split(workspace, recipe).counts == {"train": 52, "validation": 6, "test": 20}


def test_a_split_of_an_older_version_is_drawn_anew(tmp_path):
    workspace = Workspace(tmp_path)
    write_sample(workspace, [99], galaxies=38)
    split(workspace, BY_IMAGE)
    new = subsets(workspace)
    table = read_table(workspace.split_csv, SPLIT)
    table["subset"][np.flatnonzero(table["subset"] == "test")[0]] = "train"
    write_table(workspace, workspace.split_csv, table)
    older = digest(dataclasses.asdict(BY_IMAGE))
    workspace.remember("split-settings", older)
    workspace.mark_done("split", "older", [workspace.split_csv])
    workspace.kept(workspace.split_csv).unlink()
    assert split(workspace, BY_IMAGE).reason == "settings or inputs changed"
    assert subsets(workspace) == new


def test_stratified_subsets_cover_the_range_of_labels():
    units = {f"u{i}": float(i) for i in range(100)}
    found = assign(units, dataclasses.replace(BY_IMAGE, stratified=True))
    test = sorted(int(u[1:]) // 10 for u, v in found.items() if v == "test")
    assert test == list(range(10))


@given(st.integers(4, 60), st.integers(1, 60), st.booleans())
def test_more_units_never_move_those_that_have_a_subset(n, more, stratified):
    recipe = dataclasses.replace(BY_IMAGE, test_fraction=0.2, stratified=stratified)
    units = {f"u{i}": float(i % 7) for i in range(n)}
    first = assign(units, recipe)
    grown = assign({**units, **{f"v{i}": 1.0 for i in range(more)}}, recipe, first)
    assert {u: grown[u] for u in units} == first
    n_test = sum(v == "test" for v in grown.values())
    assert n_test == pytest.approx(0.2 * (n + more), abs=1.01)


def test_a_galaxy_is_never_divided_and_a_later_snapshot_extends(tmp_path):
    workspace = Workspace(tmp_path)
    write_sample(workspace, [99])
    split(workspace, BY_GALAXY)
    before = subsets(workspace)
    write_sample(workspace, [98, 99])
    summary = split(workspace, BY_GALAXY)
    after = subsets(workspace)
    assert {f: after[f] for f in before} == before
    assert "keep their subset" in summary.reason
    assert summary.counts == {"train": 60, "validation": 0, "test": 20}
    assert sum(summary.galaxies.values()) < 80, "galaxies are counted once, not in each snapshot"
    assert summary.audit.n_same_galaxy == 0
    assert split(workspace, BY_GALAXY).reason == ""


def test_splitting_by_image_leaks_and_the_audit_counts_it(tmp_path):
    workspace = Workspace(tmp_path)
    write_sample(workspace, [97, 98, 99])
    audit = split(workspace, BY_IMAGE).audit
    assert audit.n_test == 12
    assert audit.n_same_galaxy > 0
    assert audit.n_same_group > 0
    table = read_table(workspace.split_csv, SPLIT)
    sample = read_table(workspace.sample_csv, SAMPLE)
    test = table["subset"] == "test"
    train_galaxies = set(sample["galaxy_id"][~test].tolist())
    expected = sum(g in train_galaxies for g in sample["galaxy_id"][test].tolist())
    assert audit.n_same_galaxy == expected


def test_other_settings_draw_anew(tmp_path):
    workspace = Workspace(tmp_path)
    write_sample(workspace, [99])
    split(workspace, BY_IMAGE)
    before = subsets(workspace)
    split(workspace, dataclasses.replace(BY_IMAGE, seed=1))
    assert subsets(workspace) != before


def test_untracked_galaxies_cannot_be_kept_together_over_snapshots(tmp_path):
    workspace = Workspace(tmp_path)
    write_sample(workspace, [98, 99], tracked=False)
    with pytest.raises(DataMissingError, match="SubLink"):
        split(workspace, BY_GALAXY)
    assert split(workspace, BY_IMAGE).audit.n_untracked == 8
    write_sample(workspace, [99], tracked=False)
    assert split(workspace, BY_GALAXY).counts["test"] == 10


def test_too_few_no_sample_and_folds_are_clear_errors(tmp_path):
    workspace = Workspace(tmp_path)
    with pytest.raises(DataMissingError, match="sfr select"):
        split(workspace, BY_IMAGE)
    write_sample(workspace, [99], galaxies=1)
    with pytest.raises(EmptySelectionError, match="too few"):
        split(workspace, BY_IMAGE)
    with pytest.raises(EmptySelectionError, match="1 images are too few for 10 folds"):
        split(workspace, dataclasses.replace(BY_IMAGE, folds=10))
    assert not workspace.split_csv.exists()


def test_one_snapshot_without_trees_is_enough_to_refuse(tmp_path):
    workspace = Workspace(tmp_path)
    write_sample(workspace, [98, 99])
    table = read_table(workspace.sample_csv, SAMPLE)
    table["galaxy_id"][table["snapshot"] == 98] *= -1
    write_table(workspace, workspace.sample_csv, table)
    with pytest.raises(DataMissingError, match=r"snapshots \[98\]"):
        split(workspace, BY_GALAXY)
