"""What is predicted: name, formula and unit of the label, from the recipe, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sfr.recipe import SampleRecipe

__all__ = ["Target", "target_of"]


@dataclass(frozen=True)
class Target:
    """A label, the column ``ssfr_per_yr`` of ``sample.csv``.

    Attributes
    ----------
    name : str
        What sentences call it.
    formula : str
        How it follows from the catalogue.
    unit : str
        Unit of its numbers.
    remark : str
        What a reader of the numbers must know; empty where there is nothing.
    axis : str
        The same for axes of its decimal logarithm, for matplotlib.
    is_published : bool
        Whether the published table of the sample holds this quantity.
    """

    name: str
    formula: str
    unit: str
    remark: str
    axis: str
    is_published: bool

    @property
    def text(self) -> str:
        """Name, formula and unit, for tables and files."""
        return f"{self.name} = {self.formula} [{self.unit}]"

    @property
    def sentence(self) -> str:
        """All that is known of it."""
        return f"{self.text}{'; ' if self.remark else ''}{self.remark}"


_TARGETS: Final = {
    "total_code": Target(
        name="total-mass sSFR",
        formula="SFR / (SubhaloMass x 1e10)",
        unit="h/yr",
        remark="the mass is all of the subhalo's, in Msun/h as stored, so that the same numbers "
        "read in 1/yr are 1/h too high (0.17 dex for h = 0.6774)",
        axis="log$_{10}$ SFR / M$_{\\rm total}$ [$h$ yr$^{-1}$]",
        is_published=True,
    ),
    "stellar_msun": Target(
        name="stellar-mass sSFR",
        formula="SFR / stellar mass",
        unit="1/yr",
        remark="the mass is that of all stars of the subhalo, in Msun",
        axis="log$_{10}$ SFR / M$_{\\rm stars}$ [yr$^{-1}$]",
        is_published=False,
    ),
}


def target_of(sample: SampleRecipe) -> Target:
    """Return the label that a selection writes.

    Parameters
    ----------
    sample : SampleRecipe
        The recipe's section; ``ssfr_mass`` decides.

    Returns
    -------
    Target
        Its name, formula and unit.
    """
    return _TARGETS[sample.ssfr_mass]
