"""How fast the dense index finds, and how much of it: `python -m perf.retrieval --vectors 1000000 --dim 384`.

Beside it in the same run: an exact search (FAISS Flat) and hnswlib (M 16, ef_construction 100; its ef is the smallest
with which it finds as much as the index does, on the same queries). Without hnswlib, which pip has to compile
(`pip install 'raydesk[perf]'`), FAISS's own HNSW stands in for it. All search with one thread a query; they take turns,
some seconds each, so that what else the machine does meets them alike.

Measured: one query at a time and eight at once, on all vectors; and, of our index, with a tenth of the vectors deleted
and half of the rest hidden by their audience. Besides the wall clock there is the time that the searching thread itself
was computing (`cpu`): on a machine that is not idle it tells what the index takes from what others take.

Then the same vectors as a published collection, searched through the retriever's Serve handle: perf.retrieval_handle.
`--device gpu` has our index on the first GPU, beside the exact search by the CPU alone, and leaves out the handle.

The vectors are synthetic, see perf/clustered_vectors.py, or rows of `--embeddings FILE.npy`, of which some are held out
as queries. Prints a table; the last line is one JSON document.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import importlib.util
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from ingestion.dense_index import DenseIndex, DenseIndexInfo, Device, Selection, build_dense_index
from models.protocols import Vectors
from perf.clustered_vectors import ClusteredVectors
from perf.metrics import percentile, ratio
from perf.provenance import ROOT, provenance

TOP_K = 10
DELETED_SHARE, HIDDEN_SHARE = 0.1, 0.5  # of all vectors; of those that are left
MIN_RECALL, MAX_P99_MS = 0.95, 3.0
AIM_P99_MS, AIM_SPEED, AIM_BYTES = 1.0, 1.3, 0.3  # the latter two against hnswlib
_HNSW_M, _HNSW_EF_CONSTRUCTION, _HNSW_MAX_EF = 16, 100, 2000
_ALL_CORES = len(os.sched_getaffinity(0))

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


# --- who is compared ---


class Contestant(Protocol):
    name: str
    settings: str
    bytes: int  # of the index, written to a file
    build_s: float

    def search(self, query: Vectors) -> Sequence[int]:
        """The rows of the nearest `TOP_K` to (dim,), with one thread."""
        ...


class Ours:
    def __init__(self, index: DenseIndex, info: DenseIndexInfo, size: int, build_s: float, mask: Mask | None) -> None:
        self._index = index
        self._selection = Selection(np.ones(info.count, dtype=bool) if mask is None else mask)
        self.name = "raydesk" if mask is None else "raydesk, filtered"
        probed = "" if info.nprobe is None else f", nprobe {info.nprobe}, k_factor {info.k_factor}"
        self.settings = info.factory + probed
        self.bytes, self.build_s = size, build_s

    def search(self, query: Vectors) -> list[int]:
        return [row for row, _ in self._index.search(query, TOP_K, self._selection)]


class Flat:
    name, settings = "flat", "FAISS, exact"

    def __init__(self, base: Vectors) -> None:
        self._index = faiss.IndexFlatIP(base.shape[1])
        with stopwatch() as elapsed:
            self._index.add(base)
        self.bytes, self.build_s = base.nbytes, elapsed()

    def search(self, query: Vectors) -> list[int]:
        faiss.omp_set_num_threads(1)
        rows: list[int] = self._index.search(query[None], TOP_K)[1][0].tolist()
        return rows


class Hnswlib:
    name = "hnswlib"

    def __init__(self, base: Vectors) -> None:
        import hnswlib

        self._index = hnswlib.Index(space="ip", dim=base.shape[1])
        self._index.init_index(len(base), M=_HNSW_M, ef_construction=_HNSW_EF_CONSTRUCTION)
        with stopwatch() as elapsed:
            for start in range(0, len(base), 50_000):
                self._index.add_items(base[start : start + 50_000], num_threads=_ALL_CORES)
                tell(f"  hnswlib: {min(start + 50_000, len(base)):,} of {len(base):,} vectors, {elapsed():.0f} s")
        self.bytes, self.build_s = int(self._index.index_file_size()), elapsed()

    def set_ef(self, ef: int) -> None:
        self._index.set_ef(ef)
        version = importlib.metadata.version("hnswlib")
        self.settings = f"{version}, M {_HNSW_M}, ef_construction {_HNSW_EF_CONSTRUCTION}, ef {ef}"

    def search(self, query: Vectors) -> list[int]:
        rows: list[int] = self._index.knn_query(query, k=TOP_K, num_threads=1)[0][0].tolist()
        return rows


class FaissHnsw:
    name = "FAISS HNSW"

    def __init__(self, base: Vectors) -> None:
        self._index: Any = faiss.IndexHNSWFlat(base.shape[1], _HNSW_M, faiss.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = _HNSW_EF_CONSTRUCTION
        faiss.omp_set_num_threads(_ALL_CORES)
        with stopwatch() as elapsed:
            for start in range(0, len(base), 50_000):
                self._index.add(base[start : start + 50_000])
                tell(f"  FAISS HNSW: {min(start + 50_000, len(base)):,} of {len(base):,} vectors, {elapsed():.0f} s")
        graph: Any = self._index.hnsw
        neighbours = graph.neighbors.size() * 4  # of 32 bits each
        self.bytes, self.build_s = base.nbytes + neighbours, elapsed()

    def set_ef(self, ef: int) -> None:
        self._index.hnsw.efSearch = ef
        self.settings = f"M {_HNSW_M}, efConstruction {_HNSW_EF_CONSTRUCTION}, efSearch {ef}"

    def search(self, query: Vectors) -> list[int]:
        faiss.omp_set_num_threads(1)
        rows: list[int] = self._index.search(query[None], TOP_K)[1][0].tolist()
        return rows


def smallest(values: range, is_enough: Callable[[int], bool]) -> int | None:
    """The first of these rising values that is enough, where all after it are, too; None when none is."""
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(values[middle]) else (middle + 1, high)
    return values[low] if low < len(values) else None


def tune(peer: Hnswlib | FaissHnsw, queries: Vectors, truth: Rows, wanted: float) -> None:
    """Gives it the smallest ef with which it finds as much as is wanted, or the largest there is."""

    def finds_enough(ef: int) -> bool:
        peer.set_ef(ef)
        return recall(peer, queries, truth) >= wanted

    peer.set_ef(smallest(range(TOP_K, _HNSW_MAX_EF, 5), finds_enough) or _HNSW_MAX_EF)


# --- how much is found ---


def nearest(base: Vectors, queries: Vectors, mask: Mask | None = None) -> Rows:
    """The truth: (queries, TOP_K) rows, of those in the mask."""
    faiss.omp_set_num_threads(_ALL_CORES)
    rows = np.arange(len(base)) if mask is None else np.flatnonzero(mask)
    found = faiss.knn(queries, base if mask is None else base[rows], TOP_K, metric=faiss.METRIC_INNER_PRODUCT)[1]
    return np.asarray(rows[found])


def recall(contestant: Contestant, queries: Vectors, truth: Rows) -> float:
    with ThreadPoolExecutor(_ALL_CORES) as threads:
        found = list(threads.map(contestant.search, queries))
    return share_found(found, truth)


def share_found(found: Sequence[Sequence[int]], truth: Rows) -> float:
    """0-1: how many of the nearest are among what was found."""
    hits = sum(len(set(rows) & set(nearest_rows)) for rows, nearest_rows in zip(found, truth.tolist(), strict=True))
    return hits / truth.size


# --- how fast ---


@dataclass(frozen=True, slots=True)
class Window:
    """Some seconds of one contestant. Every query: milliseconds of wall clock, and of its thread's computing."""

    wall_ms: list[float]
    cpu_ms: list[float]
    elapsed_s: float


