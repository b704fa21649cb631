"""The cells of CSV tables, as we write them and as spreadsheets save them."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataFormatError, DataMissingError

__all__ = ["KINDS", "Cells", "parse_cell", "read_cells"]

_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: How files of spreadsheets begin (zip, and the old binary format).
_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_DELIMITERS = ",;\t"
#: Types of columns in memory.
KINDS = {int: np.int64, float: np.float64, str: np.str_}
_WORDS = {int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Cells:
    """The text of a table.

    Attributes
    ----------
    path : Path
        The file.
    columns : dict of str to list of str
        Cells by column, in the order of the file.
    lines : list of int
        Line of the file on which each row ends.
    """

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]

    def take(self, rows: Sequence[int]) -> Cells:
        """Return some of the rows."""
        columns = {name: [cells[i] for i in rows] for name, cells in self.columns.items()}
        return Cells(self.path, columns, [self.lines[i] for i in rows])

    def where(self, row: int) -> str:
        """Name the place of a row."""
        return f"{self.path}, line {self.lines[row]}"

    def require(self, names: Collection[str]) -> None:
        """Raise DataFormatError where a column is not there."""
        for name in names:
            if name not in self.columns:
                raise DataFormatError(
                    f"{self.path}: column {name!r} is missing; found {list(self.columns)}; add it, "
                    "or move the file away and run the step that makes it again"
                )

    def column(self, name: str, kind: type) -> NDArray[np.generic]:
        """Return a column as int64, float64 (empty: NaN) or str.

        Raises
        ------
        DataFormatError
            A cell is not of that type.
        """
        values = [self.value(row, name, kind) for row in range(len(self.lines))]
        return np.array(values, KINDS[kind])

    def table(self, schema: Mapping[str, type]) -> dict[str, NDArray[Any]]:
        """Return columns that must be there, by name; errors are those of `column`."""
        self.require(schema)
        return {name: self.column(name, kind) for name, kind in schema.items()}

    def value(self, row: int, name: str, kind: type) -> object:
        """Return one cell as int, float (empty: NaN) or str; errors are those of `column`."""
        text = self.columns[name][row]
        try:
            return parse_cell(text, kind)
        except ValueError as error:
            raise DataFormatError(
                f"{self.where(row)}: {name} = {text!r} is not {_WORDS[kind]}{error}"
            ) from error


def parse_cell(text: str, kind: type) -> object:
    """Return the value of a cell; ValueError, with more words or none, where it has none.

    Examples
    --------
    >>> parse_cell(" 7.0 ", int), parse_cell("1e-3", float)
    (7, 0.001)
    """
    text = text.strip() if kind is not str else text
    if kind is str:
        return text
    if kind is float:
        if "_" in text:
            raise ValueError("")
        if re.fullmatch(r"[+-]?\d+(\.\d{3})*,\d+([eE][+-]?\d+)?", text):
            raise ValueError("; write it with a decimal point")
        try:
            return float(text or "nan")
        except ValueError:
            raise ValueError("") from None
    if not re.fullmatch(r"[+-]?\d+(\.0*)?", text):
        rounded = re.fullmatch(r"[+-]?\d+([.,]\d+)?[eE][+]?\d+", text)
        raise ValueError("; a spreadsheet has rounded it and its digits are lost" * bool(rounded))
    number = int(text.partition(".")[0])
    if not -(2**63) <= number < 2**63:
        raise ValueError(" of 64 bits: it is too large")
    return number


def read_cells(path: Path, expected: Collection[str]) -> Cells:
    """Read the text of a table as spreadsheets save it.

    Commas, semicolons or tabs; any line ends; a byte-order mark; blank rows and empty columns
    without a name are left out.

    Parameters
    ----------
    path : Path
        The file.
    expected : collection of str
        Columns that may be there; they tell what separates the cells.

    Returns
    -------
    Cells
        All columns, those that are expected and others.

    Raises
    ------
    DataMissingError
        The file is not there.
    DataFormatError
        It is no table.
    """
    text = _decoded(path)
    start = 0
    if stated := re.match(r"sep=.\r?\n", text):
        text, start = text[stated.end() :], 1
    head = next((line for line in text.splitlines() if line.strip(" \t,;")), "")
    delimiter = max(_DELIMITERS, key=lambda d: sum(n in expected for n in _split(head, d)))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append(row)
                lines.append(reader.line_num + start)
    except csv.Error as error:
        raise DataFormatError(
            f"{path}, line {reader.line_num + start}: not a table: {error}"
        ) from error
    names = [name.strip() for name in rows[0]] if rows else []
    while names and not names[-1]:
        names.pop()
    for name in names:
        if not name or names.count(name) > 1:
            what = f"column {name!r} is there twice" if name else "a column has no name"
            raise DataFormatError(f"{path}, line {lines[0]}: {what}; found {names}")
    for row, line in zip(rows[1:], lines[1:], strict=True):
        if not set(names[len(row) :]) & set(expected):
            # spreadsheets leave out empty cells at the end
            row += [""] * (len(names) - len(row))
        if len(row) < len(names) or any(cell.strip() for cell in row[len(names) :]):
            raise DataFormatError(
                f"{path}, line {line}: {len(row)} cells, the first line has {len(names)}; a cell "
                "is missing, or holds a separator and is not in quotation marks"
            )
    columns = {name: [row[i] for row in rows[1:]] for i, name in enumerate(names)}
    return Cells(path, columns, lines[1:])


def _split(line: str, delimiter: str) -> list[str]:
    return [cell.strip().strip('"') for cell in line.split(delimiter)]


def _decoded(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataMissingError(
            f"{path} is not there; run the step that makes it, or all with sfr run"
        ) from error
    if data.startswith(_SPREADSHEETS):
        raise DataFormatError(
            f"{path} is a file of a spreadsheet program, not a table of text; save it there as "
            "CSV (UTF-8)"
        )
    encoding = next((name for mark, name in _ENCODINGS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataFormatError(
            f"{path}, line {line}: not a table of text: {error.reason} (byte "
            f"{data[error.start]:#04x}); save it as CSV (UTF-8)"
        ) from error
    if "\0" in text:
        raise DataFormatError(f"{path} is not a table of text: it holds a zero byte")
    return text
