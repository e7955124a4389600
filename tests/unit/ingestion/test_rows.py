"""What the stages of a job hand on, and which documents are duplicates."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestion.parse import parse
from ingestion.rows import from_row, gather, pieces, to_row

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
    read = [piece for number, each in enumerate(found) for piece in pieces(number, each, "help")]
    assert [from_row(to_row(piece)) for piece in read] == read
    found = gather(read)
    assert (found.documents, found.duplicates, len(found.rejects)) == (4, 2, 1)
    assert [chunk.source for chunk in found.chunks] == ["a.txt", "staff.md", "faq.csv", "faq.csv"]
