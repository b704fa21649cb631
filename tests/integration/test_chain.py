"""Simulation to images on a mock simulation, against NumPy and illustris_python."""

import json

import h5py
import illustris_python as il
import numpy as np
import pytest

from sfr.errors import EmptySelectionError
from sfr.imaging.images import write_images
from sfr.imaging.normalise import find_normalisation
from sfr.imaging.png import read_png
from sfr.recipe import load_recipe
from sfr.render.snapshot import render_snapshot
from sfr.run.names import ImageId
from sfr.run.shards import iter_shards
from sfr.run.workspace import Workspace
from sfr.sample.select import select
from sfr.simulation import open_simulation
from sfr.simulation.mock import write_mock

RECIPE = load_recipe("thesis")
K_B, M_P, KEV, X_H = 1.380649e-16, 1.67262192e-24, 1.602176634e-9, 0.76
SNAPSHOTS = (98, 99)


def render(simulation, workspace, recipe=RECIPE, **options):
    sample = select(simulation, workspace, recipe, SNAPSHOTS).sample
    return [
        render_snapshot(simulation, workspace, recipe, sample, snap, **options)
        for snap in SNAPSHOTS
    ]


@pytest.fixture(scope="module")
def mock_sim(tmp_path_factory):
    """A mock with enough young stars for the first rungs of the ladder."""
    folder = tmp_path_factory.mktemp("mock") / "sim"
    return write_mock(folder, galaxies=6, snaps=SNAPSHOTS, cells=3000).path


@pytest.fixture(scope="module")
def rendered(mock_sim, tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("work"))
    simulation = open_simulation(mock_sim)
    render(simulation, workspace)
    normalisation = find_normalisation(
        iter_shards(workspace, 99), RECIPE.normalisation, snapshot=99
    )
    for snap in SNAPSHOTS:
        write_images(workspace, RECIPE, snap, normalisation)
    return simulation, workspace, normalisation


def published_cut(base, snap):
    """The listing's selection, from the catalogue as illustris_python reads it."""
    subhalos = il.groupcat.loadSubhalos(
        base,
        snap,
        fields=["SubhaloFlag", "SubhaloMass", "SubhaloMassType", "SubhaloGrNr", "SubhaloSFR"],
    )
    groups = il.groupcat.loadHalos(base, snap, fields=["GroupMass", "GroupFirstSub"])
    stellar = subhalos["SubhaloMassType"][:, 4]
    keep = (
        (stellar > 0.5)
        & (stellar < 100)
        & (subhalos["SubhaloMass"] < 200)
        & (groups["GroupMass"][subhalos["SubhaloGrNr"]] < 500)
        & (subhalos["SubhaloFlag"] != 0)
    )
    ids = np.flatnonzero(keep)
    ssfr = subhalos["SubhaloSFR"][ids].astype(float) / (subhalos["SubhaloMass"][ids] * 1e10)
    return ids, ssfr, subhalos["SubhaloGrNr"][ids]


def test_the_sample_is_the_listing_s(rendered, mock_sim, capsys):
    simulation, workspace, _ = rendered
    sample = select(simulation, workspace, RECIPE, SNAPSHOTS).sample
    for snap in SNAPSHOTS:
        rows = sample["snapshot"] == snap
        ids, ssfr, groups = published_cut(str(mock_sim / "output"), snap)
        np.testing.assert_array_equal(sample["subhalo_id"][rows], ids)
        np.testing.assert_array_equal(sample["group_id"][rows], groups)
        np.testing.assert_allclose(sample["ssfr_per_yr"][rows], ssfr, rtol=1e-6)
        assert len(ids) == 6


def test_the_same_galaxy_has_the_same_id_in_both_snapshots(rendered, mock_sim, capsys):
    simulation, workspace, _ = rendered
    sample = select(simulation, workspace, RECIPE, SNAPSHOTS).sample
    by_snap = {s: sample["galaxy_id"][sample["snapshot"] == s] for s in SNAPSHOTS}
    both = np.intersect1d(by_snap[98], by_snap[99])
    assert len(both) >= 4
    for galaxy in both:
        rows = np.flatnonzero(sample["galaxy_id"] == galaxy)
        late = rows[sample["snapshot"][rows] == 99][0]
        branch = il.sublink.loadTree(
            str(mock_sim / "output"),
            99,
            int(sample["subhalo_id"][late]),
            fields=["SnapNum", "SubfindID"],
            onlyMPB=True,
        )
        pairs = set(zip(branch["SnapNum"].tolist(), branch["SubfindID"].tolist(), strict=True))
        for row in rows:
            assert (int(sample["snapshot"][row]), int(sample["subhalo_id"][row])) in pairs


