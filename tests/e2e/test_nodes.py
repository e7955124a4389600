"""Two nodes, each with a door, an ingress and every room of its own: what one of them has, the other knows, and what
dies with one, the other does.

Both are on this machine, and everything between them is as between two: their own Ray, HAProxy, ports and files.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.counts import IS_FULL
from tests.e2e.conftest import COMMAND_TIMEOUT_S, HTTP_TIMEOUT_S, ROOT, TIER_TIMEOUT_S, Desk, wait_until
from tests.e2e.production import AUTHORIZED, CALLERS, KEY, QUESTIONS, Callers, Production

pytestmark = [pytest.mark.e2e, pytest.mark.nodes]
EVERYWHERE = {f"RAYDESK_{room}__REPLICAS__MIN_REPLICAS": "2" for room in ("HTTP", "INTENTS", "RETRIEVER")}
# Writes for 48 s, long enough for a stream to be there before and after what happens to its desk. Two replicas where
# more than eight answers are written.
TIER = {
    "name": "small",
    "model_id": "raydesk-small",
    "script": {"tokens": 240, "first_token_ms": 100, "tokens_per_s": 5},
    "max_output_tokens": 240,
    "accept_timeout_s": 60,  # fifty at once, on two cores that start replicas beside them
    "first_token_timeout_s": 60,
    "replicas": {
        "num_cpus": 0.1,
        "max_replicas": 2,
        "target_tokens_in_flight": 2000,
        "upscale_delay_s": 1,
        "downscale_delay_s": 2,
        "health_check_period_s": 1,
        "graceful_shutdown_timeout_s": 120,
    },
}
LONG = "How often does the Zephyr 600 need a new filter, what does the filter cost, and how do I change it?"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, desk: Desk) -> Iterator[Production]:
    """A copy of the first desk's knowledge, in two shards; a scripted language model, whose replicas are counted."""
    folder = tmp_path_factory.mktemp("nodes")
    knowledge = folder / "knowledge"
    shutil.copytree(desk.environment["RAYDESK_KNOWLEDGE__ROOT"], knowledge)
    settings = {"RAYDESK_TIERS": json.dumps([TIER]), "RAYDESK_KNOWLEDGE__PARTS": "2", **EVERYWHERE}
    settings["RAYDESK_DEADLINES__TURN_S"] = "180"  # a slow start must not cut the end of what takes 48 s
    if not IS_FULL:  # a replica that is to go stays for balancers further out, 30 s by default
        settings["RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"] = "2"
    started = Production(folder, knowledge, **settings)
    try:
        started.start(nodes=2)
        for node in started.nodes:
            wait_until(lambda url=node.url: started.readiness(url).get("ready"), TIER_TIMEOUT_S, f"the door {node.url}")
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


def test_what_a_job_of_the_cluster_publishes_is_found_through_every_door(cluster: Production, tmp_path: Path) -> None:
    """Without a word on where and with which encoder: the head knows its settings."""
    pairs = tmp_path / "gnomes.csv"
    pairs.write_text("question,answer\nDo you paint garden gnomes?,Garden gnomes are painted for 7.30 EUR.\n", "utf-8")
    said = cluster.run_job("raydesk", "ingest", "apply", "--collection", "gnomes", str(pairs))
    assert "demo/gnomes v000001" in said
    for node in cluster.nodes:
        asked = [{"role": "user", "content": "Do you paint garden gnomes?"}]
        assert "7.30" in cluster.ask(url=node.url, collection="gnomes", messages=asked)["text"]


async def test_a_stream_that_one_node_began_goes_on_through_the_door_of_the_other(cluster: Production) -> None:
    first, second = (node.url for node in cluster.nodes)
    async with httpx2.AsyncClient(headers=AUTHORIZED, timeout=HTTP_TIMEOUT_S) as client:
        for url in (first, second):
            await asyncio.to_thread(wait_until, lambda url=url: writes(cluster, url), TIER_TIMEOUT_S, "the model")
        turn_id = ""
        key = {"Idempotency-Key": "one-that-is-cut"}  # without it, who leaves one of OpenAI's streams ends its turn
        asked = client.stream("POST", f"{first}/v1/chat/completions", json=written_body(30), headers=key)
        async with asked as response:
            assert response.status_code == 200, await response.aread()
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    turn_id = json.loads(line.removeprefix("data: "))["id"].removeprefix("chatcmpl-")
                    break
        events = f"/v1/turns/{turn_id}/events"
        seen = await read_events(client, f"{first}{events}", "0", most=2)
        rest = await read_events(client, f"{second}{events}", seen[-1][0])
        report = {"state": "running"}  # at the store for a moment, where the one who writes was read
        async with asyncio.timeout(HTTP_TIMEOUT_S):
            while report["state"] == "running":
                report = (await client.get(f"{second}/v1/turns/{turn_id}")).json()
    assert [int(number) for number, _, _ in seen + rest] == list(range(1, len(seen + rest) + 1))
    assert rest[-1][1] == "done"
    assert "".join(data["text"] for _, name, data in seen + rest if name == "delta") == report["text"], report
    assert len(report["text"].split()) > 10


