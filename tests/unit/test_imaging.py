"""The stretch, the normalisation and the ten cases."""

import dataclasses

import numpy as np
import pytest
from astropy.visualization import AsinhStretch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageFilter

from sfr.errors import (
    ConfigError,
    DataFormatError,
    DataMissingError,
    DTypeError,
    EmptySelectionError,
    ShapeError,
)
from sfr.imaging.cases import case_function
from sfr.imaging.lupton import lupton_rgb, stretch
from sfr.imaging.normalise import (
    Normalisation,
    find_normalisation,
    range_normalisation,
    read_normalisation,
)
from sfr.imaging.png import read_png, write_png
from sfr.imaging.rgb import rgb_image
from sfr.recipe import load_recipe
from sfr.run.shards import Shard
from sfr.run.workspace import Workspace
from sfr.train.features import feature_key

RECIPE = load_recipe("thesis").image
# below 1e-30 the listing's own product underflows
values = st.floats(-2, 2).map(lambda x: x if abs(x) > 1e-30 else 0.0)
unit_maps = arrays(np.float64, (3, 4, 5), elements=values)


def listing(r: float, g: float, b: float, beta: float = 0.001) -> list[float]:
    """The published formula, one pixel at a time."""
    intensity = (r + g + b) / 3
    if intensity == 0:
        return [0.0, 0.0, 0.0]
    f = np.arcsinh(abs(intensity) / beta) / np.arcsinh(1 / beta)
    return [c * f / intensity for c in (r, g, b)]


@given(unit_maps)
def test_stretch_is_the_published_formula_pixel_by_pixel(maps):
    found = stretch(maps, RECIPE)
    for y in range(4):
        for x in range(5):
            np.testing.assert_allclose(found[:, y, x], listing(*maps[:, y, x]), rtol=1e-12, atol=0)


def test_grey_pixels_follow_astropys_asinh():
    grey = np.linspace(0.001, 1, 50)
    found = stretch(np.broadcast_to(grey, (3, 1, 50)), RECIPE)[0, 0]
    np.testing.assert_allclose(found, AsinhStretch(a=RECIPE.beta)(grey), rtol=1e-12)


def test_negative_intensity_flips_signs_in_the_listing_only():
    maps = np.array([-0.5, -0.2, 0.1]).reshape(3, 1, 1)
    flipped = stretch(maps, RECIPE)[:, 0, 0]
    kept = stretch(maps, dataclasses.replace(RECIPE, negative="absolute"))[:, 0, 0]
    np.testing.assert_allclose(flipped, -kept)
    assert flipped[0] > 0 > kept[0]


def test_black_stays_black_and_nan_counts_as_nothing():
    maps = np.zeros((3, 2, 2))
    maps[0, 0, 0] = np.nan
    assert not lupton_rgb(maps, RECIPE).any()


def test_floor_or_round_and_clip_or_scale():
    maps = np.array([0.9, 0.3, 0.0]).reshape(3, 1, 1)
    raw = stretch(maps, RECIPE)[:, 0, 0]
    assert raw[0] > 1
    clipped = lupton_rgb(maps, RECIPE)[0, 0]
    assert clipped.tolist() == [255, int(255 * min(raw[1], 1)), 0]
    scaled = lupton_rgb(maps, dataclasses.replace(RECIPE, above_one="scale", quantise="round"))[
        0, 0
    ]
    assert scaled.tolist() == [255, round(255 * raw[1] / raw[0]), 0]


def test_row_zero_of_the_picture_is_the_top():
    maps = np.zeros((3, 4, 4))
    maps[:, 3, 1] = 1.0  # y = 3 is the upper edge
    picture = lupton_rgb(maps, RECIPE)
    assert picture[0, 1].tolist() == [255, 255, 255]
    assert picture.sum() == 3 * 255


def test_stretch_takes_three_channels():
    with pytest.raises(ShapeError, match="maps"):
        stretch(np.zeros((2, 4, 4)), RECIPE)


def _shard(maps, ids, names=("entropy", "mass", "temperature"), stages=()):
    maps = np.asarray(maps, np.float32)
    n = len(maps)
    extremes = np.arange(n, dtype=float)[:, np.newaxis]
    return Shard(
        maps,
        {
            "subhalo_id": np.array(ids),
            "channel_maximum": maps.max(axis=(2, 3), initial=-np.inf),
            "candidate_maximum": extremes,
            "candidate_minimum": -extremes,
        },
        {"subhalo_id": 1000 + np.arange(len(stages)), "stage": np.array(stages, np.str_)},
        {
            "channel_names": list(names),
            "channel_units": ["u"] * 3,
            "candidate_names": ["sum_mass"],
            "candidate_units": ["m"],
        },
    )


