"""What keeps a file from being opened, in words: not everything is an incomplete download."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from sfr.errors import DataFormatError, DataMissingError, SfrError
from sfr.hdf5 import open_hdf5, require_dataset

WRITER = """
import os, sys, h5py
file = h5py.File(sys.argv[1], "r+" if sys.argv[2] == "lock" else "w", libver=sys.argv[3])
if sys.argv[2] != "lock":
    file["x"] = [1.0]
if sys.argv[2] == "swmr":
    file.swmr_mode = True
file.flush()
print("open", flush=True)
sys.stdin.readline()
os._exit(1)
"""
#: Says what `open_hdf5` says, in a process of its own.
OPEN = """
import sys
import tempfile
from pathlib import Path
from sfr.errors import SfrError
from sfr.hdf5 import open_hdf5
try:
    open_hdf5(Path(sys.argv[1])).close()
    print("opened")
except SfrError as error:
    print(error.exit_code, error)
"""
#: Stands for a file system on which a call fails.
FAILING = """
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/file.h>
static int fails(const char *what) {
  const char *number = getenv(what);
  if (number) errno = atoi(number);
  return number != 0; }
int flock(int fd, int operation) { return fails("FAIL_FLOCK") ? -1 : 0; }
ssize_t pread(int fd, void *b, size_t n, off_t o) {
  if (o == 0 && n == 8 && fails("FAIL_READ")) return -1;
  return lseek(fd, o, SEEK_SET) < 0 ? -1 : read(fd, b, n); }
ssize_t pread64(int fd, void *b, size_t n, off_t o) { return pread(fd, b, n, o); }
"""


@pytest.fixture
def path(tmp_path) -> Path:
    with h5py.File(tmp_path / "snap_099.0.hdf5", "w") as file:
        file["x"] = np.arange(100.0)
    return tmp_path / "snap_099.0.hdf5"


def said(path: Path) -> str:
    with pytest.raises(SfrError) as caught:
        open_hdf5(path)
    assert caught.value.exit_code == 3
    assert str(path) in str(caught.value)
    return str(caught.value)


def hold(path: Path, how: str, libver: str = "earliest") -> subprocess.Popen[str]:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, path, how, libver],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "open\n"
    return writer


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_file_that_another_program_holds_open(path, libver):
    """It was called an incomplete download, to be fetched again."""
    writer = hold(path, "lock", libver)
    try:
        message = said(path)
    finally:
        writer.communicate("\n")
    assert "another program holds it open for writing" in message
    assert "HDF5_USE_FILE_LOCKING" in message
    assert "download" not in message


def test_a_file_that_is_being_written_without_a_lock(tmp_path):
    path = tmp_path / "a.hdf5"
    writer = hold(path, "swmr", "latest")
    try:
        message = said(path)
    finally:
        writer.communicate("\n")
    assert "another program is writing it" in message
    assert "download" not in message


def test_a_file_whose_writer_was_killed(tmp_path):
    path = tmp_path / "a.hdf5"
    hold(path, "write", "latest").communicate("\n")
    assert "ended before it had closed it" in said(path)
    assert "h5clear" in said(path)


@pytest.fixture(scope="session")
def failing(tmp_path_factory) -> Path:
    """Library that makes calls of the operating system fail."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and LD_PRELOAD")
    folder = tmp_path_factory.mktemp("failing")
    (folder / "failing.c").write_text(FAILING)
    library = folder / "failing.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, folder / "failing.c"], check=True)
    return library


@pytest.mark.parametrize(
    ("call", "number", "words"),
    [
        ("FLOCK", errno.EAGAIN, "another program holds it open"),
        ("FLOCK", errno.EACCES, "another program holds it open"),
        ("FLOCK", errno.ENOLCK, "its file system has no locks (ENOLCK"),
        ("FLOCK", errno.EOPNOTSUPP, "its file system has no locks ("),
        ("READ", errno.EIO, "the disk or the file server reports an error (EIO"),
        ("READ", errno.ESTALE, "it was replaced or removed (ESTALE"),
        ("READ", errno.EACCES, "no permission to read it"),
    ],
)
def test_what_the_system_refuses_is_said(path, failing, call, number, words):
    environment = {**os.environ, "LD_PRELOAD": str(failing), f"FAIL_{call}": str(number)}
    environment.pop("HDF5_USE_FILE_LOCKING", None)
    command = [sys.executable, "-c", OPEN, path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"3 {path} cannot be opened: ")
    assert words in done.stdout
    assert "download" not in done.stdout
    if call == "FLOCK":
        assert "HDF5_USE_FILE_LOCKING=FALSE" in done.stdout
        environment["HDF5_USE_FILE_LOCKING"] = "FALSE"
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == "opened\n"


def test_a_file_that_may_not_be_read(path):
    path.chmod(0)
    if os.access(path, os.R_OK):
        # a user who may read everything gives that up
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            copy = Path(shutil.copy(path, folder))
            copy.chmod(0)
            code = OPEN.replace("try:", "import os; os.setgid(65534); os.setuid(65534)\ntry:", 1)
            done = subprocess.run(
                [sys.executable, "-c", code, copy], capture_output=True, text=True, check=True
            )
        message = done.stdout
    else:
        message = said(path)
    assert "no permission to read it" in message
    assert "download" not in message


def test_other_kinds_of_files(tmp_path, path):
    assert "is a folder" in said(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "a pipe or a device" in said(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("gone.hdf5")
    assert "is not there: it is a link to gone.hdf5" in said(tmp_path / "link")
    (tmp_path / "loop").symlink_to("loop")
    assert "it is a link that leads back to itself" in said(tmp_path / "loop")
    with pytest.raises(DataMissingError, match="is not there"):
        open_hdf5(path / "below-a-file")


def test_what_is_not_whole_may_be_an_incomplete_download(tmp_path, path):
    raw = path.read_bytes()
    for name, content, words in (
        ("cut", raw[:-100], "truncated file"),
        ("page", b"<html>403 Forbidden</html>", "it begins with b'<html>403 Forbid'"),
        ("empty", b"", "it is empty"),
        ("zeros", bytes(4096), r"it begins with b'\\x00\\x00"),
    ):
        (tmp_path / name).write_bytes(content)
        message = said(tmp_path / name)
        assert words.replace("\\\\", "\\") in message
        assert "may be an incomplete download" in message


@pytest.mark.parametrize("driver", ["family", "split"])
def test_a_part_of_a_file_in_several(tmp_path, driver):
    name = tmp_path / ("part-%d.hdf5" if driver == "family" else "part")
    how = {"memb_size": 4096} if driver == "family" else {}
    with h5py.File(name, "w", driver=driver, **how) as file:
        file["x"] = np.arange(10000.0)
    part = tmp_path / ("part-0.hdf5" if driver == "family" else "part-m.h5")
    message = said(part)
    assert f"one part of a file in several (HDF5's {driver}" in message
    assert "download" not in message


def test_what_cannot_be_read_names_file_and_dataset(path):
    with h5py.File(path, "r+") as file:
        file.create_dataset("y", data=np.arange(100.0), fletcher32=True, chunks=(100,))
        offset = file["y"].id.get_chunk_info(0).byte_offset
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff")
    with (
        open_hdf5(path) as file,
        pytest.raises(DataFormatError, match=r"snap_099\.0\.hdf5: y cannot be read"),
    ):
        require_dataset(file, path, "y").read()
