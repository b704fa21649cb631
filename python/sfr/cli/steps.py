"""The steps of a run as the commands call them: each runs what is missing before it and says so."""

from __future__ import annotations

import datetime
import os
import platform
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sfr.cli.console import FINISHED_WITH_FAILURES, Console
from sfr.errors import ConfigError, DataMissingError
from sfr.recipe import Recipe, load_recipe
from sfr.workspace import Workspace

if TYPE_CHECKING:
    from sfr.imaging.images import ImagesSummary
    from sfr.render.shards import RenderSummary
    from sfr.sample.select import SelectSummary
    from sfr.sample.split import SplitSummary
    from sfr.simulation import LocalSimulation
    from sfr.store import Table
    from sfr.train.fit import TrainSummary

__all__ = ["Run", "open_run"]

_NO_SIMULATION = (
    "no simulation is configured; give --sim PATH (TNG50-1 or TNG50-1/output), set SFR_SIM, or "
    "write simulation = PATH in the recipe; sfr demo runs without one"
)


@dataclass
class Run:
    """One command at work in a run's folder."""

    workspace: Workspace
    recipe: Recipe
    console: Console
    sim_path: Path | None = None
    threads: int | None = None
    force: bool = False
    strict: bool = False
    allow_partial: bool = False
    mapped: bool = True
    _simulation: LocalSimulation | None = None
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.console.close()
        if self._simulation is not None:
            self._simulation.close()

    # -- simulation ----------------------------------------------------------------------------

    @property
    def simulation(self) -> LocalSimulation:
        """The configured simulation, opened once."""
        if self._simulation is None:
            from sfr.simulation import open_simulation

            path = self.sim_path or self.recipe.simulation
            if path is None:
                raise ConfigError(_NO_SIMULATION)
            self._simulation = open_simulation(path, mapped=self.mapped)
        return self._simulation

    def snapshots(self, given: Sequence[int]) -> list[int]:
        """Snapshots that a command works on: given, else the sample's, else the recipe's."""
        if given:
            return list(given)
        sample = self.read_sample()
        if sample is not None:
            return sorted(set(sample["snapshot"].tolist()))
        return sorted(self.recipe.sample.snapshots)

    def read_sample(self) -> Table | None:
        """Return ``sample.csv``, or None before the first selection."""
        from sfr.store import SAMPLE, read_table

        path = self.workspace.sample_csv
        return read_table(path, SAMPLE) if path.is_file() else None

    # -- steps ---------------------------------------------------------------------------------

    def select(self, snapshots: Sequence[int], *, force: bool = False) -> SelectSummary:
        """Make or extend the sample."""
        from sfr.sample.select import select

        with self._step("select") as record:
            summary = select(
                self.simulation,
                self.workspace,
                self.recipe,
                snapshots,
                allow_partial=self.allow_partial,
                force=force,
                on_progress=self.console.progress,
            )
            record["fingerprint"] = summary.fingerprint
            record["counts"] = {str(c.snapshot): c.n_selected for c in summary.cuts}
            record["reason"] = "; ".join(
                f"{c.snapshot}: {c.reason}" for c in summary.cuts if c.reason
            )
        for cut in summary.cuts:
            self.console.say(
                f"select {cut.snapshot}: {cut.n_selected} galaxies{_state(cut.reason)}"
            )
        return summary

    def split(self, *, force: bool = False) -> SplitSummary:
        """Make or extend the split."""
        from sfr.sample.split import split

        with self._step("split") as record:
            summary = split(self.workspace, self.recipe.split, force=force)
            record["fingerprint"] = summary.fingerprint
            record["counts"] = summary.counts
            record["seeds"] = [self.recipe.split.seed]
            record["reason"] = summary.reason
        sizes = ", ".join(f"{n} {name}" for name, n in summary.counts.items() if n)
        self.console.say(f"split: {sizes}{_state(summary.reason)}")
        return summary

    def maps(self, snapshots: Sequence[int]) -> list[RenderSummary]:
        """Render the maps of some snapshots."""
        from sfr.render.orient import STAR_FIELDS
        from sfr.render.project import gas_fields
        from sfr.render.shards import render_snapshot

        sample = self.select(snapshots).sample
        summaries = []
        for snap in snapshots:
            with self._step(f"maps-{snap:03d}") as record:
                self.simulation.require(
                    snap,
                    {0: gas_fields(self.recipe), 4: STAR_FIELDS},
                    allow_partial=self.allow_partial,
                )
                summary = render_snapshot(
                    self.simulation,
                    self.workspace,
                    self.recipe,
                    sample,
                    snap,
                    threads=self.threads,
                    force=self.force,
                    strict=self.strict,
                    on_progress=self.console.progress,
                )
                record["fingerprint"] = summary.fingerprint
                record["reason"] = summary.reason
                record["counts"] = {
                    "galaxies": summary.n_rendered,
                    "failed": summary.n_failed,
                    "cells": summary.n_cells,
                }
                record["failures"] = [
                    {"subhalo_id": i, "reason": text} for i, text in summary.failures
                ]
            self.console.say(
                f"maps {snap}: {summary.n_rendered} galaxies, {summary.n_failed} failed"
                f"{_state(summary.reason)}"
            )
            self.failures += [f"snapshot {snap} subhalo {i}: {t}" for i, t in summary.failures]
            summaries.append(summary)
        return summaries

    def images(self, snapshots: Sequence[int]) -> list[ImagesSummary]:
        """Normalise by the reference snapshot and write the images."""
        from sfr.imaging.images import write_images
        from sfr.imaging.normalise import find_normalisation
        from sfr.render.shards import maps_fingerprint
        from sfr.store import iter_shards
        from sfr.workspace import digest

        workspace, reference = self.workspace, self.recipe.normalisation.reference_snapshot
        step = f"maps-{reference:03d}"
        if not self._maps_current(reference):
            wanted = ",".join(map(str, sorted({*snapshots, reference})))
            raise DataMissingError(
                f"the images are normalised by snapshot {reference}, which is not rendered yet; "
                f"the maps are written. Run: sfr render --snap {wanted} --work {workspace.root}"
            )
        with self._step("normalisation") as record:
            fingerprint = digest(
                {
                    "normalisation": self.recipe.section("normalisation"),
                    "maps": workspace.fingerprint(step),
                }
            )
            normalisation = find_normalisation(
                iter_shards(workspace, reference), self.recipe.normalisation, snapshot=reference
            )
            if not workspace.check("normalisation", fingerprint, force=self.force).current:
                workspace.write_json(workspace.normalisation_json, normalisation.document)
                workspace.mark_done("normalisation", fingerprint, [workspace.normalisation_json])
            record["fingerprint"] = fingerprint
        summaries = []
        for snap in self._rendered_snapshots():
            if workspace.fingerprint(f"maps-{snap:03d}") != maps_fingerprint(
                workspace, self.recipe, snap
            ):
                self.console.say(f"images {snap}: left alone, its maps were made by another recipe")
                continue
            with self._step(f"images-{snap:03d}") as record:
                images = write_images(
                    workspace,
                    self.recipe,
                    snap,
                    normalisation,
                    force=self.force,
                    on_progress=self.console.progress,
                )
                record["fingerprint"] = images.fingerprint
                record["counts"] = {"images": images.n_images}
                record["reason"] = images.reason
            self.console.say(f"images {snap}: {images.n_images}{_state(images.reason)}")
            summaries.append(images)
        return summaries

    def _maps_current(self, snapshot: int) -> bool:
        from sfr.render.shards import maps_fingerprint

        step = f"maps-{snapshot:03d}"
        if not self.workspace.has_run(step) or not self.workspace.has_run(f"select-{snapshot:03d}"):
            return False
        fingerprint = maps_fingerprint(self.workspace, self.recipe, snapshot)
        return self.workspace.check(step, fingerprint).current

    def _rendered_snapshots(self) -> list[int]:
        return [int(name.removeprefix("maps-")) for name in self.workspace.steps("maps-")]

    def render(self, snapshots: Sequence[int]) -> list[RenderSummary]:
        """Make maps and images."""
        summaries = self.maps(snapshots)
        self.images(snapshots)
        return summaries

    def train(self, cases: Sequence[str], *, save_models: bool = False) -> TrainSummary:
        """Train the heads of some cases."""
        from sfr.train.fit import train_cases

        self.split()
        with self._step("train") as record:
            summary = train_cases(
                self.workspace,
                self.recipe,
                cases,
                force=self.force,
                save_models=save_models,
                on_progress=self.console.progress,
            )
            record["fingerprint"] = summary.fingerprint
            record["seeds"] = list(range(self.recipe.train.seeds))
            record["counts"] = {
                "heads": len(summary.results),
                "dead": len(summary.dead),
                "left out, SFR = 0": summary.n_dropped_zero_sfr,
                "without image": summary.n_missing_images,
            }
            record["seconds_backbone"] = round(summary.seconds_features, 3)
            record["seconds_heads"] = round(summary.seconds_heads, 3)
            record["failures"] = [
                {"case": r.case, "seed": r.seed, "reason": r.reason} for r in summary.failures
            ]
        self.failures += [f"{r.case}, seed {r.seed}: {r.reason}" for r in summary.failures]
        return summary

    def report(self) -> Path:
        """Write the report, after training where nothing is trained yet."""
        from sfr.report import write_report

        if not self.workspace.trained():
            self.console.say("report: nothing is trained yet, so training comes first")
            self.train(self.recipe.cases.names)
        with self._step("report"):
            summary = write_report(self.workspace, self.recipe, on_progress=self.console.progress)
        return summary.index

    def finish(self) -> None:
        """End the command with its exit code where something failed on the way."""
        if self.failures:
            self.console.say(f"{len(self.failures)} failed; the first is {self.failures[0]}")
            raise typer.Exit(FINISHED_WITH_FAILURES)

    # -- log -----------------------------------------------------------------------------------

    @contextmanager
    def _step(self, name: str) -> Iterator[dict[str, Any]]:
        """Hold the step's lock and leave a line in run.jsonl, however it ends."""
        start = time.monotonic()
        record: dict[str, Any] = {"step": name, "outcome": "failed"}
        try:
            with self.workspace.lock(name):
                yield record
            record["outcome"] = "done"
        except BaseException as error:
            record["error"] = f"{type(error).__name__}: {error}"
            raise
        finally:
            record["seconds"] = round(time.monotonic() - start, 3)
            self.workspace.log({**self._provenance(), **record})

    def _provenance(self) -> dict[str, Any]:
        from importlib.metadata import PackageNotFoundError, version

        from sfr.render import kernels

        versions = {"python": platform.python_version()}
        for package in ("tng-sfr", "numpy", "h5py", "pillow", "keras", "tensorflow"):
            try:
                versions[package] = version(package)
            except PackageNotFoundError:
                continue
        return {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "host": socket.gethostname(),
            "command": " ".join(["sfr", *sys.argv[1:]]),
            "recipe": self.recipe.name,
            "versions": versions,
            "build_profile": kernels.build_profile(),
            "threads": self.threads
            or int(os.environ.get("RAYON_NUM_THREADS") or 0)
            or os.cpu_count(),
        }


