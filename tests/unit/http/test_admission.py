"""Who is let in when too many ask, and how fast one key may."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import socket
from typing import Any

import pytest
from starlette.testclient import TestClient

from deployments.answering.errors import OverloadedError
from deployments.answering.types import Principal
from deployments.http.admission import _ONE_PAUSE, Admission, Queue, Shedding
from deployments.http.app import build_http_app
from tests.unit.http.scripted_turns import ClientMaker, ScriptedTurns, counting_ids, settings

pytestmark = pytest.mark.unit

TARGET_S, TICK_S = 0.05, 0.05
NEW: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "stream": False}
RUNNING = NEW | {"conversation_id": "c1"}


def shedding(lag_s: float, seconds: float) -> Shedding:
    made = Shedding(TARGET_S)
    for _ in range(round(seconds / TICK_S)):
        made.observe(lag_s, TICK_S + lag_s)
    return made


def test_nobody_is_refused_while_the_loop_is_in_time() -> None:
    assert shedding(0.9 * TARGET_S, 60).share == 0


def test_new_conversations_are_refused_before_running_ones() -> None:
    for ticks in range(1, 40):
        made = shedding(2 * TARGET_S, ticks * TICK_S)
        new, running = made.refusal_probability(False), made.refusal_probability(True)
        assert new >= running
        assert running == 0 or new == 1
    assert shedding(2 * TARGET_S, 5).refusal_probability(True) == 1


def test_one_long_pause_of_the_process_refuses_nobody() -> None:
    made = Shedding(TARGET_S)
    for _ in range(3):
        made.observe(10.0, 10.05)
        assert made.share == 0
        for _ in range(10):
            made.observe(0.0, TICK_S)
    made.observe(10.0, 10.05)
    made.observe(10.0, 10.05)
    assert made.share > 0


@pytest.mark.parametrize(
    ("host", "waited_ms", "is_late"),
    [(socket.gethostname(), 300, True), (socket.gethostname(), 20, False), ("another", 300, False)],
)
async def test_who_waited_outside_is_heard_late_too(host: str, waited_ms: int, is_late: bool) -> None:
    """By the clock of this machine: another's may be wrong."""
    lag_s = 0.1 if is_late else 1000  # a busy machine must not make it late, nor an idle one in time
    admission = Admission(settings(http={"target_lag_s": lag_s}), lambda: 0.5, now_s=lambda: 2000.0)
    watching = asyncio.create_task(admission.watch())
    for _ in range(40):
        for _ in range(16):
            admission.note(f"{host} {2_000_000 - waited_ms}")
        await asyncio.sleep(0.02)
    watching.cancel()
    assert bool(admission.tells()) == is_late


@pytest.mark.parametrize(
    "came", [None, "", "host", f"{socket.gethostname()} soon", "1 2 3", f"{socket.gethostname()} {'9' * 9000}"]
)
def test_what_the_door_did_not_say_makes_nothing_late(came: str | None) -> None:
    admission = Admission(settings())
    admission.note(came)
    assert admission._asked.taken() == (1, 0.0)


def queue(waiting: int, per_s: float, seconds: float = 5) -> Queue:
    """After so long in which so many waited, and so many got on in a second."""
    made = Queue(target_wait_s=0.5)
    for tick in range(1, round(seconds / TICK_S) + 1):
        made.observe(waiting, waiting + round(tick * TICK_S * per_s), TICK_S)
    return made


@pytest.mark.parametrize(
    ("waiting", "new", "running"), [(50, 0, 0), (75, 0.5, 0), (100, 1, 0), (150, 1, 0.5), (200, 1, 1), (999, 1, 1)]
)
def test_no_more_may_wait_than_get_on_in_time(waiting: int, new: float, running: float) -> None:
    made = queue(waiting, per_s=200)
    found = (made.refusal_probability(False), made.refusal_probability(True))
    assert found == pytest.approx((new, running), abs=0.05)


def test_few_may_always_wait() -> None:
    for waiting in range(17):
        assert queue(waiting, per_s=1).refusal_probability(False) == 0
    assert queue(32, per_s=1).refusal_probability(True) == 0


def test_what_got_on_while_few_waited_tells_nothing() -> None:
    made = queue(2, per_s=3)
    made.observe(100, 115, TICK_S)  # all of a sudden
    made.observe(95, 115, TICK_S)
    assert made.refusal_probability(False) == 0
    for got_on in range(1, 10):
        made.observe(95 - 5 * got_on, 115, TICK_S)
    assert made.limit == pytest.approx(50, abs=1)  # 5 a tick


