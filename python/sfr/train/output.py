"""What the heads of a case leave: files whose number grows with cases, not with folds and seeds.

``train/<case>/`` holds

- ``metrics.json``: one entry a head (fold, seed). A head that stands there is finished.
- ``predictions.csv``: every image once, with its truth and one column a seed, ``seed_0`` ...;
  with several folds from the head of the fold whose test subset it is in, with one from that one.
  ``predictions-epoch-00500.csv`` the same after so many epochs.
- ``history.csv``: losses, one row a head and epoch.
- ``heads.npz``: where every head stands, finished or not: `sfr.train.state`.
- ``probe.npz`` in place of it and of the histories, where the probe is ridge: the fit of each fold;
  and ``blocks.csv``, what each block of the backbone predicts by itself, every image once.
- ``failed.json``: heads that the last training could not train.
- ``checkpoint-<fold>-<seed>.npz``: heads that are being trained, named after the first of them.
- ``seed-<k>/``, in recipes with one fold: what the listing leaves, `PUBLISHED`.

Whoever finishes heads gathers them into these files, under the case's claim.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataFormatError
from sfr.paths import without_folders
from sfr.run.checkpoint import read_checkpoint, write_checkpoint
from sfr.run.documents import read_json
from sfr.run.names import ModelId
from sfr.run.tables import Table, read_table, write_table
from sfr.run.workspace import StepState, Workspace
from sfr.train.probe import Ridge, unpacked
from sfr.train.state import State, read_states, write_states

__all__ = [
    "HISTORY",
    "PREDICTIONS",
    "PUBLISHED",
    "CaseFiles",
    "CaseOutput",
    "ModelOutput",
    "seed_column",
]

#: Columns of ``predictions.csv`` before those of the seeds; a fold of -1 tests no such image.
PREDICTIONS: Final = {
    "filename": str,
    "snapshot": int,
    "subhalo_id": int,
    "view": int,
    "galaxy_id": int,
    "fold": int,
    "subset": str,
    "truth": float,
}
#: Columns of ``history.csv``.
HISTORY: Final = {"fold": int, "seed": int, "epoch": int, "loss": float, "validation_loss": float}
_ADVICE: Final = "train this case again"

#: What a head of a recipe with one fold leaves besides, in a folder of its own: as published.
PUBLISHED: Final = ("head.weights.h5", "best.weights.h5", "YValues.npy", "metrics.json")

Metrics = dict[str, Any]
Values = NDArray[np.float64]


def seed_column(seed: int) -> str:
    """Name the column of a seed's predictions."""
    return f"seed_{seed}"


@dataclass(frozen=True)
class ModelOutput:
    """What a finished model leaves.

    Attributes
    ----------
    model : ModelId
        The model.
    metrics : dict
        Its entry of ``metrics.json``.
    prediction : ndarray of float64, shape (N,)
        For all images, those of other folds included [dex].
    state : State or None
        Of this head alone, after its last epoch; None for a model without epochs, such as a
        control that is fitted at once.
    """

    model: ModelId
    metrics: Metrics
    prediction: Values
    state: State | None = None


@dataclass(frozen=True)
class CaseOutput:
    """The finished heads of a case, read from its files when they are asked for.

    Attributes
    ----------
    files : CaseFiles
        The case's files.
    metrics : dict of ModelId to dict
        Entries of ``metrics.json``.
    """

    files: CaseFiles
    metrics: Mapping[ModelId, Metrics]

    @cached_property
    def predictions(self) -> Table:
        """Columns `PREDICTIONS` and one of each seed; NaN where no head tests an image."""
        return self.predictions_in(self.files.predictions)

    def predictions_in(self, path: Path) -> Table:
        """Return the same columns of a file that may be one of another epoch."""
        seeds = {seed_column(model.seed): float for model in sorted(self.metrics)}
        return read_table(path, {**PREDICTIONS, **seeds})

    @cached_property
    def history(self) -> Table | None:
        """Columns `HISTORY`; None where the file is not there."""
        return read_table(self.files.history, HISTORY) if self.files.history.is_file() else None

    def history_of(self, model: ModelId) -> Table:
        """Return the rows of a head; no column where the file is not there."""
        table = self.history or {}
        return {
            name: column[(table["fold"] == model.fold) & (table["seed"] == model.seed)]
            for name, column in table.items()
        }


