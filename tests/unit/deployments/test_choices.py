from __future__ import annotations

import pytest

from deployments.answering.choices import chosen, numbered, offered
from deployments.answering.context import read
from models.protocols import ChatMessage

pytestmark = pytest.mark.unit

BASIC, PRO = "How much is the Basic plan?", "How much is the Pro plan?"
ANSWER = "\n".join(["Did you mean one of these?", *numbered([BASIC, PRO])])


def test_what_is_numbered_is_read_again() -> None:
    assert offered(ANSWER) == [BASIC, PRO]


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        ("1", BASIC),
        ("the first one, please", BASIC),
        ("2.", PRO),
        ("Second", PRO),
        ("the last one", PRO),
        ("第二个", PRO),
        ("第1个吧", BASIC),
        ("3", None),
        ("one of my friends has a plan", None),
        ("neither", None),
    ],
)
def test_turn_that_takes_one(turn: str, expected: str | None) -> None:
    assert chosen(turn, ANSWER) == expected


def test_number_takes_nothing_where_nothing_is_offered() -> None:
    assert chosen("2", "It costs 2 euros.") is None


def read_after(turn: str) -> tuple[str, bool]:
    found = read([ChatMessage("user", "plan price"), ChatMessage("assistant", ANSWER), ChatMessage("user", turn)])
    return found.text, found.needs_history


def test_choice_is_the_question_that_is_meant() -> None:
    assert read_after("the second one") == (PRO, True)


@pytest.mark.parametrize("turn", [PRO, "How do I cancel my order?"])
def test_clicked_question_and_a_new_one_stand_as_they_are(turn: str) -> None:
    assert read_after(turn) == (turn, False)