def open_run(
    work: Path,
    recipe: str | None,
    console: Console,
    *,
    changes: Mapping[str, Mapping[str, object]] | None = None,
    **options: Any,  # noqa: ANN401
) -> Run:
    """Open a run's folder with its recipe and remember the recipe there.

    Parameters
    ----------
    work : Path
        The folder.
    recipe : str or None
        Name or file; None: the folder's recipe, else ``thesis``.
    console : Console
        Where messages go.
    changes : dict
        Section -> fields that options of the command line change; None leaves a field.
    **options
        Further fields of `Run`.

    Returns
    -------
    Run
        The run.
    """
    workspace = Workspace(work)
    stored = workspace.stored_recipe()
    chosen = load_recipe(recipe) if recipe is not None else stored or load_recipe("thesis")
    for section, fields in (changes or {}).items():
        chosen = chosen.with_fields(section, **fields)
    if stored is not None and stored != chosen:
        console.say(f"recipe.toml changes: {', '.join(_differences(stored, chosen))}")
    workspace.clean_scratch()
    workspace.store_recipe(chosen)
    return Run(workspace, chosen, console, **options)


def _state(reason: str) -> str:
    return f" ({reason})" if reason else ", already there"


def _differences(old: Recipe, new: Recipe) -> list[str]:
    names = []
    before, after = old.to_dict(), new.to_dict()
    for section in {**before, **after}:
        a, b = before.get(section), after.get(section)
        if isinstance(a, dict) and isinstance(b, dict):
            names += [f"{section}.{key}" for key in {**a, **b} if a.get(key) != b.get(key)]
        elif a != b:
            names.append(section)
    return names
