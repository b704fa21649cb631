"""``sfr cite``: what to cite."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["citations", "cite"]

_ENTRY = re.compile(r"^@\w+\{(\w+),.*?^\}\n", re.MULTILINE | re.DOTALL)


def cite(
    work: Annotated[
        Path | None,
        typer.Option("--work", help="Only what this run used.", show_default=False),
    ] = None,
) -> None:
    """Print what to cite, as BibTeX: all of it, or with --work what a run used.

    Examples:

      sfr cite > sfr.bib

      sfr cite --work sfr-work
    """
    entries = citations()
    used = list(entries) if work is None else _used(work)
    typer.echo("\n".join(entries[key] for key in used), nl=False)


def citations() -> dict[str, str]:
    """Return the BibTeX entries that come with the package, by key."""
    from importlib import resources

    from sfr import __version__

    text = resources.files("sfr").joinpath("citations.bib").read_text("utf-8")
    text = text.replace("VERSION", __version__)
    return {match[1]: match[0] for match in _ENTRY.finditer(text)}


def _used(work: Path) -> list[str]:
    """Keys of what a run's folder shows to have been used."""
    from sfr.errors import DataMissingError
    from sfr.run.workspace import SIMULATION, Workspace

    workspace = Workspace(work)
    recipe = workspace.stored_recipe()
    trained = bool(workspace.trained())
    simulation = workspace.recalled(SIMULATION) or ""
    is_tng50 = "TNG" in simulation and simulation.startswith("L35n")
    semantic = bool(workspace.encoders())
    if recipe is None and not semantic:
        raise DataMissingError(f"{workspace.root} is not the folder of a run; give --work, or none")
    used = {
        "sfr": True,
        "carvajal2022": recipe is not None,
        "aragoncalvo2020": semantic,
        "nelson2019": "TNG" in simulation,
        "pillepich2019": is_tng50,
        "nelson2019b": is_tng50,
        "lupton2004": any(workspace.images.glob("Snap*.png")),
        "simonyan2014": trained and recipe is not None and recipe.train.backbone.startswith("VGG"),
        "deng2009": trained and recipe is not None and recipe.train.weights != "random",
        "keras": trained or semantic,
    }
    return [key for key, is_used in used.items() if is_used]
