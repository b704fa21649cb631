"""The report and contact sheets from a made-up run's folder, without a simulation or a network."""

import csv
import errno
import hashlib
import json
import os
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from tests.made_heads import add_head

from sfr.errors import ConfigError, DataMissingError, EmptySelectionError, RangeError
from sfr.imaging.normalise import range_normalisation
from sfr.imaging.png import write_png
from sfr.imaging.shares import remember_clipped
from sfr.recipe import load_recipe
from sfr.report import contact_sheet as contact_sheet_module
from sfr.report import write_report
from sfr.report.contact_sheet import contact_sheet
from sfr.run.names import ImageId, ModelId
from sfr.run.shards import Shard, write_shard
from sfr.run.tables import FAILURES, RANGES, SAMPLE, SPLIT, read_table, typed_columns, write_table
from sfr.run.workspace import Workspace
from sfr.target import read_values, target_of
from sfr.train.latest import outdate_heads, remember_settings
from sfr.train.output import CaseFiles

SCATTER = {
    "composite": 0.30, "entropy": 0.33, "mass": 0.24, "temperature": 0.26, "gauss3": 0.31,
    "gauss5": 0.30, "gauss10": 0.28, "structure3": 0.22, "structure5": 0.35, "structure10": 0.45,
}  # fmt: skip
SECRET = "/home/somebody/secret"


#: A scale that all galaxies set.
SCALE = {
    "reference_snapshot": 99,
    "galaxies": {
        "set_the_scale": 20,
        "in_the_sample": 20,
        "without_a_map": 0,
        "not_read": 0,
        "subhaloes_read": 1,
        "subhaloes_in_the_catalogue": 1,
        "share": 1.0,
    },
    "channels": {
        name: {"maximum": 0.0156, "unit": "Msun", "subhalo_id": 1}
        for name in ("entropy", "mass", "temperature")
    },
}


def make_sample(workspace, n_galaxies, snapshots, rng):
    rows = {name: [] for name in SAMPLE}
    base = -11.2 + 0.45 * rng.standard_normal(n_galaxies)
    mass = 10 ** (11.2 + 0.35 * rng.standard_normal(n_galaxies))
    for snapshot in snapshots:
        log_ssfr = base + 0.1 * rng.standard_normal(n_galaxies)
        ssfr = np.where(np.arange(n_galaxies) % 17 == 3, 0.0, 10**log_ssfr)
        for galaxy in range(n_galaxies):
            row = dict.fromkeys(SAMPLE, 1)
            row |= {
                "snapshot": snapshot,
                "subhalo_id": 1000 + 37 * galaxy,
                "galaxy_id": galaxy,
                "redshift": 0.012 * (99 - snapshot),
                "total_mass_msun": float(mass[galaxy]),
                "ssfr_per_yr": float(ssfr[galaxy]),
                "sfr_msun_per_yr": float(ssfr[galaxy] * mass[galaxy]),
            }
            for name, value in row.items():
                rows[name].append(value)
    write_table(workspace, workspace.sample_csv, rows)
    return {name: np.array(column) for name, column in rows.items()}


def make_images(workspace, sample, rng, pixels):
    y, x = np.mgrid[-1 : 1 : pixels * 1j, -1 : 1 : pixels * 1j]
    for snapshot, subhalo_id in zip(sample["snapshot"], sample["subhalo_id"], strict=True):
        width, turn, wind = rng.uniform(0.15, 0.5), rng.uniform(0, 6.3), rng.uniform(2, 8)
        radius, angle = np.hypot(x, y), np.arctan2(y, x)
        arms = 1 + 0.7 * np.cos(2 * angle + wind * radius + turn)
        light = np.exp(-radius / width) * arms
        noise = 0.06 * rng.random((pixels, pixels))
        colours = [np.exp(-radius / 0.6) * 0.6 + noise, light + noise, 0.3 * arms * (radius < 0.8)]
        image = (255 * np.clip(np.stack(colours, -1), 0, 1)).astype(np.uint8)
        write_png(workspace, workspace.image(ImageId(int(snapshot), int(subhalo_id))), image)


