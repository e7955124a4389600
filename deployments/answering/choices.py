"""Questions to choose from, as lines of an answer, and which of them the next turn takes. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from deployments.answering.turn_kind import folded

_LINE = re.compile(r"^(\d)\. (.+)$", re.MULTILINE)
_NUMBERS = tuple(
    re.compile(
        rf"(?:(?:the )?(?:no\.?|number|option|question)? ?{digit}\.?|(?:the )?{word}(?: one)?"
        rf"|第?{digit}[个条]?|第?{sign}[个条])"
    )
    for digit, word, sign in ((1, "first", "一"), (2, "second", "二"), (3, "third", "三"))
)
_LAST = re.compile(r"(?:the )?(?:last|latter)(?: one)?|最后(?:一|那)?[个条]|后面?(?:那)?[个一]个?|后者")
_COURTESY = re.compile(r"[\s,.!，。！]*(?:please|thanks|thank you|吧|谢谢)?[\s.!。！]*$")


def numbered(questions: Sequence[str]) -> list[str]:
    """ "1. How much is the Basic plan?", a line each."""
    return [f"{place}. {question}" for place, question in enumerate(questions, 1)]


def offered(answer: str) -> list[str]:
    """The questions that an answer offers, in their order."""
    return [found[2].strip() for found in _LINE.finditer(answer)]


def chosen(turn: str, answer: str) -> str | None:
    """The question that a turn such as "the second one" takes."""
    questions = offered(answer)
    plain = _COURTESY.sub("", folded(turn))
    if questions and _LAST.fullmatch(plain):
        return questions[-1]
    places = [place for place, number in enumerate(_NUMBERS) if number.fullmatch(plain)]
    return questions[places[0]] if places and places[0] < len(questions) else None
