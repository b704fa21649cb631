"""Cleaned texts, numbers of the report's tables, and its verdict."""

import dataclasses

import numpy as np
import pytest

from sfr.paths import without_folders
from sfr.recipe import load_recipe
from sfr.report.html import number, table_number
from sfr.report.tables import case_rows, compared_rows, snapshot_rows
from sfr.report.verdict import verdict
from sfr.run.workspace import Workspace
from sfr.target import target_of
from sfr.train.evaluate import ScoredHead, compare, metrics
from sfr.train.standing import Standing


@pytest.fixture
def recipe():
    return load_recipe("thesis")


def score(case, r, n=120, *, seed=0, each=1, shift=0.0, dead=False):
    """A head whose predictions have exactly this r, on galaxies of so many equal images each."""
    rng, galaxies = np.random.default_rng([n, *case.encode(), seed]), n // each
    truth = np.random.default_rng(n).standard_normal(galaxies)
    prediction = truth
    if galaxies > 2:
        noise = rng.standard_normal(galaxies)
        _, along, across = np.linalg.qr(np.stack([np.ones(galaxies), truth, noise], 1))[0].T
        prediction = r * along * np.sign(along @ truth) + np.sqrt(1 - r * r) * across
        prediction = prediction * np.sqrt(galaxies) + shift
    if dead:
        prediction = np.zeros(galaxies)
    return _scored(case, seed, truth.repeat(each), prediction.repeat(each), each)


def _scored(case, seed, truth, prediction, each=1):
    names = np.array([f"Snap99ID{i:06d}.png" for i in range(truth.size)])
    found = {**metrics(truth, prediction), "n_train": 9, "weights": "random"}
    return ScoredHead(case, seed, found, names, np.arange(truth.size) // each, truth, prediction)


def judged(recipe, *heads):
    found = {}
    for head in heads:
        found.setdefault(head.case, []).append(head)
    return verdict(case_rows({}, found), compare(found), recipe)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/me/run/x.hdf5 is short", "x.hdf5 is short"),
        ("no file '/data/tng/snap_099.3.hdf5'", "no file 'snap_099.3.hdf5'"),
        (r"C:\data\tng\x.hdf5", "x.hdf5"),
        ("~/runs/w.h5", "w.h5"),
        ("1e10 Msun/h, km/s and ckpc/h", "1e10 Msun/h, km/s and ckpc/h"),
        ("SFR / (SubhaloMass * 1e10)", "SFR / (SubhaloMass * 1e10)"),
        ("0.1/yr/kpc", "0.1/yr/kpc"),
    ],
)
def test_bare_cuts_folders_and_keeps_units(text, expected):
    assert without_folders(text) == expected


def test_numbers_have_true_minus_signs_and_a_dash_for_nothing():
    assert number(-0.25) == "\u22120.250"
    assert number(-0.0001) == "0.000"
    assert number(None) == number(float("nan")) == "\u2013"
    assert table_number("") == "\u2013"
    assert table_number("5.684321e-12") == "5.684e\u221212"
    assert table_number("715") == "715"
    assert table_number("TNG50-1") == "TNG50-1"


def test_verdict_names_case_channel_and_scale(recipe):
    found = judged(
        recipe, score("composite", 0.5), score("mass", 0.9), score("temperature", 0.895),
        score("structure3", 0.7), score("structure10", 0.2), score("gauss3", 0.6),
    )  # fmt: skip
    assert "best from mass" in found.headline
    assert "not told apart from temperature" in found.headline
    assert "Not told apart from it: temperature" in found.points[0]
    assert "120 test images of 120 galaxies" in found.points[0]
    assert "The lead over temperature is smaller" in found.points[1]
    assert "there is only gauss3 (detail coarser than about 3.8 ckpc/h)" in found.points[2]
    assert "structure3 (detail finer than about 3.8 ckpc/h) predicts best" in found.points[3]
    assert any("near-copy" in caution for caution in found.cautions)
    assert any("One network a case" in caution for caution in found.cautions)


def test_verdict_counts_galaxies_not_images(recipe):
    """24 images of 8 galaxies were 24: the interval was too narrow, and a lead not there."""
    heads = {n: [score("mass", 0.9, each=n), score("entropy", 0.6, each=n)] for n in (1, 15)}
    many, few = (judged(recipe, *found) for found in heads.values())
    assert "lies further below than chance" in many.points[0]
    assert "The lead over entropy is smaller than what 120 test images of 8" in few.points[0]
    assert "no other case is told apart" in few.headline
    assert any("8 galaxies are few" in caution for caution in few.cautions)
    assert not any("are few" in caution for caution in many.cautions)