def writes(cluster: Production, url: str) -> bool:
    return bool(cluster.readiness(url).get("tiers", [{}])[0].get("state") == "ready")


def written_body(max_tokens: int = 240) -> dict[str, object]:
    """A question whose answer is written. A temperature of its own: such an answer is neither stored nor shared."""
    messages = [{"role": "user", "content": LONG}]
    model = TIER["model_id"]
    return {"model": model, "stream": True, "max_tokens": max_tokens, "temperature": 0.01, "messages": messages}


async def read_events(
    client: httpx2.AsyncClient, url: str, last_event_id: str, most: int = 1_000_000
) -> list[tuple[str, str, dict[str, str]]]:
    """(number, name, data) of what follows; most: then the connection is cut."""
    found: list[tuple[str, str, dict[str, str]]] = []
    number = name = ""
    async with client.stream("GET", url, headers={"Last-Event-ID": last_event_id}) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            field_name, _, value = line.partition(": ")
            if field_name == "id":
                number = value
            elif field_name == "event":
                name = value
            elif field_name == "data":
                assert name != "error", value
                found.append((number, name, json.loads(value)))
                if len(found) == most:
                    break
    return found


DOOR = ("/haproxy ",)
DOOR_AND_ITS_KEEPER = ("/haproxy ", "HAProxyManager")


@pytest.mark.parametrize("killed", [DOOR, DOOR_AND_ITS_KEEPER] + [DOOR] * 4 if IS_FULL else [DOOR])
def test_a_door_that_is_killed_opens_again_and_never_says_that_there_is_nothing(
    cluster: Production, killed: tuple[str, ...]
) -> None:
    """How soon: perf/LOG.md."""
    head = cluster.nodes[0]
    victims = [process for title in killed for process in head.processes(title)]
    assert len(victims) == len(killed)
    with Callers(cluster, cluster.url) as callers:
        wait_until(lambda: callers.answered >= CALLERS, COMMAND_TIMEOUT_S, "the first answers")
        for process in victims:
            process.signal(signal.SIGKILL)
        wait_until(lambda: bool(callers.failures), COMMAND_TIMEOUT_S, "the end of the door")
        answered = callers.answered
        wait_until(lambda: callers.answered >= answered + 4 * CALLERS, COMMAND_TIMEOUT_S, "the door")
    assert not [failure for failure in callers.failures if failure.startswith(("4", "500"))]
    assert len(head.processes("/haproxy ")) == 1  # of those that were killed none is left


def test_controller_that_dies_under_load_costs_nothing(cluster: Production) -> None:
    (controller,) = [process for node in cluster.nodes for process in node.processes("ServeController")]
    with Callers(cluster, cluster.url, pause_s=0.0 if IS_FULL else 0.3) as callers:
        wait_until(lambda: callers.answered >= CALLERS, COMMAND_TIMEOUT_S, "the first answers")
        controller.signal(signal.SIGKILL)
        until_s = time.monotonic() + (60 if IS_FULL else 0)
        wait_until(
            lambda: callers.answered >= 15 * CALLERS and time.monotonic() >= until_s, COMMAND_TIMEOUT_S, "its absence"
        )
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


STREAMS = 50
LATE_INTERVAL_S = 8  # six are written at any time: some 800 tokens in flight, of the 2000 that one replica takes


