"""A trained case on new images or maps."""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataFormatError, DataMissingError, SfrError
from sfr.imaging.cases import RGB, case_function, map_case_function, network_input
from sfr.imaging.normalise import Normalisation
from sfr.imaging.png import has_own_scale, read_png
from sfr.imaging.rgb import rgb_image
from sfr.nn.keras_import import load_keras, without_keras_json
from sfr.paths import chosen_files, plain
from sfr.progress import Progress, silent
from sfr.recipe import CasesRecipe, ImageRecipe, Recipe, maps_settings, parse_case
from sfr.run.shards import Shard, read_shard
from sfr.target import Target, target_of
from sfr.train.bootstrap import CONSTANT_RANGE

log = logging.getLogger(__name__)

__all__ = ["ABOUT", "Predictions", "about_model", "predict_images"]

#: Member of ``model.keras`` that says how its images are made.
ABOUT: Final = "sfr.json"
#: What every model says of itself.
_ABOUT_FIELDS: Final = frozenset(
    {"case", "pixels", "channels", "cases", "image", "weights", "normalisation"}
)
_CHANNELS: Final = "maps.channels"
_BATCH: Final = 16
_SUFFIXES: Final = (".png", ".hdf5")
#: Of models that older versions saved.
_UNKNOWN_LABEL: Final = dict.fromkeys(("text", "sentence"), "not stated by this model")


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
        Columns ``image``, ``prediction`` (of the label: log10(1e15 sSFR) [dex] with ``thesis``),
        the same as a value under the name of the target's column (``ssfr_per_yr``), and ``label``:
        name, formula and unit of what the model was trained on.
    label : str
        The same, with what a reader must know of it.
    failures : tuple of str
        Why files were left out.
    """

    case: str
    weights: str
    table: dict[str, list[Any]]
    label: str
    failures: tuple[str, ...] = ()


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
        "channel": recipe.case(case).channel,
        "pixels": maps.pixels,
        "channels": list(recipe.channels),
        "pixel_scale_ckpc_h": maps.pixel_ckpc_h,
        "settings": maps_settings(maps, recipe.orientation),
        "cases": recipe.section("cases"),
        "image": recipe.section("image"),
        "weights": weights,
        "label": target_of(recipe).to_dict(),
        "normalisation": normalisation,
    }


def predict_images(
    model: Path, images: Sequence[Path], *, on_progress: Progress = silent
) -> Predictions:
    """Predict the label of galaxies (`sfr.target`) from composite images or from maps.

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
        One row an image. A file that cannot be read, or that the model cannot take, is told and
        left out where others can.

    Raises
    ------
    DataMissingError
        The model or an image is not there.
    DataFormatError
        The model cannot be read, or not one of the images can be, or is what the model was trained
        on: another size, one channel in place of three, maps of other channels, units or settings.
    """
    path = model / "model.keras" if model.is_dir() else model
    about = _read_about(path)
    label = about.get("label", _UNKNOWN_LABEL)
    target = Target.of_model(label)
    case = _case_of(path, about)
    files = chosen_files(images, _SUFFIXES)
    network = _load(path)
    names: list[str] = []
    predictions: list[float] = []
    waiting: list[NDArray[Any]] = []

    def flush() -> None:
        batch = np.zeros((_BATCH, about["pixels"], about["pixels"], 3), np.float32)
        batch[: len(waiting)] = waiting
        found = np.asarray(network.predict_on_batch(batch))[: len(waiting), 0]
        predictions.extend(found.astype(np.float64).tolist())
        waiting.clear()

    failures: list[str] = []
    first: NDArray[Any] | None = None
    differ = False
    for done, file in enumerate(files, start=1):
        try:
            versions = list(_versions(file, about, case))
        except (SfrError, OSError) as error:
            if len(files) == len(failures) + 1:
                # not one of them can be used
                raise
            log.warning("%s", error)
            failures.append(str(error))
            versions = []
        for name, image in versions:
            names.append(name)
            waiting.append(image)
            first = waiting[0] if first is None else first
            differ = differ or not np.array_equal(first, waiting[-1])
            if len(waiting) == _BATCH:
                flush()
        on_progress("predict", done, len(files))
    if waiting:
        flush()
    values = np.array(predictions, np.float64)
    _check_numbers(path, names, values, differ=differ)
    table = {
        "image": names,
        "prediction": predictions,
        target.column: target.value(values).tolist(),
        "label": [label["text"]] * len(names),
    }
    return Predictions(about["case"], about["weights"], table, label["sentence"], tuple(failures))


def _check_numbers(
    path: Path, names: Sequence[str], values: NDArray[np.float64], *, differ: bool
) -> None:
    """Refuse what is no number, and say where images that differ get one number."""
    lost = [name for name, value in zip(names, values, strict=True) if not np.isfinite(value)]
    if lost:
        raise DataFormatError(
            f"model {path} gives no number for {len(lost)} of {len(names)} images ({lost[0]}); its "
            "weights are not finite: train it again"
        )
    if differ and np.ptp(values) < CONSTANT_RANGE:
        log.warning(
            "%s gives the same number for all %d images: it is dead, and says nothing of them",
            path,
            len(values),
        )


def _read_about(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataMissingError(
            f"model {path} is not there; sfr train writes model.keras for seed 0, and with "
            "--save-models for every seed"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            about: dict[str, Any] = json.loads(archive.read(ABOUT))
        if missing := sorted(_ABOUT_FIELDS - set(about)):
            raise ValueError(f"it does not state {', '.join(missing)}")
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise DataFormatError(
            f"{path} is not a model that sfr train saved ({error}); remove it and run sfr train"
        ) from error
    return about


@dataclass(frozen=True)
class _Version:
    """How the model's version of a galaxy is made of a composite, or of normalised maps."""

    #: None: the model reads float maps.
    of_composite: Callable[[RGB], NDArray[Any]] | None
    of_maps: Callable[[NDArray[np.float64]], NDArray[Any]]


