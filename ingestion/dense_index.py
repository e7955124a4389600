"""Row numbers by cosine similarity over normalised vectors, by FAISS. Which index it is follows from the size.

flat    exact: up to `EXACT_ROWS` vectors
ivf-pq  more: the vectors in `nlist` lists, three dimensions in 4 bits (product quantisation, scanned 32 at a time in
        registers). The rows that look best in the `nprobe` nearest lists are ranked anew by 8 bits a dimension. A
        vector of 384 dimensions takes 461 bytes, a third of its size; similarities are right to some thousandths.

Everything that a search needs is in the one file. A query takes one thread; searches are thread-safe.
"""

from __future__ import annotations

import bisect
import os
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from models.protocols import Vectors

# What takes one core less than 2 ms to search through, of 384 dimensions.
EXACT_ROWS = 30_000  # as 32-bit floats
EXACT_CODES = 60_000  # as 8-bit codes
# Of the ten nearest, as measured with stored vectors. Questions lie further out than these: other banks' customers'
# questions to a bank's articles found 0.015 less.
TARGET_RECALL = 0.97
_RECALL_AT = 10
_K_FACTORS = (5, 10, 20, 40, 80)  # candidates that are ranked anew, in multiples of the ten that recall is measured of
_LEAST_K_FACTOR = 2.0  # of a larger top_k, whose last ones matter less than its first
_WORTH_MORE_CANDIDATES = 0.005  # of recall
_MAX_PROBED = 0.35  # of all lists, which takes 2 ms of a million vectors: some data are found in no fewer
_LEAST_SCANNED = 20  # selected rows in the lists that are looked into, in multiples of top_k
_CODES_SCANNED = 2  # in the time that one of 8 bits a dimension takes where only such are read
_TRAINING_ROWS_PER_LIST = 50
_SAMPLE_QUERIES = 500  # recall to ± 0.005
_KEPT_SUBSETS = 8  # each of up to EXACT_CODES vectors: 23 MB of 384 dimensions
_GPU_MAX_K = 2048  # what a GPU index can return
_GPU_SCRATCH_BYTES = 256 << 20  # FAISS would take 1.5 GB of a large card

Kind = Literal["flat", "ivf-pq"]
Device = Literal["cpu", "gpu"]
Hits = list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class DenseIndexInfo:
    """What was built. nlist, nprobe and k_factor are None where the index is exact."""

    kind: Kind
    factory: str  # FAISS's own description
    dim: int
    count: int
    recall_at_10: float  # 0-1, against exact search, with stored vectors as queries
    nlist: int | None = None
    nprobe: int | None = None
    k_factor: int | None = None