def test_normalisation_names_the_galaxy_of_each_maximum_over_shards():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 3, 8, 8)), rng.random((2, 3, 8, 8))
    a[1, 0, 2, 2], b[0, 1, 0, 0], b[1, 2, 5, 5] = 10, 20, 30
    shards = [_shard(a, [1, 2]), _shard(np.zeros((0, 3, 8, 8)), []), _shard(b, [3, 4])]
    found = find_normalisation(shards, load_recipe("thesis").normalisation, snapshot=99)
    assert found.maxima == (10.0, 20.0, 30.0)
    channels = found.document["channels"]
    assert [channels[c]["subhalo_id"] for c in channels] == [2, 3, 4]
    assert found.document["candidates"]["sum_mass"] == {
        "unit": "m",
        "maximum": 1.0,
        "maximum_subhalo_id": 2,
        "minimum": -1.0,
        "minimum_subhalo_id": 2,
    }
    assert found.apply(b[1])[2].max() == 1.0


ONE = np.ones((1, 3, 8, 8))


def test_a_scale_that_a_part_of_the_reference_snapshot_would_set_is_refused():
    """1 of 40 galaxies set it, its maximum 712 in place of 2474, and nothing was said."""
    recipe = load_recipe("thesis").normalisation
    assert recipe.reference_share == 0.9
    shards = [_shard(ONE, [7], stages=["read"] * 20), _shard(ONE[:0], [], stages=["memory"] * 19)]
    shards[1].failures["subhalo_id"] += 20
    with pytest.raises(DataMissingError, match=r"1 of 40 galaxies.*39 could not.*90 %") as refused:
        find_normalisation(shards, recipe, snapshot=99)
    asked = float(str(refused.value).rpartition("--reference-share ")[2])
    found = find_normalisation(
        shards, dataclasses.replace(recipe, reference_share=asked), snapshot=99
    )
    assert found.is_partial
    assert found.galaxies.startswith("1 of 40 galaxies of snapshot 99 (39 could not be read")
    assert found.document["galaxies"] == {
        "set_the_scale": 1,
        "in_the_sample": 40,
        "without_a_map": 0,
        "not_read": 39,
        "subhaloes_read": 1,
        "subhaloes_in_the_catalogue": 1,
        "share": 1 / 40,
    }


def test_a_scale_of_a_part_of_the_catalogue_is_refused_too():
    recipe = load_recipe("thesis").normalisation
    with pytest.raises(DataMissingError, match="from 3 of 10 subhaloes"):
        find_normalisation([_shard(ONE, [7])], recipe, snapshot=99, catalogue=(3, 10))


def test_galaxies_that_never_have_a_map_are_told_but_are_not_missing():
    recipe = load_recipe("thesis").normalisation
    found = find_normalisation([_shard(ONE, [7], stages=["render"])], recipe, snapshot=99)
    assert not found.is_partial
    assert found.galaxies == "1 of 2 galaxies of snapshot 99 (1 have no map (failures.csv))"


def test_a_scale_of_nearly_all_galaxies_is_made_and_told():
    recipe = load_recipe("thesis").normalisation
    maps = np.ones((19, 3, 8, 8))
    found = find_normalisation([_shard(maps, range(19), stages=["read"])], recipe, snapshot=99)
    assert found.is_partial
    assert "19 of 20" in found.galaxies


def test_a_galaxy_with_two_views_is_one_galaxy_of_the_scale():
    """Maps were counted as galaxies: two of one galaxy, and 2 of 3 set the scale."""
    recipe = load_recipe("thesis").normalisation
    shard = _shard(np.ones((3, 3, 8, 8)), [7, 7, 8], stages=["render", "render", "read"])
    shard.failures["subhalo_id"] = np.array([9, 9, 8])
    shard.failures["view"] = np.array([0, 1, 1])
    with pytest.raises(DataMissingError, match="2 of 3 galaxies"):
        find_normalisation([shard], recipe, snapshot=99)
    half = dataclasses.replace(recipe, reference_share=0.5)
    counted = find_normalisation([shard], half, snapshot=99).document["galaxies"]
    names = ("set_the_scale", "in_the_sample", "without_a_map", "not_read", "share")
    assert [counted[name] for name in names] == [2, 3, 1, 1, 0.5]


