"""When a rule, or a step of one, applies: language, channel, hours and slots. Pure; time comes in as an argument."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from deployments.answering.slot_codes import Pattern
from deployments.answering.types import Language


@dataclass(frozen=True, slots=True)
class Situation:
    """What conditions look at, beside the intent."""

    text: str  # the customer's, as `slots.plain` makes it
    language: Language
    channel: str
    now: datetime  # with its time zone
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def today(self) -> date:
        return self.now.date()


@dataclass(frozen=True, slots=True)
class Span:
    """Some hours of some days; one that ends before it begins goes on past midnight, and belongs to its first day."""

    days: frozenset[int]  # 0 is Monday
    begin: time
    end: time  # exclusive

    def holds(self, local: datetime) -> bool:
        clock, day = local.time(), local.weekday()
        if self.begin < self.end:
            return day in self.days and self.begin <= clock < self.end
        yesterday = (local - timedelta(days=1)).weekday()
        return (day in self.days and clock >= self.begin) or (yesterday in self.days and clock < self.end)


@dataclass(frozen=True, slots=True)
class Hours:
    time_zone: ZoneInfo
    spans: tuple[Span, ...]

    def hold(self, now: datetime) -> bool:
        local = now.astimezone(self.time_zone)
        return any(span.holds(local) for span in self.spans)


@dataclass(frozen=True, slots=True)
class SlotTest:
    """All that is set must hold; a slot without a value passes only `is_known: false`."""

    is_known: bool | None = None
    one_of: frozenset[str] = frozenset()
    matches: Pattern | None = None
    at_least: Decimal | None = None  # of amounts
    at_most: Decimal | None = None
    within_days: int | None = None  # of dates: at most so many days ago, and not to come

    def passes(self, value: str | None, today: date) -> bool:
        if value is None:
            return self.is_known is False
        if self.is_known is False:
            return False
        if self.one_of and value not in self.one_of:
            return False
        if self.matches is not None and not self.matches.matches(value):
            return False
        if self.at_least is not None or self.at_most is not None:
            number = _number(value)
            if number is None or (self.at_least is not None and number < self.at_least):
                return False
            if self.at_most is not None and number > self.at_most:
                return False
        return self.within_days is None or 0 <= (today - date.fromisoformat(value)).days <= self.within_days


def _number(value: str) -> Decimal | None:
    found = re.match(r"-?\d+(?:\.\d+)?", value)
    return Decimal(found[0]) if found else None


@dataclass(frozen=True, slots=True)
class Condition:
    """What is empty is not asked for."""

    languages: frozenset[Language] = frozenset()
    channels: frozenset[str] = frozenset()
    hours: Hours | None = None
    outside_hours: Hours | None = None
    slots: Mapping[str, SlotTest] = field(default_factory=dict)

    @property
    def is_always(self) -> bool:
        return self == Condition()

    def holds(self, situation: Situation) -> bool:
        if self.languages and situation.language not in self.languages:
            return False
        if self.channels and situation.channel not in self.channels:
            return False
        if self.hours is not None and not self.hours.hold(situation.now):
            return False
        if self.outside_hours is not None and self.outside_hours.hold(situation.now):
            return False
        return all(test.passes(situation.values.get(name), situation.today) for name, test in self.slots.items())
