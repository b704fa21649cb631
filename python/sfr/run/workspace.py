"""The folder of one run (DESIGN 3), as the steps see it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from sfr.errors import ConfigError
from sfr.paths import require_folder
from sfr.recipe import Recipe, load_recipe
from sfr.run.locks import RECIPE, Locks
from sfr.run.notes import Notes
from sfr.run.states import States, StepState, digest

__all__ = ["RECIPE", "SAMPLE_SETTINGS", "SIMULATION", "StepState", "Workspace", "digest"]

#: Notes: the simulation that the folder is for, and a digest of how labels are made.
SIMULATION, SAMPLE_SETTINGS = "simulation", "sample-settings"
_NOTES_OF_SAMPLE = (SIMULATION, SAMPLE_SETTINGS)


class Workspace(States, Notes, Locks):
    """The folder of one run.

    Its paths are those of `sfr.run.paths`, its files are written whole (`sfr.run.files`), commands
    keep out of each other's way (`sfr.run.locks`), steps are known by their fingerprints
    (`sfr.run.states`), and notes are kept for later (`sfr.run.notes`).

    Parameters
    ----------
    root : str or Path
        The folder; made when the first file is written.
    """

    # -- sample ----------------------------------------------------------------------------------

    def copy_of_sample(self, folder: Path) -> Workspace:
        """Copy the sample, and how it was made, into another folder: for trying something out."""
        copy = Workspace(folder)
        steps = self.steps("select")
        files = [self.sample_csv, self.kept(self.sample_csv), self.by_snapshot_csv]
        files += [file(step) for step in steps for file in (self._state_file, self._sources_file)]
        files += [self._note(name) for name in _NOTES_OF_SAMPLE]
        for path in files:
            if path.is_file():
                target = folder / path.relative_to(self.root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        return copy

    # -- recipe ----------------------------------------------------------------------------------

    def stored_recipe(self) -> Recipe | None:
        """Return the recipe that the folder was last used with, or None."""
        if not self.recipe_toml.is_file():
            return None
        try:
            return load_recipe(self.recipe_toml)
        except ConfigError as error:
            raise ConfigError(
                f"{self.recipe_toml} cannot be used ({error}); delete it and give --recipe"
            ) from error

    def store_recipe(self, recipe: Recipe) -> None:
        """Write the resolved recipe, unless it is there already."""
        import tomli_w

        text = tomli_w.dumps(recipe.to_dict())
        if not self.recipe_toml.is_file() or self.recipe_toml.read_text("utf-8") != text:
            self.write_text(self.recipe_toml, text)

    # -- log -------------------------------------------------------------------------------------

    def log(self, line: Mapping[str, object]) -> None:
        """Append one line to the run's log in a single write."""
        require_folder(self.root)
        data = (json.dumps(dict(line), allow_nan=False, default=str) + "\n").encode()
        descriptor = os.open(self.run_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)
