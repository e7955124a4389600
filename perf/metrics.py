"""What many timed requests add up to. Pure: values in, values out; knows no HTTP and no clock."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """One request, of a closed loop or alone."""

    ended_s: float  # since the window began; may lie behind its end
    latency_ms: float  # from sending the question to the last byte of the answer
    path: str = ""  # which way it was answered; "" when it was not
    error: str = ""  # "" when it was answered
    ttft_ms: float | None = None  # from sending the question to the first piece of text; only of streams


@dataclass(frozen=True, slots=True)
class Percentiles:
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """One server under one load. Latencies are of answers alone: a fast refusal must not make them look better."""

    requests: int
    answers: int
    answers_per_s: float
    latency_ms: Percentiles | None  # None: no answers
    ttft_ms: Percentiles | None  # None: no answers, or not streamed
    path_share: dict[str, float]  # 0-1, of the answers, most frequent first
    errors: dict[str, int]  # code → how many


@dataclass(frozen=True, slots=True)
class ClientCost:
    """What asking cost the asker: near one core, the number is the client's and not the server's."""

    cpu_share: float  # of one core
    ceiling_per_s: float | None  # requests that this client could make with one core of its own; None: made none


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank: the smallest value that at least `share` (0-1] of all values do not exceed. It was observed."""
    if not values:
        raise ValueError("no values have no percentile")
    rank = math.ceil(round(share * len(values), 9))  # rounded: 0.95 * 20 must be 19, not a little more
    return sorted(values)[max(rank, 1) - 1]


def percentiles(values: Sequence[float]) -> Percentiles | None:
    if not values:
        return None
    ordered = sorted(values)
    return Percentiles(*(percentile(ordered, share) for share in (0.50, 0.95, 0.99)))


def summarise(samples: Sequence[Sample], window_s: float) -> LoadSummary:
    """The rate counts answers that ended within the window; everything else looks at all samples.

    What was under way when the window closed is waited for and not cut off: the slow ones would be missing.
    """
    answered = [sample for sample in samples if not sample.error]
    return LoadSummary(
        requests=len(samples),
        answers=len(answered),
        answers_per_s=sum(sample.ended_s <= window_s for sample in answered) / window_s,
        latency_ms=percentiles([sample.latency_ms for sample in answered]),
        ttft_ms=percentiles([sample.ttft_ms for sample in answered if sample.ttft_ms is not None]),
        path_share={path: count / len(answered) for path, count in _counted(s.path for s in answered).items()},
        errors=_counted(sample.error for sample in samples if sample.error),
    )


def client_cost(requests: int, cpu_s: float, elapsed_s: float) -> ClientCost:
    return ClientCost(
        cpu_share=cpu_s / elapsed_s,
        ceiling_per_s=requests / cpu_s if requests and cpu_s > 0 else None,
    )


def ratio(measured: float, baseline: float) -> float | None:
    """None when the baseline is zero: there is nothing to compare with."""
    return measured / baseline if baseline else None


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())
