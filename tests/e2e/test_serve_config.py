"""Production's file on a Ray cluster that cluster/node.sh starts, deploys it on, and keeps.

What cannot be had here is replaced as an operator would do it, by environment variables: small models in place of
Llama, one replica of each room, no GPU. The file itself is deployed as it is, but for the port.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cluster.environment import ray_environment, write_token
from cluster.instance import Instance
from cluster.ports import choose_serve_ports
from cluster.processes import ProcessId, end
from cluster.valkey import Valkey
from deployments.settings import load_settings
from tests.e2e.conftest import (
    COMMAND_TIMEOUT_S,
    HTTP_TIMEOUT_S,
    PATIENCE,
    ROOT,
    TIER_TIMEOUT_S,
    Desk,
    command_line,
    free_port,
    wait_until,
)

pytestmark = pytest.mark.e2e
CONFIG = ROOT / "serve_config.yaml"
MODELS = ROOT / ".raydesk" / "models"
KEY = "a key of production"
QUESTION = {"messages": [{"role": "user", "content": "How much does express delivery cost?"}], "stream": False}


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory, desk: Desk) -> Iterator[Production]:
    """Shares the knowledge of the first desk, and nothing else."""
    cluster = Production(tmp_path_factory.mktemp("production"), Path(desk.environment["RAYDESK_KNOWLEDGE__ROOT"]))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


class Production:
    """A Ray cluster of one node, with a store for its cache."""

    def __init__(self, folder: Path, knowledge: Path) -> None:
        self._instance = Instance(folder / "state")
        self._instance.create_folders()
        self._valkey = Valkey(self._instance.tmp / "valkey.sock", folder / "valkey", folder / "valkey.log")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._config = folder / "serve_config.yaml"
        self._config.write_text(CONFIG.read_text("utf-8").replace("port: 8000", f"port: {port}"), "utf-8")
        self._dashboard_port = free_port()
        self._log = folder / "ray.log"
        self._environment = self._ray() | self._stand_ins(folder, knowledge)

    def _ray(self) -> dict[str, str]:
        """What lets the cluster live beside the other desk: their files and ports must not meet."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "RAYDESK_"))}
        own = ray_environment(self._instance, choose_serve_ports(self._instance.id))
        apart = ("PORT", "_FILE_LOC", "SOCKET_PATH", "STATE_BASE", "STATE_FILE", "TOKEN_PATH", "INSTANCE_ID")
        ports = ("port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port")
        options = {
            **{name: free_port() for name in (*ports, "ray-client-server-port")},
            "min-worker-port": 0,  # any; by default they are where free_port looks
            "max-worker-port": 0,
            "temp-dir": self._instance.tmp / "ray",
            "num-cpus": 16,  # shares for scheduling: the file asks for the cores of a real cluster
            "num-gpus": 0,
            "object-store-memory": 200_000_000,
        }
        return (
            clean
            | {name: value for name, value in own.items() if name.endswith(apart)}
            | {
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "RAYDESK_DASHBOARD_PORT": str(self._dashboard_port),
                "RAYDESK_RAY_OPTIONS": " ".join(f"--{name}={value}" for name, value in options.items()),
            }
        )

    def _stand_ins(self, folder: Path, knowledge: Path) -> dict[str, str]:
        local = load_settings(ROOT / "cluster" / "local.yaml").tiers[0].model_dump()
        tiers = [local | {"name": name, "model_id": name, "languages": ["en", "zh"]} for name in ("small", "large")]
        for tier in tiers:
            tier["model_source"] = str(ROOT / tier["model_source"])
        key = {"id": "test", "sha256": hashlib.sha256(KEY.encode()).hexdigest(), "tenant": "demo"}
        one = {f"RAYDESK_{room}__REPLICAS__MIN_REPLICAS": "1" for room in ("HTTP", "INTENTS", "RETRIEVER", "TURN_LOG")}
        return {
            "RAYDESK_AUTH__KEYS": json.dumps([key]),
            "RAYDESK_KNOWLEDGE__ROOT": str(knowledge),
            "RAYDESK_ENCODER__MODEL": str(MODELS / "multilingual-e5-small"),
            "RAYDESK_ENCODER__PRECISION": "fp32",
            "RAYDESK_INTENTS__HEAD": str(MODELS / "intent-head"),
            "RAYDESK_INTENTS__RULES": str(ROOT / "cluster" / "sample_company" / "rules.yaml"),
            "RAYDESK_CACHE__URL": self._valkey.url,
            "RAYDESK_TURN_LOG__DSN": f"chdb:///{folder}/turnlog",
            "RAYDESK_TIERS": json.dumps(tiers),
            **one,
            **PATIENCE,
        }

    def start(self) -> None:
        write_token(self._instance)
        self._valkey.start({})
        self._valkey.wait_until_ready()
        with self._log.open("wb") as log:
            self._keeper = subprocess.Popen(
                ["cluster/node.sh", "head", str(self._config)],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def ask(self, path: str = "/v1/chat", **fields: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {KEY}"}
        response = httpx2.post(f"{self.url}{path}", json=QUESTION | fields, headers=headers, timeout=HTTP_TIMEOUT_S)
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document

    def readiness(self) -> dict[str, Any]:
        """Empty while nothing answers."""
        try:
            document: dict[str, Any] = httpx2.get(f"{self.url}/readyz", timeout=HTTP_TIMEOUT_S).json()
        except (httpx2.TransportError, json.JSONDecodeError):
            return {}
        return document

    def gcs(self) -> list[ProcessId]:
        return [process for process in self._instance.processes() if "gcs_server" in command_line(process.pid)]

    def stop(self) -> None:
        self._keeper.terminate()
        end(self._instance.processes(), 5.0)
        self._valkey.stop()


def test_the_file_as_it_is_answers_and_its_models_write(production: Production) -> None:
    wait_until(lambda: production.readiness().get("ready"), TIER_TIMEOUT_S, "the rooms")
    first = production.ask()
    assert first["path"] == "faq"
    assert "12.90" in first["text"]
    assert production.ask()["path"] == "exact_cache"
    assert httpx2.post(f"{production.url}/v1/chat", json=QUESTION, timeout=HTTP_TIMEOUT_S).status_code == 401

    def states() -> set[str]:
        return {tier["state"] for tier in production.readiness()["tiers"]}

    wait_until(lambda: states() == {"ready"}, TIER_TIMEOUT_S, "both language models")
    for tier in ("small", "large"):
        message = production.ask("/v1/chat/completions", model=tier)["choices"][0]["message"]
        assert message["raydesk"]["path"] in (tier, "passage")
        assert message["content"]


def test_all_comes_back_by_itself_when_the_heart_of_the_cluster_dies(production: Production) -> None:
    wait_until(lambda: production.readiness().get("ready"), TIER_TIMEOUT_S, "the rooms")
    (heart,) = production.gcs()
    heart.signal(signal.SIGKILL)
    wait_until(lambda: not production.readiness().get("ready"), COMMAND_TIMEOUT_S, "the end of the cluster")
    wait_until(lambda: production.readiness().get("ready"), TIER_TIMEOUT_S, "the rooms of the next one")
    assert production.ask()["path"] == "exact_cache"  # what was stored is still there
