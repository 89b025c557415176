"""Programs that need the same kernels compile them once between them, and outlive each other's death."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

children = pytest.importorskip("fieldmorph.kernels.cpu.children")

STUB = """
import sys, time
with open({log!r}, "a") as log:
    print("began", *sys.argv[1:], file=log, flush=True)
    time.sleep({seconds})
    print("ended", *sys.argv[1:], file=log, flush=True)
"""
"""Stands for a child that compiles: whatever it is asked takes a while."""

CALLER = """
import sys
from fieldmorph.kernels.cpu import children
children.PROGRAM = sys.argv[1]
print("ready", flush=True)
sys.stdin.readline()
failed = children.compile_in_children(sys.argv[2:], ("pictures", "gradients"), lambda text: print(text, flush=True))
print("failed", len(failed), flush=True)
"""


def caller(cache: Path, program: str, *families: str) -> subprocess.Popen[str]:
    """A program that sees to it that ``families`` are compiled, when it is given a line."""
    path = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, "PYTHONPATH": path, "FIELDMORPH_CACHE": str(cache)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process: subprocess.Popen[str] = subprocess.Popen(  # type: ignore[call-overload]
        [sys.executable, "-c", CALLER, program, *families], env=environment, **pipes
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline, f"{text!r} did not happen"
        time.sleep(0.05)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of calls in this process."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.setattr(children, "kernel_cache", lambda: folder)
    return folder


def test_programs_that_start_together_share_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    stub = STUB.format(log=str(log), seconds=1.0)
    programs = [caller(tmp_path / "cache", stub, "vm", "cp") for _ in range(2)]
    for program in programs:
        start(program)
    said = [program.communicate(timeout=60)[0] for program in programs]
    lines = log.read_text().split("\n")
    for part in ("pictures", "gradients"):  # whoever came first may not have had both families
        for family in ("vm", "cp"):
            assert sum(line.startswith(f"began {part}") and family in line.split() for line in lines) == 1, lines
    assert all(text.endswith("failed 0\n") for text in said)
    assert any("waiting for the CPU kernels that another fieldmorph is compiling" in text for text in said)
    (kept,) = (tmp_path / "cache").glob("kernels-*")
    monkeypatch.setattr(children, "kernel_cache", lambda: kept)
    monkeypatch.setattr(children, "PROGRAM", stub)
    assert children.compile_in_children(["vm", "cp"], ("pictures", "gradients"), pytest.fail) == []
    assert log.read_text().split("\n") == lines


def test_work_of_a_program_that_is_killed_is_taken_over(tmp_path: Path) -> None:
    log, second_log = tmp_path / "log", tmp_path / "second log"
    first = caller(tmp_path / "cache", STUB.format(log=str(log), seconds=100.0), "vm")
    second = caller(tmp_path / "cache", STUB.format(log=str(second_log), seconds=0.0), "vm")
    start(first)
    wait_for(log, "began pictures vm")
    start(second)
    assert second.stdout is not None
    assert "waiting" in second.stdout.readline()
    first.kill()
    first.communicate()
    assert second.communicate(timeout=60)[0] == "failed 0\n"
    assert "ended gradients vm" in second_log.read_text()


def test_a_program_that_is_stopped_is_not_waited_for_without_end(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "PATIENCE", 0.3)
    said: list[str] = []
    with children.FileLock(children._file(here, children.Work("vm", "pictures"), "lock")):
        assert children.compile_in_children(["vm"], ("pictures",), said.append) == []
    assert ["waiting" in text or "compiling them here" in text for text in said] == [True, True]


def test_another_installation_has_compiled_nothing_for_this_one(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = children.Work("vm", "pictures")
    children.compiled([work])
    monkeypatch.setattr(children, "PROGRAM", "raise SystemExit(3)")
    assert children.compile_in_children(["vm"], ("pictures",)) == []
    monkeypatch.setattr(children, "_PLACE", "elsewhere")
    assert children.compile_in_children(["vm"], ("pictures",)) == [work]


def test_where_nothing_can_be_locked_the_caller_compiles(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise NotImplementedError("no locks here")

    monkeypatch.setattr(children.FileLock, "acquire", refuse)
    assert children.compile_in_children(["vm"], ("pictures",)) == []


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise ValueError('no\\n  room')", "room"),
        ("import os; os.kill(os.getpid(), 9)", "ended by signal 9"),
        ("raise SystemExit(3)", "exit code 3"),
    ],
)
def test_what_a_child_fails_at_is_said_once(here: Path, monkeypatch: pytest.MonkeyPatch, program: str, reason: str) -> None:
    """And not tried again: the caller compiles it."""
    if "signal" in reason and sys.platform == "win32":
        pytest.skip("no signals")
    monkeypatch.setattr(children, "PROGRAM", program)
    said: list[str] = []
    failed = children.compile_in_children(["vm", "cp"], ("pictures",), said.append)
    assert [(work.family, work.part) for work in failed] == [("vm", "pictures"), ("cp", "pictures")]
    (sentence,) = said
    assert "pictures of vm, cp" in sentence
    assert reason in sentence
    assert "\n" not in sentence
    children.compiled(failed)
    assert children.compile_in_children(["vm", "cp"], ("pictures",), said.append) == []
    assert len(said) == 1
    assert not list(here.glob("tmp*"))


class TestAnnouncements:
    """What is compiled without a warm-up (a rare composition, an edited scene) is said, once, and only where it takes time."""

    @pytest.fixture
    def heard(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        from fieldmorph import progress
        from fieldmorph.kernels.cpu import announce

        said: list[str] = []
        monkeypatch.setattr(announce, "QUIET", 0.2)
        monkeypatch.setattr(progress, "say", lambda text, aside=False: said.append(text))
        return said

    @staticmethod
    def compile(announcer: object, seconds: float, module: str = "fieldmorph.kernels.cpu.drive") -> None:
        """As Numba compiles a kernel, and within it what it calls."""

        def compiled() -> None: ...

        compiled.__module__ = module
        event = SimpleNamespace(data={"dispatcher": SimpleNamespace(py_func=compiled)})
        for _ in range(2):
            announcer.on_start(event)  # type: ignore[attr-defined]
        time.sleep(seconds)
        for _ in range(2):
            announcer.on_end(event)  # type: ignore[attr-defined]

    def test_once_where_it_takes_time(self, heard: list[str]) -> None:
        from fieldmorph.kernels.cpu import announce

        announcer = announce.Announcer()
        self.compile(announcer, 0.0)
        assert heard == []
        for _ in range(2):
            self.compile(announcer, 0.6)
        (sentence,) = heard
        assert sentence.startswith("compiling CPU kernels")

    def test_others_functions_and_warm_ups_are_not_announced(self, heard: list[str]) -> None:
        from fieldmorph.kernels.cpu import announce

        announcer = announce.Announcer()
        self.compile(announcer, 0.5, module="their.kernels")
        with announce.prepared():
            self.compile(announcer, 0.5)
        assert heard == []

    def test_numba_tells(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from fieldmorph.kernels.cpu import announce, jit

        begun: list[str] = []
        monkeypatch.setattr(announce.Announcer, "on_start", lambda self, event: begun.append(event.data["dispatcher"].__name__))
        monkeypatch.setattr(announce.Announcer, "on_end", lambda self, event: None)

        @jit.device
        def never_compiled_before(x):  # type: ignore[no-untyped-def]
            return x + 1

        assert never_compiled_before(1) == 2
        assert "never_compiled_before" in begun
