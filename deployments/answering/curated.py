"""Whether a curated question-answer pair is the one that was asked for, and how sure that is. Pure.

The encoder finds the pairs whose questions are nearest. "How much is the Basic plan?" is as near to the question about
the Pro plan as a paraphrase is, so what the two say is compared, too, and all that is seen is weighed into one
probability for each pair and one for none of them: a conditional logit, so that two pairs that fit alike share what one
alone would have. Sure enough: the answer is given as it stands. Sure only that it is one of two or three: the customer
is asked which. The rest is for retrieval.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from deployments.answering import context_en, context_zh
from deployments.answering.cache_policy import contradicts, differs_in, left_over, may_ask_the_same
from deployments.answering.meaning import Meaning, read
from deployments.answering.query import normalize
from deployments.answering.types import Language, RetrievedChunk
from deployments.answering.words import words
from ingestion.chunk import Chunk
from ingestion.questions import adds_subject

_MOST_OFFERED = 3  # questions to choose from; more are a list to read
_LEAST_SHARE = 0.15  # of a pair that is worth offering: what is less likely only makes the choice longer
_LEAD_RANGE = (-0.05, 0.1)  # cosine; beyond it a lead tells no more
_LEAD_ALONE = 0.03  # cosine, as usual: where there is no other pair to lead before, nothing is known
_COSINE_ZERO = 0.92
_CLAUSE = re.compile(
    r"[，,。.!！？?；;]+\s*|\s+(?:and|but|also)\s+(?=(?:what|how|when|where|who|which|can|do|does|is)\b)"
)
_ASKS_EN = re.compile(
    r"^\W*(?:(?:and|but|so|also)\s+)?(?:what|how|when|where|who|why|which|can|could|do|does|did|is|are|will|would|may)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Features:
    """Of a question and one pair beside others. Numbers, so that weights can be fitted to them."""

    one: float  # 1
    cosine: float  # above `_COSINE_ZERO`
    lead: float  # of its cosine over the best pair with another answer; within `_LEAD_RANGE`
    says_the_same: float  # 0 or 1: the verifier of the semantic cache finds no difference
    contradicts: float  # 0 or 1: other numbers, other models of a product, a longer name, or an opposite
    other_kind: float  # 0 or 1: "how much" and "how long"
    exchanged: float  # share of words in common, where each has one that the other has not; 0 where not
    sibling: float  # 0 or 1: another thing of the same kind, "Basic plan" and "Pro plan"
    rival_knows: float  # 0 or 1: a word that this question lacks is in that of a rival
    chinese: float  # 0 or 1: the scale of cosines is another one


@dataclass(frozen=True, slots=True)
class Match:
    pair: RetrievedChunk
    confidence: float  # 0-1: that this pair's answer is the one asked for


@dataclass(frozen=True, slots=True)
class Given:
    """This answer, word for word."""

    match: Match


@dataclass(frozen=True, slots=True)
class Asked:
    """Did you mean one of these?"""

    matches: tuple[Match, ...]  # two or three, the likeliest first


# Fitted by `python -m perf.quality.faq --fit` (perf/LOG.md) with the bundled encoder's cosines.
WEIGHTS: Features = Features(
    one=1.067,
    cosine=20.93,
    lead=20.237,
    says_the_same=2.418,
    contradicts=-4.212,
    other_kind=-0.896,
    exchanged=-3.169,
    sibling=-0.573,
    rival_knows=-1.496,
    chinese=-0.776,
)
_NAMES = tuple(field.name for field in fields(Features))


def decide(
    asked: str, language: Language, pairs: Sequence[RetrievedChunk], *, give_from: float, ask_from: float
) -> Given | Asked | None:
    """None: no pair is likely enough. Pairs made by hand come first: one found in a document never keeps one back.

    give_from: confidence from which an answer is given; ask_from: from which two or three together are offered.
    """
    by_hand = [pair for pair in pairs if pair.chunk.is_curated]
    exact = [pair for pair in (*by_hand, *pairs) if normalize(question_of(pair.chunk)) == normalize(asked)]
    if exact:
        return Given(Match(exact[0], 1.0))
    offered: Asked | None = None
    for candidates in (by_hand, list(pairs)):
        found = matches(asked, language, candidates)
        if found and found[0].confidence >= give_from and _answers_all(asked, found[0].pair.chunk):
            return Given(found[0])
        likely = [
            match
            for match in found[:_MOST_OFFERED]
            if match.confidence >= _LEAST_SHARE and _holds(asked, match.pair.chunk)
        ]
        if offered is None and len(likely) > 1 and sum(match.confidence for match in likely) >= ask_from:
            offered = Asked(tuple(likely))
    return offered


def matches(
    asked: str, language: Language, pairs: Sequence[RetrievedChunk], weights: Features = WEIGHTS
) -> list[Match]:
    """Pairs with different answers, the likeliest first; their confidences and that of none of them make 1."""
    distinct = list({pair.chunk.answer: pair for pair in reversed(pairs)}.values())
    seen = [features(asked, language, pair, [other for other in distinct if other is not pair]) for pair in distinct]
    odds = [math.exp(_log_odds(each, weights)) for each in seen]
    found = [Match(pair, each / (1 + sum(odds))) for pair, each in zip(distinct, odds, strict=True)]
    return sorted(found, key=lambda match: -match.confidence)


def _log_odds(seen: Features, weights: Features) -> float:
    """Of a pair against none of them."""
    return math.fsum(getattr(seen, name) * getattr(weights, name) for name in _NAMES)


def features(asked: str, language: Language, pair: RetrievedChunk, rivals: Sequence[RetrievedChunk]) -> Features:
    """rivals: the other pairs, each with an answer of its own."""
    question = question_of(pair.chunk)
    first, second = read(asked), read(question)
    missing, unasked = left_over(first, second), left_over(second, first)
    near = pair.similarity or 0.0
    lead = near - max((rival.similarity or 0.0 for rival in rivals), default=near - _LEAD_ALONE)
    return Features(
        one=1.0,
        cosine=near - _COSINE_ZERO,
        lead=min(max(lead, _LEAD_RANGE[0]), _LEAD_RANGE[1]),
        says_the_same=float(differs_in(first, second) is None),
        contradicts=float(contradicts(asked, question) or extends_name(asked, question)),
        other_kind=float(not may_ask_the_same(first, second)),
        exchanged=_in_common(asked, question) if missing and unasked else 0.0,
        sibling=float(is_sibling(asked, question, language)),
        rival_knows=float(any(_knows(rival, missing) for rival in rivals)),
        chinese=float(language == "zh"),
    )


def question_of(chunk: Chunk) -> str:
    """With the subject of its page, where it does not name it itself: as its vector was made."""
    return f"{chunk.title}: {chunk.question}" if adds_subject(chunk.title, chunk.question) else chunk.question


def is_sibling(asked: str, question: str, language: Language) -> bool:
    """Whether they name two things of one kind: "Basic plan" and "Pro plan", "房贷" and "车贷"."""
    if language == "zh":
        return _is_sibling_zh(asked, question)
    return any(
        set(left) - set(right) - words(question) and set(right) - set(left) - words(asked)
        for left, right in _qualifiers(asked, question)
    )


def extends_name(asked: str, question: str) -> bool:
    """Whether a name in one has a word more inside than that in the other: "Gold Account" and "Gold Plus Account"."""
    return any(
        left[0] == right[0] and len(left) != len(right) and (set(left) < set(right) or set(right) < set(left))
        for left, right in _qualifiers(asked, question, names=True)
    )


def _qualifiers(first: str, second: str, names: bool = False) -> Iterator[tuple[list[str], list[str]]]:
    """What stands before a word in one and before the same word in the other, within a phrase; names: one is a name."""
    others = context_en.phrases(second)
    for one in context_en.phrases(first):
        for other in others:
            left, right = one.head.lower().split(), other.head.lower().split()
            if not (one.is_name or other.is_name or not names):
                continue
            for word in (set(left[1:]) & set(right[1:])) - {left[0], right[0]}:  # nothing stands before those
                yield left[: left.index(word)], right[: right.index(word)]


def _is_sibling_zh(asked: str, question: str) -> bool:
    return any(
        one != other
        and min(len(one), len(other)) > 1
        and one[-1] == other[-1]
        and not one[-1].isascii()
        and one not in question
        and other not in asked
        and one not in other
        and other not in one
        and read(one).concepts != read(other).concepts
        for one in context_zh.things(asked)
        for other in context_zh.things(question)
    )


def _knows(pair: RetrievedChunk, missing: Sequence[str]) -> bool:
    return not _said(read(question_of(pair.chunk))).isdisjoint(missing)


def _said(meaning: Meaning) -> frozenset[str]:
    return meaning.light | frozenset(meaning.concepts)


def _in_common(first: str, second: str) -> float:
    """Dice, 0-1."""
    left, right = words(first), words(second)
    return 2 * len(left & right) / max(1, len(left) + len(right))


def _holds(asked: str, chunk: Chunk) -> bool:
    """Whether the pair's question says all that was asked, and only adds to it: "the fee", "the Gold Account's fee"."""
    first = read(asked)
    return not left_over(first, read(question_of(chunk))) and bool(first.concepts)


def _answers_all(asked: str, chunk: Chunk) -> bool:
    """Of two questions in one ("how much is it, and will it be here tomorrow?") each is spoken of in the pair."""
    parts = [part for part in _CLAUSE.split(asked) if part and (context_zh.asks(part) or _ASKS_EN.match(part))]
    if len(parts) < 2:
        return True
    said = _said(read(chunk.question)) | _said(read(chunk.answer))
    return all(not set(concepts) or set(concepts) & said for concepts in (read(part).concepts for part in parts))
