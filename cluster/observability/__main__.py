"""`python -m cluster.observability`: writes dashboard and alert rules, for Prometheus and for its operator."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

from cluster.observability.alerts import RUNBOOKS, groups
from cluster.observability.dashboard import dashboard

HERE = Path(__file__).parent
MONITORING = HERE.parent / "kubernetes" / "monitoring"
_MADE = "# Made by `python -m cluster.observability` from cluster/observability/alerts.py.\n"


def files(runbooks: str) -> dict[Path, str]:
    rules = groups(runbooks)
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "raydesk"},
        "spec": rules,
    }
    return {
        HERE / "dashboard.json": json.dumps(dashboard(), indent=1) + "\n",
        HERE / "rules.yaml": _MADE + _yaml(rules),
        MONITORING / "rules.yaml": _MADE + _yaml(resource),
    }


def _yaml(content: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(content, sort_keys=False, width=120)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cluster.observability", description=__doc__)
    parser.add_argument("--runbooks", default=RUNBOOKS, help="address of cluster/README.md for whoever is woken")
    arguments = parser.parse_args()
    for path, content in files(arguments.runbooks).items():
        path.write_text(content, "utf-8")
        print(path.relative_to(HERE.parent.parent))


if __name__ == "__main__":
    main()
