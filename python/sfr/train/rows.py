"""Which images are trained on and tested, and their labels."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataFormatError, DataMissingError, EmptySelectionError
from sfr.imaging.inputs import inputs_of
from sfr.recipe import Recipe
from sfr.run.edited_tables import image_names, read_sample, read_split
from sfr.run.tables import LABEL_SCALE_YR, TEST, TRAIN
from sfr.run.workspace import Workspace, digest

__all__ = ["Rows", "read_rows"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rows:
    """The images that a network sees, by snapshot and subhalo, with their labels.

    Attributes
    ----------
    filenames : tuple of str
        Bare names of the images.
    snapshot, subhalo_id, galaxy_id : ndarray of int64, shape (N,)
        The galaxies.
    subset : ndarray of str, shape (N,)
        train, validation or test.
    label : ndarray of float64, shape (N,)
        log10(1e15 label) [dex]; `sfr.target` has the label's name and unit.
    n_missing_images : int
        Rows of the split without an image (galaxies that could not be rendered).
    n_dropped_zero_sfr : int
        Rows with an image that are left out because their sSFR is 0.
    """

    filenames: tuple[str, ...]
    snapshot: NDArray[np.int64]
    subhalo_id: NDArray[np.int64]
    galaxy_id: NDArray[np.int64]
    subset: NDArray[np.str_]
    label: NDArray[np.float64]
    n_missing_images: int
    n_dropped_zero_sfr: int

    def indices(self, subset: str) -> NDArray[np.int64]:
        """Positions of a subset's rows."""
        return np.flatnonzero(self.subset == subset)

    def digest(self) -> str:
        """Identify names, subsets and labels."""
        return digest([list(self.filenames), self.subset.tolist(), self.label.tolist()])


def read_rows(workspace: Workspace, recipe: Recipe) -> Rows:
    """Join split, sample and images; rows with SFR = 0 are dropped in every subset.

    Parameters
    ----------
    workspace : Workspace
        A run's folder with ``split.csv``, ``sample.csv``, and images or maps.
    recipe : Recipe
        Says which of the two its cases are made of.

    Returns
    -------
    Rows
        At least one training and one test row.

    Raises
    ------
    DataMissingError
        A table or all images are missing; the message names the command that makes them.
    DataFormatError
        The tables do not fit together, or an sSFR is negative or not a number.
    EmptySelectionError
        No training row or no test row is left.
    """
    for path, command in ((workspace.split_csv, "split"), (workspace.sample_csv, "select")):
        if not path.is_file():
            raise DataMissingError(f"{path} is not there; run sfr {command}")
    split, sample = read_split(workspace), read_sample(workspace)
    place = {name: index for index, name in enumerate(image_names(sample))}
    names = _checked_names(workspace, split["filename"].tolist(), place)
    inputs = inputs_of(workspace, recipe)
    present = [name for name in names if inputs.has(name)]
    if not present:
        raise DataMissingError(
            f"nothing of the split is in {inputs.folder}, of which cases are made; run sfr render"
        )
    subset_of = dict(zip(split["filename"].tolist(), split["subset"].tolist(), strict=True))
    at = np.array([place[name] for name in present], np.int64)
    ssfr = np.asarray(sample["ssfr_per_yr"], np.float64)[at]
    _check_ssfr(workspace, present, ssfr)
    kept = at[ssfr > 0.0]
    kept_names = tuple(name for name, value in zip(present, ssfr, strict=True) if value > 0.0)
    rows = Rows(
        filenames=kept_names,
        snapshot=np.asarray(sample["snapshot"], np.int64)[kept],
        subhalo_id=np.asarray(sample["subhalo_id"], np.int64)[kept],
        galaxy_id=np.asarray(sample["galaxy_id"], np.int64)[kept],
        subset=np.array([subset_of[name] for name in kept_names], np.str_),
        label=np.log10(LABEL_SCALE_YR * ssfr[ssfr > 0.0]),
        n_missing_images=len(names) - len(present),
        n_dropped_zero_sfr=len(present) - len(kept_names),
    )
    _report(rows)
    return rows


def _checked_names(workspace: Workspace, names: list[str], place: dict[str, int]) -> list[str]:
    unknown = [name for name in names if name not in place]
    if unknown:
        raise DataFormatError(
            f"{workspace.split_csv}: {len(unknown)} images are not in sample.csv, the first is "
            f"{unknown[0]}; run sfr split"
        )
    return names


def _check_ssfr(workspace: Workspace, names: list[str], ssfr: NDArray[np.float64]) -> None:
    bad = np.flatnonzero(~np.isfinite(ssfr) | (ssfr < 0.0))
    if bad.size:
        raise DataFormatError(
            f"{workspace.sample_csv}: ssfr_per_yr of {names[bad[0]]} is {ssfr[bad[0]]}; allowed: 0 "
            "or more; correct it, or run sfr select --force"
        )


def _report(rows: Rows) -> None:
    if rows.n_missing_images:
        log.warning("%d images of the split are not there and are left out", rows.n_missing_images)
    if rows.n_dropped_zero_sfr:
        log.info("%d images of galaxies with SFR = 0 are left out", rows.n_dropped_zero_sfr)
    for subset in (TRAIN, TEST):
        if rows.indices(subset).size == 0:
            raise EmptySelectionError(
                f"no {subset} image is left: {rows.n_missing_images} have no image, "
                f"{rows.n_dropped_zero_sfr} have SFR = 0; select more galaxies or snapshots"
            )
