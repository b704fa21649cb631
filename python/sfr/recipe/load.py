"""Recipes from TOML: built in, or files that name another one and list what differs."""

from __future__ import annotations

import difflib
import functools
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

from sfr.errors import ConfigError
from sfr.paths import plain
from sfr.recipe.schema import Recipe, check_value

__all__ = ["BUILT_IN", "load_recipe", "recipe_files", "weights_path"]

#: Names of the recipes that come with the package.
BUILT_IN = ("thesis", "corrected", "demo")

#: Fields that are gone, with the value that meant what is done now.
_GONE: Final[Mapping[str, Mapping[str, Any]]] = {
    "normalisation": {
        "statistic": "maximum",
        "percentiles": [0.0, 100.0],
        "reference": "snapshot",
    },
    "train": {"zero_sfr": "drop"},
}
#: What to do where they asked for something else.
_INSTEAD: Final = {
    "normalisation": "nothing is learned from the training set any more. Remove it and say "
    'by = "maximum" or by = "range"; sfr recipe ranges proposes a range for each channel',
}


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a built-in recipe by name, or a recipe file.

    Parameters
    ----------
    name_or_path : str or Path
        One of `BUILT_IN`, or the path of a TOML file. Paths in a file (``extends``,
        ``simulation``, ``train.weights``) count from the file's folder.

    Returns
    -------
    Recipe
        The checked recipe.

    Raises
    ------
    ConfigError
        Unknown name, unreadable file, unknown field or value that is not allowed.
    """
    first, *others = recipe_files(name_or_path)
    merged = functools.reduce(_inherit, others, first)
    # why fields are as they are: for people, not for a run
    merged.pop("reasons", None)
    result: Recipe = check_value(Recipe, merged, "")
    return result


def recipe_files(name_or_path: str | Path) -> list[dict[str, Any]]:
    """Read a recipe file and those that it extends, as they are written but for paths.

    Parameters
    ----------
    name_or_path : str or Path
        As in `load_recipe`.

    Returns
    -------
    list of dict
        The content of each without ``extends``; the first extends none, the last is the one named.

    Raises
    ------
    ConfigError
        Unknown name, or an unreadable file.
    """
    return _files(str(name_or_path))


def weights_path(weights: str, folder: Path) -> str:
    """Return ``train.weights`` so that it means the same file in every working folder."""
    return weights if weights in ("", "imagenet", "random") else _absolute(weights, folder)


def _files(name: str) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = []
    seen: list[str] = []
    base = Path.cwd()
    while True:
        data, where = _read_toml(name, base)
        if where in seen:
            raise ConfigError(f"recipe: extends runs in a circle: {' -> '.join((*seen, where))}")
        seen.append(where)
        files.append(data)
        parent = data.pop("extends", None)
        if parent is None:
            return files[::-1]
        if not isinstance(parent, str):
            raise ConfigError(f"recipe {name}: extends = {parent!r} is not the name of a recipe")
        name, base = parent, Path(where).parent


def _inherit(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    # what the parent says of itself need not hold for its child
    description = f"{parent.get('name')} with changes: {_changed(child)}"
    return _merge({**parent, "description": description}, child)


def _changed(data: Mapping[str, Any]) -> str:
    names = []
    for section, value in data.items():
        if isinstance(value, Mapping) and section != "reasons":
            names += [f"{section}.{field}" for field in value]
    return ", ".join(names) or "none"


def _read_toml(name: str, base: Path) -> tuple[dict[str, Any], str]:
    """Read one recipe, and say where it is: a name, or the path of its file."""
    if name in BUILT_IN:
        text = resources.files("sfr.recipe").joinpath(f"{name}.toml").read_text("utf-8")
        return tomllib.loads(text), name
    path = (base / Path(name).expanduser()).resolve()
    if not path.is_file():
        hint = difflib.get_close_matches(name, BUILT_IN, 1)
        raise ConfigError(
            f"recipe {name!r} is neither built in ({', '.join(BUILT_IN)}) nor a file"
            + (f"; did you mean {hint[0]!r}?" if hint else "")
        )
    try:
        # editors of Windows begin a file with a byte-order mark
        data = tomllib.loads(path.read_text("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"recipe file {path} is not UTF-8 ({error}); save it as UTF-8") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"recipe file {path}: {error}") from error
    data.setdefault("name", plain(path.stem))
    _drop_gone(name, data)
    _absolute_paths(data, path.parent)
    return data, str(path)


def _drop_gone(name: str, data: dict[str, Any]) -> None:
    """Leave out fields of former versions where they ask for what is done now."""
    for section, gone in _GONE.items():
        found = data.get(section)
        if isinstance(found, dict):
            for field, meant in gone.items():
                if found.get(field) == meant:
                    del found[field]
                elif field in found and section in _INSTEAD:
                    raise ConfigError(
                        f"recipe {name}: {section}.{field} is gone: {_INSTEAD[section]}"
                    )


def _absolute_paths(data: dict[str, Any], folder: Path) -> None:
    train = data.get("train")
    if isinstance(data.get("simulation"), str):
        data["simulation"] = _absolute(data["simulation"], folder)
    if isinstance(train, dict) and isinstance(train.get("weights"), str):
        train["weights"] = weights_path(train["weights"], folder)


def _absolute(path: str, folder: Path) -> str:
    return str((folder / Path(path).expanduser()).absolute())


def _merge(old: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(old.get(key), dict):
            merged[key] = _merge(old[key], value)
        else:
            merged[key] = value
    return merged
