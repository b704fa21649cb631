"""What a run's folder holds on the trained cases, read once for the whole report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataFormatError, DataMissingError
from sfr.recipe import Recipe
from sfr.store import LABEL_SCALE_YR, PREDICTIONS, TEST, Table, read_table
from sfr.workspace import Workspace

__all__ = ["LABEL_OFFSET_DEX", "CaseResult", "Head", "read_json", "read_results"]

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
    history : dict of str to ndarray or None
        Columns epoch, loss, validation_loss (NaN where there is no validation subset).
    """

    seed: int
    metrics: Mapping[str, Any]
    truth: NDArray[np.float64]
    prediction: NDArray[np.float64]
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


def read_results(workspace: Workspace, recipe: Recipe) -> list[CaseResult]:
    """Read the trained cases: the recipe's in its order, then any others by name.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    recipe : Recipe
        The experiment.

    Returns
    -------
    list of CaseResult
        At least one.

    Raises
    ------
    DataMissingError
        No case is trained.
    DataFormatError
        A file of a trained case cannot be read.
    """
    seeds: dict[str, list[int]] = {}
    for case, seed in workspace.trained():
        seeds.setdefault(case, []).append(seed)
    if not seeds:
        raise DataMissingError(
            f"no trained case in {workspace.root}; run sfr train --all-cases, then the report again"
        )
    order = {name: place for place, name in enumerate(recipe.cases.names)}
    names = sorted(seeds, key=lambda name: (order.get(name, len(order)), name))
    return [
        CaseResult(
            name, tuple(_read_head(workspace.head(name, seed), seed) for seed in seeds[name])
        )
        for name in names
    ]


def _read_head(folder: Path, seed: int) -> Head:
    table = read_table(folder / "predictions.csv", PREDICTIONS)
    truth = np.asarray(table["truth"], np.float64) - LABEL_OFFSET_DEX
    prediction = np.asarray(table["prediction"], np.float64) - LABEL_OFFSET_DEX
    keep = (table["subset"] == TEST) & np.isfinite(truth) & np.isfinite(prediction)
    history = folder / "history.csv"
    return Head(
        seed=seed,
        metrics=read_json(folder / "metrics.json"),
        truth=truth[keep],
        prediction=prediction[keep],
        history=read_table(history, _HISTORY) if history.is_file() else None,
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict
        Its content.

    Raises
    ------
    DataFormatError
        The file is not JSON, or not an object.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise DataFormatError(f"{path} cannot be read: {error}; make it again") from error
    if not isinstance(content, dict):
        raise DataFormatError(f"{path} holds no JSON object; make it again")
    return content
