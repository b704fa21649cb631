"""LocalSimulation against illustris_python, on mock simulations in the TNG layout."""

from __future__ import annotations

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import illustris_python
import numpy as np
import pytest

from sfr.errors import DataMissingError
from sfr.simulation import Simulation, open_particle_file, open_simulation
from sfr.simulation.mock import write_mock

PART_TYPES = (0, 1, 4, 5)
SNAPS = (97, 98, 99)


@pytest.fixture(scope="module")
def linked(tmp_path_factory) -> Path:
    """Three snapshots, so that trees have merged and skipped branches."""
    folder = tmp_path_factory.mktemp("linked") / "sim"
    return write_mock(folder, galaxies=5, snaps=SNAPS, cells=200).path


@pytest.fixture(scope="module")
def compressed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("compressed") / "sim"
    return write_mock(folder, galaxies=2, snaps=[98, 99], cells=200, compressed=True).path


def fields_of(folder: Path, snap: int, part_type: int) -> list[str]:
    for path in sorted(folder.glob(f"output/snapdir_{snap:03d}/*.hdf5")):
        with open_particle_file(path) as chunk:
            if chunk.counts[part_type]:
                return chunk.fields(part_type)
    raise AssertionError


def require_same_as_illustris_python(folder: Path, snap: int) -> None:
    base = str(folder / "output")
    loaders = {"group": illustris_python.snapshot.loadHalo}
    loaders["subhalo"] = illustris_python.snapshot.loadSubhalo
    with open_simulation(folder) as simulation:
        found = simulation.catalogue(snap, subhalo_fields=[], group_fields=[])
        totals = {"group": found.n_groups_total, "subhalo": found.n_subhalos_total}
        for part_type in PART_TYPES:
            fields = fields_of(folder, snap, part_type)
            for kind, load in loaders.items():
                for number in range(totals[kind]):
                    ours = simulation.particles(snap, kind, number, part_type, fields)
                    theirs = load(base, snap, number, part_type, fields)
                    assert list(ours) == fields
                    for field in fields:
                        assert len(ours[field]) == theirs["count"]
                        if theirs["count"]:
                            assert ours[field].dtype == theirs[field].dtype
                            assert ours[field].tobytes() == theirs[field].tobytes()


@pytest.mark.parametrize("snap", [98, 99])
def test_particles_equal_those_of_illustris_python(mock_sim, snap):
    require_same_as_illustris_python(mock_sim, snap)


@pytest.mark.parametrize("snap", [98, 99])
def test_particles_of_compressed_files(compressed, snap):
    with h5py.File(compressed / "output/snapdir_099/snap_099.0.hdf5") as chunk:
        assert chunk["PartType0/Masses"].compression == "gzip"
    require_same_as_illustris_python(compressed, snap)


def test_particles_of_an_object_without_any_keep_shape_and_type(mock_sim):
    with open_simulation(mock_sim) as simulation:
        lengths = simulation.catalogue(
            98, subhalo_fields=["SubhaloLenType"], group_fields=[]
        ).subhalos["SubhaloLenType"]
        without = int(np.flatnonzero(lengths[:, 0] == 0)[0])
        found = simulation.particles(98, "subhalo", without, 0, ["Coordinates", "ParticleIDs"])
        tracers = simulation.particles(98, "subhalo", without, 3, ["ParentID", "TracerID"])
    assert found["Coordinates"].shape == (0, 3)
    assert found["Coordinates"].dtype == np.float32
    assert found["ParticleIDs"].dtype == np.uint64
    assert tracers["ParentID"].shape == (0,)
    assert tracers["ParentID"].dtype == np.uint64


@pytest.mark.parametrize("snap", [98, 99])
def test_mapped_particles_are_the_same_and_read_only(mock_sim, compressed, snap):
    mapped = 0
    for folder in (mock_sim, compressed):
        with open_simulation(folder) as reader, open_simulation(folder, mapped=True) as mapper:
            fields = fields_of(folder, snap, 0)
            for number in range(6):
                read = reader.particles(snap, "group", number, 0, fields)
                found = mapper.particles(snap, "group", number, 0, fields)
                for field in fields:
                    assert found[field].dtype == read[field].dtype
                    assert found[field].flags.aligned
                    np.testing.assert_array_equal(found[field], read[field])
                    mapped += not found[field].flags.writeable
            copy = pickle.loads(pickle.dumps(mapper))
            assert copy.mapped
    assert mapped > 20


