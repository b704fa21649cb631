"""Tables for people: every cell in full, however narrow the terminal is."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import JustifyMethod
    from rich.table import Table
    from rich.text import Text

__all__ = ["print_table"]

#: Lines of a file, or of what another program reads, are not folded.
_ENDLESS: Final = 100_000
#: On what is narrower still the terminal itself folds lines.
_NARROWEST: Final = 20
#: What rich draws about a cell, and before the first one.
_FRAME, _EDGE = 3, 1
#: Cells up to this are values: they stay on one line. Longer ones are text, which may fold.
_VALUE: Final = 24
#: Tables one beneath another that can still be read as one.
_MOST_BANDS: Final = 3


class _Folder(textwrap.TextWrapper):
    """Folds at spaces and after the slashes of a path."""

    wordsep_simple_re = re.compile(r"(\s+|(?<=/)(?=[^/\s]))")


@dataclass(frozen=True)
class _Column:
    """Heading and cells of a column, and between which widths it can be printed."""

    heading: str
    cells: list[str]
    numeric: bool

    @cached_property
    def most(self) -> int:
        """Width that folds nothing."""
        return max(map(_width, [self.heading, *self.cells]))

    @cached_property
    def least(self) -> int:
        """Width that breaks no word, and no value."""
        values = [cell if _width(cell) <= _VALUE else _longest_word(cell) for cell in self.cells]
        return max(map(_width, [_longest_word(self.heading), *values]))


def print_table(rows: Sequence[Mapping[str, object]], leading: int = 1) -> None:
    """Print rows as wide as the terminal is, all of every cell.

    Where a table is too wide, headings and texts fold; then the columns that find no place stand
    in tables beneath, behind the same leading columns; then every row is a record of its own, a
    line a cell. Output that is no terminal is as wide as it must be, unless COLUMNS is set.

    Parameters
    ----------
    rows : sequence of mapping
        The same keys in each, in the same order.
    leading : int
        Columns that tell which row it is.
    """
    from rich.console import Console

    width = max(shutil.get_terminal_size((_ENDLESS, 1)).columns, _NARROWEST)
    columns = [_column(name, [row[name] for row in rows]) for name in rows[0]]
    bands = _bands(columns, leading, width)
    if len(bands) <= _MOST_BANDS and all(_fits(band, width) for band in bands):
        found = [_boxed(band, width) for band in bands]
    else:
        found = [_record(columns, place, width) for place in range(len(rows))]
    console = Console(width=width)
    for table in found:
        console.print(table)


def _column(name: str, values: Sequence[object]) -> _Column:
    numeric = all(isinstance(value, (int, float, type(None))) for value in values)
    return _Column(name, [_text(value) for value in values], numeric)


def _bands(columns: list[_Column], leading: int, width: int) -> list[list[_Column]]:
    """Share the columns out to tables, as few as the width allows."""
    first, rest = columns[:leading], columns[leading:]
    bands = [list(first)]
    for column in rest:
        if len(bands[-1]) > leading and not _fits([*bands[-1], column], width):
            bands.append(list(first))
        bands[-1].append(column)
    return bands


def _fits(columns: Sequence[_Column], width: int) -> bool:
    return _EDGE + sum(column.least + _FRAME for column in columns) <= width


def _boxed(columns: Sequence[_Column], width: int) -> Table:
    from rich.table import Table

    table = Table()
    widths = _widths(columns, width - _EDGE - _FRAME * len(columns))
    for column, room in zip(columns, widths, strict=True):
        side: JustifyMethod = "right" if column.numeric else "left"
        table.add_column(_folded(column.heading, room), justify=side, width=room)
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(_folded, cells, widths))
    return table


def _widths(columns: Sequence[_Column], room: int) -> list[int]:
    """Give columns the width that they need, then the narrowest one more as long as there is."""
    widths = [column.least for column in columns]
    spare = room - sum(widths)
    while spare > 0:
        wanting = [k for k, column in enumerate(columns) if widths[k] < column.most]
        if not wanting:
            break
        widths[min(wanting, key=widths.__getitem__)] += 1
        spare -= 1
    return widths


def _record(columns: Sequence[_Column], place: int, width: int) -> Table:
    from rich.table import Table

    heading = min(max(_width(column.heading) for column in columns), width // 2)
    value = width - heading - 2
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(width=heading, style="bold")
    table.add_column(width=value)
    for column in columns:
        table.add_row(_folded(column.heading, heading), _folded(column.cells[place], value))
    table.add_row()
    return table


def _folded(text: str, width: int) -> Text:
    from rich.text import Text

    lines = text.splitlines()
    if _width(text) > width:
        folder = _Folder(width, break_on_hyphens=False)
        lines = [part for line in lines for part in folder.wrap(line)]
    # rich folds what is still too wide: characters of two columns
    return Text("\n".join(lines), overflow="fold")


def _longest_word(text: str) -> str:
    return max(_Folder.wordsep_simple_re.split(text), key=_width)


def _width(text: str) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, text.splitlines() or [""]))


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1e-2 or abs(value) >= 1e5 else f"{value:.3f}"
    return str(value)
