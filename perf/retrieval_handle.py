"""A published collection searched through the retriever's Serve handle: `python -m perf.retrieval_handle`.

The vectors of perf.retrieval as chunks with texts of random words, frequent and rare as in real ones; half of them are
not for the caller's audience, and a tenth is deleted in a second version. The retriever is the deployment that answers
customers; this process calls its handle, one question at a time and eight at once: with words and vector, as customers'
questions are, and with the vector alone. Prints a table; the last line is one JSON document.

`perf.retrieval` runs this after the index alone. A million chunks take some minutes to write.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_SERVE_THROUGHPUT_OPTIMIZED", "1")  # read by Serve when it is imported, in each process
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import numpy as np
from numpy.typing import NDArray
from ray import serve

from deployments.answering.types import Principal
from deployments.remote import RemoteRetriever
from deployments.retriever import Retriever
from deployments.settings import EncoderSettings, KnowledgeSettings
from ingestion.chunk import Chunk
from ingestion.ray_session import ray_session
from ingestion.store import Changes, KnowledgeStore
from models.protocols import Vectors
from perf.metrics import Sample, percentiles
from perf.provenance import provenance
from perf.retrieval import (
    DELETED_SHARE,
    HIDDEN_SHARE,
    MIN_RECALL,
    TOP_K,
    add_vector_options,
    nearest,
    share_found,
    stopwatch,
    tell,
    vectors_of,
)

TENANT, COLLECTION, IDENTITY = "perf", "perf", "perf"
CALLER = Principal(TENANT, frozenset({"public"}), "perf")
NOTHING = "nothing"
MAX_P99_MS = 5.0
_WORDS_OF_A_CHUNK, _WORDS_OF_A_QUESTION = 40, 6
_VOCABULARY = 50_000  # the most frequent word is in every fifth chunk
_CHUNKS_OF_ONE_ANSWER = 5
_TIMEOUT_S = 5.0


# --- what is published ---


def words(count: int, length: int, random: np.random.Generator) -> list[str]:
    """Texts of so many words each, whose frequencies follow Zipf and Mandelbrot."""
    likelihood = (np.arange(_VOCABULARY) + 20.0) ** -1.05
    drawn = np.searchsorted(np.cumsum(likelihood / likelihood.sum()), random.random((count, length)))
    return [" ".join(f"w{word}" for word in row) for row in drawn.tolist()]


def chunk_id(row: int) -> str:
    return f"c{row:07d}"


@dataclass(frozen=True, slots=True)
class Published:
    publish_s: float
    delete_s: float
    bytes: int  # of all its files
    queries: Vectors
    truth: NDArray[np.int64]  # (queries, TOP_K) rows that are nearest among those that the caller may see
    peak_memory_bytes: int


def publish(root: Path, options: argparse.Namespace) -> Published:
    """Two versions: all chunks, then without those that are deleted."""
    base, queries = vectors_of(options)
    random = np.random.default_rng((options.seed, 4))
    hidden = random.random(len(base)) < HIDDEN_SHARE
    deleted = random.choice(len(base), int(DELETED_SHARE * len(base)), replace=False)
    chunks = [
        Chunk(chunk_id(row), f"d{row // 8}", row % 8, "passage", text, "", "en", audience, "perf.md")
        for row, (text, audience) in enumerate(
            zip(words(len(base), _WORDS_OF_A_CHUNK, random), np.where(hidden, "staff", "public").tolist(), strict=True)
        )
    ]
    store = KnowledgeStore(root)
    with stopwatch() as published:
        store.publish(TENANT, COLLECTION, Changes(IDENTITY, chunks, base, base[:0]))
    del chunks
    with stopwatch() as without:
        gone = frozenset(chunk_id(row) for row in deleted)
        version = store.publish(TENANT, COLLECTION, Changes(IDENTITY, (), base[:0], base[:0], removed=gone))
    visible = ~hidden
    visible[deleted] = False
    return Published(
        published(),
        without(),
        store.manifest(TENANT, COLLECTION, version).bytes,
        queries,
        nearest(base, queries, visible),
        peak_memory_bytes(),
    )


def peak_memory_bytes() -> int:
    """Of this process, so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# --- asking ---


class MeasuredRetriever(Retriever):
    async def peak_memory_bytes(self) -> int:
        return peak_memory_bytes()


async def ask(call: Callable[[int], Awaitable[object]], clients: int, seconds: float) -> tuple[list[Sample], float]:
    """So many clients, each of which asks again as soon as it has its answer. Returns that, and seconds it took.

    call: is given the question's number.
    """
    began = time.perf_counter()
    samples: list[Sample] = []

    async def client(first: int) -> None:
        place = first
        while time.perf_counter() - began < seconds:
            asked = time.perf_counter()
            await call(place)
            place += clients
            answered = time.perf_counter()
            samples.append(Sample(answered - began, (answered - asked) * 1e3))

    await asyncio.gather(*(client(first) for first in range(clients)))
    return samples, time.perf_counter() - began


