"""The leak audit: radial profiles, and the nearest neighbour in them."""

import dataclasses

import numpy as np
import pytest
from tests.unit.test_folds import write_sample

from sfr.imaging.profiles import annuli, radial_profiles
from sfr.recipe import load_recipe
from sfr.run.folds import Place
from sfr.run.leaks import read_neighbours
from sfr.run.shards import Shard, write_shard
from sfr.run.tables import FAILURES, LEAKS, galaxy_numbers, read_table, write_table
from sfr.run.workspace import Workspace
from sfr.sample.split import split
from sfr.target import target_of
from sfr.train.leaks import (
    as_ranks,
    audit_neighbours,
    close_pairs,
    find_neighbours,
)

RECIPE = load_recipe("corrected")
TARGET = target_of(RECIPE)
BY_COMPONENT = dataclasses.replace(RECIPE.split, folds=4)


# -- profiles --------------------------------------------------------------------------------------


def test_rings_are_of_one_width_and_leave_out_the_corners():
    ring = annuli(64, 8)
    assert ring[31:33, 31:33].tolist() == [[0, 0], [0, 0]]
    assert ring[32, 32:].tolist() == [k for k in range(8) for _ in range(4)]
    assert ring[0, 0] == 8
    np.testing.assert_array_equal(ring, ring.T)
    np.testing.assert_array_equal(ring, ring[::-1, ::-1])


def test_a_profile_is_the_mean_of_each_ring_and_does_not_turn():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(3, 2, 32, 32)).astype(np.float32)
    found, ring = radial_profiles(maps, 4), annuli(32, 4)
    assert found.shape == (3, 2, 4)
    for k in range(4):
        np.testing.assert_allclose(found[1, 0, k], maps[1, 0][ring == k].astype(float).mean())
    np.testing.assert_allclose(radial_profiles(np.rot90(maps, axes=(2, 3)), 4), found)


def test_empty_pixels_count_in_no_ring():
    maps = np.full((1, 8, 8), 2.0)
    maps[0, 3:5, 3:5] = np.nan
    maps[0, 0] = np.nan
    found = radial_profiles(maps, 4)
    assert np.isnan(found[0, 0])
    assert found[0, 1:].tolist() == [2.0] * 3


def test_small_maps_have_fewer_rings_so_that_none_is_without_a_pixel():
    assert radial_profiles(np.ones((8, 8))).shape == (4,)
    for pixels in range(1, 40):
        assert np.isfinite(radial_profiles(np.ones((pixels, pixels)))).all()


# -- neighbours ------------------------------------------------------------------------------------


def test_ranks_depend_on_no_unit_and_no_logarithm():
    values = np.random.default_rng(1).lognormal(size=(20, 3))
    np.testing.assert_array_equal(as_ranks(np.log10(values)), as_ranks(1e30 * values))
    assert as_ranks(np.array([[np.nan], [1.0], [2.0]])).tolist() == [[0.0], [0.5], [1.0]]


def galaxies(copies=3, count=60):
    """Return points of which copies lie side by side, and labels that nothing but a copy knows."""
    rng = np.random.default_rng(2)
    point = np.repeat(rng.uniform(size=(count, 4)), copies, axis=0)
    point += 1e-4 * rng.normal(size=point.shape)
    label = np.repeat(rng.normal(size=count), copies)
    return point, label, np.repeat(np.arange(count), copies)


def test_a_neighbour_of_the_same_galaxy_knows_its_label():
    point, label, galaxy = galaxies()
    leaky = [Place("test", row % 3) for row in range(label.size)]
    closed = [Place("test", int(g) % 3) for g in galaxy]
    distance = close_pairs(point, galaxy)
    found = find_neighbours("leaky", point, leaky, label, galaxy, distance)
    assert (found.n_test, found.n_same_galaxy, found.n_near) == (180, 180, 180)
    assert found.r > 0.999
    assert found.r_permuted > 0.999
    found = find_neighbours("closed", point, closed, label, galaxy, distance)
    assert (found.n_test, found.n_same_galaxy) == (180, 0)
    assert abs(found.r) < 0.3
    assert abs(found.r_permuted) < 0.1
    assert 0.05 < found.r_permuted_std < 0.3
    assert found.n_near < 20


def test_labels_that_maps_tell_are_no_leak_and_permuted_ones_show_it():
    """Near-copies are not what knows the label here: it is the brightness of the map."""
    point, _, galaxy = galaxies()
    label = point.sum(axis=1)
    closed = [Place("test", int(g) % 3) for g in galaxy]
    found = find_neighbours("closed", point, closed, label, galaxy, 0.0)
    assert found.r > 0.8
    assert abs(found.r_permuted) < 0.1


