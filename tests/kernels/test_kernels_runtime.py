"""How the compiled kernels behave in a program: threads, cancelling, caches, choice of implementation."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from kernel_cases import LOWER, UPPER, grid_field, leaves, random_bits, rays, tensors

from fieldmorph import kernels
from fieldmorph.errors import UserError
from fieldmorph.kernels import reference
from fieldmorph.kernels.lowered import LayeredEncoding

cpu = pytest.importorskip("fieldmorph.kernels.cpu")

EDGES = torch.arange(121) * (3.5 / 120)
BITS = random_bits((12, 12, 12))


def render(lowered, count: int = 700, **more):  # type: ignore[no-untyped-def]
    origins, view = rays(count)
    near, far = reference.box_range(origins, view, LOWER, UPPER)
    return cpu.render_rays(lowered, BITS, origins, view, near, far, torch.full((count,), 0.5), EDGES, 1.0, 1e-3, **more)


def train(threads: int) -> list[torch.Tensor]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        field = leaves(grid_field())
        states = [(torch.zeros_like(t), torch.zeros_like(t)) for t in tensors(field)]
        for step in range(1, 4):
            with kernels.gradients_in_place():
                out = render(field)
            torch.autograd.backward([out.rgb, out.depth], [torch.full_like(out.rgb, 0.01), torch.full_like(out.depth, -0.002)])
            with torch.no_grad():
                for t, (m, v) in zip(tensors(field), states, strict=True):
                    cpu.adam_(t, t.grad, m, v, step, 0.01, sparse=t is tensors(field)[0], clear=True)
        return [t.detach().clone() for t in tensors(field)]
    finally:
        torch.set_num_threads(before)


def test_training_is_bit_identical_for_any_number_of_threads() -> None:
    one = train(1)
    for threads in (2, 3, 5):
        for a, b in zip(one, train(threads), strict=True):
            assert torch.equal(a, b), threads


def test_trainer_and_viewer_at_the_same_time() -> None:
    """Two threads call kernels at once; neither changes the other's results."""
    field, still = leaves(grid_field()), grid_field(seed=7)
    with torch.no_grad():
        expected = render(still)
    wanted = torch.autograd.grad(render(field).rgb.sum(), tensors(field))
    errors: list[str] = []

    def view() -> None:
        with torch.no_grad():
            if not all(torch.equal(render(still).rgb, expected.rgb) for _ in range(15)):
                errors.append("the viewer's picture changed")

    def learn() -> None:
        for _ in range(15):
            found = torch.autograd.grad(render(field).rgb.sum(), tensors(field))
            if not all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True)):
                errors.append("the trainer's gradient changed")

    threads = [threading.Thread(target=work) for work in (view, learn, view)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert errors == []


def test_cancelling_stops_soon() -> None:
    lowered, flag = grid_field(), cpu.CancelFlag()
    with torch.no_grad():
        render(lowered)  # compiled before the clock runs
        seconds: list[float] = []

        def work() -> None:
            try:
                for _ in range(1000):
                    render(lowered, 20000, cancel=flag)
            except cpu.Cancelled:
                seconds.append(time.perf_counter())

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.2)
        flag.set()
        begin = time.perf_counter()
        thread.join(timeout=30)
        assert seconds
        assert seconds[0] - begin < 0.5  # the promise is 50 ms; a busy machine gets ten times that
        flag.clear()
        render(lowered, cancel=flag)


def test_the_warm_up_takes_fields_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its family where that is known; else, as for an edited scene, by what its picture needs."""
    from fieldmorph.kernels.cpu import warm

    asked: list[str] = []
    monkeypatch.setattr(warm, "compile_for", lambda lowered, parts: asked.append(type(lowered.encoding).__name__))
    monkeypatch.setattr(warm, "compile_in_children", lambda families, parts, tell: asked.append(f"children: {' '.join(families)}") or [])
    monkeypatch.setattr(warm, "compile_look", lambda lowered: asked.append(f"look at {type(lowered.encoding).__name__}"))
    field = grid_field()
    layered = replace(field, encoding=LayeredEncoding(((field, torch.ones(1, 1, 1, dtype=torch.bool)),), ()))
    warm.warm_up(["vm", "no such family", field, layered], background=False)
    assert asked == ["children: vm hashgrid", "VMEncoding", "GridEncoding", "look at LayeredEncoding"]


def test_the_warm_up_of_a_rare_composition_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its branches decide which kernels it needs, not its family."""
    from fieldmorph.kernels.cpu import warm

    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        warm, "compile_for", lambda lowered, parts: asked.append(tuple(type(b).__name__ for b, _ in lowered.encoding.branches))
    )
    monkeypatch.setattr(warm, "compile_in_children", lambda families, parts, tell: asked.append(tuple(families)) or [])
    rare = warm.tiny_hybrid((warm.CPEncoding, warm.CPEncoding, warm.GridEncoding))
    cpu.warm_up([warm.tiny_hybrid(), rare], background=False)
    assert asked == [("hybrid",), ("GridEncoding", "VMEncoding"), ("CPEncoding", "CPEncoding", "GridEncoding")]


