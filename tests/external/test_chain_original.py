"""select, doctor and map on original files of IllustrisTNG."""

import json

import h5py
import numpy as np
import pytest
from astropy import constants, units

from sfr.imaging.png import read_png
from sfr.recipe import Channel, load_recipe
from sfr.render import fields as registry
from sfr.render import reference
from sfr.units import electron_density_cgs, entropy_kev_cm2, temperature_k

pytestmark = pytest.mark.external


@pytest.fixture
def chunk(external_data):
    return external_data / "subbox/snapdir_2332/snap_2332.4.hdf5"


def test_select_on_an_incomplete_download(sfr, external_data, tmp_path):
    (tmp_path / "TNG100-2/output").mkdir(parents=True)
    (tmp_path / "TNG100-2/output/groups_099").symlink_to(external_data / "groups_099")
    refused = sfr("select", "--sim", "TNG100-2", "--snap", 99)
    assert refused.exit_code == 3
    assert "50 of 56 group-catalogue chunks are missing" in refused.stderr
    assert "fof_subhalo_tab_099.6.hdf5" in refused.stderr
    thesis = sfr("select", "--sim", "TNG100-2", "--snap", 99, "--allow-partial")
    assert thesis.exit_code == 3
    assert "0 below the group mass" in thesis.stderr, "the first chunks hold the largest groups"
    (tmp_path / "wide.toml").write_text(
        'extends = "thesis"\n[sample]\ntotal_mass_max = 1e6\ngroup_mass_max = 1e6\n'
    )
    found = sfr(
        "select",
        "--sim",
        "TNG100-2",
        "--snap",
        99,
        "--allow-partial",
        "--recipe",
        "wide.toml",
        "--json",
    )
    row = json.loads(found.stdout)["snapshots"][0]
    assert (row["selected"], row["read"], row["missing chunks"]) == (587, 18919, 50)
    doctor = sfr("doctor", "--sim", "TNG100-2", "--json")
    assert doctor.exit_code == 3
    checks = {c["check"]: c for c in json.loads(doctor.stdout)["checks"]}
    assert "50 of 56" in checks["99 group catalogue"]["detail"]
    assert checks["99 offsets"]["state"] == "missing"


def test_select_behind_a_gap_gives_the_rows_of_the_whole(sfr, external_data, tmp_path):
    """Without the offsets file it ended with "no galaxy passes the cuts"."""
    (tmp_path / "wide.toml").write_text(
        'extends = "thesis"\n[sample]\ntotal_mass_max = 1e6\ngroup_mass_max = 1e6\n'
    )
    tables = []
    for name, numbers in (("whole", range(6)), ("part", (1, 3, 4))):
        folder = tmp_path / name / "output/groups_099"
        folder.mkdir(parents=True)
        for number in numbers:
            path = external_data / f"groups_099/fof_subhalo_tab_099.{number}.hdf5"
            (folder / path.name).symlink_to(path)
        options = ("--snap", 99, "--allow-partial", "--recipe", "wide.toml")
        result = sfr("select", "--sim", name, "--work", f"{name}-run", *options)
        assert result.exit_code == 0, result.stderr
        tables.append((tmp_path / f"{name}-run/sample.csv").read_text("utf-8").splitlines())
    whole, part = tables
    # of groups 2, 5, 6 (chunks 1 and 3) and 7, 8 (chunk 4)
    assert part[1:] == [row for row in whole[1:] if row.split(",")[2] in {"2", "5", "6", "7", "8"}]
    assert len(part) > 200


