"""A trained case on new images or maps."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataFormatError, DataMissingError
from sfr.imaging.cases import RGB, CaseFunction, case_function
from sfr.imaging.lupton import lupton_rgb
from sfr.imaging.normalise import Normalisation
from sfr.imaging.png import read_png
from sfr.progress import Progress, silent
from sfr.recipe import CasesRecipe, ImageRecipe, Recipe, parse_case
from sfr.store import LABEL_SCALE_YR, Shard, read_shard
from sfr.train.keras_import import load_keras
from sfr.workspace import image_name

__all__ = ["ABOUT", "Predictions", "about_model", "predict_images", "table_text"]

#: Member of ``model.keras`` that says how its images are made.
ABOUT: Final = "sfr.json"
_BATCH: Final = 16


@dataclass(frozen=True)
class Predictions:
    """Predictions of one model.

    Attributes
    ----------
    case : str
        Version of the image that the model takes.
    weights : str
        Weights of its backbone.
    table : dict
        Columns ``image``, ``prediction`` (log10(1e15 sSFR) [dex]) and ``ssfr_per_yr``.
    """

    case: str
    weights: str
    table: dict[str, list[Any]]


def about_model(
    recipe: Recipe, case: str, *, weights: str, normalisation: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return what a saved model must know to be used on images and maps.

    Parameters
    ----------
    recipe : Recipe
        The experiment.
    case : str
        Version of the image.
    weights : str
        Name of the backbone's weights.
    normalisation : mapping or None
        Content of ``normalisation.json``; None: the model takes images only.

    Returns
    -------
    dict
        Plain data.
    """
    maps = recipe.maps
    return {
        "case": case,
        # place of the channel that the case keeps, null where it keeps all
        "channel": parse_case(case, recipe.channels).channel,
        "pixels": maps.pixels,
        "channels": list(recipe.channels),
        "pixel_scale_ckpc_h": maps.width_ckpc_h / (maps.pixels * maps.bin_scale),
        "cases": recipe.section("cases"),
        "image": recipe.section("image"),
        "weights": weights,
        "normalisation": normalisation,
    }


def predict_images(
    model: Path, images: Sequence[Path], *, on_progress: Progress = silent
) -> Predictions:
    """Predict the sSFR of galaxies from composite images or from maps.

    Parameters
    ----------
    model : Path
        ``model.keras`` of a head, or the head's folder.
    images : sequence of Path
        PNG images (the composite of the three channels), shards of maps, or folders of either.
    on_progress : callable
        Hears of batches of images.

    Returns
    -------
    Predictions
        One row an image.

    Raises
    ------
    DataMissingError
        The model or an image is not there.
    DataFormatError
        The model or an image cannot be read, or has another size than the model was trained on.
    """
    path = model / "model.keras" if model.is_dir() else model
    about = _read_about(path)
    case = _case_of(path, about)
    files = _files(images)
    network = _load(path)
    names: list[str] = []
    predictions: list[float] = []
    waiting: list[RGB] = []

    def flush() -> None:
        batch = np.zeros((_BATCH, about["pixels"], about["pixels"], 3), np.float32)
        batch[: len(waiting)] = waiting
        found = np.asarray(network.predict_on_batch(batch))[: len(waiting), 0]
        predictions.extend(found.astype(np.float64).tolist())
        waiting.clear()

    for done, file in enumerate(files, start=1):
        for name, image in _composites(file, about):
            if image.shape != (about["pixels"], about["pixels"], 3):
                raise DataFormatError(
                    f"{file} has {image.shape[1]} x {image.shape[0]} pixels, the model takes "
                    f"{about['pixels']}"
                )
            names.append(name)
            waiting.append(case(image))
            if len(waiting) == _BATCH:
                flush()
        on_progress("predict", done, len(files))
    if waiting:
        flush()
    values = np.array(predictions, np.float64)
    table = {
        "image": names,
        "prediction": predictions,
        "ssfr_per_yr": (10.0**values / LABEL_SCALE_YR).tolist(),
    }
    return Predictions(about["case"], about["weights"], table)


