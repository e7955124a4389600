from collections.abc import AsyncGenerator
from dataclasses import dataclass

import pytest

from deployments.answering.grounding import Grounder, Sources, excerpt, split_sentences, supported
from deployments.answering.types import Citation, RetrievedChunk
from ingestion.chunk import Chunk
from models.protocols import GenerationEnd, TextDelta

pytestmark = pytest.mark.unit


def found(chunk_id: str, text: str, title: str = "Title") -> RetrievedChunk:
    chunk = Chunk(chunk_id, f"doc-{chunk_id}", 0, "passage", text, title, "en", "public", "a.md")
    return RetrievedChunk(chunk, 0.1, similarity=0.9)


@dataclass(frozen=True, slots=True)
class Grounding:
    citations: tuple[Citation, ...]
    is_grounded: bool


def ground(answer: str, sources: Sources) -> Grounding:
    """Of an answer that comes in one piece."""
    grounder = Grounder(sources)
    citations = (*grounder.feed(answer), *grounder.rest())
    return Grounding(citations, grounder.is_grounded)


RETURNS = found("returns", "You can return an item within 30 days of delivery. Outlet items: 14 days.", "Returns")
DELIVERY = found("delivery", "Standard delivery costs 4.95 euros and takes 2 to 4 working days.", "Delivery")


def test_each_sentence_is_cited_with_the_chunk_that_holds_it_in_order_of_need() -> None:
    grounding = ground(
        "Standard delivery costs 4.95 euros. Return an item within 30 days.", Sources([RETURNS, DELIVERY])
    )
    assert [citation.chunk_id for citation in grounding.citations] == ["delivery", "returns"]
    assert [citation.index for citation in grounding.citations] == [1, 2]
    assert grounding.is_grounded


def test_unsupported_sentence_is_not_grounded() -> None:
    grounding = ground("Return an item within 30 days. Our founder plays the violin beautifully.", Sources([RETURNS]))
    assert not grounding.is_grounded
    assert [citation.chunk_id for citation in grounding.citations] == ["returns"]


def test_number_that_no_source_holds_is_not_grounded() -> None:
    assert not ground("You can return an item within 60 days of delivery.", Sources([RETURNS])).is_grounded


def test_answer_without_sources_is_not_grounded() -> None:
    grounding = ground("Anything.", Sources([]))
    assert grounding.citations == ()
    assert not grounding.is_grounded


def test_chinese_answer_is_cited() -> None:
    chunk = found("zh", "签收后 7 天内支持无理由退货，金卡会员为 15 天。", "退货")
    assert ground("签收后 7 天内支持无理由退货。", Sources([chunk])).is_grounded


@pytest.mark.parametrize(
    "sentence",
    [
        "You cannot return an item within 30 days of delivery.",  # denies what the source affirms
        "Outlet items: 30 days of delivery.",  # number and words from two places
        "Standard delivery of the outlet items takes 14 days.",
        "Yes.",
    ],
)
def test_words_of_a_source_that_say_something_else_are_not_support(sentence: str) -> None:
    far = "Outlet items: 14 days. We are glad to help. You can return an item within 30 days of delivery."
    assert Sources([found("a", far), DELIVERY]).support(sentence) is None


def test_sentences_end_where_a_reader_ends_them_and_nothing_is_lost() -> None:
    text = "It costs 4.90 EUR. See shop.example/a.b for more!\n- 是的。可以退货。 Then"
    sentences = split_sentences(text)
    assert [sentence.strip() for sentence in sentences] == [
        "It costs 4.90 EUR.",
        "See shop.example/a.b for more!",
        "- 是的。",
        "可以退货。",
        "Then",
    ]
    assert "".join(sentences) == text


async def written(*pieces: str) -> AsyncGenerator[TextDelta | GenerationEnd, None]:
    for piece in pieces:
        yield TextDelta(piece)
    yield GenerationEnd("stop", 7, len(pieces))


async def test_generation_is_broken_off_at_the_first_sentence_without_support() -> None:
    unsupported: list[str] = []
    model = written("Return an item", " within 30 days. Our founder", " plays the violin. Outlet items: 14", " days.")
    items = [item async for item in supported(model, Sources([RETURNS]), unsupported.append)]
    assert items == [TextDelta("Return an item within 30 days. "), GenerationEnd("stop", 0, 22)]  # estimated
    assert unsupported == ["Our founder plays the violin."]


async def test_supported_sentences_come_whole_and_once() -> None:
    model = written("Outlet items: 14 days", ". Outlet items: 14 days. ", "Return an item within 30 days of delivery")
    items = [item async for item in supported(model, Sources([RETURNS]), pytest.fail)]
    assert items == [
        TextDelta("Outlet items: 14 days. "),
        TextDelta("Return an item within 30 days of delivery"),
        GenerationEnd("stop", 7, 3),
    ]


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
