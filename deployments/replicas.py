"""Which replicas of a tier are sound: a breaker each, kept by every process that asks them. Knows no Ray.

A tier is not down because one of its replicas is stuck: that one is left alone, and the others go on answering.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from deployments.answering.resilience import Breaker
from deployments.settings import BreakerSettings

FAILURES_IN_A_ROW = 2  # fewer than a tier's: another replica takes its place, so doubt costs little
PROBE = "probe-replica-"  # what the ids of requests begin with that look how one replica is


class Replicas:
    """All times are of `time.monotonic`, seconds."""

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings.model_copy(update={"failures_in_a_row": FAILURES_IN_A_ROW})
        self._breakers: dict[str, Breaker] = {}  # by replica
        self._failed_last: dict[str, bool] = {}  # replica → how its last generation ended
        self._asked: dict[str, str] = {}  # by the id of a request that is under way: the replica that it was sent to

    def to_choose_from(self, replicas: Collection[str], request_id: str, now_s: float) -> set[str]:
        """Of all that the tier has now: those that may be asked, or all where none may; for a probe those due."""
        self._breakers = {name: self._breakers.get(name) or Breaker(self._settings) for name in replicas}
        self._failed_last = {name: self._failed_last.get(name, False) for name in replicas}
        if request_id.startswith(PROBE) and (due := self._due(now_s)):
            return due
        return {name for name, breaker in self._breakers.items() if breaker.allows(now_s)} or set(replicas)

    def sent(self, request_id: str, replica: str) -> None:
        self._asked[request_id] = replica

    def states(self, now_s: float) -> Mapping[str, str]:
        """By replica: closed, open or half_open."""
        return {name: breaker.state(now_s) for name, breaker in self._breakers.items()}

    def are_sound(self, now_s: float) -> bool:
        return all(breaker.allows(now_s) for breaker in self._breakers.values())

    def is_probe_due(self, now_s: float) -> bool:
        return bool(self._due(now_s))

    def succeeded(self, request_id: str, now_s: float) -> None:
        self._ended(request_id, True, now_s)

    def failed(self, request_id: str, now_s: float) -> bool:
        """Returns whether it is that replica's own trouble: another one answers."""
        replica = self._ended(request_id, False, now_s)
        return replica is not None and any(
            breaker.allows(now_s) and not self._failed_last[name]
            for name, breaker in self._breakers.items()
            if name != replica
        )

    def left(self, request_id: str) -> None:
        """It was ended by who asked for it, which says nothing of the replica."""
        self._asked.pop(request_id, None)

    def _due(self, now_s: float) -> set[str]:
        return {name for name, state in self.states(now_s).items() if state == "half_open"}

    def _ended(self, request_id: str, is_good: bool, now_s: float) -> str | None:
        replica = self._asked.pop(request_id, None)
        if replica is None or replica not in self._breakers:
            return None
        breaker = self._breakers[replica]
        self._failed_last[replica] = not is_good
        if breaker.state(now_s) == "half_open":
            breaker.probed(now_s, is_good)
        elif is_good:
            breaker.succeeded(now_s)
        else:
            breaker.failed(now_s)
        return replica


_OF_APP: dict[str, Replicas] = {}  # what the routers of an application's handles in this process choose by


def known_as(app_name: str, replicas: Replicas) -> Replicas:
    """Those of the application that are known here already, or these from now on."""
    return _OF_APP.setdefault(app_name, replicas)


def replicas_of(app_name: str) -> Replicas | None:
    return _OF_APP.get(app_name)
