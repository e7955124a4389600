"""The retriever over a real store, alone: what it does beyond what every retriever must (the conformance suite)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from deployments.answering.errors import RoomUnavailableError
from deployments.answering.types import Language, Principal
from deployments.retriever import Retriever
from deployments.settings import AppSettings, EncoderSettings, KnowledgeSettings
from deployments.sharded_retriever import ShardedRetriever
from ingestion.chunk import Chunk
from ingestion.store import Changes, KnowledgeStore, Shard
from models.fakes import HashEmbedder, WordReranker
from models.protocols import Reranker

pytestmark = pytest.mark.unit

EMBEDDER = HashEmbedder(512)
ANYONE = Principal("demo", frozenset({"public"}), "k")
RETURNS = Chunk("returns", "d1", 0, "passage", "Returns are free within 30 days.", "Returns", "en", "public", "a.md")
COPY = replace(RETURNS, id="copy", document_id="d2", text="**Returns** are free within 30 days!", source="b.md")
NUMBERS = replace(RETURNS, id="numbers", document_id="d3", text="4711 0815", title="", language="und")
CHINESE = replace(RETURNS, id="zh", document_id="d4", text="七天内可以退货。", title="退货", language="zh")


@pytest.fixture
async def retriever(tmp_path: Path) -> AsyncIterator[Retriever]:
    room = Retriever(KnowledgeSettings(root=str(tmp_path)), EncoderSettings(), embedder_identity=EMBEDDER.identity)
    yield room
    await room.stop()


def publish(root: Path, *chunks: Chunk, parts: int = 1) -> None:
    vectors = EMBEDDER.embed_passages([chunk.text for chunk in chunks])
    KnowledgeStore(root, parts=parts).publish("demo", "help", Changes(EMBEDDER.identity, chunks, vectors, vectors[:0]))


async def ids(retriever: Retriever | ShardedRetriever, text: str, language: Language) -> list[str]:
    evidence = await retriever.search(ANYONE, "help", text, language, EMBEDDER.embed_queries([text])[0], 5)
    return [found.chunk.id for found in evidence.chunks]


@dataclass(frozen=True)
class Recipe:
    reranker: Reranker

    def load(self) -> Reranker:
        return self.reranker


class Contrary:
    """Finds the last best."""

    def scores(self, question: str, passages: Sequence[str], until_s: float) -> list[float]:
        return [float(place) for place in range(len(passages))]


@pytest.mark.parametrize(
    ("reranker", "first"), [(WordReranker(), "returns"), (Contrary(), "numbers"), (WordReranker(60.0), "returns")]
)
async def test_a_reranker_decides_where_there_is_time(tmp_path: Path, reranker: Reranker, first: str) -> None:
    publish(tmp_path, RETURNS, NUMBERS)
    room = Retriever(
        KnowledgeSettings(root=str(tmp_path)),
        EncoderSettings(),
        embedder_identity=EMBEDDER.identity,
        reranker_recipe=Recipe(reranker),
    )
    try:
        await room.warm_up("demo", "help")
        vector = EMBEDDER.embed_queries(["returns are free"])[0]
        evidence = await room.search(ANYONE, "help", "returns are free", "en", vector, 1)
        assert [found.chunk.id for found in evidence.chunks] == [first]
    finally:
        await room.stop()


def test_a_reranker_needs_all_candidates_in_one_place() -> None:
    reranked = {"reranker": {"model": "some/cross-encoder"}}
    AppSettings.model_validate({"knowledge": {"parts": 2}, "retriever": reranked})  # one retriever holds both
    with pytest.raises(ValueError, match=r"reranker\.model"):
        AppSettings.model_validate({"knowledge": {"parts": 2}, "retriever": {**reranked, "placement": "deployment"}})


async def test_copies_are_one_result(retriever: Retriever, tmp_path: Path) -> None:
    publish(tmp_path, RETURNS, COPY, NUMBERS)
    first, *others = await ids(retriever, "returns within 30 days", "en")
    assert first in ("returns", "copy")
    assert others == ["numbers"]


async def test_searches_side_by_side_find_the_same(
    retriever: Retriever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, RETURNS, NUMBERS, CHINESE)
    one_after_another = await ids(retriever, "returns 4711", "en")
    monkeypatch.setattr("deployments.retriever.SIDE_BY_SIDE", 0)
    assert await ids(retriever, "returns 4711", "en") == one_after_another != []


async def test_a_replica_is_warm_before_it_gets_work(tmp_path: Path) -> None:
    room = Retriever(
        KnowledgeSettings(root=str(tmp_path)), EncoderSettings(), first=("demo", "help"),
        embedder_identity=EMBEDDER.identity,
    )  # fmt: skip
    publish(tmp_path, RETURNS)
    await room.check_health()
    (tmp_path / "demo" / "help" / "CURRENT").unlink()  # whoever opens it now comes too late
    assert await ids(room, "returns", "en") == ["returns"]
    await room.stop()


async def test_a_replica_without_readable_knowledge_is_healthy(tmp_path: Path) -> None:
    room = Retriever(
        KnowledgeSettings(root=str(tmp_path)), EncoderSettings(), first=("demo", "help"), embedder_identity="another"
    )
    publish(tmp_path, RETURNS)
    await room.check_health()
    await room.stop()


async def test_where_nothing_is_in_the_language_of_the_question_everything_is_searched(
    retriever: Retriever, tmp_path: Path
) -> None:
    publish(tmp_path, RETURNS, NUMBERS)  # a table of numbers alone is no knowledge in Chinese
    assert set(await ids(retriever, "Returns 退货", "zh")) == {"returns", "numbers"}


async def test_where_something_is_nothing_else_is_searched(retriever: Retriever, tmp_path: Path) -> None:
    publish(tmp_path, RETURNS, NUMBERS, CHINESE)
    assert set(await ids(retriever, "Returns 退货", "zh")) == {"zh", "numbers"}


def shard_of_two(root: Path, index: int) -> Retriever:
    """One that follows no swap."""
    settings = KnowledgeSettings(root=str(root), parts=2, poll_interval_s=3600)
    return Retriever(settings, EncoderSettings(), Shard(index, 2), embedder_identity=EMBEDDER.identity)


@pytest.mark.parametrize("is_rolled_back", [False, True])
async def test_a_shard_that_begins_in_the_middle_of_a_swap_answers_from_the_version_of_the_others(
    tmp_path: Path, is_rolled_back: bool
) -> None:
    """Which is the older one, and where it is rolled back to, that of the new shard."""
    others = [replace(NUMBERS, id=f"n{number}", document_id=f"n{number}") for number in range(20)]
    publish(tmp_path, RETURNS, *others, parts=2)
    if is_rolled_back:
        publish(tmp_path, CHINESE, parts=2)
    first = shard_of_two(tmp_path, 0)
    await first.warm_up("demo", "help")
    if is_rolled_back:
        KnowledgeStore(tmp_path, parts=2).rollback("demo", "help", "v000001")
    else:
        publish(tmp_path, CHINESE, parts=2)
    second = shard_of_two(tmp_path, 1)
    await second.warm_up("demo", "help")
    names = [(await shard.version(ANYONE, "help"))[:7] for shard in (first, second)]
    assert sorted(names) == ["v000001", "v000002"]
    both = ShardedRetriever([first, second])
    evidence = await both.search(ANYONE, "help", "returns 4711", "en", None, 30)
    assert evidence.version.startswith("v000001")
    assert {found.chunk.id for found in evidence.chunks} >= {"returns"}
    for shard in (first, second):
        await shard.stop()


async def test_a_version_that_was_made_anew_is_no_version_of_the_others(tmp_path: Path) -> None:
    publish(tmp_path, RETURNS, parts=2)
    shard = shard_of_two(tmp_path, 0)
    with pytest.raises(RoomUnavailableError, match="has another v000001"):
        await shard.candidates(ANYONE, "help", "returns", "en", None, "v000001-00000000")
    with pytest.raises(RoomUnavailableError, match="v000009"):
        await shard.candidates(ANYONE, "help", "returns", "en", None, "v000009-00000000")
    await shard.stop()
