"""Numbers of a question with their units, digits or words, Chinese or English; dates and times of day. Pure.

`mark` puts each in place of what it was, as a token of its own (`⟦3:day⟧`), so that "3 days", "three days" and "三天"
are one token and "30 days" another. What is not surely equal stays different: 24 hours are not a day here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

_UNITS: dict[str, str] = {
    word: unit
    for unit, words in {
        "second": "sec secs seconds 秒 秒钟",
        "minute": "min mins minute minutes 分钟",
        "hour": "h hr hrs hour hours hourly 小时 个小时 钟头 个钟头 个钟",
        "day": "day days daily 天 日",
        "workday": "工作日 个工作日",
        "week": "week weeks weekly wk wks 周 星期 个星期 礼拜 个礼拜",
        "month": "month months monthly mo 个月 月",
        "quarter": "quarter quarters quarterly 季度 个季度",
        "year": "year years yearly annual annually yr yrs 年",
        "usd": "dollar dollars usd bucks us$ $ 美元 美金 刀",
        "eur": "euro euros eur € 欧元",
        "gbp": "gbp £ 英镑",
        "pound": "pound pounds lb lbs 磅",
        "cny": "yuan rmb cny ¥ 元 块 块钱 元钱 人民币",
        "jpy": "yen jpy 日元",
        "hkd": "hkd 港币 港元",
        "percent": "% percent 百分",
        "fold": "折",
        "kb": "kb",
        "mb": "mb 兆 m",
        "gb": "gb g",
        "tb": "tb",
        "mbps": "mbps",
        "mm": "mm 毫米",
        "cm": "cm 厘米 公分",
        "metre": "metre metres meter meters 米",
        "km": "km kms kilometer kilometers kilometre kilometres 公里 千米",
        "mile": "mile miles 英里",
        "inch": "inch inches 英寸 寸",
        "foot": "foot feet ft 英尺",
        "gram": "gram grams 克",
        "kg": "kg kgs kilo kilos kilogram kilograms 公斤 千克",
        "jin": "斤",
        "ounce": "oz ounce ounces",
        "litre": "litre litres liter liters 升",
        "ml": "ml 毫升",
        "watt": "w watt watts 瓦",
        "kwh": "kwh 度",
        "age": "岁",
        "times": "times time 次 遍",
        "star": "star stars 星",
        "": "个 张 件 台 只 部 款 种 条 份 位 名 人 期 座 号 户 笔 项 枚 本 门 x",
    }.items()
    for word in words.split()
}
_LATIN_UNITS = "|".join(sorted((re.escape(u) for u in _UNITS if u.isascii() and u.isalpha()), key=len, reverse=True))
_OTHER_UNITS = "|".join(
    sorted((re.escape(u) for u in _UNITS if not (u.isascii() and u.isalpha())), key=len, reverse=True)
)
_UNIT = rf"(?:[\s-]*(?P<unit>(?:business|working)[ -]days?|(?:{_LATIN_UNITS})(?![a-z])|{_OTHER_UNITS}))?"
_CURRENCY = r"(?P<currency>(?:us)?\$|€|£|¥|\b(?:usd|eur|gbp|rmb|cny|jpy|hkd)\b)?\s*"

_ONES = {
    name: value
    for value, name in enumerate(
        (  # noqa: SIM905
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
            "seventeen "
            "eighteen nineteen"
        ).split()
    )
}
_TENS = {name: 10 * n for n, name in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}  # noqa: SIM905
_POWERS = {"hundred": 100, "thousand": 1000, "million": 1_000_000}
_NAME = "|".join([*_ONES, *_TENS])
_NAMED = re.compile(
    rf"\b(?:(?:half a|a half|half an)\b|(?:(?:{_NAME}|an?(?= (?:hundred|thousand|million|dozen)))"
    rf"(?:[ -](?:and )?(?:{_NAME}|hundred|thousand|million)(?![a-z]))*))(?![a-z])(?! of )"
)
_DOZEN = re.compile(r"\b(?:a|one) dozen\b")
# "this one", "which one" and "one of" count nothing.
_PRONOUN_ONE = re.compile(
    r"\b(?:this|that|which|another|new|other|the|no|old|wrong|right|a different) one\b|\bone (?:of|another)\b"
)
_PER_UNIT = re.compile(r"\b(?:an?|per|each|every|one) (hour|day|week|month|quarter|year)\b")
_PERIODIC = re.compile(r"\b(hourly|daily|weekly|monthly|quarterly|yearly|annual|annually)\b")
_PERIODIC_ZH = re.compile(r"[每一](小时|天|日|周|星期|个月|月|季度|年)")

_DIGITS_ZH = {digit: value for value, digit in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_POWERS_ZH = {"十": 10, "百": 100, "千": 1000, "万": 10_000, "亿": 100_000_000}
# Written with numerals, but counting nothing.
_NOT_A_NUMBER_ZH = re.compile(
    "一下|一起|一样|一定|一直|一些|一般|一点|一共|一旦|一边|一切|一律|一键|一次性|一部分|一卡通|一体|万一|统一|唯一|第三方|三方|"
    "千万别|千万不|五险一金|百度|万达|万能|两者|半天|十分|四川|三星|九江|百货|百科|一条龙|一站式|星期[一二三四五六日天]|周[一二三四五六日]|"
    "礼拜[一二三四五六日天]|千克|千米|千兆|百分"
)
_RUN_ZH = re.compile(r"[零〇一二两三四五六七八九十百千万亿]+|半")

_DIGITAL = re.compile(
    rf"{_CURRENCY}(?P<number>\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|\d+(?:\.\d+)*)"
    rf"(?P<power>k(?![a-z0-9])|bn(?![a-z])|million|thousand|[万千百亿])?{_UNIT}"
)
_POWER_OF = {
    "k": 1000,
    "bn": 10**9,
    "million": 10**6,
    "thousand": 1000,
    "万": 10_000,
    "千": 1000,
    "百": 100,
    "亿": 10**8,
}
_ORDINAL = re.compile(r"\b(\d+)(?:st|nd|rd|th)\b")
_ORDINAL_NAMES = {
    name: value
    for value, name in enumerate("first second third fourth fifth sixth seventh eighth ninth tenth".split(), 1)  # noqa: SIM905
}
_ORDINAL_NAME = re.compile(rf"\b({'|'.join(_ORDINAL_NAMES)})\b(?! name)")
_ORDINAL_ZH = re.compile(r"第\s*⟦([^:⟧]*):[^⟧]*⟧")
_PERCENT_ZH = re.compile(r"百分之\s*⟦([^:⟧]*):⟧")

_MONTHS = {
    name: number
    for number, names in enumerate(
        (  # noqa: SIM905
            "january|jan february|feb march|mar april|apr may june|jun july|jul august|aug september|sept|sep "
            "october|oct "
            "november|nov december|dec"
        ).split(),
        1,
    )
    for name in names.split("|")
}
_MONTH_NAMES = "|".join(name for name in _MONTHS if name not in ("may", "mar", "dec", "jan", "sep"))
_BEFORE_MAY = "".join(
    f"(?<={word} )|" for word in ("in", "of", "for", "by", "since", "until", "from", "last", "next", "this", "to")
)[:-1]
_MONTH = re.compile(
    rf"\b(?:(?:{_BEFORE_MAY})may|may(?= \d)|(?<=\d )may|(?:{_MONTH_NAMES}))\b(?! (?:i|we|you)\b)"  # "may i" is none
)
_WEEKDAYS = {
    name: number
    for number, names in enumerate(
        (  # noqa: SIM905
            "monday|mondays|mon tuesday|tuesdays|tue|tues wednesday|wednesdays|wed thursday|thursdays|thu|thur|thurs "
            "friday|fridays|fri saturday|saturdays sunday|sundays"
        ).split(),
        1,
    )
    for name in names.split("|")
}
_WEEKDAY = re.compile(rf"\b({'|'.join(sorted(_WEEKDAYS, key=len, reverse=True))})\b")
_WEEKDAY_ZH = re.compile(r"(?:星期|周|礼拜)([一二三四五六日天])")
_MONTH_DAY_ZH = re.compile(
    r"(\d{1,2}|[一二三四五六七八九十]{1,2})月(?!内|租|费|卡|结|付|供|底)(?:份|(\d{1,2}|[一二三四五六七八九十]{1,3})[日号])?"
)
_CLOCK = re.compile(r"\b(\d{1,2})(?:[:.](\d\d))?\s*(am|pm|a\.m\.|p\.m\.)(?![a-z])|\b(\d{1,2}):(\d\d)\b")
_CLOCK_ZH = re.compile(
    r"(上午|早上|早晨|凌晨|中午|下午|晚上|傍晚)?(\d{1,2}|[一二两三四五六七八九十]{1,3})点(?!钟头|评|击|数|餐|外)(半|一刻|\d{1,2}分)?钟?"
)

# All English words that are read here: no misspelling of others.
WORDS_EN = frozenset(
    {*_ONES, *_TENS, *_POWERS, *_ORDINAL_NAMES, *_MONTHS, *_WEEKDAYS, "dozen", "half"}
    | {u for u in _UNITS if u.isascii()}
)


def mark(text: str) -> str:
    """text: NFKC, lower case. Numbers, amounts, durations, dates and times become tokens between ⟦ and ⟧."""
    text = _clocks(text)
    text = _WEEKDAY.sub(lambda m: f" ⟦{_WEEKDAYS[m[1]]}:weekday⟧ ", text)
    text = _WEEKDAY_ZH.sub(lambda m: f"⟦{'一二三四五六日天'.index(m[1]) % 7 + 1 if m[1] != '天' else 7}:weekday⟧", text)
    text = _MONTH_DAY_ZH.sub(_month_day, text)
    text = _MONTH.sub(lambda m: f" ⟦{_MONTHS[m[0]]}:month-name⟧ ", text)
    text = _ORDINAL.sub(r" ⟦\1:ordinal⟧ ", text)
    text = _words_to_digits(text)
    text = _outside_tokens(_DIGITAL, _digital, text)
    text = _ORDINAL_ZH.sub(r"⟦\1:ordinal⟧", text)
    text = _PERCENT_ZH.sub(r"⟦\1:percent⟧", text)
    text = _outside_tokens(_ORDINAL_NAME, lambda m: f" ⟦{_ORDINAL_NAMES[m[1]]}:ordinal⟧ ", text)
    text = _outside_tokens(_PER_UNIT, lambda m: f" ⟦1:{_UNITS[m[1]]}⟧ ", text)
    text = _outside_tokens(_PERIODIC, lambda m: f" ⟦1:{_UNITS[m[1]]}⟧ ", text)
    text = _outside_tokens(_PERIODIC_ZH, lambda m: f"⟦1:{_UNITS[m[1]]}⟧", text)
    return text


def _outside_tokens(pattern: re.Pattern[str], replace: str | Callable[[re.Match[str]], str], text: str) -> str:
    """As `sub`, but what is a token already stays one."""
    parts = re.split(r"(⟦[^⟧]*⟧)", text)
    return "".join(part if part.startswith("⟦") else pattern.sub(replace, part) for part in parts)


def _clocks(text: str) -> str:
    def english(m: re.Match[str]) -> str:
        if m[1]:
            hour = int(m[1]) % 12 + (12 if m[3].startswith("p") else 0)
            return f" ⟦{hour}.{int(m[2] or 0)}:clock⟧ "
        return f" ⟦{int(m[4])}.{int(m[5])}:clock⟧ "

    def chinese(m: re.Match[str]) -> str:
        hour = int(m[2]) if m[2].isdigit() else chinese_number(m[2])
        if m[1] in ("下午", "晚上", "傍晚") and hour < 12:
            hour += 12
        minute = {"半": 30, "一刻": 15}.get(
            m[3] or "", int((m[3] or "0").rstrip("分") or 0) if m[3] not in ("半", "一刻") else 0
        )
        return f"⟦{hour}.{minute}:clock⟧"

    return _CLOCK_ZH.sub(chinese, _CLOCK.sub(english, text))


def _month_day(m: re.Match[str]) -> str:
    month = int(m[1]) if m[1].isdigit() else chinese_number(m[1])
    day = "" if m[2] is None else f"⟦{int(m[2]) if m[2].isdigit() else chinese_number(m[2])}:⟧"
    return f"⟦{month}:month-name⟧{day}"


def _words_to_digits(text: str) -> str:
    text = _DOZEN.sub(" 12 ", text)
    kept = _PRONOUN_ONE.sub(lambda m: m[0].replace("one", "⟦⟧"), text)
    text = _outside_tokens(_NAMED, lambda m: f"{_named(m[0])}", kept).replace("⟦⟧", "one")
    kept = _NOT_A_NUMBER_ZH.sub(lambda m: "⟦" + m[0] + "⟧", text)
    kept = _outside_tokens(_RUN_ZH, _run_zh, kept)
    return re.sub(r"⟦([^:⟧]*)⟧", r"\1", kept)


def _run_zh(m: re.Match[str]) -> str:
    before = m.string[m.start() - 1] if m.start() else ""
    if before.isdigit() and m[0][0] in _POWERS_ZH:
        return m[0]  # "5万": the digits in front of it count
    if m[0] == "半":
        return "0.5" if re.match(r"个?(?:小时|钟头|月|年|天|日|价)", m.string[m.end() :]) else m[0]
    return str(chinese_number(m[0]))


def _named(name: str) -> str:
    if "half" in name:
        return "0.5"
    total, group = 0, 0
    for word in re.split(r"[ -]+", name):
        if word in _POWERS:
            group = max(group, 1) * _POWERS[word]
            if word != "hundred":
                total, group = total + group, 0
        elif word in ("a", "an"):
            group = 1
        else:
            group += _ONES.get(word, 0) + _TENS.get(word, 0)
    return str(total + group)


def chinese_number(run: str) -> int:
    """ "三百五" as 305 would be wrong: a last digit without a power counts tenths of the power before it."""
    if not any(c in _POWERS_ZH for c in run):
        return int("".join(str(_DIGITS_ZH[c]) for c in run))
    total, section, digit, last_power = 0, 0, 0, 1
    for i, c in enumerate(run):
        if c in _DIGITS_ZH:
            digit = _DIGITS_ZH[c]
            if i == len(run) - 1 and last_power >= 100 and run[i - 1] in _POWERS_ZH:
                digit *= last_power // 10
        elif c in "万亿":
            total, section, digit = (total + section + digit or 1) * _POWERS_ZH[c], 0, 0
            last_power = _POWERS_ZH[c]
        else:
            section += (digit or 1) * _POWERS_ZH[c]
            digit, last_power = 0, _POWERS_ZH[c]
    return total + section + digit


def _digital(m: re.Match[str]) -> str:
    value = m["number"].replace(",", "")
    if m["power"]:
        value = str(Decimal(value) * _POWER_OF[m["power"]]) if value.count(".") <= 1 else value
    unit = m["currency"] or m["unit"] or ""
    unit = "workday" if unit.startswith(("business", "working")) else _UNITS.get(unit, unit)
    return f" ⟦{_canonical(value)}:{unit}⟧ "


def _canonical(value: str) -> str:
    """ "3.0" as "3"; a number with a leading zero and a version ("2.1.3") as they stand."""
    if value.count(".") > 1 or (value.startswith("0") and len(value) > 1 and not value.startswith("0.")):
        return value
    try:
        number = Decimal(value)
    except InvalidOperation:
        return value
    return format(number.normalize(), "f")
