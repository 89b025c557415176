"""Files of results, and the comparison of two."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..representations.container import atomic_file

FORMAT = 1


def new_results(
    version: str, cpu: dict[str, Any], libraries: dict[str, str], roofline: dict[str, float], settings: dict[str, Any] | None = None
) -> dict[str, Any]:
    """An empty result with what identifies it."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "format": FORMAT,
        "fieldmorph": version,
        "date": now,
        "cpu": cpu,
        "libraries": libraries,
        "settings": settings or {},
        "roofline": roofline,
        "operations": [],
        "training": [],
    }


def file_name(results: dict[str, Any]) -> str:
    """``amd-epyc-2-cores-2026-11-23T101500.json``."""
    if results.get("gpu"):
        return f"{_slug(results['gpu'])}-{results['date'].replace(':', '').rstrip('Z')}.json"
    return f"{_slug(results['cpu']['name'])}-{results['cpu']['cores']}-cores-{results['date'].replace(':', '').rstrip('Z')}.json"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def save_results(results: dict[str, Any], path: Path) -> None:
    """Raises UserError where the file cannot be written."""
    with atomic_file(path) as file:
        file.write((json.dumps(results, indent=1) + "\n").encode())


def load_results(path: Path) -> dict[str, Any]:
    """Read a file of results.

    Raises:
        UserError: it is none.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        if results["format"] > FORMAT:
            raise UserError(f"{path}: written by a newer version of fieldmorph; update to compare it")
        numbers(results)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name a file that fieldmorph bench wrote") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: holds no benchmark results; name a file that fieldmorph bench wrote") from error
    return results


def numbers(results: dict[str, Any]) -> dict[str, float]:
    """All figures of a result by name; more is better in every one."""
    found: dict[str, float] = {}
    for case in results["operations"]:
        for implementation, row in case["implementations"].items():
            found[f"{case['name']} [{implementation}] {case['unit']}/s"] = float(row["rate"])
    for frame in results.get("phases", ()):
        size = f"{frame['width']}x{frame['height']}"
        found[f"pictures of {size} per second, separate operations"] = 1.0 / float(frame["unfused"])
        found[f"pictures of {size} per second, one launch"] = 1.0 / float(frame["fused"])
    for run in results["training"]:
        name = f"{run['family']} on {run['scene']}"
        for point in run["curve"]:
            found[f"{name}: dB after about {float(point['seconds']):.0f} s"] = float(point["psnr"])
        for size, rate in run["frames_per_second"].items():
            found[f"{name}: pictures of {size} per second"] = float(rate)
    return found


def compare(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, float, float, str]]:
    """(name, before, after, change) of every figure both results hold; decibels change by a difference, rates by a factor."""
    old, new = numbers(before), numbers(after)
    rows = []
    for name in old:
        if name in new:
            change = f"{new[name] - old[name]:+.2f} dB" if ": dB" in name else f"{new[name] / old[name]:.2f}x"
            rows.append((name, old[name], new[name], change))
    return rows


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What else than the program may be behind a change: "what: before, after" of every condition in which two results differ."""
    old, new = _conditions(before), _conditions(after)
    return [f"{name}: {old[name]}, {new[name]}" for name in old if name in new and old[name] != new[name]]


def _conditions(results: dict[str, Any]) -> dict[str, Any]:
    """Where and how a result was measured. Older files say less."""
    cpu = results.get("cpu", {})
    found: dict[str, Any] = {"CPU": cpu.get("name"), **{name: cpu.get(name) for name in ("cores", "threads")}}
    found["GPU"] = results.get("gpu")
    found.update({f"--{name}": chosen for name, chosen in results.get("settings", {}).items()})
    found.update({f"items of {case['name']}": case["items"] for case in results["operations"]})
    for run in results["training"]:
        name = f"{run['family']} on {run['scene']}"
        found[f"views that score {name}"], found[f"files of {run['scene']}"] = run.get("views"), run.get("fingerprint")
        found[f"seconds of {name}"] = round(run["curve"][-1]["seconds"]) if run["curve"] else None
    found.update(results.get("libraries", {}))
    return found