def test_verdict_of_a_recipe_with_other_channels_knows_them(tmp_path):
    """Only entropy, mass and temperature were single channels, whatever the recipe had."""
    path = tmp_path / "r.toml"
    names = ("structure_of_gas", "gaussian", "metals")
    channels = ", ".join(f'{{ name = "{name}", field = "mass" }}' for name in names)
    path.write_text(f'extends = "thesis"\n[maps]\nchannels = [{channels}]\n')
    found = judged(
        load_recipe(path), *(score(n, r) for n, r in zip(names, (0.9, 0.5, 0.2), strict=True))
    )
    assert "Of the single channels, structure_of_gas predicts best" in found.points[1]
    assert len(found.points) == 2, "neither of them is a blurred or a structure image"
    assert any("single-channel cases are cut" in caution for caution in found.cautions)


def test_verdict_does_not_call_chance_a_result(recipe):
    found = judged(recipe, score("mass", 0.05), score("entropy", -0.1))
    assert "better than chance" in found.headline
    assert found.points == []


@pytest.mark.parametrize(
    ("heads", "words"),
    [
        ([score("mass", 0.5, dead=True)], "Every trained network is dead"),
        ([score("mass", 0.8, 2)], "fewer than 3 test images"),
        ([_scored("mass", 0, np.full(9, 4.0), np.arange(9.0))], "test images have the same label"),
        ([score("mass", 0.8)], "Only mass can be judged"),
        ([score("mass", 0.8, 9, each=3), score("entropy", 0.7, 9, each=3)], "are too few to tell"),
        (
            [score("mass", 0.8, seed=0), score("entropy", 0.7, seed=1)],
            "cannot be compared: no seed",
        ),
    ],
)
def test_verdict_without_enough_to_compare(recipe, heads, words):
    found = judged(recipe, *heads)
    assert words in found.headline
    assert found.points == []


def test_the_verdict_has_a_sentence_for_each_state(recipe):
    """What was out of date was called dead or not trained."""
    heads = {"mass": [score("mass", 0.8)], "entropy": [score("entropy", 0.5, dead=True)]}
    states = {
        "mass": "trained", "entropy": "dead", "gauss3": "out of date", "gauss5": "failed",
        "composite": "not trained",
    }  # fmt: skip
    rows = case_rows(states, heads)
    assert {row.case: row.status for row in rows} == states
    said = verdict(rows, compare(heads), recipe).cautions
    for words in (
        "Dead, so without a statement: entropy.",
        "failed, so not compared: gauss5.",
        "Out of date, so not compared: gauss3.",
        "so not compared: composite.",
    ):
        assert sum(words in caution for caution in said) == 1


def test_too_few_galaxies_give_no_interval_and_say_so(recipe):
    heads = {name: [score(name, 0.8, 50, each=10)] for name in ("mass", "entropy")}
    rows = case_rows({}, heads)
    assert [(row.r_low, row.r_high, row.n_test, row.n_galaxies) for row in rows] == [
        (None, None, 50, 5)
    ] * 2
    found = verdict(rows, compare(heads), recipe)
    assert "50 test images of 5 galaxies are too few" in found.headline
    assert any("5 galaxies: too few for intervals" in caution for caution in found.cautions)
    assert not any(row.told_apart for row in compared_rows(compare(heads)))


def test_more_seeds_of_one_case_do_not_turn_the_headline(recipe):
    """Six seeds of mass, of which the first is lucky, made gauss10 the best."""
    mass = [score("mass", 0.9 - 0.05 * seed, seed=seed) for seed in range(6)]
    gauss10 = score("gauss10", 0.85)
    assert np.mean([head.metrics["r"] for head in mass]) < 0.85
    found = judged(recipe, *mass, gauss10)
    assert "best from mass: r\u00a0=\u00a00.900" in found.headline
    assert any("compared on seed 0," in c and "mass (6)" in c for c in found.cautions)
    assert any("One network a case" in caution for caution in found.cautions), "gauss10 has one"


def test_one_network_a_case_is_not_said_where_all_have_several(recipe):
    heads = [
        score(case, r, seed=s) for case, r in (("mass", 0.9), ("entropy", 0.3)) for s in (0, 1)
    ]
    found = judged(recipe, *heads)
    assert not any("One network" in c or "compared on seed" in c for c in found.cautions)


def test_verdict_says_which_cases_are_dead_where_the_others_are_compared(recipe):
    heads = [
        *(score("mass", 0.9, seed=seed) for seed in range(3)),
        *(score("entropy", 0.5, seed=seed, dead=seed == 1) for seed in range(3)),
        *(score("temperature", 0.5, seed=seed, dead=True) for seed in range(3)),
        *(score("gauss3", 0.4, seed=seed, dead=seed < 3) for seed in range(4)),
    ]
    found = judged(recipe, *heads)
    assert "best from mass" in found.headline
    cautions = " ".join(found.cautions)
    assert "compared on seeds 0 and 2, which all of them have alive" in cautions
    assert "also counts further networks of mass (3)." in cautions
    assert (
        "Not compared, because none of the seeds that all cases have is alive: gauss3." in cautions
    )
    assert "Dead, so without a statement: temperature." in cautions
    assert "One network" not in cautions


