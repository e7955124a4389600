"""The wire format of `POST /v1/chat`: named events, or one document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from deployments.answering.types import (
    AnswerEvent,
    Button,
    CacheTier,
    Citation,
    Cited,
    Delta,
    Done,
    Failed,
    Language,
    Link,
    Meta,
    Path,
)
from deployments.http.answers import Answer
from deployments.http.sse import frame
from models.protocols import FinishReason, ToolCall


@dataclass(frozen=True, slots=True)
class TokenUsage:
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeAnswer:
    """A whole answer as one document."""

    id: str  # of the turn
    request_id: str
    conversation_id: str
    collection: str
    path: Path
    language: Language
    text: str
    citations: tuple[Citation, ...]
    tool_calls: tuple[ToolCall, ...]
    buttons: tuple[Button, ...]
    links: tuple[Link, ...]
    grounded: bool
    finish_reason: FinishReason
    usage: TokenUsage
    ttft_ms: float
    duration_ms: float
    degraded: tuple[str, ...]
    knowledge_version: str
    handoff_reason: str
    route_reason: str
    cache_age_s: float | None
    cache_tier: CacheTier | None


class NativeWire:
    """One stream; its events are numbered, so that who was cut off can say how far it came."""

    def __init__(self, after: int = 0) -> None:
        """after: number of the last event that the client has."""
        self._number = after

    def frames(self, event: AnswerEvent) -> list[bytes]:
        if not isinstance(event, Failed):  # an error may be of this connection alone
            self._number += 1
        match event:
            case Delta(text):  # by far the most frequent
                return [frame({"text": text}, "delta", self._number)]
            case Meta():
                return [frame(event, "meta", self._number)]
            case Cited(citation):
                return [frame(citation, "citation", self._number)]
            case ToolCall():
                return [frame(event, "tool_call", self._number)]
            case Done():
                return [frame(event, "done", self._number)]
            case Failed():
                return [frame(event, "error")]
            case _:
                assert_never(event)

    def document(self, answer: Answer) -> NativeAnswer:
        meta, done = answer.meta, answer.done
        return NativeAnswer(
            id=meta.turn_id,
            request_id=meta.request_id,
            conversation_id=meta.conversation_id,
            collection=meta.collection,
            path=done.path,
            language=meta.language,
            text=answer.text,
            citations=answer.citations,
            tool_calls=answer.calls,
            buttons=done.buttons,
            links=done.links,
            grounded=done.grounded,
            finish_reason=done.finish_reason,
            usage=TokenUsage(done.input_tokens, done.output_tokens),
            ttft_ms=done.ttft_ms,
            duration_ms=done.duration_ms,
            degraded=tuple(dict.fromkeys((*meta.degraded, *done.degraded))),
            knowledge_version=meta.knowledge_version,
            handoff_reason=done.handoff_reason,
            route_reason=meta.route_reason,
            cache_age_s=meta.cache_age_s,
            cache_tier=meta.cache_tier,
        )
