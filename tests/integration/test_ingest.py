"""The whole job on a real Ray, with the hash embedder: files in, a searchable version out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
import ray

from ingestion.embedding import EncoderConfig
from ingestion.errors import EmbedderError, NothingToIngestError, StoreError, TooManyRejectsError
from ingestion.job import Progress, ingest, no_progress
from ingestion.ray_session import ray_session
from ingestion.report import IngestReport
from ingestion.store import KnowledgeStore
from models.fakes import HashEmbedder
from models.protocols import Embedder

pytestmark = pytest.mark.integration

PUBLIC = frozenset({"public"})
TODAY = date(2026, 11, 24)


@pytest.fixture(scope="module", autouse=True)
def one_ray() -> Iterator[None]:
    """The jobs below share a Ray, as they do in the service."""
    with ray_session(concurrency=1):
        yield


@pytest.fixture
def company(tmp_path: Path) -> Path:
    files = {
        "articles/returns.md": "---\ntitle: Returns\n---\n# Returns\n\nYou can return an item within 30 days.\n",
        "articles/copy.md": "---\ntitle: Returns\n---\n# Returns\n\nYou can return an item within 30 days.\n",
        "articles/staff.md": "---\naudience: staff\n---\nRefund limit: 200 euros a day.\n",
        "articles/broken.pdf": "%PDF-1.7 this is none",
        "faq/faq.csv": "question,answer\nHow do I cancel?,Press cancel.\n如何退货？,七天内申请。\n",
        "faq/more.jsonl": '{"id": "a1", "title": "Shipping", "content": "Three to five days."}\n',
    }
    for name, content in files.items():
        path = tmp_path / "company" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="gbk" if name.endswith(".csv") else "utf-8")
    return tmp_path / "company"


def run(company: Path, progress: Progress = no_progress, max_reject_share: float = 0.2) -> IngestReport:
    return ingest(
        [company / "articles", company / "faq"],
        root=company.parent / "knowledge",
        tenant="demo",
        collection="help",
        encoder=EncoderConfig(),
        embedder_factory=HashEmbedder,
        max_reject_share=max_reject_share,
        progress=progress,
    )


def test_a_folder_becomes_a_version_and_a_bad_file_a_line_of_the_report(company: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    report = run(company, progress=lambda *event: told.append(event))
    assert (report.version, report.files, report.documents, report.duplicates) == ("v000001", 6, 5, 1)
    assert (report.passages, report.qa_pairs, report.embedded, report.reused_vectors) == (3, 2, 5, 0)
    assert [reject.source for reject in report.rejects] == ["articles/broken.pdf"]
    assert ("read", 6, 6) in told
    assert ("embed", 5, 5) in told
    assert told[-1][0] == "publish"

    store = KnowledgeStore(company.parent / "knowledge")
    version = store.open("demo", "help", report.version)
    embedder = HashEmbedder()
    asked = embedder.embed_queries(["如何退货？"])
    (pair, *_) = version.search_questions(asked, 1, PUBLIC, TODAY)
    assert (pair.chunk.answer, pair.chunk.language, pair.chunk.source) == ("七天内申请。", "zh", "faq/faq.csv")
    assert pair.score == pytest.approx(1.0)
    assert version.search_lexical("returning", 1, PUBLIC, TODAY)[0].chunk.title == "Returns"
    assert version.search_lexical("refund limit", 9, PUBLIC, TODAY) == []
    assert version.search_lexical("refund limit", 9, frozenset({"staff"}), TODAY)
    written = company.parent / "knowledge" / "demo" / "help" / report.version
    assert json.loads((written / "rejects.jsonl").read_text())["source"] == "articles/broken.pdf"
    assert store.report("demo", "help", report.version)["documents"] == 5


def test_a_second_run_embeds_only_what_changed(company: Path) -> None:
    first = run(company)
    second = run(company)
    assert (second.version, second.embedded, second.reused_vectors) == ("v000002", 0, first.embedded)
    (company / "articles" / "returns.md").write_text("---\ntitle: Returns\n---\nWithin 14 days.")
    third = run(company)
    assert (third.embedded, third.reused_vectors, third.duplicates) == (1, 5, 0)


def test_a_published_version_that_is_broken_is_replaced(company: Path) -> None:
    first = run(company)
    (company.parent / "knowledge" / "demo" / "help" / first.version / "chunks.parquet").write_bytes(b"")
    second = run(company)
    assert (second.embedded, second.version) == (5, "v000002")
    assert "chunks.parquet" in second.notes[0]


def test_too_many_rejects_publish_nothing(company: Path) -> None:
    with pytest.raises(TooManyRejectsError, match="1 of 6 documents were rejected") as caught:
        run(company, max_reject_share=0.1)
    assert caught.value.rejects[0].source == "articles/broken.pdf"
    assert KnowledgeStore(company.parent / "knowledge").collections("demo") == []


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    for folder in ("articles", "faq"):
        (tmp_path / "company" / folder).mkdir(parents=True)
    with pytest.raises(NothingToIngestError):
        run(tmp_path / "company")


def test_a_name_that_is_none_is_said_before_the_work(company: Path) -> None:
    with pytest.raises(StoreError):
        ingest([company], root=company, tenant="demo", collection="../x", encoder=EncoderConfig())


def test_an_encoder_that_cannot_be_loaded_is_said_without_a_traceback(company: Path) -> None:
    def no_embedder() -> Embedder:
        raise RuntimeError("no such model")

    with pytest.raises(EmbedderError) as caught:
        ingest(
            [company], root=company.parent / "knowledge", tenant="demo", collection="help", encoder=EncoderConfig(),
            embedder_factory=no_embedder,
        )  # fmt: skip
    assert str(caught.value) == "the encoder failed: no such model"


def test_the_ray_that_was_there_goes_on(company: Path) -> None:
    run(company)
    assert ray.is_initialized()
