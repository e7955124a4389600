"""What wakes somebody, or waits for the morning. Each alert has its page in cluster/README.md, under its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

RUNBOOKS = "cluster/README.md"


@dataclass(frozen=True, slots=True)
class Alert:
    name: str
    expr: str  # PromQL; fires where it gives anything
    wait: str  # how long that must last
    severity: Literal["page", "ticket"]
    summary: str

    @property
    def anchor(self) -> str:
        """Of its heading in cluster/README.md."""
        return self.name.lower()

    def rule(self, runbooks: str) -> dict[str, Any]:
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.wait,
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary, "runbook_url": f"{runbooks}#{self.anchor}"},
        }


ALERTS = (
    Alert(
        "RaydeskAway",
        "absent(raydesk_up)",
        "2m",
        "page",
        "No ingress replica tells anything: customers are not answered, or nothing is scraped.",
    ),
    Alert(
        "RaydeskReplicaAway",
        "min by (application, deployment, replica) (ray_serve_deployment_replica_healthy) == 0",
        "5m",
        "ticket",
        "A replica of {{ $labels.deployment }} in {{ $labels.application }} is not healthy.",
    ),
    Alert(
        "RaydeskRoomDown",
        'max by (part) (raydesk_up{part!~"small|large|cloud"}) == 0',
        "2m",
        "page",
        "{{ $labels.part }} is down for every ingress: answers are degraded or missing.",
    ),
    Alert(
        "RaydeskTierDown",
        'max by (part) (raydesk_up{part=~"small|large|cloud"}) == 0',
        "10m",
        "page",
        "The {{ $labels.part }} language model is down: passages are quoted instead of written answers.",
    ),
    Alert(
        "RaydeskBreakerOpen",
        'max by (tier) (raydesk_breaker{state!="closed"}) == 1',
        "5m",
        "ticket",
        "The {{ $labels.tier }} language model fails so often that it is not asked; others answer.",
    ),
    Alert(
        "RaydeskTurnsFail",
        'sum(rate(raydesk_turns_total{outcome="failed"}[5m])) / sum(rate(raydesk_turns_total[5m])) > 0.02',
        "5m",
        "page",
        "{{ $value | humanizePercentage }} of turns end in an error.",
    ),
    Alert(
        "RaydeskRefuses",
        'sum(rate(raydesk_http_errors_total{code=~"overloaded|engine_busy|room_unavailable"}[5m])) > 0.2',
        "5m",
        "page",
        "{{ $value | humanize }} requests a second are turned away: there are too few replicas for the traffic.",
    ),
    Alert(
        "RaydeskSlow",
        "histogram_quantile(0.95, sum by (le) (rate(raydesk_time_to_first_token_seconds_bucket[10m]))) > 2.5",
        "10m",
        "ticket",
        "One customer in twenty waits {{ $value | humanizeDuration }} for the first words.",
    ),
    Alert(
        "RaydeskDegraded",
        "sum(rate(raydesk_degradations_total[10m])) / sum(rate(raydesk_turns_total[10m])) > 0.1",
        "10m",
        "ticket",
        "{{ $value | humanizePercentage }} of turns go without something that they should have.",
    ),
    Alert(
        "RaydeskTurnLogBehind",
        "max(raydesk_turn_log_waiting) > 2000",
        "5m",
        "ticket",
        "{{ $value }} turns wait for the turn log; from turn_log.queue_size on the oldest are lost.",
    ),
    Alert(
        "RaydeskTurnsLost",
        "sum(increase(raydesk_turns_dropped_total[15m])) > 0",
        "0m",
        "page",
        "{{ $value }} turns were never written to the turn log.",
    ),
    Alert(
        "RaydeskKnowledgeDiffers",
        "count by (tenant, collection) (count by (tenant, collection, version) (raydesk_knowledge_version_info)) > 1",
        "10m",
        "ticket",
        "Replicas answer {{ $labels.collection }} of {{ $labels.tenant }} from different versions.",
    ),
    Alert(
        "RaydeskCacheWrong",
        'sum(increase(raydesk_cache_events_total{event="judged",detail="wrong"}[1h])) '
        '/ sum(increase(raydesk_cache_events_total{event="judged"}[1h])) > 0.03 '
        'and sum(increase(raydesk_cache_events_total{event="judged"}[1h])) > 50',
        "15m",
        "ticket",
        "{{ $value | humanizePercentage }} of checked cache hits would have got another answer anew.",
    ),
)


def groups(runbooks: str = RUNBOOKS) -> dict[str, Any]:
    """A Prometheus rules file. runbooks: address of cluster/README.md, as whoever is woken can open it."""
    return {"groups": [{"name": "raydesk", "interval": "30s", "rules": [alert.rule(runbooks) for alert in ALERTS]}]}
