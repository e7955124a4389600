"""What an ingress replica counts, in Prometheus' words. One registry a replica, served at /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from deployments.answering.protocols import AppStatus
from deployments.answering.resilience import BreakerState
from deployments.answering.types import TurnRecord

TOKENS_SAVED = "tokens saved"  # among the cache's counts
# Seconds: from a cache hit (a millisecond) to a long answer of a model.
_BUCKETS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.8, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._turns = Counter("raydesk_turns", "Turns ended.", ["path", "outcome"], registry=self._registry)
        self._duration = Histogram(
            "raydesk_turn_duration_seconds", "Whole turns.", ["path"], buckets=_BUCKETS_S, registry=self._registry
        )
        self._ttft = Histogram(
            "raydesk_time_to_first_token_seconds",
            "From admission to the first words.",
            ["path"],
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self._of_path: dict[tuple[str, str], tuple[Counter, Histogram, Histogram]] = {}  # `labels` is slow
        self._dropped = Counter("raydesk_turns_dropped", "Turns that the log never got.", registry=self._registry)
        self._running = Gauge("raydesk_turns_running", "Turns at work.", registry=self._registry)
        self._waiting = Gauge("raydesk_turn_log_waiting", "Ended turns not yet in the log.", registry=self._registry)
        self._degraded = Counter(
            "raydesk_degradations",
            "Turns that had to do without something, were retried, handed to another tier or continued by one.",
            ["part", "how"],
            registry=self._registry,
        )
        self._breaker = Gauge(
            "raydesk_breaker", "1 for the state of a tier's breaker.", ["tier", "state"], registry=self._registry
        )
        self._up = Gauge("raydesk_up", "1 where a room or tier is ready.", ["part"], registry=self._registry)

    def on_end(self, record: TurnRecord) -> None:
        kind = (record.path or "none", record.outcome)
        if kind not in self._of_path:
            path = kind[0]
            self._of_path[kind] = (self._turns.labels(*kind), self._duration.labels(path), self._ttft.labels(path))
        turns, duration, ttft = self._of_path[kind]
        turns.inc()
        for what in set(record.degraded):  # "small:retried"; of a fixed set of parts and ways
            part, _, how = what.partition(":")
            self._degraded.labels(part, how).inc()
        duration.observe(record.duration_ms / 1000)
        if record.ttft_ms:
            ttft.observe(record.ttft_ms / 1000)

    def on_dropped(self) -> None:
        self._dropped.inc()

    def watch(self, running: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Gauges that are read when they are asked for."""
        self._running.set_function(lambda: float(running()))
        self._waiting.set_function(lambda: float(waiting()))

    def watch_cache(self, counts: Mapping[str, int]) -> None:
        """counts: "hit:exact", "refused:negation", … and "tokens saved"; read when they are asked for."""
        self._registry.register(_CacheCounts(counts))

    def text(self, status: AppStatus) -> bytes:
        """The exposition format."""
        for name, state in status.rooms.items():
            self._up.labels(name).set(state == "ready")
        for tier in status.tiers:
            self._up.labels(tier.name).set(tier.state == "ready")
            for state in get_args(BreakerState):
                self._breaker.labels(tier.name, state).set(tier.breaker == state)
        return generate_latest(self._registry)


class _CacheCounts(Collector):
    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[CounterMetricFamily]:
        events = CounterMetricFamily("raydesk_cache_events", "What came of look-ups.", labels=["event", "detail"])
        tokens = CounterMetricFamily("raydesk_cache_tokens_saved", "Tokens of models that hits have saved.")
        for name, count in dict(self._counts).items():
            if name == TOKENS_SAVED:
                tokens.add_metric([], count)
            else:
                event, _, detail = name.partition(":")
                events.add_metric([event, detail], count)
        yield events
        yield tokens
