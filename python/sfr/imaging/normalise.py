"""Which values of a channel become 0 and 1: stated, or found over the reference galaxies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.arrays import real
from sfr.errors import (
    ConfigError,
    DataFormatError,
    DataMissingError,
    EmptySelectionError,
)
from sfr.recipe import Channel, NormalisationRecipe, Recipe
from sfr.run.documents import read_json
from sfr.run.shards import Shard, iter_shards, maps_digest
from sfr.run.tables import FOR_GOOD
from sfr.run.workspace import Workspace, digest

__all__ = [
    "PUBLISHED_MAXIMA",
    "Normalisation",
    "find_normalisation",
    "labels",
    "normalise",
    "range_normalisation",
    "read_normalisation",
]

#: The published maxima of snapshot 99 of TNG50-1, in the thesis' own words for the units.
PUBLISHED_MAXIMA = {
    "entropy": {"maximum": 6.21e3, "unit": "keV cm^2"},
    "mass": {"maximum": 1.56e-2, "unit": "Msun"},
    "temperature": {"maximum": 1.25e4, "unit": "K"},
}

_RANGE: Final = "range"


@dataclass(frozen=True)
class Normalisation:
    """Scales of the channels, with where they come from.

    Attributes
    ----------
    ranges : tuple of (float, float)
        What becomes 0 and 1: one pair per channel, in the order of the maps and the channel's unit.
    clips : bool
        Whether what lies outside is cut to 0..1, and empty pixels are drawn as 0.
    document : dict
        The content of ``normalisation.json``.
    """

    ranges: tuple[tuple[float, float], ...]
    clips: bool
    document: dict[str, Any]

    @classmethod
    def of(cls, document: dict[str, Any], channels: Sequence[str]) -> Normalisation:
        """Take the scales of channels by name: JSON promises no order.

        Parameters
        ----------
        document : dict
            The content of ``normalisation.json``.
        channels : sequence of str
            Names, in the order of the maps.

        Raises
        ------
        KeyError
            The document has no such channel.
        """
        entries = [document["channels"][name] for name in channels]
        clips = document.get("statistic") == _RANGE
        pairs = [entry["range"] if clips else (0.0, entry["maximum"]) for entry in entries]
        return cls(tuple((float(low), float(high)) for low, high in pairs), clips, document)

    @property
    def maxima(self) -> tuple[float, ...]:
        """What becomes 1, one value per channel."""
        return tuple(high for _, high in self.ranges)

    @property
    def galaxies(self) -> str:
        """How many of how many galaxies of the reference snapshot set the scale, in words.

        Empty in a file that does not tell.
        """
        found = self.document.get("galaxies")
        return "" if found is None else _words(found, self.document["reference_snapshot"])

    @property
    def is_partial(self) -> bool:
        """Whether the scale may be another one once all files can be read."""
        return bool(self.document.get("galaxies", {}).get("share", 1.0) < 1.0)

    def apply(self, maps: NDArray[np.floating]) -> NDArray[np.float64]:
        """Scale maps of shape (channel, y, x) so that their ranges become 0..1."""
        low, high = np.array(self.ranges).T[:, :, np.newaxis, np.newaxis]
        scaled = (real(maps, "maps") - low) / (high - low)
        if self.clips:
            scaled = np.clip(np.where(np.isnan(scaled), 0.0, scaled), 0.0, 1.0)
        return np.asarray(scaled)


def range_normalisation(channels: Sequence[Channel], units: Sequence[str]) -> Normalisation:
    """Scale each channel by the range that its recipe states.

    Parameters
    ----------
    channels : sequence of Channel
        Channels that have a range, in the order of the maps.
    units : sequence of str
        Units of their maps.

    Returns
    -------
    Normalisation
        Its document holds ranges and units.

    Raises
    ------
    ConfigError
        A channel without a range.
    """
    missing = [channel.name for channel in channels if channel.range is None]
    if missing:
        raise ConfigError(
            f"channel {missing[0]} states no range; sfr recipe ranges proposes one from maps"
        )
    entries = {
        channel.name: {"range": list(channel.range or ()), "unit": unit}
        for channel, unit in zip(channels, units, strict=True)
    }
    return Normalisation.of({"statistic": _RANGE, "channels": entries}, list(entries))


def find_normalisation(
    shards: Iterable[Shard],
    recipe: NormalisationRecipe,
    *,
    snapshot: int,
    catalogue: tuple[int, int] = (1, 1),
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
    catalogue : tuple of int
        Subhaloes that its sample was chosen from, and those of the whole catalogue.

    Returns
    -------
    Normalisation
        Maxima, the galaxies that set them, and the extremes of all candidate readings.

    Raises
    ------
    EmptySelectionError
        No galaxy was rendered, or a channel is nowhere positive.
    DataMissingError
        Fewer galaxies than ``reference_share`` would set the scale.
    """
    channels: dict[str, dict[str, Any]] = {}
    candidates: dict[str, dict[str, Any]] = {}
    rendered: set[int] = set()
    failures: list[tuple[int, str]] = []
    for shard in shards:
        whose = (shard.failures[name].tolist() for name in ("subhalo_id", "stage"))
        failures += zip(*whose, strict=True)
        rendered.update(shard.columns["subhalo_id"].tolist())
        if len(shard.columns["subhalo_id"]) == 0:
            continue
        _update_channels(channels, shard)
        _update_candidates(candidates, shard)
    galaxies = _galaxies(rendered, failures, catalogue)
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
    _require_share(galaxies, recipe, snapshot)
    document = {
        "statistic": "maximum",
        "reference_snapshot": snapshot,
        "galaxies": galaxies,
        "channels": channels,
        "candidates": candidates,
        "published": PUBLISHED_MAXIMA,
    }
    return Normalisation.of(document, list(channels))


