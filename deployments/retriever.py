"""The room that finds knowledge: dense and lexical search over the published version, fused. Knows no Ray."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import structlog

from deployments.answering.errors import RoomUnavailableError, UnknownCollectionError
from deployments.answering.evidence import still_stands
from deployments.answering.fusion import POOL, fuse
from deployments.answering.types import Evidence, Language, Principal, RetrievedChunk, Standing
from deployments.encoder import encoder_config, reranker_config
from deployments.reranking import Reranking
from deployments.settings import EncoderSettings, KnowledgeSettings, RerankerSettings
from ingestion.chunk import Found, ScoredChunk
from ingestion.difference import VersionChange
from ingestion.errors import StoreError
from ingestion.store import WHOLE, KnowledgeStore, Shard
from ingestion.version import KnowledgeVersion
from models.protocols import RerankerRecipe, Vectors

log = structlog.get_logger(__name__)
P = ParamSpec("P")
R = TypeVar("R")
_Key = tuple[str, str]  # tenant, collection

RETRY_S = 30.0  # a version that could not be read is tried again after this pause
KEEP_OTHER_S = 60.0  # since it was last asked for: a version that shards beside this one still have, or have already
SIDE_BY_SIDE = 100_000  # chunks: of fewer, a search takes less than it does to wake another thread and wait for it
_KEPT_CHANGES = 16  # of the knowledge, between two versions: for the answers that were made under the first
PAIRS = 3  # curated pairs looked at: the best, and its rivals


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the searches found, each best first, before it is fused."""

    version: str
    dense: tuple[Found, ...]
    lexical: tuple[Found, ...]
    pairs: tuple[Found, ...]

    def speaks(self, language: Language) -> bool:
        """Whether there is knowledge in the language; what is in none ("und") is found beside that of every one."""
        return any(found.language == language for found in (*self.dense, *self.lexical))

    def whole(self) -> Candidates:
        """With all chunks in it, to leave the process."""
        return Candidates(self.version, *map(_whole, (self.dense, self.lexical, self.pairs)))


