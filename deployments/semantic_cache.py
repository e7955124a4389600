"""The room of answers that may be given again: exact in the process and in Redis, semantic by FAISS. Knows no Ray.

Redis (or Valkey) is the truth: one key an answer, `raydesk:cache:<scope>:<question>`, with its time to live. The
vectors in memory only find candidates; an answer is always read from Redis, so that one evicted or expired anywhere
is gone everywhere. A stream tells the other replicas of new and evicted answers.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import faiss
import numpy as np
import redis.asyncio as redis
import structlog

from deployments.answering.cache_policy import closeness, same_question
from deployments.answering.errors import RoomUnavailableError
from deployments.answering.types import CachedAnswer, CacheHit, CacheScope, Citation
from deployments.settings import CacheSettings
from models.protocols import Vectors

log = structlog.get_logger(__name__)

KEY = "raydesk:cache:"
STREAM = "raydesk:cache-changes"
STREAM_LENGTH = 10_000
FOLLOW_INTERVAL_S = 0.5  # polled: a blocking read would hold a connection, and swallow a cancellation
CANDIDATES = 8  # nearest stored questions that are verified


@dataclass(frozen=True, slots=True)
class _Stored:
    key: str
    question: str


class SemanticCache:
    def __init__(self, settings: CacheSettings, *, now_s: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._redis: Any = redis.from_url(  # its stubs cannot say that answers are bytes
            settings.url, socket_timeout=5, socket_connect_timeout=2
        )
        self._now_s = now_s
        self._local: OrderedDict[str, tuple[float, CachedAnswer]] = OrderedDict()  # key → (expires at, answer)
        self._index = _ScopedIndex(settings.max_entries)
        self._follower: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._stopping = False

    async def start(self) -> None:
        """Rebuilds the index from Redis, then follows what the other replicas store. Again is no harm."""
        async with self._starting:
            if self._follower is not None:
                return
            try:
                last = await self._last_change()
                await self._rebuild()
            except redis.RedisError as error:
                raise RoomUnavailableError(f"the cache's store does not answer: {error}") from error
            self._follower = asyncio.create_task(self._follow(last))

    async def check_health(self) -> None:
        """Serve asks each replica, before it gives it work and ever again: so each one starts, a new one as well.

        A replica whose store is away is healthy: another one in its place would have no store either.
        """
        try:
            await self.start()
        except RoomUnavailableError as error:
            log.warning("cache_not_started", error=str(error)[:300])

    async def stop(self) -> None:
        self._stopping = True
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        await self._redis.aclose()

    async def ping(self) -> None:
        """Raises `RoomUnavailableError` when the store does not answer."""
        try:
            await self._redis.ping()
        except redis.RedisError as error:
            raise RoomUnavailableError(f"the cache's store does not answer: {error}") from error

    async def lookup_exact(self, scope: CacheScope, normalized: str) -> CacheHit | None:
        key = _key(scope, normalized)
        kept = self._local.get(key)
        if kept is not None and kept[0] > self._now_s():
            self._local.move_to_end(key)
            return CacheHit(kept[1], "exact", 1.0)
        answer = await self._read(key)
        return None if answer is None else CacheHit(answer, "exact", 1.0)

    async def lookup_semantic(self, scope: CacheScope, text: str, embedding: Vectors) -> CacheHit | None:
        for similarity, stored in self._index.nearest(_digest(scope.key()), embedding, CANDIDATES):
            if similarity < self._settings.similarity_threshold:
                break
            if not same_question(text, stored.question, closeness(similarity, self._settings.similarity_threshold)):
                continue
            answer = await self._read(stored.key)
            if answer is not None:
                return CacheHit(answer, "semantic", similarity)
            self._index.remove(stored.key)  # expired, or evicted by another replica
        return None

    async def put(self, scope: CacheScope, normalized: str, embedding: Vectors, answer: CachedAnswer) -> None:
        key = _key(scope, normalized)
        entry = _encode(answer, embedding)
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(key, entry, ex=self._settings.ttl_s)
                pipe.xadd(STREAM, {"op": "put", "key": key}, maxlen=STREAM_LENGTH, approximate=True)
                await pipe.execute()
        except redis.RedisError as error:
            raise RoomUnavailableError(f"the cache's store does not answer: {error}") from error
        self._remember(key, answer)
        self._index.add(key, answer.question, embedding)

    async def evict(self, scope: CacheScope, answer_id: str) -> bool:
        """Looks at every answer of the scope: an operator's deed, not a customer's."""
        try:
            async for key in self._redis.scan_iter(f"{KEY}{_digest(scope.key())}:*"):
                answer = await self._read(key.decode())
                if answer is not None and answer.id == answer_id:
                    await self._redis.delete(key)
                    await self._redis.xadd(STREAM, {"op": "evict", "key": key}, maxlen=STREAM_LENGTH, approximate=True)
                    self._forget(key.decode())
                    return True
        except redis.RedisError as error:
            raise RoomUnavailableError(f"the cache's store does not answer: {error}") from error
        return False

    # --- Redis ---

    async def _read(self, key: str) -> CachedAnswer | None:
        try:
            entry = await self._redis.get(key)
        except redis.RedisError as error:
            raise RoomUnavailableError(f"the cache's store does not answer: {error}") from error
        if entry is None:
            self._local.pop(key, None)
            return None
        answer, _ = _decode(entry)
        self._remember(key, answer)
        return answer

    async def _rebuild(self) -> None:
        keys = [key async for key in self._redis.scan_iter(f"{KEY}*", count=1000)]
        for start in range(0, len(keys), 500):
            batch = keys[start : start + 500]
            for key, entry in zip(batch, await self._redis.mget(batch), strict=True):
                if entry is not None:
                    answer, embedding = _decode(entry)
                    self._index.add(key.decode(), answer.question, embedding)

    async def _last_change(self) -> bytes:
        newest = await self._redis.xrevrange(STREAM, count=1)
        return newest[0][0] if newest else b"0-0"

    async def _follow(self, last: bytes) -> None:
        """Own changes come by, too; adding what is there changes nothing."""
        while not self._stopping:
            try:
                for _, changes in await self._redis.xread({STREAM: last}, count=200) or []:
                    for change_id, change in changes:
                        await self._apply(change)
                        last = change_id
            except redis.RedisError as error:
                log.warning("cache_store_away", error=str(error))
            await asyncio.sleep(FOLLOW_INTERVAL_S)

    async def _apply(self, change: dict[bytes, bytes]) -> None:
        key = change[b"key"].decode()
        if change[b"op"] == b"evict":
            self._forget(key)
            return
        entry = await self._redis.get(key)
        if entry is not None:
            answer, embedding = _decode(entry)
            if key in self._local:  # another replica may have a newer answer
                self._remember(key, answer)
            if not self._index.holds(key):
                self._index.add(key, answer.question, embedding)

    # --- memory ---

    def _remember(self, key: str, answer: CachedAnswer) -> None:
        expires_at = answer.created_at_s + self._settings.ttl_s
        self._local[key] = (expires_at, answer)
        self._local.move_to_end(key)
        while len(self._local) > self._settings.max_local_entries:
            self._local.popitem(last=False)

    def _forget(self, key: str) -> None:
        self._local.pop(key, None)
        self._index.remove(key)


class _ScopedIndex:
    """Vectors of stored questions, one flat inner-product index a scope; the oldest go when there are too many."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._ids: OrderedDict[str, int] = OrderedDict()  # key → id, oldest first
        self._stored: dict[int, _Stored] = {}
        self._indexes: dict[str, Any] = {}  # scope digest → faiss.IndexIDMap2
        self._next_id = 0

    def holds(self, key: str) -> bool:
        return key in self._ids

    def add(self, key: str, question: str, embedding: Vectors) -> None:
        self.remove(key)
        row = np.ascontiguousarray(embedding, dtype=np.float32).reshape(1, -1)
        index = self._indexes.setdefault(_scope_of(key), faiss.IndexIDMap2(faiss.IndexFlatIP(row.shape[1])))
        index.add_with_ids(row, np.array([self._next_id], dtype=np.int64))
        self._ids[key] = self._next_id
        self._stored[self._next_id] = _Stored(key, question)
        self._next_id += 1
        while len(self._ids) > self._max_entries:
            self.remove(next(iter(self._ids)))

    def remove(self, key: str) -> None:
        entry_id = self._ids.pop(key, None)
        if entry_id is None:
            return
        del self._stored[entry_id]
        index = self._indexes[_scope_of(key)]
        index.remove_ids(np.array([entry_id], dtype=np.int64))
        if index.ntotal == 0:
            del self._indexes[_scope_of(key)]

    def nearest(self, scope_digest: str, embedding: Vectors, top_k: int) -> list[tuple[float, _Stored]]:
        """(cosine similarity, entry), best first."""
        index = self._indexes.get(scope_digest)
        if index is None:
            return []
        row = np.ascontiguousarray(embedding, dtype=np.float32).reshape(1, -1)
        similarities, ids = index.search(row, top_k)
        return [
            (float(similarity), self._stored[int(entry_id)])
            for similarity, entry_id in zip(similarities[0], ids[0], strict=True)
            if entry_id >= 0
        ]


def _key(scope: CacheScope, normalized: str) -> str:
    return f"{KEY}{_digest(scope.key())}:{_digest(normalized)}"


def _scope_of(key: str) -> str:
    return key.removeprefix(KEY).split(":", 1)[0]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _encode(answer: CachedAnswer, embedding: Vectors) -> bytes:
    vector = np.asarray(embedding, dtype=np.float32).tobytes()
    return json.dumps(
        {"answer": asdict(answer), "vector": base64.b64encode(vector).decode()}, ensure_ascii=False
    ).encode()


def _decode(entry: bytes) -> tuple[CachedAnswer, Vectors]:
    content = json.loads(entry)
    fields = content["answer"]
    citations = tuple(Citation(**{**item, "heading_path": tuple(item["heading_path"])}) for item in fields["citations"])
    answer = CachedAnswer(**{**fields, "citations": citations, "evidence_ids": tuple(fields["evidence_ids"])})
    return answer, np.frombuffer(base64.b64decode(content["vector"]), dtype=np.float32)
