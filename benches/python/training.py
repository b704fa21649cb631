"""What training costs: backbone and heads, on this machine, and what a whole experiment would take.

    python benches/python/training.py                 # the backend of KERAS_BACKEND
    KERAS_BACKEND=jax python benches/python/training.py --no-backbone
    python benches/python/training.py --extraction    # images to cache, beside the backbone alone
    python benches/python/training.py --memory 8      # 7881 images: the most anonymous memory
    python benches/python/training.py --orders        # eight seeds: own orders, shared
    python benches/python/training.py --limits        # what this machine can do at best

Prints a table for docs/training.md: seconds per image of the backbone at full size in float32 and
bfloat16, of one epoch of heads on cached features, and what 7881 images, ten cases and 1500 epochs
cost at these rates. Inputs are made; no weights or images are needed.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from timing import anonymous_mb

from sfr.imaging.png import write_png
from sfr.nn.backbone import build_backbone
from sfr.nn.keras_import import load_keras
from sfr.recipe import TrainRecipe, load_recipe
from sfr.run.names import ImageId, ModelId
from sfr.run.workspace import Workspace
from sfr.train.features import BackboneInUse, extract_features
from sfr.train.head import head_shapes
from sfr.train.heads import Heads, layout
from sfr.train.loop import Data, Fold, epoch_orders
from sfr.train.state import State

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


def made_heads(recipe: TrainRecipe, rows: int, counts: tuple[int, ...]) -> Heads:
    """Published heads of some cases, at their start, without features."""
    models = models_of(counts)
    heads = Heads(recipe, (rows, 64, 512), "float16", layout(models, recipe.batch_order))
    heads.put(State.fresh(head_shapes(recipe, (64, 512)), models, {0: 0.0}))
    return heads


def models_of(counts: tuple[int, ...]) -> list[ModelId]:
    """Heads of cases, so many of each."""
    every = enumerate(counts)
    return [ModelId(f"case {place}", 0, seed) for place, n in every for seed in range(n)]


def epoch_of(
    heads: Heads, counts: tuple[int, ...], rows: int, epoch: int, label: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Train an epoch on the first rows; return the losses."""
    none = np.arange(0)
    data, recipe = Data(label, (Fold(np.arange(rows), none, none),)), heads.recipe
    orders = epoch_orders(data, epoch, models_of(counts), recipe.batch_order)
    return heads.train_epoch(orders, data.batches(recipe.batch_size), label, 0.001)


def epoch_seconds(counts: tuple[int, ...], rows: int, repeats: int) -> float:
    """Seconds of one epoch of published heads, so many of each case, on so many images."""
    recipe = load_recipe("thesis").train
    rng = np.random.default_rng(0)
    features = np.maximum(rng.standard_normal((rows, 8, 8, 512), np.float32), 0).astype("float16")
    label = features[:, :, :, 0].astype(np.float64).mean((1, 2)) + 3.0
    heads = made_heads(recipe, rows, counts)
    for place in range(len(counts)):
        heads.load_features(place, features)
    times = []
    for epoch in range(1, repeats + 3):
        start = time.perf_counter()
        loss = epoch_of(heads, counts, rows, epoch, label)
        times.append(time.perf_counter() - start)
    if not np.isfinite(loss).all():
        raise SystemExit("the loss is not finite")
    return min(times[2:])


def order_seconds(rows: int, repeats: int) -> dict[str, float]:
    """Processor time of an epoch of eight heads, by ``train.batch_order``, in turns: medians."""
    rng, recipe = np.random.default_rng(0), load_recipe("thesis")
    features = np.maximum(rng.standard_normal((rows, 8, 8, 512), np.float32), 0).astype("float16")
    times: dict[str, list[float]] = {"own": [], "shared": []}
    heads = {}
    for order in times:
        train = recipe.with_fields("train", batch_order=order).train
        heads[order] = made_heads(train, rows, (8,))
        heads[order].load_features(0, features)
    for epoch in range(1, repeats + 2):
        for order, model in heads.items():
            start = time.process_time()
            epoch_of(model, (8,), rows, epoch, np.full(rows, 3.0))
            times[order].append(time.process_time() - start)
    return {order: float(np.median(found[1:])) for order, found in times.items()}


def extraction_shares(case: str, images: int, repeats: int) -> list[float]:
    """Time of the backbone alone on so many images over that of their way from PNG to cache."""
    recipe = load_recipe("thesis").with_fields("train", weights="random")
    backbone, rng = BackboneInUse(recipe), np.random.default_rng(0)
    batch = rng.integers(0, 256, (BATCH, 256, 256, 3)).astype(np.float32)
    backbone.model.predict_on_batch(batch)
    shares = []
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(folder)
        names = [ImageId(99, place).filename for place in range(images)]
        for name in names:
            # smooth with some noise, so that PNG has as much to do as with galaxies
            image = np.add.outer(np.arange(256), np.arange(256))[..., np.newaxis] / 4
            image = (image + rng.normal(0, 4, (256, 256, 3))).clip(0, 255).astype(np.uint8)
            write_png(workspace, workspace.images / name, image)
        for _ in range(repeats):
            start = time.perf_counter()
            for _ in range(0, images, BATCH):
                backbone.model.predict_on_batch(batch)
            between = time.perf_counter()
            extract_features(workspace, recipe, case, names, backbone=backbone, force=True)
            shares.append((between - start) / (time.perf_counter() - between))
    return shares