def expected_maps(base, snap, group, centre, rotation):
    """Sums of K, m and log10 T by NumPy: the published formulae and index, one cell at a time."""
    gas = il.snapshot.loadHalo(
        base,
        snap,
        group,
        0,
        fields=["Coordinates", "Masses", "Density", "InternalEnergy", "ElectronAbundance"],
    )
    with h5py.File(f"{base}/snapdir_{snap:03d}/snap_{snap:03d}.0.hdf5") as file:
        header = dict(file["Header"].attrs)
    a, h, box = header["Time"], header["HubbleParam"], header["BoxSize"]
    d = gas["Coordinates"].astype(float) - centre
    d -= box * np.round(d / box)
    q = d @ rotation.T
    x_e = gas["ElectronAbundance"].astype(float)
    mu = 4 * M_P / (1 + 3 * X_H + 4 * X_H * x_e)
    t = (2 / 3) * gas["InternalEnergy"].astype(float) / K_B * 1e10 * mu
    rho = gas["Density"].astype(float) * h**2 / a**3 * 1.989e43 / 3.085678e21**3
    with np.errstate(divide="ignore"):
        k = K_B * t / KEV / (x_e * X_H * rho / M_P) ** (2 / 3)
    inside = (np.abs(q[:, :2] + 1e-300) <= 30).all(axis=1) & (q[:, :2] < 30).all(axis=1)
    index = np.floor((q[:, :2] + 30) / 60 * 0.99 * 256).astype(int)
    maps = np.zeros((3, 256, 256))
    for channel, weight in enumerate((k, gas["Masses"].astype(float), np.log10(t))):
        use = inside & np.isfinite(weight)
        np.add.at(maps[channel], (index[use, 1], index[use, 0]), weight[use])
    return maps, inside.sum()


@pytest.mark.parametrize("snap", SNAPSHOTS)
def test_maps_are_what_numpy_and_illustris_python_make(rendered, mock_sim, snap):
    simulation, workspace, _ = rendered
    sample = select(simulation, workspace, RECIPE, SNAPSHOTS).sample
    group_of = dict(
        zip(
            zip(sample["snapshot"].tolist(), sample["subhalo_id"].tolist(), strict=True),
            sample["group_id"].tolist(),
            strict=True,
        )
    )
    seen = 0
    for shard in iter_shards(workspace, snap):
        for i, subhalo in enumerate(shard.columns["subhalo_id"].tolist()):
            expected, n = expected_maps(
                str(mock_sim / "output"),
                snap,
                group_of[snap, subhalo],
                shard.columns["centre"][i],
                shard.columns["rotation"][i],
            )
            np.testing.assert_allclose(shard.maps[i], expected, rtol=2e-6, atol=1e-12)
            assert shard.columns["n_in_frame"][i] == n
            counted = ("n_in_frame", "n_out_of_frame", "n_bad_coordinates")
            assert sum(shard.columns[name][i] for name in counted) == shard.columns["n_read"][i]
            np.testing.assert_allclose(
                shard.columns["sum_in_frame"][i], expected.sum(axis=(1, 2)), rtol=1e-12
            )
            assert not shard.maps[i][:, 254:].any(), "the listing's index never reaches 254"
            seen += 1
    assert seen == 6


def test_galaxies_are_face_on(rendered, mock_sim):
    simulation, workspace, _ = rendered
    sample = select(simulation, workspace, RECIPE, SNAPSHOTS).sample
    radius_of = dict(
        zip(
            sample["subhalo_id"][sample["snapshot"] == 99].tolist(),
            sample["stellar_half_mass_radius_ckpc_h"][sample["snapshot"] == 99].tolist(),
            strict=True,
        )
    )
    checked = 0
    for shard in iter_shards(workspace, 99, with_maps=False):
        for i, subhalo in enumerate(shard.columns["subhalo_id"].tolist()):
            source = str(shard.columns["orientation_source"][i])
            if not source.startswith("stars<"):
                continue
            limit = float(source.removeprefix("stars<").removesuffix("Gyr"))
            stars = il.snapshot.loadSubhalo(
                str(mock_sim / "output"),
                99,
                subhalo,
                4,
                fields=["Coordinates", "Velocities", "GFM_StellarFormationTime", "Masses"],
            )
            d = stars["Coordinates"] - shard.columns["centre"][i]
            d -= 35000.0 * np.round(d / 35000.0)
            birth = stars["GFM_StellarFormationTime"].astype(float)
            scale = 2 / 3 / np.sqrt(0.6911) * 977.79 / 67.74 * np.sqrt(1.0)
            age = scale * (
                np.arcsinh(np.sqrt(0.6911 / 0.3089))
                - np.arcsinh(np.sqrt(0.6911 / 0.3089) * np.maximum(birth, 0) ** 1.5)
            )
            use = (birth > 0) & (age < limit) & (np.linalg.norm(d, axis=1) < 2 * radius_of[subhalo])
            bulk = np.average(stars["Velocities"][use], axis=0, weights=stars["Masses"][use])
            spin = np.cross(d[use], stars["Velocities"][use] - bulk).sum(axis=0)
            turned = shard.columns["rotation"][i] @ (spin / np.linalg.norm(spin))
            np.testing.assert_allclose(turned, [0, 0, 1], atol=1e-4)
            assert shard.columns["orientation_count"][i] == pytest.approx(use.sum(), abs=2)
            checked += 1
    assert checked >= 2


