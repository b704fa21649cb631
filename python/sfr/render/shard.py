"""The work of one shard: maps of some galaxies of a snapshot, one failure at a time."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sfr import __version__
from sfr.errors import DataFormatError, SfrError
from sfr.paths import without_folders
from sfr.recipe import Recipe, maps_settings
from sfr.render import fields
from sfr.render.orient import Galaxy
from sfr.render.project import GalaxyMaps, render_galaxy, said_of_dropped
from sfr.run.shards import EMPTY, Shard, packed_empty
from sfr.run.tables import FAILURES, FOR_GOOD, Table, typed_columns
from sfr.simulation.protocol import Simulation

__all__ = ["TRIED_AGAIN", "WORKER", "ShardWork"]

log = logging.getLogger(__name__)

#: Stages of failures that may end by themselves, when a file is fetched or a machine has more
#: memory: the next run tries those shards again.
_READ, _MEMORY, WORKER = "read", "memory", "worker"
TRIED_AGAIN = frozenset({_READ, _MEMORY, WORKER})
#: The only view so far: face-on.
_FACE_ON = 0


class _Rendered(NamedTuple):
    subhalo_id: int
    view: int
    galaxy: Galaxy
    maps: GalaxyMaps


class _Failure(NamedTuple):
    """A row of `FAILURES`."""

    subhalo_id: int
    view: int
    stage: str
    reason: str


@dataclass(frozen=True)
class ShardWork:
    """What all shards of a snapshot are made with.

    Attributes
    ----------
    simulation : Simulation
        Where the particles come from.
    recipe : Recipe
        The experiment.
    snapshot : int
        The snapshot.
    fingerprint : str
        Digest of all that the shards depend on.
    threads : int or None
        Threads of the kernels; the shards do not depend on it.
    strict : bool
        Raise what the first galaxy fails with.
    """

    simulation: Simulation
    recipe: Recipe
    snapshot: int
    fingerprint: str
    threads: int | None
    strict: bool

    def make(self, rows: Table, on_done: Callable[[int], None]) -> Shard:
        """Render the galaxies of some rows; what cannot be rendered is among the failures.

        Raises
        ------
        SfrError
            With ``strict``, what the first galaxy failed with.
        """
        rendered: list[_Rendered] = []
        failures: list[_Failure] = []
        for i in range(len(rows["subhalo_id"])):
            try:
                rendered.append(self._render(rows, i))
            except (SfrError, OSError, MemoryError) as error:
                failures.append(self._failure(int(rows["subhalo_id"][i]), error))
            on_done(i + 1)
        return self._shard(rendered, failures)

    def give_up(self, rows: Table, reason: str) -> Shard:
        """Return the shard of rows whose worker was lost: it consists of failures."""
        ids = rows["subhalo_id"].tolist()
        return self._shard([], [_Failure(i, _FACE_ON, WORKER, reason) for i in ids])

    def _render(self, rows: Table, i: int) -> _Rendered:
        subhalo_id = int(rows["subhalo_id"][i])
        centre = np.array([rows[f"{axis}_ckpc_h"][i] for axis in "xyz"], np.float64)
        galaxy = Galaxy(centre, float(rows["stellar_half_mass_radius_ckpc_h"][i]))
        maps = render_galaxy(
            self.simulation,
            self.snapshot,
            subhalo_id,
            int(rows["group_id"][i]),
            galaxy,
            self.recipe,
            threads=self.threads,
        )
        if dropped := said_of_dropped(maps, self.recipe.maps.channels):
            log.warning("snapshot %d subhalo %d: %s", self.snapshot, subhalo_id, dropped)
        return _Rendered(subhalo_id, _FACE_ON, galaxy, maps)

    def _failure(self, subhalo_id: int, error: SfrError | OSError | MemoryError) -> _Failure:
        """Say why a galaxy has no map; with ``strict``, raise it."""
        stage, reason = _explain(error)
        if self.strict:
            kind = type(error) if isinstance(error, SfrError) else DataFormatError
            where = f"snapshot {self.snapshot} subhalo {subhalo_id}"
            raise kind(f"{where}: {reason}") from error
        log.warning("snapshot %d subhalo %d: %s", self.snapshot, subhalo_id, reason)
        root = self.simulation.source_path(".")
        return _Failure(subhalo_id, _FACE_ON, stage, without_folders(reason, root))

    def _shard(self, rendered: Sequence[_Rendered], failures: Sequence[_Failure]) -> Shard:
        maps = self.recipe.maps
        shape = (len(maps.channels), maps.pixels, maps.pixels)
        return Shard(
            _stack([r.maps.maps for r in rendered], shape, np.float32),
            _columns(rendered, self.recipe),
            typed_columns(FAILURES, failures),
            self._attributes(),
        )

    def _attributes(self) -> dict[str, object]:
        maps, header = self.recipe.maps, self.simulation.header(self.snapshot)
        attributes: dict[str, object] = {}
        for kind, channels in (("channel", maps.channels), ("candidate", maps.candidates)):
            gas_in = maps.star_forming_gas
            texts = (
                fields.names(channels),
                [fields.channel_unit(channel, star_forming_gas=gas_in) for channel in channels],
            )
            for what, values in zip(("names", "units"), texts, strict=True):
                # h5py cannot store an empty list of strings
                attributes[f"{kind}_{what}"] = values or np.array([], "S1")
        return attributes | {
            "pixel_scale_ckpc_h": maps.pixel_ckpc_h,
            "width_ckpc_h": maps.width_ckpc_h,
            "axes": "maps[galaxy, channel, y, x]; y upwards, z (line of sight) along the spin",
            "frame": "q = rotation @ (box position - centre), periodic offsets, comoving kpc/h",
            "simulation": header.simulation_name,
            "snapshot": self.snapshot,
            "scale_factor": header.scale_factor,
            "hubble_param": header.hubble_param,
            "settings": json.dumps(maps_settings(maps, self.recipe.orientation)),
            "fingerprint": self.fingerprint,
            "sfr_version": __version__,
        }


def _explain(error: Exception) -> tuple[str, str]:
    """Return the stage and the reason of a galaxy's failure."""
    if isinstance(error, MemoryError):
        return _MEMORY, "not enough memory for its particles; fewer --workers leave more for each"
    if isinstance(error, OSError):
        return _READ, str(error)
    return FOR_GOOD, str(error)


