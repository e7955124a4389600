"""The shipped fake and the real cache on a real Valkey server, and what the real one promises beyond the suite.

Its remote end passes the same suite in tests/e2e/rooms_suite.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
import pytest

from deployments.answering.errors import RoomUnavailableError
from deployments.answering.protocols import SemanticCache as Cache
from deployments.answering.types import CacheScope
from deployments.fakes import InMemoryCache
from deployments.semantic_cache import SemanticCache
from deployments.settings import CacheSettings
from tests.conformance.cache_suite import DIM, QUESTION, CacheSuite, answer, scope, vector

__all__ = ["scope"]  # a fixture
pytestmark = pytest.mark.conformance


class TestCache(CacheSuite):
    @pytest.fixture(params=["fake", "real"])
    async def cache(self, request: pytest.FixtureRequest, valkey_url: str) -> AsyncIterator[Cache]:
        if request.param == "fake":
            yield InMemoryCache()
            return
        real = SemanticCache(CacheSettings(url=valkey_url))
        await real.start()
        yield real
        await real.stop()


@pytest.fixture
async def replicas(valkey_url: str) -> AsyncIterator[tuple[SemanticCache, SemanticCache]]:
    settings = CacheSettings(url=valkey_url)
    first, second = SemanticCache(settings), SemanticCache(settings)
    await first.start()
    await second.start()
    yield first, second
    await first.stop()
    await second.stop()


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await check():  # noqa: ASYNC110 - another replica tells nobody what it has read
            await asyncio.sleep(0.02)


async def test_another_replica_learns_of_new_and_evicted_answers(
    replicas: tuple[SemanticCache, SemanticCache], scope: CacheScope
) -> None:
    first, second = replicas
    await first.put(scope, "q", vector(), answer())

    async def second_has_it() -> bool:
        return await second.lookup_semantic(scope, QUESTION, vector()) is not None

    await until(second_has_it)
    assert await second.lookup_exact(scope, "q") is not None
    await first.evict(scope, "a1")

    async def second_forgot() -> bool:
        return await second.lookup_exact(scope, "q") is None

    await until(second_forgot)
    assert await second.lookup_semantic(scope, QUESTION, vector()) is None


async def test_restarted_replica_knows_what_was_stored(valkey_url: str, scope: CacheScope) -> None:
    settings = CacheSettings(url=valkey_url)
    first = SemanticCache(settings)
    await first.start()
    await first.put(scope, "q", vector(), answer())
    await first.stop()
    second = SemanticCache(settings)
    await second.check_health()  # all that Serve asks of a new replica before it gives it work
    assert await second.lookup_semantic(scope, QUESTION, vector()) is not None
    await second.stop()


async def test_oldest_vectors_go_when_there_are_too_many(valkey_url: str, scope: CacheScope) -> None:
    cache = SemanticCache(CacheSettings(url=valkey_url, max_entries=2))
    questions = ["alpha beta gamma", "delta epsilon zeta", "eta theta iota"]
    vectors = np.eye(len(questions), DIM, dtype=np.float32)
    for number, question in enumerate(questions):
        await cache.put(scope, question, vectors[number], answer(f"a{number}", question))
    hits = [await cache.lookup_semantic(scope, question, vectors[n]) for n, question in enumerate(questions)]
    assert [hit is not None for hit in hits] == [False, True, True]
    await cache.stop()


async def test_store_that_is_away_is_a_room_that_is_unavailable(scope: CacheScope) -> None:
    cache = SemanticCache(CacheSettings(url="unix:///nonexistent/valkey"))
    await cache.check_health()  # another replica would have no store either
    with pytest.raises(RoomUnavailableError):
        await cache.start()
    with pytest.raises(RoomUnavailableError):
        await cache.lookup_exact(scope, "q")
    with pytest.raises(RoomUnavailableError):
        await cache.put(scope, "q", vector(), answer())
    await cache.stop()
