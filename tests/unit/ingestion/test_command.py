"""The command line: which settings win, what it says when it fails, what `status` shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ingestion.__main__ import _encoder, _root, app
from ingestion.chunk import Chunk
from ingestion.document import Reject
from ingestion.embedding import EncoderConfig
from ingestion.report import IngestReport
from ingestion.store import Changes, KnowledgeStore

pytestmark = pytest.mark.unit


def test_options_win_over_settings_and_settings_over_defaults(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        "knowledge: {root: /data}\nencoder: {model: m, precision: bf16, threads: 7, max_batch: 3}\nhttp: {port: 1}\n"
    )
    assert _encoder(None, {}) == EncoderConfig()
    given = {"model": None, "precision": "fp32", "pooling": None, "threads": 2}
    assert _encoder(settings, given) == EncoderConfig(model="m", precision="fp32", threads=2)
    assert _root(settings, None) == Path("/data")
    assert _root(settings, Path("/other")) == Path("/other")


def test_status_shows_what_is_published(tmp_path: Path) -> None:
    run = CliRunner().invoke
    assert "Nothing is published" in run(app, ["status", "--root", str(tmp_path)]).output
    report = IngestReport(
        "demo", "help", "", "hash", "2026-11-24T12:00:00+00:00", files=1, documents=17, qa_pairs=0, passages=1,
        duplicates=0, new_documents=17, changed_documents=0, deleted_documents=0, kept_documents=0, reused_vectors=0,
        embedded=1, rejects=(Reject("a", "b"),),
    )  # fmt: skip
    vectors = np.ones((1, 2), dtype=np.float32)
    chunk = Chunk("c", "d", 0, "passage", "text", "", "en", "public", "a.md")
    changes = Changes("hash", [chunk], vectors, vectors[:0], report=report.to_json())
    KnowledgeStore(tmp_path).publish("demo", "help", changes)
    shown = run(app, ["status", "--root", str(tmp_path)]).output
    assert all(word in shown for word in ("help", "v000001", "17"))


def test_a_settings_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["status", "--settings", str(tmp_path / "none.yaml")])
    assert result.exit_code == 2
    assert "none.yaml" in result.output
