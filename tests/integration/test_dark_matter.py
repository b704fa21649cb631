"""Maps of particles that are no gas: their mass is stated in the header alone."""

from __future__ import annotations

import dataclasses
import shutil

import h5py
import numpy as np
import pytest

from sfr.errors import InternalError
from sfr.pipeline.quicklook import map_file
from sfr.recipe import Channel, load_recipe
from sfr.render import kernels
from sfr.render.orient import Galaxy, Orientation
from sfr.render.plan import bytes_to_read, particles_shown, readings
from sfr.render.project import make_maps, particle_fields, render_galaxy
from sfr.simulation import open_simulation
from sfr.simulation.mock import write_mock
from sfr.simulation.particle_file import open_particle_file


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    made = write_mock(tmp_path_factory.mktemp("dm") / "sim", galaxies=3, snaps=[99], cells=3000)
    return made.path / "output"


@pytest.fixture
def recipe():
    thesis = load_recipe("thesis")
    channels = (
        Channel("dm", "dark_matter_mass"),
        Channel("sigma", "dark_matter_surface_density"),
        Channel("log", "log10_dark_matter_mass", weight="mass", statistic="mean"),
    )
    maps = dataclasses.replace(thesis.maps, channels=channels, candidates=(), pixels=16)
    return dataclasses.replace(thesis, maps=maps)


def inside(coordinates, centre, header):
    d = coordinates - centre
    d -= header.box_size * np.rint(d / header.box_size)
    return np.abs(d[:, :2]).max(axis=1) < 30


@pytest.mark.parametrize("mapped", [True, False])
def test_dark_matter_has_maps_by_the_mass_of_the_header(output, recipe, mapped):
    with open_simulation(output, mapped=mapped) as simulation:
        simulation.require(99, particle_fields(recipe))
        header = simulation.header(99)
        mass = header.mass_table[1]
        assert mass > 0
        coordinates = simulation.particles(99, "group", 0, 1, ["Coordinates"])["Coordinates"]
        centre = coordinates[0].astype(float)
        made = render_galaxy(simulation, 99, 0, 0, Galaxy(centre, 0.0), recipe)
        stored = simulation.particles(99, "group", 0, 1, ["Masses"])["Masses"]
    assert (stored == mass).all()
    assert made.orientation.source == "none"
    assert made.ledger.n_read == len(coordinates) == len(stored)
    count = inside(coordinates, centre, header).sum()
    assert made.ledger.n_in_frame == count > 50
    total, sigma, log = made.maps
    assert total.sum(dtype=float) == pytest.approx(count * mass)
    kpc2 = (60 / 16 / 0.99 * header.scale_factor / header.hubble_param) ** 2
    np.testing.assert_allclose(sigma, total * 1e10 / header.hubble_param / kpc2, rtol=1e-6)
    np.testing.assert_allclose(log[total > 0], np.log10(mass), rtol=1e-6)
    assert np.isnan(log[total == 0]).all()


def test_masses_that_are_stored_are_not_those_of_the_header(output, recipe, tmp_path):
    chunks = sorted((output / "snapdir_099").glob("*.hdf5"))
    path = tmp_path / chunks[0].name
    path.write_bytes(chunks[0].read_bytes())
    with h5py.File(path, "r+") as file:
        coordinates = file["PartType1/Coordinates"][()]
        file["PartType1/Masses"] = np.full(len(coordinates), 2.5, np.float32)
    orientation = Orientation(np.eye(3), "none", 0, 1.0)
    with open_particle_file(path) as file:
        centre = coordinates[0].astype(float)
        made = make_maps(file.segments(1), centre, orientation, file.header, recipe.maps)
        with pytest.raises(InternalError, match="type 0 given for channels of dark matter"):
            make_maps(file.segments(0), centre, orientation, file.header, recipe.maps)
        count = inside(coordinates, centre, file.header).sum()
    assert made.maps[0].sum(dtype=float) == pytest.approx(2.5 * count)


@pytest.mark.parametrize("mapped", [True, False])
def test_some_rows_of_masses_of_the_header_are_given_as_all_are(output, mapped):
    """Of a mapped file they were refused as a field that is not there."""
    path = sorted((output / "snapdir_099").glob("*.hdf5"))[0]
    rows = np.array([0, 2, 5])
    with open_particle_file(path) as file:
        segment = next(file.segments(1, mapped=mapped))
        found = segment.take(["Masses", "Coordinates"], rows)
        assert found["Masses"].tolist() == [file.header.mass_table[1]] * 3
        np.testing.assert_array_equal(
            found["Coordinates"], file.read(1, ["Coordinates"])["Coordinates"][rows]
        )


