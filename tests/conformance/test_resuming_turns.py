"""Two whole ingress replicas, one Valkey server, and clients over TCP whose connections break."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import uvicorn

from deployments.answering.errors import RoomUnavailableError
from deployments.fakes import InMemoryCache, InMemoryTurnLog
from deployments.ingress import IngressApp, Rooms
from deployments.sessions import Sessions
from deployments.settings import ApiKey, AppSettings
from deployments.turns.event_log import EventLog
from models.fakes import ScriptedLLM
from tests.counts import IS_FULL
from tests.unit.deployments.conftest import Shop

pytestmark = pytest.mark.conformance

CUTS = 100 if IS_FULL else 25
KEYS = {"first": "a" * 40, "second": "b" * 40}
QUESTION = "what does standard delivery to Cologne cost"
ANSWER = " ".join(["Standard delivery costs 4.95 euros and takes four working days to Cologne."] * 8)
GRACE_S = 20.0
TIMEOUT_S = 60


@dataclass
class Stream:
    """What one client has of a turn."""

    turn_id: str = ""
    last_id: str = "0"
    text: str = ""
    names: list[str] = field(default_factory=list)
    ending: Any = None  # of `done` or `error`

    @property
    def is_over(self) -> bool:
        return bool(self.names) and self.names[-1] in ("done", "error")


class Replica:
    """An ingress with rooms of its own, on a port of its own."""

    def __init__(self, folder: Path, url: str, log: InMemoryTurnLog, grace_s: float = GRACE_S) -> None:
        folder.mkdir()
        self.llm = ScriptedLLM(ANSWER, tokens_per_s=100)
        limits = {"first_token_timeout_s": 30, "max_output_tokens": 1000}
        shop = Shop(folder, llm=self.llm, limits=limits, cache=InMemoryCache(similarity_threshold=0.99))
        keys = tuple(
            ApiKey(id=name, sha256=hashlib.sha256(secret.encode()).hexdigest(), tenant="demo")
            for name, secret in KEYS.items()
        )
        settings: AppSettings = shop.settings.model_copy(
            update={
                "intents": shop.settings.intents.model_copy(
                    update={"rules": str(folder / "rules.yaml"), "head": str(folder / "head")}
                ),
                "http": shop.settings.http.model_copy(  # the machine may be busy
                    update={"target_lag_s": 1000.0, "target_wait_s": 1000.0}
                ),
                "sessions": shop.settings.sessions.model_copy(update={"timeout_s": 10, "lease_s": 30}),
                "turns": shop.settings.turns.model_validate({"timeout_s": 10, "grace_s": grace_s, "lease_s": 1}),
                "turn_log": shop.settings.turn_log.model_copy(update={"flush_interval_s": 0.05}),
                "auth": shop.settings.auth.model_copy(update={"keys": keys}),
            }
        )
        self.cache = shop.cache
        self.log = log
        self.events = EventLog(settings.turns, url)
        sessions = Sessions(settings.sessions, url)
        rooms = Rooms(
            shop.pipeline.classifier,
            shop.retriever,
            shop.cache,
            log,
            [shop.tier],
            sessions=sessions,
            events=self.events,
            stop=[sessions.stop, self.events.stop],
        )
        self._app = IngressApp(settings, rooms)
        config = uvicorn.Config(self._app.asgi, log_level="error", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self.url = ""

    async def start(self, stack: AsyncExitStack) -> Replica:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        serving = asyncio.create_task(self._server.serve([listener]))

        async def stop() -> None:
            self._server.should_exit = True
            await serving

        stack.push_async_callback(stop)
        async with asyncio.timeout(TIMEOUT_S), self.client() as client:
            while True:
                try:
                    if (await client.get("/readyz")).json()["tiers"][0]["state"] == "ready":
                        return self
                except httpx2.TransportError:
                    pass
                await asyncio.sleep(0.02)

    def client(self, key: str = "first") -> httpx2.AsyncClient:
        headers = {"authorization": f"Bearer {KEYS[key]}"}
        return httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=TIMEOUT_S)

    def generations(self) -> int:
        return sum(not request.request_id.startswith("probe") for request in self.llm.requests)

    async def ask(self, question: str, seen: Stream, leave_after: int | None = None, **headers: str) -> None:
        """Over a stream, which is cut after so many events."""
        async with (
            self.client() as client,
            client.stream("POST", "/v1/chat", json=body(question), headers=headers) as response,
        ):
            assert response.status_code == 200, await response.aread()
            await read(response, seen, leave_after)

    async def resume(self, seen: Stream, leave_after: int | None = None) -> None:
        async with self.client() as client:
            place = {"last-event-id": seen.last_id}
            async with client.stream("GET", f"/v1/turns/{seen.turn_id}/events", headers=place) as response:
                assert response.status_code in (200, 204), await response.aread()
                await read(response, seen, leave_after)


async def read(response: httpx2.Response, seen: Stream, leave_after: int | None) -> None:
    events, fields = 0, {}
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if line and name:
            fields[name] = value
            continue
        if "data" in fields:
            note(seen, fields, json.loads(fields["data"]))
            events += 1
            if events == leave_after:
                return
        fields = {}


def note(seen: Stream, fields: dict[str, str], data: Any) -> None:
    seen.last_id = fields.get("id", seen.last_id)
    seen.names.append(fields["event"])
    if fields["event"] == "meta":
        seen.turn_id = data["turn_id"]
    if fields["event"] == "delta":
        seen.text += data["text"]
    if seen.is_over:
        seen.ending = data


def body(question: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}]} | fields


@pytest.fixture
async def replicas(tmp_path: Path, valkey_url: str) -> AsyncIterator[tuple[Replica, Replica]]:
    async with AsyncExitStack() as stack:
        yield await two(stack, tmp_path, valkey_url, GRACE_S)


@pytest.fixture
async def impatient(tmp_path: Path, valkey_url: str) -> AsyncIterator[tuple[Replica, Replica]]:
    async with AsyncExitStack() as stack:
        yield await two(stack, tmp_path, valkey_url, 1.5)


async def two(stack: AsyncExitStack, folder: Path, url: str, grace_s: float) -> tuple[Replica, Replica]:
    log = InMemoryTurnLog()
    first = await Replica(folder / "first", url, log, grace_s).start(stack)
    return first, await Replica(folder / "second", url, log, grace_s).start(stack)


async def until_logged(replica: Replica, turn_id: str) -> dict[str, Any]:
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            row = await replica.log.find("demo", "first", turn_id)
            if row is not None:
                return row
            await asyncio.sleep(0.02)


async def test_streams_that_are_cut_go_on_at_the_other_replica_without_a_gap(
    replicas: tuple[Replica, Replica],
) -> None:
    chance, at_once = random.Random(7), asyncio.Semaphore(20)

    async def follow(number: int) -> Stream:
        async with at_once:
            return await cut_and_resumed(number)

    async def cut_and_resumed(number: int) -> Stream:
        seen = Stream()
        asked, other = replicas if number % 2 else reversed(replicas)
        question = f"{QUESTION}, case {number}"
        await asked.ask(question, seen, leave_after=chance.randint(1, 30))
        if chance.random() < 0.3 and not seen.is_over:  # twice
            await other.resume(seen, leave_after=chance.randint(1, 10))
        if not seen.is_over:
            await (other if chance.random() < 0.8 else asked).resume(seen)
        return seen

    whole = Stream()
    await replicas[0].ask(QUESTION, whole)
    streams = await asyncio.gather(*(follow(number) for number in range(CUTS)))
    assert whole.text.strip() == ANSWER
    for stream in streams:  # as it was recorded where it was made
        assert stream.text == (await until_logged(replicas[0], stream.turn_id))["answer"]
    assert sum(stream.text == whole.text for stream in streams) > 0.9 * CUTS  # to a few, other words may be the answer
    for stream in [whole, *streams]:  # each event once: how many there are depends on how fast words come
        assert int(stream.last_id) == len(stream.names)
        assert (stream.names[0], stream.names[-1], stream.names.count("meta")) == ("meta", "done", 1)
    assert not replicas[0].llm.cancelled
    assert not replicas[1].llm.cancelled
    for replica in replicas:  # nobody else's, at either one, also while it is known there
        async with replica.client("second") as stranger, replica.client() as owner:
            for path in (f"/v1/turns/{streams[0].turn_id}/events", f"/v1/turns/{streams[0].turn_id}"):
                foreign, unknown = await stranger.get(path), await owner.get(path.replace(streams[0].turn_id, "0" * 32))
                assert foreign.status_code == unknown.status_code == 404
                assert foreign.json()["error"]["code"] == unknown.json()["error"]["code"] == "not_found"


async def test_who_has_everything_is_told_so(replicas: tuple[Replica, Replica]) -> None:
    seen = Stream()
    await replicas[0].ask(QUESTION, seen)
    for replica in replicas:
        async with replica.client() as client:
            done = await client.get(f"/v1/turns/{seen.turn_id}/events", headers={"last-event-id": seen.last_id})
            assert (done.status_code, done.content) == (204, b"")
            rest = await client.get(f"/v1/turns/{seen.turn_id}/events?after={int(seen.last_id) - 1}")
            assert rest.text.startswith(f"id: {seen.last_id}\nevent: done\n")
            assert rest.headers["content-type"].startswith("text/event-stream")
            report = (await client.get(f"/v1/turns/{seen.turn_id}")).json()
            assert (report["state"], report["text"], report["answer"]["text"]) == ("done", seen.text, seen.text)
            for wrong in ("-1", "x", "1" * 12):
                refused = await client.get(f"/v1/turns/{seen.turn_id}/events", headers={"last-event-id": wrong})
                assert (refused.status_code, refused.json()["error"]["param"]) == (400, "Last-Event-ID")


async def test_stored_answer_that_was_missed_is_given_again(replicas: tuple[Replica, Replica]) -> None:
    first, second = replicas
    for _ in range(2):
        seen = Stream()
        await first.ask("How long does a refund take?", seen)
    assert seen.ending["path"] == "exact_cache"
    again = Stream(seen.turn_id, "1")
    await second.resume(again)
    assert again.text == seen.text == "Five working days."


async def test_who_does_not_return_cancels_the_turn_and_who_reads_elsewhere_does_not(
    impatient: tuple[Replica, Replica],
) -> None:
    first, second = impatient
    left, returned = Stream(), Stream()
    first.llm._gap_s = 0.05  # some 6 s
    await asyncio.gather(
        first.ask(f"{QUESTION}, left", left, leave_after=3), first.ask(f"{QUESTION}, returned", returned, leave_after=3)
    )
    await second.resume(returned)  # takes longer than the time for returning
    assert returned.text.strip() == ANSWER
    assert [request.request_id for request in first.llm.cancelled] == [left.turn_id]
    assert (await until_logged(first, left.turn_id))["outcome"] == "disconnected"
    assert (await until_logged(first, returned.turn_id))["outcome"] == "answered"
    await second.resume(left)
    assert left.ending["code"] == "turn_cancelled"


async def test_request_that_nobody_can_return_to_is_cancelled_at_once(replicas: tuple[Replica, Replica]) -> None:
    first, _ = replicas
    first.llm._gap_s = 0.2
    openai = body(QUESTION) | {"model": "raydesk", "stream": True}
    async with first.client() as client, client.stream("POST", "/v1/chat/completions", json=openai) as response:
        async for line in response.aiter_lines():
            if "4.95" in line or "delivery" in line:
                break
    async with asyncio.timeout(GRACE_S / 2):
        while not first.llm.cancelled:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_any_replica_cancels(replicas: tuple[Replica, Replica]) -> None:
    first, second = replicas
    first.llm._gap_s = 0.2
    for number, replica in enumerate((first, second)):
        seen = Stream()
        asking = asyncio.create_task(first.ask(f"{QUESTION}, {number}", seen))
        while len(seen.names) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        async with replica.client("second") as stranger:
            assert (await stranger.post("/v1/cancel", json={"turn_id": seen.turn_id})).status_code == 404
        async with replica.client() as client:
            report = (await client.post("/v1/cancel", json={"turn_id": seen.turn_id})).json()
            assert (report["state"], report["error"]["code"]) == ("failed", "turn_cancelled")
            again = (await client.post("/v1/cancel", json={"turn_id": seen.turn_id})).json()
            assert again == report
        await asyncio.wait_for(asking, TIMEOUT_S)
        assert (seen.names[-1], seen.ending["code"]) == ("error", "turn_cancelled")
    assert len(first.llm.cancelled) == 2


async def test_fifty_requests_with_one_key_are_one_generation_one_record_and_fifty_equal_answers(
    replicas: tuple[Replica, Replica],
) -> None:
    key = uuid4().hex
    asked = body(QUESTION, stream=False)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(replica.client()) for replica in replicas]

        async def post(number: int, question: dict[str, Any] = asked) -> httpx2.Response:
            return await clients[number % 2].post("/v1/chat", json=question, headers={"idempotency-key": key})

        answers = await asyncio.gather(*(post(number) for number in range(50)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        answer = answers[0].json()
        assert answer["text"].strip() == ANSWER
        assert sum(replica.generations() for replica in replicas) == 1
        await until_logged(replicas[0], answer["id"])
        assert await replicas[0].log.count("demo") == 1
        assert (await post(51, dict(reversed(asked.items())))).json() == answer  # later, and written otherwise
        for number in (0, 1):
            other = await post(number, body("How long does a refund take?", stream=False))
            assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_conflict")
    async with replicas[1].client("second") as stranger:  # another principal's key of that name is another key
        own = await stranger.post("/v1/chat", json=asked, headers={"idempotency-key": key})
        assert own.status_code == 200
        assert own.json()["id"] != answer["id"]


async def test_stored_answer_with_a_key_is_one_turn_too(replicas: tuple[Replica, Replica]) -> None:
    asked = body("How long does a refund take?", stream=False)
    for replica in replicas:
        async with replica.client() as client:
            first = await client.post("/v1/chat", json=asked)
        await until_logged(replica, first.json()["id"])
    before = await replicas[0].log.count("demo")
    key = {"idempotency-key": uuid4().hex}

    async def post(number: int) -> Any:
        async with replicas[number % 2].client() as client:
            return (await client.post("/v1/chat", json=asked, headers=key)).json()

    answers = await asyncio.gather(*(post(number) for number in range(10)))
    assert answers[0]["path"] == "exact_cache"
    assert all(answer == answers[0] for answer in answers)
    await until_logged(replicas[0], answers[0]["id"])
    assert await replicas[0].log.count("demo") <= before + 2  # the two before may have come late


@pytest.mark.parametrize(("fields", "status"), [({"collection": "nope"}, 404), ({}, 502)])
async def test_request_that_failed_is_tried_anew_with_its_key(
    replicas: tuple[Replica, Replica], fields: dict[str, str], status: int
) -> None:
    first, second = replicas
    if status == 502:
        first.llm._fail_after = 3
    key = {"idempotency-key": uuid4().hex}
    asked = body(QUESTION, stream=False) | fields
    async with first.client() as client, second.client() as other:
        failed = await client.post("/v1/chat", json=asked, headers=key)
        assert failed.status_code == status, failed.text
        again = await other.post("/v1/chat", json=asked, headers=key)
        assert again.status_code == (404 if fields else 200)


@pytest.mark.parametrize("key", ["", "two words", "ü", "x" * 256])
async def test_key_that_cannot_be_one_is_refused(replicas: tuple[Replica, Replica], key: str) -> None:
    async with replicas[0].client() as client:
        answer = await client.post("/v1/chat", json=body(QUESTION), headers=[("idempotency-key", key.encode("utf-8"))])
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Idempotency-Key")


async def test_turn_whose_replica_dies_ends_with_one_error_and_its_key_is_free(
    replicas: tuple[Replica, Replica],
) -> None:
    first, second = replicas
    first.llm._gap_s = 0.2
    key = {"idempotency-key": uuid4().hex}
    seen = Stream()
    await first.ask(QUESTION, seen, leave_after=3, **key)
    follower = asyncio.create_task(second.resume(seen))
    await asyncio.sleep(0.3)

    async def dead(call: Any) -> None:
        getattr(call, "close", lambda: None)()
        raise RoomUnavailableError

    first.events._answered = dead  # type: ignore[method-assign]  # as after SIGKILL: no words, no sign of life
    await asyncio.wait_for(follower, TIMEOUT_S)
    assert seen.names.count("error") == 1
    assert (seen.ending["code"], seen.ending["retryable"]) == ("turn_lost", True)
    again = Stream()
    await second.ask(QUESTION, again, **key)
    assert again.turn_id != seen.turn_id
    assert again.text.strip() == ANSWER


async def test_conversations_are_listed_read_and_forgotten_by_their_own_key(replicas: tuple[Replica, Replica]) -> None:
    first, second = replicas
    ids = [uuid4().hex for _ in range(2)]
    async with first.client() as client, second.client() as other, second.client("second") as stranger:
        for conversation_id in ids:
            answer = await client.post(
                "/v1/chat", json=body("How long does a refund take?", stream=False, conversation_id=conversation_id)
            )
            await until_logged(first, answer.json()["id"])
        listed = (await other.get("/v1/conversations")).json()["conversations"]
        assert [each["conversation_id"] for each in listed] == ids[::-1]
        assert (listed[0]["first_message"], listed[0]["messages"]) == ("How long does a refund take?", 2)
        assert len((await other.get("/v1/conversations?limit=1")).json()["conversations"]) == 1
        assert (await other.get("/v1/conversations?limit=0")).status_code == 400
        path = f"/v1/conversations/{ids[0]}"
        read = (await other.get(path)).json()
        assert [message["content"] for message in read["messages"]][1] == "Five working days."
        assert (await stranger.get("/v1/conversations")).json() == {"conversations": []}
        assert (await stranger.get(path)).status_code == (await stranger.delete(path)).status_code == 404
        assert (await other.delete(path)).status_code == 204
        assert (await client.get(path)).status_code == (await client.delete(path)).status_code == 404
        listed = (await client.get("/v1/conversations")).json()["conversations"]
        assert [each["conversation_id"] for each in listed] == [ids[1]]


async def test_answer_that_did_not_help_is_noted_and_not_given_again(replicas: tuple[Replica, Replica]) -> None:
    first, second = replicas
    asked = body("How long does a refund take?", stream=False)
    async with first.client() as client, first.client("second") as stranger:
        await client.post("/v1/chat", json=asked)
        turn = (await client.post("/v1/chat", json=asked)).json()
        assert turn["path"] == "exact_cache"
        rating = {"turn_id": turn["id"], "rating": "up"}
        assert (await stranger.post("/v1/feedback", json=rating)).status_code == 404
        assert (await client.post("/v1/feedback", json=rating)).status_code == 204
        assert (await client.post("/v1/chat", json=asked)).json()["path"] == "exact_cache"
        down = rating | {"rating": "down", "comment": "太慢了"}
        assert (await client.post("/v1/feedback", json=down)).status_code == 204
        assert (await client.post("/v1/chat", json=asked)).json()["path"] == "faq"
        assert (await client.post("/v1/chat", json=asked)).json()["path"] == "faq"  # and is not stored again
        assert (await client.post("/v1/feedback", json=rating | {"rating": "so-so"})).status_code == 400
    (row,) = await second.log.rated("demo", "down", 10)
    assert (row["turn_id"], row["rating"], row["comment"], row["key_id"]) == (turn["id"], "down", "太慢了", "first")


async def test_without_its_store_everything_is_answered_and_says_what_is_missing(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        replica = await Replica(tmp_path / "alone", f"unix://{tmp_path}/nothing", InMemoryTurnLog()).start(stack)
        seen = Stream()
        async with asyncio.timeout(TIMEOUT_S):
            while replica.events.is_up:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await replica.ask(QUESTION, seen, leave_after=10, **{"idempotency-key": "k1"})
        await replica.resume(seen)  # at the same replica, which knows it itself
        assert seen.text.strip() == ANSWER
        assert "resume:down" in seen.ending["degraded"]
