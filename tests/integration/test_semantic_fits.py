"""Fits of good, odd and bad images; plans, evaluations and fits as a notebook calls them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as astropy_fits
from PIL import Image

from sfr.errors import ConfigError, DataMissingError, SfrError
from sfr.pipeline import semantic
from sfr.run.shards import Shard, write_shard
from sfr.run.tables import read_table
from sfr.run.workspace import Workspace
from sfr.semantic.files import UserImage, read_images
from sfr.semantic.fit import FATAL_FLAGS, FLAGS, FitOptions, fit_image, fit_images
from sfr.semantic.problem import PROBLEMS
from sfr.semantic.profile import NAMES, PITCH, Frame, render
from sfr.semantic.trained import load_encoder, obtain_encoder
from sfr.semantic.training import default_training

ROOT = Path(__file__).resolve().parents[2]
QUICK = replace(default_training(PROBLEMS["centred"]), images=2000, epochs=12, batch=64)
SIZES = ("1/64", "1/48")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A quickly trained encoder; the steps after it do the rest."""
    return obtain_encoder(Workspace(tmp_path_factory.mktemp("centred")), QUICK)[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a fast encoder and two sizes of the published one, hardly trained."""
    work = tmp_path_factory.mktemp("trained") / "work"
    few = {"noise": [(0.1, 0.1)], "targets": ["clean"], "images": 60, "epochs": 1}
    plan = semantic.plan_trainings(images=1000, epochs=4)
    plan += semantic.plan_trainings("paper", SIZES, **few)
    assert [found.is_new for found in semantic.train_encoders(work, plan)] == [True] * 3
    assert not any(found.is_new for found in semantic.train_encoders(work, plan))
    return work


@pytest.fixture(scope="module")
def trained_free(tmp_path_factory):
    """A hardly trained encoder that has all parameters free."""
    training = replace(default_training(PROBLEMS["free"]), images=500, epochs=2, batch=64)
    return obtain_encoder(Workspace(tmp_path_factory.mktemp("free")), training)[0]


def galaxy(size=64, noise=0.03, seed=1, **values):
    """A galaxy on the pixels of an image of some size, with noise."""
    fixed = dict(zip(NAMES, (0.02, 0.5, 40.0, 0.0, 0.0, 1.0, 1.0), strict=True))
    row = np.array([list({**fixed, **values}.values())])
    axis = (np.arange(size) - (size - 1) / 2) * PITCH * 64 / size
    A, e, theta, x, y, amplitude, n = row[0]
    t = np.radians(theta)
    u, v = axis[np.newaxis] - x, axis[:, np.newaxis] - y
    along, across = u * np.cos(t) - v * np.sin(t), u * np.sin(t) + v * np.cos(t)
    image = amplitude * np.exp(-(np.hypot(along / A, across / (A * (1 - e))) ** (1 / n)))
    drawn = np.random.default_rng(seed).normal(0, noise * amplitude, image.shape)
    return image + drawn


def fitted(encoder, image, **options):
    return fit_image(encoder, UserImage("a.npy", "", np.asarray(image)), FitOptions(**options))


# -- plans and evaluations ---------------------------------------------------------------------


def test_a_plan_is_every_combination_that_is_named():
    (default,) = semantic.plan_trainings()
    assert (default.name, default.problem.noise) == ("paper-fast", (0.02, 0.12))
    names = [t.name for t in semantic.plan_trainings("paper", SIZES, seed=3)]
    published = ["noise0-clean"] + [
        f"noise{n}-{t}" for n in ("0.05", "0.1") for t in ("noisy", "clean")
    ]
    assert names == [
        f"paper-cnn{size.replace('/', '_')}-mae-{end}" for size in SIZES for end in published
    ]
    mixes = [(0.02, 0.1), (0.05, 0.05)]
    found = semantic.plan_trainings("centred", ["1/64"], loss="chi2", noise=mixes, epochs=7)
    assert [(t.problem.noise, t.target) for t in found] == [
        (mix, target) for mix in mixes for target in ("noisy", "clean")
    ]
    assert {t.epochs for t in found} == {7}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"encoders": ["1/3"]}, "1/16"),
        ({"problem": "x"}, "centred"),
        ({"encoders": ["1/64"], "problem": "free"}, "free"),
        ({"encoders": ["1/64"], "noise": [(0.02, 0.12)]}, "one level a network"),
        ({"psf_fwhm": -1}, "psf"),
        ({"images": 50}, "principal components"),
        ({"seed": -1}, "seed of 0 or more"),
    ],
)
def test_a_training_that_is_not_possible_is_refused_in_the_plan(options, text):
    with pytest.raises(SfrError, match=text) as caught:
        semantic.plan_trainings(**options)
    assert caught.value.exit_code == 2


def test_several_sizes_make_the_figure_of_sizes(trained):
    found = semantic.evaluate_encoders(
        trained, noise=[0.1], images=20, steps=[0], with_least_squares=False
    )
    learned = [encoder.training.learned_from for encoder in found.encoders]
    assert learned == ["clean images", "clean images", "true parameters"]
    table, figure = found.files
    sizes = read_table(table, {"size": str, "theta": float})
    assert sorted(sizes["size"]) == ["1/48", "1/64"]
    assert figure.is_file()
    one = semantic.evaluate_encoders(
        trained, "paper-fast", noise=[0.1], images=20, steps=[1], with_least_squares=False
    )
    assert one.files == []
    assert {row["method"] for row in one.encoders[0].rows()} == {"network", "1 step"}


# -- fits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [64, 100, 200])
@pytest.mark.parametrize("light", [1.0, 3e4, 2e-18])
def test_scale_centre_and_light_are_in_the_images_own_units(encoder, size, light):
    pixel = PITCH * 64 / size
    image = galaxy(size, A=0.02, x=2.3 * pixel, y=-1.6 * pixel, amplitude=light)
    found = fitted(encoder, image)
    middle = (size - 1) / 2
    truth = {
        "A": 0.02 / pixel, "e": 0.5, "theta": 40.0, "x": middle + 2.3, "y": middle - 1.6,
        "amplitude": light,
    }  # fmt: skip
    for name, value in truth.items():
        assert abs(found.values[name] - value) < 4 * found.errors[name], name
    assert found.errors["n"] == 0
    assert set(found.flags) <= {"resampled"}
    assert found.noise == pytest.approx(0.03 * light, rel=0.06)


def test_errors_say_how_far_fits_of_users_images_are_off(encoder):
    pulls = []
    for seed in range(60):
        found = fitted(encoder, galaxy(80, seed=seed, theta=10 + 2 * seed, e=0.4))
        truth = {"A": 0.02 / PITCH / 0.8, "e": 0.4, "theta": 10 + 2 * seed, "x": 39.5, "y": 39.5}
        pulls.append([(found.values[k] - v) / found.errors[k] for k, v in truth.items()])
    scatter = np.sqrt((np.array(pulls) ** 2).mean(axis=0))
    # 60 fits scatter by 9 %
    assert (np.abs(scatter - 1) < 0.3).all(), scatter


@pytest.mark.parametrize("size", [48, 80])
def test_noise_of_averaged_and_interpolated_pixels_counts_as_correlated(encoder, size):
    """Errors were too small by a third where pixels of the frame share pixels of the image."""
    pulls = []
    for seed in range(30):
        found = fitted(encoder, galaxy(size, seed=seed))
        pulls.append((found.values["e"] - 0.5) / found.errors["e"])
        assert "poor_fit" not in found.flags
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1, abs=0.35)


def test_a_psf_is_taken_off(encoder):
    from scipy.ndimage import gaussian_filter

    fine = galaxy(64, A=0.012, noise=0.0)
    blurred = gaussian_filter(fine, 3.0 / np.sqrt(8 * np.log(2)), truncate=6)
    blurred += np.random.default_rng(1).normal(0, 0.01, fine.shape)
    found = fitted(encoder, blurred, psf_fwhm=3.0)
    assert abs(found.values["A"] - 0.012 / PITCH) < 4 * found.errors["A"]
    without = fitted(encoder, blurred)
    assert abs(without.values["A"] - 0.012 / PITCH) > 10 * without.errors["A"]
    assert "poor_fit" in without.flags


def test_the_sersic_index_is_fitted_when_asked_for(encoder):
    image = galaxy(A=0.02, n=1.4, noise=0.01)
    found = fitted(encoder, image, sersic=True, steps=8)
    assert found.values["n"] == pytest.approx(1.4, abs=4 * found.errors["n"])
    assert "poor_fit" in fitted(encoder, image).flags


def test_a_galaxy_without_noise_has_no_flags(encoder):
    """Rounding was once taken for a fit that had not converged."""
    assert fitted(encoder, galaxy(noise=0.0)).flags == ()


def test_a_known_centre_is_not_fitted(encoder):
    found = fitted(encoder, galaxy(), fixed_centre=True)
    assert (found.values["x"], found.values["y"], found.errors["x"]) == (31.5, 31.5, 0.0)


def test_a_known_centre_is_the_middle_whatever_the_network_says(trained_free):
    """It was frozen where a network with a free centre put it."""
    for steps in (0, 8):
        found = fitted(trained_free, galaxy(x=PITCH), fixed_centre=True, steps=steps)
        assert (found.values["x"], found.values["y"], found.errors["x"]) == (31.5, 31.5, 0.0)


def test_errors_of_a_fit_that_converged_do_not_depend_on_the_network(encoder, trained):
    """A half-trained network made errors of the same best fit fifty times larger."""
    poor = load_encoder(Workspace(trained).semantic("paper-cnn1_64-mae-noise0.1-clean", 0))
    image = galaxy(amplitude=1.0)
    fits = [fitted(e, image, steps=20) for e in (encoder, poor)]
    for name in NAMES:
        assert fits[0].values[name] == pytest.approx(fits[1].values[name], rel=1e-3), name
        assert fits[0].errors[name] == pytest.approx(fits[1].errors[name], rel=1e-2), name


def test_a_network_of_amplitude_one_says_that_the_image_has_another(trained):
    known = load_encoder(Workspace(trained).semantic("paper-fast", 0))
    for amplitude in (0.5, 2.0, 1e4):
        found = fitted(known, galaxy(amplitude=amplitude), steps=0)
        assert "outside_training:amplitude" in found.flags, amplitude


def test_what_a_network_alone_does_not_measure_is_refused(encoder, trained_free):
    """The Sersic index was 1 without a word."""
    with pytest.raises(ConfigError, match="Sersic"):
        fitted(encoder, galaxy(), steps=0, sersic=True)
    assert fitted(trained_free, galaxy(), steps=0, sersic=True).errors["n"] > 0


def test_a_psf_too_wide_for_one_image_does_not_stop_the_others(encoder):
    images = [UserImage(f"{n}", "", galaxy(n)) for n in (20, 100)]
    small, large = fit_images(encoder, images, FitOptions(psf_fwhm=6.0))
    assert small.flags == ("psf_too_wide",)
    assert large.has_numbers


@pytest.mark.parametrize("mean", [0.005, 0.05, 0.2])
def test_sparse_counts_are_no_galaxy(encoder, mean):
    """Their median is 0, which was taken for an image without noise."""
    for seed in range(5):
        image = np.random.default_rng(seed).poisson(mean, (64, 64))
        assert "no_galaxy" in fitted(encoder, image).flags


@pytest.mark.parametrize("noise", [0.4, 0.7, 0.8, 1.2])
def test_counts_with_noise_of_about_one_are_no_poor_fit(encoder, noise):
    for seed in range(5):
        image = np.round(galaxy(amplitude=200.0, noise=noise / 200, seed=seed)).astype(np.int16)
        found = fitted(encoder, image)
        assert found.flags == ()
        # rounding adds its own
        assert found.noise == pytest.approx(np.hypot(noise, 12**-0.5), rel=0.08)


def test_the_network_alone_gives_numbers_with_larger_errors(encoder):
    alone, refined = fitted(encoder, galaxy(), steps=0), fitted(encoder, galaxy())
    assert alone.has_numbers
    assert alone.errors["A"] > refined.errors["A"]


def test_a_background_is_taken_off_when_asked_for(encoder):
    image = galaxy(A=0.01, noise=0.01) + 5.0
    assert abs(fitted(encoder, image).values["A"] - 0.01 / PITCH) > 1
    found = fitted(encoder, image, subtract_background=True)
    assert found.values["A"] == pytest.approx(0.01 / PITCH, rel=0.03)
    assert found.background == pytest.approx(5.0, abs=0.002)


@pytest.mark.parametrize("size", [64, 100])
def test_light_at_the_border_is_not_taken_for_background(encoder, size):
    """The median of the border held light: A was off by ten of its errors, without a flag."""
    pulls = []
    for seed in range(20):
        image = galaxy(size, A=0.022, x=0.004, seed=seed, amplitude=40.0) + 7.0
        found = fitted(encoder, image, subtract_background=True)
        assert set(found.flags) <= {"resampled"}
        pitch = PITCH * 64 / size
        pulls.append((found.values["A"] - 0.022 / pitch) / found.errors["A"])
    assert abs(np.mean(pulls)) < 0.9
    assert np.std(pulls) == pytest.approx(1, abs=0.45)


def test_a_background_that_nobody_took_off_is_flagged(encoder):
    """A constant of a hundredth of the galaxy put A off by eight of its errors, silently."""
    kinds = [galaxy(A=0.016, seed=seed) for seed in range(20)]
    assert [fitted(encoder, image).flags for image in kinds] == [()] * 20
    for image in kinds:
        assert "background" in fitted(encoder, image + 0.01).flags
        assert "background" not in fitted(encoder, image + 0.01, subtract_background=True).flags


def bad(kind):
    image = galaxy()
    if kind == "nan_pixels":
        image[3, 4] = np.nan
    return {
        "nan_pixels": image,
        "empty": np.zeros((0, 5)),
        "all_zero": np.zeros((64, 64)),
        "constant": np.full((64, 64), 7),
        "too_small": np.ones((8, 64)),
        "too_large": np.broadcast_to(np.float32(1), (5000, 64)),
        "not_an_image": np.arange(5.0),
        "no_galaxy": np.random.default_rng(1).normal(size=(64, 64)),
    }[kind]


KINDS = [
    "nan_pixels", "empty", "all_zero", "constant", "too_small", "too_large", "not_an_image",
    "no_galaxy",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_bad_images_have_a_flag_and_no_numbers(encoder, kind):
    found = fitted(encoder, bad(kind))
    assert kind in found.flags
    assert not found.has_numbers
    assert all(np.isnan(found.row()[c]) for c in ("A_px", "e", "theta_deg", "amplitude_error"))
    assert kind in FATAL_FLAGS


def test_odd_types_are_no_images_but_all_real_numbers_are(encoder):
    assert fitted(encoder, np.array([["a", "b"]])).flags == ("not_an_image",)
    assert fitted(encoder, galaxy() + 0j).flags == ("not_an_image",)
    counts = np.maximum(galaxy() * 1000 + 200, 0)
    for kind in ("<u2", ">i4", ">f4", "f8"):
        assert fitted(encoder, counts.astype(kind), subtract_background=True).has_numbers


def test_two_galaxies_are_flagged(encoder):
    second = galaxy(A=0.012, x=14 * PITCH, y=6 * PITCH, amplitude=0.6, noise=0.0)
    found = fitted(encoder, galaxy(A=0.015) + second)
    assert "several_sources" in found.flags
    assert "poor_fit" in found.flags
    assert "several_sources" not in fitted(encoder, galaxy(A=0.015)).flags


def test_what_lies_off_is_round_or_larger_than_the_training_is_flagged(encoder):
    assert "off_centre" in fitted(encoder, galaxy(A=0.01, x=12 * PITCH)).flags
    assert "round" in fitted(encoder, galaxy(e=0.0)).flags
    assert "outside_training:A" in fitted(encoder, galaxy(A=0.06)).flags
    assert "outside_training:noise" in fitted(encoder, galaxy(noise=0.3)).flags
    assert "cropped" in fitted(encoder, galaxy(100)[20:80]).flags


def test_a_galaxy_that_is_not_in_the_middle_of_a_long_image_keeps_its_place(encoder):
    found = fitted(encoder, galaxy(100)[10:90])
    assert found.values["x"] == pytest.approx(49.5, abs=0.3)
    assert found.values["y"] == pytest.approx(39.5, abs=0.3)


def test_every_flag_is_explained_in_the_documentation():
    text = (ROOT / "docs" / "semantic.md").read_text("utf-8")
    assert [flag for flag in FLAGS if f"`{flag}`" not in text] == []


def test_files_of_every_kind_hold_the_same_galaxy(tmp_path):
    image = np.round(np.clip(galaxy(noise=0.0), 0, 1) * 255).astype(np.uint8)
    Image.fromarray(image[::-1]).save(tmp_path / "a.png")
    Image.fromarray(np.repeat(image[::-1, :, None], 3, axis=2)).save(tmp_path / "rgb.png")
    np.save(tmp_path / "a.npy", image)
    np.save(tmp_path / "stack.npy", np.stack([image, image]))
    units = [astropy_fits.PrimaryHDU(), astropy_fits.ImageHDU(image.astype(">f4"))]
    astropy_fits.HDUList(units).writeto(tmp_path / "a.fits")
    shard = Shard(
        np.stack([image, image * 2])[np.newaxis].astype(np.float32),
        {"subhalo_id": np.array([77])},
        {},
        {"channel_names": ["mass", "temperature"]},
    )
    write_shard(Workspace(tmp_path), tmp_path / "part-00000.hdf5", shard)
    for name in ("a.png", "rgb.png", "a.npy", "a.fits"):
        (found,) = read_images(tmp_path / name)
        assert found.problem == ""
        np.testing.assert_array_equal(found.array, image, err_msg=name)
    assert [i.label for i in read_images(tmp_path / "stack.npy")] == ["[0]", "[1]"]
    (found,) = read_images(tmp_path / "part-00000.hdf5", channel="mass")
    assert found.label == "mass 77"
    np.testing.assert_array_equal(found.array, image)
    with pytest.raises(ConfigError, match="mass, temperature"):
        list(read_images(tmp_path / "part-00000.hdf5"))


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_are_kept_in_either_byte_order(tmp_path, order):
    """Big-endian TIFF, which cameras write, was cut at 255."""
    image = np.arange(64 * 64, dtype=f"{order}u2").reshape(64, 64)
    mode = "I;16" if order == "<" else "I;16B"
    Image.frombytes(mode, (64, 64), image[::-1].tobytes()).save(tmp_path / "a.tif")
    (found,) = read_images(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.array, image)


def test_a_file_without_images_is_an_empty_one(encoder, tmp_path):
    """The table of no fits was a traceback."""
    np.save(tmp_path / "none.npy", np.zeros((0, 64, 64)))
    (fit,) = fit_images(encoder, read_images(tmp_path / "none.npy"))
    assert fit.flags == ("empty",)


def test_damaged_files_are_rows_and_unknown_kinds_errors(encoder, tmp_path):
    for name in ("bad.png", "bad.npy", "bad.fits", "bad.hdf5"):
        (tmp_path / name).write_bytes(b"SIMPLE no")
    images = [i for p in sorted(tmp_path.iterdir()) for i in read_images(p, channel="mass")]
    found = fit_images(encoder, images)
    assert [f.flags for f in found] == [("unreadable",)] * 4
    assert all(f.reason for f in found)
    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([{"a": 1}], object), allow_pickle=True)
    assert next(read_images(objects)).problem
    (tmp_path / "a.txt").touch()
    with pytest.raises(ConfigError, match=r"\.fits"):
        list(read_images(tmp_path / "a.txt"))
    (gone,) = read_images(tmp_path / "none.npy")
    assert "not there" in gone.problem


@pytest.mark.parametrize("name", ["paper-fast", "paper-cnn1_64-mae-noise0.1-clean/seed-0"])
def test_a_trained_encoder_is_fitted_with_by_name(trained, tmp_path, name):
    path = tmp_path / "good.npy"
    np.save(path, galaxy(amplitude=1.0))
    found = semantic.fit_files([str(path)], trained, encoder=name)
    (fit,) = found.fits
    assert fit.values["A"] == pytest.approx(0.02 / PITCH, rel=0.05)
    # a notebook that gives no folder has the numbers only
    assert found.files == []
    assert sorted(tmp_path.iterdir()) == [path]
    with pytest.raises(DataMissingError, match=r"no trained encoder other.*paper-fast"):
        semantic.fit_files([path], trained, encoder="other")
    with pytest.raises(DataMissingError, match="no trained encoder paper-fast/seed-7"):
        semantic.fit_files([path], trained, encoder="paper-fast", seed=7)


@pytest.mark.parametrize(("steps", "psf", "flagged"), [(0, 3.0, True), (4, 3.0, False), (0, 0, 0)])
def test_a_network_alone_says_that_it_does_not_know_the_psf(encoder, steps, psf, flagged):
    fit = fit_image(encoder, UserImage("a", "", galaxy()), FitOptions(steps=steps, psf_fwhm=psf))
    assert ("outside_training:psf" in fit.flags) == bool(flagged)


def test_the_model_of_a_resampled_image_is_averaged_like_the_image():
    row = np.array([[0.01, 0.3, 20.0, 0.0, 0.0, 1.0, 1.0]])
    frame = Frame(0.0, 128)
    image = galaxy(128, noise=0.0, A=0.01, e=0.3, theta=20.0)
    np.testing.assert_allclose(render(row, frame, np.float64)[0], frame.averaged(image))
