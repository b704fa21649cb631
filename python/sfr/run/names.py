"""The two nouns of a run, an image and a model, with their names; texts without folders."""

from __future__ import annotations

import re
from typing import NamedTuple

from sfr.errors import DataFormatError

__all__ = ["ImageId", "ModelId"]


class ImageId(NamedTuple):
    """One picture: a galaxy of a snapshot, seen from one direction.

    Images sort by it. View 0 is the face-on one, and has the name that the thesis gives it.

    Attributes
    ----------
    snapshot, subhalo_id : int
        The galaxy.
    view : int
        Direction from which it is seen, from 0.
    """

    snapshot: int
    subhalo_id: int
    view: int = 0

    @property
    def filename(self) -> str:
        """Bare file name of the image.

        Examples
        --------
        >>> ImageId(99, 123).filename, ImageId(99, 123, 2).filename
        ('Snap99ID123.png', 'Snap99ID123V2.png')
        """
        view = f"V{self.view}" if self.view else ""
        return f"Snap{self.snapshot}ID{self.subhalo_id}{view}.png"

    @staticmethod
    def is_name(filename: str) -> bool:
        """Whether a bare file name is one of an image."""
        return _IMAGE.fullmatch(filename) is not None

    @classmethod
    def parse(cls, filename: str) -> ImageId:
        """Read a bare file name.

        Raises
        ------
        DataFormatError
            It is none of an image.
        """
        match = _IMAGE.fullmatch(filename)
        if match is None:
            raise DataFormatError(f"{filename!r} is not an image name such as Snap99ID123.png")
        snapshot, subhalo, view = match.groups()
        return cls(int(snapshot), int(subhalo), int(view or 0))


_IMAGE = re.compile(r"Snap(\d+)ID(\d+)(?:V([1-9]\d*))?\.png", re.ASCII)


class ModelId(NamedTuple):
    """One trained network: a case, the fold whose images it has not seen, and a seed.

    Attributes
    ----------
    case : str
        Version of the image.
    fold, seed : int
        From 0.
    """

    case: str
    fold: int = 0
    seed: int = 0

    @property
    def folder(self) -> str:
        """Name of the folder, in that of its case, of what recipes with one fold publish of it."""
        return f"seed-{self.seed}"

    def __str__(self) -> str:
        """Name it in words; a fold of its own is named where there are several.

        Examples
        --------
        >>> f"{ModelId('mass', seed=3)}; {ModelId('mass', 2)}"
        'mass, seed 3; mass, fold 2, seed 0'
        """
        fold = f", fold {self.fold}" if self.fold else ""
        return f"{self.case}{fold}, seed {self.seed}"
