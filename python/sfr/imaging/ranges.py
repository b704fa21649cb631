"""Where pixels of a map lie against the range of its channel, and which range fits maps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import EmptySelectionError, ShapeError
from sfr.imaging.normalise import labels
from sfr.run.shards import Shard, empty_pixels

__all__ = ["HIGH", "LOW", "SHARES", "Proposal", "propose_ranges", "shares"]

#: What `shares` tells of each channel.
SHARES: Final = ("empty", "below", "above")
#: Quantiles of the pixels with gas that a proposed range reaches to. The centre of a galaxy is
#: a few pixels, so the upper one is close to the maximum.
LOW: Final = 0.005
HIGH: Final = 0.9999
#: Quantiles that stand for the pixels of one galaxy: finely at both ends.
_ENDS: Final = np.geomspace(1e-5, 0.01, 60)
_GRID: Final = np.unique(
    np.concatenate([[0.0], _ENDS, np.linspace(0.01, 0.99, 197), 1 - _ENDS, [1.0]])
)


def shares(
    maps: NDArray[np.floating[Any]], ranges: Sequence[tuple[float, float]]
) -> NDArray[np.float64]:
    """Count the pixels of one galaxy that are empty, below and above the range of their channel.

    Parameters
    ----------
    maps : ndarray of float, shape (channel, y, x)
        Finished maps.
    ranges : sequence of (float, float)
        One per channel, in its unit.

    Returns
    -------
    ndarray of float64, shape (channel, 3)
        Shares of all pixels, in the order of `SHARES`.

    Raises
    ------
    ShapeError
        Not one map per range.
    """
    if maps.ndim != 3 or len(maps) != len(ranges):
        raise ShapeError(f"maps has shape {maps.shape}; ({len(ranges)}, y, x) is expected")
    # a comparison of float32 with a Python float would round the limit
    low, high = np.array(ranges, np.float64).T[:, :, np.newaxis, np.newaxis]
    found = [empty_pixels(maps), maps < low, maps > high]
    return np.stack([which.mean(axis=(1, 2)) for which in found], axis=1)


@dataclass(frozen=True)
class Proposal:
    """A range that fits the maps of one channel.

    Attributes
    ----------
    channel, unit : str
        Name and unit.
    range : tuple of float
        Rounded outwards.
    n_galaxies : int
        Galaxies that have gas in this channel.
    empty : float
        Share of all pixels without a value; all galaxies count alike.
    below, above : float
        Shares of the pixels with a value that lie outside the range.
    """

    channel: str
    unit: str
    range: tuple[float, float]
    n_galaxies: int
    empty: float
    below: float
    above: float


def propose_ranges(shards: Iterable[Shard]) -> list[Proposal]:
    """Propose a range for each channel from rendered maps; nothing but the maps is looked at.

    It reaches from the quantile `LOW` to `HIGH` of the pixels that have a value, every galaxy
    counting alike, and outwards to a round number.

    Parameters
    ----------
    shards : iterable of Shard
        Shards of one snapshot, with maps.

    Returns
    -------
    list of Proposal
        One a channel, in the order of the maps.

    Raises
    ------
    EmptySelectionError
        No galaxy, or a channel without a value or with one value only.
    """
    grids: list[list[NDArray[np.float64]]] = []
    empty: list[list[float]] = []
    channels: list[tuple[str, str]] = []
    for shard in shards:
        if not channels:
            channels = labels(shard, "channel")
            grids, empty = [[] for _ in channels], [[] for _ in channels]
        for maps in shard.maps:
            for i, channel in enumerate(maps):
                values = channel[np.isfinite(channel)]
                empty[i].append(float(empty_pixels(channel).mean()))
                if values.size:
                    grids[i].append(np.quantile(values.astype(np.float64), _GRID))
    if not any(empty):
        raise EmptySelectionError("there is no galaxy to propose ranges from")
    return [
        _proposal(*channel, grid, share)
        for channel, grid, share in zip(channels, grids, empty, strict=True)
    ]


def _proposal(
    channel: str, unit: str, grids: list[NDArray[np.float64]], empty: list[float]
) -> Proposal:
    if not grids:
        raise EmptySelectionError(f"channel {channel!r} has no pixel with a value")
    values, weights = np.concatenate(grids), np.tile(_weights(), len(grids)) / len(grids)
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    places = np.minimum(np.searchsorted(reached, [LOW, HIGH]), order.size - 1)
    low, high = values[order][places].tolist()
    if not low < high:
        raise EmptySelectionError(f"channel {channel!r} has the value {low:g} everywhere")
    found = _outwards(low, high)
    below, above = (float(weights[out].sum()) for out in (values < found[0], values > found[1]))
    return Proposal(channel, unit, found, len(grids), float(np.mean(empty)), below, above)


def _weights() -> NDArray[np.float64]:
    """Share of the pixels that each quantile of the grid stands for."""
    edges = np.concatenate([[0.0], (_GRID[1:] + _GRID[:-1]) / 2, [1.0]])
    return np.diff(edges)


def _outwards(low: float, high: float) -> tuple[float, float]:
    """Widen a range to multiples of a twentieth of its width or less: 1, 2 or 5 times 10^n."""
    width = (high - low) / 20
    power = 10.0 ** math.floor(math.log10(width))
    step = max(factor * power for factor in (1, 2, 5) if factor * power <= width * (1 + 1e-9))
    digits = max(0, -math.floor(math.log10(step)))
    return round(math.floor(low / step) * step, digits), round(
        math.ceil(high / step) * step, digits
    )
