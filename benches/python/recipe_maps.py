"""What the maps of the recipes show: the numbers and the figure of docs/maps.md.

sfr mock mock --galaxies 40 --snaps 99 --seed 1 --cells 40000
sfr render --sim mock --snap 99 --work thesis
sfr render --sim mock --snap 99 --work corrected --recipe corrected

cd benches/python
python recipe_maps.py alike thesis corrected       # how alike channels are; their ranges
python recipe_maps.py alike FILE.hdf5 --width 200  # the same of one file, in both recipes
python recipe_maps.py crosstalk thesis corrected   # what a channel carries of the others
python recipe_maps.py clipped corrected            # what a gain clips
python recipe_maps.py pattern                      # what a pattern in the mass does to T and K
python recipe_maps.py figure thesis corrected --subhalo 15 --out maps.jpg
"""

from __future__ import annotations

import argparse
import io
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from bench_deposits import InMemory
from numpy.typing import NDArray
from PIL import Image
from timing import table

from sfr import units
from sfr.imaging.cases import case_function, map_case_function
from sfr.imaging.inputs import inputs_of
from sfr.imaging.normalise import read_normalisation
from sfr.imaging.ranges import shares
from sfr.imaging.rgb import rgb_image
from sfr.pipeline import quicklook
from sfr.plot.maps import field_colours
from sfr.plot.matplotlib_import import Figure, LogNorm, colormaps
from sfr.plot.style import as_png, grid
from sfr.recipe import Recipe, load_recipe
from sfr.render.fields import channel_unit
from sfr.render.orient import Orientation
from sfr.render.project import make_maps
from sfr.run.names import ImageId
from sfr.run.shards import iter_shards
from sfr.run.workspace import Workspace
from sfr.simulation.protocol import Header

Floats = NDArray[np.float64]
SNAP = 99
PAIRS = (("mass", "temperature"), ("mass", "entropy"), ("entropy", "temperature"))
CASES = (
    "structure3", "structure5", "structure10", "band3-5", "band5-10", "band3-10", "band10-20",
)  # fmt: skip


def run(folder: str) -> tuple[Workspace, Recipe]:
    workspace = Workspace(Path(folder))
    return workspace, load_recipe(workspace.root / "recipe.toml")


def maps_of(folder: str) -> Iterator[Floats]:
    """Maps of every galaxy of a run, in order, shape (channel, y, x)."""
    for shard in iter_shards(run(folder)[0], SNAP):
        yield from shard.maps.astype(np.float64)


# --- how alike the channels are ----------------------------------------------------------------


def without_profile(image: Floats) -> Floats:
    """A map less its mean at each distance from the centre [px]: its arms, clumps and noise."""
    n = len(image)
    y, x = np.indices(image.shape) - (n - 1) / 2
    ring = np.hypot(x, y).astype(int).ravel()
    there = np.isfinite(image).ravel()
    sums = np.bincount(ring[there], image.ravel()[there], minlength=ring.max() + 1)
    counts = np.bincount(ring[there], minlength=ring.max() + 1)
    return image - (sums / np.maximum(counts, 1))[ring].reshape(image.shape)


def correlation(a: Floats, b: Floats) -> float:
    """Pearson r over the pixels where both have a value."""
    there = np.isfinite(a) & np.isfinite(b)
    return float(np.corrcoef(a[there], b[there])[0, 1])


def spread(values: Sequence[float]) -> str:
    low, middle, high = np.percentile(values, [10, 50, 90])
    return f"{middle:.3f}" if len(values) < 2 else f"{middle:.2f} ({low:.2f} to {high:.2f})"


def alike(options: argparse.Namespace) -> None:
    """Pixel correlation of channels, and where their pixels lie against the ranges."""
    rows, outside = [], []
    for name, recipe, galaxies in sources(options):
        channels = recipe.channels
        row: list[object] = [name, len(galaxies)]
        for pair in PAIRS:
            for make in (lambda image: image, without_profile):
                found = [correlation(*(make(m[channels.index(c)]) for c in pair)) for m in galaxies]
                row.append(spread(found))
        rows.append(tuple(row))
        ranges = [channel.range for channel in recipe.maps.channels]
        if None not in ranges:
            counted = np.mean([shares(m, ranges) for m in galaxies], axis=0)
            for i, channel in enumerate(channels):
                values = np.concatenate([m[i][np.isfinite(m[i])] for m in galaxies])
                low, middle, high = np.quantile(values, [0, 0.5, 0.9999])
                numbers = f"{low:.2f}, {middle:.2f}, {high:.2f}, {values.max():.2f}"
                outside.append((name, channel, numbers, *(f"{v:.2%}" for v in counted[i])))
    header = ["maps", "galaxies"]
    for a, b in PAIRS:
        header += [f"{a}, {b}", "without profiles"]
    print("Pearson r over pixels: median of galaxies (10 to 90 %)\n")
    print(table(tuple(header), rows))
    if outside:
        header = ["maps", "channel", "least, median, 99.99 %, most", "empty", "below", "above"]
        print("\n" + table(tuple(header), outside))


