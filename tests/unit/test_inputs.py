"""What networks read: pictures, or float maps from the shards."""

import numpy as np
import pytest

from sfr.errors import ConfigError, DataFormatError, DataMissingError
from sfr.imaging.cases import case_function
from sfr.imaging.inputs import inputs_of
from sfr.imaging.normalise import range_normalisation
from sfr.imaging.png import write_png
from sfr.imaging.rgb import rgb_image
from sfr.recipe import load_recipe
from sfr.run.names import ImageId
from sfr.run.shards import Shard, write_shard
from sfr.run.tables import FAILURES, write_table
from sfr.run.workspace import Workspace

CORRECTED = load_recipe("corrected").with_fields("maps", pixels=32)
UNITS = ["log10 K", "log10 S", "log10 T"]


def scaled(maps):
    lows, highs = np.array([c.range for c in CORRECTED.maps.channels]).T[:, :, None, None]
    found = (maps - lows) / (highs - lows)
    return np.clip(np.nan_to_num(found, nan=0.0), 0, 1)


@pytest.fixture
def maps():
    found = np.random.default_rng(3).uniform(-4, 10, (5, 3, 32, 32)).astype(np.float32)
    found[0, :, :4] = np.nan
    return found


@pytest.fixture
def workspace(tmp_path, maps):
    """Two shards, whose galaxies are in no order."""
    workspace = Workspace(tmp_path)
    for part, ids in enumerate(([7, 3], [11, 2, 5])):
        rows = slice(2 * part, 2 * part + len(ids))
        shard = Shard(maps[rows], {"subhalo_id": np.array(ids), "view": 0 * np.array(ids)}, {}, {})
        write_shard(workspace, workspace.shard(99, part), shard)
    write_table(
        workspace,
        workspace.failures_csv(99),
        {name: np.array([], kind) for name, kind in FAILURES.items()},
    )
    workspace.mark_done("maps-099", "made so", [])
    document = range_normalisation(CORRECTED.maps.channels, UNITS).document
    workspace.write_json(workspace.normalisation_json, document)
    return workspace


def test_the_network_reads_float_maps_unrounded_without_any_picture(workspace, maps):
    inputs = inputs_of(workspace, CORRECTED)
    assert not workspace.images.exists()
    for row, subhalo_id in enumerate((7, 3, 11, 2, 5)):
        name = ImageId(99, subhalo_id)
        assert inputs.has(name)
        found = inputs.case("composite")(name)
        expected = 255 * np.moveaxis(scaled(maps[row])[:, ::-1], 0, -1)
        assert found.image.dtype == np.float32
        np.testing.assert_allclose(found.image, expected, rtol=1e-5, atol=1e-5)
        assert np.mean(found.image != np.rint(found.image)) > 0.3
        one = inputs.case("mass")(name).image
        np.testing.assert_array_equal(one, np.repeat(found.image[..., 1:2], 3, axis=2))
    np.testing.assert_array_equal(inputs.shown("mass")(name), np.rint(one))
    picture = rgb_image(scaled(maps[row]), CORRECTED.image, CORRECTED.channels)
    np.testing.assert_array_equal(inputs.shown("composite")(name), picture)
    signed = inputs.case("mass.structure3")(name)
    assert signed.clipped > 0.1
    assert signed.image.max() == 255


def test_a_galaxy_without_maps_is_named(workspace):
    inputs = inputs_of(workspace, CORRECTED)
    for name in ("Snap99ID4.png", "Snap98ID7.png", "Snap99ID7V1.png"):
        image = ImageId.parse(name)
        assert not inputs.has(image)
        with pytest.raises(DataMissingError, match=name):
            inputs.case("mass")(image)
        with pytest.raises(DataMissingError, match=name):
            inputs.digest(["Snap99ID7.png", name])
    with pytest.raises(ConfigError, match="unknown case"):
        inputs.case("metals")
    other = inputs_of(workspace, CORRECTED.with_fields("maps", pixels=64))
    with pytest.raises(DataFormatError, match=r"\(3, 32, 32\).*\(3, 64, 64\)"):
        other.case("mass")(ImageId(99, 7))


def test_the_digest_of_maps_changes_with_maps_ranges_and_galaxies_and_not_with_order(workspace):
    def now(*ids):
        return inputs_of(workspace, CORRECTED).digest([f"Snap99ID{i}.png" for i in ids])

    first = now(7, 3)
    assert now(3, 7) == first != now(7, 5)
    document = range_normalisation(CORRECTED.maps.channels, UNITS).document
    document["channels"]["mass"]["range"] = [4.0, 8.0]
    workspace.write_json(workspace.normalisation_json, document)
    second = now(7, 3)
    workspace.mark_done("maps-099", "made otherwise", [])
    assert len({first, second, now(7, 3)}) == 3


def test_pictures_are_read_as_published(tmp_path):
    workspace, recipe = Workspace(tmp_path), load_recipe("thesis").with_fields("maps", pixels=32)
    picture = np.random.default_rng(5).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    write_png(workspace, workspace.image(ImageId(99, 1)), picture)
    inputs = inputs_of(workspace, recipe)
    assert [inputs.has(ImageId(99, i)) for i in (1, 2)] == [True, False]
    found = inputs.case("structure3")(ImageId(99, 1))
    expected = case_function("structure3", recipe.cases, recipe.channels)(picture)
    assert found.image.tobytes() == expected.tobytes()
    assert found.clipped is None
    with pytest.raises(DataMissingError, match="Snap99ID2"):
        inputs.digest(["Snap99ID1.png", "Snap99ID2.png"])
    with pytest.raises(DataFormatError, match="32 x 32"):
        inputs_of(workspace, load_recipe("thesis")).case("mass")(ImageId(99, 1))
