"""Training of the encoders: the published way, by the noise, and by the Cramer-Rao bound."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import ConfigError, TrainingError
from sfr.nn.first_weights import initial_weights
from sfr.nn.keras_import import load_keras
from sfr.progress import Progress, silent
from sfr.run.checkpoint import Saved
from sfr.semantic.code import CircleCode, Code, EllipseCode, PublishedCode
from sfr.semantic.decoder import build_decoder
from sfr.semantic.encoders import (
    FAST,
    build_cnn,
    build_fast,
    check_encoder,
    principal_components,
    scale_to_images,
)
from sfr.semantic.fisher import bound
from sfr.semantic.problem import PROBLEMS, Problem, add_noise
from sfr.semantic.profile import SHAPE, blocks

__all__ = [
    "History",
    "Training",
    "default_training",
    "published_training",
    "train_encoder",
]

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
#: Inputs, targets and weights of some rows.
Batch = tuple[Floats, Floats, Floats | None]

LOSSES: Final = ("mae", "chi2", "bound")
TARGETS: Final = ("noisy", "clean")
#: Images that the principal components are taken from.
_PCA_IMAGES: Final = 8000
_RENDER_BATCH: Final = 2000
#: Images that the first weights of a convolutional network are scaled by.
_SCALED_BY: Final = 512
#: Time between two checkpoints: what a training that is stopped loses at most [s].
_CHECKPOINT_SECONDS: Final = 30.0
_COMPONENTS: Final = 64
#: A free centre needs more of them: the images are no longer symmetric.
_COMPONENTS_OFF_CENTRE: Final = 192


@dataclass(frozen=True)
class Training:
    """How an encoder is trained.

    Attributes
    ----------
    problem : Problem
        What it is trained on.
    encoder : str
        ``fast`` or a size of the published network.
    loss : str
        ``mae``: published, the mean absolute error of the image, bottleneck (A, e, theta / 180);
        ``chi2``: squared error of the image over the noise, bottleneck A and e (cos 2 theta,
        sin 2 theta); ``bound``: error of the parameters over their Cramer-Rao bound, bottleneck A,
        e and (cos 2 theta, sin 2 theta). The last two have new noise in every batch.
    target : str
        Image losses: ``noisy`` compares with the noisy input, ``clean`` with the image before
        noise.
    images, validation : int
        Images trained on, and images that choose the best epoch.
    epochs, batch : int
        Passes, and images a step.
    learning_rate : float
        Of Adadelta (``mae``, constant, rho 0.95) or Adam (else, falling to 0 by a cosine).
    seed : int
        Decides everything random.
    """

    problem: Problem
    encoder: str
    loss: str
    target: str
    images: int
    validation: int
    epochs: int
    batch: int
    learning_rate: float
    seed: int = 0

    def __post_init__(self) -> None:
        check_encoder(self.encoder)
        if self.loss not in LOSSES or self.target not in TARGETS:
            raise ConfigError(
                f"loss {self.loss!r}, target {self.target!r}: losses are {', '.join(LOSSES)}, "
                f"targets {', '.join(TARGETS)}"
            )
        if self.encoder == FAST and self.loss != "bound":
            raise ConfigError(f"loss {self.loss!r}: the fast encoder learns by loss 'bound' only")
        if self.encoder == FAST and self.images <= self.components:
            raise ConfigError(
                f"images = {self.images}; the fast encoder takes {self.components} principal "
                "components, of more images than that"
            )
        if self.loss == "mae" and self.problem.free != SHAPE:
            raise ConfigError(
                f"loss 'mae' has the published bottleneck, (A, e, theta); problem "
                f"{self.problem.name!r} leaves {', '.join(self.problem.free)} free: take 'bound'"
            )
        if self.loss != "mae" and self.problem.noise[0] == 0:
            raise ConfigError(f"loss {self.loss!r} weights by the noise, which is 0 here")
        for name in ("images", "validation", "epochs", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}; give 1 or more")
        if not 0 < self.learning_rate < np.inf or self.seed < 0:
            raise ConfigError(
                f"learning rate {self.learning_rate}, seed {self.seed}: give a positive rate and "
                "a seed of 0 or more"
            )

    @property
    def name(self) -> str:
        """Name of its folder; what it leaves out is in the fingerprint."""
        low, high = self.problem.noise
        noise = f"noise{low:g}" if low == high else f"noise{low:g}_{high:g}"
        parts = [self.problem.name]
        if self.encoder == FAST:
            parts.append(FAST)
            if self.problem.noise != PROBLEMS.get(self.problem.name, self.problem).noise:
                parts.append(noise)
        else:
            parts += [f"cnn{self.encoder.replace('/', '_')}", self.loss, noise]
            if self.loss != "bound":
                parts.append(self.target)
        if self.problem.frame.psf_fwhm > 0:
            parts.append(f"psf{self.problem.frame.psf_fwhm:g}")
        return "-".join(parts)

    @property
    def learned_from(self) -> str:
        """What it is compared with; only ``its own input`` is self-supervised."""
        if self.loss == "bound":
            return "true parameters"
        # a clean image is its own target
        is_own = self.target == "noisy" or self.problem.noise[1] == 0
        return "its own input" if is_own else "clean images"

    @property
    def components(self) -> int:
        """Principal components that the fast encoder takes."""
        return _COMPONENTS_OFF_CENTRE if "x" in self.problem.free else _COMPONENTS

    @property
    def can_be_prolonged(self) -> bool:
        """Whether more epochs go on from fewer: the learning rate is constant."""
        return self.loss == "mae"

    def settings(self) -> dict[str, Any]:
        """Return everything the result depends on, as plain data."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**plain, "problem": {"name": self.problem.name, **self.problem.settings()}}

    @cached_property
    def code(self) -> Code:
        """Its bottleneck."""
        if self.loss == "mae":
            return PublishedCode(self.problem)
        return EllipseCode(self.problem) if self.loss == "chi2" else CircleCode(self.problem)


