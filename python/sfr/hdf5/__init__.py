"""HDF5 files, read so that what comes out is what was written.

HDF5 fills with zeros what was never written, and follows links into other files without a word.
Here a dataset is handed out only when all of it is stored, and errors say what is wrong with which
file.
"""

from __future__ import annotations

from sfr.hdf5.datasets import (
    Mapping,
    StoredDataset,
    count_rows,
    find_dataset,
    find_group,
    missing_field,
    require_dataset,
    require_whole,
)
from sfr.hdf5.opening import FileCache, affordable, explained, open_hdf5, reading
from sfr.hdf5.storage import require_stored

__all__ = [
    "FileCache",
    "Mapping",
    "StoredDataset",
    "affordable",
    "count_rows",
    "explained",
    "find_dataset",
    "find_group",
    "missing_field",
    "open_hdf5",
    "reading",
    "require_dataset",
    "require_stored",
    "require_whole",
]
