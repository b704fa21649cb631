"""Contact sheets: images of many galaxies side by side, with their label (`sfr.target`)."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from sfr.errors import ConfigError, DataMissingError, EmptySelectionError, RangeError
from sfr.imaging.cases import RGB
from sfr.imaging.inputs import Inputs, inputs_of
from sfr.plot.matplotlib_import import Axes, Figure, Rectangle
from sfr.plot.style import GREY, as_png
from sfr.recipe import Recipe
from sfr.report.files import save
from sfr.run.edited_tables import image_names, read_split
from sfr.run.names import ImageId
from sfr.run.tables import Table
from sfr.run.workspace import Workspace
from sfr.target import Target, read_values, target_of

__all__ = ["Order", "contact_sheet"]

#: ``label``: evenly spread over the range of labels, lowest first; ``random``: a seeded draw,
#: lowest label first; ``id``: the first by snapshot and subhalo.
Order = Literal["label", "random", "id"]

_NOTES: Final = {
    "label": "evenly spread over the range of {}, lowest first",
    "random": "drawn at random, lowest {} first",
    "id": "the first by snapshot and subhalo",
}
Floats = NDArray[np.float64]
_GAP: Final = 0.05
_LABEL: Final = 0.30


def contact_sheet(
    workspace: Workspace,
    recipe: Recipe,
    *,
    path: Path | None = None,
    case: str = "composite",
    rows: int = 4,
    columns: int = 6,
    count: int | None = None,
    order: Order = "label",
    subset: str | None = None,
    snapshots: Sequence[int] | None = None,
    seed: int = 0,
) -> Path:
    """Draw the images of some galaxies, labelled with snapshot, subhalo and target.

    Galaxies come once each as long as there are enough of them, not once per snapshot.

    Parameters
    ----------
    workspace : Workspace
        The run's folder, with a sample and images.
    recipe : Recipe
        The experiment; gives the width of the frame and the label.
    path : Path, optional
        The PNG to write; ``show-<case>.png`` in the run's folder by default.
    case : str
        The version of the images, for example ``gauss10``.
    rows, columns : int
        Most images down and across.
    count : int, optional
        Number of images, in place of ``rows``.
    order : str
        How galaxies are chosen: ``label``, ``random`` or ``id``, see `Order`.
    subset : str, optional
        Only galaxies of this subset of the split.
    snapshots : sequence of int, optional
        Only these snapshots.
    seed : int
        Seed of ``order="random"``.

    Returns
    -------
    Path
        The PNG.

    Raises
    ------
    DataMissingError
        There is no sample, it has no column of the target, or there is no split (if ``subset`` is
        given) or no image.
    EmptySelectionError
        No image is of that subset or those snapshots.
    ConfigError
        Unknown case; no path is given and the run's folder cannot be written to.
    RangeError
        Rows, columns or count below 1, or an unknown order.
    """
    inputs = inputs_of(workspace, recipe)
    shown = inputs.shown(case)
    if order not in ("label", "random", "id"):
        raise RangeError(f"order = {order!r} is not possible; allowed: label, random, id")
    columns, count = _layout(rows, columns, count)
    label = target_of(recipe)
    sample, values = _with_images(workspace, inputs, label, subset, snapshots)
    chosen = _choose(sample, values, label, count, order, seed)
    tiles = []
    for row in chosen:
        snapshot, subhalo_id = int(sample["snapshot"][row]), int(sample["subhalo_id"][row])
        image = shown(ImageId(snapshot, subhalo_id))
        name = f"Snap{snapshot} ID{subhalo_id}"
        tiles.append((image, f"{name}\n{label.tile(float(values[row]))}"))
    title = f"{case}: {len(tiles)} of {len(sample['snapshot'])} images"
    target = path or workspace.root / f"show-{case}.png"
    note = f"{_NOTES[order].format(label.shown_short)}\n{label.shown_short}: {label.axis}"
    picture_width = recipe.maps.width_ckpc_h / recipe.maps.bin_scale
    sheet = _sheet(tiles, columns, picture_width, title, note)
    try:
        save(workspace, target, sheet)
    except OSError as error:
        # the run may be somebody else's, who lets others read only
        if path is not None or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise ConfigError(
            f"{workspace.root} cannot be written to ({error.strerror}); say with --out where the "
            "contact sheet goes"
        ) from error
    return target


def _layout(rows: int, columns: int, count: int | None) -> tuple[int, int]:
    wanted = rows * columns if count is None else count
    for name, value in (("rows", rows), ("columns", columns), ("count", wanted)):
        if value < 1:
            raise RangeError(f"{name} = {value} is not possible; allowed: 1 or more")
    if count is None:
        return min(columns, wanted), wanted
    # a little narrower where that leaves fewer gaps in the last row
    choices = range(min(columns, wanted), min(4, columns, wanted) - 1, -1)
    return min(choices, key=lambda width: -wanted % width), wanted


def _with_images(
    workspace: Workspace,
    inputs: Inputs,
    label: Target,
    subset: str | None,
    snapshots: Sequence[int] | None,
) -> tuple[Table, Floats]:
    """Return the rows of the sample that have an image and are asked for, and their values."""
    sample, values = read_values(workspace, label)
    names = image_names(sample)
    keep = np.array([inputs.has(ImageId.parse(name)) for name in names], bool)
    if not keep.any():
        raise DataMissingError(f"nothing of the sample is in {inputs.folder}; run sfr render")
    if snapshots is not None:
        keep &= np.isin(sample["snapshot"], list(snapshots))
    if subset is not None:
        places = read_split(workspace)
        wanted = {name for name, place in places.items() if place.subset == subset}
        keep &= np.array([name in wanted for name in names], bool)
    if not keep.any():
        raise EmptySelectionError(
            f"no image with subset = {subset!r}, snapshots = {snapshots}; "
            "subsets are train, validation and test, snapshots those of sample.csv"
        )
    return {name: column[keep] for name, column in sample.items()}, values[keep]


def _choose(
    sample: Table, values: Floats, label: Target, count: int, order: Order, seed: int
) -> NDArray[np.int64]:
    by_id = np.lexsort((sample["subhalo_id"], sample["snapshot"]))
    if order == "id":
        return by_id[:count]
    galaxy = np.asarray(sample["galaxy_id"], np.int64)
    if order == "random":
        candidates = np.random.default_rng(seed).permutation(by_id)
        rows = _distinct_first(candidates, galaxy)[:count]
    else:
        rows = _spread(by_id, values, label, galaxy, count)
    return rows[np.argsort(values[rows], kind="stable")]


def _distinct_first(rows: NDArray[np.int64], galaxy: NDArray[np.int64]) -> NDArray[np.int64]:
    """Put the first row of each galaxy before the further rows of galaxies already seen."""
    _, first = np.unique(galaxy[rows], return_index=True)
    is_first = np.zeros(rows.size, bool)
    is_first[first] = True
    return np.concatenate([rows[is_first], rows[~is_first]])


def _spread(
    rows: NDArray[np.int64],
    values: Floats,
    label: Target,
    galaxy: NDArray[np.int64],
    count: int,
) -> NDArray[np.int64]:
    """Pick rows near evenly spaced labels; one without a label, if there is."""
    count = min(count, rows.size)
    has_label = label.has_label(values[rows])
    labelled, without = rows[has_label], rows[~has_label]
    n_without = max(count - labelled.size, min(1, without.size) if count > 2 else 0)
    chosen = without[:n_without].tolist()
    free = np.ones(labelled.size, bool)
    fresh = ~np.isin(galaxy[labelled], galaxy[chosen])
    labels = label.on_axis(values[labelled])
    n_labelled = count - len(chosen)
    low, high = labels.min(initial=np.inf), labels.max(initial=-np.inf)
    for step in range(n_labelled):
        wanted = low + (high - low) * step / max(1, n_labelled - 1)
        usable = free & fresh if (free & fresh).any() else free
        best = int(np.argmin(np.where(usable, np.abs(labels - wanted), np.inf)))
        free[best] = False
        fresh &= galaxy[labelled] != galaxy[labelled[best]]
        chosen.append(int(labelled[best]))
    return np.array(chosen, np.int64)


@as_png
def _sheet(
    tiles: Sequence[tuple[RGB, str]], columns: int, width_ckpc_h: float, title: str, note: str
) -> Figure:
    rows = -(-len(tiles) // columns)
    wide, high = columns * (1 + _GAP) - _GAP, rows * (1 + _LABEL)
    inches = 1.75
    # the title needs some width even over a single image
    figure = Figure(figsize=(max(wide * inches, 3.6) + 0.2, high * inches + 0.92))
    figure.set_layout_engine("none")
    figure_wide, figure_high = figure.get_size_inches()
    axes = figure.add_axes(
        (
            0.1 / figure_wide,
            0.1 / figure_high,
            wide * inches / figure_wide,
            high * inches / figure_high,
        )
    )
    axes.set_axis_off()
    for place, (image, label) in enumerate(tiles):
        left = (place % columns) * (1 + _GAP)
        top = -(place // columns) * (1 + _LABEL)
        axes.imshow(image, extent=(left, left + 1, top - 1, top))
        axes.text(
            left + 0.5, top - 1.03, label, ha="center", va="top", fontsize=8.5, linespacing=1.25
        )
    _scale_bar(axes, width_ckpc_h)
    axes.set_xlim(0, wide)
    axes.set_ylim(-high, 0)
    x = 0.1 / figure_wide
    figure.text(x, 1 - 0.12 / figure_high, title, va="top", fontsize=11.5, fontweight="bold")
    figure.text(x, 1 - 0.38 / figure_high, note, va="top", fontsize=8.5, color=GREY)
    return figure


def _scale_bar(axes: Axes, width_ckpc_h: float) -> None:
    """Draw a bar of a round length, about a sixth of the frame, into the first image."""
    lengths = [step * 10.0**power for power in range(-2, 4) for step in (1, 2, 5)]
    length = max(
        [value for value in lengths if value <= width_ckpc_h / 4], default=width_ckpc_h / 4
    )
    ends = (0.06, 0.06 + length / width_ckpc_h)
    axes.plot(ends, (-0.94, -0.94), color="white", lw=2, zorder=3)
    axes.text(0.06, -0.91, f"{length:g} ckpc/h", color="white", fontsize=8, va="bottom", zorder=3)
    # a dark ground, for the noisy images of structure cases
    wide = max(0.40, ends[1])
    axes.add_patch(Rectangle((0.03, -0.97), wide, 0.19, color="black", alpha=0.8, lw=0, zorder=2))
