"""The registry of quantities, what the kernels make of it, and the finished channels."""

import dataclasses

import numpy as np
import pytest

from sfr import units
from sfr.errors import ConfigError, InternalError
from sfr.plot.maps import field_colours
from sfr.recipe import Channel, load_recipe
from sfr.render import fields, kernels, reference
from sfr.render.fields import FIELDS

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


SETTING = fields.Setting(0.9, 0.7, np.array([1.0, 2.0, 3.0]), 0.25)


@pytest.fixture
def cells():
    return {
        "Masses": RNG.random(N, np.float32) + 0.1,
        "Density": RNG.random(N, np.float32) + 0.1,
        "InternalEnergy": 1e3 * (RNG.random(N, np.float32) + 0.1),
        "ElectronAbundance": RNG.random(N, np.float32) + 0.1,
        "StarFormationRate": np.where(np.arange(N) < 5, 1.0, 0.0).astype(np.float32),
        "GFM_Metallicity": RNG.random(N, np.float32),
        "Velocities": RNG.normal(size=(N, 3)).astype(np.float32),
        "MagneticField": RNG.normal(size=(N, 3)).astype(np.float32),
    }


def columns(channel, cells, **options):
    return reference.columns(fields.weight(channel, cells, SETTING, **options))


def values(name, cells):
    return columns(Channel(name, name), cells)[0]


def expected(name, c):
    """Every quantity of gas by the formulae of `units`, which know nothing of kernels."""
    a, h = SETTING.scale_factor, SETTING.hubble_param
    mass, rho = (c[k].astype(float) for k in ("Masses", "Density"))
    t = units.temperature_k(c["InternalEnergy"], c["ElectronAbundance"])
    n_e = units.electron_density_cgs(rho, c["ElectronAbundance"], a, h)
    velocity = c["Velocities"].astype(float) * np.sqrt(a) - SETTING.bulk_velocity_km_s
    return {
        "mass": mass,
        "surface_density": units.mass_msun(mass, h) / 0.25,
        "temperature": t,
        "entropy": units.entropy_kev_cm2(t, n_e),
        "entropy_k_cm2": t / n_e ** (2 / 3),
        "entropy_code": t / rho ** (2 / 3),
        "density": units.density_cgs(rho, a, h),
        "electron_density": n_e,
        "metallicity": c["GFM_Metallicity"].astype(float),
        "sfr": c["StarFormationRate"].astype(float),
        "internal_energy": c["InternalEnergy"].astype(float),
        "speed": np.linalg.norm(velocity, axis=1),
        "magnetic_field": units.magnetic_field_gauss(
            np.linalg.norm(c["MagneticField"].astype(float), axis=1), a, h
        ),
        "dark_matter_mass": mass,
        "dark_matter_surface_density": units.mass_msun(mass, h) / 0.25,
    }[name]


@pytest.mark.parametrize("name", FIELDS)
def test_every_quantity_is_what_the_formulae_say_of_the_fields_that_it_names(cells, name):
    only = {k: cells[k] for k in FIELDS[name].recipe.needs}
    np.testing.assert_allclose(values(name, only), expected(name, cells), rtol=1e-12)
    with np.errstate(divide="ignore"):
        log = np.log10(expected(name, cells))
    np.testing.assert_allclose(values(f"log10_{name}", only), log, rtol=1e-12, atol=1e-12)
    assert fields.required_fields([Channel("x", name)]) == sorted(only)