class Peak:
    """The most anonymous memory of this process while the block runs [GiB]."""

    def __enter__(self) -> Peak:
        self.gib, self._stop = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self.gib = max(self.gib, anonymous_mb() / 1024)


def memory(count: int, epochs: int) -> str:
    """Say what loading mapped features of 7881 images, and training on them, takes."""
    with tempfile.TemporaryDirectory() as folder:
        path, rng = Path(folder) / "features.npy", np.random.default_rng(0)
        shape = (IMAGES, 8, 8, 512)
        file = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        for start in range(0, IMAGES, 256):
            part = file[start : start + 256]
            part[...] = np.maximum(rng.standard_normal(part.shape, np.float32), 0)
        del file, part
        with Peak() as loading:
            features = np.load(path, mmap_mode="r")
            heads = made_heads(load_recipe("thesis").train, IMAGES, (count,))
            heads.load_features(0, features)
        rows = int(IMAGES * TRAINING_SHARE)
        with Peak() as training:
            for _ in range(epochs):
                epoch_of(heads, (count,), rows, 1, np.full(IMAGES, 3.0))
            heads.predict(np.arange(IMAGES))
    return f"loading {loading.gib:.2f} GiB, training and predicting {training.gib:.2f} GiB"


def limits() -> None:
    """Print the speed of products of matrices and of memory, and what an epoch needs of both."""
    rng = np.random.default_rng(0)

    def seconds(work: Callable[[], object]) -> float:
        times = []
        for _ in range(8):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return min(times)

    large = rng.random((2048, 2048), np.float32)
    x, w = rng.random((8, 100, 256), np.float32), rng.random((8, 256, 512), np.float32)
    source = np.zeros(2**26, np.float32)
    target = source.copy()
    print(f"2048 x 2048: {2 * 2048**3 / seconds(lambda: large @ large) / 1e9:.0f} GFLOP/s")
    flops = 2 * x.size * w.shape[2]
    print(f"eight of 100 x 256 x 512: {flops / seconds(lambda: x @ w) / 1e9:.0f} GFLOP/s")
    moved = 2 * source.nbytes / seconds(lambda: np.copyto(target, source)) / 1e9
    print(f"copying, read and written: {moved:.0f} GB/s")
    recipe = load_recipe("thesis").train
    kernels = [shape for shape in head_shapes(recipe, (64, 512))[2:] if len(shape) > 1]
    dense = sum(int(np.prod(shape)) for shape in kernels)
    # forward, and backward to weights and to inputs; the filter has no gradient to its inputs
    an_image = 6 * dense + 4 * 64 * 512
    weights = dense + sum(shape[1] for shape in kernels) + 513
    steps = -(-2000 // recipe.batch_size)
    print(
        f"an epoch of 2000 features and K heads: {2000 * an_image / 1e9:.2f} K GFLOP; optimizer "
        f"{steps * 7 * 4 * weights / 1e9:.2f} K GB (gradient read; weights and two sums read and "
        f"written, once); features {2000 * 32768 * 2 / 1e9:.2f} GB"
    )


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
    for option in ("--extraction", "--limits", "--orders"):
        parser.add_argument(option, action="store_true")
    parser.add_argument("--memory", type=int, metavar="K")
    arguments = parser.parse_args()
    keras = load_keras()
    backend = keras.backend.backend()
    print(f"{processor()}, {os.cpu_count()} cores, Keras {keras.__version__} on {backend}")
    if arguments.memory:
        count = arguments.memory
        print(f"7881 features, K = {count}: at most {memory(count, 2)}")
        return
    if arguments.limits:
        limits()
        return
    if arguments.orders:
        found = order_seconds(arguments.rows, arguments.repeats)
        for order, seconds in found.items():
            print(f"eight heads, batch_order = {order}: {seconds:.2f} s of processor time an epoch")
        print(f"ratio {found['own'] / found['shared']:.2f}")
        return
    if arguments.extraction:
        for case in ("composite", "gauss10"):
            shares = extraction_shares(case, 64, 3)
            print(f"{case}: {', '.join(f'{s:.3f}' for s in shares)} of the backbone's rate")
        return
    images = {}
    if not arguments.no_backbone:
        for precision in ("float32", "bfloat16"):
            images[precision] = backbone_seconds(precision, min(arguments.repeats, 2))
            print(f"backbone, {precision}: {images[precision]:.3f} s an image", flush=True)
    for cases, count in ((1, 1), (1, 8), (CASES, 1)):
        seconds = epoch_seconds((count,) * cases, arguments.rows, arguments.repeats) / cases
        print(
            f"heads, {cases} cases together, K = {count}: {seconds:.3f} s a case and epoch of "
            f"{arguments.rows}",
            flush=True,
        )
        for precision, image in images.items():
            whole = projected(image, seconds * 2000 / arguments.rows)
            print(f"  7881 images x 10 cases x 1500 epochs, {precision}: {whole}")


if __name__ == "__main__":
    main()
