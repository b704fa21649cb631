"""The trained cases as the figures of the report take them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.run.tables import LABEL_SCALE_YR, Table
from sfr.train.evaluate import ScoredHead

__all__ = ["LABEL_OFFSET_DEX", "CaseResult", "Head", "as_results"]

#: What truth and prediction have above the logarithm of the label (METHOD 3).
LABEL_OFFSET_DEX: Final = math.log10(LABEL_SCALE_YR)


@dataclass(frozen=True)
class Head:
    """One trained network of a case.

    Attributes
    ----------
    seed : int
        Its seed.
    metrics : dict
        Its entry of ``metrics.json``.
    truth, prediction : ndarray of float64
        log10 of the label of the test images; `sfr.target` has its name and unit.
    n_galaxies : int
        Galaxies that the test images show.
    histories : tuple of dict of str to ndarray
        Columns epoch, loss, validation_loss (NaN where there is no validation subset), one of each
        fold.
    """

    seed: int
    metrics: Mapping[str, Any]
    truth: NDArray[np.float64]
    prediction: NDArray[np.float64]
    n_galaxies: int
    histories: tuple[Table, ...]

    @property
    def dead(self) -> bool:
        """Whether the network gives the same number for every image."""
        return bool(self.metrics.get("dead"))


@dataclass(frozen=True)
class CaseResult:
    """The trained networks of one case, in the order of their seeds."""

    name: str
    heads: tuple[Head, ...]

    @property
    def shown(self) -> Head:
        """The network in the figures: the first that is not dead, else the first."""
        return next((head for head in self.heads if not head.dead), self.heads[0])

    @property
    def dead(self) -> bool:
        """Whether all networks are dead."""
        return all(head.dead for head in self.heads)


def as_results(heads: Mapping[str, Sequence[ScoredHead]]) -> list[CaseResult]:
    """Return the trained cases as the figures take them.

    Parameters
    ----------
    heads : mapping of str to sequence of ScoredHead
        Result of `sfr.train.evaluate.read_heads`.

    Returns
    -------
    list of CaseResult
        In the same order.
    """
    return [CaseResult(case, tuple(map(_head, found))) for case, found in heads.items()]


def _head(head: ScoredHead) -> Head:
    return Head(
        seed=head.seed,
        metrics=head.metrics,
        truth=head.truth - LABEL_OFFSET_DEX,
        prediction=head.prediction - LABEL_OFFSET_DEX,
        n_galaxies=head.n_galaxies,
        histories=head.histories,
    )
