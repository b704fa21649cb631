"""Pictures do not depend on what a user or a notebook has set for matplotlib."""

import os
import subprocess
import sys

import pytest

DRAW = """
import sys, pathlib, numpy as np
from sfr.plot.maps import map_figure
maps = np.random.default_rng(1).lognormal(0, 2, (1, 16, 16))
content = map_figure(maps, ["mass"], ["sum over cells of m [Msun]"], 60.0, "a map")
pathlib.Path(sys.argv[1]).write_bytes(content)
"""
#: What matplotlib reads before it draws, and the variable that leads it there.
USETEX = b"text.usetex: True\nfont.size: 30\naxes.formatter.use_locale: True\n"
SETTINGS = {
    "backend of a notebook": {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
    "backend that is none": {"MPLBACKEND": "no such backend"},
    "backend with a window": {"MPLBACKEND": "TkAgg"},
    "settings with LaTeX": {"MATPLOTLIBRC": USETEX},
    "settings of another encoding": {"MATPLOTLIBRC": b"font.family: \xff\xfe\x00"},
    "settings that are none": {"MATPLOTLIBRC": b"font.size: big\nno.such: 1\nbackend: no\n<"},
    "settings that are a folder": {"MATPLOTLIBRC": "/"},
    "folder of settings that is none": {"MPLCONFIGDIR": os.devnull},
}


def draw(tmp_path, name="picture.png", code=DRAW, **variables):
    """Return the bytes of a picture, drawn in a process of its own that says nothing."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MPL", "MATPLOTLIB"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, name],
        cwd=tmp_path,
        env=clean | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return (tmp_path / name).read_bytes()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("settings", SETTINGS)
def test_pictures_are_the_same_whatever_is_set_for_matplotlib(tmp_path, plain, settings):
    """A notebook's MPLBACKEND and the user's matplotlibrc ended report, show and map."""
    variables = {}
    for name, value in SETTINGS[settings].items():
        if isinstance(value, bytes):
            path = tmp_path / "settings"
            path.write_bytes(value)
            value = str(path)
        variables[name] = value
    assert draw(tmp_path, **variables) == plain


@pytest.mark.parametrize("content", [USETEX, b"\xff\xfe"])
def test_settings_in_the_working_folder_and_styles_of_the_user_are_not_used(
    tmp_path, plain, content
):
    (tmp_path / "matplotlibrc").write_bytes(content)
    (tmp_path / "config/stylelib").mkdir(parents=True)
    (tmp_path / "config/stylelib/mine.mplstyle").write_bytes(content)
    assert draw(tmp_path, MPLCONFIGDIR=str(tmp_path / "config")) == plain


def test_a_notebook_keeps_its_settings_whoever_loads_matplotlib_first(tmp_path, plain):
    (tmp_path / "rc").write_text("font.size: 23\n")
    after = """
import matplotlib as mpl
assert mpl.rcParams["font.size"] == 23
assert mpl.get_backend() == "module://matplotlib.backends.backend_svg"
"""
    before = "import matplotlib as mpl; mpl.rcParams['text.usetex'] = True"
    for code in (DRAW + after, before + DRAW + after + "assert mpl.rcParams['text.usetex']"):
        variables = {
            "MATPLOTLIBRC": str(tmp_path / "rc"),
            "MPLBACKEND": "module://matplotlib.backends.backend_svg",
        }
        assert draw(tmp_path, code=code, **variables) == plain
