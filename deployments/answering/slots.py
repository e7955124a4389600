"""What a flow has to know from the customer, and how it is read out of what the customer wrote. Pure.

A slot's kind finds values in any text (`find`: only what is surely one) and reads the answer to its own question
(`read`: more is taken for one, and what is meant as one but cannot be is a `Problem`). Values come from the customer's
words alone, in one canonical form, and are data: nothing is ever made of them but text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import ClassVar, Literal, Protocol

from deployments.answering.turn_kind import kind_of
from deployments.answering.types import Button, Language

Problem = Literal["shape", "range"]  # not such a value at all; one, but not one that may be


@dataclass(frozen=True, slots=True)
class Found:
    """A value and where it stood in the text that was read."""

    value: str
    start: int
    end: int


class SlotKind(Protocol):
    """All texts are as `plain` makes them; today is the customer's."""

    names_one: ClassVar[bool]  # a value of it means one thing, in whatever sentence: also in one that asks something

    def find(self, text: str, today: date) -> list[Found]:
        """What surely is such a value, in the order of the text."""

    def read(self, text: str, today: date) -> Found | Problem | None:
        """The answer to our question; None where the text holds nothing of the kind."""

    def revise(self, text: str, current: str, today: date) -> Found | None:
        """What the customer puts in place of `current`; often less than the whole value ("no, 5678")."""

    def shown(self, value: str, language: Language) -> str:
        """As customers write it."""


@dataclass(frozen=True, slots=True)
class Slot:
    name: str
    kind: SlotKind
    ask: Mapping[Language, str]
    hint: Mapping[Language, str]  # what to say when a value cannot be
    max_tries: int = 3  # wrong answers after which a person takes over
    keep: bool = False  # for later flows of the conversation

    def buttons(self, language: Language) -> tuple[Button, ...]:
        return self.kind.buttons(language) if isinstance(self.kind, Choice) else ()


def plain(text: str) -> str:
    """NFKC, typographic dashes and quotes as on a keyboard: full-width digits are digits."""
    folded = unicodedata.normalize("NFKC", text).translate(_KEYBOARD)
    return folded.strip()


_KEYBOARD = str.maketrans(dict.fromkeys("‐‑‒–—―−", "-") | {"’": "'", "‘": "'", "“": '"', "”": '"'})


# --- negation: "not NL-1 but NL-2", "不是A，是B" ---

_NOT_BEFORE = re.compile(
    r"(?:\bnot|n't|\bnever|\bwithout|\bno|\binstead of|不是|并非|不要|不想要?|别|而非)\s*"
    r"(?:(?:the|a|an|my|for|in|on|from|number|order|订单号?|号码?|日期|单号)\s*)*[\"']?$",
    re.IGNORECASE,
)


def affirmed(text: str, found: Sequence[Found]) -> list[Found]:
    """Without those that the text says it is not."""
    return [one for one in found if not _NOT_BEFORE.search(text[max(0, one.start - 40) : one.start])]


# --- free text and choices ---


@dataclass(frozen=True, slots=True)
class FreeText:
    names_one: ClassVar[bool] = False
    least_chars: int = 1
    most_chars: int = 1000

    def find(self, text: str, today: date) -> list[Found]:
        return []  # only an answer to our question is one

    def read(self, text: str, today: date) -> Found | Problem | None:
        said = " ".join(text.split())
        if not said or kind_of(said) != "question":
            return None
        fits = self.least_chars <= len(said) <= self.most_chars
        return Found(said, 0, len(text)) if fits else "range"

    def revise(self, text: str, current: str, today: date) -> Found | None:
        return None  # nothing tells a new description from an added one

    def shown(self, value: str, language: Language) -> str:
        return value


@dataclass(frozen=True, slots=True)
class Option:
    value: str
    labels: Mapping[Language, tuple[str, ...]]  # the first one is shown

    def all_labels(self) -> list[str]:
        return [self.value, *(label for labels in self.labels.values() for label in labels)]


_ORDINAL = re.compile(
    r"(?:number|no\.?|option|#|选项|第|选)?\s*(?P<n>\d|[一二三四五六七八九]|first|second|third|fourth|fifth|last)"
    r"\s*(?:st|nd|rd|th)?\s*(?:one|option|个|种|项|号)?[.。!]?",
    re.IGNORECASE,
)
_ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5} | {
    digit: number for number, digit in enumerate("一二三四五六七八九", 1)
}


@dataclass(frozen=True, slots=True)
class Choice:
    names_one: ClassVar[bool] = False
    options: tuple[Option, ...]

    def find(self, text: str, today: date) -> list[Found]:
        found = self._mentioned(text, only_telling=True)
        return found if len({one.value for one in found}) == 1 else []

    def read(self, text: str, today: date) -> Found | Problem | None:
        found = self._mentioned(text)
        if len({one.value for one in found}) == 1:
            return found[0]
        if (position := _ORDINAL.fullmatch(text.removeprefix("the ").strip())) is not None:
            chosen = self._at(position["n"].casefold())
            return "range" if chosen is None else Found(chosen.value, 0, len(text))
        return "range" if found else None

    def revise(self, text: str, current: str, today: date) -> Found | None:
        others = [one for one in self._mentioned(text) if one.value != current]
        return others[0] if len({one.value for one in others}) == 1 else None

    def shown(self, value: str, language: Language) -> str:
        option = next((option for option in self.options if option.value == value), None)
        labels = option.labels.get(language, ()) if option else ()
        return labels[0] if labels else value

    def buttons(self, language: Language) -> tuple[Button, ...]:
        shown = [self.shown(option.value, language) for option in self.options]
        return tuple(Button(label, label) for label in shown)

    def _at(self, position: str) -> Option | None:
        number = len(self.options) if position == "last" else _ORDINALS.get(position) or int(position)
        return self.options[number - 1] if 1 <= number <= len(self.options) else None

    def _mentioned(self, text: str, only_telling: bool = False) -> list[Found]:
        """Longest labels first, so that "Brio 2 Pro" does not mention "Brio 2". Telling: more than "yes" or "ok"."""
        labels = [
            (plain(label).casefold(), option.value)
            for option in self.options
            for label in option.all_labels()
            if not only_telling or _tells(label)
        ]
        left, found = text.casefold(), []
        for label, value in sorted(labels, key=lambda pair: -len(pair[0])):
            for match in list(_whole(label).finditer(left)):
                found.append(Found(value, match.start(), match.end()))
            left = _whole(label).sub(lambda match: "\0" * len(match[0]), left)
        return affirmed(text, sorted(found, key=lambda one: one.start))


def _tells(label: str) -> bool:
    return len(label) >= (2 if not label.isascii() else 4) and kind_of(label) == "question"


def _whole(label: str) -> re.Pattern[str]:
    """Latin words whole; Chinese has no spaces to tell them by."""
    before = r"(?<![a-z0-9])" if label[:1].isascii() else ""
    after = r"(?![a-z0-9])" if label[-1:].isascii() else ""
    return re.compile(before + re.escape(label) + after)
