"""JSON files that hold one object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sfr.errors import DataFormatError, DataMissingError

__all__ = ["read_json"]


def read_json(path: Path, advice: str = "make it again") -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Parameters
    ----------
    path : Path
        The file.
    advice : str
        What to do where it cannot be read, for the error.

    Returns
    -------
    dict
        Its content.

    Raises
    ------
    DataMissingError
        The file is not there.
    DataFormatError
        It cannot be read, is not JSON, or holds no object.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise DataMissingError(f"{path} is not there; {advice}") from error
    except (ValueError, OSError) as error:
        raise DataFormatError(f"{path} cannot be read: {error}; {advice}") from error
    if not isinstance(content, dict):
        raise DataFormatError(f"{path} holds no JSON object; {advice}")
    return content
