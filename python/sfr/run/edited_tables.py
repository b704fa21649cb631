"""Tables that people edit, ``sample.csv`` and ``split.csv``: what is theirs, what must agree.

A step keeps what it wrote itself (`Workspace.kept`), so the edits of a person are the difference.
Rows are joined by what they are of, never by their place; docs/tables.md states the rules.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataFormatError
from sfr.run.cells import Cells, parse_cell, read_cells
from sfr.run.folds import Place
from sfr.run.names import ImageId
from sfr.run.tables import (
    SAMPLE,
    SPLIT,
    TEST,
    TRAIN,
    VALIDATES,
    VALIDATION,
    Table,
    read_table,
)
from sfr.run.workspace import Workspace

__all__ = [
    "LABEL",
    "NO_EDITS",
    "SUBSETS",
    "Key",
    "MergedSample",
    "SampleEdits",
    "SplitEdits",
    "edits_in_words",
    "galaxy_keys",
    "galaxy_rows",
    "image_names",
    "is_ours",
    "merge_sample",
    "open_sample",
    "read_drawn",
    "read_groups",
    "read_kept",
    "read_sample",
    "read_split",
    "sample_edits",
    "set_aside",
    "split_cells",
    "split_edits",
]

log = logging.getLogger(__name__)

_KEY = ("snapshot", "subhalo_id")
#: The column of ``sample.csv`` that is taken as it stands.
LABEL = "ssfr_per_yr"
#: Subsets that ``split.csv`` may name.
SUBSETS = (TRAIN, VALIDATION, TEST)
#: Fewest digits by which a rounded number is known again.
_DIGITS = 3

#: Snapshot and subhalo.
Key = tuple[int, int]
_K = TypeVar("_K", Key, str)


def is_ours(workspace: Workspace, path: Path) -> bool:
    """Whether a table is, byte for byte, what a step wrote."""
    kept = workspace.kept(path)
    return kept.is_file() and path.is_file() and kept.read_bytes() == path.read_bytes()


def set_aside(workspace: Workspace, path: Path) -> None:
    """Leave a copy of an edited table before a step writes it anew, and say so."""
    if not path.is_file() or is_ours(workspace, path):
        return
    old = workspace.old(path)
    with workspace.replacing(old) as temporary:
        temporary.write_bytes(path.read_bytes())
    log.warning("%s was edited by hand and is written anew; it is kept as %s", path, old.name)


# -- sample.csv ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SampleEdits:
    """What a person did to ``sample.csv``."""

    #: Rows of the catalogue that are not in the table.
    removed: dict[int, int] = field(default_factory=dict)
    #: Labels that differ from the catalogue's, and by how much at most [dex].
    labels: int = 0
    largest_dex: float = 0.0

    def __str__(self) -> str:
        """Say it in words; empty where there is nothing to say."""
        said = []
        if n := sum(self.removed.values()):
            said.append(f"{n} row{'s are' if n > 1 else ' is'} taken out")
        if n := self.labels:
            size = f" by up to {self.largest_dex:.2g} dex" if self.largest_dex else ""
            verb = "labels differ" if n > 1 else "label differs"
            said.append(f"{n} {verb} from the catalogue's{size}")
        return ", ".join(said)


@dataclass(frozen=True)
class MergedSample:
    """``sample.csv`` as it holds: rows by snapshot and subhalo.

    Attributes
    ----------
    table : dict of str to ndarray
        Columns of `SAMPLE`.
    further : dict of str to list of str
        Columns of the person's own.
    edits : SampleEdits
        What is theirs.
    n_cut : int
        Rows of the person's table that the selection does not hold any more.
    """

    table: Table
    further: dict[str, list[str]]
    edits: SampleEdits
    n_cut: int = 0


def galaxy_keys(table: Mapping[str, NDArray[np.generic]]) -> list[Key]:
    """Snapshot and subhalo of each row."""
    return list(zip(table["snapshot"].tolist(), table["subhalo_id"].tolist(), strict=True))


def image_names(sample: Table) -> list[str]:
    """Bare name of the image of each row."""
    return [ImageId(*key).filename for key in galaxy_keys(sample)]


def read_sample(workspace: Workspace) -> Table:
    """Read ``sample.csv``, ordered by snapshot and subhalo whatever the order of its rows.

    Returns
    -------
    dict of str to ndarray
        Columns of `SAMPLE`; labels are those of the table, all else is as the catalogue has it.

    Raises
    ------
    DataMissingError
        The file is not there.
    DataFormatError
        It cannot be read, holds a galaxy twice or one that was not selected, or a value differs
        from what the catalogue says.
    """
    return open_sample(workspace).table


def sample_edits(workspace: Workspace) -> SampleEdits:
    """Return what a person did to ``sample.csv``; errors are those of `read_sample`."""
    return open_sample(workspace).edits


def read_kept(workspace: Workspace) -> Table | None:
    """Return the sample as ``sfr select`` found it in the catalogue, if that is known."""
    kept = workspace.kept(workspace.sample_csv)
    return read_table(kept, SAMPLE) if kept.is_file() else None


def open_sample(workspace: Workspace) -> MergedSample:
    """Read ``sample.csv`` with what is a person's own; errors are those of `read_sample`."""
    path = workspace.sample_csv
    base = read_kept(workspace) if path.is_file() else None
    if base is not None and is_ours(workspace, path):
        return MergedSample(base, {}, SampleEdits())
    cells = read_cells(path, SAMPLE)
    if base is None:
        cells.require(SAMPLE)
        galaxy_rows(cells)
        base = _ordered(cells.table(SAMPLE))
    return merge_sample(cells, base, base)


