"""What the open loop's outcomes add up to."""

from __future__ import annotations

import pytest

from perf.connections import Ask, overload_of

pytestmark = pytest.mark.unit


def test_outcomes_are_told_apart() -> None:
    asks = [
        Ask(200, 10.0),
        Ask(200, 30.0, is_running=True),
        Ask(503, 1.0, retry_after="2"),
        Ask(429, 2.0, retry_after="0"),
        Ask(503, 3.0),
        Ask(0, 99.0, is_running=True),
    ]
    seen = overload_of(asks, window_s=2.0, peak_per_s=2.0)
    assert (seen.asked_per_s, seen.answered_per_s, seen.goodput_of_peak) == (3.0, 1.0, 0.5)
    assert seen.answered_wait_ms is not None
    assert (seen.answered_wait_ms.p50, seen.answered_wait_ms.p99) == (10.0, 30.0)
    assert (seen.refused, seen.refused_without_pause, seen.failed) == (3, 2, {"0": 1})
    assert (seen.new_answered_share, seen.running_answered_share) == (0.25, 0.5)


def test_nothing_asked_has_no_shares() -> None:
    seen = overload_of([], window_s=1.0, peak_per_s=0.0)
    assert (seen.goodput_of_peak, seen.answered_wait_ms, seen.new_answered_share) == (None, None, None)
