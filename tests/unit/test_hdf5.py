"""Where HDF5 may keep the bytes of a dataset, and what it makes of bytes that are not there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t

from sfr.errors import DataFormatError, DataMissingError, SfrError
from sfr.simulation import open_particle_file

N = 1000
VALUES = np.linspace(1.0, 2.0, N, dtype=np.float32)
Arrange = Callable[[h5py.Group, Path], object]


def header(file: h5py.File) -> None:
    attributes = file.create_group("Header").attrs
    attributes.update(Time=1.0, Redshift=0.0, HubbleParam=0.7, Omega0=0.3, OmegaLambda=0.7)
    attributes.update(BoxSize=100.0, NumFilesPerSnapshot=1)
    attributes["NumPart_ThisFile"] = np.array([N, 0, 0, 0, 0, 0], np.int32)


def write(path: Path, arrange: Arrange, **how: object) -> Path:
    """Write a snapshot chunk whose gas masses are arranged in some way."""
    with h5py.File(path, "w", **how) as file:
        header(file)
        file["PartType0/Coordinates"] = np.ones((N, 3))
        arrange(file["PartType0"], path)
    return path


def masses(path: Path, *, mapped: bool) -> np.ndarray:
    with open_particle_file(path) as file:
        return file.read(0, ["Masses"], start=3, stop=N - 2, mapped=mapped)["Masses"]


def low(group: h5py.Group, kind: h5t.TypeID, values: object = VALUES, **plan: object) -> None:
    """Write with HDF5's own functions: a type in the file, a layout."""
    creation = h5p.create(h5p.DATASET_CREATE)
    for name, arguments in plan.items():
        getattr(creation, name)(*arguments)
    values = np.asarray(values)
    space = h5s.create_simple(values.shape)
    dataset = h5d.create(group.id, b"Masses", kind, space, creation)
    dataset.write(h5s.ALL, h5s.ALL, values)


def floats(size: int, precision: int, fields: tuple[int, ...], bias: int = 127) -> h5t.TypeID:
    """Floats with sign, exponent and mantissa at other bits, in a number of bytes."""
    kind = h5t.IEEE_F32LE.copy()
    kind.set_fields(*fields)
    kind.set_precision(precision)
    kind.set_size(size)
    kind.set_ebias(bias)
    return kind


def integers(size: int, precision: int, offset: int = 0) -> h5t.TypeID:
    kind = h5t.STD_I32LE.copy()
    kind.set_precision(precision)
    kind.set_offset(offset)
    kind.set_size(size)
    return kind


def external(*segments: tuple[str, int, int]) -> Arrange:
    def arrange(group: h5py.Group, path: Path) -> None:
        listed = [(str(path.parent / name), start, size) for name, start, size in segments]
        made = group.create_dataset("Masses", (N,), "f4", external=listed)
        made[()] = VALUES

    return arrange


def elsewhere(path: Path, name: str = "elsewhere.hdf5") -> Path:
    """File of other values at the same place, and the right ones behind."""
    with h5py.File(path.parent / name, "w") as file:
        header(file)
        file["PartType0/Coordinates"] = np.ones((N, 3))
        file["padding"] = np.zeros(N, np.float32)
        file["x"] = VALUES
    return path.parent / name


def external_link(group: h5py.Group, path: Path) -> None:
    group["Masses"] = h5py.ExternalLink(elsewhere(path).name, "/x")


def soft_link(group: h5py.Group, _: Path) -> None:
    group.file["x"] = VALUES
    group["Masses"] = h5py.SoftLink("/x")


def hard_link(group: h5py.Group, _: Path) -> None:
    group.file["x"] = VALUES
    group["Masses"] = group.file["x"]


def named_type(group: h5py.Group, _: Path) -> None:
    group.file["kind"] = np.dtype("f4")
    group.create_dataset("Masses", data=VALUES, dtype=group.file["kind"])


