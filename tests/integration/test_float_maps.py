"""Maps by range, from particles to what networks read, on a mock simulation."""

import numpy as np
import pytest

from sfr.imaging.inputs import inputs_of
from sfr.imaging.png import has_own_scale, read_png
from sfr.imaging.rgb import rgb_image
from sfr.pipeline import open_run
from sfr.pipeline.quicklook import map_file
from sfr.pipeline.record import take_over
from sfr.recipe import load_recipe
from sfr.run.names import ImageId
from sfr.run.shards import iter_shards
from sfr.run.tables import RANGES, read_table
from sfr.run.workspace import Workspace

RECIPE = """
extends = "corrected"
[sample]
stellar_mass_min = 0.1
[maps]
pixels = 64
deposit = "histogram"
"""  # points leave pixels empty
MEAN = 'weight = "mass", statistic = "mean"'
NARROW = f"""
channels = [
  {{{{ name = "entropy", field = "log10_entropy", {MEAN}, range = [-3, 3] }}}},
  {{{{ name = "mass", field = "surface_density", transform = "log10", range = {{}} }}}},
  {{{{ name = "temperature", field = "log10_temperature", {MEAN}, range = [3.5, 7] }}}},
]
"""


def render(folder, mock_sim, text=RECIPE, *, pictures=True):
    path = folder / "r.toml"
    path.write_text(text)
    with open_run(folder / "run", path, simulation=mock_sim, pictures=pictures, workers=1) as run:
        made = run.render([99])
    return run.workspace, made


def test_maps_without_images_then_images_then_another_range(mock_sim, tmp_path):
    workspace, made = render(tmp_path, mock_sim, pictures=False)
    assert not made.images
    assert not workspace.images.exists()
    (shard,) = iter_shards(workspace, 99)
    # empty pixels stand in the shard, as bits
    assert shard.columns["empty"].shape == (*shard.maps.shape[:3], 8)
    np.testing.assert_array_equal(shard.empty, np.isnan(shard.maps))
    assert 0.5 < shard.empty.mean() < 1
    counted = read_table(workspace.ranges_csv(99), RANGES)
    assert len(counted["channel"]) == 3 * len(shard.maps)
    one = {name: column[1] for name, column in counted.items()}
    assert (one["channel"], one["low"], one["high"]) == ("mass", 4.0, 9.0)
    assert one["empty"] == shard.empty[0, 1].mean()
    assert one["below"] == np.mean(shard.maps[0, 1] < 4)

    workspace, made = render(tmp_path, mock_sim)
    assert [m.reason for m in made.maps] == [""], "the maps stay"
    image = ImageId(99, int(shard.columns["subhalo_id"][0]))
    first = read_png(workspace.image(image))
    recipe = workspace.stored_recipe()
    scaled = np.array(
        [(m - low) / (high - low) for m, (low, high) in zip(
            shard.maps[0].astype(float), [c.range for c in recipe.maps.channels], strict=True
        )]
    )  # fmt: skip
    np.testing.assert_array_equal(first, rgb_image(scaled, recipe.image, recipe.channels))
    assert first.any()

    workspace, made = render(tmp_path, mock_sim, RECIPE + NARROW.format("[6, 8]"))
    assert [m.reason for m in made.maps] == [""], "a range changes no map"
    assert (read_png(workspace.image(image)) != first).any()
    counted = read_table(workspace.ranges_csv(99), RANGES)
    assert counted["low"][1] == 6.0
    assert workspace.stored_recipe().maps.channels[1].range == (6.0, 8.0)
    read = inputs_of(workspace, workspace.stored_recipe()).case("mass")(image).image
    expected = 255 * np.clip((shard.maps[0, 1, ::-1] - 6) / 2, 0, 1)
    np.testing.assert_allclose(read[..., 0], np.nan_to_num(expected), rtol=1e-5, atol=1e-4)


def test_sums_are_never_empty_and_their_shards_hold_no_mask(mock_sim, tmp_path):
    text = 'extends = "thesis"\n[sample]\nstellar_mass_min = 0.1\n[maps]\npixels = 64\n'
    workspace, _ = render(tmp_path, mock_sim, text, pictures=False)
    (shard,) = iter_shards(workspace, 99)
    assert "empty" not in shard.columns
    assert not shard.empty.any()
    assert not workspace.ranges_csv(99).exists()


@pytest.mark.parametrize(("before", "after"), [("thesis", "corrected"), ("corrected", "thesis")])
@pytest.mark.parametrize("section", ["maps", "normalisation", "image", "cases"])
def test_a_step_of_another_recipe_leaves_a_recipe_that_can_be_read(
    tmp_path, before, after, section
):
    """Ranges without what they are for, or cases of float maps without ranges, are no recipe."""
    workspace = Workspace(tmp_path)
    workspace.store_recipe(load_recipe(before))
    take_over(workspace, load_recipe(after), [section])
    assert getattr(workspace.stored_recipe(), section) == getattr(load_recipe(after), section)


def test_a_quick_look_by_range_can_be_compared_with_others(mock_sim, tmp_path):
    file = next((mock_sim / "output/snapdir_099").glob("*.0.hdf5"))
    by_range = map_file(file, recipe="corrected", pixels=64, out=tmp_path / "a")
    assert not has_own_scale(tmp_path / "a" / "rgb.png")
    names = ["mass", "temperature", "metallicity"]
    own = map_file(file, recipe="corrected", pixels=64, out=tmp_path / "b", channels=names)
    assert has_own_scale(tmp_path / "b" / "rgb.png")
    assert by_range.rgb.any()
    assert own.rgb.any()
    assert own.rgb.max() == 255
