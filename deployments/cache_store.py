"""Cached answers in Redis (or Valkey), the truth about them. Knows no verifier, no vectors' index and no policy.

raydesk:answer:<scope>:<question>         hash: the answer, its question's vector, where it stands, what was seen of it;
                                          or {of: key}, an alias: another wording, which lives as long as its answer
raydesk:answer-band:<scope>:<band>        set of "<simhash> <question>": wordings that may differ by a slip
raydesk:answer-block:<scope>:<question>   no answer is stored for it
raydesk:answer-asked:<scope>:<question>   set: who asked
raydesk:answer-lease:<scope>:<question>   one replica makes this answer now
raydesk:answer-changes                    stream: what was stored and evicted, for the memory of other replicas
raydesk:answer-topics, raydesk:answer-counts   hashes: what was seen of each topic; what was counted

Scope and question are digests. Every key has a time to live but the last three, which stay small.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
import redis.asyncio as redis

from deployments.answering.error_budget import MOST_OBSERVATIONS, Observation, Tally
from deployments.answering.errors import RoomUnavailableError
from deployments.answering.near_exact import bands, simhash
from deployments.answering.types import CachedAnswer, CacheScope, Citation, EvidenceBound, EvidenceRef
from deployments.redis_client import connected
from models.protocols import Vectors

PREFIX = "raydesk:answer"
STREAM, TOPICS, COUNTS = f"{PREFIX}-changes", f"{PREFIX}-topics", f"{PREFIX}-counts"
STREAM_LENGTH = 10_000
_TIMEOUT_S = 5.0  # of one round trip; whoever asks on a customer's clock waits less

# Only of the very answer that was looked at: a newer one may have taken its place.
_SET_IF_SAME = """
if redis.call('hget', KEYS[1], 'id') ~= ARGV[1] then return 0 end
if redis.call('hlen', KEYS[1]) > tonumber(ARGV[4]) then return 0 end
return redis.call('hset', KEYS[1], ARGV[2], ARGV[3])
"""
_DELETE_IF_SAME = """
if redis.call('hget', KEYS[1], 'id') ~= ARGV[1] then return 0 end
return redis.call('del', KEYS[1])
"""
_ADD_HITS = "if redis.call('exists', KEYS[1]) == 1 then return redis.call('hincrby', KEYS[1], 'hits', ARGV[1]) end"
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end"
_MOST_FIELDS = 5 + 64 + MOST_OBSERVATIONS


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored answer."""

    key: str
    scope: CacheScope
    answer: CachedAnswer
    embedding: Vectors  # (dim,) float32, of its question
    versions: frozenset[str]  # knowledge versions under which it stands
    observations: tuple[Observation, ...] = ()
    hits: int = 0
    size: int = 0  # bytes


@dataclass(frozen=True, slots=True)
class Exact:
    """What is stored for one wording."""

    entry: Entry | None
    is_blocked: bool
    near: tuple[tuple[str, int], ...]  # (key, simhash) of wordings that may be a slip away


@dataclass(frozen=True, slots=True)
class Change:
    is_eviction: bool
    key: str


