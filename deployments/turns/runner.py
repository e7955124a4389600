"""Runs turns in tasks of the application's own, and lets their customers come back to them.

Serve cancels everything that a request started when its customer leaves. A turn must still be recorded then, and may be
asked for again, so it runs in a task with a context of its own, and is cancelled by us: the model stops, the record is
written. What it says goes to its readers and, off their clock, to the log of events, from which any other ingress
replica serves who comes back there.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import lru_cache

import structlog

from deployments.answering.background import Background
from deployments.answering.errors import (
    DeadlineExceededError,
    IdempotencyConflictError,
    InternalError,
    NotFoundError,
    OverloadedError,
    RaydeskError,
    RoomUnavailableError,
    TurnLostError,
)
from deployments.answering.pipeline import Pipeline, Turn
from deployments.answering.protocols import AppStatus, Claim, EventLog, ReadyEvents
from deployments.answering.types import AnswerEvent, ChatRequest, Failed, Principal, TurnRecord
from deployments.settings import TurnSettings
from deployments.turns.follower import Follower
from deployments.turns.live import LiveTurn
from deployments.turns.recorder import Recorder

log = structlog.get_logger(__name__)

PATIENCE_S = 2.0  # for a turn that nobody knows: another replica, which is busy, may be about to write it
TURN_ID = re.compile(r"[0-9a-f]{32}")  # as the ingress makes them: no other id is waited for
CANCEL_WAIT_S = 2.0  # that a caller waits for a turn to have ended


class TurnRunner:
    def __init__(
        self,
        pipeline: Pipeline,
        recorder: Recorder,
        *,
        max_turns: int,
        turn_timeout_s: float,
        status: Callable[[], AppStatus],
        on_end: Callable[[TurnRecord], None] = lambda _: None,
        events: EventLog | None = None,
        limits: TurnSettings | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._recorder = recorder
        self._max_turns = max_turns
        self._turn_timeout_s = turn_timeout_s
        self._status = status
        self._on_end = on_end
        self._log = events
        self._limits = limits or TurnSettings()
        self._live: dict[str, LiveTurn] = {}  # by id: those that run, and those that ended moments ago
        self._tasks: set[asyncio.Task[None]] = set()  # turns that run
        self._unheard: dict[str, Turn] = {}  # those of them that have said nothing yet, by id
        self._begun_ever = 0
        self._background = Background()

    def status(self) -> AppStatus:
        return self._status()

    @property
    def running(self) -> int:
        return len(self._tasks)

    def waiting(self) -> tuple[int, int]:
        """(turns that wait for a part of ours now, all that ever began and did not end at once)."""
        return sum(turn.waits for turn in self._unheard.values()), self._begun_ever

    async def start(self) -> None:
        if self._log is not None:
            await self._log.start(self._cancel_own)

    async def stop(self) -> None:
        """Cancels what still runs; each turn is recorded on its way out, and its readers are told to ask again."""
        tasks = list(self._tasks)
        for live in self._live.values():
            live.cancel(TurnLostError)
            if live.farewell is not None:
                live.farewell.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._background.ended()

    # --- asking ---

    def open(self, request: ChatRequest) -> AbstractAsyncContextManager[AsyncIterator[AnswerEvent]]:
        return self._begun(request) if request.repeatable is None else self._once(request)

    @asynccontextmanager
    async def _once(self, request: ChatRequest) -> AsyncIterator[AsyncIterator[AnswerEvent]]:
        """A turn of this request's own, unless it came before."""
        claim = await self._claimed(request)
        while claim is not None and claim.turn_id != request.turn_id:
            async with self._joined(claim, request) as events:
                if events is not None:
                    yield events
                    return
            claim = await self._claimed(request, instead_of=claim)
        async with self._begun(request) as events:
            yield events

    @asynccontextmanager
    async def _begun(self, request: ChatRequest) -> AsyncIterator[AsyncIterator[AnswerEvent]]:
        """A turn of this request's own."""
        try:
            if len(self._tasks) >= self._max_turns:
                raise OverloadedError()
            version = await self._pipeline.check(request)
        except BaseException as error:
            self._refuse(request, error)
            raise
        record = self._new_record(request)
        turn = self._pipeline.turn(request, record, version)
        if (answer := await self._at_once(turn, request, record)) is not None:
            self._keep_whole(request, _name(request.principal), answer)
            yield ReadyEvents(answer)
            return
        async with self._reading(self._launch(turn, request, record), 0) as events:
            yield events

    def _launch(self, turn: Turn, request: ChatRequest, record: TurnRecord) -> LiveTurn:
        live = self._live[request.turn_id] = LiveTurn(request, _name(request.principal))
        live.task = asyncio.get_running_loop().create_task(
            self._run(turn, live, record), name=f"turn {request.turn_id}", context=contextvars.Context()
        )
        self._tasks.add(live.task)
        self._unheard[request.turn_id] = turn
        self._begun_ever += 1
        live.task.add_done_callback(self._tasks.discard)
        return live

    @asynccontextmanager
    async def _reading(self, live: LiveTurn, after: int) -> AsyncIterator[AsyncIterator[AnswerEvent]]:
        live.readers += 1
        if live.farewell is not None:
            live.farewell.cancel()
        try:
            yield live.read(after)
        finally:
            live.readers -= 1
            if not live.readers and not live.is_over:
                if live.can_return:
                    live.farewell = self._background.begin(self._await_return(live))
                else:
                    live.cancel()

    async def _await_return(self, live: LiveTurn) -> None:
        """Cancels a turn that nobody reads, here or at another replica, for its time for returning."""
        left_s = self._limits.grace_s
        while left_s > 0:
            await asyncio.sleep(left_s)
            try:
                left_s = 0.0 if self._log is None else await self._log.stays_s(live.request.turn_id)
            except RoomUnavailableError:
                left_s = 0.0  # nobody can read it elsewhere
        live.cancel()

    async def _at_once(self, turn: Turn, request: ChatRequest, record: TurnRecord) -> Sequence[AnswerEvent] | None:
        """In the request's own task, which is cheaper: a stored answer has nothing to stop when its customer leaves."""
        answer: Sequence[AnswerEvent] | None = None
        try:
            answer = await turn.at_once()
        except asyncio.CancelledError:
            record.outcome, record.finish_reason = "disconnected", "cancelled"
            self._refuse(request, TurnLostError())
            self._end(turn, record)
            raise
        except Exception as error:
            answer = [self._failure(error, request, record)]
        if answer is not None:
            self._end(turn, record)
        return answer

    async def _run(self, turn: Turn, live: LiveTurn, record: TurnRecord) -> None:
        try:
            async with asyncio.timeout(self._turn_timeout_s), aclosing(turn.events()) as answer:
                async for event in answer:
                    self._say(live, event)
        except asyncio.CancelledError:
            record.outcome, record.finish_reason = "disconnected", "cancelled"
            self._say(live, _failed(live.ended_by(), live.request))
            raise
        except Exception as error:  # the last catcher of a turn: every fault becomes a well-formed event and a row
            self._say(live, self._failure(error, live.request, record))
        finally:
            self._unheard.pop(live.request.turn_id, None)
            self._end(turn, record)
            asyncio.get_running_loop().call_later(self._limits.grace_s, self._live.pop, live.request.turn_id, None)

    def _say(self, live: LiveTurn, event: AnswerEvent) -> None:
        if not live.events:
            self._unheard.pop(live.request.turn_id, None)
        live.say(event)
        request = live.request
        if request.can_return or request.repeatable is not None:
            self._keep(request, live.reader, len(live.events), [event])
        elif live.is_over:
            self._keep_whole(request, live.reader, live.events)

    def _end(self, turn: Turn, record: TurnRecord) -> None:
        record.duration_ms = record.duration_ms or turn.elapsed_ms()
        self._recorder.put(record)
        self._on_end(record)
        turn.spans.end(record)

    def _new_record(self, request: ChatRequest) -> TurnRecord:
        record = _new_record(request)
        wants_it = request.can_return or request.repeatable is not None
        if wants_it and self._log is not None and not self._log.is_up:
            record.degraded.append("resume:down")
        return record

    # --- asking again ---

    async def _claimed(self, request: ChatRequest, instead_of: Claim | None = None) -> Claim | None:
        """Which turn answers this request; None where it cannot be repeated, or nobody can tell."""
        if self._log is None or request.repeatable is None:
            return None
        own = Claim(request.turn_id, self._log.owner, request.repeatable.body_sha256)
        try:
            stands = await self._log.claim(_claim_name(request), own, instead_of)
        except RoomUnavailableError:
            return None
        except asyncio.CancelledError:  # it may have been written
            self._background.begin(self._unclaim(request))
            raise
        if stands.body_sha256 != own.body_sha256:
            raise IdempotencyConflictError
        return stands

    @asynccontextmanager
    async def _joined(self, claim: Claim, request: ChatRequest) -> AsyncIterator[AsyncIterator[AnswerEvent] | None]:
        """The events of an earlier request's turn, from the first on; None where it is gone without an end."""
        live = self._live.get(claim.turn_id)
        if live is not None and live.is_over:
            yield ReadyEvents(live.events)
            return
        if live is not None:
            async with self._reading(live, 0) as events:
                yield events
            return
        assert self._log is not None
        follower = Follower(self._log, self._limits, claim.turn_id, _name(request.principal), 0, claim.owner)
        is_known = await follower.look_for_begin(self._turn_timeout_s)
        if not is_known or (not follower.is_over and not await self._log.is_alive(follower.owner)):
            yield None
        else:
            yield _events_of(follower)

    @asynccontextmanager
    async def resume(self, principal: Principal, turn_id: str, after: int) -> AsyncIterator[AsyncIterator[AnswerEvent]]:
        live = self._own(principal, turn_id)
        if live is None:
            yield _events_of(await self._found(principal, turn_id, after))
        elif live.is_over:
            yield ReadyEvents(live.events[after:])
        else:
            async with self._reading(live, after) as events:
                yield events

    async def events_so_far(self, principal: Principal, turn_id: str) -> Sequence[AnswerEvent]:
        live = self._own(principal, turn_id)
        return live.events if live is not None else (await self._found(principal, turn_id, 0)).found

    async def cancel(self, principal: Principal, turn_id: str) -> None:
        live = self._own(principal, turn_id)
        if live is not None:
            live.cancel()
            if live.task is not None:
                await asyncio.wait([live.task], timeout=CANCEL_WAIT_S)
            return
        follower = await self._found(principal, turn_id, 0)
        if not follower.is_over and self._log is not None:
            await self._log.ask_to_cancel(turn_id, follower.owner)
            deadline = asyncio.get_running_loop().time() + CANCEL_WAIT_S
            while not follower.is_over and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(self._limits.poll_interval_s)
                await follower.look()

    def _own(self, principal: Principal, turn_id: str) -> LiveTurn | None:
        """A turn of this replica; raises `NotFoundError` for another principal's."""
        live = self._live.get(turn_id)
        if live is not None and live.reader != _name(principal):
            raise NotFoundError
        return live

    async def _found(self, principal: Principal, turn_id: str, after: int) -> Follower:
        if self._log is None:
            raise NotFoundError
        follower = Follower(self._log, self._limits, turn_id, _name(principal), after)
        if not await follower.look_for(PATIENCE_S if TURN_ID.fullmatch(turn_id) else 0.0):
            raise NotFoundError
        return follower

    def _cancel_own(self, turn_id: str) -> None:
        if (live := self._live.get(turn_id)) is not None:
            live.cancel()

    # --- what is kept for who comes back ---

    def _keep(self, request: ChatRequest, reader: str, first: int, events: Sequence[AnswerEvent]) -> None:
        """reader: opaque name of the request's principal."""
        if self._log is None:
            return
        is_repeatable = request.repeatable is not None
        self._log.keep(request.turn_id, reader, first, events, is_repeatable=is_repeatable)
        if is_repeatable and isinstance(events[-1], Failed):  # it was not answered: the next try is a turn of its own
            self._background.begin(self._unclaim(request))

    def _keep_whole(self, request: ChatRequest, reader: str, events: Sequence[AnswerEvent]) -> None:
        if request.repeatable is not None:
            self._keep(request, reader, 1, events)
        elif self._log is not None:
            self._log.keep_whole(request.turn_id, reader, events)

    def _refuse(self, request: ChatRequest, error: BaseException) -> None:
        """Tells those who sent the same request, and wait for this one's turn, that it will not be."""
        if request.repeatable is not None:
            known = error if isinstance(error, RaydeskError) else TurnLostError()
            self._keep(request, _name(request.principal), 1, [_failed(known, request)])

    async def _unclaim(self, request: ChatRequest) -> None:
        if self._log is None or request.repeatable is None:
            return
        claim = Claim(request.turn_id, self._log.owner, request.repeatable.body_sha256)
        try:
            await self._log.unclaim(_claim_name(request), claim)
        except RoomUnavailableError as error:  # it ends with its time to live
            log.warning("claim_not_released", request_id=request.request_id, error=str(error)[:300])

    @staticmethod
    def _failure(error: Exception, request: ChatRequest, record: TurnRecord) -> Failed:
        """As an event, and noted in the turn's record and in the log."""
        failure = _as_raydesk(error)
        record.outcome, record.finish_reason, record.error_code = "failed", "error", failure.code
        log.error("turn_failed", request_id=request.request_id, code=failure.code, exc_info=error)
        return _failed(failure, request)


def _events_of(follower: Follower) -> AsyncIterator[AnswerEvent]:
    return ReadyEvents(follower.found) if follower.is_over else follower.events()


def _as_raydesk(error: Exception) -> RaydeskError:
    if isinstance(error, TimeoutError):
        return DeadlineExceededError()
    return error if isinstance(error, RaydeskError) else InternalError()


def _failed(error: RaydeskError, request: ChatRequest) -> Failed:
    # The class's own sentence: an instance's message may name hosts and paths.
    return Failed(error.code, type(error)().message, error.retryable, request.request_id, error.retry_after_s)


@lru_cache(maxsize=1024)
def _name(principal: Principal) -> str:
    """Opaque; unambiguous, since both parts are length-prefixed."""
    text = f"{len(principal.tenant)}:{principal.tenant}|{principal.key_id}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _claim_name(request: ChatRequest) -> str:
    assert request.repeatable is not None
    return hashlib.sha256(f"{_name(request.principal)}|{request.repeatable.key}".encode()).hexdigest()


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
