"""What the reader says of incomplete, damaged and mixed files: the file and what to do."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from sfr.errors import ConfigError, DataFormatError, DataMissingError, RangeError
from sfr.simulation import open_particle_file, open_simulation

OFFSETS = "postprocessing/offsets/offsets_099.hdf5"
GROUPS = "output/groups_099/fof_subhalo_tab_099.{}.hdf5"
CHUNK = "output/snapdir_099/snap_099.{}.hdf5"


@pytest.fixture
def sim(mock_sim, tmp_path) -> Path:
    """Copy of the mock simulation that a test may damage."""
    return Path(shutil.copytree(mock_sim, tmp_path / "sim"))


def edit(path: Path, change: Callable[[h5py.File], None]) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def replace(path: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    with h5py.File(path, "r+") as file:
        values = change(file[name][()])
        del file[name]
        file[name] = values


def read_all(folder: Path) -> list[np.ndarray]:
    """Gas of every group of snapshot 99."""
    with open_simulation(folder) as simulation:
        count = simulation.catalogue(99, subhalo_fields=[], group_fields=[]).n_groups_total
        return [
            simulation.particles(99, "group", number, 0, ["Masses"])["Masses"]
            for number in range(count)
        ]


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataMissingError, match=r"is not there.*TNG50-1/output"):
        open_simulation(tmp_path / "nowhere")


def test_folder_without_a_simulation(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(DataMissingError, match=r"found in it: holiday\.jpg"):
        open_simulation(tmp_path)


def test_file_instead_of_a_folder(tmp_path):
    (tmp_path / "snap.hdf5").touch()
    with pytest.raises(DataMissingError, match="is a file"):
        open_simulation(tmp_path / "snap.hdf5")


def test_snapshot_without_catalogue(sim):
    with open_simulation(sim) as simulation, pytest.raises(DataMissingError, match="groups_098"):
        simulation.catalogue(50, subhalo_fields=[], group_fields=[])


def test_missing_catalogue_chunks_are_counted(sim):
    (sim / GROUPS.format(1)).unlink()
    (sim / GROUPS.format(2)).unlink()
    with open_simulation(sim) as simulation, pytest.raises(DataMissingError) as caught:
        simulation.catalogue(99, subhalo_fields=["SubhaloMass"], group_fields=[])
    assert "2 of 4 group-catalogue chunks are missing" in str(caught.value)
    assert GROUPS.format(1) in str(caught.value)
    assert "--allow-partial" in str(caught.value)


@pytest.mark.parametrize("with_offsets", [True, False])
def test_partial_catalogue_has_the_ids_that_are_known(sim, caplog, with_offsets):
    with open_simulation(sim) as simulation:
        whole = simulation.catalogue(99, subhalo_fields=["SubhaloMass"], group_fields=["GroupMass"])
    (sim / GROUPS.format(1)).unlink()
    if not with_offsets:
        (sim / OFFSETS).unlink()
    with open_simulation(sim) as simulation, caplog.at_level(logging.WARNING):
        part = simulation.catalogue(
            99, subhalo_fields=["SubhaloMass"], group_fields=["GroupMass"], allow_partial=True
        )
    masses = whole.subhalos["SubhaloMass"][part.subhalo_ids]
    np.testing.assert_array_equal(part.subhalos["SubhaloMass"], masses)
    masses = whole.groups["GroupMass"][part.group_ids]
    np.testing.assert_array_equal(part.groups["GroupMass"], masses)
    assert 0 < part.subhalo_ids.size < whole.subhalo_ids.size
    assert not part.is_complete
    assert [path.name for path in part.missing_files] == ["fof_subhalo_tab_099.1.hdf5"]
    # chunk 2 lies behind the gap: without offsets it says itself where it belongs
    assert part.subhalo_ids.max() == whole.subhalo_ids.max()
    assert "are left out" not in caplog.text


@pytest.mark.parametrize("present", [(0, 2), (1,), (2,), (1, 2), (1, 3), (2, 3), (0, 1)])
def test_ids_of_any_part_of_a_catalogue_are_those_of_the_whole(sim, present):
    fields = {"subhalo_fields": ["SubhaloPos", "SubhaloGrNr"], "group_fields": ["GroupFirstSub"]}
    with open_simulation(sim) as simulation:
        whole = simulation.catalogue(99, **fields)
    counts = {}
    for number in range(4):
        path = sim / GROUPS.format(number)
        with h5py.File(path) as file:
            counts[number] = int(file["Header"].attrs["Nsubgroups_ThisFile"])
        if number not in present:
            path.unlink()
    (sim / OFFSETS).unlink()
    with open_simulation(sim) as simulation:
        part = simulation.catalogue(99, **fields, allow_partial=True)
        absent = simulation.missing_catalogue_files(99)
    assert part.subhalo_ids.size == sum(counts[number] for number in present)
    assert len(absent) == 4 - len(present)
    for name in fields["subhalo_fields"]:
        expected = whole.subhalos[name][part.subhalo_ids]
        np.testing.assert_array_equal(part.subhalos[name], expected)
    expected = whole.groups["GroupFirstSub"][part.group_ids]
    np.testing.assert_array_equal(part.groups["GroupFirstSub"], expected)


@pytest.mark.parametrize("damage", ["no positions", "other positions", "local ids", "one row"])
def test_a_chunk_that_does_not_prove_its_ids_is_left_out_with_advice(sim, caplog, damage):
    def spoil(file):
        if damage == "no positions":
            del file["Group/GroupPos"]
        elif damage == "other positions":
            file["Group/GroupPos"][:] += 1
        elif damage == "local ids":
            file["Subhalo/SubhaloGrNr"][:] -= file["Subhalo/SubhaloGrNr"][0]
            first = file["Group/GroupFirstSub"][:]
            file["Group/GroupFirstSub"][:] = first - first[0]
        else:
            file["Subhalo/SubhaloGrNr"][-1] -= 1

    for number in (0, 1, 3):
        (sim / GROUPS.format(number)).unlink()
    (sim / OFFSETS).unlink()
    edit(sim / GROUPS.format(2), spoil)
    with open_simulation(sim) as simulation:
        part = simulation.catalogue(
            99, subhalo_fields=["SubhaloMass"], group_fields=[], allow_partial=True
        )
        assert len(simulation.missing_catalogue_files(99)) == 4
    assert part.subhalo_ids.size == 0
    assert "1 group-catalogue chunks are left out, the first is fof_subhalo_tab_099.2.hdf5" in (
        caplog.text
    )
    assert "offsets_099.hdf5 (files/offsets.99.hdf5 of the web API)" in caplog.text


def test_a_chunk_of_another_catalogue_in_a_partial_one_is_an_error(sim):
    (sim / OFFSETS).unlink()
    (sim / GROUPS.format(3)).unlink()
    replace(sim / GROUPS.format(1), "Group/GroupFirstSub", lambda first: first + 1)
    with open_simulation(sim) as simulation, pytest.raises(DataFormatError) as caught:
        simulation.catalogue(99, subhalo_fields=[], group_fields=[], allow_partial=True)
    assert "says that it begins at group 3 and subhalo 7" in str(caught.value)


def test_first_chunk_missing(sim):
    (sim / GROUPS.format(0)).unlink()
    with open_simulation(sim) as simulation:
        with pytest.raises(DataMissingError, match="1 of 4"):
            simulation.catalogue(99, subhalo_fields=[], group_fields=[])
        part = simulation.catalogue(
            99, subhalo_fields=["SubhaloMass"], group_fields=[], allow_partial=True
        )
    assert part.subhalo_ids.min() > 0


def test_what_else_lies_in_the_folders_of_a_simulation_is_not_read(sim):
    fields = {"subhalo_fields": ["SubhaloMass"], "group_fields": ["GroupMass"]}
    with open_simulation(sim) as simulation:
        whole = simulation.catalogue(99, **fields)
        header, snapshots = simulation.header(99), simulation.snapshots()
    output = sim / "output"
    for folder, name in (("groups_099", "fof_subhalo_tab_099"), ("snapdir_099", "snap_099")):
        for stray in (f"._{name}.0", f".{name}.0", f"{name}.0 (1)", f"{name} (1).0", "backup.0"):
            (output / folder / f"{stray}.hdf5").write_bytes(b"no")
        (output / folder / f"{name}.0.hdf5.part").write_bytes(b"no")
        (output / folder / f"{name}.77.hdf5").mkdir()
        (output / folder / "backup.78.hdf5").symlink_to("/nowhere")
    (output / "groups_097").mkdir()
    (output / "groups_099 (copy)").mkdir()
    (output / "groups_099.tar").write_bytes(b"no")
    (output / "snapdir_099.old").mkdir()
    with open_simulation(sim) as simulation:
        found = simulation.catalogue(99, **fields)
        assert (simulation.header(99), simulation.snapshots()) == (header, snapshots)
        assert all(status.ok for status in simulation.inventory(99))
    np.testing.assert_array_equal(found.subhalos["SubhaloMass"], whole.subhalos["SubhaloMass"])
    (sim / GROUPS.format(0)).unlink()
    with open_simulation(sim) as simulation:
        simulation.catalogue(99, **fields, allow_partial=True)


def test_catalogue_field_that_does_not_exist(sim):
    with open_simulation(sim) as simulation, pytest.raises(DataMissingError) as caught:
        simulation.catalogue(99, subhalo_fields=["SubhaloColour"], group_fields=[])
    assert "SubhaloColour" in str(caught.value)
    assert "SubhaloMass" in str(caught.value)


def test_run_without_subhalo_flag(sim):
    for number in range(3):
        edit(sim / GROUPS.format(number), lambda file: file["Subhalo"].pop("SubhaloFlag"))
    with open_simulation(sim) as simulation, pytest.raises(DataMissingError, match="SubhaloFlag"):
        simulation.catalogue(99, subhalo_fields=["SubhaloFlag"], group_fields=[])


def test_unsigned_group_first_sub_becomes_signed(sim):
    for number in range(3):
        replace(sim / GROUPS.format(number), "Group/GroupFirstSub", lambda v: v.astype(np.uint32))
    with open_simulation(sim) as simulation:
        found = simulation.catalogue(99, subhalo_fields=[], group_fields=["GroupFirstSub"])
    first = found.groups["GroupFirstSub"]
    assert first.min() == -1
    assert first.max() < found.n_subhalos_total


def test_catalogue_of_no_objects(sim):
    for number in range(4):

        def empty(file: h5py.File) -> None:
            for name in ("Group", "Subhalo"):
                del file[name]
                file.create_group(name)
            for name in ("Ngroups", "Nsubgroups"):
                for which in ("ThisFile", "Total"):
                    file["Header"].attrs[f"{name}_{which}"] = np.int32(0)

        edit(sim / GROUPS.format(number), empty)
    with open_simulation(sim) as simulation:
        found = simulation.catalogue(
            99, subhalo_fields=["SubhaloMassType", "SubhaloFlag"], group_fields=["GroupMass"]
        )
    assert found.subhalos["SubhaloMassType"].shape == (0, 6)
    assert found.subhalos["SubhaloFlag"].dtype == np.bool_
    assert found.groups["GroupMass"].shape == (0,)
    assert found.is_complete


def test_catalogue_in_one_file(sim):
    with open_simulation(sim) as simulation:
        whole = simulation.catalogue(
            99, subhalo_fields=["SubhaloPos", "SubhaloFlag"], group_fields=["GroupMass"]
        )
    for number in range(1, 4):
        (sim / GROUPS.format(number)).unlink()

    def join(file: h5py.File) -> None:
        for name, columns, ids in (
            ("Group", whole.groups, whole.group_ids),
            ("Subhalo", whole.subhalos, whole.subhalo_ids),
        ):
            del file[name]
            for field, column in columns.items():
                file[f"{name}/{field}"] = column
            count = {"Group": "Ngroups", "Subhalo": "Nsubgroups"}[name]
            file["Header"].attrs[f"{count}_ThisFile"] = np.int32(ids.size)
        file["Header"].attrs["NumFiles"] = np.int32(1)

    edit(sim / GROUPS.format(0), join)
    with open_simulation(sim) as simulation:
        for fields in (["SubhaloPos"], ["SubhaloPos", "SubhaloFlag"]):
            found = simulation.catalogue(99, subhalo_fields=fields, group_fields=["GroupMass"])
            for field in fields:
                np.testing.assert_array_equal(found.subhalos[field], whole.subhalos[field])
            np.testing.assert_array_equal(found.groups["GroupMass"], whole.groups["GroupMass"])


def test_layout_of_the_original_illustris(sim):
    folder = sim / "output/groups_099"
    (folder / "fof_subhalo_tab_099.0.hdf5").rename(folder / "groups_099.0.hdf5")
    with open_simulation(sim) as simulation, pytest.raises(DataFormatError, match="Illustris"):
        simulation.catalogue(99, subhalo_fields=[], group_fields=[])


def test_downloads_under_their_web_names(sim):
    for path in (sim / "output/groups_099").iterdir():
        path.rename(path.with_name(f"groupcat-99.{path.name.split('.')[-2]}.hdf5"))
    with open_simulation(sim) as simulation, pytest.raises(DataFormatError, match="renamed"):
        simulation.catalogue(99, subhalo_fields=[], group_fields=[])


def test_catalogue_chunk_of_another_snapshot(sim):
    shutil.copy(sim / "output/groups_098/fof_subhalo_tab_098.1.hdf5", sim / GROUPS.format(1))
    with open_simulation(sim) as simulation, pytest.raises(DataFormatError, match="mixed"):
        simulation.catalogue(99, subhalo_fields=["SubhaloMass"], group_fields=[])


def test_catalogue_chunk_cut_short(sim):
    path = sim / GROUPS.format(1)
    path.write_bytes(path.read_bytes()[:4000])
    with (
        open_simulation(sim) as simulation,
        pytest.raises(DataFormatError, match=r"099\.1\.hdf5.*incomplete download"),
    ):
        simulation.catalogue(99, subhalo_fields=["SubhaloMass"], group_fields=[])


def test_chunks_that_do_not_add_up(sim):
    def drop_rows(file: h5py.File) -> None:
        for name in file["Subhalo"]:
            values = file["Subhalo"][name][1:]
            del file["Subhalo"][name]
            file["Subhalo"][name] = values

    edit(sim / GROUPS.format(0), drop_rows)
    with (
        open_simulation(sim) as simulation,
        pytest.raises(DataFormatError, match="its datasets hold"),
    ):
        simulation.catalogue(99, subhalo_fields=["SubhaloMass"], group_fields=[])


def test_missing_offsets_file_says_where_to_get_it(sim):
    (sim / OFFSETS).unlink()
    with pytest.raises(DataMissingError) as caught:
        read_all(sim)
    assert OFFSETS in str(caught.value)
    assert "files/offsets.99.hdf5" in str(caught.value)


@pytest.mark.parametrize("number", [0, 2])
def test_missing_snapshot_chunk_is_named(sim, number):
    (sim / CHUNK.format(number)).unlink()
    with pytest.raises(DataMissingError) as caught:
        read_all(sim)
    assert CHUNK.format(number) in str(caught.value)
    assert f"files/snapshot-99.{number}.hdf5" in str(caught.value)


def test_missing_chunk_matters_only_to_objects_in_it(sim):
    whole = read_all(sim)
    (sim / CHUNK.format(2)).unlink()
    with open_simulation(sim) as simulation:
        inside = [
            number
            for number in range(len(whole))
            if len(whole[number]) and not _touches(simulation, number)
        ]
        assert inside
        for number in inside:
            found = simulation.particles(99, "group", number, 0, ["Masses"])["Masses"]
            np.testing.assert_array_equal(found, whole[number])


def _touches(simulation, number: int) -> bool:
    try:
        simulation.rows(99, "group", number, 0)
    except DataMissingError:
        return True
    return False


def test_missing_field_of_a_full_snapshot(sim):
    with open_simulation(sim) as simulation, pytest.raises(DataMissingError) as caught:
        simulation.particles(99, "group", 0, 0, ["GFM_MetalsTagged"])
    assert "GFM_MetalsTagged" in str(caught.value)
    assert "PartType0" in str(caught.value)
    assert "full snapshot" in str(caught.value)


@pytest.mark.parametrize("how", ["gone", "never written", "a link", "gas is a link"])
def test_a_field_missing_in_the_first_chunk_costs_that_chunk_only(mock_sim, sim, how):
    with h5py.File(sim / CHUNK.format(0), "r+") as file:
        shape = file["PartType0/Masses"].shape
        name = "PartType0" if how == "gas is a link" else "PartType0/Masses"
        del file[name]
        if how == "never written":
            file.create_dataset(name, shape, "f4")
        elif how != "gone":
            file[name] = h5py.ExternalLink("gone.hdf5", "/x")
    with open_simulation(mock_sim) as whole, open_simulation(sim) as simulation:
        simulation.require(99, {0: ["Masses"]})
        count = simulation.catalogue(99, subhalo_fields=[], group_fields=[]).n_groups_total
        where = [
            {part.path.name for part in whole.rows(99, "group", number, 0)}
            for number in range(count)
        ]
        hit = [number for number in range(count) if "snap_099.0.hdf5" in where[number]]
        assert 0 < len(hit) < count
        for number in range(count):
            if number in hit:
                words = "PartType0" if how == "gas is a link" else "Masses"
                with pytest.raises((DataMissingError, DataFormatError), match=words):
                    simulation.particles(99, "group", number, 0, ["Masses"])
            else:
                simulation.particles(99, "group", number, 0, ["Masses"])
    for path in (sim / CHUNK.format(0)).parent.glob("*.hdf5"):
        with h5py.File(path, "r+") as file:
            file.get("PartType0", {}).pop("Masses", None)
    with open_simulation(sim) as simulation, pytest.raises(DataMissingError, match="Masses"):
        simulation.require(99, {0: ["Masses"]})


def test_missing_field_of_a_mini_snapshot(sim):
    with open_simulation(sim) as simulation, pytest.raises(DataMissingError) as caught:
        simulation.particles(98, "group", 0, 0, ["MagneticField"])
    assert "MagneticField" in str(caught.value)
    assert "snap_098" in str(caught.value)
    assert "mini snapshot" in str(caught.value)


def test_masses_of_dark_matter_are_in_the_header(sim):
    with open_simulation(sim) as simulation:
        masses = simulation.particles(99, "group", 0, 1, ["Masses"])["Masses"]
        assert len(masses) > 0
        assert (masses == simulation.header(99).mass_table[1]).all()
    for number in range(4):
        with h5py.File(sim / CHUNK.format(number), "r+") as file:
            file["Header"].attrs["MassTable"] = np.zeros(6)
    with open_simulation(sim) as simulation, pytest.raises(DataMissingError, match="Masses"):
        simulation.particles(99, "group", 0, 1, ["Masses"])


def test_snapshot_chunk_cut_short(sim):
    path = sim / CHUNK.format(2)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataFormatError, match=r"snap_099\.2\.hdf5.*incomplete download"):
        read_all(sim)


def test_snapshot_chunk_that_is_something_else(sim):
    (sim / CHUNK.format(2)).write_text("<html>403 Forbidden</html>")
    with pytest.raises(DataFormatError, match=r"snap_099\.2\.hdf5"):
        read_all(sim)


def test_stale_counts_in_the_header_are_not_trusted(sim, caplog):
    whole = read_all(sim)
    edit(
        sim / CHUNK.format(0),
        lambda file: file["Header"].attrs.modify("NumPart_ThisFile", np.full(6, 7, np.int32)),
    )
    with caplog.at_level(logging.WARNING):
        found = read_all(sim)
    assert "the datasets hold" in caplog.text
    for one, other in zip(whole, found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_chunk_with_fewer_particles_than_the_offsets_say(sim):
    replace(sim / CHUNK.format(0), "PartType0/Masses", lambda values: values[:-5])
    replace(sim / CHUNK.format(0), "PartType0/Coordinates", lambda values: values[:-5])
    with pytest.raises(DataFormatError, match="offsets file says"):
        read_all(sim)


def test_fields_of_different_length(sim):
    replace(sim / CHUNK.format(0), "PartType0/Masses", lambda values: values[:-5])
    with pytest.raises(DataFormatError, match="PartType0/Masses has"):
        read_all(sim)


@pytest.mark.parametrize("field", ["Masses", "Velocities"])
def test_a_field_of_another_shape_names_its_file(sim, field):
    """Masses (N, 1) and velocities (N,) were tracebacks in the middle of a render."""
    change = (lambda v: v[:, np.newaxis]) if field == "Masses" else (lambda v: v[:, 0].copy())
    replace(sim / CHUNK.format(0), f"PartType0/{field}", change)
    with (
        open_simulation(sim) as simulation,
        pytest.raises(DataFormatError, match=rf"snap_099\.0.*PartType0/{field} has shape"),
    ):
        simulation.particles(99, "group", 0, 0, [field])


def test_a_header_of_arrays_of_one_number_is_read(sim):
    """Writers that know no scalar attributes ended in a traceback."""

    def arrays(file):
        for name, value in dict(file["Header"].attrs).items():
            if np.ndim(value) == 0 and not isinstance(value, str | bytes):
                file["Header"].attrs[name] = np.array([value])

    before = read_all(sim)
    for path in (sim / "output").glob("*_099/*.hdf5"):
        edit(path, arrays)
    for a, b in zip(before, read_all(sim), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["HubbleParam", "Time", "OmegaLambda", "BoxSize"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_a_header_that_is_no_universe_is_a_clear_error(sim, name, value):
    """Each was a division by zero somewhere later."""
    for path in (sim / CHUNK.format(0), sim / GROUPS.format(0)):
        edit(path, lambda file: file["Header"].attrs.__setitem__(name, value))
    with pytest.raises(DataFormatError, match="Header cannot be used"):
        open_particle_file(sim / CHUNK.format(0))
    with pytest.raises(DataFormatError, match="Header cannot be used"):
        read_all(sim)


@pytest.mark.parametrize("kind", ["group", "subhalo"])
@pytest.mark.parametrize("number", [-1, 10**6])
def test_object_that_does_not_exist(sim, kind, number):
    with open_simulation(sim) as simulation, pytest.raises(RangeError, match=f"{kind} {number}"):
        simulation.particles(99, kind, number, 0, ["Masses"])


@pytest.mark.parametrize("part_type", [-1, 6])
def test_particle_type_that_does_not_exist(sim, part_type):
    with open_simulation(sim) as simulation, pytest.raises(RangeError, match="part_type"):
        simulation.particles(99, "group", 0, part_type, ["Masses"])


def test_kind_that_does_not_exist(sim):
    with open_simulation(sim) as simulation, pytest.raises(ConfigError, match="group, subhalo"):
        simulation.particles(99, "galaxy", 0, 0, ["Masses"])


def test_main_leaf_of_a_subhalo_that_does_not_exist(sim):
    with open_simulation(sim) as simulation, pytest.raises(RangeError, match="subhalo ids"):
        simulation.main_leaf_ids(99, np.array([0, 10**6]))


def test_missing_tree_file(sim):
    (sim / "postprocessing/trees/SubLink/tree_extended.1.hdf5").unlink()
    with open_simulation(sim) as simulation:
        count = simulation.catalogue(99, subhalo_fields=[], group_fields=[]).n_subhalos_total
        with pytest.raises(DataFormatError, match="tree files are missing"):
            simulation.main_leaf_ids(99, np.arange(count))


def test_snapshot_of_another_time_beside_the_catalogue(sim):
    shutil.rmtree(sim / "output/snapdir_099")
    shutil.copytree(sim / "output/snapdir_098", sim / "output/snapdir_099")
    for path in (sim / "output/snapdir_099").iterdir():
        path.rename(path.with_name(path.name.replace("098", "099")))
    with open_simulation(sim) as simulation:
        with pytest.raises(DataFormatError, match=r"Time \(a\)"):
            simulation.header(99)
        with pytest.raises(DataFormatError, match=r"Time \(a\)"):
            simulation.particles(99, "group", 0, 0, ["Masses"])


def test_snapshot_of_another_box(sim):
    for number in range(4):
        edit(
            sim / CHUNK.format(number),
            lambda file: file["Header"].attrs.modify("BoxSize", np.float64(75000.0)),
        )
    with open_simulation(sim) as simulation, pytest.raises(DataFormatError, match="BoxSize"):
        simulation.header(99)


def test_offsets_of_another_snapshot(sim):
    replace(sim / OFFSETS, "Subhalo/SnapByType", lambda values: values[:-3])
    with pytest.raises(DataFormatError, match="do not belong together"):
        read_all(sim)


@pytest.mark.parametrize("dtype", [np.uint64, np.int32, np.uint32])
def test_offsets_of_other_integer_types(sim, dtype):
    whole = read_all(sim)
    for name in ("FileOffsets/SnapByType", "FileOffsets/Group", "Group/SnapByType"):
        replace(sim / OFFSETS, name, lambda values: values.astype(dtype))
    for one, other in zip(whole, read_all(sim), strict=True):
        np.testing.assert_array_equal(one, other)


def test_transposed_file_offsets(sim, caplog):
    whole = read_all(sim)
    replace(sim / OFFSETS, "FileOffsets/SnapByType", lambda values: values.T)
    with caplog.at_level(logging.WARNING):
        found = read_all(sim)
    assert "transposed" in caplog.text
    for one, other in zip(whole, found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["FileOffsets/SnapByType", "Group/SnapByType"])
def test_offsets_that_overflowed(sim, name):
    replace(sim / OFFSETS, name, lambda values: values - 10**6)
    with pytest.raises(DataFormatError, match="int64"):
        read_all(sim)


def test_offsets_that_are_floats(sim):
    replace(sim / OFFSETS, "FileOffsets/SnapByType", lambda values: values.astype(float))
    with pytest.raises(DataFormatError, match="integers"):
        read_all(sim)


def test_particle_file_of_a_catalogue(sim):
    with pytest.raises(DataFormatError, match="group catalogue"):
        open_particle_file(sim / GROUPS.format(0))


def test_particle_file_without_header(tmp_path):
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file["data"] = [1.0]
    with pytest.raises(DataFormatError, match=r"no Header.*data"):
        open_particle_file(tmp_path / "x.hdf5")


def test_particle_file_with_half_a_header(tmp_path):
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file.create_group("Header").attrs["Time"] = 1.0
    with pytest.raises(DataFormatError, match="Header has no Omega0"):
        open_particle_file(tmp_path / "x.hdf5")


def test_a_cutout_header_may_lack_masses_totals_and_redshift(tmp_path):
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        header = file.create_group("Header").attrs
        header.update(Time=0.5, HubbleParam=0.7, Omega0=0.3, OmegaLambda=0.7, BoxSize=100.0)
        header["NumPart_ThisFile"] = np.array([2, 0, 0, 0, 0, 0], np.int32)
        file["PartType0/Coordinates"] = np.ones((2, 3))
    with open_particle_file(tmp_path / "x.hdf5") as cutout:
        assert cutout.header.redshift == 1.0
        assert cutout.header.mass_table is None
        assert cutout.counts[0] == 2


def test_particle_file_that_is_not_there(tmp_path):
    with pytest.raises(DataMissingError, match="is not there"):
        open_particle_file(tmp_path / "x.hdf5")


def test_a_folder_is_no_particle_file(tmp_path):
    with pytest.raises(DataMissingError, match="is a folder"):
        open_particle_file(tmp_path)


def test_particle_file_range(sim):
    with open_particle_file(sim / CHUNK.format(0)) as chunk:
        assert len(chunk.read(0, ["Masses"], start=3, stop=5)["Masses"]) == 2
        with pytest.raises(RangeError, match="rows"):
            chunk.read(0, ["Masses"], stop=10**9)
        with pytest.raises(RangeError, match="part_type"):
            chunk.fields(7)


TREES = "postprocessing/trees/SubLink/tree_extended.0.hdf5"
EVERYTHING_ELSE = [
    (GROUPS.format(1), "Subhalo/SubhaloMass"),
    (GROUPS.format(0), "Group/GroupLenType"),
    (OFFSETS, "FileOffsets/SnapByType"),
    (OFFSETS, "Group/SnapByType"),
    (OFFSETS, "Subhalo/SubLink/RowNum"),
    (TREES, "MainLeafProgenitorID"),
]


def never_written(file: h5py.File, name: str) -> None:
    old = file[name]
    del file[name]
    file.create_dataset(name, old.shape, old.dtype)


def half_written(file: h5py.File, name: str) -> None:
    old = file[name]
    values = old[()]
    del file[name]
    chunks = (1, *old.shape[1:])
    file.create_dataset(name, old.shape, old.dtype, chunks=chunks)[0] = values[0]


def without_source(file: h5py.File, name: str) -> None:
    old = file[name]
    del file[name]
    layout = h5py.VirtualLayout(old.shape, old.dtype)
    layout[...] = h5py.VirtualSource("gone.hdf5", "x", old.shape)
    file.create_virtual_dataset(name, layout)


def group_instead(file: h5py.File, name: str) -> None:
    del file[name]
    file.create_group(name)


def single_value(file: h5py.File, name: str) -> None:
    del file[name]
    file[name] = 1


def no_value(file: h5py.File, name: str) -> None:
    del file[name]
    file[name] = h5py.Empty("i4")


def compound(file: h5py.File, name: str) -> None:
    old = file[name]
    del file[name]
    file[name] = np.zeros(old.shape, [("a", "i4")])


def dangling(file: h5py.File, name: str) -> None:
    del file[name]
    file[name] = h5py.SoftLink("/nowhere")


def dangling_group(file: h5py.File, name: str) -> None:
    first = name.split("/")[0]
    del file[first]
    file[first] = h5py.ExternalLink("gone.hdf5", "/x")


CHANGES = (never_written, half_written, without_source, group_instead, single_value)
CHANGES += (no_value, compound, dangling, dangling_group)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("where", "name"), EVERYTHING_ELSE)
def test_what_else_is_read_is_there_and_is_what_it_should_be(sim, where, name, change):
    """Catalogue, offsets and trees: zeros for what was never written, and tracebacks."""
    edit(sim / where, lambda file: change(file, name))
    named = rf"{Path(where).name}.*{'.*' if change is dangling_group else name.split('/')[-1]}"

    def read_everything() -> None:
        simulation.catalogue(99, subhalo_fields=["SubhaloMass", "SubhaloPos"], group_fields=[])
        simulation.particles(99, "group", 0, 0, ["Masses"])
        simulation.main_leaf_ids(99, np.arange(3))

    with open_simulation(sim) as simulation:
        with pytest.raises((DataFormatError, DataMissingError), match=named):
            read_everything()
        bad = [status for status in simulation.inventory(99) if not status.ok]
    assert [status.path for status in bad] == [sim / where]
    assert bad[0].present


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("Subhalo/SubhaloPos", lambda v: v[:, 0].copy(), "has shape"),
        ("Subhalo/SubhaloPos", lambda v: np.concatenate([v, v], 1), "has shape"),
        ("Subhalo/SubhaloMassType", lambda v: v[:, 0].copy(), "has shape"),
        ("Subhalo/SubhaloMass", lambda v: v[:, np.newaxis], "has shape"),
        ("Subhalo/SubhaloFlag", lambda v: v[:, np.newaxis], "has shape"),
        ("Subhalo/SubhaloFlag", lambda v: v.astype("f4"), "truth values are expected"),
        ("Subhalo/SubhaloGrNr", lambda v: v.astype("f4"), "integers are expected"),
        ("Subhalo/SubhaloMass", lambda v: v > 0, "numbers are expected"),
        ("Group/GroupLenType", lambda v: v[:, 0].copy(), "has shape"),
        ("Group/GroupLenType", lambda v: v[..., np.newaxis], "has shape"),
        ("Group/GroupLenType", lambda v: v.astype("f4"), "integers are expected"),
        ("Group/GroupMass", lambda v: np.tile(v[:, np.newaxis], 4), "has shape"),
        ("Group/GroupFirstSub", lambda v: v.astype("f8"), "integers are expected"),
    ],
)
def test_a_column_of_another_shape_or_type_in_all_chunks(sim, name, change, words):
    """They were tracebacks in the middle of select, or six coordinates of which three counted."""
    for path in (sim / "output/groups_099").iterdir():
        with h5py.File(path) as file:
            is_there = name in file
        if is_there:
            replace(path, name, change)
    kind, field = name.split("/")
    with open_simulation(sim) as simulation:
        with pytest.raises(DataFormatError, match=rf"099\.\d\.hdf5: {name} .*{words}"):
            simulation.catalogue(
                99,
                subhalo_fields=[field] if kind == "Subhalo" else [],
                group_fields=[field] if kind == "Group" else [],
            )
        bad = [status for status in simulation.inventory(99) if not status.ok]
    assert bad
    assert all(status.kind == "group catalogue" for status in bad)


@pytest.mark.parametrize("change", [lambda v: v.astype("f8"), lambda v: v.astype("i4")])
def test_a_chunk_with_a_column_of_another_kind(sim, change):
    """It was cast to the type of the first chunk, without a word."""
    replace(sim / GROUPS.format(1), "Subhalo/SubhaloMass", change)
    with (
        open_simulation(sim) as simulation,
        pytest.raises(DataFormatError, match=r"099\.1\.hdf5: Subhalo/SubhaloMass has type"),
    ):
        simulation.catalogue(99, subhalo_fields=["SubhaloMass"], group_fields=[])
    with open_simulation(sim) as simulation:
        bad = [status for status in simulation.inventory(99) if not status.ok]
    assert [status.path for status in bad] == [sim / GROUPS.format(1)]
    assert "Subhalo has other columns" in bad[0].detail
    assert "SubhaloMass" in bad[0].detail


@pytest.mark.parametrize("change", [lambda v: v[:, np.newaxis], lambda v: v[:0], lambda v: v + 1])
def test_first_objects_of_chunks_in_another_shape(sim, change):
    replace(sim / OFFSETS, "FileOffsets/Group", change)
    with pytest.raises(DataFormatError, match=r"offsets_099.*FileOffsets/Group has shape"):
        read_all(sim)


def test_the_first_chunk_may_hold_no_subhalo(sim):
    """illustris_python asks the first chunk for its fields."""
    with open_simulation(sim) as simulation:
        whole = simulation.catalogue(99, subhalo_fields=["SubhaloMass"], group_fields=[])

    def move(file: h5py.File) -> None:
        masses = file["Subhalo/SubhaloMass"][()]
        del file["Subhalo"]
        file.create_group("Subhalo")
        file["Header"].attrs["Nsubgroups_ThisFile"] = np.int32(0)
        moved.append(masses)

    moved: list[np.ndarray] = []
    edit(sim / GROUPS.format(0), move)

    def receive(file: h5py.File) -> None:
        masses = np.concatenate([moved[0], file["Subhalo/SubhaloMass"][()]])
        del file["Subhalo"]
        file["Subhalo/SubhaloMass"] = masses
        file["Header"].attrs["Nsubgroups_ThisFile"] = np.int32(len(masses))

    edit(sim / GROUPS.format(1), receive)
    with open_simulation(sim) as simulation:
        found = simulation.catalogue(99, subhalo_fields=["SubhaloMass"], group_fields=[])
    np.testing.assert_array_equal(found.subhalos["SubhaloMass"], whole.subhalos["SubhaloMass"])


def test_inventory_says_what_is_half_written(sim):
    edit(sim / CHUNK.format(1), lambda file: never_written(file, "PartType0/Masses"))
    edit(sim / CHUNK.format(2), lambda file: group_instead(file, "PartType0/Density"))
    with open_simulation(sim) as simulation:
        bad = [status for status in simulation.inventory(99) if not status.ok]
    assert [status.path for status in bad] == [sim / CHUNK.format(n) for n in (1, 2)]
    assert "PartType0/Masses was never written" in bad[0].detail
    assert "PartType0/Density is a group" in bad[1].detail


def swap(first: Path, second: Path) -> None:
    kept = first.rename(first.with_suffix(".kept"))
    second.rename(first)
    kept.rename(second)


@pytest.mark.parametrize(
    "mix", [swap, lambda first, second: shutil.copy(first, second)], ids=["swapped", "twice"]
)
def test_catalogue_chunks_under_each_others_names(sim, mix):
    """Headers and totals fit, so galaxies got the ids, and with them the gas, of others."""
    mix(sim / GROUPS.format(0), sim / GROUPS.format(1))
    with open_simulation(sim) as simulation:
        with pytest.raises(DataFormatError, match="it is another chunk under this name"):
            simulation.catalogue(99, subhalo_fields=["SubhaloMass"], group_fields=[])
        said = [status.detail for status in simulation.inventory(99) if not status.ok]
        assert any("says that it begins at group" in text for text in said)


def test_offsets_beside_the_target_of_a_link_to_output(sim, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/output").symlink_to(sim / "output")
    for name in ("mine", "mine/output"):
        found, expected = read_all(tmp_path / name), read_all(sim)
        assert all(map(np.array_equal, found, expected))
