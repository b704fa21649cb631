"""File names of the TNG layout, on disk and in the web API; no other module spells them."""

from __future__ import annotations

import re
from pathlib import Path

from sfr.paths import numbered

__all__ = [
    "chunk_numbers",
    "group_chunk",
    "group_folder",
    "group_url",
    "illustris_group_chunk",
    "offsets_file",
    "offsets_url",
    "postprocessing_folder",
    "snapshot_chunk",
    "snapshot_folder",
    "snapshot_number",
    "snapshot_url",
    "tree_file",
    "tree_files",
    "tree_url",
]


def group_folder(output: Path, snap: int) -> Path:
    """Folder of the group catalogue's chunks."""
    return output / f"groups_{snap:03d}"


def group_chunk(output: Path, snap: int, chunk: int) -> Path:
    """One chunk of the group catalogue."""
    return group_folder(output, snap) / f"fof_subhalo_tab_{snap:03d}.{chunk}.hdf5"


def illustris_group_chunk(output: Path, snap: int, chunk: int) -> Path:
    """One chunk of a group catalogue in the layout of the original Illustris."""
    return group_folder(output, snap) / f"groups_{snap:03d}.{chunk}.hdf5"


def snapshot_folder(output: Path, snap: int) -> Path:
    """Folder of the snapshot's chunks."""
    return output / f"snapdir_{snap:03d}"


def snapshot_chunk(output: Path, snap: int, chunk: int) -> Path:
    """One chunk of the snapshot; the name ``snapshot_NNN`` counts where only that exists."""
    folder = snapshot_folder(output, snap)
    path = folder / f"snap_{snap:03d}.{chunk}.hdf5"
    other = folder / f"snapshot_{snap:03d}.{chunk}.hdf5"
    return other if not path.is_file() and other.is_file() else path


def postprocessing_folder(output: Path) -> Path:
    """Folder of offsets and trees, beside ``output``."""
    return output.parent / "postprocessing"


def offsets_file(output: Path, snap: int) -> Path:
    """File that says where the particles of every object start."""
    return postprocessing_folder(output) / "offsets" / f"offsets_{snap:03d}.hdf5"


def tree_file(output: Path, number: int) -> Path:
    """One file of the SubLink trees."""
    return postprocessing_folder(output) / "trees" / "SubLink" / f"tree_extended.{number}.hdf5"


def tree_files(output: Path) -> list[Path]:
    """SubLink files in order, beside ``output`` or inside it, up to the first gap."""
    for root in (output, postprocessing_folder(output), output / "postprocessing"):
        folder = root / "trees" / "SubLink"
        found: list[Path] = []
        while (path := folder / f"tree_extended.{len(found)}.hdf5").is_file():
            found.append(path)
        if found:
            return found
    return []


def chunk_numbers(folder: Path) -> list[int]:
    """Numbers C of the files ``*.C.hdf5`` of a folder, ascending; hidden ones are not ours."""
    found = numbered(folder, r"[^.].*\.(\d+)\.hdf5")
    return sorted({number for number, path in found if path.is_file()})


def snapshot_number(path: Path) -> int:
    """Snapshot number in the name of a chunk (``snap_099.0.hdf5``), -1 if there is none."""
    match = re.search(r"_(\d{3,})\.\d+\.hdf5$", path.name)
    return int(match[1]) if match else -1


def group_url(snap: int, chunk: int) -> str:
    """Group-catalogue chunk in the web API."""
    return f"files/groupcat-{snap}.{chunk}.hdf5"


def snapshot_url(snap: int, chunk: int) -> str:
    """Snapshot chunk in the web API."""
    return f"files/snapshot-{snap}.{chunk}.hdf5"


def offsets_url(snap: int) -> str:
    """Offsets file in the web API."""
    return f"files/offsets.{snap}.hdf5"


def tree_url() -> str:
    """List of the SubLink files in the web API."""
    return "files/sublink/"