def test_images_are_the_stretched_maps(rendered):
    _, workspace, normalisation = rendered
    peaks = np.max([s.maps.max(axis=(0, 2, 3)) for s in iter_shards(workspace, 99)], axis=0)
    np.testing.assert_array_equal(peaks, np.float32(normalisation.maxima))
    shard = next(iter_shards(workspace, 98))
    rgb = shard.maps[0].astype(float) / peaks.astype(float)[:, None, None]
    intensity = rgb.sum(axis=0) / 3
    with np.errstate(invalid="ignore", divide="ignore"):
        f = np.arcsinh(np.abs(intensity) / 0.001) / np.arcsinh(1000) / intensity
    expected = np.floor(255 * np.clip(rgb * np.where(intensity == 0, 0, f), 0, 1))
    picture = read_png(workspace.image(ImageId(98, int(shard.columns["subhalo_id"][0]))))
    difference = np.abs(picture.astype(int) - np.moveaxis(expected[:, ::-1], 0, -1))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_any_number_of_threads_gives_the_same_bytes(mock_sim, tmp_path):
    simulation = open_simulation(mock_sim)
    found = []
    for threads in (1, 3):
        workspace = Workspace(tmp_path / str(threads))
        render(simulation, workspace, threads=threads)
        found.append([path.read_bytes() for snap in SNAPSHOTS for path in workspace.shards(snap)])
    assert found[0] == found[1]


def test_an_interrupted_render_goes_on_and_ends_with_the_same_bytes(
    mock_sim, tmp_path, monkeypatch
):
    monkeypatch.setattr("sfr.render.plan.SHARD_SIZE", 2)
    simulation = open_simulation(mock_sim)
    whole, broken = Workspace(tmp_path / "whole"), Workspace(tmp_path / "broken")
    render(simulation, whole)

    def interrupt(label, done, total, cells):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(simulation, broken, on_progress=interrupt)
    kept = {path: path.stat().st_mtime_ns for path in broken.shards(98)}
    assert 1 <= len(kept) <= 2
    render(simulation, broken)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    for snap in SNAPSHOTS:
        names = [path.name for path in whole.shards(snap)]
        assert len(names) >= 3
        assert [p.read_bytes() for p in whole.shards(snap)] == [
            p.read_bytes() for p in broken.shards(snap)
        ]


def test_other_settings_redo_the_maps_and_the_same_ones_do_not(mock_sim, tmp_path):
    simulation, workspace = open_simulation(mock_sim), Workspace(tmp_path)
    assert [s.reason for s in render(simulation, workspace)] == ["new", "new"]
    assert [s.reason for s in render(simulation, workspace)] == ["", ""]
    other = RECIPE.with_fields("maps", pixels=64)
    assert all("changed" in s.reason for s in render(simulation, workspace, other))
    assert next(iter_shards(workspace, 99)).maps.shape[-2:] == (64, 64)


def test_corrected_channels_are_logarithms_of_physical_quantities(mock_sim, tmp_path):
    recipe = load_recipe("corrected")
    simulation, workspace = open_simulation(mock_sim), Workspace(tmp_path)
    render(simulation, workspace, recipe.with_fields("sample", stellar_mass_min=0.1))
    shard = next(iter_shards(workspace, 99))
    entropy, mass, temperature = np.moveaxis(shard.maps, 1, 0)
    filled = np.isfinite(mass)
    assert filled.any()
    assert (np.isfinite(temperature) <= filled).all()
    assert 3 < np.nanmin(temperature) < np.nanmax(temperature) < 8
    area = (60 / 256 / 0.6774) ** 2
    total = np.nansum(10.0 ** mass.astype(float), axis=(1, 2)) * area
    assert ((total > 1e8) & (total < 1e13)).all()
    assert set(shard.columns["orientation_source"].tolist()) <= {"youngest25%", "sf_gas", "none"}
    assert np.isfinite(entropy[filled]).mean() > 0.9


def test_shards_say_what_they_hold(rendered):
    _, workspace, normalisation = rendered
    shard = next(iter_shards(workspace, 99))
    assert list(shard.attributes["channel_names"]) == ["entropy", "mass", "temperature"]
    assert list(shard.attributes["channel_units"]) == [
        "sum over cells of K [keV cm^2]",
        "sum over cells of m [1e10 Msun/h]",
        "sum over cells of log10 T [K]",
    ]
    assert shard.maps.dtype == np.float32
    assert shard.attributes["pixel_scale_ckpc_h"] == pytest.approx(60 / (256 * 0.99))
    assert shard.columns["rotation"].shape == (6, 3, 3)
    json.dumps(normalisation.document, allow_nan=False)
    assert set(normalisation.document["candidates"]) == {
        "sum_mass",
        "sum_log10_temperature",
        "sum_mass_temperature",
        "sum_entropy",
        "sum_log10_entropy",
        "sum_log10_entropy_k_cm2",
        "sum_log10_entropy_code",
    }


def test_a_snapshot_without_a_galaxy_in_the_sample_is_an_error(rendered):
    simulation, workspace, _ = rendered
    sample = select(simulation, workspace, RECIPE, SNAPSHOTS).sample
    with pytest.raises(EmptySelectionError, match="97"):
        render_snapshot(simulation, workspace, RECIPE, sample, 97)
