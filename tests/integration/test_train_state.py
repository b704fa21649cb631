"""Heads side by side, checkpoints, exact resume, more epochs, and heads that must stop."""

import dataclasses
import json

import numpy as np
import pytest
from tests.integration.test_train_heads import (
    content,
    predictions_of,
    recipe,
    write_run,
)

from sfr.errors import ConfigError
from sfr.nn.keras_import import load_keras
from sfr.recipe import load_recipe
from sfr.run.names import ModelId
from sfr.run.workspace import Workspace
from sfr.train import batch as batch_module
from sfr.train import features as features_module
from sfr.train.features import extract_features
from sfr.train.fit import train_case, train_cases
from sfr.train.head import head_shapes
from sfr.train.heads import Heads, HeadsInUse, _cut
from sfr.train.loop import Data, Fold, epoch_order, epoch_orders, learning_rate, settled, train
from sfr.train.output import CaseFiles
from sfr.train.state import State, read_states, write_states

pytestmark = pytest.mark.usefixtures("small_outputs")

N, SIDE, CHANNELS = 37, 2, 24
RNG = np.random.default_rng(7)
FEATURES = np.maximum(RNG.normal(size=(N, SIDE, SIDE, CHANNELS)), 0).astype(np.float32)
FEATURES_OF = {"mass": FEATURES, "gauss3": FEATURES[::-1] ** 2}
LABEL = FEATURES[..., :3].mean((1, 2, 3)).astype(np.float64) + 2.0
NOBODY = np.arange(0)
TRAINING = np.arange(30)
DATA = Data(LABEL, (Fold(TRAINING, np.arange(30, N), NOBODY),))


def settings(**changes):
    fields = {
        "epochs": 4,
        "batch_size": 8,
        "dense_units": (16, 8),
        "evaluate_at": (),
        "output": "linear",
        "output_bias": "mean_label",
        **changes,
    }
    return load_recipe("thesis").with_fields("train", **fields).train


def models(chosen):
    """A model for any heads, with the features."""
    in_use = HeadsInUse(chosen)
    return lambda models: in_use.get(models, FEATURES_OF)


def fresh(chosen, seeds, case="mass", folds=(0,)):
    heads = [ModelId(case, fold, seed) for fold in folds for seed in seeds]
    return State.fresh(
        head_shapes(chosen, (SIDE * SIDE, CHANNELS)), heads, dict.fromkeys(folds, 2.0)
    )


def trained(chosen, seeds, get=None, start=None, data=DATA):
    get = get or models(chosen)
    *_, state = train(get, chosen, data, start or fresh(chosen, seeds))
    return settled(get(state.models), state)


# -- side by side ------------------------------------------------------------------------------


