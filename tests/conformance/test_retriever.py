"""The shipped fake and the real retriever. Its remote end passes the same suite in tests/e2e/rooms_suite.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deployments.answering.protocols import Retriever
from deployments.fakes import InMemoryRetriever
from deployments.retriever import Retriever as StoredRetriever
from deployments.settings import EncoderSettings, KnowledgeSettings
from tests.conformance.retriever_suite import CHUNKS, EMBEDDER, TENANT, RetrieverSuite, publish

pytestmark = pytest.mark.conformance


class TestRetriever(RetrieverSuite):
    @pytest.fixture(params=["fake", "real"])
    async def retriever(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Retriever]:
        if request.param == "fake":
            yield InMemoryRetriever(EMBEDDER, CHUNKS, tenant=TENANT, version="v000001")
            return
        publish(tmp_path, EMBEDDER.identity)
        settings = KnowledgeSettings(root=str(tmp_path))
        real = StoredRetriever(settings, EncoderSettings(), embedder_identity=EMBEDDER.identity)
        yield real
        await real.stop()
