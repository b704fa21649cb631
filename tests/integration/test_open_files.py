"""Many chunks and a small limit on open files: macOS allows 256."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from sfr.hdf5 import affordable
from sfr.simulation import open_particle_file, open_simulation

CHUNKS = 64
ROOT = Path(__file__).parents[2]


def split(folder: Path, snap: int, n: int) -> None:
    """Write the chunks of a snapshot again as another number of chunks."""
    old = sorted((folder / f"output/snapdir_{snap:03d}").glob("*.hdf5"))
    columns: dict[str, list[np.ndarray]] = {}
    for path in old:
        with h5py.File(path) as file:
            attributes = dict(file["Header"].attrs)
            for group in file:
                if group.startswith("PartType"):
                    for field in file[group]:
                        columns.setdefault(f"{group}/{field}", []).append(file[group][field][()])
    for path in old:
        path.unlink()
    whole = {name: np.concatenate(parts) for name, parts in columns.items()}
    starts = np.zeros((n + 1, 6), np.int64)
    for name, values in whole.items():
        starts[:, int(name[8])] = np.linspace(0, len(values), n + 1).astype(int)
    for chunk in range(n):
        with h5py.File(old[0].with_name(f"snap_{snap:03d}.{chunk}.hdf5"), "w") as file:
            header = file.create_group("Header").attrs
            header.update(attributes)
            header["NumFilesPerSnapshot"] = np.int32(n)
            header["NumPart_ThisFile"] = (starts[chunk + 1] - starts[chunk]).astype(np.int32)
            for name, values in whole.items():
                kind = int(name[8])
                file[name] = values[starts[chunk, kind] : starts[chunk + 1, kind]]
    with h5py.File(folder / f"postprocessing/offsets/offsets_{snap:03d}.hdf5", "r+") as file:
        del file["FileOffsets/SnapByType"]
        file["FileOffsets/SnapByType"] = starts[:-1]


@pytest.fixture(scope="module")
def many_chunks(mock_sim, tmp_path_factory) -> Path:
    folder = Path(shutil.copytree(mock_sim, tmp_path_factory.mktemp("many") / "sim"))
    split(folder, 99, CHUNKS)
    return folder


def maps(folder: Path, *, mapped: bool) -> str:
    """Hash of the maps of all galaxies: gas of each lies in many chunks."""
    from dataclasses import replace
    from hashlib import sha256

    from tests.integration.test_segments import galaxies

    from sfr.recipe import load_recipe
    from sfr.render.project import render_galaxy

    recipe = load_recipe("thesis")
    recipe = replace(recipe, maps=replace(recipe.maps, pixels=32))
    content = sha256()
    with open_simulation(folder, mapped=mapped) as simulation:
        for i, group, galaxy in [*galaxies(simulation)] * 2:
            shot = render_galaxy(simulation, 99, i, group, galaxy, recipe)
            content.update(shot.maps.tobytes())
    return content.hexdigest()


def limited(limit: int, code: str, *arguments: object) -> str:
    """Run some lines in a process that may have so many files open."""
    lines = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))\n"
    done = subprocess.run(
        [sys.executable, "-c", lines + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("limit", [256, 64])
@pytest.mark.parametrize("mapped", [True, False])
def test_many_chunks_at_a_small_limit(mock_sim, many_chunks, limit, mapped):
    """64 chunks of many memory maps each needed 704 descriptors."""
    code = (
        "import sys; from pathlib import Path; from tests.integration.test_open_files import maps\n"
        f"print(maps(Path(sys.argv[1]), mapped={mapped}))"
    )
    assert limited(limit, code, many_chunks) == maps(mock_sim, mapped=mapped)


def test_an_open_chunk_takes_two_descriptors_whatever_is_mapped(many_chunks):
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc")
    path = many_chunks / "output/snapdir_099/snap_099.3.hdf5"
    before = count()
    with open_particle_file(path) as file:
        found = file.read(0, file.fields(0), mapped=True)
        assert sum(not values.flags.writeable for values in found.values()) > 5
        assert count() - before == file.DESCRIPTORS
    del found
    assert count() == before


def test_a_stretch_is_read_after_its_file_was_closed(many_chunks):
    """Groups over more chunks than stay open."""
    with open_simulation(many_chunks, mapped=True) as simulation:
        expected = simulation.particles(99, "group", 0, 0, ["Masses"])["Masses"]
        simulation._chunks._capacity = 2
        pieces = list(simulation.segments(99, "group", 0, 0))
        assert len(pieces) > 10
        found = [piece.read(["Masses"])["Masses"] for piece in pieces]
    np.testing.assert_array_equal(np.concatenate(found), expected)


def test_the_number_of_open_files_follows_the_limit():
    code = "from sfr.hdf5 import affordable; print(affordable(64, each=2))"
    assert [int(limited(limit, code)) for limit in (1024, 256, 64, 30)] == [64, 64, 12, 1]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert affordable(1, each=2) == 1
    assert (soft, hard) == resource.getrlimit(resource.RLIMIT_NOFILE)


def test_files_are_closed_where_no_more_can_be_opened(tmp_path):
    for i in range(30):
        with h5py.File(tmp_path / f"{i}.hdf5", "w") as file:
            file["x"] = i
    code = (
        "import sys; from pathlib import Path; from sfr.hdf5 import FileCache, open_hdf5\n"
        "cache = FileCache(open_hdf5, 64)\n"
        "for i in range(30):\n"
        "    assert cache.get(Path(sys.argv[1]) / f'{i}.hdf5')['x'][()] == i\n"
        "assert 3 < len(cache._open) < 20\n"
        "cache.close()\n"
        "hold = []\n"
        "try:\n"
        "    while True: hold.append(open('/dev/null'))\n"
        "except OSError: pass\n"
        "try: cache.get(Path(sys.argv[1]) / '0.hdf5')\n"
        "except Exception as error: message = f'{type(error).__name__} {error.exit_code} {error}'\n"
        "hold.clear(); print(message)"
    )
    said = limited(20, code, tmp_path)
    assert said.startswith("ResourceError 3")
    assert "0.hdf5 cannot be opened: too many files are open (EMFILE" in said
    assert "this process may open 20" in said
    assert "ulimit -n" in said


def test_sources_of_a_virtual_dataset_that_cannot_be_opened_are_not_zeros(tmp_path):
    """HDF5 takes a source that it cannot open for one that is not there."""
    from tests.unit.test_hdf5 import VALUES, N, header

    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        header(file)
        file["PartType0/Coordinates"] = np.ones((N, 3))
        layout = h5py.VirtualLayout((N,), "f4")
        for i in range(0, N, 50):
            with h5py.File(tmp_path / f"part-{i}.hdf5", "w") as part:
                part["x"] = VALUES[i : i + 50]
            layout[i : i + 50] = h5py.VirtualSource(f"part-{i}.hdf5", "x", (50,))
        file["PartType0"].create_virtual_dataset("Masses", layout)
    code = (
        "import sys; from pathlib import Path; from tests.unit.test_hdf5 import *\n"
        "for held in (0, *range(24, 56)):\n"
        "    hold = [open('/dev/null') for _ in range(held)]\n"
        "    try:\n"
        "        with open_particle_file(Path(sys.argv[1])) as file:\n"
        "            same = bool((file.read(0, ['Masses'])['Masses'] == VALUES).all())\n"
        "    except SfrError as error: same = type(error).__name__\n"
        "    hold.clear(); print(same)"
    )
    found = limited(64, code, tmp_path / "a.hdf5").split()
    assert found[0] == "True"
    assert found[-1] == "ResourceError"
    assert set(found) == {"True", "ResourceError"}


def test_a_file_that_cannot_be_mapped_is_read(tmp_path):
    """Batch systems limit the address space; the file is larger than it."""
    from tests.unit.test_hdf5 import VALUES, N, header

    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        header(file)
        file["PartType0/Coordinates"] = np.ones((N, 3))
        file["PartType0/Masses"] = VALUES
        # a hole, which takes no space on the disk
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        file.create_dataset("hole", (2**40,), "i1", dcpl=plan)
    code = (
        "import sys; from pathlib import Path; from tests.unit.test_hdf5 import *\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**38, 2**38))\n"
        "found = masses(Path(sys.argv[1]), mapped=True)\n"
        "print(found.flags.writeable, bool((found == VALUES[3:N - 2]).all()))"
    )
    done = limited(256, code, tmp_path / "a.hdf5")
    assert done == "True True"