def test_children_end_with_their_parent(tmp_path: Path) -> None:
    """Also with one that is killed; and they load nothing from the current folder."""
    from fieldmorph.kernels.cpu import children

    (tmp_path / "numba.py").write_text("raise SystemExit(7)\n")
    program = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-P', '-c', {children.PROGRAM!r}, 'pictures', 'hybrid'], stdin=subprocess.PIPE)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(100)\n"
    )
    environment = {**os.environ, "FIELDMORPH_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-P", "-c", program]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(4.0)
        os.kill(pid, 0)  # compiling still
        parent.kill()
    deadline = time.monotonic() + 60

    def alive() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        state = Path(f"/proc/{pid}/stat")
        return not (state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z")

    while alive():
        assert time.monotonic() < deadline, "the child goes on without its parent"
        time.sleep(0.1)


def test_a_distillation_compiles_nothing_more(tmp_path: Path) -> None:
    """After its warm-up, answers at points with gradients come from the cache."""
    program = (
        "import torch\n"
        "from fieldmorph.kernels import cpu, gradients_in_place\n"
        "from fieldmorph.kernels.cpu import points, warm\n"
        "cpu.warm_up(['voxels'], background=False, points=True)\n"
        "field = warm.tiny_voxels()\n"
        "field.encoding.density.requires_grad_()\n"
        "cpu.evaluate(field, torch.zeros(1, 3), torch.tensor([[0.0, 0.0, 1.0]])).rgb.sum().backward()\n"
        "print(sum(points.points_backward.stats.cache_misses.values()), len(points.points_backward.stats.cache_hits))\n"
    )
    environment = {**os.environ, "FIELDMORPH_CACHE": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert found.stdout.split() == ["0", "1"], found.stderr


class TestChoice:
    def test_names(self) -> None:
        before = kernels.chosen()
        try:
            kernels.set_kernels("reference")
            assert kernels.ops("cpu") is reference
            assert "reference" in kernels.explain("cpu")[0]
            kernels.set_kernels("cpu")
            assert kernels.ops("cpu") is cpu
            with pytest.raises(UserError, match="unknown kernels 'gpu'"):
                kernels.set_kernels("gpu")
        finally:
            kernels.set_kernels(before)

    def test_without_numba_the_reference_answers_and_says_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from fieldmorph.kernels import dispatch

        monkeypatch.setattr(dispatch, "_why_no_cpu", lambda: "numba is not installed")
        assert kernels.ops("cpu") is reference
        assert any("numba is not installed" in line for line in kernels.explain("cpu"))
        with pytest.raises(UserError, match="numba is not installed"):
            kernels.set_kernels("cpu")

    def test_every_reference_operation_exists(self) -> None:
        for name in reference.__all__:
            assert hasattr(cpu, name), name


# A process that runs one small kernel and prints where it is kept.
SMALL = """
import warnings, torch
from fieldmorph.kernels.cpu.cache import kernel_cache
from fieldmorph.kernels import cpu
near, far = cpu.box_range(torch.tensor([[0., 0., -3.]]), torch.tensor([[0., 0., 1.]]), (-1., -1., -1.), (1., 1., 1.))
assert float(near) == 2.0 and float(far) == 4.0
print(kernel_cache())
"""


def small_process(**environment: str) -> subprocess.Popen[str]:
    # The package may be on the path only because pytest was started with it there.
    path = os.pathsep.join(p for p in sys.path if p)
    return subprocess.Popen(
        [sys.executable, "-c", SMALL],
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    return out.strip(), err


def test_four_processes_fill_one_cache_at_once(tmp_path: Path) -> None:
    processes = [small_process(FIELDMORPH_CACHE=str(tmp_path / "cache")) for _ in range(4)]
    folders = {finished(process)[0] for process in processes}
    assert len(folders) == 1
    kept = list(Path(folders.pop()).rglob("*.nbc"))
    assert kept
    stamps = [path.stat().st_mtime_ns for path in kept]
    finished(small_process(FIELDMORPH_CACHE=str(tmp_path / "cache")))
    assert [path.stat().st_mtime_ns for path in kept] == stamps, "a warm cache was compiled again"


def test_an_unwritable_cache_is_replaced_by_a_temporary_one(tmp_path: Path) -> None:
    """A file stands where the cache folder should be, as good as a read-only home (which root could still write to)."""
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    (tmp_path / "temporary").mkdir()
    out, _ = finished(small_process(FIELDMORPH_CACHE=str(blocked), TMPDIR=str(tmp_path / "temporary")))
    assert out.startswith(str(tmp_path / "temporary"))


def test_nowhere_to_write_warns_once_and_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fieldmorph.kernels.cpu import cache

    blocked = tmp_path / "blocked"
    blocked.write_text("")
    monkeypatch.setenv(cache.ENVIRONMENT, str(blocked))
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(blocked))
    with pytest.warns(RuntimeWarning, match="cannot be kept"):
        assert cache.kernel_cache.__wrapped__() is None


def test_importing_the_package_imports_no_numba() -> None:
    code = "import sys; from fieldmorph import kernels; import fieldmorph.kernels.cpu; kernels.explain('cpu')"
    code += "; sys.exit('numba' in sys.modules)"
    path = os.pathsep.join(p for p in sys.path if p)
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=True, timeout=120)
