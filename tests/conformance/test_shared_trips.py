"""Scripts that share round trips to a real Valkey server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from deployments.redis_client import connected
from deployments.shared_trips import SharedTrips

pytestmark = pytest.mark.conformance

_APPEND = "redis.call('RPUSH', KEYS[1], ARGV[1]) return {KEYS[1], ARGV[1]}"
_ALL = "return redis.call('LRANGE', KEYS[1], 0, -1)"
_WRONG = "return redis.call('GET', KEYS[1], 'and more')"


@pytest.fixture
async def client(valkey_url: str) -> AsyncIterator[Any]:
    made = connected(valkey_url)
    yield made
    await made.aclose()


@pytest.fixture
def trips(client: Any) -> SharedTrips:
    return SharedTrips(client, timeout_s=10)


@pytest.fixture
def name() -> str:
    return f"shared-trips:{uuid4().hex}"


async def test_each_of_many_at_once_hears_its_own_answer(trips: SharedTrips, name: str) -> None:
    answers = await asyncio.gather(*(trips.run(_APPEND, [f"{name}:{n % 7}"], [n]) for n in range(300)))
    assert answers == [[f"{name}:{n % 7}".encode(), b"%d" % n] for n in range(300)]


async def test_what_is_asked_first_is_done_first_though_its_caller_has_left(trips: SharedTrips, name: str) -> None:
    leaving = trips.run(_APPEND, [name], ["left"])
    await asyncio.sleep(0)
    leaving.cancel()
    await trips.run(_APPEND, [name], ["stayed"])
    assert await trips.run(_ALL, [name], []) == [b"left", b"stayed"]


async def test_a_wrong_one_is_an_error_of_its_own_caller_alone(trips: SharedTrips, name: str) -> None:
    asked = (trips.run(_APPEND, [name], [1]), trips.run(_WRONG, [name], []), trips.run(_APPEND, [name], [2]))
    first, wrong, last = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(wrong, Exception)
    assert [answer[1] for answer in (first, last)] == [b"1", b"2"]


async def test_a_store_that_was_emptied_is_told_again(trips: SharedTrips, client: Any, name: str) -> None:
    await trips.run(_APPEND, [name], [1])
    await client.script_flush()
    await asyncio.gather(*(trips.run(_APPEND, [name], [number]) for number in (2, 3)))
    assert await trips.run(_ALL, [name], []) == [b"1", b"2", b"3"]


async def test_without_a_store_everybody_hears_of_it_and_the_next_are_tried_again() -> None:
    nobody = connected("redis://127.0.0.1:1")
    trips = SharedTrips(nobody, timeout_s=10)
    for _ in range(2):
        answers = await asyncio.gather(*(trips.run(_ALL, ["x"], []) for _ in range(3)), return_exceptions=True)
        assert [isinstance(answer, Exception) for answer in answers] == [True] * 3
    await nobody.aclose()
