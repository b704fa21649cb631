"""One training of a run: what all its heads share, and what each of them depends on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import ConfigError
from sfr.imaging.inputs import inputs_of
from sfr.nn.backbone import weights_label
from sfr.nn.keras_import import load_keras, use_backend
from sfr.progress import Progress, silent
from sfr.recipe import Recipe
from sfr.run.names import ImageId, ModelId
from sfr.run.tables import TEST, TRAIN, VALIDATION, Table, count_galaxies
from sfr.run.workspace import Workspace, digest
from sfr.train.evaluate import CASE, metrics
from sfr.train.features import (
    BackboneInUse,
    Features,
    extract_features,
    feature_key,
    feature_type,
    open_features,
)
from sfr.train.heads import HeadsInUse
from sfr.train.loop import Data, Fold
from sfr.train.output import CaseFiles, Metrics, Values
from sfr.train.rows import Rows, read_rows
from sfr.train.state import State

__all__ = ["Training"]

#: Fields of ``train`` that ridge depends on.
_OF_RIDGE: Final = ("probe", "backbone", "input_scaling", "precision")


@dataclass(frozen=True)
class Training:
    """One training: the recipe on the images and labels of a folder.

    What follows from them is worked out when it is first asked for; a process that trains several
    cases keeps it, and other processes work it out anew.

    Attributes
    ----------
    workspace : Workspace
        A run's folder with sample, split and images.
    recipe : Recipe
        The experiment, with a precision that is decided.
    backend : str
        The Keras backend to use, where one is stated.
    save_models : bool
        Save the whole network of every seed, not only of seed 0.
    """

    workspace: Workspace
    recipe: Recipe
    backend: str = ""
    save_models: bool = False

    def __getstate__(self) -> dict[str, Any]:
        names = ("workspace", "recipe", "backend", "save_models")
        return {name: self.__dict__[name] for name in names}

    # -- what is trained on --------------------------------------------------------------------

    @cached_property
    def rows(self) -> Rows:
        """The images with their labels."""
        return read_rows(self.workspace, self.recipe)

    @cached_property
    def data(self) -> Data:
        """Labels and folds."""
        rows = self.rows
        data = Data(rows.label, tuple(_fold(rows, fold) for fold in range(rows.n_folds)))
        best = self.recipe.train.predict_from == "best_validation" and not self.is_ridge
        if best and not all(fold.validation.size for fold in data.folds):
            raise ConfigError(
                'train.predict_from = "best_validation" needs a validation subset, and no image '
                "with a label is in one (split.validation_fraction = "
                f"{self.recipe.split.validation_fraction:g}): raise it "
                "and run sfr split, or choose another epoch"
            )
        return data

    @property
    def is_ridge(self) -> bool:
        """Whether ridge is fitted, and no head is trained."""
        return self.recipe.train.probe == "ridge"

    @property
    def has_one_fold(self) -> bool:
        """Whether every head has the same training images; if so, it leaves published files."""
        return len(self.data.folds) == 1

    @cached_property
    def images(self) -> Table:
        """Columns of ``predictions.csv`` before those of the seeds."""
        rows, tested = self.rows, self.tested_in
        # the head of the only fold predicts the other subsets, too
        fold = np.zeros_like(tested) if self.has_one_fold else tested
        return {
            "filename": np.array(rows.filenames),
            "snapshot": rows.snapshot,
            "subhalo_id": rows.subhalo_id,
            "view": np.array([ImageId.parse(name).view for name in rows.filenames], np.int64),
            "galaxy_id": rows.galaxy_id,
            "fold": fold,
            "subset": np.where(tested >= 0, TEST, rows.subset()),
            "truth": rows.label,
        }

    @cached_property
    def tested_in(self) -> NDArray[np.int64]:
        """Fold that tests each row; -1 in rows that none tests."""
        found = np.full(self.rows.label.size, -1)
        for number, fold in enumerate(self.data.folds):
            found[fold.test] = number
        return found

    def models(self, case: str) -> list[ModelId]:
        """Return all heads of a case; ridge has no seeds, and is that of seed 0."""
        count = 1 if self.is_ridge else self.recipe.train.seeds
        folds, seeds = range(len(self.data.folds)), range(count)
        return [ModelId(case, fold, seed) for fold in folds for seed in seeds]

    def files(self, case: str) -> CaseFiles:
        """Return the files of a case."""
        return CaseFiles(self.workspace, case)

    # -- what heads depend on ------------------------------------------------------------------

    @cached_property
    def images_digest(self) -> str:
        """Digest of the images."""
        return inputs_of(self.workspace, self.recipe).digest(self.rows.filenames)

    @cached_property
    def backbone(self) -> BackboneInUse:
        """The backbone, built when first needed."""
        return BackboneInUse(self.recipe)

    @cached_property
    def weights(self) -> str:
        """Name of the backbone's weights in tables."""
        return weights_label(self.recipe.train)

    @cached_property
    def settings(self) -> str:
        """Digest of all that the heads of a run share, so that a table compares like with like."""
        return self._settings()

    def _settings(self, *without: str) -> str:
        settings = self.recipe.section("train")
        # more seeds leave the earlier ones as they are; the weights count by their content
        for name in ("seeds", "weights", *without):
            del settings[name]
        if self.is_ridge:
            settings = {name: settings[name] for name in _OF_RIDGE}
        else:
            # heads of before there was another probe are what they were
            del settings["probe"]
        settings["precision"] = self.backbone.precision
        return digest([settings, self.backbone.weights_id, self.images_digest, self.rows.digest()])

    def feature_key(self, case: str) -> str:
        """Digest of all that a case's features depend on."""
        weights = self.backbone.weights_id
        return feature_key(self.recipe, case, images=self.images_digest, weights=weights)

    def fingerprint(self, case: str) -> str:
        """Digest of all that a case's heads depend on, but for fold and seed."""
        return digest([self.settings, self.feature_key(case)])

    def resume_key(self, case: str) -> str:
        """Digest of all that a case's heads depend on up to any epoch of their training."""
        ends_count = self.recipe.train.schedule != "constant"
        settings = self.settings if ends_count else self._settings("epochs")
        return digest([settings, self.feature_key(case)])

    def finished(self, model: ModelId) -> bool:
        """Whether a head is finished and current."""
        return model in self.files(model.case).finished(self.fingerprint(model.case))

    # -- what computes -------------------------------------------------------------------------

    def load_backend(self) -> None:
        """Load Keras with the backend that is stated; raises TrainingError where that fails."""
        use_backend(self.backend)
        load_keras()

    def features_file(self, case: str) -> Path:
        """Return the file of a case's features."""
        return self.workspace.features(case, self.feature_key(case))

    def has_features(self, case: str) -> bool:
        """Whether that file is there and whole."""
        kind = feature_type(self.recipe.train)
        return open_features(self.features_file(case), self.rows.label.size, kind) is not None

    def features(
        self, case: str, *, force: bool = False, on_progress: Progress = silent
    ) -> Features:
        """Return the features of a case, from the cache where they are there."""
        return extract_features(
            self.workspace,
            self.recipe,
            case,
            self.rows.filenames,
            backbone=self.backbone,
            key=self.feature_key(case),
            force=force,
            on_progress=on_progress,
        )

    @cached_property
    def heads(self) -> HeadsInUse:
        """The compiled model of heads side by side."""
        return HeadsInUse(self.recipe.train)

    # -- what a head is worth ------------------------------------------------------------------

    def metrics(self, prediction: Values, state: State) -> Metrics:
        """Return the entry of ``metrics.json`` of a finished head.

        Parameters
        ----------
        prediction : ndarray of float64, shape (N,)
            For all images [dex].
        state : State
            Of this head alone.
        """
        (model,) = state.models
        recipe, fold = self.recipe.train, self.data.folds[model.fold]
        truth, unit = self.rows.label[fold.test], self.rows.target.error_unit
        return {
            **self.scores(model, prediction),
            "n_validation": int(fold.validation.size),
            "epochs": recipe.epochs,
            "epoch_used": int(state.predicting(recipe.predict_from)[1][0]),
            "best_training_epoch": int(state.best_epoch[0]),
            "dead_at_first_epoch": bool(state.dead_at_first[0]),
            "at_epochs": [
                {"epoch": epoch, **metrics(truth, array[0][fold.test], unit)}
                for epoch, array in sorted(state.marks.items())
            ],
            **self.network_facts(),
        }

    def network_facts(self) -> Metrics:
        """Say in an entry of ``metrics.json`` which network was used."""
        return {
            "weights": self.weights,
            "backbone": self.recipe.train.backbone,
            "precision": self.backbone.precision,
            "keras_backend": load_keras().backend.backend(),
        }

    def scores(self, model: ModelId, prediction: Values, kind: str = CASE) -> Metrics:
        """Return what entries of ``metrics.json`` of whatever predicts have in common.

        Parameters
        ----------
        model : ModelId
            What predicts.
        prediction : ndarray of float64, shape (N,)
            For all images [dex].
        kind : str
            `CASE` or `CONTROL`.
        """
        rows, fold = self.rows, self.data.folds[model.fold]
        return {
            **metrics(rows.label[fold.test], prediction[fold.test], rows.target.error_unit),
            "n_galaxies": count_galaxies(rows.galaxy_id[fold.test]),
            "kind": kind,
            "case": model.case,
            "fold": model.fold,
            "seed": model.seed,
            "n_train": int(fold.training.size),
            "n_missing_images": rows.n_missing_images,
            "n_dropped_zero": rows.n_dropped_zero,
            "recipe": self.recipe.name,
            "label": rows.target.text,
            "settings": self.settings,
        }


def _fold(rows: Rows, number: int) -> Fold:
    return Fold(*(rows.indices(subset, number) for subset in (TRAIN, VALIDATION, TEST)))
