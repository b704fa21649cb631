"""Side-by-side benches: ``python benches/python/bench.py [SECTION ...] [--write]``.

Prints tables of medians of interleaved runs; ``--write`` puts them into docs/benchmarks.md.
"""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

#: Sections, their titles, and rounds of interleaved runs.
SECTIONS = {
    "kernels": ("Particles to maps", 7),
    "deposits": ("Cells with a size", 5),
    "reading": ("Files to maps", 7),
    "galaxy": ("Galaxies to PNG", 3),
}
PACKAGES = ("numpy", "h5py", "illustris_python", "fast-histogram", "boost-histogram", "swiftsimio")
PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def machine() -> str:
    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":")[1].strip()
            break
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()}, Python "
        f"{platform.python_version()}, {versions}, tng-sfr {version('tng-sfr')} at {commit}, "
        f"{time.strftime('%Y-%m-%d')}."
    )


def main() -> None:
    chosen = [name for name in sys.argv[1:] if name in SECTIONS] or list(SECTIONS)
    parts = []
    for name in chosen:
        title, rounds = SECTIONS[name]
        text = f"## {title}\n\n{importlib.import_module(f'bench_{name}').run(rounds)}\n"
        print(text, flush=True)
        parts.append(text)
    if "--write" in sys.argv:
        head = (
            "# Benchmarks\n\nMade by `make bench`. Medians of interleaved runs; on shared machines "
            "ratios can be trusted, times cannot.\n\n"
        )
        PAGE.write_text(head + machine() + "\n\n" + "\n".join(parts))


if __name__ == "__main__":
    main()