def sources(options: argparse.Namespace) -> Iterator[tuple[str, Recipe, list[Floats]]]:
    for name in options.names:
        if Path(name).is_dir():
            yield Path(name).name, run(name)[1], list(maps_of(name))
            continue
        for recipe in map(load_recipe, ("thesis", "corrected")):
            look = quicklook.map_file(name, recipe, width_ckpc_h=options.width)
            title = f"{Path(name).name}, {options.width:g} ckpc/h, {recipe.name}"
            yield title, recipe, [look.maps.astype(np.float64)]


# --- what a channel carries of the others ------------------------------------------------------


def crosstalk(options: argparse.Namespace) -> None:
    """Change of what a network reads of one channel when the others become another galaxy's."""
    rows = []
    for name in options.names:
        workspace, recipe = run(name)
        normalisation = read_normalisation(workspace, recipe.channels)
        galaxies = [normalisation.apply(m) for m in maps_of(name)]
        row: list[object] = [name]
        for i, channel in enumerate(recipe.channels):
            found = []
            for maps, others in pairwise(galaxies):
                mixed = others.copy()
                mixed[i] = maps[i]
                read, changed = (of_channel(m, recipe, channel) for m in (maps, mixed))
                found.append(np.std(changed - read) / np.std(read))
            row.append(f"{np.median(found):.2f}")
        rows.append(tuple(row))
    print("rms change over rms of the image, median of galaxies\n")
    print(table(("maps", *recipe.channels), rows))


def of_channel(maps: Floats, recipe: Recipe, channel: str) -> Floats:
    if recipe.cases.act_on == "maps":
        return map_case_function(channel, recipe.cases, recipe.channels)(maps).maps
    image = rgb_image(maps, recipe.image, recipe.channels)
    return case_function(channel, recipe.cases, recipe.channels)(image).astype(np.float64)


# --- what a gain clips -------------------------------------------------------------------------


def clipped(options: argparse.Namespace) -> None:
    """Share of pixels that each gain clips, and how strong what is left is."""
    workspace, recipe = run(options.names[0])
    normalisation = read_normalisation(workspace, recipe.channels)
    galaxies = [normalisation.apply(m) for m in maps_of(options.names[0])]
    rows = []
    for case in CASES:
        for name in (case, *(f"{channel}.{case}" for channel in recipe.channels)):
            row: list[object] = [name]
            for gain in (2.0, 4.0, 8.0):
                make = map_case_function(name, replace(recipe.cases, gain=gain), recipe.channels)
                made = [make(m) for m in galaxies]
                of_all = [case.clipped for case in made]
                row.append(f"{np.mean(of_all):.2%} ({np.max(of_all):.2%})")
                if gain == recipe.cases.gain:
                    rms = np.median([np.std(case.maps) for case in made])
            rows.append((*row, f"{rms:.3f}"))
    header = ("case", "gain 2", "gain 4", "gain 8", f"rms at gain {recipe.cases.gain:g}, of 0..1")
    print(f"Mean share of pixels clipped (the most of one galaxy), {len(galaxies)} galaxies\n")
    print(table(header, rows))


# --- what a pattern in the mass does to T and K ------------------------------------------------


HEADER = Header("mock", SNAP, 1.0, 0.0, 0.6774, 0.3089, 0.6911, 35_000.0, None, 1, None)
MIDDLE, WIDTH, PIXELS = np.full(3, 17_500.0), 60.0, 256
#: Scale of the disc and its thickness, reach of the halo [ckpc/h].
DISC, THICK, HALO = 5.0, 0.4, 60.0
GAS_MASS = 0.5  # 1e10 Msun/h


