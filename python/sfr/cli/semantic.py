"""``sfr semantic``: galaxy parameters from images, by the semantic autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfr.cli import options as opt
from sfr.cli.streams import echo
from sfr.errors import ConfigError

if TYPE_CHECKING:
    from sfr.pipeline.semantic import TrainedEncoder
    from sfr.semantic.fit import Fit

__all__ = ["evaluate", "fit", "train"]

ProblemName = Annotated[
    str,
    typer.Option(
        "--problem",
        help="paper: A, e, theta; notebook: its ranges; centred: amplitude, too, and round "
        "galaxies; free: centre and Sersic index, too.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
PsfTraining = Annotated[float, typer.Option("--psf", help="FWHM of a Gaussian PSF in pixels.")]


def train(
    problem: ProblemName = "paper",
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder",
            help="fast, or sizes of the published network: 1, 1/4, 1/16, 1/24, 1/32, 1/48, 1/64, "
            "or all of them.",
        ),
    ] = "fast",
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss",
            help="mae: published, of the image; chi2: of the image, over the noise; bound: of the "
            "true parameters, over the Cramer-Rao bound (supervised). Default: bound for fast, "
            "else mae.",
            show_default=False,
        ),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            "--noise",
            help="Levels, as 0,0.05,0.1: a network each; or a mix, as 0.02-0.12. "
            "Default: the problem's mix; with mae 0,0.05,0.1.",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            "--target",
            help="What mae and chi2 compare with: noisy, the input itself (self-supervised, the "
            "paper's text); clean, the image before noise (the notebook); or noisy,clean.",
        ),
    ] = "noisy,clean",
    psf: PsfTraining = 0.0,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Passes. Default: 26, published 500.")
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            "--images",
            help="Images to train on, without validation. Default: 200000, published 9000 clean "
            "or 27000 noisy.",
        ),
    ] = None,
    seed: Seed = 0,
    work: opt.Work = opt.DEFAULT_WORK,
    force: opt.Force = False,
    *,
    output: opt.Output,
) -> None:
    """Train encoders; one that is current is not trained again.

    Without options: the fast encoder over the paper's ranges and any noise from 0.02 to 0.12, in
    minutes. It is supervised: it learns from the true parameters. The networks of the paper learn
    from images, and take hours; docs/semantic.md tells them apart. fit uses the encoder of
    --problem centred.

    Examples:

      sfr semantic train

      sfr semantic train --problem centred

      sfr semantic train --encoder 1/64 --noise 0.05 --target noisy

      sfr semantic train --encoder all --noise 0,0.025,0.05,0.1 --target noisy,clean
    """
    from sfr.pipeline import semantic
    from sfr.semantic.encoders import PUBLISHED_SIZES

    console = output.console()
    trainings = semantic.plan_trainings(
        problem,
        list(PUBLISHED_SIZES) if encoder == "all" else _parts("--encoder", encoder),
        loss=loss,
        noise=[] if noise is None else [_mix(part) for part in _parts("--noise", noise)],
        targets=_parts("--target", target),
        psf_fwhm=psf,
        epochs=epochs,
        images=images,
        seed=seed,
    )
    with console:
        found = semantic.train_encoders(work, trainings, force=force, on_progress=console.progress)
    rows = [_trained_row(trained) for trained in found]
    console.table(f"encoders in {work / 'semantic'}", rows, key="encoders", leading=2)


def _parts(option: str, text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise ConfigError(f"{option} {text!r} names nothing")
    return parts


def _level(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--noise {text!r} is not a standard deviation such as 0.05") from None


def _mix(text: str) -> tuple[float, float]:
    low, dash, high = text.partition("-")
    return (_level(low), _level(high)) if dash else (_level(text), _level(text))


def _trained_row(found: TrainedEncoder) -> dict[str, Any]:
    training = found.encoder.training
    return {
        "encoder": training.name,
        "seed": training.seed,
        "learned from": training.learned_from,
        "weights": found.encoder.network.count_params(),
        "images": training.images,
        "epochs": training.epochs,
        "state": f"trained in {found.seconds:.0f} s" if found.is_new else "there already",
    }


def evaluate(
    encoder: Annotated[
        str | None,
        typer.Argument(
            help="Name of a trained encoder, as train prints it. Default: all of the folder.",
            show_default=False,
        ),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            "--noise",
            help="Levels. Default: 0.025,0.05,0.1, or the level that it was trained for.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[int, typer.Option("--images", help="Images a noise level.")] = 5000,
    steps: Annotated[
        str, typer.Option("--steps", help="Gauss-Newton steps from the network's estimate.")
    ] = "1,2",
    least_squares: Annotated[
        bool,
        typer.Option(
            "--least-squares/--no-least-squares", help="Also fit every image with SciPy (3 ms)."
        ),
    ] = True,
    seed: Seed = 0,
    work: opt.Work = opt.DEFAULT_WORK,
    *,
    output: opt.Output,
) -> None:
    """Print errors beside the Cramer-Rao bound, SciPy's least squares and what was published.

    The self-supervised encoders come first. Published values stand beside what was trained alike:
    those of the paper beside encoders that learned from their own input, those of the notebook
    beside encoders of --problem notebook that learned from clean images.

    rms/bound is the ratio of the two rms; rms of error/bound lets every image count the same.
    Errors of angles are taken modulo 180 deg, within 90 deg, before offsets and dispersions. All
    angles count; for clean images one more row counts those of 10 to 170 deg, as the paper does
    (its offset there is the median). Tables and figures go to the folder of the encoder.

    Examples:

      sfr semantic evaluate

      sfr semantic evaluate paper-fast --noise 0.05 --images 20000 --no-least-squares
    """
    from sfr.pipeline import semantic

    console = output.console()
    with console:
        found = semantic.evaluate_encoders(
            work,
            encoder,
            noise=[] if noise is None else [_level(part) for part in _parts("--noise", noise)],
            images=images,
            steps=_step_counts(steps),
            with_least_squares=least_squares,
            seed=seed,
            on_progress=console.progress,
        )
    rows: list[dict[str, Any]] = []
    for evaluated in found.encoders:
        training = evaluated.training
        name = {"encoder": training.name, "seed": training.seed}
        made = [{**name, **row} for row in evaluated.rows()]
        if not output.as_json:
            title = (
                f"{training.name}, seed {training.seed}, learned from {training.learned_from}: "
                f"{images} images a noise level; table and figures in {evaluated.folder}"
            )
            console.table(title, _for_people(made), key="errors", leading=3)
        rows += made
    if output.as_json:
        console.table("", rows, key="errors")
    else:
        for path in found.files:
            echo(str(path))


def _step_counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in _parts("--steps", text)]
    except ValueError:
        raise ConfigError(f"--steps {text!r} is not a list of numbers such as 1,2") from None
    if any(not 0 <= count <= 100 for count in counts):
        raise ConfigError(f"--steps {text!r}: give numbers from 0 to 100")
    return counts


def _for_people(rows: Sequence[dict[str, Any]]) -> list[dict[str, object]]:
    """Return the columns that fit on a screen; evaluation.csv has all of them."""
    names = [
        *("noise", "parameter", "method", "offset", "median", "dispersion", "bound"),
        *("rms/bound", "rms of error/bound", "within 1 error"),
    ]
    if any(row["published by"] for row in rows):
        names += ["published by", "published offset", "published dispersion"]
    return [{name: row[name] for name in names} | {"noise": f"{row['noise']:g}"} for row in rows]


def fit(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="FITS, PNG (or another picture), npy, shards of maps (part-*.hdf5), or folders."
        ),
    ],
    problem: ProblemName = "centred",
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            help="Name of a trained encoder, as train prints it, in place of --problem. Default: "
            "the fast one of the problem, trained where it is not there.",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option("--steps", help="Gauss-Newton steps; 0: the network alone.")
    ] = 8,
    fixed_centre: Annotated[
        bool, typer.Option("--fixed-centre", help="The centre is the middle of the image.")
    ] = False,
    sersic: Annotated[
        bool, typer.Option("--sersic", help="Fit the Sersic index n, too; else n = 1.")
    ] = False,
    psf: Annotated[
        float, typer.Option("--psf", help="FWHM of a Gaussian PSF in pixels of the image.")
    ] = 0.0,
    subtract_background: Annotated[
        bool,
        typer.Option(
            "--subtract-background",
            help="Take off the median of the outermost pixels; the steps fit what is left.",
        ),
    ] = False,
    channel: Annotated[
        str | None,
        typer.Option("--channel", help="Map of a shard: mass, temperature ...", show_default=False),
    ] = None,
    hdu: Annotated[
        str | None,
        typer.Option(
            "--hdu",
            help="HDU of FITS files, by name or number. Default: the one with an image, SCI, or 0.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for fits.csv and fits.png.")] = Path(
        "semantic-fit"
    ),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the encoder.")] = 0,
    work: opt.Work = opt.DEFAULT_WORK,
    *,
    output: opt.Output,
) -> None:
    """Fit galaxies in images: scale A, ellipticity e, angle, centre, amplitude, with errors.

    The profile is amplitude exp(-r^(1/n)), r = 1 at the ellipse of half axes A and A (1 - e); theta
    turns the major axis clockwise from +x, y upwards, of the pixels: of a WCS only their shape is
    read, so on a mirrored sky it turns the other way. The first use trains the encoder of --problem
    (as sfr semantic train --problem centred does), in minutes, and keeps it in the folder given by
    --work. What cannot be fitted has flags in place of numbers, and ends with exit 4;
    docs/semantic.md lists the flags.

    Examples:

      sfr semantic fit galaxy.fits --psf 2.5 --subtract-background

      sfr semantic fit cutouts/*.npy --sersic --out fits

      sfr semantic train --problem centred --psf 3

      sfr semantic fit cutouts/*.npy --psf 3 --encoder centred-fast-psf3

      sfr semantic fit sfr-work/maps/snap_099/part-00000.hdf5 --channel mass
    """
    from sfr.pipeline import semantic
    from sfr.semantic.fit import FitOptions

    console = output.console()
    with console:
        found = semantic.fit_files(
            files,
            work,
            out=out,
            problem=problem,
            encoder=encoder,
            seed=seed,
            options=FitOptions(steps, fixed_centre, sersic, psf, subtract_background),
            channel=channel,
            hdu=hdu,
            on_progress=console.progress,
        )
    console.table(
        f"{len(found.fits)} images, {len(found.failed)} without numbers",
        [_json_row(each) if output.as_json else _fit_for_people(each) for each in found.fits],
        key="fits",
        extra={"files": [str(path) for path in found.files]},
        leading=2,
    )
    if not output.as_json:
        for path in found.files:
            echo(str(path))
    console.finish([f"{each.file}: {' '.join(each.flags)}" for each in found.failed])


def _json_row(found: Fit) -> dict[str, object]:
    return {name: None if value != value else value for name, value in found.row().items()}


def _fit_for_people(found: Fit) -> dict[str, object]:
    """Return the columns that fit on a screen; fits.csv has all of them."""
    row: dict[str, object] = {
        "file": found.file,
        "image": found.label,
        "flags": " ".join(found.flags) or "-",
    }
    digits = {"A": 3, "e": 4, "theta": 2, "x": 2, "y": 2, "n": 3}
    labels = {"A": "A [px]", "theta": "theta [deg]", "x": "x [px]", "y": "y [px]"}
    for name in ("A", "e", "theta", "x", "y", "amplitude", "n"):
        value, error = found.values.get(name), found.errors.get(name)
        text = "-"
        if value is not None and error is not None:
            shape = f".{digits[name]}f" if name in digits else ".4g"
            text = f"{value:{shape}}" + (f" ± {error:{shape}}" if error > 0 else "")
        row[labels.get(name, name)] = text
    return row
