"""The one place that imports matplotlib: always alike, whatever the user has set for it.

A picture must not depend on whose machine or notebook it is, and settings that cannot be used must
not keep it from being drawn. What the user has set is neither used (`sfr.plot.style.as_png` draws
with the defaults) nor lost: it holds for the user's own figures afterwards.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "Axes",
    "Colormap",
    "ConstrainedLayoutEngine",
    "Figure",
    "FuncFormatter",
    "LogLocator",
    "LogNorm",
    "MaxNLocator",
    "Normalize",
    "NullLocator",
    "Rectangle",
    "colormaps",
    "matplotlib",
]

log = logging.getLogger(__name__)

#: Settings that matplotlib looks for in the working folder before it looks anywhere else.
_HERE = Path("matplotlibrc")


def _load() -> None:
    """Import matplotlib without the user's settings, then give them back."""
    if "matplotlib" in sys.modules:
        return
    with _quiet():
        with _without_settings():
            importlib.import_module("matplotlib")
        _give_back_settings()


def _give_back_settings() -> None:
    """Let the user's own figures have the user's settings, as far as these can be read."""
    loaded = sys.modules["matplotlib"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            settings = loaded.matplotlib_fname()
            # a pipe would never end
            if Path(settings).is_file():
                loaded.rcParams.update(loaded.rc_params_from_file(settings))
            if os.environ.get("MPLBACKEND"):
                loaded.rcParams["backend"] = os.environ["MPLBACKEND"]
        except Exception as error:  # whatever a file or a variable may hold
            log.debug("the settings of matplotlib cannot be used: %s", error)


@contextlib.contextmanager
def _without_settings() -> Iterator[None]:
    """Show matplotlib an empty file of settings, and no wish for a backend."""
    names = ("MPLBACKEND", "MATPLOTLIBRC")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        empty = Path(folder, _HERE)
        empty.touch()
        os.environ |= {"MPLBACKEND": "agg", "MATPLOTLIBRC": str(empty)}
        if os.path.lexists(_HERE):
            stack.enter_context(contextlib.chdir(folder))
        try:
            yield
        finally:
            for name in names:
                del os.environ[name]
            os.environ |= before


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what matplotlib says of settings and folders of the user."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


_load()
with _quiet():
    import matplotlib
    from matplotlib import colormaps
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, LogNorm, Normalize
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
