"""Gas physics against the published test vectors and against astropy."""

import numpy as np
import pytest
from astropy.cosmology import FlatLambdaCDM

from sfr import units

H = 0.6774

VECTORS = [
    # u, x_e, density (code), a, mu, T [K], n_e [cm^-3], K [keV cm^2]
    (3e4, 1.16, 1e-7, 1.0, 0.587682, 1.42392e6, 1.63737e-5, 190.295),
    (3e4, 1.16, 1e-7, 0.909586, 0.587682, 1.42392e6, 2.17578e-5, 157.440),
    (3e4, 1.16, 1e-7, 0.5, 0.587682, 1.42392e6, 1.30990e-4, 47.5739),
    (250.0, 1e-4, 1e-3, 1.0, 1.2194, 24621.2, 1.41153e-5, 3.63264),
]


@pytest.mark.parametrize(("u", "x_e", "density", "a", "mu", "t", "n_e", "k"), VECTORS)
def test_published_vectors_of_temperature_and_entropy(u, x_e, density, a, mu, t, n_e, k):
    temperature = units.temperature_k(u, x_e)
    electrons = units.electron_density_cgs(density, x_e, a, H)
    assert units.mean_molecular_weight(x_e) == pytest.approx(mu, rel=2e-5)
    assert temperature == pytest.approx(t, rel=5e-6)
    assert electrons == pytest.approx(n_e, rel=5e-6)
    assert units.entropy_kev_cm2(temperature, electrons) == pytest.approx(k, rel=5e-6)


def test_density_factor_at_redshift_zero():
    assert units.density_cgs(1.0, 1.0, H) == pytest.approx(3.1065e-22, rel=1e-4)


def test_magnetic_field_factor_at_redshift_zero():
    assert units.magnetic_field_gauss(1.0, 1.0, H) == pytest.approx(1.7625e-6, rel=1e-4)


def test_entropy_without_electrons_is_infinite_not_an_error():
    assert np.isinf(units.entropy_kev_cm2(1e4, 0.0))


def test_the_entropy_of_a_negative_density_is_not_that_of_its_absolute_value():
    for u, x_e, density in [
        (-1.0, 1.0, 1.0),
        (1.0, -1.0, 1.0),
        (1.0, 1.0, -1.0),
        (1.0, -1.0, -1.0),
    ]:
        electrons = units.electron_density_cgs(density, x_e, 1.0, H)
        assert np.isnan(units.temperature_k(u, x_e)) == (u < 0 or x_e < 0)
        assert np.isnan(units.density_cgs(density, 1.0, H)) == (density < 0)
        assert np.isnan(electrons) == (x_e < 0 or density < 0)
        assert np.isnan(units.entropy_kev_cm2(units.temperature_k(u, x_e), electrons))
    assert np.isnan(units.entropy_kev_cm2(1e4, -1.0))
    assert np.isnan(units.entropy_kev_cm2(-1e4, 1.0))


@pytest.mark.parametrize(
    ("a", "age"), [(1.0, 13.803), (0.990568, 13.666), (0.909586, 12.466), (0.888289, 12.143)]
)
def test_ages_of_the_snapshots(a, age):
    found = units.scale_factor_age_gyr(a, omega0=0.3089, omega_lambda=0.6911, hubble_param=H)
    assert found == pytest.approx(age, abs=6e-4)


def test_age_agrees_with_astropy():
    cosmology = FlatLambdaCDM(H0=67.74, Om0=0.3089)
    a = np.array([0.1, 0.3, 0.7, 1.0])
    expected = cosmology.age(1 / a - 1).to_value("Gyr")
    found = units.scale_factor_age_gyr(a, omega0=0.3089, omega_lambda=0.6911, hubble_param=H)
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_age_at_the_beginning_is_zero():
    assert units.scale_factor_age_gyr(0.0, omega0=0.3, omega_lambda=0.7, hubble_param=0.7) == 0.0


def test_masses_and_lengths():
    assert units.mass_msun(1.0, 0.5) == 2e10
    assert units.length_kpc(30.0, 0.5, 0.6) == pytest.approx(25.0)


def test_the_scale_factor_at_an_age_is_the_inverse_of_the_age():
    cosmology = {"omega0": 0.3089, "omega_lambda": 0.6911, "hubble_param": 0.6774}
    for a in (0.05, 0.5, 0.888289, 1.0):
        age = float(units.scale_factor_age_gyr(a, **cosmology))
        assert units.scale_factor_at_age(age, **cosmology) == pytest.approx(a, rel=1e-13)
    assert units.scale_factor_at_age(-1.0, **cosmology) == 0.0