def test_a_quick_look_at_dark_matter_shows_dark_matter(output, tmp_path):
    """It would have shown the masses of the gas, which are there in every file."""
    path = sorted((output / "snapdir_099").glob("*.hdf5"))[0]
    with open_particle_file(path) as file:
        centre = file.read(0, ["Coordinates"])["Coordinates"][0].astype(float)
        count = inside(file.read(1, ["Coordinates"])["Coordinates"], centre, file.header).sum()
        assert "Masses" in file.readable(1)
        assert "Masses" not in file.fields(1)
    made = map_file(
        path, out=tmp_path / "out", channels=["dark_matter_mass"], centre=tuple(centre), pixels=32,
        width_ckpc_h=60.0,
    )  # fmt: skip
    assert made.n_in_frame == count > 0
    assert made.particles == "dark matter particles"
    assert made.rows()[0]["unit"].startswith("mass-weighted mean over dark matter particles")


def test_a_plan_of_maps_of_dark_matter_counts_dark_matter(output, recipe):
    """It counted the bytes of gas, and remembered the files of gas only."""
    with open_simulation(output) as simulation:
        found = simulation.catalogue(
            99, subhalo_fields=("SubhaloGrNr", "SubhaloLenType"), group_fields=("GroupLenType",)
        )
        group_ids = found.subhalos["SubhaloGrNr"].astype(int)
        rows = {
            "subhalo_id": found.subhalo_ids,
            "group_id": group_ids,
            "n_gas_group": found.groups["GroupLenType"][group_ids, 0].astype(int),
            "n_stars": found.subhalos["SubhaloLenType"][:, 4].astype(int),
        }
        of_groups = found.groups["GroupLenType"][np.unique(group_ids)].astype(int)
        read = readings(simulation, recipe, 99, rows, allow_partial=False)
        assert {r.part_type: (r.kind, r.lengths.sum()) for r in read} == {
            0: ("group", of_groups[:, 0].sum()),
            1: ("group", of_groups[:, 1].sum()),
            4: ("subhalo", rows["n_stars"].sum()),
        }
        shown = particles_shown(simulation, recipe, 99, rows, allow_partial=False)
        assert shown.tolist() == found.groups["GroupLenType"][group_ids, 1].tolist()
        assert not (shown == rows["n_gas_group"]).all()
        dark = [r for r in read if r.part_type == 1]
        size = simulation.particles(99, "group", 0, 1, ["Coordinates"])["Coordinates"].itemsize
        masses = simulation.particles(99, "group", 0, 1, ["Masses"])["Masses"].itemsize
        n = int(of_groups[:, 1].sum())
        assert bytes_to_read(simulation, 99, dark) == n * (3 * size + masses)
        without_gas = {**rows, "n_gas_group": np.zeros_like(shown)}
        assert bytes_to_read(
            simulation, 99, readings(simulation, recipe, 99, without_gas, allow_partial=False)
        ) < bytes_to_read(simulation, 99, read)


def test_bytes_are_counted_where_the_catalogue_lacks_a_group(output, recipe, tmp_path):
    """It asked for the particles of the group that is not there, as the smallest of all."""
    folder = shutil.copytree(output.parent, tmp_path / "sim") / "output"
    with open_simulation(folder) as simulation:
        found = simulation.catalogue(99, subhalo_fields=(), group_fields=("GroupLenType",))
        size = simulation.particles(99, "group", 0, 1, ["Coordinates"])["Coordinates"].itemsize
    rows = {
        "subhalo_id": found.group_ids,
        "group_id": found.group_ids,
        "n_gas_group": np.zeros_like(found.group_ids),
        "n_stars": np.zeros_like(found.group_ids),
    }
    sorted((folder / "groups_099").glob("*.hdf5"))[0].unlink()
    with open_simulation(folder) as simulation:
        read = readings(simulation, recipe, 99, rows, allow_partial=True)
        (dark,) = (r.lengths for r in read if r.part_type == 1)
        assert (dark == 0).any()
        assert bytes_to_read(simulation, 99, read) == dark.sum() * (3 * size + 8) > 0


def test_a_ledger_that_does_not_add_up_is_refused(output, recipe, monkeypatch):
    """What lay outside the frame was not recorded, so that nobody saw that nothing is lost."""
    project = kernels.project_segments

    def losing(segments, **arguments):
        found = project(segments, **arguments)
        n = found.ledger.n_out_of_frame
        return found._replace(ledger=found.ledger._replace(n_out_of_frame=n - 1))

    path = sorted((output / "snapdir_099").glob("*.hdf5"))[0]
    orientation = Orientation(np.eye(3), "none", 0, 1.0)
    with open_particle_file(path) as file:
        centre = file.read(1, ["Coordinates"])["Coordinates"][0].astype(float)
        ledger = make_maps(file.segments(1), centre, orientation, file.header, recipe.maps).ledger
        assert ledger.n_out_of_frame > 0
        assert ledger.n_in_frame + ledger.n_out_of_frame == ledger.n_read == file.counts[1]
        monkeypatch.setattr(kernels, "project_segments", losing)
        with pytest.raises(InternalError, match=rf"of {ledger.n_read} dark matter particles"):
            make_maps(file.segments(1), centre, orientation, file.header, recipe.maps)
        monkeypatch.setattr(kernels, "project_segments", lambda s, **a: project(list(s)[:0], **a))
        with pytest.raises(InternalError, match="does not add up"):
            make_maps(file.segments(1), centre, orientation, file.header, recipe.maps)
