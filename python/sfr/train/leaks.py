"""What a split leaks: how well the nearest neighbour in radial profiles knows the label.

A network that fails to memorise shows nothing of a leak, however large. The nearest neighbour
copies as well as anything can: where near-copies of test images are in training, it finds their
labels. Maps tell labels without any copy, too, so the labels are also permuted between galaxies:
what the neighbour still knows of those it knows by copying alone.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataFormatError, DataMissingError
from sfr.imaging.profiles import radial_profiles
from sfr.run.components import components
from sfr.run.edited_tables import image_names, read_split
from sfr.run.folds import Place, count_folds, subsets_in
from sfr.run.leaks import Neighbours, r_in_words
from sfr.run.names import ImageId
from sfr.run.shards import iter_shards, maps_digest
from sfr.run.tables import (
    LEAKS,
    TEST,
    TRAIN,
    Table,
    galaxy_numbers,
    table_digest,
    write_table,
)
from sfr.run.workspace import Workspace, digest
from sfr.target import Target, read_values
from sfr.train.statistics import correlation

__all__ = [
    "Neighbours",
    "as_ranks",
    "audit_neighbours",
    "close_pairs",
    "find_neighbours",
]

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

_STEP: Final = "leaks"
#: Share of unrelated pairs that are closer than near-copies are [-].
_CLOSEST: Final = 0.001
#: Images whose pairs say how close unrelated ones are, and rows that are compared at a time.
_COMPARED: Final = 2000
_AT_ONCE: Final = 500
_RANDOM: Final = 18
_PERMUTATIONS: Final = 200


def as_ranks(profiles: Floats) -> Floats:
    """Replace each number by its rank among the images, from 0 to 1.

    No unit, logarithm or tail of a channel then matters. What is not there (NaN) ranks lowest;
    equal numbers share the mean of their ranks.

    Parameters
    ----------
    profiles : ndarray of float64, shape (N, F)
        Numbers of each image.

    Returns
    -------
    ndarray of float64, shape (N, F)
        Divided by the square root of F, so that distances compare whatever F is.
    """
    from scipy.stats import rankdata

    filled = np.where(np.isnan(profiles), -np.inf, profiles)
    ranks = (rankdata(filled, axis=0) - 1) / max(1, len(filled) - 1)
    return np.asarray(ranks / np.sqrt(filled.shape[1]), np.float64)


def close_pairs(points: Floats, unit: NDArray[np.int64]) -> float:
    """Return the distance that 1 in 1000 pairs of images of different units are closer than.

    Of many images every so many-th is taken. 0 where there is one unit.
    """
    from scipy.spatial.distance import pdist

    step = -(-len(points) // _COMPARED)
    taken, units = points[::step], unit[::step]
    first, second = np.triu_indices(len(taken), 1)
    apart = units[first] != units[second]
    return float(np.quantile(pdist(taken)[apart], _CLOSEST)) if apart.any() else 0.0


def find_neighbours(
    split: str,
    points: Floats,
    places: Sequence[Place],
    label: Floats,
    galaxy: NDArray[np.int64],
    distance: float,
) -> Neighbours:
    """Compare each test image with the nearest training image of its fold.

    Parameters
    ----------
    split : str
        Name of the split.
    points : ndarray of float64, shape (N, F)
        Result of `as_ranks`.
    places : sequence of Place, length N
        The split.
    label : ndarray of float64, shape (N,)
        Labels.
    galaxy : ndarray of int64, shape (N,)
        Result of `sfr.run.tables.galaxy_numbers`.
    distance : float
        Below it a neighbour is a near-copy.

    Returns
    -------
    Neighbours
        Of the test images of all folds together.
    """
    tested: list[int] = []
    nearest: list[int] = []
    near = 0
    for fold in range(count_folds(places)):
        subsets = subsets_in(places, fold)
        test, train = np.flatnonzero(subsets == TEST), np.flatnonzero(subsets == TRAIN)
        for start in range(0, test.size if train.size else 0, _AT_ONCE):
            part = test[start : start + _AT_ONCE]
            apart = _distances(points[part], points[train])
            best = np.argmin(apart, axis=1)
            near += int((apart[np.arange(part.size), best] < distance).sum())
            tested += part.tolist()
            nearest += train[best].tolist()
    same = galaxy[tested] == galaxy[nearest]
    r = correlation(label[tested], label[nearest])
    mean, deviation = _permuted(label, galaxy, tested, nearest)
    return Neighbours(split, len(tested), r, mean, deviation, int(same.sum()), near, distance)


def _permuted(
    label: Floats, galaxy: NDArray[np.int64], tested: Sequence[int], nearest: Sequence[int]
) -> tuple[float | None, float | None]:
    """Correlate labels of neighbours where each galaxy has the mean label of another one."""
    label_of = np.bincount(galaxy, label) / np.bincount(galaxy)
    rng, found = np.random.default_rng(_RANDOM), []
    for _ in range(_PERMUTATIONS):
        permuted = rng.permutation(label_of)[galaxy]
        found.append(correlation(permuted[tested], permuted[nearest]))
    known = [r for r in found if r is not None]
    if not known:
        return None, None
    return float(np.mean(known)), float(np.std(known))


def _distances(first: Floats, second: Floats) -> Floats:
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(first, second), np.float64)


def audit_neighbours(workspace: Workspace, target: Target) -> str:
    """Write ``tables/leaks.csv``: the nearest neighbour with the split used, and with a random one.

    The random split puts the same images at random into folds and subsets of the same sizes.

    Parameters
    ----------
    workspace : Workspace
        A run's folder with sample, split and, as far as they are made, maps.
    target : Target
        What the labels are of.

    Returns
    -------
    str
        Why there is nothing to compare, in which case there is no table; else empty.
    """
    try:
        problem = _audit(workspace, target)
    except (DataMissingError, DataFormatError) as error:
        # a split needs no maps
        problem = str(error)
    if problem:
        workspace.forget(_STEP)
        workspace.leaks_csv.unlink(missing_ok=True)
    return problem


def _audit(workspace: Workspace, target: Target) -> str:
    sample, values = read_values(workspace, target)
    placed = read_split(workspace)
    names = image_names(sample)
    rows = np.array([name in placed for name in names], bool) & target.has_label(values)
    sample = {name: column[rows] for name, column in sample.items()}
    snapshots = np.unique(sample["snapshot"]).tolist()
    absent = [snap for snap in snapshots if not workspace.has_run(f"maps-{snap:03d}")]
    if absent or not snapshots:
        return f"snapshots {', '.join(map(str, absent))} have no maps yet"
    places = [placed[names[row]] for row in np.flatnonzero(rows).tolist()]
    label = target.label(values[rows])
    maps = [maps_digest(workspace, snap) for snap in snapshots]
    table = {**sample, "label": label, "place": np.array(list(map(str, places)), np.str_)}
    fingerprint = digest({"version": 2, "maps": maps, "rows": table_digest(table)})
    if workspace.check(_STEP, fingerprint).current:
        return ""
    problem = _write(workspace, sample, places, label)
    if not problem:
        workspace.mark_done(_STEP, fingerprint, [workspace.leaks_csv])
    return problem


def _write(workspace: Workspace, sample: Table, places: Sequence[Place], label: Floats) -> str:
    """Compare and write; return what is in the way."""
    log.info("leak audit: radial profiles of the maps")
    profiles = _profiles(workspace, sample)
    if len({profile.shape for profile in profiles if profile is not None}) != 1:
        return "the maps are of different channels or sizes; sfr render makes them alike"
    there = np.array([profile is not None for profile in profiles], bool)
    points = as_ranks(np.stack([profile for profile in profiles if profile is not None]))
    places = [place for place, is_there in zip(places, there, strict=True) if is_there]
    shuffled = np.random.default_rng(_RANDOM).permutation(len(places)).tolist()
    at_random = [places[row] for row in shuffled]
    for split in (places, at_random):
        if not any({TEST, TRAIN} <= {*subsets_in(split, f)} for f in range(count_folds(split))):
            return "no fold has maps both of test and of training images"
    sample = {name: column[there] for name, column in sample.items()}
    unit = components(sample, len(places) / max(2, count_folds(places))).number
    galaxy, distance = galaxy_numbers(sample["galaxy_id"]), close_pairs(points, unit)
    found = [
        find_neighbours(name, points, split, label[there], galaxy, distance)
        for name, split in (("used", places), ("random, by image", at_random))
    ]
    columns: dict[str, Any] = {
        field.name: [getattr(row, field.name) for row in found]
        for field in dataclasses.fields(Neighbours)
    }
    assert columns.keys() == LEAKS.keys()
    write_table(workspace, workspace.leaks_csv, columns)
    said = [f"{r_in_words(row.r_permuted)} with the split {row.split}" for row in found]
    log.info("leak audit: r of the nearest neighbour with permuted labels is %s", ", ".join(said))
    return ""


def _profiles(workspace: Workspace, sample: Table) -> list[Floats | None]:
    """Return the profiles of each row that has a map, of all channels one after the other."""
    found: dict[ImageId, Floats] = {}
    for snapshot in np.unique(sample["snapshot"]).tolist():
        for shard in iter_shards(workspace, snapshot, columns=("subhalo_id", "view")):
            flat = radial_profiles(shard.maps).reshape(len(shard.maps), -1)
            found |= dict(zip(shard.images(snapshot), flat, strict=True))
    keys = zip(sample["snapshot"].tolist(), sample["subhalo_id"].tolist(), strict=True)
    return [found.get(ImageId(*key)) for key in keys]
