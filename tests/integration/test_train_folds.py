"""Heads of several folds: what the trainer does and leaves when a split has them."""

import json

import numpy as np
import pytest
from tests.integration.test_train_heads import N, content, recipe, write_run

from sfr.compute.tasks import Serial
from sfr.nn.keras_import import load_keras
from sfr.run.names import ModelId
from sfr.train.evaluate import compare, head_states, metrics, read_heads
from sfr.train.fit import train_case, train_cases
from sfr.train.loop import Data, Fold
from sfr.train.output import CaseFiles
from sfr.train.training import Training

pytestmark = pytest.mark.usefixtures("small_outputs")

FOLDS = 3


class Many(Serial):
    """More workers than cases, one after the other."""

    @property
    def count(self):
        return 4


@pytest.fixture
def folds(monkeypatch):
    """Every third image is a fold's test subset."""
    every = np.arange(N)
    made = tuple(
        Fold(every[every % FOLDS != k], every[:0], every[every % FOLDS == k]) for k in range(FOLDS)
    )
    data = property(lambda training: Data(training.rows.label, made))
    monkeypatch.setattr(Training, "data", data)
    return made


def test_each_image_is_predicted_by_the_head_that_has_not_seen_it(workspace, folds):
    chosen = recipe(seeds=2, evaluate_at=(2,))
    summary = train_case(workspace, chosen, "mass")
    models = [ModelId("mass", fold, seed) for fold in range(FOLDS) for seed in (0, 1)]
    assert [result.model for result in summary.results] == models
    files = CaseFiles(workspace, "mass")
    assert set(content(files.folder)) == {
        "predictions.csv", "predictions-epoch-00002.csv", "metrics.json", "history.csv", "heads.npz"
    }  # fmt: skip
    output = files.read()
    assert list(output.metrics) == models
    table = output.predictions
    assert table["fold"].tolist() == [row % FOLDS for row in range(N)]
    assert set(table["subset"].tolist()) == {"test"}
    assert np.isfinite([table["seed_0"], table["seed_1"]]).all()
    for model, entry in output.metrics.items():
        test = folds[model.fold].test
        found = metrics(table["truth"][test], table[f"seed_{model.seed}"][test])
        assert {name: entry[name] for name in found} == found
        assert (entry["fold"], entry["n"], entry["n_train"]) == (model.fold, 4, 8)
    history = output.history
    keys = list(zip(history["fold"], history["seed"], history["epoch"], strict=True))
    assert keys == [(m.fold, m.seed, epoch) for m in models for epoch in (1, 2, 3)]
    # a seed is one row of the table of cases: all of its images, each from its fold
    heads = read_heads(workspace, chosen)["mass"]
    assert [(head.seed, head.filename.size, len(head.histories)) for head in heads] == [
        (0, N, FOLDS), (1, N, FOLDS),
    ]  # fmt: skip
    assert heads[0].metrics["n"] == N
    assert compare({"mass": heads}).n_images == N
    assert {r.status for r in train_case(workspace, chosen, "mass").results} == {"current"}


def test_a_seed_is_dead_where_a_head_of_one_fold_is(workspace, folds, caplog):
    chosen = recipe(seeds=2)
    train_case(workspace, chosen, "mass")
    files = CaseFiles(workspace, "mass")
    entries = json.loads(files.metrics.read_text())["heads"]
    entries[3]["dead"] = True
    workspace.write_json(files.metrics, {"heads": entries})
    assert [head.dead for head in read_heads(workspace, chosen)["mass"]] == [False, True]
    # and one that lacks a fold has no numbers at all, and is not called trained
    workspace.write_json(files.metrics, {"heads": entries[:3] + entries[4:]})
    files.say_failed(entries[0]["settings"], {ModelId("mass", 1, 1): "the loss is not finite"})
    heads = read_heads(workspace, chosen)
    assert [head.seed for head in heads["mass"]] == [0]
    assert "mass, seed 1 is left out: folds 1 are not trained" in caplog.text
    states = head_states(workspace, chosen, heads)
    assert states == {("mass", 0): heads["mass"][0].state, ("mass", 1): "failed"}


def test_heads_of_folds_that_workers_train_apart_leave_the_files_of_one(tmp_path, folds):
    if load_keras().backend.backend() != "tensorflow":
        pytest.skip("other backends compile all heads as one and round otherwise")
    first, second = (write_run(tmp_path / name) for name in "ab")
    train_cases(first, recipe(seeds=2), ["mass"])
    train_cases(second, recipe(seeds=2), ["mass"], workers=Many())
    assert content(first.case("mass")) == content(second.case("mass"))