def make_split(workspace, sample, rng, n_test):
    names = [
        ImageId(int(s), int(i)).filename
        for s, i in zip(sample["snapshot"], sample["subhalo_id"], strict=True)
    ]
    subset = np.array(["train"] * len(names), dtype="U10")
    candidates = np.flatnonzero(sample["ssfr_per_yr"] > 0)
    subset[rng.permutation(candidates)[:n_test]] = "test"
    columns = (names, subset, [str(g) for g in sample["galaxy_id"]], 0 * sample["snapshot"])
    table = dict(zip(SPLIT, (*columns, 0 * sample["snapshot"]), strict=True))
    write_table(workspace, workspace.split_csv, table)
    return np.array(names), subset


def make_head(workspace, case, seed, table, *, weights="random", dead=False, target=None):
    """Write what `sfr train` leaves of one network."""
    test = table["subset"] == "test"
    truth, prediction = table["truth"][test], table["prediction"][test]
    difference = prediction - truth
    some = not dead and len(truth) >= 3
    median = np.median(difference)
    metrics = {
        "r": float(np.corrcoef(truth, prediction)[0, 1]) if some else None,
        "spearman": 0.5 if some else None,
        "r2": float(1 - np.mean(difference**2) / np.var(truth)) if len(truth) > 1 else None,
        "rmse": float(np.sqrt(np.mean(difference**2))),
        "bias": float(difference.mean()),
        "nmad": float(1.4826 * np.median(np.abs(difference - median))),
        # as an older version computed it
        "outlier_fraction": 0.0625,
        "n": len(truth),
        "dead": dead,
        "weights": weights,
        "seed": seed,
        "case": case,
        "n_train": int((table["subset"] == "train").sum()),
        "n_validation": 0,
        "n_dropped_zero": 4,
        "epochs": 60,
        "backbone": "VGG16",
        "recipe": "demo",
    }
    if target is not None:
        # older versions did not say it
        metrics |= {"label": target.text, "unit": target.error_unit}
    epoch = np.arange(1, 61)
    loss = 0.2 + 4 * np.exp(-epoch / 8.0) * (1 + 0.1 * np.sin(epoch * (seed + 1)))
    add_head(workspace, case, seed, table, metrics, losses=loss)


def make_predictions(sample, names, subset, scatter, rng, *, dead=False):
    forming = sample["ssfr_per_yr"] > 0
    truth = np.log10(1e15 * sample["ssfr_per_yr"][forming])
    prediction = truth.mean() + 0.8 * (truth - truth.mean())
    prediction += scatter * rng.standard_normal(truth.size)
    columns = {
        "filename": names[forming],
        "snapshot": sample["snapshot"][forming],
        "subhalo_id": sample["subhalo_id"][forming],
        "galaxy_id": sample["galaxy_id"][forming],
        "subset": subset[forming],
        "truth": truth,
        "prediction": np.zeros_like(truth) if dead else prediction,
    }
    return columns


def make_folder(
    root,
    *,
    cases=tuple(SCATTER),
    seeds=1,
    dead=(),
    n_galaxies=40,
    snapshots=(97, 98, 99),
    n_test=30,
    weights="random",
    pixels=32,
    images=True,
):
    """Make a run's folder as the steps before the report leave it."""
    rng = np.random.default_rng(5)
    workspace = Workspace(root)
    sample = make_sample(workspace, n_galaxies, snapshots, rng)
    names, subset = make_split(workspace, sample, rng, n_test)
    if images:
        make_images(workspace, sample, rng, pixels)
    for case in cases:
        for seed in range(seeds):
            gone = (case, seed) in dead
            table = make_predictions(sample, names, subset, SCATTER[case], rng, dead=gone)
            make_head(workspace, case, seed, table, weights=weights, dead=gone)
    write_table(
        workspace,
        workspace.by_snapshot_csv,
        {
            "snapshot": list(snapshots), "redshift": [0.0213, 0.009, 0.0][-len(snapshots) :],
            "n": [n_galaxies] * len(snapshots), "mean_ssfr": [5.684e-12] * len(snapshots),
            "published_n": [713] * len(snapshots),
            "published_mean_ssfr": [None] * len(snapshots),
        },
    )  # fmt: skip
    reasons = [f"chunk {SECRET}/snap_099.3.hdf5 is short", "no gas in frame", "no gas in frame"]
    failures = dict(
        zip(FAILURES, ([5, 6, 7], [0, 0, 0], ["read", "frame", "frame"], reasons), strict=True)
    )
    write_table(workspace, workspace.failures_csv(snapshots[-1]), failures)
    workspace.write_json(workspace.normalisation_json, SCALE)
    return workspace


