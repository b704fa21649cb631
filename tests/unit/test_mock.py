"""The mock simulation: what it must hold, and that its numbers are physical."""

from __future__ import annotations

import hashlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from sfr import units
from sfr.errors import ConfigError, RangeError
from sfr.simulation import open_simulation
from sfr.simulation.mock import SIGNALS, MockSummary, write_mock

GALAXIES = 12
CUT_FIELDS = ["SubhaloMass", "SubhaloMassType", "SubhaloFlag", "SubhaloGrNr", "SubhaloSFR"]


@pytest.fixture(scope="module")
def mock(tmp_path_factory) -> MockSummary:
    folder = tmp_path_factory.mktemp("mock") / "sim"
    return write_mock(folder, galaxies=GALAXIES, snaps=[97, 98, 99], cells=2000, broken=True)


def passing(simulation, snap):
    """Subhaloes that the cuts of the thesis take."""
    found = simulation.catalogue(snap, subhalo_fields=CUT_FIELDS, group_fields=["GroupMass"])
    table = found.subhalos
    stars = table["SubhaloMassType"][:, 4]
    host_mass = found.groups["GroupMass"][table["SubhaloGrNr"]]
    ok = table["SubhaloFlag"] & (stars > 0.5) & (stars < 100)
    return np.flatnonzero(ok & (table["SubhaloMass"] < 200) & (host_mass < 500)), found


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.hdf5"))
    }


def test_mock_holds_the_sample_in_every_snapshot(mock):
    with open_simulation(mock.path) as simulation:
        for snap in (97, 98, 99):
            found, _ = passing(simulation, snap)
            assert len(mock.subhalo_ids[snap]) == GALAXIES
            assert len(mock.broken_ids[snap]) == 4
            assert set(found) == set(mock.subhalo_ids[snap]) | set(mock.broken_ids[snap])


def test_mock_each_cut_alone_rejects_something(mock):
    with open_simulation(mock.path) as simulation:
        _, found = passing(simulation, 99)
    table = found.subhalos
    stars = table["SubhaloMassType"][:, 4]
    cuts = {
        "flag": table["SubhaloFlag"],
        "enough stars": stars > 0.5,
        "not too many": stars < 100,
        "total mass": table["SubhaloMass"] < 200,
        "group mass": found.groups["GroupMass"][table["SubhaloGrNr"]] < 500,
    }
    for name, cut in cuts.items():
        others = np.all([other for key, other in cuts.items() if key != name], axis=0)
        assert np.any(others & ~cut), name


def test_mock_sample_has_satellites_and_few_quiescent(mock):
    with open_simulation(mock.path) as simulation:
        _, found = passing(simulation, 99)
        first = simulation.catalogue(99, subhalo_fields=[], group_fields=["GroupFirstSub"])
    ids = np.array(mock.subhalo_ids[99])
    centrals = np.isin(ids, first.groups["GroupFirstSub"])
    quiescent = found.subhalos["SubhaloSFR"][ids] == 0
    assert 0 < np.count_nonzero(~centrals) < GALAXIES / 2
    assert 0 < np.count_nonzero(quiescent) <= 0.1 * GALAXIES


def test_mock_star_formation_is_the_sum_of_the_cells(mock):
    with open_simulation(mock.path) as simulation:
        found = simulation.catalogue(99, subhalo_fields=["SubhaloSFR"], group_fields=["GroupSFR"])
        columns = {"subhalo": found.subhalos["SubhaloSFR"], "group": found.groups["GroupSFR"]}
        for kind, column in columns.items():
            for number, stated in enumerate(column):
                cells = simulation.particles(99, kind, number, 0, ["StarFormationRate"])
                total = cells["StarFormationRate"].sum(dtype=np.float64)
                assert stated == pytest.approx(total, rel=1e-6)


