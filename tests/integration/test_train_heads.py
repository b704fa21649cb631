"""Training from tables and images to predictions, in small folders of synthetic galaxies."""

import json
import logging
import shutil

import numpy as np
import pytest

from sfr.errors import (
    ConfigError,
    DataFormatError,
    DataMissingError,
    EmptySelectionError,
    TrainingError,
)
from sfr.imaging.inputs import inputs_of
from sfr.imaging.normalise import range_normalisation
from sfr.imaging.png import read_png, write_png
from sfr.imaging.shares import clipped_share
from sfr.nn.backbone import build_backbone
from sfr.nn.first_weights import initial_weights
from sfr.nn.keras_import import load_keras
from sfr.recipe import Recipe, load_recipe
from sfr.recipe.schema import check_value
from sfr.run.names import ImageId, ModelId
from sfr.run.shards import Shard, write_shard
from sfr.run.tables import FAILURES, SAMPLE, SPLIT, read_table, write_table
from sfr.run.workspace import Workspace
from sfr.train.evaluate import case_table, head_states, metrics, read_heads
from sfr.train.features import extract_features, feature_key
from sfr.train.fit import train_case, train_cases
from sfr.train.head import build_head, build_network, head_shapes
from sfr.train.loop import epoch_order
from sfr.train.output import HISTORY, PREDICTIONS, CaseFiles

pytestmark = pytest.mark.usefixtures("small_outputs")

PIXELS = 32
N = 12


def recipe(**train):
    # two small layers: most of a test's time goes into compiling
    settings = {
        "epochs": 3,
        "batch_size": 4,
        "dense_units": (16, 8),
        "learning_rate": 1e-3,
        "evaluate_at": (),
        **train,
    }
    return load_recipe("demo").with_fields("maps", pixels=PIXELS).with_fields("train", **settings)


def table(workspace, names=None):
    return case_table(read_heads(workspace, recipe().with_fields("cases", names=names)))


def write_run(root, n=N, *, pixels=PIXELS, subset=None, ssfr=None):
    """A run's folder in which the brightness of an image follows its label."""
    workspace, rng = Workspace(root), np.random.default_rng(3)
    ssfr = 10 ** rng.uniform(-12.5, -10, n) if ssfr is None else np.asarray(ssfr)
    sample = {name: np.zeros(n, int if kind is int else float) for name, kind in SAMPLE.items()}
    sample["snapshot"] = np.where(np.arange(n) % 2, 99, 98)
    sample["subhalo_id"] = np.arange(n)[::-1] * 7
    sample["galaxy_id"] = np.arange(n) + 1000
    sample["ssfr_per_yr"] = ssfr
    write_table(workspace, workspace.sample_csv, sample)
    pairs = zip(sample["snapshot"].tolist(), sample["subhalo_id"].tolist(), strict=True)
    names = [ImageId(*pair).filename for pair in pairs]
    write_split(workspace, names, subset)
    brightness = 60 * np.log10(np.maximum(ssfr, 1e-13) * 1e13)
    for name, level in zip(names, brightness, strict=True):
        image = rng.normal(40 + level, 20, (pixels, pixels, 3))
        write_png(workspace, workspace.images / name, image.clip(0, 255).astype(np.uint8))
    return workspace


def write_split(workspace, names, subset=None):
    n = len(names)
    if subset is None:
        subset = ["test" if i % 4 == 0 else "train" for i in range(n)]
    columns = {
        "filename": names,
        "subset": subset,
        "group": names,
        "fold": [0] * n,
        "seed": [0] * n,
    }
    write_table(workspace, workspace.split_csv, {name: columns[name] for name in SPLIT})


def content(folder):
    """The bytes of all files of a folder, with those below it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def predictions_of(workspace, case, seed=0):
    """What stands in the case's table of a seed."""
    table = CaseFiles(workspace, case).read().predictions
    return {**{name: table[name] for name in PREDICTIONS}, "prediction": table[f"seed_{seed}"]}


