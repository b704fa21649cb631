"""Output of the frozen backbone, computed once per image and case and kept on disk."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sfr.errors import ConfigError, DataFormatError, SfrError
from sfr.imaging.inputs import CaseInput, inputs_of
from sfr.imaging.shares import remember_clipped
from sfr.nn.backbone import block_widths, build_backbone, chosen_precision, weights_id
from sfr.progress import Progress, silent
from sfr.recipe import Recipe, TrainRecipe
from sfr.run.names import ImageId
from sfr.run.workspace import Workspace, digest

__all__ = [
    "BackboneInUse",
    "Features",
    "extract_features",
    "feature_key",
    "feature_type",
    "features_of",
    "open_features",
]

log = logging.getLogger(__name__)

#: From an image to what the network reads of a case, shape (y, x, 3) in 0..255.
Picture = Callable[[ImageId], NDArray[Any]]

#: Images a call of the backbone; fixed, so that results do not depend on how many there are.
BATCH: Final = 16
#: Images of a part: what an interrupted extraction loses at most.
PART: Final = 256


@dataclass(frozen=True)
class Features:
    """Cached output of the backbone for one case.

    Attributes
    ----------
    path : Path
        The file.
    key : str
        Digest of all that the content depends on.
    array : ndarray of float16 or float32, shape (N, height, width, channels)
        Mapped from the file, read-only; 8 x 8 x 512 for VGG16 and images of 256 pixels. For ridge
        shape (N, 2, channels): mean and standard deviation over places of all blocks.
    filenames : tuple of str
        Image of each row, by snapshot and subhalo.
    """

    path: Path
    key: str
    array: NDArray[np.floating[Any]]
    filenames: tuple[str, ...]


class BackboneInUse:
    """The backbone of a run: identified at once, built when first needed, then kept.

    Parameters
    ----------
    recipe : Recipe
        The experiment.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._failure: SfrError | None = None

    @cached_property
    def weights_id(self) -> str:
        """Identity of the weights."""
        return weights_id(self._recipe.train)

    @cached_property
    def precision(self) -> str:
        """``float32`` or ``bfloat16``."""
        return chosen_precision(self._recipe.train.precision)

    @cached_property
    def blocks(self) -> dict[str, int]:
        """Channels of the blocks that ridge reads, side by side in its features."""
        return block_widths(self._recipe.train.backbone)

    @property
    def model(self) -> Any:  # noqa: ANN401
        """The Keras model, from image to features; what it lacks is looked for once."""
        if self._failure is not None:
            # a download that failed is not tried again for every case
            raise self._failure
        return self._built

    @cached_property
    def _built(self) -> Any:  # noqa: ANN401
        try:
            return build_backbone(self._recipe.train, self._recipe.maps.pixels)
        except SfrError as error:
            self._failure = error
            raise


