"""The registry of gas quantities and the finished channels."""

import dataclasses

import numpy as np
import pytest

from sfr import units
from sfr.errors import ConfigError
from sfr.plot.maps import field_colours
from sfr.recipe import Channel, load_recipe
from sfr.render import gas, kernels

#: What is summed, and its unit: as it is, its logarithm, then both times a mass and a volume.
VALUES = {
    "mass": (
        "m [1e10 Msun/h]", "log10 m [1e10 Msun/h]",
        "m^2 [(1e10 Msun/h)^2]", "m log10(m / (1e10 Msun/h)) [1e10 Msun/h]",
        "V m [(ckpc/h)^3 (1e10 Msun/h)]", "V log10(m / (1e10 Msun/h)) [(ckpc/h)^3]",
    ),
    "surface_density": (
        "m / pixel area [Msun/kpc^2]", "log10 (m / pixel area) [Msun/kpc^2]",
        "m (m / pixel area) [1e10 Msun/h (Msun/kpc^2)]",
        "m log10((m / pixel area) / (Msun/kpc^2)) [1e10 Msun/h]",
        "V (m / pixel area) [(ckpc/h)^3 (Msun/kpc^2)]",
        "V log10((m / pixel area) / (Msun/kpc^2)) [(ckpc/h)^3]",
    ),
    "temperature": (
        "T [K]", "log10 T [K]",
        "m T [1e10 Msun/h K]", "m log10(T / K) [1e10 Msun/h]",
        "V T [(ckpc/h)^3 K]", "V log10(T / K) [(ckpc/h)^3]",
    ),
    "entropy": (
        "K [keV cm^2]", "log10 K [keV cm^2]",
        "m K [1e10 Msun/h (keV cm^2)]", "m log10(K / (keV cm^2)) [1e10 Msun/h]",
        "V K [(ckpc/h)^3 (keV cm^2)]", "V log10(K / (keV cm^2)) [(ckpc/h)^3]",
    ),
    "entropy_k_cm2": (
        "T / n_e^(2/3) [K cm^2]", "log10 (T / n_e^(2/3)) [K cm^2]",
        "m (T / n_e^(2/3)) [1e10 Msun/h (K cm^2)]",
        "m log10((T / n_e^(2/3)) / (K cm^2)) [1e10 Msun/h]",
        "V (T / n_e^(2/3)) [(ckpc/h)^3 (K cm^2)]",
        "V log10((T / n_e^(2/3)) / (K cm^2)) [(ckpc/h)^3]",
    ),
    "entropy_code": (
        "T / rho^(2/3) [K (ckpc/h)^2 (1e10 Msun/h)^(-2/3)]",
        "log10 (T / rho^(2/3)) [K (ckpc/h)^2 (1e10 Msun/h)^(-2/3)]",
        "m (T / rho^(2/3)) [1e10 Msun/h (K (ckpc/h)^2 (1e10 Msun/h)^(-2/3))]",
        "m log10((T / rho^(2/3)) / (K (ckpc/h)^2 (1e10 Msun/h)^(-2/3))) [1e10 Msun/h]",
        "V (T / rho^(2/3)) [(ckpc/h)^3 (K (ckpc/h)^2 (1e10 Msun/h)^(-2/3))]",
        "V log10((T / rho^(2/3)) / (K (ckpc/h)^2 (1e10 Msun/h)^(-2/3))) [(ckpc/h)^3]",
    ),
    "density": (
        "rho [g/cm^3]", "log10 rho [g/cm^3]",
        "m rho [1e10 Msun/h (g/cm^3)]", "m log10(rho / (g/cm^3)) [1e10 Msun/h]",
        "V rho [(ckpc/h)^3 (g/cm^3)]", "V log10(rho / (g/cm^3)) [(ckpc/h)^3]",
    ),
    "electron_density": (
        "n_e [cm^-3]", "log10 n_e [cm^-3]",
        "m n_e [1e10 Msun/h cm^-3]", "m log10(n_e / cm^-3) [1e10 Msun/h]",
        "V n_e [(ckpc/h)^3 cm^-3]", "V log10(n_e / cm^-3) [(ckpc/h)^3]",
    ),
    "metallicity": (
        "Z [mass fraction]", "log10 Z [mass fraction]",
        "m Z [1e10 Msun/h]", "m log10(Z) [1e10 Msun/h]",
        "V Z [(ckpc/h)^3]", "V log10(Z) [(ckpc/h)^3]",
    ),
    "sfr": (
        "SFR [Msun/yr]", "log10 SFR [Msun/yr]",
        "m SFR [1e10 Msun/h (Msun/yr)]", "m log10(SFR / (Msun/yr)) [1e10 Msun/h]",
        "V SFR [(ckpc/h)^3 (Msun/yr)]", "V log10(SFR / (Msun/yr)) [(ckpc/h)^3]",
    ),
    "internal_energy": (
        "u [km^2/s^2]", "log10 u [km^2/s^2]",
        "m u [1e10 Msun/h (km^2/s^2)]", "m log10(u / (km^2/s^2)) [1e10 Msun/h]",
        "V u [(ckpc/h)^3 (km^2/s^2)]", "V log10(u / (km^2/s^2)) [(ckpc/h)^3]",
    ),
    "speed": (
        "|v| [km/s]", "log10 |v| [km/s]",
        "m |v| [1e10 Msun/h (km/s)]", "m log10(|v| / (km/s)) [1e10 Msun/h]",
        "V |v| [(ckpc/h)^3 (km/s)]", "V log10(|v| / (km/s)) [(ckpc/h)^3]",
    ),
    "magnetic_field": (
        "|B| [G]", "log10 |B| [G]",
        "m |B| [1e10 Msun/h G]", "m log10(|B| / G) [1e10 Msun/h]",
        "V |B| [(ckpc/h)^3 G]", "V log10(|B| / G) [(ckpc/h)^3]",
    ),
}  # fmt: skip

