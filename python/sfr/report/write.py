"""From a run's folder to ``report/``: tables, pictures and the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sfr
from sfr.errors import DataMissingError
from sfr.imaging.normalise import read_normalisation
from sfr.imaging.shares import clipped_share, mean_shares
from sfr.paths import without_folders
from sfr.plot.style import GREY, case_colour
from sfr.progress import Progress, silent
from sfr.recipe import Recipe
from sfr.report import figures
from sfr.report.contact_sheet import contact_sheet
from sfr.report.files import save
from sfr.report.html import Picture, picture, render_page
from sfr.report.results import CaseResult, as_results
from sfr.report.tables import (
    CaseRow,
    ComparedRow,
    as_columns,
    case_rows,
    compared_rows,
    failure_rows,
    snapshot_rows,
    subset_rows,
)
from sfr.report.verdict import verdict
from sfr.run.documents import read_json
from sfr.run.edited_tables import edits_in_words, read_split
from sfr.run.folds import count_folds
from sfr.run.leaks import read_neighbours
from sfr.run.shards import read_shard
from sfr.run.tables import Table, count_galaxies, write_table
from sfr.run.workspace import Workspace
from sfr.target import Target, read_values, target_of
from sfr.train.evaluate import (
    CASE,
    FAILED,
    NOT_TRAINED,
    OUT_OF_DATE,
    OUTLIER_DEX,
    Comparison,
    case_states,
    compare,
    head_states,
    read_heads,
)
from sfr.train.standing import Difference, Standing, standings

__all__ = ["ReportSummary", "write_report"]

#: Cases whose images are shown, as published (METHOD 4), beside a single channel.
_MONTAGES = ("composite", "gauss10", "structure3")
_FAILURES_SHOWN = 30
#: States of cases that another training can mend.
_WITHOUT = (NOT_TRAINED, OUT_OF_DATE, FAILED)
_RANDOM = (
    "Random backbone weights.",
    "A check of the machinery, not a result of science: the network has never learned to see.",
)
_MOCK = (
    "Mock simulation.",
    "Synthetic galaxies with a star formation rate made by rule, not a simulation of galaxies.",
)
_DEMO = (
    "Demonstration recipe.",
    "Few galaxies and a short training, to see that everything runs; no result of science.",
)


@dataclass(frozen=True)
class ReportSummary:
    """What was written.

    Attributes
    ----------
    index : Path
        The page.
    figures, tables : tuple of Path
        The other files.
    rows : tuple of CaseRow
        The table of cases, for printing.
    headline : str
        The verdict in one sentence.
    n_cases : int
        Trained cases.
    missing : tuple of str
        Cases without numbers: not trained, out of date or failed.
    """

    index: Path
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]
    rows: tuple[CaseRow, ...]
    headline: str
    n_cases: int
    missing: tuple[str, ...]


def write_report(
    workspace: Workspace, recipe: Recipe, *, on_progress: Progress = silent
) -> ReportSummary:
    """Write tables, figures and the HTML page of a run, from what its folder holds.

    The simulation is not opened. The same folder gives the same bytes; no absolute path, host or
    time is written.

    Parameters
    ----------
    workspace : Workspace
        The run's folder, with a sample and at least one trained case.
    recipe : Recipe
        The experiment.
    on_progress : callable
        Hears of every figure.

    Returns
    -------
    ReportSummary
        Paths, the table of cases and the verdict.

    Raises
    ------
    DataMissingError
        No case is trained, or there is no sample.
    DataFormatError
        A file of the run cannot be read.
    """
    heads = read_heads(workspace, recipe)
    if not heads:
        raise DataMissingError(
            f"no trained case in {workspace.root} that is current; run sfr train --all-cases, then "
            "the report again"
        )
    target = target_of(recipe)
    cases = {name: found for name, found in heads.items() if found[0].kind == CASE}
    results = as_results(cases, target)
    sample, values = read_values(workspace, target)
    states = head_states(workspace, recipe, heads)
    rows, comparison = case_rows(case_states(recipe, states), heads), compare(heads)
    standing, pairs = standings(workspace, target, heads)
    behind = {
        name: found.control_words
        for name, found in standing.items()
        if found.beats_controls is False
    }
    compared = compared_rows(comparison)
    pages = _Pictures(workspace, on_progress, total=8 + len(results) + len(_MONTAGES))
    context = _figures(pages, rows, results, sample, values, recipe, behind)
    context["montages"] = _montages(pages, recipe, target)
    pages.remove_stale()
    tables, listed = _tables(workspace, rows, compared, sample, values, target)
    tables += _standing_tables(workspace, standing, pairs)
    context |= listed | _words(workspace, recipe, rows, comparison, sample)
    context["verdict"] = verdict(rows, comparison, recipe, standing)
    context |= _standing(standing, behind)
    context |= _shares(workspace, recipe, sample)
    controls = {row.case for row in rows if row.kind != CASE}
    of_cases = {key: state for key, state in states.items() if key[0] not in controls}
    context |= {"compared": compared, "heads": _head_rows(results, of_cases)}
    index = workspace.report / "index.html"
    workspace.write_text(index, render_page(context))
    return ReportSummary(
        index=index,
        figures=tuple(pages.written),
        tables=tuple(tables),
        rows=tuple(rows),
        headline=context["verdict"].headline,
        n_cases=len(results),
        missing=tuple(row.case for row in rows if row.kind == CASE and row.status in _WITHOUT),
    )


@dataclass
class _Pictures:
    """Writes pictures into the report's folder and keeps count."""

    workspace: Workspace
    on_progress: Progress
    total: int
    written: list[Path] = field(default_factory=list)

    def add(self, file: str, draw: Callable[[], bytes], *, alt: str, caption: str) -> Picture:
        path = self.workspace.report / file
        data = draw()
        save(self.workspace, path, data)
        return self.keep(path, data, alt=alt, caption=caption)

    def keep(self, path: Path, data: bytes, *, alt: str, caption: str) -> Picture:
        self.written.append(path)
        self.on_progress("figures", len(self.written), max(self.total, len(self.written)))
        return picture(path.name, data, alt=alt, caption=caption)

    def remove_stale(self) -> None:
        """Remove pictures of cases that an earlier report had and this one has not."""
        for pattern in ("case_*.png", "montage_*.png"):
            for path in self.workspace.report.glob(pattern):
                if path not in self.written:
                    path.unlink()


