"""``sfr train``: features, heads, predictions, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfr.cli import options as opt
from sfr.cli.console import Console
from sfr.errors import ConfigError

if TYPE_CHECKING:
    from sfr.pipeline import OpenRun

__all__ = ["print_cases", "train"]


def print_cases(run: OpenRun, console: Console) -> None:
    """Print the table of all trained cases, in the recipe's order."""
    from sfr.pipeline.train import case_rows
    from sfr.target import target_of
    from sfr.train.evaluate import CASE

    rows = case_rows(run)
    weights = ", ".join(sorted({str(row["weights"]) for row in rows if row["weights"]}))
    label = target_of(run.recipe).text
    console.table(
        f"recipe {run.recipe.name}, backbone weights: {weights}, label: {label}",
        rows if console.as_json else [_for_people(row) for row in rows],
        key="cases",
        extra={"recipe": run.recipe.name, "weights": weights, "label": label},
    )
    cases = [row for row in rows if row["kind"] == CASE and row["r"] is not None]
    if len({row["seeds"] - row["dead"] for row in cases}) > 1:
        console.say(
            "the cases have different numbers of living seeds; sfr report compares them on those "
            "that all of them have"
        )


def _for_people(row: Mapping[str, Any]) -> dict[str, object]:
    """Return the columns that fit on a screen; report/tables/cases.csv has all of them."""
    from sfr.train.evaluate import UNDEFINED

    unit = f" [{row['unit']}]" if row["unit"] else ""
    spread = f" ± {row['r_std']:.3f}" if row.get("r_std") is not None else ""
    return {
        "case": row["case"],
        "r": row["state"] if row["r"] is None else f"{row['r']:.3f}{spread}",
        "95 % interval": _interval(row),
        "test images": row["n"],
        "galaxies": row["n_galaxies"],
        "seeds": row["seeds"],
        "dead": row["dead"],
        "R2": UNDEFINED if row["r2"] is None and row["state"] == UNDEFINED else row["r2"],
        f"RMSE{unit}": row["rmse"],
        f"bias{unit}": row["bias"],
        f"NMAD{unit}": row["nmad"],
        **_outliers(row),
    }


def _outliers(row: Mapping[str, Any]) -> dict[str, object]:
    limit = row["outlier_limit"]
    return {} if limit is None else {f"outliers ({limit:g} {row['unit']})": row["outlier_fraction"]}


def _interval(row: Mapping[str, Any]) -> str | None:
    if row["r_low"] is None:
        return None
    return f"{row['r_low']:.3f} to {row['r_high']:.3f}"


def train(
    case: Annotated[
        list[str] | None,
        typer.Option("--case", help="A case, or several: mass,gauss10.", show_default=False),
    ] = None,
    more_cases: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    all_cases: Annotated[
        bool, typer.Option("--all-cases", help="Every case of the recipe.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="Processes that train, each its share of cases and seeds. Default: this "
            "process, which uses all cores; on few cores that is faster.",
            show_default=False,
        ),
    ] = None,
    scheduler: opt.Scheduler = None,
    force: opt.Force = False,
    *,
    folder: opt.Folder,
    training: opt.Training,
    output: opt.Output,
) -> None:
    """Train a head on the frozen backbone for each case, and evaluate it on the test subset.

    The backbone runs once per image and case; what it gives is kept in features/. All seeds of
    a case train side by side. An interrupted training goes on from its last checkpoint, and
    more --epochs go on from what was trained. KERAS_BACKEND names the backend: tensorflow, jax
    or torch. A case that cannot be trained is named and the rest goes on; the exit code is
    then 4.

    Examples:

      sfr train --all-cases

      sfr train --case mass gauss10 --seeds 3 --work run1

      sfr train --all-cases --scheduler tcp://node1:8786

      sfr train --all-cases --seeds 8 --workers 2

      sfr train --all-cases --weights vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5
    """
    given = [*(case or ()), *(more_cases or ())]
    cases = [name.strip() for text in given for name in text.split(",")]
    if bool(case) == all_cases or (more_cases and not case):
        raise ConfigError("say which cases: --all-cases, or --case NAME ...")
    how = {"changes": training.changes, "scheduler": scheduler, "force": force}
    with output.console() as console, folder.open(console, **how) as run:
        run.train(cases, save_models=training.save_models, workers=workers)
        print_cases(run, console)
        console.finish(run.failures)
