"""The shipped fake, the real retriever, and one made of shards. The remote end: see tests/e2e/rooms_suite.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deployments.answering.protocols import Retriever
from deployments.fakes import InMemoryRetriever
from deployments.retriever import Retriever as StoredRetriever
from deployments.settings import EncoderSettings, KnowledgeSettings
from deployments.sharded_retriever import ShardedRetriever
from ingestion.store import Shard
from tests.conformance.retriever_suite import CHUNKS, EMBEDDER, TENANT, RetrieverSuite, publish

pytestmark = pytest.mark.conformance


class TestRetriever(RetrieverSuite):
    @pytest.fixture(params=["fake", "real", "sharded"])
    async def retriever(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Retriever]:
        if request.param == "fake":
            yield InMemoryRetriever(EMBEDDER, CHUNKS, tenant=TENANT, version="v000001")
            return
        parts = 3 if request.param == "sharded" else 1
        publish(tmp_path, EMBEDDER.identity, parts)
        settings = KnowledgeSettings(root=str(tmp_path), parts=parts)
        shards = [
            StoredRetriever(settings, EncoderSettings(), Shard(part, parts), embedder_identity=EMBEDDER.identity)
            for part in range(parts)
        ]
        yield ShardedRetriever(shards) if request.param == "sharded" else shards[0]
        for shard in shards:
            await shard.stop()