def _ordered(sample: Table) -> Table:
    order = np.lexsort((sample["subhalo_id"], sample["snapshot"]))
    return {name: column[order] for name, column in sample.items()}


def merge_sample(cells: Cells, base: Table | None, fresh: Table) -> MergedSample:
    """Take over into a new selection what a person did to the last one.

    Parameters
    ----------
    cells : Cells
        ``sample.csv``; columns of the catalogue may be left out, but not the galaxies' numbers,
        nor the label where ``base`` is given.
    base : dict of str to ndarray or None
        The last selection, before it was edited.
    fresh : dict of str to ndarray
        The selection now, ordered.

    Returns
    -------
    MergedSample
        Rows of ``fresh`` without those that were removed, with the labels that were edited. Rows
        of a snapshot that neither ``base`` nor ``cells`` holds are all there.

    Raises
    ------
    DataFormatError
        A galaxy is there twice, or in neither selection; or a value differs from both.
    """
    rows = galaxy_rows(cells)
    if base is not None:
        cells.require((LABEL,))
    sources = [(_by_key(table), table) for table in (fresh, base) if table is not None]
    _check_rows(cells, rows, sources)
    before = _by_key(base) if base is not None else {}
    of_base = {snapshot for snapshot, _ in before}
    listed = {snapshot for snapshot, _ in rows} - of_base
    found = galaxy_keys(fresh)
    known = {key for key in found if key in before or key[0] in listed}
    kept = np.array([key in rows or key not in known for key in found], bool)
    gone = Counter(key[0] for key, keep in zip(found, kept, strict=True) if not keep)
    table = {name: column[kept] for name, column in fresh.items()}
    keys = galaxy_keys(table)
    labels = table[LABEL] = np.array(table[LABEL], np.float64)
    n_labels, largest = 0, 0.0
    for place, key in enumerate(keys):
        if key not in rows or LABEL not in cells.columns:
            continue
        value = _label(cells, rows[key])
        stated = [labels[place], *([base[LABEL][before[key]]] if base and key in before else [])]
        if not any(value == s or s != s for s in stated):
            n_labels += 1
            if value > 0 and labels[place] > 0:
                largest = max(largest, abs(math.log10(value / labels[place])))
            labels[place] = value
    further = {
        name: [texts[rows[key]] if key in rows else "" for key in keys]
        for name, texts in cells.columns.items()
        if name not in SAMPLE
    }
    n_cut = len(rows.keys() - set(found))
    return MergedSample(table, further, SampleEdits(dict(gone), n_labels, largest), n_cut)


def _places(cells: Cells, key_of: Callable[[int], _K]) -> dict[_K, int]:
    """Place of each row by what it is of; DataFormatError where two rows are of the same."""
    places: dict[_K, int] = {}
    for row in range(len(cells.lines)):
        key = key_of(row)
        if key in places:
            name = ImageId(*key).filename if isinstance(key, tuple) else key
            raise DataFormatError(
                f"{cells.where(row)}: {name} is there twice, the first time on line "
                f"{cells.lines[places[key]]}; remove one of the rows"
            )
        places[key] = row
    return places


