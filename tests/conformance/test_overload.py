"""A whole ingress that is asked several times what it can understand in a second, over its HTTP side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from deployments.answering.protocols import IntentClassifier
from deployments.answering.types import Understanding
from deployments.ingress import IngressApp, Rooms
from tests.unit.deployments.conftest import Shop

pytestmark = pytest.mark.conformance

UNDERSTAND_S = 0.03
QUESTION = "How long does a refund take?"  # a curated answer
ASKED_PER_TURN = 4  # of what can be understood meanwhile
QUESTIONS = 400


class OneAtATime:
    """An encoder with one thread: the loop is in time, and questions wait."""

    def __init__(self, inner: IntentClassifier) -> None:
        self._inner = inner
        self._thread = asyncio.Lock()

    async def understand(self, text: str, tenant: str = "") -> Understanding:
        async with self._thread:
            await asyncio.sleep(UNDERSTAND_S)
            return await self._inner.understand(text)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    shop = Shop(tmp_path, cache=None)
    http = shop.settings.http.model_copy(update={"target_lag_s": 1000.0, "target_wait_s": 1.0})  # a busy machine
    deadlines = shop.settings.deadlines.model_copy(update={"understand_s": 60.0})
    intents = shop.settings.intents.model_copy(update={"rules": str(tmp_path / "rules.yaml"), "head": str(tmp_path)})
    settings = shop.settings.model_copy(update={"http": http, "deadlines": deadlines, "intents": intents})
    rooms = Rooms(OneAtATime(shop.pipeline.classifier), shop.retriever, None, shop.turn_log, [])
    app = IngressApp(settings, rooms).asgi
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", timeout=60) as client:
            yield client


def body(number: int, is_running: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {"conversation_id": f"c{number}"} if is_running else {}
    return {"messages": [{"role": "user", "content": QUESTION}], "stream": False} | fields


async def test_new_conversations_are_told_to_come_back_and_running_ones_are_served(client: httpx2.AsyncClient) -> None:
    async def ask(number: int) -> tuple[bool, httpx2.Response]:
        is_running = number % 10 == 0  # of themselves they can be served
        return is_running, await client.post("/v1/chat", json=body(number, is_running))

    asking: list[asyncio.Task[tuple[bool, httpx2.Response]]] = []
    for number in range(QUESTIONS):
        asking.append(asyncio.create_task(ask(number)))
        if number % ASKED_PER_TURN == 0:
            await asyncio.sleep(UNDERSTAND_S)
    came = await asyncio.gather(*asking)
    refused = [response for _, response in came if response.status_code != 200]
    assert refused
    for response in refused:
        assert (response.status_code, response.json()["error"]["code"]) == (503, "overloaded")
        assert 1 <= int(response.headers["retry-after"]) <= 60
    served = {kind: [one.status_code for is_running, one in came if is_running == kind] for kind in (True, False)}
    share = {kind: codes.count(200) / len(codes) for kind, codes in served.items()}
    assert share[True] > 0.8
    assert share[False] < 0.5
    again = await asyncio.gather(*(ask(number) for number in range(10)))  # it was not for ever
    assert [response.status_code for _, response in again] == [200] * 10
