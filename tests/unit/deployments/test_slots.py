"""What is read out of customers' words, in both languages, and what is not."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deployments.answering.slot_amounts import Amount
from deployments.answering.slot_codes import OrderNumber, Pattern, PatternError, Phone
from deployments.answering.slot_dates import DateSlot
from deployments.answering.slots import Choice, Found, FreeText, Option, SlotKind, plain

pytestmark = pytest.mark.unit

TODAY = date(2026, 11, 25)  # a Wednesday
ORDER = OrderNumber(Pattern(r"ORD-\d{4}"), ("ORD-1234",))
SHOP = OrderNumber(Pattern(r"(NL|BG)-\d{8}"), ("NL-20458812", "BG-10023456"))
BARE = OrderNumber(Pattern(r"\d{6,10}"))


def value(kind: SlotKind, text: str) -> str | None:
    """The answer to our question: its value, "!shape" or "!range", or None."""
    read = kind.read(plain(text), TODAY)
    return read.value if isinstance(read, Found) else read and f"!{read}"


def told(kind: SlotKind, text: str) -> list[str]:
    return [one.value for one in kind.find(plain(text), TODAY)]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (ORDER, "ORD-1234", "ORD-1234"),
        (ORDER, "it's ord-1234.", "ORD-1234"),
        (ORDER, "ord 1234", "ORD-1234"),
        (ORDER, "ORD1234", "ORD-1234"),
        (ORDER, "ＯＲＤ－１２３４", "ORD-1234"),
        (ORDER, "1234", "ORD-1234"),
        (ORDER, "订单号是ORD–1234吧", "ORD-1234"),
        (ORDER, "not ORD-1234 but ORD-5678", "ORD-5678"),
        (ORDER, "不是ORD-1234，是ORD-5678", "ORD-5678"),
        (ORDER, "ORD-12345", "!shape"),
        (ORDER, "12345", "!shape"),
        (ORDER, "I don't know it", None),
        (ORDER, "我不知道", None),
        (SHOP, "nl20458812", "NL-20458812"),
        (SHOP, "BG 1002 3456", "BG-10023456"),
        (SHOP, "20458812", "!shape"),  # of which shop?
        (BARE, "my number is 2045881", "2045881"),
        (BARE, "ordered on 2026-03-05", "!shape"),
    ],
)
def test_order_number(kind: SlotKind, text: str, expected: str | None) -> None:
    assert value(kind, text) == expected


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (ORDER, "my order ORD-1234 has not arrived", ["ORD-1234"]),
        (ORDER, "我的订单ORD-1234还没到", ["ORD-1234"]),
        (ORDER, "in 1234 days", []),  # digits alone are an answer only where we asked
        (SHOP, "NL-20458812 and bg-10023456", ["NL-20458812", "BG-10023456"]),
        (SHOP, "NL-204588129", []),
        (BARE, "since 2026-03-05", []),
    ],
)
def test_order_number_in_any_text(kind: SlotKind, text: str, expected: list[str]) -> None:
    assert told(kind, text) == expected


@pytest.mark.parametrize(
    ("kind", "text", "current", "expected"),
    [
        (ORDER, "no, I meant 5678", "ORD-1234", "ORD-5678"),
        (ORDER, "不对，是5678", "ORD-1234", "ORD-5678"),
        (ORDER, "not ORD-1234, ORD-9999", "ORD-1234", "ORD-9999"),
        (ORDER, "no, 56789", "ORD-1234", None),
        (SHOP, "sorry, it is 20458899", "NL-20458812", "NL-20458899"),
        (DateSlot(), "no, it was last Friday", "2026-11-24", "2026-11-20"),
        (DateSlot(), "不对，是前天", "2026-11-24", "2026-11-23"),
        (Amount(), "no, 15", "12.00 EUR", "15.00 EUR"),
        (Phone(), "wrong, 13900139000", "13800138000", "13900139000"),
    ],
)
def test_correction(kind: SlotKind, text: str, current: str, expected: str | None) -> None:
    revised = kind.revise(plain(text), current, TODAY)
    assert (revised.value if revised else None) == expected


@pytest.mark.parametrize("pattern", ["(", r"(a)\1", "(?=x)x"])
def test_pattern_that_cannot_be_used_says_why(pattern: str) -> None:
    with pytest.raises(PatternError, match="error: "):
        Pattern(pattern)


def test_no_text_takes_long() -> None:
    evil = OrderNumber(Pattern("(a|aa)+(a|aa)+b"))
    assert told(evil, "a" * 900) == []  # Python's own engine would not come back


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yesterday", "2026-11-24"),
        ("the day before yesterday", "2026-11-23"),
        ("today, this morning", "2026-11-25"),
        ("昨天", "2026-11-24"),
        ("前天晚上", "2026-11-23"),
        ("大前天", "2026-11-22"),
        ("今天上午", "2026-11-25"),
        ("3月5日", "2026-03-05"),
        ("三月五号", "2026-03-05"),
        ("12月1日", "2025-12-01"),  # the last one
        ("2026年3月5日", "2026-03-05"),
        ("2026-03-05", "2026-03-05"),
        ("2026/3/5", "2026-03-05"),
        ("5号", "2026-11-05"),
        ("上个月5号", "2026-10-05"),
        ("上周五", "2026-11-20"),
        ("上上周五", "2026-11-13"),
        ("周一", "2026-11-23"),
        ("星期天", "2026-11-22"),
        ("三天前", "2026-11-22"),
        ("两周前", "2026-11-11"),
        ("last Friday", "2026-11-20"),
        ("on Monday", "2026-11-23"),
        ("Wednesday", "2026-11-25"),
        ("last wednesday", "2026-11-18"),
        ("3 days ago", "2026-11-22"),
        ("a week ago", "2026-11-18"),
        ("two weeks ago", "2026-11-11"),
        ("March 5", "2026-03-05"),
        ("5th of March", "2026-03-05"),
        ("Mar 5th, 2025", "2025-03-05"),
        ("5 march 2025", "2025-03-05"),
        ("5/3/2026", "2026-03-05"),
        ("13/3/26", "2026-03-13"),
        ("5.3.2026", "2026-03-05"),
        ("the 5th", "2026-11-05"),
        ("31 February", "!shape"),
        ("2026-02-30", "!shape"),
        ("2026-11-26", "!range"),  # tomorrow: nothing was delivered then
        ("tomorrow", "!range"),
        ("明天", "!range"),
        ("no idea", None),
        ("不记得了", None),
    ],
)
def test_past_date(text: str, expected: str | None) -> None:
    assert value(DateSlot(latest_days=0), text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tomorrow", "2026-11-26"),
        ("后天", "2026-11-27"),
        ("下周三", "2026-12-02"),
        ("周五", "2026-11-27"),
        ("next Friday", "2026-11-27"),
        ("on Monday", "2026-11-30"),
        ("in 3 days", "2026-11-28"),
        ("一周后", "2026-12-02"),
        ("3月5日", "2027-03-05"),
        ("3/5/2027", "2027-03-05"),
    ],
)
def test_date_to_come(text: str, expected: str) -> None:
    assert value(DateSlot(prefer="future", day_first=False), text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+49 151 2345 6789", "+4915123456789"),
        ("0049 151 23456789", "+4915123456789"),
        ("(030) 123-4567", "0301234567"),
        ("13800138000", "13800138000"),
        ("我的手机号是138-0013-8000。", "13800138000"),
        ("１３８００１３８０００", "13800138000"),
        ("12345", "!shape"),
        ("2026-03-05", "!shape"),
        ("I have no phone", None),
    ],
)
def test_phone(text: str, expected: str | None) -> None:
    assert value(Phone(), text) == expected


def test_phone_in_any_text_is_only_what_surely_is_one() -> None:
    assert told(Phone(), "order 20458812 of 2026-03-05, call +31 20 123 4567") == ["+31201234567"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12.90 EUR", "12.90 EUR"),
        ("€12,90", "12.90 EUR"),
        ("1.299,00 euros", "1299.00 EUR"),
        ("$1,299.50", "1299.50 USD"),
        ("1,299 dollars", "1299.00 USD"),
        ("一百二十块", "120.00 CNY"),
        ("100元", "100.00 CNY"),
        ("大概¥99吧", "99.00 CNY"),
        ("5 pounds", "5.00 GBP"),
        ("twelve", None),
        ("12", "!shape"),  # of what?
        ("99999 EUR", "!range"),
    ],
)
def test_amount(text: str, expected: str | None) -> None:
    assert value(Amount(most=Decimal(10_000)), text) == expected


def test_amount_without_a_currency_is_of_the_company_s() -> None:
    assert value(Amount(currency="EUR"), "12,5") == "12.50 EUR"


WISH = Choice(
    (
        Option("refund", {"en": ("Money back", "refund"), "zh": ("退款", "退钱")}),
        Option("replacement", {"en": ("A new one", "replacement", "exchange"), "zh": ("换货", "换新")}),
    )
)
YES_NO = Choice((Option("yes", {"en": ("Yes",), "zh": ("是",)}), Option("no", {"en": ("No",), "zh": ("否",)})))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Money back, please", "refund"),
        ("我要换新的", "replacement"),
        ("not a refund, an exchange", "replacement"),
        ("不要退款，换货", "replacement"),
        ("the second one", "replacement"),
        ("1", "refund"),
        ("第二个", "replacement"),
        ("3", "!range"),
        ("refund or replacement", "!range"),
        ("both are fine", None),
    ],
)
def test_choice(text: str, expected: str | None) -> None:
    assert value(WISH, text) == expected


def test_yes_is_a_choice_only_where_we_asked() -> None:
    assert value(YES_NO, "yes") == "yes"
    assert told(YES_NO, "yes, my parcel is lost") == []
    assert told(WISH, "I want a refund for my parcel") == ["refund"]


def test_longer_label_is_not_the_shorter_one_in_it() -> None:
    models = Choice((Option("brio2", {"en": ("Brio 2",)}), Option("brio2pro", {"en": ("Brio 2 Pro",)})))
    assert value(models, "the Brio 2 Pro") == "brio2pro"


def test_free_text_is_what_is_said_but_no_thanks() -> None:
    kind = FreeText(least_chars=5)
    assert value(kind, "  it does not   heat ") == "it does not heat"
    assert value(kind, "thanks") is None
    assert value(kind, "hot!") == "!range"


KINDS = (ORDER, SHOP, BARE, DateSlot(), DateSlot(prefer="future"), Phone(), Amount(currency="EUR"), WISH, FreeText())


@settings(deadline=None)
@example(text="𑵐 欧元", today=date(2026, 1, 1))  # a digit that is not ASCII
@given(text=st.text(max_size=80), today=st.dates(date(2000, 1, 1), date(2100, 1, 1)))
def test_any_text_is_read_without_a_fault_and_within_itself(text: str, today: date) -> None:
    said = plain(text)
    for kind in KINDS:
        read = kind.read(said, today)
        for found in [*kind.find(said, today), *([read] if isinstance(read, Found) else [])]:
            assert 0 <= found.start <= found.end <= len(said)
            assert kind.shown(found.value, "zh")


@settings(deadline=None)
@given(days=st.integers(1, 700))
def test_date_of_any_day_is_read_back_from_how_it_is_shown(days: int) -> None:
    day = TODAY - timedelta(days)
    for language in ("en", "zh"):
        shown = DateSlot().shown(day.isoformat(), language)
        assert value(DateSlot(), f"it was {shown}") == day.isoformat()
