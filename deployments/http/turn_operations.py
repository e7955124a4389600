"""What the paths of `turn_routes.py` take and give, for the registry. No behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from deployments.answering.errors import EventsGoneError, NotFoundError, RoomUnavailableError
from deployments.answering.protocols import ConversationSummary
from deployments.answering.types import Failed, Language
from deployments.http.native_wire import NativeAnswer
from deployments.http.operations import NATIVE_EVENTS, NATIVE_STREAM, Words
from deployments.http.registry import EventStream, Parameter, Reply
from deployments.http.schemas import Cancel, Feedback
from models.protocols import ChatMessage, ToolCall

MOST_CONVERSATIONS = 100
TurnState = Literal["running", "done", "failed"]


@dataclass(frozen=True, slots=True)
class TurnReport:
    """A turn as it is now."""

    id: str
    state: TurnState
    text: str  # so far
    last_event: int  # the number of its last event: after it the turn can be followed
    answer: NativeAnswer | None  # the whole answer, once it is done
    error: Failed | None  # why it failed


@dataclass(frozen=True, slots=True)
class ConversationList:
    conversations: Sequence[ConversationSummary]


@dataclass(frozen=True, slots=True)
class RememberedConversation:
    conversation_id: str
    language: Language | None
    messages: Sequence[ChatMessage]  # oldest first


_TURN_ID = Parameter("turn_id", "path", "The turn's id, from its `meta`.", example="4f1c0a")
_CONVERSATION_ID = Parameter("conversation_id", "path", "The conversation's id, from a `meta`.", example="c81d5a")

EVENTS: Words = {
    "name": "resumeTurn",
    "tag": "Turns",
    "summary": "The rest of a stream that was cut off",
    "description": """\
What came after the event that the client has, then what still comes. Any replica serves it, while the turn runs and for
some minutes after. Of a chat completion with `tools` there are `tool_call`s, too. A turn that nobody reads is cancelled
after a while (`turns.grace_s`). `204`: there is no more.""",
    "parameters": [
        _TURN_ID,
        Parameter("Last-Event-ID", "header", "The `id` of the last event that the client has; none: all.", example="2"),
        Parameter("after", "query", "The same, for who cannot set headers.", example="2"),
    ],
    "replies": [
        Reply("The events.", [EventStream({**NATIVE_EVENTS, "tool_call": ToolCall}, NATIVE_STREAM)]),
        Reply("The client has them all.", status=204),
    ],
    "errors": (NotFoundError, EventsGoneError, RoomUnavailableError),
}

TURN: Words = {
    "name": "getTurn",
    "tag": "Turns",
    "summary": "How far a turn is",
    "parameters": [_TURN_ID],
    "replies": [Reply("As it is now.", [TurnReport])],
    "errors": (NotFoundError, EventsGoneError, RoomUnavailableError),
}

CANCEL: Words = {
    "name": "cancelTurn",
    "tag": "Turns",
    "summary": "End a turn",
    "description": "Whichever replica runs it. One that is over stays as it is.",
    "body": Cancel,
    "examples": {"a turn": {"turn_id": "4f1c0a"}},
    "replies": [Reply("The turn afterwards.", [TurnReport])],
    "errors": (NotFoundError, EventsGoneError, RoomUnavailableError),
}

FEEDBACK: Words = {
    "name": "rateTurn",
    "tag": "Turns",
    "summary": "Say whether an answer helped",
    "description": "The last word on a turn counts. An answer that did not help is not given again to anybody.",
    "body": Feedback,
    "examples": {"it did not": {"turn_id": "4f1c0a", "rating": "down", "comment": "The price is an old one."}},
    "replies": [Reply("It is noted.", status=204)],
    "errors": (NotFoundError, RoomUnavailableError),
}

CONVERSATIONS: Words = {
    "name": "listConversations",
    "tag": "Conversations",
    "summary": "Conversations that are remembered",
    "description": "Those of the key that asks, the newest first.",
    "parameters": [
        Parameter("limit", "query", f"How many at most, 1 to {MOST_CONVERSATIONS}; 20.", kind=int, example=20)
    ],
    "replies": [Reply("The conversations.", [ConversationList])],
    "errors": (RoomUnavailableError,),
}

CONVERSATION: Words = {
    "name": "getConversation",
    "tag": "Conversations",
    "summary": "What is remembered of one",
    "parameters": [_CONVERSATION_ID],
    "replies": [Reply("The conversation.", [RememberedConversation])],
    "errors": (NotFoundError, RoomUnavailableError),
}

FORGET: Words = {
    "name": "deleteConversation",
    "tag": "Conversations",
    "summary": "Forget one",
    "description": "A turn that runs in it ends first. The operator's log of turns has rules of its own.",
    "parameters": [_CONVERSATION_ID],
    "replies": [Reply("It is forgotten.", status=204)],
    "errors": (NotFoundError, RoomUnavailableError),
}
