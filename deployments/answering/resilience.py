"""When to stop asking an engine, when to ask again, and how long anything may take. Pure: time comes in as an argument.

All times are of `time.monotonic`, seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from deployments.settings import BreakerSettings, RetrySettings

BreakerState = Literal["closed", "open", "half_open"]


class Breaker:
    """Closed: all may ask. Open: nobody may. Half-open: one probe at a time decides.

    Customers are no probes: whoever watches the engine asks `may_probe` first, and tells what came of it.
    """

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._state: BreakerState = "closed"
        self._outcomes: deque[tuple[float, bool]] = deque()  # (when, whether it was good) of the calls in the window
        self._failures_in_a_row = 0
        self._opened_s = 0.0
        self._paused_until_s = 0.0
        self._is_probing = False
        self._good_probes = 0

    def state(self, now_s: float) -> BreakerState:
        if self._state == "open" and now_s >= self._opened_s + self._settings.open_s:
            self._state, self._good_probes, self._is_probing = "half_open", 0, False
        return self._state

    def allows(self, now_s: float) -> bool:
        """Whether a customer's question may go there."""
        return self.state(now_s) == "closed" and now_s >= self._paused_until_s

    def succeeded(self, now_s: float) -> None:
        if self.state(now_s) == "closed":  # of what was begun before it opened it is no longer a sign
            self._failures_in_a_row = 0
            self._note(now_s, True)

    def failed(self, now_s: float) -> None:
        """The engine's own fault: died, silent, or an error of the server's. A refused request is none."""
        if self.state(now_s) != "closed":
            return
        self._failures_in_a_row += 1
        self._note(now_s, False)
        bad = sum(not is_good for _, is_good in self._outcomes)
        is_many = len(self._outcomes) >= self._settings.min_calls
        if self._failures_in_a_row >= self._settings.failures_in_a_row or (
            is_many and bad >= self._settings.failure_share * len(self._outcomes)
        ):
            self.trip(now_s)

    def trip(self, now_s: float) -> None:
        """Opens it, from now on for `open_s`."""
        self._state, self._opened_s, self._is_probing = "open", now_s, False
        self._failures_in_a_row = 0
        self._outcomes.clear()

    def pause(self, until_s: float) -> None:
        """As the engine has asked for; the later end of two holds. It says nothing of the engine's health."""
        self._paused_until_s = max(self._paused_until_s, until_s)

    def may_probe(self, now_s: float) -> bool:
        """True for one caller at a time, who then calls `probed`."""
        if self.state(now_s) != "half_open" or self._is_probing or now_s < self._paused_until_s:
            return False
        self._is_probing = True
        return True

    def probed(self, now_s: float, is_good: bool) -> None:
        if self.state(now_s) != "half_open":
            return
        self._is_probing = False
        if not is_good:
            self.trip(now_s)
            return
        self._good_probes += 1
        if self._good_probes >= self._settings.good_probes:
            self._state = "closed"

    def _note(self, now_s: float, is_good: bool) -> None:
        self._outcomes.append((now_s, is_good))
        while self._outcomes[0][0] < now_s - self._settings.window_s:
            self._outcomes.popleft()


class RetryBudget:
    """So that retries cannot double a load that is too high already: a share of the last requests, and a few always."""

    def __init__(self, settings: RetrySettings) -> None:
        self._settings = settings
        self._requests: deque[int] = deque(maxlen=settings.window)  # retries of each

    def begin(self) -> None:
        """One more request."""
        self._requests.append(0)

    def take(self) -> bool:
        """Whether the request may be sent again; True counts."""
        most = max(self._settings.floor, int(self._settings.max_share * len(self._requests)))
        if not self._requests or sum(self._requests) >= most:
            return False
        self._requests[-1] += 1  # of which one does not matter
        return True


# Share of a turn's time that each step leaves to the ones after it, so that there is an answer in the end, if only that
# nothing could be found out. What a step does not use is the next one's.
KEPT_AFTER: Mapping[str, float] = {
    "version": 0.85,
    "session": 0.70,
    "rewrite": 0.65,
    "cache": 0.60,
    "flow": 0.40,
    "understand": 0.45,
    "recheck": 0.30,
    "search": 0.25,
    "lease": 0.20,
    "generate": 0.06,
    "cache_put": 0.03,
    "walk": 0.02,  # the whole way to the last event
    "session_end": 0.0,
}


@dataclass(frozen=True, slots=True)
class Budget:
    """The time that one turn has."""

    total_s: float
    started_s: float

    def left_s(self, now_s: float) -> float:
        return max(0.0, self.started_s + self.total_s - now_s)

    def limit_s(self, step: str, own_s: float, now_s: float) -> float:
        """How long this step may take: its own limit, or what is left without what the later steps need."""
        return max(0.0, min(own_s, self.left_s(now_s) - KEPT_AFTER[step] * self.total_s))
