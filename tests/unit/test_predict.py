"""What sfr predict takes for what: maps and pictures, by name and with what they say."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfr.errors import DataFormatError
from sfr.imaging.cases import map_case_function, network_input
from sfr.imaging.lupton import lupton_rgb
from sfr.imaging.normalise import Normalisation, range_normalisation, read_normalisation
from sfr.imaging.png import has_own_scale, read_png, write_png
from sfr.recipe import load_recipe, maps_settings
from sfr.run.shards import Shard, write_shard
from sfr.run.workspace import Workspace
from sfr.train.predict import _case_of, _check_numbers, _versions, about_model

PIXELS = 32
UNITS = {"entropy": "keV cm^2", "mass": "Msun", "temperature": "log10(K)"}
MAXIMA = {"entropy": 2000.0, "mass": 0.01, "temperature": 12000.0}


def recipe(names):
    channels = {channel.name: channel for channel in load_recipe("thesis").maps.channels}
    chosen = load_recipe("thesis").with_fields("maps", pixels=PIXELS)
    return chosen.with_fields("maps", channels=[vars(channels[name]) for name in names])


def document(names):
    entries = {n: {"maximum": MAXIMA[n], "unit": UNITS[n], "subhalo_id": 1} for n in names}
    return {"channels": entries}


def about(names):
    """What is read back from a model, whose JSON has its keys sorted."""
    made = about_model(recipe(names), "composite", weights="random", normalisation=document(names))
    return json.loads(json.dumps(made, sort_keys=True))


def composites(path, said):
    return _versions(path, said, _case_of(path, said))


def maps(names):
    rng = np.random.default_rng(1)
    drawn = {name: rng.random((2, PIXELS, PIXELS)) for name in sorted(MAXIMA)}
    stacked = np.stack([MAXIMA[name] * drawn[name] for name in names], axis=1)
    return stacked.astype(np.float32)


def shard(path, names, **changes):
    made_by = recipe(names)
    attributes = {
        "channel_names": list(names),
        "channel_units": [UNITS[name] for name in names],
        "pixel_scale_ckpc_h": made_by.maps.width_ckpc_h / (PIXELS * made_by.maps.bin_scale),
        "settings": json.dumps(maps_settings(made_by.maps, made_by.orientation)),
        **changes,
    }
    kept = {name: value for name, value in attributes.items() if value is not None}
    write_shard(Workspace(path.parent), path, Shard(maps(names), {}, {}, kept))
    return path


ORDERS = [
    ("entropy", "mass", "temperature"),
    ("temperature", "mass", "entropy"),
    ("mass", "temperature", "entropy"),
]


@pytest.mark.parametrize("names", ORDERS)
def test_maps_were_divided_by_the_maxima_in_alphabetical_order(tmp_path, names):
    """The same galaxies gave other numbers from maps than from images, by up to 0.86 dex."""
    chosen = recipe(names)
    divisors = np.array([MAXIMA[name] for name in names])[:, np.newaxis, np.newaxis]
    wanted = [lupton_rgb(galaxy / divisors, chosen.image) for galaxy in maps(names)]
    found = [image for _, image in composites(shard(tmp_path / "a.hdf5", names), about(names))]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("order", ORDERS)
def test_maps_of_another_order_are_taken_by_name(tmp_path, order):
    names = ORDERS[0]
    wanted = [image for _, image in composites(shard(tmp_path / "a.hdf5", names), about(names))]
    found = [image for _, image in composites(shard(tmp_path / "b.hdf5", order), about(names))]
    np.testing.assert_array_equal(found, wanted)


def test_the_divisors_of_a_run_are_read_by_name(tmp_path):
    names, workspace = ORDERS[1], Workspace(tmp_path)
    text = json.dumps(document(names), sort_keys=True)
    workspace.normalisation_json.write_text(text)
    assert read_normalisation(workspace, names).maxima == tuple(MAXIMA[name] for name in names)
    with pytest.raises(DataFormatError, match="metals"):
        read_normalisation(workspace, ("metals",))
    assert Normalisation.of(document(names), names).maxima[0] == 12000.0


def other(**changes):
    made_by = recipe(ORDERS[0]).with_fields("maps", **changes)
    return json.dumps(maps_settings(made_by.maps, made_by.orientation))


def test_maps_made_otherwise_are_refused_with_what_differs(tmp_path):
    names, path = ORDERS[0], tmp_path / "a.hdf5"
    channels = json.loads(other())["maps.channels"]
    channels[0] = {**channels[0], "weight": "mass"}
    turned = recipe(names).with_fields("orientation", mass_weighted=True)
    for changes, reason in (
        ({"settings": other(depth_ckpc_h=20.0)}, r"maps\.depth_ckpc_h = 20\.0.*with None"),
        ({"settings": other(star_forming_gas="out")}, r"star_forming_gas = 'out'"),
        ({"settings": other(channels=channels)}, r"map entropy of .*'weight': 'mass'"),
        (
            {"settings": json.dumps(maps_settings(turned.maps, turned.orientation))},
            r"orientation\.mass_weighted = True",
        ),
        ({"settings": "no"}, "settings cannot be read"),
        ({"channel_names": ["entropy", "mass", "metals"]}, "has maps"),
        ({"channel_units": ["K", "Msun", "log10(K)"]}, "has units"),
        ({"pixel_scale_ckpc_h": 1.0}, "has pixels"),
    ):
        with pytest.raises(DataFormatError, match=reason):
            list(composites(shard(path, names, **changes), about(names)))
    # those of earlier versions do not say, those of sfr map were turned by a person
    assert len(list(composites(shard(path, names, settings=None), about(names)))) == 2
    by_hand = json.dumps(maps_settings(recipe(names).maps, None))
    assert len(list(composites(shard(path, names, settings=by_hand), about(names)))) == 2


# -- float maps ------------------------------------------------------------------------------------

FLOATS = load_recipe("corrected").with_fields("maps", pixels=PIXELS)


def about_floats(case):
    units = [UNITS[name] for name in FLOATS.channels]
    scale = range_normalisation(FLOATS.maps.channels, units)
    made = about_model(FLOATS, case, weights="random", normalisation=scale.document)
    return json.loads(json.dumps(made, sort_keys=True)), scale


@pytest.mark.parametrize("case", ["composite", "mass", "gauss3", "mass.structure3", "mass.band1-3"])
def test_a_model_of_float_maps_reads_them_unrounded(tmp_path, case):
    said, scale = about_floats(case)
    names = FLOATS.channels
    settings = json.dumps(maps_settings(FLOATS.maps, FLOATS.orientation))
    scale_px = FLOATS.maps.width_ckpc_h / PIXELS
    path = shard(tmp_path / "a.hdf5", names, settings=settings, pixel_scale_ckpc_h=scale_px)
    function = map_case_function(case, FLOATS.cases, names)
    scaled = [scale.apply(galaxy).astype(np.float32) for galaxy in maps(names)]
    wanted = [network_input(function(galaxy).maps) for galaxy in scaled]
    found = [image for _, image in composites(path, said)]
    np.testing.assert_array_equal(found, wanted)
    assert found[0].dtype == np.float32


def test_a_model_of_float_maps_takes_no_picture(tmp_path, picture):
    """Eight bits of a picture whose brightness is one channel are not what it was trained on."""
    said, _ = about_floats("mass")
    write_png(Workspace(tmp_path), tmp_path / "a.png", picture)
    with pytest.raises(DataFormatError, match="reads the float maps"):
        list(composites(tmp_path / "a.png", said))


# -- pictures ----------------------------------------------------------------------------------


@pytest.fixture
def picture():
    return np.random.default_rng(2).integers(0, 256, (PIXELS, PIXELS, 3), np.uint8)


def test_one_channel_is_not_the_composite(tmp_path, picture):
    """The version of a case, or a picture in black and white, was made to a case once more."""
    one = np.repeat(picture[..., :1], 3, axis=2)
    write_png(Workspace(tmp_path), tmp_path / "a.png", one)
    with pytest.raises(DataFormatError, match=r"grey: .* composite of entropy, mass, temperature"):
        list(composites(tmp_path / "a.png", about(ORDERS[0])))
    # a galaxy without gas is black
    write_png(Workspace(tmp_path), tmp_path / "b.png", np.zeros_like(one))
    assert len(list(composites(tmp_path / "b.png", about(ORDERS[0])))) == 1


def test_the_picture_of_sfr_map_is_of_another_scale_and_says_so(tmp_path, picture):
    path = tmp_path / "rgb.png"
    write_png(Workspace(tmp_path), path, picture, own_scale=True)
    np.testing.assert_array_equal(read_png(path), picture)
    assert has_own_scale(path)
    with pytest.raises(DataFormatError, match="scaled by its own maxima"):
        list(composites(path, about(ORDERS[0])))
    write_png(Workspace(tmp_path), path, picture)
    assert not has_own_scale(path)


def test_a_turned_picture_is_seen_as_it_is_meant(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(tmp_path / "a.png", exif=exif)
    ((_, found),) = composites(tmp_path / "a.png", about(ORDERS[0]))
    np.testing.assert_array_equal(found, np.rot90(picture, -1))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_without_finite_weights_gave_nan_and_exit_0(value):
    values = np.array([4.0, value])
    with pytest.raises(DataFormatError, match=r"no number for 1 of 2 images \(b\.png\)"):
        _check_numbers(Path("model.keras"), ["a.png", "b.png"], values, differ=True)


@pytest.mark.parametrize(
    ("values", "differ", "is_dead"),
    [([4.0, 4.0], True, True), ([4.0, 5.0], True, False), ([4.0, 4.0], False, False)],
)
def test_a_dead_model_gave_its_one_number_without_a_word(caplog, values, differ, is_dead):
    _check_numbers(Path("model.keras"), ["a.png", "b.png"], np.array(values), differ=differ)
    assert ("it is dead" in caplog.text) == is_dead
