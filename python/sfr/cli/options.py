"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfr.cli.console import Console
from sfr.errors import ConfigError

if TYPE_CHECKING:
    from sfr.pipeline import OpenRun

__all__ = [
    "DEFAULT_WORK",
    "AllowPartial",
    "DryRun",
    "Folder",
    "Force",
    "Json",
    "Output",
    "RecipeName",
    "Rendering",
    "Scheduler",
    "Shard",
    "Sim",
    "Snap",
    "Threads",
    "Training",
    "Voice",
    "Work",
    "WorkerThreads",
    "Workers",
    "parse_shard",
    "parse_snapshots",
    "spread",
]

#: Folder of a run where none is given.
DEFAULT_WORK = Path("sfr-work")

# what may not be read is an error of the data, not of the command line, so it is not checked here
Work = Annotated[
    Path, typer.Option("--work", help="Folder of the run.", show_default=True, readable=False)
]
RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="Recipe: thesis, corrected, demo or a TOML file. Default: the folder's, else thesis.",
        show_default=False,
    ),
]
Sim = Annotated[
    Path | None,
    typer.Option(
        "--sim",
        envvar="SFR_SIM",
        help="Simulation: TNG50-1 or TNG50-1/output.",
        show_default=False,
        readable=False,
    ),
]
Snap = Annotated[
    list[str] | None,
    typer.Option(
        "--snap",
        "--snaps",
        help="Snapshots: 99, 98,99 or 97-99; may be repeated. Default: the recipe's.",
        show_default=False,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        help="Threads of the kernels. Default: all cores (RAYON_NUM_THREADS).",
        show_default=False,
    ),
]
WorkerThreads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        help="Threads of each worker. Default: the cores shared out over the workers.",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Processes that render. Default: one for each core that is ours (SLURM, cgroups) and "
        "each GiB of memory.",
        show_default=False,
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        help="Address of a running Dask scheduler whose workers do the work: tcp://node1:8786.",
        show_default=False,
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        help="i/N: only the i-th of N parts of the maps, i from 1, for job arrays.",
        show_default=False,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done and read; write nothing.")
]
Force = Annotated[bool, typer.Option("--force", help="Do it again even if it is current.")]
AllowPartial = Annotated[
    bool, typer.Option("--allow-partial", help="Work with the chunks that are there.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def _weights(value: str | None) -> str | None:
    """Let the path of a weights file, which the run's folder keeps, not depend on this one."""
    from sfr.recipe import weights_path

    return None if value is None else weights_path(value, Path.cwd())


@dataclass(frozen=True)
class Voice:
    """How much a command says."""

    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say more.")] = False
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only errors and the result.")] = (
        False
    )

    def console(self) -> Console:
        """Say so much."""
        return Console(**vars(self))


@dataclass(frozen=True)
class Output(Voice):
    """How much a command says that prints a table, and how the table."""

    as_json: Json = False


@dataclass(frozen=True)
class Folder:
    """A run's folder and its recipe."""

    work: Work = DEFAULT_WORK
    recipe: RecipeName = None

    def open(self, console: Console, **options: Any) -> OpenRun:  # noqa: ANN401 - those of open_run
        """Open the run; the console shows its progress."""
        from sfr.pipeline import open_run

        command = " ".join(["sfr", *sys.argv[1:]])
        return open_run(
            self.work, self.recipe, on_progress=console.progress, command=command, **options
        )


@dataclass(frozen=True)
class Rendering:
    """How maps are rendered, and of what."""

    sim: Sim = None
    workers: Workers = None
    threads: WorkerThreads = None
    scheduler: Scheduler = None
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first galaxy that fails.")
    ] = False
    allow_partial: AllowPartial = False
    reference_share: Annotated[
        float | None,
        typer.Option(
            "--reference-share",
            min=0.0,
            max=1.0,
            help="Least share of the reference snapshot's galaxies that may set the scale of the "
            "images, where files are missing. Default: the recipe's, 0.9.",
            show_default=False,
        ),
    ] = None
    no_images: Annotated[
        bool,
        typer.Option(
            "--no-images",
            help="Make maps without PNG images, for networks that read float maps "
            '(cases.act_on = "maps"). They can be made later.',
        ),
    ] = False
    no_mmap: Annotated[
        bool, typer.Option("--no-mmap", help="Read the particles instead of mapping the files.")
    ] = False

    @property
    def changes(self) -> dict[str, dict[str, object]]:
        """What they change in the recipe."""
        return {"normalisation": {"reference_share": self.reference_share}}

    @property
    def options(self) -> dict[str, Any]:
        """The rest, as `open_run` takes it."""
        return {
            "simulation": self.sim,
            "workers": self.workers,
            "threads": self.threads,
            "scheduler": self.scheduler,
            "strict": self.strict,
            "allow_partial": self.allow_partial,
            "mapped": not self.no_mmap,
            "pictures": not self.no_images,
        }


