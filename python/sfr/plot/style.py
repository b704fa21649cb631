"""One look for all figures, and PNGs whose bytes depend on nothing but what they show."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, ParamSpec

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sfr.plot.matplotlib_import import Axes, ConstrainedLayoutEngine, Figure, matplotlib
from sfr.recipe import Recipe

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "INK",
    "ORANGE",
    "PURPLE",
    "as_png",
    "case_colour",
    "density",
    "grid",
    "say",
]

# Okabe & Ito's palette: told apart by readers with any kind of colour vision.
BLUE: Final = "#0072B2"
ORANGE: Final = "#D55E00"
GREEN: Final = "#009E73"
PURPLE: Final = "#AA4499"
GREY: Final = "#7a7f87"
INK: Final = "#22262b"

_STYLE: Final[dict[str, Any]] = {
    "figure.dpi": 144,
    "savefig.dpi": 144,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "axes.unicode_minus": True,
}

P = ParamSpec("P")

log = logging.getLogger(__name__)


def as_png(build: Callable[P, Figure]) -> Callable[P, bytes]:
    """Turn a function that builds a figure into one that returns its PNG.

    The user's matplotlib settings are neither used nor changed; no software version and no time
    is written, so that the same data give the same bytes.
    """

    @functools.wraps(build)
    def draw(*args: P.args, **kwargs: P.kwargs) -> bytes:
        with _our_settings():
            figure = build(*args, **kwargs)
            file = io.BytesIO()
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                figure.savefig(file, format="png", backend="agg", metadata={"Software": None})
        _pass_on(said)
        return file.getvalue()

    return draw


def _pass_on(said: Sequence[warnings.WarningMessage]) -> None:
    """Say in words what the font lacks, and once for all figures; leave other warnings alone."""
    for each in said:
        glyph = re.match(r"Glyph (\d+) ", str(each.message))
        if glyph:
            _say_missing(chr(int(glyph[1])))
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


@functools.cache
def _say_missing(letter: str) -> None:
    log.warning(
        "figures show a box for the letter %s, which their font (%s) has not; files and tables "
        "have it",
        letter,
        _STYLE["font.family"],
    )


@contextlib.contextmanager
def _our_settings() -> Iterator[None]:
    """Draw with matplotlib's defaults and our style; ``matplotlib.style`` reads the user's, too."""
    with matplotlib.rc_context():
        with warnings.catch_warnings():
            # of settings that a later matplotlib will not have
            warnings.simplefilter("ignore")
            settings: Any = {**matplotlib.rcParamsDefault, **_STYLE}
            # the one that matplotlib does not put back; no figure here depends on it
            del settings["backend"]
            matplotlib.rcParams.update(settings)
        yield


def grid(
    count: int,
    *,
    columns: int,
    size: tuple[float, float],
    sharex: bool = False,
    sharey: bool = False,
) -> tuple[Figure, list[Axes]]:
    """Make a figure with a number of equal panels, filled row by row.

    Parameters
    ----------
    count : int
        Panels.
    columns : int
        Most panels in a row.
    size : tuple of float
        Width and height of one panel [inch].
    sharex, sharey : bool
        Whether the panels have one range.

    Returns
    -------
    tuple of Figure and list of Axes
        The panels that are used; the others of the last row are removed.
    """
    rows = -(-count // columns)
    columns = -(-count // rows)
    # a lone narrow panel leaves no room for the figure's title
    width = max(columns * size[0], 4.2)
    layout = ConstrainedLayoutEngine(w_pad=0.08)
    figure = Figure(figsize=(width, rows * size[1] + 0.5), layout=layout)
    axes = (
        figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey).ravel().tolist()
    )
    for unused in axes[count:]:
        unused.remove()
    for panel in axes[max(0, count - columns) : count]:
        panel.tick_params(labelbottom=True)
    return figure, axes[:count]


def say(axes: Axes, text: str, *, height: float = 0.5) -> None:
    """Write a few words into a panel that has nothing to show, at a height from 0 to 1."""
    axes.text(
        0.5,
        height,
        text,
        transform=axes.transAxes,
        ha="center",
        va="center",
        color=GREY,
        fontsize=11,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85},
    )


def case_colour(case: str, recipe: Recipe) -> str:
    """Return the colour of a case's family."""
    return {
        "composite": INK, "channel": BLUE, "gauss": GREEN, "structure": ORANGE, "band": PURPLE,
    }[recipe.case(case).family]  # fmt: skip


def density(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    x_limits: tuple[float, float],
    y_limits: tuple[float, float],
) -> NDArray[np.float64]:
    """Relative density of points at each point, 0 to 1, from a smoothed histogram.

    Unlike a kernel estimate it is defined for a single point and for points on a line.
    """
    bins = 64
    edges = [np.linspace(*limits, bins + 1) for limits in (x_limits, y_limits)]
    counts, _, _ = np.histogram2d(x, y, bins=edges)
    smooth = ndimage.gaussian_filter(counts, 1.5, mode="constant")
    places = [
        (values - low) * (bins / (high - low)) - 0.5
        for values, (low, high) in ((x, x_limits), (y, y_limits))
    ]
    found = ndimage.map_coordinates(smooth, places, order=1, mode="nearest")
    peak = found.max(initial=0.0)
    return np.asarray(found / peak if peak > 0 else found, np.float64)
