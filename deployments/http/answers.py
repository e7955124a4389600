"""How one turn becomes one HTTP response, whatever the wire format: streamed, or collected into one document."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import anyio
import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from deployments.answering.errors import InternalError
from deployments.answering.protocols import ReadyEvents
from deployments.answering.types import AnswerEvent, Citation, Cited, Delta, Done, Failed, Meta
from deployments.http.errors import FailedTurnError, internal_error, public_error
from deployments.http.middleware import JsonResponse
from deployments.http.sse import HEADERS, ClientGoneError, EventStream, until_disconnected
from deployments.settings import HttpSettings
from models.protocols import ToolCall

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete turn."""

    meta: Meta
    text: str
    citations: tuple[Citation, ...]
    calls: tuple[ToolCall, ...]
    done: Done


LiveEvent = Meta | Delta | Cited | ToolCall | Done


class Wire(Protocol):
    """A wire format, for one turn."""

    def frames(self, event: AnswerEvent) -> list[bytes]:
        """What this event puts on the stream."""

    def document(self, answer: Answer) -> Any:
        """The turn as one JSON document."""


class TurnResponse(Response):
    """Sends the events of one turn. The turn's block is left as soon as the client has gone.

    The first event is awaited before any status is sent, so that a turn that cannot begin is a proper HTTP error;
    errors after that are the stream's last event.
    """

    def __init__(
        self,
        opening: AbstractAsyncContextManager[AsyncIterator[AnswerEvent]],
        wire: Wire,
        *,
        request_id: str,
        stream: bool,
        http: HttpSettings,
        headers: Mapping[str, str] | None = None,
        resumes: bool = False,
    ) -> None:
        """opening: `Turns.open(…)` or `Turns.resume(…)`. resumes: the turn has begun before, whatever comes now."""
        self._opening = opening
        self._wire = wire
        self._request_id = request_id
        self._streams = stream
        self._resumes = resumes
        self._http = http
        self._extra_headers = dict(headers or {})
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response: Response | None = None
        async with self._opening as events:
            if isinstance(events, ReadyEvents):
                response = self._ready(events.all)
            else:
                async with until_disconnected(receive) as cancel_scope:
                    if self._streams:
                        await self._stream(events, send, cancel_scope)
                    else:
                        response = self._document(await _collected(events))
        if response is not None:
            await response(scope, receive, send)

    def _ready(self, events: Sequence[AnswerEvent]) -> Response:
        """There is nothing to wait for: a stream goes out as one piece, too."""
        if not events:
            return Response(status_code=204)  # all has been said: an EventSource does not come back after that
        live = [] if self._resumes else [_live(event) for event in events]
        if not self._streams:
            return self._document(live)
        frames = [data for event in events for data in self._wire.frames(event)]
        return Response(b"".join(frames), headers=HEADERS | self._extra_headers)

    def _document(self, events: Sequence[LiveEvent]) -> JsonResponse:
        return JsonResponse(self._wire.document(answer_of(events)), headers=self._extra_headers)

    async def _stream(self, events: AsyncIterator[AnswerEvent], send: Send, cancel_scope: anyio.CancelScope) -> None:
        first = None if self._resumes else await _next_live(events)
        stream = EventStream(
            send, cancel_scope, heartbeat_s=self._http.heartbeat_s, send_timeout_s=self._http.send_timeout_s
        )
        try:
            async with stream.started(self._extra_headers):
                await self._write_all(first or await self._next(events), events, stream)
        except ClientGoneError:
            pass  # the reason is on the stream, as it is when a heartbeat found out
        finally:
            if stream.cut_reason:
                log.info("client_gone", reason=stream.cut_reason, request_id=self._request_id)

    async def _write_all(self, first: AnswerEvent, events: AsyncIterator[AnswerEvent], stream: EventStream) -> None:
        event = first
        while True:
            for data in self._wire.frames(event):
                await stream.write(data)
            if isinstance(event, Done | Failed):
                return
            event = await self._next(events)

    async def _next(self, events: AsyncIterator[AnswerEvent]) -> AnswerEvent:
        """The next event; whatever goes wrong now can only be told as one."""
        try:
            return await _next_live(events)
        except Exception as error:
            foreseen = public_error(error)
            if foreseen is None or isinstance(error, InternalError):
                log.exception("turn_broke_off", request_id=self._request_id)
            if isinstance(error, FailedTurnError):
                return error.event
            return (foreseen or internal_error()).failed(self._request_id)


async def _next_live(events: AsyncIterator[AnswerEvent]) -> LiveEvent:
    """The next event of a turn that is not over. Raises `FailedTurnError` for a `Failed`."""
    async for event in events:
        return _live(event)
    raise InternalError("The answer ended before it was complete.")


def _live(event: AnswerEvent) -> LiveEvent:
    if isinstance(event, Failed):
        raise FailedTurnError(event)
    return event


async def _collected(events: AsyncIterator[AnswerEvent]) -> list[LiveEvent]:
    """All of a turn, the `Done` included."""
    seen: list[LiveEvent] = []
    while not seen or not isinstance(seen[-1], Done):
        seen.append(await _next_live(events))
    return seen


def answer_of(events: Sequence[AnswerEvent]) -> Answer:
    """All of a turn that was answered."""
    meta, done = events[0], events[-1]
    if not isinstance(meta, Meta) or not isinstance(done, Done):
        raise InternalError("The answer had no beginning, or no end.")
    text = "".join(event.text for event in events if isinstance(event, Delta))
    citations = tuple(event.citation for event in events if isinstance(event, Cited))
    calls = tuple(event for event in events if isinstance(event, ToolCall))
    return Answer(meta, text, citations, calls, done)
