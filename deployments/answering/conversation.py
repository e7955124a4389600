"""One turn's place in its conversation: what was said and asked before, and what is kept for the turn after. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from deployments.answering.protocols import Held, Sessions
from deployments.answering.session import Session, SessionKey
from deployments.answering.types import ChatRequest, Language
from models.protocols import ChatMessage


class Conversation:
    """Where nobody remembers anything, a conversation is what its request says."""

    def __init__(self, sessions: Sessions | None, request: ChatRequest) -> None:
        self._sessions = sessions
        self._request = request
        self._held: Held | None = None
        self._is_joined = False
        self.session = Session()

    @property
    def request(self) -> ChatRequest:
        """With the turns that are remembered, where the caller sent its last message alone."""
        if len(self._request.messages) > 1:
            return self._request
        return replace(self._request, messages=(*self.session.messages, *self._request.messages))

    @property
    def is_fresh(self) -> bool:
        """Whether nobody can remember anything of it."""
        return self._sessions is None or (self._request.is_new_conversation and len(self._request.messages) == 1)

    async def join(self, wait_s: float) -> None:
        """Raises `DependencyError`s."""
        if self._sessions is None:
            return
        request = self._request
        if not request.is_new_conversation:
            self._held = await self._sessions.begin(self._key(request.conversation_id), wait_s)
            self.session = self._held.session
        elif len(request.messages) > 1:
            told = await self._sessions.load(self._key(_told(request.messages[:-1])))
            self.session = told or self.session
        self._is_joined = True

    async def keep(self, session: Session, answer: str) -> None:
        """Stores what the next turn has to know, and lets it begin. Raises `DependencyError`s."""
        if self._sessions is None or not self._is_joined:
            return
        held, self._held = self._held, None
        if held is not None:
            await self._sessions.end(held, session)
            return
        key = self._key(self._request.conversation_id)
        if session.flow is None and not session.kept:
            self._sessions.store_soon(key, session)
        else:
            await self._sessions.store(key, session)
            said = (*self._request.messages, ChatMessage("assistant", answer))
            await self._sessions.store(self._key(_told(said)), session)

    def keep_first(self, answer: str, language: Language) -> None:
        """Of a fresh conversation that was answered at once."""
        if self._sessions is not None:
            session = Session().after(self._request.text.strip(), answer, language)
            self._sessions.store_soon(self._key(self._request.conversation_id), session)

    async def leave(self) -> None:
        """Lets the next turn begin, where this one came to no end. Raises `DependencyError`s."""
        held, self._held = self._held, None
        if held is not None and self._sessions is not None:
            await self._sessions.end(held, None)

    def _key(self, conversation_id: str) -> SessionKey:
        return SessionKey.of(self._request.principal, conversation_id)


def _told(messages: Sequence[ChatMessage]) -> str:
    """The id of a conversation that its caller tells whole and does not name: what was said in it.

    Whoever can tell it knows it, and what is remembered of it follows from it: two that are alike do no harm.
    """
    said = "\0".join(f"{message.role}:{' '.join(message.content.split())}" for message in messages)
    return f"told:{hashlib.sha256(said.encode('utf-8', 'surrogatepass')).hexdigest()}"
