"""Users' images: FITS, PNG, npy and the maps of a run, as arrays with y upwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import ConfigError, DataFormatError, DataMissingError, SfrError
from sfr.store import read_shard

__all__ = ["SUFFIXES", "UserImage", "read_images"]

_FITS: Final = (".fits", ".fit", ".fts", ".fits.gz")
_PICTURES: Final = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_SHARDS: Final = (".hdf5", ".h5")
#: File names that are understood.
SUFFIXES: Final = (*_FITS, *_PICTURES, ".npy", *_SHARDS)


@dataclass(frozen=True)
class UserImage:
    """One image of a file, or why there is none.

    Attributes
    ----------
    file : str
        Name of the file.
    label : str
        Which image of it; empty where there is one only.
    array : ndarray or None
        ``image[y, x]``, y upwards, of any real type and any number of dimensions: not checked.
    problem : str
        Why the file has no image; empty where it has.
    """

    file: str
    label: str
    array: NDArray[Any] | None
    problem: str = ""


def read_images(path: Path, *, channel: str | None = None) -> Iterator[UserImage]:
    """Read the images of a file; a file that cannot be read gives one entry that says so.

    Parameters
    ----------
    path : Path
        FITS (the first HDU with data; needs astropy), PNG or another picture (its grey value: the
        mean of red, green and blue), npy (one image, or a stack along the first axis), or a shard
        of maps of a run.
    channel : str or None
        Shards: name of the map.

    Yields
    ------
    UserImage
        One entry an image.

    Raises
    ------
    ConfigError
        No such kind of file, no astropy for a FITS file, or no such channel.
    DataMissingError
        The file is not there.
    """
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        raise ConfigError(f"{path}: not a kind of file that is read: {' '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataMissingError(f"{path} is not there")
    try:
        if name.endswith(_FITS):
            arrays = _read_fits(path)
        elif name.endswith(_SHARDS):
            arrays = _read_shard(path, channel)
        elif name.endswith(".npy"):
            arrays = _stack(np.load(path, allow_pickle=False))
        else:
            arrays = [("", _read_picture(path))]
    except (ConfigError, DataMissingError):
        raise
    except (SfrError, OSError, ValueError, EOFError, SyntaxError, TypeError) as error:
        yield UserImage(path.name, "", None, f"cannot be read: {error}")
        return
    # a file without images is one that is empty
    for label, array in arrays or [("", np.empty((0, 0)))]:
        yield UserImage(path.name, label, array)


def _stack(array: NDArray[Any]) -> list[tuple[str, NDArray[Any]]]:
    if array.ndim == 3:
        return [(f"[{place}]", image) for place, image in enumerate(array)]
    return [("", array)]


def _read_picture(path: Path) -> NDArray[np.float64]:
    from PIL import Image

    with Image.open(path) as image:
        # more than 8 bits a pixel are kept
        deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
        array = np.asarray(image if deep else image.convert("RGB"))
    grey = array.astype(np.float64)
    return np.asarray((grey if grey.ndim == 2 else grey.mean(axis=2))[::-1])


def _read_fits(path: Path) -> list[tuple[str, NDArray[Any]]]:
    try:
        from astropy.io import fits
    except ImportError as error:
        raise ConfigError(
            f"{path}: FITS files are read with astropy, which is not installed: "
            "pip install 'tng-sfr[fits]'"
        ) from error
    with fits.open(path) as units:
        for unit in units:
            if getattr(unit, "is_image", False) and unit.data is not None:
                return _stack(np.array(unit.data))
    raise DataFormatError("no HDU holds an image")


def _read_shard(path: Path, channel: str | None) -> list[tuple[str, NDArray[Any]]]:
    shard = read_shard(path)
    names = [str(n) for n in np.ravel(np.asarray(shard.attributes.get("channel_names", ())))]
    if channel is None or channel not in names:
        found = "no channel was named" if channel is None else f"channel {channel!r} is not there"
        raise ConfigError(f"{path}: {found}; give --channel, one of: {', '.join(names)}")
    place = names.index(channel)
    # sfr map writes one galaxy without a number
    numbers = shard.columns.get("subhalo_id", np.arange(len(shard.maps)))
    return [
        (f"{channel} {int(n)}", maps[place]) for n, maps in zip(numbers, shard.maps, strict=True)
    ]
