"""The Grafana dashboard: rows of panels, each with its queries. `replica` and `node` sum up unless chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

WIDTH = 24  # columns of Grafana's grid
HEIGHT = 8  # of a panel, in Grafana's rows
_SOURCE = {"type": "prometheus", "uid": "${source}"}


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    queries: tuple[tuple[str, str], ...]  # PromQL, and what its series are called
    unit: str = "short"  # Grafana's name of a unit
    kind: Literal["timeseries", "stat", "table"] = "timeseries"
    stacked: bool = False
    help: str = ""


def quantile(share: float, metric: str, by: str = "") -> str:
    kept = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({kept}) (rate({metric}_bucket[$__rate_interval])))"


def rate(metric: str, by: str = "", labels: str = "") -> str:
    selected = f"{metric}{{{labels}}}" if labels else metric
    return f"sum{f' by ({by})' if by else ''} (rate({selected}[$__rate_interval]))"


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Customers",
        (
            Panel(
                "Turns a second, by path", ((rate("raydesk_turns_total", "path"), "{{path}}"),), "reqps", stacked=True
            ),
            Panel(
                "Share of paths",
                ((f"{rate('raydesk_turns_total', 'path')} / scalar({rate('raydesk_turns_total')})", "{{path}}"),),
                "percentunit",
                stacked=True,
                help="The cheaper paths are exact_cache, rule, semantic_cache and faq.",
            ),
            Panel(
                "Time to the first words",
                (
                    (quantile(0.5, "raydesk_time_to_first_token_seconds"), "half"),
                    (quantile(0.95, "raydesk_time_to_first_token_seconds"), "95 %"),
                    (quantile(0.99, "raydesk_time_to_first_token_seconds"), "99 %"),
                ),
                "s",
            ),
            Panel(
                "Time to the first words, 95 %, by path",
                ((quantile(0.95, "raydesk_time_to_first_token_seconds", "path"), "{{path}}"),),
                "s",
            ),
            Panel(
                "Whole turns, 95 %, by path",
                ((quantile(0.95, "raydesk_turn_duration_seconds", "path"), "{{path}}"),),
                "s",
            ),
            Panel(
                "Steps, 95 %",
                ((quantile(0.95, "raydesk_step_seconds", "step"), "{{step}}"),),
                "s",
                help="Which step a slow turn waits for.",
            ),
        ),
    ),
    (
        "What goes wrong",
        (
            Panel(
                "Failed and cancelled turns",
                ((rate("raydesk_turns_total", "outcome", 'outcome!="answered"'), "{{outcome}}"),),
                "reqps",
            ),
            Panel("Failed turns, by code", ((rate("raydesk_turn_errors_total", "code"), "{{code}}"),), "reqps"),
            Panel(
                "Requests answered with an error",
                ((rate("raydesk_http_errors_total", "code, status"), "{{status}} {{code}}"),),
                "reqps",
            ),
            Panel(
                "Degraded turns, by what they lacked",
                ((rate("raydesk_degradations_total", "part, how"), "{{part}} {{how}}"),),
                "reqps",
                stacked=True,
            ),
            Panel(
                "Rooms and tiers that are up",
                (("min by (part) (raydesk_up)", "{{part}}"),),
                help="0 where any ingress replica finds it down.",
            ),
            Panel(
                "Language models: states and breakers",
                (
                    ("sum by (tier, state) (raydesk_tier_state) > 0", "{{tier}} {{state}}"),
                    ('sum by (tier, state) (raydesk_breaker{state!="closed"}) > 0', "{{tier}} breaker {{state}}"),
                ),
                help="The number of ingress replicas that see it so.",
            ),
        ),
    ),
    (
        "Cache and costs",
        (
            Panel(
                "Hits a second, by tier",
                ((rate("raydesk_cache_hits_total", "tier"), "{{tier}}"),),
                "reqps",
                stacked=True,
            ),
            Panel(
                "Share of turns from the cache",
                ((f"{rate('raydesk_cache_hits_total', 'tier')} / scalar({rate('raydesk_turns_total')})", "{{tier}}"),),
                "percentunit",
                stacked=True,
            ),
            Panel(
                "Why look-ups were no hits",
                (
                    (
                        rate("raydesk_cache_events_total", "event, detail", 'event=~"refused|miss"'),
                        "{{event}} {{detail}}",
                    ),
                ),
                "reqps",
                help="Of caches within the ingress; one that is apart counts in its store (raydesk cache report).",
            ),
            Panel(
                "What went, came, and was judged",
                (
                    (
                        rate("raydesk_cache_events_total", "event, detail", 'event!~"refused|miss|hit"'),
                        "{{event}} {{detail}}",
                    ),
                ),
                "reqps",
            ),
            Panel(
                "Tokens of models a second",
                (
                    (rate("raydesk_model_tokens_total", "path, direction"), "{{path}} {{direction}}"),
                    (rate("raydesk_cache_tokens_saved_total"), "saved by the cache"),
                ),
            ),
            Panel(
                "Saved by the cache, in the time shown",
                (("sum(increase(raydesk_cache_cost_saved_total[$__range]))", "saved"),),
                kind="stat",
                help="At cache.price_per_million_tokens, in your money.",
            ),
        ),
    ),
    (
        "Knowledge and capacity",
        (
            Panel(
                "Published versions",
                (("count by (tenant, collection, version) (raydesk_knowledge_version_info)", ""),),
                kind="table",
                help="With the number of replicas that answer from it; two versions of one collection for more than a "
                "minute mean that some replicas are behind.",
            ),
            Panel("Turns at work, by replica", (("sum by (replica) (raydesk_turns_running)", "{{replica}}"),)),
            Panel(
                "Turns not yet in the log, and lost",
                (
                    ("sum(raydesk_turn_log_waiting)", "waiting"),
                    ("sum(increase(raydesk_turns_dropped_total[$__rate_interval]))", "lost"),
                ),
            ),
            Panel(
                "Healthy replicas, by deployment",
                (
                    (
                        "sum by (application, deployment) (ray_serve_deployment_replica_healthy)",
                        "{{application}} {{deployment}}",
                    ),
                ),
            ),
            Panel(
                "Requests at work and queued, by deployment",
                (
                    ("sum by (deployment) (ray_serve_replica_processing_queries)", "{{deployment}} at work"),
                    ("sum by (deployment) (ray_serve_deployment_queued_queries)", "{{deployment}} queued"),
                ),
            ),
            Panel(
                "Processor and memory of nodes",
                (
                    ("avg by (NodeAddress) (ray_node_cpu_utilization) / 100", "{{NodeAddress}} processor"),
                    (
                        "sum by (NodeAddress) (ray_node_mem_used) / sum by (NodeAddress) (ray_node_mem_total)",
                        "{{NodeAddress}} memory",
                    ),
                ),
                "percentunit",
            ),
        ),
    ),
)


def queries() -> list[str]:
    return [query for _, panels in ROWS for panel in panels for query, _ in panel.queries]


def dashboard() -> dict[str, Any]:
    """For Grafana 10 or newer, by import or provisioning."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS:
        place = {"h": 1, "w": WIDTH, "x": 0, "y": y}
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "gridPos": place, "panels": []})
        y += 1
        for first in range(0, len(row), 3):
            panels.extend(_side_by_side(row[first : first + 3], len(panels), y))
            y += HEIGHT
    return {
        "uid": "raydesk",
        "title": "Raydesk",
        "tags": ["raydesk"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "panels": panels,
    }


def _side_by_side(row: Sequence[Panel], before: int, y: int) -> list[dict[str, Any]]:
    width = WIDTH // len(row)
    return [
        _panel(panel, before + place + 1, {"h": HEIGHT, "w": width, "x": place * width, "y": y})
        for place, panel in enumerate(row)
    ]


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    stacking = {"mode": "normal" if panel.stacked else "none"}
    custom = {"stacking": stacking, "fillOpacity": 30 if panel.stacked else 0} if panel.kind == "timeseries" else {}
    is_table = panel.kind == "table"
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": query,
                "legendFormat": name or "__auto",
                "instant": is_table,
                "range": not is_table,
                "format": "table" if is_table else "time_series",
            }
            for index, (query, name) in enumerate(panel.queries)
        ],
    }