def history_of(workspace, case, seed=0):
    history = read_table(CaseFiles(workspace, case).history, HISTORY)
    return {name: column[history["seed"] == seed] for name, column in history.items()}


def trained_heads(workspace):
    """Cases and seeds that count as finished."""
    found = (CaseFiles(workspace, case).read().metrics for case in workspace.trained())
    return [(model.case, model.seed) for metrics in found for model in metrics]


# -- the same network, cached or not -----------------------------------------------------------


@pytest.mark.parametrize("scaling", ["raw", "backbone"])
def test_head_on_cache_and_full_frozen_network_have_the_same_losses(workspace, scaling):
    keras = load_keras()
    settings = recipe(
        input_scaling=scaling,
        batch_size=3,
        dense_units=(64, 128, 256, 512, 256),
        feature_type="float32",
    )
    summary = train_case(workspace, settings, "composite")
    predictions = predictions_of(workspace, "composite")
    history = history_of(workspace, "composite")["loss"]

    # the whole network, trained by Keras itself
    backbone = build_backbone(settings.train, PIXELS)
    before = [np.array(w) for w in backbone.get_weights()]
    head = build_head(settings.train, (1, 1, 512))
    names = predictions["filename"].tolist()
    images = np.stack([read_png(workspace.images / name) for name in names]).astype(np.float32)
    label, training = predictions["truth"], np.flatnonzero(predictions["subset"] == "train")
    mean = label[training].mean()
    head.set_weights(initial_weights(head_shapes(settings.train, (1, 512)), 0, mean))
    head.get_layer("dropout").seed_generator.state.assign(np.array([0, 0]))
    network = build_network(backbone, head)
    network.compile(keras.optimizers.Adam(1e-3), "mse", jit_compile=False)
    losses = []
    for epoch in (1, 2, 3):
        batches = epoch_order(training, epoch, 0).reshape(-1, 3)
        found = []
        for rows in batches:
            network.reset_metrics()
            found.append(np.ravel(network.train_on_batch(images[rows], label[rows, np.newaxis]))[0])
        losses.append(np.mean(found))

    np.testing.assert_allclose(losses, history, rtol=1e-5)
    found = network.predict_on_batch(images)[:, 0]
    np.testing.assert_allclose(found, predictions["prediction"], rtol=1e-5)
    for a, b in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert summary.results[0].metrics["epochs"] == len(history) == 3


def test_features_do_not_depend_on_the_other_images(workspace, caplog):
    names = [path.name for path in workspace.images.glob("*.png")]
    with caplog.at_level(logging.INFO, "sfr"):
        everything = extract_features(workspace, recipe(), "gauss3", names)
    assert [path.name for path in everything.path.parent.iterdir()] == [everything.path.name]
    # the parts of these very features were called those of other inputs
    assert "other inputs" not in caplog.text
    array = np.array(everything.array)
    few = extract_features(workspace, recipe(), "gauss3", everything.filenames[5:8])
    np.testing.assert_array_equal(few.array, array[5:8])
    assert few.key != everything.key
    assert not everything.path.exists(), "features of other inputs are removed"


# -- outputs -----------------------------------------------------------------------------------


