"""Dates as customers write them, in Chinese and English, whole ("2026-03-05", "3月5日") and relative ("昨天"). Pure.

A date without its year, and a weekday, is the nearest one on the side that the slot prefers: an order was placed in
the past, a repair is booked for the future.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import ClassVar, Literal

from deployments.answering.quantities import chinese_number
from deployments.answering.slots import Found, Problem, affirmed
from deployments.answering.types import Language

Side = Literal["past", "future"]

_MONTHS = "january february march april may june july august september october november december".split()  # noqa: SIM905
_WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday".split()  # noqa: SIM905
_MONTH = r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
_MONTH += r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?:,?\s*(?P<year>(?:19|20)\d\d))?"
_WEEKDAY = r"(?P<weekday>mon(?:day)?|tue(?:s|sday)?|wed(?:nesday)?|thu(?:r|rs|rsday)?|fri(?:day)?|sat(?:urday)?"
_WEEKDAY += r"|sun(?:day)?)"
_ZH = r"[一二两三四五六七八九十]"
_COUNT_ZH = rf"(?P<count>\d{{1,3}}|{_ZH}{{1,3}})"
_COUNT_WORDS = {
    name: number
    for number, name in enumerate("zero one two three four five six seven eight nine ten".split())  # noqa: SIM905
} | {"a": 1, "an": 1, "a couple of": 2, "couple of": 2}
_COUNT_EN = r"(?P<count>\d{1,3}|an?|one|two|three|four|five|six|seven|eight|nine|ten|(?:a )?couple of)"
_UNIT_DAYS = {"day": 1, "week": 7, "天": 1, "日": 1, "周": 7, "星期": 7, "个星期": 7, "礼拜": 7, "个礼拜": 7}

# The day of these, counted from today.
_NAMED_DAYS = (
    (r"大前天", -3),
    (r"the day before yesterday", -2),
    (r"the day after tomorrow", 2),
    (r"yesterday|last night|昨天|昨日|昨晚", -1),
    (r"today|this (?:morning|afternoon|evening)|tonight|今天|今日|今早|今晚|刚刚", 0),
    (r"tomorrow|明天|明日", 1),
    (r"前天|前日", -2),
    (r"后天", 2),
)
_NAMED = [(re.compile(rf"(?<![a-z])(?:{names})(?![a-z])", re.IGNORECASE), days) for names, days in _NAMED_DAYS]


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z0-9]){pattern}(?![A-Za-z0-9])", re.IGNORECASE)


_ISO = re.compile(
    r"(?<!\d)(?P<year>(?:19|20)\d\d)\s*[-/.年]\s*(?P<month>\d{1,2})\s*[-/.月]\s*(?P<day>\d{1,2})(?!\d)[日号]?"
)
_NUMERIC = re.compile(
    r"(?<![\d.,/-])(?P<first>\d{1,2})(?P<by>[/.-])(?P<second>\d{1,2})(?:(?P=by)(?P<year>\d{4}|\d\d))?(?![\d/-])"
)
_DAY_MONTH = _words(rf"(?:the )?{_DAY}(?: of)?[\s-]*{_MONTH}{_YEAR}")
_MONTH_DAY = _words(rf"{_MONTH}\s*(?:the )?{_DAY}{_YEAR}")
_MONTH_DAY_ZH = re.compile(rf"(?P<month>\d{{1,2}}|{_ZH}{{1,2}})月(?P<day>\d{{1,2}}|{_ZH}{{1,3}})[日号]?")
_DAY_ONLY = _words(r"(?:on )?the (?P<day>\d{1,2})(?:st|nd|rd|th)")
_DAY_ONLY_ZH = re.compile(rf"(?P<which>上个?月|这个?月|本月|下个?月)?(?P<day>\d{{1,2}}|{_ZH}{{1,3}})[号日](?![楼线店])")
_AGO = _words(
    rf"{_COUNT_EN} (?P<unit>day|week)s? (?P<which>ago|before|from now|later)|in {_COUNT_EN.replace('count', 'count2')} "
    r"(?P<unit2>day|week)s?"
)
_AGO_ZH = re.compile(rf"{_COUNT_ZH}\s*(?P<unit>天|日|周|星期|个星期|礼拜|个礼拜)(?:之|以)?(?P<which>前|后)")
_ON_WEEKDAY = _words(rf"(?:(?P<which>last|this|next|past|on|coming)\s+)?{_WEEKDAY}")
_ON_WEEKDAY_ZH = re.compile(r"(?P<which>上上|上个?|这个?|本|下个?)?(?:周|星期|礼拜)(?P<weekday>[一二三四五六日天])")
_WEEKEND_ZH = "一二三四五六日"

_Make = Callable[[re.Match[str], date, "DateSlot"], date | None]


@dataclass(frozen=True, slots=True)
class DateSlot:
    """Canonical: ISO 8601, "2026-03-05"."""

    names_one: ClassVar[bool] = False
    prefer: Side = "past"
    earliest_days: int | None = None  # days from today, e.g. -365
    latest_days: int | None = None  # days from today, e.g. 0
    day_first: bool = True  # of "5/3/2026"

    def find(self, text: str, today: date) -> list[Found]:
        return affirmed(text, [one for one in _dates(text, today, self) if self._may_be(one.value, today)])

    def read(self, text: str, today: date) -> Found | Problem | None:
        found = affirmed(text, list(_dates(text, today, self)))
        if fitting := [one for one in found if self._may_be(one.value, today)]:
            return fitting[0]
        if found:
            return "range"
        return "shape" if any(map(str.isdigit, text)) else None

    def revise(self, text: str, current: str, today: date) -> Found | None:
        others = [one for one in self.find(text, today) if one.value != current]
        return others[-1] if others else None

    def shown(self, value: str, language: Language) -> str:
        day = date.fromisoformat(value)
        if language == "zh":
            return f"{day.year}年{day.month}月{day.day}日"
        return f"{day.day} {_MONTHS[day.month - 1].capitalize()} {day.year}"

    def _may_be(self, value: str, today: date) -> bool:
        days = (date.fromisoformat(value) - today).days
        return (self.earliest_days is None or days >= self.earliest_days) and (
            self.latest_days is None or days <= self.latest_days
        )


def _dates(text: str, today: date, slot: DateSlot) -> Iterator[Found]:
    """In the order of the text; where two readings overlap, the earlier pattern's, which says more."""
    found: list[Found] = []
    for pattern, make in _PATTERNS:
        for match in pattern.finditer(text):
            if any(match.start() < one.end and one.start < match.end() for one in found):
                continue
            day = make(match, today, slot)
            if day is not None:
                found.append(Found(day.isoformat(), match.start(), match.end()))
    yield from sorted(found, key=lambda one: one.start)