def default_training(
    problem: Problem, encoder: str = FAST, *, loss: str = "bound", target: str = "noisy"
) -> Training:
    """Return the settings that we train an encoder with."""
    if encoder == FAST:
        return Training(problem, FAST, loss, target, 200_000, 2000, 26, 512, 4e-3)
    # an image leads to the angle by small steps only
    rate = 5e-4 if loss == "chi2" else 2e-3
    return Training(problem, encoder, loss, target, 27_000, 3000, 100, 50, rate)


def published_training(problem: Problem, size: str, noise: float, target: str) -> Training:
    """Return the published settings (METHOD 6): Adadelta, MAE, batch 20, 500 epochs.

    Parameters
    ----------
    problem : Problem
        ``paper`` or ``notebook``.
    size : str
        Size of the network.
    noise : float
        Noise of all images; 10 000 clean images, 30 000 noisy ones, a tenth for validation.
    target : str
        ``noisy``: the paper's text; ``clean``: the public notebook.
    """
    images = 30_000 if noise > 0 else 10_000
    return Training(
        problem=problem.with_noise(noise, noise),
        encoder=size,
        loss="mae",
        target=target,
        images=images * 9 // 10,
        validation=images // 10,
        epochs=500,
        batch=20,
        learning_rate=1.0,
    )


@dataclass(frozen=True)
class History:
    """How one training went.

    Attributes
    ----------
    loss, validation_loss : ndarray of float64, shape (epochs,)
        After each epoch.
    epoch : int
        The epoch whose weights were kept, from 1: that of the lowest validation loss.
    """

    loss: NDArray[np.float64]
    validation_loss: NDArray[np.float64]
    epoch: int


