"""Two nodes, each with a door, an ingress and every room of its own: what one of them has, the other knows, and what
dies with one, the other does.

Both are on this machine, and everything between them is as between two: their own Ray, HAProxy, ports and files.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from tests.e2e.conftest import COMMAND_TIMEOUT_S, ROOT, TIER_TIMEOUT_S, Desk, wait_until
from tests.e2e.production import KEY, Production

pytestmark = [pytest.mark.e2e, pytest.mark.nodes]
EVERYWHERE = {f"RAYDESK_{room}__REPLICAS__MIN_REPLICAS": "2" for room in ("HTTP", "INTENTS", "RETRIEVER")}
QUESTIONS = ("How much does express delivery cost?", "How long do I have to return something?", "Can I pay by invoice?")
CALLERS = 4


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, desk: Desk) -> Iterator[Production]:
    """A copy of the first desk's knowledge, in two shards; no language model."""
    folder = tmp_path_factory.mktemp("nodes")
    knowledge = folder / "knowledge"
    shutil.copytree(desk.environment["RAYDESK_KNOWLEDGE__ROOT"], knowledge)
    started = Production(folder, knowledge, RAYDESK_TIERS="[]", RAYDESK_KNOWLEDGE__PARTS="2", **EVERYWHERE)
    try:
        started.start(nodes=2)
        for node in started.nodes:
            wait_until(lambda url=node.url: started.answers(url), TIER_TIMEOUT_S, f"the door {node.url}")
        yield started
    finally:
        started.stop()


def test_what_is_published_is_found_through_every_door_from_the_other_shard(
    cluster: Production, tmp_path: Path
) -> None:
    """The first version has one segment, and the new one has a second: each shard has one of them."""
    question, answer = "Do you engrave garden gnomes?", "Garden gnomes are engraved for 4.20 EUR."
    publish_pair(cluster, question, answer)
    for node in cluster.nodes:

        def knows(url: str = node.url) -> bool:
            response = cluster.post(url=url, messages=[{"role": "user", "content": question}])
            return response.status_code == 200 and "4.20" in response.json()["text"]

        wait_until(knows, COMMAND_TIMEOUT_S, f"the new pair at {node.url}")
        assert "12.90" in cluster.ask(url=node.url)["text"]


@dataclass
class Callers:
    """A few customers who ask one thing after the other at one door, and what came of it."""

    cluster: Production
    url: str
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
        while not self._stop.wait(0.3):
            number += 1
            content = QUESTIONS[number % len(QUESTIONS)] if number % 4 else f"Is my order {number} late?"
            try:
                response = self.cluster.post(url=self.url, messages=[{"role": "user", "content": content}])
            except httpx2.TransportError as error:
                self.failures.append(type(error).__name__)
                continue
            if response.status_code == 200:
                self.answered += 1
            else:
                self.failures.append(f"{response.status_code} {response.text[:200]}")


def test_controller_that_dies_under_load_costs_nothing(cluster: Production) -> None:
    (controller,) = [process for node in cluster.nodes for process in node.processes("ServeController")]
    with Callers(cluster, cluster.url) as callers:
        wait_until(lambda: callers.answered >= CALLERS, COMMAND_TIMEOUT_S, "the first answers")
        controller.signal(signal.SIGKILL)
        wait_until(lambda: callers.answered >= 15 * CALLERS, COMMAND_TIMEOUT_S, "answers without it")
    assert callers.failures == []


@pytest.mark.parametrize("path", ["/api/version", "/api/jobs/", "/api/serve/applications/", "/nodes?view=summary"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_nobody_commands_the_cluster_without_its_token(cluster: Production, method: str, path: str) -> None:
    url = f"http://127.0.0.1:{cluster.dashboard_port}{path}"
    for headers in ({}, {"Authorization": "Bearer " + "0" * 64}):
        assert httpx2.request(method, url, json={}, headers=headers, timeout=30).status_code in (401, 403)


def test_nobody_joins_the_cluster_without_its_token(cluster: Production) -> None:
    wrong = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    wrong.pop("RAY_AUTH_TOKEN_PATH", None)
    command = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", cluster.gcs_address]
    refused = subprocess.run(command, env=wrong, capture_output=True, timeout=COMMAND_TIMEOUT_S, check=False)
    assert refused.returncode != 0
    assert cluster.instance.token_file.stat().st_mode & 0o777 == 0o600


def test_no_log_holds_a_key(cluster: Production) -> None:
    assert cluster.answers(cluster.url)
    logs = [file for file in (cluster.instance.tmp / "ray").rglob("*") if file.suffix in (".log", ".out", ".err")]
    assert len(logs) > 10
    assert [file.name for file in logs if KEY.encode() in file.read_bytes()] == []


def test_a_node_that_dies_under_load_costs_at_most_what_it_was_working_on(cluster: Production) -> None:
    head, worker = cluster.nodes
    with Callers(cluster, head.url) as callers:
        wait_until(lambda: callers.answered >= 4 * CALLERS, COMMAND_TIMEOUT_S, "the first answers")
        before = list(callers.failures)
        worker.die()
        died = callers.answered
        wait_until(lambda: callers.answered >= died + 20 * CALLERS, COMMAND_TIMEOUT_S, "answers of the other node")
    assert before == []
    lost = callers.failures
    assert len(lost) <= 2 * CALLERS, lost  # in flight when it died, and the one after it
    for question in QUESTIONS:
        assert cluster.ask(messages=[{"role": "user", "content": question}])["text"]


def publish_pair(cluster: Production, question: str, answer: str) -> None:
    root = cluster.settings["RAYDESK_KNOWLEDGE__ROOT"]
    command = ["ingest", "pair", "--collection", "help", "--root", root, "--question", question, "--answer", answer]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "RAYDESK_"))}
    done = subprocess.run(
        [sys.executable, "-m", "cluster.cli", *command],
        cwd=ROOT,
        env=clean | {"RAYDESK_STATE": str(Path(root).parent / "no-desk")},
        capture_output=True,
        text=True,
        timeout=TIER_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