def galaxy_rows(cells: Cells) -> dict[Key, int]:
    """Row of each galaxy; DataFormatError where a number is none, or a galaxy is there twice."""
    cells.require(_KEY)
    snapshots, subhalos = (cells.column(name, int).tolist() for name in _KEY)
    return _places(cells, lambda row: (snapshots[row], subhalos[row]))


def _by_key(table: Table) -> dict[Key, int]:
    return {key: row for row, key in enumerate(galaxy_keys(table))}


def _check_rows(
    cells: Cells, rows: Mapping[Key, int], sources: Iterable[tuple[dict[Key, int], Table]]
) -> None:
    """Check that what the catalogue says of each row is as it was selected."""
    columns = [n for n in SAMPLE if n in cells.columns and n not in (*_KEY, LABEL)]
    sources = list(sources)
    for key, row in rows.items():
        wrong = []
        for places, table in sources:
            if key in places:
                expected = {name: table[name][places[key]].item() for name in columns}
                texts = {name: cells.columns[name][row] for name in columns}
                wrong.append(
                    [(n, expected[n]) for n in columns if not _agrees(texts[n], expected[n])]
                )
        if not wrong:
            snapshot, subhalo = key
            raise DataFormatError(
                f"{cells.where(row)}: subhalo {subhalo} of snapshot {snapshot} was not selected: "
                "it is not in the catalogue, or does not pass the cuts of [sample]. Rows can be "
                "removed by hand, not added; widen [sample], remove the row, or run sfr select "
                "--force for all that passes (the file as it is now is kept aside)"
            )
        if all(wrong):
            name, value = wrong[0][0]
            raise DataFormatError(
                f"{cells.where(row)}: {name} = {cells.columns[name][row]!r}, the catalogue has "
                f"{value!r}. Only {LABEL} and columns of your own can be edited; put it back, or "
                "run sfr select --force for all that the catalogue says (the file as it is now "
                "is kept aside)"
            )


def _agrees(text: str, expected: float) -> bool:
    """Whether a cell holds a number, or what a spreadsheet leaves of it when it rounds."""
    try:
        value = parse_cell(text, type(expected))
    except ValueError:
        value = None
    if value == expected or (value != value and expected != expected):
        return True
    shown = text.strip().lower()
    digits = len(shown.partition("e")[0].lstrip("+-0.").replace(".", ""))
    if digits < _DIGITS or (isinstance(expected, int) and "e" not in shown):
        return False
    try:
        return float(f"{expected:.{digits - 1}e}") == float(shown)
    except ValueError:
        return False


def _label(cells: Cells, row: int) -> float:
    value = cells.value(row, LABEL, float)
    assert isinstance(value, float)
    if not 0 <= value < math.inf:
        raise DataFormatError(
            f"{cells.where(row)}: {LABEL} = {cells.columns[LABEL][row]!r}; allowed: 0 or more. To "
            "leave a galaxy out, remove its row"
        )
    return value


# -- split.csv -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SplitEdits:
    """What a person did to ``split.csv``: images that they placed, and that they took out."""

    placed: int = 0
    left_out: int = 0

    def __str__(self) -> str:
        """Say it in words; empty where there is nothing to say."""
        said = []
        if n := self.placed:
            said.append(f"{n} image{'s are' if n > 1 else ' is'} placed by hand")
        if n := self.left_out:
            said.append(f"{n} {'are' if n > 1 else 'is'} not listed and so left out")
        return ", ".join(said)


NO_EDITS = SplitEdits()


def split_cells(workspace: Workspace) -> tuple[Cells, dict[str, Place]]:
    """Read ``split.csv`` as a person may have written it.

    Returns
    -------
    cells : Cells
        Its text; ``filename`` and ``subset`` are there and without blanks around them.
    places : dict of str to Place
        Where each image stands, in the order of the rows.

    Raises
    ------
    DataMissingError
        The file is not there.
    DataFormatError
        It cannot be read, an image is there twice, or a cell has a value that is not allowed.
    """
    cells = read_cells(workspace.split_csv, SPLIT)
    cells.require(("filename", "subset"))
    for name in ("filename", "subset"):
        cells.columns[name][:] = [text.strip() for text in cells.columns[name]]
    for row, (name, subset) in enumerate(
        zip(cells.columns["filename"], cells.columns["subset"], strict=True)
    ):
        try:
            ImageId.parse(name)
        except DataFormatError as error:
            raise DataFormatError(f"{cells.where(row)}: {error}") from error
        if subset not in SUBSETS:
            raise DataFormatError(
                f"{cells.where(row)}: subset {subset!r} is none of {', '.join(SUBSETS)}"
            )
    places = _places(cells, lambda row: cells.columns["filename"][row])
    listed = {name: _place(cells, row) for name, row in places.items()}
    _check_folds(cells, places, listed)
    return cells, listed


