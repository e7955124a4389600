"""When another replica of a language model is wanted, and that Serve asks us."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import pytest
from ray.serve.config import AutoscalingConfig

from deployments.app import _tier_options
from deployments.llm_scaling import TOKENS, TokenPolicy, TokensInFlight, wanted_replicas
from deployments.settings import TierSettings

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("in_flight", "running", "queued", "wanted"),
    [
        ([], 0, 0, 1),
        ([0.0], 1, 0, 1),
        ([500.0], 1, 0, 1),
        ([1000.0], 1, 0, 1),
        ([1500.0], 1, 0, 1.5),  # Serve rounds up
        ([1000.0], 1, 10, 3),  # 10 that wait, of 200 each
        ([1000.0, 2000.0], 2, 0, 3),
        ([1500.0], 2, 0, 3),  # the one that is silent is as busy
        ([100.0, 100.0, 100.0], 3, 0, 1),
        ([], 2, 10, 2),  # nobody tells anything: what waits is what is known
    ],
)
def test_as_many_as_the_tokens_in_flight_take(
    in_flight: list[float], running: int, queued: float, wanted: float
) -> None:
    assert wanted_replicas(in_flight, running, queued, target_tokens=1000, usual_tokens=200) == pytest.approx(wanted)


def test_few_long_answers_want_more_than_many_short_ones() -> None:
    def load(answers: int, max_tokens: int) -> float:
        return wanted_replicas([answers * max_tokens], 1, 0, target_tokens=4000, usual_tokens=100)

    assert load(10, 1000) > load(60, 50)


@dataclass
class Seen:
    """What Serve's context says."""

    current_num_replicas: int
    total_queued_requests: float | None
    aggregated_metrics: dict[str, dict[Any, float]] | None = field(default_factory=dict)


def test_the_policy_reads_what_replicas_tell_and_does_without() -> None:
    policy = TokenPolicy(target_tokens=1000, usual_tokens=200)
    assert policy(Seen(2, 5.0, {TOKENS: {"a": 1000.0, "b": 1000.0}, "others": {"a": 9e9}})) == (3.0, {})
    assert policy(Seen(1, None, None)) == (1.0, {})


async def test_an_answer_counts_less_as_it_is_written_and_nothing_once_it_ended() -> None:
    tokens = TokensInFlight()

    async def written(batches: int) -> AsyncGenerator[list[dict[str, Any]], None]:
        yield []
        for _ in range(batches):
            yield [{"text": "a"}, {"text": "b"}]

    one = tokens.counted(100, written(3))
    two = tokens.counted(4, written(5))
    left = []
    for _ in range(4):
        await anext(one)
        await anext(two)
        left.append(tokens.stats()[TOKENS])
    assert left == [104, 98 + 2, 96 + 1, 94 + 1]  # one that is longer than it should be still holds a place
    await one.aclose()  # nobody reads it any more
    assert tokens.stats() == {TOKENS: 1}
    async for _ in two:
        pass
    assert tokens.stats() == {TOKENS: 0}


def test_serve_takes_the_policy_by_its_name() -> None:
    tier = TierSettings(
        name="small",
        model_id="m",
        model_source="x",
        max_output_tokens=300,
        replicas={"max_replicas": 4, "target_tokens_in_flight": 4500},
    )
    config = AutoscalingConfig(**_tier_options(tier)["autoscaling_config"])
    policy = config.policy.get_policy()(**config.policy.policy_kwargs)
    assert policy(Seen(1, 15.0, {TOKENS: {"a": 4500.0}})) == (2.0, {})
    fixed = tier.model_copy(update={"replicas": tier.replicas.model_copy(update={"max_replicas": 1})})
    assert "autoscaling_config" not in _tier_options(fixed)