def search_for(contestant: Contestant, queries: Vectors, clients: int, seconds: float) -> Window:
    """So many clients, each of which asks again as soon as it has its answer; at least one question each."""
    end = time.perf_counter() + seconds

    def client(first: int) -> list[tuple[float, float]]:
        taken = []
        for place in itertools.count(first, clients):
            query = queries[place % len(queries)]
            wall, cpu = time.perf_counter(), time.thread_time()
            contestant.search(query)
            taken.append(((time.perf_counter() - wall) * 1e3, (time.thread_time() - cpu) * 1e3))
            if time.perf_counter() >= end:
                break
        return taken

    gc.collect()
    gc.disable()  # a collection is not the index's
    try:
        with stopwatch() as elapsed, ThreadPoolExecutor(clients) as threads:
            taken = list(itertools.chain.from_iterable(threads.map(client, range(clients))))
    finally:
        gc.enable()
    return Window([wall for wall, _ in taken], [cpu for _, cpu in taken], elapsed())


@dataclass(frozen=True, slots=True)
class Speed:
    contestant: str
    clients: int
    recall_at_10: float
    p50_ms: float
    p99_ms: float
    cpu_p50_ms: float
    cpu_p99_ms: float
    queries_per_s: float  # median of the rounds
    rounds_per_s: tuple[float, ...]  # the same, of every round
    queries: int


