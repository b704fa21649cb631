"""Write mock snapshots in the layout, with the types and the attributes of TNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from sfr import units
from sfr.simulation.layout import group_chunk, offsets_file, snapshot_chunk
from sfr.simulation.mock.epochs import HUBBLE_PARAM, OMEGA0, OMEGA_BARYON, OMEGA_LAMBDA, Epoch
from sfr.simulation.mock.population import BOX_SIZE
from sfr.simulation.mock.snapshot import Snapshot
from sfr.simulation.protocol import FULL_SNAPSHOTS, N_PART_TYPES

__all__ = [
    "N_FILES",
    "FileStyle",
    "write_columns",
    "write_groups",
    "write_offsets",
    "write_snapshot",
]

#: Chunks of a snapshot and of its group catalogue; the last one of the catalogue is empty.
N_FILES: Final = 4

_FULL_ONLY: Final = {
    "NeutralHydrogenAbundance",
    "MagneticField",
    "InternalEnergyOld",
    "GFM_StellarPhotometrics",
}
#: Fields that TNG adds after the run, without units.
_NO_ATTRIBUTES: Final = {"MagneticField"}


@dataclass(frozen=True)
class FileStyle:
    """What all files of one simulation have in common."""

    output: Path
    #: Internal name, stored where TNG files show it: in the path of the initial conditions.
    name: str
    compressed: bool


def write_snapshot(snapshot: Snapshot, style: FileStyle) -> NDArray[np.int64]:
    """Write the chunks of a snapshot.

    Returns
    -------
    ndarray of int64, shape (N_FILES, 6)
        First particle of each type in each chunk.
    """
    edges = _edges(snapshot)
    is_full = snapshot.when.snap in FULL_SNAPSHOTS
    for number in range(N_FILES):
        path = snapshot_chunk(style.output, snapshot.when.snap, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            counts = edges[number + 1] - edges[number]
            _snapshot_header(file, snapshot, counts)
            _run_groups(file, style)
            for kind in np.flatnonzero(counts):
                columns = snapshot.parts[int(kind)]
                rows = slice(edges[number, kind], edges[number + 1, kind])
                kept = {n: v[rows] for n, v in columns.items() if _is_stored(int(kind), n, is_full)}
                if not is_full:
                    kept["Coordinates"] = kept["Coordinates"].astype(np.float32)
                group = file.create_group(f"PartType{kind}")
                write_columns(group, kept, compressed=style.compressed)
                _state_units(group)
    return edges[:-1]


def write_groups(snapshot: Snapshot, style: FileStyle) -> dict[str, NDArray[np.int64]]:
    """Write the chunks of a group catalogue.

    Returns
    -------
    dict of str to ndarray of int64
        First group and first subhalo of each chunk.
    """
    n_groups, n_subhalos = len(snapshot.group_starts), len(snapshot.subhalo_starts)
    # split differently, so that some groups and their subhaloes are in different files
    firsts = {
        "Group": np.array([0, n_groups // 4, n_groups // 2, n_groups, n_groups]),
        "Subhalo": np.array([0, n_subhalos // 3, 2 * n_subhalos // 3, n_subhalos, n_subhalos]),
    }
    tables = {"Group": snapshot.groups, "Subhalo": snapshot.subhalos}
    for number in range(N_FILES):
        path = group_chunk(style.output, snapshot.when.snap, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            for name, table in tables.items():
                rows = slice(firsts[name][number], firsts[name][number + 1])
                group = file.create_group(name)
                if rows.stop > rows.start:
                    kept = {field: column[rows] for field, column in table.items()}
                    write_columns(group, kept, compressed=style.compressed)
            file.create_group("IDs")
            _group_header(file, snapshot, firsts, number)
            _run_groups(file, style)
    return {name: first[:-1].astype(np.int64) for name, first in firsts.items()}


def write_offsets(
    snapshot: Snapshot,
    style: FileStyle,
    *,
    chunks: NDArray[np.int64],
    catalogue: Mapping[str, NDArray[np.int64]],
    trees: Mapping[str, NDArray[np.int64]],
) -> None:
    """Write the offsets file: firsts of the chunks, of the objects, and rows in the trees."""
    path = offsets_file(style.output, snapshot.when.snap)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        write_columns(
            file.create_group("FileOffsets"), {"SnapByType": chunks, **catalogue}, compressed=False
        )
        file.create_group("Group")["SnapByType"] = snapshot.group_starts
        subhalo = file.create_group("Subhalo")
        subhalo["SnapByType"] = snapshot.subhalo_starts
        write_columns(subhalo.create_group("SubLink"), trees, compressed=False)


def write_columns(group: h5py.Group, columns: Mapping[str, Any], *, compressed: bool) -> None:
    """Write one dataset per column, in the order of their names."""
    options = {"compression": "gzip", "shuffle": True, "chunks": True} if compressed else {}
    for name in sorted(columns):
        group.create_dataset(name, data=columns[name], **options)


def _is_stored(kind: int, name: str, is_full: bool) -> bool:  # noqa: FBT001
    if kind == 1 and name == "Masses":
        return False
    return is_full or name not in _FULL_ONLY


def _edges(snapshot: Snapshot) -> NDArray[np.int64]:
    """First particle of each type in each chunk, and the end of the last one.

    The edges go through the middle of groups, chunk 1 has no stars, the last one holds outer fuzz.
    """
    edges = np.zeros((N_FILES + 1, N_PART_TYPES), np.int64)
    totals, ends = snapshot.counts(), snapshot.fuzz_start
    lengths = snapshot.groups["GroupLenType"].astype(np.int64)
    for kind in range(N_PART_TYPES):
        largest = int(np.argmax(lengths[:, kind]))
        first = int(snapshot.group_starts[largest, kind] + lengths[largest, kind] // 2)
        edges[1, kind] = first
        edges[2, kind] = first if kind in (4, 5) else first + (ends[kind] - first) // 3
        edges[3, kind] = ends[kind]
        edges[4, kind] = totals[kind]
    return edges


def _snapshot_header(file: h5py.File, snapshot: Snapshot, counts: NDArray[np.int64]) -> None:
    totals = snapshot.counts()
    header = file.create_group("Header").attrs
    _cosmology(header, snapshot.when)
    masses = np.zeros(N_PART_TYPES)
    masses[1] = snapshot.dark_matter_mass
    header["NumPart_ThisFile"] = counts.astype(np.int32)
    header["NumPart_Total"] = (totals & 0xFFFFFFFF).astype(np.uint32)
    header["NumPart_Total_HighWord"] = (totals >> 32).astype(np.uint32)
    header["MassTable"] = masses
    header["NumFilesPerSnapshot"] = np.int32(N_FILES)
    header["OmegaBaryon"] = np.float64(OMEGA_BARYON)
    flags = {"Sfr": 1, "Cooling": 1, "StellarAge": 0, "Metals": 0, "Feedback": 1}
    for name, flag in {**flags, "DoublePrecision": 0}.items():
        header[f"Flag_{name}"] = np.int32(flag)
    header["Composition_vector_length"] = np.int32(0)
    header["UnitLength_in_cm"] = np.float64(units.UNIT_LENGTH_CM)
    header["UnitMass_in_g"] = np.float64(units.UNIT_MASS_G)
    header["UnitVelocity_in_cm_per_s"] = np.float64(units.UNIT_VELOCITY_CM_S)


def _group_header(
    file: h5py.File, snapshot: Snapshot, firsts: Mapping[str, NDArray[Any]], number: int
) -> None:
    header = file.create_group("Header").attrs
    _cosmology(header, snapshot.when)
    for name, key in {"Ngroups": "Group", "Nsubgroups": "Subhalo"}.items():
        header[f"{name}_ThisFile"] = np.int32(firsts[key][number + 1] - firsts[key][number])
        header[f"{name}_Total"] = np.int32(firsts[key][-1])
    lengths = snapshot.groups["GroupLen"].astype(np.int64)
    here = lengths[firsts["Group"][number] : firsts["Group"][number + 1]]
    header["Nids_ThisFile"] = np.int32(here.sum())
    header["Nids_Total"] = np.int64(lengths.sum())
    header["NumFiles"] = np.int32(N_FILES)
    header["FlagDoubleprecision"] = np.int32(0)


def _cosmology(header: h5py.AttributeManager, when: Epoch) -> None:
    header["Time"] = np.float64(when.scale_factor)
    header["Redshift"] = np.float64(when.redshift)
    header["BoxSize"] = np.float64(BOX_SIZE)
    header["HubbleParam"] = np.float64(HUBBLE_PARAM)
    header["Omega0"] = np.float64(OMEGA0)
    header["OmegaLambda"] = np.float64(OMEGA_LAMBDA)
    header["Git_commit"] = np.bytes_(b"mock")
    header["Git_date"] = np.bytes_(b"unknown")


def _run_groups(file: h5py.File, style: FileStyle) -> None:
    config = file.create_group("Config").attrs
    for name in ("VORONOI", "OUTPUT_COORDINATES_IN_DOUBLEPRECISION"):
        config[name] = np.bytes_(b"")
    parameters = file.create_group("Parameters").attrs
    parameters["InitCondFile"] = np.bytes_(f"mock/{style.name}/output/ICs".encode())
    parameters["BoxSize"] = np.float64(BOX_SIZE)
    parameters["NumFilesPerSnapshot"] = np.int32(N_FILES)


def _state_units(group: h5py.Group) -> None:
    names: Sequence[str] = [name for name in group if name not in _NO_ATTRIBUTES]
    for name in names:
        unit = units.FIELD_UNITS.get(name, units.DIMENSIONLESS)
        for attribute, value in unit.attributes().items():
            group[name].attrs[attribute] = np.float64(value)
