"""The cuts and the label, on a catalogue small enough to check by hand."""

import numpy as np
import pytest

from sfr.errors import ConfigError, DataMissingError, EmptySelectionError
from sfr.recipe import load_recipe
from sfr.run.workspace import Workspace
from sfr.sample.select import PUBLISHED, apply_cuts, select
from sfr.simulation import Catalogue, Header
from sfr.target import ssfr_of

H = 0.6774


def header(snap: int = 99) -> Header:
    return Header("mock", snap, 1.0, 2.2e-16, H, 0.3089, 0.6911, 35000.0, None, 1, None)


class Catalogues:
    """A simulation of catalogues only, from rows (flag, group, M_star, M, SFR)."""

    name = "mock"

    def __init__(self, rows, group_mass, *, leaves=None, group_ids=None):
        self.rows, self.group_mass, self.leaves = rows, group_mass, leaves
        self.group_ids = np.arange(len(group_mass)) if group_ids is None else np.array(group_ids)

    def identity(self, snap):
        return {"name": self.name, "box_size": 1.0, "snapshot": snap, "n": len(self.rows)}

    def snapshots(self):
        return [7, 98, 99]

    def catalogue(self, snap, *, subhalo_fields, group_fields, allow_partial=False):
        if subhalo_fields == ("SubhaloIDMostbound",):
            raise DataMissingError("SubhaloIDMostbound is not in the catalogue")
        n, g = len(self.rows), len(self.group_mass)
        columns = np.array(self.rows, float).reshape(n, 5)
        types = np.zeros((n, 6), np.float32)
        types[:, 4], types[:, 0] = columns[:, 2], 7.0
        lengths = np.tile(np.arange(6, dtype=np.int32), (n, 1))
        subhalos = {
            "SubhaloFlag": columns[:, 0].astype(bool),
            "SubhaloGrNr": columns[:, 1].astype(np.int32),
            "SubhaloMass": columns[:, 3].astype(np.float32),
            "SubhaloMassType": types,
            "SubhaloSFR": columns[:, 4].astype(np.float32),
            "SubhaloPos": np.arange(3 * n, dtype=np.float32).reshape(n, 3),
            "SubhaloHalfmassRadType": types,
            "SubhaloLenType": lengths,
        }
        groups = {
            "GroupMass": np.array(self.group_mass, np.float32),
            "GroupLenType": np.full((g, 6), 11, np.int32),
            "GroupFirstSub": np.arange(g, dtype=np.int32),
        }
        assert set(subhalo_fields) == set(subhalos)
        assert set(group_fields) == set(groups)
        return Catalogue(header(snap), np.arange(n), self.group_ids, subhalos, groups, n, g, 1, ())

    def catalogue_sources(self, snap):
        return {}

    def source_path(self, name):
        raise AssertionError(name)

    def missing_catalogue_files(self, snap):
        return ()

    def main_leaf_ids(self, snap, subhalo_ids):
        return None if self.leaves is None else np.array(self.leaves)[subhalo_ids]


ROWS = [
    (1, 0, 1.0, 50.0, 2.0),  # in
    (0, 0, 1.0, 50.0, 2.0),  # not a galaxy
    (1, 0, 0.5, 50.0, 2.0),  # limits are exclusive
    (1, 0, 100.0, 150.0, 2.0),
    (1, 0, 1.0, 200.0, 2.0),
    (1, 1, 1.0, 50.0, 2.0),  # big group
    (1, 0, 0.51, 50.0, 0.0),  # in, quiescent
    (1, 0, np.nan, 50.0, 2.0),
]


def test_cuts_are_exclusive_and_applied_one_after_the_other():
    catalogue = Catalogues(ROWS, [300.0, 500.0]).catalogue(
        99, subhalo_fields=SUBHALO_FIELDS, group_fields=GROUP_FIELDS
    )
    keep, counts = apply_cuts(catalogue, load_recipe("thesis").sample)
    assert np.flatnonzero(keep).tolist() == [0, 6]
    assert counts == {
        "n_flag": 7,
        "n_stellar_mass": 4,
        "n_total_mass": 3,
        "n_group_missing": 0,
        "n_group_mass": 2,
    }


SUBHALO_FIELDS = (
    "SubhaloFlag",
    "SubhaloGrNr",
    "SubhaloMass",
    "SubhaloMassType",
    "SubhaloSFR",
    "SubhaloPos",
    "SubhaloHalfmassRadType",
    "SubhaloLenType",
)
GROUP_FIELDS = ("GroupMass", "GroupLenType", "GroupFirstSub")