# --- from a match to its day; None: there is no such day ---


def _whole(match: re.Match[str], today: date, slot: DateSlot) -> date | None:
    return _day(int(match["year"]), _number(match["month"]), _number(match["day"]))


def _numeric(match: re.Match[str], today: date, slot: DateSlot) -> date | None:
    if match["by"] != "/" and match["year"] is None:
        return None  # "3.5" and "3-5" are more often numbers
    first, second = int(match["first"]), int(match["second"])
    orders = [(first, second), (second, first)] if slot.day_first else [(second, first), (first, second)]
    for day, month in orders:
        if (made := _in_year(match["year"], month, day, today, slot)) is not None:
            return made
    return None


def _named_month(match: re.Match[str], today: date, slot: DateSlot) -> date | None:
    month = next(number for number, name in enumerate(_MONTHS, 1) if name.startswith(match["month"][:3].casefold()))
    return _in_year(match["year"], month, int(match["day"]), today, slot)


def _month_day_zh(match: re.Match[str], today: date, slot: DateSlot) -> date | None:
    return _in_year(None, _number(match["month"]), _number(match["day"]), today, slot)


def _in_year(year: str | None, month: int, day: int, today: date, slot: DateSlot) -> date | None:
    if year is not None:
        return _day(int(year) + (2000 if len(year) == 2 else 0), month, day)
    step = -1 if slot.prefer == "past" else 1
    for years in range(5):  # 29 February is every fourth year
        made = _day(today.year + (years * step if years else 0), month, day)
        if made is not None and _is_on_side(made, today, slot):
            return made
    return None