def test_head_leaves_the_files_of_the_design(workspace, capfd):
    summary = train_cases(workspace, recipe(seeds=2), ["mass", "composite", "mass"])
    assert capfd.readouterr().out == ""
    assert [(r.model.case, r.model.seed, r.status) for r in summary.results] == [
        ("mass", 0, "trained"),
        ("mass", 1, "trained"),
        ("composite", 0, "trained"),
        ("composite", 1, "trained"),
    ]
    folder = workspace.head(ModelId("mass", seed=1))
    published = {"best.weights.h5", "head.weights.h5", "YValues.npy", "metrics.json"}
    assert set(content(folder)) == published
    gathered = {"predictions.csv", "history.csv", "metrics.json", "heads.npz"}
    whole = {f"seed-{seed}/{name}" for seed in (0, 1) for name in published}
    assert set(content(workspace.case("mass"))) == gathered | whole
    left = predictions_of(workspace, "mass", 1)
    order = list(zip(left["snapshot"].tolist(), left["subhalo_id"].tolist(), strict=True))
    assert order == sorted(order)
    sample = read_table(workspace.sample_csv, SAMPLE)
    label = dict(zip(sample["galaxy_id"].tolist(), np.log10(1e15 * sample["ssfr_per_yr"])))  # noqa: B905
    assert left["truth"].tolist() == [label[i] for i in left["galaxy_id"].tolist()]

    test = left["subset"] == "test"
    values = np.load(folder / "YValues.npy")
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, [left["truth"][test], left["prediction"][test]])
    stored = json.loads((folder / "metrics.json").read_text())
    for name, value in metrics(*values).items():
        assert stored[name] == value
    assert (stored["n"], stored["n_train"], stored["weights"]) == (3, 9, "random")
    files = CaseFiles(workspace, "mass")
    assert [files.read().metrics[ModelId("mass", seed=1)], 1] == [stored, stored["seed"]]
    lines = files.history.read_text().splitlines()
    assert lines[0] == "fold,seed,epoch,loss,validation_loss"
    assert lines[1].startswith("0,0,1,")
    assert lines[-1].startswith("0,1,3,")
    assert lines[1].endswith(",")
    assert files.predictions.read_text().splitlines()[0] == (
        "filename,snapshot,subhalo_id,view,galaxy_id,fold,subset,truth,seed_0,seed_1"
    )
    assert [row["case"] for row in table(workspace, ["composite"])] == ["composite", "mass"]


def test_saved_network_predicts_from_images(workspace, whole_network, tmp_path):
    keras = load_keras()
    settings = recipe(seeds=2, input_scaling="backbone", learning_rate=1e-4, feature_type="float32")
    train_case(workspace, settings, "entropy")
    assert not (workspace.head(ModelId("entropy", seed=1)) / "model.keras").exists()
    model = keras.saving.load_model(workspace.head(ModelId("entropy")) / "model.keras")
    table = predictions_of(workspace, "entropy")
    images = [read_png(workspace.images / name) for name in table["filename"].tolist()]
    images = np.stack([np.repeat(image[..., :1], 3, axis=2) for image in images])
    found = model.predict_on_batch(images)[:, 0]
    np.testing.assert_allclose(found, table["prediction"], rtol=1e-5)

    old = (workspace.head(ModelId("entropy")) / "model.keras").read_bytes()
    (workspace.head(ModelId("entropy")) / "model.keras").unlink()
    again = train_case(workspace, settings, "entropy", save_models=True)
    assert [(r.status, r.reason) for r in again.results] == [
        ("current", ""),
        ("current", ""),
    ]
    assert (workspace.head(ModelId("entropy")) / "model.keras").read_bytes() == old
    assert (workspace.head(ModelId("entropy", seed=1)) / "model.keras").is_file()
    shutil.rmtree(workspace.root)


def test_validation_rows_have_a_loss_and_can_choose_the_epoch(tmp_path):
    subset = ["train"] * 6 + ["validation"] * 3 + ["test"] * 3
    workspace = write_run(tmp_path, subset=subset)
    settings = recipe(epochs=8, learning_rate=0.02, predict_from="best_validation")
    stored = train_case(workspace, settings, "composite").results[0].metrics
    losses = history_of(workspace, "composite")["validation_loss"]
    assert stored["n_validation"] == 3
    assert stored["epoch_used"] == 1 + int(np.argmin(losses))
    table = predictions_of(workspace, "composite")
    rows = table["subset"] == "validation"
    loss = np.mean((table["truth"][rows] - table["prediction"][rows]) ** 2)
    assert loss == pytest.approx(losses.min(), rel=1e-12)


