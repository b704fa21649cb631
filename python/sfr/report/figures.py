"""The figures of the report; each function returns one PNG."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sfr.plot.matplotlib_import import (
    Axes,
    Figure,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
)
from sfr.plot.style import BLUE, GREY, INK, ORANGE, as_png, density, grid, say
from sfr.report.results import CaseResult, Head
from sfr.report.tables import CaseRow
from sfr.run.tables import Table
from sfr.target import Target, escaped
from sfr.train.evaluate import FEWEST_IMAGES

__all__ = [
    "case_figure",
    "loss_figure",
    "mass_figure",
    "predicted_figure",
    "prediction_figure",
    "r_figure",
    "residual_figure",
    "sample_figure",
]

Floats = NDArray[np.float64]
Limits = tuple[float, float]

_COLUMNS: Final = 5
#: Axis of labels where there is none.
_NOTHING: Final = (-12.0, -10.0)
_EMPTY: Final = np.zeros(0)


@as_png
def r_figure(
    rows: Sequence[CaseRow], colours: Mapping[str, str], behind: Collection[str] = ()
) -> Figure:
    """Draw Pearson's r with its 95 % interval, one row a case or control.

    Cases that are behind, or not ahead of, a control are marked.
    """
    figure = Figure(figsize=(7.2, 0.36 * len(rows) + 1.3))
    axes = figure.subplots()
    drawn_r = [value for row in rows for value in (row.r, row.r_low, *row.seed_r)]
    low = min([0.0, *(value for value in drawn_r if value is not None)])
    for place, row in enumerate(rows):
        _r_row(axes, place, row, low, colours[row.case])
    names = [f"{row.case} \u2020" if row.case in behind else row.case for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(low - 0.04, 1.02)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    ring = ", ring: one seed" if any(len(row.seed_r) > 1 for row in rows) else ""
    mark = "\n\u2020: not ahead of the best control" if behind else ""
    axes.set_xlabel(f"Pearson r of the test images (bar: 95 % interval{ring}){mark}")
    return figure


def _r_row(axes: Axes, place: int, row: CaseRow, low: float, colour: str) -> None:
    if row.r is None:
        axes.text(max(low, 0.0) + 0.01, place, row.status, va="center", color=GREY, style="italic")
        return
    if row.r_low is not None and row.r_high is not None:
        axes.plot([row.r_low, row.r_high], [place, place], color=colour, lw=2.5, alpha=0.45)
    axes.plot([row.r], [place], "o", color=colour, ms=8)
    if len(row.seed_r) > 1:
        axes.plot(row.seed_r, [place] * len(row.seed_r), "o", mfc="white", mec=colour, ms=4)


@as_png
def prediction_figure(results: Sequence[CaseResult], target: Target) -> Figure:
    """Draw predicted against true label, one panel a case, coloured by the density of points."""
    limits = _limits([result.shown for result in results], target)
    figure, panels = grid(
        len(results), columns=_COLUMNS, size=(2.45, 2.45), sharex=True, sharey=True
    )
    for axes, result in zip(panels, results, strict=True):
        _prediction_panel(axes, result.shown, limits, size=9.0)
        axes.set_title(result.name)
    figure.supxlabel(f"true {target.axis}", fontsize=11)
    figure.supylabel(f"predicted {target.axis}", fontsize=11)
    return figure


@as_png
def residual_figure(
    results: Sequence[CaseResult], colours: Mapping[str, str], target: Target
) -> Figure:
    """Draw the histogram of the differences of the labels, one panel a case."""
    reach = _reach([result.shown for result in results], target)
    figure, panels = grid(len(results), columns=_COLUMNS, size=(2.45, 2.1), sharex=True)
    for axes, result in zip(panels, results, strict=True):
        _residual_panel(axes, result.shown, reach, colours[result.name], target)
        axes.set_title(result.name)
    figure.supxlabel(target.difference_axis, fontsize=11)
    figure.supylabel("test images", fontsize=11)
    return figure


@as_png
def case_figure(result: CaseResult, colour: str, target: Target) -> Figure:
    """Draw one case in large: predicted against true, and the histogram of the differences."""
    head = result.shown
    figure = Figure(figsize=(10.4, 4.9))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1))
    _prediction_panel(left, head, _limits([head], target), size=22.0)
    left.set_xlabel(f"true {target.axis}")
    left.set_ylabel(f"predicted {target.axis}")
    left.set_title(f"{result.name}, seed {head.seed}")
    _residual_panel(right, head, _reach([head], target), colour, target)
    right.set_xlabel(target.difference_axis)
    right.set_ylabel("test images")
    right.set_title(target.difference)
    return figure


def _limits(heads: Sequence[Head], target: Target) -> Limits:
    """Find the range of both axes; dead heads sit far outside and do not set it."""
    alive = [head for head in heads if not head.dead] or list(heads)
    values = np.concatenate([head.truth for head in heads] + [head.prediction for head in alive])
    if values.size == 0:
        return _NOTHING
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low) + max(0.0, _least_width(values, target) - (high - low)) / 2
    return low - margin, high + margin


def _least_width(values: Floats, target: Target) -> float:
    """Width below which an axis of labels shows noise as if it were something."""
    return 0.5 if target.is_log else 0.02 * float(np.abs(values).max(initial=0.0)) or 1.0


def _prediction_panel(axes: Axes, head: Head, limits: Limits, *, size: float) -> None:
    axes.set_xlim(limits)
    axes.set_ylim(limits)
    axes.set_aspect("equal")
    axes.grid()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    if head.dead:
        say(axes, "dead head:\none output for\nevery image")
        return
    axes.axline((limits[0], limits[0]), slope=1, color=GREY, lw=1, ls="--", zorder=1)
    _density_points(axes, head.truth, head.prediction, limits, limits, size=size)
    r = head.metrics.get("r")
    text = f"{head.truth.size} images of\n{head.n_galaxies} galaxies"
    text = f"{'r undefined' if r is None else f'r = {r:.3f}'}\n{text}"
    axes.text(0.04, 0.96, text, transform=axes.transAxes, va="top", fontsize=10)


def _density_points(
    axes: Axes, x: Floats, y: Floats, x_limits: Limits, y_limits: Limits, *, size: float
) -> None:
    shade = density(x, y, x_limits, y_limits)
    order = np.argsort(shade, kind="stable")
    # few points may be large, many must be small
    size *= float(np.clip(200 / max(1, x.size), 1.0, 3.0))
    axes.scatter(
        x[order], y[order], c=shade[order], s=size, cmap="viridis", vmin=0, vmax=1, lw=0, zorder=2
    )


def _reach(heads: Sequence[Head], target: Target) -> float:
    """Half width of the histograms of differences; long tails go into the last bins."""
    alive = [head for head in heads if not head.dead]
    values = np.concatenate([np.abs(head.prediction - head.truth) for head in alive] or [_EMPTY])
    if values.size == 0:
        return 1.0
    least = _least_width(np.concatenate([head.truth for head in alive]), target)
    return max(least, float(np.percentile(values, 99.0)) * 1.15)


def _residual_panel(axes: Axes, head: Head, reach: float, colour: str, target: Target) -> None:
    axes.set_xlim(-reach, reach)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    difference = head.prediction - head.truth
    if head.dead or difference.size == 0:
        axes.set_yticks([])
        say(axes, "dead head" if head.dead else "no test image")
        return
    edges = np.linspace(-reach, reach, _bins(difference.size) + 1)
    inside = np.clip(difference, -reach, reach)
    axes.hist(inside, edges.tolist(), color=colour, alpha=0.75)
    axes.axvline(0, color=GREY, lw=0.8)
    if difference.size < FEWEST_IMAGES:
        # they have no spread to speak of
        return
    mean, deviation = float(difference.mean()), float(difference.std())
    for line in (mean - deviation, mean + deviation):
        axes.axvline(line, color=INK, lw=1.1, ls="--")
    sigma = target.spread(deviation)
    axes.set_title(f"$\\sigma$ = {sigma}", loc="right", fontsize=9, fontweight="normal")


@as_png
def predicted_figure(
    sample_values: Floats,
    results: Sequence[CaseResult],
    colours: Mapping[str, str],
    target: Target,
) -> Figure:
    """Draw the true label of the whole sample and the predicted label of the test images."""
    truth = target.on_axis(sample_values)
    alive = [result.shown.prediction for result in results if not result.shown.dead]
    edges = _edges(np.concatenate([truth, *alive]), target)
    figure, panels = grid(
        len(results), columns=_COLUMNS, size=(2.45, 2.1), sharex=True, sharey=True
    )
    for axes, result in zip(panels, results, strict=True):
        _share(axes, truth, edges, GREY, label="true, whole sample", fill=True)
        if result.shown.dead:
            say(axes, "dead head", height=0.92)
        else:
            colour = colours[result.name]
            _share(axes, result.shown.prediction, edges, colour, label="predicted, test")
        axes.set_title(result.name)
    handles, labels = panels[_first_alive(results)].get_legend_handles_labels()
    labels = [
        label.replace("predicted, test", "predicted, test (coloured line)") for label in labels
    ]
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    figure.supxlabel(target.axis, fontsize=11)
    figure.supylabel("share of the images", fontsize=11)
    return figure


def _first_alive(results: Sequence[CaseResult]) -> int:
    return next((place for place, result in enumerate(results) if not result.shown.dead), 0)


def _share(
    axes: Axes, values: Floats, edges: Floats, colour: str, *, label: str, fill: bool = False
) -> None:
    counts, _ = np.histogram(values, edges)
    share = counts / max(1, counts.sum())
    alpha = 0.35 if fill else 1.0
    axes.stairs(share, edges, color=colour, fill=fill, alpha=alpha, lw=1.6, label=label)


def _bins(count: int) -> int:
    return int(np.clip(2 * np.sqrt(count), 10, 36))


def _edges(values: Floats, target: Target) -> Floats:
    if values.size == 0:
        return np.linspace(*_NOTHING, 11)
    low, high = float(values.min()), float(values.max())
    least = _least_width(values, target)
    pad = max(0.02 * (high - low), least / 2 if high - low < least else 0.0)
    return np.linspace(low - pad, high + pad, _bins(values.size) + 1)


@as_png
def sample_figure(sample_values: Floats, target: Target) -> Figure:
    """Draw the histogram of the sample's label; galaxies without one are counted."""
    figure = Figure(figsize=(6.4, 4.4))
    axes = figure.subplots()
    values = target.on_axis(sample_values)
    axes.hist(values, _edges(values, target).tolist(), color=BLUE, alpha=0.8)
    if values.size:
        median = float(np.median(values))
        axes.axvline(
            median,
            color=INK,
            lw=1.2,
            ls="--",
            label=f"median {target.digits(median)}".replace("-", "\u2212"),
        )
        axes.margins(y=0.16)
        axes.legend(loc="upper left")
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel(target.axis)
    axes.set_ylabel("galaxies and snapshots")
    title, zero = f"{sample_values.size} galaxies and snapshots", sample_values.size - values.size
    if target.is_log:
        title += f", {zero} of them with {escaped(target.zero_words)}"
    axes.set_title(title)
    return figure


