"""Profiles and spectra of maps: they name the scale that was planted."""

import numpy as np
import pytest

from sfr.errors import ShapeError
from sfr.train.spectrum import (
    ANNULI,
    channel_means,
    power_spectrum,
    radial_profile,
    shape_features,
    shape_kinds,
    wavelengths,
)


def disc(pixels=128, scale=20.0):
    place = np.arange(pixels) - (pixels - 1) / 2
    return 200.0 * np.exp(-np.hypot(place[:, None], place) / scale)


@pytest.mark.parametrize("planted", [20.0, 8.0, 3.0])
def test_the_scale_of_a_pattern_is_named(planted):
    """Block 5 of VGG16 is blind to 3 px (PLANTED.md); the spectrum is not."""
    x = np.arange(128) + 0.5
    wave = np.cos(2 * np.pi * (0.6 * x + 0.8 * x[:, None]) / planted)
    with_wave, without = power_spectrum(disc() * (1 + 0.2 * wave)), power_spectrum(disc())
    found = wavelengths(128)[np.argmax(with_wave - without)]
    assert found == pytest.approx(planted, rel=0.15)


def test_a_smooth_disc_has_a_profile_and_hardly_any_power():
    profile, power = radial_profile(disc()), power_spectrum(disc())
    assert profile.shape == (ANNULI,)
    assert (np.diff(profile) < 0).all()
    radius = (np.arange(ANNULI) + 0.5) * 128 / 2 / ANNULI
    np.testing.assert_allclose(profile[2:], 200 * np.exp(-radius[2:] / 20), rtol=0.03)
    noisy = power_spectrum(disc() + np.random.default_rng(0).normal(size=(128, 128)))
    assert (power[8:] < noisy[8:] - 0.3).all()


def test_white_noise_has_the_same_power_at_every_scale():
    maps = 3.0 * np.random.default_rng(1).normal(size=(40, 64, 64))
    power = power_spectrum(maps).mean(axis=0)
    assert power[4:] == pytest.approx(np.log10(9.0), abs=0.1)


def test_a_profile_does_not_see_how_a_galaxy_is_turned():
    rng = np.random.default_rng(2)
    maps = rng.normal(size=(3, 64, 64))
    turned = np.rot90(maps, axes=(-2, -1))
    np.testing.assert_allclose(radial_profile(turned), radial_profile(maps), atol=1e-12)
    np.testing.assert_allclose(power_spectrum(turned), power_spectrum(maps), atol=1e-9)


@pytest.mark.parametrize("pixels", [32, 100, 128, 256])
def test_every_pixel_size_has_bins_that_all_hold_something(pixels):
    maps = np.random.default_rng(3).normal(size=(3, pixels, pixels))
    features, kinds = shape_features(maps), shape_kinds(3, pixels)
    assert features.shape == kinds.shape
    assert np.isfinite(features).all()
    assert sorted(set(kinds.tolist())) == list(range(6))
    lengths = wavelengths(pixels)
    assert (np.diff(lengths) < 0).all()
    assert lengths[0] == pytest.approx(pixels, rel=0.3)
    assert lengths[-1] < 2.5


def test_a_flat_map_is_finite():
    flat = np.full((3, 64, 64), 128.0)
    assert np.isfinite(shape_features(flat)).all()
    np.testing.assert_array_equal(channel_means(flat), [[128.0, 0.0]] * 3)


def test_maps_that_are_not_square_are_refused():
    with pytest.raises(ShapeError, match="square"):
        radial_profile(np.zeros((3, 64, 32)))
