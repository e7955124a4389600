"""Events of a turn as bytes and back: `[[kind, content], …]` in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from deployments.answering.types import AnswerEvent, Cited, Delta, Done, Failed, Meta
from deployments.http.json_bytes import json_bytes
from models.protocols import ToolCall

_KINDS: dict[str, type[AnswerEvent]] = {
    "meta": Meta,
    "delta": Delta,
    "cited": Cited,
    "tool_call": ToolCall,
    "done": Done,
    "failed": Failed,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_decode = msgspec.json.Decoder(list[tuple[str, msgspec.Raw]]).decode
_decoders: dict[str, msgspec.json.Decoder[Any]] = {name: msgspec.json.Decoder(kind) for name, kind in _KINDS.items()}


def encode_events(events: Sequence[AnswerEvent]) -> bytes:
    return json_bytes([(_NAMES[type(event)], event) for event in events])


def decode_events(data: bytes) -> list[AnswerEvent]:
    return [_decoders[kind].decode(content) for kind, content in _decode(data)]
