"""What the bottleneck holds: how parameters become the numbers that a network gives, and back."""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sfr.semantic.problem import Problem
from sfr.semantic.profile import NAMES

__all__ = ["LARGEST_E", "CircleCode", "Code", "EllipseCode", "PublishedCode"]

Floats = NDArray[np.floating[Any]]

#: What an estimate is kept to, so that it can be rendered: smallest A, amplitude and n as parts of
#: their ranges' lower ends, largest e.
_SMALLEST: Final = 0.2
LARGEST_E: Final = 0.95


class Code(Protocol):
    """A bottleneck."""

    @property
    def size(self) -> int:
        """Numbers an image."""

    def to_parameters(self, code: Floats) -> NDArray[np.float64]:
        """Turn outputs of a network (N, size) into parameters (N, 7), kept to what can exist."""

    def tensors(self, code: Any, ops: Any) -> dict[str, Any]:  # noqa: ANN401
        """Return what a decoder needs, from a tensor (N, size), by ``keras.ops``.

        A, e, x, y, and where they are free amplitude and n; cos and sin of 2 theta.
        """


class PublishedCode:
    """The published bottleneck: A, e and theta / 180 deg, each from a sigmoid (METHOD 6)."""

    size = 3

    def __init__(self, problem: Problem) -> None:
        self._lows = {name: low for name, (low, _) in problem.ranges.items()}

    def to_parameters(self, code: Floats) -> NDArray[np.float64]:
        """Turn sigmoids (N, 3) into parameters (N, 7)."""
        parameters = np.tile((0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0), (len(code), 1))
        parameters[:, :3] = np.asarray(code, np.float64) * (1.0, 1.0, 180.0)
        return _possible(parameters, self._lows)

    def tensors(self, code: Any, ops: Any) -> dict[str, Any]:  # noqa: ANN401
        """Return A, e, the centre and the double angle."""
        twice = 2 * np.pi * code[:, 2]
        return {
            "A": code[:, 0],
            "e": code[:, 1],
            "cos": ops.cos(twice),
            "sin": ops.sin(twice),
            "x": ops.zeros_like(twice),
            "y": ops.zeros_like(twice),
        }


class _VectorCode:
    """Parameters scaled to their ranges, and a vector in the direction of twice the angle.

    The vector comes last; nothing jumps where 180 deg becomes 0.
    """

    #: Parameters that the vector stands for.
    _in_vector: tuple[str, ...]

    def __init__(self, problem: Problem) -> None:
        self.names = tuple(name for name in problem.free if name not in self._in_vector)
        self.low = np.array([problem.ranges[name][0] for name in self.names])
        self.width = np.array([problem.ranges[name][1] for name in self.names]) - self.low
        self._columns = [NAMES.index(name) for name in self.names]
        self._lows = {name: low for name, (low, _) in problem.ranges.items()}

    @property
    def size(self) -> int:
        """Numbers an image: the scaled parameters, and two of the vector."""
        return len(self.names) + 2

    def to_parameters(self, code: Floats) -> NDArray[np.float64]:
        """Turn outputs of a network (N, size) into parameters (N, 7)."""
        code = np.asarray(code, np.float64)
        parameters = np.tile((0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0), (len(code), 1))
        parameters[:, self._columns] = code[:, :-2] * self.width + self.low
        parameters[:, 2] = np.degrees(np.arctan2(code[:, -1], code[:, -2]) / 2) % 180
        self._read_length(np.hypot(code[:, -2], code[:, -1]), parameters)
        return _possible(parameters, self._lows)

    def tensors(self, code: Any, ops: Any) -> dict[str, Any]:  # noqa: ANN401
        """Return the parameters in their units, and the double angle put on the unit circle.

        What cannot exist is kept to what can, as in `to_parameters`, but keeps its gradient: an
        A below 0 is an image of nothing, which no loss could lead back from.
        """
        values = {
            name: code[:, place] * width + low
            for place, (name, width, low) in enumerate(
                zip(self.names, self.width.tolist(), self.low.tolist(), strict=True)
            )
        }
        length = ops.sqrt(ops.square(code[:, -2]) + ops.square(code[:, -1]) + 1e-12)
        values.setdefault("e", length)
        for name, (low, high) in _limits(self._lows).items():
            if name in values:
                kept = ops.clip(values[name], low, high)
                values[name] = values[name] + ops.stop_gradient(kept - values[name])
        values["cos"], values["sin"] = code[:, -2] / length, code[:, -1] / length
        for name in ("x", "y"):
            values.setdefault(name, ops.zeros_like(length))
        return values

    def _read_length(self, length: NDArray[np.float64], parameters: NDArray[np.float64]) -> None:
        """Take what the length of the vector means; it means nothing here."""


class EllipseCode(_VectorCode):
    """The code of networks that compare images: the length of the vector is e.

    e and theta apart are a trap. While the angle is not known the best e is 0, and a round galaxy
    has no angle to learn. The vector's image changes at length 0 like anywhere else.
    """

    _in_vector = ("e", "theta")

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        low, high = problem.ranges["e"]
        self._rms_e = float(np.sqrt((low * low + low * high + high * high) / 3))

    @property
    def spread(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and scatter (size,) of the code of galaxies drawn from the ranges."""
        counts = [len(self.names), 2]
        return np.repeat([0.5, 0.0], counts), np.repeat([12**-0.5, self._rms_e / 2**0.5], counts)

    def _read_length(self, length: NDArray[np.float64], parameters: NDArray[np.float64]) -> None:
        parameters[:, 1] = length


class CircleCode(_VectorCode):
    """The code of networks that learn from the parameters: (cos 2 theta, sin 2 theta), and e."""

    _in_vector = ("theta",)

    def from_parameters(self, parameters: NDArray[np.float64]) -> NDArray[np.float32]:
        """Turn parameters (N, 7) into the code (N, size) that a network should give."""
        scaled = (parameters[:, self._columns] - self.low) / self.width
        twice = 2 * np.radians(parameters[:, [2]])
        return np.concatenate([scaled, np.cos(twice), np.sin(twice)], axis=1).astype(np.float32)

    def precision(self, errors: NDArray[np.float64], problem: Problem) -> NDArray[np.float32]:
        """Return one over the scatter that each number of the code can have at best.

        Parameters
        ----------
        errors : ndarray of float64, shape (N, P)
            Standard deviations of the free parameters, in their order and units; what is not
            determined counts with the scatter of its range.
        problem : Problem
            Their names.

        Returns
        -------
        ndarray of float32, shape (N, size)
            Weights of the code's errors.
        """
        by_name = dict(zip(problem.free, errors.T, strict=True))
        known = {
            name: np.fmin(by_name[name] / width, 1 / np.sqrt(12))
            for name, width in zip(self.names, self.width, strict=True)
        }
        # on the unit circle the angle counts twice; a random point has a scatter of 1/sqrt(2)
        angle = np.fmin(2 * np.radians(by_name["theta"]), 1 / np.sqrt(2))
        scatter = np.stack([*known.values(), angle, angle], axis=1)
        return np.asarray(1 / scatter, np.float32)


def _limits(lows: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Return what can be rendered, of the parameters that are free."""
    smallest = {name: _SMALLEST * lows[name] for name in ("A", "amplitude", "n") if name in lows}
    return {"e": (0.0, LARGEST_E), **{name: (low, np.inf) for name, low in smallest.items()}}


def _possible(parameters: NDArray[np.float64], lows: dict[str, float]) -> NDArray[np.float64]:
    for name, (low, high) in _limits(lows).items():
        column = parameters[:, NAMES.index(name)]
        np.clip(column, low, high, out=column)
    return parameters
