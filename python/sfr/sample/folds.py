"""Folds and subsets that are alike in size, label and mass, made of units that stay whole."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfr.run.folds import Place
from sfr.run.tables import TEST, TRAIN, VALIDATION

__all__ = ["Units", "draw_folds", "draw_parts", "draw_subsets", "rank", "strata_of"]

Ints = NDArray[np.int64]

#: Images that have no part yet.
_FREE = -1


def rank(seed: int, unit: str, purpose: str) -> str:
    """Place a unit in the order of a draw, which depends on neither order nor platform."""
    return hashlib.sha256(f"{seed}:{purpose}:{unit}".encode()).hexdigest()


def strata_of(values: ArrayLike, most: int = 10) -> Ints:
    """Cut images into bins of equal count by a value.

    Parameters
    ----------
    values : array_like of float, shape (N,)
        Any; -inf for none.
    most : int
        Bins at most; fewer where a bin would have fewer than 5 images.

    Returns
    -------
    ndarray of int64, shape (N,)
        Bin of each image, from 0.
    """
    values = np.asarray(values, np.float64)
    order = np.argsort(values, kind="stable")
    bins = np.empty(values.size, np.int64)
    count = min(most, max(1, values.size // 5))
    for number, part in enumerate(np.array_split(order, count)):
        bins[part] = number
    return bins


@dataclass(frozen=True)
class Units:
    """Images to divide, what must stay together, and what parts shall have alike.

    Attributes
    ----------
    unit : sequence of str, length N
        What each image belongs to, and is never divided.
    galaxy : sequence of str, length N
        The galaxy of each image: part of a unit.
    strata : ndarray of int64, shape (N, S)
        Bins of each image, such as that of its label and that of its mass.
    seed : int
        Of the draw.
    """

    unit: Sequence[str]
    galaxy: Sequence[str]
    strata: Ints
    seed: int

    def take(self, rows: Ints) -> Units:
        """Return some of the images."""
        places = rows.tolist()
        unit, galaxy = ([names[row] for row in places] for names in (self.unit, self.galaxy))
        return Units(unit, galaxy, self.strata[rows], self.seed)


def draw_parts(
    units: Units, shares: Sequence[float], purpose: str, known: Ints | None = None
) -> Ints:
    """Divide images into parts of given shares that are alike in their strata.

    The largest units come first, those of one size in the order of a hash. Each goes to the part
    that has least of its strata, counted in images and relative to the part's share, of those
    that have room for it; where none has, to the one with most room. So a part misses its share
    of N images by no more than the largest unit, or the number of parts. No part stays empty where
    there are as many units.

    Parameters
    ----------
    units : Units
        The images.
    shares : sequence of float
        Of each part; they add up to 1.
    purpose : str
        Part of the hash: draws of different purposes are independent.
    known : ndarray of int64, shape (N,)
        Parts of images that must not move, -1 for others. Those of a unit that has some go where
        most images of their galaxy are, or of the unit.

    Returns
    -------
    ndarray of int64, shape (N,)
        Part of each image, from 0.
    """
    numbers = {name: number for number, name in enumerate(dict.fromkeys(units.unit))}
    unit = np.array([numbers[name] for name in units.unit], np.int64)
    part = np.full(unit.size, _FREE) if known is None else _joined(units, known)
    contents = _contents(units.strata)
    of_unit = np.zeros((len(numbers), contents.shape[1]))
    np.add.at(of_unit, unit, contents)
    targets = np.outer(shares, contents.sum(axis=0))
    filled = np.zeros_like(targets)
    np.add.at(filled, part[part != _FREE], contents[part != _FREE])
    room = np.ceil(targets[:, 0] - 1e-9) - filled[:, 0]
    # a unit with a part has it for all of its images by now
    chosen = np.full(len(numbers), _FREE)
    chosen[unit] = part
    sizes = of_unit[:, 0]
    free = [name for name, number in numbers.items() if chosen[number] == _FREE]
    free.sort(key=lambda name: (-sizes[numbers[name]], rank(units.seed, name, purpose)))
    for left, name in zip(range(len(free), 0, -1), free, strict=True):
        mine = of_unit[numbers[name]]
        empty = np.flatnonzero(filled[:, 0] == 0)
        fits = np.flatnonzero(room >= mine[0])
        if empty.size and left <= empty.size:
            open_to = empty
        elif fits.size:
            open_to = fits
        else:
            open_to = np.flatnonzero(room == room.max())
        excess = ((filled[open_to] / targets[open_to]) * mine).sum(axis=1)
        best = int(open_to[np.argmin(np.round(excess, 9))])
        filled[best] += mine
        room[best] -= mine[0]
        chosen[numbers[name]] = best
    return np.where(part == _FREE, chosen[unit], part)


def _contents(strata: Ints) -> NDArray[np.float64]:
    """One column for all images, then one a bin of each stratum: 1 where an image is in it."""
    bins = (column[:, None] == np.unique(column) for column in strata.T)
    return np.concatenate([np.ones((len(strata), 1)), *bins], axis=1)


def _joined(units: Units, known: Ints) -> Ints:
    """Let new images of a unit that has a part go where most of their galaxy, or of it, are."""
    votes: tuple[dict[str, Counter[int]], ...] = (defaultdict(Counter), defaultdict(Counter))
    for place in np.flatnonzero(known != _FREE).tolist():
        for names, vote in zip((units.galaxy, units.unit), votes, strict=True):
            vote[names[place]][int(known[place])] += 1
    part = np.array(known, np.int64)
    for place in np.flatnonzero(known == _FREE).tolist():
        found = votes[0].get(units.galaxy[place]) or votes[1].get(units.unit[place])
        if found:
            part[place] = max(sorted(found), key=found.__getitem__)
    return part


def draw_folds(
    units: Units, folds: int, validation: float, known: Sequence[Place | None] | None = None
) -> list[Place]:
    """Give each image the fold that tests it, and the folds that it is validation of.

    Parameters
    ----------
    units : Units
        The images.
    folds : int
        Folds of equal size.
    validation : float
        Share of the images that a fold does not test which are its validation subset.
    known : sequence of Place or None
        Places that must not change; None for images that are new.

    Returns
    -------
    list of Place
        Of each image; new ones are all of subset test.
    """
    known = known or [None] * len(units.unit)
    old = np.array([_FREE if place is None else place.fold for place in known], np.int64)
    # those that are never tested take no place of a fold
    tested = np.array([place is None or place.subset == TEST for place in known], bool)
    rows = np.flatnonzero(tested)
    fold = np.full(old.size, _FREE)
    fold[rows] = draw_parts(units.take(rows), [1 / folds] * folds, "fold", old[rows])
    validates: list[list[int]] = [[] for _ in known]
    for number in range(folds) if validation else ():
        rest = np.flatnonzero(tested & (fold != number))
        held = [_validated(known[row], number) for row in rest.tolist()]
        parts = draw_parts(
            units.take(rest),
            [1 - validation, validation],
            f"validation of fold {number}",
            np.array(held, np.int64),
        )
        for row in rest[parts == 1].tolist():
            validates[row].append(number)
    return [
        place if place is not None else Place(TEST, int(fold[row]), tuple(validates[row]))
        for row, place in enumerate(known)
    ]


def _validated(place: Place | None, fold: int) -> int:
    return _FREE if place is None else int(fold in place.validates)


def draw_subsets(
    units: Units, test: float, validation: float, known: Sequence[Place | None] | None = None
) -> list[Place]:
    """Give each image a subset, sizes counted in images; parameters as of `draw_folds`."""
    shares = {TEST: test, TRAIN: (1 - test) * (1 - validation), VALIDATION: (1 - test) * validation}
    names = [name for name, share in shares.items() if share > 0]
    old = [
        _FREE if place is None or place.subset not in names else names.index(place.subset)
        for place in known or [None] * len(units.unit)
    ]
    parts = draw_parts(units, [shares[n] for n in names], "subset", np.array(old, np.int64))
    found = [Place(names[part]) for part in parts.tolist()]
    return [place or found[row] for row, place in enumerate(known or found)]
