"""The wire format of `POST /v1/chat`: named events, or one document."""

from __future__ import annotations

from typing import Any, assert_never

from deployments.answering.types import AnswerEvent, Cited, Delta, Done, Failed, Meta
from deployments.http.answers import Answer
from deployments.http.sse import frame


class NativeWire:
    def frames(self, event: AnswerEvent) -> list[bytes]:
        match event:
            case Delta(text):  # by far the most frequent
                return [frame({"text": text}, "delta")]
            case Meta():
                return [frame(event, "meta")]
            case Cited(citation):
                return [frame(citation, "citation")]
            case Done():
                return [frame(event, "done")]
            case Failed():
                return [frame(event, "error")]
            case _:
                assert_never(event)

    def document(self, answer: Answer) -> dict[str, Any]:
        meta, done = answer.meta, answer.done
        return {
            "id": meta.turn_id,
            "request_id": meta.request_id,
            "conversation_id": meta.conversation_id,
            "collection": meta.collection,
            "path": done.path,
            "language": meta.language,
            "text": answer.text,
            "citations": answer.citations,
            "buttons": done.buttons,
            "links": done.links,
            "grounded": done.grounded,
            "finish_reason": done.finish_reason,
            "usage": {"input_tokens": done.input_tokens, "output_tokens": done.output_tokens},
            "ttft_ms": done.ttft_ms,
            "duration_ms": done.duration_ms,
            "degraded": list(dict.fromkeys((*meta.degraded, *done.degraded))),
            "knowledge_version": meta.knowledge_version,
            "handoff_reason": done.handoff_reason,
            "route_reason": meta.route_reason,
            "cache_age_s": meta.cache_age_s,
            "cache_tier": meta.cache_tier,
        }