def _day_only(match: re.Match[str], today: date, slot: DateSlot) -> date | None:
    day, which = _number(match["day"]), match.groupdict().get("which") or ""
    months = {"上": [-1], "下": [1], "这": [0], "本": [0]}.get(which[:1])
    for offset in months or ([0, -1, -2] if slot.prefer == "past" else [0, 1, 2]):
        year, month = divmod(today.year * 12 + today.month - 1 + offset, 12)
        made = _day(year, month + 1, day)
        if made is not None and (months or _is_on_side(made, today, slot)):
            return made
    return None


def _ago(match: re.Match[str], today: date, slot: DateSlot) -> date | None:
    groups = match.groupdict()
    count, unit = groups["count"] or groups["count2"], groups["unit"] or groups["unit2"]
    days = (_COUNT_WORDS.get(count.casefold()) or _number(count)) * _UNIT_DAYS[unit.casefold()]
    return today + timedelta(-days if (groups["which"] or "").casefold() in ("ago", "before", "前") else days)


def _weekday(match: re.Match[str], today: date, slot: DateSlot) -> date | None:
    """ "last Friday" is before today, "next" after it, "this" of this week; alone, the nearest on the slot's side."""
    weekday = next(n for n, name in enumerate(_WEEKDAYS) if name.startswith(match["weekday"][:3].casefold()))
    which = (match["which"] or "on").casefold()
    ahead = (weekday - today.weekday()) % 7
    if which == "this":
        return today + timedelta(weekday - today.weekday())
    if which in ("next", "coming") or (which == "on" and slot.prefer == "future"):
        return today + timedelta(ahead or (7 if which != "on" else 0))
    back = (today.weekday() - weekday) % 7
    return today - timedelta(back or (7 if which != "on" else 0))


def _weekday_zh(match: re.Match[str], today: date, slot: DateSlot) -> date | None:
    """上周五 is of the last week, which begins on Monday; alone, the nearest on the slot's side."""
    weekday = _WEEKEND_ZH.index(match["weekday"].replace("天", "日"))
    of_this_week = today + timedelta(weekday - today.weekday())
    which = match["which"] or ""
    if which:
        return of_this_week + timedelta({"上上": -14}.get(which, {"上": -7, "下": 7}.get(which[0], 0)))
    if _is_on_side(of_this_week, today, slot):
        return of_this_week
    return of_this_week + timedelta(-7 if slot.prefer == "past" else 7)


def _is_on_side(day: date, today: date, slot: DateSlot) -> bool:
    return day <= today if slot.prefer == "past" else day >= today


def _number(written: str) -> int:
    return int(written) if written.isdigit() else chinese_number(written)


def _day(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _named_day(days: int) -> _Make:
    return lambda match, today, slot: today + timedelta(days)


_PATTERNS: list[tuple[re.Pattern[str], _Make]] = [
    (_ISO, _whole),
    (_DAY_MONTH, _named_month),
    (_MONTH_DAY, _named_month),
    (_MONTH_DAY_ZH, _month_day_zh),
    (_AGO, _ago),
    (_AGO_ZH, _ago),
    *[(pattern, _named_day(days)) for pattern, days in _NAMED],
    (_ON_WEEKDAY, _weekday),
    (_ON_WEEKDAY_ZH, _weekday_zh),
    (_NUMERIC, _numeric),
    (_DAY_ONLY, _day_only),
    (_DAY_ONLY_ZH, _day_only),
]
