"""The registry of gas quantities and the finished channels."""

import dataclasses

import numpy as np
import pytest

from sfr import units
from sfr.errors import ConfigError
from sfr.recipe import Channel, load_recipe
from sfr.render import gas

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
        assert gas.channel_unit(channel)
    assert gas.required_fields([Channel("x", name)]) == sorted(field.needs)


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