class CacheStore:
    """Raises `RoomUnavailableError` when the server does not answer."""

    def __init__(self, url: str) -> None:
        self._redis = connected(url)

    async def close(self) -> None:
        await self._redis.aclose()

    async def ping(self) -> None:
        async with _store():
            await self._redis.ping()

    # --- answers ---

    async def look(self, key: str, normalized: str) -> Exact:
        """One round trip, and one more for an alias."""
        near = f"{PREFIX}-band:{scope_of(key)}:"
        async with _store(), self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(key)
            pipe.exists(_of(key, "block"))
            pipe.sunion([near + band for band in bands(simhash(normalized))])
            found, is_blocked, names = await pipe.execute()
        entry = await self._entry(key, found)
        return Exact(entry, bool(is_blocked), tuple(_near(scope_of(key), name.decode()) for name in names))

    async def read(self, key: str) -> Entry | None:
        """The answer of a key, or of what it is an alias of."""
        async with _store():
            return await self._entry(key, await self._redis.hgetall(key))

    async def _entry(self, key: str, found: Mapping[bytes, bytes]) -> Entry | None:
        if target := found.get(b"of"):
            async with _store():
                key, found = target.decode(), await self._redis.hgetall(target)
        return decode(key, found) if b"answer" in found else None

    async def write(self, entry: Entry, normalized: str, ttl_s: int) -> None:
        async with _store(), self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(entry.key)
            pipe.hset(entry.key, mapping=encode(entry))
            pipe.expire(entry.key, ttl_s)
            self._add_to_bands(pipe, entry.key, normalized, ttl_s)
            self._tell(pipe, "put", entry.key)
            await pipe.execute()

    async def write_alias(self, key: str, target: str, ttl_s: int) -> None:
        async with _store(), self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(key)
            pipe.hset(key, mapping={"of": target})
            pipe.expire(key, ttl_s)
            await pipe.execute()

    def _add_to_bands(self, pipe: Any, key: str, normalized: str, ttl_s: int) -> None:
        fingerprint = simhash(normalized)
        for band in bands(fingerprint):
            name = f"{PREFIX}-band:{scope_of(key)}:{band}"
            pipe.sadd(name, f"{fingerprint:016x} {key.rpartition(':')[2]}")
            pipe.expire(name, ttl_s, gt=True)
            pipe.expire(name, ttl_s, nx=True)

    async def forget_wording(self, key: str, fingerprint: int) -> None:
        """Of an answer that is gone: its bands need not name it any more."""
        member = f"{fingerprint:016x} {key.rpartition(':')[2]}"
        async with _store(), self._redis.pipeline(transaction=False) as pipe:
            for band in bands(fingerprint):
                pipe.srem(f"{PREFIX}-band:{scope_of(key)}:{band}", member)
            await pipe.execute()

    async def delete(self, keys: Sequence[str]) -> None:
        async with _store(), self._redis.pipeline(transaction=True) as pipe:
            for key in keys:
                pipe.delete(key)
                self._tell(pipe, "evict", key)
            await pipe.execute()

    async def delete_if(self, key: str, answer_id: str) -> bool:
        """Where the answer of the key is still this one."""
        async with _store():
            if not await self._redis.eval(_DELETE_IF_SAME, 1, key, answer_id):
                return False
            await self._tell(self._redis, "evict", key)
            return True

    async def confirm(self, key: str, answer_id: str, version: str) -> None:
        async with _store():
            await self._redis.eval(_SET_IF_SAME, 1, key, answer_id, f"v:{version}", "1", _MOST_FIELDS)

    async def observe(self, key: str, answer_id: str, name: str, observation: Observation) -> None:
        """name: of the observation; one seen twice counts once."""
        value = f"{observation.closeness:.4f} {observation.is_same:d}"
        async with _store():
            await self._redis.eval(_SET_IF_SAME, 1, key, answer_id, f"o:{name}", value, _MOST_FIELDS)

    async def add_hits(self, hits: Mapping[str, int]) -> None:
        async with _store(), self._redis.pipeline(transaction=False) as pipe:
            for key, count in hits.items():
                pipe.eval(_ADD_HITS, 1, key, count)
            await pipe.execute()

    async def entries(self, scope: str = "*") -> AsyncIterator[Entry]:
        """All answers, aliases left out: an operator's look, and a new replica's."""
        async for keys in self._batches(f"{PREFIX}:{scope}:*"):
            async with _store(), self._redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hgetall(key)
                read = await pipe.execute()
            for key, found in zip(keys, read, strict=True):
                if b"answer" in found:
                    yield decode(key.decode(), found)

    async def _batches(self, pattern: str) -> AsyncIterator[list[bytes]]:
        """A key may come more than once."""
        cursor: int | None = None
        while cursor != 0:
            async with _store():
                cursor, keys = await self._redis.scan(cursor or 0, match=pattern, count=1000)
            if keys:
                yield keys

    # --- who asked, who may not, who makes ---

    async def add_askers(self, key: str, askers: Iterable[str], ttl_s: int) -> int:
        """How many different ones there are now."""
        async with _store(), self._redis.pipeline(transaction=True) as pipe:
            name = _of(key, "asked")
            pipe.sadd(name, *askers)
            pipe.expire(name, ttl_s)
            pipe.scard(name)
            return int((await pipe.execute())[-1])

    async def block(self, keys: Iterable[str], ttl_s: int) -> None:
        async with _store(), self._redis.pipeline(transaction=True) as pipe:
            for key in keys:
                pipe.set(_of(key, "block"), "1", ex=ttl_s)
            await pipe.execute()

    async def is_blocked(self, key: str) -> bool:
        async with _store():
            return bool(await self._redis.exists(_of(key, "block")))

    async def lease(self, key: str, token: str, lease_s: float) -> bool:
        async with _store():
            return bool(await self._redis.set(_of(key, "lease"), token, nx=True, px=round(lease_s * 1000)))

    async def release(self, key: str, token: str) -> None:
        async with _store():
            await self._redis.eval(_RELEASE, 1, _of(key, "lease"), token)

    # --- what all replicas know together ---

    def _tell(self, redis_or_pipe: Any, what: str, key: str) -> Any:
        return redis_or_pipe.xadd(STREAM, {"op": what, "key": key}, maxlen=STREAM_LENGTH, approximate=True)

    async def last_change(self) -> bytes:
        async with _store():
            newest = await self._redis.xrevrange(STREAM, count=1)
            return newest[0][0] if newest else b"0-0"

    async def changes_since(self, last: bytes) -> tuple[list[Change], bytes]:
        async with _store():
            found = await self._redis.xread({STREAM: last}, count=1000)
        changes = found[0][1] if found else []
        return (
            [Change(fields[b"op"] == b"evict", fields[b"key"].decode()) for _, fields in changes],
            changes[-1][0] if changes else last,
        )

    async def note_topic(self, topic: str, observed: Tally) -> None:
        async with _store(), self._redis.pipeline(transaction=True) as pipe:
            for name, value in asdict(observed).items():
                pipe.hincrbyfloat(TOPICS, f"{topic}\x1f{name}", value)
            await pipe.execute()

    async def topics(self) -> dict[str, Tally]:
        async with _store():
            raw = await self._redis.hgetall(TOPICS)
        values: dict[str, dict[str, float]] = {}
        for name, value in raw.items():
            topic, _, field = name.decode().partition("\x1f")
            values.setdefault(topic, {})[field] = float(value)
        return {topic: Tally(**of_topic) for topic, of_topic in values.items()}

    async def add_counts(self, counts: Mapping[str, int]) -> None:
        async with _store(), self._redis.pipeline(transaction=False) as pipe:
            for name, count in counts.items():
                pipe.hincrby(COUNTS, name, count)
            await pipe.execute()

    async def counts(self) -> dict[str, int]:
        async with _store():
            return {name.decode(): int(count) for name, count in (await self._redis.hgetall(COUNTS)).items()}


