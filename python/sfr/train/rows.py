"""Which images are trained on and tested, and their labels."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfr.errors import DataFormatError, DataMissingError, EmptySelectionError
from sfr.imaging.inputs import inputs_of
from sfr.recipe import Recipe
from sfr.run.edited_tables import image_names, read_groups, read_split
from sfr.run.folds import Place, count_folds, subsets_in
from sfr.run.names import ImageId
from sfr.run.tables import TEST, TRAIN, galaxy_numbers
from sfr.run.workspace import Workspace, digest
from sfr.target import Target, read_values, target_of
from sfr.train.bootstrap import CONSTANT_RANGE

__all__ = ["Rows", "components_of", "read_rows"]

log = logging.getLogger(__name__)

#: Range of labels beyond which the steps of a training are too small for them.
_WIDEST: Final = 1000.0


@dataclass(frozen=True)
class Rows:
    """The images that a network sees, by snapshot and subhalo, with their labels.

    Attributes
    ----------
    filenames : tuple of str
        Bare names of the images.
    snapshot, subhalo_id, galaxy_id : ndarray of int64, shape (N,)
        The galaxies.
    places : tuple of Place
        Where each image stands in the split.
    group : ndarray of str, shape (N,)
        What the split keeps together; the image itself where it is by image.
    label : ndarray of float64, shape (N,)
        Labels of the target: log10(1e15 sSFR) [dex] with ``thesis``.
    target : Target
        What they are of.
    n_missing_images : int
        Rows of the split without an image (galaxies that could not be rendered).
    n_dropped_zero : int
        Rows with an image that are left out because their value is 0, which has no logarithm.
    """

    filenames: tuple[str, ...]
    snapshot: NDArray[np.int64]
    subhalo_id: NDArray[np.int64]
    galaxy_id: NDArray[np.int64]
    places: tuple[Place, ...]
    group: NDArray[np.str_]
    label: NDArray[np.float64]
    target: Target
    n_missing_images: int
    n_dropped_zero: int

    @cached_property
    def n_folds(self) -> int:
        """Folds of the split; 1 for a split in one."""
        return count_folds(self.places)

    @cached_property
    def component(self) -> NDArray[np.int64]:
        """Number of what is independent, of each row."""
        return components_of(self.group, self.galaxy_id)

    def subset(self, fold: int = 0) -> NDArray[np.str_]:
        """Return the subset of each row for the networks of a fold: train, validation or test."""
        return subsets_in(self.places, fold)

    def indices(self, subset: str, fold: int = 0) -> NDArray[np.int64]:
        """Positions of the rows of a subset of a fold."""
        return np.flatnonzero(self.subset(fold) == subset)

    def digest(self) -> str:
        """Identify names, places in the split, labels and what they are of."""
        columns = [list(self.filenames), list(map(str, self.places)), self.label.tolist()]
        return digest([*columns, self.target.to_dict()])


def components_of(group: ArrayLike, galaxy_id: ArrayLike) -> NDArray[np.int64]:
    """Give what is independent numbers: what the split keeps together, by image galaxies.

    Parameters
    ----------
    group : array_like of str, shape (N,)
        What the split keeps together; different ones throughout where it is by image.
    galaxy_id : array_like of int, shape (N,)
        As in ``sample.csv``.

    Returns
    -------
    ndarray of int64, shape (N,)
        From 0.
    """
    groups, number = np.unique(np.asarray(group), return_inverse=True)
    return galaxy_numbers(galaxy_id) if groups.size == number.size else number


def read_rows(workspace: Workspace, recipe: Recipe) -> Rows:
    """Join split, sample and images; rows without a label are dropped in every subset.

    Parameters
    ----------
    workspace : Workspace
        A run's folder with ``split.csv``, ``sample.csv``, and images or maps.
    recipe : Recipe
        The experiment: what is predicted, and whether from images or from maps.

    Returns
    -------
    Rows
        At least one training and one test row in every fold.

    Raises
    ------
    DataMissingError
        A table or all images are missing; the message names the command that makes them. Or the
        sample has no column of the target.
    DataFormatError
        The tables do not fit together, a value has no label that could be learned, or all are
        equal.
    EmptySelectionError
        No training row or no test row is left, of some fold.
    """
    for path, command in ((workspace.split_csv, "split"), (workspace.sample_csv, "select")):
        if not path.is_file():
            raise DataMissingError(f"{path} is not there; run sfr {command}")
    target = target_of(recipe)
    sample, values = read_values(workspace, target)
    split, groups = read_split(workspace), read_groups(workspace)
    place = {name: index for index, name in enumerate(image_names(sample))}
    names = _checked_names(workspace, list(split), place)
    inputs = inputs_of(workspace, recipe)
    present = [name for name in names if inputs.has(ImageId.parse(name))]
    if not present:
        raise DataMissingError(
            f"nothing of the split is in {inputs.folder}, of which cases are made; run sfr render"
        )
    at = np.array([place[name] for name in present], np.int64)
    has_label = target.has_label(values[at])
    kept = at[has_label]
    kept_names = tuple(name for name, has in zip(present, has_label, strict=True) if has)
    rows = Rows(
        filenames=kept_names,
        snapshot=np.asarray(sample["snapshot"], np.int64)[kept],
        subhalo_id=np.asarray(sample["subhalo_id"], np.int64)[kept],
        galaxy_id=np.asarray(sample["galaxy_id"], np.int64)[kept],
        places=tuple(split[name] for name in kept_names),
        group=np.array([groups[name] for name in kept_names], np.str_),
        label=target.label(values[kept]),
        target=target,
        n_missing_images=len(names) - len(present),
        n_dropped_zero=len(present) - len(kept_names),
    )
    _report(rows, count_folds(split.values()))
    _check_labels(workspace, rows, recipe)
    return rows


def _checked_names(workspace: Workspace, names: list[str], place: dict[str, int]) -> list[str]:
    unknown = [name for name in names if name not in place]
    if unknown:
        raise DataFormatError(
            f"{workspace.split_csv}: {len(unknown)} images are not in sample.csv, the first is "
            f"{unknown[0]}; run sfr split"
        )
    return names


def _check_labels(workspace: Workspace, rows: Rows, recipe: Recipe) -> None:
    """Refuse labels that nothing can learn, and tell of those that the output cannot reach."""
    target, span = rows.target, float(np.ptp(rows.label))
    if span < CONSTANT_RANGE:
        raise DataFormatError(
            f"{workspace.sample_csv}: the labels of {target.column} differ by {span:g} over "
            f"{rows.label.size} images, less than a network resolves ({CONSTANT_RANGE:g}): there "
            "is nothing to predict. Name another column as target.column"
            + ("" if target.is_log else ', or use target.transform = "log10"')
        )
    if span > _WIDEST:
        log.warning(
            "the labels of %s span %.3g; a network learns numbers of order 1, so use "
            'target.transform = "log10", or another unit',
            target.column,
            span,
        )
    below = int(np.count_nonzero(rows.label < 0.0))
    if below and recipe.train.output == "relu":
        log.warning(
            '%d of %d labels are below 0, where train.output = "relu" cannot predict; '
            'train.output = "linear" can%s',
            below,
            rows.label.size,
            ", and a larger target.scale moves them up" if target.is_log else "",
        )


def _report(rows: Rows, folds: int) -> None:
    if rows.n_missing_images:
        log.warning("%d images of the split are not there and are left out", rows.n_missing_images)
    zero = rows.target.zero_words
    if rows.n_dropped_zero:
        log.info("%d images of galaxies with %s are left out", rows.n_dropped_zero, zero)
    for fold, subset in itertools.product(range(folds), (TRAIN, TEST)):
        if rows.indices(subset, fold).size == 0:
            of_fold = f" of fold {fold}" if folds > 1 else ""
            raise EmptySelectionError(
                f"no {subset} image{of_fold} is left: {rows.n_missing_images} have no image, "
                f"{rows.n_dropped_zero} have {zero}; select more galaxies or snapshots"
                + (", or set a smaller split.folds" if folds > 1 else "")
            )
