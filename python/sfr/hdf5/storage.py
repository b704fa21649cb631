"""Whether all bytes of a dataset are stored: HDF5 reads what is not as zeros."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py

from sfr.errors import DataFormatError, DataMissingError
from sfr.hdf5.opening import explained, open_hdf5, other_file, reading

__all__ = ["require_spare_descriptors", "require_stored"]

#: Virtual datasets of virtual datasets.
_DEEPEST = 8
_FETCH = "The file is half written or damaged; fetch or make it again"


def require_stored(dataset: h5py.Dataset, path: Path, name: str) -> tuple[h5py.File, ...]:
    """Fail where HDF5 would fill in what is not there.

    What a writer allocated at once and then never wrote cannot be told from zeros that it wrote.

    Parameters
    ----------
    dataset : h5py.Dataset
        Of any type of values; empty ones are fine.
    path, name : Path, str
        For messages.

    Returns
    -------
    tuple of h5py.File
        The sources of a virtual dataset. HDF5 opens them again by name when it reads, and takes
        one that it cannot open for one that is not there; they have to stay open until then.

    Raises
    ------
    DataMissingError
        Another file that holds the bytes is not there.
    DataFormatError
        Some of the bytes are not stored, or their filter is not to be had.
    """
    if not isinstance(dataset, h5py.Dataset):
        raise DataFormatError(f"{path}: {name} is no dataset")
    with reading(path, name):
        return _require_stored(dataset, path, name, 0)


def _require_stored(
    dataset: h5py.Dataset, path: Path, name: str, depth: int
) -> tuple[h5py.File, ...]:
    if not dataset.size:
        return ()
    creation = dataset.id.get_create_plist()
    layout = creation.get_layout()
    if layout == h5py.h5d.VIRTUAL:
        return _require_sources(dataset, creation, path, name, depth)
    if layout == h5py.h5d.CHUNKED:
        _require_chunks(dataset, creation, path, name)
    elif layout == h5py.h5d.CONTIGUOUS and creation.get_external_count():
        _require_external(dataset, creation, path, name)
    elif layout == h5py.h5d.CONTIGUOUS:
        _require_contiguous(dataset, path, name)
    return ()


def _filled(dataset: h5py.Dataset) -> str:
    return f"HDF5 would give {dataset.fillvalue!s} for the rest"


def _require_contiguous(dataset: h5py.Dataset, path: Path, name: str) -> None:
    offset = dataset.id.get_offset()
    if offset is None:
        raise DataFormatError(
            f"{path}: {name} was never written: HDF5 would give {dataset.fillvalue!s} for all of "
            f"its {dataset.size} values. {_FETCH}"
        )
    size = _file_size(dataset)
    end = offset + dataset.size * dataset.id.get_type().get_size()
    if size is not None and end > size:
        raise DataFormatError(
            f"{path}: {name} ends at byte {end}, the file at {size}: it was cut short. Fetch it "
            "again"
        )


def _file_size(dataset: h5py.Dataset) -> int | None:
    """Bytes of the file that holds a dataset; None where it is not a plain file."""
    file = h5py.h5i.get_file_id(dataset.id)
    is_plain = file.get_access_plist().get_driver() == h5py.h5fd.SEC2
    return os.fstat(file.get_vfd_handle()).st_size if is_plain else None


def _require_chunks(dataset: h5py.Dataset, creation: Any, path: Path, name: str) -> None:  # noqa: ANN401
    sides = zip(dataset.shape, dataset.chunks, strict=True)
    expected = math.prod(-(-length // side) for length, side in sides)
    stored = dataset.id.get_num_chunks()
    if stored < expected:
        raise DataFormatError(
            f"{path}: {name} is stored in part: {stored} of {expected} chunks of "
            f"{dataset.chunks} were written; {_filled(dataset)}. {_FETCH}"
        )
    for place in range(creation.get_nfilters()):
        code, _, _, title = creation.get_filter(place)
        is_used = not dataset.id.get_chunk_info(0).filter_mask & 1 << place
        if is_used and not h5py.h5z.filter_avail(code):
            raise DataFormatError(
                f"{path}: {name} is compressed with filter {code} "
                f"({_text(title) or 'no name'}), which this HDF5 does not have. Give its plugin in "
                "HDF5_PLUGIN_PATH, or write the file again with h5repack -f NONE"
            )


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _require_external(dataset: h5py.Dataset, creation: Any, path: Path, name: str) -> None:  # noqa: ANN401
    prefix = os.environ.get("HDF5_EXTFILE_PREFIX", "") or os.fsdecode(
        dataset.id.get_access_plist().get_efile_prefix()
    )
    folder = prefix.replace("${ORIGIN}", str(_own_path(dataset).parent))
    missing = dataset.size * dataset.id.get_type().get_size()
    for place in range(creation.get_external_count()):
        raw, offset, size = creation.get_external(place)
        file = Path(folder, os.fsdecode(raw))
        length = min(size, missing)
        try:
            found = file.stat().st_size
        except FileNotFoundError as error:
            where = (
                ""
                if file.is_absolute()
                else (
                    f" in {Path.cwd()}, where HDF5 looks for it; where it lies beside the HDF5 "
                    "file set HDF5_EXTFILE_PREFIX='${ORIGIN}'"
                )
            )
            raise DataMissingError(
                f"{path}: the values of {name} lie in another file, {file}, which is not there"
                f"{where}"
            ) from error
        if found < offset + length:
            raise DataFormatError(
                f"{path}: the values of {name} lie in another file, {file}, which has {found} "
                f"bytes of {offset + length}; {_filled(dataset)}"
            )
        missing -= length
    if missing:
        raise DataFormatError(
            f"{path}: {name} names other files for its values that leave {missing} bytes out; "
            f"{_filled(dataset)}"
        )


def _own_path(dataset: h5py.Dataset) -> Path:
    return Path(os.fsdecode(h5py.h5f.get_name(dataset.id))).absolute()


def _require_sources(
    dataset: h5py.Dataset,
    creation: Any,  # noqa: ANN401
    path: Path,
    name: str,
    depth: int,
) -> tuple[h5py.File, ...]:
    if depth == _DEEPEST:
        raise DataFormatError(f"{path}: {name} is a virtual dataset that refers to itself")
    covered = h5py.h5s.create_simple(dataset.shape)
    covered.select_none()
    files: dict[Path, h5py.File] = {}
    deeper: list[h5py.File] = []
    for place in range(creation.get_virtual_count()):
        selection = creation.get_virtual_vspace(place)
        try:
            wanted = selection.get_select_npoints()
        except RuntimeError as error:
            raise DataFormatError(
                f"{path}: {name} is a virtual dataset without an end, so what it lacks cannot be "
                "told; write it with a fixed number of rows"
            ) from error
        _cover(covered, selection)
        file_name, source_name = (
            _text(creation.get_virtual_filename(place)),
            _text(creation.get_virtual_dsetname(place)),
        )
        what = f"{path}: {name} is a virtual dataset; its source {source_name} in {file_name}"
        if file_name == ".":
            holder = dataset.file
        else:
            where = other_file(file_name, _own_path(dataset), "HDF5_VDS_PREFIX")
            if where is None:
                raise DataMissingError(
                    f"{what} is not there: no such file in {_own_path(dataset).parent}. Fetch it, "
                    "too, and put it there"
                )
            if where not in files:
                files[where] = open_hdf5(where)
            holder = files[where]
        deeper += _require_source(
            holder, source_name, creation.get_virtual_srcspace(place), wanted, what, depth
        )
    if covered.get_select_npoints() < dataset.size:
        raise DataFormatError(
            f"{path}: {name} is a virtual dataset; its sources give "
            f"{covered.get_select_npoints()} of {dataset.size} values; {_filled(dataset)}"
        )
    return (*files.values(), *deeper)


def _require_source(
    file: h5py.File,
    name: str,
    selection: Any,  # noqa: ANN401
    wanted: int,
    what: str,
    depth: int,
) -> Sequence[h5py.File]:
    try:
        source = file[name]
    except (KeyError, OSError, RuntimeError) as error:
        raise DataMissingError(f"{what} is not there ({error.args[0]})") from error
    if not isinstance(source, h5py.Dataset) or source.shape is None:
        raise DataFormatError(f"{what} is not a dataset with values")
    if selection.get_select_type() == h5py.h5s.SEL_ALL:
        fits = source.size == wanted
    else:
        last = selection.get_select_bounds()[1]
        fits = len(last) == len(source.shape) and all(
            end < length for end, length in zip(last, source.shape, strict=True)
        )
    if not fits:
        raise DataFormatError(
            f"{what} has shape {source.shape}, less or other than what is taken from it"
        )
    return _require_stored(source, Path(file.filename), name, depth + 1)


def _cover(covered: Any, selection: Any) -> None:  # noqa: ANN401
    """Add what a virtual dataset takes from one source."""
    if selection.get_select_type() == h5py.h5s.SEL_ALL:
        covered.select_all()
    elif selection.is_regular_hyperslab():
        start, stride, count, block = selection.get_regular_hyperslab()
        covered.select_hyperslab(start, count, stride, block, op=h5py.h5s.SELECT_OR)
    else:
        for first, last in selection.get_select_hyper_blocklist():
            block = tuple(int(b) - int(a) + 1 for a, b in zip(first, last, strict=True))
            covered.select_hyperslab(
                tuple(map(int, first)), (1,) * len(block), None, block, op=h5py.h5s.SELECT_OR
            )


def require_spare_descriptors(path: Path, name: str) -> None:
    """Fail where no more files can be opened: HDF5 takes sources for absent then.

    Raises
    ------
    ResourceError
        Too many files are open.
    """
    spare: list[int] = []
    try:
        spare = [os.open(os.devnull, os.O_RDONLY) for _ in range(2)]
    except OSError as error:
        kind, reason = explained(error)
        raise kind(f"{path}: the sources of {name} cannot be opened: {reason}") from error
    finally:
        for number in spare:
            os.close(number)
