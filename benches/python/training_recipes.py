"""Optimizers on one trained case: both readings of the published one, and what converges.

    sfr mock sim --galaxies 100 --snaps 97-99 --cells 4000
    sfr train --work run --case mass --epochs 1      # after sfr render; its features are used here
    python benches/python/training_recipes.py run mass

Prints the tables of docs/training.md. "Reaches" is the first epoch whose training loss, the median
of the seeds that are not dead, is that of the published optimizer after its last epoch.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from sfr.recipe import load_recipe
from sfr.run.names import ModelId
from sfr.run.tables import TEST, TRAIN, VALIDATION
from sfr.run.workspace import Workspace
from sfr.train.bootstrap import CONSTANT_RANGE
from sfr.train.evaluate import metrics
from sfr.train.features import extract_features
from sfr.train.head import head_shapes
from sfr.train.heads import HeadsInUse
from sfr.train.loop import Data, Fold, train
from sfr.train.rows import read_rows
from sfr.train.state import State

PUBLISHED = {"optimizer": "adadelta", "batch_size": 100, "output": "relu", "output_bias": "zero"}
LINEAR = {"output": "linear", "output_bias": "mean_label"}
SETTINGS = {
    "published, Adadelta 0.001": {**PUBLISHED, "learning_rate": 0.001},
    "published, Adadelta 1.0": {**PUBLISHED, "learning_rate": 1.0},
}
CANDIDATES = {
    f"{name} {rate:g}, batch {batch}, {schedule}": {
        **LINEAR,
        "filter": "linear",
        "optimizer": name,
        "learning_rate": rate,
        "batch_size": batch,
        "schedule": schedule,
        "warmup_epochs": 2,
    }
    for name in ("adam",)
    for rate in (3e-4, 1e-3)
    for batch in (16, 32)
    for schedule in ("constant", "cosine")
}


class Bench:
    def __init__(self, work: Path, case: str) -> None:
        workspace, self.case = Workspace(work), case
        self.recipe = workspace.stored_recipe() or load_recipe("thesis")
        self.rows = read_rows(workspace, self.recipe)
        self.features = extract_features(workspace, self.recipe, case, self.rows.filenames).array
        subsets = (self.rows.indices(subset) for subset in (TRAIN, VALIDATION, TEST))
        self.fold = Fold(*subsets)
        self.data = Data(self.rows.label, (self.fold,))

    def run(self, changes: dict[str, object], epochs: int, seeds: int):
        """Train, and return the last state and the predictions (N, K)."""
        fields = {**changes, "epochs": epochs, "evaluate_at": (), "predict_from": "last"}
        chosen = load_recipe("thesis").with_fields("train", **fields).train
        n, height, width, channels = self.features.shape
        models, in_use = [ModelId(self.case, 0, seed) for seed in range(seeds)], HeadsInUse(chosen)
        mean = float(self.data.label[self.fold.training].mean())
        bias = {0: mean if chosen.output_bias == "mean_label" else 0.0}
        start = State.fresh(head_shapes(chosen, (height * width, channels)), models, bias)
        features = {self.case: self.features}
        *_, end = train(lambda heads: in_use.get(heads, features), chosen, self.data, start)
        return end, in_use.get(models, features).predict(np.arange(n))

    def line(self, name: str, end, prediction, target: float | None) -> tuple[str, float]:
        alive = np.ptp(prediction, axis=0) >= CONSTANT_RANGE
        test = self.rows.indices(TEST)
        scores = [metrics(self.rows.label[test], p[test])["r"] for p in prediction.T[alive]]
        # the loss as trained has dropout; the median over seeds is not led astray by one
        loss = np.median(end.loss[alive], axis=0) if alive.any() else np.full(end.epoch, np.nan)
        below = np.flatnonzero(loss <= (np.inf if target is None else target))
        reached = "" if target is None else str(below[0] + 1) if below.size else "not"
        r = f"{np.mean(scores):.3f}" if scores else "dead"
        dead = f"{int((~alive).sum())}/{alive.size}"
        return f"| {name} | {end.epoch} | {loss[-1]:.4f} | {reached} | {r} | {dead} |", loss[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("case")
    parser.add_argument("--epochs", type=int, default=1500)
    parser.add_argument("--short", type=int, default=75)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--many", type=int, default=300)
    arguments = parser.parse_args()
    bench = Bench(arguments.work, arguments.case)
    print(f"{bench.fold.training.size} training images, features {bench.features.shape[1:]}")
    print("| setting | epochs | training loss | reaches it at | test r | dead heads |")
    print("|---|---|---|---|---|---|")
    targets = []
    for name, changes in SETTINGS.items():
        text, loss = bench.line(name, *bench.run(changes, arguments.epochs, arguments.seeds), None)
        print(text, flush=True)
        targets.append(loss)
    target = np.nanmin(targets)
    for name, changes in CANDIDATES.items():
        found = bench.run(changes, arguments.short, arguments.seeds)
        print(bench.line(name, *found, target)[0], flush=True)
    corrected = load_recipe("corrected").train
    fields = dataclasses.asdict(corrected)
    names = ("filter", "output", "output_bias", "optimizer", "learning_rate", "batch_size")
    changes = {n: fields[n] for n in (*names, "schedule", "warmup_epochs")}
    found = bench.run(changes, corrected.epochs, arguments.seeds)
    print(bench.line("recipe corrected", *found, target)[0], flush=True)
    for name, chosen in {
        "thesis": PUBLISHED | {"learning_rate": 0.001},
        "corrected": changes,
    }.items():
        end, _ = bench.run(chosen, 1, arguments.many)
        print(
            f"{name}: {int(end.dead_at_first.sum())} of {arguments.many} heads dead after epoch 1"
        )


if __name__ == "__main__":
    main()
