"""What operators see of the running application: its nodes' metrics and its log."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cluster.environment import ray_client_environment
from cluster.instance import Instance
from cluster.observability.alerts import ALERTS
from cluster.observability.dashboard import queries
from tests.e2e.conftest import COMMAND_TIMEOUT_S, HTTP_TIMEOUT_S, ROOT, Desk, wait_until
from tests.promql import metrics_of

pytestmark = pytest.mark.e2e
NODES = "import json, ray; ray.init(logging_level='ERROR'); print(json.dumps(ray.nodes()))"
QUESTION = "How much does express delivery cost?"
PRIVATE = "My parcel for Zsófia Kovácsné has not arrived, order NL-77777777, what now?"


@pytest.fixture(scope="module")
def agent_url(desk: Desk) -> str:
    """Where the node's metrics agent is scraped."""
    address = desk.running.ray_address
    assert address is not None
    done = subprocess.run(
        [sys.executable, "-c", NODES],
        cwd=ROOT,
        env=desk.environment | ray_client_environment(Instance(desk.state), address),
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=True,
    )
    (node,) = json.loads(done.stdout.splitlines()[-1])
    assert node["NodeManagerAddress"] == "127.0.0.1"  # nobody else can ask
    return f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"


def samples(url: str) -> dict[str, list[dict[str, str]]]:
    """The labels of all series, by name as Prometheus keeps it: what it is told to relabel is relabelled."""
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(httpx2.get(url, timeout=HTTP_TIMEOUT_S).text):
        for sample in family.samples:
            found.setdefault(sample.name.replace("ray_raydesk_", "raydesk_", 1), []).append(sample.labels)
    return found


def test_the_nodes_agent_has_what_every_replica_counts(desk: Desk, agent_url: str) -> None:
    desk.ask(QUESTION)
    desk.ask(QUESTION)
    wait_until(lambda: "raydesk_cache_hits_total" in samples(agent_url), COMMAND_TIMEOUT_S, "the replica's counts")
    found = samples(agent_url)
    (up,) = (labels for labels in found["raydesk_up"] if labels["part"] == "retriever")
    assert up["application"] == "raydesk"
    assert up["deployment"] == "ingress"
    assert up["replica"]
    assert {labels["le"] for labels in found["raydesk_turn_duration_seconds_bucket"]} >= {"0.05", "+Inf"}


def test_every_metric_that_dashboard_and_alerts_name_exists(desk: Desk, agent_url: str) -> None:
    named = set[str]().union(*(metrics_of(query) for query in [*queries(), *(alert.expr for alert in ALERTS)]))
    assert desk.post("/v1/chat", {"messages": []}).status_code == 400
    desk.ask(QUESTION)
    own = {name for name in named if name.startswith("raydesk_")}
    assert own <= declared(desk.get("/metrics").text)
    # Ray, Serve and the others tell every 10 s; what has happened to no turn yet has no series.
    has_series = {name for name in own if f"\n{name}{{" in desk.get("/metrics").text}
    assert has_series >= {"raydesk_turns_total", "raydesk_http_errors_total", "raydesk_knowledge_version_info"}
    missing = (named - own) | has_series
    wait_until(lambda: missing <= samples(agent_url).keys(), COMMAND_TIMEOUT_S, "all series of the dashboard")


def declared(text: str) -> set[str]:
    """Names of all series that an exposition may have, whether there are any yet or not."""
    found: set[str] = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE):
        found |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return found


def test_every_line_of_the_log_is_json_and_names_its_turn_but_not_its_text(desk: Desk) -> None:
    asked = desk.ask(PRIVATE)
    assert asked["text"]
    found = list(own_lines(desk))
    assert {line["event"] for line in found} >= {"ingress_starts"}
    for line in found:
        assert {"event", "level", "logger", "time", "deployment", "replica"} <= set(line)
    assert {line["deployment"] for line in found} <= {"ingress", "turn_log"}
    of_turns = [line for line in found if "turn_id" in line]
    assert all(line["tenant"] == "demo" and line["request_id"] for line in of_turns)
    text = json.dumps(found, ensure_ascii=False)
    assert "Kovácsné" not in text
    assert "NL-77777777" not in text


def own_lines(desk: Desk) -> Iterator[dict[str, Any]]:
    """Of all processes of this run; what Ray and other libraries print there is theirs."""
    for file in (Instance(desk.state).logs / "ray").resolve().glob("worker-*.out"):
        for line in file.read_text("utf-8", errors="replace").splitlines():
            if '"logger"' in line or "deployments." in line:  # as JSON, and as structlog writes by itself
                yield json.loads(line)
