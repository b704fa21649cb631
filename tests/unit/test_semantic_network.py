"""Encoders, decoder, training and what is known of a trained encoder."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from sfr.errors import ConfigError, DataFormatError, DataMissingError, TrainingError
from sfr.nn.keras_import import load_keras
from sfr.run.workspace import Workspace
from sfr.semantic.code import CircleCode, EllipseCode, PublishedCode
from sfr.semantic.decoder import build_decoder
from sfr.semantic.encoders import (
    PUBLISHED_SIZES,
    build_cnn,
    check_encoder,
    fast_weights,
    principal_components,
    run_fast,
    scale_to_images,
)
from sfr.semantic.evaluate import evaluate, published_beside, size_rows
from sfr.semantic.figures import _line_label, size_figure
from sfr.semantic.fisher import mean_bound
from sfr.semantic.problem import PROBLEMS, add_noise
from sfr.semantic.profile import Frame, render
from sfr.semantic.trained import (
    Encoder,
    difference,
    find_encoders,
    load_encoder,
    obtain_encoder,
)
from sfr.semantic.training import (
    _compiled,
    build_encoder,
    default_training,
    published_training,
    train_encoder,
)

#: METHOD 6.
WEIGHTS = {
    "1": (320, 9248, 18496, 36928, 73856, 147584, 524352, 2080, 99),
    "1/4": (160, 2320, 4640, 9248, 18496, 36928, 131104, 528, 51),
    "1/16": (80, 584, 1168, 2320, 4640, 9248, 32784, 136, 27),
    "1/24": (60, 330, 715, 1534, 3068, 6110, 21645, 84, 21),
    "1/32": (50, 230, 506, 1100, 2200, 4378, 15499, 60, 18),
    "1/48": (40, 148, 333, 738, 1558, 3268, 10953, 40, 15),
    "1/64": (40, 148, 296, 584, 1168, 2320, 8200, 36, 15),
}
TOTALS = (812_963, 203_475, 50_987, 33_567, 24_041, 17_093, 12_807)
PAPER = PROBLEMS["paper"]


def small(**changes):
    return replace(
        default_training(PAPER), **{"images": 3000, "epochs": 10, "batch": 64, **changes}
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("semantic"))


@pytest.fixture(scope="module")
def encoder(work):
    return obtain_encoder(work, small())[0]


def test_all_sizes_are_tested():
    assert tuple(PUBLISHED_SIZES) == tuple(WEIGHTS)


@pytest.mark.parametrize(("size", "total"), list(zip(WEIGHTS, TOTALS, strict=True)))
def test_the_published_encoders_have_the_published_weights_in_every_layer(size, total):
    network = build_cnn(size)
    found = [layer.count_params() for layer in network.layers if layer.count_params()]
    assert tuple(found) == WEIGHTS[size]
    assert network.count_params() == total
    assert network.output_shape == (None, 3)


def test_the_published_encoder_is_built_as_published():
    layers = build_cnn("1").layers
    kinds = [type(layer).__name__ for layer in layers]
    block = ["Conv2D", "Conv2D", "MaxPooling2D"]
    assert kinds == ["InputLayer", "Reshape", *3 * block, "Flatten", "Dense", "Dense", "Dense"]
    for layer in layers:
        if type(layer).__name__ == "Conv2D":
            assert layer.kernel_size == (3, 3)
            assert layer.padding == "same"
            assert layer.activation.__name__ == "relu"
        elif type(layer).__name__ == "Dense":
            assert layer.activation.__name__ == "sigmoid"


def test_an_unknown_encoder_is_refused_by_name():
    assert check_encoder("1/16") == "1/16"
    with pytest.raises(ConfigError, match="1/16"):
        check_encoder("1/17")


@pytest.mark.parametrize("psf", [0.0, 3.0])
@pytest.mark.parametrize("name", ["paper", "free"])
def test_the_decoder_is_the_profile_and_has_no_weights(name, psf):
    problem = PROBLEMS[name].with_psf(psf)
    code, truth = CircleCode(problem), problem.draw(16, np.random.default_rng(1))
    decoder = build_decoder(code, problem.frame)
    assert decoder.count_params() == 0
    images = load_keras().ops.convert_to_numpy(decoder(code.from_parameters(truth)))
    np.testing.assert_allclose(images, render(truth, problem.frame), atol=5e-5)


def test_the_published_bottleneck_holds_a_e_and_the_angle_over_180():
    code = PublishedCode(PAPER)
    given = np.array([[0.03, 0.4, 0.25], [0.02, 0.7, 0.9]], np.float32)
    found = code.to_parameters(given)
    np.testing.assert_allclose(found[:, :3], given * [1, 1, 180], rtol=1e-6)
    images = load_keras().ops.convert_to_numpy(build_decoder(code, Frame())(given))
    np.testing.assert_allclose(images, render(found, Frame()), atol=5e-5)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_circle_code_goes_there_and_back(name):
    problem = PROBLEMS[name]
    code, truth = CircleCode(problem), problem.draw(50, np.random.default_rng(2))
    found = code.to_parameters(code.from_parameters(truth))
    assert np.abs(difference(found, truth)).max() < 1e-4
    wild = code.to_parameters(np.full((3, code.size), -5.0))
    render(wild, Frame())


def test_components_keep_white_noise_white_and_the_images_whole():
    rng = np.random.default_rng(3)
    images = PAPER.images(PAPER.draw(500, rng))
    kernel, bias = principal_components(images, rng, 64)
    directions = kernel / np.linalg.norm(kernel, axis=0)
    np.testing.assert_allclose(directions.T @ directions, np.eye(64), atol=1e-4)
    found = images.reshape(500, -1) @ kernel + bias
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-2)
    mean = images.reshape(500, -1).mean(axis=0)
    back = (found / np.linalg.norm(kernel, axis=0)) @ directions.T + mean
    assert np.abs(back - images.reshape(500, -1)).max() < 0.05


def test_a_small_training_comes_near_the_bound_and_a_step_reaches_it(encoder):
    found = evaluate(encoder, 0.05, images=600, steps=(1, 2), with_least_squares=False)
    rows = {(r["parameter"], r["method"]): r for r in found.rows()}
    for name in ("A", "e", "theta"):
        network = rows[name, "network"]
        assert 1.0 < network["rms of error/bound"] < 40
        assert rows[name, "2 steps"]["rms of error/bound"] < 1.3
        assert rows[name, "2 steps"]["rms of error/bound"] > 0.85
        # calibrated: also the network alone, which is far from the bound, says how far
        assert 0.5 < network["within 1 error"] < 0.85
    assert rows["A", "network"]["N"] == 600


def test_clean_images_have_no_bound(encoder):
    found = evaluate(encoder, 0.0, images=40, steps=(), with_least_squares=True)
    rows = {(r["parameter"], r["method"]): r for r in found.rows()}
    assert rows["A", "network"]["rms/bound"] is None
    assert abs(rows["A", "least squares"]["rms"]) < 1e-6
    sizes = size_rows([(encoder.training, found)])
    assert sizes[0]["A"] == pytest.approx(np.abs(found.off("network")[:, 0]).mean())


def of_training(training):
    """A network without training, which evaluations take like any other."""
    errors = {0: np.ones(len(training.problem.free))}
    return Encoder(training, build_encoder(training)[0], errors)


def test_clean_angles_are_counted_as_the_paper_counts_them():
    # its 1.13 deg is of angles in 10 to 170 deg; it stood beside the dispersion of all angles
    encoder = of_training(published_training(PAPER, "1/64", 0.0, "clean"))
    found = evaluate(encoder, 0.0, images=200, steps=(), with_least_squares=False)
    rows = {r["parameter"]: r for r in found.rows()}
    assert rows["A"]["published dispersion"] == 0.00049
    assert rows["theta"]["published dispersion"] is None
    inside = (found.truth[:, 2] >= 10) & (found.truth[:, 2] <= 170)
    off = found.off("network")[inside, 2]
    row = rows["theta 10-170"]
    assert (row["N"], row["published offset"], row["published dispersion"]) == (
        off.size,
        0.20,
        1.13,
    )
    assert 0.8 * 200 < off.size < 200
    assert row["dispersion"] == pytest.approx(off.std())
    assert row["median"] == pytest.approx(np.median(off))


NOTEBOOK = PROBLEMS["notebook"]


@pytest.mark.parametrize(
    ("training", "noise", "learned_from", "by"),
    [
        (published_training(PAPER, "1/64", 0.05, "noisy"), 0.05, "its own input", "paper"),
        (published_training(PAPER, "1/64", 0.0, "clean"), 0.0, "its own input", "paper"),
        (default_training(PAPER, "1/16", loss="chi2"), 0.1, "its own input", "paper"),
        (published_training(NOTEBOOK, "1", 0.025, "clean"), 0.025, "clean images", "notebook"),
        # another target, other ranges, another noise, a PSF, the truth
        (published_training(PAPER, "1/64", 0.05, "clean"), 0.05, "clean images", None),
        (published_training(NOTEBOOK, "1", 0.025, "noisy"), 0.025, "its own input", None),
        (published_training(PAPER, "1", 0.025, "clean"), 0.025, "clean images", None),
        (published_training(PAPER, "1/64", 0.0, "clean"), 0.05, "its own input", None),
        (published_training(PAPER.with_psf(3), "1", 0.05, "noisy"), 0.05, "its own input", None),
        (default_training(PAPER), 0.025, "true parameters", None),
        (default_training(NOTEBOOK, "1/16"), 0.025, "true parameters", None),
    ],
)
def test_published_errors_stood_beside_networks_that_learned_otherwise(
    training, noise, learned_from, by
):
    """Those of the notebook stood beside a network that learned from the true parameters."""
    assert training.learned_from == learned_from
    beside = published_beside(training, training.problem, noise)
    assert (beside and beside.by) == by


def test_the_notebook_is_compared_with_the_limit_of_its_own_ranges():
    """Its scatter of e up to 0.75 was divided by the bound of e up to 0.8: 5.3, 3.0, 3.1."""
    training = published_training(NOTEBOOK, "1", 0.025, "clean")
    beside = published_beside(training, NOTEBOOK, 0.025)
    limit = mean_bound(NOTEBOOK.ranges)
    found = [beside.values[name][1] / (0.025 * limit[name]) for name in ("A", "e", "theta")]
    assert found == pytest.approx([5.45, 2.89, 2.96], abs=0.006)


def test_errors_of_angles_are_taken_modulo_180_before_they_scatter():
    """179 deg for 1 deg is an error of 2 deg: so the dispersion knows no jump."""
    encoder = of_training(published_training(PAPER, "1/64", 0.05, "noisy"))
    found = evaluate(encoder, 0.05, images=4, steps=(), with_least_squares=False)
    found.truth[:, 2] = (1.0, 1.0, 179.0, 179.0)
    found.found["network"][:, 2] = (179.0, 3.0, 1.0, 177.0)
    row = next(r for r in found.rows() if r["parameter"] == "theta")
    assert (row["offset"], row["dispersion"]) == pytest.approx((0.0, 2.0))


def test_the_same_settings_give_the_same_files(tmp_path):
    made = {}
    for name in ("one", "two"):
        work = Workspace(tmp_path / name)
        obtain_encoder(work, small(images=200, epochs=1))
        folder = work.semantic("paper-fast", 0)
        made[name] = {p.name: p.read_bytes() for p in sorted(folder.iterdir())}
    assert made["one"] == made["two"]
    assert len(made["one"]) == 3
    shutil.rmtree(tmp_path)


def test_an_encoder_is_trained_once_and_found_again(work, encoder):
    again, is_new = obtain_encoder(work, small())
    assert not is_new
    images = PAPER.images(PAPER.draw(300, np.random.default_rng(1)))
    np.testing.assert_allclose(again.estimate(images), encoder.estimate(images), rtol=1e-5)
    assert find_encoders(work, None)[0].name == "seed-0"


def test_numpy_runs_the_fast_encoder_as_keras_does(encoder):
    images = PAPER.images(PAPER.draw(600, np.random.default_rng(1)))
    images[0] *= 1e4  # far beyond the training: the exponential overflows
    wanted = load_keras().ops.convert_to_numpy(encoder.network(images, training=False))
    weights = fast_weights(encoder.network)
    np.testing.assert_allclose(run_fast(weights, images), wanted, rtol=1e-4, atol=1e-4)
    assert run_fast(weights, images[:0]).shape == (0, wanted.shape[1])


def test_few_images_give_the_published_network_what_many_do():
    training = small(encoder="1/64", loss="mae")
    cnn = Encoder(training, build_encoder(training)[0], {})
    images = PAPER.images(PAPER.draw(300, np.random.default_rng(1)))
    np.testing.assert_allclose(cnn.estimate(images[:3]), cnn.estimate(images)[:3], rtol=1e-4)


def test_a_missing_or_damaged_encoder_is_an_error(work, encoder, tmp_path):
    with pytest.raises(DataMissingError, match="sfr semantic train"):
        load_encoder(tmp_path)
    shutil.copytree(work.semantic("paper-fast", 0), tmp_path / "copy")
    (tmp_path / "copy" / "encoder.weights.h5").write_bytes(b"no HDF5")
    with pytest.raises(DataFormatError, match="--force"):
        load_encoder(tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy")


def test_learning_from_images_ended_in_images_of_nothing():
    """The first steps led every A below 0, where the loss of chi2 has no gradient: it stayed."""
    training = default_training(PAPER, "1/64", loss="chi2")
    training = replace(training, images=600, validation=200, epochs=6)
    network, history = train_encoder(training)
    truth = PAPER.draw(200, np.random.default_rng(3))
    clean = PAPER.images(truth)
    low, high = PAPER.noise
    of_nothing = 1 + (clean**2).mean() * (low**-2 - high**-2) / (2 * np.log(high / low))
    assert history.validation_loss[-1] < 0.4 * of_nothing
    code = load_keras().ops.convert_to_numpy(network(clean, training=False))
    assert (code[:, 0] * 0.04 + 0.01 > 0.002).mean() > 0.9


def test_a_network_that_finds_no_galaxies_is_led_back():
    training = replace(default_training(PAPER, "1/64", loss="chi2"), learning_rate=0.02)
    # the first weights, and with them how fast it comes back, would hang on the tests before
    load_keras().utils.set_random_seed(0)
    network, trained = build_encoder(training)
    layer = trained.layers[-1]
    layer.set_weights([layer.get_weights()[0], np.array([-2, 0.3, 0.3])])
    clean = PAPER.images(PAPER.draw(50, np.random.default_rng(3)))
    model = _compiled(training, trained)
    for _ in range(40):
        model.train_on_batch(clean, clean)
    code = load_keras().ops.convert_to_numpy(network(clean, training=False))
    assert code[:, 0].mean() > -0.2


@pytest.mark.parametrize("kind", [CircleCode, EllipseCode])
def test_the_decoder_draws_what_an_estimate_is_kept_to(kind):
    """A below 0 and e above 1 were drawn as nothing, and given as the smallest galaxy."""
    code = kind(PROBLEMS["free"])
    ops = load_keras().ops
    wild = np.random.default_rng(1).normal(0, 3, (200, code.size)).astype(np.float32)
    drawn = code.tensors(ops.convert_to_tensor(wild), ops)
    kept = code.to_parameters(wild)
    for place, name in ((0, "A"), (1, "e"), (3, "x"), (5, "amplitude"), (6, "n")):
        found = ops.convert_to_numpy(drawn[name])
        np.testing.assert_allclose(found, kept[:, place], rtol=1e-4, atol=1e-5)


def test_round_galaxies_were_a_trap_of_learning_from_images():
    """Where e was a number of its own it fell to 0 before the angle was known, and stayed."""
    code = EllipseCode(PAPER)
    parameters = code.to_parameters(np.array([[0.5, 0.3, 0.4], [0.5, -0.3, -0.4], [0.5, 0, 0]]))
    assert parameters[:, 1] == pytest.approx([0.5, 0.5, 0.0])
    assert parameters[0, 2] == pytest.approx(np.degrees(np.arctan2(4, 3)) / 2)
    assert (parameters[1, 2] - parameters[0, 2]) % 180 == pytest.approx(90)
    # across a round galaxy, from one direction to the one at 90 deg, the image changes at once
    steps = np.array([[0.5, -0.02, 0], [0.5, 0.02, 0]], np.float32)
    decoder = build_decoder(code, PAPER.frame)
    before, after = load_keras().ops.convert_to_numpy(decoder(steps))
    assert np.abs(after - before).max() > 0.005
    mean, scatter = code.spread
    drawn = PAPER.draw(20_000, np.random.default_rng(1))
    twice = 2 * np.radians(drawn[:, 2])
    wanted = np.stack(
        [(drawn[:, 0] - 0.01) / 0.04, drawn[:, 1] * np.cos(twice), drawn[:, 1] * np.sin(twice)]
    )
    np.testing.assert_allclose(mean, wanted.mean(axis=1), atol=0.01)
    np.testing.assert_allclose(scatter, wanted.std(axis=1), rtol=0.02)


@pytest.mark.parametrize("loss", ["mae", "chi2", "bound"])
def test_every_loss_falls_on_the_published_network(loss):
    if loss == "mae":
        training = published_training(PAPER, "1/64", 0.05, "noisy")
    else:
        rate = {"chi2": 1e-3, "bound": 0.02}[loss]
        training = replace(default_training(PAPER, "1/64", loss=loss), learning_rate=rate)
    training = replace(training, images=60, validation=40, epochs=6, batch=20)
    network, history = train_encoder(training)
    assert network.count_params() == (12_812 if loss == "bound" else 12_807)
    assert np.isfinite(history.loss).all()
    # the validation images and their noise are the same in every epoch
    assert history.validation_loss.min() < history.validation_loss[0]
    assert history.epoch == 1 + int(np.argmin(history.validation_loss))


def test_a_training_that_was_stopped_or_prolonged_ends_with_the_same_weights(tmp_path, monkeypatch):
    training = replace(
        published_training(PAPER, "1/64", 0.05, "noisy"), images=40, validation=20, epochs=4
    )
    prolonged, stopped = Workspace(tmp_path / "prolonged"), Workspace(tmp_path / "stopped")
    obtain_encoder(prolonged, replace(training, epochs=3))
    obtain_encoder(prolonged, training)
    monkeypatch.setattr("sfr.semantic.training._CHECKPOINT_SECONDS", 0.0)

    def stop(label, done, total):
        if label.startswith("training") and done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        obtain_encoder(stopped, training, on_progress=stop)
    told = []
    obtain_encoder(stopped, training, on_progress=lambda *what: told.append(what))
    assert min(done for label, done, _ in told if label.startswith("training")) == 3
    for name in ("encoder.weights.h5", "history.csv", "encoder.json"):
        files = [w.semantic(training.name, 0) / name for w in (prolonged, stopped)]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_scaled_weights_give_every_unit_mean_0_and_scatter_1():
    network = build_cnn("1/64", 4, activation="linear")
    images = PAPER.images(PAPER.draw(64, np.random.default_rng(1)))
    scale_to_images(network, images)
    code = load_keras().ops.convert_to_numpy(network(images))
    np.testing.assert_allclose(code.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(code.std(axis=0), 1, rtol=1e-3)
    assert network.get_layer("dense_1").activation.__name__ == "sigmoid"


def test_a_damaged_checkpoint_is_said_and_not_used(tmp_path, caplog):
    training = replace(
        published_training(PAPER, "1/64", 0.05, "noisy"), images=20, validation=20, epochs=1
    )
    work = Workspace(tmp_path)
    path = work.semantic(training.name, 0) / "checkpoint.npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PK no archive")
    obtain_encoder(work, training)
    assert "cannot be read" in caplog.text
    with np.load(path) as state:
        assert state["losses"].shape == (2, 1)


def test_the_published_settings_are_the_papers():
    clean = published_training(PAPER, "1", 0.0, "clean")
    assert (clean.images, clean.validation, clean.batch, clean.epochs) == (9000, 1000, 20, 500)
    assert (clean.loss, clean.learning_rate) == ("mae", 1.0)
    assert published_training(PAPER, "1", 0.1, "noisy").images == 27_000


def test_a_loss_that_runs_away_stops_the_training():
    training = small(images=200, epochs=1, learning_rate=1e30)
    with pytest.raises(TrainingError, match="learning rate"):
        train_encoder(training)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"encoder": "1/3"}, "1/16"),
        ({"loss": "l2"}, "bound"),
        ({"loss": "mae"}, "fast"),
        ({"encoder": "1/64", "loss": "mae", "problem": PROBLEMS["free"]}, "free"),
        ({"problem": PAPER.with_noise(0, 0)}, "noise"),
        ({"epochs": 0}, "epochs"),
        ({"images": 64}, "64 principal components"),
        ({"images": 192, "problem": PROBLEMS["free"]}, "192 principal components"),
        ({"learning_rate": -1.0}, "learning rate"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, match):
    with pytest.raises(ConfigError, match=match):
        small(**changes)


def test_an_evaluation_needs_images(encoder):
    with pytest.raises(ConfigError, match="images"):
        evaluate(encoder, 0.05, images=1)
    with pytest.raises(ConfigError, match="noise"):
        evaluate(encoder, -1.0, images=10)


def test_noise_is_white_and_of_the_level_of_each_image():
    levels = np.array([0.1, 1.0])
    found = add_noise(np.zeros((2, 64, 64), np.float32), levels, np.random.default_rng(1))
    np.testing.assert_allclose(found.std(axis=(1, 2)), levels, rtol=0.05)
    unit = found / levels[:, np.newaxis, np.newaxis]
    # neighbours along each axis, and the two images, know nothing of each other
    for other in (np.roll(unit, 1, axis=1), np.roll(unit, 1, axis=2), unit[::-1]):
        assert abs((unit * other).mean()) < 4 / np.sqrt(unit.size / 2)


def test_the_name_of_a_fast_encoder_holds_noise_that_is_not_the_problems():
    """Two levels of noise were one name, so that the second network replaced the first."""
    assert small().name == "paper-fast"
    assert small(problem=PAPER.with_noise(0.05, 0.05)).name == "paper-fast-noise0.05"
    assert small(problem=PAPER.with_noise(0.05, 0.1)).name == "paper-fast-noise0.05_0.1"


def test_the_figure_of_sizes_tells_trainings_apart(encoder):
    """Networks of other problems and noises were points of one line; the last one was drawn."""
    found = evaluate(encoder, 0.1, images=20, steps=(), with_least_squares=False)
    kinds = [
        published_training(problem, size, noise, "clean")
        for size in ("1/64", "1/48")
        for problem, noise in ((PAPER, 0.1), (PAPER, 0.0), (PROBLEMS["notebook"], 0.1))
    ]
    rows = size_rows([(training, found) for training in kinds])
    labels = {_line_label(row) for row in rows}
    assert labels == {
        "noise 0.1, clean target",
        "noise 0.1, clean target, trained at 0",
        "noise 0.1, clean target, notebook",
    }
    assert size_figure(rows).startswith(b"\x89PNG")