def _case_of(path: Path, about: Mapping[str, Any]) -> _Version:
    """Return what the model's images are made by; it must be what they were made by in training."""
    # which cases were trained beside it means nothing here
    cases = {**about["cases"], "names": None}
    name, channels = about["case"], about["channels"]
    # models that do not state the channel were trained when the published names meant places
    published = {"entropy": 0, "mass": 1, "temperature": 2}
    kept = about["channel"] if "channel" in about else published.get(name)
    recipe = CasesRecipe(**cases)
    if kept != parse_case(name, channels, recipe.act_on).channel:
        raise DataFormatError(
            f"{path} is called {name}, but an earlier version trained it on channel "
            f"{channels[kept]} of {', '.join(channels)}; run sfr train --case {channels[kept]}"
        )
    if recipe.act_on == "maps":
        of_scaled = map_case_function(name, recipe, channels)
        return _Version(None, lambda maps: network_input(of_scaled(maps.astype(np.float32)).maps))
    function, image = case_function(name, recipe, channels), ImageRecipe(**about["image"])
    return _Version(function, lambda maps: function(rgb_image(maps, image, channels)))


def _load(path: Path) -> Any:  # noqa: ANN401
    try:
        keras = load_keras()
        with without_keras_json():
            return keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise DataFormatError(f"model {path} cannot be loaded: {error}") from error