async def test_neither_a_change_of_settings_nor_of_the_number_of_replicas_cuts_a_stream(cluster: Production) -> None:
    """In what is left of the cluster: one door, two ingresses, a tier whose one replica becomes two, and one again.

    The second goes while it writes: it has the streams that begin after it, fewer and fewer, but never none.
    """
    whole = partial(wait_until, lambda: len(ingresses(cluster)) == 2 and writes(cluster, cluster.url), TIER_TIMEOUT_S)
    await asyncio.to_thread(whole, "both ingresses and the model")
    before, (model,) = ingresses(cluster), tiers(cluster)
    async with httpx2.AsyncClient(headers=AUTHORIZED, timeout=HTTP_TIMEOUT_S, limits=MANY) as client:
        with Writers(cluster) as writers:
            await asyncio.to_thread(wait_until, lambda: set(writers.now) == {model}, TIER_TIMEOUT_S, "who writes")
            await asyncio.to_thread(cluster.redeploy, "max_concurrent_turns: 512", "max_concurrent_turns: 500")
            streams = [asyncio.create_task(written(client, cluster.url)) for _ in range(STREAMS)]
            with Callers(cluster, cluster.url) as callers:
                await asyncio.to_thread(wait_until, lambda: len(writers.now) == 2, COMMAND_TIMEOUT_S, "a second")
                (second,) = writers.now.keys() - {model}  # the change does not concern the first
                late = asyncio.create_task(begun_while_two_write(client, cluster.url, writers))
                replaced = partial(wait_until, lambda: not before & ingresses(cluster), TIER_TIMEOUT_S, "new ingresses")
                await asyncio.to_thread(replaced)
                said = await asyncio.gather(*streams)
            async with asyncio.timeout(TIER_TIMEOUT_S):
                said_late = await late
        # Who is refused because the machine is busy was told so at once, and when to ask again.
        assert [failure for failure in callers.failures if IS_FULL or '"overloaded"' not in failure] == []
        assert callers.answered
        written_out = {stream.text for stream in said if stream.path == TIER["name"]}
        assert len(written_out) == 1, said
        (text,) = written_out
        assert len(text.split()) > 100
        assert set(writers.now) == {model}
        assert writers.last[second] > 0, "the second replica had nothing to write when it was told to go"
        assert {stream.text for stream in said_late if stream.path == TIER["name"]} == {text}, said_late
        await asyncio.to_thread(wait_until, lambda: tiers(cluster) == {model}, TIER_TIMEOUT_S, "the end of the second")


class Writers:
    """How many answers each replica of the tier writes, by its process."""

    def __init__(self, cluster: Production) -> None:
        self._cluster = cluster
        self.now: dict[int, int] = {}  # of the replicas that a new question may go to
        self.last: dict[int, int] = {}  # of these and of those that have been told to go, when they were

    def __enter__(self) -> Writers:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.writers_child", self._cluster.gcs_address],
            cwd=ROOT,
            env=self._cluster.operator_environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._child.terminate()
        self._child.wait()
        self._listener.join()

    def _listen(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self.now = {int(process): count for process, count in json.loads(line).items()}
            self.last |= self.now


async def begun_while_two_write(client: httpx2.AsyncClient, url: str, writers: Writers) -> list[Stream]:
    """One every few seconds until one of the two is told to go: seldom enough for one replica, and often enough that
    both have some, as each stream goes to the one that has fewer."""
    streams = []
    while len(writers.now) == 2:
        streams.append(asyncio.create_task(written(client, url)))
        await asyncio.sleep(LATE_INTERVAL_S)
    return await asyncio.gather(*streams)


MANY = httpx2.Limits(max_connections=2 * STREAMS)


@dataclass(frozen=True)
class Stream:
    """As its customer saw it. path: "passage" where a model had no time for it, and the source was quoted instead."""

    text: str
    path: str
    degraded: tuple[str, ...]  # for who reads a failure


async def written(client: httpx2.AsyncClient, url: str) -> Stream:
    """One stream, whose end must have come. Who is told to come back later does."""
    while True:
        async with client.stream("POST", f"{url}/v1/chat/completions", json=written_body()) as response:
            if response.status_code == 200:
                return await read_stream(response)
            assert '"overloaded"' in (await response.aread()).decode(), response.text
        await asyncio.sleep(float(response.headers["Retry-After"]))


async def read_stream(response: httpx2.Response) -> Stream:
    text, has_ended, ours = "", False, dict[str, Any]()
    async for line in response.aiter_lines():
        has_ended = has_ended or line == "data: [DONE]"
        if line.startswith("data: {"):
            document = json.loads(line.removeprefix("data: "))
            assert "error" not in document, document
            text += "".join(choice["delta"].get("content") or "" for choice in document["choices"])
            for choice in document["choices"]:
                ours |= choice["delta"].get("raydesk", {})
    assert has_ended
    return Stream(text, ours["path"], tuple(ours["degraded"]))


def ingresses(cluster: Production) -> set[int]:
    return {process.pid for node in cluster.nodes for process in node.processes("ServeReplica:raydesk:ingress")}


def tiers(cluster: Production) -> set[int]:
    return {process.pid for node in cluster.nodes for process in node.processes("ServeReplica:raydesk-small:tier")}


def publish_pair(cluster: Production, question: str, answer: str) -> None:
    root = cluster.settings["RAYDESK_KNOWLEDGE__ROOT"]
    command = ["ingest", "pair", "--collection", "help", "--root", root, "--question", question, "--answer", answer]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "RAYDESK_"))}
    done = subprocess.run(
        [sys.executable, "-m", "cluster.cli", *command],
        cwd=ROOT,
        env=clean | {"RAYDESK_STATE": str(Path(root).parent / "no-desk"), "RAYDESK_KNOWLEDGE__PARTS": "2"},
        capture_output=True,
        text=True,
        timeout=TIER_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
