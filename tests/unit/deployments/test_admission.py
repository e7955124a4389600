"""Which answers are everybody's."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.answering.admission import personal_data, why_not_cached

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "text",
    [
        "Write to anna.schmidt@example.org please",
        "call me at +49 171 2345678",
        "我的电话是13812345678",
        "my number is (555) 010-4477",
        "card 4111 1111 1111 1111 was charged",
        "where is order 445566",
        "order no. 4455",
        "订单号：20261125001 到哪了",
        "invoice number 9911 is wrong",
        "tracking JD0012345678CN",
        "RMA-20231 has not arrived",
        "１３８１２３４５６７８",
    ],
)
def test_what_belongs_to_one_person_is_seen(text: str) -> None:
    assert personal_data(text)


@pytest.mark.parametrize(
    "text",
    [
        "Can I return it within 30 days?",
        "满100元包邮吗",
        "Is the Brio 2 Pro better than the iPhone 15?",
        "We are open from 8:00 to 20:00, Monday to Friday.",
        "Valid until 2026-12-24.",
        "Delivery is free for orders over 100 euros.",
        "It costs 1,299.00 euros.",
        "退款需要3到5个工作日",
        "Error E17 on the display",
    ],
)
def test_what_everybody_may_ask_is_not(text: str) -> None:
    assert personal_data(text) == {}


ANSWER: dict[str, Any] = {
    "path": "small",
    "finish_reason": "stop",
    "is_grounded": True,
    "question": "How do I reach you?",
    "answer": "Call us.",
    "sources": ["Our hotline is +49 30 1234567, hello@shop.example."],
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"path": "abstain"}, "path"),
        ({"path": "passage"}, "path"),
        ({"finish_reason": "length"}, "incomplete"),
        ({"is_grounded": False}, "ungrounded"),
        ({"private": "tool result"}, "tool result"),
        ({"question": "Where is order 445566?"}, "order number in the question"),
        ({"answer": "Your courier is at 0171 2345678."}, "phone number in the answer"),
        ({"answer": "Call 030 7654321."}, "phone number in the answer"),
        ({"answer": "Call +49 (30) 123 4567 or write to Hello@shop.example."}, None),  # the company's own
    ],
)
def test_only_complete_grounded_answers_of_nobody_in_particular_are_kept(
    change: dict[str, Any], reason: str | None
) -> None:
    assert why_not_cached(**{**ANSWER, **change}) == reason
