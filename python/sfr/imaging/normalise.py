"""What each channel is divided by, found once over the reference galaxies (METHOD 2.4)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfr.arrays import real
from sfr.errors import (
    ConfigError,
    DataFormatError,
    DataMissingError,
    EmptySelectionError,
)
from sfr.recipe import NormalisationRecipe
from sfr.store import Shard
from sfr.workspace import Workspace

__all__ = [
    "PUBLISHED_MAXIMA",
    "Normalisation",
    "check_recipe",
    "find_normalisation",
    "read_normalisation",
]

#: The published maxima of snapshot 99 of TNG50-1, in the thesis' own words for the units.
PUBLISHED_MAXIMA = {
    "entropy": {"maximum": 6.21e3, "unit": "keV cm^2"},
    "mass": {"maximum": 1.56e-2, "unit": "Msun"},
    "temperature": {"maximum": 1.25e4, "unit": "K"},
}


@dataclass(frozen=True)
class Normalisation:
    """Divisors of the three channels, with where they come from.

    Attributes
    ----------
    maxima : tuple of float
        One per channel, in the channel's unit.
    document : dict
        The content of ``normalisation.json``.
    """

    maxima: tuple[float, ...]
    document: dict[str, Any]

    def apply(self, maps: NDArray[np.floating]) -> NDArray[np.float64]:
        """Divide maps of shape (channel, y, x) by the maxima."""
        divisors = np.array(self.maxima)[:, np.newaxis, np.newaxis]
        return np.asarray(real(maps, "maps") / divisors)


def check_recipe(recipe: NormalisationRecipe) -> None:
    """Raise ConfigError for a switch that is not available yet."""
    if recipe.statistic != "maximum" or recipe.reference != "snapshot":
        raise ConfigError(
            f"normalisation by {recipe.statistic} of the {recipe.reference} set is not available "
            'yet; use statistic = "maximum" with reference = "snapshot"'
        )


def find_normalisation(
    shards: Iterable[Shard], recipe: NormalisationRecipe, *, snapshot: int
) -> Normalisation:
    """Find the largest pixel of each channel over all galaxies of the reference snapshot.

    Parameters
    ----------
    shards : iterable of Shard
        Shards of the reference snapshot, in any order; their columns are enough.
    recipe : NormalisationRecipe
        The switches.
    snapshot : int
        The reference snapshot.

    Returns
    -------
    Normalisation
        Maxima, the galaxies that set them, and the extremes of all candidate readings.

    Raises
    ------
    ConfigError
        A switch that is not available yet.
    EmptySelectionError
        No galaxy was rendered, or a channel is nowhere positive.
    """
    check_recipe(recipe)
    channels: dict[str, dict[str, Any]] = {}
    candidates: dict[str, dict[str, Any]] = {}
    for shard in shards:
        if len(shard.columns["subhalo_id"]) == 0:
            continue
        _update_channels(channels, shard)
        _update_candidates(candidates, shard)
    if not channels:
        raise EmptySelectionError(
            f"snapshot {snapshot} has no rendered galaxy to normalise by; see its failures.csv"
        )
    for name, entry in channels.items():
        if not entry["maximum"] > 0:
            raise EmptySelectionError(
                f"the largest pixel of channel {name!r} is {entry['maximum']}; a channel to divide "
                "by needs a positive one"
            )
    document = {
        "statistic": recipe.statistic,
        "reference_snapshot": snapshot,
        "channels": channels,
        "candidates": candidates,
        "published": PUBLISHED_MAXIMA,
    }
    return Normalisation(tuple(c["maximum"] for c in channels.values()), document)


def _update_channels(channels: dict[str, dict[str, Any]], shard: Shard) -> None:
    for i, (name, unit) in enumerate(_names(shard, "channel")):
        peak = _extreme(shard, shard.columns["channel_maximum"][:, i], 1)
        found = channels.get(name)
        if found is None or peak.beats(_Extreme(found["maximum"], found["subhalo_id"], 1)):
            channels[name] = {"maximum": peak.value, "unit": unit, "subhalo_id": peak.subhalo_id}


def _update_candidates(candidates: dict[str, dict[str, Any]], shard: Shard) -> None:
    for i, (name, unit) in enumerate(_names(shard, "candidate")):
        entry = candidates.setdefault(name, {"unit": unit})
        for extreme, sign in (("maximum", 1), ("minimum", -1)):
            best = _extreme(shard, shard.columns[f"candidate_{extreme}"][:, i], sign)
            whose = f"{extreme}_subhalo_id"
            if extreme not in entry or best.beats(_Extreme(entry[extreme], entry[whose], sign)):
                entry[extreme], entry[whose] = best.value, best.subhalo_id


@dataclass(frozen=True)
class _Extreme:
    """A largest (sign 1) or smallest (sign -1) value, and whose it is."""

    value: float
    subhalo_id: int
    sign: int

    def beats(self, other: _Extreme) -> bool:
        """Whether it is further out; of equals the smaller id, so that no order matters."""
        mine, theirs = self.sign * self.value, other.sign * other.value
        return mine > theirs or (mine == theirs and self.subhalo_id < other.subhalo_id)


def _extreme(shard: Shard, values: NDArray[Any], sign: int) -> _Extreme:
    ids = shard.columns["subhalo_id"]
    best = int(np.lexsort((ids, -sign * values))[0])
    return _Extreme(float(values[best]), int(ids[best]), sign)


def _names(shard: Shard, kind: str) -> list[tuple[str, str]]:
    names = shard.attributes[f"{kind}_names"]
    units = shard.attributes[f"{kind}_units"]
    return list(zip(map(str, names), map(str, units), strict=True))  # type: ignore[call-overload]


def read_normalisation(workspace: Workspace) -> Normalisation:
    """Read ``normalisation.json``.

    Raises
    ------
    DataMissingError
        It has not been made yet.
    DataFormatError
        It is not what it should be.
    """
    path = workspace.normalisation_json
    try:
        document = json.loads(path.read_text("utf-8"))
        maxima = tuple(float(entry["maximum"]) for entry in document["channels"].values())
    except FileNotFoundError as error:
        raise DataMissingError(f"{path} is not there; render the reference snapshot") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataFormatError(
            f"{path} cannot be read: {error!r}; delete it and render again"
        ) from error
    return Normalisation(maxima, document)