def _figures(
    pages: _Pictures,
    rows: Sequence[CaseRow],
    results: Sequence[CaseResult],
    sample: Table,
    values: NDArray[np.float64],
    recipe: Recipe,
    behind: Collection[str],
) -> dict[str, Any]:
    target = target_of(recipe)
    several = any(len(result.heads) > 1 for result in results)
    colours = {
        row.case: case_colour(row.case, recipe) if row.kind == CASE else GREY for row in rows
    }
    which = " Of several seeds the first that is not dead is shown." if several else ""
    return {
        "r_picture": pages.add(
            "cases.png",
            lambda: figures.r_figure(rows, colours, behind),
            alt="Pearson's r of each case with its interval; the numbers are in the table above.",
            caption=f"Correlation of predicted with true {target.shown_name} by case."
            f"{_unequal(rows)}",
        ),
        "prediction_picture": pages.add(
            "predictions.png",
            lambda: figures.prediction_figure(results, target),
            alt=f"Predicted against true {target.name} for every case.",
            caption=f"Predicted against true {target.name} of the test images, coloured by the "
            f"density of points (yellow: dense). Dashed: equality.{which}",
        ),
        "residual_picture": pages.add(
            "residuals.png",
            lambda: figures.residual_figure(results, colours, target),
            alt=f"Histogram of predicted \u2212 true {target.shown_name} for every case.",
            caption=f"{target.difference} of predicted and true {target.name}. Dashed: one "
            "standard deviation on either side of the mean. The outermost bins hold all that "
            "lies beyond.",
        ),
        "case_pictures": [
            _case_picture(pages, result, colours[result.name], target) for result in results
        ],
        "predicted_picture": pages.add(
            "predicted_labels.png",
            lambda: figures.predicted_figure(values, results, colours, target),
            alt=f"Histograms of true and predicted {target.name} for every case.",
            caption=f"True {target.name} of the whole sample (grey) and predicted one of the test "
            "images (line). A prediction that tends to the mean is narrower than the truth.",
        ),
        "sample_picture": pages.add(
            "sample_labels.png",
            lambda: figures.sample_figure(values, target),
            alt=f"Histogram of the {target.name} of the sample.",
            caption=f"The {target.name} of the sample; every snapshot of a galaxy counts.",
        ),
        "mass_picture": pages.add(
            "sfr_mass.png",
            lambda: figures.mass_figure(sample),
            alt="Star formation rate against total mass of the sample.",
            caption="Star formation rate against total mass of the subhalo, for the sample "
            "(not the whole catalogue).",
        ),
        "loss_picture": pages.add(
            "losses.png",
            lambda: figures.loss_figure(results, target),
            alt="Loss against epoch for every network.",
            caption="Loss by epoch; one line a network.",
        ),
    }


