"""Vectors by key, in memory and in the files of an unfinished run."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import fs

from ingestion.chunk import Chunk
from ingestion.embedding import vector_key
from ingestion.files import Files, LocalFiles, ObjectFiles
from ingestion.vectors import VectorBatch, VectorTable, VectorWork

pytestmark = pytest.mark.unit

DIM = 4
PLACE = "demo/help"


def passage(text: str, document: str = "d") -> Chunk:
    return Chunk(f"{document}-{text}", document, 0, "passage", text, "", "en", "public", "a.md")


def pair(question: str) -> Chunk:
    text = f"{question}\nYes."
    return Chunk(question, "d", 0, "qa", text, "", "en", "public", "a.md", question=question, answer="Yes.")


def batch(*chunks: Chunk, seed: int = 0) -> VectorBatch:
    vectors = np.random.default_rng(seed).standard_normal((2, len(chunks), DIM)).astype(np.float32)
    vectors[1, [chunk.kind == "passage" for chunk in chunks]] = 0
    return VectorBatch([vector_key(chunk) for chunk in chunks], vectors[0], vectors[1])


@pytest.fixture(params=["folder", "objects"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    if request.param == "folder":
        return LocalFiles(tmp_path)
    memory = fs.PyFileSystem(fs.FSSpecHandler(MemoryFileSystem()))
    return ObjectFiles(memory, f"bucket-{uuid.uuid4().hex}/knowledge", tmp_path / "copies")


def test_a_table_gives_rows_in_the_order_of_the_chunks() -> None:
    a, b, c = passage("a"), pair("b?"), passage("c")
    table = VectorTable(map(vector_key, (a, b, c)))
    first, second = batch(c, b), batch(a, passage("unknown"), seed=1)
    assert vector_key(b) not in table
    table.fill(first)
    table.fill(second)
    assert vector_key(b) in table
    vectors, question_vectors = table.of([a, b, c, passage("a", "another document")], DIM)
    np.testing.assert_array_equal(vectors, [second.vectors[0], first.vectors[1], first.vectors[0], second.vectors[0]])
    np.testing.assert_array_equal(question_vectors, first.question_vectors[1:])


def test_a_table_says_what_it_lacks() -> None:
    table = VectorTable([vector_key(passage("a")), vector_key(passage("b"))])
    table.fill(batch(passage("a")))
    with pytest.raises(KeyError, match="1 chunks"):
        table.of([passage("a"), passage("b")], DIM)
    assert [each.shape for each in table.of([], DIM)] == [(0, DIM), (0, DIM)]


def test_what_was_added_is_there_for_the_next_run_of_the_same_embedder(files: Files) -> None:
    work = VectorWork(files, PLACE, "e5@1")
    assert list(work.read()) == []
    added = [batch(passage("a"), pair("b?")), batch(pair("c?"), seed=1), batch(passage("d"), seed=2)]
    for each in added:
        work.add(each)
    found = {key: rows for each in VectorWork(files, PLACE, "e5@1").read() for key, *rows in _rows(each)}
    assert found.keys() == {key for each in added for key in each.keys}
    for each in added:
        for key, vector, question_vector in _rows(each):
            np.testing.assert_array_equal(found[key], [vector, question_vector])
    assert list(VectorWork(files, PLACE, "e5@2").read()) == []


def test_clearing_leaves_nothing_of_any_embedder(files: Files) -> None:
    for identity in ("e5@1", "e5@2"):
        VectorWork(files, PLACE, identity).add(batch(passage("a")))
    VectorWork(files, PLACE, "e5@2").clear()
    assert files.names(f"{PLACE}/.work") == []
    assert list(VectorWork(files, PLACE, "e5@1").read()) == []
    VectorWork(files, PLACE, "e5@1").clear()


def test_half_written_and_damaged_files_are_passed_over(tmp_path: Path) -> None:
    work = VectorWork(LocalFiles(tmp_path), PLACE, "e5@1")
    for seed, name in enumerate("abcd"):
        work.add(batch(*(passage(f"{name}{n}") for n in range(50)), seed=seed))
    whole, cut, flipped, emptied = sorted(tmp_path.rglob("*.parquet"))
    content = whole.read_bytes()
    whole.with_name(f".{whole.name}-draft").write_bytes(content[:100])
    cut.write_bytes(cut.read_bytes()[:-50])
    emptied.write_bytes(b"")
    damaged = bytearray(flipped.read_bytes())
    damaged[len(damaged) // 2] ^= 1  # in the midst of the vectors
    flipped.write_bytes(damaged)
    (left,) = work.read()
    assert len(left.keys) == 50


def _rows(each: VectorBatch) -> zip[tuple[str, np.ndarray, np.ndarray]]:
    return zip(each.keys, each.vectors, each.question_vectors, strict=True)