def test_neighbours_are_training_images_only():
    """The validation image is the nearest, and does not count."""
    point = np.array([[0.0], [0.1], [0.5], [0.9]])
    places = [Place("test"), Place("validation"), Place("train"), Place("train")]
    found = find_neighbours("x", point, places, np.arange(4.0), np.arange(4), 0.2)
    assert (found.n_test, found.n_near, found.r) == (1, 0, None)
    places[2] = Place("validation")
    assert find_neighbours("x", point, places, np.arange(4.0), np.arange(4), 1.0).n_near == 1


def test_one_in_a_thousand_unrelated_pairs_is_closer():
    rng = np.random.default_rng(3)
    points, unit = rng.uniform(size=(300, 2)), np.arange(300) // 3
    first, second = np.triu_indices(300, 1)
    apart = np.hypot(*(points[first] - points[second]).T)[unit[first] != unit[second]]
    assert np.mean(apart < close_pairs(points, unit)) == pytest.approx(0.001, rel=0.05)
    assert close_pairs(points, np.zeros(300, int)) == 0.0


# -- of a run --------------------------------------------------------------------------------------


def make_run(folder, snapshots=(96, 97, 98, 99)):
    """Write a run whose maps show the same galaxy alike, whatever its label."""
    workspace = Workspace(folder)
    sample = write_sample(workspace, snapshots)
    label = np.random.default_rng(4).uniform(-13, -10, 40)
    sample["ssfr_per_yr"] = np.tile(10**label, len(snapshots))
    write_table(workspace, workspace.sample_csv, sample)
    looks = np.random.default_rng(5).uniform(size=(40, 2, 16, 16))
    for snapshot in snapshots:
        rows = sample["snapshot"] == snapshot
        number = galaxy_numbers(sample["galaxy_id"])[rows]
        noise = 1e-3 * np.random.default_rng(snapshot).normal(size=(40, 2, 16, 16))
        columns = {"subhalo_id": sample["subhalo_id"][rows], "view": np.zeros(40, np.int64)}
        maps = (looks[number] + noise).astype(np.float32)
        write_shard(workspace, workspace.shard(snapshot, 0), Shard(maps, columns, {}, {}))
        none = {name: np.zeros(0, np.int64) for name in FAILURES}
        write_table(workspace, workspace.failures_csv(snapshot), none)
        workspace.mark_done(f"maps-{snapshot:03d}", "made", [workspace.shard(snapshot, 0)])
    return workspace


def test_the_audit_of_a_run_stands_beside_that_of_a_random_split(tmp_path):
    workspace = make_run(tmp_path)
    split(workspace, BY_COMPONENT, TARGET)
    assert audit_neighbours(workspace, TARGET) == ""
    used, random = read_neighbours(workspace)
    assert (used.n_test, used.n_same_galaxy) == (160, 0)
    assert random.n_test == 160
    assert random.n_same_galaxy > 140
    assert random.r > 0.6 > used.r
    assert random.n_near > used.n_near
    assert list(read_table(workspace.leaks_csv, LEAKS)["split"]) == ["used", "random, by image"]
    # the same folder gives the same bytes, and a second time does nothing
    written = workspace.leaks_csv.read_bytes()
    workspace.shard(98, 0).unlink()
    assert audit_neighbours(workspace, TARGET) == ""
    assert workspace.leaks_csv.read_bytes() == written


def test_a_split_by_image_is_as_leaky_as_a_random_one(tmp_path):
    workspace = make_run(tmp_path)
    split(workspace, dataclasses.replace(load_recipe("thesis").split, test_fraction=0.25), TARGET)
    audit_neighbours(workspace, TARGET)
    used, random = read_neighbours(workspace)
    assert used.n_test == random.n_test == 40
    assert used.r > 0.6
    assert used.n_same_galaxy > 35


def test_an_audit_of_maps_that_are_gone_or_not_yet_there_says_so_and_leaves_no_table(tmp_path):
    workspace = make_run(tmp_path)
    split(workspace, BY_COMPONENT, TARGET)
    assert audit_neighbours(workspace, TARGET) == ""
    workspace.forget("maps-098")
    assert audit_neighbours(workspace, TARGET) == "snapshots 98 have no maps yet"
    assert read_neighbours(workspace) == []
    workspace.mark_done("maps-098", "again", [])
    workspace.shard(98, 0).write_bytes(b"not a shard")
    assert "not a shard of maps" in audit_neighbours(workspace, TARGET)
    assert not workspace.leaks_csv.exists()


def test_images_without_a_map_or_a_label_are_left_out_of_the_audit(tmp_path):
    workspace = make_run(tmp_path)
    sample = read_table(workspace.sample_csv, {"ssfr_per_yr": float})
    table = workspace.sample_csv.read_text().splitlines()
    assert len(table) == 1 + sample["ssfr_per_yr"].size
    cells = table[1].split(",")
    cells[table[0].split(",").index("ssfr_per_yr")] = "0.0"
    workspace.sample_csv.write_text("\n".join([table[0], ",".join(cells), *table[2:]]) + "\n")
    split(workspace, BY_COMPONENT, TARGET)
    audit_neighbours(workspace, TARGET)
    assert read_neighbours(workspace)[0].n_test == 159