@pytest.fixture
def demo():
    return load_recipe("demo")


@pytest.fixture
def small(tmp_path, demo):
    """A folder with two cases of one seed."""
    return make_folder(tmp_path / "run", cases=("composite", "mass"), n_galaxies=12, n_test=9)


@pytest.fixture
def quick(tmp_path):
    """A folder with one case and no images, so no contact sheets are drawn."""
    return make_folder(tmp_path / "run", cases=("mass",), n_galaxies=9, n_test=6, images=False)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def page_of(summary):
    return summary.index.read_text("utf-8")


def cases_of(summary):
    with (summary.index.parent / "tables" / "cases.csv").open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def test_report_of_all_cases_links_only_to_files_beside_it(tmp_path, demo):
    workspace = make_folder(tmp_path / "run", seeds=2, dead={("entropy", 0), ("entropy", 1)})
    seen = []
    summary = write_report(
        workspace, demo, on_progress=lambda label, done, total: seen.append((label, done, total))
    )
    page = page_of(summary)
    links = set(re.findall(r'(?:src|href)="([^"#]+)"', page))
    assert links >= {path.name for path in summary.figures}
    assert all((workspace.report / link).is_file() for link in links)
    assert "<script" not in page
    assert "@import" not in page
    assert summary.n_cases == 10
    assert summary.missing == ()
    assert seen[-1] == ("figures", len(summary.figures), len(summary.figures))
    assert set(cases_of(summary)) == set(SCATTER)
    for name in ("montage_structure3.png", "case_gauss10.png", "predictions.png", "losses.png"):
        assert (workspace.report / name).read_bytes().startswith(b"\x89PNG")


