"""What is predicted: a column of ``sample.csv`` or a formula of columns, its scale and its words.

Whatever shows, writes or trains on a label takes names, units and numbers from here. A quantity
that the tables know is one entry of `QUANTITIES`; of any other column the recipe has the words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import ConfigError, DataFormatError, DataMissingError
from sfr.recipe import Recipe, SampleRecipe
from sfr.run.cells import parse_cell
from sfr.run.edited_tables import image_names, open_sample
from sfr.run.tables import Table
from sfr.run.workspace import Workspace

__all__ = [
    "PUBLISHED",
    "QUANTITIES",
    "SSFR",
    "Quantity",
    "Target",
    "escaped",
    "read_values",
    "ssfr_of",
    "target_of",
]

Floats = NDArray[np.float64]

#: The column whose formula ``sample.ssfr_mass`` chooses.
SSFR: Final = "ssfr_per_yr"
#: Columns that number galaxies and measure nothing.
_NUMBERS: Final = ("snapshot", "subhalo_id", "group_id", "galaxy_id")
#: Columns that tables of predictions have for themselves.
_TAKEN: Final = ("image", "prediction", "label")


@dataclass(frozen=True)
class Quantity:
    """What can be predicted, in words.

    Attributes
    ----------
    column : str
        Its name in recipes and tables.
    name : str
        What sentences call it.
    formula : str
        How it follows from the catalogue; empty for columns of a person's own.
    unit : str
        Unit of its numbers; empty where it has none, or none is stated.
    remark : str
        What a reader of the numbers must know; empty where there is nothing.
    symbol, symbol_unit : str
        Name and unit for axes, as matplotlib takes them; empty: `name` and `unit`.
    short : str
        Name where there is little room; empty: `name`.
    zero : str
        What it says of a galaxy that it is 0; empty: the name and = 0.
    topic : str
        What the report asks about; empty: `name`.
    is_published : bool
        Whether the published table of the sample holds this quantity.
    of : tuple of str
        Columns of ``sample.csv`` that it is made of; empty: it is a column itself.
    make : callable or None
        Makes its values of those columns.
    """

    column: str
    name: str
    formula: str = ""
    unit: str = ""
    remark: str = ""
    symbol: str = ""
    symbol_unit: str = ""
    short: str = ""
    zero: str = ""
    topic: str = ""
    is_published: bool = False
    of: tuple[str, ...] = ()
    make: Callable[..., Floats] | None = None

    @property
    def text(self) -> str:
        """Name, formula and unit, for tables and files."""
        formula = f" = {self.formula}" if self.formula else ""
        return f"{self.name}{formula}{_in_brackets(self.unit)}"

    @property
    def sentence(self) -> str:
        """All that is known of it."""
        return f"{self.text}{'; ' if self.remark else ''}{self.remark}"

    @property
    def about(self) -> str:
        """What the report asks about."""
        return self.topic or self.name

    @property
    def zero_words(self) -> str:
        """What to call galaxies of which it is 0."""
        return self.zero or f"{self.name} = 0"


@dataclass(frozen=True)
class Target(Quantity):
    """What a network predicts: a quantity, and the scale on which it does.

    Values are numbers of the quantity in its unit. Labels are what the network sees, log10 of
    ``scale`` times the value or the value itself; they are shown without ``scale``.

    Attributes
    ----------
    transform : str
        ``log10`` or ``none``.
    scale : float
        Factor before the logarithm; without one it is 1.
    """

    transform: str = "log10"
    scale: float = 1.0

    @property
    def is_log(self) -> bool:
        """Whether labels are logarithms."""
        return self.transform == "log10"

    @property
    def error_unit(self) -> str:
        """Unit of differences of two labels; empty where there is none."""
        return "dex" if self.is_log else self.unit

    @property
    def shown_name(self) -> str:
        """What sentences call it on the scale of the labels."""
        return f"log {self.name}" if self.is_log else self.name

    @property
    def shown_short(self) -> str:
        """The same where there is little room, for matplotlib."""
        name = escaped(self.short or self.name)
        return f"log {name}" if self.is_log else name

    @property
    def axis(self) -> str:
        """The same for axes, with its unit, for matplotlib."""
        unit = self.symbol_unit or escaped(self.unit)
        return f"{self._log10}{self.symbol or escaped(self.name)}{_in_brackets(unit)}"

    @property
    def difference_axis(self) -> str:
        """Name of predicted - true label, for matplotlib."""
        unit = _in_brackets(escaped(self.error_unit))
        return f"predicted \u2212 true {self._log10}{escaped(self.name)}{unit}"

    @property
    def _log10(self) -> str:
        return "log$_{10}$ " if self.is_log else ""

    @property
    def difference(self) -> str:
        """What predicted - true label is."""
        return "Difference of the logarithms" if self.is_log else "Difference"

    @property
    def squared_unit(self) -> str:
        """Unit of squared differences, in brackets, for matplotlib."""
        unit = escaped(self.error_unit)
        return _in_brackets(f"{unit if unit.isalnum() else f'({unit})'}$^2$" if unit else "")

    def digits(self, label: float) -> str:
        """Write a label, or a difference of two, with the digits that say something."""
        return f"{label:.2f}" if self.is_log else f"{label:.3g}"

    def spread(self, deviation: float) -> str:
        """Write a difference of two labels with its unit, for matplotlib."""
        return f"{self.digits(deviation)} {escaped(self.error_unit)}".rstrip()

    def has_label(self, values: Floats) -> NDArray[np.bool_]:
        """Whether values have a label: 0 has no logarithm."""
        return values > 0.0 if self.is_log else np.ones(np.shape(values), np.bool_)

    def label(self, values: Floats) -> Floats:
        """Return the labels of values that have one."""
        return np.asarray(np.log10(self.scale * values) if self.is_log else values, np.float64)

    def value(self, labels: Floats) -> Floats:
        """Return the values of labels."""
        return np.asarray(10.0**labels / self.scale if self.is_log else labels, np.float64)

    def shown(self, labels: Floats) -> Floats:
        """Return labels as axes show them: log10 of the value, or the value."""
        return np.asarray(labels - np.log10(self.scale) if self.is_log else labels, np.float64)

    def on_axis(self, values: Floats) -> Floats:
        """Return, as axes show them, the values that have a label."""
        found = values[self.has_label(values)]
        return np.asarray(np.log10(found) if self.is_log else found, np.float64)

    def tile(self, value: float) -> str:
        """Write one value beside a picture, for matplotlib."""
        if self.is_log and not value > 0:
            return escaped(self.zero_words)
        unit = "" if self.is_log else escaped(self.unit)
        number = self.digits(float(np.log10(value)) if self.is_log else value)
        number = number.replace("-", "\u2212")
        return f"{self.shown_short} = {number} {unit}".rstrip()

    def to_dict(self) -> dict[str, Any]:
        """Return what a saved model must know of it; see `of_model`."""
        return {
            "text": self.text,
            "sentence": self.sentence,
            "column": self.column,
            "transform": self.transform,
            "scale": self.scale,
        }

    @classmethod
    def of_model(cls, about: Mapping[str, Any]) -> Target:
        """Return the scale that a saved model predicts on.

        Models that older versions saved do not state it: they predict log10(1e15 sSFR).
        """
        return cls(
            column=about.get("column", SSFR),
            name=about["text"],
            transform=about.get("transform", PUBLISHED.transform),
            scale=about.get("scale", PUBLISHED.scale),
        )


def _in_brackets(unit: str) -> str:
    return f" [{unit}]" if unit else ""


def escaped(text: str) -> str:
    """Keep matplotlib from reading a person's words as a formula."""
    return text.replace("$", r"\$")


