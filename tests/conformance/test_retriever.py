"""One suite over the shipped fake and the real retriever, on the same chunks and the fake embedder."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.answering.errors import UnknownCollectionError
from deployments.answering.protocols import Retriever
from deployments.answering.types import Evidence, Language, Principal
from deployments.fakes import InMemoryRetriever
from deployments.retriever import Retriever as StoredRetriever
from deployments.settings import EncoderSettings, KnowledgeSettings
from ingestion.chunk import Chunk
from ingestion.store import Changes, KnowledgeStore
from models.fakes import HashEmbedder

pytestmark = pytest.mark.conformance

EMBEDDER = HashEmbedder(512)
PUBLIC = Principal("demo", frozenset({"public"}), "k")
STAFF = Principal("demo", frozenset({"public", "staff"}), "k")


def chunk(name: str, text: str, *, question: str = "", language: str = "en", audience: str = "public") -> Chunk:
    kind = "qa" if question else "passage"
    whole = f"{question}\n{text}" if question else text
    answer = text if question else ""
    return Chunk(name, name, 0, kind, whole, name, language, audience, "a.md", question=question, answer=answer)  # type: ignore[arg-type]


CHUNKS = [
    chunk("refund", "Five working days.", question="How long does a refund take?"),
    chunk("express", "It costs 12.90 euros.", question="What does express delivery cost?"),
    chunk("descale", "Descale the espresso machine every 200 cups with citric acid."),
    chunk("margin", "The goodwill margin of an agent is 25 euros.", audience="staff"),
    chunk("tuikuan", "三个工作日到账。", question="退款多久到账？", language="zh"),
]


@pytest.fixture(params=["fake", "real"])
def retriever(request: pytest.FixtureRequest, tmp_path: Path) -> Retriever:
    if request.param == "fake":
        return InMemoryRetriever(EMBEDDER, CHUNKS, version="v000001")
    questions = EMBEDDER.embed_queries([one.question for one in CHUNKS if one.question])
    vectors = EMBEDDER.embed_passages([one.text for one in CHUNKS])
    KnowledgeStore(tmp_path).publish("demo", "help", Changes(EMBEDDER.identity, CHUNKS, vectors, questions))
    settings = KnowledgeSettings(root=str(tmp_path))
    return StoredRetriever(settings, EncoderSettings(), embedder_identity=EMBEDDER.identity)


async def search(
    retriever: Retriever, text: str, principal: Principal = PUBLIC, language: Language = "en", top_k: int = 3
) -> Evidence:
    return await retriever.search(principal, "help", text, language, EMBEDDER.embed_queries([text])[0], top_k)


def ids(evidence: Evidence) -> list[str]:
    return [found.chunk.id for found in evidence.chunks]


async def test_the_best_chunk_comes_first_from_the_version_that_was_named(retriever: Retriever) -> None:
    assert await retriever.version(PUBLIC, "help") == "v000001"
    evidence = await search(retriever, "how to descale the espresso machine")
    assert evidence.version == "v000001"
    assert ids(evidence)[0] == "descale"
    assert len(ids(await search(retriever, "how to descale the espresso machine", top_k=1))) == 1


async def test_a_curated_pair_is_found_by_its_question(retriever: Retriever) -> None:
    evidence = await search(retriever, "how long does a refund take?")
    best = evidence.pairs[0]
    assert (best.chunk.id, best.chunk.answer) == ("refund", "Five working days.")
    assert best.similarity == pytest.approx(1.0, abs=1e-5)


async def test_other_audiences_knowledge_does_not_exist(retriever: Retriever) -> None:
    question = "goodwill margin of an agent"
    assert "margin" not in ids(await search(retriever, question, top_k=10))
    assert ids(await search(retriever, question, STAFF))[0] == "margin"


async def test_knowledge_in_the_language_of_the_question_comes_first(retriever: Retriever) -> None:
    assert ids(await search(retriever, "退款多久到账", language="zh", top_k=10)) == ["tuikuan"]
    assert "tuikuan" not in ids(await search(retriever, "refund", top_k=10))


async def test_without_an_embedding_words_are_searched_for(retriever: Retriever) -> None:
    evidence = await retriever.search(PUBLIC, "help", "citric acid", "en", None, 3)
    assert ids(evidence)[0] == "descale"


async def test_an_unknown_collection_is_an_error_of_the_caller(retriever: Retriever) -> None:
    with pytest.raises(UnknownCollectionError):
        await retriever.version(PUBLIC, "nobody-has-this")
    with pytest.raises(UnknownCollectionError):
        await retriever.search(PUBLIC, "nobody-has-this", "text", "en", None, 3)
