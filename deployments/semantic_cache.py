"""The room of answers that may be given again. Knows no Ray.

Three ways lead to an answer: its very wording (in the process, then in Redis), a wording that is a slip of the pen away
(SimHash, in Redis), and a paraphrase (vectors in memory). The last two only propose: the verifier decides, and what it
accepts has to keep the error budget. What was accepted once is an alias: the same wording is an exact hit from then on.

Redis is the truth: vectors in memory only find candidates, an answer is read from Redis, so that one evicted or expired
anywhere is gone everywhere; a stream tells the memory of the other replicas. Whether an answer still stands under the
published knowledge is not for this room to say: hits carry the versions under which they do.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from uuid import uuid4
from weakref import WeakValueDictionary

import structlog

from deployments.answering.cache_policy import CURATED_PATHS, closeness, differs_in, same_question
from deployments.answering.error_budget import Observation, Tally, is_within, noted
from deployments.answering.errors import RoomUnavailableError
from deployments.answering.meaning import read
from deployments.answering.near_exact import BITS, MOST_DISTANCE, distance, simhash
from deployments.answering.query import normalize
from deployments.answering.types import CachedAnswer, CacheHit, CacheScope, CacheTier
from deployments.cache_index import CacheIndex, Indexed
from deployments.cache_store import CacheStore, Entry, digest, entry_key, scope_digest, scope_of, topic_of
from deployments.settings import CacheSettings
from models.protocols import Vectors

log = structlog.get_logger(__name__)

FOLLOW_INTERVAL_S = 0.4  # polled: a blocking read would hold a connection, and swallow a cancellation
CANDIDATES = 8  # nearest stored questions that are verified
NEAR_CANDIDATES = 3


class _Kept:
    """An answer in the process, under all wordings that it has here: all of them die with it."""

    __slots__ = ("__weakref__", "expires_at_s", "hit")

    def __init__(self, hit: CacheHit, expires_at_s: float) -> None:
        self.hit = hit
        self.expires_at_s = expires_at_s


class SemanticCache:
    def __init__(self, settings: CacheSettings, *, now_s: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._store = CacheStore(settings.url)
        self._now_s = now_s
        self._local: OrderedDict[str, _Kept] = OrderedDict()  # key of a wording, the latest used last
        self._kept: WeakValueDictionary[str, _Kept] = WeakValueDictionary()  # key of an answer
        self._index = CacheIndex(settings.max_entries, settings.max_bytes)
        self._topics: dict[str, Tally] = {}
        self._hits: Counter[str] = Counter()  # key of an answer, since they were last told to the store
        self._uncounted: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()  # "hit:exact", "refused:negation", … since this replica began
        self._follower: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        self._stopping = False

    async def start(self) -> None:
        """Reads what is stored, then follows what the other replicas store. Again is no harm."""
        async with self._starting:
            if self._follower is not None:
                return
            last = await self._store.last_change()
            async for entry in self._store.entries():
                self._add_to_index(entry)
            self._topics = await self._store.topics()
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
        self._stopping = True  # the client may swallow a cancellation
        tasks = [*self._tasks, *([self._follower] if self._follower else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._store.close()

    async def ping(self) -> None:
        """Raises `RoomUnavailableError` when the store does not answer."""
        await self._store.ping()

    # --- looking up ---

    async def lookup_exact(self, scope: CacheScope, normalized: str) -> CacheHit | None:
        key = entry_key(scope, normalized)
        kept = self._local.get(key)
        if kept is not None and kept.expires_at_s > self._now_s():
            self._local.move_to_end(key)
            return self._counted(kept.hit)
        return await self._look_in_store(scope, normalized, key)

    async def _look_in_store(self, scope: CacheScope, normalized: str, key: str) -> CacheHit | None:
        found = await self._store.look(key, normalized)
        if found.is_blocked:
            self._count("refused:blocked")
            return None
        if found.entry is not None:
            return self._counted(self._keep(key, found.entry).hit)
        self._local.pop(key, None)
        fingerprint = simhash(normalized)
        near = sorted((distance(fingerprint, other), key, other) for key, other in found.near)
        for bits, candidate, other in near[:NEAR_CANDIDATES]:
            if bits > MOST_DISTANCE:
                break
            entry = await self._store.read(candidate)
            if entry is None:
                await self._store.forget_wording(candidate, other)
            elif self._is_same(scope, normalized, entry, 1 - bits / BITS):
                return await self._promoted(scope, key, _hit(entry, "near_exact", 1 - bits / BITS), entry)
        return None

    async def lookup_semantic(self, scope: CacheScope, text: str, embedding: Vectors) -> CacheHit | None:
        key = entry_key(scope, normalize(text))
        for similarity, stored in self._index.nearest(scope_digest(scope), embedding, CANDIDATES):
            if similarity < self._settings.similarity_threshold:
                break
            close = closeness(similarity, self._settings.similarity_threshold)
            if not self._is_verified(text, stored.question, close):
                continue
            entry = await self._store.read(stored.key)
            if entry is None:  # expired, or evicted by another replica
                self._forget(stored.key)
            elif self._is_same(scope, text, entry, close):
                if await self._store.is_blocked(key):
                    self._count("refused:blocked")
                    return None
                return await self._promoted(scope, key, _hit(entry, "semantic", similarity), entry)
        self._count("miss")
        return None

    def _is_same(self, scope: CacheScope, text: str, entry: Entry, close: float) -> bool:
        """What the verifier says, and whether such hits have kept the budget."""
        if not self._is_verified(text, entry.answer.question, close):
            return False
        topic = self._topics.get(topic_of(scope, entry.answer), Tally())
        if not is_within(self._settings.max_wrong_hit_rate, close, entry.observations, topic):
            self._count("refused:error budget")
            return False
        return True

    def _is_verified(self, text: str, question: str, close: float) -> bool:
        if same_question(text, question, close):
            return True
        self._count(f"refused:{differs_in(read(text), read(question)) or 'not close enough'}")
        return False

    async def _promoted(self, scope: CacheScope, key: str, hit: CacheHit, entry: Entry) -> CacheHit:
        """The same wording is an exact hit from now on, also of the other replicas."""
        self._keep(key, entry)
        self._soon(partial(self._store.write_alias, key, entry.key, self._ttl_s(entry.answer)))
        return self._counted(hit)

    # --- storing ---

    async def put(
        self,
        scope: CacheScope,
        normalized: str,
        embedding: Vectors,
        answer: CachedAnswer,
        askers: frozenset[str] = frozenset(),
    ) -> bool:
        key = entry_key(scope, normalized)
        if await self._store.is_blocked(key):
            return self._refused("blocked")
        versions = frozenset({answer.knowledge_version})
        entry = Entry(key, scope, answer, embedding, versions, size=_size(answer, embedding))
        ttl_s = self._ttl_s(answer)
        if ttl_s < 1:
            return self._refused("no longer true")
        if entry.size > self._settings.max_answer_bytes:
            return self._refused("too large")
        if answer.path not in CURATED_PATHS:
            asked = await self._store.add_askers(key, askers, self._settings.ttl_s) if askers else 0
            if asked < self._settings.min_askers:
                return self._refused("asked too seldom")
        if await self._became_alias(scope, entry):
            return True
        await self._store.write(entry, normalized, ttl_s)
        self._add_to_index(entry)
        self._keep(key, entry)
        self._count("stored")
        await self._make_room()
        return True

    def _refused(self, why: str) -> bool:
        self._count(f"not admitted:{why}")
        return False

    async def _became_alias(self, scope: CacheScope, entry: Entry) -> bool:
        """A near miss of the look-up, judged: stored questions next to this one, now that its own answer is known."""
        if self._index.get(entry.key) is not None:
            return False
        threshold = self._settings.similarity_threshold
        for similarity, stored in self._index.nearest(scope_digest(scope), entry.embedding, CANDIDATES):
            if similarity < threshold:
                break
            if differs_in(read(entry.answer.question), read(stored.question)) is not None:
                continue
            other = await self._store.read(stored.key)
            is_same = None if other is None else _is_same_answer(other.answer, entry.answer)
            if other is None or is_same is None:
                continue
            observation = Observation(closeness(similarity, threshold), is_same)
            await self._note(scope, other, entry.answer.question, observation)
            if is_same:
                await self._store.confirm(other.key, other.answer.id, entry.answer.knowledge_version)
                other = replace(other, versions=other.versions | entry.versions)
                self._keep(entry.key, other)
                await self._store.write_alias(entry.key, other.key, self._ttl_s(other.answer))
                self._count("promoted")
                return True
        return False

    async def _make_room(self) -> None:
        if surplus := self._index.surplus(self._now_s()):
            await self._store.delete(surplus)
            for key in surplus:
                self._forget(key)
            self._count("evicted:least value", len(surplus))

    def _ttl_s(self, answer: CachedAnswer) -> int:
        ttl_s = self._topic_ttl_s(answer)
        return ttl_s if answer.valid_until_s is None else min(ttl_s, int(answer.valid_until_s - self._now_s()))

    def _topic_ttl_s(self, answer: CachedAnswer) -> int:
        return self._settings.topic_ttl_s.get(answer.topic, self._settings.ttl_s)

    # --- what becomes of an answer ---

    async def confirm(self, hit: CacheHit, version: str) -> None:
        if (kept := self._kept.get(hit.key)) is not None:
            kept.hit = replace(kept.hit, versions=kept.hit.versions | {version})
        await self._store.confirm(hit.key, hit.answer.id, version)

    async def discard(self, hit: CacheHit, reason: str) -> None:
        self._forget(hit.key)  # first of all, and also where the store is away
        if await self._store.delete_if(hit.key, hit.answer.id):
            self._count(f"evicted:{reason}")

    async def observe(self, scope: CacheScope, hit: CacheHit, is_same: bool) -> None:
        entry = await self._store.read(hit.key)
        if entry is None or entry.answer.id != hit.answer.id:
            return
        close = (
            hit.similarity if hit.tier != "semantic" else closeness(hit.similarity, self._settings.similarity_threshold)
        )
        await self._note(scope, entry, uuid4().hex, Observation(close, is_same))
        self._count("judged:same" if is_same else "judged:wrong")
        if not is_same:  # its wordings were accepted on the same grounds: what is right among them will be found again
            await self.discard(hit, "judged wrong")

    async def _note(self, scope: CacheScope, entry: Entry, name: str, observation: Observation) -> None:
        topic = topic_of(scope, entry.answer)
        observed = noted(Tally(), observation)
        self._topics[topic] = noted(self._topics.get(topic, Tally()), observation)
        await self._store.observe(entry.key, entry.answer.id, digest(name)[:12], observation)
        await self._store.note_topic(topic, observed)

    async def block(self, scope: CacheScope, question: str) -> bool:
        key = entry_key(scope, normalize(question))
        kept = self._local.get(key)  # knows of an alias before the store does
        entry = await self._store.read(kept.hit.key if kept is not None else key)
        gone = {key, entry.key} if entry is not None else {key}
        await self._store.block(gone, self._settings.block_ttl_s)
        for each in gone:
            self._forget(each)
        await self._store.delete(sorted(gone))
        self._count("evicted:blocked", int(entry is not None))
        return entry is not None

    async def evict(self, scope: CacheScope, answer_id: str) -> bool:
        """Looks at every answer of the scope: an operator's deed, not a customer's."""
        async for entry in self._store.entries(scope_digest(scope)):
            if entry.answer.id == answer_id:
                self._forget(entry.key)
                await self._store.delete([entry.key])
                self._count("evicted:by hand")
                return True
        return False

    # --- one replica at a time ---

    async def lease(self, scope: CacheScope, normalized: str, asker: str) -> str | None:
        key, token = entry_key(scope, normalized), uuid4().hex
        if await self._store.lease(key, token, self._settings.lease_s):
            return token
        await self._store.add_askers(key, [asker], self._settings.ttl_s)  # so that the one who makes it may store it
        return None

    async def release(self, scope: CacheScope, normalized: str, token: str) -> None:
        await self._store.release(entry_key(scope, normalized), token)

    # --- memory, and the other replicas ---

    async def _follow(self, last: bytes) -> None:
        """Own changes come by, too; adding what is there changes nothing."""
        while not self._stopping:
            try:
                changes, last = await self._store.changes_since(last)
                for change in changes:
                    await self._apply(change.is_eviction, change.key)
                await self._tell()
                self._topics = await self._store.topics()
            except RoomUnavailableError as error:
                log.warning("cache_store_away", error=str(error)[:300])
            await asyncio.sleep(FOLLOW_INTERVAL_S)

    async def _apply(self, is_eviction: bool, key: str) -> None:
        entry = None if is_eviction else await self._store.read(key)
        if entry is None:
            self._forget(key)
            return
        if (kept := self._kept.get(key)) is not None:  # another replica may have a newer answer
            kept.hit = _hit(entry, "exact", 1.0)
        self._add_to_index(entry)

    async def _tell(self) -> None:
        """What was counted, to the store."""
        hits, self._hits = self._hits, Counter()
        counts, self._uncounted = self._uncounted, Counter()
        if hits:
            await self._store.add_hits(hits)
        if counts:
            await self._store.add_counts(counts)

    def _add_to_index(self, entry: Entry) -> None:
        answer = entry.answer
        tokens = answer.input_tokens + answer.output_tokens
        indexed = Indexed(entry.key, answer.question, entry.size, tokens, answer.created_at_s, entry.hits)
        self._index.add(scope_of(entry.key), indexed, entry.embedding)

    def _keep(self, key: str, entry: Entry) -> _Kept:
        """In the process, under this wording."""
        kept = self._kept.get(entry.key)
        expires_at_s = entry.answer.created_at_s + self._topic_ttl_s(entry.answer)
        expires_at_s = min(expires_at_s, entry.answer.valid_until_s or expires_at_s)
        if kept is None or kept.hit.answer.id != entry.answer.id or kept.expires_at_s <= self._now_s():
            kept = _Kept(_hit(entry, "exact", 1.0), expires_at_s)
            if self._settings.max_local_entries:
                self._kept[entry.key] = kept
        self._local[key] = kept
        self._local.move_to_end(key)
        while len(self._local) > self._settings.max_local_entries:
            self._local.popitem(last=False)
        return kept

    def _forget(self, key: str) -> None:
        if (kept := self._kept.pop(key, None)) is not None:
            kept.expires_at_s = 0.0
        self._local.pop(key, None)
        self._index.remove(key, scope_of(key))

    def _counted(self, hit: CacheHit) -> CacheHit:
        self._hits[hit.key] += 1
        if (indexed := self._index.get(hit.key)) is not None:
            indexed.hits += 1
        self._count(f"hit:{hit.tier}")
        self._count("tokens saved", hit.answer.input_tokens + hit.answer.output_tokens)
        return hit

    def _count(self, name: str, count: int = 1) -> None:
        self.counts[name] += count
        self._uncounted[name] += count

    def _soon(self, work: Callable[[], Awaitable[None]]) -> None:
        """Off the customer's clock; a failure costs a saving."""
        task = asyncio.create_task(self._without_fail(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _without_fail(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except RoomUnavailableError as error:
            log.warning("cache_store_away", error=str(error)[:300])


def _hit(entry: Entry, tier: CacheTier, similarity: float) -> CacheHit:
    return CacheHit(entry.answer, tier, similarity, entry.key, entry.embedding, entry.versions)


def _is_same_answer(first: CachedAnswer, second: CachedAnswer) -> bool | None:
    """Whether both say the same; None where it cannot be told: a model says the same in many words."""
    if first.text == second.text:
        return True
    rest_on, other = set(first.evidence.chunks), set(second.evidence.chunks)
    if rest_on == other:
        return True
    return None if rest_on & other else False


def _size(answer: CachedAnswer, embedding: Vectors) -> int:
    return (
        len(answer.text.encode())
        + len(answer.question.encode())
        + sum(len(c.quote) for c in answer.citations)
        + int(embedding.nbytes)
    )
