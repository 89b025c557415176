"""The command line's contract: flags, exit codes, messages. What other programs rely on."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fieldmorph import progress
from fieldmorph.errors import UserError
from fieldmorph.scripts import cli
from fieldmorph.scripts.options import claim_folder, parse_settings, parse_size, start_folder, write_text

Run = Callable[..., tuple[int, str, str]]

FLAGS = {
    "data make": "--cameras --dynamic --frames --overwrite --quiet --samples --seed --size --test --train --val --verbose",
    "data info": "--cameras --json --quiet --verbose",
    "train": "--background --checkpoint-seconds --checkpoint-steps --compress --device --field --keep --kernels --out --overwrite --quiet "
    "--rate --resume --samples --seconds --seed --set --steps --verbose --view --view-seconds --warm",
    "eval": "--data --device --images --json --kernels --limit --overwrite --quiet --split --verbose",
    "compress": "--data --device --keep --kernels --out --overwrite --quiet --seconds --seed --steps "
    "--target-psnr-drop --target-size --verbose",
    "render": "--background --data --device --fps --frames --kernels --layer --out --overwrite --part --path --quiet --resume --size "
    "--time --verbose",
    "edit": "--bake --clear --device --edits --json --kernels --out --overwrite --quiet --resolution --undo --verbose",
    "info": "--device --family --json --kernels --quiet --verbose",
    "demo": "--device --kernels --out --overwrite --quick --quiet --seconds --seed --verbose",
    "bench": "--against --compare --curves --data --device --family --json --kernels --only --out --plot --quiet --repeats --samples "
    "--seconds --size --soak --verbose --view --views",
}
"""Every flag of every verb. Other programs and people's fingers rely on them: edit on purpose."""


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process: (exit code, stdout, stderr)."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = cli.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def fieldmorph(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fieldmorph", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("verb", FLAGS)
def test_help_lists_every_flag(call: Run, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = call(*verb.split(), "--help")
    assert code == 0
    flags = re.findall(r"^\W{0,3}(?:-\w, )?(--[a-z][a-z-]+)", out, re.MULTILINE)
    assert " ".join(sorted(set(flags) - {"--help"})) == FLAGS[verb]


def test_top_help_names_the_verbs(call: Run) -> None:
    for arguments in ([], ["--help"]):
        code, out, _ = call(*arguments)
        assert code == 0
        for verb in {v.split()[0] for v in FLAGS}:
            assert re.search(rf"^\W*{verb}\b", out, re.MULTILINE), verb


def test_train_help_names_every_family(call: Run) -> None:
    from fieldmorph.representations.registry import families

    _, out, _ = call("train", "--help")
    listed = re.search(r"Family of representation:([\w ,\s│|]+)\.", out)
    assert listed
    assert set(re.findall(r"\w+", listed[1])) == set(families())


def test_version(call: Run) -> None:
    import fieldmorph as package

    assert call("--version") == (0, f"fieldmorph {package.__version__}\n", "")


def test_help_comes_at_once() -> None:
    best = 9.0
    for _ in range(3):  # the machine may be busy with other tests
        start = time.perf_counter()
        assert subprocess.run([sys.executable, "-m", "fieldmorph", "--help"], stdout=subprocess.DEVNULL, timeout=60).returncode == 0
        best = min(best, time.perf_counter() - start)
    assert best < 0.5 * float(os.environ.get("FIELDMORPH_TEST_PATIENCE", "2"))


@pytest.mark.parametrize("shell", cli.SHELLS)
def test_completion(call: Run, shell: str) -> None:
    code, out, _ = call("completion", shell)
    assert code == 0
    assert "checkpoint-seconds" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], ["nonsense"]),
        (["train", "somewhere"], ["--out"]),
        (["train", "somewhere", "--out", "x", "--stepps", "3"], ["--stepps"]),
        (["train", "somewhere", "--out", "x", "--steps", "many"], ["--steps", "many"]),
        (["train", "somewhere", "--out", "x", "--background", "plaid"], ["--background", "plaid"]),
        (["data"], ["make", "info"]),
        (["eval"], ["RUN_OR_FIELD"]),
        (["render", "x"], ["--out"]),
        (["completion", "cmd"], ["bash"]),
    ],
)
def test_usage_errors_exit_2_and_say_what(
    call: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(*arguments)
    assert code == 2
    for word in words:
        assert word in out + err
    assert "Traceback" not in out + err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "no/such/data", "--out", "run"], ["no/such/data"]),
        (["train", "--out", "run"], ["DATA"]),
        (["train", "x", "--out", "run", "--steps", "1", "--seconds", "1"], ["--steps", "--seconds"]),
        (["train", "x", "--out", "run", "--steps", "-1"], ["--steps", "-1"]),
        (["train", "x", "--out", "run", "--seconds", "nan"], ["--seconds", "nan"]),
        (["train", "x", "--out", "run", "--field", "hashgird"], ["hashgird", "hashgrid"]),
        (["train", "x", "--out", "run", "--set", "levls=4"], ["levls", "did you mean 'levels'?"]),
        (["train", "x", "--out", "run", "--set", "levels"], ["KEY=VALUE"]),
        (["train", "x", "--out", "run", "--set", "levels=99"], ["levels=99", "1 to 32"]),
        (["train", "x", "--out", "run", "--set", "levels=few"], ["levels", "whole number"]),
        (["train", "x", "--out", "run", "--kernels", "abacus"], ["abacus"]),
        (["train", "x", "--out", "file"], ["file", "folder"]),
        (["train", "x", "--out", "full"], ["full", "--overwrite", "--resume"]),
        (["eval", "no.field"], ["no.field"]),
        (["eval", "full"], ["full"]),
        (["eval", "x.field", "--json", "no/such/folder/e.json"], ["no/such/folder"]),
        (["eval", "x.field", "--json", "full"], ["--json", "full", "folder"]),
        (["eval", "x.field", "--limit", "0"], ["--limit"]),
        (["render", "no.field", "--out", "pictures"], ["no.field"]),
        (["render", "no.field", "--out", "full"], ["full", "--overwrite"]),
        (["render", "no.field", "--out", "film.avi"], ["film.avi", ".mp4"]),
        (["render", "no.field", "--out", "film.mp4", "--size", "big"], ["--size", "big"]),
        (["info", "no.field"], ["no.field"]),
        (["info", "--family", "vmm"], ["vmm", "vm"]),
        (["data", "info", "nowhere"], ["nowhere"]),
        (["data", "make", "full"], ["full", "--overwrite"]),
        (["data", "make", "scene", "--size", "0"], ["size", "0"]),
        (["data", "make", "scene", "--train", "2000000000"], ["2000000000", "100000"]),
        (["demo", "--out", "full"], ["full", "--overwrite"]),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(
    call: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "theirs").write_text("keep me")
    (tmp_path / "file").write_text("keep me too")
    code, out, err = call(*arguments)
    assert code == 2, (out, err)
    assert err.startswith("fieldmorph: error: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    assert (tmp_path / "full" / "theirs").read_text() == "keep me"
    assert (tmp_path / "file").read_text() == "keep me too"
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")} == {"full", "full/theirs", "file"}


def test_unwritable_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        claim_folder(tmp_path / "file" / "run")


def test_overwrite_removes_only_our_own_files(tmp_path: Path) -> None:
    for name in ("config.yaml", "notes.txt", "checkpoints/step-1/field.field", "a.field"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    claim_folder(tmp_path, overwrite=True)
    from fieldmorph.scripts.train import RUN_FILES

    start_folder(tmp_path, RUN_FILES)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_overwrite_does_not_follow_links(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "precious").touch()
    run = tmp_path / "run"
    run.mkdir()
    (run / "checkpoints").symlink_to(theirs)
    start_folder(run, ["checkpoints"])
    assert (theirs / "precious").exists()
    assert not (run / "checkpoints").exists()


def test_text_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", "{}")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(UserError, match="cannot be written"):
        write_text(tmp_path / "none" / "a.json", "{}")


def test_sizes() -> None:
    assert parse_size("800x600") == (800, 600)
    for wrong in ("800", "0x5", "5x-1", "99999x5", "axb", "5x5x5"):
        with pytest.raises(UserError, match="--size"):
            parse_size(wrong)


def test_settings() -> None:
    from fieldmorph.representations.registry import get_family

    options = get_family("hashgrid").options
    assert parse_settings(["levels=4", "log2-table = 12"], options) == {"levels": "4", "log2_table": "12"}
    with pytest.raises(UserError, match="twice"):
        parse_settings(["levels=4", "levels=5"], options)


class _Verb:
    """A stand-in for a parsed command line."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def run(self) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UserError("a.png: is broken; replace it"), 2, "fieldmorph: error: a.png: is broken; replace it\n"),
        (KeyboardInterrupt(), 130, "fieldmorph: interrupted\n"),
        (OSError(28, "No space left on device", "run/x"), 2, "fieldmorph: error: run/x: No space left on device; free some space"),
        (MemoryError(), 1, "fieldmorph: error: out of memory"),
        (ZeroDivisionError("two\nlines"), 1, "fieldmorph: internal error: ZeroDivisionError: two lines\n"),
    ],
)
def test_exceptions_become_exit_codes(call: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, text: str) -> None:
    monkeypatch.setattr(cli, "parse", lambda arguments: _Verb(error))
    got, out, err = call("anything")
    assert (got, out) == (code, "")
    assert err.startswith(text)
    assert "Traceback" not in err
    if isinstance(error, ZeroDivisionError):
        assert "FIELDMORPH_DEBUG=1" in err


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMORPH_DEBUG", "1")
    monkeypatch.setattr(cli, "parse", lambda arguments: _Verb(UserError("x")))
    with pytest.raises(UserError):
        cli.main(["anything"])


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGPIPE")
def test_a_reader_who_leaves_is_no_error() -> None:
    process = fieldmorph("completion", "bash")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(30) == 141
    process.stderr.close()


def test_info_as_json(call: Run) -> None:
    code, out, _ = call("info", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["libraries"]["torch"] != "not installed"
    assert facts["kernels"]
    assert "hashgrid" in facts["families"]
    code, out, _ = call("info")
    assert code == 0
    assert "kernels:" in out


def test_info_lists_a_familys_options_with_their_meaning(call: Run) -> None:
    from fieldmorph.representations.registry import families

    for name in families():
        code, out, _ = call("info", "--family", name, "--json")
        assert code == 0
        for option, fact in json.loads(out)["options"].items():
            assert fact["meaning"], f"option {option} of {name} has no docstring"
    code, out, _ = call("info", "--family", "hashgrid")
    assert code == 0
    assert "levels" in out


# ------------------------------------------------------------------ progress


def test_bar_prints_plain_lines_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Bar("train", 1.0, "steps", every=0.0) as bar:
        for step in range(1, 5):
            time.sleep(0.01)
            bar.update(step / 4, count=step, loss=0.25, psnr=None)
    out = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"train: 25 %, 1 steps, \d+/s, loss 0.25, ETA .*", out[0])
    assert re.fullmatch(r"train: 4 steps, \d+/s, loss 0.25, in .*", out[-1])
    assert "\x1b" not in "".join(out)


def test_bar_of_a_resumed_run_does_not_count_what_was_done_before(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Bar("train", 1.0, "steps", every=0.0) as bar:
        bar.update(0.5, count=500_000)
        time.sleep(0.02)
        bar.update(0.5 + 1e-6, count=500_001)
    rate = re.search(r"([\d.]+)/s", capsys.readouterr().out)
    assert rate
    assert float(rate[1]) < 60


def test_bar_draws_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", terminal)
    with progress.Bar("eval", 2, "images") as bar:
        time.sleep(0.11)
        bar.advance(psnr=31.5)
        progress.say("in between")
        time.sleep(0.11)
        bar.advance(psnr=32.5)
    text = terminal.getvalue()
    assert "\x1b[" in text
    assert "in between" in text
    assert "eval: 2 images" in text.splitlines()[-1]


def test_quiet_says_nothing_but_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    progress.configure(progress.QUIET)
    progress.say("no")
    progress.detail("no")
    progress.table(("a",), [(1,)])
    with progress.Bar("x", 2, every=0.0) as bar:
        bar.advance()
    progress.warn("yes")
    assert capsys.readouterr() == ("", "warning: yes\n")


def test_messages_can_leave_stdout_to_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    progress.configure(progress.VERBOSE, messages_to_stderr=True)
    progress.say("a")
    progress.detail("b")
    assert capsys.readouterr() == ("", "a\nb\n")


def test_units() -> None:
    assert [progress.format_bytes(n) for n in (12, 1500, 999_999, 3.1e9)] == ["12 B", "1.5 kB", "1.0 MB", "3.1 GB"]
    assert [progress.format_seconds(s) for s in (3.26, 59.99, 75.2, 4000)] == ["3.3 s", "1:00", "1:15", "1:06:40"]


def test_memory_budget() -> None:
    available = progress.available_memory()
    assert available is not None
    assert 1 << 20 < available < 1 << 50
    line = progress.memory_budget({"images": 3.1e9, "field": 2e8})
    assert line.startswith("images 3.1 GB + field 200.0 MB, available ")
