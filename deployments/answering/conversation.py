"""One turn's place in its conversation: what was said and asked before, and what is kept for the turn after. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from deployments.answering.protocols import Held, InLine, Sessions
from deployments.answering.session import Session, SessionKey
from deployments.answering.types import ChatRequest
from models.protocols import ChatMessage


class Conversation:
    """Where nobody remembers anything, a conversation is what its request says."""

    def __init__(self, sessions: Sessions | None, request: ChatRequest) -> None:
        self._sessions = sessions
        self._request = request
        self._place: Held | InLine | None = None
        self._has_entered = False
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

    @property
    def is_in_line(self) -> bool:
        """Whether another turn of it comes first."""
        return isinstance(self._place, InLine)

    async def enter(self) -> None:
        """Once: joins it, or stands in line where another turn of it comes first. Raises `DependencyError`s."""
        if self._sessions is None or self._has_entered:
            return
        self._has_entered = True
        request = self._request
        if not request.is_new_conversation:
            self._place = await self._sessions.enter(self._key(request.conversation_id))
            self._join()
        else:
            if len(request.messages) > 1:
                told = await self._sessions.load(self._key(_told(request.messages[:-1])))
                self.session = told or self.session
            self._is_joined = True

    async def wait(self, wait_s: float) -> None:
        """Until the turns that come first are over. Raises `DependencyError`s."""
        place, self._place = self._place, None
        if self._sessions is not None and isinstance(place, InLine):
            self._place = await self._sessions.wait(place, wait_s)
            self._join()

    def _join(self) -> None:
        if isinstance(self._place, Held):
            self.session = self._place.session
            self._is_joined = True

    async def keep(self, session: Session, answer: str) -> None:
        """Stores what the next turn has to know, and lets it begin. Raises `DependencyError`s."""
        if self._sessions is None or not self._is_joined:
            return
        held, self._place = self._place, None
        if isinstance(held, Held):
            await self._sessions.end(held, session)
            return
        key = self._key(self._request.conversation_id)
        if session.flow is None and not session.kept:
            self._sessions.store_soon(key, session)
        else:
            await self._sessions.store(key, session)
            said = (*self._request.messages, ChatMessage("assistant", answer))
            await self._sessions.store(self._key(_told(said)), session)

    def keep_soon(self, session: Session) -> None:
        """The same of a turn that was answered at once, off the customer's clock. What cannot be stored is logged."""
        held, self._place = self._place, None
        if self._sessions is None:
            return
        if isinstance(held, Held):
            self._sessions.end_soon(held, session)
        elif self.is_fresh:
            self._sessions.store_soon(self._key(self._request.conversation_id), session)

    async def leave(self) -> None:
        """Lets the next turn begin, where this one came to no end. Raises `DependencyError`s."""
        place, self._place = self._place, None
        if self._sessions is None or place is None:
            return
        if isinstance(place, Held):
            await self._sessions.end(place, None)
        else:
            await self._sessions.give_up(place)

    def _key(self, conversation_id: str) -> SessionKey:
        return SessionKey.of(self._request.principal, conversation_id)


def _told(messages: Sequence[ChatMessage]) -> str:
    """The id of a conversation that its caller tells whole and does not name: what was said in it.

    Whoever can tell it knows it, and what is remembered of it follows from it: two that are alike do no harm.
    """
    said = "\0".join(f"{message.role}:{' '.join(message.content.split())}" for message in messages)
    return f"told:{hashlib.sha256(said.encode('utf-8', 'surrogatepass')).hexdigest()}"
