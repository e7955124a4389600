"""A second order of the best chunks, by a model that reads them together with the question. Knows no Ray."""

from __future__ import annotations

import time
from concurrent.futures import Executor, Future
from dataclasses import replace

import structlog

from deployments.answering.types import Evidence
from deployments.settings import RerankerSettings
from ingestion.embedding import embedding_text
from models.protocols import Reranker, RerankerRecipe

log = structlog.get_logger(__name__)


class Reranking:
    """Loads the reranker beside the searches; until it is there, and where time is short, their order stays."""

    def __init__(self, settings: RerankerSettings, recipe: RerankerRecipe, executor: Executor) -> None:
        self._timeout_s = settings.timeout_s
        self.candidates = settings.candidates
        self._loading: Future[Reranker] = executor.submit(recipe.load)

    def wait(self) -> None:
        """Until it is loaded. Raises `ModelLoadError`."""
        self._loading.result()

    def reranked(self, evidence: Evidence, question: str) -> Evidence:
        """The same chunks, best first; their scores are then the reranker's."""
        chunks = evidence.chunks
        texts = [embedding_text(found.chunk) for found in chunks]
        scores = None
        if self._loading.done():
            scores = self._loading.result().scores(question, texts, time.monotonic() + self._timeout_s)
        if scores is None:
            log.info("rerank_skipped", chunks=len(chunks), loaded=self._loading.done())
            return evidence
        order = sorted(range(len(chunks)), key=lambda place: (-scores[place], place))
        return replace(evidence, chunks=tuple(replace(chunks[place], score=scores[place]) for place in order))
