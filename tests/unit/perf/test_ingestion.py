"""What perf.ingestion feeds to the job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perf import ingestion

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def three_articles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "documents.jsonl"
    ingestion.write(path, [{"id": f"d{n}", "title": f"T{n}", "content": f"Content {n}."} for n in range(3)])
    monkeypatch.setattr(ingestion, "_ARTICLES", path)


def test_more_documents_than_there_are_differ_in_id_title_and_text() -> None:
    rows = list(ingestion.articles(8))
    assert rows[:3] == [json.loads(line) for line in ingestion._ARTICLES.read_text().splitlines()]
    assert all(len({row[key] for row in rows}) == 8 for key in ("id", "title", "content"))


def test_one_document_in_a_hundred_changes_and_keeps_its_id() -> None:
    rows = list(ingestion.articles(250))
    changed = ingestion.with_changes(rows)
    assert [row["id"] for row in changed] == [row["id"] for row in rows]
    assert [n for n in range(250) if changed[n] != rows[n]] == [0, 100, 200]


def test_a_run_says_how_fast_it_was() -> None:
    run = ingestion.Run("all", documents=20, chunks=60, embedded=60, seconds=4.0, stages={})
    assert (run.documents_per_s, run.chunks_per_s) == (5.0, 15.0)