def _galaxies(
    rendered: Set[int], failures: Sequence[tuple[int, str]], catalogue: tuple[int, int]
) -> dict[str, int | float]:
    """Count the galaxies of the reference snapshot, and those that files do not give yet.

    A galaxy counts once, whatever its views; one that lacks a view is among both.
    """
    failed = {galaxy for galaxy, _ in failures}
    missing = {galaxy for galaxy, stage in failures if stage != FOR_GOOD}
    read, total = catalogue
    share = len(rendered - missing) / max(1, len(rendered | missing))
    return {
        "set_the_scale": len(rendered),
        "in_the_sample": len(rendered | failed),
        "without_a_map": len(failed - missing - rendered),
        "not_read": len(missing),
        "subhaloes_read": read,
        "subhaloes_in_the_catalogue": total,
        "share": share * read / max(1, total),
    }


def _require_share(
    galaxies: Mapping[str, int | float], recipe: NormalisationRecipe, snapshot: int
) -> None:
    """Raise DataMissingError where too few galaxies would set the scale of all images."""
    share = galaxies["share"]
    if share < recipe.reference_share:
        allowed = math.floor(1000 * share) / 1000
        raise DataMissingError(
            f"the scale of all images would be set by {_words(galaxies, snapshot)}: "
            f"{100 * share:.3g} % of what is needed, allowed are "
            f"{100 * recipe.reference_share:.3g} % or more (normalisation.reference_share). The "
            "maps are kept; get the missing files and run the same command again, or, if this "
            f"scale is wanted, add --reference-share {allowed:g}"
        )


def _words(galaxies: Mapping[str, int | float], snapshot: int) -> str:
    text = (
        f"{galaxies['set_the_scale']} of {galaxies['in_the_sample']} galaxies of snapshot "
        f"{snapshot}"
    )
    notes = []
    if galaxies["without_a_map"]:
        notes.append(f"{galaxies['without_a_map']} have no map (failures.csv)")
    if galaxies["not_read"]:
        notes.append(f"{galaxies['not_read']} could not be read or computed (failures.csv)")
    read, total = galaxies["subhaloes_read"], galaxies["subhaloes_in_the_catalogue"]
    if read < total:
        notes.append(f"the sample is from {read} of {total} subhaloes of the catalogue")
    return f"{text} ({'; '.join(notes)})" if notes else text


def _update_channels(channels: dict[str, dict[str, Any]], shard: Shard) -> None:
    for i, (name, unit) in enumerate(labels(shard, "channel")):
        peak = _extreme(shard, shard.columns["channel_maximum"][:, i], 1)
        found = channels.get(name)
        if found is None or peak.beats(_Extreme(found["maximum"], found["subhalo_id"], 1)):
            channels[name] = {"maximum": peak.value, "unit": unit, "subhalo_id": peak.subhalo_id}


def _update_candidates(candidates: dict[str, dict[str, Any]], shard: Shard) -> None:
    for i, (name, unit) in enumerate(labels(shard, "candidate")):
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


def labels(shard: Shard, kind: str) -> list[tuple[str, str]]:
    """Name and unit of each channel (or candidate) of a shard, in the order of its maps."""
    names = shard.attributes[f"{kind}_names"]
    units = shard.attributes[f"{kind}_units"]
    return list(zip(map(str, names), map(str, units), strict=True))  # type: ignore[call-overload]


def normalise(
    workspace: Workspace,
    recipe: Recipe,
    snapshot: int,
    *,
    catalogue: tuple[int, int] = (1, 1),
    force: bool = False,
) -> Normalisation:
    """Find the scales of the channels and write them, or read them where they are current.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    recipe : Recipe
        The experiment.
    snapshot : int
        One whose maps are there; with ``by = "maximum"`` that of the reference.
    catalogue : tuple of int
        As in `find_normalisation`.
    force : bool
        Find them even if they are current.

    Returns
    -------
    Normalisation
        What becomes 0 and 1.

    Raises
    ------
    EmptySelectionError, DataMissingError
        As `find_normalisation`; with ``by = "range"`` where the snapshot has no map at all.
    """
    by_range = recipe.normalisation.by == "range"
    depends = {"maps": maps_digest(workspace, snapshot), "catalogue": catalogue}
    fingerprint = digest(
        {"normalisation": recipe.section("normalisation"), **({} if by_range else depends)}
    )
    if workspace.check("normalisation", fingerprint, force=force).current:
        return read_normalisation(workspace, recipe.channels)
    shards = iter_shards(workspace, snapshot, with_maps=False)
    if by_range:
        units = [unit for _, unit in labels(_first(shards, snapshot), "channel")]
        found = range_normalisation(recipe.maps.channels, units)
    else:
        found = find_normalisation(
            shards, recipe.normalisation, snapshot=snapshot, catalogue=catalogue
        )
    workspace.write_json(workspace.normalisation_json, found.document)
    workspace.mark_done("normalisation", fingerprint, [workspace.normalisation_json])
    return found


def _first(shards: Iterable[Shard], snapshot: int) -> Shard:
    for shard in shards:
        return shard
    raise EmptySelectionError(f"snapshot {snapshot} has no shard of maps")


def read_normalisation(workspace: Workspace, channels: Sequence[str]) -> Normalisation:
    """Read ``normalisation.json``.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    channels : sequence of str
        Names of the channels, in the order of the maps.

    Raises
    ------
    DataMissingError
        It has not been made yet.
    DataFormatError
        It is not what it should be.
    """
    path = workspace.normalisation_json
    try:
        return Normalisation.of(read_json(path, "render the reference snapshot again"), channels)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataFormatError(
            f"{path} cannot be read: {error!r}; delete it and render again"
        ) from error
