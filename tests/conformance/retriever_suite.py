"""What every retriever must do. A new one subclasses `RetrieverSuite` and brings the fixture `retriever`.

It holds `CHUNKS` as version v000001 of the collection "help" of `TENANT`. A retriever embeds nothing, it is given
vectors: those of the fake embedder serve all of them.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from deployments.answering.errors import UnknownCollectionError
from deployments.answering.evidence import bound_of_pair
from deployments.answering.protocols import Retriever
from deployments.answering.types import Evidence, Language, Principal, Standing
from ingestion.chunk import Chunk
from ingestion.store import Changes, KnowledgeStore
from models.fakes import HashEmbedder

EMBEDDER = HashEmbedder(512)
TENANT = "conformance"
PUBLIC = Principal(TENANT, frozenset({"public"}), "k")
STAFF = Principal(TENANT, frozenset({"public", "staff"}), "k")


def chunk(name: str, text: str, *, question: str = "", language: str = "en", audience: str = "public") -> Chunk:
    return Chunk(
        id=name,
        document_id=f"document-{name}",
        position=2,
        kind="qa" if question else "passage",
        text=f"{question}\n{text}" if question else text,
        title=f"About {name}",
        language=language,
        audience=audience,
        source="a.md",
        url=f"https://help.example/{name}",
        heading_path=("Care", "每天"),
        question=question,
        answer=text if question else "",
        is_curated=bool(question),
        page=3,
        valid_from=date(2024, 2, 29),
    )


CHUNKS = [
    chunk("refund", "Five working days.", question="How long does a refund take?"),
    chunk("express", "It costs 12.90 euros.", question="What does express delivery cost?"),
    chunk("descale", "Descale the espresso machine every 200 cups with citric acid."),
    chunk("margin", "The goodwill margin of an agent is 25 euros.", audience="staff"),
    chunk("tuikuan", "三个工作日到账。", question="退款多久到账？", language="zh"),
]


def publish(root: Path, embedder_identity: str, parts: int = 1) -> None:
    vectors = EMBEDDER.embed_passages([one.text for one in CHUNKS])
    question_vectors = EMBEDDER.embed_queries([one.question for one in CHUNKS if one.question])
    KnowledgeStore(root, parts=parts).publish(
        TENANT, "help", Changes(embedder_identity, CHUNKS, vectors, question_vectors)
    )


async def search(
    retriever: Retriever, text: str, principal: Principal = PUBLIC, language: Language = "en", top_k: int = 3
) -> Evidence:
    return await retriever.search(principal, "help", text, language, EMBEDDER.embed_queries([text])[0], top_k)


def ids(evidence: Evidence) -> list[str]:
    return [found.chunk.id for found in evidence.chunks]


class RetrieverSuite:
    async def test_the_best_chunk_comes_first_from_the_version_that_was_named(self, retriever: Retriever) -> None:
        version = await retriever.version(PUBLIC, "help")
        assert version.startswith("v000001")
        evidence = await search(retriever, "how to descale the espresso machine")
        assert evidence.version == version
        assert ids(evidence)[0] == "descale"
        assert len(ids(await search(retriever, "how to descale the espresso machine", top_k=1))) == 1

    async def test_chunks_come_whole(self, retriever: Retriever) -> None:
        evidence = await search(retriever, "espresso machine", top_k=10)
        held = {one.id: one for one in CHUNKS}
        assert evidence.chunks
        assert all(found.chunk == held[found.chunk.id] for found in (*evidence.chunks, *evidence.pairs))

    async def test_a_curated_pair_is_found_by_its_question(self, retriever: Retriever) -> None:
        evidence = await search(retriever, "how long does a refund take?")
        best = evidence.pairs[0]
        assert (best.chunk.id, best.chunk.answer) == ("refund", "Five working days.")
        assert best.similarity == pytest.approx(1.0, abs=1e-5)

    async def test_other_audiences_knowledge_does_not_exist(self, retriever: Retriever) -> None:
        question = "goodwill margin of an agent"
        assert "margin" not in ids(await search(retriever, question, top_k=10))
        assert ids(await search(retriever, question, STAFF))[0] == "margin"

    async def test_knowledge_in_the_language_of_the_question_comes_first(self, retriever: Retriever) -> None:
        assert ids(await search(retriever, "退款多久到账", language="zh", top_k=10)) == ["tuikuan"]
        assert "tuikuan" not in ids(await search(retriever, "refund", top_k=10))

    async def test_without_an_embedding_words_are_searched_for(self, retriever: Retriever) -> None:
        evidence = await retriever.search(PUBLIC, "help", "citric acid", "en", None, 3)
        assert ids(evidence)[0] == "descale"

    async def test_searches_may_overlap(self, retriever: Retriever) -> None:
        asked = {"how to descale the espresso machine": "descale", "what does express delivery cost?": "express"}
        questions = [*asked] * 16
        found = await asyncio.gather(*(search(retriever, question) for question in questions))
        assert [ids(evidence)[0] for evidence in found] == [asked[question] for question in questions]

    async def test_an_unknown_collection_is_an_error_of_the_caller(self, retriever: Retriever) -> None:
        with pytest.raises(UnknownCollectionError) as caught:
            await retriever.version(PUBLIC, "nobody-has-this")
        assert "Traceback" not in caught.value.message
        with pytest.raises(UnknownCollectionError):
            await retriever.search(PUBLIC, "nobody-has-this", "text", "en", None, 3)
        with pytest.raises(UnknownCollectionError):
            await retriever.version(Principal("nobody", PUBLIC.audiences, "k"), "help")

    async def test_an_answer_stands_under_its_own_version_and_under_none_that_is_not_known(
        self, retriever: Retriever
    ) -> None:
        evidence = await search(retriever, "How long does a refund take?")
        pair = evidence.pairs[0]
        embedding = EMBEDDER.embed_queries(["How long does a refund take?"])[0]
        bound = bound_of_pair(pair)
        standing = Standing(evidence.version, "How long does a refund take?", "en", embedding, bound)
        assert await retriever.still_stands(PUBLIC, "help", standing) == evidence.version
        unknown = replace(standing, knowledge_version="v000099-00000000")
        assert await retriever.still_stands(PUBLIC, "help", unknown) is None