def channels(name):
    """Every way in which a channel can show a quantity."""
    volume = [] if FIELDS[name].part_type else ["volume"]
    return [
        Channel("x", prefix + name, weight=weight, statistic=statistic)
        for prefix in ("", "log10_")
        for weight in ("none", "mass", *volume)
        for statistic in ("sum", "mean")
    ]


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("star_forming_gas", ["in", "out"])
def test_the_kernels_make_what_the_twin_makes_of_every_channel(name, star_forming_gas):
    """Means, volumes and cells left out were made in NumPy, of arrays of full length."""
    rng, n = np.random.default_rng(5), 3000
    c = {
        key: (10 ** rng.uniform(-3, 3, n)).astype(np.float32)
        for key in ("Masses", "Density", "InternalEnergy", "ElectronAbundance", "GFM_Metallicity")
    }
    c |= {key: rng.normal(size=(n, 3)).astype("f4") for key in ("Velocities", "MagneticField")}
    c["StarFormationRate"] = np.maximum(rng.normal(size=n), 0).astype(np.float32)
    for number, values_of in enumerate(c.values()):  # what is damaged, or zero, is dropped
        values_of[number::97] = (np.nan, -1.0, 0.0, np.inf)[number % 4]
    # some batches of the kernel lie in the frame, of others a few cells only
    reach = np.where(np.arange(n) < n // 2, 1.0, 20.0)[:, None]
    coordinates = rng.uniform(-1, 1, (n, 3)) * reach
    weights = [
        fields.weight(channel, c, SETTING, star_forming_gas=star_forming_gas)
        for channel in channels(name)
    ]
    options = {"center": (0, 0, 0), "box_size": None, "rotation": None, "half_width": 1.0}
    n_columns = sum(1 + weight.is_mean for weight in weights)
    found = kernels.project_segments(
        ((coordinates[s], [cut(w, s) for w in weights]) for s in (slice(700), slice(700, None))),
        columns=n_columns, bins=3, **options,
    )  # fmt: skip
    twin = reference.project(coordinates, weights, bins=3, **options)
    assert found.maps.shape == twin.maps.shape == (n_columns, 3, 3)
    scale = np.abs(twin.maps).max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(found.maps / scale, twin.maps / scale, rtol=1e-11, atol=1e-12)
    inside = kernels.cull_box(coordinates, (0, 0, 0), 1.0)
    bad = [~np.isfinite(column[inside]) for w in weights for column in reference.columns(w)]
    assert found.ledger.n_bad_weight == tuple(b.sum() for b in bad)


def cut(made, rows):
    """Cut a recipe of the kernels to some particles."""
    if isinstance(made, np.ndarray):
        return made[rows] if made.ndim and len(made) > 3 else made
    if isinstance(made, tuple):
        return tuple(cut(value, rows) for value in made)
    if not dataclasses.is_dataclass(made):
        return made
    names = (field.name for field in dataclasses.fields(made))
    return dataclasses.replace(made, **{name: cut(getattr(made, name), rows) for name in names})


@pytest.mark.parametrize("name", sorted(VALUES))
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
            assert fields.channel_unit(made) == words + value
            finished = dataclasses.replace(made, transform="log10")
            assert fields.channel_unit(finished) == f"log10 of the {words}{value}"
            quiet = words if name in ("mass", "surface_density", "sfr") else (
                words.replace("over cells", "over cells without star formation")
            )  # fmt: skip
            assert fields.channel_unit(made, star_forming_gas="out") == quiet + value


def test_units_of_the_built_in_recipes():
    found = {
        name: [fields.channel_unit(channel) for channel in load_recipe(name).maps.channels]
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
    for name in FIELDS:
        assert field_colours(name) == field_colours(f"log10_{name}") != field_colours("unknown")
    assert [field_colours(name) for name in ("entropy", "mass", "temperature")] == [
        "plasma", "viridis", "inferno",
    ]  # fmt: skip


def test_further_readings_of_the_entropy_have_the_stated_units(cells):
    kelvin = values("entropy_k_cm2", cells)
    kev = kelvin * units.BOLTZMANN_CGS / units.KEV_IN_ERG
    np.testing.assert_allclose(kev, values("entropy", cells))


def test_thesis_channels_are_sums_of_k_m_and_log_t(cells):
    made = [columns(channel, cells) for channel in load_recipe("thesis").maps.channels]
    t = expected("temperature", cells)
    for found, value in zip(
        made, (expected("entropy", cells), cells["Masses"], np.log10(t)), strict=True
    ):
        np.testing.assert_allclose(found, [value])


def test_a_weighted_mean_divides_by_the_weights_of_the_same_cells(cells):
    cells["ElectronAbundance"][3] = np.nan
    channel = Channel("t", "temperature", weight="mass", statistic="mean")
    made = fields.weight(channel, cells, SETTING)
    maps = kernels.project(
        np.zeros((N, 3)), [made],
        center=(0, 0, 0), box_size=None, rotation=None, half_width=1.0, bins=1,
    ).maps  # fmt: skip
    good = np.arange(N) != 3
    t = expected("temperature", cells)
    average = np.average(t[good], weights=cells["Masses"][good])
    np.testing.assert_allclose(fields.finish(channel, *maps), [[average]], rtol=1e-6)


def test_star_forming_gas_is_left_out_of_all_but_the_matter(cells):
    for name in ("entropy", "temperature"):
        for statistic in ("sum", "mean"):
            channel = Channel("x", name, statistic=statistic)
            for column in columns(channel, cells, star_forming_gas="out"):
                assert not column[:5].any()
                assert (column[5:] > 0).all()
            assert "StarFormationRate" in fields.required_fields([channel], star_forming_gas="out")
    mass = columns(Channel("m", "mass"), cells, star_forming_gas="out")[0]
    np.testing.assert_array_equal(mass, cells["Masses"])
    for name in ("mass", "dark_matter_mass"):
        needed = fields.required_fields([Channel("m", name)], star_forming_gas="out")
        assert needed == ["Masses"]


def test_a_left_out_cell_that_has_no_value_is_not_counted_as_bad(cells):
    cells["InternalEnergy"][:5] = np.nan  # star-forming ones
    channel = Channel("t", "temperature", weight="mass", statistic="mean")
    made = fields.weight(channel, cells, SETTING, star_forming_gas="out")
    ledger = kernels.project_segments(
        [(np.zeros((N, 3)), [made])], columns=2,
        center=(0, 0, 0), box_size=None, rotation=None, half_width=1.0, bins=1,
    ).ledger  # fmt: skip
    assert ledger.n_bad_weight == (0, 0)
    np.testing.assert_allclose(ledger.sum_in_frame[1], cells["Masses"][5:].sum(dtype=float))


def test_damaged_cells_are_in_no_map_of_what_cannot_be_negative(cells):
    """The surface density of a negative mass was subtracted from the map."""
    cells["Masses"][2] = cells["Density"][3] = -1.0
    assert np.flatnonzero(np.isnan(values("surface_density", cells))).tolist() == [2]
    assert np.flatnonzero(np.isnan(values("electron_density", cells))).tolist() == [3]
    volume = columns(Channel("x", "metallicity", weight="volume"), cells)[0]
    assert np.flatnonzero(np.isnan(volume)).tolist() == [2, 3]


def test_a_recipe_that_smooths_particles_without_a_size_is_refused_before_anything_is_read():
    """It was found out only after galaxies had been selected."""
    dark = tuple(Channel(name, "dark_matter_mass") for name in "abc")
    maps = load_recipe("corrected").maps
    fields.check_fields(maps)
    fields.check_fields(dataclasses.replace(maps, channels=dark, deposit="histogram"))
    with pytest.raises(ConfigError, match="dark matter particles have none"):
        fields.check_fields(dataclasses.replace(maps, channels=dark))


def test_particles_of_two_types_are_no_recipe():
    dark = Channel("halo", "dark_matter_mass")
    assert fields.part_type([dark]) == 1
    assert fields.part_type([Channel("m", "mass")]) == 0
    for ask in (fields.part_type, fields.required_fields):
        with pytest.raises(ConfigError, match="gas: m; dark matter: halo"):
            ask([Channel("m", "mass"), dark])
    with pytest.raises(ConfigError, match="dark matter particles have no volume"):
        fields.required_fields([dataclasses.replace(dark, weight="volume")])
    assert fields.channel_unit(dark) == "sum over dark matter particles of m [1e10 Msun/h]"


def test_empty_pixels_are_zero_in_a_sum_and_nan_in_a_mean_or_a_logarithm():
    total = np.array([[0.0, 4.0]])
    assert fields.finish(Channel("m", "mass"), total, None).tolist() == [[0.0, 4.0]]
    mean = Channel("m", "mass", statistic="mean")
    np.testing.assert_array_equal(
        fields.finish(mean, total, np.array([[0.0, 2.0]])), [[np.nan, 2.0]]
    )
    log = Channel("m", "mass", transform="log10")
    found = fields.finish(log, total, None)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[np.nan, np.log10(4.0)]], rtol=1e-6)