def test_misaligned_particles_are_read_not_mapped(mock_sim, tmp_path):
    """Original files hold 8-byte types at 4 mod 8."""
    found = set()
    for padding in range(4):
        path = tmp_path / f"snap_099.{padding}.hdf5"
        original = mock_sim / "output/snapdir_099/snap_099.0.hdf5"
        with h5py.File(original) as source, h5py.File(path, "w") as file:
            source.copy("Header", file)
            file["padding"] = np.zeros(padding + 1, np.float32)
            file["PartType0/Coordinates"] = np.arange(12.0).reshape(4, 3)
            offset = file["PartType0/Coordinates"].id.get_offset()
        with open_particle_file(path) as chunk:
            view = chunk.read(0, ["Coordinates"], mapped=True)["Coordinates"]
        found.add((offset % 8, view.flags.writeable))
        assert view.flags.aligned
        np.testing.assert_array_equal(view, np.arange(12.0).reshape(4, 3))
    assert found == {(0, False), (4, True)}


def test_segments_cover_the_particles(mock_sim):
    with open_simulation(mock_sim) as simulation:
        whole = simulation.particles(99, "group", 0, 0, ["ParticleIDs"])["ParticleIDs"]
        pieces = []
        for segment in simulation.rows(99, "group", 0, 0):
            with open_particle_file(segment.path) as chunk:
                part = chunk.read(0, ["ParticleIDs"], start=segment.start, stop=segment.stop)
                pieces.append(part["ParticleIDs"])
    assert len(pieces) >= 2
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_catalogue_equals_that_of_illustris_python(mock_sim):
    base = str(mock_sim / "output")
    theirs = illustris_python.groupcat.load(base, 99)
    subhalo_fields = [field for field in theirs["subhalos"] if field != "count"]
    group_fields = [field for field in theirs["halos"] if field != "count"]
    with open_simulation(mock_sim) as simulation:
        found = simulation.catalogue(99, subhalo_fields=subhalo_fields, group_fields=group_fields)
    for ours, columns in ((found.subhalos, theirs["subhalos"]), (found.groups, theirs["halos"])):
        for field, column in ours.items():
            assert column.dtype == columns[field].dtype
            np.testing.assert_array_equal(column, columns[field])
    assert found.subhalos["SubhaloFlag"].dtype == np.bool_
    assert found.is_complete
    assert found.missing_files == ()
    np.testing.assert_array_equal(found.subhalo_ids, np.arange(found.n_subhalos_total))


def test_catalogue_prints_nothing(mock_sim, capfd):
    with open_simulation(mock_sim) as simulation:
        simulation.catalogue(99, subhalo_fields=["SubhaloMass"], group_fields=["GroupMass"])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("single", [True, False])
def test_mock_is_read_by_every_loader_of_illustris_python(mock_sim, single):
    base = str(mock_sim / "output")
    header = illustris_python.groupcat.loadHeader(base, 99)
    assert (
        header["Nsubgroups_Total"] == illustris_python.groupcat.load(base, 99)["subhalos"]["count"]
    )
    halos = illustris_python.groupcat.loadHalos(base, 99, "GroupMass")
    masses = illustris_python.groupcat.loadSubhalos(base, 99, ["SubhaloMass", "SubhaloGrNr"])
    for number in range(len(halos)):
        one = illustris_python.groupcat.loadSingle(base, 99, haloID=number)
        assert one["GroupMass"] == halos[number]
    for number, mass in enumerate(masses["SubhaloMass"]):
        one = illustris_python.groupcat.loadSingle(base, 99, subhaloID=number)
        assert one["SubhaloMass"] == mass
    fields = "Masses" if single else ["Masses", "Coordinates"]
    gas = illustris_python.snapshot.loadSubset(base, 99, "gas", fields)
    with open_simulation(mock_sim) as simulation:
        total = simulation.header(99).num_part_total[0]
    assert (len(gas) if single else gas["count"]) == total


