"""`POST /v1/chat`: the event stream, the one document, and every way in which a stream may end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import httpx_sse
import pytest
from starlette.testclient import TestClient

from deployments.answering.errors import (
    EngineDiedError,
    OverloadedError,
    RaydeskError,
    UnknownCollectionError,
    all_errors,
)
from deployments.answering.types import Delta
from deployments.http.app import build_http_app
from deployments.settings import AppSettings
from tests.unit.http.scripted_turns import CITATION, Script, ScriptedTurns, answer, counting_ids, failed, meta, settings

pytestmark = pytest.mark.unit

BODY = {"messages": [{"role": "user", "content": "How long may I return?"}]}


def events_of(text: str) -> list[tuple[str, Any]]:
    decoder = httpx_sse._decoders.SSEDecoder()
    found = [decoder.decode(line) for line in text.removesuffix("\n").split("\n")]
    return [(event.event, json.loads(event.data)) for event in found if event is not None]


def test_a_turn_is_a_stream_of_named_events(client: TestClient) -> None:
    response = client.post("/v1/chat", json=BODY)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache, no-transform"
    assert response.headers["x-accel-buffering"] == "no"
    assert "\r" not in response.text
    events = events_of(response.text)
    assert [name for name, _ in events] == ["meta", "delta", "delta", "citation", "done"]
    assert events[0][1]["path"] == "small"
    assert events[2][1] == {"text": "30 days.\u2028 是"}
    assert events[3][1] == asdict(CITATION) | {"heading_path": ["Orders", "Returns"]}
    assert events[4][1]["buttons"] == [{"label": "Start a return", "message": "How do I start a return?"}]


def test_no_client_splits_a_frame_at_an_exotic_line_break(client: TestClient) -> None:
    text = client.post("/v1/chat", json=BODY).text
    assert "是" in text  # written as it is
    assert text.splitlines() == text.split("\n")[:-1]


def test_one_document_when_no_stream_is_wanted(client: TestClient) -> None:
    response = client.post("/v1/chat", json=BODY | {"stream": False, "conversation_id": "c-9", "language": "zh"})
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "id": "id-2",
        "request_id": "id-1",
        "conversation_id": "c-9",
        "collection": "help",
        "path": "small",
        "language": "zh",
        "text": "Within 30 days.\u2028 是",
        "citations": [asdict(CITATION) | {"heading_path": ["Orders", "Returns"]}],
        "tool_calls": [],
        "buttons": [{"label": "Start a return", "message": "How do I start a return?"}],
        "links": [{"label": "Returns", "url": "https://help.example/returns"}],
        "grounded": True,
        "finish_reason": "stop",
        "usage": {"input_tokens": 11, "output_tokens": 4},
        "ttft_ms": 12.5,
        "duration_ms": 40.0,
        "degraded": ["large:starting"],
        "knowledge_version": "v1",
        "handoff_reason": "",
        "route_reason": "evidence",
        "cache_age_s": None,
        "cache_tier": None,
    }


def test_the_request_reaches_the_turn_as_it_was_meant(client: TestClient, turns: ScriptedTurns) -> None:
    history = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ""}, *BODY["messages"]]
    client.post("/v1/chat", json={"messages": history, "collection": "rho-bank"}, headers={"x-request-id": "mine.1"})
    request = turns.requests[0]
    assert [(message.role, message.content) for message in request.messages] == [
        ("user", "Hi"),
        ("assistant", ""),
        ("user", "How long may I return?"),
    ]
    assert (request.collection, request.request_id, request.model) == ("rho-bank", "mine.1", None)
    assert request.principal.tenant == "demo"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("cls", all_errors(), ids=lambda cls: cls.__name__)
def test_every_error_before_the_first_event_is_a_status(
    cls: type[RaydeskError], stream: bool, client: TestClient, turns: ScriptedTurns
) -> None:
    turns.refusal = cls()
    response = client.post("/v1/chat", json=BODY | {"stream": stream})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["message"]) == (cls.status, cls.code, cls().message)
    assert error["retryable"] is cls.retryable
    assert response.headers.get("retry-after") == (None if cls.retry_after_s is None else str(cls.retry_after_s))


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("cls", all_errors(), ids=lambda cls: cls.__name__)
def test_a_failed_first_event_is_a_status(
    cls: type[RaydeskError], stream: bool, client: TestClient, turns: ScriptedTurns
) -> None:
    turns.script = lambda request: [failed(request, cls.code, cls.retry_after_s)]
    response = client.post("/v1/chat", json=BODY | {"stream": stream})
    assert (response.status_code, response.json()["error"]["code"]) == (cls.status, cls.code)
    assert response.headers.get("retry-after") == (None if cls.retry_after_s is None else str(cls.retry_after_s))
    assert turns.endings == ["complete"]


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ([EngineDiedError()], "engine_died"),
        ([ZeroDivisionError("secret /etc/host")], "internal_error"),
        ([TimeoutError("secret")], "internal_error"),  # an OSError, but not the client's
        ([], "internal_error"),  # a turn that just stops
    ],
)
def test_what_goes_wrong_later_is_the_last_event(
    ending: list[Any], code: str, client: TestClient, turns: ScriptedTurns
) -> None:
    turns.script = lambda request: [meta(request), Delta("Within "), *ending]
    response = client.post("/v1/chat", json=BODY)
    events = events_of(response.text)
    assert [name for name, _ in events] == ["meta", "delta", "error"]
    assert events[-1][1]["code"] == code
    assert events[-1][1]["request_id"] == response.headers["x-request-id"]
    assert "secret" not in response.text


def test_a_failed_event_in_a_stream_is_told_and_in_a_document_is_a_status(
    client: TestClient, turns: ScriptedTurns
) -> None:
    turns.script = lambda request: [meta(request), Delta("Within "), failed(request)]
    assert events_of(client.post("/v1/chat", json=BODY).text)[-1] == (
        "error",
        {
            "code": "engine_died",
            "message": "The model stopped.",
            "retryable": True,
            "request_id": "id-1",
            "retry_after_s": 5,
        },
    )
    assert client.post("/v1/chat", json=BODY | {"stream": False}).status_code == 502


@pytest.mark.parametrize("error", [ZeroDivisionError("secret"), OverloadedError(), UnknownCollectionError()])
def test_an_unforeseen_error_tells_nothing(error: Exception, client: TestClient, turns: ScriptedTurns) -> None:
    turns.script = lambda request: [error]
    response = client.post("/v1/chat", json=BODY)
    assert response.status_code == getattr(error, "status", 500)
    assert "secret" not in response.text
    assert turns.endings == ["left"]


def test_broken_unicode_of_a_model_is_replaced(client: TestClient, turns: ScriptedTurns) -> None:
    turns.script = lambda request: [meta(request), Delta("a\ud83d"), answer(request)[-1]]
    assert events_of(client.post("/v1/chat", json=BODY).text)[1][1] == {"text": "a?"}
    assert client.post("/v1/chat", json=BODY | {"stream": False}).json()["text"] == "a?"


# --- what only a raw ASGI client sees: silence, disconnects, slow readers ---


class RawClient:
    """One request, sent as ASGI messages; can hang up and can stop reading."""

    def __init__(self, app: Any, body: dict[str, Any], path: str = "/v1/chat") -> None:
        self._app = app
        self._path = path
        self._pending = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]
        self._gone = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.fault: Exception | None = None

    def hang_up(self) -> None:
        self._gone.set()

    async def _receive(self) -> Any:
        if self._pending:
            return self._pending.pop()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.reads.wait()
        if self.fault is not None:
            raise self.fault
        self.messages.put_nowait(message)

    async def run(self) -> None:
        headers = [(b"host", b"127.0.0.1:8000"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": self._path, "headers": headers, "query_string": b""}
        await self._app(scope, self._receive, self._send)

    async def next(self) -> Any:
        return await asyncio.wait_for(self.messages.get(), 5)


@asynccontextmanager
async def running(
    script: Callable[[Any], Script], body: dict[str, Any] | None = None, path: str = "/v1/chat", **http: float
) -> AsyncIterator[tuple[RawClient, ScriptedTurns, asyncio.Task[None]]]:
    app_settings: AppSettings = settings(http=http)
    turns = ScriptedTurns(script)
    client = RawClient(build_http_app(app_settings, turns, new_id=counting_ids()), body or BODY, path)
    task = asyncio.create_task(client.run())
    yield client, turns, task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


FOREVER_S = 3600.0


async def test_a_client_that_leaves_before_the_first_event_leaves_the_turn() -> None:
    async with running(lambda request: [FOREVER_S]) as (client, turns, task):
        await turns.opened.wait()
        client.hang_up()
        await asyncio.wait_for(task, 5)
        assert turns.endings == ["left"]
        assert client.messages.empty()


@pytest.mark.parametrize("path", ["/v1/chat", "/v1/chat/completions"])
async def test_a_client_that_leaves_the_stream_leaves_the_turn(path: str) -> None:
    body = BODY | ({"model": "raydesk", "stream": True} if path.endswith("completions") else {})
    async with running(lambda request: [meta(request), FOREVER_S], body, path) as (client, turns, task):
        assert (await client.next())["status"] == 200
        await client.next()  # the first event
        client.hang_up()
        await asyncio.wait_for(task, 5)
        assert turns.endings == ["left"]


async def test_a_client_that_leaves_without_a_stream_leaves_the_turn() -> None:
    body = BODY | {"stream": False}
    async with running(lambda request: [meta(request), FOREVER_S], body) as (client, turns, task):
        await turns.opened.wait()
        client.hang_up()
        await asyncio.wait_for(task, 5)
        assert turns.endings == ["left"]


async def test_a_cancelled_request_leaves_the_turn() -> None:
    async with running(lambda request: [meta(request), FOREVER_S]) as (client, turns, task):
        await client.next()
        task.cancel()  # as Ray Serve does when the client has gone
        with pytest.raises(asyncio.CancelledError):
            await task
        assert turns.endings == ["left"]


async def test_silence_is_filled_with_comments() -> None:
    async with running(lambda request: [meta(request), FOREVER_S], heartbeat_s=0.01) as (client, _, _):
        await client.next()
        assert (await client.next())["body"].startswith(b"id: 1\nevent: meta\n")
        assert (await client.next())["body"] == b": keep-alive\n"
        assert (await client.next())["body"] == b": keep-alive\n"


@pytest.mark.parametrize("is_idle", [True, False])
async def test_a_reader_that_takes_nothing_is_cut(is_idle: bool) -> None:
    def script(request: Any) -> Script:
        return [meta(request), FOREVER_S if is_idle else 0.05, Delta("x")]

    async with running(script, heartbeat_s=0.02 if is_idle else 60, send_timeout_s=0.05) as (client, turns, task):
        await client.next()
        await client.next()
        client.reads.clear()
        await asyncio.wait_for(task, 5)
        assert turns.endings == ["left"]


async def test_a_connection_that_breaks_on_sending_leaves_the_turn() -> None:
    async with running(lambda request: [meta(request), 0.05, Delta("x"), FOREVER_S]) as (client, turns, task):
        await client.next()
        await client.next()
        client.fault = ConnectionResetError()
        await asyncio.wait_for(task, 5)
        assert turns.endings == ["left"]
