"""The house stands: imports point down the floors, cost nothing before they are needed, and keep off other floors' business."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import fieldmorph

FLOORS = {
    "scripts": 6,
    "viewer": 5,
    "distill": 4,
    "compress": 4,
    "training": 3,
    "render": 2,
    "representations": 1,
    "kernels": 0,
}
BESIDE = {"datasets": 2.5, "benchmarks": 5.5}
"""datasets/ may use render/ and below, and training/ and above may use it; benchmarks measure the floors below the command line."""
COMMON = {"errors", "progress"}
"""Every floor may use these; they use nothing of ours."""
TOP = {"__init__", "__main__"}

ROOT = Path(__file__).resolve().parent.parent


def sources() -> list[Path]:
    folders = [p for p in ROOT.iterdir() if p.is_dir() and p.name in FLOORS | BESIDE]
    return sorted([*ROOT.glob("*.py"), *(f for folder in folders for f in folder.rglob("*.py"))])


def imported(path: Path) -> list[tuple[int, str]]:
    """(line, module of ours) for every import anywhere in a file, lazy ones and those for type checkers included."""
    package = list(path.relative_to(ROOT).parent.parts)
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - (node.level - 1)]
            assert len(package) >= node.level - 1, f"{path}:{node.lineno} climbs out of the package"
            if node.module:
                found.append((node.lineno, ".".join([*base, node.module])))
            else:
                found += [(node.lineno, ".".join([*base, alias.name])) for alias in node.names]
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for name in names:
                assert name.split(".")[0] != "fieldmorph", f"{path}:{node.lineno}: imports inside the package are relative"
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down_the_floors(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    heights = FLOORS | BESIDE
    for line, module in imported(path):
        target = module.split(".")[0]
        if target in COMMON or target == room or room in TOP:
            assert room not in COMMON or target == room, f"{path.name}:{line} imports {module}; errors and progress import nothing of ours"
            continue
        if target not in heights:
            assert room == "scripts" and target == "__version__", f"{path.name}:{line} imports {module}, which is no floor"
            continue
        assert room in heights, f"{path.name}:{line} imports {module}"
        assert heights[target] < heights[room], f"{path.relative_to(ROOT)}:{line} imports {module}: that is not down the floors"


def test_every_folder_of_code_has_a_floor() -> None:
    rooms = {p.parent.name for p in ROOT.glob("*/__init__.py")}
    assert rooms <= set(FLOORS) | set(BESIDE), "a new top-level package needs its floor in this test and in docs/architecture.md"


def test_no_function_is_named_like_a_folder() -> None:
    rooms = set(FLOORS) | set(BESIDE)
    assert not rooms & set(fieldmorph.__all__)
    for path in sources():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                assert node.name not in rooms, f"{path.relative_to(ROOT)}:{node.lineno}"


def test_only_cuda_kernels_insist_on_cuda() -> None:
    for path in sources():
        if path.relative_to(ROOT).parts[:2] == ("kernels", "cuda"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "cuda":
                pytest.fail(f"{path.relative_to(ROOT)}:{node.lineno} calls .cuda(); use .to(device)")


def test_public_names_exist() -> None:
    for name in fieldmorph.__all__:
        assert getattr(fieldmorph, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = fieldmorph.nonsense
    for module in pkgutil.walk_packages(fieldmorph.__path__, "fieldmorph."):
        if module.name.split(".")[1] in FLOORS | BESIDE and module.ispkg:
            package = importlib.import_module(module.name)
            for name in getattr(package, "__all__", ()):
                assert hasattr(package, name), f"{module.name}.__all__ names {name}, which it does not have"


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": ""})
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


HEAVY = {"numba", "llvmlite", "dearpygui", "open3d", "triton", "ray", "av", "tensorboard", "skimage", "scipy", "matplotlib"}


def test_importing_the_package_is_cheap() -> None:
    assert not modules_after("import fieldmorph") & (HEAVY | {"torch", "numpy", "rich", "tyro"})


def test_importing_every_floor_leaves_compilers_and_windows_alone() -> None:
    statement = "\n".join(
        f"import fieldmorph.{p.relative_to(ROOT).parent.as_posix().replace('/', '.')}"
        for p in sorted(ROOT.glob("*/__init__.py"))
        if p.parent.name in FLOORS or p.parent.name == "datasets"
    )
    statement += "\nfrom fieldmorph import *"
    # torch itself may look for triton; what matters is that none of ours imports it.
    loaded = modules_after(statement) & (HEAVY - {"triton"})
    assert not loaded


def test_help_needs_no_torch() -> None:
    loaded = modules_after("from fieldmorph.scripts.cli import main\nassert main(['train', '--help']) == 0")
    assert "torch" not in loaded
    assert "numpy" not in loaded
