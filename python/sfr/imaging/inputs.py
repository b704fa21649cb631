"""What a network reads of a galaxy: PNG images, or float maps from the shards, unrounded."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sfr.errors import DataFormatError, DataMissingError
from sfr.hdf5 import open_hdf5, reading, require_dataset
from sfr.imaging.cases import RGB, case_function, map_case_function, network_input
from sfr.imaging.normalise import Normalisation, read_normalisation
from sfr.imaging.png import read_png
from sfr.imaging.rgb import rgb_image
from sfr.recipe import Recipe
from sfr.run.names import ImageId
from sfr.run.shards import IMAGE_COLUMNS, maps_digest, read_shard
from sfr.run.workspace import Workspace, digest

__all__ = ["CaseInput", "Inputs", "inputs_of"]


class CaseInput(NamedTuple):
    """One version of a galaxy, as a network reads it.

    Attributes
    ----------
    image : ndarray of uint8 or float32, shape (y, x, 3)
        In 0..255, row 0 at the top.
    clipped : float or None
        Share of the pixels that the gain drove out of range; None: not counted.
    """

    image: NDArray[Any]
    clipped: float | None


class Inputs(ABC):
    """The galaxies of a run as the cases of its recipe are made of them.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    recipe : Recipe
        The experiment.
    """

    def __init__(self, workspace: Workspace, recipe: Recipe) -> None:
        self.workspace = workspace
        self.recipe = recipe

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where they lie."""

    @abstractmethod
    def has(self, image: ImageId) -> bool:
        """Whether an image can be read."""

    @abstractmethod
    def digest(self, names: Sequence[str]) -> str:
        """Hash what images (bare file names, in any order) consist of.

        Raises
        ------
        DataMissingError
            One is not there.
        """

    @abstractmethod
    def case(self, case: str) -> Callable[[ImageId], CaseInput]:
        """Return what reads an image and makes a case of it.

        Raises
        ------
        ConfigError
            Unknown case.
        """

    @abstractmethod
    def shown(self, case: str) -> Callable[[ImageId], RGB]:
        """Return what makes a picture for people of a case: what the network reads, in 8 bits.

        Raises
        ------
        ConfigError
            Unknown case.
        """


def inputs_of(workspace: Workspace, recipe: Recipe) -> Inputs:
    """Return what a recipe's cases are made of (``cases.act_on``)."""
    return (_Pictures if recipe.cases.act_on == "composite" else _Maps)(workspace, recipe)


class _Pictures(Inputs):
    """The 8-bit composites in ``images/``."""

    @property
    def folder(self) -> Path:
        return self.workspace.images

    def has(self, image: ImageId) -> bool:
        return self.workspace.image(image).is_file()

    def digest(self, names: Sequence[str]) -> str:
        content = hashlib.sha256()
        for name in sorted(names):
            try:
                data = (self.workspace.images / name).read_bytes()
            except FileNotFoundError as error:
                raise DataMissingError(
                    f"image {self.workspace.images / name} is not there; run sfr render"
                ) from error
            content.update(f"{name} {len(data)}\n".encode())
            content.update(data)
        return content.hexdigest()

    def case(self, case: str) -> Callable[[ImageId], CaseInput]:
        function = case_function(case, self.recipe.cases, self.recipe.channels)
        pixels = self.recipe.maps.pixels

        def read(image: ImageId) -> CaseInput:
            path = self.workspace.image(image)
            picture = read_png(path)
            if picture.shape != (pixels, pixels, 3):
                raise DataFormatError(
                    f"image {path} has {picture.shape[1]} x {picture.shape[0]} pixels, the recipe "
                    f"has maps.pixels = {pixels}; render again, or train with the recipe of the "
                    "images"
                )
            return CaseInput(function(picture), None)

        return read

    def shown(self, case: str) -> Callable[[ImageId], RGB]:
        function = case_function(case, self.recipe.cases, self.recipe.channels)
        return lambda image: function(read_png(self.workspace.image(image)))


class _Maps(Inputs):
    """The float maps in ``maps/``, scaled to the ranges of their channels."""

    def __init__(self, workspace: Workspace, recipe: Recipe) -> None:
        super().__init__(workspace, recipe)
        self._places: dict[int, dict[ImageId, tuple[Path, int]]] = {}

    @property
    def folder(self) -> Path:
        return self.workspace.all_maps

    @cached_property
    def _normalisation(self) -> Normalisation:
        return read_normalisation(self.workspace, self.recipe.channels)

    def has(self, image: ImageId) -> bool:
        return self._place(image) is not None

    def digest(self, names: Sequence[str]) -> str:
        snapshots = sorted({ImageId.parse(name).snapshot for name in names})
        for name in names:
            self._found(ImageId.parse(name))
        return digest(
            {
                "images": sorted(names),
                "maps": {str(snap): maps_digest(self.workspace, snap) for snap in snapshots},
                "ranges": self._normalisation.ranges,
            }
        )

    def case(self, case: str) -> Callable[[ImageId], CaseInput]:
        function = map_case_function(case, self.recipe.cases, self.recipe.channels)

        def read(image: ImageId) -> CaseInput:
            scaled = self._normalisation.apply(self._read(image)).astype(np.float32)
            made = function(scaled)
            return CaseInput(network_input(made.maps), made.clipped)

        return read

    def shown(self, case: str) -> Callable[[ImageId], RGB]:
        if self.recipe.case(case).family != "composite":
            read = self.case(case)
            return lambda image: np.rint(read(image).image).astype(np.uint8)
        how, channels = self.recipe.image, self.recipe.channels
        return lambda image: rgb_image(self._normalisation.apply(self._read(image)), how, channels)

    def _read(self, image: ImageId) -> NDArray[Any]:
        path, row = self._found(image)
        with open_hdf5(path) as file, reading(path, "the shard"):
            stored = require_dataset(file, path, "maps")
            maps = stored.read(np.s_[row : row + 1])[0]
        wanted = (len(self.recipe.channels), *2 * (self.recipe.maps.pixels,))
        if maps.shape != wanted:
            raise DataFormatError(
                f"the maps of {path} have shape {maps.shape}, the recipe has {wanted}; render "
                "again, or train with the recipe of the maps"
            )
        return np.asarray(maps)

    def _found(self, image: ImageId) -> tuple[Path, int]:
        place = self._place(image)
        if place is None:
            raise DataMissingError(
                f"{self.workspace.maps(image.snapshot)} has no maps of {image.filename}; run sfr "
                "render"
            )
        return place

    def _place(self, image: ImageId) -> tuple[Path, int] | None:
        """Return the shard of an image, and its row there."""
        if image.snapshot not in self._places:
            found = {}
            for path in self.workspace.shards(image.snapshot):
                shard = read_shard(path, with_maps=False, columns=IMAGE_COLUMNS)
                for row, there in enumerate(shard.images(image.snapshot)):
                    found[there] = path, row
            # whole at once: several threads read
            self._places[image.snapshot] = found
        return self._places[image.snapshot].get(image)
