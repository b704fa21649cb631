"""Recipes: built in, from files, and what a wrong one says."""

import pytest
import tomli_w

from sfr.errors import ConfigError
from sfr.recipe import BUILT_IN, load_recipe
from sfr.workspace import Workspace


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_recipes_load_and_survive_a_round_trip(name, tmp_path):
    recipe = load_recipe(name)
    assert recipe.name == name
    workspace = Workspace(tmp_path)
    workspace.store_recipe(recipe)
    assert workspace.stored_recipe() == recipe


def test_thesis_holds_the_published_numbers():
    recipe = load_recipe("thesis")
    assert recipe.sample.snapshots == tuple(range(89, 100))
    assert (recipe.sample.stellar_mass_min, recipe.sample.stellar_mass_max) == (0.5, 100.0)
    assert (recipe.sample.total_mass_max, recipe.sample.group_mass_max) == (200.0, 500.0)
    assert (recipe.maps.pixels, recipe.maps.width_ckpc_h, recipe.maps.bin_scale) == (256, 60, 0.99)
    assert recipe.image.beta == 0.001
    train = recipe.train
    assert (train.optimizer, train.learning_rate) == ("adadelta", 0.001)
    assert (train.batch_size, train.epochs, train.output) == (100, 1500, "relu")
    assert train.dense_units == (64, 128, 256, 512, 256)
    assert len(recipe.cases.names) == 10


def test_a_file_lists_only_what_differs(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = "demo"\n[sample]\nstellar_mass_min = 0.01\n[train]\nepochs = 3\n')
    recipe = load_recipe(path)
    assert recipe.name == "mine"
    assert recipe.sample.stellar_mass_min == 0.01
    assert recipe.train.epochs == 3
    assert recipe.train.weights == "random"


def test_a_file_extends_another_file_beside_it(tmp_path, monkeypatch):
    (tmp_path / "base.toml").write_text('extends = "thesis"\n[maps]\npixels = 64\n')
    (tmp_path / "child.toml").write_text('extends = "base.toml"\n[train]\nseeds = 2\n')
    monkeypatch.chdir("/")
    recipe = load_recipe(tmp_path / "child.toml")
    assert (recipe.maps.pixels, recipe.train.seeds) == (64, 2)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('extends = "thesis"\n[maps]\npixel = 64\n', "did you mean maps.pixels"),
        ('extends = "thesis"\n[maps]\npixels = 64.5\n', "maps.pixels"),
        ('extends = "thesis"\n[maps]\npixels = 0\n', "maps.pixels"),
        ('extends = "thesis"\n[train]\nepochs = 0\n', "train.epochs"),
        ('extends = "thesis"\n[train]\nepochs = true\n', "train.epochs"),
        ('extends = "thesis"\n[train]\nlearning_rate = nan\n', "train.learning_rate"),
        ('extends = "thesis"\n[sample]\nmass_unit = "kg"\n', "'code', 'msun'"),
        ('extends = "thesis"\n[normalisation]\npercentiles = [1.0]\n', "2 entries"),
        ('extends = "thesis"\n[maps]\nchannels = [{name="a", field="mass"}]\n', "three"),
        ('extends = "nothing"\n', "nothing"),
        ("[sample]\n", "missing"),
        ("= 3", "Invalid"),
        ('extends = "self.toml"\n', "circle"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(tmp_path, text, named):
    path = tmp_path / "self.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=named):
        load_recipe(path)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match="thesis, corrected, demo"):
        load_recipe("theses")


def test_with_fields_checks_and_leaves_none_alone():
    recipe = load_recipe("thesis")
    assert recipe.with_fields("train", epochs=None, seeds=3).train.epochs == 1500
    with pytest.raises(ConfigError, match=r"train\.epochs"):
        recipe.with_fields("train", epochs=-1)


def test_a_recipe_stored_before_seeds_had_an_order_of_their_own_is_read(tmp_path):
    data = load_recipe("thesis").to_dict()
    del data["train"]["batch_order"]
    path = tmp_path / "recipe.toml"
    path.write_text(tomli_w.dumps(data))
    assert load_recipe(path).train.batch_order == "own"
