"""The steps of a run as the commands call them: each runs what is missing before it and says so."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sfr.cli.console import FINISHED_WITH_FAILURES, Console, Meter
from sfr.errors import ConfigError, DataMissingError
from sfr.recipe import Recipe, load_recipe, parse_case
from sfr.run.workspace import RECIPE, Workspace, digest

if TYPE_CHECKING:
    from sfr.compute.dask import DaskWorkers
    from sfr.compute.processes import Processes
    from sfr.imaging.images import ImagesSummary
    from sfr.imaging.normalise import Normalisation
    from sfr.render.shards import RenderPlan, RenderSummary
    from sfr.run.tables import Table
    from sfr.sample.select import SelectSummary
    from sfr.sample.split import SplitSummary
    from sfr.simulation import LocalSimulation
    from sfr.train.fit import TrainSummary

__all__ = ["Run", "check_fields", "open_run"]

_NO_SIMULATION = (
    "no simulation is configured; give --sim PATH (TNG50-1 or TNG50-1/output), set SFR_SIM, or "
    "write simulation = PATH in the recipe; sfr demo runs without one"
)
#: What a recipe says besides the experiment.
_NOT_THE_EXPERIMENT = frozenset({"name", "description", "simulation"})


@dataclass
class Run:
    """One command at work in a run's folder."""

    workspace: Workspace
    recipe: Recipe
    console: Console
    sim_path: Path | None = None
    n_workers: int | None = None
    scheduler: str | None = None
    #: Part i of N of the maps that this command renders.
    part: tuple[int, int] = (1, 1)
    threads: int | None = None
    force: bool = False
    strict: bool = False
    allow_partial: bool = False
    mapped: bool = True
    _workers: Processes | DaskWorkers | None = None
    _simulation: LocalSimulation | None = None
    _selected: SelectSummary | None = None
    _has_split: bool = False
    _said: set[str] = field(default_factory=set)
    _has_recipe: bool = False
    _holds: ExitStack = field(default_factory=ExitStack)
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.console.close()
        self._end_workers()
        if self._simulation is not None:
            self._simulation.close()
        self._holds.close()

    def hold(self, what: str, fingerprint: str) -> None:
        """Keep commands with something else out of the folder, to the end of this one.

        Raises
        ------
        ConfigError
            Another command is at work with something else, or at all with ``force``.
        """
        with self.workspace.lock(what):
            sharing = self.workspace.sharing(what, fingerprint, alone=self.force)
            self._holds.enter_context(sharing)

    def _hold_recipe(self) -> None:
        """Hold the folder's recipe, from the first step on: looking at a run needs no hold."""
        if self._has_recipe:
            return
        recipe = {k: v for k, v in self.recipe.to_dict().items() if k not in _NOT_THE_EXPERIMENT}
        self.hold(RECIPE, digest([recipe, self.force]))
        self._has_recipe = True

    @property
    def workers(self) -> Processes | DaskWorkers:
        """Who renders, found once and kept for all snapshots."""
        if self._workers is None:
            from sfr.compute.workers import open_workers

            self._workers = open_workers(
                workers=self.n_workers, threads=self.threads, scheduler=self.scheduler
            )
        return self._workers

    def _end_workers(self) -> None:
        """Give their memory back; the next step that needs them finds them again."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None

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
        from sfr.run.edited_tables import read_sample

        return read_sample(self.workspace) if self.workspace.sample_csv.is_file() else None

    def say_edits(self) -> None:
        """Say once what a person did to sample.csv and split.csv; it counts in what is made."""
        from sfr.run.edited_tables import edits_in_words
        from sfr.sample.select import write_by_snapshot

        said = edits_in_words(self.workspace)
        for name in said.keys() - self._said:
            self.console.say(f"{name}, edited by hand: {said[name]}")
        self._said |= said.keys()
        sample = self.read_sample()
        if said and sample is not None:
            write_by_snapshot(self.workspace, sample, self.recipe.sample)

    # -- steps ---------------------------------------------------------------------------------

    def select(self, snapshots: Sequence[int], *, force: bool = False) -> SelectSummary:
        """Make or extend the sample."""
        from sfr.sample.select import select

        simulation = self.simulation
        with self._step("select", "sample") as record:
            summary = select(
                simulation,
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
        self._say_failures(summary)
        self.say_edits()
        self._selected = summary
        return summary

    def _say_failures(self, summary: SelectSummary) -> None:
        for snap, reason in summary.failures.items():
            self.console.say(f"select {snap}: none, and the others go on: {reason}")
            self.failures.append(f"select {snap}: {reason}")

    def split(self, *, force: bool = False) -> SplitSummary:
        """Make or extend the split."""
        from sfr.sample.select import check_settings
        from sfr.sample.split import split

        check_settings(self.workspace, self.recipe)
        with self._step("split", "split") as record:
            summary = split(self.workspace, self.recipe.split, force=force)
            record["fingerprint"] = summary.fingerprint
            record["counts"] = summary.counts
            record["seeds"] = [self.recipe.split.seed]
            record["reason"] = summary.reason
        sizes = ", ".join(
            f"{n} {name} ({summary.galaxies[name]} galaxies)"
            for name, n in summary.counts.items()
            if n
        )
        self.console.say(f"split: {sizes}{_state(summary.reason)}")
        self._has_split = True
        self.say_edits()
        if summary.reason:
            self._outdate_heads()
        return summary

    def maps(self, snapshots: Sequence[int]) -> list[RenderSummary]:
        """Render the maps of some snapshots."""
        from sfr.render import kernels
        from sfr.render.shards import render_snapshot

        if kernels.build_profile() == "debug":
            self.console.say("warning: the kernels are a debug build, which is slow")
        sample = (self._selected or self.select(snapshots)).sample
        meter = Meter(self.console, self.workers.memory)
        summaries = []
        for snap in self._with_galaxies(snapshots, sample):
            # processes share this step shard by shard, so its lock is not held throughout
            with self._step(f"maps-{snap:03d}", "maps", "orientation", locked=False) as record:
                summary = render_snapshot(
                    self.simulation,
                    self.workspace,
                    self.recipe,
                    sample,
                    snap,
                    workers=self.workers,
                    part=self.part,
                    threads=self.threads,
                    force=self.force,
                    strict=self.strict,
                    allow_partial=self.allow_partial,
                    on_progress=meter,
                )
                record["fingerprint"] = summary.fingerprint
                record["reason"] = summary.reason
                record["counts"] = {
                    "galaxies": summary.n_rendered,
                    "failed": summary.n_failed,
                    "cells": summary.n_cells,
                    "shards": summary.n_shards,
                    "shards made": summary.n_shards_made,
                }
                record["part"] = "/".join(map(str, self.part))
                record["workers"] = self.workers.count
                record["peak_anonymous_bytes"] = meter.peak_memory
                record["failures"] = [
                    {"subhalo_id": i, "reason": text} for i, text in summary.failures
                ]
            self.console.say(
                f"maps {snap}: {summary.n_rendered} galaxies, {summary.n_failed} failed"
                f"{_state(summary.reason)}{meter.summary(f'maps {snap}')}"
            )
            if self.part != (1, 1):
                self.console.say(f"maps {snap}: {_share(summary, self.part)}")
            self.failures += [f"snapshot {snap} subhalo {i}: {t}" for i, t in summary.failures]
            summaries.append(summary)
        return summaries

    def _with_galaxies(self, snapshots: Sequence[int], sample: Table) -> list[int]:
        """Leave out, and say, snapshots of which the sample has no row."""
        there = set(sample["snapshot"].tolist())
        for snap in snapshots:
            if snap not in there:
                self.console.say(f"maps {snap}: left out, sample.csv has no galaxy of it")
        return [snap for snap in snapshots if snap in there]

    def plan(self, snapshots: Sequence[int]) -> list[RenderPlan]:
        """Say what rendering would take; nothing is written into the run's folder."""
        from sfr.render.shards import maps_fingerprint, plan_render
        from sfr.sample.select import select

        with tempfile.TemporaryDirectory(prefix="sfr-") as folder:
            scratch = self.workspace.copy_of_sample(Path(folder))
            summary = select(
                self.simulation,
                scratch,
                self.recipe,
                snapshots,
                allow_partial=self.allow_partial,
                on_progress=self.console.progress,
            )
            self._say_failures(summary)
            sample = summary.sample
            return [
                plan_render(
                    self.simulation,
                    self.workspace,
                    self.recipe,
                    sample,
                    snap,
                    fingerprint=maps_fingerprint(scratch, self.recipe, sample, snap),
                    part=self.part,
                    force=self.force,
                    allow_partial=self.allow_partial,
                )
                for snap in self._with_galaxies(snapshots, sample)
            ]

    def images(self, *, only_stale: bool = False) -> list[ImagesSummary]:
        """Normalise by the reference snapshot and write the images of all current maps.

        ``only_stale`` neither repeats nor mentions those that are current.
        """
        from sfr.imaging.images import write_images

        rendered = self._rendered()
        reference = self.recipe.normalisation.reference_snapshot
        if not rendered.get(reference):
            wanted = ",".join(map(str, sorted({*rendered, reference})))
            raise DataMissingError(
                f"the images are normalised by snapshot {reference}, which is not rendered with "
                "these settings yet; the maps that are rendered are kept. Run: "
                f"sfr render --snap {wanted} --work {shlex.quote(str(self.workspace.root))}"
            )
        force = self.force and not only_stale
        normalisation = self._normalisation(reference, force=force)
        if normalisation.is_partial or (normalisation.galaxies and not only_stale):
            warning = "warning: " if normalisation.is_partial else ""
            self.console.say(f"{warning}the scale of the images is set by {normalisation.galaxies}")
        meter = Meter(self.console, self.workers.memory)
        summaries = []
        for snap, is_current in rendered.items():
            if not is_current:
                self.console.say(
                    f"images {snap}: left alone, its maps were made with other settings or rows"
                )
                continue
            with self._step(f"images-{snap:03d}", "image") as record:
                images = write_images(
                    self.workspace,
                    self.recipe,
                    snap,
                    normalisation,
                    workers=self.workers,
                    force=force,
                    on_progress=meter,
                )
                record["fingerprint"] = images.fingerprint
                record["counts"] = {"images": images.n_images}
                record["reason"] = images.reason
            if images.reason or not only_stale:
                self.console.say(f"images {snap}: {images.n_images}{_state(images.reason)}")
            summaries.append(images)
        if any(images.reason for images in summaries):
            self._outdate_heads()
        return summaries

    def _outdate_heads(self) -> None:
        """Let no table compare heads that were trained on another split or other images."""
        from sfr.train.evaluate import SETTINGS

        if self.workspace.recalled(SETTINGS) is not None:
            self.workspace.remember(SETTINGS, "split or images changed")

    def _normalisation(self, reference: int, *, force: bool) -> Normalisation:
        """Find the divisors of the channels, or read them where they are current."""
        from sfr.imaging.normalise import find_normalisation, read_normalisation
        from sfr.run.shards import iter_shards, maps_digest

        workspace = self.workspace
        with self._step("normalisation", "normalisation") as record:
            fingerprint = record["fingerprint"] = digest(
                {
                    "normalisation": self.recipe.section("normalisation"),
                    "maps": maps_digest(workspace, reference),
                    "catalogue": workspace.catalogue_read(reference),
                }
            )
            if workspace.check("normalisation", fingerprint, force=force).current:
                return read_normalisation(workspace, self.recipe.channels)
            normalisation = find_normalisation(
                iter_shards(workspace, reference, with_maps=False),
                self.recipe.normalisation,
                snapshot=reference,
                catalogue=workspace.catalogue_read(reference),
            )
            record["galaxies"] = normalisation.document["galaxies"]
            workspace.write_json(workspace.normalisation_json, normalisation.document)
            workspace.mark_done("normalisation", fingerprint, [workspace.normalisation_json])
            return normalisation

    def _rendered(self) -> dict[int, bool]:
        """Return the snapshots that have maps, and whether recipe and sample ask for these."""
        from sfr.render.shards import maps_fingerprint

        sample = self.read_sample()
        found = {}
        numbers = (step.removeprefix("maps-") for step in self.workspace.steps("maps-"))
        for step, snap in ((f"maps-{n}", int(n)) for n in numbers if n.isdecimal()):
            found[snap] = (
                sample is not None
                and snap in sample["snapshot"]
                and self.workspace.check(
                    step, maps_fingerprint(self.workspace, self.recipe, sample, snap)
                ).current
            )
        return found

    def _require_current_maps(self) -> bool:
        """Stop where sample or maps are not what the recipe asks for; whether there are maps."""
        from sfr.sample.select import check_settings

        check_settings(self.workspace, self.recipe)
        rendered = self._rendered()
        stale = [snap for snap, is_current in rendered.items() if not is_current]
        if stale:
            listed = ",".join(map(str, stale))
            raise DataMissingError(
                f"the maps of snapshots {listed} were made with other settings or rows than "
                f"recipe.toml and sample.csv say now; run sfr render --snap {listed} "
                f"--work {shlex.quote(str(self.workspace.root))}"
            )
        return bool(rendered)

    def _current_images(self) -> None:
        """Make images that are not what the recipe asks for; stop where their maps are not."""
        if self._require_current_maps():
            self.images(only_stale=True)

    def check_available(self, snapshots: Sequence[int]) -> None:
        """Fail before hours of work where a later step cannot do what the recipe asks for."""
        from sfr.imaging.cases import case_function
        from sfr.imaging.normalise import check_recipe
        from sfr.sample.split import check_folds

        check_recipe(self.recipe.normalisation)
        check_folds(self.recipe.split)
        for name in self.recipe.case_names:
            case_function(name, self.recipe.cases, self.recipe.channels)
        reference = self.recipe.normalisation.reference_snapshot
        if reference not in snapshots and not self.workspace.has_run(f"maps-{reference:03d}"):
            raise ConfigError(
                f"the images are normalised by snapshot {reference}, which is not among those of "
                f"this run ({', '.join(map(str, snapshots))}); add it to --snap, or set "
                "normalisation.reference_snapshot in a recipe"
            )

    def check_channels(self) -> None:
        """Refuse a recipe whose channels are not those that the images were made of."""
        stored = self.workspace.stored_recipe()
        if stored is not None and stored.channels != self.recipe.channels:
            shown, wanted = (", ".join(r.channels) for r in (stored, self.recipe))
            raise ConfigError(
                f"the images of {self.workspace.root} show {shown}, the recipe has {wanted}; leave "
                "--recipe out, or run sfr render with this recipe"
            )

    def render(self, snapshots: Sequence[int]) -> list[RenderSummary]:
        """Make maps and images; a part of the maps only where one is asked for."""
        summaries = self.maps(snapshots)
        if self.part != (1, 1):
            waiting = [str(s.snapshot) for s in summaries if not s.is_complete]
            state = "so are the others"
            if waiting:
                state = f"not yet all of snapshots {', '.join(waiting)}"
            self.console.say(
                f"part {self.part[0]} of {self.part[1]} of the maps is done, {state}; when all "
                "parts are, the same command without --shard checks them and makes the images"
            )
        else:
            self.images()
        self._end_workers()
        return summaries

    def train(
        self,
        cases: Sequence[str],
        *,
        save_models: bool = False,
        together: int = 1,
        seeds_apart: bool = False,
        processes: int | None = None,
    ) -> TrainSummary:
        """Train the heads of some cases: here, in so many processes, or on the Dask cluster."""
        from sfr.train.fit import train_cases

        # before split.csv is touched
        self._require_current_maps()
        if not self._has_split:
            self.split()
        self._current_images()
        with (
            self._trainers(processes) as workers,
            self._step("train", "train", "cases") as record,
        ):
            summary = train_cases(
                self.workspace,
                self.recipe,
                cases,
                force=self.force,
                save_models=save_models,
                together=together,
                seeds_apart=seeds_apart,
                workers=workers,
                on_progress=self.console.progress,
            )
            record["workers"] = 1 if workers is None else workers.count
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

    def _trainers(self, processes: int | None) -> Processes | DaskWorkers | nullcontext[None]:
        """Find those who train; a context of nobody where this process does."""
        if processes in (None, 1) and self.scheduler is None:
            return nullcontext()
        from sfr.compute.workers import open_workers
        from sfr.nn.keras_import import stated_backend

        backends = [stated_backend(), *filter(find_spec, ("tensorflow", "jax", "torch"))]
        packages = ("keras", *list(filter(None, backends))[:1])
        return open_workers(workers=processes, scheduler=self.scheduler, packages=packages)

    def report(self) -> Path:
        """Write the report, after training where nothing is trained yet."""
        from sfr.report import write_report
        from sfr.sample.split import is_current

        if not self.workspace.trained():
            self.console.say("report: nothing is trained yet, so training comes first")
            self.train(self.recipe.case_names)
        self._current_images()
        self.say_edits()
        stored = self.workspace.stored_recipe() or self.recipe
        if not is_current(self.workspace, stored.split):
            self.console.say("report: sample.csv or split.csv was edited since the last training")
            self._outdate_heads()
        with self._step("report") as record:
            summary = write_report(self.workspace, self.recipe, on_progress=self.console.progress)
            record["counts"] = {"cases": summary.n_cases, "figures": len(summary.figures)}
        return summary.index

    def finish(self) -> None:
        """End the command with its exit code where something failed on the way."""
        if self.failures:
            self.console.say(f"{len(self.failures)} failed; the first is {self.failures[0]}")
            raise typer.Exit(FINISHED_WITH_FAILURES)

    # -- log -----------------------------------------------------------------------------------

    @contextmanager
    def _step(self, name: str, *sections: str, locked: bool = True) -> Iterator[dict[str, Any]]:
        """Hold the step's lock and leave a line in run.jsonl, however it ends.

        When it is done, recipe.toml takes over the sections that it used.
        """
        self._hold_recipe()
        start = time.monotonic()
        record: dict[str, Any] = {"step": name, "outcome": "failed"}
        try:
            with self.workspace.lock(name) if locked else nullcontext():
                yield record
            self._remember(sections)
            record["outcome"] = "done"
        except BaseException as error:
            record["error"] = f"{type(error).__name__}: {error}"
            raise
        finally:
            record["seconds"] = round(time.monotonic() - start, 3)
            self.workspace.log({**self._provenance(), **record})

    def _remember(self, sections: Sequence[str]) -> None:
        with self.workspace.lock(RECIPE):
            self._store_recipe(sections)

    def _store_recipe(self, sections: Sequence[str]) -> None:
        stored = self.workspace.stored_recipe()
        if stored is not None:
            names = {*sections, "name", "description", "simulation"}
            if names & {"maps", "cases"} and stored.channels != self.recipe.channels:
                # cases are named after channels
                names |= {"maps", "cases"}
            changes = {name: getattr(self.recipe, name) for name in names}
            self.workspace.store_recipe(dataclasses.replace(stored, **changes))
        else:
            self.workspace.store_recipe(self.recipe)

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
            "threads": self.threads or os.environ.get("RAYON_NUM_THREADS") or os.cpu_count(),
        }


