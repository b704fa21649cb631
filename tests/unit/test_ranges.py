"""Shares of pixels outside a range, and ranges that fit maps."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from sfr.cli import app
from sfr.errors import EmptySelectionError, ShapeError
from sfr.imaging.ranges import propose_ranges, shares
from sfr.imaging.shares import clipped_share, mean_shares, remember_clipped
from sfr.recipe import load_recipe
from sfr.run.shards import Shard, empty_pixels, write_shard
from sfr.run.tables import RANGES, typed_columns, write_table
from sfr.run.workspace import Workspace


def shard(maps, names=("a", "b")):
    maps = np.asarray(maps, np.float32)
    attributes = {"channel_names": list(names), "channel_units": [f"unit of {n}" for n in names]}
    return Shard(maps, {"subhalo_id": np.arange(len(maps))}, {}, attributes)


def test_shares_of_all_pixels_empty_below_and_above():
    maps = np.array([[np.nan, 1, 2, 3], [np.nan, np.nan, -np.inf, np.inf]], np.float32)
    found = shares(maps[:, np.newaxis], [(1.5, 2.5), (0, 1)])
    np.testing.assert_array_equal(found, [[0.25, 0.25, 0.25], [0.5, 0.25, 0.25]])
    np.testing.assert_array_equal(shares(maps[:1, None], [(1, 3)]), [[0.25, 0, 0]])
    with pytest.raises(ShapeError, match="2, y, x"):
        shares(maps[:1, np.newaxis], [(0, 1), (0, 1)])


def test_a_limit_is_not_rounded_to_the_type_of_the_maps():
    maps = np.full((1, 2, 2), 0.1, np.float32)
    assert shares(maps, [(0.0, 0.1)])[0, 2] == 1.0, "float32(0.1) is above 0.1"


def test_empty_is_what_has_no_value_and_zero_is_one():
    maps = np.array([[0.0, np.nan, np.inf]])
    assert empty_pixels(maps).tolist() == [[False, True, False]]


def test_proposed_ranges_hold_the_pixels_with_gas_and_are_round():
    rng = np.random.default_rng(0)
    maps = rng.normal(5.0, 0.5, (4, 2, 64, 64))
    maps[:, 1] = 10.0 ** maps[:, 1]
    maps[:, 0, :32] = np.nan
    log, linear = propose_ranges([shard(maps[:1]), shard(maps[1:1]), shard(maps[1:])])
    assert (log.channel, log.unit, log.n_galaxies) == ("a", "unit of a", 4)
    assert log.empty == 0.5
    assert log.range == (3.7, 6.7)
    values = maps[:, 0, 32:]
    assert np.mean(values < log.range[0]) <= 0.005
    assert np.mean(values > log.range[1]) <= 0.0003
    assert log.below == pytest.approx(np.mean(values < log.range[0]), abs=5e-4)
    assert linear.empty == 0
    assert linear.range[0] == 0.0
    assert linear.range[1] > 10.0**6.5


def test_every_galaxy_counts_alike_in_a_proposal():
    """One galaxy that fills its frame would outweigh ninety that are small."""
    small, large = np.full((99, 1, 32, 32), np.nan), np.full((1, 1, 32, 32), np.nan)
    small[:, 0, 0, :8] = np.linspace(1, 2, 8)
    large[0, 0] = np.linspace(-100, -99, 1024).reshape(32, 32)
    (found,) = propose_ranges([shard(np.concatenate([small, large]), ["a"])])
    assert found.range[0] == pytest.approx(-99.5, abs=5)
    (found,) = propose_ranges([shard(np.concatenate([small, small, small, large]), ["a"])])
    assert found.range == (1.0, 2.0)
    assert found.below == pytest.approx(1 / 298)


def test_ranges_cannot_be_proposed_of_nothing():
    with pytest.raises(EmptySelectionError, match="no galaxy"):
        propose_ranges([])
    with pytest.raises(EmptySelectionError, match="no galaxy"):
        propose_ranges([shard(np.zeros((0, 2, 8, 8)))])
    with pytest.raises(EmptySelectionError, match="'b' has no pixel"):
        propose_ranges([shard([[np.arange(64).reshape(8, 8), np.full((8, 8), np.nan)]])])
    with pytest.raises(EmptySelectionError, match="'a' has the value 3"):
        propose_ranges([shard(np.full((1, 1, 8, 8), 3.0), ["a"])])


def test_sfr_recipe_ranges_reads_maps_and_never_the_label(tmp_path):
    workspace = Workspace(tmp_path)
    rng = np.random.default_rng(0)
    for snap, at in ((98, 5.0), (99, 6.0)):
        write_shard(workspace, workspace.shard(snap, 0), shard(rng.normal(at, 0.5, (3, 2, 32, 32))))
        workspace.mark_done(f"maps-{snap:03d}", "x", [])
    assert not workspace.sample_csv.exists()

    def ask(*options):
        return CliRunner().invoke(app, ["recipe", "ranges", "--work", str(tmp_path), *options])

    last = json.loads(ask("--json").stdout)
    assert last["snapshot"] == 99
    assert [row["channel"] for row in last["ranges"]] == ["a", "b"]
    assert (
        last["ranges"][0]["range"][1]
        > json.loads(ask("--json", "--snap", "98").stdout)["ranges"][0]["range"][1]
    )
    assert "unit of a" in ask().stdout
    missing = ask("--snap", "97")
    assert missing.exit_code == 3
    assert "98, 99, not of 97" in missing.output


def test_shares_of_several_snapshots_are_summed_up_by_map(tmp_path):
    workspace, recipe = Workspace(tmp_path), load_recipe("corrected")
    assert mean_shares(workspace, recipe, [98, 99]) == []
    for snap, empties in ((98, [0.5]), (99, [0.1, 0.3])):
        rows = [
            (row, 0, name, *limits, empty, 0.0, 0.1 * (name == "mass"))
            for row, empty in enumerate(empties)
            for name, limits in (("entropy", (-3, 3)), ("mass", (4, 9)))
        ]
        write_table(workspace, workspace.ranges_csv(snap), typed_columns(RANGES, rows))
    entropy, mass = mean_shares(workspace, recipe, [99, 98, 99, 97])
    assert (entropy["channel"], entropy["low"], entropy["high"], entropy["maps"]) == (
        "entropy", -3.0, 3.0, 3,
    )  # fmt: skip
    assert entropy["empty"] == pytest.approx(0.3)
    assert entropy["empty_most"] == 0.5
    assert (mass["below"], mass["above"]) == (0.0, pytest.approx(0.1))


def test_what_a_gain_clips_is_of_the_newest_features_and_survives_a_part_made_twice(tmp_path):
    workspace = Workspace(tmp_path)
    assert clipped_share(workspace, "structure3") is None
    remember_clipped(workspace, "structure3", "old", 0, [0.9])
    remember_clipped(workspace, "structure3", "new", 0, [0.1, 0.2])
    remember_clipped(workspace, "structure3", "new", 1, [0.3])
    remember_clipped(workspace, "structure3", "new", 1, [0.3])
    remember_clipped(workspace, "mass", "new", 0, [])
    assert clipped_share(workspace, "structure3") == pytest.approx(0.2)
    assert clipped_share(workspace, "mass") is None
