"""What one turn knows and has done so far; its events, each noted in its record; its time, step by step. Pure."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import cached_property
from typing import TypeVar

import structlog

from deployments.answering.errors import CallerError, DeadlineExceededError, DependencyError
from deployments.answering.in_time import in_time
from deployments.answering.query import build_query
from deployments.answering.resilience import Budget
from deployments.answering.spans import TurnSpans
from deployments.answering.types import (
    CacheScope,
    CacheTier,
    ChatRequest,
    Citation,
    Cited,
    Delta,
    Done,
    Meta,
    Path,
    Query,
    TurnRecord,
)
from deployments.logs import name_in_log
from deployments.settings import AppSettings
from models.protocols import GenerationEnd, ToolCall

log = structlog.get_logger(__name__)
T = TypeVar("T")


class TurnState:
    """What the parts of a turn share. `request`, `query` and `scope` change while it is found out what is asked."""

    def __init__(
        self,
        settings: AppSettings,
        request: ChatRequest,
        record: TurnRecord,
        budget: Budget,
        policy_version: str,
        now_s: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.request = request
        self.record = record
        self.budget = budget
        self.query: Query = build_query(request)
        self.scope = CacheScope(
            tenant=request.principal.tenant,
            audiences=request.principal.audiences,
            collection=request.collection,
            language=self.query.language,
            policy_version=policy_version,
        )
        self.waits = False  # for a part of ours: not for a model, nor for the message before it in its conversation
        self.private = ""  # why this turn's answer is one customer's alone
        self.now_s = now_s
        self.spans = TurnSpans()
        self._started = time.perf_counter()
        record.language = self.query.language

    @cached_property
    def askers(self) -> set[str]:
        """Who gets this turn's answer, as opaque names."""
        return {_asker(self.request)}

    def name_in_log(self) -> None:
        """On every line that this task logs from now on."""
        request = self.request
        name_in_log(request_id=request.request_id, turn_id=request.turn_id, tenant=request.principal.tenant)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_s(), UTC)

    # --- events, each noted in the record ---

    def begin(self, path: Path, reason: str, age_s: float | None = None, tier: CacheTier | None = None) -> Meta:
        """age_s, tier: of a stored answer."""
        request, record = self.request, self.record
        record.path, record.route_reason = path, reason
        self.waits = False
        return Meta(
            turn_id=request.turn_id,
            request_id=request.request_id,
            conversation_id=request.conversation_id,
            collection=request.collection,
            language=self.query.language,
            path=path,
            route_reason=reason,
            degraded=tuple(record.degraded),
            knowledge_version=record.knowledge_version,
            cache_age_s=age_s,
            cache_tier=tier,
        )

    def delta(self, text: str) -> Delta:
        if not self.record.answer:
            self.record.ttft_ms = self.elapsed_ms()
        self.record.answer += text
        return Delta(text)

    def cited(self, citation: Citation) -> Cited:
        self.record.citations.append(citation)
        return Cited(citation)

    def called(self, call: ToolCall) -> ToolCall:
        self.record.ttft_ms = self.record.ttft_ms or self.elapsed_ms()
        return call

    def done(self, end: GenerationEnd, *, grounded: bool) -> Done:
        record = self.record
        record.finish_reason, record.grounded = end.finish_reason, grounded
        record.input_tokens, record.output_tokens = end.input_tokens, end.output_tokens
        record.duration_ms = self.elapsed_ms()
        return Done(
            path=as_path(record.path),
            finish_reason=end.finish_reason,
            grounded=grounded,
            input_tokens=end.input_tokens,
            output_tokens=end.output_tokens,
            ttft_ms=record.ttft_ms,
            duration_ms=record.duration_ms,
            degraded=tuple(record.degraded),
        )

    # --- steps, each with its time ---

    async def timed(self, step: str, call: Awaitable[T], limit_s: float) -> T:
        """The result of `call`, its milliseconds noted; raises `DependencyError`s, also for what a room raised.

        limit_s: the step's own limit; the turn's time may leave it less.
        """
        limit_s = self.limit_s(step, limit_s)
        begun = time.perf_counter()
        try:
            with self.spans.step(step):
                return await in_time(call, limit_s)
        except TimeoutError as error:
            raise DeadlineExceededError(f"{step} took longer than {limit_s:g} s") from error
        except (DependencyError, CallerError):
            raise
        except Exception as error:  # a room's own fault must not become the customer's: it is logged by the catcher
            raise DependencyError(f"{step} failed") from error
        finally:
            spent_ms = (time.perf_counter() - begun) * 1000
            self.record.step_ms[step] = self.record.step_ms.get(step, 0.0) + spent_ms

    def limit_s(self, step: str, own_s: float) -> float:
        return self.budget.limit_s(step, own_s, time.monotonic())

    def degrade(self, what: str, error: Exception) -> None:
        # No traceback: it would say that time was up, and to print it can take longer than the time that was.
        cause = "" if error.__cause__ is None else repr(error.__cause__)[:300]
        log.warning("degraded", what=what, request_id=self.request.request_id, error=repr(error)[:300], cause=cause)
        if what not in self.record.degraded:
            self.record.degraded.append(what)

    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self._started) * 1000


def as_path(path: str) -> Path:
    return path  # type: ignore[return-value]  # the record keeps plain text for its row


def _asker(request: ChatRequest) -> str:
    """An opaque name for who asks: one conversation through one key."""
    return hashlib.sha256(f"{request.principal.key_id}|{request.conversation_id}".encode()).hexdigest()[:16]