def test_normalisation_without_galaxies_or_without_light_is_an_error():
    recipe = load_recipe("thesis").normalisation
    with pytest.raises(EmptySelectionError, match="99"):
        find_normalisation([], recipe, snapshot=99)
    with pytest.raises(EmptySelectionError, match="entropy"):
        find_normalisation([_shard(np.zeros((1, 3, 8, 8)), [1])], recipe, snapshot=99)


def test_a_range_becomes_zero_to_one_and_what_is_outside_or_empty_is_cut(tmp_path):
    channels = load_recipe("corrected").maps.channels
    found = range_normalisation(channels, ["a", "b", "c"])
    maps = np.array([[-3, -9, 3, 9], [4, np.nan, 9, 6.5], [3.5, -np.inf, 7, np.inf]], np.float32)
    scaled = found.apply(maps[:, np.newaxis])
    expected = [[0, 0, 1, 1], [0, 0, 1, 0.5], [0, 0, 1, 1]]
    np.testing.assert_array_equal(scaled[:, 0], expected)
    assert found.document["channels"]["mass"] == {"range": [4.0, 9.0], "unit": "b"}
    workspace = Workspace(tmp_path)
    workspace.write_json(workspace.normalisation_json, found.document)
    read = read_normalisation(workspace, ["mass", "entropy", "temperature"])
    assert read.ranges == ((4.0, 9.0), (-3.0, 3.0), (3.5, 7.0))
    assert not read.is_partial
    assert read.galaxies == ""
    with pytest.raises(ConfigError, match="channel entropy states no range"):
        range_normalisation(load_recipe("thesis").maps.channels, ["a", "b", "c"])


@given(arrays(np.float32, (3, 4, 5), elements=st.floats(-100, 100, width=32)))
def test_division_by_a_maximum_kept_its_bits(maps):
    entries = {name: {"maximum": 10.0 / (i + 3)} for i, name in enumerate("abc")}
    found = Normalisation.of({"channels": entries}, "abc")
    divided = maps.astype(float) / np.array(found.maxima)[:, None, None]
    assert found.apply(maps).tobytes() == divided.tobytes()


def colour(*values, brightness="mass"):
    recipe = dataclasses.replace(load_recipe("corrected").image, brightness=brightness)
    return rgb_image(np.array(values).reshape(3, 1, 1), recipe, CHANNELS)[0, 0].tolist()


def test_maps_that_are_logarithmic_already_are_not_stretched_again():
    """The levels 12 / 54 / 89 % became 151 / 203 / 220 of 255: nearly white masks."""
    assert colour(0.12, 0.54, 0.89, brightness="none") == [31, 138, 227]
    assert colour(np.nan, -0.1, 1.5, brightness="none") == [0, 0, 255]


def test_brightness_is_that_of_the_named_channel_and_the_ratios_stay():
    assert colour(0.8, 0.4, 0.2) == [102, 51, 26]
    assert colour(0.1, 0.8, 0.2) == [26, 204, 51]
    assert colour(0.8, 0.0, 0.2) == [0, 0, 0]
    assert colour(0.0, 0.0, 0.0) == [0, 0, 0]
    assert colour(np.nan, 0.5, np.nan) == [0, 128, 0]


def test_rgb_of_the_published_recipe_is_its_stretch_and_rows_run_down():
    maps = np.random.default_rng(1).random((3, 5, 4))
    np.testing.assert_array_equal(rgb_image(maps, RECIPE, CHANNELS), lupton_rgb(maps, RECIPE))
    maps[:] = 0
    maps[1, 4, 1] = 1
    picture = rgb_image(maps, load_recipe("corrected").image, CHANNELS)
    assert picture[0, 1].tolist() == [0, 255, 0]
    assert picture.sum() == 255
    with pytest.raises(ShapeError, match="maps"):
        rgb_image(maps[:2], load_recipe("corrected").image, CHANNELS)


CHANNELS = ("entropy", "mass", "temperature")


def get_case(name, channels=CHANNELS):
    return case_function(name, load_recipe("thesis").cases, channels)


@pytest.fixture
def picture():
    return np.random.default_rng(5).integers(0, 256, (32, 40, 3), dtype=np.uint8)


def test_there_are_ten_cases_and_each_keeps_shape_and_input(picture):
    before = picture.copy()
    names = load_recipe("thesis").case_names
    assert len(names) == 10
    for name in names:
        made = get_case(name)(picture)
        assert made.shape == picture.shape
        assert made.dtype == np.uint8
    np.testing.assert_array_equal(picture, before)


