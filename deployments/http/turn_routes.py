"""What a client does with turns that it has asked for, and with its conversations. Each path asks whose they are."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from deployments.answering.errors import NotFoundError, RoomUnavailableError
from deployments.answering.protocols import History, Turns
from deployments.answering.types import AnswerEvent, Delta, Done, Failed, Principal
from deployments.http import turn_operations as words
from deployments.http.answers import TurnResponse, answer_of
from deployments.http.errors import BadRequestError
from deployments.http.middleware import JsonResponse, request_id_of
from deployments.http.native_wire import NativeWire
from deployments.http.registry import Operation
from deployments.http.schemas import Cancel, Feedback, after_number, check_content_type, parse_body
from deployments.http.turn_operations import (
    MOST_CONVERSATIONS,
    ConversationList,
    RememberedConversation,
    TurnReport,
)
from deployments.settings import AppSettings

_TURN_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_CONVERSATION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


class TurnEndpoints:
    """One method per path and method."""

    def __init__(self, settings: AppSettings, turns: Turns, history: History | None) -> None:
        self._settings = settings
        self._turns = turns
        self._history_room = history

    def operations(self) -> list[Operation]:
        conversation = "/v1/conversations/{conversation_id}"
        return [
            Operation(method="GET", path="/v1/turns/{turn_id}/events", endpoint=self.events, **words.EVENTS),
            Operation(method="GET", path="/v1/turns/{turn_id}", endpoint=self.turn, **words.TURN),
            Operation(method="POST", path="/v1/cancel", endpoint=self.cancel, **words.CANCEL),
            Operation(method="POST", path="/v1/feedback", endpoint=self.feedback, **words.FEEDBACK),
            Operation(method="GET", path="/v1/conversations", endpoint=self.conversations, **words.CONVERSATIONS),
            Operation(method="GET", path=conversation, endpoint=self.conversation, **words.CONVERSATION),
            Operation(method="DELETE", path=conversation, endpoint=self.forget, **words.FORGET),
        ]

    async def events(self, request: Request) -> Response:
        """The rest of a turn's stream: what came after the event that the client names, then what comes."""
        after = after_number(request.headers, request.query_params)
        return TurnResponse(
            self._turns.resume(_principal(request), _turn_id(request), after),
            NativeWire(after),
            request_id=request_id_of(request.scope),
            stream=True,
            http=self._settings.http,
            resumes=True,
        )

    async def turn(self, request: Request) -> Response:
        return await self._report(_principal(request), _turn_id(request))

    async def cancel(self, request: Request) -> Response:
        check_content_type(request.headers)
        body = parse_body(Cancel, await request.body())
        await self._turns.cancel(_principal(request), body.turn_id)
        return await self._report(_principal(request), body.turn_id)

    async def feedback(self, request: Request) -> Response:
        check_content_type(request.headers)
        body = parse_body(Feedback, await request.body())
        await self._history.rate(_principal(request), body.turn_id, body.rating, body.comment)
        return Response(status_code=204)

    async def conversations(self, request: Request) -> Response:
        found = await self._history.conversations(_principal(request), _limit(request))
        return JsonResponse(ConversationList(found))

    async def conversation(self, request: Request) -> Response:
        conversation_id = _matched(request, "conversation_id", _CONVERSATION_ID)
        session = await self._history.conversation(_principal(request), conversation_id)
        return JsonResponse(RememberedConversation(conversation_id, session.language, session.messages))

    async def forget(self, request: Request) -> Response:
        await self._history.forget(_principal(request), _matched(request, "conversation_id", _CONVERSATION_ID))
        return Response(status_code=204)

    async def _report(self, principal: Principal, turn_id: str) -> Response:
        return JsonResponse(_report(turn_id, await self._turns.events_so_far(principal, turn_id)))

    @property
    def _history(self) -> History:
        if self._history_room is None:
            raise RoomUnavailableError
        return self._history_room


def _report(turn_id: str, events: Sequence[AnswerEvent]) -> TurnReport:
    last = events[-1] if events else None
    text = "".join(event.text for event in events if isinstance(event, Delta))
    if isinstance(last, Failed):
        return TurnReport(turn_id, "failed", text, len(events), None, last)
    if isinstance(last, Done):
        return TurnReport(turn_id, "done", text, len(events), NativeWire().document(answer_of(events)), None)
    return TurnReport(turn_id, "running", text, len(events), None, None)


def _principal(request: Request) -> Principal:
    principal: Principal = request.scope["state"]["principal"]
    return principal


def _turn_id(request: Request) -> str:
    return _matched(request, "turn_id", _TURN_ID)


def _matched(request: Request, name: str, pattern: re.Pattern[str]) -> str:
    """What cannot be an id of ours is not there."""
    value: str = request.path_params[name]
    if not pattern.fullmatch(value):
        raise NotFoundError
    return value


def _limit(request: Request) -> int:
    value = request.query_params.get("limit", "20")
    if not (value.isascii() and value.isdecimal() and 1 <= int(value[:9]) <= MOST_CONVERSATIONS):
        raise BadRequestError(f"A limit is a whole number from 1 to {MOST_CONVERSATIONS}.", param="limit")
    return int(value)
