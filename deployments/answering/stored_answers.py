"""The stored answers that one turn looks for, judges, makes and keeps. Pure."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog

from deployments.answering.admission import why_not_cached
from deployments.answering.errors import DependencyError
from deployments.answering.evidence import agrees, end_of_validity_s
from deployments.answering.protocols import Retriever, SemanticCache
from deployments.answering.turn_state import TurnState, as_path
from deployments.answering.types import (
    CachedAnswer,
    CacheHit,
    Evidence,
    EvidenceBound,
    RetrievedChunk,
    Standing,
    Understanding,
)

log = structlog.get_logger(__name__)
_MOST_RECHECKS = 3  # versions, the latest first, from which it is looked whether an answer still stands
_LEASE_POLL_S = 0.1


class StoredAnswers:
    """A cache that is slow or away costs the customer nothing but the saving."""

    def __init__(
        self,
        state: TurnState,
        cache: SemanticCache | None,
        retriever: Retriever,
        in_background: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._state = state
        self._cache = cache
        self._retriever = retriever
        self._in_background = in_background
        self.stale: CacheHit | None = None  # of which it could not be told whether it still stands

    @property
    def is_usable(self) -> bool:
        """Whether this turn's answer may be a stored one, and may be stored."""
        return self._usable() is not None

    async def look_exact(self) -> CacheHit | None:
        """Also for a turn that may only seem to go on from the one before: the words of a curated question are one."""
        query = self._state.query
        cache = self._usable(may_stand_alone=not query.is_sure)
        if cache is None:
            return None
        hit = await self._standing(await self._from_cache(cache.lookup_exact(self._state.scope, query.normalized)))
        return hit if query.is_standalone or (hit is not None and hit.answer.path == "faq") else None

    async def look_semantic(self, understanding: Understanding | None) -> CacheHit | None:
        cache = self._usable()
        if cache is None or understanding is None:
            return None
        lookup = cache.lookup_semantic(self._state.scope, self._state.query.text, understanding.embedding)
        return await self._standing(await self._from_cache(lookup))

    async def _standing(self, hit: CacheHit | None) -> CacheHit | None:
        """The hit, if it stands under the published knowledge; what does not is gone for good."""
        cache, version = self._cache, self._state.record.knowledge_version
        if hit is None or cache is None or version in hit.versions:
            return hit
        try:
            stands = await self._state.timed("recheck", self._recheck(hit), self._state.settings.deadlines.search_s)
            told = cache.discard(hit, "evidence changed") if stands is None else cache.confirm(hit, stands)
            await self._state.timed("cache", told, self._state.settings.cache.timeout_s)
        except DependencyError as error:
            self._state.degrade("cache:down", error)
            self.stale = hit
            return None
        if stands is not None:
            self._state.record.knowledge_version = stands
        return hit if stands is not None else None

    async def _recheck(self, hit: CacheHit) -> str | None:
        """The version under which it stands now. One of the versions under which it stood is enough to begin with."""
        if hit.embedding is None:
            return None
        for since in sorted(hit.versions, reverse=True)[:_MOST_RECHECKS]:
            answer = hit.answer
            standing = Standing(since, answer.question, self._state.scope.language, hit.embedding, answer.evidence)
            request = self._state.request
            version = await self._retriever.still_stands(request.principal, request.collection, standing)
            if version is not None:
                return version
        return None

    async def _from_cache(self, lookup: Awaitable[CacheHit | None]) -> CacheHit | None:
        """A cache that is slow or away costs the customer nothing but the saving."""
        try:
            return await self._state.timed("cache", lookup, self._state.settings.cache.timeout_s)
        except DependencyError as error:
            self._state.degrade("cache:down", error)
            return None

    def _usable(self, may_stand_alone: bool = False) -> SemanticCache | None:
        """None where an answer depends on more than its question: on history, or on a forced model."""
        request = self._state.request
        own_wishes = request.model is not None or request.max_output_tokens is not None or request.temperature > 0
        stands_alone = self._state.query.is_standalone or may_stand_alone
        is_everybodys = not own_wishes and stands_alone and not self._state.private
        return self._cache if is_everybodys else None

    async def keep(
        self, understanding: Understanding | None, used: Sequence[RetrievedChunk], bound: EvidenceBound
    ) -> None:
        """Before `Done`, so that a customer who asks again at once is answered from the cache.

        used: all that the answer was made from.
        """
        cache, record, chunks = self._usable(), self._state.record, [found.chunk for found in used]
        if cache is None or understanding is None:
            return
        refusal = why_not_cached(
            path=as_path(record.path),
            finish_reason=record.finish_reason,
            is_grounded=record.grounded and bool(record.citations),
            question=self._state.query.text,
            answer=record.answer,
            sources=[f"{chunk.title} {chunk.text} {chunk.answer}" for chunk in chunks],
        )
        if refusal is not None:
            log.debug("not_cached", request_id=self._state.request.request_id, reason=refusal)
            return
        made_of = f"{self._state.scope.key()}|{self._state.query.normalized}|{record.answer}|{bound}"
        answer = CachedAnswer(
            id=hashlib.sha256(made_of.encode("utf-8", "surrogatepass")).hexdigest()[:32],
            question=self._state.query.text,
            text=record.answer,
            path=as_path(record.path),
            citations=tuple(record.citations),
            evidence=bound,
            knowledge_version=record.knowledge_version,
            finish_reason="stop",
            output_tokens=record.output_tokens,
            input_tokens=record.input_tokens,
            created_at_s=self._state.now_s(),
            topic=understanding.prediction.label,
            valid_until_s=end_of_validity_s(chunks),
        )
        askers = frozenset(self._state.askers)
        put = cache.put(self._state.scope, self._state.query.normalized, understanding.embedding, answer, askers)
        try:
            await self._state.timed("cache_put", put, self._state.settings.cache.timeout_s)
        except DependencyError as error:
            self._state.degrade("cache:down", error)

    async def is_agreed(self, hit: CacheHit, evidence: Evidence, pair: RetrievedChunk | None) -> bool:
        """Whether what the knowledge says to this question is what the stored answer rests on, where that can be told.

        pair: the curated one that would answer it. Either way it is learned from. A hit that is not agreed is a miss.
        """
        if not self._state.settings.cache.must_agree:
            return True
        is_same = agrees(hit.answer, evidence, pair)
        if is_same is not None:
            self._in_background(self.observe(hit, is_same))
        return is_same is not False

    async def observe(self, hit: CacheHit, is_same: bool) -> None:
        if (cache := self._cache) is not None:
            try:
                await cache.observe(self._state.scope, hit, is_same)
            except DependencyError as error:
                self._state.degrade("cache:down", error)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[CacheHit | None]:
        """Makes the answer, unless another replica makes it now: then waits for a while, and gives what that stored."""
        cache, scope, asked = self._usable(), self._state.scope, self._state.query.normalized
        limits = self._state.settings.cache
        longest_s = self._state.limit_s("lease", limits.lease_wait_s)
        token: str | None = None
        hit: CacheHit | None = None
        waited_s = 0.0
        asker = min(self._state.askers)
        while cache is not None and hit is None and token is None and waited_s <= longest_s:
            try:
                token = await self._state.timed("lease", cache.lease(scope, asked, asker), limits.timeout_s)
            except DependencyError as error:
                self._state.degrade("cache:down", error)
                break
            if token is None:
                await asyncio.sleep(_LEASE_POLL_S)
                waited_s += _LEASE_POLL_S
                hit = await self.look_exact()
        try:
            yield hit
        finally:
            if cache is not None and token is not None:
                self._in_background(self._release(cache, token))

    async def _release(self, cache: SemanticCache, token: str) -> None:
        try:
            await cache.release(self._state.scope, self._state.query.normalized, token)
        except DependencyError as error:
            self._state.degrade("cache:down", error)
