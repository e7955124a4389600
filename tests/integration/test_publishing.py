"""Publishing that is killed, and versions that are swapped while customers ask."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deployments.answering.types import Principal
from deployments.retriever import Retriever
from deployments.settings import EncoderSettings, KnowledgeSettings
from deployments.sharded_retriever import ShardedRetriever
from ingestion.errors import StoreError
from ingestion.store import KnowledgeStore, SegmentInfo, Shard
from tests.integration.publishing_child import CHUNKS, DIM, edition, edition_of

pytestmark = pytest.mark.integration

KILLS = 50
SWAPS = 20
PUBLIC = Principal("demo", frozenset({"public"}), "k")


class Child:
    """Publishes an edition in a fork that can be killed."""

    def __init__(self, root: Path) -> None:
        command = [sys.executable, "-m", "tests.integration.publishing_child", str(root)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def begin(self, number: int) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{number}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    child = Child(tmp_path)
    yield child
    child.close()


def editions_in(store: KnowledgeStore) -> set[str]:
    """What the chunks of the published version say, once every file of it has been checked."""
    version = store.current_version("demo", "help")
    assert version is not None
    store.verify("demo", "help", version)
    opened = store.open("demo", "help", version)
    assert opened.chunk_count == CHUNKS
    found = [opened.chunk(f"c{n}") for n in range(CHUNKS)]
    return {edition_of(chunk) for chunk in found if chunk is not None}


def wait_for_end(pid: int) -> None:
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.001)


def test_a_killed_publication_leaves_the_old_version_or_the_new_never_a_half(tmp_path: Path, child: Child) -> None:
    store = KnowledgeStore(tmp_path)
    began = time.monotonic()
    wait_for_end(child.begin(0))
    takes_s = time.monotonic() - began
    rng = random.Random(5)
    last, olds = 0, 0
    for number in range(1, KILLS + 1):
        pid = child.begin(number)
        time.sleep(rng.uniform(0.0, takes_s))
        with contextlib.suppress(ProcessLookupError):  # it was faster
            os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)
        (edition_there,) = editions_in(store)
        assert edition_there in (f"edition {last}", f"edition {number}")
        olds += edition_there == f"edition {last}"
        last = int(edition_there.split()[1])
    assert olds > 0, "nothing was killed in time: this has shown nothing"
    wait_for_end(child.begin(KILLS + 1))
    assert editions_in(store) == {f"edition {KILLS + 1}"}
    place = tmp_path / "demo" / "help"
    referred = {info.key for name in store.versions("demo", "help") for info in segments_of(store, name)}
    assert {path.name for path in (place / "segments").iterdir()} == referred  # no orphan is left
    assert not (place / ".draft").exists()


def segments_of(store: KnowledgeStore, version: str) -> tuple[SegmentInfo, ...]:
    return store.manifest("demo", "help", version).segments


@pytest.mark.parametrize("parts", [1, 3])
async def test_versions_are_swapped_under_load_without_a_failed_or_mixed_answer(tmp_path: Path, parts: int) -> None:
    store = KnowledgeStore(tmp_path, parts=parts)
    store.publish("demo", "help", edition(1, whole=True))
    shards = [
        Retriever(
            # Shards do not look at the same moment, so that they are of two versions for a while.
            KnowledgeSettings(root=str(tmp_path), parts=parts, poll_interval_s=0.02 * (1 + part)),
            EncoderSettings(),
            Shard(part, parts),
            embedder_identity="test",
        )
        for part in range(parts)
    ]
    retriever = ShardedRetriever(shards) if parts > 1 else shards[0]
    done = threading.Event()

    def publish() -> None:
        for number in range(2, SWAPS + 2):
            store.publish("demo", "help", edition(number, whole=number % 2 == 0))
            time.sleep(0.3 if parts > 1 else 0.0)  # a shard that is two versions ahead could not go back
        done.set()

    seen: set[str] = set()

    async def ask(rng: np.random.Generator) -> None:
        while not done.is_set() or f"v{SWAPS + 1:06d}" not in seen:
            vector = rng.standard_normal(DIM).astype(np.float32)
            evidence = await retriever.search(PUBLIC, "help", "edition", "en", vector, 8)
            assert len(evidence.chunks) == 8
            name = evidence.version.partition("-")[0]
            assert {edition_of(found.chunk) for found in evidence.chunks} == {f"edition {int(name[1:])}"}
            seen.add(name)

    publisher = threading.Thread(target=publish)
    publisher.start()
    async with asyncio.timeout(120):
        await asyncio.gather(*(ask(np.random.default_rng(seed)) for seed in range(8)))
    publisher.join()
    for shard in shards:
        await shard.stop()
    assert len(seen) > 2, "the versions were not seen to change"


async def test_a_version_that_cannot_be_read_leaves_the_one_before_it_at_work(tmp_path: Path) -> None:
    store = KnowledgeStore(tmp_path)
    store.publish("demo", "help", edition(1, whole=True))
    settings = KnowledgeSettings(root=str(tmp_path), poll_interval_s=0.02)
    retriever = Retriever(settings, EncoderSettings(), embedder_identity="test")
    vector = np.ones(DIM, dtype=np.float32)
    first = await retriever.version(PUBLIC, "help")

    staging = KnowledgeStore(tmp_path / "staging")  # so that it is damaged before it is published
    shutil.copytree(tmp_path / "demo", tmp_path / "staging" / "demo")
    staging.publish("demo", "help", edition(2, whole=True))
    place, staged = tmp_path / "demo" / "help", tmp_path / "staging" / "demo" / "help"
    next((staged / "segments").glob("v000002-*/dense.faiss")).write_bytes(b"damaged")
    for name in ("segments", "versions"):
        shutil.copytree(staged / name, place / name, dirs_exist_ok=True)
    shutil.copy(staged / "CURRENT", place / "CURRENT")
    with pytest.raises(StoreError, match=r"dense\.faiss"):
        store.open("demo", "help", "v000002")

    await asyncio.sleep(0.3)
    evidence = await retriever.search(PUBLIC, "help", "edition", "en", vector, 3)
    assert (evidence.version, edition_of(evidence.chunks[0].chunk)) == (first, "edition 1")

    store.compact("demo", "help")  # builds the damaged index anew
    async with asyncio.timeout(20):
        while (await retriever.version(PUBLIC, "help")) == first:  # noqa: ASYNC110 - another thread takes it in
            await asyncio.sleep(0.02)
    evidence = await retriever.search(PUBLIC, "help", "edition", "en", vector, 3)
    assert edition_of(evidence.chunks[0].chunk) == "edition 2"
    await retriever.stop()
