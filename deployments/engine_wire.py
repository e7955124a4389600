"""What goes to an engine and comes from it, in OpenAI's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models.protocols import ChatMessage, ToolCall, ToolCallDelta, ToolCallsMessage, ToolResultMessage


class EngineRequest(dict[str, Any]):
    """The body of an OpenAI chat completion, which a router that looks at prompts can look into."""

    @property
    def messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = self["messages"]
        return messages


def wire_messages(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    return [_wire_message(message) for message in messages]


def _wire_message(message: ChatMessage) -> dict[str, Any]:
    plain = {"role": message.role, "content": message.content}
    match message:
        case ToolCallsMessage(calls=calls):
            return plain | {"tool_calls": [wire_call(call) for call in calls]}
        case ToolResultMessage(call_id=call_id):
            return plain | {"tool_call_id": call_id}
        case _:
            return plain


def wire_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def message_of(wire: Mapping[str, Any]) -> ChatMessage:
    role, content = wire["role"], wire.get("content") or ""
    if calls := wire.get("tool_calls"):
        return ToolCallsMessage(role, content, tuple(call_of(call) for call in calls))
    if (call_id := wire.get("tool_call_id")) is not None:
        return ToolResultMessage(role, content, call_id)
    return ChatMessage(role, content)


def call_of(wire: Mapping[str, Any]) -> ToolCall:
    return ToolCall(wire["id"], wire["function"]["name"], wire["function"]["arguments"])


def call_deltas(delta: Mapping[str, Any]) -> list[ToolCallDelta]:
    """Of the `delta` of a chunk."""
    return [_call_delta(piece, piece.get("function") or {}) for piece in delta.get("tool_calls") or ()]


def _call_delta(piece: Mapping[str, Any], function: Mapping[str, Any]) -> ToolCallDelta:
    said = (piece.get("id"), function.get("name"), function.get("arguments"))
    return ToolCallDelta(int(piece.get("index") or 0), *(text or "" for text in said))
