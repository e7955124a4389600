"""What is compared of two texts: words (Latin ones without the commonest, CJK character bigrams) and denial. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

_LATIN = re.compile(r"[a-z0-9]+(?:[.'-][a-z0-9]+)*")
_CJK = re.compile(r"[\u3400-\u9fff]+")

STOP_WORDS = frozenset(
    (  # noqa: SIM905
        "a an and are as at be been but by can could do does did for from get had has have how i if in is it its me "
        "my no not of on or our shall should so than that the their them then there these they this to us was we "
        "were what when where which who why will with would you your am please"
    ).split()
)
# Characters that carry grammar, not content; a bigram of two of them says nothing.
_CJK_FILLERS = frozenset("的了吗呢吧啊我你您们是在有和与就都也还要想请问怎么什样么哪能可以会这那个一下")

_NEGATION = re.compile(
    r"\b(not|no|never|without|cannot|can't|cant|won't|don't|doesn't|isn't|aren't|didn't|haven't|unable|except|unless)\b"
    r"|不|没|无|未|非|别|勿"
)
# Chinese yes-no questions ("能不能", "有没有") hold a 不 or 没 that negates nothing; nor does it in these words.
_A_NOT_A = re.compile(r"(.)[不没]\1")
_NO_NEGATION = re.compile(
    r"无线|无理由|不锈钢|差不多|不好意思|对不起|不小心|不动产|不[过但仅管论同]|无论|没关系|没问题|未来|非常|非洲|[特级区性类识分差个辨告]别|别[人的名墅]"
)


@lru_cache(maxsize=20_000)
def words(text: str) -> frozenset[str]:
    """The content words of `text`, lower case; every two neighbouring Chinese characters count as a word."""
    lowered = text.lower()
    found = {word for word in _LATIN.findall(lowered) if word not in STOP_WORDS}
    for run in _CJK.findall(lowered):
        pairs = {run[i : i + 2] for i in range(len(run) - 1)} or {run}
        found |= {pair for pair in pairs if not set(pair) <= _CJK_FILLERS}
    return frozenset(found)


def coverage(needles: frozenset[str], haystack: frozenset[str]) -> float:
    """Share of `needles` that are in `haystack`, 0-1; nothing to look for is found nowhere."""
    return len(needles & haystack) / len(needles) if needles else 0.0


def is_negated(text: str) -> bool:
    """Whether it denies something."""
    return negations(text) > 0


def negations(text: str) -> int:
    """How often it denies something."""
    return len(_NEGATION.findall(_NO_NEGATION.sub("", without_a_not_a(text.casefold()))))


def without_a_not_a(text: str) -> str:
    """ "能不能" as "能": asked either way, it is the same question."""
    return _A_NOT_A.sub(r"\1", text)
