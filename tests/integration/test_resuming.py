"""Ingestion that is killed while it embeds: what was finished is not done again, and nothing is missing."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ingestion.embedder_pool import _BATCH
from ingestion.embedding import embedding_text, vector_key
from ingestion.store import KnowledgeStore
from models.fakes import HashEmbedder

pytestmark = pytest.mark.integration

DOCUMENTS = 1200
PATIENCE_S = 400.0  # Ray alone takes minutes to start on a machine that is busy enough


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    words = [f"word{n}" for n in range(500)]
    path = tmp_path / "articles.jsonl"
    with path.open("w") as file:
        for n in range(DOCUMENTS):
            content = " ".join(random.Random(n).choices(words, k=20 + n % 60))
            file.write(json.dumps({"id": f"d{n}", "title": f"Article {n}", "content": content}) + "\n")
    return path


class Run:
    """One attempt to ingest, of which `killed` does not see the end."""

    def __init__(self, where: str, documents: Path) -> None:
        self.root, self._log = documents.parent / "knowledge", documents.parent / "embedded.log"
        self._command = [sys.executable, "-m", "tests.integration.embedding_child"]
        self._command += [where, str(self.root), str(documents), str(self._log)]

    def batches(self) -> int:
        return len(self._log.read_text().splitlines()) if self._log.exists() else 0

    def embedded(self) -> int:
        """Texts, by all attempts together."""
        return sum(map(int, self._log.read_text().split()))

    def killed(self, batches: int, delay_s: float) -> None:
        """When so many more have been embedded, and a moment later."""
        before = self.batches()
        process = subprocess.Popen(self._command)
        deadline = time.monotonic() + PATIENCE_S
        while self.batches() < before + batches:
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL

    def finished(self) -> None:
        subprocess.run(self._command, check=True, timeout=PATIENCE_S)


def check(root: Path) -> None:
    """Every document is there once, with its own vector, and no work is left."""
    store = KnowledgeStore(root)
    assert store.current_version("demo", "help") == "v000001"
    chunks = store.chunks("demo", "help", "v000001", None)
    assert sorted(chunk.document_id for chunk in chunks) == sorted(f"d{n}" for n in range(DOCUMENTS))
    stored = store.stored_vectors("demo", "help", "v000001", [vector_key(chunk) for chunk in chunks])
    expected = HashEmbedder().embed_passages([embedding_text(chunk) for chunk in chunks])
    np.testing.assert_array_equal([stored[vector_key(chunk)][0] for chunk in chunks], expected)
    assert not list(root.rglob(".work"))


def test_killed_again_and_again_it_loses_a_batch_each_time_at_most(documents: Path) -> None:
    run, dice = Run("HERE", documents), random.Random(0)
    kills = 5
    for _ in range(kills):
        run.killed(batches=dice.randint(1, 4), delay_s=dice.uniform(0, 0.06))
    assert not KnowledgeStore(run.root).collections("demo")
    run.finished()
    check(run.root)
    assert DOCUMENTS <= run.embedded() <= DOCUMENTS + kills * _BATCH


def test_killed_beside_its_pool_on_ray_it_loses_what_was_under_way(documents: Path) -> None:
    run = Run("RAY", documents)
    run.killed(batches=8, delay_s=0)
    before = run.embedded()
    run.finished()
    check(run.root)
    assert DOCUMENTS <= run.embedded() < DOCUMENTS + before
