"""Maps as figures, and the parts that choose scales and colours."""

import io

import numpy as np
import pytest
from matplotlib.colors import LogNorm
from PIL import Image

from sfr.errors import ShapeError
from sfr.plot import maps as drawing
from sfr.plot import style
from sfr.plot.maps import _in_lines, _scale, map_figure
from sfr.plot.matplotlib_import import Figure
from sfr.plot.style import density
from sfr.report import figures
from sfr.report.figures import _prediction_panel, _residual_panel
from sfr.report.results import Head
from sfr.report.tables import CaseRow
from sfr.target import PUBLISHED
from sfr.train.evaluate import metrics

NAMES = ["entropy", "mass", "temperature"]
UNITS = [
    "sum over cells of K [keV cm^2]",
    "sum over cells of m [1e10 Msun/h]",
    "sum over cells of log10 T [K]",
]


@pytest.fixture
def maps():
    rng = np.random.default_rng(1)
    stack = rng.lognormal(0, 2, (3, 16, 16))
    stack[0, :4] = 0
    stack[1, 3, 3] = np.nan
    stack[2] = np.log10(stack[2])
    return stack.astype(np.float32)


def read(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_map_figure_adds_a_panel_for_the_composite(maps):
    plain = read(map_figure(maps, NAMES, UNITS, 60.0, "cutout"))
    rgb = np.full((16, 16, 3), (10, 200, 30), np.uint8)
    with_rgb = read(map_figure(maps, NAMES, UNITS, 60.0, "cutout", rgb=rgb))
    assert with_rgb.shape[1] > 1.2 * plain.shape[1]
    assert (with_rgb == (10, 200, 30)).all(axis=-1).any()


def test_map_figure_puts_y_upwards():
    stack = np.ones((1, 16, 16))
    stack[0, 12:, :4] = 100.0
    picture = read(map_figure(stack, ["mass"], ["Msun"], 60.0)).astype(int)
    yellow = np.argwhere(np.abs(picture - (253, 231, 37)).sum(-1) < 30)
    others = np.argwhere(np.abs(picture - (240, 249, 33)).sum(-1) < 30)
    found = yellow if len(yellow) > len(others) else others
    frame = found[found[:, 1] < picture.shape[1] / 2]
    assert np.median(frame[:, 0]) < picture.shape[0] / 2


@pytest.mark.parametrize("value", [0.0, np.nan, 3.0, -2.0])
def test_map_figure_of_one_value(value):
    stack = np.full((1, 8, 8), value)
    assert read(map_figure(stack, ["mass"], ["Msun"], 60.0, "flat")).size > 0


def test_map_figure_of_the_same_maps_has_the_same_bytes(maps):
    first, second = (map_figure(maps, NAMES, UNITS, 60.0, bin_scale=0.99) for _ in range(2))
    assert first == second


def test_map_figure_refuses_wrong_shapes(maps):
    with pytest.raises(ShapeError, match="maps"):
        map_figure(maps[0], NAMES, UNITS, 60.0)
    with pytest.raises(ShapeError, match="names"):
        map_figure(maps, NAMES[:2], UNITS, 60.0)


def test_scale_is_logarithmic_only_for_positive_wide_ranges():
    wide = np.geomspace(1e-3, 1e3, 100)
    assert isinstance(_scale(wide), LogNorm)
    assert not isinstance(_scale(np.linspace(3.8, 7.0, 100)), LogNorm)
    assert not isinstance(_scale(wide - 1.0), LogNorm)


def test_density_is_highest_where_points_are_dense_and_defined_for_one_point():
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.normal(0, 0.1, 500), rng.uniform(-3, 3, 100)])
    y = np.concatenate([rng.normal(0, 0.1, 500), rng.uniform(-3, 3, 100)])
    shade = density(x, y, (-4, 4), (-4, 4))
    assert shade.min() >= 0
    assert shade.max() == 1
    assert shade[:500].mean() > 5 * shade[500:].mean()
    assert density(np.zeros(1), np.zeros(1), (-1, 1), (-1, 1)).tolist() == [1]
    assert density(np.zeros(0), np.zeros(0), (-1, 1), (-1, 1)).size == 0


