"""What a file lacks."""

from __future__ import annotations

from collections.abc import Sequence

from sfr.errors import DataMissingError

__all__ = ["missing_field"]


def missing_field(what: str, field: str, available: Sequence[str], hint: str) -> DataMissingError:
    """Error for a field that a file does not hold."""
    listed = ", ".join(sorted(available)) or "no field at all"
    return DataMissingError(f"{what} has no field {field}{hint}. It has: {listed}")
