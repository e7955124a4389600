"""When a likely hit is likely enough, with a stream of questions whose truth is known."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable

import pytest

from deployments.answering.error_budget import Observation, Tally, is_within, noted, wrong_rate

pytestmark = pytest.mark.unit
BUDGET = 0.01


def test_what_the_verifier_accepts_is_accepted_as_long_as_nothing_speaks_against_it() -> None:
    assert all(is_within(BUDGET, closeness) for closeness in (0.13, 0.5, 1.0))
    assert not is_within(BUDGET, 0.05)  # too little evidence: a miss
    assert not is_within(0.002, 0.3)  # an operator who accepts less gets fewer hits …
    assert is_within(0.002, 0.8)  # … of the nearest


def test_one_wrong_hit_closes_an_entry_and_right_ones_open_it_again() -> None:
    wrong = [Observation(0.8, False)]
    assert not is_within(BUDGET, 0.8, wrong)
    assert not is_within(BUDGET, 0.5, wrong)
    assert not is_within(BUDGET, 0.95, wrong)  # hardly nearer
    assert wrong_rate(0.8, wrong) > wrong_rate(0.95, wrong)
    assert is_within(BUDGET, 0.8, [*wrong, *[Observation(0.7, True)] * 127])
    assert wrong_rate(0.8, [Observation(0.9, True)] * 20) == wrong_rate(0.8)  # nearer ones prove nothing here


def test_near_misses_judged_right_lower_what_is_asked_of_the_next_ones() -> None:
    assert not is_within(BUDGET, 0.1)
    assert is_within(BUDGET, 0.1, [Observation(0.1, True)] * 5)


def simulate(
    wrong_share: Callable[[int], float], *, noise: float, shadow: float, questions: int = 30_000, seed: int = 7
) -> tuple[int, int]:
    """(hits, wrong hits) of one topic with 40 entries. wrong_share: of an entry; noise: judgements that are false."""
    rng = random.Random(seed)
    seen: dict[int, list[Observation]] = defaultdict(list)
    topic, hits, wrong_hits = Tally(), 0, 0
    for _ in range(questions):
        entry, closeness = rng.randrange(40), rng.uniform(0.0, 1.0)
        is_same = rng.random() >= wrong_share(entry)
        is_hit = is_within(BUDGET, closeness, seen[entry], topic)
        hits += is_hit
        wrong_hits += is_hit and not is_same
        if not is_hit or rng.random() < shadow:  # what missed is answered anew, and compared then
            observation = Observation(closeness, is_same != (rng.random() < noise))
            topic = noted(topic, observation)
            seen[entry] = [*seen[entry], observation][-128:]
    return hits, wrong_hits


@pytest.mark.parametrize("noise", [0.0, 0.002, 0.02])
@pytest.mark.parametrize(
    ("name", "wrong_share"),
    [
        ("a verifier as good as measured", lambda entry: 0.002),
        ("a topic in which it errs", lambda entry: 0.08),
        ("a few entries on which it errs", lambda entry: 0.3 if entry % 10 == 0 else 0.001),
    ],
)
def test_wrong_hits_stay_within_the_budget(name: str, wrong_share: Callable[[int], float], noise: float) -> None:
    hits, wrong_hits = simulate(wrong_share, noise=noise, shadow=0.2)
    assert wrong_hits <= max(BUDGET * hits, 8), name  # the first few are how it learns


def test_a_good_verifier_keeps_its_hits() -> None:
    hits, _ = simulate(lambda entry: 0.002, noise=0.002, shadow=0.2)
    assert hits > 0.5 * 30_000
