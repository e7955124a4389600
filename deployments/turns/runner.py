"""Runs turns in tasks of the application's own.

Serve cancels everything that a request started when its customer leaves. A turn must still be recorded then, so it
runs in a task with a context of its own, and is cancelled by us: the model stops, the record is written.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager

import structlog

from deployments.answering.errors import DeadlineExceededError, InternalError, OverloadedError, RaydeskError
from deployments.answering.pipeline import Pipeline, Turn
from deployments.answering.protocols import AppStatus, ReadyEvents
from deployments.answering.types import AnswerEvent, ChatRequest, Done, Failed, TurnRecord
from deployments.turns.recorder import Recorder

log = structlog.get_logger(__name__)


class TurnRunner:
    def __init__(
        self,
        pipeline: Pipeline,
        recorder: Recorder,
        *,
        max_turns: int,
        event_buffer: int,
        turn_timeout_s: float,
        status: Callable[[], AppStatus],
        on_end: Callable[[TurnRecord], None] = lambda _: None,
    ) -> None:
        self._pipeline = pipeline
        self._recorder = recorder
        self._max_turns = max_turns
        self._event_buffer = event_buffer
        self._turn_timeout_s = turn_timeout_s
        self._status = status
        self._on_end = on_end
        self._tasks: set[asyncio.Task[None]] = set()

    def status(self) -> AppStatus:
        return self._status()

    @property
    def running(self) -> int:
        return len(self._tasks)

    @asynccontextmanager
    async def open(self, request: ChatRequest) -> AsyncIterator[AsyncIterator[AnswerEvent]]:
        if len(self._tasks) >= self._max_turns:
            raise OverloadedError()
        version = await self._pipeline.check(request)
        record = _new_record(request)
        turn = self._pipeline.turn(request, record, version)
        if (answer := await self._at_once(turn, request, record)) is not None:
            yield ReadyEvents(answer)
            return
        events: asyncio.Queue[AnswerEvent] = asyncio.Queue(self._event_buffer)
        task = asyncio.get_running_loop().create_task(
            self._run(turn, request, record, events), name=f"turn {request.turn_id}", context=contextvars.Context()
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            yield _until_end(events)
        finally:
            task.cancel()  # does nothing to a turn that has ended

    async def stop(self) -> None:
        """Cancels what still runs; each turn is recorded on its way out."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _at_once(self, turn: Turn, request: ChatRequest, record: TurnRecord) -> Sequence[AnswerEvent] | None:
        """In the request's own task, which is cheaper: a stored answer has nothing to stop when its customer leaves."""
        answer: Sequence[AnswerEvent] | None = None
        try:
            answer = await turn.at_once()
        except asyncio.CancelledError:
            record.outcome, record.finish_reason = "disconnected", "cancelled"
            self._end(turn, record)
            raise
        except Exception as error:
            answer = [_failure(error, request, record)]
        if answer is not None:
            self._end(turn, record)
        return answer

    async def _run(
        self, turn: Turn, request: ChatRequest, record: TurnRecord, events: asyncio.Queue[AnswerEvent]
    ) -> None:
        try:
            async with asyncio.timeout(self._turn_timeout_s), aclosing(turn.events()) as answer:
                async for event in answer:
                    await events.put(event)
        except asyncio.CancelledError:
            record.outcome, record.finish_reason = "disconnected", "cancelled"
            raise
        except Exception as error:  # the last catcher of a turn: every fault becomes a well-formed event and a row
            await events.put(_failure(error, request, record))
        finally:
            self._end(turn, record)

    def _end(self, turn: Turn, record: TurnRecord) -> None:
        record.duration_ms = record.duration_ms or turn.elapsed_ms()
        self._recorder.put(record)
        self._on_end(record)


async def _until_end(events: asyncio.Queue[AnswerEvent]) -> AsyncIterator[AnswerEvent]:
    while True:
        event = await events.get()
        yield event
        if isinstance(event, Done | Failed):
            return


def _as_raydesk(error: Exception) -> RaydeskError:
    if isinstance(error, TimeoutError):
        return DeadlineExceededError()
    return error if isinstance(error, RaydeskError) else InternalError()


def _failure(error: Exception, request: ChatRequest, record: TurnRecord) -> Failed:
    """As an event, and noted in the turn's record and in the log."""
    failure = _as_raydesk(error)
    record.outcome, record.finish_reason, record.error_code = "failed", "error", failure.code
    log.error("turn_failed", request_id=request.request_id, code=failure.code, exc_info=error)
    return _failed(failure, request)


def _failed(error: RaydeskError, request: ChatRequest) -> Failed:
    # The class's own sentence: an instance's message may name hosts and paths.
    return Failed(error.code, type(error)().message, error.retryable, request.request_id, error.retry_after_s)


def _new_record(request: ChatRequest) -> TurnRecord:
    return TurnRecord(
        turn_id=request.turn_id,
        request_id=request.request_id,
        conversation_id=request.conversation_id,
        tenant=request.principal.tenant,
        key_id=request.principal.key_id,
        channel=request.channel,
        collection=request.collection,
        started_at_s=time.time(),
        question=request.text,
    )
