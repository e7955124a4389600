"""One replica of a tier that is stuck is left alone; the tier is not."""

from __future__ import annotations

import pytest

from deployments.replicas import FAILURES_IN_A_ROW, PROBE, Replicas
from deployments.settings import BreakerSettings

pytestmark = pytest.mark.unit

SETTINGS = BreakerSettings(open_s=10, good_probes=1)
ALL = ("a", "b")


def asked(replicas: Replicas, replica: str, request_id: str = "turn") -> None:
    replicas.to_choose_from(ALL, request_id, 0)
    replicas.sent(request_id, replica)


def fail(replicas: Replicas, replica: str, times: int, now_s: float = 0) -> list[bool]:
    found = []
    for _ in range(times):
        asked(replicas, replica)
        found.append(replicas.failed("turn", now_s))
    return found


def test_the_one_that_fails_is_not_chosen_any_more_and_the_tier_is_not_blamed() -> None:
    replicas = Replicas(SETTINGS)
    assert fail(replicas, "a", FAILURES_IN_A_ROW) == [True] * FAILURES_IN_A_ROW
    assert replicas.to_choose_from(ALL, "turn", 1) == {"b"}
    assert replicas.states(1) == {"a": "open", "b": "closed"}
    assert not replicas.are_sound(1)


def test_where_every_one_fails_it_is_the_tiers_trouble() -> None:
    replicas = Replicas(SETTINGS)
    assert fail(replicas, "a", 1) == [True]
    assert fail(replicas, "b", 1) == [False]
    assert fail(replicas, "a", 1) == [False]
    assert fail(replicas, "b", 1) == [False]
    assert replicas.to_choose_from(ALL, "turn", 1) == set(ALL)  # somebody has to


def test_a_tier_of_one_has_nobody_else_to_show_for_it() -> None:
    replicas = Replicas(SETTINGS)
    replicas.to_choose_from(["a"], "turn", 0)
    replicas.sent("turn", "a")
    assert not replicas.failed("turn", 0)


@pytest.mark.parametrize("answers", [True, False])
def test_a_probe_goes_to_the_one_that_was_left_alone_and_decides(answers: bool) -> None:
    replicas = Replicas(SETTINGS)
    fail(replicas, "a", FAILURES_IN_A_ROW)
    assert not replicas.is_probe_due(9.9)
    assert replicas.is_probe_due(10)
    assert replicas.to_choose_from(ALL, "turn", 10) == {"b"}
    assert replicas.to_choose_from(ALL, f"{PROBE}1", 10) == {"a"}
    replicas.sent(f"{PROBE}1", "a")
    (replicas.succeeded if answers else replicas.failed)(f"{PROBE}1", 10)
    assert replicas.states(11)["a"] == ("closed" if answers else "open")


def test_who_leaves_says_nothing() -> None:
    replicas = Replicas(SETTINGS)
    for _ in range(5):
        asked(replicas, "a")
        replicas.left("turn")
    assert replicas.are_sound(0)
    assert not replicas.failed("turn", 0)  # nothing is known of it any more


def test_of_a_replica_that_is_gone_nothing_is_kept() -> None:
    replicas = Replicas(SETTINGS)
    fail(replicas, "a", FAILURES_IN_A_ROW)
    assert replicas.to_choose_from(["b", "c"], "turn", 0) == {"b", "c"}
    assert replicas.states(0) == {"b": "closed", "c": "closed"}
    assert replicas.to_choose_from(ALL, "turn", 0) == set(ALL)