def _place(cells: Cells, row: int) -> Place:
    """Read where one image stands; empty cells are those of a split in one."""
    subset, fold = cells.columns["subset"][row], 0
    if "fold" in cells.columns and cells.columns["fold"][row].strip():
        found = cells.value(row, "fold", int)
        assert isinstance(found, int)
        fold = found
    if fold < 0 or (fold and subset != TEST):
        raise DataFormatError(
            f"{cells.where(row)}: fold = {fold} with subset {subset!r}; allowed: the fold that "
            "tests an image of subset test, from 0; 0 or empty for others, which are in their "
            "subset in every fold"
        )
    words = cells.columns.get(VALIDATES, {row: ""})[row].split()
    if not all(word.isascii() and word.isdigit() for word in words):
        raise DataFormatError(
            f"{cells.where(row)}: {VALIDATES} = {' '.join(words)!r}; allowed: numbers of folds "
            "with blanks between them, or nothing"
        )
    return Place(subset, fold, tuple(sorted({int(word) for word in words})))


def _check_folds(cells: Cells, rows: Mapping[str, int], places: Mapping[str, Place]) -> None:
    """Check that every fold tests an image, and that no image is validation where it is tested."""
    tested = {place.fold for place in places.values() if place.subset == TEST}
    missing = sorted(set(range(max(tested, default=0))) - tested)
    if missing:
        last = max(places, key=lambda name: places[name].fold)
        raise DataFormatError(
            f"{cells.where(rows[last])}: fold = {max(tested)}, but fold {missing[0]} tests no "
            "image; folds are numbered from 0 without gaps"
        )
    for name, place in places.items():
        wrong = [fold for fold in place.validates if fold == place.fold or fold not in tested]
        if place.validates and (wrong or place.subset != TEST):
            listed = " ".join(map(str, place.validates))
            raise DataFormatError(
                f"{cells.where(rows[name])}: {VALIDATES} = {listed!r}; "
                "allowed: folds that do not test the image, and only for images of subset test"
            )


def read_split(workspace: Workspace) -> dict[str, Place]:
    """Read where the images of ``split.csv`` stand, ordered by snapshot and subhalo.

    Returns
    -------
    dict of str to Place
        By bare name of the image; errors are those of `split_cells`.
    """
    _, places = split_cells(workspace)
    return {name: places[name] for name in sorted(places, key=ImageId.parse)}


def read_groups(workspace: Workspace) -> dict[str, str]:
    """Read what each image of ``split.csv`` was kept together with: itself where nothing is said.

    Returns
    -------
    dict of str to str
        By bare name of the image, ordered by snapshot and subhalo; errors are those of
        `split_cells`.
    """
    cells, places = split_cells(workspace)
    groups = dict(zip(places, cells.columns.get("group", list(places)), strict=True))
    return {name: groups[name].strip() or name for name in sorted(places, key=ImageId.parse)}


def read_drawn(workspace: Workspace) -> dict[str, Place]:
    """Read where ``sfr split`` last put the images; errors are those of `read_table`."""
    cells = read_cells(workspace.kept(workspace.split_csv), SPLIT)
    cells.require(SPLIT)
    return {name: _place(cells, row) for row, name in enumerate(cells.columns["filename"])}


def edits_in_words(workspace: Workspace) -> dict[str, str]:
    """Say what a person did to the tables of a run, by name of the table."""
    found: dict[str, SampleEdits | SplitEdits] = {}
    if workspace.sample_csv.is_file():
        found[workspace.sample_csv.name] = sample_edits(workspace)
    found[workspace.split_csv.name] = split_edits(workspace)
    return {name: str(edits) for name, edits in found.items() if str(edits)}


def split_edits(workspace: Workspace) -> SplitEdits:
    """Compare ``split.csv`` with what was drawn; nothing where neither is there."""
    path = workspace.split_csv
    kept = workspace.kept(path)
    if not (kept.is_file() and path.is_file()) or is_ours(workspace, path):
        return NO_EDITS
    drawn, theirs = read_drawn(workspace), read_split(workspace)
    placed = sum(drawn.get(name) != place for name, place in theirs.items())
    return SplitEdits(placed, len(drawn.keys() - theirs.keys()))