async def recall(retriever: RemoteRetriever, queries: Vectors, truth: NDArray[np.int64]) -> float:
    """Of the dense search alone: what is nearest by its words is another question."""
    found = []
    for query in queries:
        candidates = await retriever.candidates(CALLER, COLLECTION, "", "en", query)
        found.append([int(hit.chunk.id[1:]) for hit in candidates.dense[:TOP_K]])
    return share_found(found, truth)


async def measure(retriever: RemoteRetriever, published: Published, options: argparse.Namespace) -> dict[str, Any]:
    with stopwatch() as opening:
        await retriever.warm_up(TENANT, COLLECTION)
    queries = published.queries
    texts = words(len(queries), _WORDS_OF_A_QUESTION, np.random.default_rng((options.seed, 5)))

    def search(number: int, text: str) -> Awaitable[object]:
        query = queries[number % len(queries)]
        return retriever.search(CALLER, COLLECTION, text, "en", query, _CHUNKS_OF_ONE_ANSWER)

    calls: dict[str, Callable[[int], Awaitable[object]]] = {
        "words and vector": lambda number: search(number, texts[number % len(texts)]),
        "vector alone": lambda number: search(number, ""),
        NOTHING: lambda _: retriever.ping(),
    }
    runs = []
    for clients in options.clients:
        for what, call in calls.items():
            tell(f"asking through the handle, {clients} at a time: {what}")
            await ask(call, clients, options.seconds / 5)
            samples, elapsed_s = await ask(call, clients, options.seconds)
            taken = percentiles([sample.latency_ms for sample in samples])
            assert taken is not None
            rate = round(len(samples) / elapsed_s, 1)
            runs.append({"asked": what, "clients": clients, "latency_ms": asdict(taken), "queries_per_s": rate})
    found = await recall(retriever, queries, published.truth)
    return {"open_s": round(opening(), 2), "recall_at_10": round(found, 4), "runs": runs}


def serve_and_measure(root: Path, published: Published, options: argparse.Namespace) -> dict[str, Any]:
    settings = KnowledgeSettings(root=str(root), copies=str(root / "copies"))
    room = serve.deployment(
        MeasuredRetriever, name="retriever", max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.1}
    )

    async def run() -> dict[str, Any]:
        """In one event loop from start to end, which Serve's router belongs to."""
        try:
            result = await measure(RemoteRetriever(handle, _TIMEOUT_S), published, options)
            return {**result, "replica_peak_memory_bytes": await handle.peak_memory_bytes.remote()}
        finally:
            await serve.shutdown_async()

    with ray_session(concurrency=2):
        serve.start(proxy_location="Disabled")
        application = room.bind(settings, EncoderSettings(), embedder_identity=IDENTITY)
        handle = serve.run(application, name="perf", route_prefix=None)
        return asyncio.run(run())


def _verdicts(result: dict[str, Any]) -> dict[str, Any]:
    fewest = min(run["clients"] for run in result["runs"])
    p99_ms = {run["asked"]: run["latency_ms"]["p99"] for run in result["runs"] if run["clients"] == fewest}
    handle_ms = p99_ms.pop(NOTHING)
    slowest = max(p99_ms.values())
    return {
        "recall_at_10": result["recall_at_10"],
        "recall_is_enough": result["recall_at_10"] >= MIN_RECALL,
        "p99_ms": round(slowest, 3),
        "handle_alone_p99_ms": round(handle_ms, 3),
        "p99_is_met": slowest <= MAX_P99_MS,
    }


def _print_table(result: dict[str, Any]) -> None:
    megabytes = {name: result[name] / 1e6 for name in ("bytes", "replica_peak_memory_bytes")}
    print(
        f"through the handle: {result['vectors']:,} chunks, {megabytes['bytes']:,.0f} MB on disk, published in "
        f"{result['publish_s']:.0f} s, a tenth deleted in {result['delete_s']:.1f} s, opened in "
        f"{result['open_s']:.1f} s, replica {megabytes['replica_peak_memory_bytes']:,.0f} MB at most; "
        f"recall@10 {result['recall_at_10']:.3f}"
    )
    print(f"{'':<18}{'at once':>8}{'p50 ms':>8}{'p95 ms':>8}{'p99 ms':>8}{'queries/s':>11}")
    for run in result["runs"]:
        latency = "".join(f"{run['latency_ms'][name]:>8.2f}" for name in ("p50", "p95", "p99"))
        print(f"{run['asked']:<18}{run['clients']:>8}{latency}{run['queries_per_s']:>11.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m perf.retrieval_handle",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_vector_options(parser)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement (default: %(default)s)")
    options = parser.parse_args()
    origin = provenance()
    with tempfile.TemporaryDirectory(prefix="rd-perf-") as folder:
        tell(f"publishing {options.vectors:,} chunks")
        # In a process of its own, so that the memory it takes is given back.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as child:
            published = child.submit(publish, Path(folder), options).result()
        measured = serve_and_measure(Path(folder), published, options)
    result = {
        "benchmark": "retrieval_handle",
        **origin,
        "vectors": options.vectors,
        "bytes": published.bytes,
        "publish_s": round(published.publish_s, 1),
        "delete_s": round(published.delete_s, 1),
        "publisher_peak_memory_bytes": published.peak_memory_bytes,
        **measured,
    }
    result["verdicts"] = _verdicts(result)
    _print_table(result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