_SSFR: Final = {
    "total_code": Quantity(
        SSFR,
        "total-mass sSFR",
        "SFR / (SubhaloMass x 1e10)",
        "h/yr",
        remark="the mass is all of the subhalo's, in Msun/h as stored, so that the same numbers "
        "read in 1/yr are 1/h too high (0.17 dex for h = 0.6774)",
        symbol="SFR / M$_{\\rm total}$",
        symbol_unit="$h$ yr$^{-1}$",
        short="sSFR",
        zero="SFR = 0",
        topic="star formation",
        is_published=True,
    ),
    "stellar_msun": Quantity(
        SSFR,
        "stellar-mass sSFR",
        "SFR / stellar mass",
        "1/yr",
        remark="the mass is that of all stars of the subhalo, in Msun",
        symbol="SFR / M$_{\\rm stars}$",
        symbol_unit="yr$^{-1}$",
        short="sSFR",
        zero="SFR = 0",
        topic="star formation",
    ),
}
#: What the thesis predicts.
PUBLISHED: Final = Target(**vars(_SSFR["total_code"]), transform="log10", scale=1e15)


def _mass(column: str, name: str, formula: str, sign: str) -> Quantity:
    symbol = f"M$_{{\\rm {sign}}}$"
    return Quantity(column, name, f"{formula} x 1e10 / h", "Msun", "", symbol, "M$_\\odot$")


_CKPC_H: Final = "ckpc $h^{-1}$"
#: What can be predicted besides the sSFR, by the name that a recipe's ``target.column`` has.
QUANTITIES: Final = {
    quantity.column: quantity
    for quantity in (
        Quantity(
            "sfr_msun_per_yr",
            "star formation rate",
            "SubhaloSFR",
            "Msun/yr",
            symbol="SFR",
            symbol_unit="M$_\\odot$ yr$^{-1}$",
            short="SFR",
            zero="SFR = 0",
            topic="star formation",
        ),
        _mass("stellar_mass_msun", "stellar mass", "SubhaloMassType[4]", "stars"),
        _mass("gas_mass_msun", "gas mass", "SubhaloMassType[0]", "gas"),
        _mass("total_mass_msun", "total mass", "SubhaloMass", "total"),
        _mass("group_mass_msun", "mass of the FoF group", "GroupMass", "group"),
        Quantity(
            "gas_fraction",
            "gas fraction",
            "gas mass / (gas mass + stellar mass)",
            symbol="f$_{\\rm gas}$",
            of=("gas_mass_msun", "stellar_mass_msun"),
            make=lambda gas, stars: gas / (gas + stars),
        ),
        Quantity(
            "stellar_half_mass_radius_ckpc_h",
            "stellar half-mass radius",
            "SubhaloHalfmassRadType[4]",
            "ckpc/h",
            symbol="R$_{1/2}$",
            symbol_unit=_CKPC_H,
        ),
        Quantity("redshift", "redshift", symbol="z"),
        Quantity("is_central", "being central", "1 for the central subhalo of its group, else 0"),
        Quantity("n_gas_group", "number of gas cells of the FoF group", "GroupLenType[0]"),
        Quantity("n_stars", "number of star particles", "SubhaloLenType[4]"),
        *(
            Quantity(
                f"{axis}_ckpc_h",
                f"position {axis}",
                f"SubhaloPos[{place}]",
                "ckpc/h",
                symbol_unit=_CKPC_H,
            )
            for place, axis in enumerate("xyz")
        ),
    )
}