@asynccontextmanager
async def _store() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            yield
    except (redis.RedisError, TimeoutError) as error:
        raise RoomUnavailableError(f"the cache's store does not answer: {error}") from error


# --- keys ---


@lru_cache(maxsize=4096)
def scope_digest(scope: CacheScope) -> str:
    return digest(scope.key())


@lru_cache(maxsize=4096)
def entry_key(scope: CacheScope, normalized: str) -> str:
    return f"{PREFIX}:{scope_digest(scope)}:{digest(normalized)}"


def scope_of(key: str) -> str:
    return key.split(":")[2]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def topic_of(scope: CacheScope, answer: CachedAnswer) -> str:
    """Under which name what was seen of it is added up."""
    return f"{scope.tenant}/{scope.collection}/{answer.topic}"


def _of(key: str, what: str) -> str:
    return f"{PREFIX}-{what}{key.removeprefix(PREFIX)}"


def _near(scope: str, member: str) -> tuple[str, int]:
    fingerprint, question = member.split()
    return f"{PREFIX}:{scope}:{question}", int(fingerprint, 16)


# --- an answer as fields of a hash ---

_NESTED = ("citations", "evidence")


def encode(entry: Entry) -> dict[str, bytes | str | int]:
    return {
        "id": entry.answer.id,
        "scope": json.dumps({**asdict(entry.scope), "audiences": sorted(entry.scope.audiences)}),
        "answer": json.dumps(asdict(entry.answer), ensure_ascii=False).encode(),
        "vector": np.asarray(entry.embedding, dtype=np.float32).tobytes(),
        "hits": entry.hits,
        **{f"v:{version}": 1 for version in entry.versions},
    }


def decode(key: str, found: Mapping[bytes, bytes]) -> Entry:
    names = [name.decode() for name in found]
    return Entry(
        key=key,
        scope=_scope(json.loads(found[b"scope"])),
        answer=_answer(json.loads(found[b"answer"])),
        embedding=np.frombuffer(found[b"vector"], dtype=np.float32),
        versions=frozenset(name[2:] for name in names if name.startswith("v:")),
        observations=tuple(_observation(found[name.encode()]) for name in names if name.startswith("o:")),
        hits=int(found.get(b"hits", 0)),
        size=len(found[b"answer"]) + len(found[b"vector"]),
    )


def _scope(content: dict[str, Any]) -> CacheScope:
    return CacheScope(**{**content, "audiences": frozenset(content["audiences"])})


def _answer(content: dict[str, Any]) -> CachedAnswer:
    bound = content["evidence"]
    evidence = EvidenceBound(**{**bound, "chunks": tuple(EvidenceRef(**ref) for ref in bound["chunks"])})
    citations = tuple(
        Citation(**{**item, "heading_path": tuple(item["heading_path"])}) for item in content["citations"]
    )
    plain = {field.name: content[field.name] for field in fields(CachedAnswer) if field.name not in _NESTED}
    return CachedAnswer(**plain, citations=citations, evidence=evidence)


def _observation(value: bytes) -> Observation:
    closeness, is_same = value.split()
    return Observation(float(closeness), is_same == b"1")
