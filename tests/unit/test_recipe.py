"""Recipes: built in, from files, and what a wrong one says."""

import json
from pathlib import Path

import pytest
import tomli_w

from sfr.errors import ConfigError
from sfr.recipe import BUILT_IN, fields, load_recipe, maps_settings, weights_path
from sfr.run.workspace import Workspace


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
    assert recipe.case_names == (
        "composite", "entropy", "mass", "temperature", "gauss3", "gauss5", "gauss10",
        "structure3", "structure5", "structure10",
    )  # fmt: skip


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
        ('extends = "thesis"\n[normalisation]\npercentiles = [1.0, 99.5]\n', "sfr recipe ranges"),
        ('extends = "thesis"\n[normalisation]\nreference = "training"\n', "reference is gone"),
        ('extends = "thesis"\n[normalisation]\nby = "range"\n', "one of each channel"),
        ('extends = "corrected"\n[normalisation]\nby = "maximum"\n', "with 'maximum' none"),
        ('extends = "corrected"\n[image]\nbrightness = "metals"\n', "none, or a channel"),
        ('extends = "corrected"\n[image]\nstretch = "lupton"\n', "'none' with image.stretch"),
        ('extends = "corrected"\n[cases]\nstructure = "wrap"\n', "floats do not wrap"),
        ('extends = "thesis"\n[cases]\nstructure = "centred"\n', r"cases\.gain"),
        (
            'extends = "thesis"\n[cases]\nact_on = "maps"\nstructure = "centred"\ngain = 1\n',
            r"cases\.edge",
        ),
        (
            'extends = "thesis"\n[cases]\nact_on = "maps"\nstructure = "centred"\ngain = 1\n'
            'edge = "wrap"\n',
            "cut to their ranges",
        ),
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


def test_a_recipe_stored_before_ranges_came_is_read_where_it_asks_for_what_is_done(tmp_path):
    data = load_recipe("thesis").to_dict()
    del data["normalisation"]["by"], data["image"]["stretch"], data["image"]["brightness"]
    data["normalisation"] |= {
        "statistic": "maximum", "percentiles": [0.0, 100.0], "reference": "snapshot",
    }  # fmt: skip
    path = tmp_path / "recipe.toml"
    path.write_text(tomli_w.dumps(data))
    assert load_recipe(path) == load_recipe("thesis")


RANGED = """extends = "corrected"
[maps]
channels = [
  {{ name = "mass", field = "surface_density", transform = "log10", range = {} }},
  {{ name = "b", field = "mass", range = [0, 1] }},
  {{ name = "c", field = "mass", range = [0, 1] }},
]
"""


@pytest.mark.parametrize(
    "value", ["[9, 4]", "[4, 4]", "[nan, 9]", "[4, inf]", "[4]", "[4, 5, 6]", "4", '"4 to 9"', "[]"]
)
def test_a_range_that_is_none_is_refused_by_its_name(tmp_path, value):
    path = tmp_path / "r.toml"
    path.write_text(RANGED.format(value))
    with pytest.raises(ConfigError, match=r"range.*allowed: .*(2 entries|low < high)"):
        load_recipe(path)


def test_a_range_changes_images_and_no_map(tmp_path):
    path = tmp_path / "r.toml"
    found = []
    for value in ("[4, 9]", "[4, 8]"):
        path.write_text(RANGED.format(value))
        found.append(load_recipe(path))
    a, b = found
    assert a.section("maps") == b.section("maps")
    assert maps_settings(a.maps, None) == maps_settings(b.maps, None)
    assert a.section("normalisation")["ranges"]["mass"] == [4.0, 9.0]
    assert a.section("normalisation") != b.section("normalisation")
    assert a.to_dict() != b.to_dict(), "what a folder keeps holds the ranges"


# -- cases follow from channels --------------------------------------------------------------------

README = Path(__file__).resolve().parents[2] / "README.md"
METALS = """
[maps]
channels = [
  { name = "entropy", field = "entropy" },
  { name = "mass", field = "mass" },
  { name = "metals", field = "metallicity" },
]
"""


def cases_of(folder, text, name="mine"):
    path = folder / f"{name}.toml"
    path.write_text(text)
    return load_recipe(path).case_names


def test_the_example_of_the_readme_has_a_case_for_each_of_its_channels(tmp_path):
    """It inherited the case temperature, which showed its metals, and knew no case metals."""
    text = README.read_text("utf-8").partition("```toml\n")[2].partition("```")[0]
    assert "metals" in text
    names = cases_of(tmp_path, text)
    assert names[:4] == ("composite", "entropy", "mass", "metals")
    assert names[4:] == load_recipe("thesis").case_names[4:]