def table_text(table: Mapping[str, Sequence[object]]) -> str:
    """Return columns as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    return text.getvalue()


def _read_about(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataMissingError(
            f"model {path} is not there; sfr train writes model.keras for seed 0, and with "
            "--save-models for every seed"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            about: dict[str, Any] = json.loads(archive.read(ABOUT))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise DataFormatError(
            f"{path} is not a model that sfr train saved ({error}); remove it and run sfr train"
        ) from error
    return about


def _case_of(path: Path, about: Mapping[str, Any]) -> CaseFunction:
    """Return what the model's images are made by; it must be what they were made by in training."""
    cases = {**about["cases"], "names": tuple(about["cases"]["names"])}
    name, channels = about["case"], about["channels"]
    # models that do not state the channel were trained when the published names meant places
    published = {"entropy": 0, "mass": 1, "temperature": 2}
    kept = about["channel"] if "channel" in about else published.get(name)
    if kept != (channels.index(name) if name in channels else None):
        raise DataFormatError(
            f"{path} is called {name}, but an earlier version trained it on channel "
            f"{channels[kept]} of {', '.join(channels)}; run sfr train --case {channels[kept]}"
        )
    return case_function(name, CasesRecipe(**cases), channels)


def _load(path: Path) -> Any:  # noqa: ANN401
    try:
        return load_keras().saving.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise DataFormatError(f"model {path} cannot be loaded: {error}") from error


def _files(images: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in images:
        if path.is_dir():
            found = sorted([*path.glob("*.png"), *path.glob("*.hdf5")])
            if not found:
                raise DataMissingError(f"folder {path} holds no .png and no .hdf5 file")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise DataMissingError(f"image {path} is not there; give PNG files, shards or folders")
    return files


def _composites(path: Path, about: Mapping[str, Any]) -> Iterator[tuple[str, RGB]]:
    """Yield name and composite of each galaxy of a file."""
    if path.suffix != ".hdf5":
        yield path.name, read_png(path)
        return
    if about["normalisation"] is None:
        raise DataMissingError(f"{path}: this model does not know how maps are normalised; use PNG")
    document = about["normalisation"]
    # by name: the file's keys are sorted
    maxima = tuple(float(document["channels"][name]["maximum"]) for name in about["channels"])
    normalisation = Normalisation(maxima, document)
    shard = read_shard(path)
    _check_maps(path, shard, about)
    for name, maps in zip(_names(path, shard), shard.maps, strict=True):
        yield name, _stretched(maps, normalisation, about)


def _check_maps(path: Path, shard: Shard, about: Mapping[str, Any]) -> None:
    """Check that maps show what the model was trained on, on pixels of the same size."""
    found, channels = shard.attributes, about["normalisation"]["channels"]
    for what, attribute, wanted in (
        ("maps", "channel_names", about["channels"]),
        ("units", "channel_units", [channels[name]["unit"] for name in about["channels"]]),
    ):
        held = np.ravel(np.asarray(found.get(attribute, ()))).astype(str).tolist()
        if held != wanted:
            raise DataFormatError(f"{path} has {what} {held}, the model takes {wanted}")
    if "pixel_scale_ckpc_h" not in about:
        raise DataMissingError(
            f"{path}: this model was saved without the size of its pixels; use PNG, or delete the "
            "model and run sfr train, which saves it again"
        )
    scale = float(np.asarray(found.get("pixel_scale_ckpc_h", np.nan)))
    if not np.isclose(scale, about["pixel_scale_ckpc_h"], rtol=1e-6):
        raise DataFormatError(
            f"{path} has pixels of {scale:g} ckpc/h, the model takes "
            f"{about['pixel_scale_ckpc_h']:g} ckpc/h"
        )


def _names(path: Path, shard: Shard) -> list[str]:
    """Name the galaxies of a file like their images; sfr map knows no galaxy."""
    if "snapshot" not in shard.attributes:
        return [f"{path.name}[{place}]" for place in range(len(shard.maps))]
    snapshot = int(np.asarray(shard.attributes["snapshot"]))
    return [image_name(snapshot, int(k)) for k in shard.columns["subhalo_id"]]


def _stretched(
    maps: NDArray[np.float32], normalisation: Normalisation, about: Mapping[str, Any]
) -> RGB:
    return lupton_rgb(normalisation.apply(maps), ImageRecipe(**about["image"]))
