"""sfr map on galaxies whose axis, motion and box are known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sfr.errors import ConfigError, EmptySelectionError, NonFiniteError, RangeError
from sfr.imaging.png import read_png
from sfr.pipeline.quicklook import map_file
from sfr.recipe import Channel, load_recipe
from sfr.render.orient import Galaxy
from sfr.render.project import check_frame, render_galaxy
from sfr.simulation import open_particle_file, open_simulation

COSMOLOGICAL = {
    "Time": 0.5, "Redshift": 1.0, "HubbleParam": 0.7, "Omega0": 0.3, "OmegaLambda": 0.7,
    "BoxSize": 1000.0,
}  # fmt: skip
MERGER = {**COSMOLOGICAL, "Time": 2.3, "Redshift": 0.0, "Omega0": 0.0, "OmegaLambda": 0.0}
BULK = np.array([300.0, -50.0, 20.0])
CENTRE = np.array([999.0, 1.0, 500.0])  # beside the periodic edge
TILTED = np.array([1.0, 2.0, -0.5])


def disk(n: int, axis: np.ndarray, scale_factor: float, seed: int = 0) -> dict[str, np.ndarray]:
    """Particles that move at 200 km/s around an axis, with the whole at BULK."""
    rng = np.random.default_rng(seed)
    # two by two on opposite sides: the mean motion is that of the whole
    radius, angle = np.tile(rng.uniform(1, 9, n // 2), 2), np.tile(rng.uniform(0, 7, n // 2), 2)
    angle[n // 2 :] += np.pi
    flat = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.zeros(n)], axis=1)
    around = 200 * np.stack([-np.sin(angle), np.cos(angle), np.zeros(n)], axis=1)
    turn = Rotation.align_vectors([axis], [[0, 0, 1]])[0]
    velocities = (turn.apply(around) + BULK) / np.sqrt(scale_factor)
    return {
        "Coordinates": (CENTRE + turn.apply(flat)) % 1000.0,
        "Velocities": velocities.astype(np.float32),
        "Masses": np.full(n, 0.01, np.float32),
    }


def galaxy(
    path: Path, header: dict | None = None, *, n: int = 400, stars: np.ndarray | None = None
) -> Path:
    """Write a disk of gas about TILTED, and of newly formed stars about another axis."""
    header = COSMOLOGICAL if header is None else header
    scale_factor = 0.5 if header["Omega0"] else 1.0
    gas = disk(n, TILTED, scale_factor)
    gas["Density"] = np.ones(n, np.float32)
    gas["InternalEnergy"] = np.full(n, 100, np.float32)
    gas["ElectronAbundance"] = np.ones(n, np.float32)
    born = {} if stars is None else disk(n, stars, scale_factor, seed=1)
    with h5py.File(path, "w") as file:
        file.create_group("Header").attrs.update(header)
        counts = np.array([n, 0, 0, 0, n if born else 0, 0], np.int32)
        file["Header"].attrs["NumPart_ThisFile"] = counts
        for name, values in gas.items():
            file[f"PartType0/{name}"] = values
        for name, values in born.items():
            file[f"PartType4/{name}"] = values
        if born:
            formed = np.full(n, header["Time"] - 1e-4, np.float32)
            file["PartType4/GFM_StellarFormationTime"] = formed
    return path


def angle_to(out: Path, axis: np.ndarray) -> float:
    with h5py.File(out / "maps.hdf5") as file:
        seen = file["rotation"][0] @ axis / np.linalg.norm(axis)
    return float(np.degrees(np.arccos(np.clip(seen[2], -1, 1))))


@pytest.fixture
def look(tmp_path):
    def look(path, **options):
        chosen = {"channels": ("mass",), "centre": tuple(CENTRE), "pixels": 32, **options}
        return map_file(path, out=tmp_path / "out", **chosen)

    return look


def test_face_on_without_star_formation_rates(look, tmp_path):
    """--normal auto was refused, though the rung of all gas needs none."""
    found = look(galaxy(tmp_path / "a.hdf5"), normal="auto")
    assert found.orientation == "seen along the spin of 400 gas cells"
    assert angle_to(tmp_path / "out", TILTED) < 1


def test_star_forming_gas_comes_before_all_gas(look, tmp_path):
    with h5py.File(galaxy(tmp_path / "a.hdf5"), "r+") as file:
        file["PartType0/StarFormationRate"] = (np.arange(400) < 200).astype(np.float32)
    found = look(tmp_path / "a.hdf5", normal="auto")
    assert found.orientation == "seen along the spin of 200 star-forming gas cells"


@pytest.mark.parametrize(
    ("header", "named"),
    [(COSMOLOGICAL, "400 stars younger than 0.1 Gyr"), (MERGER, "400 stars")],
)
def test_stars_of_the_file_come_first_and_have_ages_in_a_universe_only(
    look, tmp_path, header, named
):
    path = galaxy(tmp_path / "a.hdf5", header, stars=np.array([0.0, 1.0, 0.0]))
    found = look(path, normal="auto")
    assert found.orientation == f"seen along the spin of {named}"
    assert angle_to(tmp_path / "out", np.array([0.0, 1.0, 0.0])) < 1


def test_stars_without_a_formation_time_are_left_to_the_gas(look, tmp_path):
    with h5py.File(galaxy(tmp_path / "a.hdf5", stars=np.array([0.0, 1.0, 0.0])), "r+") as file:
        del file["PartType4/GFM_StellarFormationTime"]
    assert "gas cells" in look(tmp_path / "a.hdf5", normal="auto").orientation


def test_stars_turn_gas_that_has_no_velocities(look, tmp_path):
    with h5py.File(galaxy(tmp_path / "a.hdf5", stars=np.array([0.0, 1.0, 0.0])), "r+") as file:
        del file["PartType0/Velocities"]
    assert "stars" in look(tmp_path / "a.hdf5", normal="auto").orientation


def test_too_few_particles_for_a_spin(look, tmp_path):
    with pytest.raises(RangeError, match="at least 100 are needed"):
        look(galaxy(tmp_path / "a.hdf5", n=40), normal="auto")


@pytest.mark.parametrize("header", [COSMOLOGICAL, MERGER])
@pytest.mark.parametrize("options", [{}, {"normal": "auto"}, {"normal": (1.0, 0.0, 0.0)}])
def test_speeds_are_in_the_frame_of_the_galaxy(look, tmp_path, header, options):
    """A disk showed 125 to 576 km/s, a dipole of its motion through the box."""
    found = look(galaxy(tmp_path / "a.hdf5", header), channels=("speed",), **options)
    row = found.rows()[0]
    assert row["minimum"] == pytest.approx(200, rel=1e-4)
    assert row["maximum"] == pytest.approx(200, rel=1e-4)
    assert "(300.00, -50.00, 20.00) km/s" in found.rest_frame
    assert "mean of 400 gas cells within 30 ckpc/h" in found.rest_frame


def test_one_cell_is_at_rest(look, tmp_path):
    path = galaxy(tmp_path / "a.hdf5", n=2)
    with h5py.File(path, "r+") as file:
        file["PartType0/Coordinates"][1] = 500.0
        centre = tuple(file["PartType0/Coordinates"][0])
    found = look(path, channels=("speed",), centre=centre)
    assert (found.n_in_frame, found.rows()[0]["maximum"]) == (1, 0.0)


def test_speeds_need_gas_that_they_are_relative_to(look, tmp_path):
    path = galaxy(tmp_path / "a.hdf5")
    with pytest.raises(EmptySelectionError, match="within 1 ckpc/h of the centre"):
        look(path, channels=("speed",), centre=(500.0, 500.0, 500.0), width_ckpc_h=2.0)


def test_the_composite_stands_in_the_figure(look, tmp_path):
    path = galaxy(tmp_path / "a.hdf5")
    black = {}
    for channels in (("mass", "density"), ("mass", "density", "temperature")):
        look(path, channels=channels)
        picture = read_png(tmp_path / "out/figure.png")[..., :3]
        black[len(channels)] = float((picture.max(axis=-1) == 0).mean())
    assert black[3] > 0.05 > black[2]


def test_the_view_along_the_box_offers_the_face_on_one(look, tmp_path):
    assert "--normal auto" in look(galaxy(tmp_path / "a.hdf5")).orientation


# runs that are not cosmological


def test_a_merger_of_isolated_galaxies_is_mapped_with_a_of_one(look, tmp_path):
    """It was refused with "omega0 is 0.0"."""
    header = {**MERGER, "HubbleParam": 1.0}
    path = galaxy(tmp_path / "a.hdf5", header)
    found = look(path, channels=("density", "surface_density"))
    assert found.rows()[0]["maximum"] == pytest.approx(1.989e43 / 3.085678e21**3, rel=1e-5)
    with h5py.File(tmp_path / "out/maps.hdf5") as file:
        assert file.attrs["scale_factor"] == 1.0
        assert file.attrs["hubble_param"] == 1.0


def test_a_run_without_a_box_may_be_seen_as_wide_as_one_likes(look, tmp_path):
    path = galaxy(tmp_path / "a.hdf5", {**MERGER, "BoxSize": 0.0})
    found = look(path, width_ckpc_h=5000.0, centre=(0.0, 0.0, 0.0))
    assert found.n_in_frame == 400


# frames and the box


@pytest.mark.parametrize(
    ("options", "fits"),
    [
        ({"width_ckpc_h": 1000.0}, True),
        ({"width_ckpc_h": 1001.0}, False),
        ({"depth_ckpc_h": 1000.0}, True),
        ({"depth_ckpc_h": 1001.0}, False),
        ({"width_ckpc_h": 1000.0, "normal": (0.0, 1.0, 0.0)}, True),
        ({"width_ckpc_h": 1000.0, "normal": (1.0, 1.0, 0.0)}, False),
        ({"width_ckpc_h": 500.0, "depth_ckpc_h": 1000.0, "normal": (1.0, 1.0, 1.0)}, False),
    ],
)
def test_a_frame_beyond_the_box_is_refused(look, tmp_path, options, fits):
    """Cells are seen once, at the nearest image: beyond half a box there was no gas."""
    path = galaxy(tmp_path / "a.hdf5")
    if fits:
        assert look(path, **options).n_in_frame == 400
        return
    with pytest.raises(ConfigError) as caught:
        look(path, **options)
    assert caught.value.exit_code == 2
    assert "1000 ckpc/h" in str(caught.value)
    assert "allowed: a width of up to" in str(caught.value)


@pytest.mark.parametrize("axis", [(0, 0, 1), (1, 1, 0), (1, 1, 1), (1, -2, 3)])
def test_the_largest_frame_that_is_allowed_has_gas_up_to_its_corners(tmp_path, axis):
    with open_particle_file(galaxy(tmp_path / "a.hdf5")) as file:
        header = file.header
    turn = Rotation.align_vectors([[0, 0, 1]], [axis])[0].as_matrix()
    maps = load_recipe("thesis").maps
    widths = np.linspace(500, 1000, 51)
    allowed = []
    for width in widths:
        recipe = dataclasses.replace(maps, width_ckpc_h=float(width), depth_ckpc_h=300.0)
        corners = np.stack(np.meshgrid(*3 * [[-1, 1]]), -1).reshape(-1, 3)
        offsets = (corners * np.array([width, width, 300.0]) / 2) @ turn
        inside = bool((np.abs(offsets) <= 500 + 1e-6).all())
        try:
            check_frame(recipe, header, turn)
            allowed.append((True, inside))
        except ConfigError:
            allowed.append((False, inside))
    assert all(said == inside for said, inside in allowed)


def test_a_recipe_whose_frame_is_wider_than_the_box_is_refused_before_rendering(
    sfr, mock_sim, tmp_path
):
    (tmp_path / "wide.toml").write_text('extends = "thesis"\n[maps]\nwidth_ckpc_h = 30000.0\n')
    options = ("--sim", mock_sim, "--snap", 99, "--recipe", "wide.toml")
    result = sfr("render", *options)
    assert result.exit_code == 2
    assert "turned to any direction, reaches beyond the box" in result.stderr
    assert sfr("render", "--dry-run", *options).exit_code == 2


def test_rendered_speeds_are_relative_to_the_subhalo(mock_sim):
    """Without stars they were relative to the box, else to the stars of whichever rung held."""
    recipe = load_recipe("thesis")
    channel = Channel("entropy", "speed", weight="none", statistic="sum")
    maps = dataclasses.replace(recipe.maps, channels=(channel, *recipe.maps.channels[1:]))
    recipe = dataclasses.replace(recipe, maps=maps)
    with open_simulation(mock_sim) as simulation:
        found = simulation.catalogue(
            98, subhalo_fields=["SubhaloPos", "SubhaloVel", "SubhaloGrNr"], group_fields=[]
        ).subhalos
        a = simulation.header(98).scale_factor
        centre, group = found["SubhaloPos"][1].astype(float), int(found["SubhaloGrNr"][1])
        made = render_galaxy(simulation, 98, 1, group, Galaxy(centre, 0.0), recipe)
        cells = simulation.particles(98, "group", group, 0, ["Coordinates", "Velocities"])
    offsets = cells["Coordinates"] - centre
    offsets -= 35000 * np.round(offsets / 35000)
    half = maps.width_ckpc_h / 2
    inside = (np.abs(offsets[:, :2]) < half).all(axis=1)
    if maps.depth_ckpc_h is not None:
        inside &= np.abs(offsets[:, 2]) < maps.depth_ckpc_h / 2
    velocities = cells["Velocities"][inside] * np.sqrt(a) - found["SubhaloVel"][1]
    assert made.orientation.source == "none"
    assert made.ledger.n_in_frame == inside.sum() > 10
    expected = np.linalg.norm(velocities, axis=1).sum()
    assert made.ledger.sum_in_frame[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("length", [0.0, -5.0, np.nan, np.inf])
@pytest.mark.parametrize("option", ["width", "depth"])
def test_a_frame_without_a_size_is_refused(tmp_path, option, length):
    """A width of 0 was a division by zero."""
    path = galaxy(tmp_path / "galaxy.hdf5")
    with pytest.raises(ConfigError, match=f"--{option} .*allowed is a length above 0"):
        map_file(path, out=tmp_path / "out", channels=["mass"], **{f"{option}_ckpc_h": length})


def test_cells_without_a_value_are_dropped_and_said(tmp_path, caplog):
    path = galaxy(tmp_path / "galaxy.hdf5")
    with h5py.File(path, "r+") as file:
        file["PartType0/Density"][:6] = -1
        file["PartType0/InternalEnergy"][6:9] = np.nan
    with caplog.at_level("WARNING", "sfr"):
        summary = map_file(path, out=tmp_path / "out", centre=tuple(CENTRE))
    assert [row["cells dropped"] for row in summary.rows()] == [9, 0, 3]
    assert "of 400 gas cells in the frame 9 have no entropy" in caplog.text
    assert "temperature" not in caplog.text  # a handful


def test_a_channel_without_a_finite_cell_is_named(look, tmp_path):
    path = galaxy(tmp_path / "galaxy.hdf5")
    with h5py.File(path, "r+") as file:
        file["PartType0/ElectronAbundance"][...] = 0
    with pytest.raises(NonFiniteError, match="channel 'entropy'"):
        look(path, channels=("entropy", "mass"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": ("colour",)}, "unknown field"),
        ({"channels": ("mass", "mass")}, "different names"),
        ({"pixels": 3}, "pixels"),
        ({"centre": (1.0, 2.0)}, "three finite numbers"),
        ({"normal": (np.inf, 0, 1)}, "three finite numbers"),
        ({"normal": "face-on"}, "neither auto nor three numbers"),
    ],
)
def test_a_map_that_is_not_possible_is_refused_and_nothing_is_written(
    look, tmp_path, options, words
):
    with pytest.raises(ConfigError, match=words):
        look(galaxy(tmp_path / "galaxy.hdf5"), **options)
    assert not (tmp_path / "out").exists()


def test_a_notebook_has_the_arrays_of_what_is_written(tmp_path):
    """Vectors of any kind will do, and without a folder nothing is written."""
    path = galaxy(tmp_path / "galaxy.hdf5")
    options = {"centre": CENTRE, "normal": [1, 1, 0], "pixels": 32}
    shown = map_file(str(path), **options)
    assert shown.files == ()
    assert sorted(tmp_path.iterdir()) == [path]
    written = map_file(path, load_recipe("thesis"), out=str(tmp_path / "out"), **options)
    assert [file.name for file in written.files] == ["maps.hdf5", "figure.png", "rgb.png"]
    with h5py.File(tmp_path / "out/maps.hdf5") as file:
        np.testing.assert_array_equal(file["maps"][0], shown.maps)
        np.testing.assert_array_equal(file["rotation"][0], shown.rotation)
        np.testing.assert_array_equal(file["centre"][0], shown.centre)
        assert list(file.attrs["channel_units"]) == shown.units
    np.testing.assert_array_equal(read_png(tmp_path / "out/rgb.png"), shown.rgb)
    assert (tmp_path / "out/figure.png").read_bytes() == shown._repr_png_()
