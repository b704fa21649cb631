"""The page: one HTML file beside its pictures, nothing loaded from elsewhere, no script."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2

__all__ = ["Picture", "number", "picture", "render_page", "table_number"]

_MINUS = "\u2212"
_NOTHING = "\u2013"
#: Pixels of a picture per pixel of the page: sharp on dense screens and in print.
_PIXEL_RATIO = 1.5


@dataclass(frozen=True)
class Picture:
    """A PNG of the report with what the page says of it."""

    file: str
    #: What it shows, for readers who do not see it.
    alt: str
    caption: str
    #: Size on the page [px].
    width: int
    height: int


def picture(file: str, data: bytes, *, alt: str, caption: str) -> Picture:
    """Describe a PNG; its size is read from its header."""
    width, height = struct.unpack(">II", data[16:24])
    return Picture(file, alt, caption, round(width / _PIXEL_RATIO), round(height / _PIXEL_RATIO))


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with fixed digits and a true minus sign; a dash where there is none."""
    if value is None or value != value:
        return _NOTHING
    # adding 0 turns a rounded -0.0 into 0.0
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", _MINUS)


def table_number(text: str) -> str:
    """Shorten a number of a CSV cell to four digits; other text stays as it is."""
    if text == "":
        return _NOTHING
    try:
        value = float(text)
    except ValueError:
        return text
    if text.lstrip("-").isdecimal():
        return text
    return f"{value:.4g}".replace("-", _MINUS)


def render_page(context: Mapping[str, Any]) -> str:
    """Fill the page's template.

    Parameters
    ----------
    context : mapping
        Values by the names that ``templates/index.html.jinja`` uses; all text is escaped.

    Returns
    -------
    str
        The page.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sfr.report"),
        # by the ending of the template's name it would be off
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = number
    environment.filters["table_number"] = table_number
    return environment.get_template("index.html.jinja").render(context)