def test_corrected_cuts_are_in_solar_masses():
    rows = [(1, 0, 0.5 * H * 1.01, 10.0, 1.0), (1, 0, 0.5 * H * 0.99, 10.0, 1.0)]
    catalogue = Catalogues(rows, [1.0]).catalogue(
        99, subhalo_fields=SUBHALO_FIELDS, group_fields=GROUP_FIELDS
    )
    keep, _ = apply_cuts(catalogue, load_recipe("corrected").sample)
    assert keep.tolist() == [True, False]


def test_the_label_of_thesis_is_over_total_code_mass_and_of_corrected_over_stellar_msun(tmp_path):
    simulation = Catalogues([(1, 0, 2.0, 50.0, 3.0)], [60.0])
    for name, expected in (("thesis", 3.0 / 50e10), ("corrected", 3.0 / (2e10 / H))):
        sample = select(simulation, Workspace(tmp_path / name), load_recipe(name), [99]).sample
        assert sample["ssfr_per_yr"][0] == pytest.approx(expected, rel=1e-7)
        assert sample["stellar_mass_msun"][0] == pytest.approx(2e10 / H)
        assert sample["group_mass_msun"][0] == pytest.approx(60e10 / H)
        assert sample["n_gas_group"][0] == 11
        assert sample["n_stars"][0] == 4
        assert sample["is_central"][0] == 1


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ((1, 0, 1.0, 0.0, 2.0), "mass"),
        ((1, 0, 1.0, -1.0, 2.0), "mass"),
        ((1, 0, 1.0, 50.0, -2.0), "SubhaloSFR"),
        ((1, 0, 1.0, 50.0, np.inf), "SubhaloSFR"),
        ((1, 0, 1.0, 50.0, np.nan), "SubhaloSFR"),
    ],
)
def test_galaxies_without_a_label_are_left_out_with_a_reason(tmp_path, caplog, row, fault):
    """A total mass of 0 gave an infinite sSFR that only the training refused."""
    simulation = Catalogues([*ROWS, row], [300.0, 500.0])
    summary = select(simulation, Workspace(tmp_path), load_recipe("thesis"), [99])
    assert summary.sample["subhalo_id"].tolist() == [0, 6]
    assert np.isfinite(summary.sample["ssfr_per_yr"]).all()
    assert f"1 galaxies whose {fault}" in caplog.text


def test_the_sample_is_the_union_of_snapshots_and_the_second_time_nothing_is_done(tmp_path):
    simulation = Catalogues(ROWS, [300.0, 500.0], leaves=range(100, 108))
    workspace, recipe = Workspace(tmp_path), load_recipe("thesis")
    select(simulation, workspace, recipe, [99])
    both = select(simulation, workspace, recipe, [98])
    assert both.sample["snapshot"].tolist() == [98, 98, 99, 99]
    assert both.sample["galaxy_id"].tolist() == [100, 106, 100, 106]
    before = workspace.sample_csv.read_bytes()
    again = select(simulation, workspace, recipe, [98, 99])
    assert [cut.reason for cut in again.cuts] == ["", ""]
    assert workspace.sample_csv.read_bytes() == before


def test_snapshots_selected_with_other_settings_are_selected_again(tmp_path):
    simulation = Catalogues(ROWS, [300.0, 500.0])
    workspace, recipe = Workspace(tmp_path), load_recipe("thesis")
    select(simulation, workspace, recipe, [99])
    other = recipe.with_fields("sample", stellar_mass_min=0.6)
    summary = select(simulation, workspace, other, [98])
    assert summary.sample["snapshot"].tolist() == [98, 99]
    assert "changed" in summary.cuts[1].reason


def test_a_folder_belongs_to_one_simulation(tmp_path):
    workspace, recipe = Workspace(tmp_path), load_recipe("thesis")
    select(Catalogues(ROWS, [300.0, 500.0]), workspace, recipe, [99])
    before = workspace.sample_csv.read_bytes()
    other = Catalogues(ROWS[:1], [300.0])
    other.name = "another"
    with pytest.raises(ConfigError, match="another simulation"):
        select(other, workspace, recipe, [99])
    assert workspace.sample_csv.read_bytes() == before
    assert len(select(other, workspace, recipe, [99], force=True).sample["snapshot"]) == 1


def test_rows_of_a_snapshot_whose_files_are_gone_are_kept(tmp_path):
    workspace, recipe = Workspace(tmp_path), load_recipe("thesis")
    simulation = Catalogues(ROWS, [300.0, 500.0])
    select(simulation, workspace, recipe, [98])
    simulation.snapshots = lambda: [99]
    assert set(select(simulation, workspace, recipe, [99]).sample["snapshot"]) == {98, 99}


