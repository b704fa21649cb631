"""Every path of a run's folder; locks, states and notes name their files in ``.state`` themselves.

No module outside this room builds a path inside the folder.
"""

from __future__ import annotations

import re
from pathlib import Path

from sfr.errors import ConfigError
from sfr.paths import numbered
from sfr.run.names import ImageId, ModelId

__all__ = ["RunPaths"]


class RunPaths:
    """Where the files of a run lie (DESIGN 3).

    Parameters
    ----------
    root : str or Path
        The folder; it need not be there.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser().absolute()
        for folder in (self.root, *self.root.parents):
            if folder.exists() and not folder.is_dir():
                raise ConfigError(f"{self.root}: {folder} is a file; give a folder")
            if folder.is_symlink() and not folder.exists():
                raise ConfigError(
                    f"{self.root}: {folder} is a link to {folder.readlink()}, which cannot be "
                    "reached; make that folder or mount its disk"
                )

    @property
    def state(self) -> Path:
        """Folder of what is known of steps: fingerprints, locks, notes."""
        return self.root / ".state"

    @property
    def scratch(self) -> Path:
        """Folder of writes in progress."""
        return self.root / ".tmp"

    @property
    def recipe_toml(self) -> Path:
        """The resolved recipe."""
        return self.root / "recipe.toml"

    @property
    def sample_csv(self) -> Path:
        """One row per galaxy and snapshot."""
        return self.root / "sample.csv"

    @property
    def leaks_csv(self) -> Path:
        """Nearest neighbours of the test images, with the split used and with a random one."""
        return self.root / "tables" / "leaks.csv"

    @property
    def by_snapshot_csv(self) -> Path:
        """Statistics of the sample beside the published ones."""
        return self.root / "tables" / "by_snapshot.csv"

    @property
    def split_csv(self) -> Path:
        """Subset of every image."""
        return self.root / "split.csv"

    def kept(self, path: Path) -> Path:
        """Return where a step keeps a table as it wrote it, to know what people edit in it."""
        return self.state / path.name

    def old(self, path: Path) -> Path:
        """Return where an edited table is left that a step was forced to write anew."""
        return path.with_suffix(f".old{path.suffix}")

    @property
    def normalisation_json(self) -> Path:
        """What the channels are divided by."""
        return self.root / "normalisation.json"

    @property
    def images(self) -> Path:
        """Folder of the RGB images."""
        return self.root / "images"

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.root / "report"

    @property
    def run_log(self) -> Path:
        """One JSON line per step; the only file that may hold times, hosts and paths."""
        return self.root / "run.jsonl"

    def mock(self, settings: str) -> Path:
        """Folder of the demo's mock simulation with some settings."""
        return self.root / "mock" / settings

    @property
    def all_maps(self) -> Path:
        """Folder of the folders of shards."""
        return self.root / "maps"

    def maps(self, snapshot: int) -> Path:
        """Folder of a snapshot's shards."""
        return self.all_maps / f"snap_{snapshot:03d}"

    def shard(self, snapshot: int, index: int) -> Path:
        """One shard of maps."""
        return self.maps(snapshot) / f"part-{index:05d}.hdf5"

    def shards(self, snapshot: int) -> list[Path]:
        """All shards of a snapshot that exist, in order."""
        found = numbered(self.maps(snapshot), r"part-(\d{5,})\.hdf5")
        return [path for _, path in found if path.is_file()]

    def failures_csv(self, snapshot: int) -> Path:
        """Galaxies of a snapshot that could not be rendered, with the reason."""
        return self.maps(snapshot) / "failures.csv"

    def ranges_csv(self, snapshot: int) -> Path:
        """Shares of empty pixels, and of those outside the range, of each map of a snapshot."""
        return self.maps(snapshot) / "ranges.csv"

    def image(self, image: ImageId) -> Path:
        """One image."""
        return self.images / image.filename

    def images_of(self, snapshot: int) -> list[Path]:
        """All images of a snapshot that exist, sorted; other files of the folder are not ours."""
        folder = self.images.glob(f"Snap{snapshot}ID*.png")
        return sorted(path for path in folder if ImageId.is_name(path.name))

    def features(self, case: str, key: str) -> Path:
        """Return the file of a case's cached backbone output."""
        return self.root / "features" / f"{case}-{key}.npy"

    def features_part(self, case: str, key: str, index: int) -> Path:
        """Return the file of a part of a case's features, before all of them are there."""
        return self.root / "features" / f"{case}-{key}.part-{index:05d}.npy"

    def case(self, case: str) -> Path:
        """Folder of one case's heads."""
        return self.root / "train" / case

    def head(self, model: ModelId) -> Path:
        """Folder of what recipes with one fold publish of a head."""
        return self.case(model.case) / model.folder

    def semantic(self, name: str, seed: int) -> Path:
        """Folder of one trained encoder of the semantic autoencoder."""
        return self.root / "semantic" / name / f"seed-{seed}"

    def encoders(self) -> list[Path]:
        """Folders of the encoders whose training has begun, sorted; not copies of them."""
        found = self.root.glob("semantic/*/seed-*")
        return sorted(folder for folder in found if re.fullmatch(r"seed-\d+", folder.name))

    def semantic_sizes(self, suffix: str) -> Path:
        """Table (``.csv``) or figure (``.png``) of the study of network sizes."""
        return self.root / "semantic" / f"sizes{suffix}"

    def trained(self) -> list[str]:
        """Cases with heads that have finished training, sorted."""
        return self._cases_with("metrics.json")

    def failed(self) -> list[str]:
        """Cases with heads that a training could not train, sorted."""
        return self._cases_with("failed.json")

    def _cases_with(self, file: str) -> list[str]:
        # not hidden ones, nor copies that somebody made
        cases = sorted((self.root / "train").glob("[!.]*"))
        plain = (case for case in cases if re.fullmatch(r"[\w.-]+", case.name))
        return [case.name for case in plain if (case / file).is_file()]

    def relative(self, path: Path) -> str:
        """Return a path as seen from the run's folder, with forward slashes."""
        return path.relative_to(self.root).as_posix()