def test_mock_star_formation_follows_springel_hernquist(mock):
    """Every cell above the threshold, and no other, with the rate that its density gives."""
    with open_simulation(mock.path) as simulation:
        header = simulation.header(98)
        for subhalo_id in mock.subhalo_ids[98]:
            cells = simulation.particles(
                98, "subhalo", subhalo_id, 0, ["Density", "Masses", "StarFormationRate"]
            )
            density = units.density_cgs(cells["Density"], header.scale_factor, header.hubble_param)
            hydrogen = density * units.HYDROGEN_FRACTION / units.PROTON_MASS_G
            time_yr = 2.1e9 * np.sqrt(0.1 / hydrogen)
            rate = 0.9 * units.mass_msun(cells["Masses"], header.hubble_param) / time_yr
            forming = cells["StarFormationRate"] > 0
            np.testing.assert_array_equal(forming, hydrogen > 0.1)
            np.testing.assert_allclose(
                cells["StarFormationRate"][forming], rate[forming], rtol=1e-5
            )


def test_mock_catalogue_follows_from_the_particles(mock):
    with open_simulation(mock.path) as simulation:
        header = simulation.header(99)
        fields = [*CUT_FIELDS, "SubhaloLenType", "SubhaloHalfmassRadType", "SubhaloPos"]
        table = simulation.catalogue(99, subhalo_fields=fields, group_fields=[]).subhalos
        for subhalo_id in mock.subhalo_ids[99]:
            gas = simulation.particles(99, "subhalo", subhalo_id, 0, ["Masses"])["Masses"]
            stars = simulation.particles(
                99, "subhalo", subhalo_id, 4, ["Masses", "GFM_StellarFormationTime", "Coordinates"]
            )
            wind = stars["GFM_StellarFormationTime"] <= 0
            masses = table["SubhaloMassType"][subhalo_id]
            assert masses[0] == pytest.approx(gas.sum() + stars["Masses"][wind].sum(), rel=1e-4)
            assert masses[4] == pytest.approx(stars["Masses"][~wind].sum(), rel=1e-4)
            assert table["SubhaloLenType"][subhalo_id, 4] == wind.size
            box = header.box_size
            offset = stars["Coordinates"] - table["SubhaloPos"][subhalo_id].astype(np.float64)
            radius = np.linalg.norm(offset - box * np.round(offset / box), axis=1)[~wind]
            inside = stars["Masses"][~wind][
                radius <= table["SubhaloHalfmassRadType"][subhalo_id, 4] + 0.01
            ]
            assert inside.sum() == pytest.approx(0.5 * masses[4], rel=0.05)


def test_mock_disk_is_face_on_along_the_young_stars(mock):
    """The axis of the youngest stars is the axis of the cold gas, within a few degrees."""
    with open_simulation(mock.path) as simulation:
        fields = ["SubhaloPos", "SubhaloHalfmassRadType", "SubhaloSFR"]
        table = simulation.catalogue(99, subhalo_fields=fields, group_fields=[]).subhalos
        box = simulation.header(99).box_size
        checked = 0
        for subhalo_id in mock.subhalo_ids[99]:
            centre = table["SubhaloPos"][subhalo_id].astype(np.float64)
            stars = simulation.particles(
                99,
                "subhalo",
                subhalo_id,
                4,
                ["Coordinates", "Velocities", "GFM_StellarFormationTime"],
            )
            offset = stars["Coordinates"] - centre
            offset -= box * np.round(offset / box)
            near = np.linalg.norm(offset, axis=1) < (
                2 * table["SubhaloHalfmassRadType"][subhalo_id, 4]
            )
            young = near & (stars["GFM_StellarFormationTime"] > 0.96)
            if young.sum() < 30:
                continue
            axis = angular_momentum(offset[young], stars["Velocities"][young])
            gas = simulation.particles(
                99, "subhalo", subhalo_id, 0, ["Coordinates", "Velocities", "StarFormationRate"]
            )
            dense = gas["StarFormationRate"] > 0
            gas_offset = gas["Coordinates"][dense] - centre
            gas_offset -= box * np.round(gas_offset / box)
            gas_axis = angular_momentum(gas_offset, gas["Velocities"][dense])
            assert np.degrees(np.arccos(min(1.0, axis @ gas_axis))) < 5.0
            # flat: the extent along the axis is much less than across
            height = np.std(gas_offset @ axis)
            assert height < 0.35 * np.std(gas_offset) * np.sqrt(3)
            checked += 1
        assert checked >= 3


