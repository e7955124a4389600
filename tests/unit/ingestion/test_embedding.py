"""Which texts are embedded, in which batches, and what is not done twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from ingestion import embedder_pool
from ingestion.chunk import Chunk
from ingestion.embedder_pool import Pool, embed
from ingestion.embedding import Ahead, embed_texts, embedding_text, identity_of, vector_key
from ingestion.errors import EmbedderError
from ingestion.files import LocalFiles
from ingestion.progress import no_progress
from ingestion.ray_session import RaySession
from ingestion.vectors import VectorTable, VectorWork
from models.embedder import EncoderConfig, ModelLoadError
from models.fakes import HashEmbedder, HashEncoder
from models.protocols import Vectors

pytestmark = pytest.mark.unit

PASSAGE = Chunk("1", "d", 0, "passage", "Within 30 days.", "Returns", "en", "public", "a.md", heading_path=("Rules",))
PAIR = Chunk("2", "d", 0, "qa", "How?\nSo.", "FAQ", "en", "public", "a.md", question="How?", answer="So.")


@dataclass
class Watched(HashEmbedder):
    """Remembers what it was asked."""

    seen: list[list[str]]
    fails_at: int = 10**9

    def __post_init__(self) -> None:
        super().__init__()

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        if len(self.seen) == self.fails_at:
            raise ModelLoadError("out of memory")
        self.seen.append(list(texts))
        return super().embed_passages(texts)


@dataclass(frozen=True)
class WatchedEncoder(HashEncoder):
    seen: list[list[str]] = field(default_factory=list)
    fails_at: int = 10**9

    def load(self) -> Watched:
        return Watched(self.seen, self.fails_at)


def passages(count: int) -> list[Chunk]:
    return [replace(PASSAGE, id=str(n), text="word " * (n * 37 % 101 + 1) + str(n)) for n in range(count)]


def run(root: Path, chunks: Sequence[Chunk], encoder: WatchedEncoder, told: list[tuple[int, int | None]]) -> Vectors:
    table = VectorTable(map(vector_key, chunks))
    work = VectorWork(LocalFiles(root), "demo/help", encoder.identity())
    count = embed(
        chunks,
        Ahead(encoder),
        table,
        work,
        pool=Pool(),
        session=RaySession(1),
        progress=lambda _, *rest: told.append(rest),
    )
    assert count == sum(map(len, encoder.seen))
    return table.of(chunks, encoder.dim)[0]


def test_a_text_is_embedded_with_its_title_and_headings() -> None:
    assert embedding_text(PASSAGE) == "Returns > Rules\nWithin 30 days."
    assert embedding_text(PAIR) == "FAQ\nHow?\nSo."


def test_a_key_is_of_the_embedded_texts_alone() -> None:
    assert vector_key(replace(PASSAGE, id="9", document_id="x", audience="staff", source="b.md")) == vector_key(PASSAGE)
    others = [
        replace(PASSAGE, text="Within 14 days."),
        replace(PASSAGE, title="Refunds"),
        replace(PAIR, text="How?\nNot so."),
        replace(PASSAGE, title="FAQ", heading_path=(), text="How?\nSo."),  # reads as the pair does, but asks nothing
        PAIR,
        PASSAGE,
    ]
    assert len({vector_key(each) for each in others}) == len(others)


def test_a_text_without_a_question_has_no_question_vector() -> None:
    embedder = HashEmbedder()
    vectors, question_vectors = embed_texts(embedder, ["a b", "c"], ["", "what is c"])
    np.testing.assert_array_equal(vectors, embedder.embed_passages(["a b", "c"]))
    assert not question_vectors[0].any()
    np.testing.assert_array_equal(question_vectors[1:], embedder.embed_queries(["what is c"]))
    assert [each.shape for each in embed_texts(embedder, [], [])] == [(0, 64), (0, 64)]


def test_batches_hold_texts_of_like_length_and_rows_stay_with_their_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedder_pool, "_BATCH", 10)
    chunks, encoder, told = passages(100), WatchedEncoder(), list[tuple[int, int | None]]()
    vectors = run(tmp_path, chunks, encoder, told)
    np.testing.assert_array_equal(vectors, HashEmbedder().embed_passages([embedding_text(chunk) for chunk in chunks]))
    assert [len(each) for each in encoder.seen] == [10] * 10
    longest, shortest = ([function(map(len, each)) for each in encoder.seen] for function in (max, min))
    assert all(low >= high for low, high in zip(shortest, longest[1:], strict=False))
    assert told == [(done, 100) for done in range(0, 101, 10)]


def test_threads_share_the_embedder_and_each_row_finds_its_chunk(tmp_path: Path) -> None:
    chunks, encoder = passages(300), WatchedEncoder()
    table = VectorTable(map(vector_key, chunks))
    work = VectorWork(LocalFiles(tmp_path), "demo/help", encoder.identity())
    embed(chunks, Ahead(encoder), table, work, pool=Pool(concurrency=4), session=RaySession(4), progress=no_progress)
    expected = HashEmbedder().embed_passages([embedding_text(chunk) for chunk in chunks])
    np.testing.assert_array_equal(table.of(chunks, encoder.dim)[0], expected)
    assert sorted(map(len, encoder.seen)) == [44, 64, 64, 64, 64]


def test_equal_texts_are_embedded_once(tmp_path: Path) -> None:
    chunks, encoder = [PASSAGE, replace(PASSAGE, id="9", document_id="e")], WatchedEncoder()
    vectors = run(tmp_path, chunks, encoder, [])
    assert encoder.seen == [[embedding_text(PASSAGE)]]
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_what_a_run_that_failed_had_finished_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedder_pool, "_BATCH", 10)
    chunks, failing, later = passages(45), WatchedEncoder(fails_at=3), WatchedEncoder()
    with pytest.raises(ModelLoadError):
        run(tmp_path, chunks, failing, [])
    told: list[tuple[int, int | None]] = []
    vectors = run(tmp_path, chunks, later, told)
    assert (sum(map(len, failing.seen)), sum(map(len, later.seen)), told[0]) == (30, 15, (30, 45))
    np.testing.assert_array_equal(vectors, HashEmbedder().embed_passages([embedding_text(chunk) for chunk in chunks]))


def test_nothing_to_embed_loads_no_encoder(tmp_path: Path) -> None:
    class NotToBeLoaded(HashEncoder):
        def load(self) -> HashEmbedder:
            raise AssertionError

    table, work = VectorTable([]), VectorWork(LocalFiles(tmp_path), "demo/help", "x")
    ahead = Ahead(NotToBeLoaded())
    assert embed([], ahead, table, work, pool=Pool(), session=RaySession(1), progress=no_progress) == 0


def test_an_encoder_that_was_begun_is_loaded_once_and_its_failure_is_ours() -> None:
    loads: list[int] = []

    class Counted(HashEncoder):
        def load(self) -> HashEmbedder:
            loads.append(1)
            if len(loads) > 1:
                raise OSError("gone")
            return HashEmbedder()

    ahead = Ahead(Counted())
    ahead.begin()
    ahead.begin()
    assert ahead.get() is ahead.get()
    assert len(loads) == 1
    failing = Ahead(Counted())
    failing.begin()
    with pytest.raises(EmbedderError, match="the encoder failed: gone"):
        failing.get()


def test_an_encoder_that_is_not_there_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(EmbedderError, match=r"the encoder failed: .* no config\.json"):
        identity_of(EncoderConfig(str(tmp_path)))
