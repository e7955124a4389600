"""Breaker, retry budget and time budget: what they promise, whatever comes in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.answering.resilience import KEPT_AFTER, Breaker, Budget, RetryBudget
from deployments.settings import BreakerSettings, RetrySettings

pytestmark = pytest.mark.unit
LIMITS = BreakerSettings()  # 5 in a row, or half of 10 in 30 s; open for 15 s; two good probes


def opened(now_s: float = 0.0) -> Breaker:
    breaker = Breaker(LIMITS)
    for _ in range(5):
        breaker.failed(now_s)
    return breaker


def test_five_failures_in_a_row_open_it_and_four_do_not() -> None:
    breaker = Breaker(LIMITS)
    for _ in range(4):
        breaker.failed(0.0)
    assert breaker.allows(0.0)
    breaker.failed(0.0)
    assert not breaker.allows(0.0)


def test_half_of_ten_calls_open_it_only_within_the_window() -> None:
    quick, slow = Breaker(LIMITS), Breaker(LIMITS)
    for call in range(10):  # good and bad in turn: never two failures in a row
        for breaker, pause_s in ((quick, 1.0), (slow, 4.0)):
            (breaker.failed if call % 2 else breaker.succeeded)(call * pause_s)
    assert not quick.allows(9.0)
    assert slow.allows(36.0)  # at most eight of them lie within 30 s


def test_it_is_left_alone_for_fifteen_seconds_and_two_good_probes_close_it() -> None:
    breaker = opened()
    assert not breaker.may_probe(14.9)
    for now_s in (15.0, 16.0):
        assert breaker.state(now_s) == "half_open"
        assert breaker.may_probe(now_s)
        assert not breaker.may_probe(now_s)  # one at a time
        assert not breaker.allows(now_s)  # customers are no probes
        breaker.probed(now_s, is_good=True)
    assert breaker.allows(16.0)


def test_a_bad_probe_opens_it_again_for_the_whole_time() -> None:
    breaker = opened()
    assert breaker.may_probe(15.0)
    breaker.probed(15.0, is_good=False)
    assert breaker.state(29.9) == "open"
    assert breaker.may_probe(30.0)


@pytest.mark.parametrize(("first_s", "second_s"), [(1.0, 30.0), (30.0, 1.0)])
def test_of_two_pauses_the_later_end_holds(first_s: float, second_s: float) -> None:
    breaker = Breaker(LIMITS)
    breaker.pause(first_s)
    breaker.pause(second_s)
    assert not breaker.allows(29.9)
    assert breaker.allows(30.0)
    assert breaker.state(0.0) == "closed"


STEPS = st.lists(st.tuples(st.sampled_from(["good", "bad", "probe", "well", "ill"]), st.floats(0, 20)), max_size=80)


@given(STEPS)
def test_whatever_happens_one_probe_at_a_time_and_none_while_closed_or_open(
    steps: list[tuple[str, float]],
) -> None:
    breaker, now_s, probes = Breaker(LIMITS), 0.0, 0
    for step, pause_s in steps:
        now_s += pause_s
        before = breaker.state(now_s)
        match step:
            case "good":
                breaker.succeeded(now_s)
            case "bad":
                breaker.failed(now_s)
            case "probe":
                probes += breaker.may_probe(now_s)
            case _ if probes:
                breaker.probed(now_s, step == "well")
                probes = 0
        assert probes <= 1
        if probes:
            assert breaker.state(now_s) == "half_open"
        assert breaker.allows(now_s) == (breaker.state(now_s) == "closed")
        if before == "open" and breaker.state(now_s) == "closed":
            pytest.fail("it closed without a probe")


@given(st.lists(st.booleans(), max_size=400))
def test_retries_are_at_most_a_tenth_of_the_last_hundred_or_three(wanted: list[bool]) -> None:
    budget, taken = RetryBudget(RetrySettings()), list[bool]()
    for is_wanted in wanted:
        budget.begin()
        taken.append(is_wanted and budget.take())
        last = taken[-100:]
        assert sum(last) <= max(3, len(last) // 10)
    assert sum(taken) >= min(3, sum(wanted))


def test_nothing_is_retried_before_there_was_a_request() -> None:
    assert not RetryBudget(RetrySettings()).take()


@given(st.floats(0.1, 120), st.floats(0, 200), st.sampled_from(sorted(KEPT_AFTER)), st.floats(0, 100))
def test_a_step_has_its_own_limit_or_what_the_later_ones_leave(
    total_s: float, now_s: float, step: str, own_s: float
) -> None:
    limit_s = Budget(total_s, started_s=0.0).limit_s(step, own_s, now_s)
    assert 0 <= limit_s <= own_s
    if limit_s:
        assert now_s + limit_s <= total_s * (1 - KEPT_AFTER[step]) + 1e-6


def test_with_time_enough_a_step_has_its_own_limit() -> None:
    assert Budget(60.0, 0.0).limit_s("search", 5.0, now_s=1.0) == 5.0
    assert Budget(4.0, 0.0).limit_s("search", 5.0, now_s=1.0) == 2.0  # 3 s are left, and 1 s is the later steps'
