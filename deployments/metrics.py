"""What an ingress replica counts, in Prometheus' words. Knows no Ray: `node_metrics.py` hands it on to the node.

Labels take few values whatever customers do: tenants, intents and texts are none, and what could still grow is cut off
at a number of values, the rest of which are told as "other".
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from deployments.answering.protocols import AppStatus
from deployments.answering.resilience import BreakerState
from deployments.answering.types import TurnRecord

TOKENS_SAVED = "tokens saved"  # among the cache's counts; told here by the turns, which know it wherever the cache is
MOST_VALUES = 40  # of one label
MOST_COLLECTIONS = 100  # whose version is told
OTHER = "other"
# Seconds: from a cache hit (a millisecond) to a long answer of a model.
_BUCKETS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.8, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_STATES = ("starting", "ready", "down")


class Metrics:
    """price_per_million_tokens: what the tokens that the cache saves would have cost, in the operator's money."""

    def __init__(self, price_per_million_tokens: float = 0.0) -> None:
        self._price = price_per_million_tokens / 1e6  # of one token
        self._registry = CollectorRegistry()
        self._turns = self._counter("turns", "Turns ended.", "path", "outcome")
        self._duration = self._durations("turn_duration_seconds", "Whole turns.", "path")
        self._ttft = self._durations("time_to_first_token_seconds", "From admission to the first words.", "path")
        self._steps = self._durations("step_seconds", "Steps of turns.", "step")
        self._turns_of: dict[tuple[str, str], Counter] = {}  # `labels` is slow
        self._hits_of: dict[str, Counter] = {}
        self._hits = self._counter("cache_hits", "Turns answered from the cache.", "tier")
        self._tokens_saved = self._counter("cache_tokens_saved", "Tokens of models that hits have saved.")
        self._cost_saved = self._counter("cache_cost_saved", "What they would have cost, in the operator's money.")
        self._tokens = self._counter("model_tokens", "Tokens of language models.", "path", "direction")
        self._degraded = self._counter(
            "degradations",
            "Turns that had to do without something, were retried, handed to another tier or continued by one.",
            "part",
            "how",
        )
        self._failed = self._counter("turn_errors", "Turns that failed.", "code")
        self._refused = self._counter("http_errors", "Requests answered with an error.", "code", "status")
        self._dropped = self._counter("turns_dropped", "Turns that the log never got.")
        self._running = self._gauge("turns_running", "Turns at work.")
        self._waiting = self._gauge("turn_log_waiting", "Ended turns not yet in the log.")
        self._up = self._gauge("up", "1 where a room or tier is ready.", "part")
        self._breaker = self._gauge("breaker", "1 for the state of a tier's breaker.", "tier", "state")
        self._tier_state = self._gauge("tier_state", "1 for the state that a tier is in.", "tier", "state")
        self._path, self._step, self._what, self._code = _Bounded(), _Bounded(), _Bounded(), _Bounded()
        self._versions = _Versions()
        self._registry.register(self._versions)

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"raydesk_{name}", what, labels, registry=self._registry)

    def _gauge(self, name: str, what: str, *labels: str) -> Gauge:
        return Gauge(f"raydesk_{name}", what, labels, registry=self._registry)

    def _durations(self, name: str, what: str, label: str) -> _Durations:
        durations = _Durations(f"raydesk_{name}", what, label)
        self._registry.register(durations)
        return durations

    # --- what happens ---

    def on_end(self, record: TurnRecord) -> None:
        path = self._path(record.path or "none")
        kind = (path, record.outcome)
        if kind not in self._turns_of:
            self._turns_of[kind] = self._turns.labels(*kind)
        self._turns_of[kind].inc()
        self._duration.observe(path, record.duration_ms / 1000)
        if record.ttft_ms:
            self._ttft.observe(path, record.ttft_ms / 1000)
        for name, spent_ms in record.step_ms.items():
            self._steps.observe(self._step(name), spent_ms / 1000)
        if tier := record.cache_tier:
            if tier not in self._hits_of:
                self._hits_of[tier] = self._hits.labels(tier)
            self._hits_of[tier].inc()
        if record.tokens_saved:
            self._tokens_saved.inc(record.tokens_saved)
            self._cost_saved.inc(record.tokens_saved * self._price)
        if record.input_tokens or record.output_tokens:
            self._tokens.labels(path, "in").inc(record.input_tokens)
            self._tokens.labels(path, "out").inc(record.output_tokens)
        for what in set(record.degraded):
            part, _, how = self._what(what).partition(":")
            self._degraded.labels(part, how).inc()
        if record.error_code:
            self._failed.labels(self._code(record.error_code)).inc()
        if record.knowledge_version:
            self._versions.note(record.tenant, record.collection, record.knowledge_version)

    def on_http_error(self, code: str, status: int) -> None:
        self._refused.labels(self._code(code), str(status)).inc()

    def on_dropped(self) -> None:
        self._dropped.inc()

    # --- what is looked at ---

    def watch(self, running: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Gauges that are read when they are asked for."""
        self._running.set_function(lambda: float(running()))
        self._waiting.set_function(lambda: float(waiting()))

    def watch_cache(self, counts: Mapping[str, int]) -> None:
        """counts: "hit:exact", "refused:negation", … and "tokens saved"; read when they are asked for."""
        self._registry.register(_CacheCounts(counts))

    @property
    def collections(self) -> list[tuple[str, str]]:
        """Tenant and collection of those whose version is told: the ones that were asked."""
        return list(self._versions.of)

    def note_version(self, tenant: str, collection: str, version: str | None) -> None:
        """None: there is no such collection any more."""
        self._versions.note(tenant, collection, version)

    def collect(self, status: AppStatus) -> Iterable[Metric]:
        for name, room in status.rooms.items():
            self._up.labels(name).set(room == "ready")
        for tier in status.tiers:
            self._up.labels(tier.name).set(tier.state == "ready")
            for state in get_args(BreakerState):
                self._breaker.labels(tier.name, state).set(tier.breaker == state)
            for each in _STATES:
                self._tier_state.labels(tier.name, each).set(tier.state == each)
        return self._registry.collect()

    def text(self, status: AppStatus) -> bytes:
        """The exposition format."""
        self.collect(status)
        return generate_latest(self._registry)


class _Durations(Collector):
    """A histogram of seconds for each value of one label: one of the library's costs ten times as much a turn."""

    def __init__(self, name: str, what: str, label: str) -> None:
        self._name, self._what, self._label = name, what, label
        self._of: dict[str, list[float]] = {}  # by the label's value: how many within each bucket and over all; the sum

    def observe(self, value: str, seconds: float) -> None:
        seen = self._of.get(value)
        if seen is None:
            seen = self._of[value] = [0.0] * (len(_BUCKETS_S) + 2)
        seen[bisect_left(_BUCKETS_S, seconds)] += 1
        seen[-1] += seconds

    def collect(self) -> Iterator[Metric]:
        told = HistogramMetricFamily(self._name, self._what, labels=[self._label])
        bounds = [*map(floatToGoString, _BUCKETS_S), "+Inf"]
        for value, (*counts, sum_s) in self._of.items():
            told.add_metric([value], list(zip(bounds, accumulate(counts), strict=True)), sum_s)
        yield told


class _Bounded:
    """A label's values: the first ones as they are, and one for all that come after."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        if value not in self._known:
            if len(self._known) >= MOST_VALUES:
                return OTHER
            self._known.add(value)
        return value


class _Versions(Collector):
    def __init__(self) -> None:
        self.of: dict[tuple[str, str], str] = {}  # by tenant and collection

    def note(self, tenant: str, collection: str, version: str | None) -> None:
        if version is None:
            self.of.pop((tenant, collection), None)
        elif (tenant, collection) in self.of or len(self.of) < MOST_COLLECTIONS:
            self.of[tenant, collection] = version

    def collect(self) -> Iterator[Metric]:
        told = GaugeMetricFamily(
            "raydesk_knowledge_version_info",
            "1 for the published version of a collection.",
            labels=["tenant", "collection", "version"],
        )
        for (tenant, collection), version in dict(self.of).items():
            told.add_metric([tenant, collection, version], 1)
        yield told


class _CacheCounts(Collector):
    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts
        self._detail = _Bounded()

    def collect(self) -> Iterator[Metric]:
        events = CounterMetricFamily("raydesk_cache_events", "What came of look-ups.", labels=["event", "detail"])
        told: dict[tuple[str, str], int] = {}
        for name, count in dict(self._counts).items():
            if name != TOKENS_SAVED:
                event, _, detail = name.partition(":")
                key = (event, self._detail(detail))
                told[key] = told.get(key, 0) + count
        for key, count in told.items():
            events.add_metric(list(key), count)
        yield events