def test_an_undefined_mean_is_nan_whatever_its_sums():
    mean = Channel("m", "mass", statistic="mean")
    total, divisor = np.array([[1.0, 1.0, -1.0, 6.0]]), np.array([[0.0, -2.0, 0.0, 3.0]])
    np.testing.assert_array_equal(fields.finish(mean, total, divisor), [[np.nan] * 3 + [2.0]])
    log = dataclasses.replace(mean, statistic="sum", transform="log10")
    found = fields.finish(log, np.array([[-1.0, 0.0, np.inf, 10.0]]), None)
    np.testing.assert_array_equal(found, [[np.nan, np.nan, np.inf, 1.0]])


def test_speed_needs_the_velocity_of_the_galaxy(cells):
    assert fields.is_relative([Channel("m", "mass"), Channel("v", "log10_speed")])
    assert not fields.is_relative([Channel("b", "magnetic_field")])
    with pytest.raises(InternalError, match="velocity was not given"):
        fields.weight(
            Channel("v", "speed"), cells, dataclasses.replace(SETTING, bulk_velocity_km_s=None)
        )


def test_surface_density_adds_up_to_the_mass_over_the_area(cells):
    mass = cells["Masses"].astype(float).sum() * 1e10 / 0.7
    assert values("surface_density", cells).sum() == pytest.approx(mass / 0.25)


def test_no_electrons_is_no_entropy_and_no_warning(cells):
    cells["ElectronAbundance"][:] = 0
    assert np.isinf(values("entropy", cells)).all()


def test_an_unknown_quantity_lists_the_known_ones():
    with pytest.raises(ConfigError, match="mass, surface_density, temperature"):
        fields.required_fields([Channel("x", "colour")])
