"""Plain data that commands leave for later ones, in ``.state/<name>.note``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sfr.run.files import WholeFiles

__all__ = ["Notes"]


class Notes(WholeFiles):
    """Keeps notes in a run's folder."""

    def remember(self, name: str, value: object) -> None:
        """Keep plain data (JSON) for later commands, under a name."""
        self.write_json(self._note(name), value)

    def recalled(self, name: str) -> Any:  # noqa: ANN401
        """Return what was remembered last; None where nothing was, or it cannot be read."""
        try:
            return json.loads(self._note(name).read_text("utf-8"))
        except (OSError, ValueError):
            return None

    def _note(self, name: str) -> Path:
        return self.state / f"{name}.note"
