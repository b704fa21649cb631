"""Several commands at work in one folder at the same time."""

import errno
import fcntl
import subprocess
import sys
from contextlib import ExitStack

import pytest

from sfr.errors import ConfigError
from sfr.run.workspace import Workspace

SNAPS = (97, 98, 99)


@pytest.fixture(scope="module")
def sim(tmp_path_factory):
    from sfr.simulation.mock import write_mock

    folder = tmp_path_factory.mktemp("three") / "sim"
    return write_mock(folder, galaxies=6, snaps=list(SNAPS), cells=300).path


@pytest.fixture
def recipes(tmp_path):
    found = []
    for pixels in (32, 48):
        found.append(tmp_path / f"pixels{pixels}.toml")
        found[-1].write_text(f'extends = "thesis"\n[maps]\npixels = {pixels}\n')
    return found


@pytest.fixture
def halted(sim, recipes, tmp_path):
    """A command that has finished snapshot 97 and cannot go on with 98 before it may."""
    workspace = Workspace(tmp_path / "sfr-work")
    with ExitStack() as stack:
        assert stack.enter_context(workspace.claim("maps-098-part-00000", wait=False))
        command = subprocess.Popen(
            [
                *(sys.executable, "-c", "from sfr.cli import main; main()"),
                *("render", "--sim", sim, "--snap", "97-99", "--work", workspace.root),
                *("--recipe", recipes[0], "--workers", "1"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert any("waiting for" in line for line in command.stderr)
        yield workspace, command, stack.close
    command.kill()
    command.communicate()


def test_a_command_with_another_recipe_does_not_undo_what_the_first_one_made(
    sfr, sim, recipes, halted, tmp_path
):
    """It redid snapshot 97 while the first was at 98: both exit 0, images of 97 were missing."""
    workspace, command, release = halted
    maps = [path.read_bytes() for path in workspace.shards(97)]
    for options in (("--recipe", recipes[1]), ("--recipe", recipes[0], "--force")):
        other = sfr("render", "--sim", sim, "--snap", "97-99", *options)
        assert other.exit_code == 2, other.stderr
        assert f"process {command.pid} on " in other.stderr
        assert "another recipe" in other.stderr or "--force" in options
    assert [path.read_bytes() for path in workspace.shards(97)] == maps
    assert sfr("split", "--recipe", recipes[0], "--force").exit_code == 2
    assert sfr("select", "--sim", sim, "--recipe", recipes[0], "--force").exit_code == 2
    # the same recipe may take part, and looking is free
    same = sfr("render", "--sim", sim, "--snap", 97, "--recipe", recipes[0], "--shard", "1/1")
    assert same.exit_code == 3, same.stderr
    assert "snapshot 99, which is not rendered" in same.stderr
    look = sfr("render", "--sim", sim, "--snap", 97, "--recipe", recipes[1], "--dry-run")
    assert look.exit_code == 0, look.stderr
    release()
    _, stderr = command.communicate()
    assert command.returncode == 0, stderr
    assert [len(workspace.images_of(snap)) for snap in SNAPS] == [6, 6, 6]
    assert workspace.stored_recipe().maps.pixels == 32


def test_who_was_refused_may_work_when_the_first_one_has_ended(sim, sfr, recipes, halted):
    workspace, command, release = halted
    command.kill()
    command.communicate()
    release()
    after = sfr("render", "--sim", sim, "--snap", "97-99", "--recipe", recipes[1])
    assert after.exit_code == 0, after.stderr
    assert all(len(workspace.images_of(snap)) == 6 for snap in SNAPS)


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    workspace = Workspace(tmp_path)
    with (
        pytest.raises(ConfigError, match=r"without locks.*No locks available.*--work"),
        workspace.lock("split"),
    ):
        pass
