"""``sfr cite``, ``python -m sfr`` and shell completion."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sfr.cli.cite import citations
from sfr.recipe import load_recipe
from sfr.run.workspace import Workspace

CITATION = Path(__file__).parents[2] / "CITATION.cff"


def test_the_bibliography_holds_what_citation_cff_lists():
    text = CITATION.read_text("utf-8")
    entries = "".join(citations().values())
    listed = re.findall(r'^ *(?:- )?(?:title|doi): "(.+)"$', text, re.MULTILINE)
    assert len(listed) == 8
    assert not [item for item in listed if item not in entries]


def test_what_to_cite_is_printed_as_bibtex(sfr):
    result = sfr("cite")
    assert result.exit_code == 0
    for entry in re.split(r"\n\n", result.stdout.strip()):
        assert re.match(r"@\w+\{\w+,\n", entry), entry
        assert entry.count("{") == entry.count("}")
        assert "title = {" in entry


def test_only_what_a_run_used_is_cited(sfr, tmp_path):
    workspace = Workspace(tmp_path / "run")
    workspace.store_recipe(load_recipe("thesis"))

    def keys():
        return set(re.findall(r"@\w+\{(\w+)", sfr("cite", "--work", workspace.root).stdout))

    assert keys() == {"sfr", "carvajal2022"}
    workspace.remember("simulation", "L35n2160TNG, box 35000 ckpc/h")
    assert keys() == {"sfr", "carvajal2022", "nelson2019", "pillepich2019", "nelson2019b"}
    workspace.remember("simulation", "L35n20000MOCK40, box 35000 ckpc/h")
    workspace.write_json(workspace.case("mass") / "metrics.json", {})
    assert keys() == {"sfr", "carvajal2022", "simonyan2014", "deng2009", "keras"}
    result = sfr("cite", "--work", tmp_path / "nothing")
    assert result.exit_code == 3
    assert "not the folder of a run" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_commands(shell):
    words = {"bash": {"COMP_WORDS": "sfr ren", "COMP_CWORD": "1"}}.get(
        shell, {"_TYPER_COMPLETE_ARGS": "sfr ren"}
    )
    shown = subprocess.run(
        [sys.executable, "-m", "sfr"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"_SFR_COMPLETE": f"complete_{shell}"} | words,
    )
    assert "render" in shown.stdout, shown
