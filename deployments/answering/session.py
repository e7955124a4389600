"""What is remembered of one conversation between its turns. Values only; the room that keeps them is `sessions.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from deployments.answering.types import Language, Principal
from models.protocols import ChatMessage


@dataclass(frozen=True, slots=True)
class SessionKey:
    """Whose conversation: the id alone comes from the caller, so it never opens another principal's conversation."""

    tenant: str
    key_id: str
    conversation_id: str

    @classmethod
    def of(cls, principal: Principal, conversation_id: str) -> SessionKey:
        return cls(principal.tenant, principal.key_id, conversation_id)

    def text(self) -> str:
        """Unambiguous: every part is length-prefixed, so that no two keys can collide."""
        return "|".join(f"{len(part)}:{part}" for part in (self.tenant, self.key_id, self.conversation_id))


@dataclass(frozen=True, slots=True)
class FlowState:
    """A flow in which the customer stands, or which ended with the turn before (`asked` is "")."""

    rule: str  # its name
    question: str  # the customer's words that began it
    values: Mapping[str, str] = field(default_factory=dict)  # slot, or `tool.field` → canonical value
    asked: str = ""  # the slot that the customer was asked for
    tries: int = 0  # answers to it that could not be
    asides: int = 0  # other things that were asked instead of answering


@dataclass(frozen=True, slots=True)
class Session:
    messages: tuple[ChatMessage, ...] = ()  # customer's and ours in turns, oldest first
    language: Language | None = None  # of the last turn
    flow: FlowState | None = None
    kept: Mapping[str, str] = field(default_factory=dict)  # slots that outlive their flow

    def after(self, question: str, answer: str, language: Language) -> Session:
        said = (ChatMessage("user", question), ChatMessage("assistant", answer))
        return Session((*self.messages, *said), language, self.flow, self.kept)

    def bounded(self, max_turns: int, max_message_chars: int) -> Session:
        """The newest turns, long messages cut."""
        newest = self.messages[-2 * max_turns :] if max_turns else ()
        cut = (ChatMessage(message.role, message.content[:max_message_chars]) for message in newest)
        return Session(tuple(cut), self.language, self.flow, self.kept)