def angular_momentum(offset, velocities):
    relative = velocities - velocities.mean(axis=0)
    total = np.cross(offset, relative).sum(axis=0)
    return total / np.linalg.norm(total)


def test_mock_temperatures_are_those_of_galaxies(mock):
    with open_simulation(mock.path) as simulation:
        for subhalo_id in mock.subhalo_ids[99]:
            gas = simulation.particles(
                99,
                "subhalo",
                subhalo_id,
                0,
                ["InternalEnergy", "ElectronAbundance", "StarFormationRate"],
            )
            kelvin = units.temperature_k(gas["InternalEnergy"], gas["ElectronAbundance"])
            forming = gas["StarFormationRate"] > 0
            assert np.all((kelvin > 5e3) & (kelvin < 10**7.6))
            assert np.all(kelvin[forming] < 10**5.6)
            assert np.all(gas["ElectronAbundance"] >= 0)


def test_mock_gas_in_the_frame_of_every_galaxy(mock):
    with open_simulation(mock.path) as simulation:
        for snap in mock.snapshots:
            fields = ["SubhaloPos", "SubhaloGrNr"]
            table = simulation.catalogue(snap, subhalo_fields=fields, group_fields=[]).subhalos
            box = simulation.header(snap).box_size
            for subhalo_id in mock.subhalo_ids[snap]:
                host = int(table["SubhaloGrNr"][subhalo_id])
                gas = simulation.particles(snap, "group", host, 0, ["Coordinates"])["Coordinates"]
                offset = gas - table["SubhaloPos"][subhalo_id].astype(np.float64)
                offset -= box * np.round(offset / box)
                assert np.count_nonzero(np.all(np.abs(offset) < 30, axis=1)) >= 8


def test_mock_awkward_cases_are_there(mock):
    output = mock.path / "output"
    with open_simulation(mock.path) as simulation:
        found = simulation.catalogue(
            99,
            subhalo_fields=["SubhaloLenType"],
            group_fields=["GroupFirstSub", "GroupNsubs", "GroupLen", "GroupLenType"],
        )
        groups, subhalos = found.groups, found.subhalos
        inner_fuzz = groups["GroupLenType"].sum(axis=0) - subhalos["SubhaloLenType"].sum(axis=0)
        edge = simulation.particles(99, "subhalo", mock.subhalo_ids[99][0], 0, ["Coordinates"])
        crossing = [
            len(simulation.rows(99, "group", number, part_type))
            for part_type in (0, 4)
            for number in range(found.n_groups_total)
        ]
        header = simulation.header(99)
        newborn = simulation.particles(
            99, "subhalo", mock.subhalo_ids[99][0], 4, ["GFM_StellarFormationTime"]
        )
    assert np.any(newborn["GFM_StellarFormationTime"] == 1.0)
    assert np.any((groups["GroupFirstSub"] == -1) & (groups["GroupNsubs"] == 0))
    assert np.any(subhalos["SubhaloLenType"][:, 0] == 0)
    assert np.all(np.diff(groups["GroupLen"]) <= 0)
    assert inner_fuzz[0] > 0
    assert header.num_part_total[0] > groups["GroupLenType"][:, 0].sum()
    assert np.ptp(edge["Coordinates"], axis=0).max() > 0.9 * header.box_size
    assert max(crossing) >= 2
    with h5py.File(output / "snapdir_099/snap_099.1.hdf5") as chunk:
        assert "PartType4" not in chunk
        assert chunk["Header"].attrs["NumPart_ThisFile"].dtype == np.int32
    with h5py.File(output / "groups_099/fof_subhalo_tab_099.3.hdf5") as chunk:
        assert len(chunk["Group"]) == len(chunk["Subhalo"]) == 0
    with h5py.File(output / "snapdir_099/snap_099.0.hdf5") as chunk:
        assert np.any(chunk["PartType4/GFM_StellarFormationTime"][()] <= 0)
        assert np.any(chunk["PartType0/ElectronAbundance"][()] == 0)
        assert chunk["PartType0/Coordinates"].dtype == np.float64
        assert "Masses" not in chunk["PartType1"]
    with h5py.File(output / "snapdir_098/snap_098.0.hdf5") as chunk:
        assert chunk["PartType0/Coordinates"].dtype == np.float32
        assert "MagneticField" not in chunk["PartType0"]