def build_encoder(training: Training) -> tuple[Any, Any]:
    """Build an encoder without weights.

    Returns
    -------
    tuple of keras.Model
        Images (N, 64, 64) to code, and the part that is trained (the same for the CNN).
    """
    if training.encoder == FAST:
        return build_fast(training.code.size, training.components)
    activation = "sigmoid" if training.loss == "mae" else "linear"
    network = build_cnn(training.encoder, training.code.size, activation=activation)
    return network, network


def train_encoder(
    training: Training,
    on_progress: Progress = silent,
    *,
    start: Saved | None = None,
    keep: Callable[[dict[str, Any], dict[str, Any]], None] | None = None,
) -> tuple[Any, History]:
    """Train an encoder; the same settings give the same weights, stopped between or not.

    Parameters
    ----------
    training : Training
        How.
    on_progress : callable
        Hears of images made and of batches.
    start : tuple of dict or None
        State to go on from, as it was kept.
    keep : callable or None
        Keeps a state: is given plain data and arrays after an epoch, at most every 30 s, and after
        the last one.

    Returns
    -------
    tuple of keras.Model and History
        The encoder with the weights of its best epoch: images (N, 64, 64) to code.

    Raises
    ------
    TrainingError
        The loss is not finite, or Keras has no backend.
    """
    network, trained = build_encoder(training)
    shapes = [tuple(v.shape) for v in trained.weights]
    trained.set_weights(initial_weights(shapes, training.seed, 0.0))
    batches = (_components if training.encoder == FAST else _images)(training, network, on_progress)
    if training.encoder != FAST:
        some = np.arange(min(_SCALED_BY, training.images))
        drawn = batches(some, np.random.default_rng([training.seed, 7]))[0]
        scale_to_images(trained, drawn, _first_outputs(training))
    model = _compiled(training, trained)
    rng = np.random.default_rng([training.seed, 2])
    held_back = batches(np.arange(training.images, training.images + training.validation), rng)
    run = _Training(trained, model.optimizer, rng)
    if start is not None:
        run.restore(start, training.epochs)
    saved = time.monotonic()
    while len(run.losses) < training.epochs:
        epoch = len(run.losses)
        order = rng.permutation(training.images)
        loss = _epoch(model, training, batches, order, rng, epoch, on_progress)
        run.finish_epoch(loss, _loss(model, held_back))
        if not np.isfinite([loss, run.validation[-1]]).all():
            raise TrainingError(
                f"{training.name}: the loss became {loss} in epoch {epoch + 1}; lower the "
                f"learning rate ({training.learning_rate})"
            )
        is_last = len(run.losses) == training.epochs
        if keep and (is_last or time.monotonic() - saved >= _CHECKPOINT_SECONDS):
            keep(*run.state())
            saved = time.monotonic()
    trained.set_weights(run.best_weights)
    return network, History(np.array(run.losses), np.array(run.validation), run.best + 1)


