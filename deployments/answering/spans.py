"""The spans of a turn: one for the whole of it, and one for each step, below the span of its request.

Where a request has no span that is recorded, which is so unless tracing is switched on, nothing is done. No span holds
what the customer wrote or was answered.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from opentelemetry import trace

from deployments.answering.types import TurnRecord

_TRACER = "raydesk"
_NOT_RECORDED = nullcontext()


class TurnSpans:
    """Made in the context of the request; used from any task."""

    def __init__(self) -> None:
        self._span: trace.Span | None = None
        if trace.get_current_span().is_recording():
            self._span = trace.get_tracer(_TRACER).start_span("turn")
            self._context = trace.set_span_in_context(self._span)

    def step(self, name: str) -> AbstractContextManager[None]:
        """What is called within it is below it, in other processes, too: Serve takes the context along."""
        return _NOT_RECORDED if self._span is None else self._recorded(name)

    @contextmanager
    def _recorded(self, name: str) -> Iterator[None]:
        with trace.get_tracer(_TRACER).start_as_current_span(
            name, context=self._context, record_exception=False, set_status_on_exception=True
        ) as span:
            try:
                yield
            except BaseException as error:
                # The class alone: a message may hold what the customer wrote.
                span.set_status(trace.StatusCode.ERROR, type(error).__name__)
                raise

    def end(self, record: TurnRecord) -> None:
        if self._span is None:
            return
        told: dict[str, str | float | list[str]] = {
            "turn_id": record.turn_id,
            "request_id": record.request_id,
            "tenant": record.tenant,
            "collection": record.collection,
            "knowledge_version": record.knowledge_version,
            "language": record.language,
            "path": record.path,
            "tier": record.path if record.path in ("small", "large", "cloud") else "",
            "cache_tier": record.cache_tier,
            "outcome": record.outcome,
            "error_code": record.error_code,
            "degraded": list(record.degraded),
            "ttft_ms": record.ttft_ms,
            "input_tokens": record.input_tokens,
            "output_tokens": record.output_tokens,
        }
        self._span.set_attributes({f"raydesk.{name}": value for name, value in told.items() if value or value == 0})
        if record.outcome == "failed":
            self._span.set_status(trace.StatusCode.ERROR, record.error_code)
        self._span.end()