RNG = np.random.default_rng(2)
N = 20


@pytest.fixture
def cells():
    fields = {
        "Masses": RNG.random(N, np.float32) + 0.1,
        "Density": RNG.random(N, np.float32) + 0.1,
        "InternalEnergy": 1e3 * (RNG.random(N, np.float32) + 0.1),
        "ElectronAbundance": RNG.random(N, np.float32) + 0.1,
        "StarFormationRate": np.where(np.arange(N) < 5, 1.0, 0.0).astype(np.float32),
        "GFM_Metallicity": RNG.random(N, np.float32),
        "Velocities": RNG.normal(size=(N, 3)).astype(np.float32),
        "MagneticField": RNG.normal(size=(N, 3)).astype(np.float32),
    }
    return gas.Cells(fields, 0.9, 0.7, np.array([1.0, 2.0, 3.0]), 0.25)


@pytest.mark.parametrize("name", sorted(gas.FIELDS))
def test_every_quantity_can_be_computed_from_the_fields_that_it_names(cells, name):
    field = gas.FIELDS[name]
    only = dataclasses.replace(cells, fields={k: cells.fields[k] for k in field.needs})
    for channel in (Channel(name, name), Channel(name, f"log10_{name}")):
        values, divisor = gas.weights(channel, only)
        assert values.shape == (N,)
        assert divisor is None
    assert gas.required_fields([Channel("x", name)]) == sorted(field.needs)


@pytest.mark.parametrize("name", sorted(gas.FIELDS))
def test_units_say_which_statistic_of_what_they_are_of(name):
    """They said log10(K) and keV cm^2 of sums over cells."""
    plain, log, by_mass, log_by_mass, by_volume, log_by_volume = VALUES[name]
    expected = {
        ("none", "sum"): ("sum over cells of ", plain, log),
        ("mass", "sum"): ("sum over cells of ", by_mass, log_by_mass),
        ("volume", "sum"): ("sum over cells of ", by_volume, log_by_volume),
        ("none", "mean"): ("mean over cells of ", plain, log),
        ("mass", "mean"): ("mass-weighted mean over cells of ", plain, log),
        ("volume", "mean"): ("volume-weighted mean over cells of ", plain, log),
    }
    for (weight, statistic), (words, *values) in expected.items():
        for field, value in zip((name, f"log10_{name}"), values, strict=True):
            made = Channel("x", field, weight=weight, statistic=statistic)
            assert gas.channel_unit(made) == words + value
            finished = dataclasses.replace(made, transform="log10")
            assert gas.channel_unit(finished) == f"log10 of the {words}{value}"
            quiet = words if name in ("mass", "surface_density", "sfr") else (
                words.replace("over cells", "over cells without star formation")
            )  # fmt: skip
            assert gas.channel_unit(made, star_forming_gas="out") == quiet + value


def test_units_of_the_built_in_recipes():
    found = {
        name: [gas.channel_unit(channel) for channel in load_recipe(name).maps.channels]
        for name in ("thesis", "corrected")
    }
    assert found == {
        "thesis": [
            "sum over cells of K [keV cm^2]",
            "sum over cells of m [1e10 Msun/h]",
            "sum over cells of log10 T [K]",
        ],
        "corrected": [
            "mass-weighted mean over cells of log10 K [keV cm^2]",
            "log10 of the sum over cells of m / pixel area [Msun/kpc^2]",
            "mass-weighted mean over cells of log10 T [K]",
        ],
    }


def test_every_quantity_has_colours_of_its_own_kind():
    """They went by the place among the panels: temperature alone had those of entropy."""
    for name in gas.FIELDS:
        assert field_colours(name) == field_colours(f"log10_{name}") != field_colours("unknown")
    assert [field_colours(name) for name in ("entropy", "mass", "temperature")] == [
        "plasma", "viridis", "inferno",
    ]  # fmt: skip


