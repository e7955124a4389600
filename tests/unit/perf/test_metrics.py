from __future__ import annotations

import pytest

from perf.metrics import Percentiles, Sample, client_cost, percentile, percentiles, ratio, summarise

pytestmark = pytest.mark.unit


def answer(latency_ms: float, ended_s: float = 0.5, path: str = "exact_cache", ttft_ms: float | None = None) -> Sample:
    return Sample(ended_s, latency_ms, path, ttft_ms=ttft_ms)


def refusal(error: str, latency_ms: float = 1.0) -> Sample:
    return Sample(0.5, latency_ms, error=error)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([7.0], 0.5, 7.0),
        ([7.0], 0.99, 7.0),
        ([1.0, 2.0], 0.5, 1.0),  # half of the values are at most 1
        ([1.0, 2.0], 0.51, 2.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),  # order does not matter
        ([float(n) for n in range(1, 21)], 0.95, 19.0),  # 0.95 * 20 = 19 exactly, whatever floats make of it
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(1, 101)], 1.0, 100.0),
        ([float(n) for n in range(1, 1001)], 0.999, 999.0),
        ([5.0, 6.0], 0.0001, 5.0),
    ],
)
def test_a_percentile_is_the_nearest_rank(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
    assert percentiles([]) is None


def test_percentiles_of_a_hundred() -> None:
    assert percentiles([float(n) for n in range(100, 0, -1)]) == Percentiles(50.0, 95.0, 99.0)


def test_the_rate_counts_only_answers_within_the_window() -> None:
    samples = [answer(10, ended_s=0.5), answer(10, ended_s=2.0), answer(900, ended_s=2.9)]
    summary = summarise(samples, window_s=2.0)
    assert summary.answers_per_s == 1.0  # two of the three, in two seconds
    assert summary.answers == 3


def test_a_late_answer_is_in_the_latencies() -> None:
    summary = summarise([answer(10), answer(900, ended_s=2.9)], window_s=2.0)
    assert summary.latency_ms == Percentiles(10, 900, 900)


def test_errors_are_counted_by_code_and_kept_out_of_rate_and_latencies() -> None:
    samples = [answer(20), refusal("503 overloaded"), refusal("timeout", 30_000), refusal("503 overloaded")]
    summary = summarise(samples, window_s=1.0)
    assert (summary.requests, summary.answers, summary.answers_per_s) == (4, 1, 1.0)
    assert summary.errors == {"503 overloaded": 2, "timeout": 1}
    assert summary.latency_ms == Percentiles(20, 20, 20)


def test_shares_of_paths_are_of_answers_and_the_most_frequent_comes_first() -> None:
    samples = [answer(1, path="rule"), *[answer(1)] * 3, refusal("timeout")]
    shares = summarise(samples, window_s=1.0).path_share
    assert list(shares.items()) == [("exact_cache", 0.75), ("rule", 0.25)]


def test_time_to_first_text_is_there_only_of_streams() -> None:
    assert summarise([answer(5)], 1.0).ttft_ms is None
    assert summarise([answer(5, ttft_ms=3), answer(6, ttft_ms=4)], 1.0).ttft_ms == Percentiles(3, 4, 4)


@pytest.mark.parametrize("samples", [[], [refusal("timeout")]])
def test_without_answers_there_is_a_rate_of_zero_and_no_latency(samples: list[Sample]) -> None:
    summary = summarise(samples, window_s=1.0)
    assert summary.answers_per_s == 0.0
    assert summary.latency_ms is None
    assert summary.path_share == {}


def test_the_clients_ceiling_is_what_a_whole_core_would_ask() -> None:
    cost = client_cost(requests=1000, cpu_s=0.5, elapsed_s=2.0)
    assert (cost.cpu_share, cost.ceiling_per_s) == (0.25, 2000.0)


def test_a_client_that_asked_nothing_has_no_known_ceiling() -> None:
    assert client_cost(requests=0, cpu_s=0.1, elapsed_s=1.0).ceiling_per_s is None
    assert client_cost(requests=5, cpu_s=0.0, elapsed_s=1.0).ceiling_per_s is None


def test_a_ratio_to_nothing_is_none() -> None:
    assert ratio(3.0, 4.0) == 0.75
    assert ratio(3.0, 0.0) is None
