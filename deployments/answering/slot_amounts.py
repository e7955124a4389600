"""Amounts of money: "12.90 EUR", "€1,299", "一百二十块". Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import ClassVar

from deployments.answering.quantities import chinese_number
from deployments.answering.slots import Found, Problem, affirmed
from deployments.answering.types import Language

_CURRENCIES = {
    word: code
    for code, words in {
        "EUR": "eur euro euros € 欧元 欧",
        "USD": "usd us$ $ dollar dollars bucks 美元 美金",
        "GBP": "gbp £ pound pounds quid 英镑",
        "CNY": "cny rmb yuan ¥ 元 块 块钱 元钱 人民币",
        "JPY": "jpy yen 日元",
        "CHF": "chf franc francs 瑞士法郎",
        "HKD": "hkd hk$ 港币 港元",
        "NOK": "nok kroner 挪威克朗",
        "SEK": "sek kronor 瑞典克朗",
        "PLN": "pln zloty 兹罗提",
    }.items()
    for word in words.split()
}


def _alternatives(words: list[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_LATIN = rf"(?:{_alternatives([word for word in _CURRENCIES if word.isascii() and word.isalpha()])})(?![a-z])"
_SIGN = _alternatives([word for word in _CURRENCIES if not (word.isascii() and word.isalpha())])
_AMOUNT = re.compile(
    rf"(?P<before>{_SIGN}|(?<![a-z]){_LATIN})?\s*"
    r"(?P<number>(?<![\d.,])\d[\d.,' ]*\d|(?<![\d.,])\d|[零〇一二两三四五六七八九十百千万]+)"
    rf"\s*(?P<after>{_SIGN}|{_LATIN})?",
    re.IGNORECASE,
)
_DIGIT_GROUPS = re.compile(r"\d{1,3}(?:[,.' ]\d{3})+")
CURRENCY_CODES = frozenset(_CURRENCIES.values())


@dataclass(frozen=True, slots=True)
class Amount:
    """Canonical: "1299.00 EUR"."""

    names_one: ClassVar[bool] = False
    currency: str | None = None  # of a number without one; None: the customer must say it
    least: Decimal | None = None
    most: Decimal | None = None

    def find(self, text: str, today: date) -> list[Found]:
        """With their currency, within the limits."""
        return affirmed(text, [one for one in self._amounts(text, None) if self._may_be(one.value)])

    def read(self, text: str, today: date) -> Found | Problem | None:
        found = affirmed(text, self._amounts(text, self.currency))
        if fitting := [one for one in found if self._may_be(one.value)]:
            return fitting[0]
        if found:
            return "range"
        return "shape" if any(map(str.isdigit, text)) else None

    def revise(self, text: str, current: str, today: date) -> Found | None:
        found = affirmed(text, self._amounts(text, current.partition(" ")[2]))
        others = [one for one in found if one.value != current and self._may_be(one.value)]
        return others[-1] if others else None

    def shown(self, value: str, language: Language) -> str:
        return value

    def _may_be(self, value: str) -> bool:
        number = Decimal(value.partition(" ")[0])
        return (self.least is None or number >= self.least) and (self.most is None or number <= self.most)

    def _amounts(self, text: str, currency: str | None) -> list[Found]:
        found = []
        for match in _AMOUNT.finditer(text):
            said = (match["before"] or match["after"] or "").casefold()
            code = _CURRENCIES.get(said, currency)
            number = _number(match["number"].rstrip(" ,.'"))
            if code is not None and number is not None:
                found.append(Found(f"{number:.2f} {code}", match.start(), match.end()))
        return found


def _number(written: str) -> Decimal | None:
    """ "1.299,00", "1,299.00" and "1 299" alike: a last separator with three digits behind it groups thousands."""
    if not written[0].isdigit():
        return Decimal(chinese_number(written))
    plain = written.replace("'", "").replace(" ", "")
    separators = [character for character in plain if character in ",."]
    if separators:
        last = max(plain.rfind(","), plain.rfind("."))
        groups = _DIGIT_GROUPS.fullmatch(plain) is not None and (len(set(separators)) == 1)
        whole, fraction = (plain, "") if groups else (plain[:last], plain[last + 1 :])
        plain = re.sub(r"[,.]", "", whole) + (f".{fraction}" if fraction else "")
    try:
        number = Decimal(plain)
    except InvalidOperation:
        return None
    return number if number < 10**12 else None
