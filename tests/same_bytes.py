"""Hashes of what a small mock run writes, to show that a change of the code changes no result.

Run it by hand, before and after the change, each time with a folder that is not there yet:

    python tests/same_bytes.py /tmp/before > before.txt
    python tests/same_bytes.py /tmp/after > after.txt
    diff before.txt after.txt

A folder that is there is hashed as it is. HDF5 files are hashed by their datasets and attributes,
other files by their bytes. Left out are what may differ from run to run (the log, the times of the
simulation's files, locks, figures and the HTML report) and ``model.keras``, a zip with times, whose
weights stand in ``head.weights.h5``. Fingerprints of steps are in, so that a folder of before stays
current.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

LEFT_OUT = ("run.jsonl", ".sources", ".lock", ".keras", ".html")
SETTINGS = "--galaxies 16 --cells 2000 --snap 98,99 --epochs 4 --seeds 2 --workers 2 --quiet"


def make_run(folder: Path) -> None:
    code = "import sys; from sfr.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "demo", "--work", str(folder), *SETTINGS.split()]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def attributes(item: h5py.HLObject) -> str:
    return repr([(name, np.asarray(item.attrs[name]).tolist()) for name in sorted(item.attrs)])


def hashes_of_hdf5(path: Path) -> dict[str, str]:
    """Hash each dataset (type, shape, values) and the attributes of each group and dataset."""
    found = {}

    def add(name: str, item: h5py.HLObject) -> None:
        parts = [attributes(item).encode()]
        if isinstance(item, h5py.Dataset):
            values = item[()]
            content = repr(values.tolist()) if values.dtype.hasobject else values.tobytes()
            content = content.encode() if isinstance(content, str) else content
            parts += [repr((values.dtype.kind, values.dtype.itemsize, values.shape)).encode()]
            parts += [content]
        found[name] = digest(*parts)

    with h5py.File(path) as file:
        add("/", file)
        file.visititems(add)
    return found


def hashes(folder: Path) -> dict[str, str]:
    """Hash everything in a run's folder that is the same from run to run."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        is_figure = path.suffix == ".png" and not name.startswith("images/")
        if is_figure or name.endswith(LEFT_OUT):
            continue
        if path.suffix in {".hdf5", ".h5"}:
            found |= {f"{name}:{part}": value for part, value in hashes_of_hdf5(path).items()}
        else:
            found[name] = digest(path.read_bytes())
    return found


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    if not folder.exists():
        make_run(folder)
    found = hashes(folder)
    lines = [f"{value} {name}\n" for name, value in found.items()]
    sys.stdout.writelines([*lines, f"{digest(*(line.encode() for line in lines))} all\n"])


if __name__ == "__main__":
    main()