def test_single_channels_are_copied_into_all_three(picture):
    for i, name in enumerate(("entropy", "mass", "temperature")):
        made = get_case(name)(picture)
        for channel in range(3):
            np.testing.assert_array_equal(made[:, :, channel], picture[:, :, i])


def test_a_case_is_the_channel_of_its_name_not_of_a_number(picture):
    """With channels entropy, mass, metals the case temperature was the metals channel."""
    for channels in (("mass", "metals", "entropy"), ("entropy", "mass", "metals")):
        for place, name in enumerate(channels):
            made = get_case(name, channels)(picture)
            np.testing.assert_array_equal(made, np.repeat(picture[:, :, place, None], 3, axis=2))
        with pytest.raises(ConfigError, match=r"unknown case 'temperature'.*metals"):
            get_case("temperature", channels)


def test_features_are_known_by_the_place_of_the_channel_too():
    """Two channels that swap names leave the images as they are, but not their cases."""
    names = ("metals", "entropy", "mass")
    keys = []
    for order in ((0, 1, 2), (1, 0, 2)):
        channels = [{"name": names[i], "field": "mass"} for i in order]
        recipe = load_recipe("thesis").with_fields("maps", channels=channels)
        keys.append(
            {case: feature_key(recipe, case, images="i", weights="w") for case in recipe.case_names}
        )
    same = {case for case in keys[0] if keys[0][case] == keys[1][case]}
    assert keys[0].keys() - same == {"metals", "entropy"}


def test_structure_wraps_modulo_256(picture):
    blurred = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(3)))
    np.testing.assert_array_equal(get_case("gauss3")(picture), blurred)
    expected = (picture.astype(int) - blurred.astype(int)) % 256
    np.testing.assert_array_equal(get_case("structure3")(picture), expected)
    assert (expected > 200).any(), "a picture of noise has negative differences"


def test_structure_of_8_bits_can_be_centred_instead(picture):
    blurred = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(3)))
    recipe = load_recipe("thesis").with_fields("cases", structure="centred", gain=2.0).cases
    made = case_function("structure3", recipe, CHANNELS)(picture)
    expected = np.clip(127.5 + 2.0 * (picture.astype(float) - blurred), 0, 255)
    np.testing.assert_array_equal(made, np.rint(expected))
    assert case_function("structure3", recipe, CHANNELS)(np.full_like(picture, 9)).max() == 128


def test_any_scale_is_a_case():
    assert get_case("gauss7") is not None
    assert get_case("structure0.5") is not None


@pytest.mark.parametrize(
    "name", ["gauss", "gauss0", "gauss-3", "gauss3px", "Mass", "", "structure9999"]
)
def test_an_unknown_case_lists_the_known_ones(name):
    with pytest.raises(ConfigError, match="composite, entropy, mass, temperature"):
        get_case(name)


def test_cases_take_8_bit_rgb_only(picture):
    with pytest.raises(DTypeError, match="uint8"):
        get_case("mass")(picture.astype(float))
    with pytest.raises(ShapeError, match=r"\(y, x, 3\)"):
        get_case("mass")(picture[:, :, :2])


def test_png_files_come_back_without_an_alpha_channel_that_hides_nothing(tmp_path, picture):
    path = tmp_path / "a.png"
    write_png(Workspace(tmp_path), path, picture)
    np.testing.assert_array_equal(read_png(path), picture)
    opaque = np.full(picture.shape[:2], 255, np.uint8)
    Image.fromarray(np.dstack([picture, opaque])).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_png(tmp_path / "rgba.png"), picture)


def test_png_files_that_are_not_right_are_clear_errors(tmp_path):
    with pytest.raises(DataMissingError):
        read_png(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    with pytest.raises(DataFormatError, match=r"b\.png"):
        read_png(tmp_path / "b.png")


@pytest.mark.parametrize("name", ["deep.png", "a.jpg"])
def test_other_pictures_than_8_bit_png_are_refused(tmp_path, name):
    """Pillow turns 16 bits into black and white, and a JPEG is not the image that was made."""
    deep = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(deep if name == "deep.png" else (deep >> 8).astype(np.uint8)).save(
        tmp_path / name
    )
    with pytest.raises(DataFormatError, match=r"8 bits|as PNG"):
        read_png(tmp_path / name)
