"""Where knowledge lies: one suite over a folder and over object storage (in memory, behind pyarrow's own interface)."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import fsspec
import numpy as np
import pytest
from pyarrow import fs

from ingestion import store as store_module
from ingestion.chunk import Chunk
from ingestion.errors import CorruptVersionError, StoreError
from ingestion.files import Files, LocalFiles, ObjectFiles, open_files
from ingestion.store import Changes, KnowledgeStore

pytestmark = pytest.mark.unit


@pytest.fixture(params=["folder", "objects"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    if request.param == "folder":
        return LocalFiles(tmp_path / "root")
    memory = fsspec.filesystem("memory", skip_instance_cache=True)
    base = f"bucket-{tmp_path.name}/knowledge"  # fsspec's memory is one for the process
    memory.makedirs(base, exist_ok=True)
    return ObjectFiles(fs.PyFileSystem(fs.FSSpecHandler(memory)), base, tmp_path / "copies")


def add(files: Files, folder: str, **content: str) -> None:
    with files.draft("demo") as draft:
        for name, text in content.items():
            (draft / "sub").mkdir(exist_ok=True)
            (draft / "sub" / name).write_text(text)
        files.add(draft, folder)


def test_a_folder_is_added_listed_fetched_and_removed(files: Files) -> None:
    assert files.names("demo") == []
    add(files, "demo/segments/one", a="1", b="2")
    add(files, "demo/segments/two", a="3")
    assert files.names("demo/segments") == ["one", "two"]
    assert files.names("demo") == ["segments"]  # and no draft
    assert files.read("demo/segments/one/sub/b") == b"2"
    folder = files.fetch("demo/segments/one", ["sub/a", "sub/none"])
    assert (folder / "sub" / "a").read_text() == "1"
    assert not (folder / "sub" / "none").exists()
    files.remove("demo/segments/one")
    assert files.names("demo/segments") == ["two"]
    with pytest.raises(FileNotFoundError):
        files.read("demo/segments/one/sub/b")


def test_a_file_is_replaced_as_a_whole(files: Files) -> None:
    with files.locked("demo"):
        files.write("demo/CURRENT", b"v000001")
        files.write("demo/CURRENT", b"v2")
    assert files.read("demo/CURRENT") == b"v2"
    assert files.names("demo") == ["CURRENT"]


def test_a_store_works_the_same_on_both(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "open_files", lambda root, cache: files)
    store = KnowledgeStore("anywhere")

    def publish(name: str) -> str:
        vectors = np.ones((1, 4), dtype=np.float32)
        chunk = Chunk(name, name, 0, "passage", f"text of {name}", "", "en", "public", "a.md")
        return store.publish("demo", "help", Changes("e", [chunk], vectors, vectors[:0]))

    publish("a")
    first = store.open("demo", "help", "v000001")
    publish("b")
    second = store.open("demo", "help", "v000002", first.segments)
    public, today = frozenset({"public"}), date(2026, 11, 25)
    vector = np.ones(4, dtype=np.float32)
    assert len(second.search_dense(vector, 9, public, today)) == 2
    assert store.rollback("demo", "help") == "v000001"
    assert store.compact("demo", "help") == "v000003"
    assert store.open("demo", "help", "v000003").chunk_count == 1
    assert store.collections("demo") == ["help"]
    assert [info.id for info in store.documents("demo", "help", "v000003")] == ["a"]


def test_a_damaged_copy_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = fsspec.filesystem("memory", skip_instance_cache=True)
    memory.makedirs("bucket-damaged/knowledge", exist_ok=True)
    objects = ObjectFiles(fs.PyFileSystem(fs.FSSpecHandler(memory)), "bucket-damaged/knowledge", tmp_path)
    monkeypatch.setattr(store_module, "open_files", lambda root, cache: objects)
    store = KnowledgeStore("anywhere")
    vectors = np.ones((1, 4), dtype=np.float32)
    chunk = Chunk("a", "a", 0, "passage", "text", "", "en", "public", "a.md")
    store.publish("demo", "help", Changes("e", [chunk], vectors, vectors[:0]))
    store.open("demo", "help", "v000001")
    next(tmp_path.rglob("dense.faiss")).write_bytes(b"damaged")
    with pytest.raises(CorruptVersionError, match=r"dense\.faiss"):
        store.open("demo", "help", "v000001")
    assert store.open("demo", "help", "v000001").chunk_count == 1


def test_a_root_that_is_none_is_said(tmp_path: Path) -> None:
    assert isinstance(open_files(tmp_path), LocalFiles)
    assert isinstance(open_files(f"file://{tmp_path}"), LocalFiles)
    with pytest.raises(StoreError, match="cannot be used"):
        open_files("gopher://bucket/x")
