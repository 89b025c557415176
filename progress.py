"""What the program says while it works: messages, tables, progress bars, and the memory budget.

On a terminal bars are drawn in place; anywhere else they become a plain line every few
seconds, so that a log stays readable.  Nothing here imports anything of the package.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

QUIET, NORMAL, VERBOSE = 0, 1, 2

_verbosity = NORMAL
_to_stderr = False
_bar: Bar | None = None


def configure(verbosity: int = NORMAL, *, messages_to_stderr: bool = False) -> None:
    """How much to say, and where: a verb that prints data on stdout sends its messages to stderr."""
    global _verbosity, _to_stderr
    _verbosity, _to_stderr = verbosity, messages_to_stderr


def verbosity() -> int:
    return _verbosity


def _stream() -> IO[str]:
    return sys.stderr if _to_stderr else sys.stdout


def _is_terminal(stream: IO[str]) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _console(stream: IO[str]) -> Console:
    from rich.console import Console

    # Off a terminal rich would fold lines at 80 columns; a log's reader folds them himself.
    return Console(file=stream, highlight=False, markup=False, emoji=False, width=None if _is_terminal(stream) else 200)


def _write(stream: IO[str], text: str) -> None:
    if _bar is not None and _bar.live is not None:
        _bar.live.console.print(text, soft_wrap=True)
    else:
        stream.write(text + "\n")
        stream.flush()


def say(text: str, *, aside: bool = False) -> None:
    """A message; silent with --quiet. ``aside``: on stderr, for what may come in the middle of anything, also of a caller's own output."""
    if _verbosity >= NORMAL:
        _write(sys.stderr if aside else _stream(), text)


def detail(text: str) -> None:
    """A message for --verbose only."""
    if _verbosity >= VERBOSE:
        _write(_stream(), text)


def warn(text: str) -> None:
    """A warning, on stderr; also with --quiet."""
    _write(sys.stderr, f"warning: {text}")


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """A table of values; columns of numbers are aligned to the right. Silent with --quiet."""
    if _verbosity < NORMAL:
        return
    from rich import box
    from rich.table import Table

    out = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[i], int | float) for row in rows)
        out.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        out.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row))
    _console(_stream()).print(out)


def format_bytes(count: float) -> str:
    """3100000000 -> "3.1 GB"; decimal units."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def format_seconds(seconds: float) -> str:
    """75.2 -> "1:15", 3.26 -> "3.3 s", 4000 -> "1:06:40"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Bar:
    """Progress of one piece of work, used as a context manager.

    ``update(done, count=..., loss=..., psnr=...)`` may be called as often as one likes; drawing
    is throttled.  ``count`` is what the rate counts where it is not ``done`` itself (steps of
    a run whose budget is in seconds).  Further keywords are shown as they are named.
    """

    def __init__(self, title: str, total: float, unit: str = "", *, every: float = 5.0) -> None:
        self.title, self.total, self.unit, self.every = title, max(float(total), 1e-12), unit, every
        self.live: Progress | None = None
        self._task: TaskID | None = None
        self._done = 0.0
        self._count: float | None = None
        self._first: tuple[float, float, float] | None = None
        self._fields: Mapping[str, float | str] = {}
        self._start = self._shown = time.perf_counter()
        self._outer: Bar | None = None

    def __enter__(self) -> Bar:
        global _bar
        self._outer, _bar = _bar, self
        self._start = self._shown = time.perf_counter()
        stream = _stream()
        if _verbosity >= NORMAL and self._outer is None and _is_terminal(stream):
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

            self.live = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TaskProgressColumn(),
                TextColumn("{task.fields[facts]}"),
                console=_console(stream),
                auto_refresh=False,
                transient=True,
            )
            self._task = self.live.add_task(self.title, total=self.total, facts="")
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        global _bar
        if self.live is not None:
            self.live.stop()
            self.live = None
        _bar = self._outer
        if _verbosity >= NORMAL and kind is None and self._first is not None:
            _write(_stream(), f"{self.title}: {self._facts(finished=True)}")

    def update(self, done: float, *, count: float | None = None, **fields: float | str | None) -> None:
        """``done`` of ``total`` is finished; fields that are None are left out."""
        now = time.perf_counter()
        self._done, self._count = float(done), count
        self._fields = {k: v for k, v in fields.items() if v is not None}
        if self._first is None:
            # Rate and ETA count from here on: a resumed run starts in the middle.
            self._first = (self._start, 0.0, 0.0) if count is None or count <= 1 else (now, self._done, float(count))
        if _verbosity < NORMAL:
            return
        if self.live is not None and self._task is not None:
            if now - self._shown >= 0.1:
                self._shown = now
                self.live.update(self._task, completed=self._done, facts=self._facts(), refresh=True)
        elif now - self._shown >= self.every:
            self._shown = now
            share = min(1.0, self._done / self.total)
            _write(_stream(), f"{self.title}: {100 * share:.0f} %, {self._facts()}")

    def advance(self, **fields: float | str | None) -> None:
        """One more of ``total``."""
        self.update(self._done + 1, count=None, **fields)

    def _facts(self, finished: bool = False) -> str:
        assert self._first is not None
        now = time.perf_counter()
        since, first_done, first_count = self._first
        spent = max(now - since, 1e-9)
        value = self._done if self._count is None else self._count
        parts = [f"{value:.0f}{' ' + self.unit if self.unit else ''}"]
        rate = (value - first_count) / spent
        if rate > 0:
            parts.append(f"{rate:.0f}/s" if rate >= 10 else f"{rate:.2g}/s")
        for name, field in self._fields.items():
            parts.append(f"{name} {field:.4g}" if isinstance(field, float) else f"{name} {field}")
        if finished:
            parts.append(f"in {format_seconds(now - self._start)}")
        elif self._done > first_done:
            parts.append(f"ETA {format_seconds((self.total - self._done) * spent / (self._done - first_done))}")
        return ", ".join(parts)


def available_memory() -> int | None:
    """Bytes this process may still allocate without swapping, or None where the system does not say.

    In a container the cgroup's limit counts where it is lower than the machine's memory.
    """
    free = _machine_memory()
    room = _cgroup_room()
    if free is None or room is None:
        return room if free is None else free
    return min(free, room)


def _machine_memory() -> int | None:
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    if sys.platform == "win32":
        return _windows_memory()
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _windows_memory() -> int | None:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = [
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", "pages", "free_pages", "virtual", "free_virtual", "extended")),
        ]

    status = Status()
    status.length = ctypes.sizeof(Status)
    windll = getattr(ctypes, "windll", None)
    if windll is None or not windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(status.free)


def _cgroup_room() -> int | None:
    """What the control group leaves: its limit less what is in use and cannot be dropped."""
    for limit, used, stat, droppable in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat", "inactive_file"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
            "/sys/fs/cgroup/memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        try:
            with open(limit) as a, open(used) as b, open(stat) as c:
                cap, now = int(a.read()), int(b.read())
                cache = next((int(line.split()[1]) for line in c if line.split()[0] == droppable), 0)
        except (OSError, ValueError, IndexError):  # no such control group, or "max"
            continue
        if cap < 1 << 60:
            return max(0, cap - now + cache)
    return None


def memory_budget(parts: Mapping[str, float]) -> str:
    """One line for {"images": bytes, "field": bytes, ...}: ``images 3.1 GB + field 0.2 GB, available 5.4 GB``."""
    line = " + ".join(f"{name} {format_bytes(size)}" for name, size in parts.items())
    available = available_memory()
    return line if available is None else f"{line}, available {format_bytes(available)}"
