"""What an ingress replica counts, and that no customer can make it count without bound."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deployments.answering.protocols import AppStatus, TierStatus
from deployments.answering.types import TurnRecord
from deployments.metrics import MOST_COLLECTIONS, MOST_VALUES, OTHER, TOKENS_SAVED, Metrics

pytestmark = pytest.mark.unit
STATUS = AppStatus({"retriever": "ready", "semantic_cache": "down"}, (TierStatus("small", "m", "starting", "open"),))


def record(number: int = 0, **fields: object) -> TurnRecord:
    made = TurnRecord(
        f"t{number}", "r", "c", "acme", "k", "http", "help", 0.0, "How much?", knowledge_version="v000001"
    )
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def told(metrics: Metrics) -> dict[str, float]:
    """By name and labels: 'raydesk_up{part=retriever}'."""
    samples: dict[str, float] = {}
    for family in text_string_to_metric_families(metrics.text(STATUS).decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


def test_a_turn_is_counted_by_path_outcome_and_time() -> None:
    metrics = Metrics()
    metrics.on_end(record(path="faq", ttft_ms=40.0, duration_ms=90.0, step_ms={"search": 20.0}))
    samples = told(metrics)
    assert samples["raydesk_turns_total{outcome=answered,path=faq}"] == 1
    assert samples["raydesk_turn_duration_seconds_sum{path=faq}"] == pytest.approx(0.09)
    assert samples["raydesk_time_to_first_token_seconds_bucket{le=0.05,path=faq}"] == 1
    assert samples["raydesk_time_to_first_token_seconds_bucket{le=0.025,path=faq}"] == 0
    assert samples["raydesk_step_seconds_sum{step=search}"] == pytest.approx(0.02)


def test_a_hit_is_counted_by_tier_with_the_tokens_and_the_money_that_it_saved() -> None:
    metrics = Metrics(price_per_million_tokens=2.0)
    metrics.on_end(record(path="semantic_cache", cache_tier="semantic", tokens_saved=500))
    metrics.on_end(record(path="exact_cache", cache_tier="exact", tokens_saved=500))
    samples = told(metrics)
    assert samples["raydesk_cache_hits_total{tier=semantic}"] == 1
    assert samples["raydesk_cache_tokens_saved_total"] == 1000
    assert samples["raydesk_cache_cost_saved_total"] == pytest.approx(0.002)  # 1000 tokens at 2 a million


def test_failures_degradations_and_tokens_are_counted() -> None:
    metrics = Metrics()
    metrics.on_end(record(outcome="failed", error_code="engine_died", degraded=["sessions:down", "small:starting"]))
    metrics.on_end(record(path="small", input_tokens=300, output_tokens=20))
    metrics.on_http_error("overloaded", 503)
    samples = told(metrics)
    assert samples["raydesk_turns_total{outcome=failed,path=none}"] == 1
    assert samples["raydesk_turn_errors_total{code=engine_died}"] == 1
    assert samples["raydesk_degradations_total{how=down,part=sessions}"] == 1
    assert samples["raydesk_model_tokens_total{direction=in,path=small}"] == 300
    assert samples["raydesk_http_errors_total{code=overloaded,status=503}"] == 1


def test_states_are_told_for_rooms_and_tiers() -> None:
    samples = told(Metrics())
    assert samples["raydesk_up{part=retriever}"] == 1
    assert samples["raydesk_up{part=semantic_cache}"] == 0
    assert samples["raydesk_tier_state{state=starting,tier=small}"] == 1
    assert samples["raydesk_tier_state{state=ready,tier=small}"] == 0
    assert samples["raydesk_breaker{state=open,tier=small}"] == 1
    assert samples["raydesk_breaker{state=closed,tier=small}"] == 0


def test_only_the_published_version_of_a_collection_is_told() -> None:
    metrics = Metrics()
    metrics.on_end(record(knowledge_version="v000001"))
    metrics.note_version("acme", "help", "v000002")
    version = {name for name in told(metrics) if name.startswith("raydesk_knowledge_version_info")}
    assert version == {"raydesk_knowledge_version_info{collection=help,tenant=acme,version=v000002}"}
    assert metrics.collections == [("acme", "help")]
    metrics.note_version("acme", "help", None)
    assert metrics.collections == []


def test_what_the_cache_counts_is_told_but_for_what_the_turns_tell() -> None:
    metrics = Metrics()
    metrics.watch_cache({"hit:exact": 3, "refused:negation": 2, "miss": 4, TOKENS_SAVED: 9})
    samples = told(metrics)
    assert samples["raydesk_cache_events_total{detail=negation,event=refused}"] == 2
    assert samples["raydesk_cache_events_total{detail=,event=miss}"] == 4
    assert samples["raydesk_cache_tokens_saved_total"] == 0


def test_labels_stay_few_whatever_customers_do() -> None:
    metrics = Metrics()
    counts = {f"refused:reason {number}": 1 for number in range(500)}
    metrics.watch_cache(counts)
    for number in range(500):
        metrics.on_http_error(f"code {number}", 400)
        metrics.on_end(
            record(
                number,
                tenant=f"tenant {number}",
                collection=f"collection {number}",
                intent=f"intent {number}",
                path=f"path {number}",
                error_code=f"code {number}",
                degraded=[f"part {number}:down"],
                step_ms={f"step {number}": 1.0},
            )
        )
    samples = told(metrics)
    lengths = {}
    for name in samples:
        metric = name.partition("{")[0]
        lengths[metric] = lengths.get(metric, 0) + 1
    assert lengths.pop("raydesk_knowledge_version_info") == MOST_COLLECTIONS
    buckets = 16  # of a histogram, the infinite one included
    assert max(lengths.values()) <= (MOST_VALUES + 1) * buckets
    assert samples[f"raydesk_turn_errors_total{{code={OTHER}}}"] == 500 - MOST_VALUES
    assert samples[f"raydesk_cache_events_total{{detail={OTHER},event=refused}}"] == 500 - MOST_VALUES
    assert "intent 1" not in str(samples)
