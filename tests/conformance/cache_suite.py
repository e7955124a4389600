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
from deployments.answering.query import normalize
from deployments.answering.types import CachedAnswer, CacheScope, Citation, EvidenceBound, EvidenceRef, Path
from deployments.settings import CacheSettings
from models.protocols import Vectors

QUESTION = "How long does a refund take?"
DIM = 384
SLIPS = (
    ("How long does a refund of a broken machine take?", "how long does a refund of a broken machin take"),
    ("退款到银行卡需要多久", "退款到 银行卡 需要多久？"),
)


def vector(similarity: float = 1.0) -> Vectors:
    """(DIM,), with that cosine to `vector()`."""
    found = np.zeros(DIM, np.float32)
    found[0], found[1] = similarity, np.sqrt(1 - similarity**2)
    return found


def answer(
    answer_id: str = "a1",
    question: str = QUESTION,
    text: str = "Five days.",
    *,
    path: Path = "faq",
    chunk: str = "c1",
    version: str = "v1",
) -> CachedAnswer:
    citation = Citation(1, chunk, "d1", "Refunds", "https://help.example/r", ("A", "退款"), "Five days.", 1.0, page=3)
    evidence = EvidenceBound((EvidenceRef(chunk, "h1"),), 2.0, 0.9, 2.0)
    return CachedAnswer(answer_id, question, text, path, (citation,), evidence, version, "stop", 4, 1_800_000_000.0)


@pytest.fixture
def scope(request: pytest.FixtureRequest) -> CacheScope:
    """Of one test alone."""
    return CacheScope("demo", frozenset({"public"}), "help", "en", f"policy-{request.node.nodeid}")


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

    async def test_a_slip_of_the_pen_is_found_and_another_number_is_not(
        self, cache: SemanticCache, scope: CacheScope
    ) -> None:
        for number, (question, slip) in enumerate(SLIPS):
            await cache.put(scope, normalize(question), vector(), answer(f"s{number}", question))
            hit = await cache.lookup_exact(scope, normalize(slip))
            assert hit is not None, slip
            assert (hit.tier, hit.answer.id) == ("near_exact", f"s{number}")
            again = await cache.lookup_exact(scope, normalize(slip))
            assert again is not None
            assert again.tier == "exact"  # verified once
        await cache.put(
            scope, "within 30 days can i send it back", vector(), answer("a2", "within 30 days can i send it back")
        )
        assert await cache.lookup_exact(scope, "within 31 days can i send it back") is None

    async def test_an_accepted_wording_lives_as_long_as_its_answer(
        self, cache: SemanticCache, scope: CacheScope
    ) -> None:
        await cache.put(scope, "q", vector(), answer())
        wording = "how long does the refund take please"
        hit = await cache.lookup_semantic(scope, wording, vector(0.97))
        assert hit is not None
        again = await cache.lookup_exact(scope, wording)
        assert again is not None
        assert (again.tier, again.answer) == ("exact", answer())
        await cache.discard(again, "a test")
        assert await cache.lookup_exact(scope, wording) is None
        assert await cache.lookup_exact(scope, "q") is None

    async def test_a_written_answer_needs_two_who_ask(self, cache: SemanticCache, scope: CacheScope) -> None:
        written = answer(path="small")
        assert not await cache.put(scope, "q", vector(), written, frozenset({"one"}))
        assert not await cache.put(scope, "q", vector(), written, frozenset({"one"}))
        assert await cache.lookup_exact(scope, "q") is None
        assert await cache.put(scope, "q", vector(), written, frozenset({"two"}))
        assert await cache.lookup_exact(scope, "q") is not None

    async def test_who_waits_for_another_replica_has_asked_too(self, cache: SemanticCache, scope: CacheScope) -> None:
        token = await cache.lease(scope, "q", "one")
        assert token is not None
        assert await cache.lease(scope, "q", "two") is None
        assert await cache.put(scope, "q", vector(), answer(path="small"), frozenset({"one"}))
        await cache.release(scope, "q", token)
        assert await cache.lease(scope, "q", "two") is not None

    async def test_a_confirmed_answer_stands_under_both_versions(self, cache: SemanticCache, scope: CacheScope) -> None:
        await cache.put(scope, "q", vector(), answer())
        hit = await cache.lookup_exact(scope, "q")
        assert hit is not None
        assert hit.versions == {"v1"}
        await cache.confirm(hit, "v2")
        again = await cache.lookup_exact(scope, "q")
        assert again is not None
        assert again.versions == {"v1", "v2"}
        assert again.embedding is not None
        np.testing.assert_array_equal(again.embedding, vector())

    async def test_a_blocked_question_is_not_answered_from_here_again(
        self, cache: SemanticCache, scope: CacheScope
    ) -> None:
        await cache.put(scope, normalize(QUESTION), vector(), answer())
        wording = "how long does the refund take please"
        assert await cache.lookup_semantic(scope, wording, vector(0.97)) is not None
        assert await cache.lookup_exact(scope, wording) is not None
        assert await cache.block(scope, wording)
        assert await cache.lookup_exact(scope, normalize(QUESTION)) is None
        assert await cache.lookup_exact(scope, wording) is None
        for question in (normalize(QUESTION), wording):
            assert not await cache.put(scope, question, vector(), answer())
        assert await cache.put(scope, "how quickly is money refunded", vector(), answer("a3"))
        assert await cache.lookup_semantic(scope, wording, vector(0.97)) is None

    async def test_an_answer_judged_wrong_is_gone(self, cache: SemanticCache, scope: CacheScope) -> None:
        await cache.put(scope, "q", vector(), answer())
        hit = await cache.lookup_exact(scope, "q")
        assert hit is not None
        await cache.observe(scope, hit, True)
        assert await cache.lookup_exact(scope, "q") is not None
        await cache.observe(scope, hit, False)
        assert await cache.lookup_exact(scope, "q") is None
