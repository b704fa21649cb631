"""Groups of options: typer sees each option, the command its groups."""

from collections import Counter
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from sfr.cli import app
from sfr.cli.options import spread


@dataclass(frozen=True)
class Size:
    """Options that two commands share."""

    width: Annotated[int, typer.Option("--width", min=1)] = 3
    height: Annotated[int | None, typer.Option("--height")] = None


def test_a_group_comes_to_the_command_whole():
    heard = []
    small = typer.Typer()

    @small.command()
    @spread
    def draw(name: str, fast: Annotated[bool, typer.Option("--fast")] = False, *, size: Size):
        heard.append((name, fast, size))

    run = CliRunner().invoke
    assert run(small, ["a"]).exit_code == 0
    assert run(small, ["b", "--fast", "--height", "5"]).exit_code == 0
    assert heard == [("a", False, Size()), ("b", True, Size(3, 5))]
    assert run(small, ["c", "--width", "0"]).exit_code == 2
    assert run(small, ["c", "--size", "1"]).exit_code == 2


def commands(group, name="sfr"):
    for word, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{name} {word}")
        else:
            yield pytest.param(command, id=f"{name} {word}")


@pytest.mark.parametrize("command", list(commands(get_command(app))))
def test_no_command_has_an_option_twice(command):
    """Click lets the later one of two groups win, and the other one stays at its default."""
    words = Counter(word for option in command.params for word in option.opts)
    assert max(words.values()) == 1, words