def rows_of(summary, name):
    with (summary.index.parent / "tables" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_report_counts_images_and_galaxies_and_puts_the_cases_side_by_side(tmp_path, demo):
    """24 images of 8 galaxies stood there as N = 24."""
    cases = ("composite", "mass", "structure10")
    workspace = make_folder(tmp_path / "run", cases=cases, n_test=30, images=False)
    make_more_seeds(workspace, "mass", 2)
    recipe = demo.with_fields("cases", names=cases)
    summary = write_report(workspace, recipe)
    predictions = CaseFiles(workspace, "mass").read().predictions
    galaxies = len(set(predictions["galaxy_id"][predictions["subset"] == "test"].tolist()))
    assert galaxies < 30
    for row in cases_of(summary).values():
        assert (row["n_test"], row["n_galaxies"]) == ("30", str(galaxies))
        assert float(row["r_low"]) < float(row["r"]) < float(row["r_high"])
    compared = rows_of(summary, "comparison.csv")
    assert {row["case"] for row in compared} == set(cases)
    assert compared[0]["behind"] == "0.0"
    assert all((row["seeds"], row["n_galaxies"]) == ("0", str(galaxies)) for row in compared)
    behind = float(compared[1]["behind_low"]), float(compared[1]["behind_high"])
    assert behind[0] <= float(compared[1]["behind"]) <= behind[1]
    assert compared[1]["told_apart"] == str(behind[0] > 0)
    page = page_of(summary)
    assert f"30 test images of {galaxies} galaxies" in page
    assert "compared on seed 0, which all of them have alive" in page
    assert "One network a case" in page
    assert "these means are not like for like" in page


def make_more_seeds(workspace, case, seeds):
    """Add heads whose predictions are worse."""
    table = CaseFiles(workspace, case).read().predictions
    for seed in range(1, seeds):
        noise = np.random.default_rng(seed).standard_normal(table["truth"].size)
        make_head(workspace, case, seed, table | {"prediction": table["seed_0"] + noise})


def test_report_shows_no_heads_of_other_settings_in_its_figures(small, demo):
    """The tables left them out, the figures did not."""
    path = small.case("mass") / "metrics.json"
    (entry,) = json.loads(path.read_text())["heads"]
    small.write_json(path, {"heads": [entry | {"settings": "now"}]})
    remember_settings(small, "now")
    summary = write_report(small, demo)
    assert summary.n_cases == 1
    assert cases_of(summary)["composite"]["status"] == "out of date"
    names = {path.name for path in summary.figures}
    assert "case_mass.png" in names
    assert "case_composite.png" not in names
    page = page_of(summary)
    # the banner, the sentence, the table of cases and the list of networks
    assert page.count("ut of date") == 4
    assert "dead</td>" not in page
    outdate_heads(small)
    with pytest.raises(DataMissingError, match="that is current"):
        write_report(small, demo)


def test_report_of_other_channels_shows_one_of_them(small, tmp_path):
    path = tmp_path / "r.toml"
    channels = ", ".join(f'{{ name = "{name}", field = "mass" }}' for name in ("a", "b", "c"))
    path.write_text(f'extends = "demo"\n[maps]\nchannels = [{channels}]\n')
    scale = {name: SCALE["channels"]["mass"] for name in ("a", "b", "c")}
    small.write_json(small.normalisation_json, SCALE | {"channels": scale})
    summary = write_report(small, load_recipe(path))
    shown = [path.name for path in summary.figures if path.name.startswith("montage")]
    assert shown == [
        "montage_composite.png", "montage_a.png", "montage_gauss10.png", "montage_structure3.png"
    ]  # fmt: skip
    assert "mass" not in cases_of(summary), "it is no channel of this recipe"


def test_report_of_the_same_folder_has_the_same_bytes_and_no_paths(small, demo, monkeypatch):
    recipe = demo.with_fields("train", weights=f"{SECRET}/vgg16.h5")
    recipe = recipe.with_fields("cases", names=["composite", "mass"])
    write_report(small, recipe)
    first = contents(small.report)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    write_report(small, recipe)
    assert contents(small.report) == first
    everything = b"".join(path.read_bytes() for path in small.report.rglob("*") if path.is_file())
    assert b"somebody" not in everything
    assert str(small.root).encode() not in everything
    assert b"Software" not in everything
    assert b"vgg16.h5" in everything


def test_report_says_what_is_not_trained_and_removes_pictures_of_other_cases(quick, demo):
    quick.report.mkdir()
    for name in ("case_gauss3.png", "mine.png"):
        (quick.report / name).write_bytes(b"old")
    summary = write_report(quick, demo)
    assert summary.missing == tuple(name for name in SCATTER if name != "mass")
    assert "Not trained: composite, entropy" in page_of(summary)
    assert not (quick.report / "case_gauss3.png").exists()
    assert (quick.report / "mine.png").exists()
    row = cases_of(summary)["gauss3"]
    assert (row["status"], row["r"], row["rmse"]) == ("not trained", "", "")


def test_report_without_a_trained_case_names_the_command(tmp_path, demo):
    workspace = make_folder(tmp_path / "run", cases=(), n_galaxies=4, n_test=1)
    with pytest.raises(DataMissingError, match="sfr train --all-cases"):
        write_report(workspace, demo)
    assert not workspace.report.exists()


@pytest.mark.parametrize("n_test", [1, 2, 3, 4])
def test_report_of_few_test_images_has_no_nan(tmp_path, demo, n_test):
    workspace = make_folder(
        tmp_path / "run",
        cases=("mass",),
        n_galaxies=6,
        snapshots=(99,),
        n_test=n_test,
        images=False,
    )
    summary = write_report(workspace, demo)
    assert not re.search(r"\bnan\b", page_of(summary), re.IGNORECASE)
    assert (cases_of(summary)["mass"]["r"] == "") == (n_test < 3)


def test_report_of_dead_heads_only_says_dead(tmp_path, demo):
    dead = {(case, 0) for case in ("composite", "mass", "gauss3")}
    workspace = make_folder(
        tmp_path / "run",
        cases=("composite", "mass", "gauss3"),
        dead=dead,
        n_galaxies=9,
        n_test=6,
        images=False,
    )
    summary = write_report(workspace, demo)
    assert "dead" in summary.headline
    assert cases_of(summary)["mass"]["status"] == "dead"
    assert '<td class="word">dead</td>' in page_of(summary)
    assert not re.search(r"\bnan\b", page_of(summary), re.IGNORECASE)


def test_report_shows_the_first_seed_that_is_alive_and_averages_without_the_dead(tmp_path, demo):
    workspace = make_folder(
        tmp_path / "run",
        cases=("mass",),
        seeds=3,
        dead={("mass", 0)},
        n_galaxies=12,
        n_test=9,
        images=False,
    )
    summary = write_report(workspace, demo)
    r = [
        CaseFiles(workspace, "mass").read().metrics[ModelId("mass", seed=seed)]["r"]
        for seed in (1, 2)
    ]
    row = cases_of(summary)["mass"]
    assert float(row["r"]) == pytest.approx(np.mean(r))
    assert (row["seeds"], row["dead"]) == ("3", "1")
    assert "mass, seed 1." in page_of(summary)


@pytest.mark.parametrize(
    ("weights", "recipe", "expected"),
    [
        ("random", "thesis", ["Random backbone weights"]),
        ("imagenet", "thesis", []),
        ("imagenet", "demo", ["Demonstration recipe"]),
    ],
)
def test_report_warns_of_what_is_no_science(tmp_path, weights, recipe, expected):
    workspace = make_folder(
        tmp_path / "run", cases=("mass",), n_galaxies=5, n_test=3, weights=weights, images=False
    )
    experiment = load_recipe(recipe).with_fields("cases", names=["mass"])
    page = page_of(write_report(workspace, experiment))
    assert re.findall(r'role="note"><strong>([^<]+)\.</strong>', page) == expected
    assert 'id="images"' not in page


def test_report_warns_of_a_mock_simulation(quick, demo):
    shard = Shard(
        np.zeros((0, 3, 8, 8), np.float32), {}, {}, {"simulation": "L35n2000MOCK40_physical_1"}
    )
    write_shard(quick, quick.shard(98, 0), shard)
    page = page_of(write_report(quick, demo))
    assert "<strong>Mock simulation.</strong>" in page
    assert "<dd>L35n2000MOCK40_physical_1</dd>" in page


def test_a_report_on_float_maps_that_were_not_copied_along_has_no_montages(small):
    recipe = load_recipe("corrected")
    names = [path.name for path in write_report(small, recipe).figures]
    assert not [name for name in names if name.startswith("montage")]


def test_report_says_how_much_of_the_maps_is_empty_out_of_range_or_clipped(quick, demo):
    recipe = load_recipe("corrected")
    scale = range_normalisation(recipe.maps.channels, ["unit <K>", "unit m", "unit T"])
    quick.write_json(quick.normalisation_json, scale.document)
    limits = zip(recipe.channels, scale.ranges, strict=True)
    rows = [(7, 0, name, *pair, 0.125, 0.0, 0.25) for name, pair in limits]
    write_table(quick, quick.ranges_csv(99), typed_columns(RANGES, rows))
    remember_clipped(quick, "structure3", "key", 0, [0.02])
    page = page_of(write_report(quick, recipe))
    section = page[page.index('id="ranges"') : page.index('id="settings"')]
    for text in ("3.5 to 7", "12.50", "25.00", "unit &lt;K&gt;", "gain of 4", "structure3 2.00"):
        assert text in section
    quick.normalisation_json.unlink()
    assert 'id="ranges"' not in page_of(write_report(quick, demo))


def test_report_escapes_what_it_did_not_write(quick, demo):
    failures = {"subhalo_id": [1], "view": [0], "stage": ["read"], "reason": ["<b>bad</b> & worse"]}
    write_table(quick, quick.failures_csv(99), failures)
    page = page_of(write_report(quick, demo))
    assert "&lt;b&gt;bad&lt;/b&gt; &amp; worse" in page


def test_report_ignores_the_users_matplotlib_settings_and_leaves_them(quick, demo):
    import matplotlib as mpl

    write_report(quick, demo)
    first = contents(quick.report)
    with mpl.rc_context({"font.size": 23, "axes.grid": True, "savefig.transparent": True}):
        write_report(quick, demo)
        assert mpl.rcParams["font.size"] == 23
    assert contents(quick.report) == first


# -- contact sheets ----------------------------------------------------------------------------


def drawn_labels(monkeypatch):
    """Record the labels of the tiles in place of drawing them."""
    labels = []

    def sheet(tiles, *_):
        labels.extend(label for _, label in tiles)
        return b"png"

    monkeypatch.setattr(contact_sheet_module, "_sheet", sheet)
    return labels


def test_a_contact_sheet_of_a_run_that_may_only_be_read(small, demo, tmp_path, monkeypatch):
    folders = [small.root, *(path for path in small.root.rglob("*") if path.is_dir())]
    before = [path.stat().st_mtime_ns for path in folders]
    assert contact_sheet(small, demo, path=tmp_path / "out" / "sheet.png", count=5).is_file()
    assert [path.stat().st_mtime_ns for path in folders] == before

    def save(workspace, path, data):
        raise PermissionError(errno.EROFS, "Read-only file system", str(path))

    # who runs the tests may be root, whom no permission stops
    monkeypatch.setattr(contact_sheet_module, "save", save)
    with pytest.raises(ConfigError, match=r"Read-only file system.*--out"):
        contact_sheet(small, demo, count=5)


def test_contact_sheet_is_written_where_asked_or_into_the_run(small, demo, tmp_path):
    elsewhere = tmp_path / "other" / "sheet.png"
    assert contact_sheet(small, demo, path=elsewhere, case="structure3", count=5) == elsewhere
    assert os.listdir(elsewhere.parent) == ["sheet.png"]  # noqa: PTH208
    inside = contact_sheet(small, demo, rows=1, columns=2)
    assert inside == small.root / "show-composite.png"
    assert inside.read_bytes().startswith(b"\x89PNG")


def test_contact_sheet_spreads_over_the_labels_and_takes_each_galaxy_once(small, demo, monkeypatch):
    labels = drawn_labels(monkeypatch)
    contact_sheet(small, demo, count=8)
    ids = [label.split()[1] for label in labels]
    assert len(set(ids)) == 8
    assert labels[0].endswith("SFR = 0")
    values = [float(label.split("=")[1].replace("\u2212", "-")) for label in labels[1:]]
    assert values == sorted(values)


def test_contact_sheet_shows_all_when_there_are_few(small, demo, monkeypatch):
    labels = drawn_labels(monkeypatch)
    contact_sheet(small, demo, count=1000)
    assert len(labels) == len(set(labels)) == 36


@pytest.mark.parametrize("order", ["label", "random", "id"])
def test_contact_sheet_of_a_subset_shows_only_its_images(small, demo, monkeypatch, order):
    labels = drawn_labels(monkeypatch)
    contact_sheet(small, demo, count=1000, subset="test", order=order)
    assert len(labels) == 9


def test_contact_sheet_order_random_depends_on_the_seed_only(small, demo, monkeypatch):
    sheets = []
    for seed in (1, 1, 2):
        labels = drawn_labels(monkeypatch)
        contact_sheet(small, demo, count=6, order="random", seed=seed)
        sheets.append(labels)
    assert sheets[0] == sheets[1] != sheets[2]


def test_contact_sheet_without_images_names_the_command(tmp_path, demo):
    workspace = make_folder(tmp_path / "run", cases=(), n_galaxies=3, n_test=1, images=False)
    with pytest.raises(DataMissingError, match="sfr render"):
        contact_sheet(workspace, demo)


@pytest.mark.parametrize("choice", [{"subset": "validation"}, {"snapshots": [12]}])
def test_contact_sheet_of_nothing_says_what_was_asked(small, demo, choice):
    with pytest.raises(EmptySelectionError, match=next(iter(choice))):
        contact_sheet(small, demo, **choice)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"rows": 0}, RangeError),
        ({"count": 0}, RangeError),
        ({"order": "colour"}, RangeError),
        ({"case": "blur"}, ConfigError),
    ],
)
def test_contact_sheet_refuses_impossible_options(small, demo, options, error):
    with pytest.raises(error, match=str(next(iter(options.values())))):
        contact_sheet(small, demo, **options)


