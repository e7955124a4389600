"""What every room of sessions must do. A new one subclasses `SessionSuite` and brings the fixture `sessions`."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from deployments.answering.errors import DeadlineExceededError
from deployments.answering.protocols import Held, InLine, Sessions
from deployments.answering.session import FlowState, Session, SessionKey
from models.protocols import ChatMessage

WAIT_S = 20.0

SESSION = Session(
    messages=(ChatMessage("user", "我的包裹丢了 \U0001f4e6"), ChatMessage("assistant", "哪个订单？")),
    language="zh",
    flow=FlowState("parcel", "我的包裹丢了", {"order": 'ORD-"1234"'}, "day", tries=1, asides=2),
    kept={"phone": "+4915123456789"},
)


@pytest.fixture
def key() -> SessionKey:
    """Of one test alone."""
    return SessionKey("demo", "shop", uuid4().hex)


class SessionSuite:
    async def test_conversation_without_a_turn_is_empty(self, sessions: Sessions, key: SessionKey) -> None:
        held = await sessions.begin(key, WAIT_S)
        assert held.session == Session()
        await sessions.end(held, None)
        assert await sessions.load(key) is None

    async def test_next_turn_has_what_the_last_one_stored_whole(self, sessions: Sessions, key: SessionKey) -> None:
        await sessions.end(await sessions.begin(key, WAIT_S), SESSION)
        held = await sessions.begin(key, WAIT_S)
        assert held.session == SESSION
        await sessions.end(held, None)
        assert await sessions.load(key) == SESSION

    async def test_what_is_stored_without_a_hold_is_there(self, sessions: Sessions, key: SessionKey) -> None:
        await sessions.store(key, SESSION)
        held = await sessions.begin(key, WAIT_S)
        assert held.session == SESSION
        await sessions.end(held, Session())
        assert await sessions.load(key) == Session()

    async def test_what_is_stored_soon_is_there_for_the_next_turn(self, sessions: Sessions, key: SessionKey) -> None:
        other = SessionKey(key.tenant, key.key_id, f"{key.conversation_id}x")
        for one in (key, other):
            sessions.store_soon(one, SESSION)
        held = await sessions.begin(key, WAIT_S)
        assert held.session == SESSION
        await sessions.end(held, None)
        assert await sessions.load(other) == SESSION
        sessions.store_soon(other, Session())  # late: there is something by now
        assert await sessions.load(other) == SESSION

    async def test_what_is_forgotten_is_gone_for_its_own_key_alone(self, sessions: Sessions, key: SessionKey) -> None:
        other = SessionKey(key.tenant, "another", key.conversation_id)
        for one in (key, other):
            await sessions.store(one, SESSION)
        assert await sessions.forget(key, WAIT_S)
        assert not await sessions.forget(key, WAIT_S)
        assert await sessions.load(key) is None
        assert await sessions.load(other) == SESSION

    async def test_turn_that_runs_ends_before_its_conversation_is_forgotten(
        self, sessions: Sessions, key: SessionKey
    ) -> None:
        held = await sessions.begin(key, WAIT_S)
        forgetting = asyncio.create_task(sessions.forget(key, WAIT_S))
        await asyncio.sleep(0.05)
        await sessions.end(held, SESSION)
        assert await forgetting
        assert await sessions.load(key) is None

    async def test_turns_of_one_conversation_go_one_after_the_other_as_they_came(
        self, sessions: Sessions, key: SessionKey
    ) -> None:
        order: list[str] = []

        async def turn(name: str) -> None:
            held = await sessions.begin(key, WAIT_S)
            order.append(f"{name} begins")
            await asyncio.sleep(0.02)
            order.append(f"{name} ends")
            await sessions.end(held, held.session.after(name, "", "en"))

        held = await sessions.begin(key, WAIT_S)
        turns = []
        for name in "abcd":
            turns.append(asyncio.create_task(turn(name)))
            await asyncio.sleep(0.2)  # it stands in line by then
        await sessions.end(held, None)
        await asyncio.gather(*turns)
        assert order == [f"{name} {what}" for name in "abcd" for what in ("begins", "ends")]
        stored = await sessions.load(key)
        assert stored is not None
        assert [message.content for message in stored.messages[::2]] == list("abcd")

    async def test_who_waits_too_long_is_told_and_no_longer_stands_in_line(
        self, sessions: Sessions, key: SessionKey
    ) -> None:
        held = await sessions.begin(key, WAIT_S)
        with pytest.raises(DeadlineExceededError):
            await sessions.begin(key, 0.05)
        await sessions.end(held, SESSION)
        held = await sessions.begin(key, WAIT_S)
        assert held.session == SESSION
        await sessions.end(held, None)

    async def test_waiting_customer_who_leaves_stops_nobody(self, sessions: Sessions, key: SessionKey) -> None:
        held = await sessions.begin(key, WAIT_S)
        waiting = asyncio.create_task(sessions.begin(key, WAIT_S))
        await asyncio.sleep(0.03)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await sessions.end(held, None)
        await sessions.end(await sessions.begin(key, WAIT_S), None)

    async def test_who_comes_while_another_turn_runs_keeps_the_place_in_line(
        self, sessions: Sessions, key: SessionKey
    ) -> None:
        held = await sessions.enter(key)
        second = await sessions.enter(key)
        third = await sessions.enter(key)
        assert isinstance(held, Held)
        assert isinstance(second, InLine)
        assert isinstance(third, InLine)
        last = asyncio.create_task(sessions.wait(third, WAIT_S))
        await sessions.end(held, SESSION)
        held = await sessions.wait(second, WAIT_S)
        assert held.session == SESSION
        assert not last.done()
        await sessions.end(held, None)
        await sessions.end(await last, None)

    async def test_who_gives_the_place_up_stops_nobody(self, sessions: Sessions, key: SessionKey) -> None:
        held, place = await sessions.enter(key), await sessions.enter(key)
        assert isinstance(held, Held)
        assert isinstance(place, InLine)
        await sessions.give_up(place)
        await sessions.end(held, None)
        assert isinstance(await sessions.enter(key), Held)

    async def test_what_is_ended_soon_is_there_for_the_next_turn(self, sessions: Sessions, key: SessionKey) -> None:
        held = await sessions.enter(key)
        assert isinstance(held, Held)
        sessions.end_soon(held, SESSION)
        assert (await sessions.begin(key, WAIT_S)).session == SESSION

    async def test_conversations_do_not_wait_for_each_other(self, sessions: Sessions, key: SessionKey) -> None:
        held = await sessions.begin(key, WAIT_S)
        other = await sessions.begin(SessionKey(key.tenant, key.key_id, f"{key.conversation_id}x"), 1.0)
        await sessions.end(other, None)
        await sessions.end(held, None)

    @pytest.mark.parametrize("part", ["tenant", "key_id", "conversation_id"])
    async def test_no_key_opens_another_ones_conversation(self, sessions: Sessions, key: SessionKey, part: str) -> None:
        await sessions.store(key, SESSION)
        parts = {"tenant": key.tenant, "key_id": key.key_id, "conversation_id": key.conversation_id}
        assert await sessions.load(SessionKey(**(parts | {part: "another"}))) is None