def test_verdict_warns_when_a_good_r_hides_bad_values(recipe):
    found = judged(recipe, score("mass", 0.9, shift=5.0), score("entropy", 0.5))
    assert any("mass is below 0" in caution for caution in found.cautions)


def test_verdict_does_not_say_that_predictions_follow_an_order_that_they_reverse(recipe):
    found = judged(recipe, score("mass", -0.9), score("entropy", -0.95))
    (caution,) = (text for text in found.cautions if "is below 0" in text)
    assert caution.startswith("R\u00b2 of mass is below 0: its values are worse than the mean.")


@pytest.mark.parametrize(("snapshots", "is_said"), [((98, 99), True), ((99,), False)])
def test_the_same_galaxies_in_no_tree_counted_as_many_without_a_word(recipe, snapshots, is_said):
    images = np.sort([f"Snap{s}ID{i}.png" for s in snapshots for i in range(120 // len(snapshots))])
    heads = [
        dataclasses.replace(score(case, r), filename=images, galaxy_id=np.full(120, -1))
        for case, r in (("mass", 0.9), ("entropy", 0.5))
    ]
    said = [text for text in judged(recipe, *heads).cautions if "in no tree" in text]
    assert [text.startswith("120 of the test images") for text in said] == [True] * is_said


def test_verdict_of_the_corrected_recipe_does_not_speak_of_mixed_channels():
    cautions = judged(load_recipe("corrected"), score("mass", 0.8), score("entropy", 0.3)).cautions
    assert not any(
        "stretched composite" in caution or "near-copy" in caution for caution in cautions
    )


def test_ridge_was_said_to_have_random_starts(recipe):
    heads = [score("mass", 0.8), score("entropy", 0.3)]
    for probe, is_said in (("head", True), ("ridge", False)):
        found = judged(recipe.with_fields("train", probe=probe), *heads).cautions
        assert any("random starts" in caution for caution in found) is is_said


def test_a_table_by_snapshot_that_a_spreadsheet_saved_keeps_its_columns(recipe, tmp_path):
    """Semicolons and a byte-order mark made one column of all of them, in the report."""
    workspace = Workspace(tmp_path)
    text = "\ufeffsnapshot;redshift;n;published_n\r\n99;0.0;40;713\r\n98;0.009;38\r\n"
    workspace.by_snapshot_csv.parent.mkdir()
    workspace.by_snapshot_csv.write_bytes(text.encode())
    for name, published in (("thesis", {"published_n": ["713", ""]}), ("corrected", {})):
        found = snapshot_rows(workspace, target_of(load_recipe(name)), {}, np.zeros(0))
        columns = {"snapshot": ["99", "98"], "redshift": ["0.0", "0.009"], "n": ["40", "38"]}
        assert found == {**columns, **published}


def test_a_control_that_is_better_than_all_cases_is_in_no_sentence(recipe):
    cases = [score("mass", 0.9), score("gauss3", 0.5)]
    control = score("stellar mass", 1.0)
    control = dataclasses.replace(control, metrics={**control.metrics, "kind": "control"})
    assert judged(recipe, control, *cases) == judged(recipe, *cases)
    dead = score("mass", 0.9, dead=True)
    assert "Every trained network is dead" in judged(recipe, control, dead).headline


def standing(case, *, ahead_low=None, kind="case", r=0.9):
    is_case = kind == "case"
    return Standing(
        case,
        kind=kind,
        words="" if is_case else "radial profiles, ridge",
        r=r,
        control="control.profiles" if is_case else "",
        control_words="radial profiles, ridge" if is_case else "",
        ahead=0.1 if is_case else None,
        ahead_low=ahead_low,
        ahead_high=0.2 if is_case else None,
    )


@pytest.mark.parametrize(("ahead_low", "is_said"), [(-0.1, True), (None, True), (0.05, False)])
def test_a_best_case_that_is_not_ahead_of_a_control_was_crowned_all_the_same(
    recipe, ahead_low, is_said
):
    heads = {case: [score(case, r)] for case, r in (("mass", 0.9), ("gauss3", 0.5))}
    stands = {
        "mass": standing("mass", ahead_low=ahead_low),
        "gauss3": standing("gauss3", ahead_low=-0.5),
        "control.profiles": standing("control.profiles", kind="control", r=0.88),
    }
    found = verdict(case_rows({}, heads), compare(heads), recipe, stands)
    assert ("not ahead of a control, radial profiles, ridge" in found.headline) == is_said
    points = " ".join(found.points)
    assert ("No case is ahead of the best control" in points) == is_said
    assert ("Ahead of the best control (radial profiles, ridge): mass." in points) != is_said
    assert stands["control.profiles"].beats_controls is None
