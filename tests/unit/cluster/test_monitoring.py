"""Dashboard, alert rules and scrape configurations: made anew they are the same, and they fit each other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.observability.__main__ import files
from cluster.observability.alerts import ALERTS, RUNBOOKS, groups
from cluster.observability.dashboard import WIDTH, dashboard, queries
from tests.promql import metrics_of

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[3]
CLUSTER = ROOT / "cluster"


def test_files_are_as_they_would_be_made_now() -> None:
    for path, content in files(RUNBOOKS).items():
        assert path.read_text("utf-8") == content, f"{path.name}: run `python -m cluster.observability`"


def test_every_alert_has_its_page_in_the_handbook() -> None:
    text = (CLUSTER / "README.md").read_text("utf-8")
    anchors = {re.sub(r"[^a-z0-9 _-]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in headings(text)}
    for alert in ALERTS:
        assert alert.anchor in anchors
    named = {line.lstrip("# ") for line in headings(text) if line.startswith("### Raydesk")}
    assert named == {alert.name for alert in ALERTS}


def headings(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("#")]


def test_every_link_of_the_handbook_leads_somewhere() -> None:
    text = (CLUSTER / "README.md").read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert target.startswith("https://") or (CLUSTER / target).exists(), target
    for name in re.findall(r"`(cluster/[\w./-]+\.(?:yaml|json|sh|env|md|py))`", text):
        assert (ROOT / name).exists(), name


def test_all_queries_are_promql() -> None:
    for query in [*queries(), *(alert.expr for alert in ALERTS)]:
        assert metrics_of(query), query


@pytest.mark.parametrize(
    "query",
    [
        "sum(rate(a_total[5m])",
        "sum by path (a)",
        "rate(a_total)",
        "frobnicate(a)",
        "a{b=c}",
        "a +",
        "sum(a) by",
        "a[5x]",
    ],
)
def test_what_is_not_promql_is_refused(query: str) -> None:
    with pytest.raises(ValueError, match="PromQL"):
        metrics_of(query)


def test_the_dashboard_is_one_that_grafana_reads() -> None:
    board = dashboard()
    assert board["schemaVersion"] >= 30
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= WIDTH
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["targets"]
            assert all(target["expr"] and target["datasource"]["uid"] == "${source}" for target in panel["targets"])


def test_alerts_say_how_grave_they_are_and_what_to_do() -> None:
    (group,) = groups("https://wiki.example/raydesk")["groups"]
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["runbook_url"].startswith("https://wiki.example/raydesk#raydesk")
        assert re.fullmatch(r"\d+m", rule["for"])


def test_all_scrapes_give_our_metrics_the_same_names() -> None:
    compose = yaml.safe_load((CLUSTER / "observability" / "prometheus.yaml").read_text("utf-8"))
    (agents,) = (job for job in compose["scrape_configs"] if job["job_name"] == "ray")
    assert _renamed(agents["metric_relabel_configs"][0]) == "raydesk_up"
    for document in monitoring():
        if document["kind"] == "PodMonitor":
            (endpoint,) = document["spec"]["podMetricsEndpoints"]
            assert _renamed(endpoint["metricRelabelings"][0]) == "raydesk_up"


def _renamed(relabel: dict[str, Any]) -> str:
    return re.sub(f"^{relabel['regex']}$", relabel["replacement"].replace("$", "\\"), "ray_raydesk_up")


def monitoring() -> list[dict[str, Any]]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl, which renders the manifests, is not there")
    command = ["kubectl", "kustomize", "--load-restrictor", "LoadRestrictionsNone"]
    done = subprocess.run(
        [*command, str(CLUSTER / "kubernetes" / "monitoring")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_kubernetes_gets_the_same_dashboard_and_rules() -> None:
    of_kind = {document["kind"]: document for document in monitoring()}
    assert json.loads(of_kind["ConfigMap"]["data"]["raydesk.json"]) == dashboard()
    assert of_kind["PrometheusRule"]["spec"] == groups(RUNBOOKS)
    assert {document["metadata"]["namespace"] for document in of_kind.values()} == {"raydesk"}
