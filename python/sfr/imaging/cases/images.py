"""Cases of the 8-bit RGB composite (METHOD 2.7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sfr.recipe import CasesRecipe

__all__ = ["IMAGE_FAMILIES", "RGB", "gauss", "single_channel", "structure"]

#: An 8-bit image, shape (y, x, 3), row 0 at the top.
RGB = NDArray[np.uint8]


def single_channel(image: RGB, channel: int) -> RGB:
    """Copy one channel of the stretched composite into all three.

    The stretch mixes the channels, so this image carries f(I)/I of all of them (METHOD 2.7).
    """
    return np.repeat(image[:, :, channel : channel + 1], 3, axis=2)


def gauss(image: RGB, recipe: CasesRecipe, radius_px: float) -> RGB:
    """Blur with Pillow's GaussianBlur, three extended box blurs on 8 bits."""
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius_px))).copy()


def structure(image: RGB, recipe: CasesRecipe, radius_px: float) -> RGB:
    """Subtract the blurred image.

    As published (``structure = "wrap"``) in 8 bits, where negative differences wrap modulo 256;
    ``centred``: gain times the difference around 127.5, clipped to 0..255 and rounded.
    """
    blurred = gauss(image, recipe, radius_px)
    if recipe.structure == "wrap" or recipe.gain is None:
        return image - blurred
    centred = 127.5 + recipe.gain * (image.astype(np.float64) - blurred)
    return np.rint(np.clip(centred, 0, 255)).astype(np.uint8)


#: What is made at a scale: image, recipe and the scale [px] in, image out.
IMAGE_FAMILIES: Final[Mapping[str, Callable[..., RGB]]] = {"gauss": gauss, "structure": structure}
