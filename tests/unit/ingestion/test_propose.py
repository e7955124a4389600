"""What of a model's proposals is kept, and the file that a person reviews."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from ingestion.chunk import Chunk
from ingestion.parse import parse
from ingestion.propose import Row, propose, read_proposals, support_of, write_csv

pytestmark = pytest.mark.unit

PASSAGE = Chunk(
    "p", "returns.md", 0, "passage",
    "You can return an item within 30 days of delivery. Refunds take five working days after the item has arrived.",
    "Returns", "en", "public", "returns.md", url="https://help.example/returns",
)  # fmt: skip
CHINESE_TEXT = "收到商品后七天内可以申请退货，退款会在商品到仓后的三个工作日内原路退回。请保留原包装和配件。"
CHINESE = replace(PASSAGE, id="z", language="zh", title="退货", text=CHINESE_TEXT)


def test_pairs_are_read_however_the_model_marks_them() -> None:
    text = (
        "Here are the pairs:\n\nQ: How long can I return an item?\nA: Within 30 days of delivery.\n\n"
        "**Q2:** How long do refunds take?\n**A2:** Five working days after the item has arrived."
    )
    assert [(p.question, p.answer) for p in read_proposals(text, PASSAGE)] == [
        ("How long can I return an item?", "Within 30 days of delivery."),
        ("How long do refunds take?", "Five working days after the item has arrived."),
    ]
    (chinese,) = read_proposals("Q：多久可以退货？\nA：收到商品后七天内可以申请退货。", CHINESE)
    assert (chinese.answer, chinese.language) == ("收到商品后七天内可以申请退货。", "zh")


@pytest.mark.parametrize(
    "text",
    [
        "Q: How long can I return an item?\nA: Within 60 days of delivery.",  # a number of its own
        "Q: Can I return it?\nA: Our friendly colleagues at the shop counter gladly help you with everything.",
        "Q: Returns\nA: Within 30 days of delivery.",  # asks nothing
        "Q: How long can I return an item?",  # no answer
        "I cannot help with that.",
        "",
    ],
)
def test_what_the_passage_does_not_bear_out_is_dropped(text: str) -> None:
    assert read_proposals(text, PASSAGE) == []


def test_support_is_the_share_of_words_that_stand_there() -> None:
    assert support_of("Refunds take five working days", PASSAGE.text) == 1.0
    assert support_of("", PASSAGE.text) == 0.0
    assert 0.0 < support_of("Refunds take ages", PASSAGE.text) < 1.0


def test_every_question_is_proposed_once_and_none_that_is_known(tmp_path: Path) -> None:
    asked: list[Row] = []

    def model(rows: Iterable[Row]) -> list[Row]:
        asked.extend(rows)
        pairs = (
            "Q: How long can I return an item?\nA: Within 30 days.\nQ: When are refunds paid?\nA: Five working days."
        )
        return [{"id": row["id"], "text": pairs} for row in reversed(asked)]

    short = replace(PASSAGE, id="s", text="See above.")
    pair = replace(PASSAGE, id="q", kind="qa")
    copy = replace(PASSAGE, id="c")
    found = list(propose([PASSAGE, short, pair, copy], ["how long can I return an item"], model))
    assert [row["id"] for row in asked] == ["p", "c"]
    assert asked[0]["messages"][1]["content"].endswith(PASSAGE.text)
    assert [proposal.question for proposal in found] == ["When are refunds paid?"]

    file = tmp_path / "pairs.csv"
    assert write_csv(file, found) == 1
    (document,) = parse(file, "pairs.csv").documents
    assert (document.question, document.answer) == ("When are refunds paid?", "Five working days.")
    assert (document.details.url, document.details.audience) == ("https://help.example/returns", "public")
