"""Headers of the files of a simulation, and what a file lacks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sfr.errors import DataFormatError, DataMissingError
from sfr.hdf5 import reading

__all__ = ["attributes", "missing_field", "simulation_name"]


def attributes(file: h5py.File, path: Path) -> dict[str, Any]:
    """Attributes of the Header group.

    Raises
    ------
    DataFormatError
        The file has no Header.
    """
    if "Header" not in file:
        raise DataFormatError(
            f"{path} has no Header group; it holds {sorted(file) or 'nothing'}. "
            "Files of IllustrisTNG all have one"
        )
    with reading(path, "Header"):
        return {name: _single(value) for name, value in file["Header"].attrs.items()}


def _single(value: Any) -> Any:  # noqa: ANN401
    """Return the number of an array that holds one: some writers know no scalars."""
    return value[0] if isinstance(value, np.ndarray) and value.shape == (1,) else value


def simulation_name(file: h5py.File, header: dict[str, Any]) -> str:
    """Find the internal name of the simulation, from the header or its initial conditions."""
    name = header.get("SimulationName")
    if name is None and "Parameters" in file:
        ics = file["Parameters"].attrs.get("InitCondFile", b"")
        match = re.search(r"L\d+n\d+[A-Za-z]\w*", _text(ics))
        name = match[0] if match else None
    return "unknown" if name is None else _text(name)


def _text(value: Any) -> str:  # noqa: ANN401 - attributes are str, bytes or numpy strings
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def missing_field(what: str, field: str, available: Sequence[str], hint: str) -> DataMissingError:
    """Error for a field that a file does not hold."""
    listed = ", ".join(sorted(available)) or "no field at all"
    return DataMissingError(f"{what} has no field {field}{hint}. It has: {listed}")
