"""Shards of maps (HDF5), which render writes and images, training and report read."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataFormatError
from sfr.hdf5 import StoredDataset, find_group, open_hdf5, reading, require_dataset
from sfr.paths import plain
from sfr.run.names import ImageId
from sfr.run.tables import FAILURES, Table, read_table
from sfr.run.workspace import Workspace, digest

__all__ = [
    "EMPTY",
    "IMAGE_COLUMNS",
    "Shard",
    "empty_pixels",
    "iter_shards",
    "maps_digest",
    "packed_empty",
    "read_shard",
    "write_shard",
]

#: Columns that tell, with the snapshot, which image a map becomes.
IMAGE_COLUMNS = ("subhalo_id", "view")
#: Column of shards whose maps may have empty pixels: see `packed_empty`.
EMPTY = "empty"
#: Galaxy, channel, y, x.
_MAP_AXES = 4


@dataclass(frozen=True)
class Shard:
    """Maps of some galaxies of one snapshot, with what is known of how they were made.

    Attributes
    ----------
    maps : ndarray of float32, shape (n, channel, y, x)
        Unnormalised maps, y upwards [units: ``channel_units``].
    columns : dict of str to ndarray
        One entry per map in the first axis: ``subhalo_id``, ``view``, ``centre`` [ckpc/h, box
        frame], ``rotation``, ``orientation_source``, ledger and candidate extremes; where a channel
        may have empty pixels, also ``empty``, see `packed_empty`.
    failures : dict of str to ndarray
        Columns of `FAILURES`.
    attributes : dict
        Channel names and units, pixel scale, frame, fingerprint, versions.
    """

    maps: NDArray[np.float32]
    columns: dict[str, NDArray[np.generic]]
    failures: Table
    attributes: dict[str, object]

    @property
    def empty(self) -> NDArray[np.bool_]:
        """Whether a pixel holds nothing, shape as of the maps; sums always hold something."""
        if EMPTY in self.columns:
            width = self.maps.shape[-1]
            packed = np.asarray(self.columns[EMPTY], np.uint8)
            return np.unpackbits(packed, axis=-1, count=width).astype(bool)
        return empty_pixels(self.maps)

    def images(self, snapshot: int) -> list[ImageId]:
        """Say which image each map becomes."""
        numbers = (self.columns[name].tolist() for name in IMAGE_COLUMNS)
        return [ImageId(snapshot, *image) for image in zip(*numbers, strict=True)]


def empty_pixels(maps: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Tell which pixels of finished maps hold nothing.

    Parameters
    ----------
    maps : ndarray of float, shape (..., channel, y, x)
        Finished maps: NaN where a mean or a logarithm has no value, as no gas is there.

    Returns
    -------
    ndarray of bool, same shape
        True where a pixel is empty.
    """
    return np.asarray(np.isnan(maps))


def packed_empty(maps: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Return `empty_pixels` as bits along x, the first in the highest bit, for column `EMPTY`."""
    return np.packbits(empty_pixels(maps), axis=-1)


def write_shard(workspace: Workspace, path: Path, shard: Shard) -> None:
    """Write a shard whole; the same content gives the same bytes."""
    with workspace.replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.create_dataset("maps", data=shard.maps)
        for name, column in shard.columns.items():
            _write_column(file, name, column)
        group = file.create_group("failures")
        for name, column in shard.failures.items():
            _write_column(group, name, column)
        for name, value in shard.attributes.items():
            file.attrs[name] = plain(value) if isinstance(value, str) else value


def _write_column(group: h5py.Group, name: str, column: NDArray[np.generic]) -> None:
    if column.dtype.kind == "U":
        encoded = [plain(str(value)).encode() for value in column]
        width = max(1, *map(len, encoded)) if encoded else 1
        kind = h5py.string_dtype("utf-8", width)
        group.create_dataset(name, data=np.array(encoded, kind))
    else:
        group.create_dataset(name, data=column)


def read_shard(
    path: Path, *, with_maps: bool = True, columns: Collection[str] | None = None
) -> Shard:
    """Read a shard.

    Parameters
    ----------
    path : Path
        The file.
    with_maps : bool
        Without, ``maps`` has no rows: for a look at the columns only.
    columns : collection of str or None
        The columns that are needed; None: all.

    Returns
    -------
    Shard
        Its content.

    Raises
    ------
    DataMissingError
        There is no such file.
    DataFormatError
        The file cannot be read as a shard.
    """
    try:
        with open_hdf5(path) as file, reading(path, "the shard"):
            stored = require_dataset(file, path, "maps")
            if len(stored.shape) != _MAP_AXES:
                raise DataFormatError(
                    f"{path}: maps has shape {stored.shape}; (galaxy, channel, y, x) is expected"
                )
            maps = stored.read() if with_maps else stored.read(np.s_[:0])
            group = find_group(file, path, "failures")
            failures = {name: _read_column(group, path, name) for name in group or ()}
            names = set(file) - {"maps", "failures"} if columns is None else columns
            found = {name: _read_column(file, path, name) for name in sorted(names)}
            for name, column in found.items():
                if len(column) != len(stored):
                    raise DataFormatError(
                        f"{path}: {name} has {len(column)} rows, maps has {len(stored)}"
                    )
            return Shard(maps, found, failures, dict(file.attrs))
    except DataFormatError as error:
        raise DataFormatError(
            f"{error}; it is not a shard of maps. If it is one of a run, sfr render --force makes "
            "it again"
        ) from error


def _read_column(group: h5py.Group, path: Path, name: str) -> NDArray[np.generic]:
    column: StoredDataset = require_dataset(group, path, name, text=True)
    return column.text() if column.is_text else column.read()


def iter_shards(
    workspace: Workspace,
    snapshot: int,
    *,
    with_maps: bool = True,
    columns: Collection[str] | None = None,
) -> Iterator[Shard]:
    """Yield the shards of a snapshot in order; parameters as of `read_shard`."""
    for path in workspace.shards(snapshot):
        yield read_shard(path, with_maps=with_maps, columns=columns)


def maps_digest(workspace: Workspace, snapshot: int) -> str:
    """Hash what a snapshot's finished maps are: how they were made, and which of them failed.

    Galaxies whose file was fetched later appear in maps that are made in the same way.
    """
    failures = read_table(workspace.failures_csv(snapshot), FAILURES)
    return digest(
        [
            workspace.fingerprint(f"maps-{snapshot:03d}"),
            [failures[name].tolist() for name in IMAGE_COLUMNS],
        ]
    )
