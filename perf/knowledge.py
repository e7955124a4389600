"""What changing the knowledge costs those who ask: `python -m perf.knowledge`.

A store of synthetic chunks, and the retriever that customers' questions go through, in one process. Measured: how long
an edit takes until it is found (published, noticed, loaded), against a whole rebuild as a store without deltas would do
it; how long a roll-back takes; and what searches cost while versions are swapped under them, against searches with
nothing going on. Prints a table; the last line is one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from deployments.answering.types import Evidence, Principal
from deployments.retriever import Retriever
from deployments.settings import EncoderSettings, KnowledgeSettings
from ingestion import edit
from ingestion.chunk import Chunk
from ingestion.store import Changes, KnowledgeStore
from models.fakes import HashEmbedder
from perf.metrics import percentile
from perf.provenance import provenance

TENANT, COLLECTION = "demo", "perf"
PUBLIC = Principal(TENANT, frozenset({"public"}), "k")
_WORDS = 3000  # different ones, Zipf-distributed as in real texts
_WORDS_OF_A_CHUNK = 80
_PAUSE_S = 0.002  # between two searches of one client


def synthetic(count: int, embedder: HashEmbedder, seed: int) -> Changes:
    """Chunks of random words. The vectors are random, too: embedding is not what is measured here."""
    rng = np.random.default_rng(seed)
    drawn = rng.zipf(1.3, size=(count, _WORDS_OF_A_CHUNK)) % _WORDS
    chunks = [
        Chunk(f"{seed}-{n}", f"d{n}", 0, "passage", " ".join(f"w{word}" for word in row), "", "en", "public", "a.md")
        for n, row in enumerate(drawn)
    ]
    vectors = rng.standard_normal((count, embedder.dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Changes(embedder.identity, chunks, vectors, vectors[:0], replaces_all=True)


class Clients:
    """Searches without end, and what each of them took."""

    def __init__(self, retriever: Retriever, dim: int) -> None:
        self._retriever = retriever
        self._dim = dim
        self.latencies_ms: list[float] = []
        self.failures: list[str] = []
        self.mixed = 0  # answers with chunks of two versions

    async def run(self, count: int, until: threading.Event) -> None:
        await asyncio.gather(*(self._ask(seed, until) for seed in range(count)))

    async def _ask(self, seed: int, until: threading.Event) -> None:
        rng = np.random.default_rng(seed)
        while not until.is_set():
            vector = rng.standard_normal(self._dim).astype(np.float32)
            text = " ".join(f"w{word}" for word in rng.zipf(1.3, size=6) % _WORDS)
            began = time.perf_counter()
            try:
                evidence = await self._retriever.search(PUBLIC, COLLECTION, text, "en", vector, 5)
                self.mixed += _is_mixed(evidence)
            except Exception as error:
                self.failures.append(repr(error))
            self.latencies_ms.append((time.perf_counter() - began) * 1e3)
            await asyncio.sleep(_PAUSE_S)


def _is_mixed(evidence: Evidence) -> bool:
    """Chunks of a whole version begin with its seed; those of edits are of any."""
    return len({found.chunk.id.partition("-")[0] for found in evidence.chunks if "-" in found.chunk.id}) > 1


async def live_after_s(change: Callable[[], Any], is_live: Callable[[], Awaitable[bool]]) -> float:
    """Seconds from the beginning of the change until a search sees it."""
    began = time.perf_counter()
    await asyncio.to_thread(change)
    while not await is_live():  # noqa: ASYNC110 - another thread takes it in
        await asyncio.sleep(0.005)
    return time.perf_counter() - began


async def measure(chunks: int, edits: int, swaps: int, clients: int, folder: Path) -> dict[str, Any]:
    origin = provenance()
    embedder = HashEmbedder(384)
    store = KnowledgeStore(folder)
    _tell(f"building {chunks} chunks")
    content = synthetic(chunks, embedder, seed=0)
    began = time.perf_counter()
    store.publish(TENANT, COLLECTION, content)
    build_s = time.perf_counter() - began
    settings = KnowledgeSettings(root=str(folder))
    retriever = Retriever(settings, EncoderSettings(), embedder_identity=embedder.identity)
    began = time.perf_counter()
    await retriever.version(PUBLIC, COLLECTION)
    open_s = time.perf_counter() - began

    _tell(f"{edits} edits")
    edit_s = [await _edit(store, retriever, embedder, number) for number in range(edits)]
    rollback_s = await _roll_back(store, retriever)
    _tell("one whole rebuild")
    rebuild_s = await _rebuild(store, retriever, synthetic(chunks, embedder, seed=1))

    _tell("searches, with nothing going on")
    calm = Clients(retriever, embedder.dim)
    await _while(calm, clients, lambda: time.sleep(10.0))
    _tell(f"{swaps} swaps under load")
    busy = Clients(retriever, embedder.dim)
    await _while(busy, clients, lambda: _swap(store, embedder, chunks, swaps, settings.poll_interval_s))
    await retriever.stop()
    return {
        "benchmark": "knowledge",
        **origin,
        "chunks": chunks,
        "build_s": build_s,
        "open_s": open_s,
        "poll_interval_s": settings.poll_interval_s,
        "edit_live_s": {"p50": percentile(edit_s, 0.5), "max": max(edit_s)},
        "rollback_live_s": rollback_s,
        "rebuild_live_s": rebuild_s,
        "rebuild_over_edit": rebuild_s / percentile(edit_s, 0.5),
        "swaps": swaps,
        "searches": len(busy.latencies_ms),
        "failed": len(busy.failures),
        "failures": busy.failures[:3],
        "mixed": busy.mixed,
        "calm_ms": _quantiles(calm.latencies_ms),
        "swapping_ms": _quantiles(busy.latencies_ms),
    }


async def _edit(store: KnowledgeStore, retriever: Retriever, embedder: HashEmbedder, number: int) -> float:
    word = f"novelty{number}"
    pair = edit.pair_document(f"What is {word}?", f"It is {word}.")

    async def is_live() -> bool:
        evidence = await retriever.search(PUBLIC, COLLECTION, word, "en", embedder.embed_queries([word])[0], 3)
        return any(word in found.chunk.text for found in evidence.chunks)

    return await live_after_s(lambda: edit.put(store, TENANT, COLLECTION, [pair], embedder), is_live)


async def _roll_back(store: KnowledgeStore, retriever: Retriever) -> float:
    before = await retriever.version(PUBLIC, COLLECTION)

    async def is_live() -> bool:
        return await retriever.version(PUBLIC, COLLECTION) != before

    return await live_after_s(lambda: store.rollback(TENANT, COLLECTION), is_live)


async def _rebuild(store: KnowledgeStore, retriever: Retriever, content: Changes) -> float:
    before = await retriever.version(PUBLIC, COLLECTION)

    async def is_live() -> bool:
        return await retriever.version(PUBLIC, COLLECTION) != before

    return await live_after_s(lambda: store.publish(TENANT, COLLECTION, content), is_live)


async def _while(clients: Clients, count: int, work: Callable[[], Any]) -> None:
    done = threading.Event()

    def run() -> None:
        try:
            work()
        finally:
            done.set()

    worker = threading.Thread(target=run)
    worker.start()
    await clients.run(count, done)
    worker.join()


def _swap(store: KnowledgeStore, embedder: HashEmbedder, chunks: int, swaps: int, poll_s: float) -> None:
    """Between two whole versions, made before, so that swapping is measured and not building."""
    names = store.versions(TENANT, COLLECTION)
    whole = [names[0], names[-1]]
    for number in range(swaps):
        store.rollback(TENANT, COLLECTION, whole[number % 2])
        time.sleep(2 * poll_s + 0.5)


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    return {"p50": percentile(values, 0.5), "p99": percentile(values, 0.99), "max": max(values)}


def _tell(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text} …", file=sys.stderr, flush=True)


def _print_table(found: dict[str, Any]) -> None:
    rows = [
        (
            "an edit is live after, p50 / max",
            f"{found['edit_live_s']['p50']:.2f} / {found['edit_live_s']['max']:.2f} s",
        ),
        ("a roll-back is live after", f"{found['rollback_live_s']:.2f} s"),
        ("a whole rebuild is live after", f"{found['rebuild_live_s']:.2f} s ({found['rebuild_over_edit']:.1f}x)"),
        ("building / opening", f"{found['build_s']:.2f} / {found['open_s']:.2f} s"),
        ("a search, calm: p50 / p99 / max", _as_text(found["calm_ms"])),
        (f"during {found['swaps']} swaps: p50 / p99 / max", _as_text(found["swapping_ms"])),
        ("searches, failed, of two versions", f"{found['searches']}, {found['failed']}, {found['mixed']}"),
    ]
    print(f"\n{found['chunks']} chunks, looked at every {found['poll_interval_s']} s")
    for name, value in rows:
        print(f"{name:36} {value}")
    print()


def _as_text(quantiles: dict[str, float]) -> str:
    return " / ".join(f"{quantiles[name]:.1f}" for name in ("p50", "p99", "max")) + " ms"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m perf.knowledge", description=__doc__)
    parser.add_argument("--chunks", type=int, default=20_000, help="of the collection (default: %(default)s)")
    parser.add_argument("--edits", type=int, default=20, help="(default: %(default)s)")
    parser.add_argument("--swaps", type=int, default=20, help="(default: %(default)s)")
    parser.add_argument("--clients", type=int, default=4, help="that ask at once (default: %(default)s)")
    arguments = parser.parse_args()
    if min(arguments.chunks, arguments.edits, arguments.swaps, arguments.clients) < 1:
        parser.error("every number has to be at least 1")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with tempfile.TemporaryDirectory(prefix="raydesk-perf-") as folder:
        found = asyncio.run(
            measure(arguments.chunks, arguments.edits, arguments.swaps, arguments.clients, Path(folder))
        )
    _print_table(found)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
