"""What makes the numbers of this process: two that say the same make the same results."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

import numpy as np

from sfr import units
from sfr.render import kernels

__all__ = ["identity"]

#: Packages that every step computes or writes with.
_ALWAYS = ("numpy", "h5py", "pillow")


def identity(packages: Sequence[str] = ()) -> dict[str, str]:
    """Say what makes the numbers of this process.

    Parameters
    ----------
    packages : sequence of str
        Distributions that a step uses besides those that all use, such as ``keras``.

    Returns
    -------
    dict of str to str
        ``sfr``: version and digest of the Python code; ``kernels``: digest of what the compiled
        kernels make of a few particles; packages: their versions, or ``not installed``.
    """
    found = {"sfr": f"{_version('tng-sfr')}, code {_code()}", "kernels": _kernels()}
    return found | {name: _version(name) for name in (*_ALWAYS, *packages)}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        # tensorflow is also the name of what tensorflow-cpu installs
        others = packages_distributions().get(name, [])
        return version(others[0]) if others else "not installed"


@functools.cache
def _code() -> str:
    """Digest of the package's Python code and recipes, wherever it is installed."""
    root = Path(__file__).parents[1]
    content = hashlib.sha256()
    for path in sorted(p for kind in ("*.py", "*.toml") for p in root.rglob(kind)):
        content.update(path.relative_to(root).as_posix().encode())
        content.update(path.read_bytes())
    return content.hexdigest()[:12]


@functools.cache
def _kernels() -> str:
    """Digest of maps that the compiled kernels make: bits, not how they were compiled, count."""
    numbers = (np.arange(4 * 512) * 379 % 2047 / 2047.0).reshape(4, 512)
    coordinates = np.ascontiguousarray(numbers[:3].T.astype(np.float32))
    energy, electrons = 100.0 + 1e4 * numbers[3], 0.1 + numbers[0]
    factors = units.thermal_factors(0.9, 0.68)
    temperature = kernels.Weight(kernels.Thermal(energy, electrons, factors), log10=True)
    entropy = kernels.Thermal(energy, electrons, factors, density=1e-6 + numbers[1])
    maps = kernels.project(
        coordinates,
        [temperature, entropy, numbers[2].copy()],
        center=(0.5, 0.4, 0.6),
        box_size=1.0,
        rotation=kernels.face_on_rotation((0.3, -0.5, 0.7)),
        half_width=0.4,
        bins=8,
        threads=1,
    ).maps
    return hashlib.sha256(maps.tobytes()).hexdigest()[:12]