def test_best_training_epoch_is_that_of_the_lowest_loss(workspace):
    settings = recipe(epochs=6, learning_rate=0.05, predict_from="best_training")
    stored = train_case(workspace, settings, "composite").results[0].metrics
    loss = history_of(workspace, "composite")["loss"]
    assert stored["epoch_used"] == 1 + int(np.argmin(loss))


def test_weights_of_the_lowest_training_loss_lie_beside_the_last(tmp_path):
    """The listing writes them to a file, and predicts from the last epoch."""
    first, second, third = (write_run(tmp_path / name) for name in "abc")
    fields = {"learning_rate": 0.01, "filter": "linear", "dropout": 0.5}
    stored = train_case(first, recipe(epochs=8, **fields), "composite").results[0].metrics
    best = stored["best_training_epoch"]
    loss = history_of(first, "composite")["loss"]
    assert best == 1 + int(np.argmin(loss))
    assert best < stored["epoch_used"] == 8, "the loss rises again, so that the two differ"
    kept = content(first.head(ModelId("composite")))
    assert kept["best.weights.h5"] != kept["head.weights.h5"]
    train_case(second, recipe(epochs=best, **fields), "composite")
    assert content(second.head(ModelId("composite")))["head.weights.h5"] == kept["best.weights.h5"]
    train_case(third, recipe(epochs=8, predict_from="best_training", **fields), "composite")
    found = content(third.head(ModelId("composite")))
    assert found["head.weights.h5"] == found["best.weights.h5"] == kept["best.weights.h5"]


def test_network_learns_brightness(tmp_path):
    workspace = write_run(tmp_path, 40)
    settings = recipe(epochs=40, seeds=2)
    found = [result.metrics["r"] for result in train_case(workspace, settings, "composite").results]
    assert max(r or 0.0 for r in found) > 0.8


# -- dead heads and failures -------------------------------------------------------------------


def test_dead_head_is_reported_as_dead(tmp_path, caplog):
    # labels and the first output lie below 0, where a ReLU output has no gradient
    workspace = write_run(tmp_path, ssfr=np.logspace(-19, -18, N))
    settings = recipe(output="relu", output_bias="mean_label")
    summary = train_case(workspace, settings, "composite")
    stored = json.loads((workspace.head(ModelId("composite")) / "metrics.json").read_text())
    assert stored["dead"] is True
    assert stored["r"] is None
    assert stored["spearman"] is None
    assert stored["rmse"] > 3
    assert [result.model.seed for result in summary.dead] == [0]
    assert "dead" in caplog.text
    row = table(workspace)[0]
    assert (row["dead"], row["r"]) == (1, None)


def test_loss_that_is_not_finite_is_a_failure_of_its_head(workspace):
    settings = recipe(optimizer="sgd", learning_rate=1e9, epochs=9)
    summary = train_cases(workspace, settings, ["composite", "mass"])
    assert [r.status for r in summary.failures] == ["failed", "failed"]
    assert all("learning_rate" in r.reason for r in summary.failures)
    assert workspace.trained() == []
    assert workspace.failed() == ["composite", "mass"]
    states = head_states(workspace, settings, {})
    assert states == {("composite", 0): "failed", ("mass", 0): "failed"}
    # with settings that can be trained it is none
    train_cases(workspace, recipe(epochs=1), ["mass"])
    assert workspace.failed() == ["composite"]
    heads = read_heads(workspace, settings)
    assert head_states(workspace, settings, heads) == {("mass", 0): heads["mass"][0].state}


# -- once, again, and what changes -------------------------------------------------------------


def test_reruns_and_other_orders_give_the_same_bytes(tmp_path, whole_network):
    first, second = (write_run(tmp_path / name) for name in "ab")
    train_cases(first, recipe(), ["composite", "structure3"])
    train_cases(second, recipe(), ["structure3"])
    a, b = (content(w.case("structure3")) for w in (first, second))
    assert set(a) == {*b} >= {"seed-0/model.keras", "seed-0/head.weights.h5", "predictions.csv"}
    assert [name for name in a if a[name] != b[name]] == []
    shutil.rmtree(tmp_path)


