"""Which language model writes: the smallest one whose answer is likely to be good enough. Pure, and in well under a ms.

Everything it looks at is there by then: the question, its intent, what was found. A logistic model makes of it the
probability that the smallest tier's answer is as good as that of a stronger one; `raydesk routing fit` fits such a
model to logged outcomes, and until then the weights below are a hand's. Who asks for a tier by name, or by a rule,
gets it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from deployments.answering.question_form import question_form
from deployments.answering.types import Query, RetrievedChunk, Understanding
from deployments.answering.words import coverage, words
from deployments.settings import RoutingSettings, TierSettings

FORMAT = "raydesk-routing"
VERSION = 1  # of the artefact; another one is refused
_FARTHEST = 3.0  # scales
_SHOWN = 3  # features named in a reason
_SPEED_MEMORY = 0.8  # of what was known of a tier's speed, each time it is seen anew


@dataclass(frozen=True, slots=True)
class Features:
    """Of a question and what was found for it; None where that is not known."""

    # of the question
    compares: float | None = None  # 0 or 1: "which is better"
    explains: float | None = None  # 0 or 1: why, how
    conditions: float | None = None  # 0 or 1: "if", "unless"
    reckons: float | None = None  # 0 or 1: a sum, or two numbers and more
    parts: float | None = None  # questions in it, 1-4
    length: float | None = None  # log2 of its words
    chinese: float | None = None  # 0 or 1
    history: float | None = None  # 0 or 1: it leans on what was said before
    tools: float | None = None  # 0 or 1: the answer holds something of one customer's, from a tool or the session
    # of its intent
    intent_confidence: float | None = None  # 0-1
    intent_margin: float | None = None  # 0-1
    # of the evidence
    similarity: float | None = None  # cosine of the best chunk
    similarity_gap: float | None = None  # its lead over the best one of another document; 0.2 where there is none
    lexical: float | None = None  # share of the question in the best chunk by words, 0-1
    agreement: float | None = None  # 0 or 1: both searches have the same best chunk
    covered: float | None = None  # share of the question's words in the best chunk, 0-1
    curated: float | None = None  # 0 or 1: the best chunk is a question with its answer
    evidence: float | None = None  # chunks, up to 5
    documents: float | None = None  # they come from, up to 5
    evidence_length: float | None = None  # log2 of the best chunk's characters


FEATURE_NAMES = tuple(each.name for each in fields(Features))
_MOST_COUNTED = 5
_WIDEST_GAP = 0.2  # cosine


def of_question(text: str, *, is_chinese: bool) -> Features:
    """All that the question alone tells."""
    form = question_form(text)
    return Features(
        compares=float(form.compares),
        explains=float(form.explains),
        conditions=float(form.has_condition),
        reckons=float(form.reckons),
        parts=float(form.parts),
        length=math.log2(1 + form.length),
        chinese=float(is_chinese),
    )


def features(
    query: Query, understanding: Understanding | None, evidence: Sequence[RetrievedChunk], *, uses_tools: bool = False
) -> Features:
    """evidence: what an answer may rest on, best first; none where functions are all that could answer."""
    asked = asdict(of_question(query.search_text, is_chinese=query.language == "zh"))
    seen = {"history": float(not query.is_standalone), "tools": float(uses_tools)}
    if evidence:
        best = evidence[0].chunk
        seen |= {
            "covered": coverage(words(query.search_text), words(f"{best.title} {best.text}")),
            "curated": float(best.kind == "qa"),
            "evidence": float(min(len(evidence), _MOST_COUNTED)),
            "documents": float(min(len({found.chunk.document_id for found in evidence}), _MOST_COUNTED)),
            "evidence_length": math.log2(1 + len(best.text)),
        }
    if understanding is not None:
        prediction = understanding.prediction
        seen |= {"intent_confidence": prediction.confidence, "intent_margin": prediction.margin}
    return Features(**(asked | seen | _scores(evidence)))


def _scores(evidence: Sequence[RetrievedChunk]) -> dict[str, float]:
    near = [(found.similarity, found) for found in evidence if found.similarity is not None]
    worded = [(found.lexical_score, found) for found in evidence if found.lexical_score is not None]
    scores: dict[str, float] = {}
    if near:
        similarity, first = max(near, key=lambda pair: pair[0])
        others = [each for each, found in near if found.chunk.document_id != first.chunk.document_id]
        scores["similarity"] = similarity
        scores["similarity_gap"] = min(similarity - max(others), _WIDEST_GAP) if others else _WIDEST_GAP
    if worded:
        scores["lexical"] = max(score for score, _ in worded)
    if near and worded:
        by_words = max(worded, key=lambda pair: pair[0])[1]
        scores["agreement"] = float(by_words.chunk.id == first.chunk.id)
    return scores


def as_row(seen: Features) -> dict[str, float]:
    """What is known, for the turn log."""
    return {name: round(value, 4) for name in FEATURE_NAMES if (value := getattr(seen, name)) is not None}


# --- the model ---


class RoutingModelError(ValueError):
    """A file that is no routing model of ours; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Term:
    """What one feature adds to the log-odds: weight * (value - mean) / scale; nothing where it is not known.

    Beyond three scales from the mean it adds no more: nothing like it was seen when the weight was found.
    """

    weight: float
    mean: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class RoutingModel:
    """Features to the probability that the smallest tier's answer is good enough."""

    bias: float
    terms: Mapping[str, Term]
    threshold: float  # probability from which the smallest tier writes
    about: Mapping[str, Any] = field(default_factory=dict)  # how it was made, for people
    fingerprint: str = "built in"

    def parts(self, seen: Features) -> dict[str, float]:
        """What each known feature adds to the log-odds."""
        return {
            name: term.weight * max(-_FARTHEST, min(_FARTHEST, (value - term.mean) / term.scale))
            for name, term in self.terms.items()
            if (value := getattr(seen, name)) is not None
        }

    def score(self, parts: Mapping[str, float]) -> float:
        """0-1. parts: of `parts`."""
        return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, self.bias + math.fsum(parts.values())))))

    def to_json(self) -> str:
        """The artefact, for people to read, too."""
        terms = {name: asdict(term) for name, term in self.terms.items()}
        content = {"format": FORMAT, "version": VERSION, "threshold": self.threshold, "bias": self.bias}
        return json.dumps(content | {"terms": terms, "about": dict(self.about)}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def parse(cls, content: bytes, where: str) -> RoutingModel:
        """where: the file's name, for messages. Raises `RoutingModelError`."""
        try:
            document = json.loads(content)
        except ValueError as error:
            raise RoutingModelError(f"{where} is not JSON: {error}") from error
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise RoutingModelError(
                f"{where} is not a routing model: make one with 'raydesk routing fit --out {where}'"
            )
        if document.get("version") != VERSION:
            raise RoutingModelError(
                f"{where} has the format version {document.get('version')}, and {VERSION} is read here: fit it again"
            )
        terms = document.get("terms")
        if not isinstance(terms, dict):
            raise RoutingModelError(f"{where} has no terms: fit it again with 'raydesk routing fit'")
        if unknown := sorted(terms.keys() - set(FEATURE_NAMES)):
            raise RoutingModelError(f"{where} weighs {', '.join(unknown)}, which is seen of no question: fit it again")
        read = {name: _term(term, f"{where}: terms.{name}") for name, term in terms.items()}
        threshold, about = _number(document, "threshold", where), document.get("about") or {}
        if not 0 <= threshold <= 1:
            raise RoutingModelError(f"{where}: threshold is {threshold:g}, and has to be from 0 to 1")
        if not isinstance(about, dict):
            raise RoutingModelError(f"{where}: about has to be a mapping")
        return cls(_number(document, "bias", where), read, threshold, about, fingerprint_of(content))


def load_routing(path: Path) -> RoutingModel:
    """Raises `RoutingModelError`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RoutingModelError(f"cannot read the routing model {path}: {error.strerror}") from error
    return RoutingModel.parse(content, str(path))


def fingerprint_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _term(term: Any, where: str) -> Term:
    if not isinstance(term, dict) or term.keys() != {"weight", "mean", "scale"}:
        raise RoutingModelError(f"{where} has to have weight, mean and scale")
    read = Term(*(_number(term, name, where) for name in ("weight", "mean", "scale")))
    if read.scale <= 0:
        raise RoutingModelError(f"{where}.scale has to be over 0")
    return read


def _number(holder: Mapping[str, Any], name: str, where: str) -> float:
    value = holder.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RoutingModelError(f"{where}: {name} has to be a number, not {value!r}")
    return float(value)


# A hand's, not fitted: one clear fact in one place is for the small model; to compare, explain, reckon or join several
# places is not. Means are what is usual, so that a question of which little is known gets the bias alone: 0.65.
# The cosine is left out: its scale is the encoder's own.
BUILT_IN = RoutingModel(
    bias=0.6,
    threshold=0.5,
    terms={
        "compares": Term(-1.2),
        "explains": Term(-0.5),
        "conditions": Term(-0.5),
        "reckons": Term(-0.8),
        "parts": Term(-0.8, mean=1.0),
        "length": Term(-0.3, mean=3.5),
        "history": Term(-0.3),
        "tools": Term(-0.8),
        "similarity_gap": Term(0.2, mean=0.05, scale=0.1),
        "agreement": Term(0.3, mean=0.5),
        "covered": Term(1.0, mean=0.5),
        "curated": Term(0.8, mean=0.3),
        "documents": Term(-0.3, mean=2.0),
        "evidence_length": Term(-0.2, mean=9.0),
    },
    about={"made": "by hand"},
)


# --- the choice ---


@dataclass(frozen=True, slots=True)
class TierView:
    """A tier as the choice sees it."""

    name: str
    load: float = 0.0  # generations at work, as a share of those that it takes at once
    first_token_s: float | None = None  # as it has been lately


@dataclass(frozen=True, slots=True)
class Route:
    tiers: tuple[str, ...]  # who writes, and who does if that one cannot, and so on
    reason: str
    score: float | None = None  # that the smallest is good enough; None where that was not asked
    features: Features | None = None


class Router:
    """Chooses among tiers, given smallest first."""

    def __init__(self, settings: RoutingSettings, model: RoutingModel = BUILT_IN) -> None:
        self._thresholds = {str(name): least for name, least in settings.thresholds.items()}
        self._load_relief = settings.load_relief
        self.model = model

    def choose(
        self,
        tiers: Sequence[TierView],
        look: Callable[[], Features],
        *,
        wanted: str | None = None,
        left_s: float = math.inf,
    ) -> Route:
        """tiers: at least one. look: not called where there is nothing to choose.

        wanted: by a rule. left_s: of the turn.
        """
        names = [tier.name for tier in tiers]
        if len(names) == 1:
            return Route((names[0],), "the only model")
        if wanted in names:
            return Route(_by_nearness(names, names.index(wanted)), "by a rule")
        seen = look()
        parts = self.model.parts(seen)
        score = self.model.score(parts)
        place, why = self._place(tiers, score)
        place, hurry = _in_time(tiers, place, left_s)
        strongest = sorted(parts.items(), key=lambda part: -abs(part[1]))[:_SHOWN]
        told = ", ".join(f"{name} {part:+.1f}" for name, part in strongest if round(abs(part), 1))
        return Route(_by_nearness(names, place), f"{why}{hurry}{f' ({told})' if told else ''}", score, seen)

    def _place(self, tiers: Sequence[TierView], score: float) -> tuple[int, str]:
        """The first tier whose threshold the score reaches; the last one takes the rest."""
        for place, tier in enumerate(tiers[:-1]):
            least = self._least(place, tier, tiers[place + 1])
            if score >= least:
                return place, f"score {score:.2f}, {tier.name} from {least:.2f}"
        return len(tiers) - 1, f"score {score:.2f} is under {least:.2f}"

    def _least(self, place: int, tier: TierView, larger: TierView) -> float:
        """A larger tier that is busier than this one is spared the questions that are nearly simple enough."""
        own = self.model.threshold if place == 0 else 0.0
        least = self._thresholds.get(tier.name, own)
        return least * (1 - self._load_relief * max(0.0, min(1.0, larger.load - tier.load)))


def _in_time(tiers: Sequence[TierView], place: int, left_s: float) -> tuple[int, str]:
    """A smaller one, where the chosen one has lately been too slow for what is left of the turn."""
    chosen = place
    while place and (tiers[place].first_token_s or 0.0) > left_s / 2:
        place -= 1
    return place, f", {tiers[chosen].name} is too slow for {left_s:.1f} s" if place != chosen else ""


@lru_cache(maxsize=64)
def _order(count: int, first: int) -> tuple[int, ...]:
    return tuple(sorted(range(count), key=lambda place: (abs(place - first), -place)))


def _by_nearness(names: Sequence[str], first: int) -> tuple[str, ...]:
    """That one, then its neighbours; of two that are as near, the stronger."""
    return tuple(names[place] for place in _order(len(names), first))


class TierLoads:
    """What this process sees of its tiers: generations at work, and how soon they began to write."""

    def __init__(self) -> None:
        self._at_work: Counter[str] = Counter()
        self._first_token_s: dict[str, float] = {}

    @asynccontextmanager
    async def at_work(self, name: str) -> AsyncIterator[None]:
        """While the block lasts, this tier has a generation more."""
        self._at_work[name] += 1
        try:
            yield
        finally:
            self._at_work[name] -= 1

    def began_to_write(self, name: str, after_s: float) -> None:
        known = self._first_token_s.get(name, after_s)
        self._first_token_s[name] = _SPEED_MEMORY * known + (1 - _SPEED_MEMORY) * after_s

    def view(self, tier: TierSettings) -> TierView:
        replicas = tier.replicas
        most = (replicas.max_replicas or replicas.min_replicas) * replicas.max_ongoing_requests
        return TierView(tier.name, self._at_work[tier.name] / most, self._first_token_s.get(tier.name))
