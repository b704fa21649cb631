"""Where an image stands in a split: which fold tests it, and which folds it is validation of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sfr.run.tables import TEST, TRAIN, VALIDATION

__all__ = ["Place", "count_folds", "subsets_in"]


class Place(NamedTuple):
    """Where one image stands.

    A split in one is a single fold, 0. With several, an image of the test subset is tested in its
    fold and trained on in all others, but where it is validation; one of another subset is in
    that subset in every fold, and is never tested.

    Attributes
    ----------
    subset : str
        train, validation or test.
    fold : int
        The fold whose test subset it is in, from 0.
    validates : tuple of int
        Other folds, ascending, whose validation subset it is in.
    """

    subset: str
    fold: int = 0
    validates: tuple[int, ...] = ()

    def subset_in(self, fold: int) -> str:
        """Return the subset of the image for the networks of a fold.

        Examples
        --------
        >>> [Place("test", 1, (2,)).subset_in(fold) for fold in range(3)]
        ['train', 'test', 'validation']
        """
        if self.subset != TEST:
            return self.subset
        if self.fold == fold:
            return TEST
        return VALIDATION if fold in self.validates else TRAIN

    def __str__(self) -> str:
        """Say it in one word where there is one fold."""
        if not (self.fold or self.validates):
            return self.subset
        return " ".join([self.subset, str(self.fold), *map(str, self.validates)])


def count_folds(places: Iterable[Place]) -> int:
    """Return the number of folds: 1 more than the largest."""
    return max((place.fold for place in places), default=0) + 1


def subsets_in(places: Sequence[Place], fold: int) -> NDArray[np.str_]:
    """Return the subset of each image for the networks of a fold."""
    return np.array([place.subset_in(fold) for place in places], np.str_)