def test_galaxies_that_no_tree_follows_have_ids_of_their_own(tmp_path):
    simulation = Catalogues(ROWS, [300.0, 500.0], leaves=[-1] * 8)
    sample = select(simulation, Workspace(tmp_path), load_recipe("thesis"), [98, 99]).sample
    assert (sample["galaxy_id"] < 0).all()
    assert len(set(sample["galaxy_id"].tolist())) == 4


def test_a_subhalo_of_a_group_that_was_not_read_is_left_out_and_counted():
    rows = [(1, 5, 1.0, 50.0, 2.0), (1, 3, 1.0, 50.0, 2.0), (1, 9, 1.0, 50.0, 2.0)]
    catalogue = Catalogues(rows, [300.0, 400.0], group_ids=[3, 4]).catalogue(
        99, subhalo_fields=SUBHALO_FIELDS, group_fields=GROUP_FIELDS
    )
    keep, counts = apply_cuts(catalogue, load_recipe("thesis").sample)
    assert keep.tolist() == [False, True, False]
    assert counts["n_group_missing"] == 2


def test_an_empty_sample_says_which_cut_left_nothing(tmp_path):
    with pytest.raises(EmptySelectionError, match="1 with SubhaloFlag, 0 in the range of stellar"):
        select(
            Catalogues([(1, 0, 0.1, 1.0, 1.0)], [2.0]),
            Workspace(tmp_path),
            load_recipe("thesis"),
            [99],
        )
    assert not (tmp_path / "sample.csv").exists()
    with pytest.raises(EmptySelectionError, match="0 subhaloes"):
        select(Catalogues([], []), Workspace(tmp_path), load_recipe("thesis"), [99])


def test_the_table_by_snapshot_stands_beside_the_published_rows(tmp_path):
    workspace = Workspace(tmp_path)
    select(Catalogues(ROWS, [300.0, 500.0]), workspace, load_recipe("thesis"), [99, 7])
    lines = workspace.by_snapshot_csv.read_text().splitlines()
    names = lines[0].split(",")
    first = dict(zip(names, lines[1].split(","), strict=True))
    other = dict(zip(names, lines[2].split(","), strict=True))
    assert (first["snapshot"], first["n"], first["n_zero_sfr"]) == ("99", "2", "1")
    assert first["published_n"] == "715"
    assert float(first["published_mean_ssfr"]) == pytest.approx(5.68e-12)
    assert float(first["min_ssfr"]) == pytest.approx(2.0 / 50e10)
    assert other["published_n"] == ""
    assert {first["label"], other["label"]} == {
        "total-mass sSFR = SFR / (SubhaloMass x 1e10) [h/yr]"
    }
    assert sum(row[1] for row in PUBLISHED.values()) == 7890


def test_the_published_rows_do_not_stand_beside_another_label(tmp_path):
    """Means of SFR / total mass stood beside means of SFR / stellar mass."""
    workspace = Workspace(tmp_path)
    corrected = load_recipe("thesis").with_fields("sample", ssfr_mass="stellar_msun")
    select(Catalogues(ROWS, [300.0, 500.0]), workspace, corrected, [99])
    table = workspace.by_snapshot_csv.read_text()
    assert "published" not in table
    assert table.splitlines()[1].endswith("stellar-mass sSFR = SFR / stellar mass [1/yr]")


def test_a_table_by_snapshot_of_an_older_version_is_written_again(tmp_path):
    workspace, recipe = Workspace(tmp_path), load_recipe("thesis")
    select(Catalogues(ROWS, [300.0, 500.0]), workspace, recipe, [99])
    new = workspace.by_snapshot_csv.read_text()
    old = "\n".join(line.rpartition(",")[0] for line in new.splitlines())
    workspace.by_snapshot_csv.write_text(old + "\n")
    select(Catalogues(ROWS, [300.0, 500.0]), workspace, recipe, [99])
    assert workspace.by_snapshot_csv.read_text() == new


@pytest.mark.parametrize("name", ["total_code", "stellar_msun"])
def test_a_label_has_the_unit_that_it_says(tmp_path, name):
    """Under thesis the numbers of 1/yr were 1/h too high, and said so nowhere."""
    workspace = Workspace(tmp_path)
    recipe = load_recipe("thesis").with_fields("sample", ssfr_mass=name)
    sample = select(Catalogues(ROWS, [300.0, 500.0]), workspace, recipe, [99]).sample
    column = {"total_code": "total_mass_msun", "stellar_msun": "stellar_mass_msun"}[name]
    unit = {"h/yr": H, "1/yr": 1.0}[ssfr_of(recipe.sample).unit]
    np.testing.assert_allclose(
        sample["ssfr_per_yr"] * unit, sample["sfr_msun_per_yr"] / sample[column], rtol=1e-6
    )
