"""Rooms in memory, for tests and laptops: the same protocols, proven by the same conformance suites."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import numpy as np

from deployments.answering.cache_policy import CURATED_PATHS, closeness, same_question
from deployments.answering.errors import DeadlineExceededError, UnknownCollectionError
from deployments.answering.evidence import still_stands
from deployments.answering.near_exact import BITS, MOST_DISTANCE, distance, simhash
from deployments.answering.protocols import Claim, Held, InLine, Page, Rating
from deployments.answering.query import normalize
from deployments.answering.session import Session, SessionKey
from deployments.answering.types import (
    AnswerEvent,
    CachedAnswer,
    CacheHit,
    CacheScope,
    Done,
    Evidence,
    Failed,
    Language,
    Principal,
    RetrievedChunk,
    Standing,
)
from ingestion.chunk import Chunk, content_digest
from ingestion.difference import VersionChange
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
        self._versions = {version: self._chunks}

    def publish(self, version: str, chunks: Sequence[Chunk]) -> None:
        """In place of what was published before, which may be published again."""
        self.published, self._chunks = version, list(chunks)
        self._versions[version] = self._chunks

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

    async def still_stands(self, principal: Principal, collection: str, standing: Standing) -> str | None:
        old = self._versions.get(standing.knowledge_version)
        if old is None:
            return None
        change = self._change(old, self._chunks)
        return self.published if still_stands(standing, change, principal, date.today()) else None

    def _change(self, old: Sequence[Chunk], new: Sequence[Chunk]) -> VersionChange:
        was, now = ({(chunk.id, content_digest(chunk)) for chunk in chunks} for chunks in (old, new))
        added = tuple(chunk for chunk in new if (chunk.id, content_digest(chunk)) not in was)
        questions = self._embedder.embed_queries([chunk.question for chunk in added])
        questions[[not chunk.question for chunk in added]] = 0
        vectors = self._embedder.embed_passages([chunk.text for chunk in added])
        return VersionChange(frozenset(was - now), added, vectors, questions)

    def _ranked(self, query: Vectors, chunks: Sequence[Chunk], texts: Sequence[str]) -> tuple[RetrievedChunk, ...]:
        similarities = self._embedder.embed_passages(texts) @ query
        ranked = sorted(zip(similarities.tolist(), chunks, strict=True), key=lambda pair: -pair[0])
        return tuple(RetrievedChunk(chunk, score, similarity=score) for score, chunk in ranked)


class InMemoryCache:
    """A semantic cache without a store; forgets nothing until it is told to, and learns nothing."""

    def __init__(self, similarity_threshold: float = 0.90, min_askers: int = 2) -> None:
        self._threshold = similarity_threshold
        self._min_askers = min_askers
        self._entries: dict[str, CacheHit] = {}  # scope and question → as an exact hit
        self._scopes: dict[str, str] = {}  # key of an entry → scope
        self._aliases: dict[str, str] = {}
        self._blocked: set[str] = set()
        self._askers: dict[str, set[str]] = {}
        self._leases: dict[str, str] = {}
        self.counts: dict[str, int] = {}  # it counts nothing

    async def lookup_exact(self, scope: CacheScope, normalized: str) -> CacheHit | None:
        key = _key(scope, normalized)
        if key in self._blocked:
            return None
        if (hit := self._entries.get(self._aliases.get(key, key))) is not None:
            return hit
        near = [
            (distance(simhash(normalized), simhash(normalize(hit.answer.question))), hit) for hit in self._of(scope)
        ]
        bits, best = min(near, key=lambda candidate: candidate[0], default=(BITS, None))
        closeness = 1 - bits / BITS
        if best is None or bits > MOST_DISTANCE or not same_question(normalized, best.answer.question, closeness):
            return None
        self._aliases[key] = best.key
        return replace(best, tier="near_exact", similarity=closeness)

    async def lookup_semantic(self, scope: CacheScope, text: str, embedding: Vectors) -> CacheHit | None:
        alike = []
        for hit in self._of(scope):
            similarity = float(np.dot(hit.embedding, embedding)) if hit.embedding is not None else 0.0
            if similarity >= self._threshold and same_question(
                text, hit.answer.question, closeness(similarity, self._threshold)
            ):
                alike.append(replace(hit, tier="semantic", similarity=similarity))
        best = max(alike, key=lambda candidate: candidate.similarity, default=None)
        if best is None or _key(scope, normalize(text)) in self._blocked:
            return None
        self._aliases[_key(scope, normalize(text))] = best.key
        return best

    def _of(self, scope: CacheScope) -> list[CacheHit]:
        return [hit for key, hit in self._entries.items() if self._scopes[key] == scope.key()]

    async def put(
        self,
        scope: CacheScope,
        normalized: str,
        embedding: Vectors,
        answer: CachedAnswer,
        askers: frozenset[str] = frozenset(),
    ) -> bool:
        key = _key(scope, normalized)
        asked = self._askers.setdefault(key, set())
        asked |= askers
        is_wanted = answer.path in CURATED_PATHS or len(asked) >= self._min_askers
        if key in self._blocked or not is_wanted:
            return False
        self._entries[key] = CacheHit(answer, "exact", 1.0, key, embedding, frozenset({answer.knowledge_version}))
        self._scopes[key] = scope.key()
        return True

    async def confirm(self, hit: CacheHit, version: str) -> None:
        if hit.key in self._entries:
            held = self._entries[hit.key]
            self._entries[hit.key] = replace(held, versions=held.versions | {version})

    async def discard(self, hit: CacheHit, reason: str) -> None:
        self._entries.pop(hit.key, None)

    async def observe(self, scope: CacheScope, hit: CacheHit, is_same: bool) -> None:
        if not is_same:
            await self.discard(hit, "judged wrong")

    async def block(self, scope: CacheScope, question: str) -> bool:
        key = _key(scope, normalize(question))
        target = self._aliases.get(key, key)
        self._blocked |= {key, target}
        return self._entries.pop(target, None) is not None

    async def evict(self, scope: CacheScope, answer_id: str) -> bool:
        found = [hit.key for hit in self._of(scope) if hit.answer.id == answer_id]
        for key in found:
            del self._entries[key]
        return bool(found)

    async def lease(self, scope: CacheScope, normalized: str, asker: str) -> str | None:
        key = _key(scope, normalized)
        if key in self._leases:
            self._askers.setdefault(key, set()).add(asker)
            return None
        self._leases[key] = asker
        return asker

    async def release(self, scope: CacheScope, normalized: str, token: str) -> None:
        if self._leases.get(_key(scope, normalized)) == token:
            del self._leases[_key(scope, normalized)]


def _key(scope: CacheScope, normalized: str) -> str:
    return f"{scope.key()}|{normalized}"


class InMemorySessions:
    """Sessions of one process; forget nothing, and know no turn that dies."""

    def __init__(self) -> None:
        self._sessions: dict[SessionKey, Session] = {}
        self._lines: dict[SessionKey, dict[str, asyncio.Event]] = {}  # ticket → it is the first now, and holds
        self._tickets = itertools.count()

    async def enter(self, key: SessionKey) -> Held | InLine:
        line, ticket = self._lines.setdefault(key, {}), str(next(self._tickets))
        line[ticket] = asyncio.Event()
        return self._held(InLine(key, ticket)) if len(line) == 1 else InLine(key, ticket)

    async def wait(self, place: InLine, wait_s: float) -> Held:
        try:
            async with asyncio.timeout(wait_s):
                await self._lines[place.key][place.ticket].wait()
        except TimeoutError as error:
            await self.give_up(place)
            raise DeadlineExceededError(f"the turn before lasts longer than {wait_s:g} s") from error
        except asyncio.CancelledError:
            await self.give_up(place)
            raise
        return self._held(place)

    async def give_up(self, place: InLine) -> None:
        self._leave(place.key, place.ticket)

    async def begin(self, key: SessionKey, wait_s: float) -> Held:
        place = await self.enter(key)
        return place if isinstance(place, Held) else await self.wait(place, wait_s)

    async def end(self, held: Held, session: Session | None) -> None:
        if session is not None:
            self._sessions[held.key] = session
        self._leave(held.key, held.ticket)

    def end_soon(self, held: Held, session: Session) -> None:
        self._sessions[held.key] = session
        self._leave(held.key, held.ticket)

    def _held(self, place: InLine) -> Held:
        return Held(place.key, place.ticket, self._sessions.get(place.key, Session()))

    def _leave(self, key: SessionKey, ticket: str) -> None:
        line = self._lines[key]
        del line[ticket]
        for first in line.values():
            first.set()
            break

    async def load(self, key: SessionKey) -> Session | None:
        return self._sessions.get(key)

    async def store(self, key: SessionKey, session: Session) -> None:
        self._sessions[key] = session

    def store_soon(self, key: SessionKey, session: Session) -> None:
        self._sessions.setdefault(key, session)

    async def forget(self, key: SessionKey, wait_s: float) -> bool:
        held = await self.begin(key, wait_s)
        was_there = self._sessions.pop(key, None) is not None
        await self.end(held, None)
        return was_there


class InMemoryEventStore:
    """What several `InMemoryEventLog`s share."""

    def __init__(self) -> None:
        self.turns: dict[str, tuple[str, str, list[AnswerEvent]]] = {}  # turn → reader, owner, events
        self.claims: dict[str, Claim] = {}
        self.readers: dict[str, float] = {}  # turn → until when somebody reads it, monotonic seconds
        self.replicas: dict[str, Callable[[str], None]] = {}  # owner → cancels a turn of its own


class InMemoryEventLog:
    """One replica's end of a log of events that forgets nothing, and drops nothing."""

    is_up = True

    def __init__(self, store: InMemoryEventStore, owner: str = "replica", grace_s: float = 10.0) -> None:
        self._store = store
        self._grace_s = grace_s
        self.owner = owner

    async def start(self, on_cancel: Callable[[str], None]) -> None:
        self._store.replicas[self.owner] = on_cancel

    async def stop(self) -> None:
        self._store.replicas.pop(self.owner, None)

    def keep(
        self, turn_id: str, reader: str, first: int, events: Sequence[AnswerEvent], *, is_repeatable: bool
    ) -> None:
        kept = self._store.turns.setdefault(turn_id, (reader, self.owner, []))[2]
        assert first == len(kept) + 1, "events are numbered without gaps"
        kept += events

    def keep_whole(self, turn_id: str, reader: str, events: Sequence[AnswerEvent]) -> None:
        self.keep(turn_id, reader, 1, events, is_repeatable=False)

    async def read(self, turn_id: str, reader: str, after: int, owner: str = "") -> Page | None:
        its_reader, its_owner, events = self._store.turns.get(turn_id, ("", "", []))
        if not events or its_reader != reader:
            return None
        is_over = isinstance(events[-1], Done | Failed)
        is_alive = not owner or owner in self._store.replicas
        return Page(after + 1, tuple(events[after:]), len(events), is_over, its_owner, is_alive)

    async def claim(self, name: str, claim: Claim, instead_of: Claim | None = None) -> Claim:
        stands = self._store.claims.get(name)
        if stands is None or stands == instead_of:
            self._store.claims[name] = stands = claim
        return stands

    async def unclaim(self, name: str, claim: Claim) -> None:
        if self._store.claims.get(name) == claim:
            del self._store.claims[name]

    async def stay(self, turn_id: str) -> None:
        self._store.readers[turn_id] = time.monotonic() + self._grace_s

    async def stays_s(self, turn_id: str) -> float:
        return max(0.0, self._store.readers.get(turn_id, 0.0) - time.monotonic())

    async def ask_to_cancel(self, turn_id: str, owner: str) -> None:
        if (cancel := self._store.replicas.get(owner)) is not None:
            cancel(turn_id)

    async def is_alive(self, owner: str) -> bool:
        return owner in self._store.replicas