def _stack(values: Sequence[Any], shape: tuple[int, ...], kind: type) -> NDArray[Any]:
    """Make an array of one row per galaxy, also of none."""
    return np.array(values, kind).reshape(len(values), *shape)


def _columns(rendered: Sequence[_Rendered], recipe: Recipe) -> dict[str, NDArray[Any]]:
    orientations = [r.maps.orientation for r in rendered]
    ledgers = [r.maps.ledger for r in rendered]
    channels, candidates = (len(recipe.maps.channels),), (len(recipe.maps.candidates),)
    columns = {
        "subhalo_id": _stack([r.subhalo_id for r in rendered], (), np.int64),
        "view": _stack([r.view for r in rendered], (), np.int64),
        "centre": _stack([r.galaxy.centre for r in rendered], (3,), np.float64),
        "rotation": _stack([o.rotation for o in orientations], (3, 3), np.float64),
        "orientation_source": np.array([o.source for o in orientations], np.str_),
        "orientation_count": _stack([o.count for o in orientations], (), np.int64),
        "alignment": _stack([o.alignment for o in orientations], (), np.float64),
    }
    for name in ("n_read", "n_in_frame", "n_out_of_frame", "n_bad_coordinates"):
        columns[name] = _stack([getattr(ledger, name) for ledger in ledgers], (), np.int64)
    for name, kind in (("n_bad_weight", np.int64), ("sum_in_frame", np.float64)):
        columns[name] = _stack([getattr(ledger, name) for ledger in ledgers], channels, kind)
    # the first pass of the normalisation reads these instead of the maps
    peaks = [np.nanmax(r.maps.maps, axis=(1, 2), initial=-np.inf) for r in rendered]
    columns["channel_maximum"] = _stack(peaks, channels, np.float32)
    for extreme, reduce in (("maximum", np.max), ("minimum", np.min)):
        values = [[reduce(np.nan_to_num(c)) for c in r.maps.candidates] for r in rendered]
        columns[f"candidate_{extreme}"] = _stack(values, candidates, np.float64)
    if any(channel.may_be_empty for channel in recipe.maps.channels):
        shape = (*channels, recipe.maps.pixels, -(-recipe.maps.pixels // 8))
        columns[EMPTY] = _stack([packed_empty(r.maps.maps) for r in rendered], shape, np.uint8)
    return columns