def test_map_of_an_original_chunk_around_its_densest_cell(sfr, chunk, tmp_path):
    result = sfr("map", chunk, "--out", "map", "--pixels", 64, "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    with h5py.File(chunk) as file:
        gas = {name: file["PartType0"][name][()] for name in ("Coordinates", "Density", "Masses")}
    centre = gas["Coordinates"][np.argmax(gas["Density"])]
    np.testing.assert_array_equal(summary["centre_ckpc_h"], centre)
    d = gas["Coordinates"] - centre
    inside = (np.abs(d[:, :2]) < 30).all(axis=1)
    assert summary["n_in_frame"] == inside.sum() == 189
    with h5py.File(tmp_path / "map/maps.hdf5") as file:
        assert file["maps"].shape == (1, 3, 64, 64)
        np.testing.assert_allclose(file["maps"][0, 1].sum(), gas["Masses"][inside].sum(), rtol=1e-5)
    assert read_png(tmp_path / "map/rgb.png").any()


def test_temperature_and_entropy_of_original_cells_agree_with_astropy(chunk):
    with h5py.File(chunk) as file:
        names = ("InternalEnergy", "ElectronAbundance", "Density")
        u, x_e, density = (file["PartType0"][name][()].astype(float) for name in names)
        header = dict(file["Header"].attrs)
    a, h = header["Time"], header["HubbleParam"]
    mu = 4 / (1 + 3 * 0.76 + 4 * 0.76 * x_e) * constants.m_p
    t = (2 / 3 * u * (units.km / units.s) ** 2 * mu / constants.k_B).to("K")
    rho = density * 1e10 * 1.989e33 * units.g / h / (3.085678e21 * units.cm * a / h) ** 3
    n_e = (x_e * 0.76 * rho / constants.m_p).to("cm-3")
    k = (constants.k_B * t / n_e ** (2 / 3)).to("keV cm2")
    found_t = temperature_k(u, x_e)
    found_n = electron_density_cgs(density, x_e, a, h)
    np.testing.assert_allclose(found_t, t.value, rtol=1e-6)
    np.testing.assert_allclose(found_n, n_e.value, rtol=1e-6)
    np.testing.assert_allclose(entropy_kev_cm2(found_t, found_n), k.value, rtol=1e-6)
    assert 5e3 < np.median(found_t) < 1e6


def test_which_logarithms_of_the_entropy_are_positive_in_star_forming_gas(external_data):
    """METHOD 2.4 ruled out sums of logarithms by those in keV cm^2 alone."""
    with h5py.File(external_data / "subbox/snapdir_2332/snap_2332.3.hdf5") as file:
        fields = {name: file["PartType0"][name][()] for name in file["PartType0"]}
        header = dict(file["Header"].attrs)
    forming = fields["StarFormationRate"] > 0
    cells = {name: values[forming] for name, values in fields.items()}
    setting = registry.Setting(header["Time"], header["HubbleParam"], np.zeros(3), 1.0)
    ranges = {
        "log10_entropy": (-2.3, -2.0),
        "log10_entropy_k_cm2": (4.8, 5.1),
        "log10_entropy_code": (6.1, 6.3),
    }
    for name, (low, high) in ranges.items():
        values = reference.columns(registry.weight(Channel("x", name), cells, setting))[0]
        assert len(values) == 5
        assert low < values.min() < values.max() < high


def test_the_ranges_of_corrected_hold_the_gas_of_galaxies(external_data):
    """The numbers of docs/recipes.md: smallest value, median, 99.9 %."""
    with h5py.File(external_data / "subbox/snapdir_2332/snap_2332.3.hdf5") as file:
        cells = {name: file["PartType0"][name][()] for name in file["PartType0"]}
        header = dict(file["Header"].attrs)
    setting = registry.Setting(header["Time"], header["HubbleParam"], np.zeros(3), 1.0)
    stated = {"entropy": [-2.24, 1.54, 3.18], "temperature": [2.55, 5.00, 5.87]}
    dense = cells["Density"] > 1e3 * np.median(cells["Density"])
    assert dense.sum() > 50
    for channel in load_recipe("corrected").maps.channels:
        if channel.name not in stated:
            continue
        made = Channel("x", channel.field)
        values = reference.columns(registry.weight(made, cells, setting))[0]
        np.testing.assert_allclose(
            np.quantile(values, [0, 0.5, 0.999]), stated[channel.name], atol=0.006
        )
        low, high = channel.range
        # a cell of dense gas as cool as 350 K
        assert np.sum((values[dense] < low) | (values[dense] > high)) <= 1


@pytest.mark.parametrize("options", [(), ("--normal", "1,0,0"), ("--width", 500, "--depth", 100)])
def test_map_and_doctor_take_every_original_file(sfr, external_data, options):
    files = [*external_data.glob("cutouts/*"), *external_data.glob("subbox/*/*")]
    assert len(files) == 12
    for number, path in enumerate(files):
        result = sfr("map", path, "--out", f"m{number}", "--pixels", 32, *options)
        with h5py.File(path) as file:
            has = "PartType0" in file and "Density" in file["PartType0"]
        assert result.exit_code == (0 if has else 3), result.output
        assert sfr("doctor", "--sim", path, "--json").exit_code in (0, 3)
