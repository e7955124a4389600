"""One retriever made of several that each hold a part of the knowledge: asks all, and merges what they find."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from heapq import nlargest
from typing import Protocol

from deployments.answering.fusion import POOL
from deployments.answering.types import Evidence, Language, Principal, Standing
from deployments.retriever import PAIRS, Candidates, fused
from ingestion.chunk import Found
from models.protocols import Vectors


class Shard(Protocol):
    async def ping(self) -> None: ...

    async def warm_up(self, tenant: str, collection: str) -> None: ...

    async def version(self, principal: Principal, collection: str) -> str: ...

    async def still_stands(self, principal: Principal, collection: str, standing: Standing) -> str | None: ...

    async def candidates(
        self,
        principal: Principal,
        collection: str,
        text: str,
        language: Language | None,
        embedding: Vectors | None,
        version: str | None = None,
    ) -> Candidates: ...


class ShardedRetriever:
    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards

    async def ping(self) -> None:
        """Answers when every shard is up."""
        await asyncio.gather(*(shard.ping() for shard in self._shards))

    async def warm_up(self, tenant: str, collection: str) -> None:
        await asyncio.gather(*(shard.warm_up(tenant, collection) for shard in self._shards))

    async def version(self, principal: Principal, collection: str) -> str:
        return await self._shards[0].version(principal, collection)

    async def still_stands(self, principal: Principal, collection: str, standing: Standing) -> str | None:
        """Any of them can tell: what changed is read from the store."""
        return await self._shards[0].still_stands(principal, collection, standing)

    async def search(
        self,
        principal: Principal,
        collection: str,
        text: str,
        language: Language,
        embedding: Vectors | None,
        top_k: int,
    ) -> Evidence:
        """Waits for every shard: an answer from a part of the knowledge would be a wrong one."""
        found = await self._candidates(principal, collection, text, language, embedding)
        if not found.speaks(language):
            found = await self._candidates(principal, collection, text, None, embedding)
        return fused(found, top_k)

    async def _candidates(
        self, principal: Principal, collection: str, text: str, language: Language | None, embedding: Vectors | None
    ) -> Candidates:
        """Of one version: shards that have swapped already look into the one before, for this question."""

        async def ask(shard: Shard, version: str | None = None) -> Candidates:
            return await shard.candidates(principal, collection, text, language, embedding, version)

        found = await asyncio.gather(*(ask(shard) for shard in self._shards))
        if len({of_shard.version for of_shard in found}) > 1:
            oldest = min(of_shard.version for of_shard in found)
            found = await asyncio.gather(*(ask(shard, oldest) for shard in self._shards))
        return Candidates(
            found[0].version,
            _best(POOL, (of_shard.dense for of_shard in found)),
            _best(POOL, (of_shard.lexical for of_shard in found)),
            _best(PAIRS, (of_shard.pairs for of_shard in found)),
        )


def _best(count: int, found: Iterable[Sequence[Found]]) -> tuple[Found, ...]:
    """Scores compare: documents are spread over the shards at random, so that words are as rare in each."""
    return tuple(nlargest(count, (hit for of_shard in found for hit in of_shard), key=lambda hit: hit.score))
