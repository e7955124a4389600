"""Publishing, opening and searching knowledge versions, with the hash embedder and real files."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from ingestion.chunk import Chunk
from ingestion.errors import CorruptVersionError, StoreError, UnknownVersionError
from ingestion.store import KnowledgeStore, KnowledgeVersion, NewVersion
from models.fakes import HashEmbedder
from models.protocols import Vectors

pytestmark = pytest.mark.unit

EMBEDDER = HashEmbedder(64)
PUBLIC = frozenset({"public"})
TODAY = date(2026, 11, 24)


def passage(key: str, text: str, **fields: object) -> Chunk:
    chunk = Chunk(key, f"doc-{key}", 0, "passage", text, "Title", "en", "public", "a.md")
    return replace(chunk, **fields)  # type: ignore[arg-type]


def pair(key: str, question: str, answer: str, **fields: object) -> Chunk:
    return passage(key, f"{question}\n{answer}", kind="qa", question=question, answer=answer, **fields)


CHUNKS = [
    passage("returns", "You can return an item within 30 days of delivery.", heading_path=("Help", "Returns"), page=2),
    passage("shipping", "Shipping takes three to five working days."),
    passage("staff", "Refund limit for staff: 200 euros a day.", audience="staff"),
    passage("old", "Summer sale: shipping is free.", valid_until=date(2026, 8, 31)),
    passage("soon", "Winter sale: shipping is free.", valid_from=date(2026, 12, 1), valid_until=date(2026, 12, 24)),
    passage("zh", "收到商品后七天内可以申请退货。", language="zh"),
    passage("numbers", "DHL 4711", language="und"),
    pair("qa-cancel", "How do I cancel my order?", "Open your orders and press cancel."),
    pair("qa-invoice", "Where is my invoice?", "In your account.", audience="business"),
]


def new_version(chunks: list[Chunk], identity: str = EMBEDDER.identity) -> NewVersion:
    questions = EMBEDDER.embed_queries([chunk.question for chunk in chunks])
    questions[[chunk.kind == "passage" for chunk in chunks]] = 0.0
    vectors = EMBEDDER.embed_passages([chunk.text for chunk in chunks])
    return NewVersion(
        chunks, vectors, questions, identity, {"documents": len(chunks)}, [{"source": "x", "reason": "y"}]
    )


@pytest.fixture
def store(tmp_path: Path) -> KnowledgeStore:
    return KnowledgeStore(tmp_path)


@pytest.fixture
def version(store: KnowledgeStore) -> KnowledgeVersion:
    return store.open("demo", "help", store.publish("demo", "help", new_version(CHUNKS)))


def ask(text: str) -> Vectors:
    vector: Vectors = EMBEDDER.embed_queries([text])[0]
    return vector


def test_a_collection_is_there_once_it_is_published(store: KnowledgeStore) -> None:
    assert store.collections("demo") == []
    assert store.current_version("demo", "help") is None
    assert store.publish("demo", "help", new_version(CHUNKS)) == "v000001"
    assert store.publish("demo", "help", new_version(CHUNKS[:2])) == "v000002"
    assert store.collections("demo") == ["help"]
    assert store.current_version("demo", "help") == "v000002"
    assert store.open("demo", "help", "v000002").chunk_count == 2
    assert store.open("demo", "help", "v000001").chunk_count == len(CHUNKS)
    assert store.report("demo", "help", "v000001") == {"documents": len(CHUNKS)}


def test_chunks_come_back_as_they_were(version: KnowledgeVersion) -> None:
    assert [version.chunk(chunk.id) for chunk in CHUNKS] == CHUNKS
    assert version.chunk("unknown") is None
    assert (version.dim, version.embedder_identity, version.id) == (64, "hash-64", "v000001")


def test_dense_search_finds_by_similarity(version: KnowledgeVersion) -> None:
    best, *_ = version.search_dense(ask("return an item within 30 days"), 3, PUBLIC, TODAY)
    assert best.chunk.id == "returns"
    assert 0.5 < best.score <= 1.0


def test_lexical_search_stems_english_and_segments_chinese(version: KnowledgeVersion) -> None:
    assert version.search_lexical("returning items", 1, PUBLIC, TODAY)[0].chunk.id == "returns"
    assert version.search_lexical("怎么退货", 1, PUBLIC, TODAY)[0].chunk.id == "zh"
    assert version.search_lexical("title", 9, PUBLIC, TODAY)  # title and headings are searched too
    assert version.search_lexical("?!", 9, PUBLIC, TODAY) == []


def test_questions_are_found_by_vector_and_by_words(version: KnowledgeVersion) -> None:
    asked = "How do I cancel an order?"
    assert [found.chunk.id for found in version.search_questions(ask(asked), 5, PUBLIC, TODAY)] == ["qa-cancel"]
    assert [found.chunk.id for found in version.search_questions_text(asked, 5, PUBLIC, TODAY)] == ["qa-cancel"]
    assert version.search_questions_text("orders press", 5, PUBLIC, TODAY)[0].chunk.id == "qa-cancel"
    assert version.search_questions_text("delivery", 5, PUBLIC, TODAY) == []  # a passage, not a question


@pytest.mark.parametrize(
    ("audiences", "today", "language", "expected"),
    [
        ({"public"}, TODAY, None, {"returns", "shipping", "zh", "numbers", "qa-cancel"}),
        ({"staff"}, TODAY, None, {"staff"}),
        ({"public", "business"}, TODAY, "en", {"returns", "shipping", "numbers", "qa-cancel", "qa-invoice"}),
        ({"public"}, TODAY, "zh", {"zh", "numbers"}),
        ({"public"}, date(2026, 8, 31), "zh", {"zh", "numbers"}),
        ({"public"}, date(2026, 8, 31), "en", {"returns", "shipping", "numbers", "qa-cancel", "old"}),
        ({"public"}, date(2026, 12, 24), "en", {"returns", "shipping", "numbers", "qa-cancel", "soon"}),
        (set(), TODAY, None, set()),
    ],
)
def test_only_what_may_be_seen_is_found(
    version: KnowledgeVersion, audiences: set[str], today: date, language: str | None, expected: set[str]
) -> None:
    who = frozenset(audiences)
    dense = version.search_dense(ask("shipping"), 99, who, today, language)
    lexical = version.search_lexical("title", 99, who, today, language)
    pairs = version.search_questions(ask("order"), 99, who, today, language)
    assert {found.chunk.id for found in dense} == expected
    assert {found.chunk.id for found in lexical} == expected
    assert {found.chunk.id for found in pairs} == {key for key in expected if key.startswith("qa")}


def test_filters_lose_no_results(store: KnowledgeStore) -> None:
    hidden = [passage(f"s{i}", "shipping shipping", audience="staff") for i in range(500)]
    few = [passage(f"p{i}", "shipping of parcels abroad and more") for i in range(3)]
    version = store.open("demo", "big", store.publish("demo", "big", new_version(hidden + few)))
    assert len(version.search_dense(ask("shipping"), 3, PUBLIC, TODAY)) == 3
    assert len(version.search_lexical("shipping", 3, PUBLIC, TODAY)) == 3


def test_threads_may_share_a_version(version: KnowledgeVersion) -> None:
    def work(turn: int) -> tuple[list[str], list[str]]:
        audiences = PUBLIC if turn % 2 else frozenset({"public", "staff"})
        dense = version.search_dense(ask("refund limit"), 3, audiences, TODAY)
        lexical = version.search_lexical("refund limit", 3, audiences, TODAY)
        return [found.chunk.id for found in dense], [found.chunk.id for found in lexical]

    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(work, range(200)))
    assert all(result == results[turn % 2] for turn, result in enumerate(results))


def test_vectors_are_kept_for_the_same_embedder_only(store: KnowledgeStore) -> None:
    new = new_version(CHUNKS)
    store.publish("demo", "help", new)
    kept = store.stored_vectors("demo", "help", EMBEDDER.identity)
    assert list(kept) == [chunk.id for chunk in CHUNKS]
    assert np.array_equal(kept["qa-cancel"][0], new.vectors[7])
    assert np.array_equal(kept["qa-cancel"][1], new.question_vectors[7])
    assert store.stored_vectors("demo", "help", "another") == {}
    assert store.stored_vectors("demo", "unknown", EMBEDDER.identity) == {}


def test_the_last_three_versions_are_kept(store: KnowledgeStore) -> None:
    for _ in range(5):
        store.publish("demo", "help", new_version(CHUNKS[:2]))
    assert store.versions("demo", "help") == ["v000003", "v000004", "v000005"]
    with pytest.raises(UnknownVersionError, match="v000001"):
        store.open("demo", "help", "v000001")


def test_runs_at_the_same_time_publish_one_after_the_other(store: KnowledgeStore) -> None:
    with ThreadPoolExecutor(3) as threads:
        published = list(threads.map(lambda _: store.publish("demo", "help", new_version(CHUNKS[:2])), range(3)))
    assert sorted(published) == store.versions("demo", "help") == ["v000001", "v000002", "v000003"]
    assert store.current_version("demo", "help") == "v000003"


def test_what_a_killed_run_left_is_swept_away(store: KnowledgeStore, tmp_path: Path) -> None:
    draft = tmp_path / "demo" / "help" / ".draft"
    draft.mkdir(parents=True)
    (draft / "half").write_text("written")
    assert store.publish("demo", "help", new_version(CHUNKS)) == "v000001"
    assert not draft.exists()


@pytest.mark.parametrize("name", ["chunks.parquet", "dense.faiss", "questions.faiss", "report.json", "rejects.jsonl"])
def test_a_changed_file_is_named(store: KnowledgeStore, tmp_path: Path, name: str) -> None:
    store.publish("demo", "help", new_version(CHUNKS))
    path = tmp_path / "demo" / "help" / "v000001" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptVersionError, match=f"{name} is not what was published"):
        store.open("demo", "help", "v000001")


def test_a_missing_file_is_named(store: KnowledgeStore, tmp_path: Path) -> None:
    store.publish("demo", "help", new_version(CHUNKS))
    folder = tmp_path / "demo" / "help" / "v000001"
    next((folder / "lexical").glob("*.idx")).unlink()
    with pytest.raises(CorruptVersionError, match=r"lexical/.* is missing"):
        store.open("demo", "help", "v000001")
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(CorruptVersionError, match=r"manifest\.json"):
        store.open("demo", "help", "v000001")


@pytest.mark.parametrize("name", ["", "..", "a/b", "../help", "Help", "-a", "a" * 64, "a\n", "."])
def test_names_cannot_leave_the_root(store: KnowledgeStore, name: str) -> None:
    with pytest.raises(StoreError):
        store.current_version("demo", name)
    with pytest.raises(StoreError):
        store.current_version(name, "help")
    with pytest.raises(StoreError):
        store.publish("demo", name, new_version(CHUNKS))


@pytest.mark.parametrize("name", ["v1", "../v000001", "v0000001", "CURRENT", "v000002"])
def test_a_version_that_is_none_is_unknown(store: KnowledgeStore, name: str) -> None:
    store.publish("demo", "help", new_version(CHUNKS))
    with pytest.raises(UnknownVersionError):
        store.open("demo", "help", name)


def test_a_version_that_does_not_add_up_is_not_published(store: KnowledgeStore) -> None:
    with pytest.raises(StoreError, match="one vector"):
        store.publish("demo", "help", replace(new_version(CHUNKS), chunks=CHUNKS[:-1]))
    with pytest.raises(StoreError, match="same id"):
        store.publish("demo", "help", new_version([CHUNKS[0], CHUNKS[0]]))
    assert store.current_version("demo", "help") is None


def test_errors_cross_processes() -> None:
    error = pickle.loads(pickle.dumps(CorruptVersionError("v000001/dense.faiss is missing")))  # noqa: S301
    assert (type(error), str(error)) == (CorruptVersionError, "v000001/dense.faiss is missing")