def test_mock_coordinates_are_inside_the_box(mock):
    for path in mock.path.glob("output/snapdir_*/*.hdf5"):
        with h5py.File(path) as chunk:
            for name in [name for name in chunk if name.startswith("PartType")]:
                found = chunk[name]["Coordinates"][()]
                found = found[np.isfinite(found)]
                assert np.all((found >= 0) & (found < 35000))


def test_mock_particle_ids_are_unique_and_stars_keep_them(mock):
    births = []
    for snap in (98, 99):
        ids, birth = [], []
        for path in sorted(mock.path.glob(f"output/snapdir_{snap:03d}/*.hdf5")):
            with h5py.File(path) as chunk:
                every = [chunk[n]["ParticleIDs"][()] for n in chunk if n.startswith("PartType")]
                ids += every
                if "PartType4" in chunk:
                    stars = chunk["PartType4"]
                    times = stars["GFM_StellarFormationTime"][()]
                    birth += list(zip(stars["ParticleIDs"][()], times, strict=True))
        ids = np.concatenate(ids)
        assert np.unique(ids).size == ids.size
        births.append({number: time for number, time in birth if time > 0})
    common = births[0].keys() & births[1].keys()
    assert len(common) > 0.9 * len(births[0])
    assert all(births[0][number] == births[1][number] for number in common)


def test_mock_galaxies_evolve_and_change_their_ids(mock):
    with open_simulation(mock.path) as simulation:
        rates = {
            snap: simulation.catalogue(
                snap, subhalo_fields=["SubhaloSFR", "SubhaloPos"], group_fields=[]
            ).subhalos["SubhaloSFR"][list(mock.subhalo_ids[snap])]
            for snap in (98, 99)
        }
    assert mock.subhalo_ids[98] != mock.subhalo_ids[99]
    both = (rates[98] > 0) & (rates[99] > 0)
    change = np.log10(rates[99][both] / rates[98][both])
    assert np.all(change != 0)
    assert np.median(np.abs(change)) < 0.2
    assert np.corrcoef(np.log10(rates[98][both]), np.log10(rates[99][both]))[0, 1] > 0.9


def test_mock_specific_star_formation_spans_decades(mock):
    with open_simulation(mock.path) as simulation:
        _, found = passing(simulation, 99)
    ids = list(mock.subhalo_ids[99])
    rate, mass = found.subhalos["SubhaloSFR"][ids], found.subhalos["SubhaloMass"][ids]
    specific = np.log10(rate[rate > 0] / (mass[rate > 0] * 1e10))
    assert -15 < specific.min() < specific.max() < -9.5
    assert np.ptp(specific) > 1.5


def test_mock_broken_galaxies_are_broken(mock):
    with open_simulation(mock.path) as simulation:
        fields = ["SubhaloGrNr", "SubhaloLenType", "SubhaloPos"]
        table = simulation.catalogue(99, subhalo_fields=fields, group_fields=[]).subhalos
        no_gas, unplaced, no_stars, lost = mock.broken_ids[99]
        host = int(table["SubhaloGrNr"][no_gas])
        assert simulation.particles(99, "group", host, 0, ["Masses"])["Masses"].size == 0
        found = simulation.particles(99, "subhalo", unplaced, 0, ["Coordinates"])["Coordinates"]
        assert np.all(np.isnan(found))
        assert table["SubhaloLenType"][no_stars, 4] == 0
        host = int(table["SubhaloGrNr"][no_stars])
        gas = simulation.particles(99, "group", host, 0, ["Coordinates"])["Coordinates"]
        offset = gas - table["SubhaloPos"][no_stars].astype(np.float64)
        assert np.all(offset > 30)
        assert np.all(np.isnan(table["SubhaloPos"][lost]))


