"""Names of files in a run, and texts without names of folders."""

from __future__ import annotations

import re
from pathlib import Path

from sfr.errors import DataFormatError

__all__ = ["bare", "image_name", "parse_image_name"]


def image_name(snapshot: int, subhalo_id: int) -> str:
    """Return the bare file name of a galaxy's image, as the thesis writes it."""
    return f"Snap{snapshot}ID{subhalo_id}.png"


def parse_image_name(name: str) -> tuple[int, int]:
    """Return snapshot and subhalo of an image's bare file name."""
    snapshot, _, subhalo = name.removeprefix("Snap").removesuffix(".png").partition("ID")
    if not (snapshot.isdecimal() and subhalo.isdecimal()):
        raise DataFormatError(f"{name!r} is not an image name such as Snap99ID123.png")
    return int(snapshot), int(subhalo)


def bare(text: str, *roots: Path) -> str:
    """Cut the folders from absolute paths in a text: results may be passed on.

    Paths with spaces or quotes in them end where nobody can tell; ``roots`` are folders that may
    have such names, with plain ones below.
    """
    for root in roots:
        text = re.sub(rf"{re.escape(str(root))}/(?:[^\s/]+/)*", "", text)
    return re.sub(
        r"(?<![\w.)/])(?:[A-Za-z]:|~)?[/\\](?:[^\s/\\:'\",]+[/\\])+([^\s/\\:'\",]*)", r"\1", text
    )
