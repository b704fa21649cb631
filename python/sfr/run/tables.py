"""Tables (CSV) that steps share: their columns, reading, writing."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfr.run.cells import KINDS, read_cells
from sfr.run.workspace import Workspace, digest

__all__ = [
    "FAILURES",
    "FOR_GOOD",
    "LEAKS",
    "RANGES",
    "SAMPLE",
    "SPLIT",
    "TEST",
    "TRAIN",
    "VALIDATES",
    "VALIDATION",
    "Table",
    "count_galaxies",
    "galaxy_numbers",
    "read_table",
    "table_digest",
    "table_text",
    "typed_columns",
    "write_table",
]

#: Columns by name; all of the same length.
Table = dict[str, NDArray[Any]]
#: Columns of a table and their types.
Schema = Mapping[str, type]

#: `sfr.target` has what ``ssfr_per_yr`` is, and its unit: h/yr with ``thesis``.
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
#: Column of `SPLIT` where there are several folds: those that an image is validation of.
VALIDATES = "validates"
#: The nearest neighbour in radial profiles, with the split used and with a random one.
LEAKS: Schema = {
    "split": str,
    "n_test": int,
    "r": float,
    "r_permuted": float,
    "r_permuted_std": float,
    "n_same_galaxy": int,
    "n_near": int,
    "distance": float,
}
FAILURES: Schema = {"subhalo_id": int, "view": int, "stage": str, "reason": str}
#: Stage of the failures that no later run can mend: the galaxy has no map, all files being there.
FOR_GOOD = "render"
#: A row a map and channel: its range [unit of the map], and the shares of pixels that hold nothing
#: or lie outside.
RANGES: Schema = {
    "subhalo_id": int,
    "view": int,
    "channel": str,
    "low": float,
    "high": float,
    "empty": float,
    "below": float,
    "above": float,
}
#: Subsets of `SPLIT` and of predictions.
TRAIN, VALIDATION, TEST = "train", "validation", "test"


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


def typed_columns(schema: Schema, rows: Sequence[Sequence[object]]) -> Table:
    """Turn rows into columns of the schema's types, also where there is no row."""
    return {
        name: np.array([row[place] for row in rows], KINDS[kind])
        for place, (name, kind) in enumerate(schema.items())
    }


def table_digest(table: Mapping[str, ArrayLike]) -> str:
    """Hash columns by the text that `write_table` gives them; NaN is a value like any other."""
    return digest({name: list(map(str, np.asarray(c).tolist())) for name, c in table.items()})


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
    return read_cells(path, schema).table(schema)
