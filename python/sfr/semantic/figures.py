"""Figures of the semantic autoencoder; each function returns one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.plot.matplotlib_import import Axes, Figure, MaxNLocator
from sfr.plot.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, as_png, density, grid, say
from sfr.semantic.evaluate import Evaluation
from sfr.semantic.profile import NAMES

__all__ = ["error_figure", "examples_figure", "limit_figure", "recovered_figure", "size_figure"]

Floats = NDArray[np.floating[Any]]

_LABELS: Final = {
    "A": "A [coordinate]",
    "e": "e",
    "theta": "$\\theta$ [deg]",
    "x": "x [coordinate]",
    "y": "y [coordinate]",
    "amplitude": "amplitude",
    "n": "n",
}
_METHOD_COLOURS: Final = {
    "network": BLUE,
    "1 step": GREEN,
    "2 steps": PURPLE,
    "least squares": ORANGE,
}


@as_png
def examples_figure(
    data: Sequence[Floats], model: Sequence[Floats], titles: Sequence[str]
) -> Figure:
    """Draw data, model and residual, one galaxy a row, y upwards.

    Data and model of a row share their range; a residual's reaches four times its own scatter.
    """
    rows = len(data)
    figure = Figure(figsize=(6.6, 1.75 * rows + 0.4))
    panels = figure.subplots(rows, 3, squeeze=False)
    for axes, image, fitted, title in zip(panels, data, model, titles, strict=True):
        low = float(min(np.min(image), np.min(fitted)))
        high = float(max(np.max(image), np.max(fitted)))
        residual = image - fitted
        # squares of what is larger than 1e154 overflow
        largest = float(np.max(np.abs(residual))) or 1.0
        reach = 4 * float(np.std(residual / largest)) * largest or 1.0
        for panel, values, limits, colours in (
            (axes[0], image, (low, high), "viridis"),
            (axes[1], fitted, (low, high), "viridis"),
            (axes[2], residual, (-reach, reach), "RdBu_r"),
        ):
            shown = panel.imshow(
                values, origin="lower", cmap=colours, vmin=limits[0], vmax=limits[1]
            )
            panel.set_xticks([])
            panel.set_yticks([])
            figure.colorbar(shown, ax=panel, fraction=0.046, pad=0.03).locator = MaxNLocator(4)
        # a name of a file is no formula
        axes[0].set_title(title, fontsize=9, fontweight="normal", parse_math=False)
    for panel, name in zip(panels[0], ("data", "model", "data \u2212 model"), strict=True):
        panel.annotate(
            name, (0.5, 1.2), xycoords="axes fraction", ha="center", fontweight="bold", color=INK
        )
    return figure


@as_png
def recovered_figure(evaluation: Evaluation, method: str) -> Figure:
    """Draw recovered against true parameters, coloured by the density of points."""
    figure, panels = grid(len(evaluation.free), columns=4, size=(3.0, 3.1))
    for axes, name in zip(panels, evaluation.free, strict=True):
        truth, found = _pair(evaluation, method, name)
        limits = _range(truth)
        _points(axes, truth, found, limits, limits)
        axes.axline((limits[0], limits[0]), slope=1, color=GREY, lw=1, ls="--", zorder=1)
        axes.set_aspect("equal")
        axes.set_title(_LABELS[name])
    figure.supxlabel("true", fontsize=11)
    figure.supylabel(f"recovered, {method}, noise {evaluation.noise:g}", fontsize=11)
    figure.suptitle(_training(evaluation), fontsize=11)
    return figure


@as_png
def error_figure(evaluation: Evaluation, method: str) -> Figure:
    """Draw errors against the true A, with the Cramer-Rao bound in bins of A."""
    figure, panels = grid(len(evaluation.free), columns=2, size=(4.4, 2.7), sharex=True)
    scale = evaluation.truth[:, 0]
    for place, (axes, name) in enumerate(zip(panels, evaluation.free, strict=True)):
        off = evaluation.off(method)[:, place]
        reach = 1.15 * float(np.percentile(np.abs(off), 99)) or 1.0
        _points(axes, scale, off, _range(scale), (-reach, reach))
        centre, limit = _binned(scale, evaluation.bound[:, place])
        if evaluation.noise > 0:
            for sign in (-1, 1):
                axes.plot(
                    centre, sign * limit, color=ORANGE, lw=1.6, label="Cramer-Rao" * (sign > 0)
                )
        axes.axhline(0, color=GREY, lw=0.8)
        axes.set_title(f"error of {_LABELS[name]}")
    if evaluation.noise > 0:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right")
    figure.supxlabel(f"true {_LABELS['A']}", fontsize=11)
    figure.suptitle(_training(evaluation), fontsize=11)
    return figure


@as_png
def limit_figure(evaluations: Sequence[Evaluation]) -> Figure:
    """Draw rms errors over the Cramer-Rao bound against the noise, one line a method."""
    shown = [e for e in evaluations if e.noise > 0]
    free = evaluations[0].free
    figure, panels = grid(len(free), columns=4, size=(3.0, 2.8), sharex=True, sharey=True)
    for place, (axes, name) in enumerate(zip(panels, free, strict=True)):
        axes.set_title(_LABELS[name].split(" [")[0])
        axes.axhline(1, color=INK, lw=1, ls="--")
        if not shown:
            say(axes, "clean images\nhave no bound")
            continue
        for method in shown[0].found:
            ratio = [
                np.sqrt((e.off(method)[:, place] ** 2).mean() / (e.bound[:, place] ** 2).mean())
                for e in shown
            ]
            colour = _METHOD_COLOURS.get(method, GREY)
            axes.plot([e.noise for e in shown], ratio, "o-", color=colour, label=method, ms=5)
        axes.set_xscale("log")
        axes.set_xticks([e.noise for e in shown], [f"{e.noise:g}" for e in shown])
        axes.minorticks_off()
        axes.grid(axis="y")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=4)
    figure.supxlabel("noise a pixel", fontsize=11)
    figure.supylabel("rms error / bound", fontsize=11)
    figure.suptitle(_training(evaluations[0]), fontsize=11)
    return figure


@as_png
def size_figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw mean absolute errors of A, e and theta against the size of the published network."""
    figure, panels = grid(3, columns=3, size=(3.1, 2.9), sharex=True)
    # in the order of size, largest last; the sizes are evenly spaced, as labels
    sizes = sorted({row["size"] for row in rows}, key=_size_value)
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=_line_order):
        lines.setdefault(_line_label(row), []).append(row)
    noises = sorted({row["noise"] for row in rows})
    colours = (BLUE, GREEN, ORANGE, PURPLE, GREY, INK)
    for axes, name in zip(panels, NAMES[:3], strict=True):
        for label, line in lines.items():
            # seeds of a size count as one
            by_size = {size: [row[name] for row in line if row["size"] == size] for size in sizes}
            places = [k for k, size in enumerate(sizes) if by_size[size]]
            axes.plot(
                places,
                [np.mean(by_size[sizes[k]]) for k in places],
                "o-" if line[0]["target"] == "clean" else "s--",
                color=colours[noises.index(line[0]["noise"]) % len(colours)],
                label=label,
            )
        axes.set_xticks(range(len(sizes)), sizes)
        axes.set_ylim(0, 1.1 * max(row[name] for row in rows))
        axes.grid(axis="y")
        axes.set_title(_LABELS[name])
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    figure.supxlabel("size of the network", fontsize=11)
    figure.supylabel("mean absolute error", fontsize=11)
    return figure


