"""One suite over the shipped fake and the real cache on a real Valkey server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from deployments.answering.errors import RoomUnavailableError
from deployments.answering.types import CachedAnswer, CacheScope, Citation
from deployments.fakes import InMemoryCache
from deployments.semantic_cache import SemanticCache
from deployments.settings import CacheSettings
from models.fakes import HashEmbedder

pytestmark = pytest.mark.conformance
EMBEDDER = HashEmbedder(dim=256)
QUESTION = "How long does a refund take?"


def vector(text: str) -> Any:
    return EMBEDDER.embed_queries([text])[0]


def answer(answer_id: str = "a1", question: str = QUESTION, text: str = "Five days.") -> CachedAnswer:
    citation = Citation(1, "c1", "d1", "Refunds", "https://help.example/r", ("A", "B"), "Five days.", 1.0, page=3)
    return CachedAnswer(answer_id, question, text, "faq", (citation,), ("c1",), "stop", 4, 1_800_000_000.0)


@pytest.fixture
def scope(request: pytest.FixtureRequest) -> CacheScope:
    return CacheScope("demo", frozenset({"public"}), "help", "en", "v1", f"policy-{request.node.nodeid}")


@pytest.fixture(params=["fake", "real"])
async def cache(request: pytest.FixtureRequest, valkey_url: str) -> AsyncIterator[Any]:
    if request.param == "fake":
        yield InMemoryCache(similarity_threshold=0.7)
        return
    real = SemanticCache(CacheSettings(url=valkey_url, similarity_threshold=0.7))
    await real.start()
    yield real
    await real.stop()


async def test_what_was_put_is_found_by_its_normalized_question_whole(cache: Any, scope: CacheScope) -> None:
    await cache.put(scope, "q", vector(QUESTION), answer())
    hit = await cache.lookup_exact(scope, "q")
    assert hit is not None
    assert hit.answer == answer()
    assert (hit.tier, hit.similarity) == ("exact", 1.0)
    assert await cache.lookup_exact(scope, "other") is None


async def test_verified_paraphrase_is_found_and_its_opposite_is_not(cache: Any, scope: CacheScope) -> None:
    await cache.put(scope, "q", vector(QUESTION), answer())
    paraphrase = "how long does the refund take please"
    hit = await cache.lookup_semantic(scope, paraphrase, vector(paraphrase))
    assert hit is not None
    assert hit.tier == "semantic"
    assert 0.7 <= hit.similarity < 1
    opposite = "How long does a refund not take?"
    assert await cache.lookup_semantic(scope, opposite, vector(opposite)) is None


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "rival"},
        {"audiences": frozenset({"public", "staff"})},
        {"collection": "other"},
        {"language": "zh"},
        {"knowledge_version": "v2"},
        {"policy_version": "new"},
    ],
)
async def test_no_scope_sees_another_ones_answers(cache: Any, scope: CacheScope, other: dict[str, Any]) -> None:
    await cache.put(scope, "q", vector(QUESTION), answer())
    elsewhere = replace(scope, **other)
    assert await cache.lookup_exact(elsewhere, "q") is None
    assert await cache.lookup_semantic(elsewhere, QUESTION, vector(QUESTION)) is None


async def test_newest_answer_wins_and_evicted_ones_are_gone(cache: Any, scope: CacheScope) -> None:
    await cache.put(scope, "q", vector(QUESTION), answer())
    await cache.put(scope, "q", vector(QUESTION), answer(text="Six days."))
    hit = await cache.lookup_semantic(scope, QUESTION, vector(QUESTION))
    assert hit is not None
    assert hit.answer.text == "Six days."
    assert await cache.evict(scope, "a1")
    assert not await cache.evict(scope, "a1")
    assert await cache.lookup_exact(scope, "q") is None
    assert await cache.lookup_semantic(scope, QUESTION, vector(QUESTION)) is None


# --- the real one's own promises ---


@pytest.fixture
async def replicas(valkey_url: str) -> AsyncIterator[tuple[SemanticCache, SemanticCache]]:
    settings = CacheSettings(url=valkey_url, similarity_threshold=0.7)
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
    await first.put(scope, "q", vector(QUESTION), answer())

    async def second_has_it() -> bool:
        return await second.lookup_semantic(scope, QUESTION, vector(QUESTION)) is not None

    await until(second_has_it)
    assert await second.lookup_exact(scope, "q") is not None
    await first.evict(scope, "a1")

    async def second_forgot() -> bool:
        return await second.lookup_exact(scope, "q") is None

    await until(second_forgot)
    assert await second.lookup_semantic(scope, QUESTION, vector(QUESTION)) is None


async def test_restarted_replica_knows_what_was_stored(valkey_url: str, scope: CacheScope) -> None:
    settings = CacheSettings(url=valkey_url, similarity_threshold=0.7)
    first = SemanticCache(settings)
    await first.start()
    await first.put(scope, "q", vector(QUESTION), answer())
    await first.stop()
    second = SemanticCache(settings)
    await second.start()
    assert await second.lookup_semantic(scope, QUESTION, vector(QUESTION)) is not None
    await second.stop()


async def test_oldest_vectors_go_when_there_are_too_many(valkey_url: str, scope: CacheScope) -> None:
    cache = SemanticCache(CacheSettings(url=valkey_url, similarity_threshold=0.7, max_entries=2))
    questions = ["alpha beta gamma", "delta epsilon zeta", "eta theta iota"]
    for number, question in enumerate(questions):
        await cache.put(scope, question, vector(question), answer(f"a{number}", question))
    hits = [await cache.lookup_semantic(scope, question, vector(question)) for question in questions]
    assert [hit is not None for hit in hits] == [False, True, True]
    await cache.stop()


async def test_store_that_is_away_is_a_room_that_is_unavailable(scope: CacheScope) -> None:
    cache = SemanticCache(CacheSettings(url="unix:///nonexistent/valkey"))
    with pytest.raises(RoomUnavailableError):
        await cache.start()
    with pytest.raises(RoomUnavailableError):
        await cache.lookup_exact(scope, "q")
    with pytest.raises(RoomUnavailableError):
        await cache.put(scope, "q", vector(QUESTION), answer())
    await cache.stop()
