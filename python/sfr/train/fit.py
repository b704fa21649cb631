"""Training of the heads of a run: what is current is skipped, what a head leaves is whole."""

from __future__ import annotations

import json
import logging
import re
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from sfr.errors import ConfigError, DataFormatError, TrainingError
from sfr.imaging.cases import case_function
from sfr.progress import Progress, silent
from sfr.recipe import Recipe
from sfr.store import TEST, TRAIN, VALIDATION, write_table
from sfr.train.backbone import DOWNSAMPLING, FEATURE_CHANNELS, weights_label
from sfr.train.evaluate import SETTINGS_STEP, metrics
from sfr.train.features import (
    BackboneInUse,
    extract_features,
    feature_key,
    images_digest,
)
from sfr.train.head import build_head, build_network
from sfr.train.loop import Fit, Trainer
from sfr.train.rows import read_rows
from sfr.workspace import Workspace, digest

__all__ = ["HeadResult", "TrainSummary", "train_case", "train_cases"]

log = logging.getLogger(__name__)

#: The seed whose whole network is always saved.
_SHOWN_SEED: Final = 0
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class HeadResult:
    """What happened to one head.

    Attributes
    ----------
    case : str
        Version of the image.
    seed : int
        Its seed.
    status : str
        ``trained``, ``current`` (it was there already) or ``failed``.
    reason : str
        Why it was trained, or why it failed; empty when current.
    metrics : dict
        Content of ``metrics.json``; empty when failed.
    """

    case: str
    seed: int
    status: Literal["trained", "current", "failed"]
    reason: str
    metrics: dict[str, Any]

    @property
    def dead(self) -> bool:
        """Whether the head's output is constant."""
        return bool(self.metrics.get("dead"))


@dataclass(frozen=True)
class TrainSummary:
    """What a training did.

    Attributes
    ----------
    results : tuple of HeadResult
        One entry per case and seed, in the order of training.
    fingerprint : str
        Digest of the heads' fingerprints.
    n_missing_images, n_dropped_zero_sfr : int
        Rows of the split that were left out.
    seconds_features, seconds_heads : float
        Time in the backbone and in the heads [s].
    """

    results: tuple[HeadResult, ...]
    fingerprint: str
    n_missing_images: int
    n_dropped_zero_sfr: int
    seconds_features: float
    seconds_heads: float

    @property
    def failures(self) -> tuple[HeadResult, ...]:
        """Heads that could not be trained."""
        return tuple(result for result in self.results if result.status == "failed")

    @property
    def dead(self) -> tuple[HeadResult, ...]:
        """Heads whose output is constant."""
        return tuple(result for result in self.results if result.dead)


def train_cases(
    workspace: Workspace,
    recipe: Recipe,
    cases: Sequence[str],
    *,
    force: bool = False,
    save_models: bool = False,
    on_progress: Progress = silent,
) -> TrainSummary:
    """Train heads for some cases, with seeds 0 to ``train.seeds`` - 1 each.

    A head is skipped when settings, images, labels and split are as they were. Heads of a case
    that are not, of any seed, stop counting as finished before the first new one is trained, so
    that a table never averages heads of different settings.

    Parameters
    ----------
    workspace : Workspace
        A run's folder with sample, split and images.
    recipe : Recipe
        The experiment.
    cases : sequence of str
        Versions of the image; repeats count once.
    force : bool
        Compute features and train even what is current.
    save_models : bool
        Save the whole network of every seed, not only of seed 0.
    on_progress : callable
        Hears of batches of images and of epochs.

    Returns
    -------
    TrainSummary
        One result a head; a head whose loss is not finite is a failure, and the others go on.

    Raises
    ------
    ConfigError
        No case, an unknown one, or settings that do not go together.
    DataMissingError
        Split, sample, images or weights are not there.
    DataFormatError
        One of them cannot be read or does not fit.
    EmptySelectionError
        No training row or no test row is left.
    TrainingError
        Keras has no backend.
    """
    names = list(dict.fromkeys(cases))
    if not names:
        raise ConfigError("no case to train; name one with --case, or all with --all-cases")
    for name in names:
        case_function(name, recipe.cases)
    run = _Run(workspace, recipe, force=force, save_models=save_models, on_progress=on_progress)
    results = [result for name in names for result in run.case(name)]
    return TrainSummary(
        results=tuple(results),
        fingerprint=digest([run.fingerprint(name) for name in names]),
        n_missing_images=run.rows.n_missing_images,
        n_dropped_zero_sfr=run.rows.n_dropped_zero_sfr,
        seconds_features=run.seconds["features"],
        seconds_heads=run.seconds["heads"],
    )


def train_case(
    workspace: Workspace,
    recipe: Recipe,
    case: str,
    *,
    force: bool = False,
    save_models: bool = False,
    on_progress: Progress = silent,
) -> TrainSummary:
    """Train the heads of one case; see `train_cases`."""
    return train_cases(
        workspace, recipe, [case], force=force, save_models=save_models, on_progress=on_progress
    )


