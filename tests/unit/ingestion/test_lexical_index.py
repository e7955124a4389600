"""BM25 over real tantivy indexes, alone and several as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestion.lexical_index import (
    LexicalIndex,
    best_score,
    build_lexical_index,
    idf,
    idf_weights,
    query_terms,
    searchable_text,
    shared_weights,
    tokens,
)

pytestmark = pytest.mark.unit

BASE = [
    "Returns are free within 30 days",
    "Express delivery takes one day",
    "Standard delivery takes five days",
    "Delivery to islands takes nine days",
    "收到商品后七天内可以申请退货",
]


def index_of(folder: Path, texts: list[str]) -> LexicalIndex:
    build_lexical_index(folder, texts)
    return LexicalIndex(folder)


@pytest.fixture
def base(tmp_path: Path) -> LexicalIndex:
    return index_of(tmp_path / "base", BASE)


def rows(hits: list[tuple[int, float]]) -> list[int]:
    return [row for row, _ in hits]


def test_counts_rows_and_the_rows_of_a_term(base: LexicalIndex) -> None:
    assert base.doc_count == 5
    assert base.doc_freq("deliveri") == 3  # as `query_terms` stems it
    assert base.doc_freq("退货") == 1
    assert base.doc_freq("nowhere") == 0


def test_a_weight_of_zero_leaves_a_term_without_effect(base: LexicalIndex) -> None:
    assert rows(base.search("express delivery", 1)) == [1]
    hits = dict(base.search("returns delivery", 5, weights={"deliveri": 0.0}))
    assert hits[0] > 0
    assert hits[1] == hits[2] == hits[3] == 0


def test_scores_grow_with_a_weight(base: LexicalIndex) -> None:
    ((_, plain),) = base.search("express", 1)
    ((_, doubled),) = base.search("express", 1, weights={"express": 2.0})
    assert doubled == pytest.approx(2 * plain, rel=1e-5)


def test_idf_is_the_one_that_the_index_scores_with(tmp_path: Path) -> None:
    index = index_of(tmp_path / "same_length", ["red apple", "red pear", "red plum", "green plum"])
    ((_, score),) = index.search("pear", 1)
    # tf = 1 in a text of average length, so that BM25 is idf · (k1 + 1) / (1 + k1) = idf
    assert score == pytest.approx(idf(4, 1), rel=1e-3)


def test_weights_of_one_index_change_nothing() -> None:
    assert idf_weights([5], [{"red": 3, "blue": 0}]) == [{"red": 1.0, "blue": 1.0}]
    assert idf_weights([], []) == []


def test_weights_make_a_small_index_see_rarity_as_all_together_do() -> None:
    (of_base, of_delta) = idf_weights([99, 1], [{"red": 49, "blue": 0}, {"red": 0, "blue": 1}])
    assert of_base["red"] * idf(99, 49) == pytest.approx(idf(100, 49))
    assert of_delta["blue"] * idf(1, 1) == pytest.approx(idf(100, 1))


def test_an_index_of_one_text_is_heard_beside_a_large_one(tmp_path: Path) -> None:
    base = index_of(tmp_path / "base", [*BASE, *(f"Note {number} on delivery" for number in range(200))])
    delta = index_of(tmp_path / "delta", ["Returns of the Zephyr are collected"])
    query = "zephyr delivery"
    (_, alone), (_, in_base) = delta.search(query, 1)[0], base.search(query, 1)[0]
    assert alone < 0.3  # in its own index every term is as common as can be
    of_base, of_delta = shared_weights([base, delta], query)
    (_, weighted), (_, common) = delta.search(query, 1, weights=of_delta)[0], base.search(query, 1, weights=of_base)[0]
    assert common == pytest.approx(in_base, abs=0.01)  # the large index hardly changes
    assert weighted > 3 * common  # "zephyr" is in one text of 206, "delivery" in most


def test_weights_know_the_terms_that_are_searched_for(base: LexicalIndex) -> None:
    text = "How do I get express delivery 退货"
    (weights,) = shared_weights([base], text)
    assert list(weights) == query_terms(text) == ["express", "deliveri", "退", "货", "退货"]


# --- words ---


def test_words_are_lower_case_and_stemmed() -> None:
    assert tokens("Returning the Orders’ parcels") == ["return", "the", "order", "parcel"]


def test_hyphens_part_words_and_points_do_not() -> None:
    assert tokens("out-of-network: 2.5 percent") == tokens("Out of network 2.5 percent")
    assert "2.5" in tokens("2.5 percent")


def test_chinese_is_cut_into_characters_and_pairs() -> None:
    assert tokens("退货费") == ["退", "货", "费", "退货", "货费"]
    assert tokens("买Brio咖啡") == ["买", "brio", "咖", "啡", "咖啡"]


def test_full_width_letters_are_letters() -> None:
    assert tokens("ＡＰＰ１２") == ["app12"]


def test_of_a_question_only_what_says_something_is_searched_for() -> None:
    assert query_terms("How do I return it?") == ["return"]
    assert query_terms("怎么退货") == ["退", "货", "么退", "退货"]
    assert query_terms("who are you") == ["who", "are", "you"]  # nothing else is asked


def test_other_words_for_the_same_are_found_by_their_characters(base: LexicalIndex) -> None:
    assert rows(base.search("能退吗", 1)) == [4]


def test_a_pair_counts_more_than_its_characters_apart(tmp_path: Path) -> None:
    index = index_of(tmp_path / "zh", ["保管费与修理费", "费用保修"])
    assert rows(index.search("保修", 2)) == [1, 0]


# --- titles and shares ---


def test_a_title_tells_siblings_apart(tmp_path: Path) -> None:
    text = "The monthly fee is waived. Ask us about the navy account, too."
    siblings = [searchable_text(title, ("Fees",), text) for title in ("Lime account", "Navy account")]
    assert rows(index_of(tmp_path / "siblings", siblings).search("navy fee", 2)) == [1, 0]


def test_a_score_is_below_the_best_and_near_it_for_a_text_that_says_all_again_and_again(tmp_path: Path) -> None:
    texts = ["express delivery " * 50, "express delivery of a parcel to a house far away", *BASE]
    index = index_of(tmp_path / "repeated", texts)
    shares = {
        row: score / best_score([index], "express delivery") for row, score in index.search("express delivery", 9)
    }
    assert 0.9 < shares[0] < 1
    assert 0.1 < shares[1] < shares[0]


def test_what_no_row_has_lowers_the_share_of_all_others(base: LexicalIndex) -> None:
    assert best_score([base], "express") < best_score([base], "express teleportation")
    assert best_score([base], "，。") == 0


def test_the_best_score_is_that_of_all_indexes_together(tmp_path: Path, base: LexicalIndex) -> None:
    other = index_of(tmp_path / "other", ["Express trains"] * 5)
    together = index_of(tmp_path / "together", [*BASE, *["Express trains"] * 5])
    assert best_score([base, other], "express delivery") == pytest.approx(best_score([together], "express delivery"))