class Retriever:
    """Answers every search from one version as a whole. A new one is loaded beside the old and takes its place then."""

    def __init__(
        self,
        settings: KnowledgeSettings,
        encoder: EncoderSettings,
        shard: Shard = WHOLE,
        reranker: RerankerSettings | None = None,
        first: tuple[str, str] | None = None,
        *,
        embedder_identity: str | None = None,
        reranker_recipe: RerankerRecipe | None = None,
        today: Callable[[], date] = lambda: datetime.now(UTC).date(),
        threads: int = 2,
    ) -> None:
        """shard: which part of every collection is held here, beside others that hold the rest.

        first: tenant and collection that Serve opens in every replica before it gives it work.
        """
        self._first = first
        self._is_warm = first is None
        self._shard = shard
        self._store = KnowledgeStore(settings.root, Path(settings.copies), device=settings.index_device)
        self._poll_interval_s = settings.poll_interval_s
        self._embedder_identity = embedder_identity or encoder_config(encoder).identity()
        self._today = today
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="retriever")
        self._words = ThreadPoolExecutor(threads, thread_name_prefix="retriever-words")
        reranker = reranker or RerankerSettings()
        recipe = reranker_recipe or reranker_config(reranker)
        self._reranking = Reranking(reranker, recipe, self._executor) if recipe else None
        self._open: dict[_Key, KnowledgeVersion] = {}
        self._other: dict[_Key, tuple[KnowledgeVersion, float]] = {}  # → beside the one at work, last used (monotonic)
        self._refused: dict[_Key, tuple[str, float]] = {}  # → what cannot be read, when it was tried (monotonic)
        self._change = lru_cache(maxsize=_KEPT_CHANGES)(self._read_change)
        self._loading = threading.Lock()
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="knowledge-watcher", daemon=True)
        self._watcher.start()

    async def warm_up(self, tenant: str, collection: str) -> None:
        """Loads a collection before the first customer asks; one that is not there yet is no fault."""
        if self._reranking is not None:
            await self._call(self._reranking.wait)
        try:
            await self._call(self._version_of, tenant, collection)
        except UnknownCollectionError:
            log.warning("no_such_collection_yet", tenant=tenant, collection=collection)

    async def check_health(self) -> None:
        """Serve asks each replica, before it gives it work and ever again: so a new one is warm, too.

        A replica that cannot read the knowledge is healthy: another one in its place could not, either.
        """
        if self._is_warm or self._first is None:
            return
        try:
            await self.warm_up(*self._first)
        except RoomUnavailableError as error:
            log.warning("retriever_not_warm", error=str(error)[:300])
        self._is_warm = True

    async def ping(self) -> None:
        """Answers when this room is up."""

    async def stop(self) -> None:
        """Ends the watch for new versions."""
        self._stop.set()
        await asyncio.to_thread(self._watcher.join)
        self._executor.shutdown(wait=False)
        self._words.shutdown(wait=False)

    async def version(self, principal: Principal, collection: str) -> str:
        held = self._open.get((principal.tenant, collection))
        return held.id if held else (await self._call(self._version_of, principal.tenant, collection)).id

    async def search(
        self,
        principal: Principal,
        collection: str,
        text: str,
        language: Language,
        embedding: Vectors | None,
        top_k: int,
    ) -> Evidence:
        return await self._call(self._search, principal, collection, text, language, embedding, top_k)

    async def candidates(
        self,
        principal: Principal,
        collection: str,
        text: str,
        language: Language | None,
        embedding: Vectors | None,
        version: str | None = None,
    ) -> Candidates:
        """What this shard finds. version: the one to look in, while the shards beside it are not all at the same.

        Raises `RoomUnavailableError` when that version cannot be read.
        """
        found = await self._call(self._candidates, principal, collection, text, language, embedding, version)
        return await self._call(found.whole)

    async def still_stands(self, principal: Principal, collection: str, standing: Standing) -> str | None:
        return await self._call(self._still_stands, principal, collection, standing)

    async def _call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: function(*args, **kwargs))

    # --- which version ---

    def _version_of(self, tenant: str, collection: str) -> KnowledgeVersion:
        """The one in memory; the first who asks for a collection waits until it is there."""
        key = (tenant, collection)
        if (held := self._open.get(key)) is not None:
            return held
        with self._loading:
            if (held := self._open.get(key)) is not None:
                return held
            try:
                published = self._store.current_version(tenant, collection)
                if published is None:
                    raise UnknownCollectionError(f"there is no published knowledge collection '{collection}'")
                version = self._load(key, published)
            except StoreError as error:
                raise RoomUnavailableError(f"the knowledge '{collection}' cannot be read: {error}") from error
            self._open[key] = version
            return version

    def _other_version(self, key: _Key, version_id: str) -> KnowledgeVersion:
        """The one that the shards beside this one are at: before a swap, after a roll-back, or past a damaged version.

        Read from the store where it is not in memory: this replica may have begun in the middle of the swap.
        """
        with self._loading:
            version, _ = self._other.get(key, (None, 0.0))
            if version is None or version.id != version_id:
                try:
                    version = self._load(key, version_id.partition("-")[0])
                except StoreError as error:
                    raise RoomUnavailableError(f"'{key[1]}' cannot be read as {version_id}: {error}") from error
            if version.id != version_id:
                raise RoomUnavailableError(f"'{key[1]}' has another {version.name} now than {version_id}")
            self._other[key] = (version, time.monotonic())
            return version

    def _let_go(self, key: _Key) -> None:
        with self._loading:
            if key in self._other and time.monotonic() - self._other[key][1] > KEEP_OTHER_S:
                del self._other[key]

    def _watch(self) -> None:
        while not self._stop.wait(self._poll_interval_s):
            for key in list(self._open):
                self._let_go(key)
                try:
                    self._follow(key, self._store.current_version(*key))
                except (StoreError, OSError) as error:  # the pointer is damaged, or the store is away for a while
                    self._refuse(key, "CURRENT", error)

    def _follow(self, key: _Key, published: str | None) -> None:
        """Takes the published version in; one that cannot be read leaves the one before it at work."""
        if published is None:
            log.warning("knowledge_gone", tenant=key[0], collection=key[1])
            del self._open[key]
        elif published != self._open[key].name and not self._was_refused(key, published):
            try:
                version = self._load(key, published)
                if self._shard.count > 1:
                    self._other[key] = (self._open[key], time.monotonic())
                self._open[key] = version
                self._refused.pop(key, None)
            except StoreError as error:
                self._refuse(key, published, error)

    def _refuse(self, key: _Key, what: str, error: Exception) -> None:
        if not self._was_refused(key, what):
            held = self._open[key].id
            log.error("knowledge_refused", tenant=key[0], collection=key[1], kept=held, refused=what, error=str(error))
            self._refused[key] = (what, time.monotonic())

    def _was_refused(self, key: _Key, what: str) -> bool:
        refused, at = self._refused.get(key, ("", 0.0))
        return refused == what and time.monotonic() - at < RETRY_S

    def _load(self, key: _Key, published: str) -> KnowledgeVersion:
        held = self._open.get(key)
        version = self._store.open(*key, published, held.segments if held else None, self._shard)
        if version.embedder_identity != self._embedder_identity:
            raise StoreError(
                f"version {published} was embedded with {version.embedder_identity}, the service runs "
                f"{self._embedder_identity}: ingest it again with the service's encoder"
            )
        log.info("knowledge_loaded", tenant=key[0], collection=key[1], version=published, chunks=version.chunk_count)
        return version

    # --- answers that were made before ---

    def _still_stands(self, principal: Principal, collection: str, standing: Standing) -> str | None:
        version = self._version_of(principal.tenant, collection)
        if version.id == standing.knowledge_version:
            return version.id
        try:
            change = self._change(principal.tenant, collection, standing.knowledge_version, version.id)
        except StoreError as error:  # most likely the version is not kept any more
            log.info("change_unknown", collection=collection, since=standing.knowledge_version, error=str(error)[:200])
            return None
        return version.id if still_stands(standing, change, principal, self._today()) else None

    def _read_change(self, tenant: str, collection: str, old: str, new: str) -> VersionChange:
        return self._store.change(tenant, collection, old, new)

    # --- search ---

    def _search(
        self,
        principal: Principal,
        collection: str,
        text: str,
        language: Language,
        embedding: Vectors | None,
        top_k: int,
    ) -> Evidence:
        found = self._candidates(principal, collection, text, language, embedding)
        if not found.speaks(language):
            found = self._candidates(principal, collection, text, None, embedding)
        if self._reranking is None:
            return fused(found, top_k)
        evidence = self._reranking.reranked(fused(found, max(top_k, self._reranking.candidates)), text)
        return replace(evidence, chunks=evidence.chunks[:top_k])

    def _candidates(
        self,
        principal: Principal,
        collection: str,
        text: str,
        language: Language | None,
        embedding: Vectors | None,
        version_id: str | None = None,
    ) -> Candidates:
        version = self._version_of(principal.tenant, collection)
        if version_id is not None and version_id != version.id:
            version = self._other_version((principal.tenant, collection), version_id)
        seen_by = (principal.audiences, self._today(), language)
        by_words = partial(version.search_lexical, text, POOL, *seen_by)
        is_long = embedding is not None and version.chunk_count >= SIDE_BY_SIDE
        beside = self._words.submit(by_words) if is_long else None
        dense = [] if embedding is None else version.search_dense(embedding, POOL, *seen_by)
        pairs = [] if embedding is None else version.search_questions(embedding, PAIRS, *seen_by)
        lexical = by_words() if beside is None else beside.result()
        return Candidates(version.id, tuple(dense), tuple(lexical), tuple(pairs))


def _whole(hits: Iterable[Found]) -> tuple[ScoredChunk, ...]:
    return tuple(ScoredChunk(hit.chunk, hit.score) for hit in hits)


def fused(found: Candidates, top_k: int) -> Evidence:
    """The best chunks of both searches, and the curated pairs whose questions are nearest."""
    return Evidence(
        found.version,
        tuple(fuse(found.dense, found.lexical, top_k)),
        tuple(RetrievedChunk(pair.chunk, pair.score, similarity=pair.score) for pair in found.pairs),
    )
