"""What every semantic cache must do. A new one subclasses `CacheSuite` and brings the fixture `cache`.

It runs with the default settings. A cache embeds nothing, it is given vectors: these have the similarity that a case
needs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from deployments.answering.protocols import SemanticCache
from deployments.answering.types import CachedAnswer, CacheScope, Citation
from deployments.settings import CacheSettings
from models.protocols import Vectors

QUESTION = "How long does a refund take?"
DIM = 384


def vector(similarity: float = 1.0) -> Vectors:
    """(DIM,), with that cosine to `vector()`."""
    found = np.zeros(DIM, np.float32)
    found[0], found[1] = similarity, np.sqrt(1 - similarity**2)
    return found


def answer(answer_id: str = "a1", question: str = QUESTION, text: str = "Five days.") -> CachedAnswer:
    citation = Citation(1, "c1", "d1", "Refunds", "https://help.example/r", ("A", "退款"), "Five days.", 1.0, page=3)
    return CachedAnswer(answer_id, question, text, "faq", (citation,), ("c1",), "stop", 4, 1_800_000_000.0)


@pytest.fixture
def scope(request: pytest.FixtureRequest) -> CacheScope:
    """Of one test alone."""
    return CacheScope("demo", frozenset({"public"}), "help", "en", "v1", f"policy-{request.node.nodeid}")


class CacheSuite:
    async def test_what_was_put_is_found_by_its_normalized_question_whole(
        self, cache: SemanticCache, scope: CacheScope
    ) -> None:
        await cache.put(scope, "q", vector(), answer())
        hit = await cache.lookup_exact(scope, "q")
        assert hit is not None
        assert hit.answer == answer()
        assert (hit.tier, hit.similarity) == ("exact", 1.0)
        assert await cache.lookup_exact(scope, "other") is None

    async def test_verified_paraphrase_is_found_and_its_opposite_is_not(
        self, cache: SemanticCache, scope: CacheScope
    ) -> None:
        await cache.put(scope, "q", vector(), answer())
        hit = await cache.lookup_semantic(scope, "how long does the refund take please", vector(0.97))
        assert hit is not None
        assert hit.answer == answer()
        assert (hit.tier, hit.similarity) == ("semantic", pytest.approx(0.97, abs=1e-6))
        assert await cache.lookup_semantic(scope, "How long does a refund not take?", vector(0.99)) is None

    async def test_what_is_not_similar_enough_is_no_hit(self, cache: SemanticCache, scope: CacheScope) -> None:
        await cache.put(scope, "q", vector(), answer())
        too_far = CacheSettings().similarity_threshold - 0.01
        assert await cache.lookup_semantic(scope, QUESTION, vector(too_far)) is None

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
    async def test_no_scope_sees_another_ones_answers(
        self, cache: SemanticCache, scope: CacheScope, other: dict[str, Any]
    ) -> None:
        await cache.put(scope, "q", vector(), answer())
        elsewhere = replace(scope, **other)
        assert await cache.lookup_exact(elsewhere, "q") is None
        assert await cache.lookup_semantic(elsewhere, QUESTION, vector()) is None

    async def test_newest_answer_wins_and_evicted_ones_are_gone(self, cache: SemanticCache, scope: CacheScope) -> None:
        await cache.put(scope, "q", vector(), answer())
        await cache.put(scope, "q", vector(), answer(text="Six days."))
        hit = await cache.lookup_semantic(scope, QUESTION, vector())
        assert hit is not None
        assert hit.answer.text == "Six days."
        assert await cache.evict(scope, "a1")
        assert not await cache.evict(scope, "a1")
        assert await cache.lookup_exact(scope, "q") is None
        assert await cache.lookup_semantic(scope, QUESTION, vector()) is None