def speed_of(contestant: str, clients: int, found: float, windows: Sequence[Window]) -> Speed:
    wall = sorted(value for window in windows for value in window.wall_ms)
    cpu = sorted(value for window in windows for value in window.cpu_ms)
    rates = tuple(round(len(window.wall_ms) / window.elapsed_s, 1) for window in windows)
    return Speed(
        contestant,
        clients,
        recall_at_10=round(found, 4),
        p50_ms=round(percentile(wall, 0.5), 3),
        p99_ms=round(percentile(wall, 0.99), 3),
        cpu_p50_ms=round(percentile(cpu, 0.5), 3),
        cpu_p99_ms=round(percentile(cpu, 0.99), 3),
        queries_per_s=float(np.median(rates)),
        rounds_per_s=rates,
        queries=len(wall),
    )


def compare(
    contestants: Sequence[tuple[Contestant, float]], queries: Vectors, clients: int, rounds: int, seconds: float
) -> list[Speed]:
    """contestants: with the share that each finds. They take turns."""
    for contestant, _ in contestants:
        search_for(contestant, queries, clients, seconds / 2)  # pages, caches, threads
    windows: dict[str, list[Window]] = {contestant.name: [] for contestant, _ in contestants}
    for _ in range(rounds):
        for contestant, _ in contestants:
            windows[contestant.name].append(search_for(contestant, queries, clients, seconds))
    return [speed_of(each.name, clients, found, windows[each.name]) for each, found in contestants]


def rate_ratio(ours: Speed, theirs: Speed) -> float:
    """Queries/s against each other: the median of the rounds' own ratios, in which both had the same machine."""
    return float(np.median([a / b for a, b in zip(ours.rounds_per_s, theirs.rounds_per_s, strict=True)]))


# --- the whole ---