@pytest.mark.parametrize("compressed", [False, True])
def test_mock_same_seed_same_bytes_whatever_the_order(tmp_path, compressed):
    options = {"galaxies": 2, "cells": 200, "compressed": compressed}
    write_mock(tmp_path / "a", snaps=[98, 99], seed=3, **options)
    write_mock(tmp_path / "b", snaps=[99, 98, 99], seed=3, **options)
    write_mock(tmp_path / "c", snaps=[98, 99], seed=4, **options)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert hashes(tmp_path / "a") != hashes(tmp_path / "c")


@pytest.mark.parametrize("snap", [0, 33, 84, 88, 99])
def test_mock_smallest_simulation_at_any_time(tmp_path, snap):
    summary = write_mock(tmp_path / "sim", galaxies=1, snaps=[snap], cells=200)
    with open_simulation(summary.path) as simulation:
        assert len(passing(simulation, snap)[0]) == 1
        assert simulation.header(snap).snapshot == snap
        (subhalo_id,) = summary.subhalo_ids[snap]
        fields = ["SubhaloPos", "SubhaloGrNr"]
        table = simulation.catalogue(snap, subhalo_fields=fields, group_fields=[]).subhalos
        host = int(table["SubhaloGrNr"][subhalo_id])
        gas = simulation.particles(snap, "group", host, 0, ["Coordinates"])["Coordinates"]
        offset = gas - table["SubhaloPos"][subhalo_id].astype(np.float64)
        offset -= 35000.0 * np.round(offset / 35000.0)
        assert np.count_nonzero(np.all(np.abs(offset) < 30, axis=1)) >= 4


def test_mock_reports_progress_to_the_end(tmp_path):
    seen = []
    write_mock(
        tmp_path / "sim",
        galaxies=1,
        snaps=[99],
        cells=200,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert [done for done, _ in seen] == list(range(1, seen[0][1] + 1))


def test_mock_leaves_a_folder_with_files_alone(tmp_path):
    (tmp_path / "sim").mkdir()
    (tmp_path / "sim" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        write_mock(tmp_path / "sim", galaxies=1, snaps=[99], cells=200)
    assert [path.name for path in tmp_path.iterdir()] == ["sim"]


def test_mock_writes_where_a_link_leads(tmp_path):
    (tmp_path / "there").mkdir()
    out = tmp_path / "link"
    out.symlink_to("there")
    assert write_mock(out, galaxies=1, snaps=[99], cells=100).path == out
    assert out.is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "there"]
    assert (tmp_path / "there/output").is_dir()


def test_mock_takes_an_empty_folder_and_leaves_nothing_else(tmp_path):
    (tmp_path / "sim").mkdir()
    write_mock(tmp_path / "sim", galaxies=1, snaps=[99], cells=200)
    assert sorted(path.name for path in (tmp_path / "sim").iterdir()) == [
        "output",
        "postprocessing",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["sim"]


def test_mock_interrupted_leaves_nothing(tmp_path):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_mock(tmp_path / "sim", galaxies=1, snaps=[99], cells=200, on_progress=interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"galaxies": 0}, RangeError, "galaxies"),
        ({"cells": 0}, RangeError, "cells"),
        ({"seed": -1}, RangeError, "seed"),
        ({"snaps": []}, RangeError, "snaps"),
        ({"snaps": [100]}, RangeError, "snap is 100"),
        ({"snaps": [-1]}, RangeError, "snap is -1"),
        ({"signal": "entropy"}, ConfigError, "not available yet"),
        ({"signal": "colour"}, ConfigError, "allowed"),
    ],
)
def test_mock_refuses_what_makes_no_sense(tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        write_mock(tmp_path / "sim", **{"galaxies": 1, "snaps": [99], "cells": 200, **options})
    assert list(tmp_path.iterdir()) == []


def test_mock_signals_are_those_that_exist():
    assert SIGNALS == ("physical",)
