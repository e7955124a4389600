"""The shapes of what is sent, where no dataclass of the turn has them already. Read by the OpenAPI document.

A test holds what is really sent against them.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from deployments.answering.protocols import RoomState, TierState
from deployments.answering.resilience import BreakerState
from deployments.answering.types import Citation
from deployments.http.tool_schemas import Called


class _Reply(BaseModel):
    model_config = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, json_schema_serialization_defaults_required=True
    )


class ErrorBody(_Reply):
    code: str
    """Stable: `x-errors` lists all."""
    message: str
    request_id: str
    retryable: bool
    type: Literal[
        "invalid_request_error", "authentication_error", "permission_error", "rate_limit_error", "server_error"
    ]
    param: str | None
    """The field that is to blame, where one is."""


class ErrorReply(_Reply):
    """Every error, of every path."""

    error: ErrorBody


class Health(_Reply):
    status: Literal["ok"]


class TierReport(_Reply):
    name: str
    model_id: str
    state: TierState
    breaker: BreakerState


class Readiness(_Reply):
    ready: bool
    rooms: dict[str, RoomState]
    tiers: list[TierReport]


class TextChunk(_Reply):
    """A piece of the answer."""

    text: str


# --- OpenAI's ---


class Usage(_Reply):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AssistantMessage(_Reply):
    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    role: Literal["assistant"]
    content: str | None
    """None: it wants functions called, and says nothing besides."""
    refusal: None
    tool_calls: list[Called] | None = None
    citations: list[Citation]
    """Ours: the sources."""
    raydesk: dict[str, Any]
    """Ours: the path, and whatever else OpenAI has no word for; the fields of the native events `meta` and `done`."""


class Choice(_Reply):
    index: Literal[0]
    message: AssistantMessage
    logprobs: None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatCompletion(_Reply):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class CalledPiece(Called):
    index: int


class DeltaMessage(BaseModel):
    """A piece of the answer; the last, empty one carries our fields."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[CalledPiece] | None = None
    citations: list[Citation] | None = None
    raydesk: dict[str, Any] | None = None


class ChunkChoice(_Reply):
    index: Literal[0]
    delta: DeltaMessage
    logprobs: None
    finish_reason: Literal["stop", "length", "tool_calls"] | None


class ChatCompletionChunk(BaseModel):
    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None


class ModelCard(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["model"]
    created: int
    owned_by: Literal["raydesk"]
    raydesk: dict[str, str] | None = None
    """Ours: which tier it is, and its state."""


class ModelList(_Reply):
    object: Literal["list"]
    data: list[ModelCard]
