"""The experiment as data: frozen dataclasses, read from TOML, checked once.

A recipe file may say ``extends = "thesis"`` (a built-in name or another file) and list only what
differs. Every field is a switch of the method; there are no other hidden settings.
"""

from sfr.recipe.differences import changed_fields
from sfr.recipe.load import BUILT_IN, load_recipe, recipe_files, weights_path
from sfr.recipe.schema import (
    NO_BRIGHTNESS,
    SCALED_FAMILIES,
    ActOn,
    Case,
    CasesRecipe,
    Channel,
    FieldRow,
    ImageRecipe,
    MapsRecipe,
    NormalisationRecipe,
    OrientationRecipe,
    Recipe,
    SampleRecipe,
    SplitRecipe,
    TargetRecipe,
    TrainRecipe,
    fields,
    maps_settings,
    parse_case,
    published_cases,
)

__all__ = [
    "BUILT_IN",
    "NO_BRIGHTNESS",
    "SCALED_FAMILIES",
    "ActOn",
    "Case",
    "CasesRecipe",
    "Channel",
    "FieldRow",
    "ImageRecipe",
    "MapsRecipe",
    "NormalisationRecipe",
    "OrientationRecipe",
    "Recipe",
    "SampleRecipe",
    "SplitRecipe",
    "TargetRecipe",
    "TrainRecipe",
    "changed_fields",
    "fields",
    "load_recipe",
    "maps_settings",
    "parse_case",
    "published_cases",
    "recipe_files",
    "weights_path",
]
