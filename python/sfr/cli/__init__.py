"""The command line: options to recipe, one call, exit code; nothing heavy is imported here."""

from __future__ import annotations

import importlib
import inspect
import os
import sys

import typer

from sfr.cli import console
from sfr.cli.streams import OutputLostError, echo, open_standard_streams

__all__ = ["app", "main"]

app = typer.Typer(
    name="sfr",
    help="From galaxy simulations to images, and from images to what they say about star formation."
    "\n\nA first look, without any data: [bold]sfr demo[/bold]",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: One module per command, in the order of a run.
_COMMANDS = (
    "demo",
    "mock",
    "doctor",
    "select",
    "split",
    "render",
    "train",
    "predict",
    "report",
    "run",
    "show",
    "map",
    "semantic",
    "recipe",
    "cite",
)


def _version(value: bool) -> None:
    if value:
        from sfr import __version__

        echo(f"sfr {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


def _flow(text: str) -> str:
    """Join the lines of each paragraph, so that they are broken where the terminal ends."""
    blocks = (block.split("\n") for block in text.split("\n\n"))
    return "\n\n".join(
        "\n".join(lines) if lines[0].startswith(" ") else " ".join(lines) for lines in blocks
    )


def _let_help_flow(group: typer.Typer) -> None:
    for command in group.registered_commands:
        command.help = _flow(inspect.getdoc(command.callback) or "")
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            _let_help_flow(inner.typer_instance)


for _name in _COMMANDS:
    importlib.import_module(f"sfr.cli.{_name}").register(app)
_let_help_flow(app)


def main() -> None:
    """Run the command line."""
    open_standard_streams()
    try:
        try:
            app(prog_name="sfr")
        finally:
            # here, where a failure can be told, and not when the interpreter ends
            sys.stdout.flush()
    except OutputLostError as error:
        console.tell_of_lost_output(error)
        sys.exit(error.exit_code)
    except SystemExit as error:
        if console.disk_is_full:
            # HDF5's own exit handler crashes on files that it could not finish
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(error.code if isinstance(error.code, int) else 1)
        raise
