"""Where a client wants an answer to end. Pure.

Cut here and not by the model: a curated or a stored answer is held to it like a generated one, and what is stored for
others stays whole.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopCut:
    """Passes text on until one of the stop texts comes; holds back what could be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self._is_over = False

    def push(self, text: str) -> str:
        """What can be shown now."""
        if self._is_over:
            return ""
        text = self._held + text
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self._is_over, self._held = True, ""
            return text[: min(found)]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> str:
        """What was held back, once nothing more comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if stop.startswith(text[-size:])), 0)