def test_current_heads_are_skipped_without_keras(workspace, monkeypatch):
    first = train_case(workspace, recipe(), "composite")
    before = content(workspace.case("composite"))

    def fail():
        raise TrainingError("Keras is not needed here")

    for module in ("nn.backbone", "train.head", "train.heads", "train.training"):
        monkeypatch.setattr(f"sfr.{module}.load_keras", fail)
    again = train_case(workspace, recipe(), "composite")
    assert [(r.status, r.reason) for r in again.results] == [("current", "")]
    assert again.results[0].metrics == first.results[0].metrics
    assert again.fingerprint == first.fingerprint
    assert content(workspace.case("composite")) == before


def test_more_seeds_leave_the_earlier_ones(workspace):
    train_case(workspace, recipe(), "composite")
    again = train_case(workspace, recipe(seeds=2), "composite")
    assert [r.status for r in again.results] == ["current", "trained"]
    assert len({r.metrics["rmse"] for r in again.results}) == 2


def test_forced_training_repeats_everything(workspace):
    train_case(workspace, recipe(), "composite")
    (result,) = train_case(workspace, recipe(), "composite", force=True).results
    assert (result.status, result.reason) == ("trained", "forced")


@pytest.mark.parametrize("what", ["setting", "image", "label", "split"])
def test_changed_inputs_are_trained_again(workspace, what):
    train_case(workspace, recipe(seeds=2), "composite")
    settings = recipe()
    names = sorted(path.name for path in workspace.images.glob("*.png"))
    if what == "setting":
        settings = recipe(dropout=0.1)
    elif what == "image":
        image = read_png(workspace.images / names[0])
        write_png(workspace, workspace.images / names[0], 255 - image)
    elif what == "label":
        table = read_table(workspace.sample_csv, SAMPLE)
        table["ssfr_per_yr"][0] *= 2
        write_table(workspace, workspace.sample_csv, table)
    else:
        write_split(workspace, names, ["test"] * 3 + ["train"] * (N - 3))
    (result,) = train_case(workspace, settings, "composite").results
    assert (result.status, result.reason) == ("trained", "settings or inputs changed")
    assert trained_heads(workspace) == [("composite", 0)], "seed 1 has other inputs"


def test_interrupted_training_leaves_whole_heads_only(workspace):
    def stop(label, done, total, note=""):
        if label == "training mass seeds 0-1" and done == 2:
            raise KeyboardInterrupt

    chosen = recipe(seeds=2)
    with pytest.raises(KeyboardInterrupt):
        train_cases(workspace, chosen, ["composite", "mass"], on_progress=stop)
    assert trained_heads(workspace) == [("composite", 0), ("composite", 1)]
    assert not (workspace.root / ".tmp").exists() or not list((workspace.root / ".tmp").iterdir())
    again = train_cases(workspace, chosen, ["composite", "mass"])
    assert [r.status for r in again.results] == ["current"] * 2 + ["trained"] * 2


def test_interrupted_features_leave_no_file(workspace):
    def stop(label, done, total, note=""):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_case(workspace, recipe(), "composite", on_progress=stop)
    assert list(workspace.root.glob("features/*")) == []


# -- rows and errors ---------------------------------------------------------------------------


def test_zeros_and_missing_images_are_left_out_and_counted(tmp_path, caplog):
    ssfr = np.logspace(-11, -10, N)
    ssfr[[0, 1, 4]] = 0.0  # test, training, test
    workspace = write_run(tmp_path, ssfr=ssfr)
    next(iter(workspace.images.glob("Snap99ID0.png"))).unlink()
    summary = train_case(workspace, recipe(), "composite")
    assert (summary.n_dropped_zero, summary.n_missing_images) == (3, 1)
    stored = summary.results[0].metrics
    assert (stored["n"], stored["n_train"]) == (1, 7)
    assert stored["n_dropped_zero"] == 3
    assert (stored["r"], stored["dead"]) == (None, False)
    table = predictions_of(workspace, "composite")
    assert len(table["truth"]) == N - 4
    assert "1 images of the split are not there" in caplog.text


