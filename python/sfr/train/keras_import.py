"""The one place that imports Keras: quietly, and with a clear message where it cannot."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from sfr.errors import TrainingError

__all__ = ["load_keras", "stated_backend", "use_backend"]

log = logging.getLogger(__name__)

_BACKENDS = ("tensorflow", "jax", "torch")


def load_keras() -> Any:  # noqa: ANN401
    """Import Keras with the backend of ``KERAS_BACKEND``, else the first one installed.

    Returns
    -------
    module
        ``keras``.

    Raises
    ------
    TrainingError
        Keras or its backend cannot be imported.
    """
    if "keras" in sys.modules:
        return sys.modules["keras"]
    if "KERAS_BACKEND" not in os.environ:
        found = [name for name in _BACKENDS if importlib.util.find_spec(name) is not None]
        # tensorflow is what Keras takes by itself, unless the user's keras.json says otherwise
        if found and found[0] != "tensorflow":
            os.environ["KERAS_BACKEND"] = found[0]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow takes these kernels by itself on Intel's processors only; AMD's gain as much
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    log.info("loading Keras")
    try:
        with _quiet_stderr():
            return importlib.import_module("keras")
    except (ImportError, ValueError) as error:
        raise TrainingError(
            f"Keras cannot be imported ({error}); install one of its backends that has a wheel for "
            f"Python {sys.version_info[0]}.{sys.version_info[1]}: pip install keras tensorflow, or "
            "jax, or torch; with several, KERAS_BACKEND names the one to use"
        ) from error


def stated_backend() -> str:
    """Name the backend that this process uses or was told to use; empty where it is open."""
    if "keras" in sys.modules:
        return str(sys.modules["keras"].backend.backend())
    return os.environ.get("KERAS_BACKEND", "")


def use_backend(name: str) -> None:
    """Take the backend that another process names, so that both compute the same.

    Parameters
    ----------
    name : str
        Result of its `stated_backend`; empty leaves it open.

    Raises
    ------
    TrainingError
        Keras runs with another one here already.
    """
    if not name:
        return
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = name
    if stated_backend() != name:
        raise TrainingError(
            f"the command trains with the Keras backend {name}, and this worker has loaded "
            f"{stated_backend()}; start the workers anew, or set KERAS_BACKEND to theirs"
        )


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hold back what native libraries write to file descriptor 2 while they load."""
    try:
        sys.stderr.flush()
        saved = os.dup(2)
    except (OSError, ValueError, AttributeError):
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            with contextlib.suppress(OSError):
                os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
