"""The trained cases as the figures of the report take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfr.run.tables import Table
from sfr.target import Target
from sfr.train.evaluate import ScoredHead

__all__ = ["CaseResult", "Head", "as_results"]


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
        Labels of the test images as axes show them (`sfr.target`).
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


def as_results(heads: Mapping[str, Sequence[ScoredHead]], target: Target) -> list[CaseResult]:
    """Return the trained cases as the figures take them.

    Parameters
    ----------
    heads : mapping of str to sequence of ScoredHead
        Result of `sfr.train.evaluate.read_heads`.
    target : Target
        What they predict.

    Returns
    -------
    list of CaseResult
        In the same order.
    """
    return [
        CaseResult(case, tuple(_head(h, target) for h in found)) for case, found in heads.items()
    ]


def _head(head: ScoredHead, target: Target) -> Head:
    return Head(
        seed=head.seed,
        metrics=head.metrics,
        truth=target.shown(head.truth),
        prediction=target.shown(head.prediction),
        n_galaxies=head.n_galaxies,
        histories=head.histories,
    )
