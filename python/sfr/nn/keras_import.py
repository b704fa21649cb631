"""The one place that imports Keras: quietly, always alike, with a clear message where it cannot.

Numbers must not depend on whose machine or notebook it is: of the user's keras.json and of Keras'
environment variables only the backend is taken.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sfr.errors import TrainingError

__all__ = [
    "chosen_backend",
    "keras_home",
    "load_keras",
    "stated_backend",
    "use_backend",
    "without_keras_json",
]

log = logging.getLogger(__name__)

_BACKENDS: Final = ("tensorflow", "jax", "torch")
#: Settings of Keras that numbers depend on.
_SETTINGS: Final = {
    "floatx": "float32",
    "epsilon": 1e-7,
    "image_data_format": "channels_last",
    "max_epochs": None,
    "max_steps_per_epoch": None,
}
#: Variables that change numbers by more than rounding: precision, random numbers, length. What
#: remains the user's, because it rounds otherwise at most: docs/training.md.
_LEFT_OUT: Final = (
    "KERAS_MAX_EPOCHS",
    "KERAS_MAX_STEPS_PER_EPOCH",
    "KERAS_NNX_ENABLED",
    "TF_ENABLE_AUTO_MIXED_PRECISION",
    "TF_ENABLE_AUTO_MIXED_PRECISION_GRAPH_REWRITE",
    "TF_SET_ONEDNN_FPMATH_MODE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "JAX_ENABLE_X64",
    "JAX_DEFAULT_DTYPE_BITS",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_DEFAULT_PRNG_IMPL",
    "JAX_ENABLE_CUSTOM_PRNG",
    "JAX_THREEFRY_PARTITIONABLE",
    "JAX_RANDOM_SEED_OFFSET",
    "JAX_NUMPY_DTYPE_PROMOTION",
    "JAX_NUMPY_RANK_PROMOTION",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)


def load_keras() -> Any:  # noqa: ANN401
    """Import Keras with the backend of ``KERAS_BACKEND``, else of keras.json, else one installed.

    Keras that is loaded already gets the settings that sfr computes with, too.

    Returns
    -------
    module
        ``keras``.

    Raises
    ------
    TrainingError
        Keras or its backend cannot be imported.
    """
    if "keras" not in sys.modules:
        _import_keras()
    keras = sys.modules["keras"]
    changed = _settle(keras)
    if changed:
        log.warning("settings of Keras are changed to those that sfr needs: %s", ", ".join(changed))
    return keras


def keras_home() -> Path:
    """Return the folder of Keras' keras.json and of the weights that it downloads."""
    stated = os.environ.get("KERAS_HOME")
    if stated:
        return Path(stated).expanduser()
    home = Path("~").expanduser()
    return (home if os.access(home, os.W_OK) else Path("/tmp")) / ".keras"


def stated_backend() -> str:
    """Name the backend that this process uses or was told to use; empty where it is open."""
    if "keras" in sys.modules:
        return str(sys.modules["keras"].backend.backend())
    named = _named_backend()
    # Keras writes tensorflow into every keras.json by itself, so that there it tells nothing
    return os.environ.get("KERAS_BACKEND") or (named if named != "tensorflow" else "")


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


def _named_backend() -> str:
    """Return the backend that the user's keras.json names; empty where it names none."""
    try:
        content = json.loads((keras_home() / "keras.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    named = content.get("backend") if isinstance(content, dict) else None
    return named if isinstance(named, str) else ""


def chosen_backend() -> str:
    """Decide the backend; empty: none is installed."""
    installed = [name for name in _BACKENDS if importlib.util.find_spec(name) is not None]
    named, source = os.environ.get("KERAS_BACKEND", ""), "KERAS_BACKEND"
    if not named:
        named, source = _named_backend(), str(keras_home() / "keras.json")
        if named == "tensorflow" and named not in installed:
            # written by Keras itself
            named = ""
    if named and named not in _BACKENDS:
        raise TrainingError(
            f"{source} names the Keras backend {named!r}; allowed: {', '.join(_BACKENDS)}"
        )
    return named or next(iter(installed), "")


def _import_keras() -> None:
    backend = chosen_backend()
    left_out = [name for name in _LEFT_OUT if os.environ.pop(name, None) is not None]
    if left_out:
        log.warning("not used, because it would change numbers: %s", ", ".join(left_out))
    if backend:
        os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow takes these kernels by itself on Intel's processors only; AMD's gain as much
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    log.info("loading Keras")
    try:
        with without_keras_json(), _quiet_stderr():
            importlib.import_module("keras")
    except (ImportError, ValueError) as error:
        raise TrainingError(
            f"Keras cannot be imported ({error}); install one of its backends that has a wheel for "
            f"Python {sys.version_info[0]}.{sys.version_info[1]}: pip install keras tensorflow, or "
            "jax, or torch; with several, KERAS_BACKEND names the one to use"
        ) from error


@contextlib.contextmanager
def without_keras_json() -> Iterator[None]:
    """Let what is imported meanwhile start without the user's keras.json; downloads stay there.

    Keras reads it when it starts. The older Keras inside TensorFlow reads it, too, and fails on
    some: other backends import TensorFlow only when a network is saved or read.
    """
    home, before = keras_home(), os.environ.get("KERAS_HOME")
    with tempfile.TemporaryDirectory() as empty:
        os.environ["KERAS_HOME"] = empty
        try:
            yield
        finally:
            if before is None:
                del os.environ["KERAS_HOME"]
            else:
                os.environ["KERAS_HOME"] = before
    # Keras has no public name for it, and reads keras.json in no other place
    sys.modules["keras.src.backend.config"]._KERAS_DIR = str(home)  # type: ignore[attr-defined]


def _settle(keras: Any) -> list[str]:  # noqa: ANN401
    """Give Keras the settings that numbers depend on; return which ones had other values."""
    config, changed = keras.config, []
    for name, wanted in _SETTINGS.items():
        # older versions have no limits of epochs and steps
        found = getattr(config, name)() if hasattr(config, name) else wanted
        if found != wanted:
            getattr(config, f"set_{name}")(wanted)
            changed.append(f"{name} {found} -> {wanted}")
    policy = config.dtype_policy().name
    if policy != "float32":
        config.set_dtype_policy("float32")
        changed.append(f"dtype_policy {policy} -> float32")
    return changed


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