def test_cases_follow_the_channels_through_a_resolved_recipe_and_through_code(tmp_path):
    Workspace(tmp_path).store_recipe(load_recipe("demo"))
    wanted = cases_of(tmp_path, 'extends = "thesis"' + METALS)
    assert cases_of(tmp_path, 'extends = "recipe.toml"' + METALS) == wanted
    channels = load_recipe(tmp_path / "mine.toml").to_dict()["maps"]["channels"]
    ranged = [{**channel, "range": [0, 1]} for channel in channels]
    assert load_recipe("corrected").with_fields("maps", channels=ranged).case_names == wanted
    # other fields of the section do not name cases
    other = METALS + '[cases]\nstructure = "centred"\ngain = 2\n'
    assert cases_of(tmp_path, 'extends = "thesis"' + other) == wanted


def test_cases_that_a_recipe_names_stay_as_they_are(tmp_path):
    base = 'extends = "thesis"\n[cases]\nnames = ["mass", "gauss7"]\n'
    assert cases_of(tmp_path, base, "base") == ("mass", "gauss7")
    assert cases_of(tmp_path, 'extends = "base.toml"' + METALS) == ("mass", "gauss7")


@pytest.mark.parametrize("name", ["temperature", "composit", "gauss0", "Mass", ""])
def test_a_case_that_is_no_channel_of_the_recipe_is_an_error_of_the_recipe(tmp_path, name):
    with pytest.raises(ConfigError, match=r"cases\.names: unknown case .*entropy, mass, metals"):
        cases_of(tmp_path, f'extends = "thesis"{METALS}[cases]\nnames = ["mass", "{name}"]\n')


def test_a_scale_that_is_written_in_two_ways_is_one_case(tmp_path):
    text = 'extends = "thesis"\n[cases]\nnames = ["gauss3", "mass", "gauss3.0"]\n'
    with pytest.raises(ConfigError, match=r"'gauss3', 'gauss3.0'.*each scale once"):
        cases_of(tmp_path, text)


@pytest.mark.parametrize("name", ["composite", "gauss3", "structure5", "Composite", "GAUSS10"])
def test_a_channel_that_is_called_like_another_case_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=f"{name}.*which are cases of all channels"):
        cases_of(tmp_path, 'extends = "thesis"' + METALS.replace('"metals"', f'"{name}"'))


def test_channels_that_differ_by_capitals_only_would_share_a_folder_on_some_disks(tmp_path):
    with pytest.raises(ConfigError, match="more than capitals"):
        cases_of(tmp_path, 'extends = "thesis"' + METALS.replace('"metals"', '"Mass"'))


def test_channels_that_differ_by_how_an_accent_is_written_would_share_a_folder_on_some_disks(
    tmp_path,
):
    text = METALS.replace('"metals"', '"\u00e9"').replace('"mass"', '"e\u0301"', 1)
    with pytest.raises(ConfigError, match="more than capitals"):
        cases_of(tmp_path, 'extends = "thesis"' + text)


@pytest.mark.parametrize("name", ["m" * 101, "\u6e29" * 34])
def test_a_name_too_long_for_a_file_system_ended_a_run_after_rendering(tmp_path, name):
    with pytest.raises(ConfigError, match="at most 100 bytes"):
        cases_of(tmp_path, 'extends = "thesis"' + METALS.replace('"metals"', f'"{name}"'))
    scale = f"gauss1.{'0' * 100}1"
    with pytest.raises(ConfigError, match="at most 100 bytes"):
        cases_of(tmp_path, f'extends = "thesis"\n[cases]\nnames = ["{scale}"]\n')


@pytest.mark.parametrize("count", [1, 2, 4])
def test_channels_that_are_not_three_cannot_be_an_image(tmp_path, count):
    channels = [f'{{ name = "c{i}", field = "mass" }}' for i in range(count)]
    text = f'extends = "thesis"\n[maps]\nchannels = [{", ".join(channels)}]\n'
    with pytest.raises(ConfigError, match=r"three, which are red, green and blue.*sfr map"):
        cases_of(tmp_path, text)


@pytest.mark.parametrize(
    "channels", ["3", '["mass"]', "[{ name = 3 }]", '[{ field = "mass" }]', "{}"]
)
def test_channels_that_are_no_channels_are_named_not_the_cases(tmp_path, channels):
    with pytest.raises(ConfigError, match=r"maps\.channels"):
        cases_of(tmp_path, f'extends = "thesis"\n[maps]\nchannels = {channels}\n')


# -- numbers without end, paths, and what is said of a recipe --------------------------------------


def written(folder, text, name="mine"):
    path = folder / f"{name}.toml"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("field", ["stellar_mass_max", "total_mass_max", "group_mass_max"])
def test_no_upper_limit_is_written_inf(tmp_path, field):
    recipe = load_recipe(written(tmp_path, f'extends = "thesis"\n[sample]\n{field} = inf\n'))
    assert getattr(recipe.sample, field) == float("inf")
    assert recipe.section("sample")[field] == "inf"
    json.dumps(recipe.to_json(), allow_nan=False)
    workspace = Workspace(tmp_path / "run")
    workspace.store_recipe(recipe)
    assert workspace.stored_recipe() == recipe


