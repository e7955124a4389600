"""The values that one turn is made of. Frozen dataclasses; no behaviour beyond small derivations."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Literal

from deployments.answering.turn_kind import TurnKind
from deployments.settings import Language as Language  # it is one of the values, too
from ingestion.chunk import Chunk
from models.protocols import ChatMessage, FinishReason, IntentPrediction, ToolCall, Vectors

Path = Literal[
    "exact_cache",
    "rule",
    "semantic_cache",
    "faq",
    "clarify",
    "passage",
    "small",
    "large",
    "cloud",
    "abstain",
    "handoff",
]
Outcome = Literal["answered", "disconnected", "failed"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking: comes from the API key, never from the body, the text or the model."""

    tenant: str
    audiences: frozenset[str]  # chunks of other audiences do not exist for this caller
    key_id: str  # which credential, for logs; never the key itself


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A request that its caller may send again: it is answered once."""

    key: str  # the caller's own, unique among one principal's
    body_sha256: str  # of what must be the same each time, hexadecimal


@dataclass(frozen=True, slots=True)
class ToolUse:
    """Functions of the caller's own, and the conversation in which they are called."""

    fields: Mapping[str, Any]  # as of `GenerationRequest.tools`
    messages: tuple[ChatMessage, ...]  # with calls and their results; the last one may be a result


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question, as admitted by the HTTP side."""

    principal: Principal
    messages: tuple[ChatMessage, ...]  # at least one; the last one is the customer's
    collection: str
    request_id: str
    turn_id: str
    conversation_id: str
    is_new_conversation: bool = False  # its id was made for this request: nobody has said anything under it
    language: Language | None = None  # the customer's wish; else detected
    model: str | None = None  # a tier's name, forces that tier; None or "raydesk" routes
    max_output_tokens: int | None = None
    temperature: float = 0.0
    seed: int | None = None
    channel: str = "http"
    end_user: str = ""  # the client's own name for its customer: tells two askers apart, and grants nothing
    timeout_s: float | None = None  # the caller's wish; never longer than the settings allow
    admitted_s: float = field(default_factory=time.monotonic, compare=False)  # when its time began, `time.monotonic`
    repeatable: Repeatable | None = None
    tool_use: ToolUse | None = None  # then `messages` are what was said without them, up to the customer's last word
    can_return: bool = False  # the caller learns the turn's id and counts its events: it may come back for the rest

    @property
    def text(self) -> str:
        return self.messages[-1].content


@dataclass(frozen=True, slots=True)
class Query:
    """The standalone question that a turn asks."""

    text: str  # as the customer wrote it, trimmed
    search_text: str  # with what it leans on, where it is not standalone
    normalized: str  # NFKC, lower case, one space, no closing punctuation: the exact cache's key
    language: Language
    is_standalone: bool  # False when the turn needs its history to be understood
    kind: TurnKind = "question"  # the others ask nothing, and are answered without looking anything up
    is_sure: bool = True  # False: `text` alone may be what was meant, and is worth a search where `search_text` fails


@dataclass(frozen=True, slots=True)
class Understanding:
    """What one encoder pass gives."""

    prediction: IntentPrediction
    embedding: Vectors  # (dim,) float32, L2-normalised query vector


@dataclass(frozen=True, slots=True)
class RetrievedChunk:
    """A chunk with every score it got; a search that did not find it leaves None."""

    chunk: Chunk
    score: float  # fused (see fusion.py); compares only within one evidence
    similarity: float | None = None  # cosine of query and passage, -1..1
    lexical_score: float | None = None  # BM25 as a share of the most that the question could score, 0-1


@dataclass(frozen=True, slots=True)
class Evidence:
    """What retrieval found for one query, from exactly one knowledge version."""

    version: str
    chunks: tuple[RetrievedChunk, ...]  # best first
    pairs: tuple[RetrievedChunk, ...]  # curated question-answer pairs, by question similarity, best first


@dataclass(frozen=True, slots=True)
class Citation:
    """A source shown with the answer."""

    index: int  # 1-based, in order of first appearance
    chunk_id: str
    document_id: str
    title: str
    url: str
    heading_path: tuple[str, ...]
    quote: str  # the start of the chunk's text, for display
    support: float  # share of the answer's words found in the chunk, 0-1; 1 when quoted verbatim
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Button:
    """A suggested next message."""

    label: str
    message: str


@dataclass(frozen=True, slots=True)
class Link:
    label: str
    url: str


@dataclass(frozen=True, slots=True)
class CacheScope:
    """Two different scopes never share an answer."""

    tenant: str
    audiences: frozenset[str]
    collection: str
    language: Language
    policy_version: str  # hash of prompts, rules and tiers: changing them empties the cache

    def key(self) -> str:
        """A readable, unambiguous key: every part is length-prefixed, so that no two scopes can collide."""
        parts = (
            self.tenant,
            ",".join(sorted(self.audiences)),
            self.collection,
            self.language,
            self.policy_version,
        )
        return "|".join(f"{len(part)}:{part}" for part in parts)


@dataclass(frozen=True, slots=True)
class EvidenceRef:
    """A chunk and what it said."""

    chunk_id: str
    content: str  # `ingestion.chunk.content_digest`


@dataclass(frozen=True, slots=True)
class EvidenceBound:
    """What an answer rests on, and from where on something added to the knowledge would rank among it."""

    chunks: tuple[EvidenceRef, ...]
    passage_similarity: float  # cosine of an added chunk and the question; over 1: none would
    pair_similarity: float  # cosine of an added pair's question and the question
    coverage: float  # share of the question's words in an added chunk; over 1: none would
    is_foreign: bool = False  # whether all of it is in another language than the question


@dataclass(frozen=True, slots=True)
class Standing:
    """What has to be known of a stored answer to tell whether it still stands."""

    knowledge_version: str  # under which it stood
    question: str
    language: Language
    embedding: Vectors  # (dim,), of the question
    evidence: EvidenceBound


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """A complete, grounded answer that may be given again."""

    id: str
    question: str
    text: str
    path: Path  # how it was made the first time
    citations: tuple[Citation, ...]
    evidence: EvidenceBound
    knowledge_version: str  # under which it was made
    finish_reason: FinishReason
    output_tokens: int
    created_at_s: float  # Unix time
    input_tokens: int = 0
    topic: str = ""  # the question's intent
    valid_until_s: float | None = None  # Unix time from which its evidence is no longer true


CacheTier = Literal["exact", "near_exact", "semantic"]


@dataclass(frozen=True, slots=True)
class CacheHit:
    answer: CachedAnswer
    tier: CacheTier
    similarity: float  # cosine of the questions; near_exact: share of equal bits; 1.0 for exact
    key: str = field(default="", compare=False)  # the entry's, for whoever confirms or discards it
    embedding: Vectors | None = field(default=None, compare=False)  # (dim,), of the stored question
    versions: frozenset[str] = field(default=frozenset(), compare=False)  # knowledge versions under which it stands


# --- events: a closed union, in the order meta, (delta | citation)*, tool call*, then exactly one of done and error ---


@dataclass(frozen=True, slots=True)
class Meta:
    turn_id: str
    request_id: str
    conversation_id: str
    collection: str
    language: Language
    path: Path
    route_reason: str
    degraded: tuple[str, ...] = ()  # e.g. ("small:starting",)
    knowledge_version: str = ""
    cache_age_s: float | None = None  # of cached answers
    cache_tier: CacheTier | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    text: str


@dataclass(frozen=True, slots=True)
class Cited:
    citation: Citation


@dataclass(frozen=True, slots=True)
class Done:
    path: Path
    finish_reason: FinishReason
    grounded: bool
    input_tokens: int = 0
    output_tokens: int = 0
    ttft_ms: float = 0.0
    duration_ms: float = 0.0
    degraded: tuple[str, ...] = ()
    buttons: tuple[Button, ...] = ()
    links: tuple[Link, ...] = ()
    handoff_reason: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The turn ended with an error after it had begun."""

    code: str
    message: str  # public
    retryable: bool
    request_id: str
    retry_after_s: int | None = None


