"""Speed of the semantic autoencoder beside SciPy's least squares, on the same images.

    sfr semantic train                            # once; minutes
    python benches/python/semantic.py --work sfr-work

Prints images per second of the fast encoder, of it with one and two Gauss-Newton steps, of SciPy's
Levenberg-Marquardt with the analytic derivatives (from the image's moments, and from the truth),
each with its rms error over the Cramer-Rao bound; and with --cnn seconds per epoch and images per
second of the published network's sizes. Medians of repeats, after one call that is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from sfr.run.workspace import Workspace
from sfr.semantic.encoders import build_cnn
from sfr.semantic.fisher import bound
from sfr.semantic.problem import PROBLEMS, add_noise
from sfr.semantic.profile import SHAPE
from sfr.semantic.refine import from_moments, least_squares_fit
from sfr.semantic.trained import difference, load_encoder
from sfr.semantic.training import published_training, train_encoder

#: Steps of the published training that are timed; their median counts.
STEPS = 60


def seconds(call: Callable[[], object], repeats: int) -> float:
    call()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("sfr-work"))
    parser.add_argument("--images", type=int, default=5120)
    parser.add_argument("--noise", type=float, default=0.05)
    parser.add_argument("--fits", type=int, default=500, help="images that SciPy fits")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--cnn", default="", help="sizes of the published network: 1/64,1/16")
    options = parser.parse_args()

    encoder = load_encoder(Workspace(options.work).semantic("paper-fast", 0))
    problem, rng = encoder.training.problem, np.random.default_rng(1)
    truth = problem.draw(options.images, rng)
    data = add_noise(problem.images(truth), np.full(options.images, options.noise), rng)
    limit = np.sqrt((bound(truth, problem.frame) ** 2).mean(axis=0)) * options.noise

    def errors(found: np.ndarray) -> str:
        off = difference(found, truth[: len(found)])[:, :3]
        ratio = np.sqrt((off**2).mean(axis=0)) / limit
        return "  ".join(f"{r:6.3f}" for r in ratio)

    few = data[: options.fits]
    fits = {
        "SciPy from moments": lambda: np.array(
            [least_squares_fit(d, from_moments(d), problem.frame, SHAPE) for d in few]
        ),
        "SciPy from truth": lambda: np.array(
            [
                least_squares_fit(d, t, problem.frame, SHAPE)
                for d, t in zip(few, truth, strict=False)
            ]
        ),
    }
    methods: dict[str, tuple[Callable[[], np.ndarray], int, int]] = {
        "network": (lambda: encoder.estimate(data), len(data), options.repeats),
        "network + 1 step": (lambda: encoder.fit(data, steps=1), len(data), options.repeats),
        "network + 2 steps": (lambda: encoder.fit(data, steps=2), len(data), options.repeats),
        **{name: (call, len(few), 2) for name, call in fits.items()},
    }
    times = {n: seconds(call, repeats) / count for n, (call, count, repeats) in methods.items()}
    reference = times["SciPy from moments"]
    print(
        f"{'method':<20}{'us/image':>10}{'images/s':>10}{'x SciPy':>9}   rms/bound of A, e, theta"
    )
    for name, (call, _, _) in methods.items():
        taken = times[name]
        print(
            f"{name:<20}{taken * 1e6:>10.1f}{1 / taken:>10.0f}{reference / taken:>9.1f}   "
            f"{errors(call())}"
        )
    for size in filter(None, options.cnn.split(",")):
        cnn(size, data[:512], options.repeats)


def cnn(size: str, data: np.ndarray, repeats: int) -> None:
    network = build_cnn(size)
    taken = seconds(lambda: network.predict_on_batch(data), repeats) / len(data)
    training = published_training(PROBLEMS["paper"], size, 0.05, "clean")
    training = replace(training, images=STEPS * training.batch, validation=20, epochs=1)
    ends: list[float] = []

    def hear(label: str, *_: object, **__: object) -> None:
        if label.startswith("training"):
            ends.append(time.perf_counter())

    train_encoder(training, hear)
    # the first steps compile
    epoch = statistics.median(np.diff(ends[5:])) * 27_000 / training.batch
    print(
        f"published network {size} ({network.count_params()} weights): {1 / taken:.0f} images/s, "
        f"{epoch:.0f} s an epoch of 27 000 images"
    )


if __name__ == "__main__":
    main()