def _training(evaluation: Evaluation) -> str:
    return f"network learned from {evaluation.learned_from}"


def _line_order(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["problem"], row["psf"], row["noise"], row["trained_noise"], row["target"]


def _line_label(row: dict[str, Any]) -> str:
    """Name a line of the figure of sizes by what is not as in the paper's study."""
    parts = [f"noise {row['noise']:g}", f"{row['target']} target"]
    if row["trained_noise"] != row["noise"]:
        parts.append(f"trained at {row['trained_noise']:g}")
    if row["problem"] != "paper":
        parts.append(row["problem"])
    if row["psf"] > 0:
        parts.append(f"PSF {row['psf']:g}")
    return ", ".join(parts)


def _size_value(size: str) -> float:
    return 1.0 / int(size.removeprefix("1/"))


def _pair(evaluation: Evaluation, method: str, name: str) -> tuple[Floats, Floats]:
    column = NAMES.index(name)
    return evaluation.truth[:, column], evaluation.found[method][:, column]


def _range(values: Floats) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    pad = 0.04 * (high - low) or 0.5
    return low - pad, high + pad


def _points(
    axes: Axes, x: Floats, y: Floats, x_limits: tuple[float, float], y_limits: tuple[float, float]
) -> None:
    inside = np.clip(y, *y_limits)
    shade = density(np.asarray(x, np.float64), inside.astype(np.float64), x_limits, y_limits)
    order = np.argsort(shade, kind="stable")
    axes.scatter(x[order], inside[order], c=shade[order], s=4, cmap="viridis", lw=0, zorder=2)
    axes.set_xlim(x_limits)
    axes.set_ylim(y_limits)
    axes.grid()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))


def _binned(x: Floats, values: Floats, bins: int = 16) -> tuple[Floats, Floats]:
    """Rms of values in equal bins of x; empty bins are left out."""
    edges = np.linspace(x.min(), x.max(), bins + 1)
    place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    square = np.bincount(place, np.asarray(values, np.float64) ** 2, minlength=bins)
    filled = count > 0
    centre = (edges[1:] + edges[:-1]) / 2
    return centre[filled], np.sqrt(square[filled] / count[filled])