AnswerEvent = Meta | Delta | Cited | ToolCall | Done | Failed


_NO_COLUMNS = ("started_at_s", "citations", "step_ms", "cache_tier", "tokens_saved")


@dataclass(slots=True)
class TurnRecord:
    """One row per turn: filled as the turn walks, read by the log, the metrics and the cache write.

    The only mutable value here; it belongs to one turn's task and is handed over once, when the turn has ended.
    """

    turn_id: str
    request_id: str
    conversation_id: str
    tenant: str
    key_id: str
    channel: str
    collection: str
    started_at_s: float  # Unix time
    question: str
    language: str = ""
    knowledge_version: str = ""
    intent: str = ""
    intent_confidence: float = 0.0
    intent_margin: float = 0.0
    path: str = ""
    route_reason: str = ""
    route_score: float = 0.0  # that the smallest model's answer is good enough, 0-1; 0 where nothing was chosen
    route_features: dict[str, float] = field(default_factory=dict)  # what that was told by; of written answers alone
    answer: str = ""
    citations: list[Citation] = field(default_factory=list)
    evidence_ids: list[str] = field(default_factory=list)
    cache_similarity: float = 0.0
    cache_tier: str = ""  # of the hit that answered; for metrics and traces, as the next one
    tokens_saved: int = 0  # of models, by that hit
    finish_reason: str = ""
    grounded: bool = False
    degraded: list[str] = field(default_factory=list)
    input_tokens: int = 0
    output_tokens: int = 0
    step_ms: dict[str, float] = field(default_factory=dict)  # step name to milliseconds
    ttft_ms: float = 0.0
    duration_ms: float = 0.0
    outcome: Outcome = "answered"
    error_code: str = ""

    def row(self) -> Mapping[str, Any]:
        """The turn as one row of the `turns` table."""
        return dict(zip(_COLUMNS, _columns_of(self), strict=True)) | {
            "started_at": datetime.fromtimestamp(self.started_at_s, UTC),
            "citation_chunk_ids": [citation.chunk_id for citation in self.citations],
            "citation_urls": [citation.url for citation in self.citations],
            "step_ms": dict(self.step_ms),
        }


_COLUMNS = tuple(each.name for each in fields(TurnRecord) if each.name not in _NO_COLUMNS)
_columns_of = attrgetter(*_COLUMNS)