async def test_who_waits_is_looked_at_all_the_time() -> None:
    come = itertools.count(1000, 5)
    patient = settings(http={"target_lag_s": 1000, "target_wait_s": 0.4})
    admission = Admission(patient, lambda: 0.6, lambda: (40, next(come)))
    admission.at_work.count = 40
    watching = asyncio.create_task(admission.watch())
    async with asyncio.timeout(30):
        while not admission._share(is_running=False) > 0.6:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    watching.cancel()
    principal = Principal("demo", frozenset(), "loopback")
    with pytest.raises(OverloadedError):
        admission.check(principal, is_running=False)
    admission.check(principal, is_running=True)


def overloaded_client(turns: ScriptedTurns, share: float, luck: float, at_work: int = 16) -> TestClient:
    """luck: where within 0-1 each draw falls."""
    admission = Admission(settings(), lambda: luck)
    admission._shedding = Shedding(1.0)
    admission._shedding._grown = _ONE_PAUSE + share * (1 - _ONE_PAUSE)
    admission.at_work.count = at_work
    app = build_http_app(settings(), turns, admission=admission, new_id=counting_ids())
    return TestClient(app, base_url="http://127.0.0.1:8000")


@pytest.mark.parametrize(
    ("share", "luck", "new", "running"),
    [(0.0, 0.0, 200, 200), (0.3, 0.5, 503, 200), (0.3, 0.7, 200, 200), (0.5, 0.99, 503, 200), (1.0, 0.99, 503, 503)],
)
def test_a_share_is_told_503_at_once(share: float, luck: float, new: int, running: int, turns: ScriptedTurns) -> None:
    client = overloaded_client(turns, share, luck)
    assert client.post("/v1/chat", json=NEW).status_code == new
    assert client.post("/v1/chat", json=RUNNING).status_code == running
    assert len(turns.requests) == [new, running].count(200)


@pytest.mark.parametrize(("share", "told"), [(0.0, None), (0.3, "60"), (0.5, "95"), (1.0, "95")])
def test_the_door_is_told_whom_to_refuse_and_what_it_chose_is_not_chosen_anew(
    share: float, told: str | None, turns: ScriptedTurns
) -> None:
    client = overloaded_client(turns, share, luck=0.5)
    for response in (client.post("/v1/chat", json=NEW), client.get("/healthz")):
        assert response.headers.get("x-raydesk-shed") == told
    chosen = client.post("/v1/chat", json=NEW, headers={"x-raydesk-chosen": "yes"})
    assert chosen.status_code == (503 if share == 1.0 else 200)


def test_where_few_are_at_work_nobody_is_refused(turns: ScriptedTurns) -> None:
    client = overloaded_client(turns, 1.0, 0.5, at_work=15)
    assert [client.post("/v1/chat", json=NEW).status_code for _ in range(3)] == [200] * 3


def test_the_pause_is_whole_seconds_and_what_asks_nothing_is_always_answered(turns: ScriptedTurns) -> None:
    client = overloaded_client(turns, 1.0, 0.5)
    refused = client.post("/v1/chat/completions", content=b"not even JSON", headers={"content-type": "text/plain"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert client.get("/healthz").status_code == 200
    assert client.get("/v1/models").status_code == 200


def test_a_turn_of_a_socket_is_refused_too(turns: ScriptedTurns) -> None:
    with overloaded_client(turns, 1.0, 0.5).websocket_connect("ws://127.0.0.1:8000/v1/ws") as socket:
        assert socket.receive_json()["event"] == "ready"
        socket.send_json({"type": "ask", "id": "q1", "messages": NEW["messages"]})
        error = socket.receive_json()
    assert (error["id"], error["data"]["code"]) == ("q1", "overloaded")


def test_a_key_asks_no_faster_than_it_may(make_client: ClientMaker) -> None:
    keys = [
        {"id": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "tenant": "t", "requests_per_minute": rate}
        for name, rate in (("slow", 12), ("free", None))
    ]
    client = make_client(settings(auth={"keys": keys}))
    came = {
        name: [client.post("/v1/chat", json=NEW, headers={"authorization": f"Bearer {name}"}) for _ in range(4)]
        for name in ("slow", "free")
    }
    assert [one.status_code for one in came["slow"]] == [200, 200, 429, 429]
    assert [one.status_code for one in came["free"]] == [200] * 4
    refused = came["slow"][-1]
    assert (refused.json()["error"]["code"], refused.json()["error"]["retryable"]) == ("rate_limited", True)
    assert refused.headers["retry-after"] == "5"
