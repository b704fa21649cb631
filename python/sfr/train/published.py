"""The files that the listing leaves of a head, in a folder of its own, and the whole network."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from sfr.errors import DataFormatError
from sfr.nn.keras_import import without_keras_json
from sfr.run.documents import read_json
from sfr.run.names import ModelId
from sfr.train.head import build_network, build_ridge
from sfr.train.output import PUBLISHED, ModelOutput
from sfr.train.predict import ABOUT, about_model
from sfr.train.training import Training

__all__ = ["complete_network", "publish"]

#: The seed whose whole network is always saved.
_SHOWN_SEED: Final = 0
#: What versions before kept beside the published files.
_OUTGROWN: Final = ("predictions*.csv", "history.csv", "checkpoint.npz", "failed.json")
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def publish(training: Training, output: ModelOutput, shape: tuple[int, int, int]) -> None:
    """Write the published files of a finished head; nothing with several folds, or of no head.

    Parameters
    ----------
    training : Training
        The training.
    output : ModelOutput
        The head.
    shape : tuple of int
        Height, width and channels of the features.
    """
    folder = training.workspace.head(output.model)
    # what follows from the head before
    for stale in ("model.keras", *PUBLISHED, *_OUTGROWN):
        for path in folder.glob(stale):
            path.unlink()
    state = output.state
    if state is None or not training.has_one_fold:
        return
    test = training.data.folds[0].test
    head = training.heads.published(shape)
    used = state.predicting(training.recipe.train.predict_from)[0]
    # those of the lowest training loss the listing keeps and does not predict from
    for name, weights in (("best.weights.h5", state.best_weights), ("head.weights.h5", used)):
        head.set_weights([array[0] for array in weights])
        with training.workspace.replacing(folder / name) as temporary, without_keras_json():
            head.save_weights(temporary)
    values = np.stack([training.rows.label[test], output.prediction[test]])
    with training.workspace.replacing(folder / "YValues.npy") as temporary:
        np.save(temporary, values)
    training.workspace.write_json(folder / "metrics.json", output.metrics)
    complete_network(training, output.model)


def complete_network(training: Training, model: ModelId) -> None:
    """Save the whole network of a finished head, where it is wanted and not there.

    It follows from the head, so it is not among the files that make a head current: removing it
    costs no training. Ridge has one network a case, the mean of the fits of all folds.
    """
    path = training.workspace.head(model) / "model.keras"
    is_shown = training.save_models or model.seed == _SHOWN_SEED
    wanted = is_shown and (model.fold == 0 if training.is_ridge else training.has_one_fold)
    if wanted and not path.is_file():
        network = (
            _joined_ridge(training, model.case)
            if training.is_ridge
            else _joined_head(training, path.with_name("head.weights.h5"))
        )
        _save_network(training, model.case, network, path)


def _joined_head(training: Training, weights: Path) -> Any:  # noqa: ANN401
    """Return the backbone with a head, whose weights lie in a file."""
    backbone = training.backbone.model
    height, width, channels = backbone.output.shape[1:]
    head = training.heads.published((int(height), int(width), int(channels)))
    with without_keras_json():
        head.load_weights(weights)
    return build_network(backbone, head)


def _joined_ridge(training: Training, case: str) -> Any:  # noqa: ANN401
    """Return the backbone with the fits of a case."""
    files = training.files(case)
    fits = files.fits(training.fingerprint(case))
    if not fits:
        raise DataFormatError(f"{files.probe} cannot be read; train {case} again with --force")
    return build_ridge(training.backbone.model, fits)


def _save_network(
    training: Training,
    case: str,
    network: Any,  # noqa: ANN401
    path: Path,
) -> None:
    normalisation = training.workspace.normalisation_json
    about = about_model(
        training.recipe,
        case,
        weights=training.weights,
        normalisation=read_json(normalisation) if normalisation.is_file() else None,
    )
    with training.workspace.replacing(path) as temporary:
        with without_keras_json():
            network.save(temporary)
        _complete_archive(temporary, about)


def _complete_archive(path: Path, about: dict[str, Any]) -> None:
    """Rewrite a ``.keras`` archive with what its images are, and without times and addresses."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(members["metadata.json"])
    metadata.pop("date_saved", None)
    members["metadata.json"] = json.dumps(metadata, sort_keys=True).encode()
    members[ABOUT] = json.dumps(about, sort_keys=True).encode()
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