def _unequal(rows: Sequence[CaseRow]) -> str:
    """Warn of means over different numbers of networks."""
    cases = [row for row in rows if row.kind == CASE]
    if len({row.seeds - row.dead for row in cases if row.r is not None}) < 2:
        return ""
    return (
        " The cases have different numbers of living networks, so these means are not like for "
        "like: the comparison above uses the seeds that all of them have."
    )


def _case_picture(pages: _Pictures, result: CaseResult, colour: str, target: Target) -> Picture:
    return pages.add(
        f"case_{result.name}.png",
        lambda: figures.case_figure(result, colour, target),
        alt=f"Predicted against true {target.name} and differences of {result.name}.",
        caption=f"{result.name}, seed {result.shown.seed}.",
    )


def _montages(pages: _Pictures, recipe: Recipe, target: Target) -> list[Picture]:
    """Draw the contact sheets; a folder without images or maps (copied results) does without."""
    workspace = pages.workspace
    pictures = []
    channel = "mass" if "mass" in recipe.channels else recipe.channels[0]
    shown = (_MONTAGES[0], channel, *_MONTAGES[1:])
    for case in (name for name in shown if name in recipe.case_names):
        path = workspace.report / f"montage_{case}.png"
        try:
            contact_sheet(workspace, recipe, path=path, case=case, rows=3, columns=6)
        except DataMissingError:
            return []
        words = f"Images of galaxies, case {case}, from the lowest to the highest {target.name}."
        pictures.append(pages.keep(path, path.read_bytes(), alt=words, caption=words))
    return pictures


def _standing(standing: Mapping[str, Standing], behind: Mapping[str, str]) -> dict[str, Any]:
    """Return how cases stand, and what controls are, for the page."""
    return {
        "standing": [found for found in standing.values() if found.kind == CASE],
        "control_words": {name: found.words for name, found in standing.items() if found.words},
        "behind": behind,
        "apart": _apart(standing),
    }


def _apart(standing: Mapping[str, Standing]) -> str:
    """Say how small a difference the sample can show."""
    found = [s for s in standing.values() if s.standard_error is not None and s.best is not None]
    if not found:
        return ""
    best = max(found, key=lambda s: s.r or 0.0)
    return (
        f"With {best.count} independent galaxies or groups of them, r = {best.r:.2f} has a "
        f"standard error of {best.standard_error:.3f}."
    )


def _standing_tables(
    workspace: Workspace, standing: Mapping[str, Standing], pairs: Sequence[Difference]
) -> list[Path]:
    """Write how cases and controls stand, and all pairs of cases, with all digits."""
    folder = workspace.report / "tables"
    rows = [found.as_row() for found in standing.values()]
    names = rows[0] if rows else Standing("").as_row()
    paths = [folder / "standing.csv", folder / "differences.csv"]
    write_table(workspace, paths[0], {name: [row[name] for row in rows] for name in names})
    columns = ("case", "other", "difference", "low", "high", "is_one")
    table = {name: [getattr(pair, name) for pair in pairs] for name in columns}
    write_table(workspace, paths[1], table)
    return paths