def feature_key(recipe: Recipe, case: str, *, images: str, weights: str) -> str:
    """Identify features before they are computed.

    Parameters
    ----------
    recipe : Recipe
        The experiment.
    case : str
        Version of the image.
    images, weights : str
        Results of `Inputs.digest` and `weights_id`.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    train = recipe.train
    channel = recipe.case(case).channel
    # what acts on the cases of this recipe
    switches = ["act_on", "structure"]
    switches += ["gain"] if recipe.cases.structure == "centred" else []
    switches += ["edge"] if recipe.cases.act_on == "maps" else []
    return digest(
        {
            "case": case,
            # the same name is another image where the channels have another order
            **({} if channel is None else {"channel": channel}),
            "cases": {name: getattr(recipe.cases, name) for name in switches},
            "images": images,
            "backbone": train.backbone,
            "weights": weights,
            "input_scaling": train.input_scaling,
            "precision": chosen_precision(train.precision),
            "feature_type": train.feature_type,
            "pixels": recipe.maps.pixels,
            # those of heads are called as before there were others
            **({} if train.probe == "head" else {"probe": train.probe}),
        }
    )


def feature_type(train: TrainRecipe) -> np.dtype[Any]:
    """Return the type that features are kept in: pooled ones are few, and kept as they are."""
    return np.dtype(np.float32 if train.probe == "ridge" else train.feature_type)


def extract_features(
    workspace: Workspace,
    recipe: Recipe,
    case: str,
    filenames: Sequence[str],
    *,
    backbone: BackboneInUse | None = None,
    key: str | None = None,
    force: bool = False,
    on_progress: Progress = silent,
) -> Features:
    """Run the backbone over all images of a case, unless its output is there already.

    Features of the same case with another key are removed once the new ones are whole: they are
    a cache, of half a GB a case for 7881 images. They are computed in parts, each of which is kept,
    so an interrupted extraction goes on where it was.

    Parameters
    ----------
    workspace : Workspace
        The run's folder, with images.
    recipe : Recipe
        The experiment.
    case : str
        Version of the image.
    filenames : sequence of str
        Bare names of the images.
    backbone : BackboneInUse or None
        The backbone, to build it once for several cases.
    key : str or None
        Result of `feature_key`, where it is known already.
    force : bool
        Compute them even if they are there.
    on_progress : callable
        Hears of every batch, in images.

    Returns
    -------
    Features
        One row an image, by snapshot and subhalo.

    Raises
    ------
    ConfigError
        Unknown case, a case that the recipe defines in a way that is not available, or features
        too large for float16.
    DataMissingError
        An image or the weights are not there.
    DataFormatError
        An image cannot be read or is not of the recipe's size, or the weights do not fit.
    """
    inputs = inputs_of(workspace, recipe)
    read = inputs.case(case)
    backbone = backbone or BackboneInUse(recipe)
    names = tuple(sorted(filenames, key=ImageId.parse))
    if key is None:
        key = feature_key(recipe, case, images=inputs.digest(names), weights=backbone.weights_id)
    path, kind = workspace.features(case, key), feature_type(recipe.train)
    if force:
        path.unlink(missing_ok=True)
        for part in path.parent.glob(f"{path.stem}.part-*"):
            part.unlink()
    array = open_features(path, len(names), kind)
    if array is not None:
        log.info("features of %s are there already", case)
        return Features(path, key, array, names)
    log.info("features of %s: %d images", case, len(names))
    _Extraction(workspace, case, key, names, kind, read, backbone, on_progress).write(path)
    array = open_features(path, len(names), kind)
    if array is None:
        raise DataFormatError(f"{path} cannot be read back; is the disk full?")
    _remove_others(path, case)
    return Features(path, key, array, names)


def features_of(
    workspace: Workspace, recipe: Recipe, case: str, filenames: Sequence[str]
) -> NDArray[np.float32]:
    """Run the backbone over a few images, without the cache.

    Parameters
    ----------
    workspace, recipe, case
        As for `extract_features`.
    filenames : sequence of str
        Bare names of the images; their order is kept.

    Returns
    -------
    ndarray of float32, shape (N, height, width, channels)
        Features.
    """
    images = [ImageId.parse(name) for name in filenames]
    model = BackboneInUse(recipe).model
    read = inputs_of(workspace, recipe).case(case)
    return np.concatenate(list(_compute(lambda image: read(image).image, images, model)))


def open_features(path: Path, count: int, kind: DTypeLike) -> NDArray[np.floating[Any]] | None:
    """Map a file of features; None if it is not there or is not whole."""
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    if array.ndim not in (2, 3, 4) or len(array) != count or array.dtype != kind:
        return None
    return array  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Extraction:
    """The backbone on all images of a case, in parts."""

    workspace: Workspace
    case: str
    key: str
    names: tuple[str, ...]
    kind: np.dtype[Any]
    read: Callable[[ImageId], CaseInput]
    backbone: BackboneInUse
    on_progress: Progress

    def write(self, path: Path) -> None:
        """Make the parts that are not there, and join them."""
        parts = [self._part(start) for start in range(0, len(self.names), PART)]
        with self.workspace.replacing(path) as temporary:
            _join(parts, temporary, len(self.names))

    def _part(self, start: int) -> Path:
        images = [ImageId.parse(name) for name in self.names[start : start + PART]]
        path = self.workspace.features_part(self.case, self.key, start // PART)
        if open_features(path, len(images), self.kind) is None:

            def hear(done: int) -> None:
                self.on_progress(f"features {self.case}", start + done, len(self.names))

            clipped: dict[ImageId, float] = {}

            def picture(image: ImageId) -> NDArray[Any]:
                made = self.read(image)
                if made.clipped is not None:
                    clipped[image] = made.clipped
                return made.image

            batches = _compute(picture, images, self.backbone.model, hear)
            found = _kept(batches, self.kind, self.case)
            shares = [clipped[image] for image in sorted(clipped)]
            # before the part itself is kept
            remember_clipped(self.workspace, self.case, self.key, start // PART, shares)
            with self.workspace.replacing(path) as temporary, temporary.open("wb") as file:
                np.save(file, found)
        return path


def _compute(
    picture: Picture,
    images: Sequence[ImageId],
    model: Any,  # noqa: ANN401
    on_done: Callable[[int], None] = lambda _: None,
) -> Iterator[NDArray[np.float32]]:
    """Run the backbone over some images, and yield its output batch by batch."""
    done = 0
    for batch, count in _read_ahead(picture, images):
        # the last batch keeps its full length: one compiled shape, the same arithmetic
        yield np.asarray(model.predict_on_batch(batch))[:count]
        done += count
        on_done(done)


def _kept(
    batches: Iterable[NDArray[np.float32]], kind: np.dtype[Any], case: str
) -> NDArray[np.floating[Any]]:
    """Put batches of features together in the type that they are kept in."""
    found = []
    for features in batches:
        with np.errstate(over="ignore"):
            found.append(features.astype(kind))
        if not np.isfinite(found[-1]).all():
            raise ConfigError(
                f"features of case {case} reach {np.abs(features).max():.3g}, which float16 cannot "
                'hold; set train.feature_type = "float32"'
            )
    return np.concatenate(found)


def _read_ahead(
    picture: Picture, images: Sequence[ImageId]
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Yield batches and how many images are in them.

    The next one is decoded while the backbone is busy with this one.
    """
    with ThreadPoolExecutor(2) as pool:
        upcoming = [pool.submit(picture, image) for image in images[:BATCH]]
        for start in range(0, len(images), BATCH):
            current = upcoming
            following = images[start + BATCH : start + 2 * BATCH]
            upcoming = [pool.submit(picture, image) for image in following]
            first = current[0].result()
            batch = np.zeros((BATCH, *first.shape), np.float32)
            for row, found in enumerate(current):
                batch[row] = found.result()
            yield batch, len(current)


def _join(parts: Sequence[Path], path: Path, count: int) -> None:
    """Write the parts into one file, one after the other."""
    # plain writes: a full disk is an error here, and a signal in mapped memory
    with path.open("wb") as file:
        for place, part in enumerate(parts):
            array = np.load(part, mmap_mode="r")
            if place == 0:
                descr = np.lib.format.dtype_to_descr(array.dtype)
                shape = (count, *array.shape[1:])
                header = {"descr": descr, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(array).tobytes())


def _remove_others(path: Path, case: str) -> None:
    """Remove features of other inputs, and the parts that this file was joined from."""
    ours = re.compile(rf"{re.escape(case)}-[0-9a-f]{{16}}(\.part-\d{{5,}})?\.npy")
    for other in path.parent.glob(f"{case}-*.npy"):
        if other == path or not ours.fullmatch(other.name):
            continue
        if not other.name.startswith(f"{path.stem}.part-"):
            log.info("features of %s with other inputs are removed: %s", case, other.name)
        other.unlink(missing_ok=True)
