"""Order numbers, by the company's own pattern, and telephone numbers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from typing import ClassVar

from pydantic_core import SchemaError, SchemaValidator, core_schema

from deployments.answering.slots import Found, Problem, affirmed
from deployments.answering.types import Language

_RUN = re.compile(r"[A-Za-z0-9]+")
_GAP = re.compile(r"[\s\-_/.#:]{0,3}")
_MOST_RUNS = 4  # of which one number may be written: "NL 2045 8812"
_DATE_LIKE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}")
_LAST_DIGITS = re.compile(r"\d+(?=\D*$)")
_MOST_CHARS = 1000  # of a text that is looked through


class PatternError(ValueError):
    """The pattern of an order number cannot be used; the message says why."""


class Pattern:
    """A regular expression that a whole code must match; Rust's engine, in which no text takes long."""

    def __init__(self, pattern: str) -> None:
        try:
            self._validator = SchemaValidator(
                core_schema.str_schema(pattern=f"^(?:{pattern})$", regex_engine="rust-regex")
            )
        except SchemaError as error:
            why = next((line for line in str(error).splitlines() if line.strip().startswith("error:")), str(error))
            raise PatternError(f"not a regular expression that can be used: {why.strip()}") from error

    def matches(self, code: str) -> bool:
        return self._validator.isinstance_python(code)


@dataclass(frozen=True, slots=True)
class OrderNumber:
    """Customers leave out dashes, write small letters, and give the digits alone: examples say what was meant."""

    names_one: ClassVar[bool] = True
    pattern: Pattern
    examples: tuple[str, ...] = field(default=())  # of each form; each matches the pattern

    def find(self, text: str, today: date) -> list[Found]:
        found: list[Found] = []
        for start, end in _spans(text):
            if any(start < one.end and one.start < end for one in found):
                continue
            if (code := self._canonical(text[start:end])) is not None:
                found.append(Found(code, start, end))
        return affirmed(text, sorted(found, key=lambda one: one.start))

    def read(self, text: str, today: date) -> Found | Problem | None:
        if found := self.find(text, today):
            return found[0]
        numbers = [run for run in _RUN.finditer(text) if sum(map(str.isdigit, run[0])) >= 3]
        for run in numbers:
            if len(meant := self._completed(run[0], self.examples)) == 1:
                return Found(meant.pop(), run.start(), run.end())
        return "shape" if numbers else None

    def revise(self, text: str, current: str, today: date) -> Found | None:
        if (found := [one for one in self.find(text, today) if one.value != current]) != []:
            return found[-1]
        runs = [Found(run[0], run.start(), run.end()) for run in _RUN.finditer(text) if run[0].isdigit()]
        for run in reversed(affirmed(text, runs)):
            meant = self._completed(run.value, (current,)) - {current}
            if meant:
                return Found(meant.pop(), run.start, run.end)
        return None

    def shown(self, value: str, language: Language) -> str:
        return value

    def _canonical(self, written: str) -> str | None:
        compact = "".join(_RUN.findall(written))
        forms = [written, *(_in_form(compact, example) for example in self.examples), compact]
        for form in forms:
            for code in (form, form.upper(), form.lower()):
                if code and self.pattern.matches(code):
                    return code
        return None

    def _completed(self, digits: str, forms: tuple[str, ...]) -> set[str]:
        """Digits alone, put in the place of the last digits of a form that has as many."""
        if not digits.isdigit():
            return set()
        alike = [form for form in forms if (last := _LAST_DIGITS.search(form)) and len(last[0]) == len(digits)]
        codes = {_LAST_DIGITS.sub(digits, form) for form in alike}
        return {code for code in codes if self.pattern.matches(code)}


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Runs of letters and digits, and neighbours together; none that goes on in digits beyond a dash or a dot."""
    runs = list(_RUN.finditer(text[:_MOST_CHARS]))
    for count in range(1, _MOST_RUNS + 1):
        for first in range(len(runs) - count + 1):
            chosen = runs[first : first + count]
            gaps = [text[a.end() : b.start()] for a, b in pairwise(chosen)]
            before = runs[first - 1] if first else None
            after = runs[first + count] if first + count < len(runs) else None
            start, end = chosen[0].start(), chosen[-1].end()
            goes_on = (before is not None and _is_joined(text[before.end() : start]) and before[0][-1].isdigit()) or (
                after is not None and _is_joined(text[end : after.start()]) and after[0][0].isdigit()
            )
            if not goes_on and not _DATE_LIKE.fullmatch(text[start:end]) and all(_GAP.fullmatch(gap) for gap in gaps):
                yield start, end


def _is_joined(gap: str) -> bool:
    return gap in ("-", "/", ".", "_")


def _in_form(compact: str, example: str) -> str:
    """The example's separators between the letters and digits of `compact`; "" where their numbers differ."""
    if sum(map(str.isalnum, example)) != len(compact):
        return ""
    left = iter(compact)
    return "".join(next(left) if character.isalnum() else character for character in example)


_PHONE = re.compile(r"(?<![A-Za-z0-9.])\+?\(?\d[\d\s().\-/]{4,22}\d(?![A-Za-z0-9])")
_CHINESE_MOBILE = re.compile(r"1[3-9]\d{9}")
_GROUPED = re.compile(r"\(?\d{3}\)?[-. ]\d{3}[-. ]\d{4}")
_LEAST_DIGITS, _MOST_DIGITS = 7, 15  # the most is E.164's


@dataclass(frozen=True, slots=True)
class Phone:
    """Digits, with a "+" where the country is given."""

    names_one: ClassVar[bool] = True

    def find(self, text: str, today: date) -> list[Found]:
        surely = [found for found, written in _phones(text) if _is_surely_phone(found.value, written)]
        return affirmed(text, surely)

    def read(self, text: str, today: date) -> Found | Problem | None:
        found = affirmed(text, [found for found, written in _phones(text) if not _DATE_LIKE.fullmatch(written)])
        if found:
            return found[0]
        return "shape" if sum(map(str.isdigit, text)) >= 3 else None

    def revise(self, text: str, current: str, today: date) -> Found | None:
        read = self.read(text, today)
        return read if isinstance(read, Found) and read.value != current else None

    def shown(self, value: str, language: Language) -> str:
        return value


def _phones(text: str) -> Iterator[tuple[Found, str]]:
    for match in _PHONE.finditer(text[:_MOST_CHARS]):
        written = match[0]
        digits = "".join(filter(str.isdigit, written))
        if not _LEAST_DIGITS <= len(digits) <= _MOST_DIGITS:
            continue
        international = written.lstrip("(").startswith("+") or digits.startswith("00")
        value = f"+{digits.removeprefix('00')}" if international else digits
        yield Found(value, match.start(), match.end()), written


def _is_surely_phone(value: str, written: str) -> bool:
    if value.startswith("+") or _CHINESE_MOBILE.fullmatch(value) or _GROUPED.fullmatch(written):
        return True
    return value.startswith("0") and len(value) >= 9
