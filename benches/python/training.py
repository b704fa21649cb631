"""What training costs: backbone and heads, on this machine, and what a whole experiment would take.

    python benches/python/training.py                 # the backend of KERAS_BACKEND
    KERAS_BACKEND=jax python benches/python/training.py --no-backbone

Prints a table for docs/training.md: seconds per image of the backbone at full size in float32 and
bfloat16, of one epoch of heads on cached features, and what 7881 images, ten cases and 1500 epochs
cost at these rates. Inputs are made; no weights or images are needed.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path

import numpy as np

from sfr.recipe import load_recipe
from sfr.train.backbone import build_backbone
from sfr.train.heads import Heads
from sfr.train.keras_import import load_keras
from sfr.train.loop import epoch_order

IMAGES, CASES, EPOCHS, TRAINING_SHARE = 7881, 10, 1500, 0.9
BATCH = 16


def backbone_seconds(precision: str, repeats: int) -> float:
    """Seconds per image of 256 x 256 pixels, the best of some batches."""
    fields = {"weights": "random", "precision": precision}
    model = build_backbone(load_recipe("thesis").with_fields("train", **fields).train, 256)
    images = np.random.default_rng(0).integers(0, 256, (BATCH, 256, 256, 3)).astype(np.float32)
    model.predict_on_batch(images)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        model.predict_on_batch(images)
        times.append(time.perf_counter() - start)
    return min(times) / BATCH


def epoch_seconds(count: int, rows: int, repeats: int) -> float:
    """Seconds of one epoch of so many published heads on the features of so many images."""
    recipe = load_recipe("thesis").train
    rng = np.random.default_rng(0)
    features = np.maximum(rng.standard_normal((rows, 8, 8, 512), np.float32), 0).astype("float16")
    label = features[:, :, :, 0].astype(np.float64).mean((1, 2)) + 3.0
    heads = Heads(recipe, (rows, 64, 512), "float16", count)
    heads.load_features(features)
    heads.put(heads.start(range(count), 0.0))
    times = []
    for epoch in range(1, repeats + 3):
        start = time.perf_counter()
        loss = heads.train_epoch(epoch_order(np.arange(rows), epoch), label, 0.001)
        times.append(time.perf_counter() - start)
    if not np.isfinite(loss).all():
        raise SystemExit("the loss is not finite")
    return min(times[2:])


def anonymous_gib() -> float | None:
    """Anonymous memory of this process now [GiB]."""
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return None
    kib = next(line.split()[1] for line in lines if line.startswith("RssAnon"))
    return int(kib) / 2**20


def processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))


def projected(image: float, epoch_of_2000: float) -> str:
    """Hours in the backbone and in the heads for the whole experiment."""
    backbone = IMAGES * CASES * image / 3600
    heads = EPOCHS * CASES * epoch_of_2000 * IMAGES * TRAINING_SHARE / 2000 / 3600
    return f"{backbone:.1f} + {heads:.1f} = {backbone + heads:.1f} h"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-backbone", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--memory", action="store_true", help="one epoch of 7881 images")
    arguments = parser.parse_args()
    keras = load_keras()
    backend = keras.backend.backend()
    print(f"{processor()}, {os.cpu_count()} cores, Keras {keras.__version__} on {backend}")
    if arguments.memory:
        seconds = epoch_seconds(1, IMAGES, 1)
        print(f"7881 features: epoch {seconds:.2f} s, anonymous memory {anonymous_gib():.2f} GiB")
        return
    images = {}
    if not arguments.no_backbone:
        for precision in ("float32", "bfloat16"):
            images[precision] = backbone_seconds(precision, min(arguments.repeats, 2))
            print(f"backbone, {precision}: {images[precision]:.3f} s an image", flush=True)
    for count in (1, 8):
        seconds = epoch_seconds(count, arguments.rows, arguments.repeats)
        print(f"heads, K = {count}: {seconds:.3f} s an epoch of {arguments.rows}", flush=True)
        for precision, image in images.items():
            whole = projected(image, seconds * 2000 / arguments.rows)
            print(f"  7881 images x 10 cases x 1500 epochs, {precision}: {whole}")


if __name__ == "__main__":
    main()
