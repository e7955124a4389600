"""Small changes by hand, with the hash embedder and real files."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from ingestion import edit
from ingestion.chunk import Chunk
from ingestion.document import Block, Details, Document
from ingestion.errors import StoreError, UnknownDocumentError, UnknownVersionError
from ingestion.store import Changes, KnowledgeStore
from ingestion.version import KnowledgeVersion
from models.fakes import HashEmbedder

pytestmark = pytest.mark.unit

EMBEDDER = HashEmbedder(64)
SCOPE = ("demo", "help")
PUBLIC = frozenset({"public"})
TODAY = date(2026, 11, 25)


def article(document_id: str, *texts: str, audience: str = "public") -> Document:
    blocks = tuple(Block("text", text) for text in texts)
    return Document(document_id, document_id, Details(title="Returns", audience=audience), blocks)


def bulk(*texts: str) -> Changes:
    chunks = [Chunk(f"{n}", f"doc-{n}", 0, "passage", text, "", "en", "public", "a.md") for n, text in enumerate(texts)]
    return Changes(EMBEDDER.identity, chunks, EMBEDDER.embed_passages(list(texts)), EMBEDDER.embed_queries([]))


@pytest.fixture
def store(tmp_path: Path) -> KnowledgeStore:
    return KnowledgeStore(tmp_path)


def published(store: KnowledgeStore) -> KnowledgeVersion:
    return store.open(*SCOPE, store.current_version(*SCOPE) or "")


def texts(store: KnowledgeStore, asked: str, audiences: frozenset[str] = PUBLIC) -> list[str]:
    found = published(store).search_dense(EMBEDDER.embed_queries([asked])[0], 9, audiences, TODAY)
    return sorted(hit.chunk.text for hit in found)


def test_a_document_is_put_in_beside_the_others_and_replaced_by_its_id(store: KnowledgeStore) -> None:
    store.publish(*SCOPE, bulk("We open at nine."))
    made = edit.put(store, *SCOPE, [article("returns", "Within 30 days.")], EMBEDDER)
    assert made == edit.Edit("v000002", added=1, removed=0, embedded=1)
    assert texts(store, "when") == ["We open at nine.", "Within 30 days."]
    made = edit.put(store, *SCOPE, [article("returns", "Within 14 days.")], EMBEDDER)
    assert made == edit.Edit("v000003", added=1, removed=1, embedded=1)
    assert texts(store, "when") == ["We open at nine.", "Within 14 days."]
    assert {chunk.origin for chunk in store.stored_chunks(*SCOPE, "v000003")} == {"apply", "edit"}


def test_the_same_again_changes_nothing(store: KnowledgeStore) -> None:
    document = article("returns", "Within 30 days.")
    assert edit.put(store, *SCOPE, [document], EMBEDDER) is not None
    assert edit.put(store, *SCOPE, [document], EMBEDDER) is None
    assert store.versions(*SCOPE) == ["v000001"]


def test_what_becomes_visible_to_others_keeps_its_vector(store: KnowledgeStore) -> None:
    edit.put(store, *SCOPE, [article("returns", "Within 30 days.")], EMBEDDER)
    made = edit.put(store, *SCOPE, [article("returns", "Within 30 days.", audience="staff")], EMBEDDER)
    assert made == edit.Edit("v000002", added=1, removed=0, embedded=0)
    assert texts(store, "when") == []
    assert texts(store, "when", frozenset({"staff"})) == ["Within 30 days."]


def test_a_better_answer_takes_the_place_of_the_old_one(store: KnowledgeStore) -> None:
    edit.put(store, *SCOPE, [edit.pair_document("Do you gift-wrap?", "No.")], EMBEDDER)
    edit.put(store, *SCOPE, [edit.pair_document("do you gift-wrap? ", "Yes, for 3 euros.")], EMBEDDER)
    asked = EMBEDDER.embed_queries(["Do you gift-wrap?"])[0]
    found = published(store).search_questions(asked, 9, PUBLIC, TODAY)
    assert [hit.chunk.answer for hit in found] == ["Yes, for 3 euros."]


def test_documents_are_deleted_by_their_ids_or_none_is(store: KnowledgeStore) -> None:
    with pytest.raises(UnknownVersionError):
        edit.delete(store, *SCOPE, ["returns"])
    store.publish(*SCOPE, bulk("We open at nine.", "We close at six."))
    with pytest.raises(UnknownDocumentError, match="'nobody'"):
        edit.delete(store, *SCOPE, ["doc-0", "nobody"])
    assert edit.delete(store, *SCOPE, ["doc-0"]) == edit.Edit("v000002", 0, removed=1, embedded=0)
    assert texts(store, "when") == ["We close at six."]
    assert [(info.id, info.chunks) for info in store.documents(*SCOPE, "v000002")] == [("doc-1", 1)]


def test_vectors_of_another_embedder_are_refused(store: KnowledgeStore) -> None:
    store.publish(*SCOPE, bulk("We open at nine."))
    with pytest.raises(StoreError, match="ingest all of it again"):
        edit.put(store, *SCOPE, [article("returns", "Within 30 days.")], HashEmbedder(32))
