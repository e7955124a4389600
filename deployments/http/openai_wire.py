"""The wire format of `POST /v1/chat/completions` and `GET /v1/models`: OpenAI's, with our fields beside it.

Ours are `citations` and `raydesk` (the path, and whatever else OpenAI has no word for), on the message; in a stream
both are on the delta of one last, empty content chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, assert_never

from deployments.answering.protocols import TierStatus
from deployments.answering.types import AnswerEvent, Citation, Cited, Delta, Done, Failed, Meta
from deployments.engine_wire import wire_call
from deployments.http.answers import Answer
from deployments.http.embeddings import ENCODER_MODEL
from deployments.http.errors import failed_turn
from deployments.http.schemas import ROUTED_MODEL
from deployments.http.sse import frame
from deployments.http.stop_cut import StopCut
from models.protocols import FinishReason, ToolCall

DONE = frame("[DONE]")


class OpenAIWire:
    """One completion; keeps what the chunks of one stream share."""

    def __init__(
        self, *, completion_id: str, created_s: int, model: str, include_usage: bool, stop: Sequence[str] = ()
    ) -> None:
        self._head: dict[str, Any] = {"id": completion_id, "created": created_s, "model": model}
        self._include_usage = include_usage
        self._meta: Meta | None = None
        self._citations: list[Citation] = []
        self._calls = 0
        self._stop = StopCut(stop)

    def frames(self, event: AnswerEvent) -> list[bytes]:
        match event:
            case Delta(text):
                shown = self._stop.push(text)
                return [self._chunk({"content": shown})] if shown else []
            case Meta():
                self._meta = event
                self._head["id"] = f"chatcmpl-{event.turn_id}"  # of the turn that a repeated request has joined
                return [self._chunk({"role": "assistant", "content": ""})]
            case Cited(citation):
                self._citations.append(citation)
                return []
            case ToolCall():
                return self._call_frames(event)
            case Done():
                return self._closing_frames(event)
            case Failed():
                return [frame(failed_turn(event).body(event.request_id)), DONE]
            case _:
                assert_never(event)

    def _call_frames(self, call: ToolCall) -> list[bytes]:
        rest = self._stop.rest()
        frames = [self._chunk({"content": rest})] if rest else []
        frames.append(self._chunk({"tool_calls": [{"index": self._calls} | wire_call(call)]}))
        self._calls += 1
        return frames

    def _closing_frames(self, done: Done) -> list[bytes]:
        rest = self._stop.rest()
        frames = [self._chunk({"content": rest})] if rest else []
        frames += [
            self._chunk({"content": "", **_extras(self._citations, self._meta, done)}),
            self._chunk({}, _finish_reason(done.finish_reason)),
        ]
        if self._include_usage:
            frames.append(frame(self._envelope("chat.completion.chunk") | {"choices": [], "usage": _usage(done)}))
        return [*frames, DONE]

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = self._envelope("chat.completion.chunk") | {"choices": [choice]}
        return frame(chunk | {"usage": None} if self._include_usage else chunk)

    def _envelope(self, kind: str) -> dict[str, Any]:
        return {"object": kind, **self._head}

    def document(self, answer: Answer) -> dict[str, Any]:
        self._head["id"] = f"chatcmpl-{answer.meta.turn_id}"
        extras = _extras(list(answer.citations), answer.meta, answer.done)
        text, calls = self._stop.push(answer.text) + self._stop.rest(), [wire_call(call) for call in answer.calls]
        message = {
            "role": "assistant",
            "content": None if calls and not text else text,
            "refusal": None,
            **({"tool_calls": calls} if calls else {}),
            **extras,
        }
        finish_reason = _finish_reason(answer.done.finish_reason)
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
        return self._envelope("chat.completion") | {"choices": [choice], "usage": _usage(answer.done)}


def _extras(citations: list[Citation], meta: Meta | None, done: Done) -> dict[str, Any]:
    raydesk = {} if meta is None else dict(zip(_OF_META, _meta_values(meta), strict=True))
    return {"citations": citations, "raydesk": raydesk | dict(zip(_OF_DONE, _done_values(done), strict=True))}


_OF_META, _OF_DONE = (tuple(each.name for each in fields(event)) for event in (Meta, Done))
_meta_values, _done_values = attrgetter(*_OF_META), attrgetter(*_OF_DONE)


def _finish_reason(reason: FinishReason) -> str:
    """OpenAI has no word for an answer that broke off; `raydesk.finish_reason` keeps ours."""
    return reason if reason in ("length", "tool_calls") else "stop"


def _usage(done: Done) -> dict[str, int]:
    return {
        "prompt_tokens": done.input_tokens,
        "completion_tokens": done.output_tokens,
        "total_tokens": done.input_tokens + done.output_tokens,
    }


def model_cards(tiers: tuple[TierStatus, ...], created_s: int) -> list[dict[str, Any]]:
    """What `GET /v1/models` lists: the router first, the encoder, then each tier that can be forced."""
    cards = [_card(ROUTED_MODEL, created_s)]
    cards.append(_card(ENCODER_MODEL, created_s))
    return cards + [
        _card(tier.model_id, created_s) | {"raydesk": {"tier": tier.name, "state": tier.state}} for tier in tiers
    ]


def _card(model_id: str, created_s: int) -> dict[str, Any]:
    return {"id": model_id, "object": "model", "created": created_s, "owned_by": "raydesk"}
