"""Whole-file writes, locks, fingerprints and the log of a run's folder.

A file that exists is whole: it is written under ``.tmp/<host>-<pid>-<thread>/``, flushed and
renamed; where links lead to another file system, it is written beside its target there. What a
step made, and from what, is kept in ``.state/<step>.json``; a step whose fingerprint and files are
as they were is not repeated.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import re
import shutil
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from sfr.errors import ConfigError, DataMissingError
from sfr.paths import Marks, plain, require_folder
from sfr.recipe import Recipe, load_recipe
from sfr.run.locks import acquired, held, holder_of
from sfr.run.names import bare
from sfr.run.paths import RunPaths

__all__ = ["RECIPE", "SAMPLE_SETTINGS", "SIMULATION", "StepState", "Workspace", "digest"]

#: Step of a folder that all commands with the same recipe share as long as they run.
RECIPE = "recipe"
#: Notes: the simulation that the folder is for, and a digest of how labels are made.
SIMULATION, SAMPLE_SETTINGS = "simulation", "sample-settings"
_NOTES_OF_SAMPLE = (SIMULATION, SAMPLE_SETTINGS)
#: Numbers the parts that this process takes in shared steps: a notebook may open a run twice.
_SHARES = itertools.count()


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


class Workspace(RunPaths):
    """The folder of one run (DESIGN 3).

    Parameters
    ----------
    root : str or Path
        The folder; made when the first file is written.
    """

    def __init__(self, root: str | Path) -> None:
        super().__init__(root)
        #: Folders -> whether files can be renamed into them from the run's own scratch folder.
        self._is_near: dict[Path, bool] = {}

    # -- heads that failed ---------------------------------------------------------------------

    def mark_failed(self, case: str, seed: int, settings: str, reason: str) -> None:
        """Record that a head could not be trained with some settings, and why."""
        record = {"settings": settings, "reason": bare(reason)}
        self.write_json(self.failed_head(case, seed), record)

    def unmark_failed(self, case: str, seed: int) -> None:
        """Drop that record: the head is trained now."""
        self.failed_head(case, seed).unlink(missing_ok=True)

    def failed_with(self, case: str, seed: int) -> str:
        """Return the settings of a head that could not be trained; empty where they are lost."""
        try:
            found = json.loads(self.failed_head(case, seed).read_text("utf-8"))
            return str(found["settings"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    # -- whole-file writes ---------------------------------------------------------------------

    @property
    def _scratch(self) -> Path:
        name = f"{socket.gethostname()}-{os.getpid()}-{threading.get_native_id()}"
        return self.root / ".tmp" / name

    @contextlib.contextmanager
    def replacing(self, path: Path) -> Iterator[Path]:
        """Yield a temporary path that becomes ``path`` when the block ends without an error.

        The content is flushed to disk before the rename, so ``path`` is the old file, the new
        one, or absent; never a part.
        """
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; give a file")
        require_folder(path.parent)
        require_folder(self._scratch)
        # what is linked stays linked
        target = Path(os.path.realpath(path))
        if not target.parent.is_dir():
            raise DataMissingError(
                f"{path} is a link to {target}, whose folder is not there; make that folder, mount "
                "its disk, or remove the link"
            )
        # long names have no room for more; how they end tells libraries what to write
        name = hashlib.sha256(os.fsencode(path)).hexdigest()[:8] + "-" + path.name[-48:]
        temporary = note = self._scratch / name
        if not self._can_rename_into(target.parent):
            temporary = target.parent / f".{self._scratch.name}-{name}"
            with contextlib.suppress(OSError):
                # tells `clean_scratch` of the file, should this process be killed
                note.symlink_to(temporary)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
            note.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._scratch.rmdir()

    def _can_rename_into(self, folder: Path) -> bool:
        """Whether a folder is on the file system of the run's scratch folder, found by trying."""
        if folder not in self._is_near:
            probe, there = self._scratch / "probe", folder / f".{self._scratch.name}-probe"
            try:
                probe.touch()
                probe.rename(there)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise OSError(error.errno, error.strerror, str(folder)) from error
            self._is_near[folder] = not probe.exists()
            for left in (probe, there):
                left.unlink(missing_ok=True)
        return self._is_near[folder]

    def write_text(self, path: Path, text: str) -> None:
        """Write a whole text file (UTF-8, Unix line ends)."""
        with self.replacing(path) as temporary:
            temporary.write_bytes(plain(text).encode())

    def write_json(self, path: Path, value: object) -> None:
        """Write a whole JSON file; keys keep their order, NaN is refused."""
        self.write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")

    def clean_scratch(self) -> None:
        """Remove the temporary folders of this host's dead processes."""
        host = socket.gethostname()
        for folder in (self.root / ".tmp").glob(f"{host}-*"):
            pid = folder.name.removeprefix(f"{host}-").partition("-")[0]
            if pid.isdecimal() and int(pid) != os.getpid() and not _is_alive(int(pid)):
                for note in filter(Path.is_symlink, folder.glob("*")):
                    with contextlib.suppress(OSError):
                        note.readlink().unlink(missing_ok=True)
                shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            (self.root / ".tmp").rmdir()

    # -- locks ---------------------------------------------------------------------------------

    def _lock_file(self, name: str) -> Path:
        path = self.root / ".state" / f"{name}.lock"
        require_folder(path.parent)
        return path

    @contextlib.contextmanager
    def lock(self, step: str) -> Iterator[None]:
        """Hold a step of this folder; wait, and say so, while another process holds it."""
        path = self._lock_file(step)
        with held(path, f"another sfr process at step {step!r} of {self.root}"):
            yield

    @contextlib.contextmanager
    def claim(self, name: str, *, wait: bool) -> Iterator[bool]:
        """Hold a part of a step; False, or wait silently, while another process holds it."""
        try:
            lock = acquired(self._lock_file(name), wait=wait)
        except filelock.Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    @contextlib.contextmanager
    def sharing(self, step: str, fingerprint: str, *, alone: bool) -> Iterator[bool]:
        """Take part in a step that processes with the same fingerprint do together.

        Enter it while the step's lock is held.

        Parameters
        ----------
        step : str
            Name of the step.
        fingerprint : str
            Digest of what the step is made with.
        alone : bool
            Nobody else may take part, not even with the same fingerprint.

        Yields
        ------
        bool
            Whether nobody else takes part at the moment.

        Raises
        ------
        ConfigError
            Another process works on the step with another fingerprint, or at all with ``alone``.
        """
        prefix = f"{step}.{fingerprint}."
        others = [lock for lock in self._others(step) if alone or not lock.startswith(prefix)]
        if others:
            where = f"at step {step!r} of" if step != RECIPE else "in"
            what = "--force would throw away its work"
            if not alone:
                what = "it has another recipe" if step == RECIPE else "it has other settings"
                what += ", or was given --force"
            hosts = ", ".join(sorted({holder_of(name) for name in others}))
            raise ConfigError(
                f"another sfr process works {where} {self.root} ({hosts}), and {what}; wait for "
                "it, or use another folder with --work"
            )
        is_alone = not self._others(step)
        path = self._lock_file(f"{prefix}{self._scratch.name}.{next(_SHARES)}")
        lock = acquired(path, wait=True)
        try:
            yield is_alone
        finally:
            path.unlink(missing_ok=True)
            lock.release()

    def _others(self, step: str) -> list[str]:
        """Names of the lock files of living processes that share a step; others are removed."""
        living = []
        for path in sorted((self.root / ".state").glob(f"{step}.*.lock")):
            try:
                lock = acquired(path, wait=False)
            except filelock.Timeout:
                living.append(path.name)
                continue
            path.unlink(missing_ok=True)
            lock.release()
        return living

    def wait_for_claims(self, prefix: str) -> None:
        """Wait for workers that outlived their command, and may yet write parts of a step.

        Nobody else may take part in the step at the moment.
        """
        for path in sorted((self.root / ".state").glob(f"{prefix}*.lock")):
            with held(path, f"a worker of a command that was stopped; it still holds {path}"):
                path.unlink(missing_ok=True)

    def remove_locks(self, prefix: str) -> None:
        """Remove the lock files of parts of a step that is done."""
        for path in (self.root / ".state").glob(f"{prefix}*.lock"):
            path.unlink(missing_ok=True)

    def copy_of_sample(self, folder: Path) -> Workspace:
        """Copy the sample, and how it was made, into another folder: for trying something out."""
        copy = Workspace(folder)
        steps = self.steps("select")
        files = [self.sample_csv, self.kept(self.sample_csv), self.by_snapshot_csv]
        files += [file(step) for step in steps for file in (self._state_file, self._sources_file)]
        files += [self._note(name) for name in _NOTES_OF_SAMPLE]
        for path in files:
            if path.is_file():
                target = folder / path.relative_to(self.root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        return copy

    # -- recipe --------------------------------------------------------------------------------

    def stored_recipe(self) -> Recipe | None:
        """Return the recipe that the folder was last used with, or None."""
        if not self.recipe_toml.is_file():
            return None
        try:
            return load_recipe(self.recipe_toml)
        except ConfigError as error:
            raise ConfigError(
                f"{self.recipe_toml} cannot be used ({error}); delete it and give --recipe"
            ) from error

    def store_recipe(self, recipe: Recipe) -> None:
        """Write the resolved recipe, unless it is there already."""
        import tomli_w

        text = tomli_w.dumps(recipe.to_dict())
        if not self.recipe_toml.is_file() or self.recipe_toml.read_text("utf-8") != text:
            self.write_text(self.recipe_toml, text)

    # -- fingerprints --------------------------------------------------------------------------

    def _state_file(self, step: str) -> Path:
        return self.root / ".state" / f"{step}.json"

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
        found = (self.root / ".state").glob(f"{prefix}*.json")
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
        return self.root / ".state" / f"{step}.sources"

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

    def _read_state(self, step: str) -> dict[str, Any] | None:
        try:
            state = json.loads(self._state_file(step).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        is_whole = isinstance(state, dict) and isinstance(state.get("files"), dict)
        return state if is_whole and "fingerprint" in state else None

    # -- notes ---------------------------------------------------------------------------------

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
        return self.root / ".state" / f"{name}.note"

    def catalogue_read(self, snapshot: int) -> tuple[int, int]:
        """Subhaloes that the sample of a snapshot was chosen from, and those in the catalogue.

        They differ where chunks of the catalogue were missing; 1 and 1 where nothing is known.
        """
        found = self.recalled(f"catalogue-{snapshot:03d}")
        return (1, 1) if found is None else (int(found["read"]), int(found["total"]))

    def mark_catalogue(self, snapshot: int, read: int, total: int) -> None:
        """Record what `catalogue_read` returns."""
        self.remember(f"catalogue-{snapshot:03d}", {"read": read, "total": total})

    # -- log -----------------------------------------------------------------------------------

    def log(self, line: Mapping[str, object]) -> None:
        """Append one line to the run's log in a single write."""
        require_folder(self.root)
        data = (json.dumps(dict(line), allow_nan=False, default=str) + "\n").encode()
        descriptor = os.open(self.run_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
