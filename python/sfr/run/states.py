"""What is known of the steps of a run: which are done, with what fingerprint, and from what.

It is kept in ``.state/<step>.json``; a step whose fingerprint and files are as they were is not
repeated.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfr.errors import DataMissingError
from sfr.paths import Marks
from sfr.run.files import WholeFiles

__all__ = ["States", "StepState", "digest"]


def digest(value: object) -> str:
    """Hash plain data (JSON) to 16 hexadecimal digits; key order does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class StepState:
    """What is known of a step: is it current, and if not, why."""

    current: bool
    #: ``new``, ``forced``, ``files missing: ...`` or ``inputs changed``; empty when current.
    reason: str


class States(WholeFiles):
    """Knows the steps of a run's folder."""

    def _state_file(self, step: str) -> Path:
        return self.state / f"{step}.json"

    def fingerprint(self, step: str) -> str:
        """Return the fingerprint of a step that has run.

        Raises
        ------
        DataMissingError
            The step has not run in this folder.
        """
        state = self._read_state(step)
        if state is None:
            raise DataMissingError(f"step {step!r} has not run in {self.root}")
        return str(state["fingerprint"])

    def has_run(self, step: str) -> bool:
        """Whether a step has finished in this folder, current or not."""
        return self._read_state(step) is not None

    def steps(self, prefix: str) -> list[str]:
        """Names of the finished steps that begin with a prefix, sorted."""
        found = self.state.glob(f"{prefix}*.json")
        return sorted(p.stem for p in found if re.fullmatch(r"[\w.-]+", p.stem))

    def check(self, step: str, fingerprint: str, *, force: bool = False) -> StepState:
        """Say whether a step's results are current.

        Parameters
        ----------
        step : str
            Name of the step, for example ``maps-099``.
        fingerprint : str
            Digest of the recipe sections and inputs that it would use now.
        force : bool
            Never current.

        Returns
        -------
        StepState
            Current or not, and why not.
        """
        state = self._read_state(step)
        if state is None:
            return StepState(current=False, reason="new")
        if force:
            return StepState(current=False, reason="forced")
        if "outdated" in state:
            return StepState(current=False, reason=str(state["outdated"]))
        if state["fingerprint"] != fingerprint:
            return StepState(current=False, reason="settings or inputs changed")
        for name, size in state["files"].items():
            path = self.root / name
            if not path.is_file():
                return StepState(current=False, reason=f"files missing: {name}")
            if path.stat().st_size != size:
                return StepState(current=False, reason=f"files changed: {name}")
        return StepState(current=True, reason="")

    def mark_done(self, step: str, fingerprint: str, files: Iterable[Path]) -> None:
        """Record that a step has finished, with the files that it answers for."""
        sizes = {self.relative(path): path.stat().st_size for path in sorted(files)}
        self.write_json(self._state_file(step), {"fingerprint": fingerprint, "files": sizes})

    def _sources_file(self, step: str) -> Path:
        return self.state / f"{step}.sources"

    def sources(self, step: str, fingerprint: str) -> Marks:
        """Return what is kept of the files that a step's results were made from.

        Size and time only, beside the fingerprint and no part of it: files that are copied, moved
        or fetched later leave the results as they are. Empty where nothing is known.
        """
        try:
            found = json.loads(self._sources_file(step).read_text("utf-8"))
            if found["fingerprint"] != fingerprint:
                return {}
            return {name: (int(size), int(time)) for name, (size, time) in found["files"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def keep_sources(self, step: str, fingerprint: str, files: Marks) -> None:
        """Keep size and time of the files that a step's results are made from."""
        listed = {name: list(files[name]) for name in sorted(files)}
        text = json.dumps({"fingerprint": fingerprint, "files": listed}) + "\n"
        self.write_text(self._sources_file(step), text)

    def forget(self, step: str) -> None:
        """Drop the record of a step, before its files are made anew."""
        self._state_file(step).unlink(missing_ok=True)

    def outdate(self, step: str, why: str) -> None:
        """Let a step, with its parts, not count as current, though its fingerprint is the same."""
        for part in self.steps(f"{step}-part-"):
            self.forget(part)
        state = self._read_state(step)
        if state is not None:
            self.write_json(self._state_file(step), {**state, "outdated": why})

    def _read_state(self, step: str) -> dict[str, Any] | None:
        try:
            state = json.loads(self._state_file(step).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        is_whole = isinstance(state, dict) and isinstance(state.get("files"), dict)
        return state if is_whole and "fingerprint" in state else None
