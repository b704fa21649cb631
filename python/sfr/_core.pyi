from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "__version__",
    "build_profile",
    "cull_box",
    "disk_normal",
    "face_on_rotation",
    "project",
    "rotate",
]

_Floats: TypeAlias = npt.NDArray[np.floating[Any]]
_Vector: TypeAlias = Sequence[float] | _Floats
_Matrix: TypeAlias = Sequence[Sequence[float]] | _Floats
#: Frame, Weight, Product, Length and Thermal of sfr.render.kernels, by their attributes.
_Made: TypeAlias = Any
_Projected: TypeAlias = tuple[
    npt.NDArray[np.float64], tuple[int, int, int, int], list[int], list[float], list[float]
]

__version__: str
build_profile: str

def cull_box(
    coordinates: _Floats,
    center: _Vector,
    half_width: float | _Vector,
    *,
    box_size: float | None = None,
    depth: float | None = None,
    rotation: _Matrix | None = None,
    threads: int | None = None,
) -> npt.NDArray[np.int64]: ...
def disk_normal(
    coordinates: _Floats,
    velocities: _Floats,
    masses: _Floats,
    *,
    center: _Vector,
    bulk_velocity: _Vector,
    box_size: float | None = None,
    threads: int | None = None,
) -> npt.NDArray[np.float64]: ...
def face_on_rotation(normal: _Vector) -> npt.NDArray[np.float64]: ...
def rotate(
    coordinates: _Floats,
    rotation: _Matrix,
    *,
    center: _Vector | None = None,
    box_size: float | None = None,
    threads: int | None = None,
) -> npt.NDArray[np.float64]: ...
def project(
    segments: Iterable[tuple[Any, ...]],
    frames: Sequence[_Made],
    *,
    columns: int | None,
    box_size: float | None,
    bins: int | Sequence[int],
    bin_scale: float | None = None,
    deposit: str = "histogram",
    whole: bool = False,
    threads: int | None = None,
) -> list[_Projected]: ...
