"""What the stages of a job hand on, and which documents are duplicates."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestion.parse import parse
from ingestion.rows import chunk_from_json, chunk_to_json, gather, of_found, split_row

pytestmark = pytest.mark.unit


def file(folder: Path, name: str, content: str) -> Path:
    (folder / name).write_text(content, encoding="utf-8")
    return folder / name


def test_equal_documents_are_kept_once(tmp_path: Path) -> None:
    files = [
        file(tmp_path, "a.txt", "The same."),
        file(tmp_path, "copy.txt", "The same."),
        file(tmp_path, "staff.md", "---\naudience: staff\n---\nThe same."),
        file(tmp_path, "faq.csv", "question,answer\nHow?,So.\nHow?,So.\nHow?,Else."),
        file(tmp_path, "bad.csv", "question,answer\nHow?,\n"),
    ]
    parsed = [parse(path, path.name) for path in files]
    found = [[*each.documents, *each.rejects] for each in parsed]
    rows = [row for number, each in enumerate(found) for row in of_found(number, each)]
    found = gather(chunk for row in rows for chunk in split_row(row, "help"))
    assert (found.documents, found.duplicates, len(found.rejects)) == (4, 2, 1)
    assert [chunk.source for chunk in found.chunks] == ["a.txt", "staff.md", "faq.csv", "faq.csv"]
    assert [chunk_from_json(chunk_to_json(chunk)) for chunk in found.chunks] == found.chunks
