"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# Without a GPU, Triton's kernels are interpreted on the CPU. Triton reads this once, when it is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

# A busy machine is no failure, and a run of the suite is to be repeatable.
settings.register_profile("suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

ROOT = Path(__file__).resolve().parent.parent


MANY = 100


def pytest_collection_finish(session: pytest.Session) -> None:
    """Many tests need all kernels: two children compile them faster, and as every verb does, than tests would one by one."""
    if len(session.items) < MANY or session.config.option.collectonly or hasattr(session.config, "workerinput"):
        return
    from fieldmorph.kernels import cpu

    cpu.load()
    from fieldmorph.kernels.cpu.children import compile_in_children
    from fieldmorph.kernels.cpu.warm import PARTS, POINTS, TINY

    compile_in_children(TINY, (*PARTS, POINTS))


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real captures (lego, fox, …): $FIELDMORPH_DATA, or ../shared/data beside the checkout. Skips without it."""
    for candidate in (os.environ.get("FIELDMORPH_DATA"), ROOT.parent / "shared" / "data"):
        if candidate and Path(candidate).is_dir():
            return Path(candidate)
    pytest.skip("no real captures here; set FIELDMORPH_DATA to a folder that holds lego/ and fox/")


@pytest.fixture(autouse=True)
def _kernels_of_its_own() -> Iterator[None]:
    """What a test chooses with ``--kernels`` ends with it: the choice belongs to the process, and children begin with auto."""
    yield
    from fieldmorph import kernels

    kernels.set_kernels("auto")


@pytest.fixture(autouse=True)
def _plain_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on the caller's terminal or debug settings, and none leaves the program quiet."""
    from fieldmorph import progress

    for name in ("FIELDMORPH_DEBUG", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    progress.configure()
