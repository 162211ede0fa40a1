"""The house keeps its shape: floors, walls and sizes. Fix the code, not this file."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from agent.settings import ROOT

FLOORS = {"recipes": 0, "record": 0, "lab": 1, "tools": 2, "agent": 3, "ui": 4, "app": 5}
WALLS = {  # a library -> where it may be imported
    "gradio": ("ui/", "app.py"),
    "smolagents": ("tools/", "agent/"),
    "litellm": ("agent/brain.py",),
}
ONLY_IN_FUNCTIONS = {"torch", "trl", "transformers", "peft", "datasets"}  # and only in recipes/
ENVIRONMENT = ("agent/settings.py", "recipes/")
BOUNDARIES = {"agent/researcher.py": 1, "agent/session.py": 1, "lab/supervisor.py": 1, "recipes/job.py": 1}
LONGEST_FILE, LONGEST_FUNCTION, LONGEST_TOOL = 400, 60, 120
HEAVY = ("torch", "trl", "transformers", "litellm", "gradio", "datasets", "trackio")


def _files() -> list[Path]:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [Path(name) for name in sorted(set(names)) if (ROOT / name).is_file()]


PRODUCT = [path for path in _files() if path.parts[0].removesuffix(".py") in FLOORS]
EVERYTHING = _files()


def _tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def _imports(tree: ast.AST) -> list[tuple[str, ast.stmt]]:
    """(module, statement) of every import, those inside functions and under TYPE_CHECKING included."""
    found: list[tuple[str, ast.stmt]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name their room"
            found.append((node.module or "", node))
    return found


def _room(name: str) -> str:
    return name.split(".")[0]


@pytest.mark.parametrize("path", PRODUCT, ids=str)
def test_imports_point_down(path: Path):
    here = path.parts[0].removesuffix(".py")
    for module, node in _imports(_tree(path)):
        if (there := _room(module)) in FLOORS and there != here:
            assert FLOORS[there] < FLOORS[here], f"{path}:{node.lineno} imports {module}"
        assert here == "tests" or there not in ("tests", "benchmarks"), f"{path}:{node.lineno} imports {module}"


@pytest.mark.parametrize("path", PRODUCT, ids=str)
def test_libraries_stay_behind_their_walls(path: Path):
    tree, name = _tree(path), str(path)
    typed = {n for node in ast.walk(tree) if _is_type_checking(node) for n in ast.walk(node)}
    inside = {n for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for n in ast.walk(node)}
    for module, node in _imports(tree):
        library = _room(module)
        if library in WALLS:
            assert name.startswith(WALLS[library]), f"{name}:{node.lineno} imports {library}"
        if library in ONLY_IN_FUNCTIONS:
            assert name.startswith("recipes/"), f"{name}:{node.lineno} imports {library}"
            assert node in inside or node in typed, f"{name}:{node.lineno} imports {library} at the top"


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@pytest.mark.parametrize("path", PRODUCT, ids=str)
def test_one_reader_of_the_environment(path: Path):
    if str(path).startswith(ENVIRONMENT):
        return
    uses = [n.lineno for n in ast.walk(_tree(path)) if isinstance(n, ast.Attribute) and n.attr in ("environ", "getenv")]
    assert not uses, f"{path} reads the environment in lines {uses}"


@pytest.mark.parametrize("path", PRODUCT, ids=str)
def test_files_and_functions_stay_small(path: Path):
    lines = (ROOT / path).read_text().count("\n")
    assert lines <= (LONGEST_TOOL if path.parts[0] == "tools" else LONGEST_FILE), f"{path} has {lines} lines"
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{path}:{node.lineno} {node.name} has {length} lines"


def test_broad_excepts_stand_at_the_boundaries_only():
    found: dict[str, int] = {}
    for path in PRODUCT:
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.ExceptHandler) and _is_broad(node):
                found[str(path)] = found.get(str(path), 0) + 1
    assert found == {name: n for name, n in BOUNDARIES.items() if name in found}


def _is_broad(node: ast.ExceptHandler) -> bool:
    caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    names = {c.id for c in caught if isinstance(c, ast.Name)}
    return node.type is None or bool(names & {"Exception", "BaseException"})


def test_tests_use_no_mock_library():
    for path in EVERYTHING:
        assert not [m for m, _ in _imports(_tree(path)) if "mock" in m.split(".")], path


def test_start_up_imports_nothing_heavy():
    modules = "record.report, record.log, lab.lab, lab.supervisor, lab.backends.local, agent.sessions, agent.__main__, agent.session"
    code = f"import {modules}, sys; print([m for m in {HEAVY} if m in sys.modules])"
    asked = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == "[]"
    code = f"import lab.backends.runner, sys; print([m for m in ('pydantic', *{HEAVY}) if m in sys.modules])"
    asked = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == "[]", "the runner stands beside every trainer: it stays small"