def test_further_readings_of_the_entropy_have_the_stated_units(cells):
    t = units.temperature_k(cells.fields["InternalEnergy"], cells.fields["ElectronAbundance"])
    kev = gas.weights(Channel("k", "entropy"), cells)[0]
    kelvin = gas.weights(Channel("k", "entropy_k_cm2"), cells)[0]
    np.testing.assert_allclose(kelvin * units.BOLTZMANN_CGS / units.KEV_IN_ERG, kev)
    code = gas.weights(Channel("k", "entropy_code"), cells)[0]
    rho = cells.fields["Density"].astype(float)
    np.testing.assert_allclose(code, t / rho ** (2 / 3))


@pytest.mark.parametrize("field", ["temperature", "entropy", "entropy_k_cm2", "entropy_code"])
@pytest.mark.parametrize("prefix", ["", "log10_"])
@pytest.mark.parametrize("weight", ["none", "mass"])
def test_the_kernels_make_the_same_values(cells, field, prefix, weight):
    channel = Channel("x", prefix + field, weight=weight)
    expected, _ = gas.weights(channel, cells)
    thermal, _ = gas.kernel_weights(channel, cells)
    found = kernels.project(
        np.arange(3.0 * N).reshape(N, 3) % N, [thermal],
        center=(N / 2,) * 3, box_size=None, rotation=None, half_width=N, bins=1,
    ).ledger.sum_in_frame  # fmt: skip
    assert found == pytest.approx([np.sum(expected, dtype=float)], rel=1e-6)


def test_thesis_channels_are_sums_of_k_m_and_log_t(cells):
    t = units.temperature_k(cells.fields["InternalEnergy"], cells.fields["ElectronAbundance"])
    n_e = units.electron_density_cgs(
        cells.fields["Density"], cells.fields["ElectronAbundance"], 0.9, 0.7
    )
    entropy, mass, temperature = load_recipe("thesis").maps.channels
    np.testing.assert_allclose(gas.weights(entropy, cells)[0], units.entropy_kev_cm2(t, n_e))
    np.testing.assert_array_equal(gas.weights(mass, cells)[0], cells.fields["Masses"])
    np.testing.assert_allclose(gas.weights(temperature, cells)[0], np.log10(t))


def test_a_weighted_mean_divides_by_the_weights_of_the_same_cells(cells):
    cells.fields["ElectronAbundance"][3] = np.nan
    channel = Channel("t", "temperature", weight="mass", statistic="mean")
    top, bottom = gas.weights(channel, cells)
    assert not np.isfinite(top[3])
    assert bottom[3] == 0
    good = np.arange(N) != 3
    t = units.temperature_k(cells.fields["InternalEnergy"], cells.fields["ElectronAbundance"])
    found = gas.finish(channel, np.array([[top[good].sum()]]), np.array([[bottom.sum()]]))
    expected = np.average(t[good], weights=cells.fields["Masses"][good])
    np.testing.assert_allclose(found, [[expected]], rtol=1e-6)


def test_star_forming_gas_is_left_out_of_all_but_the_matter(cells):
    for name in ("entropy", "temperature"):
        values, _ = gas.weights(Channel("x", name), cells, star_forming_gas="out")
        assert not values[:5].any()
        assert (values[5:] > 0).all()
    mass, _ = gas.weights(Channel("m", "mass"), cells, star_forming_gas="out")
    np.testing.assert_array_equal(mass, cells.fields["Masses"])
    assert "StarFormationRate" in gas.required_fields(
        [Channel("m", "mass")], star_forming_gas="out"
    )


def test_empty_pixels_are_zero_in_a_sum_and_nan_in_a_mean_or_a_logarithm():
    total = np.array([[0.0, 4.0]])
    assert gas.finish(Channel("m", "mass"), total, None).tolist() == [[0.0, 4.0]]
    mean = Channel("m", "mass", statistic="mean")
    np.testing.assert_array_equal(gas.finish(mean, total, np.array([[0.0, 2.0]])), [[np.nan, 2.0]])
    log = Channel("m", "mass", transform="log10")
    found = gas.finish(log, total, None)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[np.nan, np.log10(4.0)]], rtol=1e-6)


def test_speed_is_peculiar_and_relative_to_the_galaxy(cells):
    speed, _ = gas.weights(Channel("v", "speed"), cells)
    v = cells.fields["Velocities"].astype(float) * np.sqrt(0.9) - [1, 2, 3]
    np.testing.assert_allclose(speed, np.sqrt((v**2).sum(axis=1)))


def test_surface_density_adds_up_to_the_mass_over_the_area(cells):
    values, _ = gas.weights(Channel("s", "surface_density"), cells)
    expected = cells.fields["Masses"].astype(float).sum() * 1e10 / 0.7 / 0.25
    assert values.sum() == pytest.approx(expected)


def test_no_electrons_is_no_entropy_and_no_warning(cells):
    cells.fields["ElectronAbundance"][:] = 0
    values, _ = gas.weights(Channel("k", "entropy"), cells)
    assert np.isinf(values).all()


def test_an_unknown_quantity_lists_the_known_ones():
    with pytest.raises(ConfigError, match="mass, surface_density, temperature"):
        gas.required_fields([Channel("x", "colour")])
