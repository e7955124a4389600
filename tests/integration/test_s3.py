"""A store in S3, spoken to over HTTP: what a folder in memory, as the unit tests have it, cannot show.

Runs where moto is installed (`pip install 'moto[server]'`): its 130 packages are too many to ask of everybody.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from pyarrow import fs

from ingestion import edit
from ingestion.errors import CorruptVersionError
from ingestion.store import KnowledgeStore
from models.fakes import HashEmbedder

moto_server = pytest.importorskip("moto.server", reason="moto is not installed")
pytestmark = pytest.mark.integration

EMBEDDER = HashEmbedder(64)
TODAY, PUBLIC = date(2026, 11, 24), frozenset({"public"})


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def root(address: str, request: pytest.FixtureRequest) -> str:
    bucket = request.node.name.replace("_", "-")[:60].strip("-")
    s3 = fs.S3FileSystem(
        access_key="a", secret_key="b", endpoint_override=address, scheme="http", region="us-east-1",
        allow_bucket_creation=True,
    )  # fmt: skip
    s3.create_dir(bucket)
    return f"s3://a:b@{bucket}/knowledge?scheme=http&region=us-east-1&endpoint_override={address.replace(':', '%3A')}"


def put(store: KnowledgeStore, answer: str) -> None:
    edit.put(store, "demo", "help", [edit.pair_document("Do you gift-wrap?", answer)], EMBEDDER)


def answer_of(store: KnowledgeStore, version: str) -> str:
    asked = EMBEDDER.embed_queries(["Do you gift-wrap?"])[0]
    (hit,) = store.open("demo", "help", version).search_questions(asked, 1, PUBLIC, TODAY)
    return hit.chunk.answer


def test_versions_are_published_found_elsewhere_and_taken_back(root: str, tmp_path: Path) -> None:
    writer, reader = KnowledgeStore(root, tmp_path / "writer"), KnowledgeStore(root, tmp_path / "reader")
    assert reader.current_version("demo", "help") is None
    put(writer, "No.")
    put(writer, "Yes.")
    assert reader.versions("demo", "help") == ["v000001", "v000002"]
    assert [answer_of(reader, version) for version in ("v000001", "v000002")] == ["No.", "Yes."]
    assert writer.rollback("demo", "help") == reader.current_version("demo", "help") == "v000001"
    assert reader.verify("demo", "help", "v000001").chunks == 1
    assert reader.collections("demo") == ["help"]


def test_while_the_pointer_moves_readers_see_the_old_or_the_new_version(root: str, tmp_path: Path) -> None:
    writer, reader = KnowledgeStore(root, tmp_path / "writer"), KnowledgeStore(root, tmp_path / "reader")
    for answer in ("No.", "Yes."):
        put(writer, answer)
    seen: list[str | None] = []
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            seen.append(reader.current_version("demo", "help"))

    looking = threading.Thread(target=look)
    looking.start()
    for version in ("v000001", "v000002") * 5:
        writer.rollback("demo", "help", version)
    is_over.set()
    looking.join()
    assert set(seen) == {"v000001", "v000002"}


def test_damage_is_refused_by_the_name_of_its_file(root: str, tmp_path: Path) -> None:
    put(KnowledgeStore(root, tmp_path / "writer"), "No.")
    s3, base = fs.FileSystem.from_uri(root)
    files = s3.get_file_info(fs.FileSelector(f"{base}/demo/help/segments", recursive=True))
    dense = next(info.path for info in files if info.base_name == "dense.faiss")
    with s3.open_output_stream(dense) as opened:
        opened.write(b"damaged")
    with pytest.raises(CorruptVersionError, match=r"dense\.faiss is not what was published"):
        KnowledgeStore(root, tmp_path / "reader").open("demo", "help", "v000001")
