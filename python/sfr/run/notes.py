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

    def catalogue_read(self, snapshot: int) -> tuple[int, int]:
        """Subhaloes that the sample of a snapshot was chosen from, and those in the catalogue.

        They differ where chunks of the catalogue were missing; 1 and 1 where nothing is known.
        """
        found = self.recalled(f"catalogue-{snapshot:03d}")
        return (1, 1) if found is None else (int(found["read"]), int(found["total"]))

    def mark_catalogue(self, snapshot: int, read: int, total: int) -> None:
        """Record what `catalogue_read` returns."""
        self.remember(f"catalogue-{snapshot:03d}", {"read": read, "total": total})