class _Run:
    """One training: what all its heads share."""

    def __init__(
        self,
        workspace: Workspace,
        recipe: Recipe,
        *,
        force: bool,
        save_models: bool,
        on_progress: Progress,
    ) -> None:
        self.workspace = workspace
        self.recipe = recipe
        self.force = force
        self.save_models = save_models
        self.on_progress = on_progress
        self.backbone = BackboneInUse(recipe)
        self.rows = read_rows(workspace)
        self.seconds = {"features": 0.0, "heads": 0.0}
        best = recipe.train.predict_from == "best_validation"
        if best and self.rows.indices(VALIDATION).size == 0:
            raise ConfigError(
                'train.predict_from = "best_validation" needs a validation subset; set '
                "split.validation_fraction above 0 and run sfr split, or choose another epoch"
            )

    @cached_property
    def images(self) -> str:
        """Digest of the images."""
        return images_digest(self.workspace, self.rows.filenames)

    @cached_property
    def weights(self) -> str:
        """Name of the backbone's weights in tables."""
        return weights_label(self.recipe.train.weights)

    @cached_property
    def trainer(self) -> Trainer:
        """The one compiled head."""
        side = self.recipe.maps.pixels // DOWNSAMPLING
        head = build_head(self.recipe.train, (side, side, FEATURE_CHANNELS))
        return Trainer(self.recipe.train, head)

    def feature_key(self, case: str) -> str:
        return feature_key(self.recipe, case, images=self.images, weights=self.backbone.weights_id)

    @cached_property
    def settings(self) -> str:
        """Digest of all that the heads of a run share, so that a table compares like with like."""
        settings = self.recipe.section("train")
        # more seeds leave the earlier ones as they are; the weights count by their content
        del settings["seeds"], settings["weights"]
        return digest([settings, self.backbone.weights_id, self.images, self.rows.digest()])

    def fingerprint(self, case: str) -> str:
        """Digest of all that a case's heads depend on, but for the seed."""
        return digest([self.settings, self.feature_key(case)])

    def case(self, case: str) -> Iterator[HeadResult]:
        """Train what is not current of one case."""
        fingerprint = self.fingerprint(case)
        states = {
            seed: self.workspace.check(_step(case, seed), fingerprint, force=self.force)
            for seed in range(self.recipe.train.seeds)
        }
        features = None
        if not all(state.current for state in states.values()):
            # what cannot be had, such as weights or a backend, must not cost earlier results
            features, _ = self._features(case), self.trainer
        self._retire(case, fingerprint)
        self.workspace.mark_done(SETTINGS_STEP, self.settings, ())
        for seed, state in states.items():
            if features is None or state.current:
                log.info("%s, seed %d: there already", case, seed)
                self._complete_model(case, seed)
                yield HeadResult(case, seed, "current", "", self._read_metrics(case, seed))
                continue
            log.info("%s, seed %d: training (%s)", case, seed, state.reason)
            try:
                found = self._head(case, seed, features, fingerprint)
            except TrainingError as error:
                log.error("%s, seed %d failed: %s", case, seed, error)
                yield HeadResult(case, seed, "failed", str(error), {})
                continue
            yield HeadResult(case, seed, "trained", state.reason, found)

    def _features(self, case: str) -> NDArray[np.float32]:
        with self._clock("features"):
            return extract_features(
                self.workspace,
                self.recipe,
                case,
                self.rows.filenames,
                backbone=self.backbone,
                key=self.feature_key(case),
                force=self.force,
                on_progress=self.on_progress,
            ).array

    def _head(
        self,
        case: str,
        seed: int,
        features: NDArray[np.float32],
        fingerprint: str,
    ) -> dict[str, Any]:
        """Train one head and write its files, ``metrics.json`` last."""
        step, folder, trainer = _step(case, seed), self.workspace.head(case, seed), self.trainer
        self.workspace.forget(step)
        (folder / "metrics.json").unlink(missing_ok=True)
        with self._clock("heads"):
            fit = trainer.fit(
                features,
                self.rows.label,
                training=self.rows.indices(TRAIN),
                validation=self.rows.indices(VALIDATION),
                seed=seed,
                on_epoch=self._on_epoch(case, seed),
            )
            prediction = trainer.predict(features)
        if not np.isfinite(prediction).all():
            raise TrainingError("predictions are not finite; lower train.learning_rate")
        files = self._write_tables(folder, fit, prediction)
        files.append(folder / "head.weights.h5")
        with self.workspace.replacing(files[-1]) as temporary:
            trainer.head.save_weights(temporary)
        (folder / "model.keras").unlink(missing_ok=True)
        self._complete_model(case, seed)
        found = self._metrics(case, seed, fit, prediction)
        files.append(folder / "metrics.json")
        self.workspace.write_json(files[-1], found)
        self.workspace.mark_done(step, fingerprint, files)
        if found["dead"]:
            log.warning("%s, seed %d is dead: its output is the same for all images", case, seed)
        return found

    def _on_epoch(self, case: str, seed: int) -> Any:  # noqa: ANN401
        label, epochs = f"training {case} seed {seed}", self.recipe.train.epochs
        return lambda epoch: self.on_progress(label, epoch, epochs)

    def _write_tables(self, folder: Path, fit: Fit, prediction: NDArray[np.float64]) -> list[Path]:
        rows, write = self.rows, partial(write_table, self.workspace)
        history, predictions = folder / "history.csv", folder / "predictions.csv"
        write(
            history,
            {
                "epoch": np.arange(1, fit.loss.size + 1),
                "loss": fit.loss,
                "validation_loss": fit.validation_loss,
            },
        )
        write(
            predictions,
            {
                "filename": np.array(rows.filenames),
                "snapshot": rows.snapshot,
                "subhalo_id": rows.subhalo_id,
                "galaxy_id": rows.galaxy_id,
                "subset": rows.subset,
                "truth": rows.label,
                "prediction": prediction,
            },
        )
        values, test = folder / "YValues.npy", rows.indices(TEST)
        with self.workspace.replacing(values) as temporary:
            np.save(temporary, np.stack([rows.label[test], prediction[test]]))
        return [history, predictions, values]

    def _metrics(
        self, case: str, seed: int, fit: Fit, prediction: NDArray[np.float64]
    ) -> dict[str, Any]:
        rows, train = self.rows, self.recipe.train
        test = rows.indices(TEST)
        return {
            **metrics(rows.label[test], prediction[test]),
            "weights": self.weights,
            "seed": seed,
            "case": case,
            "n_train": int(rows.indices(TRAIN).size),
            "n_validation": int(rows.indices(VALIDATION).size),
            "n_missing_images": rows.n_missing_images,
            "n_dropped_zero_sfr": rows.n_dropped_zero_sfr,
            "epochs": train.epochs,
            "epoch_used": fit.epoch,
            "backbone": train.backbone,
            "recipe": self.recipe.name,
            "settings": self.settings,
        }

    def _read_metrics(self, case: str, seed: int) -> dict[str, Any]:
        path = self.workspace.head(case, seed) / "metrics.json"
        try:
            return json.loads(path.read_text("utf-8"))  # type: ignore[no-any-return]
        except ValueError as error:
            raise DataFormatError(f"{path} cannot be read: {error}; train with --force") from error

    def _retire(self, case: str, fingerprint: str) -> None:
        """Take heads of other settings out of the tables; their files stay until replaced."""
        for name, seed in self.workspace.trained():
            step = _step(case, seed)
            if name != case or self.workspace.check(step, fingerprint).current:
                continue
            (self.workspace.head(case, seed) / "metrics.json").unlink(missing_ok=True)
            if seed >= self.recipe.train.seeds:
                log.warning(
                    "%s, seed %d has other settings or inputs and no longer counts; train it again "
                    "with --seeds %d",
                    case,
                    seed,
                    seed + 1,
                )

    # -- the whole network ---------------------------------------------------------------------

    def _wants_model(self, seed: int) -> bool:
        return self.save_models or seed == _SHOWN_SEED

    def _complete_model(self, case: str, seed: int) -> None:
        """Save the whole network of a head, where it is wanted and not there.

        It follows from the head, so it is not among the files that make a head current: removing
        it costs no training.
        """
        folder = self.workspace.head(case, seed)
        model = folder / "model.keras"
        if (self.save_models or seed == _SHOWN_SEED) and not model.is_file():
            self.trainer.head.load_weights(folder / "head.weights.h5")
            self._save_model(model)

    def _save_model(self, path: Path) -> None:
        network = build_network(self.backbone.model, self.trainer.head)
        with self.workspace.replacing(path) as temporary:
            network.save(temporary)
            _without_dates(temporary)

    @contextmanager
    def _clock(self, what: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[what] += time.monotonic() - start


def _step(case: str, seed: int) -> str:
    return f"train-{case}-seed-{seed}"


def _without_dates(path: Path) -> None:
    """Rewrite a ``.keras`` archive without times and addresses: same network, same bytes."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    about = json.loads(members["metadata.json"])
    about.pop("date_saved", None)
    members["metadata.json"] = json.dumps(about, sort_keys=True).encode()
    members["config.json"] = _renumbered(members["config.json"])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), members[name])


def _renumbered(config: bytes) -> bytes:
    """Replace the addresses that Keras names shared objects by, in order of appearance."""
    numbers: dict[bytes, bytes] = {}

    def number(match: re.Match[bytes]) -> bytes:
        return match[1] + numbers.setdefault(match[2], str(len(numbers)).encode())

    return re.sub(rb'("shared_object_id": )(\d+)', number, config)
