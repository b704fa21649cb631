"""Pictures made elsewhere: what a file says of its pixels is honoured, or the file is refused.

A picture is taken as it is meant to be seen where that is one lossless step (orientation, palette,
opaque alpha), and refused where pixels would be guessed, rounded or dropped.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sfr.errors import DataFormatError, DataMissingError

__all__ = ["read_pictures"]

_ORIENTATION: Final = 0x0112
#: Gamma of numbers that are meant for a screen, as of images that state none.
_SCREEN: Final = 0.45455
#: Largest difference of the sides of pixels that are square but for rounding.
_SQUARE: Final = 0.01
#: Largest difference of colours [of 255 levels] that two profiles of sRGB have.
_SAME_LEVELS: Final = 3
#: White, red, green and blue of sRGB: x and y of each.
_SRGB_CHROMATICITY: Final = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_SAME_COLOURS: Final = 0.005
# tags of EXIF
_EXIF_IFD, _INTEROP_IFD, _COLOUR_SPACE, _ADOBE, _UNCALIBRATED = 0x8769, 0xA005, 0xA001, 2, 0xFFFF
#: Modes of Pillow that hold grey values of more than 8 bits.
_DEEP: Final = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_GREY: Final = ("1", "L", "LA", "La")
_COLOUR: Final = ("P", "PA", "RGB", "RGBA", "RGBa")
# tags of TIFF
_SUBFILE, _BITS, _PHOTOMETRIC, _SAMPLES, _FORMAT, _NO_DATA = 254, 258, 262, 277, 339, 42113
_UNSIGNED, _SIGNED = 1, 2


def read_pictures(
    path: Path, formats: Sequence[str] = ("PNG", "JPEG", "TIFF"), *, linear: bool = False
) -> list[NDArray[Any]]:
    """Read the pictures of a file.

    Parameters
    ----------
    path : Path
        The file.
    formats : sequence of str
        What it may be, by Pillow's names.
    linear : bool
        Whether a picture may state that its numbers are intensities (gamma 1).

    Returns
    -------
    list of ndarray, shape (y, x) or (y, x, 3)
        Row 0 at the top as the picture is meant to be seen. Grey values are uint8, uint16, int32 or
        float32, colours uint8 (red, green, blue). One entry a page of a TIFF, else one.

    Raises
    ------
    DataMissingError
        The file is not there.
    DataFormatError
        The file cannot be read as one of these formats, or its pixels are not what they seem:
        transparent, of more bits than would be read, of another colour space, animated.
    """
    try:
        # given a name, Pillow maps the file, and cuts rows of a turned grey TIFF in wrong places
        with path.open("rb") as file, Image.open(file, formats=list(formats)) as image:
            return [_pixels(path, page, linear=linear) for page in _pages(path, image)]
    except FileNotFoundError as error:
        raise DataMissingError(f"image {path} is not there") from error
    except DataFormatError:
        raise
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        raise DataFormatError(
            f"image {path} cannot be read as {' or '.join(formats)}: {error}"
        ) from error


def _pages(path: Path, image: Image.Image) -> Iterator[Image.Image]:
    count = getattr(image, "n_frames", 1)
    if count > 1 and image.format != "TIFF":
        raise DataFormatError(f"image {path} holds {count} pictures (an animation?); give one")
    for place in range(count):
        if count > 1:
            image.seek(place)
        yield image


def _pixels(path: Path, image: Image.Image, *, linear: bool) -> NDArray[Any]:
    """Return what one picture shows."""
    if image.format == "PNG":
        _check_png(path, image)
    elif image.format == "TIFF":
        _check_tiff(path, image)
    _check_colours(path, image, linear=linear)
    _check_shape(path, image)
    image.load()
    turned = image.getexif().get(_ORIENTATION, 1)
    if turned not in range(9):
        raise DataFormatError(f"image {path} has orientation {turned}; allowed are 1 to 8")
    shown = ImageOps.exif_transpose(image)
    return _opaque(path, shown)


def _opaque(path: Path, image: Image.Image) -> NDArray[Any]:
    """Return the numbers of an image in which nothing is transparent."""
    mode, see_through = image.mode, image.has_transparency_data
    if mode in _DEEP:
        if see_through:
            raise DataFormatError(f"image {path} has a transparent grey; save it without")
        array = np.asarray(image)
        return array.astype(array.dtype.newbyteorder("="))
    if mode not in _GREY + _COLOUR:
        raise DataFormatError(
            f"image {path} has colours of kind {mode}, whose red, green and blue are not defined "
            "without more; save it as RGB"
        )
    if see_through:
        whole = image.convert("LA").convert("RGBA") if mode == "La" else image.convert("RGBA")
        part = float(np.mean(np.asarray(whole)[..., 3] < 255))
        if part > 0:
            raise DataFormatError(
                f"image {path} is transparent in {100 * part:.3g} % of its pixels, whose colour "
                "depends on what lies behind; save it on the background that is meant"
            )
        image = whole
    return np.array(image.convert("L" if mode in _GREY else "RGB"))


# -- what a file says of its pixels --------------------------------------------------------------


def _check_png(path: Path, image: Image.Image) -> None:
    depth, high_range = _png_depth(path)
    if depth > 8 and image.mode not in _DEEP:
        raise _too_deep(path, depth)
    if high_range:
        raise DataFormatError(
            f"image {path} states its colour space by a cICP chunk; save it as sRGB"
        )


def _png_depth(path: Path) -> tuple[int, bool]:
    """Return bits a channel, and whether a chunk states another colour space (cICP)."""
    with path.open("rb") as file:
        file.seek(8)
        depth, found = 8, False
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"IDAT":
                break
            content = file.read(length + 4)
            if kind == b"IHDR":
                depth = content[8]
            found = found or kind == b"cICP"
    return depth, found


def _check_tiff(path: Path, image: Image.Image) -> None:
    tags = image.tag_v2  # type: ignore[attr-defined]
    bits = max(np.ravel(tags.get(_BITS, 1)).tolist())
    kind = int(np.ravel(tags.get(_FORMAT, _UNSIGNED))[0])
    if int(tags.get(_SUBFILE, 0)) & 5:
        raise DataFormatError(
            f"image {path} holds smaller copies or masks of a picture; save the picture alone"
        )
    if _NO_DATA in tags:
        raise DataFormatError(
            f"image {path} states a value that stands for no data, {tags[_NO_DATA]!r}; save it "
            "without, or as FITS with BLANK"
        )
    if bits > 8 and image.mode not in _DEEP:
        raise _too_deep(path, bits)
    if bits == 8 and kind == _SIGNED:
        raise DataFormatError(f"image {path} has signed numbers of 8 bits; save them as 16 bits")
    if bits == 32 and kind == _UNSIGNED and image.mode == "I":
        raise DataFormatError(
            f"image {path} has unsigned numbers of 32 bits; save them as 32-bit floats"
        )
    if image.mode in _DEEP and tags.get(_PHOTOMETRIC) == 0:
        raise DataFormatError(f"image {path} is a negative (0 is white); save it with 0 as black")
    if tags.get(_SAMPLES, 1) > len(image.getbands()):
        raise DataFormatError(
            f"image {path} has {tags.get(_SAMPLES)} channels, of which {len(image.getbands())} "
            "would be read; save those that are meant"
        )


def _too_deep(path: Path, bits: int) -> DataFormatError:
    return DataFormatError(
        f"image {path} has {bits} bits a colour, more than 8 bits are not read in colour; give 8 "
        "bits, or one grey image a colour"
    )


def _check_colours(path: Path, image: Image.Image, *, linear: bool) -> None:
    gamma = float(image.info.get("gamma", _SCREEN))
    if abs(gamma - _SCREEN) > 1e-3 and not (linear and gamma == 1.0):
        raise DataFormatError(
            f"image {path} states a gamma of {gamma:g}, so that its numbers are not those that it "
            "shows; save it as sRGB"
        )
    profile = image.info.get("icc_profile")
    if profile and _levels_off_srgb(profile) > _SAME_LEVELS:
        raise DataFormatError(
            f"image {path} has the colour profile {_profile_name(profile)!r}, so that its numbers "
            "are not those that it shows; convert it to sRGB, or save it without a profile where "
            "the numbers are what is meant"
        )
    # a profile says more than the two of these that older programs read
    stated = () if profile else image.info.get("chromaticity", ())
    if stated and np.abs(np.subtract(stated, _SRGB_CHROMATICITY)).max() > _SAME_COLOURS:
        raise DataFormatError(
            f"image {path} states other primary colours than those of sRGB (cHRM); convert it to "
            "sRGB"
        )
    exif = image.getexif()
    camera = exif.get_ifd(_EXIF_IFD)
    if not profile and (
        camera.get(_COLOUR_SPACE) == _ADOBE
        or (
            camera.get(_COLOUR_SPACE) == _UNCALIBRATED
            and exif.get_ifd(_INTEROP_IFD).get(1) == "R03"
        )
    ):
        raise DataFormatError(
            f"image {path} is in the colours of Adobe RGB (EXIF); convert it to sRGB"
        )


def _check_shape(path: Path, image: Image.Image) -> None:
    """Refuse pixels that are not square: a round galaxy would not be round."""
    for stated in ("dpi", "resolution", "aspect", "jfif_density"):
        across, down = (float(number) for number in image.info.get(stated, (1, 1)))
        # 0 stands for unknown
        if across > 0 and down > 0 and abs(across / down - 1) > _SQUARE:
            raise DataFormatError(
                f"image {path} states pixels that are not square ({across:g} by {down:g}); save it "
                "with square ones"
            )


def _profile_name(profile: bytes) -> str:
    from PIL import ImageCms

    try:
        opened: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return str(opened.profile.profile_description)
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return "unreadable"


def _levels_off_srgb(profile: bytes) -> float:
    """Return by how many of 255 levels a profile shows colours otherwise than sRGB, at most.

    What it does counts, not its name: there is a linear sRGB.
    """
    from PIL import ImageCms

    try:
        opened: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = {"RGB": "RGB", "GRAY": "L"}[opened.profile.xcolor_space.strip()]
        transform = ImageCms.buildTransform(
            opened,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
        levels = np.arange(256, dtype=np.uint8)
        grey = np.stack([levels] * 3, axis=1)
        shown = np.concatenate([grey, grey * np.array([[1, 0, 0]], np.uint8)])
        sent = Image.fromarray((shown if mode == "RGB" else grey)[None]).convert(mode)
        found = np.asarray(ImageCms.applyTransform(sent, transform))
        return float(np.abs(found.astype(float) - np.asarray(sent.convert("RGB"))).max())
    except (OSError, ValueError, TypeError, KeyError, ImageCms.PyCMSError):
        return math.inf