@pytest.mark.parametrize(
    ("path", "command"),
    [("split.csv", "sfr split"), ("sample.csv", "sfr select"), ("images", "sfr render")],
)
def test_missing_inputs_name_the_command(workspace, path, command):
    target = workspace.root / path
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(DataMissingError, match=command):
        train_case(workspace, recipe(), "composite")


@pytest.mark.parametrize("subset", ["train", "test"])
def test_nothing_left_to_train_or_test_raises(tmp_path, subset):
    workspace = write_run(tmp_path, subset=[subset] * N)
    other = {"train": "test", "test": "train"}[subset]
    with pytest.raises(EmptySelectionError, match=f"no {other} image"):
        train_case(workspace, recipe(), "composite")


@pytest.mark.parametrize("cases", [[], ["composit"], ["gauss0"]])
def test_unknown_case_raises_before_anything_is_trained(workspace, cases):
    with pytest.raises(ConfigError, match="case"):
        train_cases(workspace, recipe(), ["composite", *cases] if cases else [])
    assert workspace.trained() == []


def write_maps(workspace):
    """Turn the images of a run into shards of maps, half a grey level darker, and remove them."""
    channels = [{"name": n, "field": "mass", "range": [0, 255]} for n in "abc"]
    settings = recipe().with_fields("maps", pixels=PIXELS)
    data = settings.to_dict()
    data["maps"] |= {"channels": channels, "candidates": []}
    data["normalisation"]["by"] = "range"
    data["image"] |= {"stretch": "none"}
    data["cases"] |= {"act_on": "maps", "structure": "centred", "gain": 2.0, "edge": "reflect"}
    settings = check_value(Recipe, data, "")
    scale = range_normalisation(settings.maps.channels, ["grey"] * 3)
    workspace.write_json(workspace.normalisation_json, scale.document)
    for snap in (98, 99):
        paths = workspace.images_of(snap)
        ids = np.array([ImageId.parse(path.name).subhalo_id for path in paths])
        pictures = np.stack([read_png(path) for path in paths]).astype(np.float32)
        maps = np.moveaxis(np.maximum(pictures - 0.5, 0), -1, 1)[:, :, ::-1]
        columns = {"subhalo_id": ids, "view": 0 * ids}
        write_shard(workspace, workspace.shard(snap, 0), Shard(maps, columns, {}, {}))
        failures = {name: np.array([], kind) for name, kind in FAILURES.items()}
        write_table(workspace, workspace.failures_csv(snap), failures)
        workspace.mark_done(f"maps-{snap:03d}", "made so", [])
        for path in paths:
            path.unlink()
    return settings


def test_networks_train_on_float_maps_without_any_image(workspace):
    """corrected was refused: the cases of float maps were not built."""
    settings = write_maps(workspace)
    names = ["composite", "b", "b.band1-3", "structure3"]
    summary = train_cases(workspace, settings, names)
    assert [result.model.case for result in summary.results] == names
    rows = {row["case"]: row for row in case_table(read_heads(workspace, settings))}
    assert {name for name in names if rows[name]["dead"] == 0} == {*names}
    assert not list(workspace.images.iterdir())
    clipped = {name: clipped_share(workspace, name) for name in names}
    assert clipped["composite"] == clipped["b"] == 0
    assert 0 < clipped["structure3"] < 0.2
    # unrounded: not what the same image in 8 bits gives
    filename = read_table(workspace.split_csv, SPLIT)["filename"][0]
    read = inputs_of(workspace, settings).case("composite")(ImageId.parse(filename)).image
    assert np.all((read % 1 == 0.5) | (read == 0))
    # another gain is another feature
    other = settings.with_fields("cases", gain=3.0)
    keys = [feature_key(s, "b.band1-3", images="i", weights="w") for s in (settings, other)]
    assert keys[0] != keys[1]


