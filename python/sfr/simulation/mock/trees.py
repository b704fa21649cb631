"""SubLink trees of a mock simulation: which subhalo of one snapshot is which of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from sfr.simulation.layout import tree_file
from sfr.simulation.mock.files import FileStyle, write_columns

__all__ = ["TreeRow", "Trees", "build_trees"]

#: Columns that trees hold unsigned, unlike the catalogue.
_UNSIGNED: Final = ("SubhaloGrNr", "SubhaloLen", "SubhaloLenType", "SubhaloParent")
#: Columns of the host group that trees repeat.
_FROM_GROUP: Final = ("Group_M_Crit200", "Group_M_Mean200", "Group_M_TopHat200", "GroupMass")
_NOT_STORED: Final = ("SubhaloFlag",)
_N_FILES: Final = 2


@dataclass
class TreeRow:
    """One subhalo at one snapshot."""

    snap: int
    subhalo_id: int
    #: Earlier selves and, after the first, what merged into it.
    progenitors: list[TreeRow] = field(default_factory=list)
    descendant: TreeRow | None = None
    links: dict[str, int] = field(default_factory=dict)


@dataclass
class Trees:
    """Every tree, in the order of the files, and where each subhalo is."""

    files: list[list[TreeRow]]
    #: Snapshot -> RowNum, SubhaloID and LastProgenitorID of every subhalo, -1 if in no tree.
    offsets: dict[int, dict[str, NDArray[np.int64]]]

    def write(self, style: FileStyle, tables: Mapping[int, Mapping[str, NDArray[Any]]]) -> None:
        """Write the tree files.

        Parameters
        ----------
        style : FileStyle
            Common to all files.
        tables : mapping
            Snapshot -> catalogue columns, those of the host group included, a row per subhalo.
        """
        for number, rows in enumerate(self.files):
            path = tree_file(style.output, number)
            path.parent.mkdir(parents=True, exist_ok=True)
            with h5py.File(path, "w") as file:
                write_columns(file, _columns(rows, tables), compressed=style.compressed)


def build_trees(
    galaxies: Mapping[int, Sequence[int]],
    linked: Mapping[int, bool],
    mergers: Mapping[int, int],
    hosts: Mapping[int, NDArray[np.int32]],
) -> Trees:
    """Link the subhaloes of all snapshots.

    Parameters
    ----------
    galaxies : mapping of int to sequence of int
        Snapshot -> the galaxy that each subhalo is.
    linked : mapping of int to bool
        Galaxy -> whether the tree builder found it.
    mergers : mapping of int to int
        Galaxy that ends -> galaxy that it ends in.
    hosts : mapping of int to ndarray
        Snapshot -> group of each subhalo.

    Returns
    -------
    Trees
    """
    chains: dict[int, list[TreeRow]] = {}
    for snap in sorted(galaxies, reverse=True):
        for subhalo_id, galaxy in enumerate(galaxies[snap]):
            if linked[galaxy]:
                chains.setdefault(galaxy, []).append(TreeRow(snap, subhalo_id))
    for chain in chains.values():
        for later, earlier in pairwise(chain):
            later.progenitors.append(earlier)
            earlier.descendant = later
    last = max(galaxies)
    for ending, into in mergers.items():
        if ending in chains and chains[ending][0].snap != last:
            chains[ending][0].descendant = chains[into][0]
            chains[into][0].progenitors.append(chains[ending][0])
    roots = [chain[0] for chain in chains.values() if chain[0].descendant is None]
    trees = sorted((_depth_first(root) for root in roots), key=lambda rows: -len(rows))
    half = (len(trees) + 1) // _N_FILES
    files = [trees[:half], trees[half:]]
    for number, group in enumerate(files):
        for index, rows in enumerate(group):
            _number(rows, number * 10**16 + index * 10**8)
    _link_groups(files, hosts)
    flat = [[row for rows in group for row in rows] for group in files]
    return Trees(flat, _offsets(flat, galaxies))


def _depth_first(root: TreeRow) -> list[TreeRow]:
    rows, waiting = [], [root]
    while waiting:
        row = waiting.pop()
        rows.append(row)
        waiting.extend(reversed(row.progenitors))
    return rows


def _number(rows: Sequence[TreeRow], tree_id: int) -> None:
    """Give ids along the depth-first order, and the links that follow from them."""
    for position, row in enumerate(rows):
        row.links |= {"TreeID": tree_id, "SubhaloID": tree_id + position}
        row.links |= {"RootDescendantID": tree_id, "NextProgenitorID": -1}
    for row in reversed(rows):
        own = row.links["SubhaloID"]
        first = row.progenitors[0].links if row.progenitors else None
        last = row.progenitors[-1].links if row.progenitors else None
        row.links["FirstProgenitorID"] = first["SubhaloID"] if first else -1
        row.links["MainLeafProgenitorID"] = first["MainLeafProgenitorID"] if first else own
        row.links["LastProgenitorID"] = last["LastProgenitorID"] if last else own
        row.links["DescendantID"] = row.descendant.links["SubhaloID"] if row.descendant else -1
        for one, other in pairwise(row.progenitors):
            one.links["NextProgenitorID"] = other.links["SubhaloID"]


def _link_groups(
    files: Sequence[Sequence[Sequence[TreeRow]]], hosts: Mapping[int, NDArray[np.int32]]
) -> None:
    members: dict[tuple[int, int], list[TreeRow]] = {}
    for row in (row for group in files for rows in group for row in rows):
        members.setdefault((row.snap, int(hosts[row.snap][row.subhalo_id])), []).append(row)
    for rows in members.values():
        rows.sort(key=lambda row: row.subhalo_id)
        for row, following in zip(rows, [*rows[1:], None], strict=True):
            row.links["FirstSubhaloInFOFGroupID"] = rows[0].links["SubhaloID"]
            after = following.links["SubhaloID"] if following else -1
            row.links["NextSubhaloInFOFGroupID"] = after


def _offsets(
    files: Sequence[Sequence[TreeRow]], galaxies: Mapping[int, Sequence[int]]
) -> dict[int, dict[str, NDArray[np.int64]]]:
    names = ("RowNum", "SubhaloID", "LastProgenitorID")
    offsets = {
        snap: {name: np.full(len(found), -1, np.int64) for name in names}
        for snap, found in galaxies.items()
    }
    for number, row in enumerate(row for rows in files for row in rows):
        here = offsets[row.snap]
        here["RowNum"][row.subhalo_id] = number
        for name in names[1:]:
            here[name][row.subhalo_id] = row.links[name]
    return offsets


def _columns(
    rows: Sequence[TreeRow], tables: Mapping[int, Mapping[str, NDArray[Any]]]
) -> dict[str, NDArray[Any]]:
    snaps = np.array([row.snap for row in rows], np.int16)
    ids = np.array([row.subhalo_id for row in rows], np.int32)
    columns: dict[str, NDArray[Any]] = {
        name: np.array([row.links[name] for row in rows], np.int64)
        for name in (rows[0].links if rows else ())
    }
    columns |= {"SnapNum": snaps, "SubfindID": ids}
    columns["SubhaloIDRaw"] = snaps.astype(np.int64) * 10**12 + ids
    if not rows:
        return columns
    for name in next(iter(tables.values())):
        if name not in _NOT_STORED and (name.startswith("Subhalo") or name in _FROM_GROUP):
            column = np.array([tables[row.snap][name][row.subhalo_id] for row in rows])
            columns[name] = column.astype(np.uint32) if name in _UNSIGNED else column
    columns["NumParticles"] = columns["SubhaloLen"]
    columns["Mass"] = columns["SubhaloMass"]
    columns["MassHistory"] = _mass_history(rows, columns["Mass"])
    return columns


def _mass_history(rows: Sequence[TreeRow], masses: NDArray[Any]) -> NDArray[np.float32]:
    """Sum of the masses along each row's main branch."""
    history = np.zeros(len(rows))
    place = {id(row): index for index, row in enumerate(rows)}
    for index in range(len(rows) - 1, -1, -1):
        earlier = rows[index].progenitors
        before = history[place[id(earlier[0])]] if earlier else 0.0
        history[index] = masses[index] + before
    return history.astype(np.float32)
