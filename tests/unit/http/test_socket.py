"""Several turns over one WebSocket, and peers that behave badly."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from deployments.answering.errors import OverloadedError
from deployments.answering.types import Delta
from deployments.http.rate import TokenBucket
from tests.unit.http.scripted_turns import ClientMaker, ScriptedTurns, meta, settings

pytestmark = pytest.mark.unit

KEY = {"id": "shop", "sha256": hashlib.sha256("rk-schön".encode()).hexdigest(), "tenant": "shop"}
EXPOSED = settings(http={"bind_host": "0.0.0.0"}, auth={"keys": [KEY]})  # noqa: S104
URL = "ws://127.0.0.1:8000/v1/ws"
IN_A_PROTOCOL = "raydesk.key." + base64.urlsafe_b64encode("rk-schön".encode()).decode().rstrip("=")
ASK = {"type": "ask", "messages": [{"role": "user", "content": "How long may I return?"}]}


def until(socket: Any, event: str) -> list[dict[str, Any]]:
    """What comes, up to the event of that name."""
    came = [socket.receive_json()]
    while came[-1]["event"] != event:
        came.append(socket.receive_json())
    return came


def test_a_turn_has_the_events_of_a_stream_under_the_clients_id(client: TestClient) -> None:
    with client.websocket_connect(URL) as socket:
        assert socket.receive_json() == {"id": None, "event": "ready", "data": {"ping_s": 10.0}}
        socket.send_json({"id": "q1", **ASK})
        came = until(socket, "done")
    assert [one["event"] for one in came] == ["meta", "delta", "delta", "citation", "done"]
    assert {one["id"] for one in came} == {"q1"}
    assert came[1]["data"] == {"text": "Within "}
    assert came[3]["data"]["title"] == "Returns"


def test_turns_run_side_by_side_and_one_is_cancelled(client: TestClient, turns: ScriptedTurns) -> None:
    turns.script = lambda request: [meta(request), Delta("a"), 30.0]
    with client.websocket_connect(URL) as socket:
        until(socket, "ready")
        socket.send_json({"id": "slow", **ASK})
        until(socket, "delta")
        turns.script = ScriptedTurns().script
        socket.send_json({"id": "quick", **ASK})
        assert {one["id"] for one in until(socket, "done")} == {"quick"}
        socket.send_json({"type": "cancel", "id": "slow"})
        assert socket.receive_json() == {"id": "slow", "event": "cancelled", "data": {}}
        socket.send_json({"id": "slow", **ASK})  # the id is free again
        until(socket, "done")
    assert sorted(turns.endings) == ["complete", "complete", "left"]


def test_leaving_cancels_what_runs(client: TestClient, turns: ScriptedTurns) -> None:
    turns.script = lambda request: [meta(request), 30.0]
    with client.websocket_connect(URL) as socket:
        socket.send_json({"id": "q1", **ASK})
        until(socket, "meta")
    assert turns.endings == ["left"]


@pytest.mark.parametrize(
    ("message", "code", "name"),
    [
        ("{", "invalid_json", None),
        ("[]", "invalid_request", None),
        ({"type": "sing"}, "invalid_request", None),
        ({"type": ["ask"]}, "invalid_request", None),
        ({"type": "ask", "id": "q1"}, "invalid_request", "q1"),
        ({"type": "ask", "id": "q1", "messages": []}, "invalid_request", "q1"),
        ({"type": "ask", "id": "a b", "messages": ASK["messages"]}, "invalid_request", "a b"),
        ({"id": "q1", **ASK, "tenant": "other"}, "invalid_request", "q1"),
        ({"type": "pong", "x": 1}, "invalid_request", None),
    ],
)
def test_a_message_that_is_none_is_told_so_and_the_socket_stays(
    message: Any, code: str, name: str | None, client: TestClient
) -> None:
    with client.websocket_connect(URL) as socket:
        until(socket, "ready")
        socket.send_text(message if isinstance(message, str) else json.dumps(message))
        error = socket.receive_json()
        assert (error["event"], error["id"], error["data"]["code"]) == ("error", name, code)
        socket.send_json({"id": "q2", **ASK})
        until(socket, "done")


def test_a_turn_that_cannot_begin_is_an_error_of_that_turn(client: TestClient, turns: ScriptedTurns) -> None:
    turns.refusal = OverloadedError()
    with client.websocket_connect(URL) as socket:
        until(socket, "ready")
        socket.send_json({"id": "q1", **ASK})
        error = socket.receive_json()
    assert (error["id"], error["data"]["code"], error["data"]["retry_after_s"]) == ("q1", "overloaded", 2)


def test_an_id_is_taken_while_its_turn_runs_and_turns_at_once_are_limited(
    client: TestClient, turns: ScriptedTurns
) -> None:
    turns.script = lambda request: [30.0]
    with client.websocket_connect(URL) as socket:
        until(socket, "ready")
        for number in range(8):
            socket.send_json({"id": f"q{number}", **ASK})
        socket.send_json({"id": "q3", **ASK})
        assert socket.receive_json()["data"]["code"] == "invalid_request"
        socket.send_json({"id": "q8", **ASK})
        assert socket.receive_json()["data"]["code"] == "rate_limited"


@pytest.mark.parametrize(("size", "closed"), [(65_000, None), (65_537, 1009)])
def test_a_message_has_64_kib(size: int, closed: int | None, client: TestClient) -> None:
    with client.websocket_connect(URL) as socket:
        until(socket, "ready")
        socket.send_text(json.dumps({"type": "x" * (size - 11)}))
        if closed is None:
            assert socket.receive_json()["event"] == "error"
        else:
            assert close_code(socket) == closed


def test_messages_a_second_are_limited(client: TestClient) -> None:
    with client.websocket_connect(URL) as socket:
        until(socket, "ready")
        for _ in range(200):
            socket.send_json({"type": "pong"})
        assert close_code(socket) == 1008


def test_who_answers_pings_stays_and_who_is_silent_is_given_up(make_client: ClientMaker) -> None:
    client = make_client(settings(http={"socket": {"ping_s": 0.1}}))
    with client.websocket_connect(URL) as socket:
        until(socket, "ready")
        for _ in range(5):
            until(socket, "ping")
            socket.send_json({"type": "pong"})
        assert close_code(socket) == 1001


def close_code(socket: Any) -> int:
    with pytest.raises(WebSocketDisconnect) as closed:
        until(socket, "never")
    return closed.value.code


# --- who it is ---


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"authorization": "Bearer rk-schön".encode()}},
        {"subprotocols": ["raydesk", IN_A_PROTOCOL]},
    ],
)
def test_a_key_in_a_header_or_a_protocol(options: Any, make_client: ClientMaker, turns: ScriptedTurns) -> None:
    with make_client(EXPOSED).websocket_connect(URL, **options) as socket:
        assert socket.accepted_subprotocol == ("raydesk" if "subprotocols" in options else None)
        until(socket, "ready")
        socket.send_json({"id": "q1", **ASK})
        until(socket, "done")
    assert turns.requests[0].principal.tenant == "shop"


def test_a_key_in_the_first_message(make_client: ClientMaker, turns: ScriptedTurns) -> None:
    with make_client(EXPOSED).websocket_connect(URL) as socket:
        socket.send_json({"type": "auth", "key": "rk-schön"})
        until(socket, "ready")
        socket.send_json({"id": "q1", **ASK})
        until(socket, "done")
    assert turns.requests[0].principal.tenant == "shop"


@pytest.mark.parametrize("first", [{"id": "q1", **ASK}, {"type": "auth", "key": "wrong"}])
def test_without_a_key_nothing_is_asked(first: Any, make_client: ClientMaker, turns: ScriptedTurns) -> None:
    with make_client(EXPOSED).websocket_connect(URL) as socket:
        socket.send_json(first)
        assert close_code(socket) == 1008
    assert turns.requests == []


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"authorization": "Bearer wrong"}},
        {"subprotocols": ["raydesk", "raydesk.key.d3Jvbmc"]},
        {"subprotocols": ["raydesk", "raydesk.key.%%%"]},
    ],
)
def test_a_wrong_key_is_not_let_in(options: Any, make_client: ClientMaker) -> None:
    with (
        pytest.raises(WebSocketDisconnect) as closed,
        make_client(EXPOSED).websocket_connect(URL, **options),
    ):
        pass
    assert closed.value.code == 1008


@pytest.mark.parametrize("headers", [{"origin": "http://evil.example"}, {"host": "evil.example"}])
def test_on_loopback_other_pages_are_not_let_in(headers: Any, client: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect) as closed, client.websocket_connect(URL, headers=headers):
        pass
    assert (closed.value.code, closed.value.reason) == (1008, "permission_denied")


def test_a_plain_request_is_told_to_upgrade(client: TestClient) -> None:
    response = client.get("/v1/ws")
    assert (response.status_code, response.json()["error"]["code"]) == (426, "upgrade_required")
    assert response.headers["upgrade"] == "websocket"


def test_a_bucket_fills_evenly() -> None:
    bucket = TokenBucket(2.0, 3)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.wait_s() == 0.5
    assert [bucket.take(10.4), bucket.take(10.5), bucket.take(11.0), bucket.take(11.1)] == [False, True, True, False]