def measure_index(base: Vectors, queries: Vectors, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    random = np.random.default_rng((seed, 3))
    mask = (random.random(len(base)) >= DELETED_SHARE) & (random.random(len(base)) >= HIDDEN_SHARE)
    tell("the truth: exact search for all queries")
    truth, truth_filtered = nearest(base, queries), nearest(base, queries, mask)

    tell("building our index")
    with tempfile.TemporaryDirectory(prefix="rd-perf-") as folder:
        path = Path(folder) / "dense.faiss"
        with stopwatch() as elapsed:
            info = build_dense_index(path, base)
        size, build_s = path.stat().st_size, elapsed()
        with stopwatch() as elapsed:
            index = DenseIndex(path, device=options.device)
        load_s = elapsed()
    ours, filtered = (Ours(index, info, size, build_s, each) for each in (None, mask))
    found = {ours.name: recall(ours, queries, truth), filtered.name: recall(filtered, queries, truth_filtered)}
    tell(f"built in {build_s:.0f} s, loaded in {load_s:.1f} s: {info}")

    flat, peer = Flat(base), _peer(base, options.device)
    peer_name = None if peer is None else peer.name
    contestants: list[Contestant] = [ours, filtered, flat]
    found[flat.name] = recall(flat, queries[:50], truth[:50])
    if peer is not None:
        tell(f"looking for the ef with which {peer.name} finds {found[ours.name]:.3f}")
        tune(peer, queries, truth, found[ours.name])
        contestants.append(peer)
        found[peer.name] = recall(peer, queries, truth)
    speeds = []
    for clients in options.clients:
        tell(f"searching, {clients} at a time")
        pairs = [(each, found[each.name]) for each in contestants]
        speeds += compare(pairs, queries, clients, options.rounds, options.seconds)
    described = {
        each.name: {"settings": each.settings, "bytes": each.bytes, "build_s": round(each.build_s, 1)}
        for each in contestants
    }
    return {
        "index": asdict(info),
        "device": options.device,
        "load_s": round(load_s, 2),
        "peer": peer_name,
        "contestants": described,
        "speeds": [asdict(speed) for speed in speeds],
        "ratios": _ratios(speeds, described, peer_name),
        "verdicts": _verdicts(speeds),
    }


def _peer(base: Vectors, device: Device) -> Hnswlib | FaissHnsw | None:
    """None beside a GPU: what CPUs do with a graph is another question."""
    if device == "gpu":
        return None
    return Hnswlib(base) if importlib.util.find_spec("hnswlib") else FaissHnsw(base)


def _ratios(speeds: Sequence[Speed], described: dict[str, Any], peer: str | None) -> dict[str, Any]:
    """Ours divided by theirs: of queries/s more is better, of all else less."""
    ratios: dict[str, Any] = {}
    for clients in sorted({speed.clients for speed in speeds}):
        of = {speed.contestant: speed for speed in speeds if speed.clients == clients}
        ratios[f"{clients}_at_a_time"] = {
            f"{what}_to_{other}": round(value, 4)
            for other, name in (("peer", peer), ("flat", "flat"))
            if name is not None
            for what, value in (
                ("queries_per_s", rate_ratio(of["raydesk"], of[name])),
                ("p99", ratio(of["raydesk"].p99_ms, of[name].p99_ms) or math.nan),
            )
        }
    if peer is not None:
        for what in ("bytes", "build_s"):
            ratios[f"{what}_to_peer"] = round(described["raydesk"][what] / described[peer][what], 4)
    return ratios


def _verdicts(speeds: Sequence[Speed]) -> dict[str, Any]:
    """Of one query at a time, or of the fewest that were asked for."""
    fewest = min(speed.clients for speed in speeds)
    verdicts = {}
    for name in ("raydesk", "raydesk, filtered"):
        speed = next(speed for speed in speeds if (speed.contestant, speed.clients) == (name, fewest))
        verdicts[name] = {
            "recall_at_10": speed.recall_at_10,
            "recall_is_enough": speed.recall_at_10 >= MIN_RECALL,
            "p99_ms": speed.p99_ms,
            "p99_is_met": speed.p99_ms <= MAX_P99_MS,
            "p99_aim_is_met": speed.p99_ms <= AIM_P99_MS,
        }
    return verdicts


def _print_table(result: dict[str, Any]) -> None:
    for name, each in result["contestants"].items():
        print(f"{name:<18}{each['bytes'] / 1e6:>8.0f} MB, built in {each['build_s']:>6.1f} s: {each['settings']}")
    print(
        f"\n{'':<18}{'at once':>8}{'recall@10':>11}{'p50 ms':>8}{'p99 ms':>8}{'cpu p50':>9}{'cpu p99':>9}"
        f"{'queries/s':>11}"
    )
    for speed in (Speed(**row) for row in result["speeds"]):
        print(
            f"{speed.contestant:<18}{speed.clients:>8}{speed.recall_at_10:>11.3f}{speed.p50_ms:>8.2f}"
            f"{speed.p99_ms:>8.2f}{speed.cpu_p50_ms:>9.2f}{speed.cpu_p99_ms:>9.2f}{speed.queries_per_s:>11.1f}"
        )
    for name, value in result["ratios"].items():
        shown = ", ".join(f"{what} {part:g}" for what, part in value.items()) if isinstance(value, dict) else f"{value}"
        print(f"{name}: {shown}")


def vectors_of(options: argparse.Namespace) -> tuple[Vectors, Vectors]:
    """Base and queries, normalised."""
    if not options.embeddings:
        drawn = ClusteredVectors(options.vectors, options.dim, options.seed)
        return drawn.base(), drawn.queries(options.queries)
    stored = np.load(options.embeddings, mmap_mode="r", allow_pickle=False)
    order = np.random.default_rng(options.seed).permutation(len(stored))
    taken = order[: options.vectors + options.queries]
    if len(taken) <= options.queries:
        raise SystemExit(f"{options.embeddings} has {len(stored)} rows: too few for {options.queries} queries")
    chosen = np.ascontiguousarray(stored[np.sort(taken)], dtype=np.float32)
    np.random.default_rng(options.seed).shuffle(chosen)
    chosen /= np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-12)
    return chosen[options.queries :], chosen[: options.queries]


