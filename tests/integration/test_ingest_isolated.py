"""A file can end the child that reads it, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestion.isolated import IsolatedParser, Limits
from ingestion.sources import SourceFile

pytestmark = pytest.mark.integration


def file(folder: Path, name: str, content: str) -> SourceFile:
    (folder / name).write_text(content, encoding="utf-8")
    return SourceFile(folder / name, name)


def test_one_child_reads_file_after_file(tmp_path: Path) -> None:
    with IsolatedParser(Limits()) as parser:
        good = parser.parse(file(tmp_path, "a.md", "# T\n\n退货"))
        bad = parser.parse(file(tmp_path, "b.pdf", "%PDF-1.7"))
        gone = parser.parse(SourceFile(tmp_path / "gone.txt", "gone.txt"))
    assert good.documents[0].blocks[0].text == "退货"
    assert "cut off" in bad.rejects[0].reason
    assert "not there any more" in gone.rejects[0].reason


def test_time_is_limited_and_the_next_file_is_read(tmp_path: Path) -> None:
    slow = file(tmp_path, "slow.md", "[" * 100_000 + "](" * 100_000 + "\n" + "*a_ " * 200_000)
    with IsolatedParser(Limits(time_s=1)) as parser:
        assert parser.parse(slow).rejects[0].reason.startswith("took longer than 1 s to read")
        assert parser.parse(file(tmp_path, "a.txt", "text")).documents


def test_memory_is_limited_and_the_next_file_is_read(tmp_path: Path) -> None:
    large = file(tmp_path, "large.txt", "many words " * 10_000_000)  # 110 MB, and several copies of it
    with IsolatedParser(Limits(memory_bytes=400_000_000)) as parser:
        (reject,) = parser.parse(large).rejects
        assert "memory" in reject.reason
        assert parser.parse(file(tmp_path, "a.txt", "text")).documents
