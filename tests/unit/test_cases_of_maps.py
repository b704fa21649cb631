"""Cases on float maps: what the network reads."""

import dataclasses

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from sfr.errors import ConfigError, DTypeError, RangeError, ShapeError
from sfr.imaging.cases import case_function, map_case_function, network_input
from sfr.imaging.cases.images import IMAGE_FAMILIES
from sfr.imaging.cases.maps import MAP_FAMILIES
from sfr.recipe import SCALED_FAMILIES, load_recipe, parse_case

CHANNELS = ("entropy", "mass", "temperature")
CORRECTED = load_recipe("corrected").cases
#: A gain that clips nothing, whatever the maps.
FAINT = dataclasses.replace(CORRECTED, gain=0.5)


def made(name, maps, recipe=FAINT):
    return map_case_function(name, recipe, CHANNELS)(maps)


@pytest.fixture(params=[np.float32, np.float64])
def maps(request):
    return np.random.default_rng(2).random((3, 40, 48)).astype(request.param)


def close(maps):
    return {"rtol": 0, "atol": 1e-6 if maps.dtype == np.float32 else 1e-14}


def test_composite_and_channels_are_the_maps_themselves_unrounded(maps):
    before = maps.copy()
    np.testing.assert_array_equal(made("composite", maps).maps, maps)
    for place, name in enumerate(CHANNELS):
        found = made(name, maps)
        assert found.clipped == 0
        assert found.maps.dtype == maps.dtype
        for plane in found.maps:
            np.testing.assert_array_equal(plane, maps[place])
    found.maps[:] = 0
    np.testing.assert_array_equal(maps, before)


def test_a_single_channel_carries_nothing_of_the_others(maps):
    """Cut from the stretched composite, the mass channel changed with the temperature."""
    other = maps.copy()
    other[2] = 0
    for name in ("mass", "mass.gauss3", "mass.structure3", "mass.band1-4"):
        np.testing.assert_array_equal(made(name, maps).maps, made(name, other).maps)


@pytest.mark.parametrize("edge", ["reflect", "mirror", "nearest", "wrap", "constant"])
def test_blur_is_scipys_at_the_stated_edge(maps, edge):
    recipe = dataclasses.replace(FAINT, edge=edge)
    for place, name in enumerate(CHANNELS):
        expected = gaussian_filter(maps[place], 3.0, mode=edge)
        np.testing.assert_allclose(made(f"{name}.gauss3", maps, recipe).maps[0], expected)
        np.testing.assert_allclose(made("gauss3", maps, recipe).maps[place], expected)


def test_a_blur_wider_than_the_map_is_its_mean(maps):
    found = made("gauss200", maps).maps
    expected = np.broadcast_to(maps.mean(axis=(1, 2), keepdims=True), maps.shape)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["structure3", "band1-3", "mass.structure3", "mass.band2.5-10"])
def test_structure_and_bands_are_linear_about_the_middle(maps, name):
    one, other = maps / 2, maps[:, ::-1] / 2
    both = made(name, one + other).maps - 0.5
    apart = (made(name, one).maps - 0.5) + (made(name, other).maps - 0.5)
    np.testing.assert_allclose(both, apart, **close(maps))
    weak = made(name, maps, dataclasses.replace(FAINT, gain=0.25)).maps - 0.5
    np.testing.assert_allclose(2 * weak, made(name, maps).maps - 0.5, **close(maps))


@pytest.mark.parametrize("name", ["structure3", "band1-3", "temperature.band3-10"])
def test_a_map_without_structure_is_grey_and_the_mean_of_any_is_half(maps, name):
    """Differences of 8 bits that wrap are 0 or 255 where they are a little off."""
    flat = np.full_like(maps, 0.3)
    np.testing.assert_allclose(made(name, flat).maps, 0.5, **close(maps))
    np.testing.assert_allclose(made(name, maps).maps.mean(axis=(1, 2)), 0.5, **close(maps))


def test_bands_and_the_widest_blur_add_up_to_the_map(maps):
    names = ("band0-1", "band1-3", "band3-10")
    bands = sum((made(name, maps).maps - 0.5) / 0.5 for name in names)
    np.testing.assert_allclose(bands + made("gauss10", maps).maps, maps, **close(maps))
    np.testing.assert_array_equal(made("band0-3", maps).maps, made("structure3", maps).maps)


