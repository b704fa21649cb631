"""The house holds: imports point one way."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

import sfr

ROOT = Path(sfr.__path__[0])
LEAVES = {
    "errors",
    "arrays",
    "pictures",
    "hdf5",
    "paths",
    "units",
    "recipe",
    "target",
    "run",
    "progress",
    "compute",
    "nn",
    "plot",
}
STEPS = {
    "simulation": set(),
    "sample": {"simulation"},
    "render": {"simulation"},
    "imaging": set(),
    "train": {"imaging"},
    "semantic": set(),
    "report": {"train", "imaging"},
}
LEAF_IMPORTS = {
    "errors": set(),
    "arrays": {"errors"},
    "hdf5": {"errors"},
    "paths": {"errors"},
    "units": {"arrays"},
    "progress": set(),
    "recipe": {"errors", "paths"},
    "target": {"errors", "recipe", "run"},
    "run": {"compute", "errors", "hdf5", "paths", "progress", "recipe"},
    "compute": {"errors"},
    "pictures": {"errors"},
    "nn": {"errors", "hdf5", "recipe"},
    "plot": {"errors", "recipe"},
}
#: From top to bottom: what stands in a row imports rows below it, and within a row only what the
#: tables above allow.
ORDER = (
    {"cli"},
    {"pipeline"},
    set(STEPS),
    {"nn", "plot", "target"},
    {"run"},
    {"compute", "recipe"},
    {"errors", "units", "progress", "arrays", "hdf5", "paths", "pictures"},
)


def imports(path: Path, *, whole: bool = False) -> set[str]:
    """Modules below ``sfr`` and top-level packages that a file imports, wherever it does.

    With ``whole`` modules, too, that only some names are imported of.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {node.module} if whole else set()
    return found


def rooms(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("sfr.")}


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("room", STEPS)
def test_a_step_imports_only_leaves_and_the_steps_it_may(room):
    for path in (ROOT / room).rglob("*.py"):
        allowed = LEAVES | STEPS[room] | {room, "__version__"}
        if path.name == "kernels.py":
            allowed |= {"_core"}
        assert rooms(path) <= allowed, path


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_leaves_import_leaves_only(leaf):
    paths = [*ROOT.glob(f"{leaf}.py"), *(ROOT / leaf).rglob("*.py")]
    assert paths
    for path in paths:
        allowed = LEAF_IMPORTS[leaf] | {leaf}
        assert rooms(path) <= allowed, path


def test_imports_point_one_way():
    row_of = {room: row for row, rooms_there in enumerate(ORDER) for room in rooms_there}
    assert set(row_of) == LEAVES | set(STEPS) | {"cli", "pipeline"}
    for path in FILES:
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if room.startswith("__"):
            continue
        for other in rooms(path) - {room, "__version__", "_core"}:
            may = STEPS.get(room, set()) | LEAF_IMPORTS.get(room, set())
            is_beside = row_of[room] == row_of[other] and other in may
            assert row_of[room] < row_of[other] or is_beside, f"{path}: {other}"


def test_no_module_needs_itself_through_others():
    """Nor by an import inside a function or for a type: a run knew its steps, and they the run."""
    names = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path for path in FILES}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    needs = {
        name: {
            other
            for other in imports(path, whole=True) & names.keys()
            # a package is there before its modules
            if not f"{name}.".startswith(f"{other}.")
        }
        for name, path in names.items()
    }
    assert list(graphlib.TopologicalSorter(needs).static_order())


def test_paths_of_a_run_are_built_in_its_room():
    folders = r"\"\.(state|tmp)\"|/ \"(maps|images|features|train|semantic)\""
    for path in FILES:
        is_ours = path.parent.name == "run"
        assert is_ours or not re.search(folders, path.read_text("utf-8")), path


def test_who_works_is_chosen_in_the_pipeline_and_the_steps_know_tasks_only():
    for path in FILES:
        used = {i.split(".")[2] for i in imports(path) if i.startswith("sfr.compute.")}
        if path.parent.name not in {"pipeline", "compute"}:
            assert used <= {"tasks"}, path


def test_only_the_command_line_knows_what_a_terminal_is():
    for path in FILES:
        names = {name.split(".")[0] for name in imports(path)}
        assert not names & {"typer", "click", "rich"} or path.parent.name == "cli", path


def test_the_report_reads_evaluations_and_nothing_else_of_training():
    names = {i for path in (ROOT / "report").rglob("*.py") for i in imports(path)}
    used = {i.split(".")[2] for i in names if i.startswith("sfr.train.")}
    assert used <= {"evaluate", "standing"}


def test_commands_are_plain_functions_of_one_table():
    for path in (ROOT / "cli").glob("*.py"):
        assert path.name == "__init__.py" or ".command(" not in path.read_text("utf-8"), path


def test_only_one_module_imports_the_compiled_one():
    importers = {p.name for p in FILES if any(i.startswith("sfr._core") for i in imports(p))}
    assert importers == {"kernels.py"}


def test_matplotlib_is_imported_in_one_place():
    for path in FILES:
        names = {name.split(".")[0] for name in imports(path)}
        assert "matplotlib" not in names or path.name == "matplotlib_import.py", path


def test_keras_has_one_door_and_no_backend_is_imported_anywhere():
    for path in FILES:
        names = {name.split(".")[0] for name in imports(path)}
        assert not names & {"keras", "tensorflow", "torch", "jax"}, path
    importers = {p for p in FILES if 'import_module("keras")' in p.read_text("utf-8")}
    assert importers == {ROOT / "nn" / "keras_import.py"}


def test_nobody_prints():
    for path in FILES:
        calls = [n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call)]
        assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"], path