def add_vector_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vectors", type=int, default=1_000_000, help="(default: %(default)s)")
    parser.add_argument("--dim", type=int, default=384, help="of synthetic vectors (default: %(default)s)")
    parser.add_argument("--queries", type=int, default=1000, help="different ones (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--embeddings", metavar="FILE.npy", help="(rows, dim) to search in instead")
    parser.add_argument(
        "--clients", type=int, nargs="+", default=[1, 8], help="how many ask at once (default: %(default)s)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m perf.retrieval", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_vector_options(parser)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn (default: %(default)s)")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu", help="of our index (default: %(default)s)")
    parser.add_argument("--no-handle", action="store_true", help="leave out the way through the retriever's handle")
    options = parser.parse_args()
    origin = provenance()
    if options.device == "cpu" and not importlib.util.find_spec("hnswlib"):
        tell("hnswlib is not installed (pip install 'raydesk[perf]'; needs a C++ compiler): FAISS's HNSW instead")

    tell("making the vectors")
    base, queries = vectors_of(options)
    described = {"vectors": len(base), "dim": base.shape[1], "queries": len(queries), "seed": options.seed}
    data = Path(options.embeddings).name if options.embeddings else "clustered, synthetic"
    result = {"benchmark": "retrieval", **origin, "data": data, **described}
    result |= measure_index(base, queries, options.seed, options)
    del base
    _print_table(result)
    result["handle"] = None if options.no_handle or options.device == "gpu" else measure_handle(options)
    result["load_after"] = round(os.getloadavg()[0], 2)
    print(json.dumps(result))


def measure_handle(options: argparse.Namespace) -> dict[str, Any]:
    """In a process of its own: what Serve is to do has to be said before it is imported."""
    command = [sys.executable, "-m", "perf.retrieval_handle", "--clients", *map(str, options.clients)]
    for name in ("vectors", "dim", "queries", "seed", "embeddings"):
        if getattr(options, name) is not None:
            command += [f"--{name}", str(getattr(options, name))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    *table, last = done.stdout.splitlines()
    print("\n" + "\n".join(table))
    handle: dict[str, Any] = json.loads(last)
    return handle


@contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Seconds since it began, until it ended."""
    began, ended = time.perf_counter(), math.inf
    try:
        yield lambda: min(time.perf_counter(), ended) - began
    finally:
        ended = time.perf_counter()


def tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
