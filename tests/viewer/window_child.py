"""The viewer in a process of its own, driven line by line: a Python expression with ``window`` in scope in, JSON out.

Run as ``python window_child.py FOLDER PREFERENCES FIELD...``: PREFERENCES is JSON with the preferences to start with, and
``previews`` if those are to be baked; what it writes goes to FOLDER. Between lines it draws frames.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from pathlib import Path

ANSWERS, sys.stdout = sys.stdout, sys.stderr
"""What the package itself says must not come between the answers."""


def say(text: str) -> None:
    ANSWERS.write(text + "\n")
    ANSWERS.flush()


def main() -> None:
    import dataclasses
    import importlib

    import numpy as np
    import viewer_fields

    from fieldmorph.viewer import gui
    from fieldmorph.viewer.entries import Entry, open_entry
    from fieldmorph.viewer.model import Model
    from fieldmorph.viewer.preferences import Preferences
    from fieldmorph.viewer.window import Window

    folder, settings, *fields = sys.argv[1:]
    given = {"width": 680, "height": 440, "samples": 1, **json.loads(settings)}
    previews = given.pop("previews", False)
    window = Window(Model([open_entry(Path(field)) for field in fields]), Preferences(**given), bake_previews=previews)
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: [lines.put(line) for line in sys.stdin], daemon=True).start()
    scope = {
        "window": window,
        "gui": gui,
        "np": np,
        "folder": Path(folder),
        "Path": Path,
        "dataclasses": dataclasses,
        "importlib": importlib,
        "Entry": Entry,
        "fields": viewer_fields,
    }
    say(json.dumps("ready"))
    while gui.is_dearpygui_running():
        window.frame()
        try:
            line = lines.get_nowait().strip()
        except queue.Empty:
            continue
        if line == "quit":
            break
        try:
            answer = eval(line, scope)
            say(json.dumps(answer, default=repr))
        except Exception as error:
            say(json.dumps({"error": f"{type(error).__name__}: {error}"}))
    window.close()
    say(json.dumps("closed"))


if __name__ == "__main__":
    main()
