"""The Python client against the HTTP side in process: what it sends, and what it makes of what comes."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from deployments import client as client_module
from deployments.answering.types import Citation, Delta, Done, Meta
from deployments.client import ApiError, AsyncRaydesk, ConnectionLostError, Raydesk
from models.protocols import ChatMessage
from tests.unit.http.scripted_turns import CITATION, ClientMaker, ScriptedTurns, failed, meta, settings

pytestmark = pytest.mark.unit

QUESTION = "How long may I return it?"


@pytest.fixture
def desk(client: TestClient) -> Raydesk:
    return Raydesk("", http=client)


def test_an_answer_is_complete_and_typed(desk: Raydesk, turns: ScriptedTurns) -> None:
    answer = desk.ask(QUESTION, collection="help", language="en")
    assert answer.text == "Within 30 days.\u2028 是"
    assert answer.citations == (CITATION,)
    assert (answer.path, answer.done.output_tokens, answer.buttons[0].label) == ("small", 4, "Start a return")
    assert answer.links[0].url == "https://help.example/returns"
    request = turns.requests[0]
    assert (request.text, request.collection, request.language) == (QUESTION, "help", "en")
    assert (answer.turn_id, answer.conversation_id) == (request.turn_id, request.conversation_id)


def test_a_stream_gives_each_event_as_a_value(desk: Raydesk) -> None:
    kinds = [type(event) for event in desk.stream(QUESTION)]
    assert kinds == [Meta, Delta, Delta, Citation, Done]


def test_a_conversation_goes_on_by_its_id_or_by_its_messages(desk: Raydesk, turns: ScriptedTurns) -> None:
    first = desk.ask(QUESTION)
    desk.ask("And shoes?", conversation_id=first.conversation_id)
    desk.ask([ChatMessage("user", QUESTION), ChatMessage("assistant", first.text), ChatMessage("user", "And hats?")])
    assert turns.requests[1].conversation_id == first.conversation_id
    assert [message.role for message in turns.requests[2].messages] == ["user", "assistant", "user"]


def test_each_question_has_a_key_of_its_own_or_the_given_one(desk: Raydesk, turns: ScriptedTurns) -> None:
    for key in (None, None, "mine"):
        desk.ask(QUESTION, idempotency_key=key)
    keys = [request.repeatable.key for request in turns.requests if request.repeatable is not None]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


def test_a_refusal_says_what_and_whether_to_try_again(desk: Raydesk) -> None:
    with pytest.raises(ApiError) as caught:
        desk.ask("")
    assert (caught.value.code, caught.value.status, caught.value.retryable) == ("invalid_request", 400, False)
    assert caught.value.request_id
    assert caught.value.request_id in str(caught.value)


def test_a_turn_that_fails_is_an_error_as_well(desk: Raydesk, turns: ScriptedTurns) -> None:
    turns.script = lambda request: (meta(request), Delta("Within "), failed(request))
    events = []
    with pytest.raises(ApiError) as caught:
        events.extend(desk.stream(QUESTION))
    assert (caught.value.code, caught.value.status, caught.value.retry_after_s) == ("engine_died", None, 5)
    assert caught.value.retryable


def test_the_key_is_sent_as_it_must_be(make_client: ClientMaker) -> None:
    keys = ({"id": "shop", "sha256": hashlib.sha256(b"rd-shop").hexdigest(), "tenant": "shop"},)
    http = make_client(settings(auth={"keys": keys}))
    http.headers.update(client_module._headers("rd-shop"))
    assert Raydesk("", http=http).ask(QUESTION).text
    http.headers.update(client_module._headers("wrong"))
    with pytest.raises(ApiError, match="authentication_failed"):
        Raydesk("", http=http).ask(QUESTION)


def test_a_proxys_own_words_are_an_error_too() -> None:
    http = httpx2.Client(
        base_url="http://desk", transport=httpx2.MockTransport(lambda _: httpx2.Response(502, text="<p>"))
    )
    with pytest.raises(ApiError, match="http_502") as caught:
        Raydesk("", http=http).conversations()
    assert caught.value.retryable


class Breaking:
    """Answers one question in pieces, each of them cut off in the middle of an event."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = list(pieces)
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        if not self.pieces:
            raise httpx2.ConnectError("no route", request=request)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, text=self.pieces.pop(0))


META = 'id: 1\nevent: meta\ndata: {"turn_id":"t1","request_id":"r","conversation_id":"c","collection":"help",'
META += '"language":"en","path":"small","route_reason":""}\n\n'
DONE = 'id: 4\nevent: done\ndata: {"path":"small","finish_reason":"stop","grounded":true}\n\n'
BROKEN = (
    META + 'id: 2\nevent: delta\ndata: {"text":"one "}\n\nid: 3\nevent: delta\ndata: {"te',
    "",
    ': keep-alive\nid: 3\nevent: delta\ndata: {"text":"two"}\n\nid: 4\nevent: do',
    DONE,
)


def check_resumed(service: Breaking, text: str) -> None:
    assert text == "one two"
    paths = [(request.url.path, request.headers.get("last-event-id")) for request in service.requests]
    resumed = "/v1/turns/t1/events"
    assert paths == [("/v1/chat", None), (resumed, "2"), (resumed, "2"), (resumed, "3")]


def test_a_stream_goes_on_after_its_last_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_PAUSE_S", 0.001)
    service = Breaking(*BROKEN)
    http = httpx2.Client(base_url="http://desk", transport=httpx2.MockTransport(service))
    check_resumed(service, Raydesk("", http=http).ask(QUESTION).text)


async def test_an_async_stream_does_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_PAUSE_S", 0.001)
    service = Breaking(*BROKEN)
    async with AsyncRaydesk(
        "", http=httpx2.AsyncClient(base_url="http://desk", transport=httpx2.MockTransport(service))
    ) as desk:
        check_resumed(service, (await desk.ask(QUESTION)).text)


def test_a_service_that_stays_away_is_given_up_under_the_key_that_can_be_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "FIRST_PAUSE_S", 0.001)
    service = Breaking()
    http = httpx2.Client(base_url="http://desk", transport=httpx2.MockTransport(service))
    with pytest.raises(ConnectionLostError) as caught:
        Raydesk("", http=http).ask(QUESTION)
    sent: set[Any] = {request.headers["idempotency-key"] for request in service.requests}
    assert sent == {caught.value.idempotency_key}
    assert len(service.requests) == client_module.MOST_TRIES + 1