def test_best_validation_needs_a_validation_subset(workspace):
    with pytest.raises(ConfigError, match="validation_fraction"):
        train_case(workspace, recipe(predict_from="best_validation"), "composite")


def test_images_of_another_size_raise(tmp_path):
    workspace = write_run(tmp_path, pixels=40)
    with pytest.raises(DataFormatError, match=r"40 x 40 pixels.*maps\.pixels = 32"):
        train_case(workspace, recipe(), "composite")


def test_missing_weights_file_raises(workspace, tmp_path):
    with pytest.raises(DataMissingError, match=r"none\.h5"):
        train_case(workspace, recipe(weights=str(tmp_path / "none.h5")), "composite")


def test_damaged_features_are_computed_again(workspace):
    names = [path.name for path in workspace.images.glob("*.png")]
    first = extract_features(workspace, recipe(), "mass", names)
    wanted = np.array(first.array)
    first.path.write_bytes(first.path.read_bytes()[:1000])
    np.testing.assert_array_equal(
        extract_features(workspace, recipe(), "mass", names).array, wanted
    )


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        ("unknown image", "the first is Snap1ID1.png; run sfr split"),
        ("twice", r"line 14: \S+ is there twice.* line 2"),
        ("subset", "line 2: subset 'trainig' is none of train, validation, test"),
        ("negative", "line 5: ssfr_per_yr = '-1.0'; allowed: 0 or more"),
    ],
)
def test_tables_that_do_not_fit_raise(workspace, problem, words):
    names = sorted(path.name for path in workspace.images.glob("*.png"))
    if problem == "unknown image":
        write_split(workspace, [*names, "Snap1ID1.png"])
    elif problem == "twice":
        write_split(workspace, [*names, names[0]])
    elif problem == "subset":
        write_split(workspace, names, ["trainig"] * N)
    else:
        table = read_table(workspace.sample_csv, SAMPLE)
        table["ssfr_per_yr"][3] = -1.0
        write_table(workspace, workspace.sample_csv, table)
    with pytest.raises(DataFormatError, match=words):
        train_case(workspace, recipe(), "composite")


def test_every_line_of_progress_tells_its_own_epoch(workspace, caplog):
    """Each carried the loss of epoch 1: "57/60, loss 1.1252" where the history had 0.110."""
    heard = []
    caplog.set_level(logging.INFO, "sfr")
    train_case(
        workspace,
        recipe(epochs=4),
        "mass",
        on_progress=lambda label, done, total, note="": heard.append((label, done, note)),
    )
    history = history_of(workspace, "mass")
    notes = [(done, note) for label, done, note in heard if label.startswith("training")]
    assert [done for done, _ in notes] == [1, 2, 3, 4]
    for (_, note), loss in zip(notes, history["loss"], strict=True):
        assert note.startswith(f"loss {loss:.4f}, test r ")
    # between two looks at the test subset the last one is repeated, with the epoch that it is of
    assert notes[1][1].endswith("(epoch 1)")
    found = CaseFiles(workspace, "mass").read().metrics[ModelId("mass")]["r"]
    end = "test r undefined" if found is None else f"test r {found:.3f}"
    assert notes[-1][1].endswith(end)
    assert f"mass, seed 0: trained, {end}" in caplog.text


def test_weights_that_cannot_be_had_are_looked_for_once(workspace, monkeypatch):
    """Without a network the download was tried once a case."""
    tries = []

    def build(train, pixels):
        tries.append(train.weights)
        raise DataMissingError("no network")

    monkeypatch.setattr("sfr.train.features.build_backbone", build)
    with pytest.raises(DataMissingError, match="no network"):
        train_cases(workspace, recipe(), ["composite", "mass", "entropy"])
    assert len(tries) == 1
    assert not (workspace.root / "features").exists()
