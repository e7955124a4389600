"""The shipped fake and the real room on a real Valkey server, and what the real one promises beyond the suite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest
import redis.asyncio as redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments.answering.errors import DeadlineExceededError, RoomUnavailableError
from deployments.answering.protocols import InLine
from deployments.answering.protocols import Sessions as Room
from deployments.answering.session import FlowState, Session, SessionKey
from deployments.fakes import InMemorySessions
from deployments.sessions import KEY, Sessions
from deployments.settings import SessionSettings
from tests.conformance.session_suite import SESSION, WAIT_S, SessionSuite, key

__all__ = ["key"]  # a fixture
pytestmark = pytest.mark.conformance


def room(valkey_url: str, **changes: float) -> Sessions:
    return Sessions(SessionSettings.model_validate({"timeout_s": 10, "lease_s": 30} | changes), valkey_url)


class TestSessions(SessionSuite):
    @pytest.fixture(params=["fake", "real"])
    async def sessions(self, request: pytest.FixtureRequest, valkey_url: str) -> AsyncIterator[Room]:
        if request.param == "fake":
            yield InMemorySessions()
            return
        real = room(valkey_url)
        await real.ping()
        yield real
        await real.stop()


@pytest.fixture
async def replicas(valkey_url: str) -> AsyncIterator[tuple[Sessions, Sessions]]:
    first, second = room(valkey_url, lease_s=1), room(valkey_url, lease_s=1)
    yield first, second
    await first.stop()
    await second.stop()


async def test_replicas_wait_for_each_other(replicas: tuple[Sessions, Sessions], key: SessionKey) -> None:
    first, second = replicas
    held = await first.begin(key, WAIT_S)
    next_turn = asyncio.create_task(second.begin(key, WAIT_S))
    await asyncio.sleep(0.1)
    assert not next_turn.done()
    await first.end(held, SESSION)
    held = await next_turn
    assert held.session == SESSION
    await second.end(held, None)


async def test_turn_that_lasts_longer_than_a_lease_keeps_its_hold(
    replicas: tuple[Sessions, Sessions], key: SessionKey
) -> None:
    first, second = replicas
    held = await first.begin(key, WAIT_S)
    with pytest.raises(DeadlineExceededError):
        await second.begin(key, 2.5)
    await first.end(held, SESSION)
    assert await second.load(key) == SESSION


async def test_dead_replica_s_hold_ends_and_what_it_writes_then_is_refused(
    replicas: tuple[Sessions, Sessions], key: SessionKey
) -> None:
    first, second = replicas
    dead = await first.begin(key, WAIT_S)
    waiting = asyncio.create_task(first.begin(key, WAIT_S))  # it dies as well
    await asyncio.sleep(0.1)
    waiting.cancel()
    first._signs[dead.ticket].cancel()  # no sign of life any more
    held = await second.begin(key, WAIT_S)
    with pytest.raises(RoomUnavailableError, match="taken over"):
        await first.end(dead, replace(SESSION, kept={"order": "old"}))
    await second.end(held, SESSION)
    with pytest.raises(RoomUnavailableError, match="taken over"):  # after it, too
        await first.end(dead, replace(SESSION, kept={"order": "old"}))
    assert await second.load(key) == SESSION


async def test_who_was_taken_for_dead_does_not_enter_again(
    replicas: tuple[Sessions, Sessions], key: SessionKey
) -> None:
    first, second = replicas
    held = await first.begin(key, WAIT_S)
    first._signs[held.ticket].cancel()
    await second.end(await second.begin(key, WAIT_S), SESSION)
    await first._sign(InLine(key, held.ticket), may_enter=False)  # it wakes up
    with pytest.raises(RoomUnavailableError, match="taken over"):
        await first.end(held, Session())
    assert await second.load(key) == SESSION


async def test_other_replicas_soon_have_what_is_stored_soon(
    replicas: tuple[Sessions, Sessions], key: SessionKey
) -> None:
    first, second = replicas
    first.store_soon(key, SESSION)
    async with asyncio.timeout(10):
        while await second.load(key) != SESSION:  # noqa: ASYNC110 - nobody is told when it is
            await asyncio.sleep(0.005)


async def test_who_goes_on_waits_for_his_own_turn_before_however_much_else_is_stored(
    valkey_url: str, key: SessionKey
) -> None:
    sessions = room(valkey_url)

    async def store_without_end() -> None:
        while True:
            sessions.store_soon(replace(key, conversation_id=uuid4().hex), SESSION)
            await asyncio.sleep(0.001)

    others = asyncio.create_task(store_without_end())
    await asyncio.sleep(0.01)
    sessions.store_soon(key, SESSION)
    async with asyncio.timeout(10):
        assert await sessions.load(key) == SESSION
    others.cancel()
    await sessions.stop()


async def test_sessions_and_lines_end_by_themselves(valkey_url: str, key: SessionKey) -> None:
    sessions = room(valkey_url, ttl_s=60)
    await sessions.end(await sessions.begin(key, WAIT_S), SESSION)
    held = await sessions.begin(key, WAIT_S)
    client = redis.from_url(valkey_url)
    ends = {name: await client.ttl(name) async for name in client.scan_iter(f"{KEY}*")}
    await sessions.end(held, None)
    await sessions.stop()
    await client.aclose()
    assert ends
    assert all(ttl_s > 0 for ttl_s in ends.values()), ends


async def test_session_is_kept_within_its_limits_and_the_newest_turns_stay(valkey_url: str, key: SessionKey) -> None:
    sessions = room(valkey_url, max_turns=3, max_bytes=4096)
    long = SESSION
    for number in range(10):
        long = long.after(f"{number}", "长" * 300, "zh")
    await sessions.store(key, long)
    stored = await sessions.load(key)
    assert stored is not None
    assert [message.content for message in stored.messages[::2]] == ["7", "8", "9"]
    assert stored.flow == SESSION.flow
    await sessions.store(key, long.after("x", "长" * 100_000, "zh"))
    client = redis.from_url(valkey_url)
    sizes = [len(await client.get(name) or b"") async for name in client.scan_iter(f"{KEY}{{*")]
    await client.aclose()
    assert max(sizes) <= SessionSettings().max_bytes
    await sessions.store(key, replace(SESSION, flow=FlowState("r", "q", {"what": "x" * 5000}, "")))
    assert await sessions.load(key) == Session(language="zh")
    await sessions.stop()


async def test_store_that_is_away_is_a_room_that_is_unavailable(key: SessionKey) -> None:
    sessions = Sessions(SessionSettings(), "unix:///nonexistent/valkey")
    for call in (sessions.begin(key, 1), sessions.load(key), sessions.store(key, SESSION), sessions.ping()):
        with pytest.raises(RoomUnavailableError):
            await call
    await sessions.stop()


async def test_store_that_hangs_is_waited_for_no_longer_than_its_time_limit(key: SessionKey) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sessions = Sessions(SessionSettings(timeout_s=0.1), f"redis://127.0.0.1:{port}/0")
    with pytest.raises(RoomUnavailableError):
        await sessions.begin(key, WAIT_S)
    await sessions.stop()
    server.close()


PARTS = st.text("ab:|1{}*\0中", max_size=4)
KEYS = st.builds(SessionKey, PARTS, PARTS, PARTS)


@given(first=KEYS, second=KEYS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_two_principals_ever_meet(valkey_url: str, first: SessionKey, second: SessionKey) -> None:
    async def meet() -> None:
        sessions = room(valkey_url)
        try:
            for one in (first, second):
                await sessions.store(one, Session())
            mine = replace(SESSION, kept={"mine": uuid4().hex})
            await sessions.end(await sessions.begin(first, WAIT_S), mine)
            held = await sessions.begin(first, WAIT_S)
            other = held if second == first else await sessions.begin(second, WAIT_S)  # no line is shared
            assert (other.session == mine) is (first == second)
            for one in [held] if other is held else [held, other]:
                await sessions.end(one, None)
        finally:
            await sessions.stop()

    asyncio.run(meet())
