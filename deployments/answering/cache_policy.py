"""What may be cached, and when two questions are the same question. Pure.

No similarity threshold of an encoder separates "3 days" from "30 days" or "turn on" from "turn off" (perf/LOG.md):
the encoder proposes, `same_question` decides.
"""

from __future__ import annotations

import math
import re

from deployments.answering.lexicon import NEUTRAL
from deployments.answering.meaning import Meaning, is_one_slip, read
from deployments.answering.query import normalize as normalized
from deployments.answering.types import Path
from deployments.answering.words import STOP_WORDS, without_a_not_a

CACHEABLE_PATHS: frozenset[Path] = frozenset({"faq", "small", "large", "cloud"})
CURATED_PATHS: frozenset[Path] = frozenset({"faq"})  # word for word what the company wrote: nobody can plant it

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
_MONEY_OR_BARE = tuple({"", currency} for currency in ("usd", "eur", "gbp", "cny"))
# Logistic regression over pairs with a cosine from 0.9 between which `differs_in` finds nothing: 664 of 2,560 questions
# of Banking77's training file, same label or not, and 100 of the dev half of perf/data/cache_pairs.jsonl. Words in
# common, light words on one side, another kind or modality of question added nothing to it (perf/LOG.md).
_BIAS, _CLOSENESS = 2.04, 3.12
LEAST_LIKELIHOOD = 0.92  # from here on the share of same labels rises no more: what is left are doubtful labels


def closeness(similarity: float, threshold: float) -> float:
    """Where a cosine lies between the threshold of candidates (0) and identity (1)."""
    return min(1.0, max(0.0, (similarity - threshold) / (1 - threshold))) if threshold < 1 else float(similarity >= 1)


def same_question(asked: str, stored: str, closeness: float) -> bool:
    """True only when no word, number or turn differs that changes an answer, and they are near enough to each other.

    closeness: 0-1, see the function of that name. Symmetric. In doubt False: the cost is an answer generated again.
    """
    if normalized(asked) == normalized(stored):
        return True
    first, second = read(asked), read(stored)
    if differs_in(first, second) is not None:
        return False
    return first == second or likelihood(closeness) >= LEAST_LIKELIHOOD  # typos and courtesies move a vector, too


def differs_in(first: Meaning, second: Meaning) -> str | None:
    """The first thing that turns an answer round and differs, as a word for logs; None if nothing does."""
    if not first.concepts or not second.concepts:
        return "nothing to compare"
    if not _same_quantities(first.quantities, second.quantities):
        return "quantity"
    if first.negations != second.negations:
        return "negation"
    if not may_ask_the_same(first, second):
        return "kind of question"
    if not _same_modality(first.modality, second.modality):
        return "modality"
    if first.negations and first.is_unable != second.is_unable and "past" in (first.tense, second.tense):
        return "ability"
    if {first.tense, second.tense} == {"past", "future"}:
        return "tense"
    if any((right, left) in second.turns for left, right in first.turns):
        return "direction"
    if _ends(first, "⇠from") & _ends(second, "⇠to") or _ends(first, "⇠to") & _ends(second, "⇠from"):
        return "direction"
    if (later := _ends(first, "⇠later")) and (then := _ends(second, "⇠later")) and later.isdisjoint(then):
        return "direction"
    if {first.given_to, second.given_to} == {"speaker", "another"}:
        return "person"
    if first.between and second.between and first.between != second.between:
        return "person"
    if first.of_another != second.of_another:
        return "person"
    if left_over(first, second) or left_over(second, first):
        return "word"
    if first.light - _all(second) - NEUTRAL and second.light - _all(first) - NEUTRAL:
        return "word"  # one in place of another: "receive" and "use"
    return None


def likelihood(closeness: float) -> float:
    """0-1: that one answer does for two questions between which `differs_in` finds nothing."""
    return 1 / (1 + math.exp(-(_BIAS + _CLOSENESS * closeness)))


def _all(meaning: Meaning) -> frozenset[str]:
    return meaning.light | frozenset(meaning.concepts)


def left_over(first: Meaning, second: Meaning) -> list[str]:
    """Concepts of the first that the second has not, one letter's slip aside."""
    there = _all(second)
    left = [concept for concept in first.concepts if concept not in there]
    others = [concept for concept in second.concepts if concept not in first.concepts]
    return [concept for concept in left if not any(is_one_slip(concept, other) for other in others)]


def _ends(meaning: Meaning, side: str) -> set[str]:
    return {concept for concept, marker in meaning.turns if marker == side}


def _same_quantities(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    """As often the same values, those of a kind in the same order ("from 3 days to 5").

    Money may come without its currency ("满100包邮", "满100元包邮").
    """
    if len(first) != len(second):
        return False
    if sorted(first) == sorted(second):
        return all(
            [q for q in first if _dimension(q) == dimension] == [q for q in second if _dimension(q) == dimension]
            for dimension in {_dimension(q) for q in first}
        )
    return all(
        value == other and (unit == other_unit or {unit, other_unit} in _MONEY_OR_BARE)
        for (value, _, unit), (other, _, other_unit) in zip(
            (each.partition(":") for each in first), (each.partition(":") for each in second), strict=True
        )
    )


def _dimension(quantity: str) -> str:
    unit = quantity.partition(":")[2]
    return "time" if unit in ("minute", "hour", "day", "workday", "week", "month", "quarter", "year") else unit


_KINDS_THAT_MEET: frozenset[frozenset[str]] = frozenset(
    frozenset(pair)
    for pair in (
        ("how", "wish"),
        ("how", "statement"),
        ("why", "statement"),
        ("wish", "statement"),
        ("whether", "statement"),
        ("whether", "wish"),
        ("what", "statement"),
        ("how_long", "when"),
    )
)
_KINDS_THAT_MEET_WHERE = {frozenset(("where", "how")), frozenset(("where", "wish")), frozenset(("where", "statement"))}


def may_ask_the_same(first: Meaning, second: Meaning) -> bool:
    kinds = frozenset((first.kind, second.kind))
    if len(kinds) == 1 or kinds in _KINDS_THAT_MEET:
        return True
    looks_up = "view" in first.light | second.light or "track" in first.concepts + second.concepts
    return (looks_up and kinds in _KINDS_THAT_MEET_WHERE) or (
        "duedate" in first.concepts and kinds == {"when", "what"}  # "when is it due", "what is the due date"
    )


def _same_modality(first: str, second: str) -> bool:
    return first == second or {first, second} in ({"", "can"}, {"", "need"}, {"need", "must"})


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
