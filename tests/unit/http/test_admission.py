"""Who is let in when too many ask, and how fast one key may."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import socket
from collections import deque
from contextlib import suppress
from typing import Any

import pytest
from starlette.testclient import TestClient

from deployments.answering.errors import OverloadedError
from deployments.answering.types import Principal
from deployments.http.admission import Admission, Queue, Shedding, read_chosen
from deployments.http.app import build_http_app
from tests.unit.http.scripted_turns import ClientMaker, ScriptedTurns, counting_ids, settings

pytestmark = pytest.mark.unit

TARGET_S, TICK_S = 0.1, 0.05
NEW: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "stream": False}
RUNNING = NEW | {"conversation_id": "c1"}


class Desk:
    """Does so much work a second, in the order in which it comes; a running conversation's question is twice as much.

    Looked at as `Admission.watch` does, with the door's refusals two ticks late.
    """

    def __init__(self, work_per_s: float = 5000) -> None:
        self.shedding = Shedding(TARGET_S)
        self.waits_s: list[float] = []  # tick by tick
        self.answered = {False: 0.0, True: 0.0}  # questions, by whether they are of running conversations
        self._work_per_s = work_per_s
        self._queue: deque[tuple[bool, float, float]] = deque()  # of running, of how many it is one, how many they are
        self._told = [(0.0, 0.0)] * 2

    def run(self, new_per_s: float, running_per_s: float, seconds: float) -> None:
        for _ in range(round(seconds / TICK_S)):
            shares = self._told.pop(0)
            for is_running, per_s in ((False, new_per_s), (True, running_per_s)):
                passes = 1 - shares[is_running]
                self._queue.append((is_running, 1 / passes, per_s * TICK_S * passes))
            self._work()
            shed = self.shedding
            self._told.append((_told(shed.refusal_probability(False)), _told(shed.refusal_probability(True))))

    def _work(self) -> None:
        left, wait_s = self._work_per_s * TICK_S, sum(n * (1 + r) for r, _, n in self._queue) / self._work_per_s
        while self._queue and left > 0:
            is_running, of, count = self._queue.popleft()
            done = min(count, left / (1 + is_running))
            left -= done * (1 + is_running)
            self.answered[is_running] += done
            if done < count:
                self._queue.appendleft((is_running, of, count - done))
            for _ in range(round(done)):
                self.shedding.note(max(0.0, wait_s - TICK_S))
                self.shedding.note_kind(is_running, of, is_let_in=True)
        self.shedding.observe(0.0, TICK_S)
        self.waits_s.append(wait_s)


def _told(share: float) -> float:
    """To the door, which always lets some pass."""
    return min(0.95, share)


@pytest.mark.parametrize(("new_per_s", "running_per_s"), [(4750, 0), (2500, 1100), (0, 2375)])
def test_nobody_is_refused_while_questions_are_heard_in_time(new_per_s: float, running_per_s: float) -> None:
    desk = Desk()
    desk.run(new_per_s, running_per_s, 60)
    assert desk.shedding.refusal_probability(False) == desk.shedding.refusal_probability(True) == 0


@pytest.mark.parametrize(
    ("new_per_s", "running_per_s", "answered", "running_answered"),
    [
        (6000, 0, 5000, 0),
        (25_000, 0, 5000, 0),
        (5500, 2250, 3333, 1667),  # twice what it can: running ones have half of the answers, two thirds of the work
        (18_000, 1000, 4000, 1000),  # four times, but not of running ones: all of them are answered
        (500, 4500, 2750, 2250),  # the new ones need less than a half
    ],
)
def test_as_many_are_let_in_as_can_be_answered_and_none_waits_long(
    new_per_s: float, running_per_s: float, answered: float, running_answered: float
) -> None:
    desk = Desk()
    desk.run(new_per_s, running_per_s, 10)
    assert max(desk.waits_s[100:]) < 4 * TARGET_S
    before = dict(desk.answered)
    desk.run(new_per_s, running_per_s, 30)
    per_s = {kind: (desk.answered[kind] - before[kind]) / 30 for kind in (False, True)}
    assert per_s[False] + per_s[True] > 0.95 * answered
    assert per_s[True] >= 0.9 * running_answered
    desk.run(2000, 250, 5)
    assert desk.shedding.refusal_probability(False) == desk.shedding.refusal_probability(True) == 0


def test_where_even_running_conversations_are_too_many_some_of_all_are_refused() -> None:
    made = Shedding(TARGET_S)
    for _ in range(100):
        made.note(10 * TARGET_S)
        made.observe(0.0, TICK_S)
    assert made.refusal_probability(True) == 1


def test_a_few_who_waited_long_are_no_crowd() -> None:
    """As those who come while a desk starts, which wait until it is there."""
    made = Shedding(TARGET_S)
    for _ in range(3):
        made.note(30.0)
        made.note_kind(is_running=False, of=1.0, is_let_in=True)
    made.observe(0.5, 0.55)
    assert made.late_s > TARGET_S
    assert 0 < made.there < 8


def test_who_has_waited_too_long_is_known() -> None:
    made = Shedding(TARGET_S)
    assert not made.is_too_late(3 * TARGET_S)
    assert made.is_too_late(5 * TARGET_S)


def test_one_long_pause_of_the_process_refuses_nobody() -> None:
    made = Shedding(TARGET_S)
    for _ in range(3):
        for lag_s in (10.0, *[0.0] * 10):
            for _ in range(20):
                made.note(0.0)
                made.note_kind(is_running=False, of=1.0, is_let_in=True)
            made.observe(lag_s, TICK_S + lag_s)
            assert made.refusal_probability(False) == 0
    for _ in range(3):
        made.note(0.0)
        made.note_kind(is_running=False, of=1.0, is_let_in=True)
        made.observe(10.0, 10.05)
    assert made.refusal_probability(False) > 0


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
            waited_s = admission.note(f"{host} {2_000_000 - waited_ms}")
            with suppress(OverloadedError):
                admission.check(Principal("demo", frozenset(), "loopback"), False, waited_s)
        await asyncio.sleep(0.02)
    watching.cancel()
    assert bool(admission.tells()) == is_late


@pytest.mark.parametrize(
    "came", [None, "", "host", f"{socket.gethostname()} soon", "1 2 3", f"{socket.gethostname()} {'9' * 9000}"]
)
def test_what_the_door_did_not_say_makes_nothing_late(came: str | None) -> None:
    assert Admission(settings()).note(came) == 0


def queue(waiting: int, per_s: float, seconds: float = 5) -> Queue:
    """After so long in which so many waited, and so many got on in a second."""
    made = Queue(target_wait_s=0.5)
    for tick in range(1, round(seconds / TICK_S) + 1):
        made.observe(waiting, waiting + round(tick * TICK_S * per_s), TICK_S)
    return made


@pytest.mark.parametrize(
    ("waiting", "new", "running"),
    [(50, 0, 0), (62, 0.5, 0), (75, 1, 0), (150, 1, 0), (175, 1, 0.5), (200, 1, 1), (999, 1, 1)],
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


def overloaded_client(turns: ScriptedTurns, share: float, luck: float, at_work: int = 32) -> TestClient:
    """luck: where within 0-1 each draw falls."""
    admission = Admission(settings(), lambda: luck)
    admission._shedding = Shedding(1.0)
    admission._shedding.share, admission._shedding.running_share = share, max(0.0, 2 * share - 1)
    admission._shedding.late_s = 4.0 * (share == 1)
    admission.at_work.count = at_work
    app = build_http_app(settings(), turns, admission=admission, new_id=counting_ids())
    return TestClient(app, base_url="http://127.0.0.1:8000")


@pytest.mark.parametrize(
    ("share", "luck", "new", "running"),
    [(0.0, 0.0, 200, 200), (0.6, 0.5, 503, 200), (0.6, 0.7, 200, 200), (0.9, 0.7, 503, 503), (1.0, 0.99, 503, 503)],
)
def test_a_share_is_told_503_at_once(share: float, luck: float, new: int, running: int, turns: ScriptedTurns) -> None:
    client = overloaded_client(turns, share, luck)
    assert client.post("/v1/chat", json=NEW).status_code == new
    assert client.post("/v1/chat", json=RUNNING).status_code == running
    assert len(turns.requests) == [new, running].count(200)


@pytest.mark.parametrize(("share", "told"), [(0.0, None), (0.6, "60 20"), (0.95, "95 90"), (1.0, "95 95")])
def test_the_door_is_told_whom_to_refuse(share: float, told: str | None, turns: ScriptedTurns) -> None:
    client = overloaded_client(turns, share, luck=0.5)
    for response in (client.post("/v1/chat", json=NEW), client.get("/healthz")):
        assert response.headers.get("x-raydesk-shed") == told


@pytest.mark.parametrize(("door_refused", "refused"), [(None, 0.9), (50, 0.8), (80, 0.5), (90, 0.0), (95, 0.0)])
def test_what_the_door_has_refused_is_not_refused_again(
    door_refused: int | None, refused: float, turns: ScriptedTurns
) -> None:
    """Nine of ten are to be refused, by both of them together."""
    chosen = {} if door_refused is None else {"x-raydesk-chosen": f"new {door_refused}"}
    for luck in (0.01, 0.3, 0.6, 0.7, 0.85, 0.95):
        response = overloaded_client(turns, 0.9, luck).post("/v1/chat", json=NEW, headers=chosen)
        assert response.status_code == (503 if luck < refused else 200)


@pytest.mark.parametrize(
    ("chosen", "is_running", "of"),
    [
        ("new 0", False, 1.0),
        ("new 50", False, 2.0),
        ("running 75", True, 4.0),
        ("running", True, 1.0),
        ("", False, 1.0),
        ("new -5", False, 1.0),
        ("new " + "9" * 99, False, 1.0),
    ],
)
def test_of_how_many_the_door_chose_one(chosen: str, is_running: bool, of: float) -> None:
    assert read_chosen(chosen) == (is_running, of)


def test_of_all_that_come_some_pass() -> None:
    assert read_chosen("new 100") == (False, pytest.approx(20))


def test_where_few_are_at_work_nobody_is_refused(turns: ScriptedTurns) -> None:
    client = overloaded_client(turns, 1.0, 0.5, at_work=31)
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