@pytest.mark.parametrize("mass", ["total_code", "stellar_msun"])
def test_the_report_names_the_label_and_keeps_the_published_columns_to_theirs(quick, demo, mass):
    """Everything said sSFR [1/yr], which of two it was stood nowhere."""
    recipe = demo.with_fields("sample", ssfr_mass=mass)
    target = target_of(recipe)
    page = page_of(write_report(quick, recipe))
    assert page.count(target.name) > 8
    assert target.sentence.replace("'", "&#39;") in page
    other = {"total_code": "stellar-mass", "stellar_msun": "total-mass"}[mass]
    assert other not in page
    words = re.sub(r"<table.*?</table>|<pre.*?</pre>", "", page, flags=re.DOTALL)
    assert not re.search(r"(?<!-mass )sSFR(?!: )", words)
    table = (quick.report / "tables/by_snapshot.csv").read_text()
    assert ("published_mean_ssfr" in table) == target.is_published
    cases = (quick.report / "tables/cases.csv").read_text().splitlines()[1:]
    assert all(line.endswith(target.text) for line in cases)
    assert ("the published sample" in page) == target.is_published


def texts_of_figures(monkeypatch):
    """Record all that stands in each figure that is written."""
    texts = []
    write = Figure.savefig

    def look(figure, *args, **options):
        texts.append({item.get_text() for item in figure.findobj(Text)})
        write(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", look)
    return texts


def test_axes_of_figures_and_contact_sheets_name_the_label(small, demo, monkeypatch):
    texts = texts_of_figures(monkeypatch)
    for mass, symbol in (("total_code", "M$_{\\rm total}$"), ("stellar_msun", "M$_{\\rm stars}$")):
        texts.clear()
        recipe = demo.with_fields("sample", ssfr_mass=mass)
        contact_sheet(small, recipe)
        assert any(symbol in text for text in texts[0])
        write_report(small, recipe.with_fields("cases", names=["composite", "mass"]))
        labelled = [shown for shown in texts[1:] if any(symbol in text for text in shown)]
        assert len(labelled) == 7, "predictions, 2 cases, predicted, sample, 2 sheets"
        for text in set().union(*texts):
            is_rate = text == "log$_{10}$ SFR [M$_\\odot$ yr$^{-1}$]"
            assert "yr$^{-1}$" not in text or symbol in text or is_rate


#: Columns that give each target a spread, and what its report must and must not say.
OTHERS = {
    "age_gyr": ({"transform": "none", "unit": "Gyr"}, "RMSE<br>[Gyr]", "Gyr", "age_gyr [Gyr]"),
    "stellar_mass_msun": ({}, "RMSE<br>[dex]", "dex", "log$_{10}$ M$_{\\rm stars}$ [M$_\\odot$]"),
    "gas_fraction": ({"transform": "none"}, "RMSE<br></th>", "", "f$_{\\rm gas}$"),
}


def make_folder_of(root, recipe):
    """Make a run's folder with one case whose network predicts the recipe's target."""
    workspace = make_folder(root, cases=(), n_galaxies=24, n_test=20)
    rng, sample = np.random.default_rng(7), read_table(workspace.sample_csv, SAMPLE)
    n = sample["snapshot"].size
    sample |= {name: 10 ** rng.uniform(9, 11, n) for name in ("stellar_mass_msun", "gas_mass_msun")}
    write_table(workspace, workspace.sample_csv, sample | {"age_gyr": rng.uniform(1, 9, n)})
    target = target_of(recipe)
    _, values = read_values(workspace, target)
    split = read_table(workspace.split_csv, SPLIT)
    table = {name: sample[name] for name in ("snapshot", "subhalo_id", "galaxy_id")}
    truth = target.label(values)
    table |= {"filename": split["filename"], "subset": split["subset"], "truth": truth}
    table["prediction"] = truth + 0.1 * np.ptp(truth) * rng.standard_normal(n)
    make_head(workspace, "mass", 0, table, target=target)
    return workspace, table, values


@pytest.mark.parametrize("column", OTHERS)
def test_a_report_on_another_target_spoke_of_the_ssfr(tmp_path, demo, monkeypatch, column):
    fields, heading, unit, axis = OTHERS[column]
    recipe = demo.with_fields("target", column=column, **fields)
    recipe = recipe.with_fields("cases", names=["mass"])
    target = target_of(recipe)
    workspace, table, values = make_folder_of(tmp_path / "run", recipe)
    texts = texts_of_figures(monkeypatch)
    summary = write_report(workspace, recipe)
    page = page_of(summary)
    everything = [page, *set().union(*texts), *(path.read_text() for path in summary.tables)]
    assert not [text for text in everything if "sSFR" in text]
    assert "SFR = 0" not in page
    assert heading in page
    assert f"What images of gas say about {target.name}" in page
    assert page.count(target.name) > 8
    assert ("dex" in page.replace("index", "")) == target.is_log
    assert ("Difference of the logarithms" in page) == target.is_log
    assert sum(any(text.endswith(axis) for text in shown) for shown in texts) >= 5, (
        "predictions, a case, both distributions, a sheet"
    )
    row, by_snapshot = cases_of(summary)["mass"], rows_of(summary, "by_snapshot.csv")
    test = table["subset"] == "test"
    difference = (table["prediction"] - table["truth"])[test]
    assert float(row["rmse"]) == pytest.approx(np.sqrt(np.mean(difference**2)))
    assert (row["unit"], row["label"]) == (unit, target.text)
    assert row["outlier_limit"] == ("0.5" if target.is_log else "")
    assert float(by_snapshot[0]["mean"]) == pytest.approx(values[table["snapshot"] == 99].mean())
    assert not any("published" in name for name in by_snapshot[0])


def test_networks_of_another_target_were_reported_as_this_one(tmp_path, demo):
    one = demo.with_fields("target", column="age_gyr", transform="none", unit="Gyr")
    workspace, *_ = make_folder_of(tmp_path / "run", one.with_fields("cases", names=["mass"]))
    for other in (demo, one.with_fields("target", transform="log10")):
        with pytest.raises(DataMissingError, match="no trained case"):
            write_report(workspace, other)


def test_a_scale_that_a_part_of_the_galaxies_set_is_told(quick, demo):
    assert "20 of 20 galaxies of snapshot 99" in page_of(write_report(quick, demo))
    galaxies = {**SCALE["galaxies"], "set_the_scale": 19, "not_read": 1, "share": 0.95}
    quick.write_json(quick.normalisation_json, {**SCALE, "galaxies": galaxies})
    page = page_of(write_report(quick, demo))
    assert "The scale of the images is that of a part." in page
    assert page.count("19 of 20 galaxies of snapshot 99") == 2