class Selection:
    """Which rows a search may return; prepared once and used by many searches, from any thread."""

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        self.count = int(mask.sum())
        self.share = self.count / len(mask) if len(mask) else 0.0
        self.selector: Any = None  # None: all rows
        if self.count < len(mask):
            self._bits = np.packbits(mask, bitorder="little")  # FAISS keeps a pointer to it, so it has to live here
            self.selector = faiss.IDSelectorBitmap(len(mask), faiss.swig_ptr(self._bits))

    def among(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these rows may be returned."""
        if self.selector is None:
            return np.ones(len(rows), dtype=bool)
        selected: NDArray[np.bool_] = (self._bits[rows >> 3] >> (rows & 7) & 1).astype(bool)
        return selected

    def rows(self, count: int) -> NDArray[np.int64]:
        """All that may be returned, of the index's `count`."""
        return np.flatnonzero(self.among(np.arange(count)))


class DenseIndex:
    """What `build_dense_index` wrote.

    device "gpu" holds 16-bit floats on the first GPU and searches all of them. It needs a FAISS built for GPUs.
    """

    def __init__(self, path: Path, *, device: Device = "cpu", exact_codes: int = EXACT_CODES) -> None:
        """exact_codes: when so few rows are selected, their 8-bit codes are searched exactly."""
        index: Any = faiss.read_index(str(path))
        self._index = index
        self._exact_codes = exact_codes
        self._codes: Any = None  # the 8-bit codes of an ivf-pq
        if isinstance(index, faiss.IndexRefine):
            self._codes = faiss.downcast_index(index.refine_index)
            self._k_factor: float = index.k_factor
            ivf = faiss.extract_index_ivf(index)
            self._nlist, self._nprobe = int(ivf.nlist), int(ivf.nprobe)
        self._gpu = _on_gpu(index if self._codes is None else self._codes) if device == "gpu" else None
        self._subset = lru_cache(maxsize=_KEPT_SUBSETS)(self._copy_subset)

    def search(self, vector: Vectors, top_k: int, selection: Selection) -> Hits:
        """(row, cosine similarity), best first. vector: (dim,) or (1, dim)."""
        count = min(top_k, selection.count)
        if count < 1:
            return []
        query = np.ascontiguousarray(vector, dtype=np.float32).reshape(1, -1)
        if query.shape[1] != self._index.d:
            raise ValueError(f"the vector has {query.shape[1]} dimensions, the index {self._index.d}")
        _one_thread()
        if self._gpu is not None and (found := self._search_gpu(self._gpu, query, count, selection)) is not None:
            return found
        if self._codes is None:
            parameters = _parameters(faiss.SearchParameters, sel=selection.selector)
            return self._hits(query, *self._index.search(query, count, params=parameters))
        # The fewer rows are selected, the further apart they lie: the number of lists to look into follows that.
        enough = _LEAST_SCANNED * count / selection.count * self._nlist
        nprobe = min(int(max(self._nprobe / selection.share**0.5, enough)), self._nlist)
        scanned = nprobe / self._nlist * self._index.ntotal
        if selection.count <= min(scanned / _CODES_SCANNED, self._exact_codes) and selection.selector is not None:
            subset, rows = self._subset(selection)
            return [(int(rows[place]), score) for place, score in self._hits(query, *subset.search(query, count))]
        return self._search_lists(query, count, selection, nprobe)

    def _search_lists(self, query: Vectors, count: int, selection: Selection, nprobe: int) -> Hits:
        while True:
            lists = _parameters(faiss.SearchParametersIVF, sel=selection.selector, nprobe=nprobe)
            k_factor = max(self._k_factor * min(1.0, _RECALL_AT / count), _LEAST_K_FACTOR)
            parameters = _parameters(faiss.IndexRefineSearchParameters, k_factor=k_factor, base_index_params=lists)
            found = self._hits(query, *self._index.search(query, count, params=parameters))
            if len(found) == count or nprobe == self._nlist:
                return found
            nprobe = min(4 * nprobe, self._nlist)  # the selected rows lie elsewhere

    def _search_gpu(self, gpu: JoinedSearches, query: Vectors, count: int, selection: Selection) -> Hits | None:
        """Finds more than is wanted, since a GPU index cannot select. None: not enough of it was selected."""
        wanted = count if selection.selector is None else int((2 * count + 8) / selection.share)
        depth = min(wanted, _GPU_MAX_K, self._index.ntotal)
        if depth * selection.share < count:
            return None
        scores, rows = gpu.search(query, depth)
        seen = selection.among(rows)
        if int(seen.sum()) < count:
            return None
        return list(zip(rows[seen][:count].tolist(), scores[seen][:count].tolist(), strict=True))

    def _copy_subset(self, selection: Selection) -> tuple[Any, NDArray[np.int64]]:
        """The codes of these rows side by side, which are searched 10 times as fast as where they lie."""
        rows = selection.rows(self._codes.ntotal)
        size = self._codes.code_size
        codes = faiss.rev_swig_ptr(self._codes.codes.data(), self._codes.ntotal * size).reshape(-1, size)
        subset = faiss.IndexScalarQuantizer(self._codes.d, self._codes.sq.qtype, self._codes.metric_type)
        subset.sq = self._codes.sq
        subset.is_trained = True
        subset.add_sa_codes(codes[rows])
        return subset, rows

    def _hits(self, query: Vectors, scores: Vectors, rows: NDArray[np.int64]) -> Hits:
        """FAISS gives -1 for what it has not found, and of an ivf-pq squared distances: |q|² + 1 - 2 cos."""
        found = rows[0] >= 0
        similarities = scores[0][found]
        if self._index.metric_type == faiss.METRIC_L2:
            similarities = (float(query[0] @ query[0]) + 1.0 - similarities) / 2
        return list(zip(rows[0][found].tolist(), similarities.tolist(), strict=True))


def build_dense_index(path: Path, vectors: Vectors, *, exact_rows: int = EXACT_ROWS) -> DenseIndexInfo:
    """Row n is the n-th vector. vectors: (rows, dim), normalised. Takes all cores: some 40 s for a million on two.

    exact_rows: up to so many the index is exact.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    count, dim = vectors.shape
    faiss.omp_set_num_threads(len(os.sched_getaffinity(0)))
    _threads.is_one = False
    if count <= exact_rows:
        flat = faiss.IndexFlatIP(dim)
        flat.add(vectors)
        faiss.write_index(flat, str(path))
        return DenseIndexInfo("flat", "Flat", dim, count, recall_at_10=1.0)

    nlist = round(2 * count**0.5)
    together = next(dims for dims in (3, 2, 1) if dim % dims == 0)
    factory = f"IVF{nlist},PQ{dim // together}x4fs,Refine(SQ8)"
    # Of normalised vectors the nearest are the most similar; lists by distance are of more even sizes.
    index: Any = faiss.index_factory(dim, factory, faiss.METRIC_L2)
    random = np.random.default_rng(0)
    index.train(vectors[random.choice(count, min(count, _TRAINING_ROWS_PER_LIST * nlist), replace=False)])
    index.add(vectors)
    recall = _tune(index, vectors, random.choice(count, min(count, _SAMPLE_QUERIES), replace=False))
    faiss.write_index(index, str(path))  # with nprobe and k_factor
    ivf = faiss.extract_index_ivf(index)
    return DenseIndexInfo("ivf-pq", factory, dim, count, recall, nlist, ivf.nprobe, int(index.k_factor))


def _tune(index: Any, vectors: Vectors, sample: NDArray[np.int64]) -> float:
    """Sets k_factor, then the smallest nprobe that reaches the target, and returns the recall.

    sample: rows that are queries; each is to find its neighbours, not itself.
    """
    ivf = faiss.extract_index_ivf(index)
    queries = vectors[sample]
    exact, _ = faiss.knn(queries, vectors, _RECALL_AT + 1, metric=faiss.METRIC_INNER_PRODUCT)
    least = exact[:, -1:] - 1e-5  # as similar as the last of the nearest; among duplicates any will do

    def recall(nprobe: int) -> float:
        ivf.nprobe = nprobe
        _, rows = index.search(queries, _RECALL_AT + 1)
        similarities = np.einsum("qd,qkd->qk", queries, vectors[rows])
        others = (similarities >= least) & (rows != sample[:, None]) & (rows >= 0)
        return float(np.minimum(others.sum(axis=1), _RECALL_AT).mean() / _RECALL_AT)

    most = max(1, int(_MAX_PROBED * ivf.nlist))
    recalls = {}
    for index.k_factor in _K_FACTORS:
        recalls[index.k_factor] = recall(most)
    enough = max(recalls.values()) - _WORTH_MORE_CANDIDATES
    index.k_factor = next(k_factor for k_factor, found in recalls.items() if found >= enough)
    nprobe = 1 + bisect.bisect_left(range(1, most), TARGET_RECALL, key=recall)
    return recall(nprobe)


_threads = threading.local()


def _one_thread() -> None:
    """Holds for the calling thread only, and there are many."""
    if not getattr(_threads, "is_one", False):
        faiss.omp_set_num_threads(1)
        _threads.is_one = True


def _parameters(kind: Any, **values: Any) -> Any:
    """Search parameters, of whose arguments FAISS's stubs know nothing."""
    return kind(**values)


@dataclass(frozen=True, slots=True)
class _Asked:
    query: Vectors  # (1, dim)
    depth: int
    found: Future[tuple[Vectors, NDArray[np.int64]]]


class JoinedSearches:
    """For an index that takes one search at a time, and hardly longer for many queries: those that wait go together."""

    def __init__(self, index: Any, lock: threading.Lock) -> None:
        """lock: of what the index shares with others."""
        self._index, self._lock = index, lock
        self._waiting = deque[_Asked]()

    def search(self, query: Vectors, depth: int) -> tuple[Vectors, NDArray[np.int64]]:
        """query: (1, dim). Scores and rows, (depth,) each, best first."""
        asked = _Asked(query, depth, Future())
        self._waiting.append(asked)
        with self._lock:
            if not asked.found.done():
                self._search([self._waiting.popleft() for _ in range(len(self._waiting))])
        return asked.found.result()

    def _search(self, asked: list[_Asked]) -> None:
        try:
            queries = np.concatenate([each.query for each in asked])
            scores, rows = self._index.search(queries, max(each.depth for each in asked))
        except Exception as error:
            for each in asked:
                each.found.set_exception(error)
            return
        for place, each in enumerate(asked):
            each.found.set_result((scores[place, : each.depth], rows[place, : each.depth]))


def _on_gpu(index: Any) -> JoinedSearches:
    """All vectors, decoded, in a flat index on the first GPU."""
    resources, lock = _gpu()
    config = faiss.GpuIndexFlatConfig()
    config.useFloat16 = True
    with lock:
        flat = faiss.GpuIndexFlat(resources, index.d, faiss.METRIC_INNER_PRODUCT, config)
        flat.add(index.reconstruct_n(0, index.ntotal))
    return JoinedSearches(flat, lock)


@lru_cache(maxsize=1)
def _gpu() -> tuple[Any, threading.Lock]:
    """FAISS's stream and scratch memory on the first GPU, which all indexes share, and a lock: it is for one thread."""
    if not hasattr(faiss, "StandardGpuResources"):
        raise ValueError("this FAISS knows no GPU: pip uninstall faiss-cpu, and pip install 'faiss-gpu>=1.15.1,<1.16'")
    if not faiss.get_num_gpus():
        raise ValueError("FAISS sees no GPU: check the driver (nvidia-smi) and CUDA_VISIBLE_DEVICES")
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(_GPU_SCRATCH_BYTES)
    return resources, threading.Lock()
