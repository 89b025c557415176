"""Long work beside the window: one thread per job, progress to look at, a way to stop. No GUI."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ..errors import UserError
from ..kernels.cancel import CancelFlag, Cancelled


class Job:
    """Runs ``work(job)`` at once on a thread; ``result`` or ``failure`` is set when ``done``."""

    def __init__(self, name: str, work: Callable[[Job], Any], then: Callable[[Job], None] | None = None) -> None:
        self.name = name
        self.then = then
        """For whoever follows the job: what to do when it has ended well."""
        self.share = 0.0
        """Finished fraction, in [0, 1]."""
        self.note = ""
        self.cancel = CancelFlag()
        self.result: Any = None
        self.failure: str | None = None
        """A sentence; None where it went well or was stopped."""
        self.stopped = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,), name=f"fieldmorph-{name}", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def progress(self, share: float, note: str = "") -> None:
        """Told by the work; raises Cancelled where somebody asked to stop."""
        self.share, self.note = share, note or self.note
        if self.cancel.is_set:
            raise Cancelled

    def stop(self) -> None:
        self.cancel.set()

    def wait(self, seconds: float | None = None) -> bool:
        return self._done.wait(seconds)

    def _run(self, work: Callable[[Job], Any]) -> None:
        try:
            self.result = work(self)
            self.share = 1.0
        except Cancelled:
            self.stopped = True
        except UserError as error:
            self.failure = str(error)
        except Exception as error:  # a failed job is a sentence in the window, not the window's end
            self.failure = f"{self.name} failed ({type(error).__name__}: {error})"
        finally:
            self._done.set()
