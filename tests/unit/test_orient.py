"""The ladder of orientations on disks whose axis is known."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sfr.recipe import load_recipe
from sfr.render.orient import Galaxy, _youngest, orient
from sfr.simulation import Header

HEADER = Header("m", 98, 0.99, 0.0101, 0.6774, 0.3089, 0.6911, 1000.0, None, 1, None)
RECIPE = load_recipe("thesis").orientation
CENTRE = np.array([999.0, 1.0, 500.0])  # beside the periodic edge


def disk(n, axis, *, seed=0, spread=0.0, spin=1.0):
    """Particles of a rotating disk around CENTRE: box coordinates, code velocities."""
    rng = np.random.default_rng(seed)
    radius, angle = rng.uniform(0.5, 5.0, n), rng.uniform(0, 2 * np.pi, n)
    flat = np.stack(
        [radius * np.cos(angle), radius * np.sin(angle), rng.normal(0, 0.05, n)], axis=1
    )
    around = 100 * spin * np.stack([-np.sin(angle), np.cos(angle), np.zeros(n)], axis=1)
    turn = Rotation.align_vectors([axis], [[0, 0, 1]])[0]
    velocities = turn.apply(around) + np.array([300.0, -50.0, 20.0]) + rng.normal(0, spread, (n, 3))
    return {
        "Coordinates": (CENTRE + turn.apply(flat)) % HEADER.box_size,
        "Velocities": (velocities / np.sqrt(HEADER.scale_factor)).astype(np.float32),
        "Masses": rng.uniform(0.5, 1.5, n).astype(np.float32),
    }


def stars(n, axis, formation, **kwargs):
    times = np.broadcast_to(np.asarray(formation, np.float32), n).copy()
    return {**disk(n, axis, **kwargs), "GFM_StellarFormationTime": times}


def gas(n, axis, sfr=1.0, **kwargs):
    return {**disk(n, axis, **kwargs), "StarFormationRate": np.full(n, sfr, np.float32)}


def formed(fields):
    """The stars formed after a scale factor, as `orient` asks for them."""

    def after(scale_factor):
        chosen = fields["GFM_StellarFormationTime"] > scale_factor
        return {name: values[chosen] for name, values in fields.items()}

    return after


def join(a, b):
    return {name: np.concatenate([a[name], b[name]]) for name in a}


YOUNG, MIDDLE, OLD = 0.9895, 0.975, 0.3  # about 0.01, 0.2 and 10 Gyr before the snapshot
GALAXY = Galaxy(CENTRE, 2.5)
UP = np.array([0.0, 0.0, 1.0])


def angle_to(found, axis):
    return np.degrees(np.arccos(np.clip(found.rotation @ axis / np.linalg.norm(axis) @ UP, -1, 1)))


@pytest.mark.parametrize("axis", [(0, 0, 1), (0, 0, -1), (1, 0, 0), (1, -2, 0.5), (-1, -1, -1)])
def test_a_disk_of_young_stars_becomes_face_on_across_the_periodic_edge(axis):
    axis = np.array(axis, float)
    found = orient(GALAXY, formed(stars(400, axis, YOUNG)), lambda: gas(0, UP), HEADER, RECIPE)
    assert (found.source, found.count) == ("stars<0.1Gyr", 400)
    assert angle_to(found, axis) < 1.0
    assert np.linalg.det(found.rotation) == pytest.approx(1)
    assert found.alignment > 0.99


def test_old_stars_and_wind_do_not_count_as_young():
    x, y = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    wind = stars(500, UP, -0.98)
    mixed = join(join(stars(150, x, YOUNG), stars(3000, y, OLD, seed=1)), wind)
    found = orient(GALAXY, formed(mixed), lambda: gas(0, UP), HEADER, RECIPE)
    assert (found.source, found.count) == ("stars<0.1Gyr", 150)
    assert angle_to(found, x) < 2.0


def test_the_ladder_goes_down_rung_by_rung():
    x, y, z = np.eye(3)
    nothing = gas(0, UP)
    cases = [
        (join(stars(60, x, YOUNG), stars(60, x, MIDDLE)), nothing, "stars<0.3Gyr", x),
        (join(stars(60, x, YOUNG), stars(200, y, OLD)), gas(200, z), "sf_gas", z),
        (stars(200, y, OLD), gas(200, z, sfr=0.0), "stars", y),
        (stars(50, y, OLD), gas(200, z, sfr=0.0), "gas", z),
        (stars(50, y, OLD), gas(50, z), "none", z),
    ]
    words = {
        "stars<0.3Gyr": "stars younger than 0.3 Gyr",
        "sf_gas": "star-forming gas cells",
        "stars": "stars",
        "gas": "gas cells",
        "none": "",
    }
    for star_fields, gas_fields, source, axis in cases:
        found = orient(
            GALAXY, formed(star_fields), lambda fields=gas_fields: fields, HEADER, RECIPE
        )
        assert found.source == source
        assert found.particles == words[source]
        assert angle_to(found, axis) < 2.0


def test_without_any_rung_the_box_frame_stays_and_alignment_is_nan():
    found = orient(GALAXY, formed(stars(0, UP, OLD)), lambda: gas(0, UP), HEADER, RECIPE)
    assert found.source == "none"
    np.testing.assert_array_equal(found.rotation, np.eye(3))
    assert np.isnan(found.alignment)


def test_no_spin_at_all_falls_down_the_ladder():
    still = stars(300, UP, YOUNG, spin=0.0)
    found = orient(GALAXY, formed(still), lambda: gas(200, np.array([1.0, 0, 0])), HEADER, RECIPE)
    assert found.source == "sf_gas"


def test_nan_particles_are_left_out():
    young = stars(300, UP, YOUNG)
    young["Coordinates"][0] = np.nan
    young["Velocities"][1] = np.inf
    found = orient(GALAXY, formed(young), lambda: gas(0, UP), HEADER, RECIPE)
    assert found.count == 298
    assert angle_to(found, UP) < 1.0


def test_only_particles_inside_the_aperture_count():
    far = stars(500, np.array([1.0, 0, 0]), YOUNG)
    far["Coordinates"] = (far["Coordinates"] + 20.0) % HEADER.box_size
    found = orient(
        GALAXY, formed(join(stars(200, UP, YOUNG), far)), lambda: gas(0, UP), HEADER, RECIPE
    )
    assert found.count == 200


def test_a_galaxy_without_stars_has_no_aperture():
    found = orient(
        Galaxy(CENTRE, 0.0), formed(stars(0, UP, OLD)), lambda: gas(500, UP), HEADER, RECIPE
    )
    assert found.source == "none"


def test_the_youngest_fraction_is_by_mass():
    recipe = dataclasses.replace(RECIPE, rule="youngest_fraction")
    x = np.array([1.0, 0, 0])
    mixed = join(stars(300, x, YOUNG), stars(900, UP, OLD, seed=1))
    mixed["Masses"] = np.ones(1200, np.float32)
    found = orient(GALAXY, formed(mixed), lambda: gas(0, UP), HEADER, recipe)
    assert (found.source, found.count) == ("youngest25%", 300)
    assert angle_to(found, x) < 1.0


@pytest.mark.parametrize("times", ["all differ", "few", "one", "outlier"])
@pytest.mark.parametrize("fraction", [1e-9, 0.25, 0.7, 1.0])
def test_the_youngest_are_those_of_sorting_all_also_where_many_are_of_one_age(times, fraction):
    rng = np.random.default_rng(5)
    n = 3000
    born = rng.uniform(0.1, 0.9, n).astype(np.float32)
    if times != "all differ":
        born = {"few": np.round(born, 1), "one": born * 0 + born[0], "outlier": born * 1e-6}[times]
    if times == "outlier":
        born[7] = 0.99
    masses = rng.uniform(0.5, 1.5, n).astype(np.float32)
    order = np.argsort(-born, kind="stable")
    mass = np.cumsum(masses[order], dtype=np.float64)
    count = np.searchsorted(mass, fraction * mass[-1] * (1 - 1e-12)) + 1
    np.testing.assert_array_equal(_youngest(born, masses, fraction), np.sort(order[:count]))
    assert len(_youngest(born[:0], masses[:0], fraction)) == 0


def test_alignment_tells_a_cold_disk_from_a_hot_one():
    cold = orient(GALAXY, formed(stars(500, UP, YOUNG)), lambda: gas(0, UP), HEADER, RECIPE)
    hot = orient(
        GALAXY, formed(stars(500, UP, YOUNG, spread=300.0)), lambda: gas(0, UP), HEADER, RECIPE
    )
    assert cold.alignment > 0.99 > 0.7 > hot.alignment
