"""How many cached answers a planned publication would make stale, for `raydesk ingest plan`.

What is counted rests on a chunk that goes or changes, or an added one would now rank among its evidence: the same test
that a stored answer passes when it is next asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from cluster.cache import store_url
from cluster.instance import Instance
from deployments.answering.errors import RoomUnavailableError
from deployments.answering.evidence import still_stands
from deployments.answering.types import Principal, Standing
from deployments.cache_store import CacheStore, Entry
from deployments.settings import load_settings
from ingestion.chunk import Chunk
from ingestion.difference import VersionChange
from ingestion.embedding import embed_texts, embedding_text, load, question_text
from ingestion.report import Plan
from models.protocols import EmbedderRecipe

MOST_EMBEDDED = 1000  # new chunks: some ten seconds on a core; a plan is to be quick


class StaleAnswers:
    """The cache of the application that runs in this folder, or that the settings name."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def count(self, plan: Plan, encoder: EmbedderRecipe, store: str | None) -> str:
        """As the plan's table shows it. store: its URL, as the settings have it, if they do.

        Raises `IngestionError` where the encoder cannot be loaded.
        """
        try:
            url = self._url_here() or store
            if url is None:
                return "not known: no application runs in this folder, and the settings name no store"
            entries = asyncio.run(_entries(url, plan.tenant, plan.collection))
        except RoomUnavailableError as error:
            return f"not known: {error}"
        if not entries or plan.rebuilds:
            return f"all {len(entries)}" if entries else "none: no answer is stored"
        embedded = plan.came[:MOST_EMBEDDED]
        gone = stale(entries, _change(plan, embedded, encoder))
        least = "" if len(embedded) == len(plan.came) else "at least "
        return f"{least}{len(gone)} of {len(entries)}"

    def _url_here(self) -> str | None:
        instance = Instance(self._state)
        running = instance.read()
        return None if running is None else store_url(instance, load_settings(Path(running.settings_file)))


def stale(entries: Sequence[Entry], change: VersionChange) -> list[Entry]:
    """Those that would not stand after this change of the published version."""
    today = datetime.now(UTC).date()
    return [entry for entry in entries if not still_stands(_standing(entry), change, _asker(entry), today)]


def _standing(entry: Entry) -> Standing:
    answer = entry.answer
    return Standing(answer.knowledge_version, answer.question, entry.scope.language, entry.embedding, answer.evidence)


def _asker(entry: Entry) -> Principal:
    return Principal(entry.scope.tenant, entry.scope.audiences, "")


def _change(plan: Plan, embedded: Sequence[Chunk], encoder: EmbedderRecipe) -> VersionChange:
    if not embedded:
        nothing = np.empty((0, 0), dtype=np.float32)
        return VersionChange(plan.gone, (), nothing, nothing)
    texts, questions = [embedding_text(chunk) for chunk in embedded], [question_text(chunk) for chunk in embedded]
    vectors, question_vectors = embed_texts(load(encoder), texts, questions)
    return VersionChange(plan.gone, tuple(embedded), vectors, question_vectors)


async def _entries(url: str, tenant: str, collection: str) -> list[Entry]:
    store = CacheStore(url)
    try:
        return [
            entry
            async for entry in store.entries()
            if (entry.scope.tenant, entry.scope.collection) == (tenant, collection)
        ]
    finally:
        await store.close()
