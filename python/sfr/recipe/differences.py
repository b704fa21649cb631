"""How two recipes differ, and why: the reasons are data, beside the recipes and in their files."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from sfr.errors import ConfigError
from sfr.recipe.load import load_recipe, recipe_files
from sfr.recipe.schema import Recipe

__all__ = ["Difference", "changed_fields", "differences", "general_reasons"]

#: Entries of the file that name it and are no settings.
_NOT_SETTINGS = ("name", "description", "reasons")
#: Settings that are lists of named channels.
_CHANNELS = ("maps.channels", "maps.candidates")


@dataclass(frozen=True)
class Difference:
    """One setting that two recipes have different values of.

    Attributes
    ----------
    field : str
        Section and name, for example ``maps.pixels``; of a channel also its name.
    first, second : object
        The values, as plain data; None where a recipe leaves it out.
    reason : str
        Why one would choose the one or the other: what the recipes' files say of it, else what
        holds in general.
    """

    field: str
    first: Any
    second: Any
    reason: str


def differences(first: str | Path, second: str | Path) -> list[Difference]:
    """Compare two recipes, field by field, with everything that they extend resolved.

    Parameters
    ----------
    first, second : str or Path
        Built-in names or TOML files. A file may say why under ``[reasons]``, with the fields as
        keys: ``maps.pixels = "finer arms"``.

    Returns
    -------
    list of Difference
        In the order of the sections; empty where the two are the same experiment.

    Raises
    ------
    ConfigError
        One is not a recipe, or gives a reason for what is not a field.
    """
    recipes = [load_recipe(name) for name in (first, second)]
    before, after = settings = [_settings(recipe.to_dict()) for recipe in recipes]
    general = general_reasons()
    known = {*general, *settings[0], *settings[1]}
    stated = [_stated(name, known) for name in (first, second)]
    names = [recipe.name for recipe in recipes]
    if names[0] == names[1]:
        names = [str(first), str(second)]
    return [
        Difference(
            field, before.get(field), after.get(field), _reason(field, names, stated, general)
        )
        for field in _changed(before, after)
    ]


def changed_fields(first: Recipe, second: Recipe) -> list[str]:
    """Name the settings that two recipes have different values of, as `Difference.field` does."""
    return _changed(_settings(first.to_dict()), _settings(second.to_dict()))


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    # a list that one of the two has nothing in is one difference
    emptied = [name for name in _CHANNELS if not (before[name] and after[name])]
    return [
        field
        for field in _in_order(before, after)
        if before.get(field) != after.get(field) and _list_of(field) not in emptied
    ]


def general_reasons() -> dict[str, str]:
    """Read why each field of a recipe has the values that it has in the built-in ones."""
    text = resources.files("sfr.recipe").joinpath("reasons.toml").read_text("utf-8")
    return _flat(tomllib.loads(text))


def _reason(
    field: str, names: list[str], stated: list[dict[str, str]], general: Mapping[str, str]
) -> str:
    said = [
        f"{name}: {found}"
        for name, reasons in zip(names, stated, strict=True)
        if (found := _lookup(reasons, field))
    ]
    return "; ".join(said) or _lookup(general, field)


def _lookup(reasons: Mapping[str, str], field: str) -> str:
    """Find the reason of a field, or of the list that a channel belongs to."""
    return reasons.get(field) or reasons.get(_list_of(field), "")


def _list_of(field: str) -> str:
    """Name the list that a channel is in; empty for other fields."""
    return next((name for name in _CHANNELS if field.startswith(f"{name}.")), "")


def _stated(name: str | Path, known: set[str]) -> dict[str, str]:
    """Collect the reasons that a recipe's files give; a field set anew loses its old one."""
    found: dict[str, str] = {}
    for data in recipe_files(name):
        reasons = _flat(data.get("reasons", {}))
        for field, reason in reasons.items():
            if field not in known:
                close = difflib.get_close_matches(field, known, 1)
                raise ConfigError(
                    f"recipe {name}: reasons.{field} is for no field of a recipe"
                    + (f"; did you mean {close[0]}?" if close else "")
                )
            if not isinstance(reason, str):
                raise ConfigError(f"recipe {name}: reasons.{field} = {reason!r} is not a text")
        anew = _settings(data)
        found = {field: reason for field, reason in found.items() if field not in anew} | reasons
    return found


def _settings(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a recipe by dotted names; each channel is a setting of its own."""
    settings = _flat({key: value for key, value in data.items() if key not in _NOT_SETTINGS})
    for name in _CHANNELS:
        if name in settings:
            # of a file whose channels another one replaces, nothing was checked
            given = settings[name] if isinstance(settings[name], (list, tuple)) else ()
            channels = [dict(each) for each in given if isinstance(each, Mapping)]
            channels = [channel for channel in channels if isinstance(channel.get("name"), str)]
            settings[name] = [channel.pop("name") for channel in channels]
            settings |= {
                f"{name}.{key}": value for key, value in zip(settings[name], channels, strict=True)
            }
    return settings


def _flat(data: object, above: str = "") -> dict[str, Any]:
    if not isinstance(data, Mapping):
        return {above.removesuffix("."): data}
    return {
        name: value
        for key, part in data.items()
        for name, value in _flat(part, f"{above}{key}.").items()
    }


def _in_order(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Order fields by section as in the first recipe, those that only the second has at the end."""
    names = list(dict.fromkeys([*before, *after]))
    sections = list(dict.fromkeys(name.partition(".")[0] for name in names))
    return sorted(names, key=lambda name: sections.index(name.partition(".")[0]))