#: Every field that is a number or a list of numbers, but upper limits.
NUMBERS = [
    row.field
    for row in fields()
    if "number" in row.allowed and "no limit" not in row.allowed and row.field.count(".") == 1
]


@pytest.mark.parametrize("field", NUMBERS)
def test_a_number_that_makes_no_sense_is_refused_by_the_name_of_its_field(tmp_path, field):
    section, _, name = field.partition(".")
    is_list = "entries" in next(row.allowed for row in fields() if row.field == field)
    for value in ("inf", "-inf", "nan", "1e400", "1" + 30 * "0", "-1", '"1"', "{}"):
        given = f"[{value}, {value}]" if is_list else value
        path = written(tmp_path, f'extends = "thesis"\n[{section}]\n{name} = {given}\n')
        with pytest.raises(ConfigError, match=rf"{section}\.{name} = .*allowed: "):
            load_recipe(path)


def test_a_recipe_is_a_circle_only_where_a_file_extends_itself(tmp_path):
    (tmp_path / "child").mkdir()
    written(tmp_path, 'extends = "thesis"\n[maps]\npixels = 64\n', "base")
    child = written(tmp_path / "child", 'extends = "../base.toml"\n', "base")
    assert load_recipe(child).maps.pixels == 64
    # of another folder, a file of the same name
    grandchild = tmp_path / "child" / "other"
    grandchild.mkdir()
    assert load_recipe(written(grandchild, 'extends = "../base.toml"\n', "base")).maps.pixels == 64
    written(tmp_path, 'extends = "child/base.toml"\n', "base")
    with pytest.raises(ConfigError, match=r"circle: .*base\.toml -> .*base\.toml"):
        load_recipe(child)


def test_a_long_chain_of_files_was_a_traceback(tmp_path):
    for place in range(1200):
        written(tmp_path, f'extends = "r{place + 1}.toml"\n', f"r{place}")
    last = written(tmp_path, 'extends = "thesis"\n[maps]\npixels = 64\n', "r1200")
    assert load_recipe(tmp_path / "r0.toml").maps == load_recipe(last).maps


def test_a_recipe_in_another_encoding_says_what_to_do(tmp_path):
    path = tmp_path / "wide.toml"
    path.write_bytes('extends = "thesis"\n'.encode("utf-16"))
    with pytest.raises(ConfigError, match=r"wide\.toml is not UTF-8 .*save it as UTF-8"):
        load_recipe(path)


def test_paths_in_a_recipe_count_from_its_file_and_the_stored_recipe_works_anywhere(
    tmp_path, monkeypatch
):
    (tmp_path / "recipes").mkdir()
    text = 'extends = "thesis"\nsimulation = "../TNG"\n[train]\nweights = "vgg.h5"\n'
    path = written(tmp_path / "recipes", text)
    monkeypatch.chdir("/")
    recipe = load_recipe(path)
    assert recipe.train.weights == str(tmp_path / "recipes/vgg.h5")
    assert Path(recipe.simulation).resolve() == (tmp_path / "TNG").resolve()
    # inherited from another folder
    child = written(tmp_path, 'extends = "recipes/mine.toml"\n')
    assert load_recipe(child).train.weights == str(tmp_path / "recipes/vgg.h5")
    Workspace(tmp_path / "run").store_recipe(recipe)
    monkeypatch.chdir(tmp_path)
    assert Workspace(tmp_path / "run").stored_recipe() == recipe
    assert weights_path("random", tmp_path) == "random"


def test_a_recipe_with_a_byte_order_mark_is_a_recipe(tmp_path):
    path = tmp_path / "windows.toml"
    path.write_bytes(b'\xef\xbb\xbfextends = "demo"\r\n[maps]\r\npixels = 64\r\n')
    assert load_recipe(path).maps.pixels == 64


def test_the_description_of_another_recipe_is_not_inherited(tmp_path):
    path = written(tmp_path, 'extends = "demo"\n[train]\nweights = "imagenet"\nepochs = 3\n')
    assert load_recipe(path).description == "demo with changes: train.weights, train.epochs"
    own = written(tmp_path, 'extends = "demo"\ndescription = "Mine"\n', "own")
    assert load_recipe(own).description == "Mine"
    assert "random" not in load_recipe("demo").description


def test_every_backbone_of_keras_can_be_named():
    from sfr.nn.keras_import import load_keras

    known = {name for name in dir(load_keras().applications) if name[:1].isupper()}
    row = next(row for row in fields() if row.field == "train.backbone")
    assert known <= {name.strip("'") for name in row.allowed.split(", ")}


def test_every_field_says_what_it_means(tmp_path):
    rows = {row.field: row for row in fields()}
    for name in BUILT_IN:
        for section, value in load_recipe(name).to_dict().items():
            names = [f"{section}.{key}" for key in value] if isinstance(value, dict) else [section]
            assert set(names) <= set(rows)
    assert all(row.meaning.endswith(".") and row.allowed for row in rows.values())