def assert_same_head(together, place, alone):
    """One head of many against the same one alone: on TensorFlow to the bit."""
    exact = load_keras().backend.backend() == "tensorflow"
    for name in ("loss", "validation_loss", "dropout", "weights", "optimizer"):
        many, one = getattr(together, name), getattr(alone, name)
        for a, b in zip(many, one, strict=True) if isinstance(many, tuple) else [(many, one)]:
            if exact:
                np.testing.assert_array_equal(a[place], b[0])
            else:
                np.testing.assert_allclose(a[place], b[0], rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(
    ("optimizer", "rate"), [("adadelta", 1.0), ("adam", 1e-3), ("adamw", 1e-3), ("rmsprop", 1e-3)]
)
def test_each_of_many_heads_trains_as_it_would_alone(optimizer, rate):
    # 30 rows and batches of 8: the last one is short, and its weight no power of two
    chosen = settings(optimizer=optimizer, learning_rate=rate)
    together = trained(chosen, [0, 1, 5])
    assert len({*together.loss[:, -1].tolist()}) == 3
    for place, seed in [(0, 0), (1, 1), (2, 5)]:
        assert_same_head(together, place, trained(chosen, [seed]))


def test_heads_that_share_an_order_train_as_each_would_alone_but_for_rounding():
    chosen = settings(optimizer="adam", learning_rate=1e-3, batch_order="shared")
    together, alone = trained(chosen, [0, 1, 5]), trained(chosen, [5])
    np.testing.assert_allclose(together.loss[2], alone.loss[0], rtol=1e-4)
    for a, b in zip(together.weights, alone.weights, strict=True):
        np.testing.assert_allclose(a[2], b[0], rtol=1e-2, atol=1e-4)


def test_seeds_that_shared_the_order_of_the_batches_hid_what_the_order_does():
    """Heads that differ by the seed of their order only."""
    fields = {"optimizer": "adam", "learning_rate": 1e-2, "dropout": 0.0}
    for order, count in (("own", 3), ("shared", 1)):
        chosen = settings(batch_order=order, **fields)
        start = fresh(chosen, [0, 1, 2])
        same = tuple(np.stack([array[0]] * 3) for array in start.weights)
        end = trained(chosen, [], start=dataclasses.replace(start, weights=same))
        assert len({*end.loss[:, -1].tolist()}) == count


def test_heads_of_several_cases_train_as_those_of_each_alone():
    chosen = settings(optimizer="adam", learning_rate=1e-2, evaluate_at=(2,))
    start = State.joined([fresh(chosen, [0, 3]), fresh(chosen, [3], "gauss3")])
    together = trained(chosen, [], start=start)
    assert [(m.case, m.seed) for m in together.models] == [("mass", 0), ("mass", 3), ("gauss3", 3)]
    assert together.loss[1, -1] != together.loss[2, -1]
    for case, seeds in [("mass", [0, 3]), ("gauss3", [3])]:
        alone = trained(chosen, [], start=fresh(chosen, seeds, case))
        mine = together.of(case)
        np.testing.assert_allclose(mine.loss, alone.loss, rtol=1e-5)
        np.testing.assert_allclose(mine.marks[2], alone.marks[2], rtol=1e-4)
        np.testing.assert_array_equal(mine.dropout, alone.dropout)
        if load_keras().backend.backend() == "tensorflow":
            for a, b in zip(mine.weights, alone.weights, strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_short_last_batch_is_a_mean_over_its_rows():
    chosen = settings(dropout=0.0, optimizer="sgd", learning_rate=0.01, epochs=1, batch_size=20)
    get = models(chosen)
    start = fresh(chosen, [0])
    heads = get(start.models)
    heads.put(start)
    order = epoch_order(TRAINING, 1, 0)
    first = heads.predict(order[:20])[:, 0]
    loss = heads.train_epoch([order], 2, LABEL, 0.01)
    heads.put(start)
    heads.train_epoch([order[:20]], 1, LABEL, 0.01)
    second = heads.predict(order[20:])[:, 0]
    wanted = np.concatenate([first, second]) - LABEL[order]
    np.testing.assert_allclose(loss[0], np.mean(wanted**2), rtol=1e-5)


def test_order_of_rows_is_a_permutation_of_its_own_in_each_epoch_and_for_each_seed():
    def order(epoch, seed):
        return epoch_order(TRAINING, epoch, seed).tolist()

    orders = [order(1, 0), order(2, 0), order(1, 1), order(2, 1)]
    assert len({*map(tuple, orders)}) == 4
    assert all(sorted(found) == TRAINING.tolist() for found in orders)
    # seed 0 keeps the order that all seeds had before: results of one seed stay the same bytes
    assert order(3, 0) == np.random.default_rng([1, 3]).permutation(TRAINING).tolist()


def test_orders_depend_on_epoch_and_seed_alone():
    heads = [ModelId(case, 0, seed) for case, seed in [("mass", 4), ("mass", 0), ("gauss3", 4)]]
    own = epoch_orders(DATA, 2, heads, "own")
    for order, head in zip(own, heads, strict=True):
        np.testing.assert_array_equal(order, epoch_order(TRAINING, 2, head.seed))
    shared = epoch_orders(DATA, 2, heads, "shared")
    np.testing.assert_array_equal(shared, [own[1], own[1]])


# -- folds ---------------------------------------------------------------------------------------


def three_folds(sizes=(25, 24, 26)):
    """Folds of different sizes: 8 rows a batch, so that the second one needs fewer batches."""
    rng = np.random.default_rng(11)
    return tuple(
        Fold(np.sort(rng.permutation(30)[:size]), np.arange(30, 33) + i, np.arange(33, N))
        for i, size in enumerate(sizes)
    )


@pytest.mark.parametrize("order", ["own", "shared"])
def test_heads_of_all_folds_and_seeds_train_as_those_of_each_fold_alone(order):
    """3 folds of 2 seeds on the same features, each head on the rows of its fold."""
    chosen = settings(
        optimizer="adam", learning_rate=1e-2, batch_order=order, predict_from="best_validation"
    )
    data = Data(LABEL, three_folds())
    assert data.batches(8) == 4
    together = trained(chosen, [], start=fresh(chosen, [0, 3], folds=(0, 1, 2)), data=data)
    assert together.models == tuple(ModelId("mass", f, seed) for f in range(3) for seed in (0, 3))
    assert len({*together.loss[:, -1].tolist()}) == 6
    for fold in range(3):
        start = fresh(chosen, [0, 3], folds=(fold,))
        alone = trained(chosen, [], start=start, data=data)
        mine = together.only([2 * fold, 2 * fold + 1])
        for name in ("loss", "validation_loss", "dropout", "validation_epoch", "dead_at_first"):
            exact = load_keras().backend.backend() == "tensorflow" and order == "own"
            assert_alike(getattr(mine, name), getattr(alone, name), exact=exact)
        for a, b in zip(mine.weights, alone.weights, strict=True):
            assert_alike(a, b, exact=exact)


def assert_alike(a, b, *, exact):
    if exact:
        np.testing.assert_array_equal(a, b)
    else:
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4)


def test_a_fold_by_itself_trains_as_the_one_fold_of_a_run_does():
    """With one fold nothing is new: the same rows, batches and weights."""
    chosen = settings(optimizer="adam", learning_rate=1e-2)
    first, _, last = three_folds()
    one = trained(chosen, [0], data=Data(LABEL, (first,)))
    of_many = trained(chosen, [0], data=Data(LABEL, (first, last)))
    np.testing.assert_array_equal(one.loss, of_many.loss)
    for a, b in zip(one.weights, of_many.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_rows_of_other_folds_do_not_touch_a_head():
    chosen = settings(optimizer="adam", learning_rate=1e-2)
    first, second, _ = three_folds()
    other = LABEL.copy()
    other[np.setdiff1d(np.arange(30), first.training)] += 5.0
    start = fresh(chosen, [0], folds=(0, 1))
    data = [Data(label, (first, second)) for label in (LABEL, other)]
    a, b = (trained(chosen, [], start=start, data=one) for one in data)
    np.testing.assert_array_equal(a.loss[0], b.loss[0])
    assert not np.array_equal(a.loss[1], b.loss[1])


def test_smaller_folds_take_as_many_steps_with_smaller_batches():
    assert [part.size for part in _cut(np.arange(25), 4, 8)] == [8, 8, 8, 1]
    parts = _cut(np.arange(24), 4, 8)
    assert [part.size for part in parts] == [6, 6, 6, 6]
    assert np.concatenate(parts).tolist() == list(range(24))
    with pytest.raises(ConfigError, match="fold 1 has 2 training images"):
        Data(LABEL, three_folds((25, 2, 26))).batches(8)


def test_a_loss_of_validation_does_not_depend_on_how_many_heads_there_are():
    """NumPy adds rows of one column otherwise than those of several."""
    rows = Fold(np.arange(10), np.arange(10, N), NOBODY)
    chosen = settings(epochs=2, optimizer="adam", learning_rate=1e-2)
    data = Data(LABEL, (rows,))
    many, one = trained(chosen, [0, 1, 5], data=data), trained(chosen, [5], data=data)
    exact = load_keras().backend.backend() == "tensorflow"
    assert_alike(many.validation_loss[2], one.validation_loss[0], exact=exact)


# -- stopping and going on ---------------------------------------------------------------------


@pytest.mark.parametrize("stop", [1, 3])
def test_resume_at_any_epoch_gives_the_same_bits(tmp_path, stop):
    chosen = settings(
        optimizer="adam", learning_rate=1e-2, predict_from="best_validation", evaluate_at=(2,)
    )
    whole = trained(chosen, [0, 3])
    get = models(chosen)
    for state in train(get, chosen, DATA, fresh(chosen, [0, 3])):
        if state.epoch == stop:
            break
    workspace = Workspace(tmp_path)
    path = tmp_path / "checkpoint.npz"
    write_states(workspace, path, "key", [settled(get(state.models), state)])
    assert read_states(path, "other key") == []
    (start,) = read_states(path, "key")
    resumed = trained(chosen, [0, 3], start=start)
    for field in dataclasses.fields(State):
        a, b = getattr(whole, field.name), getattr(resumed, field.name)
        if isinstance(a, dict):
            assert a.keys() == b.keys()
            a, b = list(a.values()), list(b.values())
        for x, y in zip(a, b, strict=True) if isinstance(a, list | tuple) else [(a, b)]:
            np.testing.assert_array_equal(x, y)
    path.write_bytes(path.read_bytes()[:-200])
    assert read_states(path, "key") == []


@pytest.mark.parametrize("stop", [1, 3])
def test_both_best_epochs_survive_a_stop(tmp_path, stop):
    chosen = settings(optimizer="adam", learning_rate=0.5, predict_from="best_validation")
    whole = trained(chosen, [0, 3])
    assert len({*whole.best_epoch.tolist(), *whole.validation_epoch.tolist(), 4}) > 1
    for seed, place in [(0, 0), (3, 1)]:
        best = whole.loss[place].argmin()
        assert (whole.models[place].seed, whole.best_epoch[place]) == (seed, best + 1)
    get = models(chosen)
    for state in train(get, chosen, DATA, fresh(chosen, [0, 3])):
        if state.epoch == stop:
            break
    path = tmp_path / "c.npz"
    write_states(Workspace(tmp_path), path, "k", [settled(get(state.models), state)])
    (start,) = read_states(path, "k")
    resumed = trained(chosen, [0, 3], start=start)
    for name in ("best_weights", "validation_weights"):
        assert len(getattr(whole, name)) == len(whole.weights)
        for a, b in zip(getattr(whole, name), getattr(resumed, name), strict=True):
            np.testing.assert_array_equal(a, b)
    assert (whole.best_epoch.tolist(), whole.validation_epoch.tolist()) == (
        resumed.best_epoch.tolist(), resumed.validation_epoch.tolist(),
    )  # fmt: skip


def test_killed_training_goes_on_from_its_checkpoint(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "sfr")
    monkeypatch.setattr(batch_module, "_CHECKPOINT_SECONDS", 0.0)
    first, second = (write_run(tmp_path / name) for name in "ab")
    chosen = recipe(seeds=2, epochs=4)
    train_case(first, chosen, "composite")

    def stop(label, done, total, note=""):
        if label.startswith("training") and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_case(second, chosen, "composite", on_progress=stop)
    assert second.trained() == []
    train_case(second, chosen, "composite")
    assert "going on after epoch 3" in caplog.text
    assert content(first.case("composite")) == content(second.case("composite"))
    assert CaseFiles(second, "composite").checkpoints() == []


def test_cases_trained_together_are_those_of_each_alone_killed_between_or_not(
    tmp_path, monkeypatch, caplog
):
    """Cases of one head each train in one program, where that is the same to the byte."""
    if load_keras().backend.backend() != "tensorflow":
        pytest.skip("other backends round by what else is in the program, so cases stay alone")
    caplog.set_level("INFO", "sfr")
    monkeypatch.setattr(batch_module, "_CHECKPOINT_SECONDS", 0.0)
    first, second = (write_run(tmp_path / name) for name in "ab")
    chosen, cases = recipe(epochs=4), ["mass", "composite", "gauss3"]
    for case in cases:
        train_case(first, chosen, case)

    def stop(label, done, total, note=""):
        if label == "training 3 cases seed 0" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_cases(second, chosen, cases, on_progress=stop)
    assert second.trained() == []
    summary = train_cases(second, chosen, cases)
    assert caplog.text.count("going on after epoch 3") == 3
    assert [result.model for result in summary.results] == [ModelId(case) for case in cases]
    for case in cases:
        assert content(first.case(case)) == content(second.case(case))


def test_more_epochs_go_on_from_what_was_trained(tmp_path, caplog):
    caplog.set_level("INFO", "sfr")
    first, second = (write_run(tmp_path / name) for name in "ab")
    train_case(first, recipe(epochs=4), "composite")
    train_case(second, recipe(epochs=2), "composite")
    (result,) = train_case(second, recipe(epochs=4), "composite").results
    assert result.status == "trained"
    assert "going on after epoch 2" in caplog.text
    assert content(first.case("composite")) == content(second.case("composite"))


def test_a_schedule_that_ends_starts_anew_with_more_epochs(workspace, caplog):
    caplog.set_level("INFO", "sfr")
    train_case(workspace, recipe(epochs=2, schedule="cosine"), "composite")
    train_case(workspace, recipe(epochs=3, schedule="cosine"), "composite")
    assert "going on" not in caplog.text


def test_more_seeds_leave_each_head_as_it_would_be_alone(tmp_path):
    """At once or later: the same bytes."""
    if load_keras().backend.backend() != "tensorflow":
        pytest.skip("other backends compile all heads as one and round otherwise")
    whole, later = (write_run(tmp_path / name) for name in ("whole", "later"))
    train_case(whole, recipe(seeds=3), "mass")
    for seeds in (1, 3):
        train_case(later, recipe(seeds=seeds), "mass")
    assert content(later.case("mass")) == content(whole.case("mass"))


def test_heads_that_shared_an_order_are_not_continued_in_their_own(workspace, caplog):
    caplog.set_level("INFO", "sfr")
    train_case(workspace, recipe(epochs=2, seeds=2, batch_order="shared"), "composite")
    results = train_case(workspace, recipe(epochs=3, seeds=2), "composite").results
    assert [result.status for result in results] == ["trained", "trained"]
    assert "going on" not in caplog.text


def test_predictions_are_kept_at_the_epochs_asked_for(workspace):
    train_case(workspace, recipe(epochs=3, evaluate_at=(1, 3, 9)), "composite")
    files = CaseFiles(workspace, "composite")
    stored = json.loads((workspace.head(ModelId("composite")) / "metrics.json").read_text())
    assert [found["epoch"] for found in stored["at_epochs"]] == [1, 3]
    assert stored["at_epochs"][-1]["rmse"] == pytest.approx(stored["rmse"])
    end = predictions_of(workspace, "composite")
    same = files.read().predictions_in(files.folder / "predictions-epoch-00003.csv")
    np.testing.assert_allclose(same["seed_0"], end["prediction"], rtol=1e-6)
    assert (files.folder / "predictions-epoch-00001.csv").is_file()
    alone = recipe(epochs=1)
    train_case(workspace, alone, "composite")
    assert not (files.folder / "predictions-epoch-00003.csv").exists()


# -- heads that stop ---------------------------------------------------------------------------


def test_a_head_whose_loss_is_not_finite_stops_and_the_others_go_on():
    chosen = settings(optimizer="adam", learning_rate=1e-3)
    get, start = models(chosen), fresh(chosen, [0, 1, 2])
    for array in start.weights:
        array[1] *= 1e30
    end = trained(chosen, [0, 1, 2], get, start)
    assert [model.seed for model in end.models] == [0, 2]
    assert (end.failed, end.epoch) == ({ModelId("mass", seed=1): 1}, 4)
    alone = trained(chosen, [2], get)
    np.testing.assert_allclose(end.loss[1], alone.loss[0], rtol=1e-4)


def test_heads_dead_after_the_first_epoch_are_counted(workspace):
    chosen = recipe(seeds=6, epochs=1, filter="relu")
    results = train_case(workspace, chosen, "composite").results
    dead = [result.metrics["dead_at_first_epoch"] for result in results]
    assert dead == [result.dead for result in results]
    assert 0 < sum(dead) < 6, "the 1 x 1 filter of some heads is 0 for all images"


def test_a_linear_filter_and_output_leave_no_head_dead():
    # bright features, as those of a galaxy: the filter has one sign for all pixels
    bright = 1.0 + 0.1 * FEATURES
    dead = {}
    for name in ("relu", "linear"):
        chosen = settings(filter=name, optimizer="adam", learning_rate=1e-4, epochs=1)
        heads = Heads(chosen, (N, SIDE * SIDE, CHANNELS), "float32", ((0, 1),) * 40)
        heads.load_features(0, bright)
        end = trained(chosen, list(range(40)), lambda _, heads=heads: heads)
        dead[name] = int(end.dead_at_first.sum())
    assert dead["relu"] > 5
    assert dead["linear"] == 0


# -- the schedule ------------------------------------------------------------------------------


def test_learning_rate_rises_and_falls_as_stated():
    plain = settings(learning_rate=0.5)
    assert [learning_rate(plain, epoch) for epoch in (1, 4)] == [0.5, 0.5]
    curve = settings(learning_rate=0.4, schedule="cosine", warmup_epochs=2, epochs=4)
    found = [learning_rate(curve, epoch) for epoch in (1, 2, 3, 4)]
    np.testing.assert_allclose(
        found, [0.2, 0.4 * (2 + 2**0.5) / 4, 0.2, 0.4 * (2 - 2**0.5) / 4], rtol=1e-12
    )


# -- the cache ---------------------------------------------------------------------------------


def test_interrupted_extraction_keeps_its_parts(workspace, monkeypatch):
    monkeypatch.setattr(features_module, "BATCH", 2)
    monkeypatch.setattr(features_module, "PART", 4)
    names = [path.name for path in workspace.images.glob("*.png")]
    seen = []

    def stop(label, done, total):
        seen.append(done)
        if done == 10 and len(seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_features(workspace, recipe(), "mass", names, on_progress=stop)
    assert len(list((workspace.root / "features").iterdir())) == 2
    found = extract_features(workspace, recipe(), "mass", names, on_progress=stop)
    assert seen == [2, 4, 6, 8, 10, 10, 12]
    assert [path.name for path in (workspace.root / "features").iterdir()] == [found.path.name]
    array = np.array(found.array)
    again = extract_features(workspace, recipe(), "mass", names, force=True)
    np.testing.assert_array_equal(again.array, array)


def test_float16_features_are_float32_features_rounded(workspace):
    names = [path.name for path in workspace.images.glob("*.png")]
    exact = np.array(
        extract_features(workspace, recipe(feature_type="float32"), "mass", names).array
    )
    half = extract_features(workspace, recipe(), "mass", names).array
    np.testing.assert_array_equal(half, exact.astype(np.float16))


def test_features_too_large_for_float16_say_what_to_set(workspace):
    class Large:
        def predict_on_batch(self, batch):
            return np.full((len(batch), 1, 1, 512), 7e4, np.float32)

    backbone = features_module.BackboneInUse(recipe())
    backbone.__dict__["_built"] = Large()
    names = [path.name for path in workspace.images.glob("*.png")]
    with pytest.raises(ConfigError, match=r"7e\+04.*feature_type"):
        extract_features(workspace, recipe(), "mass", names, backbone=backbone)
