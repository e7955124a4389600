"""Rooms in memory, for tests and laptops: the same protocols, proven by the same conformance suites."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deployments.answering.cache_policy import closeness, same_question
from deployments.answering.errors import DeadlineExceededError, UnknownCollectionError
from deployments.answering.protocols import Held
from deployments.answering.session import Session, SessionKey
from deployments.answering.types import (
    CachedAnswer,
    CacheHit,
    CacheScope,
    Evidence,
    Language,
    Principal,
    RetrievedChunk,
)
from ingestion.chunk import Chunk
from models.protocols import Embedder, Vectors


class InMemoryRetriever:
    """One tenant's knowledge in a list, searched by one embedder. All other collections are unknown here, too."""

    def __init__(
        self,
        embedder: Embedder,
        chunks: Sequence[Chunk],
        *,
        tenant: str = "demo",
        collection: str = "help",
        version: str = "v1",
    ):
        self._embedder = embedder
        self._chunks = list(chunks)
        self._place = (tenant, collection)
        self.published = version

    async def version(self, principal: Principal, collection: str) -> str:
        if (principal.tenant, collection) != self._place:
            raise UnknownCollectionError()
        return self.published

    async def search(
        self,
        principal: Principal,
        collection: str,
        text: str,
        language: Language,
        embedding: Vectors | None,
        top_k: int,
    ) -> Evidence:
        await self.version(principal, collection)
        query = self._embedder.embed_queries([text])[0] if embedding is None else embedding
        visible = [chunk for chunk in self._chunks if chunk.audience in principal.audiences]
        spoken = [chunk for chunk in visible if chunk.language == language] or visible
        passages = self._ranked(query, spoken, [chunk.text for chunk in spoken])
        pairs = [chunk for chunk in spoken if chunk.kind == "qa"]
        questions = self._ranked(query, pairs, [chunk.question for chunk in pairs])
        return Evidence(self.published, passages[:top_k], questions[:3])

    def _ranked(self, query: Vectors, chunks: Sequence[Chunk], texts: Sequence[str]) -> tuple[RetrievedChunk, ...]:
        similarities = self._embedder.embed_passages(texts) @ query
        ranked = sorted(zip(similarities.tolist(), chunks, strict=True), key=lambda pair: -pair[0])
        return tuple(RetrievedChunk(chunk, score, similarity=score) for score, chunk in ranked)


class InMemoryCache:
    """A semantic cache without a store; forgets nothing until it is told to."""

    def __init__(self, similarity_threshold: float = 0.95) -> None:
        self._threshold = similarity_threshold
        self._entries: dict[tuple[str, str], tuple[Vectors, CachedAnswer]] = {}

    async def lookup_exact(self, scope: CacheScope, normalized: str) -> CacheHit | None:
        entry = self._entries.get((scope.key(), normalized))
        return None if entry is None else CacheHit(entry[1], "exact", 1.0)

    async def lookup_semantic(self, scope: CacheScope, text: str, embedding: Vectors) -> CacheHit | None:
        candidates = [
            (float(np.dot(vector, embedding)), answer)
            for (key, _), (vector, answer) in self._entries.items()
            if key == scope.key()
        ]
        alike = [
            (similarity, answer)
            for similarity, answer in candidates
            if similarity >= self._threshold
            and same_question(text, answer.question, closeness(similarity, self._threshold))
        ]
        best = max(alike, key=lambda candidate: candidate[0], default=None)
        return None if best is None else CacheHit(best[1], "semantic", best[0])

    async def put(self, scope: CacheScope, normalized: str, embedding: Vectors, answer: CachedAnswer) -> None:
        self._entries[scope.key(), normalized] = (embedding, answer)

    async def evict(self, scope: CacheScope, answer_id: str) -> bool:
        found = [key for key, (_, answer) in self._entries.items() if key[0] == scope.key() and answer.id == answer_id]
        for key in found:
            del self._entries[key]
        return bool(found)


class InMemorySessions:
    """Sessions of one process; forget nothing, and know no turn that dies."""

    def __init__(self) -> None:
        self._sessions: dict[SessionKey, Session] = {}
        self._locks: dict[SessionKey, asyncio.Lock] = {}  # fair: the first to wait is the first to go on

    async def begin(self, key: SessionKey, wait_s: float) -> Held:
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with asyncio.timeout(wait_s):
                await lock.acquire()
        except TimeoutError as error:
            raise DeadlineExceededError(f"the turn before lasts longer than {wait_s:g} s") from error
        return Held(key, "ticket", self._sessions.get(key, Session()))

    async def end(self, held: Held, session: Session | None) -> None:
        if session is not None:
            self._sessions[held.key] = session
        self._locks[held.key].release()

    async def load(self, key: SessionKey) -> Session | None:
        return self._sessions.get(key)

    async def store(self, key: SessionKey, session: Session) -> None:
        self._sessions[key] = session

    def store_soon(self, key: SessionKey, session: Session) -> None:
        self._sessions.setdefault(key, session)


class InMemoryTurnLog:
    """A turn log without an engine."""

    def __init__(self) -> None:
        self._rows: dict[str, Mapping[str, Any]] = {}

    async def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows |= {row["turn_id"]: row for row in rows}

    async def recent(self, tenant: str, limit: int) -> list[dict[str, Any]]:
        own = [dict(row) for row in self._rows.values() if row["tenant"] == tenant]
        return sorted(own, key=lambda row: row["started_at"], reverse=True)[:limit]

    async def count(self, tenant: str) -> int:
        return sum(row["tenant"] == tenant for row in self._rows.values())
