"""What the viewer remembers between sessions: window size, recent files, a few habits. No GUI.

A damaged or unwritable file costs nobody a session: it reads as the defaults, and is not written.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from ..errors import UserError
from ..representations.container import atomic_file

MOST_RECENT = 12


@dataclass
class Preferences:
    width: int = 1280
    height: int = 860
    scale: float = 1.0
    """Of the display that width and height belong to: on one with twice the pixels the window has twice as many."""
    fps: float = 30.0
    samples: int = 16
    use_preview: bool = True
    show_cameras: bool = False
    show_box: bool = False
    recent: list[str] = field(default_factory=list)
    """Paths of fields and runs, newest first."""

    def opened(self, path: Path) -> None:
        """Put a path first among the recent ones."""
        name = str(path.absolute())
        self.recent = [name, *(other for other in self.recent if other != name)][:MOST_RECENT]


def preferences_file() -> Path:
    return Path(user_config_path("fieldmorph")) / "viewer.json"


def load_preferences(path: Path | None = None) -> Preferences:
    """The remembered settings; whatever is missing or makes no sense has its default."""
    try:
        content = json.loads((path or preferences_file()).read_text())
        assert isinstance(content, dict)
    except (OSError, ValueError, AssertionError):
        return Preferences()
    found = Preferences()
    for entry in fields(Preferences):
        value, default = content.get(entry.name), getattr(found, entry.name)
        if _fits(value, default):
            setattr(found, entry.name, type(default)(value))
    found.width, found.height = min(max(found.width, 480), 16384), min(max(found.height, 360), 16384)
    found.scale = min(max(found.scale, 0.5), 4.0)
    found.fps, found.samples = min(max(found.fps, 5.0), 120.0), min(max(found.samples, 1), 256)
    return found


def save_preferences(preferences: Preferences, path: Path | None = None) -> None:
    """Remember them, where that is possible."""
    file = path or preferences_file()
    with contextlib.suppress(OSError, UserError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as out:
            out.write((json.dumps(asdict(preferences), indent=1) + "\n").encode())


def _fits(value: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, int | float):
        return isinstance(value, int | float) and value == value and abs(value) < 1e9
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