def galaxy(rng: np.random.Generator, count: int, hot: float) -> InMemory:
    """An exponential disc of 1e4 K in a halo of 1e6 K, which holds a share of the mass."""
    cold, n_hot = count - round(hot * count), round(hot * count)
    radius = DISC * rng.gamma(2.0, 1.0, cold)
    angle = rng.uniform(0, 2 * np.pi, cold)
    height = THICK * np.arctanh(rng.uniform(-1, 1, cold))
    disc = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), height])
    away = rng.normal(size=(n_hot, 3))
    distance = HALO * rng.random(n_hot)
    halo = away * (distance / np.linalg.norm(away, axis=1))[:, None]
    mass = GAS_MASS / count
    surface = cold * mass * np.exp(-radius / DISC) / (2 * np.pi * DISC**2)
    density = np.concatenate(
        [
            surface / (2 * THICK * np.cosh(height / THICK) ** 2),
            n_hot * mass / (4 * np.pi * HALO * np.maximum(distance, 0.02 * HALO) ** 2),
        ]
    ) * 10 ** rng.normal(0, 0.1, count)
    temperature = 10 ** np.concatenate([rng.normal(4.05, 0.1, cold), rng.normal(6, 0.15, n_hot)])
    electrons = np.where(temperature < 1e5, 0.1, 1.16)
    cells = {
        "Coordinates": np.concatenate([disc, halo]) + MIDDLE,
        "Masses": np.full(count, mass),
        "Density": density,
        "ElectronAbundance": electrons,
        "InternalEnergy": temperature / units.temperature_k(1.0, electrons),
    }
    return InMemory(cells)


def wave(x: Floats, y: Floats, length: float, phases: Floats) -> Floats:
    """Zero-mean pattern of one wavelength [px] along three directions."""
    pixel = WIDTH / PIXELS
    found = np.zeros_like(x)
    for phase, angle in zip(phases, np.deg2rad([10, 70, 130]), strict=True):
        along = x * np.cos(angle) + y * np.sin(angle)
        found += np.cos(2 * np.pi * along / (length * pixel) + phase)
    return found / np.sqrt(1.5)


def pattern(options: argparse.Namespace) -> None:
    """How a pattern in the mass alone shows in the maps of T and K."""
    base = load_recipe("corrected").maps
    recipes = {name: base.changed(deposit=name) for name in ("histogram", "smoothed")}
    face_on = Orientation(np.eye(3), "z", 0, np.nan)
    y, x = (np.indices((PIXELS, PIXELS)) + 0.5) * WIDTH / PIXELS - WIDTH / 2
    disc = np.hypot(x, y) < 3 * DISC
    rows = []
    for length, where, deposit in (
        (length, where, deposit)
        for length in (20, 8, 3)
        for where in ("none", "all cells", "disc")
        for deposit in recipes
    ):
        strength, slopes = [], []
        for seed in range(options.galaxies):
            rng = np.random.default_rng(seed)
            cells = galaxy(rng, options.cells, options.hot)
            phases = rng.uniform(0, 2 * np.pi, 3)
            phi = wave(*(cells.fields["Coordinates"] - MIDDLE).T[:2], length, phases)
            if where == "disc":
                phi *= cells.fields["InternalEnergy"] < 10**3.2
            changed = {"Masses": cells.fields["Masses"] * (1 + 0.4 * phi * (where != "none"))}
            changed["Masses"] = np.maximum(changed["Masses"], 0.05 * cells.fields["Masses"])
            marked = InMemory(cells.fields | changed)
            made, plain = (
                make_maps([c], MIDDLE, face_on, HEADER, recipes[deposit]).maps.astype(np.float64)
                for c in (marked, cells)
            )
            expected = np.where(disc, wave(x, y, length, phases), np.nan)
            strength.append([correlation(expected, without_profile(m)) for m in made])
            slopes.append([slope(expected, m - p) for m, p in zip(made, plain, strict=True)])
        rows.append(
            (
                length,
                where,
                deposit,
                *(f"{m:+.2f} +- {s:.2f}" for m, s in zip(
                    np.mean(strength, 0)[[1, 2, 0]], np.std(strength, 0)[[1, 2, 0]], strict=True
                )),
                *(f"{m:+.3f}" for m in np.mean(slopes, 0)[[1, 2, 0]]),
            )
        )  # fmt: skip
    print(
        f"{options.galaxies} galaxies of {options.cells} cells, halo {options.hot:.0%} of the "
        "mass, pattern m (1 + 0.4 phi); pixels within 3 scales of the disc\n"
    )
    header = ("L [px]", "pattern in", "deposit", "r with mass", "r with T", "r with K",
              "mass [dex]", "T [dex]", "K [dex]")  # fmt: skip
    print(table(header, rows))