@as_png
def mass_figure(sample: Table) -> Figure:
    """Draw the star formation rate against the total mass of the sample's galaxies."""
    mass = np.asarray(sample["total_mass_msun"], np.float64)
    sfr = np.asarray(sample["sfr_msun_per_yr"], np.float64)
    figure = Figure(figsize=(6.4, 4.4))
    axes = figure.subplots()
    forming = (sfr > 0) & (mass > 0)
    x, y = np.log10(mass[forming]), np.log10(sfr[forming])
    quiet = np.log10(mass[(sfr == 0) & (mass > 0)])
    if x.size:
        x_limits, y_limits = _padded(np.concatenate([x, quiet])), _padded(y)
        axes.set_xlim(x_limits)
        axes.set_ylim(y_limits)
        _density_points(axes, x, y, x_limits, y_limits, size=14.0)
    if quiet.size:
        axes.plot(
            quiet,
            np.full(quiet.size, 0.02),
            "|",
            color=ORANGE,
            transform=axes.get_xaxis_transform(),
            ms=9,
            label=f"{quiet.size} with SFR = 0",
        )
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, handletextpad=0.3)
    axes.grid()
    axes.set_xlabel("log$_{10}$ total mass [M$_\\odot$]")
    axes.set_ylabel("log$_{10}$ SFR [M$_\\odot$ yr$^{-1}$]")
    return figure