def ssfr_of(sample: SampleRecipe) -> Quantity:
    """Return what the column ``ssfr_per_yr`` of a selection is.

    Parameters
    ----------
    sample : SampleRecipe
        The recipe's section; ``ssfr_mass`` decides.

    Returns
    -------
    Quantity
        Its name, formula and unit.
    """
    return _SSFR[sample.ssfr_mass]


def target_of(recipe: Recipe) -> Target:
    """Return what a recipe predicts.

    Parameters
    ----------
    recipe : Recipe
        Its section ``target`` names a column or an entry of `QUANTITIES`.

    Returns
    -------
    Target
        The quantity, with the scale of its labels.

    Raises
    ------
    ConfigError
        The column numbers galaxies, or has a name that tables of predictions use; or the recipe
        has other words for a column that is known.
    """
    wanted = recipe.target
    column = wanted.column
    if column in _NUMBERS or column in _TAKEN:
        why = "numbers galaxies" if column in _NUMBERS else "is a column of sfr predict's tables"
        raise ConfigError(
            f"recipe: target.column = {column!r} is not possible: it {why}; allowed: "
            f"{', '.join(_known())}, or a column of your own in sample.csv by another name"
        )
    known = ssfr_of(recipe.sample) if column == SSFR else QUANTITIES.get(column)
    if known is None:
        unstated = "" if wanted.unit is not None else "its unit is not stated"
        known = Quantity(column, wanted.name or column, unit=wanted.unit or "", remark=unstated)
    elif wanted.name is not None or wanted.unit is not None:
        raise ConfigError(
            f"recipe: target.name and target.unit are for columns of your own; {column} is known: "
            f"{known.text}. Leave them out"
        )
    scale = wanted.scale if wanted.transform == "log10" else 1.0
    return Target(**vars(known), transform=wanted.transform, scale=scale)


def _known() -> list[str]:
    return [SSFR, *QUANTITIES]


def read_values(workspace: Workspace, target: Target) -> tuple[Table, Floats]:
    """Read ``sample.csv`` with the value of the target in each row.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    target : Target
        What is predicted.

    Returns
    -------
    sample : dict of str to ndarray
        As `sfr.run.edited_tables.read_sample` returns it.
    values : ndarray of float64, shape (N,)
        In the target's unit, row by row; 0 has no label where labels are logarithms.

    Raises
    ------
    DataMissingError
        The file or the column is not there.
    DataFormatError
        The file cannot be read, or a value is missing, no number, infinite, or negative where
        labels are logarithms.
    """
    found, path, column = open_sample(workspace), workspace.sample_csv, target.column
    names = image_names(found.table)
    if target.make is not None and column in found.further:
        raise DataFormatError(
            f"{path}: {column} is a column of your own, and sfr has a formula of that name "
            f"({target.text}); give the column another name"
        )
    if target.make is not None:
        values = target.make(*(np.asarray(found.table[name], np.float64) for name in target.of))
    elif column in found.table:
        values = np.asarray(found.table[column], np.float64)
    elif column in found.further:
        texts = zip(names, found.further[column], strict=True)
        values = np.array([_number(text, f"{path}: {column} of {n}") for n, text in texts])
    else:
        own = ", ".join(found.further) or "none"
        raise DataMissingError(
            f"{path} has no column {column!r}, which the recipe predicts (target.column). Columns "
            f"of your own there: {own}; known besides: {', '.join(_known())}"
        )
    bad = np.flatnonzero(~np.isfinite(values) | ((values < 0.0) if target.is_log else False))
    if bad.size:
        allowed = "a number that is not infinite"
        if target.is_log:
            allowed = '0 or more, because target.transform = "log10"'
        raise DataFormatError(
            f"{path}: {column} of {names[bad[0]]} is {values[bad[0]]} ({bad.size} such rows); "
            f"allowed: {allowed}; correct it, or remove the row to leave the galaxy out"
        )
    return found.table, values


def _number(text: str, where: str) -> float:
    try:
        value = parse_cell(text, float)
    except ValueError as error:
        raise DataFormatError(f"{where} = {text!r} is not a number{error}") from error
    assert isinstance(value, float)
    return value