def test_main_leaf_is_the_same_along_a_branch(linked):
    base = str(linked / "output")
    snap_of = {snap: {} for snap in SNAPS}
    with open_simulation(linked) as simulation:
        for snap in SNAPS:
            count = simulation.catalogue(snap, subhalo_fields=[], group_fields=[]).n_subhalos_total
            leaves = simulation.main_leaf_ids(snap, np.arange(count))
            assert leaves.dtype == np.int64
            known = leaves[leaves >= 0]
            assert np.unique(known).size == known.size
            assert np.any(leaves == -1)
            snap_of[snap] = dict(zip(leaves.tolist(), range(count), strict=True))
    skipped = 0
    for leaf, number in snap_of[99].items():
        if leaf == -1:
            continue
        branch = illustris_python.sublink.loadTree(
            base, 99, number, ["SnapNum", "SubfindID", "MainLeafProgenitorID"], onlyMPB=True
        )
        assert branch["MainLeafProgenitorID"].tolist() == [leaf] * branch["count"]
        for snap, subfind in zip(branch["SnapNum"], branch["SubfindID"], strict=True):
            assert snap_of[snap][leaf] == subfind
        skipped += branch["SnapNum"].tolist() == [99, 97]
    assert skipped == 1


def test_trees_are_read_by_illustris_python(linked, capsys):
    base = str(linked / "output")
    fields = ["SubhaloID", "NextProgenitorID", "MainLeafProgenitorID", "FirstProgenitorID"]
    fields += ["SubhaloMassType", "SnapNum", "SubfindID", "DescendantID", "RootDescendantID"]
    mergers = 0
    for number in range(len(illustris_python.groupcat.loadSubhalos(base, 99, "SubhaloMass"))):
        tree = illustris_python.sublink.loadTree(base, 99, number, fields)
        if tree is None:
            continue
        assert tree["SnapNum"].dtype == np.int16
        assert tree["SubhaloID"].tolist() == list(
            range(tree["SubhaloID"][0], tree["SubhaloID"][0] + tree["count"])
        )
        assert tree["SubfindID"][0] == number
        mergers += illustris_python.sublink.numMergers(tree)
        assert illustris_python.sublink.maxPastMass(tree, 0) >= 0
        for snap, subfind in zip(tree["SnapNum"], tree["SubfindID"], strict=True):
            line = illustris_python.sublink.loadTree(
                base, int(snap), int(subfind), ["SnapNum", "SubfindID"], onlyMDB=True
            )
            assert line["SubfindID"][-1] == subfind
            assert line["SnapNum"][0] == 99
    assert mergers == 1
    assert "not in tree" in capsys.readouterr().out


def test_same_galaxies_are_linked_over_all_snapshots(tmp_path):
    summary = write_mock(tmp_path / "sim", galaxies=4, snaps=SNAPS, cells=200)
    with open_simulation(summary.path) as simulation:
        leaves = [
            simulation.main_leaf_ids(snap, np.array(summary.subhalo_ids[snap])) for snap in SNAPS
        ]
    np.testing.assert_array_equal(leaves[0], leaves[1])
    np.testing.assert_array_equal(leaves[0], leaves[2])
    assert np.all(leaves[0] >= 0)


def test_no_trees_is_none(mock_sim, tmp_path):
    folder = Path(shutil.copytree(mock_sim, tmp_path / "sim"))
    shutil.rmtree(folder / "postprocessing/trees")
    with open_simulation(folder) as simulation:
        assert simulation.main_leaf_ids(99, np.array([0])) is None
    shutil.rmtree(folder / "postprocessing")
    with open_simulation(folder) as simulation:
        assert simulation.main_leaf_ids(99, np.array([0])) is None


@pytest.mark.parametrize("tail", ["", "/", "/output", "/output/"])
def test_open_simulation_takes_the_folder_and_its_output(mock_sim, tail):
    with open_simulation(f"{mock_sim}{tail}") as simulation:
        assert simulation.snapshots() == [98, 99]
        assert simulation.output == mock_sim / "output"


def test_open_simulation_expands_the_home_folder(mock_sim, monkeypatch):
    monkeypatch.setenv("HOME", str(mock_sim.parent))
    with open_simulation(f"~/{mock_sim.name}") as simulation:
        assert simulation.snapshots() == [98, 99]


def test_local_simulation_is_a_simulation(mock_sim):
    with open_simulation(mock_sim) as simulation:
        as_protocol: Simulation = simulation
        assert as_protocol.name.startswith("L35n400MOCK")