@dataclass(frozen=True)
class Training:
    """How heads are trained."""

    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            help="Weights of the backbone: imagenet, random or a file.",
            show_default=False,
            callback=_weights,
        ),
    ] = None
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Epochs of training.", show_default=False)
    ] = None
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", min=1, help="Heads per case, seeds 0..K-1.", show_default=False),
    ] = None
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            help="Arithmetic of the backbone: float32, bfloat16, or auto, the faster one here.",
            show_default=False,
        ),
    ] = None
    save_models: Annotated[
        bool,
        typer.Option("--save-models", help="Save the whole network of every seed, not only 0."),
    ] = False

    @property
    def changes(self) -> dict[str, dict[str, object]]:
        """What they change in the recipe."""
        return {
            "train": {
                "weights": self.weights,
                "epochs": self.epochs,
                "seeds": self.seeds,
                "precision": self.precision,
            }
        }


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command that takes groups of options (dataclasses) have the options in them.

    Typer makes an option of each parameter, and knows no groups.
    """
    signature = inspect.signature(command, eval_str=True)
    kinds: dict[str, Any] = {name: p.annotation for name, p in signature.parameters.items()}
    groups = {
        name: inspect.signature(kind, eval_str=True).parameters
        for name, kind in kinds.items()
        if isinstance(kind, type) and is_dataclass(kind)
    }
    options = [
        option.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in signature.parameters.items()
        for option in (groups[name].values() if name in groups else [parameter])
    ]

    @functools.wraps(command)
    def spread_command(**given: Any) -> None:  # noqa: ANN401 - the options of any command
        for name, members in groups.items():
            given[name] = kinds[name](**{member: given.pop(member) for member in members})
        command(**given)

    spread_command.__signature__ = signature.replace(parameters=options)  # type: ignore[attr-defined]
    spread_command.__annotations__ = {option.name: option.annotation for option in options}
    return spread_command


def parse_snapshots(values: Sequence[str] | None) -> list[int]:
    """Read ``98,99``, ``97-99`` and repeats; sorted, each once.

    Parameters
    ----------
    values : sequence of str or None
        What was given to ``--snap``.

    Returns
    -------
    list of int
        Snapshots; empty where nothing was given.

    Raises
    ------
    ConfigError
        Not a number or a range.
    """
    found: set[int] = set()
    for part in (p.strip() for value in values or () for p in value.split(",")):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ConfigError(f"--snap {part!r} is not a snapshot; give 99, 98,99 or 97-99")
        low, high = int(first), int(last or first)
        if not low <= high <= 999:
            raise ConfigError(f"--snap {part!r} is not a range from low to high, 0 to 999")
        found.update(range(low, high + 1))
    return sorted(found)


def parse_shard(value: str | None) -> tuple[int, int]:
    """Read ``i/N``.

    Parameters
    ----------
    value : str or None
        What was given to ``--shard``.

    Returns
    -------
    tuple of int
        i and N; 1 and 1 where nothing was given.

    Raises
    ------
    ConfigError
        Not two numbers with 1 <= i <= N.
    """
    if value is None:
        return 1, 1
    i, _, n = value.partition("/")
    if not (i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n)):
        raise ConfigError(
            f"--shard {value!r} is not i/N with i from 1 to N, such as 3/8; a SLURM array counts "
            "from 1 with --array=1-8"
        )
    return int(i), int(n)
