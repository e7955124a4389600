"""Where documents are cut, and what a chunk is called."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ingestion.document import Block, Details, Document
from ingestion.embedding import embedding_text
from ingestion.language import detect_language, width
from ingestion.split import MAX_WIDTH, split

pytestmark = pytest.mark.unit


def document(*blocks: Block, **details: str) -> Document:
    return Document("d", "d.md", Details(**{"title": "Title", **details}), blocks)  # type: ignore[arg-type]


def text(words: str, times: int) -> Block:
    return Block("text", " ".join([words] * times))


def test_headings_part_chunks_and_name_them() -> None:
    long = "A sentence of some length stands here."  # 38 letters, 20 of them 779
    chunks = split(
        document(
            text(long, 20), Block("heading", "A", 1), text(long, 20), Block("heading", "B", 2), text(long, 20),
            Block("heading", "C", 1), text(long, 20), topic="topic",
        ),
        "help",
    )  # fmt: skip
    assert [chunk.heading_path for chunk in chunks] == [
        ("topic",), ("topic", "A"), ("topic", "A", "B"), ("topic", "C"),
    ]  # fmt: skip
    assert [chunk.position for chunk in chunks] == [0, 1, 2, 3]
    assert {chunk.title for chunk in chunks} == {"Title"}
    assert embedding_text(chunks[2]).startswith("Title > topic > A > B\nA sentence")


def test_small_sections_share_a_chunk_with_their_headings_in_the_text() -> None:
    chunks = split(document(Block("heading", "A", 1), text("a", 1), Block("heading", "B", 1), text("b", 1)), "help")
    assert [(chunk.heading_path, chunk.text) for chunk in chunks] == [((), "A\n\na\n\nB\n\nb")]


def test_nothing_is_lost_and_no_chunk_is_too_long() -> None:
    for words, times in (
        ("One more sentence, to be cut.", 200),
        ("退货政策：七天内可以申请退货。", 200),
        ("x" * 50, 100),
    ):
        block = text(words, times)
        chunks = split(document(block), "help")
        assert len(chunks) > 2
        assert all(width(chunk.text) <= MAX_WIDTH for chunk in chunks)
        assert "".join("".join(chunk.text for chunk in chunks).split()) == "".join(block.text.split())


def test_sentences_stay_whole() -> None:
    for chunk in split(document(text("One more sentence, to be cut.", 200)), "help"):
        assert chunk.text.startswith("One")
        assert chunk.text.endswith("cut.")
    for chunk in split(document(Block("text", "七天内可以申请退货。" * 200)), "help"):
        assert chunk.text.startswith("七天")
        assert chunk.text.endswith("退货。")


def test_text_without_any_boundary_is_cut_all_the_same() -> None:
    assert all(width(chunk.text) <= MAX_WIDTH for chunk in split(document(Block("text", "x" * 5000)), "help"))
    assert all(width(chunk.text) <= MAX_WIDTH for chunk in split(document(Block("text", "退" * 5000)), "help"))


@pytest.mark.parametrize("words", ["x", "退", "*a_ ", "[", "a. ", "，", "a, ", "\n", "。", "A1-"])
def test_the_work_grows_with_the_text_and_no_faster(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Characters looked at, since seconds depend on the machine: a text of a million letters would take hours."""
    looked_at = []
    monkeypatch.setattr("ingestion.split.width", lambda text: looked_at.append(len(text)) or width(text))

    def work(times: int) -> int:
        looked_at.clear()
        split(document(Block("text", words * times)), "help")
        return sum(looked_at)

    assert work(40_000) < 6 * work(10_000) + 10_000


def test_rows_are_never_cut() -> None:
    rows = [Block("row", f"Plan: {number} | " + "Text: many words " * 20) for number in range(9)]
    rows.append(Block("row", "Long: " + "word. " * 400))
    lines = [line for chunk in split(document(*rows), "help") for line in chunk.text.split("\n")]
    assert lines == [row.text for row in rows]


def test_chinese_chunks_hold_fewer_characters() -> None:
    assert width("退货") == 6.5
    assert width("ab") == 2.0
    assert width("A1") == 4.0
    assert width("a, b") == 8.0


def test_ids_are_of_the_content() -> None:
    first = document(text("same", 3), Block("heading", "H", 1), text("other", 400))
    moved = document(text("added", 400), *first.blocks)
    ids = [chunk.id for chunk in split(first, "help")]
    assert ids == [chunk.id for chunk in split(first, "help")]
    assert ids[-1] in {chunk.id for chunk in split(moved, "help")}
    assert not set(ids) & {chunk.id for chunk in split(first, "another")}
    staff = replace(first, details=replace(first.details, audience="staff", url="/x"))
    assert ids == [chunk.id for chunk in split(staff, "help")]  # who may see it does not change the vector
    retitled = replace(first, details=replace(first.details, title="New"))
    assert not set(ids) & {chunk.id for chunk in split(retitled, "help")}
    twice = split(document(*[text("again and again.", 40)] * 2), "help")
    assert len({chunk.id for chunk in twice}) == len(twice) == 2


def test_a_pair_is_one_chunk() -> None:
    (chunk,) = split(Document("q", "faq.csv", Details(), question="How?", answer="So."), "help")
    assert (chunk.kind, chunk.text, chunk.question, chunk.answer) == ("qa", "How?\nSo.", "How?", "So.")
    assert embedding_text(chunk) == "How?\nSo."


def test_only_a_pair_that_was_given_as_one_is_curated() -> None:
    given = Document("q", "faq.csv", Details(title="Delivery"), question="How?", answer="A long one. " * 200)
    assert [(chunk.kind, chunk.is_curated) for chunk in split(given, "help")][:2] == [("qa", True), ("passage", False)]
    (found,) = split(document(Block("pair", "So.", question="How?")), "help")
    assert (found.kind, found.is_curated) == ("qa", False)


@pytest.mark.parametrize(
    ("words", "language"),
    [
        ("How do I return an item?", "en"),
        ("如何退货？", "zh"),
        ("iPhone 15 Pro Max 如何退货", "zh"),
        ("Order with Alipay (支付宝) or by card, as you like it best", "en"),
        ("SKU 4711", "und"),
        ("123", "und"),
        ("", "und"),
        ("Как вернуть товар?", "und"),
    ],
)
def test_language_is_told_by_letters(words: str, language: str) -> None:
    assert detect_language(words) == language


def test_a_given_language_wins() -> None:
    assert split(document(text("English text", 5), language="zh"), "help")[0].language == "zh"
