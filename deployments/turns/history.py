"""A principal's own past: conversations that are remembered, and what it says of answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from deployments.answering.errors import DependencyError, NotFoundError, RoomUnavailableError
from deployments.answering.pipeline import Pipeline
from deployments.answering.protocols import ConversationSummary, Rating, Sessions, TurnLog
from deployments.answering.session import Session, SessionKey
from deployments.answering.types import Principal

log = structlog.get_logger(__name__)

FIRST_MESSAGE_CHARS = 120
LOG_WAIT_S, LOG_PAUSE_S = 3.0, 0.25  # a turn comes to its log within moments, and is rated within moments


class PastTurns:
    """Which conversations there are is known to the turn log, what is remembered of them to the sessions.

    So a conversation that was forgotten, or whose time is over, is not listed.
    """

    def __init__(self, turn_log: TurnLog, sessions: Sessions | None, pipeline: Pipeline) -> None:
        self._turn_log = turn_log
        self._sessions_room = sessions
        self._pipeline = pipeline

    @property
    def _sessions(self) -> Sessions:
        if self._sessions_room is None:
            raise RoomUnavailableError("conversations are not remembered here (sessions.enabled)")
        return self._sessions_room

    async def conversations(self, principal: Principal, limit: int) -> Sequence[ConversationSummary]:
        listed = await self._turn_log.conversations(principal.tenant, principal.key_id, limit)
        keys = [SessionKey.of(principal, conversation_id) for conversation_id, _ in listed]
        sessions = await asyncio.gather(*(self._sessions.load(key) for key in keys))
        return [
            ConversationSummary(conversation_id, last_turn_at, _first_message(session), len(session.messages))
            for (conversation_id, last_turn_at), session in zip(listed, sessions, strict=True)
            if session is not None
        ]

    async def conversation(self, principal: Principal, conversation_id: str) -> Session:
        session = await self._sessions.load(SessionKey.of(principal, conversation_id))
        if session is None:
            raise NotFoundError
        return session

    async def forget(self, principal: Principal, conversation_id: str) -> None:
        wait_s = self._pipeline.settings.sessions.wait_s
        if not await self._sessions.forget(SessionKey.of(principal, conversation_id), wait_s):
            raise NotFoundError

    async def rate(self, principal: Principal, turn_id: str, rating: Rating, comment: str) -> None:
        turn = await self._turn(principal, turn_id)
        if turn is None:
            raise NotFoundError
        await self._turn_log.rate(
            {
                "turn_id": turn_id,
                "tenant": principal.tenant,
                "key_id": principal.key_id,
                "rated_at": datetime.now(UTC),
                "rating": rating,
                "comment": comment,
            }
        )
        if rating == "down":
            try:
                await self._pipeline.did_not_help(principal, turn["collection"], turn["language"], turn["question"])
            except (DependencyError, TimeoutError) as error:
                log.warning("answer_not_blocked", turn_id=turn_id, error=str(error)[:300])

    async def _turn(self, principal: Principal, turn_id: str) -> Mapping[str, Any] | None:
        deadline = asyncio.get_running_loop().time() + LOG_WAIT_S
        while True:
            turn = await self._turn_log.find(principal.tenant, principal.key_id, turn_id)
            if turn is not None or asyncio.get_running_loop().time() >= deadline:
                return turn
            await asyncio.sleep(LOG_PAUSE_S)


def _first_message(session: Session) -> str:
    return session.messages[0].content[:FIRST_MESSAGE_CHARS] if session.messages else ""