def open_run(
    work: Path,
    recipe: str | None,
    console: Console,
    *,
    changes: Mapping[str, Mapping[str, object]] | None = None,
    cases: Sequence[str] = (),
    must_exist: bool = False,
    **options: Any,  # noqa: ANN401
) -> Run:
    """Open a run's folder with its recipe; the first step that is done remembers it there.

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
    cases : sequence of str
        Cases that the command names, which must be those of the recipe's channels.
    must_exist : bool
        The command cannot start a run.
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
    check_fields(chosen)
    for case in cases:
        parse_case(case, chosen.channels)
    if stored is not None and stored != chosen:
        console.say(f"recipe.toml changes: {', '.join(_differences(stored, chosen))}")
    elif stored is None and must_exist:
        raise DataMissingError(
            f"{workspace.root} is not the folder of a run; run sfr select --work {work} first, or "
            "all steps with sfr run"
        )
    workspace.clean_scratch()
    origin = "" if recipe is not None or stored is None else f", from {workspace.recipe_toml}"
    console.say(f"recipe {chosen.name}{origin}: {chosen.description}")
    return Run(workspace, chosen, console, **options)


def check_fields(recipe: Recipe) -> None:
    """Raise ConfigError where a channel names a quantity that does not exist."""
    from sfr.render.fields import required_fields

    required_fields([*recipe.maps.channels, *recipe.maps.candidates])


def _state(reason: str) -> str:
    return f" ({reason})" if reason else ", already there"


def _share(summary: RenderSummary, part: tuple[int, int]) -> str:
    """Say how much of a snapshot a part is."""
    i, n = part
    text = f"part {i} of {n} has {summary.n_shards} of {summary.n_shards_of_all} shards"
    if summary.n_shards_of_all < n:
        text += f", which are too few for {n} parts: {n - summary.n_shards_of_all} have none"
    return text


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