def test_a_band_keeps_its_scale_and_hides_others():
    """A blur hides what is finer and structure what is coarser; only a band does both."""
    x = np.arange(256)
    amplitude = {}
    for length in (4, 20, 128):
        wave = np.broadcast_to(0.5 + 0.4 * np.cos(2 * np.pi * x / length), (3, 256, 256)).copy()
        for name in ("gauss2", "structure8", "band2-8"):
            line = made(f"mass.{name}", wave).maps[0, 128]
            factor = 1 if name == "gauss2" else 0.5
            amplitude[name, length] = np.ptp(line[64:192]) / 0.8 / factor
    response = {n: np.exp(-2 * (np.pi * 2 / n) ** 2) for n in (4, 20, 128)}
    for length in response:
        assert amplitude["gauss2", length] == pytest.approx(response[length], abs=0.02)
    assert amplitude["band2-8", 20] > 0.75
    assert amplitude["band2-8", 4] < 0.03
    assert amplitude["band2-8", 128] < 0.1
    assert amplitude["structure8", 4] > 0.95
    assert amplitude["gauss2", 128] > 0.95


def test_what_the_gain_drives_out_is_clipped_and_counted():
    maps = np.zeros((3, 64, 64))
    maps[1, 20, 20] = 1.0
    found = made("mass.structure3", maps, dataclasses.replace(FAINT, gain=4.0))
    assert found.maps.max() == 1.0
    assert found.clipped == 1 / 64**2
    assert made("structure3", maps, dataclasses.replace(FAINT, gain=4.0)).clipped == pytest.approx(
        1 / 64**2 / 3
    )
    assert made("mass.structure3", maps).clipped == 0
    assert made("gauss3", np.ones((3, 64, 64), np.float32)).clipped == 0, "rounding is no clipping"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("mass.band10-3", "narrower blur first"),
        ("mass.band3-3", "narrower blur first"),
        ("mass.band3", "unknown case"),
        ("band0-0", "unknown case"),
        ("gauss1-3", "unknown case"),
        ("metals.gauss3", r"unknown case.*entropy\.gauss3"),
        ("mass.mass", "unknown case"),
        ("mass.composite", "unknown case"),
        ("mass.gauss0", "unknown case"),
        ("mass.gauss1001", "unknown case"),
        ("mass.gauss3.", "unknown case"),
        (".gauss3", "unknown case"),
        ("mass.gauss\u0663", "unknown case"),
        ("mass.contrast3", "unknown case"),
    ],
)
def test_names_that_mean_nothing_are_refused(name, why):
    with pytest.raises(ConfigError, match=why):
        map_case_function(name, CORRECTED, CHANNELS)


@pytest.mark.parametrize("name", ["mass.gauss3", "mass.structure3", "mass.band1-3", "band1-3"])
def test_the_composite_has_no_case_of_one_channels_scale(name):
    """What would be cut from the composite carries the other channels."""
    with pytest.raises(ConfigError, match=r"cases\.act_on = \"maps\""):
        case_function(name, load_recipe("thesis").cases, CHANNELS)
    parse_case(name, CHANNELS, "maps")


def test_images_and_maps_are_not_mistaken_for_each_other(maps):
    with pytest.raises(ConfigError, match="act_on"):
        case_function("mass", CORRECTED, CHANNELS)
    with pytest.raises(ConfigError, match="act_on"):
        map_case_function("mass", load_recipe("thesis").cases, CHANNELS)
    with pytest.raises(DTypeError, match="float32"):
        made("mass", (255 * maps).astype(np.uint8))
    with pytest.raises(ShapeError, match=r"\(3, y, x\)"):
        made("mass", maps[:2])
    for bad in (np.nan, 1.5, -0.1, np.inf):
        wrong = maps.copy()
        wrong[0, 3, 3] = bad
        with pytest.raises(RangeError, match="ranges"):
            made("mass", wrong)


def test_the_network_reads_255_times_the_maps_top_row_first(maps):
    found = network_input(maps)
    assert found.shape == (40, 48, 3)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found[0, 5], 255 * maps[:, -1, 5], rtol=1e-6)
    assert np.any(found != np.rint(found))


def test_every_family_of_a_name_is_made():
    assert set(MAP_FAMILIES) == set(SCALED_FAMILIES)
    assert set(IMAGE_FAMILIES) == {"gauss", "structure"}


def test_corrected_with_its_own_scales_of_one_channel_loads():
    names = ["mass", "mass.band1-3", "mass.band3-10", "mass.gauss10", "band3-10"]
    assert load_recipe("corrected").with_fields("cases", names=names).case_names == tuple(names)
    twice = ["mass.structure3", "mass.band0-3"]
    with pytest.raises(ConfigError, match="each scale once"):
        load_recipe("corrected").with_fields("cases", names=twice)
