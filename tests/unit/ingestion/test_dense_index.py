"""Both kinds of index find what an exact search in numpy finds, whatever may be seen."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from ingestion.dense_index import (
    TARGET_RECALL,
    DenseIndex,
    DenseIndexInfo,
    Hits,
    JoinedSearches,
    Selection,
    build_dense_index,
)
from models.protocols import Vectors

pytestmark = pytest.mark.unit

ROWS, DIM = 6000, 64


def clustered(rows: int, dim: int, seed: int) -> Vectors:
    """(rows, dim) float32, normalised, around centres that do not depend on the seed."""
    centres = np.random.default_rng(99).standard_normal((100, dim))
    random = np.random.default_rng(seed)
    vectors = centres[random.integers(0, 100, rows)] + 0.7 * random.standard_normal((rows, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


VECTORS = clustered(ROWS, DIM, seed=1)
QUERIES = clustered(100, DIM, seed=2)
EVERYTHING = np.ones(ROWS, dtype=bool)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DenseIndexInfo]:
    """The index of many vectors, made of few."""
    path = tmp_path_factory.mktemp("large") / "dense.faiss"
    return path, build_dense_index(path, VECTORS, exact_rows=1000)


def nearest(query: Vectors, top_k: int, mask: NDArray[np.bool_]) -> list[int]:
    rows = np.flatnonzero(mask)
    order = np.argsort(-(VECTORS[rows] @ query), kind="stable")[:top_k]
    return [int(row) for row in rows[order]]


def recall(index: DenseIndex, mask: NDArray[np.bool_], top_k: int = 10) -> float:
    selection = Selection(mask)
    shares = []
    for query in QUERIES:
        found = [row for row, _ in index.search(query, top_k, selection)]
        assert len(found) == len(set(found)) == min(top_k, int(mask.sum()))
        assert mask[found].all()
        shares.append(len(set(found) & set(nearest(query, top_k, mask))) / len(found))
    return float(np.mean(shares))


def test_a_small_index_is_exact(tmp_path: Path) -> None:
    info = build_dense_index(tmp_path / "dense.faiss", VECTORS)
    assert info == DenseIndexInfo("flat", "Flat", DIM, ROWS, recall_at_10=1.0)
    index = DenseIndex(tmp_path / "dense.faiss")
    assert recall(index, EVERYTHING) == 1.0
    assert recall(index, np.arange(ROWS) % 3 == 0) == 1.0


def test_a_large_index_says_what_it_is_and_reaches_the_recall_it_was_built_for(
    large: tuple[Path, DenseIndexInfo],
) -> None:
    path, info = large
    assert (info.kind, info.dim, info.count, info.nlist) == ("ivf-pq", DIM, ROWS, 155)
    assert info.nprobe is not None
    assert 1 <= info.nprobe < 155 // 4
    assert info.recall_at_10 >= TARGET_RECALL
    assert recall(DenseIndex(path), EVERYTHING) >= TARGET_RECALL - 0.02  # of queries that it was not tuned with


def test_what_the_build_chose_is_in_the_file(large: tuple[Path, DenseIndexInfo]) -> None:
    path, info = large
    index = faiss.read_index(str(path))
    assert (faiss.extract_index_ivf(index).nprobe, index.k_factor) == (info.nprobe, info.k_factor)


def test_a_second_build_chooses_the_same(large: tuple[Path, DenseIndexInfo], tmp_path: Path) -> None:
    _, info = large
    again = build_dense_index(tmp_path / "again.faiss", VECTORS, exact_rows=1000)
    assert replace(again, recall_at_10=0.0, nprobe=0) == replace(info, recall_at_10=0.0, nprobe=0)
    assert again.nprobe == pytest.approx(info.nprobe, abs=2)  # sums of floats depend on the threads


@pytest.mark.parametrize("share", [0.9, 0.45, 0.2, 0.05, 0.001])
def test_a_large_index_finds_what_may_be_seen_at_any_selectivity(
    large: tuple[Path, DenseIndexInfo], share: float
) -> None:
    mask = np.random.default_rng(3).random(ROWS) < share
    exact_for_few, lists_for_all = DenseIndex(large[0], exact_codes=1000), DenseIndex(large[0], exact_codes=0)
    assert recall(exact_for_few, mask) >= 0.93
    assert recall(lists_for_all, mask) >= 0.93


def test_few_selected_rows_are_searched_exactly(large: tuple[Path, DenseIndexInfo]) -> None:
    mask = np.random.default_rng(3).random(ROWS) < 0.02
    assert recall(DenseIndex(large[0], exact_codes=1000), mask) >= 0.98  # but for what 8 bits lose


def test_a_large_index_looks_further_when_all_that_may_be_seen_lies_elsewhere(
    large: tuple[Path, DenseIndexInfo],
) -> None:
    index = DenseIndex(large[0], exact_codes=0)
    for query in QUERIES[:20]:
        far = VECTORS @ query < np.quantile(VECTORS @ query, 0.3)
        found = index.search(query, 20, Selection(far))
        assert len(found) == 20
        assert all(far[row] for row, _ in found)


@pytest.mark.parametrize("exact_codes", [0, 1000])
def test_fewer_rows_than_asked_for_are_all_found(large: tuple[Path, DenseIndexInfo], exact_codes: int) -> None:
    mask = np.zeros(ROWS, dtype=bool)
    mask[[5, 700, 5999]] = True
    found = DenseIndex(large[0], exact_codes=exact_codes).search(QUERIES[0], 10, Selection(mask))
    assert {row for row, _ in found} == {5, 700, 5999}


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
def test_scores_are_cosine_similarities_in_falling_order(large: tuple[Path, DenseIndexInfo], share: float) -> None:
    index, selection = DenseIndex(large[0], exact_codes=1000), Selection(np.random.default_rng(4).random(ROWS) < share)
    for query in QUERIES[:20]:
        rows, scores = zip(*index.search(query, 10, selection), strict=True)
        assert list(scores) == sorted(scores, reverse=True)
        assert scores == pytest.approx(VECTORS[list(rows)] @ query, abs=0.01)


def test_a_zero_vector_is_similar_to_nothing(large: tuple[Path, DenseIndexInfo]) -> None:
    found = DenseIndex(large[0]).search(np.zeros(DIM, np.float32), 3, Selection(EVERYTHING))
    assert [score for _, score in found] == pytest.approx([0.0] * 3, abs=0.02)


def test_many_duplicates_do_not_spoil_the_choice(tmp_path: Path) -> None:
    repeated = np.concatenate([VECTORS[:3000], np.repeat(VECTORS[:30], 100, axis=0)])
    info = build_dense_index(tmp_path / "dense.faiss", repeated, exact_rows=1000)
    assert info.recall_at_10 >= TARGET_RECALL


def test_searches_from_many_threads_find_the_same(large: tuple[Path, DenseIndexInfo]) -> None:
    index = DenseIndex(large[0], exact_codes=1000)
    few, most = (Selection(np.random.default_rng(6).random(ROWS) < share) for share in (0.1, 0.9))
    jobs = [(query, selection) for query in QUERIES for selection in (few, most)]
    alone = [index.search(query, 10, selection) for query, selection in jobs]
    with ThreadPoolExecutor(8) as threads:
        at_once = list(threads.map(lambda job: index.search(job[0], 10, job[1]), jobs))
    assert at_once == alone


def test_nothing_to_find(large: tuple[Path, DenseIndexInfo], tmp_path: Path) -> None:
    build_dense_index(tmp_path / "empty.faiss", np.empty((0, DIM), np.float32))
    assert DenseIndex(tmp_path / "empty.faiss").search(QUERIES[0], 5, Selection(np.zeros(0, dtype=bool))) == []
    assert DenseIndex(large[0]).search(QUERIES[0], 5, Selection(~EVERYTHING)) == []
    assert DenseIndex(large[0]).search(QUERIES[0], 0, Selection(EVERYTHING)) == []


def test_a_vector_of_another_model_is_refused(large: tuple[Path, DenseIndexInfo]) -> None:
    with pytest.raises(ValueError, match=f"the vector has 8 dimensions, the index {DIM}"):
        DenseIndex(large[0]).search(np.ones(8, np.float32), 5, Selection(EVERYTHING))


def test_a_selection_knows_its_rows() -> None:
    mask = np.random.default_rng(7).random(1001) < 0.5
    assert Selection(mask).rows(1001).tolist() == np.flatnonzero(mask).tolist()
    assert Selection(np.ones(9, dtype=bool)).rows(9).tolist() == list(range(9))


def test_searches_that_wait_go_together_and_find_the_same() -> None:
    index = faiss.IndexFlatIP(DIM)
    index.add(VECTORS)
    together = JoinedSearches(index, threading.Lock())
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda place: together.search(QUERIES[place : place + 1], 5 + place % 3), range(100)))
    for place, (scores, rows) in enumerate(found):
        assert rows.tolist() == nearest(QUERIES[place], 5 + place % 3, EVERYTHING)
        assert scores == pytest.approx(VECTORS[rows] @ QUERIES[place], abs=1e-5)


def test_an_error_of_joined_searches_reaches_each_of_them_and_the_next_ones_are_tried() -> None:
    index = faiss.IndexFlatIP(DIM)
    index.add(VECTORS)
    together = JoinedSearches(index, threading.Lock())
    with ThreadPoolExecutor(4) as threads, pytest.raises(AssertionError):
        list(threads.map(lambda _: together.search(np.zeros((1, DIM + 1), np.float32), 5), range(8)))
    assert len(together.search(QUERIES[:1], 5)[1]) == 5


@pytest.mark.skipif(hasattr(faiss, "StandardGpuResources"), reason="this FAISS is built for GPUs")
def test_a_gpu_without_a_faiss_for_it_says_what_to_install(large: tuple[Path, DenseIndexInfo]) -> None:
    with pytest.raises(ValueError, match="faiss-gpu"):
        DenseIndex(large[0], device="gpu")


class TestOnAGpu:
    """Run where there is one, with faiss-gpu: the same is found, but for what 16 bits (and the codes' 8) lose."""

    pytestmark = pytest.mark.skipif(
        not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus(), reason="no GPU, or no FAISS for one"
    )

    @pytest.fixture(scope="class", params=["flat", "ivf-pq"])
    def index(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DenseIndex:
        path = tmp_path_factory.mktemp("gpu") / "dense.faiss"
        info = build_dense_index(path, VECTORS, exact_rows=ROWS if request.param == "flat" else 1000)
        assert info.kind == request.param
        return DenseIndex(path, device="gpu", exact_codes=100)

    @staticmethod
    def check(found: Hits, query: Vectors, top_k: int, mask: NDArray[np.bool_]) -> None:
        rows, scores = [row for row, _ in found], [score for _, score in found]
        assert len(rows) == len(set(rows)) == min(top_k, int(mask.sum()))
        assert mask[rows].all()
        assert scores == sorted(scores, reverse=True)
        assert scores == pytest.approx(VECTORS[rows] @ query, abs=0.01)
        last = VECTORS[nearest(query, top_k, mask)[-1]] @ query
        assert (VECTORS[rows] @ query).min() >= last - 0.01

    @pytest.mark.parametrize("top_k", [1, 10, 100])
    def test_all_may_be_seen(self, index: DenseIndex, top_k: int) -> None:
        for query in QUERIES:
            self.check(index.search(query, top_k, Selection(EVERYTHING)), query, top_k, EVERYTHING)
        assert recall(index, EVERYTHING) >= 0.98

    @pytest.mark.parametrize("share", [0.9, 0.45, 0.05])
    def test_deleted_and_hidden_rows_are_not_found(self, index: DenseIndex, share: float) -> None:
        mask = np.random.default_rng(3).random(ROWS) < share
        for query in QUERIES:
            self.check(index.search(query, 10, Selection(mask)), query, 10, mask)
        assert recall(index, mask) >= 0.97

    def test_a_selection_too_narrow_for_the_gpu_is_searched_by_the_cpu(self, index: DenseIndex) -> None:
        mask = np.random.default_rng(5).random(ROWS) < 0.002
        assert recall(index, mask) >= 0.97

    def test_what_may_be_seen_lies_elsewhere(self, index: DenseIndex) -> None:
        for query in QUERIES[:20]:
            far = VECTORS @ query < np.quantile(VECTORS @ query, 0.3)
            found = index.search(query, 20, Selection(far))
            assert len(found) == 20
            assert all(far[row] for row, _ in found)

    def test_more_is_asked_for_than_there_is(self, index: DenseIndex) -> None:
        mask = np.zeros(ROWS, dtype=bool)
        mask[[5, 700, 5999]] = True
        assert {row for row, _ in index.search(QUERIES[0], 10, Selection(mask))} == {5, 700, 5999}
        assert len(index.search(QUERIES[0], ROWS + 1, Selection(EVERYTHING))) > 0.99 * ROWS
        assert index.search(QUERIES[0], 10, Selection(~EVERYTHING)) == []

    def test_many_at_once(self, index: DenseIndex) -> None:
        shares = (1.0, 0.9, 0.45, 0.002)
        selections = [Selection(np.random.default_rng(6).random(ROWS) < share) for share in shares]
        jobs = [(query, selection) for query in QUERIES for selection in selections]
        alone = [index.search(query, 10, selection) for query, selection in jobs]
        with ThreadPoolExecutor(16) as threads:
            at_once = list(threads.map(lambda job: index.search(job[0], 10, job[1]), jobs * 5))
        for found, expected in zip(at_once, alone * 5, strict=True):  # sums of a batch are made in another order
            assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-3)

    def test_an_empty_index(self, index: DenseIndex, tmp_path: Path) -> None:
        build_dense_index(tmp_path / "empty.faiss", np.empty((0, DIM), np.float32))
        empty = DenseIndex(tmp_path / "empty.faiss", device="gpu")
        assert empty.search(QUERIES[0], 5, Selection(np.zeros(0, dtype=bool))) == []
