"""Users' images: FITS, PNG, npy and the maps of a run, as arrays with y upwards."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import ConfigError, DataFormatError, DataMissingError, SfrError
from sfr.pictures import read_pictures
from sfr.run.shards import read_shard

__all__ = ["SUFFIXES", "UserImage", "read_images"]

_FITS: Final = tuple(
    f"{name}{packed}" for name in (".fits", ".fit", ".fts") for packed in ("", ".gz", ".bz2", ".fz")
)
_PICTURES: Final = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_SHARDS: Final = (".hdf5", ".h5")
#: Lengths of a last axis that holds colours.
_COLOURS: Final = (2, 3, 4)
#: Largest difference of the sides of pixels that are square but for rounding.
_SQUARE: Final = 0.01
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


def read_images(
    path: Path, *, channel: str | None = None, hdu: str | None = None
) -> Iterator[UserImage]:
    """Read the images of a file; a file that cannot be read gives one entry that says so.

    Parameters
    ----------
    path : Path
        FITS (needs astropy; scaled by BSCALE and BZERO, BLANK is NaN), PNG, JPEG or TIFF (its grey
        value: the mean of red, green and blue; a page of a TIFF is an image), npy, or a shard of
        maps of a run. Axes of length 1 are dropped from arrays of FITS and npy, and three that are
        left are a stack along the first.
    channel : str or None
        Shards: name of the map.
    hdu : str or None
        FITS: name or number of the HDU; None: the only one with an image, of several the one named
        SCI or else the first of the file.

    Yields
    ------
    UserImage
        One entry an image.

    Raises
    ------
    ConfigError
        No such kind of file, no astropy for a FITS file, or no such channel.
    """
    name = path.name.lower()
    if not path.exists():
        yield UserImage(path.name, "", None, "cannot be read: it is not there")
        return
    if not name.endswith(SUFFIXES):
        raise ConfigError(f"{path}: not a kind of file that is read: {' '.join(SUFFIXES)}")
    try:
        if name.endswith(_FITS):
            arrays = _read_fits(path, hdu)
        elif name.endswith(_SHARDS):
            arrays = _read_shard(path, channel)
        elif name.endswith(".npy"):
            arrays = _planes(np.load(path, allow_pickle=False))
        else:
            arrays = _read_pictures(path)
    except (ConfigError, DataMissingError):
        raise
    except (SfrError, OSError, ValueError, EOFError, SyntaxError, TypeError) as error:
        yield UserImage(path.name, "", None, f"cannot be read: {error}")
        return
    # a file without images is one that is empty
    for label, array in arrays or [("", np.empty((0, 0)))]:
        yield UserImage(path.name, label, array)


def _planes(array: NDArray[Any], name: str = "") -> list[tuple[str, NDArray[Any]]]:
    """Return the images (y, x) of an array, without axes of length 1."""
    if not isinstance(array, np.ndarray):
        raise DataFormatError("an archive of arrays (npz); save one array as npy")
    long = [size for size in array.shape if size != 1]
    if array.ndim > 2 and len(long) >= 2:
        array = array.reshape(long)
    if array.ndim == 3 and array.shape[2] in _COLOURS and min(array.shape[:2]) > max(_COLOURS):
        raise DataFormatError(
            f"its shape {array.shape} is that of an image with {array.shape[2]} colours; give one "
            "of them, or their sum: a stack of images is (n, y, x)"
        )
    if array.ndim == 3:
        return [(f"{name}[{place}]", image) for place, image in enumerate(array)]
    return [(name, array)]


def _read_pictures(path: Path) -> list[tuple[str, NDArray[Any]]]:
    pages = [array.astype(np.float64) for array in read_pictures(path, linear=True)]
    grey = [(page if page.ndim == 2 else page.mean(axis=2))[::-1] for page in pages]
    return [(f"[{place}]" if len(grey) > 1 else "", page) for place, page in enumerate(grey)]


def _read_fits(path: Path, hdu: str | None) -> list[tuple[str, NDArray[Any]]]:
    try:
        from astropy.io import fits
    except ImportError as error:
        raise ConfigError(
            f"{path}: FITS files are read with astropy, which is not installed: "
            "pip install 'tng-sfr[fits]'"
        ) from error
    # with uint=True unsigned numbers would keep the value that stands for no data
    with fits.open(path, uint=False) as units:
        there = {
            place: str(unit.name)
            for place, unit in enumerate(units)
            if getattr(unit, "is_image", False) and math.prod(unit.shape or (0,)) > 0
        }
        place = _chosen_hdu(there, hdu)
        _check_header(units[place].header, units[place].shape)
        # one that had to be chosen is named
        return _planes(np.array(units[place].data), there[place] if len(there) > 1 else "")


def _check_header(header: Mapping[str, Any], shape: Sequence[int]) -> None:
    """Refuse numbers that are no brightness, and pixels in which a round galaxy is not round."""
    unit = str(header.get("BUNIT", "")).strip()
    if unit.lower().startswith(("mag", "dex", "log")):
        raise DataFormatError(
            f"its unit is {unit!r} (BUNIT), a logarithm; give brightness, which is linear"
        )
    # FITS counts axes from 1 and from the last one of NumPy
    long = [axis for axis, size in enumerate(reversed(shape), start=1) if size != 1][:2]
    if len(long) == 2:
        across, down = (_pixel_side(header, axis, long) for axis in long)
        if across > 0 and down > 0 and abs(across / down - 1) > _SQUARE:
            raise DataFormatError(
                f"it states pixels that are not square ({across:g} by {down:g}, CDELT or CD); "
                "resample it to square ones"
            )


def _pixel_side(header: Mapping[str, Any], axis: int, plane: Sequence[int]) -> float:
    """Return how far a step along an axis goes in the plane of the sky, 0 where it is not known."""
    if any(f"CD{i}_{j}" in header for i in plane for j in plane):
        parts = [header.get(f"CD{i}_{axis}", 0.0) for i in plane]
    elif all(f"CDELT{i}" in header for i in plane):
        parts = [header[f"CDELT{i}"] * header.get(f"PC{i}_{axis}", float(i == axis)) for i in plane]
    else:
        parts = []
    return math.hypot(*map(float, parts))


def _chosen_hdu(there: Mapping[int, str], wanted: str | None) -> int:
    """Return the place of the HDU that is meant, of those with an image."""
    if not there:
        raise DataFormatError("no HDU holds an image")
    if wanted is None:
        if len(there) == 1:
            return next(iter(there))
        named = [place for place, title in there.items() if title.upper() == "SCI"]
        # an image in the first HDU has masks and the like behind it
        found = named or [place for place in there if place == 0]
    else:
        found = [k for k, title in there.items() if wanted.upper() in (title.upper(), str(k))]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{place} {title}".strip() for place, title in there.items())
    what = f"HDU {wanted!r} is not one with an image" if wanted else "several HDUs hold an image"
    raise DataFormatError(f"{what}; give --hdu, one of: {listed}")


def _read_shard(path: Path, channel: str | None) -> list[tuple[str, NDArray[Any]]]:
    shard = read_shard(path)
    names = [str(n) for n in np.ravel(np.asarray(shard.attributes.get("channel_names", ())))]
    if channel is None or channel not in names:
        found = "no channel was named" if channel is None else f"channel {channel!r} is not there"
        raise ConfigError(f"{path}: {found}; give --channel, one of: {', '.join(names)}")
    place = names.index(channel)
    # sfr map writes one galaxy without a number
    numbers = shard.columns.get("subhalo_id", np.arange(len(shard.maps))).tolist()
    views = shard.columns.get("view", np.zeros(len(shard.maps), np.int64)).tolist()
    return [
        (f"{channel} {n} view {view}" if view else f"{channel} {n}", maps[place])
        for n, view, maps in zip(numbers, views, shard.maps, strict=True)
    ]
