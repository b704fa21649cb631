"""What a step leaves beside its files: recipe.toml, and where and with what it was done."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
import socket
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sfr.errors import ConfigError
from sfr.recipe import Recipe
from sfr.render import kernels
from sfr.run.workspace import RECIPE, Workspace

__all__ = ["NOT_THE_EXPERIMENT", "provenance", "take_over"]

#: What a recipe says besides the experiment.
NOT_THE_EXPERIMENT = frozenset({"name", "description", "simulation"})
#: Sections that fit together in one recipe, and need not where they are of two: ranges of channels,
#: what they are for, and what is made of them.
_TOGETHER = frozenset({"maps", "normalisation", "image", "cases"})
_PACKAGES = ("tng-sfr", "numpy", "h5py", "pillow", "keras", "tensorflow")


def take_over(workspace: Workspace, recipe: Recipe, sections: Sequence[str]) -> None:
    """Let recipe.toml have the sections of a recipe that a step used."""
    with workspace.lock(RECIPE):
        stored = workspace.stored_recipe()
        if stored is None:
            workspace.store_recipe(recipe)
            return
        names = {*sections, *NOT_THE_EXPERIMENT}
        if names & {"maps", "cases"} and stored.channels != recipe.channels:
            # cases are named after channels
            names |= {"maps", "cases"}
        try:
            mixed = _mixed(stored, recipe, names)
        except ConfigError:
            mixed = _mixed(stored, recipe, names | _TOGETHER)
        workspace.store_recipe(mixed)


def _mixed(stored: Recipe, recipe: Recipe, names: Iterable[str]) -> Recipe:
    return dataclasses.replace(stored, **{name: getattr(recipe, name) for name in names})


def provenance(threads: int | None) -> dict[str, Any]:
    """Say when, where and with what versions a step is done; threads are those asked for."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "versions": versions,
        "build_profile": kernels.build_profile(),
        "threads": threads or os.environ.get("RAYON_NUM_THREADS") or os.cpu_count(),
    }
