"""What this machine reaches: the two rooflines, measured, and who it is."""

from __future__ import annotations

import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch


def settle(device: torch.device | str) -> None:
    """Wait until a device has done what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


REST = 0.02
"""Seconds before every measurement: PyTorch's OpenMP threads spin for a while after their work, on the next one's cores."""
LEAST = 0.03
"""Seconds a measurement takes at least: shorter work is done several times, behind a first time that wakes threads and caches."""


def timed(works: Sequence[Callable[[], Any]], repeats: int, device: torch.device | str = "cpu") -> list[float]:
    """Median seconds of each piece of work; the pieces take turns, so that a busy moment hits all of them. One unmeasured turn first."""

    def seconds(work: Callable[[], Any], times: int) -> float:
        settle(device)
        start = time.perf_counter()
        for _ in range(times):
            work()
        settle(device)
        return max(time.perf_counter() - start, 1e-6) / times

    first = [seconds(work, 1) for work in works]
    spent: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for place, work in enumerate(works):
            time.sleep(REST)
            if first[place] < LEAST:
                first[place] = seconds(work, 1)
            spent[place].append(seconds(work, max(1, math.ceil(LEAST / first[place]))))
    return [statistics.median(times) for times in spent]


@dataclass(frozen=True)
class Roofline:
    """Rates that no operation exceeds, of all threads together."""

    flops: float
    """Operations per second (a multiply-add counts two): the best of several matrix products, in float32 on a CPU, in
    float16 on a GPU, whose tensor cores the networks use."""
    bytes: float
    """Bytes per second to and from memory: copying an array larger than the caches."""


def measure_roofline(repeats: int = 5, device: torch.device | str = "cpu") -> Roofline:
    """Takes about two seconds."""
    best, there = 0.0, torch.device(device)
    gpu = there.type == "cuda"
    for size in (2048, 4096, 8192) if gpu else (512, 1024, 2048):
        a, b = (torch.rand(size, size, device=there, dtype=torch.float16 if gpu else torch.float32) for _ in range(2))
        out = torch.empty_like(a)
        (seconds,) = timed([lambda a=a, b=b, out=out: torch.mm(a, b, out=out)], repeats, there)  # type: ignore[misc]
        best = max(best, 2.0 * size**3 / seconds)
    source = torch.rand(1 << (28 if gpu else 26), device=there)
    target = torch.empty_like(source)
    (seconds,) = timed([lambda: target.copy_(source)], repeats, there)
    return Roofline(best, 2.0 * source.numel() * source.element_size() / seconds)


def describe_cpu() -> dict[str, Any]:
    """Name, usable cores, threads. JSON-able."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            name = next((" ".join(line.split(":", 1)[1].split()) for line in lines if line.lower().startswith("model name")), name)
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"name": name, "cores": cores, "threads": torch.get_num_threads(), "system": f"{platform.system()} {platform.machine()}"}


def peak_memory() -> int:
    """The most bytes of memory this process has held so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
