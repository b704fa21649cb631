"""Maps with their scales and units, as ``sfr map`` draws them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfr.errors import ShapeError
from sfr.plot.matplotlib_import import Axes, Colormap, Figure, LogNorm, Normalize, colormaps
from sfr.plot.style import as_png, grid, say

__all__ = ["field_colours", "map_figure"]

Floats = NDArray[np.float64]

_COLUMNS: Final = 4
#: Letters in a line beside a colour bar.
_BAR_LETTERS: Final = 34
#: Colour map of each quantity, the same in every figure.
_FIELD_COLOURS: Final = {
    "mass": "viridis",
    "surface_density": "viridis",
    "density": "cividis",
    "electron_density": "YlGnBu_r",
    "temperature": "inferno",
    "internal_energy": "inferno",
    "entropy": "plasma",
    "entropy_k_cm2": "plasma",
    "entropy_code": "plasma",
    "metallicity": "magma",
    "sfr": "YlOrRd_r",
    "speed": "cool",
    "magnetic_field": "copper",
    "dark_matter_mass": "bone",
    "dark_matter_surface_density": "bone",
}


def field_colours(field: str) -> str:
    """Name the colour map of a quantity, or of its logarithm; grey for one that is not known."""
    return _FIELD_COLOURS.get(field.removeprefix("log10_"), "gray")


@as_png
def map_figure(
    maps: ArrayLike,
    names: Sequence[str],
    units: Sequence[str],
    width_ckpc_h: float,
    title: str = "",
    *,
    fields: Sequence[str] | None = None,
    rgb: NDArray[np.uint8] | None = None,
    bin_scale: float = 1.0,
) -> Figure:
    """Draw each channel of a galaxy's maps, and its RGB image if given.

    A channel is drawn on a logarithmic scale when it is positive and spans more than a factor of
    30, else on a linear one. Pixels that are 0 or not finite hold no gas and are left blank.

    Parameters
    ----------
    maps : array_like of float, shape (C, y, x)
        Maps, y upwards [units: ``units``].
    names, units : sequence of str
        Name of each channel, and what its pixels are with their unit.
    width_ckpc_h : float
        Width of the frame [ckpc/h].
    title : str
        Title of the figure.
    fields : sequence of str, optional
        Quantity of each channel, which decides its colours; by default the channels' names.
    rgb : ndarray of uint8, shape (y, x, 3), optional
        Composite image, row 0 at the top.
    bin_scale : float
        Factor on the pixel index (recipe ``maps.bin_scale``): below 1 the last pixels lie beyond
        the frame.

    Returns
    -------
    bytes
        The PNG.

    Raises
    ------
    ShapeError
        ``maps`` is not three-dimensional, or ``names``, ``units`` or ``fields`` have another
        length.
    """
    stack = np.asarray(maps, np.float64)
    if stack.ndim != 3:
        raise ShapeError(f"maps has shape {stack.shape}; allowed: (channel, y, x)")
    fields = names if fields is None else fields
    if not len(names) == len(units) == len(fields) == len(stack):
        raise ShapeError(
            f"maps has {len(stack)} channels, names {len(names)}, units {len(units)}, fields "
            f"{len(fields)}; give one each"
        )
    low, high = -width_ckpc_h / 2, width_ckpc_h / bin_scale - width_ckpc_h / 2
    extent = (low, high, low, high)
    count = len(stack) + (rgb is not None)
    figure, panels = grid(count, columns=_COLUMNS, size=(3.6, 3.2), sharex=True, sharey=True)
    for place, (axes, values) in enumerate(zip(panels, stack, strict=False)):
        _channel_panel(figure, axes, values, extent, field_colours(fields[place]), units[place])
        axes.set_title(names[place])
    if rgb is not None:
        panels[-1].imshow(rgb, origin="upper", extent=extent)
        panels[-1].set_title("composite")
    for axes in panels:
        axes.set_xlabel("x [ckpc/h]")
        axes.spines[:].set_visible(True)
        if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            axes.set_ylabel("y [ckpc/h]")
    # a name of a file is no formula
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", parse_math=False)
    return figure


def _channel_panel(
    figure: Figure,
    axes: Axes,
    values: Floats,
    extent: tuple[float, float, float, float],
    colours: str,
    unit: str,
) -> None:
    shown = np.ma.masked_where(~np.isfinite(values) | (values == 0), values)
    colour_map: Colormap = colormaps[colours].with_extremes(bad="#d9dce1")
    picture = axes.imshow(
        shown,
        origin="lower",
        extent=extent,
        cmap=colour_map,
        norm=_scale(shown.compressed()),
        interpolation="nearest",
    )
    if shown.count() == 0:
        say(axes, "no gas in the frame")
        return
    bar = figure.colorbar(picture, ax=axes, shrink=0.9, pad=0.02)
    bar.set_label(_in_lines(unit))
    bar.outline.set_visible(False)


def _in_lines(unit: str) -> str:
    """Break a long text beside a colour bar, but not the unit at its end."""
    words, bracket, last = unit.partition(" [")
    whole = words + bracket.replace(" ", "\u00a0") + last.replace(" ", "\u00a0")
    return textwrap.fill(whole, _BAR_LETTERS, break_long_words=False, break_on_hyphens=False)


def _scale(values: Floats) -> Normalize:
    """Choose the colour scale of a map; a few extreme pixels do not set it."""
    if values.size == 0:
        return Normalize(0.0, 1.0)
    low, high = (float(v) for v in np.percentile(values, [0.5, 99.9]))
    if values.min() > 0 and high > 30 * low:
        return LogNorm(max(low, high * 1e-6), high)
    if low == high:
        low, high = low - 0.5 * abs(low), high + 0.5 * abs(high)
    return Normalize(low, high)