def _tables(
    workspace: Workspace,
    rows: Sequence[CaseRow],
    compared: Sequence[ComparedRow],
    sample: Table,
    values: NDArray[np.float64],
    target: Target,
) -> tuple[list[Path], dict[str, Any]]:
    folder = workspace.report / "tables"
    paths = [folder / "cases.csv", folder / "comparison.csv"]
    write_table(
        workspace, paths[0], as_columns(CaseRow, rows) | {"label": [target.text] * len(rows)}
    )
    write_table(workspace, paths[1], as_columns(ComparedRow, compared))
    by_snapshot = snapshot_rows(workspace, target, sample, values)
    if by_snapshot:
        paths.append(folder / "by_snapshot.csv")
        write_table(workspace, paths[-1], by_snapshot)
    # the page says which label it is in words
    shown = {name: column for name, column in by_snapshot.items() if name != "label"}
    failures = failure_rows(workspace, set(sample["snapshot"].tolist()))
    if failures:
        paths.append(folder / "failures.csv")
        columns = ("snapshot", "stage", "reason", "count", "examples")
        write_table(
            workspace, paths[-1], {name: [getattr(f, name) for f in failures] for name in columns}
        )
    neighbours = read_neighbours(workspace)
    if neighbours:
        paths.append(folder / workspace.leaks_csv.name)
        workspace.write_text(paths[-1], workspace.leaks_csv.read_text("utf-8"))
    every = {"cases.csv", "by_snapshot.csv", "failures.csv", workspace.leaks_csv.name}
    for name in every - {path.name for path in paths}:
        (folder / name).unlink(missing_ok=True)
    return paths, {
        "snapshot_names": [_heading(name) for name in shown],
        "snapshot_lines": [[str(c) for c in row] for row in zip(*shown.values(), strict=True)],
        "subsets": subset_rows(workspace),
        "neighbours": neighbours,
        "failures": failures[:_FAILURES_SHOWN],
        "failures_left_out": max(0, len(failures) - _FAILURES_SHOWN),
    }


def _heading(name: str) -> dict[str, Any]:
    words = name.removeprefix("published_").replace("_", " ").replace("ssfr", "sSFR")
    return {"words": words.replace("sfr", "SFR"), "published": name.startswith("published_")}


def _words(
    workspace: Workspace,
    recipe: Recipe,
    rows: Sequence[CaseRow],
    comparison: Comparison,
    sample: Table,
) -> dict[str, Any]:
    simulation, target = _simulation(workspace, sample), target_of(recipe)
    return {
        "title": f"What images of gas say about {target.about}",
        "version": sfr.__version__,
        "recipe_name": recipe.name,
        "target": target,
        "recipe_description": without_folders(recipe.description).rstrip("."),
        "facts": [
            *_facts(simulation, recipe, rows, sample, edits_in_words(workspace), _folds(workspace)),
            *_scale_fact(workspace, recipe),
        ],
        "banners": [*_banners(simulation, recipe, rows), *_scale_banner(workspace, recipe)],
        "rows": rows,
        "best": _leaders(comparison),
        "outlier_dex": f"{OUTLIER_DEX:g}",
        "error_unit": f"[{target.error_unit}]" if target.error_unit else "",
        "split_by": recipe.split.by,
        "split_seed": recipe.split.seed,
        "recipe_toml": _recipe_text(recipe),
        "normalisation": _normalisation_text(workspace),
    }


def _leaders(comparison: Comparison) -> list[str]:
    """Return the best case and those not told apart from it; none where that is all of them."""
    if not comparison.r:
        return []
    best = comparison.best(comparison.r)
    found = [case for case in comparison.r if not comparison.is_ahead(best, case)]
    return found if len(found) < len(comparison.r) and comparison.above_chance(best) else []


def _simulation(workspace: Workspace, sample: Table) -> str:
    """Name the simulation as the maps' files do; empty where there are none."""
    for snapshot in sorted(set(sample["snapshot"].tolist())):
        for path in workspace.shards(int(snapshot))[:1]:
            return without_folders(
                str(read_shard(path, with_maps=False).attributes.get("simulation", ""))
            )
    return ""


def _folds(workspace: Workspace) -> int:
    """Count the folds of the split; 1 where there is no table of it (copied results)."""
    is_there = workspace.split_csv.is_file()
    return count_folds(read_split(workspace).values()) if is_there else 1


def _facts(
    simulation: str,
    recipe: Recipe,
    rows: Sequence[CaseRow],
    sample: Table,
    edits: Mapping[str, str],
    folds: int,
) -> list[tuple[str, str]]:
    snapshots = sorted(set(sample["snapshot"].tolist()))
    span = ", ".join(map(str, snapshots))
    if len(snapshots) > 3 and snapshots[-1] - snapshots[0] == len(snapshots) - 1:
        span = f"{snapshots[0]} to {snapshots[-1]}"
    rows = [row for row in rows if row.kind == CASE]
    done = sum(row.status not in _WITHOUT for row in rows)
    return [
        *([("simulation", simulation)] if simulation else []),
        ("snapshots", span),
        ("galaxies in the sample", str(count_galaxies(sample["galaxy_id"]))),
        ("galaxies and snapshots", str(len(sample["snapshot"]))),
        *[(f"{name}, edited by hand", words) for name, words in edits.items()],
        ("cases trained", f"{done} of {len(rows)}"),
        (
            "networks" if recipe.train.probe == "head" else "fits on features of a network",
            str(folds * sum(row.seeds for row in rows)),
        ),
        *([("folds", f"{folds}, so that every image is tested once")] if folds > 1 else []),
        ("label", target_of(recipe).name),
        ("frame", f"{recipe.maps.width_ckpc_h:g} ckpc/h, {recipe.maps.pixels} px"),
    ]


