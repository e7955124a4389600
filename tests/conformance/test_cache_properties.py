"""What must hold whatever happens: no answer crosses a scope, and a publish takes what it affects and nothing else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from deployments.answering.protocols import SemanticCache as Cache
from deployments.answering.types import CacheScope, Principal
from deployments.fakes import InMemoryCache
from deployments.retriever import Retriever
from deployments.semantic_cache import SemanticCache
from deployments.settings import CacheSettings, EncoderSettings, KnowledgeSettings
from ingestion.chunk import Chunk
from ingestion.store import Changes, KnowledgeStore
from models.fakes import HashEmbedder
from models.protocols import Vectors
from tests.conformance.cache_suite import answer
from tests.unit.deployments.conftest import Shop, qa
from tests.unit.deployments.test_pipeline import path, text

pytestmark = pytest.mark.conformance
OPERATIONS = 10_000
QUESTIONS = ["how long does a refund take", "what does express delivery cost", "where is the store", "退款多久到账"]
AUDIENCES = (frozenset({"public"}), frozenset({"public", "staff"}), frozenset({"public", "business"}))


def scopes(policy: str) -> list[CacheScope]:
    tenants = [f"tenant{number}" for number in range(5)]
    return [CacheScope(tenant, seen, "help", "en", policy) for tenant, seen in product(tenants, AUDIENCES)]


class TestScopes:
    @pytest.fixture(params=["fake", "real"])
    async def cache(self, request: pytest.FixtureRequest, valkey_url: str) -> AsyncIterator[Cache]:
        if request.param == "fake":
            yield InMemoryCache()
            return
        real = SemanticCache(CacheSettings(url=valkey_url, max_local_entries=40))  # so that both memories are at work
        await real.start()
        yield real
        await real.stop()

    async def test_no_answer_is_given_in_another_scope_nor_under_a_version_that_it_was_not_confirmed_for(
        self, cache: Cache, request: pytest.FixtureRequest
    ) -> None:
        rng, places = random.Random(11), scopes(f"policy-{request.node.name}")
        vectors = dict(zip(QUESTIONS, np.eye(len(QUESTIONS), 16, dtype=np.float32), strict=True))
        stands: dict[str, set[str]] = {}  # answer → versions that it was made under or confirmed for
        hits = 0
        for number in range(OPERATIONS):
            scope, question, version = rng.choice(places), rng.choice(QUESTIONS), rng.choice(("v1", "v2"))
            operation = rng.choices(("exact", "semantic", "put", "discard", "block"), (40, 30, 20, 9, 0.2))[0]
            if operation == "put":
                made = replace(answer(f"a{number}", question, scope.key(), version=version), created_at_s=4e9)
                stands.setdefault(made.id, set()).add(version)
                await cache.put(scope, question, vectors[question], made)
                continue
            if operation == "block":
                await cache.block(scope, question)
                continue
            if operation == "semantic":
                hit = await cache.lookup_semantic(scope, question, vectors[question])
            else:
                hit = await cache.lookup_exact(scope, question)
            if hit is None:
                continue
            hits += 1
            assert hit.answer.text == scope.key()
            assert hit.answer.question == question
            assert hit.versions <= stands[hit.answer.id]
            if operation == "discard":
                await cache.discard(hit, "a test")
            elif rng.random() < 0.1:
                stands[hit.answer.id].add(version)
                await cache.confirm(hit, version)
        assert hits > OPERATIONS / 5


EMBEDDER = HashEmbedder(512)
TOPICS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "theta", "iota", "kappa", "lambda"]


def pairs() -> list[Chunk]:
    return [qa(topic, f"how does the {topic} machine work", f"Press {topic}.") for topic in TOPICS]


def changed(added: list[Chunk], removed: frozenset[str] = frozenset()) -> Changes:
    def vectors(texts: list[str]) -> Vectors:
        return EMBEDDER.embed_passages(texts)

    questions = EMBEDDER.embed_queries([chunk.question for chunk in added])
    return Changes(EMBEDDER.identity, added, vectors([chunk.text for chunk in added]), questions, removed=removed)


class TestPublish:
    @pytest.fixture
    async def retriever(self, tmp_path: Path) -> AsyncIterator[Retriever]:
        self.store = KnowledgeStore(tmp_path)
        self.store.publish("demo", "help", changed(pairs()))
        settings = KnowledgeSettings(root=str(tmp_path), poll_interval_s=0.05)
        retriever = Retriever(settings, EncoderSettings(), embedder_identity=EMBEDDER.identity)
        yield retriever
        await retriever.stop()

    @pytest.fixture
    async def replicas(self, retriever: Retriever, valkey_url: str, tmp_path: Path) -> AsyncIterator[list[Shop]]:
        """Two, each with a memory of its own; of an own policy each test, for Valkey is one for all."""
        caches = [SemanticCache(CacheSettings(url=valkey_url)) for _ in range(2)]
        shops = [Shop(tmp_path, retriever=retriever, cache=cache) for cache in caches]
        for shop, cache in zip(shops, caches, strict=True):
            await cache.start()
            shop.pipeline.policy_version = str(tmp_path)
        yield shops
        for cache in caches:
            await cache.stop()

    @pytest.mark.parametrize("seed", range(4))
    async def test_what_a_version_affects_is_unreachable_with_it_and_everything_else_still_hits(
        self, retriever: Retriever, replicas: list[Shop], tmp_path: Path, seed: int
    ) -> None:
        rng = random.Random(seed)
        first = await retriever.version(Principal("demo", frozenset({"public"}), "k"), "help")
        for shop in replicas:
            for pair in pairs():
                await shop.ask(pair.question)
        for shop in replicas:
            for pair in pairs():
                assert path((await shop.ask(pair.question))[0]) == "exact_cache"
        edited, removed, rivalled, *untouched = rng.sample(pairs(), len(TOPICS))
        rival = replace(qa("rival", rivalled.question, "Do not press anything."), title="Rival")
        unrelated = qa("unrelated", "is there parking behind the store", "Yes.")
        self.store.publish(
            "demo",
            "help",
            changed([replace(edited, answer="Pull.", text="Pull."), rival, unrelated], frozenset({removed.id})),
        )
        await self.swapped(retriever, first)
        for pair in (edited, removed, rivalled):
            anew = text((await Shop(tmp_path, retriever=retriever).ask(pair.question))[0])  # who remembers nothing
            assert pair is rivalled or anew != pair.answer  # its words are still those of a pair, beside another's
            for shop in replicas:
                assert text((await shop.ask(pair.question))[0]) == anew
        for shop in replicas:
            for pair in untouched:
                events, record = await shop.ask(pair.question)
                assert path(events) == "exact_cache"
                assert text(events) == pair.answer
                assert record.knowledge_version != first
        second = await self.version(retriever)
        self.store.rollback("demo", "help")
        await self.swapped(retriever, second)
        for shop in replicas:
            for pair in pairs():
                assert text((await shop.ask(pair.question))[0]) == pair.answer

    async def version(self, retriever: Retriever) -> str:
        return await retriever.version(Principal("demo", frozenset({"public"}), "k"), "help")

    async def swapped(self, retriever: Retriever, before: str) -> None:
        async with asyncio.timeout(20):
            while await self.version(retriever) == before:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)
