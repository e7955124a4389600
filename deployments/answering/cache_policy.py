"""What may be cached, and when two questions are the same question. Pure.

No similarity threshold of an encoder separates "3 days" from "30 days" or "turn on" from "turn off" (perf/LOG.md):
the encoder proposes, `same_question` decides.
"""

from __future__ import annotations

import re

from deployments.answering.types import Path
from deployments.answering.words import STOP_WORDS, is_negated, without_a_not_a, words

CACHEABLE_PATHS: frozenset[Path] = frozenset({"faq", "small", "large", "cloud"})

_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")
_CHINESE_NUMBER = re.compile(r"[一二两三四五六七八九十百千万半]+(?=[天日个次元块年月周件台折小分岁期倍])")
# Words whose exchange turns a question round; each of a pair must be in both questions or in neither.
_OPPOSITES = tuple(
    tuple(re.compile(side) for side in pair)
    for pair in (
        (
            r"\b(turn|turning|switch|switching)( \w+)? on\b|\benabl|\bactivat|开启|打开|启用|开通",
            r"\boff\b|\bdisabl|\bdeactivat|关闭|关掉|停用|注销",
        ),
        (r"\bbefore\b|之前|以前|出库前", r"\bafter\b|之后|以后|出库后"),
        (r"\bin\b.*warranty|\bwithin\b|保修期内|保内", r"\bout(side)? of\b|\boutside\b|\bexpired\b|过保|保外"),
        (r"\bfirst\b|首次|第一", r"\blast\b|最后|上一"),
        (r"\bmin(imum)?\b|\bleast\b|最少|最低|最小", r"\bmax(imum)?\b|\bmost\b|最多|最高|最大"),
        (
            r"\badd\b|\bcreate\b|\bopen\b|\bsign up\b|添加|新增|注册",
            r"\bremove\b|\bdelete\b|\bclose\b|\bcancel\b|删除|移除|取消|注销",
        ),
        (r"\bbuy\b|\bpurchas|购买", r"\breturn\b|\bsell\b|退货|退掉"),
        (r"\bincreas|\bmore\b|\bupgrad|增加|升级", r"\bdecreas|\bless\b|\bdowngrad|减少|降级"),
        (r"\bsend\b|\bship to\b|寄出|寄到", r"\breceiv|收到"),
        (r"\brestart|\breboot|重启", r"\breset|\bfactory|重置|恢复出厂"),
    )
)
# What tells a product from its sibling: "Orbit S" and "Orbit X", "Brio 2" and "Brio Pro".
_NAME_AND_MODEL = re.compile(
    r"(?<![a-z])([a-z]{3,})[ -](\d+[a-z]?|[b-hj-z]\d*|pro|plus|max|mini|lite|air|ultra)(?![a-z0-9%.,]*[a-z0-9%])"
)
_LEAST_SHARED_WORDS = 0.5  # Jaccard; a paraphrase in wholly other words is asked afresh rather than risked


def same_question(asked: str, stored: str) -> bool:
    """True only when nothing that turns an answer round differs: numbers, negation, opposites, most words."""
    first, second = _plain(asked), _plain(stored)
    return (
        _numbers(first) == _numbers(second)
        and _models(first) == _models(second)
        and is_negated(first) == is_negated(second)
        and all(_sides(pair, first) == _sides(pair, second) for pair in _OPPOSITES)
        and _jaccard(words(first), words(second)) >= _LEAST_SHARED_WORDS
    )


def contradicts(asked: str, curated: str) -> bool:
    """True when a curated question says something else than what was asked: other numbers or models, or an opposite.

    Milder than `same_question`: a curated question may carry numbers or words that the customer left out.
    """
    first, second = _plain(asked), _plain(curated)
    asked_numbers, curated_numbers = _numbers(first), _numbers(second)
    if asked_numbers and curated_numbers and not (asked_numbers <= curated_numbers or curated_numbers <= asked_numbers):
        return True
    asked_models, curated_models = _models(first), _models(second)
    if any(curated_models.get(name, models).isdisjoint(models) for name, models in asked_models.items()):
        return True
    return any(
        _sides(pair, first) in ((True, False), (False, True))
        and _sides(pair, second) in ((True, False), (False, True))
        and _sides(pair, first) != _sides(pair, second)
        for pair in _OPPOSITES
    )


def _plain(text: str) -> str:
    return without_a_not_a(text.casefold())


def _numbers(text: str) -> frozenset[str]:
    return frozenset(_NUMBER.findall(text)) | frozenset(_CHINESE_NUMBER.findall(text))


def _models(text: str) -> dict[str, set[str]]:
    """Product names with the models that are meant of them."""
    found: dict[str, set[str]] = {}
    for name, model in _NAME_AND_MODEL.findall(text):
        if name not in STOP_WORDS:
            found.setdefault(name, set()).add(model)
    return found


def _sides(pair: tuple[re.Pattern[str], ...], text: str) -> tuple[bool, bool]:
    return bool(pair[0].search(text)), bool(pair[1].search(text))


def _jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    union = first | second
    return len(first & second) / len(union) if union else 0.0
