"""The reader on original files of IllustrisTNG: an incomplete catalogue, chunks and cutouts."""

from __future__ import annotations

import logging
from pathlib import Path

import h5py
import numpy as np
import pytest

from sfr.errors import DataFormatError, DataMissingError
from sfr.simulation import open_particle_file, open_simulation
from sfr.simulation.trees import SubLinkFiles

pytestmark = pytest.mark.external


@pytest.fixture
def partial(external_data, tmp_path) -> Path:
    """The first 6 of 56 chunks of TNG100-2's catalogue, arranged as a simulation."""
    folder = tmp_path / "TNG100-2" / "output"
    folder.mkdir(parents=True)
    (folder / "groups_099").symlink_to(external_data / "groups_099", target_is_directory=True)
    return folder.parent


def test_original_catalogue_is_incomplete(partial):
    with open_simulation(partial) as simulation, pytest.raises(DataMissingError) as caught:
        simulation.catalogue(99, subhalo_fields=["SubhaloMass"], group_fields=["GroupMass"])
    assert "50 of 56 group-catalogue chunks are missing" in str(caught.value)
    assert "fof_subhalo_tab_099.6.hdf5" in str(caught.value)
    assert "--allow-partial" in str(caught.value)


def test_original_catalogue_in_part(partial):
    with open_simulation(partial) as simulation:
        assert simulation.name == "TNG100-2"
        assert simulation.snapshots() == [99]
        found = simulation.catalogue(
            99,
            subhalo_fields=["SubhaloFlag", "SubhaloGrNr", "SubhaloMassType"],
            group_fields=["GroupFirstSub", "GroupNsubs", "GroupMass"],
            allow_partial=True,
        )
    assert (found.n_groups_total, found.n_subhalos_total) == (848588, 698336)
    assert found.n_files == 56
    assert len(found.missing_files) == 50
    assert found.subhalo_ids.size == 5514 + 1767 + 3387 + 2717 + 2197 + 3337
    assert found.group_ids.size == 12
    assert found.subhalos["SubhaloFlag"].dtype == np.bool_
    assert found.subhalos["SubhaloMassType"].shape[1] == 6
    # ids are right when the first subhalo of every group says that it is in that group
    first = found.groups["GroupFirstSub"]
    inside = first < found.subhalo_ids.size
    hosts = found.subhalos["SubhaloGrNr"][first[inside]]
    np.testing.assert_array_equal(hosts, found.group_ids[inside])


@pytest.mark.parametrize("present", [(2,), (1, 4), (0, 3, 5), (3, 4)])
def test_original_chunks_behind_a_gap_say_where_they_belong(external_data, tmp_path, present):
    folder = tmp_path / "output/groups_099"
    folder.mkdir(parents=True)
    firsts, start = {}, 0
    for number in range(6):
        path = external_data / f"groups_099/fof_subhalo_tab_099.{number}.hdf5"
        with h5py.File(path) as file:
            n = int(file["Header"].attrs["Nsubgroups_ThisFile"])
        firsts[number], start = range(start, start + n), start + n
        if number in present:
            (folder / path.name).symlink_to(path)
    with open_simulation(tmp_path) as simulation:
        part = simulation.catalogue(
            99,
            subhalo_fields=["SubhaloGrNr"],
            group_fields=["GroupFirstSub", "GroupNsubs"],
            allow_partial=True,
        )
    ids = [i for number in present for i in firsts[number]]
    np.testing.assert_array_equal(part.subhalo_ids, ids)
    rows = np.searchsorted(part.group_ids, part.subhalos["SubhaloGrNr"])
    np.testing.assert_array_equal(part.group_ids[rows], part.subhalos["SubhaloGrNr"])
    start = part.groups["GroupFirstSub"][rows]
    assert np.all(start <= part.subhalo_ids)
    assert np.all(part.subhalo_ids < start + part.groups["GroupNsubs"][rows])


def test_original_header_without_snapshot(partial):
    with open_simulation(partial) as simulation:
        header = simulation.header(99)
        identity = simulation.identity(99)
        missing = [status for status in simulation.inventory(99) if not status.ok]
    assert header.simulation_name == "L75n910TNG"
    assert header.num_part_total is None
    assert header.box_size == 75000.0
    assert identity["n_particles_in_groups"] == 616789913
    assert sum(status.kind == "group catalogue" for status in missing) == 50
    assert sum(status.kind == "snapshot" for status in missing) == 56


def test_original_subbox_chunk(external_data, caplog):
    path = external_data / "subbox/snapdir_2332/snap_2332.4.hdf5"
    with caplog.at_level(logging.WARNING), open_particle_file(path) as chunk:
        assert chunk.counts == (7187, 7691, 0, 7368, 15, 2)
        assert chunk.header.simulation_name == "L35n270TNG"
        assert chunk.header.snapshot == 2332
        assert chunk.header.num_part_total == (45632, 48085, 0, 47864, 953, 17)
        assert chunk.header.num_files == 11
        assert not chunk.is_mini
        assert "MagneticField" in chunk.fields(0)
        assert chunk.fields(2) == []
        with h5py.File(path) as file:
            for part_type in (0, 1, 3, 4, 5):
                fields = chunk.fields(part_type)
                for field, values in chunk.read(part_type, fields).items():
                    stored = file[f"PartType{part_type}/{field}"][()]
                    assert values.dtype == stored.dtype
                    np.testing.assert_array_equal(values, stored)
    assert caplog.text == ""


def test_original_cutouts(external_data):
    paths = sorted((external_data / "cutouts").glob("*.hdf5"))
    assert len(paths) == 10
    empty = 0
    for path in paths:
        assert path.stat().st_size % 65536 == 0
        with open_particle_file(path) as cutout:
            assert cutout.header.simulation_name in {"L35n2160TNG", "L35n2160TNG_DM"}
            assert cutout.header.snapshot in {0, 1}
            assert cutout.header.num_part_total == cutout.counts
            empty += sum(cutout.counts) == 0
            for part_type, count in enumerate(cutout.counts):
                found = cutout.read(part_type, ["Coordinates"])["Coordinates"]
                assert found.shape == (count, 3)
                assert found.dtype == np.float64
    assert empty == 1


def test_original_tree_file(external_data):
    path = external_data / "trees/sublink_mpb_1030.hdf5"
    trees = SubLinkFiles([path])
    rows = np.array([103, 0, 50])
    with h5py.File(path) as file:
        leaves, snaps, ids = (
            file[name][()] for name in ("MainLeafProgenitorID", "SnapNum", "SubfindID")
        )
    # a main branch: every row ends in the same leaf
    for row in rows:
        snap, subhalo = int(snaps[row]), np.array([ids[row], 0])
        found = trees.main_leaf_ids(np.array([row, -1]), snap=snap, subhalo_ids=subhalo)
        assert found.tolist() == [leaves[0], -1]
        with pytest.raises(DataFormatError, match="not of the same simulation"):
            trees.main_leaf_ids(np.array([row, -1]), snap=snap, subhalo_ids=subhalo + 1)
