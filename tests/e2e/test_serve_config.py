"""Production's file on a Ray cluster of one node that cluster/node.sh starts, deploys it on, and keeps."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import COMMAND_TIMEOUT_S, HTTP_TIMEOUT_S, TIER_TIMEOUT_S, Desk, wait_until
from tests.e2e.production import AUTHORIZED, CALLERS, QUESTION, Callers, Production

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory, desk: Desk) -> Iterator[Production]:
    """Shares the knowledge of the first desk, and nothing else; the state of its GCS is kept."""
    cluster = Production(tmp_path_factory.mktemp("production"), Path(desk.environment["RAYDESK_KNOWLEDGE__ROOT"]))
    try:
        cluster.keep_state()
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


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


def test_nobody_notices_that_the_heart_of_the_cluster_dies(production: Production) -> None:
    """Its GCS, whose state is kept. How soon it is back: perf/LOG.md."""
    wait_until(lambda: production.readiness().get("ready"), TIER_TIMEOUT_S, "the rooms")
    before, (heart,) = production.ask(conversation_id="kept"), production.gcs()
    replicas = production.nodes[0].processes("ServeReplica:")
    with Callers(production, production.url) as callers:
        wait_until(lambda: callers.answered >= CALLERS, COMMAND_TIMEOUT_S, "the first answers")
        heart.signal(signal.SIGKILL)
        wait_until(lambda: callers.answered >= 15 * CALLERS, COMMAND_TIMEOUT_S, "answers without it")
        wait_until(lambda: [heart] != production.gcs() != [], COMMAND_TIMEOUT_S, "the next one")
        production.deploy()  # it does again what hearts do
    assert callers.failures == []
    assert production.nodes[0].processes("ServeReplica:") == replicas
    assert_all_is_kept(production, before)


def test_all_comes_back_by_itself_when_the_head_dies(production: Production) -> None:
    wait_until(lambda: production.readiness().get("ready"), TIER_TIMEOUT_S, "the rooms")
    before, (raylet,) = production.ask(conversation_id="kept"), production.nodes[0].processes("raylet/raylet")
    raylet.signal(signal.SIGKILL)
    wait_until(lambda: not production.readiness().get("ready"), COMMAND_TIMEOUT_S, "the end of the cluster")
    wait_until(lambda: production.readiness().get("ready"), TIER_TIMEOUT_S, "the rooms of the next one")
    assert_all_is_kept(production, before)
    assert len(production.nodes[0].processes("/haproxy ")) == 1  # the new one, alone at the door


def assert_all_is_kept(production: Production, before: dict[str, Any]) -> None:
    again = production.ask()
    assert (again["path"], again["text"]) == ("exact_cache", before["text"])  # what was stored is still there
    assert again["knowledge_version"] == before["knowledge_version"]
    kept = httpx2.get(f"{production.url}/v1/conversations/kept", headers=AUTHORIZED, timeout=HTTP_TIMEOUT_S).json()
    assert [message["content"] for message in kept["messages"]][-1] == before["text"]
