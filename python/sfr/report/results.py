"""What a run's folder holds on the trained cases, read once for the whole report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.run.tables import LABEL_SCALE_YR, Table, read_table
from sfr.run.workspace import Workspace
from sfr.train.evaluate import ScoredHead

__all__ = ["LABEL_OFFSET_DEX", "CaseResult", "Head", "read_results"]

#: What truth and prediction have above the logarithm of the label (METHOD 3).
LABEL_OFFSET_DEX: Final = math.log10(LABEL_SCALE_YR)
_HISTORY = {"epoch": int, "loss": float, "validation_loss": float}


@dataclass(frozen=True)
class Head:
    """One trained network of a case.

    Attributes
    ----------
    seed : int
        Its seed.
    metrics : dict
        Content of ``metrics.json``.
    truth, prediction : ndarray of float64
        log10 of the label of the test images; `sfr.target` has its name and unit.
    n_galaxies : int
        Galaxies that the test images show.
    history : dict of str to ndarray or None
        Columns epoch, loss, validation_loss (NaN where there is no validation subset).
    """

    seed: int
    metrics: Mapping[str, Any]
    truth: NDArray[np.float64]
    prediction: NDArray[np.float64]
    n_galaxies: int
    history: Table | None

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


def read_results(
    workspace: Workspace, heads: Mapping[str, Sequence[ScoredHead]]
) -> list[CaseResult]:
    """Return the trained cases as the figures take them, with their losses.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    heads : mapping of str to sequence of ScoredHead
        Result of `sfr.train.evaluate.read_heads`.

    Returns
    -------
    list of CaseResult
        In the same order.

    Raises
    ------
    DataFormatError
        A file of a trained case cannot be read.
    """
    return [
        CaseResult(case, tuple(_with_history(workspace, head) for head in found))
        for case, found in heads.items()
    ]


def _with_history(workspace: Workspace, head: ScoredHead) -> Head:
    history = workspace.head(head.case, head.seed) / "history.csv"
    return Head(
        seed=head.seed,
        metrics=head.metrics,
        truth=head.truth - LABEL_OFFSET_DEX,
        prediction=head.prediction - LABEL_OFFSET_DEX,
        n_galaxies=head.n_galaxies,
        history=read_table(history, _HISTORY) if history.is_file() else None,
    )
