"""Particles piece by piece: mapped, read, or read only where they are needed."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest

from sfr.errors import DataFormatError
from sfr.recipe import load_recipe
from sfr.render.orient import Galaxy
from sfr.render.project import render_galaxy
from sfr.simulation import open_simulation, particle_file
from sfr.simulation.mock import write_mock

GAS = ["Coordinates", "Masses", "Density", "Velocities"]


@pytest.fixture(scope="module")
def compressed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segments") / "sim"
    return write_mock(folder, galaxies=2, snaps=[99], cells=3000, compressed=True).path


def galaxies(simulation):
    found = simulation.catalogue(
        99,
        subhalo_fields=["SubhaloPos", "SubhaloGrNr", "SubhaloHalfmassRadType", "SubhaloLenType"],
        group_fields=[],
    ).subhalos
    for i in np.flatnonzero(found["SubhaloLenType"][:, 0] > 300)[:4]:
        radius = float(found["SubhaloHalfmassRadType"][i, 4])
        galaxy = Galaxy(found["SubhaloPos"][i].astype(np.float64), radius)
        yield int(i), int(found["SubhaloGrNr"][i]), galaxy


@pytest.mark.parametrize("length", [1 << 20, 1000, 7])
def test_segments_hold_what_particles_holds(mock_sim, monkeypatch, length):
    monkeypatch.setattr(particle_file, "_SEGMENT", length)
    with open_simulation(mock_sim) as simulation:
        whole = simulation.particles(99, "group", 0, 0, GAS)
        parts = [part.read(GAS) for part in simulation.segments(99, "group", 0, 0)]
    for name in GAS:
        np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), whole[name])


@pytest.mark.parametrize("gap", [1, 50, 1 << 14])
def test_rows_that_are_needed_are_read_and_few_others(mock_sim, compressed, monkeypatch, gap):
    monkeypatch.setattr(particle_file, "_GAP", gap)
    for path in (mock_sim, compressed):
        with open_simulation(path) as simulation:
            for part in simulation.segments(99, "group", 0, 0):
                whole = part.read(GAS)
                for rows in ([], [0], [len(part) - 1], [0, 1, 2, 90, 91, len(part) - 1]):
                    needed = np.array(rows, np.int64)
                    found = part.read(GAS, needed=needed)
                    for name in GAS:
                        assert found[name].shape == whole[name].shape
                        np.testing.assert_array_equal(found[name][needed], whole[name][needed])
                    if gap == 1:
                        others = np.setdiff1d(np.arange(len(part)), needed)
                        assert not found["Masses"][others].any()


@pytest.mark.parametrize("mapped", [True, False])
def test_rows_of_fields_that_lie_unaligned_or_compressed_are_taken_as_they_are_read(
    mock_sim, compressed, mapped
):
    fields = ["Coordinates", "Velocities", "Masses", "GFM_StellarFormationTime"]
    unaligned = 0
    for path in (mock_sim, compressed):
        with open_simulation(path, mapped=mapped) as simulation:
            for part in simulation.segments(99, "group", 0, 4):
                unaligned += mapped and not part.is_mapped(fields)
                whole = part.read(fields)
                for rows in ([], [0], [len(part) - 1], [0, 1, 2, 90, 91, len(part) - 1]):
                    found = part.take(fields, np.array(rows, np.int64))
                    assert list(found) == fields
                    for name in fields:
                        assert found[name].dtype == whole[name].dtype
                        assert found[name].flags.aligned
                        np.testing.assert_array_equal(found[name], whole[name][rows])
    assert bool(unaligned) == mapped


@pytest.mark.parametrize("recipe", ["thesis", "corrected"])
def test_mapped_read_streamed_and_compressed_maps_have_the_same_bits(
    mock_sim, tmp_path, monkeypatch, recipe
):
    settings = load_recipe(recipe)
    settings = replace(settings, maps=replace(settings.maps, pixels=64))
    made = []
    for mapped, length in ((True, 1 << 20), (False, 1 << 20), (False, 97), (True, 97)):
        monkeypatch.setattr(particle_file, "_SEGMENT", length)
        monkeypatch.setattr(particle_file, "_MAPPED_SEGMENT", length)
        with open_simulation(mock_sim, mapped=mapped) as simulation:
            shots = [
                render_galaxy(simulation, 99, i, group, galaxy, settings)
                for i, group, galaxy in galaxies(simulation)
            ]
        assert shots
        made.append([(s.maps.tobytes(), s.ledger, s.orientation.source) for s in shots])
    assert made[1] == made[0]
    assert made[2] == made[0]
    assert made[3] == made[0]


def test_a_chunk_is_opened_once_for_all_galaxies(mock_sim, monkeypatch):
    opened = []
    original = h5py.File.__init__

    def count(self, name, *args, **kwargs):
        opened.append(str(name))
        original(self, name, *args, **kwargs)

    monkeypatch.setattr(h5py.File, "__init__", count)
    recipe = load_recipe("thesis")
    with open_simulation(mock_sim, mapped=True) as simulation:
        for i, group, galaxy in [*galaxies(simulation)] * 2:
            render_galaxy(simulation, 99, i, group, galaxy, recipe)
    snapshot_files = [name for name in opened if "snapdir" in name or "offsets" in name]
    assert snapshot_files
    assert len(snapshot_files) == len(set(snapshot_files))


@pytest.mark.parametrize("mapped", [True, False])
def test_what_runs_past_the_end_of_a_file_is_an_error(mock_sim, tmp_path, mapped):
    path = mock_sim / "output" / "snapdir_099" / "snap_099.1.hdf5"
    copy = tmp_path / "snap_099.1.hdf5"
    copy.write_bytes(path.read_bytes())
    with particle_file.open_particle_file(copy) as file:
        dataset = h5py.File(copy, "r")["PartType0/Masses"]
        end = dataset.id.get_offset() + dataset.nbytes // 2
        dataset.file.close()
        with copy.open("r+b") as raw:
            raw.truncate(end)
        part = next(file.segments(0, mapped=mapped))
        with pytest.raises(DataFormatError, match=r"snap_099\.1.*PartType0/Masses ends at byte"):
            part.read(["Masses"])
