"""The command line: options to recipe, one call, exit code; nothing heavy is imported here."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable

import typer

from sfr.cli import (
    cite,
    console,
    demo,
    doctor,
    mock,
    options,
    predict,
    recipe,
    render,
    report,
    run,
    select,
    semantic,
    show,
    split,
    train,
)
from sfr.cli import map as map_
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

#: Commands in the order of a run, each a plain function; two words: a command of a group.
_COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo.demo,
    "mock": mock.mock,
    "doctor": doctor.doctor,
    "select": select.select,
    "split": split.split,
    "render": render.render,
    "train": train.train,
    "predict": predict.predict,
    "report": report.report,
    "run": run.run,
    "show": show.show,
    "map": map_.map_,
    "semantic train": semantic.train,
    "semantic evaluate": semantic.evaluate,
    "semantic fit": semantic.fit,
    "recipe list": recipe.list_recipes,
    "recipe show": recipe.show,
    "recipe diff": recipe.diff,
    "recipe ranges": recipe.ranges,
    "cite": cite.cite,
}
_GROUPS = {
    "semantic": "The semantic autoencoder: an encoder whose bottleneck holds the parameters of a "
    "galaxy, a decoder that is its profile. The published networks learn from images alone; "
    "the default, fast, learns from the true parameters of images that were made.",
    "recipe": "Recipes: the experiment as data.",
}


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


def _add_commands() -> None:
    groups = {name: typer.Typer(help=text, no_args_is_help=True) for name, text in _GROUPS.items()}
    for name, command in _COMMANDS.items():
        *group, word = name.split()
        parent = groups[group[0]] if group else app
        parent.command(word, help=_flow(inspect.getdoc(command) or ""))(
            console.exit_codes(options.spread(command))
        )
    for name, group_app in groups.items():
        app.add_typer(group_app, name=name)


_add_commands()


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