def _padded(values: Floats) -> Limits:
    low, high = float(values.min()), float(values.max())
    pad = 0.05 * (high - low) + (0.25 if high - low < 0.1 else 0.0)
    return low - pad, high + pad


@as_png
def loss_figure(results: Sequence[CaseResult], target: Target) -> Figure:
    """Draw the loss of every network against the epoch, one panel a case."""
    figure, panels = grid(
        len(results), columns=_COLUMNS, size=(2.45, 2.1), sharex=True, sharey=True
    )
    seen = set()
    for axes, result in zip(panels, results, strict=True):
        for history in (history for head in result.heads for history in head.histories):
            seen |= _loss_lines(axes, history)
        axes.set_title(result.name)
        axes.set_yscale("log")
        axes.grid()
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        if not axes.lines:
            say(axes, "no history")
    _plain_decades(panels[0])
    for name, colour in (("training", BLUE), ("validation", ORANGE)):
        if name in seen:
            panels[0].plot([], [], color=colour, label=name)
    if seen:
        figure.legend(loc="outside upper right", ncols=2)
    figure.supxlabel("epoch", fontsize=11)
    figure.supylabel(f"mean squared error{target.squared_unit}", fontsize=11)
    return figure


def _plain_decades(axes: Axes) -> None:
    """Label a logarithmic axis with plain numbers, between the decades only where there are few."""
    low, high = axes.get_ylim()
    between = (1.0, 2.0, 5.0) if high < 300 * low else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=between, numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _loss_lines(axes: Axes, history: Table) -> set[str]:
    epoch, drawn_names = np.asarray(history["epoch"]), set()
    for column, name, colour in (
        ("loss", "training", BLUE),
        ("validation_loss", "validation", ORANGE),
    ):
        values = np.asarray(history[column], np.float64)
        good = np.isfinite(values) & (values > 0)
        if good.any():
            marker = "o" if good.sum() == 1 else None
            axes.plot(epoch[good], values[good], color=colour, lw=1.1, alpha=0.8, marker=marker)
            drawn_names.add(name)
    return drawn_names
