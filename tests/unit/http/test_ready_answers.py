"""Answers that are there at once: the same bytes in one piece."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.testclient import TestClient

from deployments.answering.protocols import ReadyEvents
from deployments.answering.types import AnswerEvent, ChatRequest
from deployments.http.app import build_http_app
from deployments.http.json_bytes import json_bytes
from tests.unit.http.scripted_turns import Script, ScriptedTurns, answer, counting_ids, failed, settings

pytestmark = pytest.mark.unit
ASK = {"messages": [{"role": "user", "content": "May I return it?"}]}


class ReadyTurns(ScriptedTurns):
    @asynccontextmanager
    async def open(self, request: ChatRequest) -> AsyncIterator[AsyncIterator[AnswerEvent]]:
        yield ReadyEvents([step for step in self.script(request) if isinstance(step, AnswerEvent)])


def client_of(turns: ScriptedTurns) -> TestClient:
    return TestClient(build_http_app(settings(), turns, new_id=counting_ids()), base_url="http://127.0.0.1:8000")


@pytest.mark.parametrize("path", ["/v1/chat", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [True, False])
def test_bytes_are_those_of_an_answer_that_had_to_be_waited_for(path: str, stream: bool) -> None:
    body = ASK | {"stream": stream} | ({"model": "raydesk"} if path.endswith("completions") else {})
    ready, waited = (client_of(turns).post(path, json=body) for turns in (ReadyTurns(), ScriptedTurns()))
    assert ready.status_code == waited.status_code == 200
    assert _timeless(ready.content) == _timeless(waited.content)
    own = {name: value for name, value in ready.headers.items() if name != "content-length"}
    assert own == {name: value for name, value in waited.headers.items() if name != "content-length"}


@pytest.mark.parametrize("stream", [True, False])
def test_failure_at_once_is_an_http_error(stream: bool) -> None:
    def script(request: ChatRequest) -> Script:
        return (failed(request),)

    response = client_of(ReadyTurns(script)).post("/v1/chat", json=ASK | {"stream": stream})
    assert response.status_code == 502
    assert response.json()["error"]["code"] == "engine_died"


async def test_events_are_given_once_and_stay_visible() -> None:
    request_events = [step for step in answer(_request()) if isinstance(step, AnswerEvent)]
    events = ReadyEvents(request_events)
    assert [event async for event in events] == request_events
    assert [event async for event in events] == []
    assert list(events.all) == request_events


def test_half_a_character_is_replaced_and_not_an_error() -> None:
    assert json.loads(json_bytes({"text": ["a\ud800b"]})) == {"text": ["a?b"]}


def _request() -> ChatRequest:
    turns = ScriptedTurns()
    client_of(turns).post("/v1/chat", json=ASK)
    return turns.requests[0]


def _timeless(content: bytes) -> bytes:
    """Without the second in which it was created."""
    return b"".join(part for part in content.split(b",") if not part.startswith(b'"created"'))
