"""How often somebody may do something: a bucket of tokens that fills up evenly. Pure; time comes in as an argument."""

from __future__ import annotations

import math


class TokenBucket:
    def __init__(self, per_s: float, burst: float) -> None:
        """per_s: tokens that come in a second. burst: as many as there can be."""
        self._per_s = per_s
        self._burst = burst
        self._tokens = burst
        self._looked_s = -math.inf

    def take(self, now_s: float) -> bool:
        """Takes a token; False where there is none."""
        self._tokens = min(self._burst, self._tokens + (now_s - self._looked_s) * self._per_s)
        self._looked_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def wait_s(self) -> float:
        """Until the next token, as of the last `take`."""
        return max(0.0, (1 - self._tokens) / self._per_s)
