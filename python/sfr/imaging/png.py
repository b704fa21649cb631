"""8-bit RGB images on disk: PNG, row 0 at the top."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sfr.errors import DataFormatError, DataMissingError
from sfr.pictures import read_pictures
from sfr.run.workspace import Workspace

__all__ = ["has_own_scale", "read_png", "save_png", "write_png"]


#: Text in a PNG whose brightness cannot be compared with that of others.
_SCALE: Final = "Scale"
_OWN: Final = "each channel by its own maximum in this image"


def write_png(
    workspace: Workspace, path: Path, image: NDArray[np.uint8], *, own_scale: bool = False
) -> None:
    """Write an RGB image whole.

    Parameters
    ----------
    workspace : Workspace
        The run's folder.
    path : Path
        The file.
    image : ndarray of uint8, shape (y, x, 3)
        Row 0 at the top.
    own_scale : bool
        Note in the file that the image was scaled by itself.
    """
    with workspace.replacing(path) as temporary:
        save_png(temporary, image, own_scale=own_scale)


def save_png(file: Path, image: NDArray[np.uint8], *, own_scale: bool = False) -> None:
    """Save an RGB image in a file that is made whole by others; as `write_png`."""
    notes = PngInfo()
    if own_scale:
        notes.add_text(_SCALE, _OWN)
    # of the strategies of zlib the fastest for such pictures, no larger and as lossless
    Image.fromarray(image).save(file, format="PNG", compress_type=zlib.Z_RLE, pnginfo=notes)


def has_own_scale(path: Path) -> bool:
    """Whether a PNG says that it was scaled by itself."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return bool(image.info.get(_SCALE) == _OWN)
    except (OSError, ValueError, SyntaxError):
        return False


def read_png(path: Path) -> NDArray[np.uint8]:
    """Read an RGB image.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    ndarray of uint8, shape (y, x, 3)
        Row 0 at the top.

    Raises
    ------
    DataMissingError
        The file is not there.
    DataFormatError
        The file cannot be read as a PNG of 8 bits in three colours, or its pixels are not what
        they seem: `sfr.pictures.read_pictures`.
    """
    try:
        (image,) = read_pictures(path, ("PNG",))
    except DataMissingError as error:
        raise DataMissingError(f"{error}; run sfr render") from error
    except DataFormatError as error:
        raise DataFormatError(f"{error}; one of a run is rendered again by sfr render") from error
    if image.dtype != np.uint8:
        raise DataFormatError(f"image {path} has more than 8 bits a colour; give 8 bits")
    if image.ndim != 3:
        raise DataFormatError(
            f"image {path} is grey; an image of a galaxy has three channels in red, green and blue"
        )
    return image
