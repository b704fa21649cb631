"""The semantic autoencoder: plan and train encoders, evaluate them, fit images with them."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sfr.errors import ConfigError
from sfr.paths import chosen_files, plain
from sfr.progress import Progress, silent
from sfr.run.tables import write_table
from sfr.run.workspace import Workspace
from sfr.semantic import figures
from sfr.semantic.encoders import FAST
from sfr.semantic.evaluate import Evaluation, evaluate, size_rows
from sfr.semantic.files import SUFFIXES, read_images
from sfr.semantic.fit import Fit, FitOptions, fit_images
from sfr.semantic.problem import get_problem
from sfr.semantic.trained import Encoder, find_encoders, load_encoder, obtain_encoder
from sfr.semantic.training import Training, default_training, published_training

__all__ = [
    "EvaluatedEncoder",
    "FileFits",
    "FolderEvaluation",
    "TrainedEncoder",
    "evaluate_encoders",
    "fit_files",
    "plan_trainings",
    "train_encoders",
]

log = logging.getLogger(__name__)

Levels = tuple[float, float]

#: Rows of the figures of fits and of examples.
_SHOWN_FITS: Final = 12
_SHOWN_EXAMPLES: Final = 5
#: Noise of the published trainings, and of an evaluation, where none is asked for.
_PUBLISHED_NOISE: Final = (0.0, 0.05, 0.1)
_EVALUATED_NOISE: Final = (0.025, 0.05, 0.1)
#: What encoders learn from, the self-supervised first.
_ORDER: Final = ("its own input", "clean images", "true parameters")


@dataclass(frozen=True)
class TrainedEncoder:
    """An encoder of a folder, and what it took.

    Attributes
    ----------
    encoder : Encoder
        The encoder.
    is_new : bool
        Whether it was trained now.
    seconds : float
        How long it took to train or to load [s].
    """

    encoder: Encoder
    is_new: bool
    seconds: float


@dataclass(frozen=True)
class EvaluatedEncoder:
    """An encoder of a folder, evaluated at some levels of noise.

    Attributes
    ----------
    training : Training
        How it was trained.
    folder : Path
        Its folder, with evaluation.csv and the figures.
    evaluations : list of Evaluation
        One a level.
    """

    training: Training
    folder: Path
    evaluations: list[Evaluation]

    def rows(self) -> list[dict[str, Any]]:
        """Return the table: a row per level, parameter and method."""
        return [row for evaluation in self.evaluations for row in evaluation.rows()]


@dataclass(frozen=True)
class FolderEvaluation:
    """Evaluations of the encoders of a folder.

    Attributes
    ----------
    encoders : list of EvaluatedEncoder
        The self-supervised first.
    files : list of Path
        Table and figure of the study of sizes; empty with fewer than two published sizes.
    """

    encoders: list[EvaluatedEncoder]
    files: list[Path]


@dataclass(frozen=True)
class FileFits:
    """Fits of the images of some files.

    Attributes
    ----------
    fits : list of Fit
        One an image.
    files : list of Path
        What was written; empty without a folder.
    """

    fits: list[Fit]
    files: list[Path]

    @property
    def failed(self) -> list[Fit]:
        """Fits without numbers; their flags say why."""
        return [fit for fit in self.fits if not fit.has_numbers]


def plan_trainings(
    problem: str = "paper",
    encoders: Sequence[str] = (FAST,),
    *,
    loss: str | None = None,
    noise: Sequence[Levels] = (),
    targets: Sequence[str] = ("noisy", "clean"),
    psf_fwhm: float = 0.0,
    epochs: int | None = None,
    images: int | None = None,
    seed: int = 0,
) -> list[Training]:
    """Return the trainings of every combination of encoders, noise and targets.

    Parameters
    ----------
    problem : str
        Name of the family of galaxies: a key of `sfr.semantic.problem.PROBLEMS`.
    encoders : sequence of str
        ``fast``, or sizes of the published network.
    loss : str or None
        ``mae``, ``chi2`` or ``bound``; None: ``bound`` for ``fast``, else ``mae``.
    noise : sequence of tuple of float
        Lowest and highest noise of the images of each training, equal for ``mae``; none: with
        ``mae`` clean, 0.05 and 0.1, else the range of the problem.
    targets : sequence of str
        ``noisy``, ``clean`` or both: what ``mae`` and ``chi2`` compare with.
    psf_fwhm : float
        Gaussian point spread function [pixel]; 0: none.
    epochs, images : int or None
        Passes, and images to train on; None: those of each kind of training.
    seed : int
        Decides everything random.

    Returns
    -------
    list of Training
        One an encoder that is to be trained.

    Raises
    ------
    ConfigError
        A name that is not known, or what does not go together.
    """
    family = get_problem(problem).with_psf(psf_fwhm)
    changes = {"epochs": epochs, "images": images, "seed": seed}
    given: dict[str, Any] = {k: value for k, value in changes.items() if value is not None}
    found: list[Training] = []
    for name in encoders:
        kind = loss or ("bound" if name == FAST else "mae")
        if kind == "mae":
            # a clean image is its own target
            found += [
                published_training(family, name, level, target)
                for level in _single_levels(noise)
                for target in (targets if level > 0 else ["clean"])
            ]
        else:
            found += [
                default_training(family.with_noise(*mix), name, loss=kind, target=target)
                for mix in noise or [family.noise]
                for target in (["noisy"] if kind == "bound" else targets)
            ]
    return [replace(training, **given) for training in found]


def _single_levels(noise: Sequence[Levels]) -> Sequence[float]:
    for low, high in noise:
        if low != high:
            raise ConfigError(
                f"--noise {low:g}-{high:g}: the published loss, mae, takes one level a network, "
                "such as 0.05; a mix is for chi2 and bound"
            )
    return [low for low, _ in noise] or _PUBLISHED_NOISE


def train_encoders(
    work: str | Path,
    trainings: Sequence[Training],
    *,
    force: bool = False,
    on_progress: Progress = silent,
) -> list[TrainedEncoder]:
    """Train encoders; one that is current is not trained again.

    Parameters
    ----------
    work : str or Path
        Folder that keeps them.
    trainings : sequence of Training
        How, as from `plan_trainings`.
    force : bool
        Train even what is current.
    on_progress : callable
        Hears of images made and of batches.

    Returns
    -------
    list of TrainedEncoder
        One a training.

    Raises
    ------
    TrainingError
        A loss is not finite, or Keras has no backend.
    """
    found = []
    for training in trainings:
        start = time.monotonic()
        encoder, is_new = obtain_encoder(
            Workspace(work), training, force=force, on_progress=on_progress
        )
        found.append(TrainedEncoder(encoder, is_new, time.monotonic() - start))
    return found


def evaluate_encoders(
    work: str | Path,
    name: str | None = None,
    *,
    noise: Sequence[float] = (),
    images: int = 5000,
    steps: Sequence[int] = (1, 2),
    with_least_squares: bool = True,
    seed: int = 0,
    on_progress: Progress = silent,
) -> FolderEvaluation:
    """Evaluate encoders of a folder, and write tables and figures beside them.

    Parameters
    ----------
    work : str or Path
        Folder that they were trained in.
    name : str or None
        Name of an encoder, as ``paper-fast``, or of one of its seeds; None: all.
    noise : sequence of float
        Levels; none: 0.025, 0.05 and 0.1, or the level that an encoder was trained for.
    images, steps, with_least_squares, seed
        As for `sfr.semantic.evaluate.evaluate`.
    on_progress : callable
        Hears of the images.

    Returns
    -------
    FolderEvaluation
        Errors beside the Cramer-Rao bound, SciPy's fit and what was published.

    Raises
    ------
    DataMissingError, DataFormatError
        There is no such encoder, or it cannot be read.
    ConfigError
        Fewer than two images, or no level of noise.
    """
    workspace = Workspace(work)
    loaded = [(folder, load_encoder(folder)) for folder in find_encoders(workspace, name)]
    found = []
    for folder, encoder in sorted(loaded, key=lambda pair: _place(pair[1].training)):
        low, high = encoder.training.problem.noise
        evaluations = [
            evaluate(
                encoder,
                level,
                images=images,
                steps=steps,
                with_least_squares=with_least_squares,
                seed=seed,
                on_progress=on_progress,
            )
            for level in noise or ([low] if low == high else _EVALUATED_NOISE)
        ]
        found.append(EvaluatedEncoder(encoder.training, folder, evaluations))
        _write_evaluation(workspace, found[-1])
        log.info("%s, seed %d: evaluated", encoder.training.name, encoder.training.seed)
    return FolderEvaluation(found, _write_sizes(workspace, found))


def _place(training: Training) -> int:
    return _ORDER.index(training.learned_from)


def _write_evaluation(workspace: Workspace, found: EvaluatedEncoder) -> None:
    _write_rows(workspace, found.folder / "evaluation.csv", found.rows())
    evaluations = found.evaluations
    middle = evaluations[len(evaluations) // 2]
    best = list(middle.errors)[-1]
    pictures = {
        "examples.png": _examples(middle),
        "recovered.png": figures.recovered_figure(middle, "network"),
        "errors.png": figures.error_figure(middle, "network"),
        "limit.png": figures.limit_figure(evaluations),
    }
    if best != "network":
        pictures["errors_after_steps.png"] = figures.error_figure(middle, best)
    for name, content in pictures.items():
        _write_bytes(workspace, found.folder / name, content)


def _examples(evaluation: Evaluation) -> bytes:
    shown = slice(0, _SHOWN_EXAMPLES)
    models = evaluation.models("network", _SHOWN_EXAMPLES)
    titles = [f"A {row[0]:.4f}, e {row[1]:.2f}, θ {row[2]:.0f}°" for row in evaluation.truth[shown]]
    return figures.examples_figure(list(evaluation.data), list(models), titles)


def _write_sizes(workspace: Workspace, found: Sequence[EvaluatedEncoder]) -> list[Path]:
    """Write table and figure of the study of sizes, where there is more than one size."""
    rows = size_rows(
        [(e.training, each) for e in found if e.training.loss == "mae" for each in e.evaluations]
    )
    if len({row["size"] for row in rows}) < 2:
        return []
    table, figure = workspace.semantic_sizes(".csv"), workspace.semantic_sizes(".png")
    _write_rows(workspace, table, rows)
    _write_bytes(workspace, figure, figures.size_figure(rows))
    return [table, figure]


def fit_files(
    files: Sequence[str | Path],
    work: str | Path,
    *,
    out: str | Path | None = None,
    problem: str = "centred",
    encoder: str | None = None,
    seed: int = 0,
    options: FitOptions | None = None,
    channel: str | None = None,
    hdu: str | None = None,
    on_progress: Progress = silent,
) -> FileFits:
    """Fit the galaxies in images.

    Parameters
    ----------
    files : sequence of str or Path
        FITS, PNG (or another picture), npy, shards of maps, or folders of these.
    work : str or Path
        Folder that keeps the encoders.
    out : str, Path or None
        Folder for fits.csv and fits.png; None: nothing is written.
    problem : str
        Family of galaxies; its fast encoder is trained where it is not there.
    encoder : str or None
        Name of a trained encoder in place of ``problem``.
    seed : int
        Seed of the encoder.
    options : FitOptions or None
        What is fitted; None: as `FitOptions` has it.
    channel, hdu : str or None
        Map of a shard, and HDU of FITS files.
    on_progress : callable
        Hears of the training and of the images.

    Returns
    -------
    FileFits
        One fit an image; what is wrong with one does not stop the others.

    Raises
    ------
    ConfigError
        A kind of file that is not read, or options that ask for what an encoder does not measure.
    DataMissingError
        A file or an encoder is not there.
    """
    chosen = chosen_files([Path(file) for file in files], SUFFIXES)
    images = [image for path in chosen for image in read_images(path, channel=channel, hdu=hdu)]
    if encoder is None:
        training = replace(default_training(get_problem(problem)), seed=seed)
        used, _ = obtain_encoder(Workspace(work), training, on_progress=on_progress)
    else:
        name = encoder if "/" in encoder else f"{encoder}/seed-{seed}"
        used = load_encoder(find_encoders(Workspace(work), name)[0])
    fits = fit_images(
        used, images, options or FitOptions(), on_progress=on_progress, total=len(images)
    )
    return FileFits(fits, [] if out is None else _write_fits(Workspace(out), fits))


def _write_fits(workspace: Workspace, fits: Sequence[Fit]) -> list[Path]:
    table, figure = (workspace.root / f"fits.{ending}" for ending in ("csv", "png"))
    _write_rows(workspace, table, [fit.row() for fit in fits])
    shown = [(f, f.data, f.model) for f in fits if f.data is not None and f.model is not None]
    if not shown:
        # not that of other images
        figure.unlink(missing_ok=True)
        return [table]
    found, data, models = zip(*shown[:_SHOWN_FITS], strict=True)
    titles = [plain(f"{fit.file} {fit.label}".strip()[-40:]) for fit in found]
    _write_bytes(workspace, figure, figures.examples_figure(data, models, titles))
    return [table, figure]


def _write_rows(workspace: Workspace, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows that have the same columns; what is None is an empty cell."""

    def filled(column: list[Any]) -> list[Any]:
        empty = "" if any(isinstance(value, str) for value in column) else float("nan")
        return [empty if value is None else value for value in column]

    write_table(workspace, path, {name: filled([row[name] for row in rows]) for name in rows[0]})


def _write_bytes(workspace: Workspace, path: Path, content: bytes) -> None:
    with workspace.replacing(path) as temporary:
        temporary.write_bytes(content)