def test_header_of_full_and_mini_snapshots(mock_sim):
    with open_simulation(mock_sim) as simulation:
        last, before = simulation.header(99), simulation.header(98)
    assert last.scale_factor == pytest.approx(1.0)
    assert last.redshift == 2.220446049250313e-16
    assert before.redshift == 0.009521666968
    assert (last.box_size, last.hubble_param, last.omega0) == (35000.0, 0.6774, 0.3089)
    assert last.snapshot == 99
    assert last.mass_table[1] > 0


def test_catalogue_needs_neither_snapshot_nor_offsets(mock_sim, tmp_path):
    folder = Path(shutil.copytree(mock_sim, tmp_path / "sim"))
    with open_simulation(mock_sim) as simulation:
        identity, header = simulation.identity(99), simulation.header(99)
    shutil.rmtree(folder / "output/snapdir_099")
    shutil.rmtree(folder / "postprocessing")
    with open_simulation(folder) as simulation:
        found = simulation.catalogue(99, subhalo_fields=["SubhaloSFR"], group_fields=[])
        assert found.is_complete
        assert simulation.header(99).num_part_total is None
        assert simulation.header(99).scale_factor == header.scale_factor
        assert simulation.identity(99) == identity
        with pytest.raises(DataMissingError, match="offsets"):
            simulation.particles(99, "group", 0, 0, ["Masses"])


def test_identity_is_json_and_says_nothing_of_the_path(mock_sim):
    with open_simulation(mock_sim) as simulation:
        identity = simulation.identity(99)
        assert identity != simulation.identity(98)
    text = json.dumps(identity)
    assert str(mock_sim) not in text
    assert identity["snapshot"] == 99
    assert identity["name"].startswith("L35n400MOCK")


def test_several_threads_and_a_pickled_copy_read_the_same(mock_sim):
    with open_simulation(mock_sim) as simulation:
        copy = pickle.loads(pickle.dumps(simulation))

        def read(number: int) -> bytes:
            return simulation.particles(99, "group", number % 9, 0, ["Masses"])["Masses"].tobytes()

        alone = [read(number) for number in range(36)]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(read, range(36))) == alone
        with copy:
            assert copy.particles(99, "group", 0, 0, ["Masses"])["Masses"].tobytes() == alone[0]


def test_close_and_read_again(mock_sim):
    simulation = open_simulation(mock_sim)
    before = simulation.particles(99, "group", 0, 4, ["Masses"])["Masses"]
    simulation.close()
    after = simulation.particles(99, "group", 0, 4, ["Masses"])["Masses"]
    simulation.close()
    np.testing.assert_array_equal(before, after)


def test_inventory_of_a_whole_simulation(mock_sim):
    with open_simulation(mock_sim) as simulation:
        found = simulation.inventory(99)
    assert all(status.ok for status in found)
    kinds = [status.kind for status in found]
    assert kinds.count("group catalogue") == kinds.count("snapshot") == 4
    assert kinds.count("offsets") == 1
    assert kinds.count("trees") == 2


def test_inventory_names_what_to_fetch(mock_sim, tmp_path):
    folder = Path(shutil.copytree(mock_sim, tmp_path / "sim"))
    (folder / "output/groups_099/fof_subhalo_tab_099.2.hdf5").unlink()
    (folder / "postprocessing/offsets/offsets_099.hdf5").unlink()
    cut = folder / "output/snapdir_099/snap_099.1.hdf5"
    cut.write_bytes(cut.read_bytes()[:-500])
    with open_simulation(folder) as simulation:
        bad = {status.fetch: status for status in simulation.inventory(99) if not status.ok}
        elsewhere = simulation.inventory(50)
    assert set(bad) == {
        "files/groupcat-99.2.hdf5",
        "files/offsets.99.hdf5",
        "files/snapshot-99.1.hdf5",
    }
    assert bad["files/snapshot-99.1.hdf5"].present
    assert not any(status.present for status in elsewhere if status.kind != "trees")


@pytest.mark.parametrize("mapped", [True, False])
def test_big_endian_particles_come_back_native(mock_sim, tmp_path, mapped):
    original = mock_sim / "output/snapdir_099/snap_099.0.hdf5"
    path = tmp_path / original.name
    with h5py.File(original) as source, h5py.File(path, "w") as file:
        source.copy("Header", file)
        coordinates = source["PartType0/Coordinates"][()]
        file["PartType0/Coordinates"] = coordinates.astype(">f8")
    with open_particle_file(path) as chunk:
        found = chunk.read(0, ["Coordinates"], mapped=mapped)["Coordinates"]
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, coordinates)