class CaseFiles:
    """The files of a case's heads.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    case : str
        Version of the image.
    """

    def __init__(self, workspace: Workspace, case: str) -> None:
        self.workspace, self.case = workspace, case
        folder = workspace.case(case)
        self.folder = folder
        self.metrics = folder / "metrics.json"
        self.predictions = folder / "predictions.csv"
        self.history = folder / "history.csv"
        self.heads = folder / "heads.npz"
        self.probe = folder / "probe.npz"
        self.blocks = folder / "blocks.csv"
        self.failed = folder / "failed.json"

    def predictions_at(self, epoch: int) -> Path:
        """Return the file of the predictions after an epoch."""
        return self.folder / f"predictions-epoch-{epoch:05d}.csv"

    def checkpoint(self, models: Iterable[ModelId]) -> Path:
        """Return the file of heads that are being trained side by side."""
        first = min(models)
        return self.folder / f"checkpoint-{first.fold}-{first.seed}.npz"

    def checkpoints(self) -> list[Path]:
        """Return all such files that are there."""
        name = re.compile(r"checkpoint-\d+-\d+\.npz")
        return sorted(path for path in self.folder.glob("checkpoint-*") if name.match(path.name))

    # -- reading -------------------------------------------------------------------------------

    def read(self) -> CaseOutput:
        """Read which heads are finished, and where their other numbers are.

        Raises
        ------
        DataFormatError
            ``metrics.json`` cannot be read.
        """
        if not self.metrics.is_file():
            return CaseOutput(self, {})
        content = read_json(self.metrics, _ADVICE)
        try:
            entries = {self._model(entry): dict(entry) for entry in content["heads"]}
        except (TypeError, ValueError, KeyError) as error:
            raise DataFormatError(
                f"{self.metrics} lists no heads with fold and seed; {_ADVICE}"
            ) from error
        return CaseOutput(self, dict(sorted(entries.items())))

    def check(self, fingerprint: str, *, force: bool = False) -> StepState:
        """Say whether what is finished was made with a fingerprint, and is whole."""
        return self.workspace.check(self._step, fingerprint, force=force)

    def finished(self, fingerprint: str) -> dict[ModelId, Metrics]:
        """Return the entries of heads that were made with a fingerprint; none that is damaged."""
        return self._finished() if self.check(fingerprint).current else {}

    def states(self, key: str, epochs: int) -> tuple[dict[ModelId, State], dict[ModelId, int]]:
        """Return where heads stand that can be trained on, and those that were stopped.

        Parameters
        ----------
        key : str
            Digest of what their training depends on so far.
        epochs : int
            Heads that are beyond this epoch are of no use.

        Returns
        -------
        dict of ModelId to State
            Each head by itself, as far as it ever was.
        dict of ModelId to int
            Epoch in which a loss was not finite.
        """
        found: dict[ModelId, State] = {}
        stopped: dict[ModelId, int] = {}
        for path in (self.heads, *self.checkpoints()):
            for state in read_states(path, key):
                stopped |= {model: at for model, at in state.failed.items() if at <= epochs}
                for model, alone in state.each().items():
                    known = found[model].epoch if model in found else -1
                    if known < alone.epoch <= epochs:
                        found[model] = alone
        return found, stopped

    def fits(self, fingerprint: str) -> list[Ridge]:
        """Return the fits of ridge of all folds; none where they are of another fingerprint."""
        found = read_checkpoint(self.probe, fingerprint)
        return unpacked(found[1]) if found else []

    def failures(self) -> tuple[str, dict[ModelId, str]]:
        """Return the settings that heads failed with, and the reason of each; none if lost."""
        try:
            content = read_json(self.failed, _ADVICE)
            reasons = {self._model(entry): str(entry["reason"]) for entry in content["heads"]}
            return str(content["settings"]), reasons
        except (DataFormatError, OSError, KeyError, TypeError, ValueError):
            return "", {}

    # -- writing -------------------------------------------------------------------------------

    def start(self, fingerprint: str, models: Collection[ModelId]) -> list[ModelId]:
        """Take heads out of what is finished: these, and all of another fingerprint.

        So no table ever averages heads of different settings. Returns the others that went.
        """
        with self._claim():
            found, current = self._finished(), self.finished(fingerprint)
            kept = {model: entry for model, entry in current.items() if model not in models}
            if kept.keys() != found.keys() or not current:
                self.metrics.unlink(missing_ok=True)
                self.workspace.forget(self._step)
                if kept:
                    self._write_metrics(kept)
                    self.workspace.mark_done(self._step, fingerprint, self._files(kept))
        return [model for model in found if model not in kept and model not in models]

    def gather(
        self, fingerprint: str, key: str, images: Table, outputs: Sequence[ModelOutput]
    ) -> None:
        """Write finished heads to the case's files, beside those that others have finished.

        Parameters
        ----------
        fingerprint : str
            Digest of all that heads of the case depend on, but for fold and seed.
        key : str
            The same up to any epoch: `states`.
        images : dict of str to ndarray
            Columns `PREDICTIONS`.
        outputs : sequence of ModelOutput
            The heads; their published files, if any, are there already.
        """
        new = {output.model: output for output in outputs}
        with self._claim():
            old = CaseOutput(self, self.finished(fingerprint))
            self.workspace.forget(self._step)
            entries = dict(old.metrics) | {model: new[model].metrics for model in new}
            states = {m: one for s in read_states(self.heads, key) for m, one in s.each().items()}
            trained = {model: o.state for model, o in new.items() if o.state is not None}
            if states := states | trained:
                write_states(self.workspace, self.heads, key, State.by_epoch(states))
            for path in (self.probe, self.blocks):
                path.unlink(missing_ok=True)
            self._write_predictions(old, images, new, trained)
            self._write_history(old, trained)
            self._write_metrics(entries)
            self.workspace.mark_done(self._step, fingerprint, self._files(entries))

    def replace(
        self,
        fingerprint: str,
        images: Table,
        found: Mapping[ModelId, tuple[Metrics, Values]],
        *,
        fits: Mapping[str, NDArray[Any]] | None = None,
        blocks: Table | None = None,
    ) -> None:
        """Write what needs no training, in place of all that the case had.

        Parameters
        ----------
        fingerprint : str
            Digest of all that it depends on.
        images : dict of str to ndarray
            Columns `PREDICTIONS`.
        found : mapping of ModelId to (dict, ndarray of float64, shape (N,))
            Entry of ``metrics.json``, and predictions for all images, of each fold.
        fits : mapping of str to ndarray, optional
            Content of ``probe.npz``.
        blocks : dict of str to ndarray, optional
            Columns of ``blocks.csv`` besides those that say which image it is.
        """
        with self._claim():
            self.workspace.forget(self._step)
            of_heads = [self.folder.glob(f"seed-*/{name}") for name in ("model.keras", *PUBLISHED)]
            for path in chain(self._files(self._finished()), self.checkpoints(), *of_heads):
                path.unlink(missing_ok=True)
            table = _prediction_table(images, {model: p for model, (_, p) in found.items()})
            write_table(self.workspace, self.predictions, table)
            if fits is not None:
                write_checkpoint(self.workspace, self.probe, fingerprint, {}, dict(fits))
            if blocks is not None:
                which = {name: images[name] for name in ("filename", "fold")}
                write_table(self.workspace, self.blocks, which | blocks)
            entries = {model: entry for model, (entry, _) in found.items()}
            self._write_metrics(entries)
            self.workspace.mark_done(self._step, fingerprint, self._files(entries))

    def _write_predictions(
        self,
        old: CaseOutput,
        images: Table,
        new: Mapping[ModelId, ModelOutput],
        trained: Mapping[ModelId, State],
    ) -> None:
        epochs = sorted({epoch for state in trained.values() for epoch in state.marks})
        for path in self.folder.glob("predictions-epoch-*.csv"):
            if path not in map(self.predictions_at, epochs):
                path.unlink()
        tables = {self.predictions: {model: o.prediction for model, o in new.items()}}
        for epoch in epochs:
            marks = {model: state.marks[epoch][0] for model, state in trained.items()}
            tables[self.predictions_at(epoch)] = marks
        for path, columns in tables.items():
            before = old.predictions_in(path) if old.metrics else {}
            known = {m: before[seed_column(m.seed)] for m in old.metrics}
            write_table(self.workspace, path, _prediction_table(images, {**known, **columns}))

    def _write_history(self, old: CaseOutput, trained: Mapping[ModelId, State]) -> None:
        parts = {model: _history(state) for model, state in trained.items()}
        if old.metrics and old.history is not None:
            for model in old.metrics:
                parts.setdefault(model, old.history_of(model))
        if not parts:
            return
        ordered = [parts[model] for model in sorted(parts)]
        columns = {name: np.concatenate([part[name] for part in ordered]) for name in HISTORY}
        write_table(self.workspace, self.history, columns)

    def _write_metrics(self, entries: Mapping[ModelId, Metrics]) -> None:
        heads = [entries[model] for model in sorted(entries)]
        self.workspace.write_json(self.metrics, {"heads": heads})

    def say_failed(self, settings: str, reasons: Mapping[ModelId, str]) -> None:
        """Keep why heads could not be trained with some settings, in place of what was kept."""
        if not reasons:
            self.failed.unlink(missing_ok=True)
            return
        heads = [
            {"fold": model.fold, "seed": model.seed, "reason": without_folders(reasons[model])}
            for model in sorted(reasons)
        ]
        self.workspace.write_json(self.failed, {"settings": settings, "heads": heads})

    def _finished(self) -> dict[ModelId, Metrics]:
        """Entries of ``metrics.json``; none where it cannot be read."""
        try:
            return dict(self.read().metrics)
        except DataFormatError:
            return {}

    def _files(self, models: Iterable[ModelId]) -> list[Path]:
        """Return what is there of the heads' files, but for whole networks."""
        files = {self.metrics, self.predictions, self.history, self.heads, self.probe, self.blocks}
        files |= {*self.folder.glob("predictions-epoch-*.csv")}
        files |= {self.workspace.head(model) / name for model in models for name in PUBLISHED}
        return sorted(path for path in files if path.is_file())

    def _model(self, entry: Mapping[str, Any]) -> ModelId:
        """Say which head an entry of a file is of."""
        return ModelId(self.case, int(entry["fold"]), int(entry["seed"]))

    @property
    def _step(self) -> str:
        return f"train-{self.case}"

    def _claim(self) -> AbstractContextManager[bool]:
        return self.workspace.claim(f"heads-{self.case}", wait=True)


def _prediction_table(images: Table, found: Mapping[ModelId, Values]) -> Table:
    """Return the columns of ``predictions.csv``: each image from the head that is tested on it."""
    fold = images["fold"]
    columns = dict(images)
    for seed in sorted({model.seed for model in found}):
        column = np.full(fold.size, np.nan)
        for model, values in found.items():
            if model.seed == seed:
                mine = fold == model.fold
                column[mine] = values[mine]
        columns[seed_column(seed)] = column
    return columns


def _history(state: State) -> Table:
    (model,) = state.models
    epochs = np.arange(1, state.epoch + 1)
    return {
        "fold": np.full(epochs.size, model.fold),
        "seed": np.full(epochs.size, model.seed),
        "epoch": epochs,
        "loss": state.loss[0],
        "validation_loss": state.validation_loss[0],
    }
