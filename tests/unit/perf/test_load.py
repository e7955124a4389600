"""Addresses, wire parsing and the closed loop, against the peer's app in this process. No desk, no child process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from starlette.testclient import TestClient

from perf.load import (
    EventReader,
    LoadError,
    Options,
    Reply,
    client_line,
    measure,
    read_document,
    read_end,
)
from perf.metrics import ClientCost
from perf.peer import Recording, build_app

pytestmark = pytest.mark.unit


# --- what comes back ---


@pytest.mark.parametrize(
    ("status", "body", "reply"),
    [
        (200, b'{"path": "faq", "text": "30 days"}', Reply(path="faq")),
        (503, b'{"error": {"code": "overloaded"}}', Reply(error="503 overloaded")),
        (500, b"Internal Server Error", Reply(error="500 and no answer of a desk")),
        (200, b"<html>", Reply(error="200 and no answer of a desk")),
        (200, b"[]", Reply(error="200 and no answer of a desk")),
        (200, b"\xff", Reply(error="200 and no answer of a desk")),
        (302, b'{"path": "faq"}', Reply(error="302 and no answer of a desk")),
    ],
)
def test_documents(status: int, body: bytes, reply: Reply) -> None:
    assert read_document(status, body) == reply


STREAM = (
    b'event: meta\ndata: {"path":"faq"}\n\n: keep-alive\n\n'
    b'event: delta\ndata: {"text":"30 days"}\n\nevent: done\ndata: {"path":"faq"}\n\n'
)
EVENTS = [("meta", b'{"path":"faq"}'), ("delta", b'{"text":"30 days"}'), ("done", b'{"path":"faq"}')]


@pytest.mark.parametrize("size", [1, 7, 50, 1000])
def test_events_are_the_same_however_the_bytes_arrive(size: int) -> None:
    reader = EventReader()
    chunks = [STREAM[i : i + size] for i in range(0, len(STREAM), size)]
    assert [event for chunk in chunks for event in reader.feed(chunk)] == EVENTS


def test_an_event_that_is_not_complete_is_kept_back() -> None:
    reader = EventReader()
    assert reader.feed(b"event: delta\ndata: {}\n") == []
    assert reader.feed(b"\n") == [("delta", b"{}")]


@pytest.mark.parametrize(
    ("name", "data", "reply"),
    [
        ("meta", b'{"path": "faq"}', None),
        ("delta", b'{"text": "x"}', None),
        ("done", b'{"path": "faq"}', Reply(path="faq")),
        ("done", b"broken", Reply(path="unknown")),
        ("error", b'{"code": "timeout"}', Reply(error="stream timeout")),
        ("error", b"[]", Reply(error="stream unknown")),
    ],
)
def test_how_a_stream_ends(name: str, data: bytes, reply: Reply | None) -> None:
    assert read_end(name, data) == reply


# --- the loop ---

SHORT = Options(concurrency=4, seconds=0.1, stream=False)


@pytest.fixture
async def desk() -> AsyncIterator[tuple[str, list[dict[str, object]]]]:
    """A server that answers as a desk does, and what it was asked; a question about gold it refuses."""
    asked: list[dict[str, object]] = []

    async def chat(request: web.Request) -> web.Response:
        asked.append(await request.json())
        if "gold" in json.dumps(asked[-1]):
            return web.json_response({"error": {"code": "overloaded"}}, status=503)
        if asked[-1]["stream"]:
            return web.Response(body=STREAM, content_type="text/event-stream")
        return web.json_response({"path": "faq" if len(asked) == 1 else "exact_cache", "text": "30 days"})

    app = web.Application()
    app.router.add_post("/v1/chat", chat)
    async with TestServer(app, host="127.0.0.1") as server:
        yield f"http://127.0.0.1:{server.port}", asked


async def test_every_question_is_asked_once_and_then_again_and_again(
    desk: tuple[str, list[dict[str, object]]],
) -> None:
    base, asked = desk
    load = await measure("desk", base, ["first?", "第二？"], SHORT)
    assert load.first_paths == {"faq": 1, "exact_cache": 1}
    assert load.summary.path_share == {"exact_cache": 1.0}
    # The list, one for the recording, one a connection to open it, and the loop.
    assert len(asked) == 2 + 1 + 4 + load.summary.requests
    assert asked[1] == {"messages": [{"role": "user", "content": "第二？"}], "stream": False}
    assert load.summary.errors == {}
    assert load.client.ceiling_per_s is not None


async def test_streams_have_a_time_to_the_first_text(desk: tuple[str, list[dict[str, object]]]) -> None:
    load = await measure("desk", desk[0], ["first?"], Options(concurrency=2, seconds=0.1, stream=True))
    assert load.summary.ttft_ms is not None
    assert load.summary.latency_ms is not None
    assert load.summary.ttft_ms.p50 <= load.summary.latency_ms.p50
    assert "".join(load.recording.parts).encode() == STREAM


async def test_a_desk_that_refuses_is_not_loaded(desk: tuple[str, list[dict[str, object]]]) -> None:
    base, asked = desk
    with pytest.raises(LoadError, match="503 overloaded"):
        await measure("desk", base, ["gold?"], SHORT)
    assert len(asked) == 1


async def test_where_nothing_listens_the_message_says_so() -> None:
    with pytest.raises(LoadError, match="connection ClientConnectorError"):
        await measure("desk", "http://127.0.0.1:1", ["first?"], SHORT)


# --- the peer ---


def test_the_peer_repeats_a_document() -> None:
    text = '{"path":"faq","text":"三十天"}'
    client = TestClient(build_app(Recording("application/json", (text,))))
    response = client.post("/v1/chat", json={})
    assert response.content == text.encode()
    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-length"] == str(len(text.encode()))


def test_the_peer_repeats_a_stream() -> None:
    parts = tuple(f"{part}\n\n" for part in STREAM.decode().split("\n\n") if part)
    response = TestClient(build_app(Recording("text/event-stream", parts))).post("/v1/chat", json={})
    assert response.content == STREAM


def test_a_recording_survives_the_way_to_the_peer() -> None:
    recording = Recording("text/event-stream", ("data: 一\n\n", "data: 2\n\n"))
    assert "\n" not in recording.to_json()  # it is sent as one line
    assert Recording.parse(recording.to_json()) == recording


# --- whose number it is ---


def test_a_client_near_its_ceiling_says_so() -> None:
    assert "may well be faster" in client_line("peer", ClientCost(cpu_share=0.93, ceiling_per_s=2400.0))
    assert "30% of a core" in client_line("desk", ClientCost(cpu_share=0.3, ceiling_per_s=2400.0))
