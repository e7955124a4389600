"""The whole job on a real Ray, with the hash embedder: files in, a searchable version out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest
import ray

from ingestion.chunk import Chunk
from ingestion.errors import EmbedderError, NothingToIngestError, StoreError, TooManyRejectsError
from ingestion.job import Progress, ingest, no_progress, plan
from ingestion.ray_session import ray_session
from ingestion.report import IngestReport, Plan
from ingestion.store import Changes, KnowledgeStore
from models.embedder import ModelLoadError
from models.fakes import HashEmbedder, HashEncoder
from models.protocols import EmbedderRecipe

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


def run(
    company: Path,
    progress: Progress = no_progress,
    max_reject_share: float = 0.2,
    encoder: EmbedderRecipe = HashEncoder(),  # noqa: B008 - a frozen value
) -> IngestReport:
    return ingest(
        [company / "articles", company / "faq"],
        root=company.parent / "knowledge",
        tenant="demo",
        collection="help",
        encoder=encoder,
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
    written = company.parent / "knowledge" / "demo" / "help" / "versions" / report.version
    assert json.loads((written / "rejects.jsonl").read_text())["source"] == "articles/broken.pdf"
    assert store.report("demo", "help", report.version)["documents"] == 5


def store_of(company: Path) -> KnowledgeStore:
    return KnowledgeStore(company.parent / "knowledge")


@dataclass(frozen=True)
class Counted(HashEncoder):
    loads: list[int] = field(default_factory=list)

    def identity(self) -> str:
        return HashEncoder(self.dim).identity()

    def load(self) -> HashEmbedder:
        self.loads.append(1)
        return super().load()


def test_a_second_run_embeds_only_what_changed(company: Path) -> None:
    first = run(company)
    encoder = Counted()
    again = run(company, encoder=encoder)
    assert not encoder.loads
    assert (again.version, again.embedded, again.reused_vectors) == ("v000001", 0, first.embedded)
    assert "nothing has changed" in again.notes[0]
    (company / "articles" / "returns.md").write_text("---\ntitle: Returns\n---\nWithin 14 days.")
    third = run(company, encoder=encoder)
    assert len(encoder.loads) == 1  # while the others were read
    assert (third.version, third.embedded, third.reused_vectors, third.duplicates) == ("v000002", 1, 5, 0)
    assert (third.new_documents, third.changed_documents, third.deleted_documents) == (1, 0, 0)  # the copy stays


def test_what_has_moved_is_not_embedded_again(company: Path) -> None:
    run(company)
    (company / "articles" / "returns.md").unlink()
    (company / "articles" / "copy.md").rename(company / "faq" / "moved.md")
    report = run(company)
    assert (report.embedded, report.new_documents, report.deleted_documents) == (0, 1, 1)


def test_a_document_that_becomes_visible_to_others_is_not_embedded_again(company: Path) -> None:
    run(company)
    (company / "articles" / "staff.md").write_text("Refund limit: 200 euros a day.\n")
    report = run(company)
    assert (report.embedded, report.changed_documents) == (0, 1)
    version = store_of(company).open("demo", "help", report.version)
    assert version.search_lexical("refund limit", 9, PUBLIC, TODAY)[0].chunk.audience == "public"


def test_a_file_that_cannot_be_read_any_more_stays_as_it_was(company: Path) -> None:
    (company / "articles" / "broken.pdf").unlink()
    run(company)
    (company / "articles" / "staff.md").write_bytes(b"---\naudience: Not A Name\n---\nRefund limit: 300 euros.")
    (company / "faq" / "more.jsonl").write_text('{"id": "a2", "title": "Shipping", "content": "Six days."}\n{"id": ')
    report = run(company, max_reject_share=0.5)
    assert [reject.source for reject in report.rejects] == ["articles/staff.md", "faq/more.jsonl:2"]
    assert (report.kept_documents, report.new_documents, report.deleted_documents) == (2, 1, 0)
    version = store_of(company).open("demo", "help", report.version)
    assert "200" in version.search_lexical("refund limit", 1, frozenset({"staff"}), TODAY)[0].chunk.text
    assert len(version.search_lexical("shipping", 9, PUBLIC, TODAY)) == 2


def test_a_plan_changes_nothing_and_says_what_a_run_would_do(company: Path) -> None:
    def make() -> Plan:
        paths = [company / "articles", company / "faq"]
        root = company.parent / "knowledge"
        return plan(paths, root=root, tenant="demo", collection="help", encoder=HashEncoder())

    first = make()
    assert (first.version, first.documents, first.to_embed, len(first.rejects)) == (None, 5, 5, 1)
    assert store_of(company).collections("demo") == []
    run(company)
    assert make().difference.is_empty
    (company / "articles" / "staff.md").unlink()
    (company / "articles" / "new.md").write_text("We open at nine.")
    later = make()
    assert (later.difference.new_documents, later.difference.deleted_documents, later.to_embed) == (1, 1, 1)
    assert later.version == store_of(company).current_version("demo", "help") == "v000001"
    assert [chunk.text for chunk in later.came] == ["We open at nine."]
    assert len(later.gone) == 1


def test_another_encoder_embeds_everything_again_and_keeps_what_was_put_in_by_hand(company: Path) -> None:
    run(company)
    store = store_of(company)
    by_hand = Chunk(
        "x", "y", 0, "qa", "Do you gift-wrap?\nYes.", "", "en", "public", "edit", question="Do you gift-wrap?",
        answer="Yes.", origin="edit",
    )  # fmt: skip
    embedder = HashEmbedder()
    vectors = embedder.embed_passages(["Do you gift-wrap?\nYes."])
    store.publish("demo", "help", Changes(embedder.identity, [by_hand], vectors, vectors, made_by="edit"))
    assert run(company).version == "v000002"  # what was put in by hand is not missing in the files
    report = run(company, encoder=HashEncoder(32))
    assert (report.version, report.embedded) == ("v000003", 6)
    assert "another encoder" in report.notes[0]
    version = store.open("demo", "help", "v000003")
    assert (version.dim, version.chunk("x")) == (32, by_hand)


def test_a_published_version_that_is_broken_is_replaced(company: Path) -> None:
    run(company)
    next((company.parent / "knowledge").rglob("chunks.parquet")).write_bytes(b"")
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
        ingest([company], root=company, tenant="demo", collection="../x", encoder=HashEncoder())


class NoEncoder(HashEncoder):
    def load(self) -> HashEmbedder:
        raise ModelLoadError("no such model")


def test_an_encoder_that_cannot_be_loaded_is_said_without_a_traceback(company: Path) -> None:
    with pytest.raises(EmbedderError) as caught:
        run(company, encoder=NoEncoder())
    assert str(caught.value) == "the encoder failed: no such model"


def test_the_ray_that_was_there_goes_on(company: Path) -> None:
    run(company)
    assert ray.is_initialized()
