"""One ranking of two searches, and no text in it twice."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from deployments.answering.fusion import CHANCE_SHARE, LEXICAL_WEIGHT, POOL, essence, fuse
from deployments.answering.types import RetrievedChunk
from ingestion.chunk import Chunk, ScoredChunk

pytestmark = pytest.mark.unit


def chunk(key: str, text: str = "", title: str = "Help") -> Chunk:
    return Chunk(key, f"doc-{key}", 0, "passage", text or f"text of {key}", title, "en", "public", "a.md")


def hits(**scores: float) -> list[ScoredChunk]:
    return [ScoredChunk(chunk(key), score) for key, score in sorted(scores.items(), key=lambda item: -item[1])]


def ids(found: list[RetrievedChunk]) -> list[str]:
    return [each.chunk.id for each in found]


class Unread:
    """Found, but not to be read."""

    language = "en"

    def __init__(self, key: str, score: float) -> None:
        self.id, self.score = key, score

    @property
    def chunk(self) -> Chunk:
        raise AssertionError(f"{self.id} was read")


def test_only_the_best_chunks_are_read() -> None:
    assert ids(fuse([*hits(a=0.9, b=0.8), Unread("c", 0.7)], [Unread("d", 0.02)], 2)) == ["a", "b"]


# --- the order ---


def test_one_search_alone_keeps_its_order() -> None:
    assert ids(fuse(hits(a=0.9, b=0.8, c=0.7), [], 5)) == ["a", "b", "c"]
    assert ids(fuse([], hits(a=0.5, b=0.4, c=0.1), 5)) == ["a", "b", "c"]
    assert ids(fuse([], hits(b=0.02, a=0.01), 5)) == ["b", "a"]  # by chance, but there is nothing else
    assert fuse([], [], 5) == []


def test_the_score_is_deviations_and_weighted_certainty() -> None:
    found = {each.chunk.id: each for each in fuse(hits(a=0.9, b=0.8, c=0.7), hits(b=0.25, d=0.16), 5)}
    deviation = math.sqrt(((0.1**2) * 2) / 3)  # of 0.9, 0.8 and 0.7 from their mean 0.8
    certainty = LEXICAL_WEIGHT * (0.25 - CHANCE_SHARE)
    assert found["a"].score == pytest.approx(0.1 / deviation)
    assert found["b"].score == pytest.approx(certainty * 0.25)
    assert found["d"].score == pytest.approx(-0.1 / deviation + certainty * 0.16)  # as the pool's last
    assert (found["a"].similarity, found["a"].lexical_score) == (0.9, None)
    assert (found["b"].similarity, found["b"].lexical_score) == (0.8, 0.25)
    assert (found["d"].similarity, found["d"].lexical_score) == (None, 0.16)


def test_what_a_full_pool_left_out_may_be_as_good_as_its_last() -> None:
    found = {f"x{number:02}": 0.2 for number in range(POOL)}
    dense = hits(a=0.9, b=0.8)
    left_out = {each.chunk.id: each for each in fuse(dense, hits(**found), 2 * POOL)}
    not_there = {each.chunk.id: each for each in fuse(dense, hits(**dict(list(found.items())[1:])), 2 * POOL)}
    assert left_out["a"].score == pytest.approx(1.0 + LEXICAL_WEIGHT * (0.2 - CHANCE_SHARE) * 0.2)
    assert not_there["a"].score == pytest.approx(1.0)


def test_a_neighbour_in_both_lists_does_not_beat_a_clear_winner_of_one() -> None:
    background = {f"x{number}": 0.80 - number / 1000 for number in range(20)}
    dense = hits(clear=0.92, neighbour=0.81, **background)
    assert ids(fuse(dense, hits(neighbour=0.05, other=0.04), 1)) == ["clear"]
    lexical = hits(clear=0.5, neighbour=0.1)
    assert ids(fuse(hits(neighbour=0.81, **background), lexical, 1)) == ["clear"]


def test_words_that_hold_next_to_nothing_of_the_question_hardly_count() -> None:
    """A Chinese question to English knowledge: only "App" of it is found."""
    dense = hits(right=0.86, near=0.85, **{f"x{number}": 0.80 - number / 1000 for number in range(20)})
    assert ids(fuse(dense, hits(chance=0.03, near=0.02), 2)) == ["right", "near"]
    assert ids(fuse(dense, hits(near=0.3), 1)) == ["near"]  # while words that are there decide between close ones


def test_the_scale_of_the_encoder_does_not_matter() -> None:
    lexical = hits(b=0.2, d=0.2)
    dense = hits(a=0.9, b=0.8, c=0.7, d=0.1)
    squeezed = [ScoredChunk(found.chunk, 0.8 + found.score / 100) for found in dense]
    assert ids(fuse(dense, lexical, 5)) == ids(fuse(squeezed, lexical, 5))


def test_equal_scores_are_ordered_by_id() -> None:
    assert ids(fuse(hits(b=0.5, a=0.5, c=0.5), hits(), 3)) == ["a", "b", "c"]


# --- copies ---


def found_texts(*texts: str, titles: tuple[str, ...] = (), top_k: int = 5) -> list[str]:
    chunks = [chunk(f"{number}", text, *titles[number : number + 1]) for number, text in enumerate(texts)]
    dense = [ScoredChunk(each, 0.9 - number / 10) for number, each in enumerate(chunks)]
    return ids(fuse(dense, [], top_k))


@pytest.mark.parametrize(
    "copy",
    [
        "Returns are free within 30 days of delivery.",
        "RETURNS  are free\n\nwithin 30 days of delivery",
        "**Returns** are free – within 30 days of the delivery!",
        "Ｒeturns are free within ３０ days of delivery.",
    ],
)
def test_of_copies_the_best_is_kept(copy: str) -> None:
    text = "Returns are free within 30 days of delivery."
    assert found_texts(text, copy, "Something else") == ["0", "2"]


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("Returns are free within 30 days.", "Returns are free within 14 days."),
        ("Returns are free.", "Returns are not free."),
        ("Opened goods can be returned.", "Opened goods can't be returned."),
        ("The fee is 2.5 %.", "The fee is 25 %."),
        ("The fee is 5 %.", "The fee is 5 €."),
        ("Bring a passport and a bill.", "Bring a passport or a bill."),
        ("Move money from savings to checking.", "Move money from checking to savings."),
        ("Delivery with a signature", "Delivery without a signature"),
        ("拆封后可以退货。", "拆封后不可以退货。"),
        ("满99元免运费", "满199元免运费"),
    ],
)
def test_texts_that_differ_in_a_number_a_name_or_a_denial_are_no_copies(text: str, other: str) -> None:
    assert found_texts(text, other) == ["0", "1"]


def test_the_same_conditions_of_two_products_are_two_results() -> None:
    text = "The fee is waived from a balance of 5,000."
    assert found_texts(text, text, titles=("Lime Green Account", "Navy Blue Account")) == ["0", "1"]
    assert essence(chunk("a", text)) == essence(replace(chunk("b", text), position=3))


def test_copies_do_not_fill_the_result() -> None:
    assert found_texts("one", "one", "one", "two", "three", top_k=2) == ["0", "3"]
