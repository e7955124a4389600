"""Work beside the main thread that nobody waits for when the end comes early (a thread pool would)."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Background:
    """One call in a thread of its own. `join` raises what it raised."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:  # handed over to whoever joins
            self._error = error

    def join(self, timeout_s: float | None = None) -> bool:
        """False when it has not ended within the time."""
        self._thread.join(timeout_s)
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()
