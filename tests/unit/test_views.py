"""Several views of a galaxy: maps to images and back."""

from dataclasses import replace

import numpy as np
import pytest

from sfr.errors import DataFormatError
from sfr.imaging.images import write_images
from sfr.imaging.lupton import lupton_rgb
from sfr.imaging.normalise import Normalisation
from sfr.imaging.png import read_png
from sfr.recipe import load_recipe
from sfr.run.names import ImageId
from sfr.run.shards import Shard, read_shard, write_shard
from sfr.run.tables import FAILURES, typed_columns, write_table
from sfr.run.workspace import Workspace
from sfr.semantic.files import read_images

RECIPE = load_recipe("thesis")
SCALE = Normalisation(((0.0, 1.0), (0.0, 2.0), (0.0, 4.0)), clips=False, document={})
#: Subhalo and view of each map, shard by shard.
MAPS = (((3, 0), (3, 2), (7, 0)), ((12, 0), (12, 2)))


@pytest.fixture
def workspace(tmp_path):
    """A folder with two shards by hand; galaxy 7 has no second view."""
    workspace = Workspace(tmp_path)
    paths = []
    for part, images in enumerate(MAPS):
        maps = np.stack([_maps(*image) for image in images])
        columns = {
            "subhalo_id": np.array([subhalo for subhalo, _ in images]),
            "view": np.array([view for _, view in images]),
        }
        failures = typed_columns(FAILURES, [(7, 2, "render", "no gas")] if part == 0 else [])
        paths.append(workspace.shard(99, part))
        write_shard(workspace, paths[-1], Shard(maps, columns, failures, {"snapshot": 99}))
    write_table(workspace, workspace.failures_csv(99), typed_columns(FAILURES, []))
    workspace.mark_done("maps-099", "f", paths)
    return workspace


def _maps(subhalo, view):
    rng = np.random.default_rng([subhalo, view])
    return rng.uniform(0, 2, (3, 8, 8)).astype(np.float32)


def test_each_view_of_a_galaxy_is_an_image_of_its_own_and_knows_whose_it_is(workspace):
    """A second view overwrote the picture of the first: both had the name Snap99ID3.png."""
    made = write_images(workspace, RECIPE, 99, SCALE)
    assert made.n_images == 5
    names = [path.name for path in workspace.images_of(99)]
    assert sorted(names) == [
        "Snap99ID12.png", "Snap99ID12V2.png", "Snap99ID3.png", "Snap99ID3V2.png", "Snap99ID7.png",
    ]  # fmt: skip
    for name in names:
        image = ImageId.parse(name)
        expected = lupton_rgb(SCALE.apply(_maps(image.subhalo_id, image.view)), RECIPE.image)
        np.testing.assert_array_equal(read_png(workspace.images / name), expected)
    shard = read_shard(workspace.shard(99, 0))
    assert shard.images(99) == [ImageId(99, 3), ImageId(99, 3, 2), ImageId(99, 7)]
    assert shard.failures["view"].tolist() == [2]


def test_views_of_one_shard_are_made_again_where_one_of_them_is_gone(workspace):
    write_images(workspace, RECIPE, 99, SCALE)
    times = {path: path.stat().st_mtime_ns for path in workspace.images_of(99)}
    workspace.image(ImageId(99, 12, 2)).unlink()
    assert "Snap99ID12V2.png" in write_images(workspace, RECIPE, 99, SCALE).reason
    changed = {p.name for p in workspace.images_of(99) if p.stat().st_mtime_ns != times[p]}
    assert changed == {"Snap99ID12.png", "Snap99ID12V2.png"}


def test_a_view_that_failed_later_leaves_no_image_of_before(workspace):
    write_images(workspace, RECIPE, 99, SCALE)
    failures = typed_columns(FAILURES, [(7, 2, "render", "no gas")])
    write_table(workspace, workspace.failures_csv(99), failures)
    stray = workspace.image(ImageId(99, 7, 2))
    stray.write_bytes(b"of another recipe")
    assert "changed" in write_images(workspace, RECIPE, 99, SCALE).reason
    assert not stray.exists()


def test_maps_of_before_views_are_refused_and_not_taken_for_face_on(workspace):
    shard = read_shard(workspace.shard(99, 0))
    del shard.columns["view"]
    write_shard(workspace, workspace.shard(99, 0), shard)
    with pytest.raises(DataFormatError, match="has no dataset view"):
        write_images(workspace, RECIPE, 99, SCALE)


def test_each_view_of_a_galaxy_has_a_name_of_its_own_where_maps_are_fitted(workspace):
    """Two rows of sfr semantic fit were both called "mass 3"."""
    path = workspace.shard(99, 0)
    shard = read_shard(path)
    write_shard(workspace, path, replace(shard, attributes={"channel_names": ["a", "mass", "b"]}))
    found = list(read_images(path, channel="mass"))
    assert [image.label for image in found] == ["mass 3", "mass 3 view 2", "mass 7"]
    np.testing.assert_array_equal(found[1].array, _maps(3, 2)[1])