def test_map_figure_takes_a_file_name_for_no_formula(maps):
    assert read(map_figure(maps, NAMES, UNITS, 60.0, "cut$_{out\n[red]%.hdf5")).size


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1]])
def test_colours_of_a_map_go_with_its_field_not_with_its_place(monkeypatch, maps, order):
    """Temperature was drawn in the colours of entropy where it stood first."""
    used = []
    draw = drawing._channel_panel

    def look(figure, axes, values, extent, colours, unit):
        used.append((colours, unit))
        draw(figure, axes, values, extent, colours, unit)

    monkeypatch.setattr(drawing, "_channel_panel", look)
    chosen = [[list_[i] for i in order] for list_ in (NAMES, UNITS)]
    map_figure(
        maps[order],
        ["a", "b", "c"][: len(order)],
        chosen[1],
        60.0,
        fields=[{"temperature": "log10_temperature"}.get(name, name) for name in chosen[0]],
    )
    expected = dict(zip(UNITS, ["plasma", "viridis", "inferno"], strict=True))
    assert used == [(expected[unit], unit) for unit in chosen[1]]


def test_long_units_are_broken_before_their_bracket():
    text = _in_lines("log10 of the mass-weighted mean over cells of K [keV cm^2]")
    assert [line.replace("\u00a0", " ") for line in text.split("\n")] == [
        "log10 of the mass-weighted mean",
        "over cells of K [keV cm^2]",
    ]


@pytest.mark.parametrize(
    ("truth", "r", "spread"),
    [
        ([3.0], "r undefined", ""),
        ([3.0, 4.0], "r undefined", ""),
        ([3.0, 3.0, 3.0 + 4e-16], "r undefined", "$\\sigma$ = 0.19 dex"),
        ([3.0, 4.0, 3.5], "r = 0.922", "$\\sigma$ = 0.19 dex"),
    ],
)
def test_panels_say_what_does_not_exist(truth, r, spread):
    """A single image had a spread of 0.00 dex."""
    truth = np.array(truth)
    prediction = truth + np.array([0.0, 0.1, 0.45])[: truth.size]
    head = Head(0, metrics(truth, prediction), truth, prediction, truth.size, None)
    left, right = Figure().subplots(1, 2)
    _prediction_panel(left, head, (2.0, 5.0), size=9.0)
    _residual_panel(right, head, 1.0, "black", PUBLISHED)
    assert left.texts[0].get_text().startswith(r + "\n")
    assert right.get_title("right") == spread


@pytest.mark.parametrize(
    "row",
    [
        CaseRow("mass", "trained", r=-0.6),
        CaseRow("mass", "trained", r=0.2, seed_r=(-0.6, 1.0)),
        CaseRow("mass", "trained", r=0.2, r_low=-0.6, r_high=0.7),
    ],
)
def test_an_r_below_zero_was_outside_of_the_figure(monkeypatch, row):
    """Of a case without interval, or one seed of it."""
    limits = []
    draw = figures.Figure.savefig

    def look(figure, *args, **kwargs):
        limits.append(figure.axes[0].get_xlim())
        draw(figure, *args, **kwargs)

    monkeypatch.setattr(figures.Figure, "savefig", look)
    figures.r_figure([row, CaseRow("entropy", "trained", r=0.9)], {"mass": "k", "entropy": "k"})
    assert limits[0][0] < -0.6
    assert limits[0][1] > 1


def test_letters_that_the_font_lacks_were_lines_of_matplotlib(caplog):
    """Once for each letter, in words; names of channels may be in any script."""
    style._say_missing.cache_clear()
    rows = [CaseRow("\u6e29\u6e29", "trained", r=0.5), CaseRow("\u03c3", "trained", r=0.4)]
    for _ in range(2):
        figures.r_figure(rows, {row.case: "k" for row in rows})
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("figures show a box for the letter \u6e29, which their font (DejaVu")
