"""The formats of files that steps share: tables (CSV), shards of maps (HDF5), arrays (NPZ)."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfr.cells import read_cells
from sfr.errors import DataFormatError, DataMissingError
from sfr.hdf5 import StoredDataset, find_group, open_hdf5, reading, require_dataset
from sfr.paths import plain
from sfr.workspace import Workspace, digest

__all__ = [
    "FAILURES",
    "FOR_GOOD",
    "LABEL_SCALE_YR",
    "PREDICTIONS",
    "SAMPLE",
    "SPLIT",
    "TEST",
    "TRAIN",
    "VALIDATION",
    "Shard",
    "Table",
    "count_galaxies",
    "galaxy_numbers",
    "iter_shards",
    "maps_digest",
    "read_arrays",
    "read_shard",
    "read_table",
    "table_digest",
    "table_text",
    "write_arrays",
    "write_shard",
    "write_table",
]

#: Columns by name; all of the same length.
Table = dict[str, NDArray[Any]]
#: Columns of a table and their types.
Schema = Mapping[str, type]

#: ``ssfr_per_yr`` is the label of the recipe, whose unit `sfr.target` has: h/yr with ``thesis``.
SAMPLE: Schema = {
    "snapshot": int,
    "subhalo_id": int,
    "group_id": int,
    "galaxy_id": int,
    "redshift": float,
    "sfr_msun_per_yr": float,
    "stellar_mass_msun": float,
    "total_mass_msun": float,
    "group_mass_msun": float,
    "ssfr_per_yr": float,
    "gas_mass_msun": float,
    "is_central": int,
    "x_ckpc_h": float,
    "y_ckpc_h": float,
    "z_ckpc_h": float,
    "stellar_half_mass_radius_ckpc_h": float,
    "n_gas_group": int,
    "n_stars": int,
}
SPLIT: Schema = {"filename": str, "subset": str, "group": str, "fold": int, "seed": int}
FAILURES: Schema = {"subhalo_id": int, "stage": str, "reason": str}
#: Stage of the failures that no later run can mend: the galaxy has no map, all files being there.
FOR_GOOD = "render"
PREDICTIONS: Schema = {
    "filename": str,
    "snapshot": int,
    "subhalo_id": int,
    "galaxy_id": int,
    "subset": str,
    "truth": float,
    "prediction": float,
}

#: Subsets of `SPLIT` and `PREDICTIONS`.
TRAIN, VALIDATION, TEST = "train", "validation", "test"
#: Truth and prediction are log10 of this times the label (METHOD 3).
LABEL_SCALE_YR = 1e15

#: Galaxy, channel, y, x.
_MAP_AXES = 4


def galaxy_numbers(galaxy_id: ArrayLike) -> NDArray[np.int64]:
    """Give the galaxies of some images numbers from 0.

    Parameters
    ----------
    galaxy_id : array_like of int, shape (N,)
        As in ``sample.csv``: negative in no tree, so such an image is a galaxy of its own.

    Returns
    -------
    ndarray of int64, shape (N,)
        From 0 to the number of galaxies - 1.

    Examples
    --------
    >>> galaxy_numbers([70, 30, 70, -1, -1]).tolist()
    [1, 0, 1, 2, 3]
    """
    ids = np.asarray(galaxy_id, np.int64)
    numbers = np.empty(ids.size, np.int64)
    known = ids >= 0
    found, numbers[known] = np.unique(ids[known], return_inverse=True)
    numbers[~known] = found.size + np.arange(ids.size - np.count_nonzero(known))
    return numbers


def count_galaxies(galaxy_id: ArrayLike) -> int:
    """Count galaxies: those with a negative id are in no tree, and each is one of its own."""
    return int(galaxy_numbers(galaxy_id).max(initial=-1)) + 1


def write_table(workspace: Workspace, path: Path, table: Mapping[str, ArrayLike]) -> None:
    """Write columns as CSV in the form of `table_text`.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    path : Path
        The file.
    table : mapping of str to array_like
        Columns of one length.
    """
    workspace.write_text(path, table_text(table))


def table_text(table: Mapping[str, ArrayLike]) -> str:
    """Return columns as CSV; floats with the digits that give the same number back, NaN empty."""
    columns = [np.asarray(column).tolist() for column in table.values()]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows([_cell(value) for value in row] for row in zip(*columns, strict=True))
    return text.getvalue()


def table_digest(table: Mapping[str, ArrayLike]) -> str:
    """Hash columns by the text that `write_table` gives them; NaN is a value like any other."""
    return digest({name: list(map(str, np.asarray(c).tolist())) for name, c in table.items()})


def write_arrays(workspace: Workspace, path: Path, arrays: Mapping[str, ArrayLike]) -> None:
    """Write named arrays whole (``.npz``); the same arrays give the same bytes."""
    named: dict[str, Any] = dict(arrays)
    with workspace.replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **named)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read what `write_arrays` wrote.

    Raises
    ------
    DataMissingError
        There is no such file.
    DataFormatError
        It cannot be read.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError as error:
        raise DataMissingError(f"{path} is not there") from error
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise DataFormatError(f"{path} cannot be read: {error}") from error


def _cell(value: object) -> object:
    return "" if value is None or value != value else value


def read_table(path: Path, schema: Schema) -> Table:
    """Read a CSV table and check its columns.

    Parameters
    ----------
    path : Path
        The file.
    schema : mapping of str to type
        Columns that must be there; others are ignored. Empty floats become NaN.

    Returns
    -------
    dict of str to ndarray
        int64, float64 or str columns in the schema's order.

    Raises
    ------
    DataMissingError
        The file is not there.
    DataFormatError
        A column is missing or a value is not of its type.
    """
    cells = read_cells(path, schema)
    cells.require(schema)
    return {name: cells.column(name, kind) for name, kind in schema.items()}


@dataclass(frozen=True)
class Shard:
    """Maps of some galaxies of one snapshot, with what is known of how they were made.

    Attributes
    ----------
    maps : ndarray of float32, shape (n, channel, y, x)
        Unnormalised maps, y upwards [units: ``channel_units``].
    columns : dict of str to ndarray
        One entry per galaxy in the first axis: ``subhalo_id``, ``centre`` [ckpc/h, box frame],
        ``rotation``, ``orientation_source``, ledger and candidate extremes.
    failures : dict of str to ndarray
        Columns of `FAILURES`.
    attributes : dict
        Channel names and units, pixel scale, frame, fingerprint, versions.
    """

    maps: NDArray[np.float32]
    columns: dict[str, NDArray[np.generic]]
    failures: Table
    attributes: dict[str, object]


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
    """Hash what a snapshot's finished maps are: how they were made, and which galaxies failed.

    Galaxies whose file was fetched later appear in maps that are made in the same way.
    """
    failures = read_table(workspace.failures_csv(snapshot), FAILURES)
    return digest([workspace.fingerprint(f"maps-{snapshot:03d}"), failures["subhalo_id"].tolist()])
