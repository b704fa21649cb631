"""Trained encoders on disk: made once, found again, calibrated."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataFormatError, DataMissingError
from sfr.nn.keras_import import load_keras, without_keras_json
from sfr.progress import Progress, silent
from sfr.run.checkpoint import read_checkpoint, write_checkpoint
from sfr.run.tables import write_table
from sfr.run.workspace import Workspace, digest
from sfr.semantic.encoders import FAST, fast_weights, run_fast
from sfr.semantic.problem import PROBLEMS, add_noise
from sfr.semantic.profile import PIXELS, angle_difference, blocks
from sfr.semantic.refine import gauss_newton, residuals
from sfr.semantic.training import History, Training, build_encoder, train_encoder

__all__ = ["Encoder", "find_encoders", "load_encoder", "obtain_encoder"]

log = logging.getLogger(__name__)

#: Changed when the same settings give other weights.
_VERSION: Final = 2
_WEIGHTS, _ABOUT, _HISTORY = "encoder.weights.h5", "encoder.json", "history.csv"
_CHECKPOINT: Final = "checkpoint.npz"
#: Images a call of the network: what fits a processor's cache. Fewer are not worth compiling for.
_BATCH: Final = 1024
_FEW: Final = 256
_CALIBRATION_IMAGES: Final = 4000
#: Gauss-Newton steps that errors are calibrated for; more steps take the last factors.
_STEPS: Final = (0, 1, 2)
#: Part of a normal distribution within one standard deviation.
_ONE_SIGMA: Final = 0.6826894921370859


@dataclass(frozen=True)
class Encoder:
    """A trained encoder.

    Attributes
    ----------
    training : Training
        How it was trained.
    network : keras.Model
        Images (N, 64, 64) to code (N, size).
    calibration : dict of int to ndarray of float64
        By number of Gauss-Newton steps: what errors of the free parameters are multiplied by, so
        that 68.3 % of new images of the problem lie within one of them.
    """

    training: Training
    network: Any
    calibration: Mapping[int, NDArray[np.float64]]

    def estimate(self, images: NDArray[np.float32]) -> NDArray[np.float64]:
        """Estimate parameters by the network alone.

        Parameters
        ----------
        images : ndarray of float32, shape (N, 64, 64)
            Noisy images ``[galaxy, y, x]``, y upwards, in the units of the training (the profile's
            amplitude near 1); not checked.

        Returns
        -------
        ndarray of float64, shape (N, 7)
            Columns `sfr.semantic.profile.NAMES`.
        """
        if self.training.encoder == FAST:
            code = run_fast(self._weights, images)
        else:
            code = _run_cnn(self.network, images)
        return self.training.code.to_parameters(code)

    @cached_property
    def _weights(self) -> list[NDArray[np.float32]]:
        """Weights of a fast encoder; taking them out of Keras costs more than one image."""
        return fast_weights(self.network)

    def fit(self, images: NDArray[np.float32], *, steps: int = 1) -> NDArray[np.float64]:
        """Estimate parameters and improve them by Gauss-Newton steps.

        Parameters
        ----------
        images : ndarray of float32, shape (N, 64, 64)
            As for `estimate`.
        steps : int
            Steps; one reaches the Cramer-Rao bound within the problem's ranges.

        Returns
        -------
        ndarray of float64, shape (N, 7)
            Parameters.
        """
        problem = self.training.problem
        return gauss_newton(images, self.estimate(images), problem.frame, problem.free, steps=steps)

    def errors(
        self, images: NDArray[np.float32], parameters: NDArray[np.float64], *, steps: int
    ) -> NDArray[np.float64]:
        """Return calibrated errors of estimates.

        Parameters
        ----------
        images : ndarray of float32, shape (N, 64, 64)
            The images; their residuals tell the noise.
        parameters : ndarray of float64, shape (N, 7)
            Results of `estimate` or `fit`.
        steps : int
            Gauss-Newton steps that led to them.

        Returns
        -------
        ndarray of float64, shape (N, P)
            One standard deviation of each free parameter, in its unit.
        """
        problem = self.training.problem
        error = residuals(images, parameters, problem.frame, problem.free).error
        return error * self.calibration[min(steps, max(_STEPS))]


def obtain_encoder(
    workspace: Workspace,
    training: Training,
    *,
    force: bool = False,
    on_progress: Progress = silent,
) -> tuple[Encoder, bool]:
    """Return a trained encoder of a folder; train it where it is not there or not current.

    Parameters
    ----------
    workspace : Workspace
        The folder.
    training : Training
        How.
    force : bool
        Train even what is current.
    on_progress : callable
        Hears of the training.

    Returns
    -------
    tuple of Encoder and bool
        The encoder, and whether it was trained now.
    """
    step = f"semantic-{training.name}-seed-{training.seed}"
    fingerprint = digest([_VERSION, training.settings()])
    folder = workspace.semantic(training.name, training.seed)
    with workspace.lock(step):
        state = workspace.check(step, fingerprint, force=force)
        if state.current:
            log.info("%s, seed %d: there already", training.name, training.seed)
            return load_encoder(folder), False
        log.info("%s, seed %d: training (%s)", training.name, training.seed, state.reason)
        workspace.forget(step)
        checkpoint, settings = folder / _CHECKPOINT, training.settings()
        if training.can_be_prolonged:
            del settings["epochs"]
        key = digest([_VERSION, settings])
        if force:
            checkpoint.unlink(missing_ok=True)
        network, history = train_encoder(
            training,
            on_progress,
            start=read_checkpoint(checkpoint, key),
            keep=partial(write_checkpoint, workspace, checkpoint, key),
        )
        encoder = Encoder(training, network, _calibration(training, network))
        files = _write(workspace, folder, encoder, history)
        workspace.mark_done(step, fingerprint, files)
        if not training.can_be_prolonged:
            checkpoint.unlink(missing_ok=True)
    return encoder, True


def _write(workspace: Workspace, folder: Path, encoder: Encoder, history: History) -> list[Path]:
    with workspace.replacing(folder / _WEIGHTS) as temporary, without_keras_json():
        encoder.network.save_weights(temporary)
    write_table(
        workspace,
        folder / _HISTORY,
        {
            "epoch": np.arange(1, history.loss.size + 1),
            "loss": history.loss,
            "validation_loss": history.validation_loss,
        },
    )
    about = {
        "settings": encoder.training.settings(),
        "epoch_used": history.epoch,
        "free": list(encoder.training.problem.free),
        "calibration": {str(k): v.tolist() for k, v in encoder.calibration.items()},
    }
    workspace.write_json(folder / _ABOUT, about)
    return [folder / name for name in (_WEIGHTS, _HISTORY, _ABOUT)]


def load_encoder(folder: Path) -> Encoder:
    """Load a trained encoder.

    Raises
    ------
    DataMissingError
        None was trained there.
    DataFormatError
        Its files cannot be read.
    """
    try:
        about = json.loads((folder / _ABOUT).read_text("utf-8"))
        settings = dict(about["settings"])
        given = settings.pop("problem")
        problem = PROBLEMS[given["name"]].with_noise(*given["noise"])
        problem = problem.with_psf(given["psf_fwhm"])
        training = Training(problem=problem, **settings)
        network, _ = build_encoder(training)
        with without_keras_json():
            network.load_weights(folder / _WEIGHTS)
        calibration = {int(k): np.array(v) for k, v in about["calibration"].items()}
    except FileNotFoundError as error:
        raise DataMissingError(
            f"no trained encoder in {folder}; make one with sfr semantic train"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataFormatError(
            f"the encoder in {folder} cannot be read: {error}; train it again with --force"
        ) from error
    return Encoder(training, network, calibration)


def find_encoders(workspace: Workspace, name: str | None) -> list[Path]:
    """Return the folders of the encoders of a name, or of all.

    Parameters
    ----------
    workspace : Workspace
        The folder that they were trained in.
    name : str or None
        Name of a training, as ``paper-fast``, or of one of its seeds, as ``paper-fast/seed-1``.

    Returns
    -------
    list of Path
        At least one, sorted.

    Raises
    ------
    DataMissingError
        None is there.
    """
    folders = [folder for folder in workspace.encoders() if (folder / _ABOUT).is_file()]
    chosen = [f for f in folders if name in (None, f.parent.name, f"{f.parent.name}/{f.name}")]
    if not chosen:
        there = ", ".join(sorted({f.parent.name for f in folders})) or "none"
        raise DataMissingError(
            f"no trained encoder {name or ''} in {workspace.root}; there: {there}. Make one with "
            "sfr semantic train"
        )
    return chosen


def _run_cnn(network: Any, images: NDArray[np.float32]) -> NDArray[np.float32]:  # noqa: ANN401
    """Run a convolutional network on images."""
    if len(images) < _FEW:
        # called as a function: compiling would take longer
        code = load_keras().ops.convert_to_numpy(network(images, training=False))
        return np.asarray(code, np.float32)
    # TensorFlow takes several networks in one process for one that is compiled too often
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    parts = []
    for block in blocks(len(images), _BATCH):
        part = images[block]
        missing = _BATCH - len(part)
        if missing:
            # one shape, compiled once
            part = np.concatenate([part, np.zeros((missing, PIXELS, PIXELS), np.float32)])
        parts.append(np.asarray(network.predict_on_batch(part))[: _BATCH - missing])
    return np.concatenate(parts)


def _calibration(training: Training, network: Any) -> dict[int, NDArray[np.float64]]:  # noqa: ANN401
    """Compare errors with what they say, on new images of the problem's mix of noise."""
    problem = training.problem
    uncalibrated = Encoder(training, network, {})
    rng = np.random.default_rng([training.seed, 5])
    truth = problem.draw(min(_CALIBRATION_IMAGES, training.images), rng)
    images = problem.images(truth)
    images = add_noise(images, problem.draw_noise(len(images), rng), rng)
    found, result = uncalibrated.estimate(images), {}
    for steps in _STEPS:
        if steps > 0:
            found = gauss_newton(images, found, problem.frame, problem.free, steps=1)
        error = residuals(images, found, problem.frame, problem.free).error
        off = difference(found, truth)[:, problem.columns]
        # an angle of which nothing is known has an infinite error and tells nothing of the scale
        with np.errstate(invalid="ignore", divide="ignore"):
            pull = np.abs(off / error)
        result[steps] = np.nanquantile(pull, _ONE_SIGMA, axis=0)
    return result


def difference(found: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return errors of parameters (N, 7); those of the angle lie within 90 deg."""
    off = found - truth
    off[:, 2] = angle_difference(found[:, 2], truth[:, 2])
    return off
