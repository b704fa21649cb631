"""What is known of the images of a run without a network: what controls predict from."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataMissingError
from sfr.imaging.inputs import inputs_of
from sfr.progress import Progress, silent
from sfr.run.edited_tables import galaxy_keys, read_sample
from sfr.run.names import ImageId
from sfr.run.shards import IMAGE_COLUMNS, read_shard
from sfr.run.tables import Table, table_digest
from sfr.run.workspace import digest
from sfr.train.features import open_features
from sfr.train.spectrum import channel_means, shape_features, shape_kinds
from sfr.train.training import Training

__all__ = ["Known"]

log = logging.getLogger(__name__)

#: The version that holds all channels.
_COMPOSITE: Final = "composite"
#: Name of the file of what is measured on images, beside the features of cases.
_MEASURED: Final = "control.shape"
#: Changed with what is measured.
_VERSION: Final = 1
#: Columns of the catalogue whose logarithm counts.
_LOGARITHMS: Final = (
    "stellar_mass_msun",
    "gas_mass_msun",
    "total_mass_msun",
    "group_mass_msun",
    "stellar_half_mass_radius_ckpc_h",
    "n_gas_group",
    "n_stars",
)
_PLAIN: Final = ("is_central", "redshift")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Known:
    """What is known of each image; what is not there raises DataMissingError, which says why.

    Attributes
    ----------
    training : Training
        The rows, in whose order everything is.
    on_progress : callable
        Hears of images that are measured.
    """

    training: Training
    on_progress: Progress = silent

    # -- the catalogue -------------------------------------------------------------------------

    @cached_property
    def _sample(self) -> Table:
        rows, sample = self.training.rows, read_sample(self.training.workspace)
        place = {key: row for row, key in enumerate(galaxy_keys(sample))}
        pairs = zip(rows.snapshot.tolist(), rows.subhalo_id.tolist(), strict=True)
        at = [place[pair] for pair in pairs]
        return {name: column[at] for name, column in sample.items()}

    @cached_property
    def catalogue(self) -> str:
        """Digest of the scalars; images and labels are part of the settings of the training."""
        return table_digest({name: self._sample[name] for name in (*_LOGARITHMS, *_PLAIN)})

    def scalar(self, name: str) -> Floats:
        """Return a column of the catalogue, shape (N, 1); masses and numbers as log10.

        What is 0 counts as the smallest value that is not.
        """
        target = self.training.rows.target
        if name in (target.column, *target.of):
            raise DataMissingError(f"{name} is part of the label itself")
        values = np.asarray(self._sample[name], np.float64)
        if not np.isfinite(values).all():
            raise DataMissingError(f"sample.csv has no {name} of some galaxies")
        if name in _LOGARITHMS:
            if not (values > 0).any():
                raise DataMissingError(f"{name} is 0 for all galaxies")
            values = np.log10(np.maximum(values, values[values > 0].min()))
        return values[:, None]

    def scalars(self) -> Floats:
        """Return all of them that are not part of the label."""
        found = []
        for name in (*_LOGARITHMS, *_PLAIN):
            try:
                found.append(self.scalar(name))
            except DataMissingError as error:
                log.debug("left out of the scalars: %s", error)
        if not found:
            raise DataMissingError("no column of the catalogue is there")
        return np.concatenate(found, axis=1)

    def snapshot(self) -> Floats:
        """Return which snapshot it is, one column a snapshot, which is what a redshift says."""
        number = self.training.rows.snapshot
        snapshots = np.unique(number)
        if snapshots.size < 2:
            raise DataMissingError("all images are of one snapshot")
        found: Floats = (number[:, None] == snapshots).astype(np.float64)
        return found

    # -- the maps' files -----------------------------------------------------------------------

    def _of_shards(self, *names: str) -> dict[str, NDArray[Any]]:
        """Columns of the shards of maps."""
        workspace, rows = self.training.workspace, self.training.rows
        found: dict[ImageId, list[Any]] = {}
        for snapshot in np.unique(rows.snapshot).tolist():
            for path in workspace.shards(snapshot):
                shard = read_shard(path, with_maps=False, columns=(*IMAGE_COLUMNS, *names))
                columns = zip(*(shard.columns[name].tolist() for name in names), strict=True)
                found |= zip(shard.images(snapshot), map(list, columns), strict=True)
        images = [ImageId.parse(name) for name in rows.filenames]
        missing = sum(image not in found for image in images)
        if missing:
            raise DataMissingError(
                f"{missing} of {len(images)} images have no maps in {workspace.all_maps}"
            )
        values = zip(*(found[image] for image in images), strict=True)
        return {name: np.array(column) for name, column in zip(names, values, strict=True)}

    def cells(self) -> Floats:
        """Return log10 of the gas cells in the frame, and the share of empty pixels."""
        count = self._of_shards("n_in_frame")["n_in_frame"]
        return np.stack([np.log10(np.maximum(count, 1)), self._measured[:, 0]], axis=1)

    def rung(self) -> Floats:
        """Return which rung of the ladder turned each galaxy, one column a rung."""
        source = self._of_shards("orientation_source")["orientation_source"]
        rungs = np.unique(source)
        if rungs.size < 2:
            raise DataMissingError(f"all galaxies were turned by one rung, {rungs[0]}")
        found: Floats = (source[:, None] == rungs).astype(np.float64)
        return found

    def orientation(self) -> Floats:
        """Return log10 of the particles that turned a galaxy, and their alignment."""
        found = self._of_shards("orientation_count", "alignment")
        count = np.log10(np.maximum(found["orientation_count"], 1))
        columns = np.stack([count, np.nan_to_num(found["alignment"])], axis=1)
        try:
            return np.concatenate([self.rung(), columns], axis=1)
        except DataMissingError:
            return columns

    # -- the images ----------------------------------------------------------------------------

    @cached_property
    def _measured(self) -> Floats:
        """Share of empty pixels, means, spectra and profiles of the composites, from their cache.

        One row an image.
        """
        training = self.training
        names = training.rows.filenames
        key = digest([_VERSION, training.images_digest, list(names)])
        path = training.workspace.features(_MEASURED, key)
        found = open_features(path, len(names), np.float64)
        if found is None:
            inputs = inputs_of(training.workspace, training.recipe)
            read = inputs.case(_COMPOSITE)

            def measured(name: str) -> Floats:
                return _measure(np.asarray(read(ImageId.parse(name)).image, np.float64))

            rows = []
            with ThreadPoolExecutor(2) as pool:
                for row in pool.map(measured, names):
                    rows.append(row)
                    self.on_progress("controls", len(rows), len(names))
            found = np.stack(rows)
            for other in path.parent.glob(f"{_MEASURED}-*.npy"):
                other.unlink()
            with training.workspace.replacing(path) as temporary, temporary.open("wb") as file:
                np.save(file, found)
        return np.asarray(found, np.float64)

    def means(self) -> Floats:
        """Return mean and standard deviation of each channel."""
        return self._measured[:, 1:7]

    def shapes(self) -> Floats:
        """Return power spectra and radial profiles of the channels."""
        return self._measured[:, 7:]

    @cached_property
    def shape_kinds(self) -> NDArray[np.int64]:
        """Kind of each of `shapes`."""
        return shape_kinds(3, self.training.recipe.maps.pixels)

    def profiles(self) -> Floats:
        """Return radial profiles of the channels."""
        return self.shapes()[:, self.shape_kinds % 2 == 1]

    @property
    def profile_kinds(self) -> NDArray[np.int64]:
        """Kind of each of `profiles`."""
        kinds = self.shape_kinds
        found: NDArray[np.int64] = kinds[kinds % 2 == 1]
        return found


def _measure(image: Floats) -> Floats:
    """Measure an image, shape (y, x, 3)."""
    maps = np.moveaxis(image, -1, 0)
    empty = float(np.mean((maps == 0).all(axis=0)))
    return np.concatenate([[empty], channel_means(maps).ravel(), shape_features(maps)])
