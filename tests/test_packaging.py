"""The wheel holds fieldmorph.* and nothing else, and what it holds works where it is installed."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import fieldmorph

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Declared for modules that are being written; a library leaves this set with the first module that imports it.
COMING: set[str] = set()
NOT_SHIPPED = {"tests", "docs", "build", "dist"}


def packages_in_tree() -> set[str]:
    found = {"fieldmorph"}
    for init in ROOT.rglob("__init__.py"):
        parts = init.relative_to(ROOT).parent.parts
        if parts and parts[0] not in NOT_SHIPPED and not any(p.startswith(".") for p in parts):
            found.add(".".join(("fieldmorph", *parts)))
    return found


def test_every_package_is_shipped() -> None:
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert set(listed) == packages_in_tree(), "pyproject.toml's packages and the tree differ"
    assert listed == sorted(listed)


def test_folders_of_modules_are_packages() -> None:
    for folder in {f.parent for name in packages_in_tree() for f in ROOT.joinpath(*name.split(".")[1:]).glob("*.py")}:
        assert (folder / "__init__.py").exists(), folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy under another name: a build folder in the checkout could hide what is missing."""
    pytest.importorskip("build")
    copy = tmp_path_factory.mktemp("build") / "any name"
    skip = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "results", "demo", "runs")
    shutil.copytree(ROOT, copy, ignore=skip)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(copy / "dist"), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (copy / "dist").glob("*.whl")
    return built


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    assert re.fullmatch(rf"fieldmorph-{re.escape(fieldmorph.__version__)}-py3-none-any\.whl", wheel.name)
    names = zipfile.ZipFile(wheel).namelist()
    info = f"fieldmorph-{fieldmorph.__version__}.dist-info"
    expected = {"fieldmorph/py.typed"}
    for package in PROJECT["tool"]["setuptools"]["packages"]:
        folder = ROOT.joinpath(*package.split(".")[1:])
        expected |= {f"{package.replace('.', '/')}/{f.name}" for f in folder.glob("*.py")}
    assert {n for n in names if not n.startswith(f"{info}/")} == expected
    assert f"{info}/licenses/LICENSE" in names


def test_metadata(wheel: Path) -> None:
    text = zipfile.ZipFile(wheel).read(f"fieldmorph-{fieldmorph.__version__}.dist-info/METADATA").decode()
    assert "Requires-Python: >=3.11\n" in text
    assert "License-Expression: Apache-2.0\n" in text
    for extra in ("viewer", "export", "cluster", "dev"):
        assert f"Provides-Extra: {extra}\n" in text


def test_installed_wheel_runs_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*install, "--target", str(target), str(wheel)], check=True, capture_output=True)
    env = {**os.environ, "PYTHONPATH": str(target)}

    def call(*arguments: str) -> str:
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert call("-c", "import fieldmorph; print(fieldmorph.__file__)").startswith(str(target))
    assert call("-m", "fieldmorph", "--version") == f"fieldmorph {fieldmorph.__version__}\n"
    assert "train" in call(str(target / "bin" / "fieldmorph"), "--help")


@pytest.mark.slow
def test_demo_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    """In a virtual environment that sees this one's libraries but not its editable fieldmorph; kernels compile anew there."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (site,) = [*venv.glob("lib/python*/site-packages"), *venv.glob("Lib/site-packages")]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*install, "--target", str(site), str(wheel)], check=True, capture_output=True)
    # Folders named in a .pth file are searched, but .pth files in them, such as the editable install's, are not read.
    (site / "libraries.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")))
    python = venv / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def call(*arguments: str) -> str:
        done = subprocess.run([str(python), *arguments], capture_output=True, text=True, cwd=tmp_path, env=env, timeout=400)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert call("-c", "import fieldmorph; print(fieldmorph.__file__)").startswith(str(site))
    call("-m", "fieldmorph", "demo", "--quick")
    assert (tmp_path / "demo" / "turntable.mp4").exists()


def test_constraints_pin_every_dependency() -> None:
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    assert not [version for version in pins.values() if "+" in version], "a local version cannot be had from a registry"
    wanted = [*PROJECT["project"]["dependencies"], *(d for extra in PROJECT["project"]["optional-dependencies"].values() for d in extra)]
    for requirement in wanted:
        name = re.match(r"[\w.-]+", requirement)
        assert name is not None
        if name[0].lower() != "setuptools":
            assert name[0].lower().replace("_", "-") in pins, f"{name[0]} has no exact version in constraints.txt"


def test_metadata_of_the_installed_package_is_this_one() -> None:
    assert metadata.version("fieldmorph") == fieldmorph.__version__


def test_no_registry_host_and_no_machine_path_is_named() -> None:
    words = re.compile(r"pypi\.|pythonhosted|download\.pytorch|deb\.debian|registry\.npm|/work/|/home/\w|/root/")
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    for name in tracked.stdout.splitlines():
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ""} and path.is_file() and path != Path(__file__).resolve():
            found = words.search(path.read_text(errors="replace"))
            assert found is None, f"{name} names {found[0] if found else ''}"


def test_what_is_imported_is_declared() -> None:
    """Every library the shipped code imports is a dependency, or belongs to an extra and is imported where it is used."""
    names = {"yaml": "pyyaml", "PIL": "pillow", "skimage": "scikit-image", "llvmlite": "numba"}
    needed = {r for requirement in PROJECT["project"]["dependencies"] for r in re.findall(r"^[\w.-]+", requirement)}
    optional = {r for extra in PROJECT["project"]["optional-dependencies"].values() for d in extra for r in re.findall(r"^[\w.-]+", d)}
    optional |= {"triton", "tinycudann", "lpips"}  # come with PyTorch, or are used where they happen to be installed
    used: set[str] = set()
    for package in PROJECT["tool"]["setuptools"]["packages"]:
        for path in ROOT.joinpath(*package.split(".")[1:]).glob("*.py"):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    modules = [node.module or ""]
                for module in modules:
                    library = names.get(module.split(".")[0], module.split(".")[0])
                    if library in sys.stdlib_module_names:
                        continue
                    used.add(library)
                    assert library in needed or library in optional, f"{path.relative_to(ROOT)}:{node.lineno} imports {library}"
                    # Modules of Triton kernels are imported by kernels.cuda.load() alone.
                    lazy = library == "triton" and path.parent == ROOT / "kernels" / "cuda"
                    assert library in needed or node not in tree.body or lazy, (
                        f"{path.relative_to(ROOT)}:{node.lineno} imports {library} at the top"
                    )
    assert not needed - used - {"av", "tensorboard"} - COMING, (
        "declared, but neither imported nor what imageio and torch.utils.tensorboard import"
    )