class InMemoryTurnLog:
    """A turn log without an engine."""

    def __init__(self) -> None:
        self._rows: dict[str, Mapping[str, Any]] = {}
        self._ratings: dict[tuple[str, str], Mapping[str, Any]] = {}

    async def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows |= {row["turn_id"]: row for row in rows}

    async def recent(self, tenant: str, limit: int) -> list[dict[str, Any]]:
        own = [dict(row) for row in self._rows.values() if row["tenant"] == tenant]
        return sorted(own, key=lambda row: row["started_at"], reverse=True)[:limit]

    async def count(self, tenant: str) -> int:
        return sum(row["tenant"] == tenant for row in self._rows.values())

    async def find(self, tenant: str, key_id: str, turn_id: str) -> dict[str, Any] | None:
        own = self._of(tenant, key_id)
        return next((dict(row) for row in own if row["turn_id"] == turn_id), None)

    async def conversations(self, tenant: str, key_id: str, limit: int) -> list[tuple[str, datetime]]:
        last: dict[str, datetime] = {}
        for row in sorted(self._of(tenant, key_id), key=lambda row: row["started_at"]):
            last[row["conversation_id"]] = row["started_at"]
        return sorted(last.items(), key=lambda pair: pair[1], reverse=True)[:limit]

    def _of(self, tenant: str, key_id: str) -> list[Mapping[str, Any]]:
        return [row for row in self._rows.values() if (row["tenant"], row["key_id"]) == (tenant, key_id)]

    async def rate(self, row: Mapping[str, Any]) -> None:
        self._ratings[row["tenant"], row["turn_id"]] = row

    async def rated(self, tenant: str, rating: Rating, limit: int) -> list[dict[str, Any]]:
        said = [row for row in self._ratings.values() if (row["tenant"], row["rating"]) == (tenant, rating)]
        own = [dict(self._rows[row["turn_id"]]) | dict(row) for row in said]
        return sorted(own, key=lambda row: row["rated_at"], reverse=True)[:limit]
