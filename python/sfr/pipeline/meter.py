"""How fast galaxies are done, and in how much memory."""

from __future__ import annotations

import time
from collections.abc import Callable

from sfr.progress import Progress, readable_bytes

__all__ = ["Meter"]


class Meter:
    """Progress of galaxies with their rate, the rate of gas cells, and memory.

    Parameters
    ----------
    on_progress : callable
        Hears of the progress with these as its note.
    memory : callable
        Anonymous memory of all processes that work [bytes], or None where it is not known.
    """

    def __init__(self, on_progress: Progress, memory: Callable[[], int | None]) -> None:
        self._on_progress = on_progress
        self._memory = memory
        self._looked = -1.0
        self._now: int | None = None
        #: Label -> start, galaxies and cells then, and the last rates.
        self._starts: dict[str, tuple[float, int, int]] = {}
        self._rates: dict[str, str] = {}
        #: Most memory seen [bytes].
        self.peak_memory: int | None = None

    def __call__(
        self,
        label: str,
        done: int,
        total: int,
        /,
        cells: tuple[int, int] | None = None,
        note: str = "",
    ) -> None:
        """Hear of galaxies that are done, and of the gas cells of their groups."""
        now = time.monotonic()
        if now - self._looked >= 0.5:
            self._looked, self._now = now, self._memory()
            if self._now is not None:
                self.peak_memory = max(self.peak_memory or 0, self._now)
        n_cells = 0 if cells is None else cells[0]
        start, galaxies_before, cells_before = self._starts.setdefault(label, (now, done, n_cells))
        elapsed = now - start
        rates = []
        if elapsed > 0:
            rates.append(f"{(done - galaxies_before) / elapsed:.3g} galaxies/s")
            if cells is not None:
                rates.append(f"{(n_cells - cells_before) / elapsed:.2e} cells/s")
            self._rates[label] = "".join(f", {text}" for text in rates)
        notes = [note]
        if done < total:
            # at the end `summary` says them of the whole step
            notes += [*rates, "" if self._now is None else readable_bytes(self._now)]
        self._on_progress(label, done, total, cells=cells, note=", ".join(filter(None, notes)))

    def summary(self, label: str) -> str:
        """Say at what rates a step went, and the most memory so far; empty where it did not."""
        rates = self._rates.get(label, "")
        if rates and self.peak_memory is not None:
            rates += f", at most {readable_bytes(self.peak_memory)} of memory"
        return rates