def virtual(group: h5py.Group, path: Path) -> None:
    elsewhere(path)
    layout = h5py.VirtualLayout((N,), "f4")
    layout[: N // 2] = h5py.VirtualSource("elsewhere.hdf5", "x", (N,))[: N // 2]
    layout[N // 2 :: 2] = h5py.VirtualSource("elsewhere.hdf5", "x", (N,))[N // 2 :: 2]
    layout[N // 2 + 1 :: 2] = h5py.VirtualSource("elsewhere.hdf5", "x", (N,))[N // 2 + 1 :: 2]
    group.create_virtual_dataset("Masses", layout)


def virtual_in_itself(group: h5py.Group, _: Path) -> None:
    group.file["x"] = VALUES
    layout = h5py.VirtualLayout((N,), "f4")
    layout[:] = h5py.VirtualSource(".", "/x", (N,))
    group.create_virtual_dataset("Masses", layout)


def virtual_of_virtual(group: h5py.Group, path: Path) -> None:
    with h5py.File(path.parent / "middle.hdf5", "w") as file:
        virtual(file.create_group("g"), path)
    layout = h5py.VirtualLayout((N,), "f4")
    layout[:] = h5py.VirtualSource("middle.hdf5", "g/Masses", (N,))
    group.create_virtual_dataset("Masses", layout)


ARRANGEMENTS: dict[str, Arrange] = {
    "contiguous": lambda g, _: g.create_dataset("Masses", data=VALUES),
    "compact": lambda g, _: low(g, h5t.IEEE_F32LE, set_layout=(h5d.COMPACT,)),
    "allocated early": lambda g, _: low(g, h5t.IEEE_F32LE, set_alloc_time=(h5d.ALLOC_TIME_EARLY,)),
    "one chunk": lambda g, _: g.create_dataset("Masses", data=VALUES, chunks=(N,)),
    "chunks": lambda g, _: g.create_dataset("Masses", data=VALUES, chunks=(64,)),
    "resizable": lambda g, _: g.create_dataset("Masses", data=VALUES, maxshape=(None,)),
    "gzip": lambda g, _: g.create_dataset("Masses", data=VALUES, compression="gzip"),
    "lzf": lambda g, _: g.create_dataset("Masses", data=VALUES, compression="lzf"),
    "shuffle": lambda g, _: g.create_dataset("Masses", data=VALUES, shuffle=True),
    "checksum": lambda g, _: g.create_dataset("Masses", data=VALUES, fletcher32=True),
    "big endian": lambda g, _: g.create_dataset("Masses", data=VALUES, dtype=">f4"),
    "double": lambda g, _: g.create_dataset("Masses", data=VALUES, dtype="f8"),
    "bfloat16": lambda g, _: low(g, floats(2, 16, (15, 7, 8, 0, 7))),
    "other bias": lambda g, _: low(g, floats(4, 32, (31, 23, 8, 0, 23), 120)),
    "float of 24 bits": lambda g, _: low(g, floats(4, 24, (23, 15, 8, 0, 15))),
    "named type": named_type,
    "external raw file": external(("raw.bin", 12, 4 * N)),
    "two external raw files": external(("a.bin", 8, 1000), ("b.bin", 0, 4 * N - 1000)),
    "external raw file without end": external(("raw.bin", 0, h5py.h5f.UNLIMITED)),
    "external link": external_link,
    "soft link": soft_link,
    "hard link": hard_link,
    "virtual": virtual,
    "virtual in itself": virtual_in_itself,
    "virtual of virtual": virtual_of_virtual,
}


@pytest.mark.parametrize("name", ARRANGEMENTS)
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_bytes_are_the_same_wherever_they_lie(tmp_path, name, libver):
    """Bytes at the dataset's place in this file were taken for it, wherever it lay."""
    path = write(tmp_path / "snap_099.0.hdf5", ARRANGEMENTS[name], libver=libver)
    with h5py.File(path) as file:
        expected = file["PartType0/Masses"][3 : N - 2]
    assert expected.any()
    mapped, read = masses(path, mapped=True), masses(path, mapped=False)
    assert mapped.dtype == read.dtype == expected.dtype.newbyteorder("=")
    assert mapped.tobytes() == read.tobytes() == expected.astype(read.dtype).tobytes()
    plain = {"contiguous", "allocated early", "double", "named type", "soft link", "hard link"}
    # what has to be read is not mapped, and what can be mapped is
    assert mapped.flags.writeable == (name not in plain)


def test_a_file_behind_bytes_of_another_program(tmp_path):
    """A user block, as HDF5 makes it and as h5jam puts it before a file."""
    path = write(tmp_path / "plain.hdf5", ARRANGEMENTS["contiguous"])
    for length in (512, 1024, 4096):
        jammed = tmp_path / f"jammed-{length}.hdf5"
        jammed.write_bytes(b"\7" * length + path.read_bytes())
        blocked = write(
            tmp_path / f"block-{length}.hdf5", ARRANGEMENTS["contiguous"], userblock_size=length
        )
        for other in (jammed, blocked):
            for mapped in (True, False):
                np.testing.assert_array_equal(masses(other, mapped=mapped), VALUES[3 : N - 2])


def test_a_file_behind_a_link_and_one_replaced_while_it_is_open(tmp_path):
    path = write(tmp_path / "a.hdf5", ARRANGEMENTS["contiguous"])
    link = tmp_path / "link.hdf5"
    link.symlink_to(path)
    np.testing.assert_array_equal(masses(link, mapped=True), VALUES[3 : N - 2])
    with open_particle_file(link) as file:
        other = write(tmp_path / "b.hdf5", lambda g, _: g.create_dataset("Masses", data=-VALUES))
        other.replace(path)
        found = file.read(0, ["Masses"], mapped=True)["Masses"]
        np.testing.assert_array_equal(found, file.read(0, ["Masses"])["Masses"])
        np.testing.assert_array_equal(found, VALUES)
    # views stay valid when the file is closed
    np.testing.assert_array_equal(found, VALUES)


def test_a_file_opened_with_another_driver_is_read(tmp_path):
    path = write(tmp_path / "a.hdf5", ARRANGEMENTS["contiguous"])
    code = (
        "import sys; from tests.unit.test_hdf5 import *\n"
        "a, b = (masses(Path(sys.argv[1]), mapped=m) for m in (True, False))\n"
        "assert a.tobytes() == b.tobytes() == VALUES[3:N - 2].tobytes()\n"
        "print(a.flags.writeable)"
    )
    for driver, is_read in (("sec2", "False"), ("core", "True"), ("stdio", "True")):
        done = subprocess.run(
            [sys.executable, "-c", code, path],
            env={**os.environ, "HDF5_DRIVER": driver},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == is_read, driver


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("f2", np.float32),
        (">f2", np.float32),
        ("i1", np.float32),
        ("u2", np.float32),
        ("i4", np.float64),
        (">u4", np.float64),
        ("i8", np.float64),
        ("u8", np.float64),
        (integers(4, 12, 8), np.float64),
        (integers(4, 20, 4), np.float64),
    ],
)
def test_real_numbers_in_other_types_are_given_exactly(tmp_path, kind, expected, mapped):
    """Integers and half precision ended in an error that named neither file nor field."""
    whole = (np.arange(N) % 100).astype("i4")

    def arrange(group, _):
        if isinstance(kind, str):
            group.create_dataset("Masses", data=whole, dtype=kind)
        else:
            low(group, kind, whole)

    found = masses(write(tmp_path / "a.hdf5", arrange), mapped=mapped)
    assert found.dtype == expected
    np.testing.assert_array_equal(found, whole[3 : N - 2])


@pytest.mark.parametrize("largest", [2**53 + 2, -(2**53) - 2, 2**63])
def test_integers_that_float64_does_not_hold_are_refused(tmp_path, largest):
    values = np.full(N, largest, "u8" if largest > 2**60 else "i8")
    path = write(tmp_path / "a.hdf5", lambda g, _: g.create_dataset("Masses", data=values))
    with pytest.raises(DataFormatError, match=r"a\.hdf5: PartType0/Masses holds the integer"):
        masses(path, mapped=True)


def test_ids_stay_integers(tmp_path):
    ids = np.arange(N, dtype=np.uint64) + 2**63
    path = write(tmp_path / "a.hdf5", lambda g, _: g.create_dataset("ParticleIDs", data=ids))
    with open_particle_file(path) as file:
        for mapped in (True, False):
            found = file.read(0, ["ParticleIDs"], mapped=mapped)["ParticleIDs"]
            assert found.dtype == np.uint64
            np.testing.assert_array_equal(found, ids)


def typed(kind: h5t.TypeID) -> Arrange:
    return lambda group, _: h5d.create(group.id, b"Masses", kind, h5s.create_simple((N,)))


OTHER_TYPES: dict[str, tuple[Arrange, str]] = {
    "long double": (
        lambda g, _: g.create_dataset("Masses", data=VALUES, dtype=np.longdouble),
        "float of 128 bits",
    ),
    "compound": (typed(h5t.py_create(np.dtype([("a", "f4"), ("b", "i4")]))), r"compound \(a, b\)"),
    "complex": (typed(h5t.py_create(np.dtype("c8"))), "complex64"),
    "arrays": (typed(h5t.array_create(h5t.IEEE_F32LE, (3,))), r"array of \(3,\) float32"),
    "opaque": (typed(h5t.create(h5t.OPAQUE, 4)), "opaque"),
    "lists": (typed(h5t.vlen_create(h5t.IEEE_F32LE)), "lists of different length"),
    "text": (typed(h5t.C_S1), "text"),
    "references": (typed(h5t.STD_REF_OBJ), "references"),
    "truth values": (lambda g, _: g.create_dataset("Masses", data=VALUES > 1), "bool"),
    "integers of 24 bits": (typed(integers(3, 24)), "cannot be read"),
}


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("name", OTHER_TYPES)
def test_a_field_of_another_type_names_its_file(tmp_path, name, mapped):
    arrange, words = OTHER_TYPES[name]
    path = write(tmp_path / "a.hdf5", arrange)
    with pytest.raises(DataFormatError, match=rf"a\.hdf5: PartType0/Masses .*{words}"):
        masses(path, mapped=mapped)


def missing_source(group: h5py.Group, path: Path) -> None:
    virtual(group, path)
    (path.parent / "elsewhere.hdf5").unlink()


def missing_dataset_of_source(group: h5py.Group, path: Path) -> None:
    virtual(group, path)
    with h5py.File(path.parent / "elsewhere.hdf5", "r+") as file:
        del file["x"]


def short_source(group: h5py.Group, path: Path) -> None:
    virtual(group, path)
    with h5py.File(path.parent / "elsewhere.hdf5", "r+") as file:
        del file["x"]
        file["x"] = VALUES[:-1]


def half_written_source(group: h5py.Group, path: Path) -> None:
    virtual_of_virtual(group, path)
    with h5py.File(path.parent / "elsewhere.hdf5", "r+") as file:
        del file["x"]
        file.create_dataset("x", (N,), "f4", chunks=(100,))[: N // 2] = 1


def virtual_with_a_gap(group: h5py.Group, path: Path) -> None:
    elsewhere(path)
    layout = h5py.VirtualLayout((N,), "f4")
    # all values twice, but one
    for start in (0, 0, N // 2 + 1, N // 2 + 1):
        rows = slice(start, start + N // 2)
        layout[rows] = h5py.VirtualSource("elsewhere.hdf5", "x", (N,))[rows]
    group.create_virtual_dataset("Masses", layout)


def short_whole_source(group: h5py.Group, path: Path) -> None:
    elsewhere(path)
    with h5py.File(path.parent / "elsewhere.hdf5", "r+") as file:
        file["short"] = VALUES[: N // 2]
    layout = h5py.VirtualLayout((N,), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.hdf5", "short", (N,))
    group.create_virtual_dataset("Masses", layout)


def endless(group: h5py.Group, path: Path) -> None:
    elsewhere(path)
    layout = h5py.VirtualLayout((N,), "f4", maxshape=(None,))
    source = h5py.VirtualSource("elsewhere.hdf5", "x", (N,), maxshape=(None,))
    layout[: h5s.UNLIMITED] = source[: h5s.UNLIMITED]
    group.create_virtual_dataset("Masses", layout)


def of_itself(group: h5py.Group, _: Path) -> None:
    layout = h5py.VirtualLayout((N,), "f4")
    layout[:] = h5py.VirtualSource(".", "/PartType0/Masses", (N,))
    group.create_virtual_dataset("Masses", layout)


def half_written(**how: object) -> Arrange:
    def arrange(group: h5py.Group, _: Path) -> None:
        group.create_dataset("Masses", (N,), "f4", **how)[: N // 2] = 1

    return arrange


def without_raw_file(group: h5py.Group, path: Path) -> None:
    external(("raw.bin", 12, 4 * N))(group, path)
    (path.parent / "raw.bin").unlink()


def with_short_raw_file(group: h5py.Group, path: Path) -> None:
    external(("a.bin", 8, 1000), ("b.bin", 4, h5py.h5f.UNLIMITED))(group, path)
    group.file.flush()
    os.truncate(path.parent / "b.bin", 4 * N - 1000 + 3)


ABSENT: dict[str, tuple[Arrange, str]] = {
    "never written": (lambda g, _: g.create_dataset("Masses", (N,), "f4"), "was never written"),
    "never written, filled": (
        lambda g, _: g.create_dataset("Masses", (N,), "f4", fillvalue=7.0),
        "would give 7.0",
    ),
    "no chunk": (lambda g, _: g.create_dataset("Masses", (N,), "f4", chunks=(100,)), "0 of 10"),
    "half the chunks": (half_written(chunks=(100,)), "5 of 10 chunks"),
    "half the compressed chunks": (half_written(chunks=(64,), compression="gzip"), "8 of 16"),
    "half a resizable one": (half_written(chunks=(100,), maxshape=(None,)), "5 of 10"),
    "virtual without its file": (missing_source, r"x in elsewhere\.hdf5 is not there"),
    "virtual without its dataset": (missing_dataset_of_source, "is not there"),
    "virtual with a short source": (short_source, r"has shape \(999,\)"),
    "virtual with a short whole source": (short_whole_source, r"has shape \(500,\)"),
    "virtual of half a source": (half_written_source, r"elsewhere\.hdf5: x is stored in part"),
    "virtual with a gap": (virtual_with_a_gap, "999 of 1000 values"),
    "virtual without an end": (endless, "without an end"),
    "virtual of itself": (of_itself, "refers to itself"),
    "without its raw file": (without_raw_file, r"raw\.bin, which is not there"),
    "with a short raw file": (with_short_raw_file, r"b\.bin, which has 3003 bytes of 3004"),
}


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("name", ABSENT)
def test_what_is_not_stored_is_not_zero(tmp_path, name, mapped):
    """HDF5 fills it in: masses of 0 in silence."""
    arrange, words = ABSENT[name]
    path = write(tmp_path / "a.hdf5", arrange)
    with pytest.raises((DataFormatError, DataMissingError), match=words) as caught:
        masses(path, mapped=mapped)
    assert "Masses" in str(caught.value) or "elsewhere" in str(caught.value)
    with (
        open_particle_file(path) as file,
        pytest.raises((DataFormatError, DataMissingError), match=words),
    ):
        file.check()


@pytest.mark.parametrize("how", [{}, {"chunks": (10,), "maxshape": (None,)}])
def test_no_rows_are_never_written(tmp_path, how):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        header(file)
        file.create_dataset("PartType0/Coordinates", (0, 3), "f8")
        file.create_dataset("PartType0/Masses", (0,), "f4", **how)
    with open_particle_file(tmp_path / "a.hdf5") as file:
        file.check()
        assert file.counts[0] == 0
        assert file.read(0, ["Masses"], mapped=True)["Masses"].shape == (0,)


def test_a_filter_that_is_not_there_is_named(tmp_path):
    path = write(
        tmp_path / "a.hdf5",
        lambda g, _: g.create_dataset("Masses", data=VALUES, chunks=(N,), compression="gzip"),
    )
    # the number of the filter, 1, becomes one that nobody has
    raw = path.read_bytes()
    place = raw.index(b"deflate\0")
    path.write_bytes(raw[: place - 8] + b"\xff\x7f" + raw[place - 6 :])
    with pytest.raises(DataFormatError, match=r"Masses is compressed with filter 32767 \(deflate"):
        masses(path, mapped=True)


def dangling(group: h5py.Group, path: Path) -> None:
    group["Masses"] = h5py.ExternalLink(elsewhere(path).name, "/nothing")


ODD: dict[str, tuple[Arrange, str]] = {
    "group": (lambda g, _: g.create_group("Masses"), "Masses is a group; a dataset is needed"),
    "named type": (
        lambda g, _: g.__setitem__("Masses", np.dtype("f4")),
        "Masses is a named type; a dataset",
    ),
    "single value": (lambda g, _: g.__setitem__("Masses", 1.0), "Masses holds a single value"),
    "no value": (
        lambda g, _: g.__setitem__("Masses", h5py.Empty("f4")),
        "Masses holds no value at all",
    ),
    "rank 2": (
        lambda g, _: g.__setitem__("Masses", VALUES[:, None]),
        r"Masses has shape \(1000, 1",
    ),
    "fewer rows": (lambda g, _: g.__setitem__("Masses", VALUES[1:]), "Masses has 999 rows"),
    "soft link to nowhere": (
        lambda g, _: g.__setitem__("Masses", h5py.SoftLink("/nowhere")),
        "Masses is a link to /nowhere",
    ),
    "soft link to itself": (
        lambda g, _: g.__setitem__("Masses", h5py.SoftLink("/PartType0/Masses")),
        "Masses is a link to /PartType0/Masses",
    ),
    "external link to no file": (
        lambda g, _: g.__setitem__("Masses", h5py.ExternalLink("gone.hdf5", "/x")),
        r"Masses is a link to /x in the file gone\.hdf5, which is not there",
    ),
    "external link to nothing": (dangling, r"elsewhere\.hdf5, which cannot be followed"),
}


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("name", ODD)
def test_an_object_of_another_kind_names_its_file(tmp_path, name, mapped):
    arrange, words = ODD[name]
    path = write(tmp_path / "a.hdf5", arrange)
    with pytest.raises(SfrError, match=words) as caught:
        masses(path, mapped=mapped)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 3
    with open_particle_file(path) as file, pytest.raises(SfrError, match="Masses"):
        file.check()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.__setitem__("PartType0", VALUES), "PartType0 is a dataset; a group is needed"),
        (lambda f: f.__setitem__("PartType0", np.dtype("f4")), "PartType0 is a named type"),
        (lambda f: f.__setitem__("PartType0", h5py.SoftLink("/x")), "PartType0 is a link to /x"),
        (
            lambda f: f.__setitem__("PartType0", h5py.ExternalLink("gone.hdf5", "/PartType0")),
            r"in the file gone\.hdf5, which is not there",
        ),
        (lambda f: f.create_group("PartType0/Coordinates"), "PartType0/Coordinates is a group"),
        (
            lambda f: f.create_group("PartType0").__setitem__("Coordinates", h5py.Empty("f8")),
            "PartType0/Coordinates holds no value",
        ),
    ],
)
def test_particles_that_are_something_else(tmp_path, change, words):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        header(file)
        change(file)
    with pytest.raises(SfrError, match=words):
        open_particle_file(tmp_path / "a.hdf5")


def test_what_is_no_column_does_not_count_particles(tmp_path):
    """A scalar or a named type that sorts before the columns was a traceback."""
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        header(file)
        group = file.create_group("PartType0")
        group["A"], group["B"], group["C"] = 1.0, np.dtype("f4"), h5py.Empty("f4")
        group.create_group("D")
        group["Masses"] = VALUES
        group["E"] = group
    with open_particle_file(tmp_path / "a.hdf5") as file:
        assert file.counts[0] == N
        file.check()
        np.testing.assert_array_equal(file.read(0, ["Masses"])["Masses"], VALUES)