def _banners(simulation: str, recipe: Recipe, rows: Sequence[CaseRow]) -> list[dict[str, str]]:
    said = []
    if any("random" in row.weights.split(", ") for row in rows):
        said.append(_RANDOM)
    if "MOCK" in simulation.upper():
        said.append(_MOCK)
    if recipe.name == "demo":
        said.append(_DEMO)
    missing = {
        state: ", ".join(row.case for row in rows if row.status == state) for state in _WITHOUT
    }
    listed = [f"{state.capitalize()}: {names}." for state, names in missing.items() if names]
    if listed:
        listed.append("Run sfr train --all-cases, then sfr report.")
        said.append(("Not complete.", " ".join(listed)))
    return [{"title": title, "text": text} for title, text in said]


def _head_rows(
    results: Sequence[CaseResult], states: Mapping[tuple[str, int], str]
) -> list[dict[str, Any]]:
    """List every network with its state, and with numbers where it has some."""
    found = {(result.name, head.seed): head.metrics for result in results for head in result.heads}
    return [
        _head_row(case, seed, state, found.get((case, seed), {}))
        for (case, seed), state in states.items()
    ]


def _head_row(case: str, seed: int, state: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "case": case,
        "seed": seed,
        "r": metrics.get("r"),
        "rmse": metrics.get("rmse"),
        "epochs": metrics.get("epochs", "\u2013"),
        "epoch_used": metrics.get("epoch_used", "\u2013"),
        "backbone": metrics.get("backbone", "\u2013"),
        "n_dropped": metrics.get("n_dropped_zero", "\u2013"),
        "state": state,
    }


def _shares(workspace: Workspace, recipe: Recipe, sample: Table) -> dict[str, Any]:
    """Say how much of the maps is empty or outside the ranges, and what gains clip."""
    units = {}
    if recipe.normalisation.by == "range" and workspace.normalisation_json.is_file():
        document = read_normalisation(workspace, recipe.channels).document
        units = {name: entry["unit"] for name, entry in document["channels"].items()}
    rows = mean_shares(workspace, recipe, sample["snapshot"].tolist()) if units else []
    clipped = [(name, clipped_share(workspace, name)) for name in recipe.case_names]
    return {
        "ranges": [{**row, "unit": units[row["channel"]]} for row in rows],
        "clipped": [{"case": name, "share": share} for name, share in clipped if share],
        "gain": recipe.cases.gain,
    }


def _recipe_text(recipe: Recipe) -> str:
    """Write the recipe as TOML, without the folders of this machine."""
    import tomli_w

    data = recipe.to_dict()
    data.pop("simulation", None)
    data["train"]["weights"] = PurePath(data["train"]["weights"]).name
    data["description"] = without_folders(data["description"])
    return tomli_w.dumps(data)


def _scale_fact(workspace: Workspace, recipe: Recipe) -> list[tuple[str, str]]:
    """Say which galaxies set the scale of the images, where it is known."""
    if not workspace.normalisation_json.is_file():
        return []
    galaxies = read_normalisation(workspace, recipe.channels).galaxies
    return [("scale of the images set by", galaxies)] if galaxies else []


def _scale_banner(workspace: Workspace, recipe: Recipe) -> list[dict[str, str]]:
    """Warn of a scale that may be another one once all files can be read."""
    if not workspace.normalisation_json.is_file():
        return []
    normalisation = read_normalisation(workspace, recipe.channels)
    if not normalisation.is_partial:
        return []
    text = f"It is set by {normalisation.galaxies}; with the missing files it may be another one."
    return [{"title": "The scale of the images is that of a part.", "text": text}]


def _normalisation_text(workspace: Workspace) -> str:
    path = workspace.normalisation_json
    if not path.is_file():
        return ""
    return without_folders(json.dumps(read_json(path), indent=2, ensure_ascii=False))
