"""A window on a run while it learns: the run on a thread of its own, the window on the main one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from .. import progress
from ..render.overview import recorded_cameras
from .entries import Entry
from .live import Live, Watched
from .model import Model
from .preferences import load_preferences
from .window import Window


def watch_run(run: Callable[[Live], int], name: str, data: Path | None = None, device: str = "cpu", beside: Sequence[Entry] = ()) -> int:
    """Start ``run`` and show what it trains until the window is closed, then wait for its end; its exit code.

    What is ``beside`` is open, too, the first of it in the other half. Ctrl-C stops the run, which saves; once more leaves at once.

    Raises:
        UserError, KeyboardInterrupt: as the run does.
    """
    live = Live()
    watched = Watched(lambda: run(live))
    try:
        field = live.first(lambda: watched.ended)
        if field is not None:
            entry = Entry(name, field, None, data, cameras=recorded_cameras(field))
            model = Model([entry, *beside])
            if beside:
                model.compare("side", "field")
            window = Window(model, load_preferences(), device=device, bake_previews=False)
            window.watch(live, entry, lambda: watched.ended)
            window.run()
            live.paused = False
            if not watched.ended:
                progress.say("the window is closed, the run goes on; Ctrl-C saves and stops")
        return int(watched.wait())
    except KeyboardInterrupt:
        live.stop()
        return int(watched.wait())
