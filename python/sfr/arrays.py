"""What functions of the package take as numbers: nothing that an array says is lost silently."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfr.errors import DTypeError, RangeError

__all__ = ["real"]

#: Whole numbers beyond it may lie between two float64.
_EXACT = 2**53


def real(value: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return real numbers as float64.

    Parameters
    ----------
    value : array_like
        Floats or whole numbers, of any type, byte order and layout; read-only and mapped arrays,
        and a column of a table, too.
    name : str
        What errors call it.

    Returns
    -------
    ndarray of float64
        The numbers; the array itself where it is one of float64.

    Raises
    ------
    DTypeError
        Numbers with a mask or a unit, which would be lost, complex ones, booleans, text or other
        objects.
    RangeError
        A whole number that float64 cannot hold.

    Examples
    --------
    >>> real([1, 2.5], "mass")
    array([1. , 2.5])
    """
    carries = [what for what in ("mask", "unit", "units") if _says(value, what)]
    if carries:
        raise DTypeError(
            f"{name}: got {_class(value)}, whose {carries[0]} would be lost; fill or drop masked "
            f"entries, convert units, then give numpy.asarray({name})"
        )
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise DTypeError(f"{name}: got {_class(value)} of {array.dtype}, allowed are real numbers")
    found = array.astype(np.float64, copy=False)
    if array.dtype.kind in "iu" and array.size and np.abs(found).max() > _EXACT:
        inexact = np.flatnonzero(np.atleast_1d(found.astype(object) != array.astype(object)))
        if inexact.size:
            bad = array.flat[inexact[0]]
            raise RangeError(f"{name}: {bad} cannot be held by float64; give floats")
    return np.asarray(found)


def _says(value: object, what: str) -> bool:
    """Whether numbers come with a mask or a unit; of a list or tuple any of them."""
    if isinstance(value, (list, tuple)):
        return any(_says(item, what) for item in value)
    if isinstance(value, (int, float)):
        return False
    # the mask of a column of pandas is a method; that of a masked array is one even if it is False
    return hasattr(value, what) and not callable(getattr(value, what))


def _class(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