def slope(x: Floats, y: Floats) -> float:
    """Change of a map where the pattern is 1 rather than 0."""
    there = np.isfinite(x) & np.isfinite(y)
    return float(np.polyfit(x[there], y[there], 1)[0])


# --- the figure --------------------------------------------------------------------------------


def figure(options: argparse.Namespace) -> None:
    """One galaxy in both recipes: its maps, and what a network reads of them."""
    image = ImageId(SNAP, options.subhalo, 0)
    content = draw([of_galaxy(name, image) for name in options.names])
    # point maps are noise, which a PNG cannot pack
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    picture.thumbnail((1080, 1200), Image.Resampling.LANCZOS)
    picture.save(options.out, quality=78, optimize=True)
    print(f"{options.out}: {Path(options.out).stat().st_size / 1000:.0f} kB")


def of_galaxy(folder: str, image: ImageId) -> tuple[Recipe, Floats, list[NDArray[np.uint8]]]:
    """Recipe, maps, and the pictures of the cases: channels, composite, structure3."""
    workspace, recipe = run(folder)
    shown = inputs_of(workspace, recipe).shown
    for shard in iter_shards(workspace, SNAP):
        for found, maps in zip(shard.images(SNAP), shard.maps, strict=True):
            if found == image:
                cases = (*recipe.channels, "composite", "structure3")
                return recipe, maps, [shown(case)(image) for case in cases]
    raise SystemExit(f"{folder} has no maps of {image}")


@as_png
def draw(galaxies: Sequence[tuple[Recipe, Floats, list[NDArray[np.uint8]]]]) -> Figure:
    made, panels = grid(8 * len(galaxies), columns=4, size=(2.35, 2.3))
    for panel in panels:
        panel.set(xticks=[], yticks=[])
    rows = [panels[start : start + 4] for start in range(0, len(panels), 4)]
    for number, (recipe, maps, cases) in enumerate(galaxies):
        above, below = rows[2 * number : 2 * number + 2]
        for panel, channel, values in zip(above, recipe.maps.channels, maps, strict=False):
            colours = colormaps[field_colours(channel.field)].with_extremes(bad="#d9dce1")
            there = np.isfinite(values) & (values != 0)
            low, high = np.percentile(values[there], [0.5, 99.8])
            norm = LogNorm(low, high) if channel.statistic == "sum" and low > 0 else None
            norm = norm if channel.transform == "none" else None
            limits = {"norm": norm} if norm else {"vmin": low, "vmax": high}
            shown = np.ma.masked_where(~there, values)
            drawn = panel.imshow(shown, origin="lower", cmap=colours, **limits)
            unit = channel_unit(channel).replace(" over cells", "")
            panel.set_xlabel(textwrap.fill(unit, 32), fontsize=7)
            bar = made.colorbar(drawn, ax=panel, shrink=0.85, pad=0.02).ax
            bar.tick_params(which="both", labelsize=7)
            panel.set_title(f"{recipe.name}: {channel.name}", fontsize=9)
        *channels, composite, structure = cases
        pictures = [composite, *channels, structure]
        titles = ["picture", *(f"read: {name}" for name in recipe.channels), "read: structure3"]
        for panel, case, title in zip([above[3], *below], pictures, titles, strict=True):
            panel.imshow(case)
            panel.set_title(title, fontsize=9)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("alike", "crosstalk", "clipped", "pattern", "figure"))
    parser.add_argument("names", nargs="*", help="folders of runs, or files")
    parser.add_argument("--width", type=float, default=60.0)
    parser.add_argument("--galaxies", type=int, default=10)
    parser.add_argument("--cells", type=int, default=40_000)
    parser.add_argument("--hot", type=float, default=0.05)
    parser.add_argument("--subhalo", type=int, default=15)
    parser.add_argument("--out", default="docs/maps.jpg")
    options = parser.parse_args()
    globals()[options.what](options)


if __name__ == "__main__":
    main()
