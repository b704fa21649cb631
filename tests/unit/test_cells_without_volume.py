"""What is said of cells that have no place in a map of cells with a size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sfr.errors import NonFiniteError
from sfr.recipe import MapsRecipe, load_recipe
from sfr.render.orient import Orientation
from sfr.render.project import GalaxyMaps, make_maps, said_of_dropped
from sfr.simulation.protocol import Header

HEADER = Header("box", 99, 1.0, 0.0, 0.6774, 0.3089, 0.6911, 1000.0, None, 1, None)
COUNT = 400


class _Cells:
    part_type = 0

    def __init__(self, density: NDArray[Any]) -> None:
        rng = np.random.default_rng(0)
        self._fields: dict[str, NDArray[Any]] = {
            "Coordinates": 500 + rng.uniform(-10, 10, (COUNT, 3)),
            "Masses": np.full(COUNT, 1e-4),
            "Density": density,
            "InternalEnergy": np.full(COUNT, 1e3),
            "ElectronAbundance": np.full(COUNT, 1.1),
        }

    def __len__(self) -> int:
        return COUNT

    def read(self, fields: Sequence[str], *, needed: object = None) -> dict[str, NDArray[Any]]:
        return {name: self._fields[name] for name in fields}

    def is_mapped(self, fields: Sequence[str]) -> bool:
        return True


def _mapped(density: NDArray[Any], recipe: MapsRecipe) -> GalaxyMaps:
    face_on = Orientation(np.eye(3), "z", 0, np.nan)
    return make_maps([_Cells(density)], np.full(3, 500.0), face_on, HEADER, recipe)


@pytest.fixture
def recipe() -> MapsRecipe:
    return load_recipe("corrected").maps.changed(pixels=32)


@pytest.mark.parametrize("value", [0.0, np.nan, -1e-6])
def test_cells_of_no_density_were_called_cells_of_nan_coordinates(recipe, value):
    density = np.full(COUNT, 1e-5)
    density[:3] = value
    made = _mapped(density, recipe)
    said = said_of_dropped(made, recipe)
    assert "3 of 400 gas cells" in said
    assert "Masses / Density" in said
    assert made.ledger.n_bad_coordinates == 3
    held = np.sum(10.0 ** made.maps[1].astype(np.float64)[np.isfinite(made.maps[1])])
    whole = _mapped(np.full(COUNT, 1e-5), recipe).maps[1].astype(np.float64)
    assert held == pytest.approx(np.sum(10.0 ** whole[np.isfinite(whole)]) * 397 / 400, rel=1e-6)


@pytest.mark.parametrize("value", [0.0, np.nan, -1e-6])
def test_a_galaxy_of_no_densities_names_them(recipe, value):
    with pytest.raises(NonFiniteError, match=r"400 of 400 gas cells.*Masses / Density"):
        _mapped(np.full(COUNT, value), recipe)


def test_points_have_no_volume_to_lack(recipe):
    points = recipe.changed(deposit="histogram")
    density = np.full(COUNT, 1e-5)
    density[:3] = np.nan
    made = _mapped(density, points)
    assert made.ledger.n_bad_coordinates == 0
    assert "Masses / Density" not in said_of_dropped(made, points)
