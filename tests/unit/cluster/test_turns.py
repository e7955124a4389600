from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cluster.turns import line

pytestmark = pytest.mark.unit


def row(**changes: Any) -> dict[str, Any]:
    return {
        "started_at": datetime(2026, 11, 25, 9, 5, tzinfo=UTC),
        "outcome": "answered",
        "error_code": "",
        "path": "faq",
        "intent": "",
        "intent_confidence": 0.0,
        "duration_ms": 61.4,
        "question": "Where is\nmy parcel?",
    } | changes


def test_a_turn_is_one_line_that_fits() -> None:
    assert line(row(), 200).split() == ["11-25", "09:05:00", "faq", "61", "ms", "Where", "is", "my", "parcel?"]
    assert len(line(row(question="x" * 500), 80)) == 80


def test_what_the_customer_said_of_it_stands_below_it_whole() -> None:
    first, second = line(row(rating="down", comment="Too\nslow, " + "x" * 100), 80).splitlines()
    assert first == line(row(), 80)
    assert second.split(maxsplit=1)[0] == "“Too"
    assert second.endswith("x”")


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"outcome": "disconnected"}, "disconnected"),
        ({"outcome": "failed", "error_code": "engine_died"}, "engine_died"),
        ({"intent": "track_order", "intent_confidence": 0.957}, "track_order 0.96"),
    ],
)
def test_what_came_of_it_is_said(changes: dict[str, Any], shown: str) -> None:
    assert shown in line(row(**changes), 200)
