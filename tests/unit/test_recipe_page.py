"""docs/recipes.md holds what the schema says; running this file writes it there."""

import math
from pathlib import Path

from sfr.recipe import fields, load_recipe

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
BEGIN = "<!-- {}: written by tests/unit/test_recipe_page.py -->\n"
END = "<!-- end -->\n"
#: A Gaussian halves the amplitude at this many of its standard deviations.
HALF_AMPLITUDE = 2 * math.pi / math.sqrt(2 * math.log(2))


def field_table() -> str:
    thesis = load_recipe("thesis").to_json()
    lines = [
        "| field | unit | meaning | allowed | thesis | made anew |",
        "|---|---|---|---|---|---|",
    ]
    for row in fields():
        section, _, name = row.field.partition(".")
        value = thesis.get(section, {}).get(name) if name else thesis.get(section)
        shown = "" if value is None or name in {"channels", "candidates"} else f"`{value}`"
        allowed = row.allowed if len(row.allowed) < 200 else "a name of keras.applications"
        cells = [f"`{row.field}`", row.unit, row.meaning, allowed, shown, row.redone]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def scale_table() -> str:
    lines = [
        "| recipe | case | sigma [px] | sigma [ckpc/h] | sigma [kpc] at z = 0 | half amplitude "
        "[ckpc/h] | half amplitude [kpc] at z = 0 |",
        "|" + 7 * "---|",
    ]
    for recipe in map(load_recipe, ("thesis", "corrected")):
        pixel = recipe.maps.width_ckpc_h / (recipe.maps.pixels * recipe.maps.bin_scale)
        for case in recipe.case_names:
            radius = recipe.case(case).radius_px
            if radius is None:
                continue
            sigma = radius * pixel
            half = HALF_AMPLITUDE * sigma
            values = [radius, sigma, sigma / 0.6774, half, half / 0.6774]
            cells = [recipe.name, case, *(f"{value:.3g}" for value in values)]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def filled(text: str) -> str:
    """Return the page with its tables as the code has them."""
    for name, table in (("fields", field_table()), ("scales", scale_table())):
        head, begin, rest = text.partition(BEGIN.format(name))
        _, end, tail = rest.partition(END)
        assert begin, name
        assert end, name
        text = head + begin + table + end + tail
    return text


def test_the_page_of_fields_holds_what_the_schema_says():
    assert PAGE.read_text("utf-8") == filled(PAGE.read_text("utf-8"))


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8")), "utf-8")
