"""Publishing, opening and searching knowledge versions, with the hash embedder and real files."""

from __future__ import annotations

import pickle
import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from ingestion.chunk import Chunk, chunk_digest
from ingestion.embedding import vector_key
from ingestion.errors import CorruptVersionError, StoreError, UnknownVersionError
from ingestion.store import KEPT_BASES, KEPT_VERSIONS, Changes, KnowledgeStore, Shard
from ingestion.version import KnowledgeVersion
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


def changes(chunks: list[Chunk], removed: set[str] | None = None, **fields: object) -> Changes:
    pairs = [chunk.question for chunk in chunks if chunk.kind == "qa"]
    made = Changes(
        EMBEDDER.identity,
        chunks,
        EMBEDDER.embed_passages([chunk.text for chunk in chunks]),
        EMBEDDER.embed_queries(pairs),
        removed=frozenset(removed or ()),
        report={"documents": len(chunks)},
        rejects=[{"source": "x", "reason": "y"}],
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def whole(chunks: list[Chunk], **fields: object) -> Changes:
    return changes(chunks, replaces_all=True, **fields)


@pytest.fixture
def store(tmp_path: Path) -> KnowledgeStore:
    return KnowledgeStore(tmp_path)


@pytest.fixture
def version(store: KnowledgeStore) -> KnowledgeVersion:
    return store.open("demo", "help", store.publish("demo", "help", whole(CHUNKS)))


def ask(text: str) -> Vectors:
    vector: Vectors = EMBEDDER.embed_queries([text])[0]
    return vector


def found_by(version: KnowledgeVersion, text: str) -> list[tuple[Chunk, float]]:
    return [(hit.chunk, hit.score) for hit in version.search_dense(ask(text), 9, PUBLIC, TODAY)]


def test_a_collection_is_there_once_it_is_published(store: KnowledgeStore) -> None:
    assert store.collections("demo") == []
    assert store.current_version("demo", "help") is None
    assert store.publish("demo", "help", whole(CHUNKS)) == "v000001"
    assert store.publish("demo", "help", whole(CHUNKS[:2])) == "v000002"
    assert store.collections("demo") == ["help"]
    assert store.current_version("demo", "help") == "v000002"
    assert store.open("demo", "help", "v000002").chunk_count == 2
    assert store.open("demo", "help", "v000001").chunk_count == len(CHUNKS)
    assert store.report("demo", "help", "v000001") == {"documents": len(CHUNKS)}


def test_chunks_come_back_as_they_were(version: KnowledgeVersion) -> None:
    assert [version.chunk(chunk.id) for chunk in CHUNKS] == CHUNKS
    assert version.chunk("unknown") is None
    assert (version.dim, version.embedder_identity, version.name) == (64, "hash-64", "v000001")


def test_a_collection_that_is_made_anew_has_other_versions(store: KnowledgeStore, tmp_path: Path) -> None:
    ids = []
    for text in ("one", "two"):
        ids.append(store.open("demo", "help", store.publish("demo", "help", whole([passage("a", text)]))).id)
        shutil.rmtree(tmp_path / "demo")
    assert ids[0] != ids[1]
    assert [name.partition("-")[0] for name in ids] == ["v000001", "v000001"]


def test_dense_search_finds_by_similarity(version: KnowledgeVersion) -> None:
    best, *_ = version.search_dense(ask("return an item within 30 days"), 3, PUBLIC, TODAY)
    assert best.chunk.id == "returns"
    assert 0.5 < best.score <= 1.0


def test_lexical_search_stems_english_and_segments_chinese(version: KnowledgeVersion) -> None:
    assert version.search_lexical("returning items", 1, PUBLIC, TODAY)[0].chunk.id == "returns"
    assert version.search_lexical("怎么退货", 1, PUBLIC, TODAY)[0].chunk.id == "zh"
    assert version.search_lexical("title", 9, PUBLIC, TODAY)  # title and headings are searched too
    assert version.search_lexical("?!", 9, PUBLIC, TODAY) == []


def test_questions_are_found_by_vector(version: KnowledgeVersion) -> None:
    asked = "How do I cancel an order?"
    assert [found.chunk.id for found in version.search_questions(ask(asked), 5, PUBLIC, TODAY)] == ["qa-cancel"]


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
    version = store.open("demo", "big", store.publish("demo", "big", whole(hidden + few)))
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


def test_what_is_stored_can_be_compared_and_its_vectors_used_again(store: KnowledgeStore) -> None:
    new = whole(CHUNKS)
    store.publish("demo", "help", new)
    stored = store.stored_chunks("demo", "help", "v000001")
    assert [(chunk.id, chunk.digest, chunk.vector_key) for chunk in stored] == [
        (chunk.id, chunk_digest(chunk), vector_key(chunk)) for chunk in CHUNKS
    ]
    cancel, returns = vector_key(CHUNKS[7]), vector_key(CHUNKS[0])
    vectors = store.stored_vectors("demo", "help", "v000001", {cancel, returns, "other"})
    assert set(vectors) == {cancel, returns}
    assert np.array_equal(vectors[cancel][0], new.vectors[7])
    assert np.array_equal(vectors[cancel][1], new.question_vectors[0])
    assert not vectors[returns][1].any()
    assert store.chunks("demo", "help", "v000001", {"zh", "none"}) == [CHUNKS[5]]


# --- small changes ---


def found_in(version: KnowledgeVersion, text: str = "title", audiences: frozenset[str] = PUBLIC) -> set[str]:
    """What can be found, which has to be the same by vectors and by words."""
    dense = {found.chunk.id for found in version.search_dense(ask(text), 99, audiences, TODAY)}
    assert dense == {found.chunk.id for found in version.search_lexical(text, 99, audiences, TODAY)}
    return dense


def test_a_small_change_is_a_delta_beside_the_base(store: KnowledgeStore) -> None:
    store.publish("demo", "help", whole(CHUNKS))
    moved = replace(CHUNKS[1], text="Shipping takes two days.", position=4)
    store.publish("demo", "help", changes([moved, pair("qa-new", "Do you ship abroad?", "Yes.")], {"returns"}))
    version = store.open("demo", "help", "v000002")
    assert found_in(version) == {"shipping", "zh", "numbers", "qa-cancel", "qa-new"}
    assert version.chunk("shipping") == moved
    assert version.chunk("returns") is None
    assert version.search_questions(ask("Do you ship abroad?"), 1, PUBLIC, TODAY)[0].chunk.answer == "Yes."
    manifest = store.manifest("demo", "help", "v000002")
    assert [segment.kind for segment in manifest.segments] == ["base", "delta"]
    assert (manifest.chunks, manifest.pairs, manifest.rows) == (version.chunk_count, 3, len(CHUNKS) + 2)
    assert (manifest.parent, manifest.made_by) == ("v000001", "apply")
    assert found_in(store.open("demo", "help", "v000001")) == {"returns", "shipping", "zh", "numbers", "qa-cancel"}


def test_the_next_change_goes_into_the_same_delta(store: KnowledgeStore) -> None:
    store.publish("demo", "help", whole(CHUNKS))
    store.publish("demo", "help", changes([passage("a", "one"), passage("b", "two")]))
    store.publish("demo", "help", changes([passage("b", "three")], {"a", "numbers"}))
    manifest = store.manifest("demo", "help", "v000003")
    assert [(segment.kind, segment.rows) for segment in manifest.segments] == [("base", len(CHUNKS)), ("delta", 1)]
    version = store.open("demo", "help", "v000003")
    assert found_in(version) == {"returns", "shipping", "zh", "qa-cancel", "b"}
    assert version.chunk("b") == passage("b", "three")


def test_a_segment_that_is_in_memory_is_not_loaded_again(store: KnowledgeStore, tmp_path: Path) -> None:
    store.publish("demo", "help", whole(CHUNKS))
    old = store.open("demo", "help", "v000001")
    store.publish("demo", "help", changes([passage("a", "one")], {"returns"}))
    shutil.rmtree(next((tmp_path / "demo" / "help" / "segments").glob("v000001-base-*")))
    version = store.open("demo", "help", "v000002", old.segments)
    assert found_in(version) == {"shipping", "zh", "numbers", "qa-cancel", "a"}
    assert found_in(old) == {"returns", "shipping", "zh", "numbers", "qa-cancel"}


def test_many_changes_make_a_new_base(store: KnowledgeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestion.store.DELTA_ROWS", 3)
    store.publish("demo", "help", whole(CHUNKS))
    store.publish("demo", "help", changes([passage("a", "one")], {"numbers"}))
    store.publish("demo", "help", changes([passage("b", "two"), passage("a", "three")]))
    assert len(store.manifest("demo", "help", "v000003").segments) == 2
    store.publish("demo", "help", changes([passage("c", "four")]))
    (segment,) = store.manifest("demo", "help", "v000004").segments
    assert (segment.kind, segment.rows) == ("base", len(CHUNKS) - 1 + 3)
    assert found_in(store.open("demo", "help", "v000004")) == {"returns", "shipping", "zh", "qa-cancel", "a", "b", "c"}


def test_compacting_changes_nothing_that_can_be_found(store: KnowledgeStore) -> None:
    store.publish("demo", "help", whole(CHUNKS))
    store.publish("demo", "help", changes([passage("a", "one")], {"returns"}))
    before = store.open("demo", "help", "v000002")
    assert store.compact("demo", "help") == "v000003"
    after = store.open("demo", "help", "v000003")
    manifest = store.manifest("demo", "help", "v000003")
    assert (len(manifest.segments), manifest.rows, manifest.chunks) == (1, len(CHUNKS), len(CHUNKS))
    for text in ("shipping", "one", "how do I cancel", "怎么退货"):
        first, second = (version.search_dense(ask(text), 9, PUBLIC, TODAY) for version in (before, after))
        assert {found.chunk.id: round(found.score, 5) for found in first} == {
            found.chunk.id: round(found.score, 5) for found in second
        }


def test_compacting_builds_damaged_indexes_anew(store: KnowledgeStore, tmp_path: Path) -> None:
    store.publish("demo", "help", whole(CHUNKS))
    expected = found_by(store.open("demo", "help", "v000001"), "shipping")
    next(tmp_path.rglob("dense.faiss")).write_bytes(b"damaged")
    with pytest.raises(CorruptVersionError, match="compact"):
        store.open("demo", "help", "v000001")
    rebuilt = store.open("demo", "help", store.compact("demo", "help"))
    assert found_by(rebuilt, "shipping") == expected


def test_indexes_of_another_release_are_built_anew(store: KnowledgeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.publish("demo", "help", whole(CHUNKS))
    for module in ("segment", "store"):
        monkeypatch.setattr(f"ingestion.{module}.INDEX_FORMAT", 99)
    with pytest.raises(CorruptVersionError, match="another release"):
        store.open("demo", "help", "v000001")
    assert store.publish("demo", "help", changes([passage("a", "one")])) == "v000002"
    assert [segment.kind for segment in store.manifest("demo", "help", "v000002").segments] == ["base"]
    assert store.open("demo", "help", store.compact("demo", "help")).chunk_count == len(CHUNKS) + 1


def test_everything_may_be_deleted(store: KnowledgeStore) -> None:
    store.publish("demo", "help", whole(CHUNKS))
    store.publish("demo", "help", changes([], {chunk.id for chunk in CHUNKS}))
    assert found_in(store.open("demo", "help", "v000002")) == set()
    assert store.compact("demo", "help") == "v000003"
    assert store.open("demo", "help", "v000003").chunk_count == 0


def test_vectors_of_two_embedders_are_not_mixed(store: KnowledgeStore) -> None:
    store.publish("demo", "help", whole(CHUNKS))
    with pytest.raises(StoreError, match="ingest all of it again"):
        store.publish("demo", "help", changes([passage("a", "one")], embedder_identity="another"))
    store.publish("demo", "help", whole(CHUNKS[:2], embedder_identity="another"))
    assert store.open("demo", "help", "v000002").embedder_identity == "another"


def test_a_base_in_parts_is_opened_in_shards_that_together_hold_everything(tmp_path: Path) -> None:
    store = KnowledgeStore(tmp_path, parts=3)
    chunks = [passage(f"c{n}", f"text {n}") for n in range(60)]
    store.publish("demo", "help", whole(chunks))
    store.publish("demo", "help", changes([passage("c7", "seven")], {"c8", "c9"}))
    manifest = store.manifest("demo", "help", "v000002")
    assert [segment.kind for segment in manifest.segments] == ["base", "base", "base", "delta"]
    assert min(segment.rows for segment in manifest.segments[:3]) > 10
    shards = [store.open("demo", "help", "v000002", shard=Shard(index, 2)) for index in range(2)]
    held = [{f"c{n}" for n in range(60) if shard.chunk(f"c{n}")} for shard in shards]
    assert held[0] & held[1] == set()
    assert held[0] | held[1] == {f"c{n}" for n in range(60)} - {"c8", "c9"}
    assert {shard.id for shard in shards} == {store.open("demo", "help", "v000002").id}
    assert found_in(store.open("demo", "help", "v000002")) == held[0] | held[1]
    assert KnowledgeStore(tmp_path).compact("demo", "help") == "v000003"
    assert found_in(store.open("demo", "help", "v000003")) == held[0] | held[1]


def test_a_shard_that_holds_no_segment_finds_nothing(store: KnowledgeStore) -> None:
    store.publish("demo", "help", whole(CHUNKS))
    empty = store.open("demo", "help", "v000001", shard=Shard(1, 2))
    audiences, today = frozenset({"public"}), date(2026, 1, 1)
    assert empty.chunk_count == 0
    assert empty.search_lexical("text", 5, audiences, today) == []
    assert empty.search_dense(np.ones(empty.dim, np.float32), 5, audiences, today) == []
    assert empty.search_questions(np.ones(empty.dim, np.float32), 5, audiences, today) == []


# --- versions ---


def segments_in(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "demo" / "help" / "segments").iterdir())


def test_rolling_back_publishes_what_a_version_was_made_from(store: KnowledgeStore) -> None:
    store.publish("demo", "help", whole(CHUNKS))
    with pytest.raises(UnknownVersionError, match="no version before"):
        store.rollback("demo", "help")
    for key in ("a", "b"):
        store.publish("demo", "help", changes([passage(key, "text")]))
    assert store.rollback("demo", "help") == store.current_version("demo", "help") == "v000002"
    assert "b" not in found_in(store.open("demo", "help", "v000002"))
    assert store.publish("demo", "help", changes([passage("c", "text")])) == "v000004"
    assert store.rollback("demo", "help") == "v000002"
    assert store.rollback("demo", "help", "v000004") == "v000004"
    with pytest.raises(UnknownVersionError):
        store.rollback("demo", "help", "v000009")


def test_old_versions_and_their_segments_go(store: KnowledgeStore, tmp_path: Path) -> None:
    store.publish("demo", "help", whole(CHUNKS[:2]))
    for number in range(KEPT_VERSIONS + 2):
        store.publish("demo", "help", changes([passage("a", f"text {number}")]))
    assert len(store.versions("demo", "help")) == KEPT_VERSIONS
    assert len(segments_in(tmp_path)) == KEPT_VERSIONS + 1
    for _ in range(KEPT_BASES):
        newest = store.publish("demo", "help", whole(CHUNKS[:2]))
    assert store.versions("demo", "help")[-1] == newest
    assert len(store.versions("demo", "help")) == len(segments_in(tmp_path)) == KEPT_BASES
    with pytest.raises(UnknownVersionError, match="v000001"):
        store.open("demo", "help", "v000001")


def test_the_published_version_is_kept_however_old(store: KnowledgeStore) -> None:
    store.publish("demo", "help", whole(CHUNKS[:2]))
    for _ in range(KEPT_BASES - 1):
        store.publish("demo", "help", whole(CHUNKS[:3]))
    store.rollback("demo", "help", "v000001")
    store.publish("demo", "help", changes([passage("a", "text")]))
    assert store.open("demo", "help", store.current_version("demo", "help") or "").chunk_count == 3


def test_runs_at_the_same_time_publish_one_after_the_other(store: KnowledgeStore) -> None:
    with ThreadPoolExecutor(3) as threads:
        run = threads.map(lambda key: store.publish("demo", "help", changes([passage(key, "text")])), "abc")
        published = list(run)
    assert sorted(published) == store.versions("demo", "help") == ["v000001", "v000002", "v000003"]
    assert found_in(store.open("demo", "help", "v000003")) == {"a", "b", "c"}


def test_what_a_killed_run_left_is_swept_away(store: KnowledgeStore, tmp_path: Path) -> None:
    for name in (".draft", "segments/v000001-base-0badf00d"):
        (tmp_path / "demo" / "help" / name).mkdir(parents=True)
        (tmp_path / "demo" / "help" / name / "half").write_text("written")
    assert store.publish("demo", "help", whole(CHUNKS)) == "v000001"
    assert not (tmp_path / "demo" / "help" / ".draft").exists()
    assert len(segments_in(tmp_path)) == 1


# --- damage ---

DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "a byte differs": lambda content, rng: _with_byte(content, rng.randrange(len(content)), rng),
    "a byte of the header differs": lambda content, rng: _with_byte(content, rng.randrange(min(32, len(content))), rng),
    "the end is missing": lambda content, rng: content[: rng.randrange(len(content))],
    "two stretches are swapped": lambda content, rng: _swapped(content, rng),
    "bytes were added": lambda content, rng: content + rng.randbytes(rng.randrange(1, 64)),
}


def _with_byte(content: bytes, place: int, rng: random.Random) -> bytes:
    return content[:place] + bytes([content[place] ^ rng.randrange(1, 256)]) + content[place + 1 :]


def _swapped(content: bytes, rng: random.Random) -> bytes:
    cut = rng.randrange(1, max(2, len(content)))
    return content[cut:] + content[:cut]


def open_published(store: KnowledgeStore) -> KnowledgeVersion:
    version = store.current_version("demo", "help")
    assert version is not None
    store.verify("demo", "help", version)
    return store.open("demo", "help", version)


def test_whatever_is_damaged_is_refused_by_name(store: KnowledgeStore, tmp_path: Path) -> None:
    """200 random damages to any file of a version of two segments: none is served."""
    store.publish("demo", "help", whole(CHUNKS))
    store.publish("demo", "help", changes([passage("a", "one")], {"returns"}))
    place = tmp_path / "demo" / "help"
    read = [place / "CURRENT", *(place / "versions" / "v000002").glob("*"), *(place / "segments").rglob("*")]
    files = [path for path in read if path.is_file() and path.stat().st_size and not path.name.endswith(".lock")]
    rng = random.Random(7)
    for _ in range(200):
        path, (damage, apply) = rng.choice(files), rng.choice(list(DAMAGES.items()))
        content = path.read_bytes()
        damaged = apply(content, rng)
        if damaged == content:
            continue
        path.write_bytes(damaged)
        with pytest.raises(StoreError) as caught:
            open_published(store)
        assert path.name in str(caught.value) or path.name == "CURRENT", f"{damage} in {path.name}: {caught.value}"
        path.write_bytes(content)
    assert open_published(store).chunk_count == len(CHUNKS)


def test_a_missing_file_is_named(store: KnowledgeStore, tmp_path: Path) -> None:
    store.publish("demo", "help", whole(CHUNKS))
    next(tmp_path.rglob("*.idx")).unlink()
    with pytest.raises(CorruptVersionError, match=r"lexical/.* is missing"):
        store.open("demo", "help", "v000001")
    manifest = tmp_path / "demo" / "help" / "versions" / "v000001" / "manifest.json"
    for content in ("[]", '{"format": 2}'):
        manifest.write_text(content)
        with pytest.raises(CorruptVersionError, match=r"manifest\.json"):
            store.open("demo", "help", "v000001")


def test_a_version_of_another_tenant_is_refused(store: KnowledgeStore, tmp_path: Path) -> None:
    store.publish("demo", "help", whole(CHUNKS))
    shutil.copytree(tmp_path / "demo", tmp_path / "other")
    with pytest.raises(CorruptVersionError, match="not what was published"):
        store.open("other", "help", "v000001")


def test_a_damaged_pointer_is_written_anew_by_rolling_back(store: KnowledgeStore, tmp_path: Path) -> None:
    store.publish("demo", "help", whole(CHUNKS))
    (tmp_path / "demo" / "help" / "CURRENT").write_bytes(b"\xff\x00")
    with pytest.raises(CorruptVersionError, match="rollback --to"):
        store.current_version("demo", "help")
    store.rollback("demo", "help", "v000001")
    assert store.current_version("demo", "help") == "v000001"


@pytest.mark.parametrize("name", ["", "..", "a/b", "../help", "Help", "-a", "a" * 64, "a\n", "."])
def test_names_cannot_leave_the_root(store: KnowledgeStore, name: str) -> None:
    with pytest.raises(StoreError):
        store.current_version("demo", name)
    with pytest.raises(StoreError):
        store.current_version(name, "help")
    with pytest.raises(StoreError):
        store.publish("demo", name, whole(CHUNKS))


@pytest.mark.parametrize("name", ["v1", "../v000001", "v0000001", "CURRENT", "v000002"])
def test_a_version_that_is_none_is_unknown(store: KnowledgeStore, name: str) -> None:
    store.publish("demo", "help", whole(CHUNKS))
    with pytest.raises(UnknownVersionError):
        store.open("demo", "help", name)


def test_a_version_that_does_not_add_up_is_not_published(store: KnowledgeStore) -> None:
    with pytest.raises(StoreError, match="one vector"):
        store.publish("demo", "help", replace(whole(CHUNKS), added=CHUNKS[:-1]))
    with pytest.raises(StoreError, match="same id"):
        store.publish("demo", "help", whole([CHUNKS[0], CHUNKS[0]]))
    assert store.current_version("demo", "help") is None


def test_errors_cross_processes() -> None:
    error = pickle.loads(pickle.dumps(CorruptVersionError("v000001/dense.faiss is missing")))  # noqa: S301
    assert (type(error), str(error)) == (CorruptVersionError, "v000001/dense.faiss is missing")
