import pytest

from deployments.answering.grounding import excerpt, ground
from deployments.answering.types import RetrievedChunk
from ingestion.chunk import Chunk

pytestmark = pytest.mark.unit


def found(chunk_id: str, text: str, title: str = "Title") -> RetrievedChunk:
    chunk = Chunk(chunk_id, f"doc-{chunk_id}", 0, "passage", text, title, "en", "public", "a.md")
    return RetrievedChunk(chunk, 0.1, similarity=0.9)


RETURNS = found("returns", "You can return an item within 30 days of delivery. Outlet items: 14 days.", "Returns")
DELIVERY = found("delivery", "Standard delivery costs 4.95 euros and takes 2 to 4 working days.", "Delivery")


def test_each_sentence_is_cited_with_the_chunk_that_holds_it_in_order_of_need() -> None:
    grounding = ground("Standard delivery costs 4.95 euros. Return an item within 30 days.", [RETURNS, DELIVERY])
    assert [citation.chunk_id for citation in grounding.citations] == ["delivery", "returns"]
    assert [citation.index for citation in grounding.citations] == [1, 2]
    assert grounding.is_grounded


def test_unsupported_sentence_is_not_grounded() -> None:
    grounding = ground("Return an item within 30 days. Our founder plays the violin beautifully.", [RETURNS])
    assert not grounding.is_grounded
    assert [citation.chunk_id for citation in grounding.citations] == ["returns"]


def test_number_that_no_source_holds_is_not_grounded() -> None:
    assert not ground("You can return an item within 60 days of delivery.", [RETURNS]).is_grounded


def test_answer_without_sources_is_not_grounded() -> None:
    grounding = ground("Anything.", [])
    assert grounding.citations == ()
    assert not grounding.is_grounded


def test_chinese_answer_is_cited() -> None:
    chunk = found("zh", "签收后 7 天内支持无理由退货，金卡会员为 15 天。", "退货")
    assert ground("签收后 7 天内支持无理由退货。", [chunk]).is_grounded


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("Short.", 20, "Short."),
        ("One sentence. Another one here.", 18, "One sentence."),
        ("x" * 30, 10, "x" * 10 + "…"),
    ],
)
def test_excerpt_ends_at_a_sentence_where_it_can(text: str, limit: int, expected: str) -> None:
    assert excerpt(text, limit) == expected