def _versions(
    path: Path, about: Mapping[str, Any], case: _Version
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the name of each galaxy of a file, and what the model reads of it."""
    if path.suffix.lower() not in (".hdf5", ".h5"):
        if case.of_composite is None:
            raise DataFormatError(
                f"{path} is a picture, and this model reads the float maps themselves; give shards "
                "of maps, or the maps.hdf5 of sfr map"
            )
        composite = _composite(path, about)
        _check_size(path, composite.shape[:2], about)
        yield plain(path.name), case.of_composite(composite)
        return
    if about["normalisation"] is None:
        raise DataMissingError(f"{path}: this model does not know how maps are normalised; use PNG")
    # by name: JSON promises no order, and another run may have another one
    normalisation = Normalisation.of(about["normalisation"], about["channels"])
    shard = read_shard(path)
    places = _check_maps(path, shard, about)
    _check_size(path, shard.maps.shape[-2:], about)
    for name, maps in zip(_names(path, shard), shard.maps[:, places], strict=True):
        yield name, case.of_maps(normalisation.apply(maps))


def _check_size(path: Path, shape: tuple[int, ...], about: Mapping[str, Any]) -> None:
    if shape != (about["pixels"], about["pixels"]):
        raise DataFormatError(
            f"{path} has {shape[1]} x {shape[0]} pixels, the model takes {about['pixels']}"
        )


def _composite(path: Path, about: Mapping[str, Any]) -> RGB:
    """Read a picture that can be the composite that the model's case is made of."""
    image, names = read_png(path), ", ".join(about["channels"])
    if has_own_scale(path):
        raise DataFormatError(
            f"{path} was scaled by its own maxima, and the model knows images of one common scale; "
            "give the maps (maps.hdf5) that sfr map wrote beside it"
        )
    if image.any() and (image == image[..., :1]).all():
        raise DataFormatError(
            f"{path} is grey: its colours are all the same; the model takes the composite of "
            f"{names}, and makes the version {about['case']} of it itself"
        )
    return image


def _check_maps(path: Path, shard: Shard, about: Mapping[str, Any]) -> list[int]:
    """Check that maps show what the model was trained on; return where its channels are."""
    found, channels = shard.attributes, about["normalisation"]["channels"]

    def held(attribute: str) -> list[str]:
        return np.ravel(np.asarray(found.get(attribute, ()))).astype(str).tolist()

    names, wanted = held("channel_names"), about["channels"]
    if not set(wanted) <= set(names) or len(names) != shard.maps.shape[1]:
        raise DataFormatError(f"{path} has maps {names}, the model takes {wanted}")
    places = [names.index(name) for name in wanted]
    unit_of = dict(zip(names, held("channel_units"), strict=False))
    units = [unit_of.get(name) for name in wanted]
    if units != [channels[name]["unit"] for name in wanted]:
        raise DataFormatError(
            f"{path} has units {units} of {', '.join(wanted)}, the model takes "
            f"{[channels[name]['unit'] for name in wanted]}; where one of them was made by an "
            "older version, whose units do not name the statistic, render and train again"
        )
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
    try:
        settings: dict[str, Any] = json.loads(str(found.get("settings", "{}")))
    except ValueError as error:
        raise DataFormatError(f"{path}: its attribute settings cannot be read: {error}") from error
    _check_settings(path, settings, about.get("settings", {}))
    return places


def _check_settings(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Check what is known of how maps were made, but for their channels' order."""
    for name in sorted(set(found) & set(wanted) - {_CHANNELS}):
        if found[name] != wanted[name]:
            raise DataFormatError(
                f"{path} was made with {name} = {found[name]!r}, the maps of the model with "
                f"{wanted[name]!r}"
            )
    mine = {channel["name"]: channel for channel in found.get(_CHANNELS, ())}
    for channel in wanted.get(_CHANNELS, ()):
        if mine.get(channel["name"], channel) != channel:
            raise DataFormatError(
                f"{path} has a map {channel['name']} of {mine[channel['name']]}, that of the model "
                f"is {channel}"
            )


def _names(path: Path, shard: Shard) -> list[str]:
    """Name the galaxies of a file like their images; sfr map knows no galaxy."""
    if "snapshot" not in shard.attributes:
        return [f"{plain(path.name)}[{place}]" for place in range(len(shard.maps))]
    snapshot = int(np.asarray(shard.attributes["snapshot"]))
    return [image.filename for image in shard.images(snapshot)]