def _first_outputs(training: Training) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return where the outputs of a network without bounds start: as the galaxies are.

    Images of other galaxies, far from the data, all look the same, and would be learned from first.
    """
    return training.code.spread if isinstance(training.code, EllipseCode) else None


class _Training:
    """Where a training stands: everything that the next epoch depends on."""

    def __init__(self, trained: Any, optimizer: Any, rng: np.random.Generator) -> None:  # noqa: ANN401
        self._trained, self._optimizer, self._rng = trained, optimizer, rng
        self.losses: list[float] = []
        self.validation: list[float] = []
        self.best, self.best_weights = 0, trained.get_weights()
        optimizer.build(trained.trainable_variables)

    def finish_epoch(self, loss: float, validation: float) -> None:
        """Take down the losses of an epoch, and its weights where they are the best so far."""
        self.losses.append(loss)
        self.validation.append(validation)
        if validation <= self.validation[self.best]:
            self.best, self.best_weights = len(self.losses) - 1, self._trained.get_weights()

    def state(self) -> Saved:
        """Return the state as what a checkpoint holds."""
        to_numpy = load_keras().ops.convert_to_numpy
        return {"rng": self._rng.bit_generator.state}, {
            "losses": np.array([self.losses, self.validation]),
            "weights": self._trained.get_weights(),
            "best_weights": self.best_weights,
            "optimizer": [to_numpy(variable) for variable in self._optimizer.variables],
        }

    def restore(self, start: Saved, epochs: int) -> None:
        """Go on where a state was left, unless it lies beyond the epochs that are asked for."""
        about, arrays = start
        if arrays["losses"].shape[1] > epochs:
            return
        log.info("going on after epoch %d", arrays["losses"].shape[1])
        for loss, validation in arrays["losses"].T.tolist():
            self.finish_epoch(loss, validation)
        self.best_weights = arrays["best_weights"]
        self._trained.set_weights(arrays["weights"])
        for variable, value in zip(self._optimizer.variables, arrays["optimizer"], strict=True):
            variable.assign(value)
        self._rng.bit_generator.state = about["rng"]


def _compiled(training: Training, trained: Any) -> Any:  # noqa: ANN401
    """Return the model that is optimised: encoder, and decoder where the image is compared."""
    keras = load_keras()
    loss: Any
    if training.loss == "bound":
        model, loss = keras.Model(trained.input, trained.output), _bound_loss(training.code.size)
    else:
        decoder = build_decoder(training.code, training.problem.frame)
        model = keras.Model(trained.input, decoder(trained.output))
        loss = "mae" if training.loss == "mae" else "mse"
    if training.loss == "mae":
        optimizer = keras.optimizers.Adadelta(training.learning_rate, rho=0.95)
    else:
        steps = training.epochs * -(-training.images // training.batch)
        schedule = keras.optimizers.schedules.CosineDecay(training.learning_rate, steps)
        optimizer = keras.optimizers.Adam(schedule)
    # XLA compiles anew for every batch shape, and JAX is nothing without it
    model.compile(optimizer=optimizer, loss=loss, jit_compile=keras.backend.backend() == "jax")
    return model


def _bound_loss(size: int) -> Callable[[Any, Any], Any]:
    """Return the loss of errors over their bounds.

    Squares for errors near the bound; beyond twice it linear, because the first guesses are
    hundreds of bounds away where the galaxy is bright, and squares would learn from nothing else.
    """
    ops = load_keras().ops

    def loss(target: Any, found: Any) -> Any:  # noqa: ANN401
        ratio = (found - target[:, :size]) * target[:, size:]
        return ops.mean(8 * (ops.sqrt(1 + ops.square(ratio) / 4) - 1))

    return loss


def _epoch(
    model: Any,  # noqa: ANN401
    training: Training,
    batches: Callable[[NDArray[np.int64], np.random.Generator], Batch],
    order: NDArray[np.int64],
    rng: np.random.Generator,
    epoch: int,
    on_progress: Progress,
) -> float:
    """Train on all rows once; return their mean loss."""
    total = 0.0
    starts = range(0, order.size, training.batch)
    for done, start in enumerate(starts, start=1):
        rows = order[start : start + training.batch]
        inputs, target, weight = batches(rows, rng)
        model.reset_metrics()
        found = model.train_on_batch(inputs, target, sample_weight=weight, return_dict=True)
        total += float(found["loss"]) * rows.size
        on_progress(
            f"training {training.name}",
            epoch * len(starts) + done,
            training.epochs * len(starts),
        )
    return total / order.size


def _loss(model: Any, batch: Batch, size: int = 250) -> float:  # noqa: ANN401
    inputs, target, weight = batch
    total = 0.0
    for part in blocks(len(inputs), size):
        model.reset_metrics()
        found = model.test_on_batch(
            inputs[part],
            target[part],
            sample_weight=None if weight is None else weight[part],
            return_dict=True,
        )
        total += float(found["loss"]) * len(inputs[part])
    return total / len(inputs)


def _draw(training: Training, on_progress: Progress) -> tuple[NDArray[np.float64], Floats]:
    """Draw galaxies for training and validation, and one over the bound of their code."""
    rng = np.random.default_rng([training.seed, 1])
    count = training.images + training.validation
    parameters = training.problem.draw(count, rng)
    if not isinstance(training.code, CircleCode):
        return parameters, np.zeros((count, 0), np.float32)
    unit = np.empty((count, len(training.problem.free)))
    for block in blocks(count, _RENDER_BATCH):
        unit[block] = bound(parameters[block], training.problem.frame, training.problem.free)
        on_progress("Cramer-Rao bounds", block.stop, count)
    return parameters, unit.astype(np.float32)


def _bound_target(
    training: Training, parameters: NDArray[np.float64], unit: Floats, noise: NDArray[np.float64]
) -> Floats:
    assert isinstance(training.code, CircleCode)
    precision = training.code.precision(unit * noise[:, np.newaxis], training.problem)
    return np.concatenate([training.code.from_parameters(parameters), precision], axis=1)


def _components(
    training: Training,
    network: Any,  # noqa: ANN401
    on_progress: Progress,
) -> Callable[[NDArray[np.int64], np.random.Generator], Batch]:
    """Fit the compression, and return batches of compressed galaxies with new noise.

    White noise on the pixels is white noise along orthonormal components, so it is drawn there:
    64 numbers an image instead of 4096.
    """
    problem = training.problem
    rng = np.random.default_rng([training.seed, 3])
    layer = network.get_layer("compression")
    kernel, bias = principal_components(
        problem.images(problem.draw(min(_PCA_IMAGES, training.images), rng)), rng, layer.units
    )
    layer.set_weights([kernel, bias])
    noise_scale = np.linalg.norm(kernel, axis=0)
    parameters, unit = _draw(training, on_progress)
    clean = np.empty((len(parameters), layer.units), np.float32)
    for block in blocks(len(parameters), _RENDER_BATCH):
        images = problem.images(parameters[block])
        clean[block] = images.reshape(len(images), -1) @ kernel + bias
        on_progress("rendering", block.stop, len(parameters))

    def batch(rows: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        noise = problem.draw_noise(rows.size, rng)
        drawn = rng.standard_normal((rows.size, layer.units), np.float32)
        drawn *= noise_scale * noise[:, np.newaxis].astype(np.float32)
        target = _bound_target(training, parameters[rows], unit[rows], noise)
        return clean[rows] + drawn, target, None

    return batch


def _images(
    training: Training,
    network: Any,  # noqa: ANN401
    on_progress: Progress,
) -> Callable[[NDArray[np.int64], np.random.Generator], Batch]:
    """Render the galaxies once, and return batches of images; published: with fixed noise."""
    problem = training.problem
    parameters, unit = _draw(training, on_progress)
    clean = np.empty((len(parameters), 64, 64), np.float32)
    for block in blocks(len(parameters), _RENDER_BATCH):
        clean[block] = problem.images(parameters[block])
        on_progress("rendering", block.stop, len(parameters))
    if training.loss == "mae":
        fixed = np.random.default_rng([training.seed, 4])
        noisy = add_noise(clean, problem.draw_noise(len(clean), fixed), fixed)
        target = noisy if training.target == "noisy" else clean
        return lambda rows, _: (noisy[rows], target[rows], None)

    def batch(rows: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        noise = problem.draw_noise(rows.size, rng)
        noisy = add_noise(clean[rows], noise, rng)
        if training.loss == "bound":
            return noisy, _bound_target(training, parameters[rows], unit[rows], noise), None
        target = noisy if training.target == "noisy" else clean[rows]
        return noisy, target, (1 / noise[:, np.newaxis] ** 2).astype(np.float32)

    return batch
