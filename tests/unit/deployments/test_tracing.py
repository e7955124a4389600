"""Spans of a turn, received as a collector receives them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from deployments.answering.types import TurnRecord
from deployments.tracing import span_processors
from tests.unit.deployments.conftest import Shop

pytestmark = pytest.mark.unit
QUESTION = "How long does a refund take for Zsófia?"
TRACE = "0af7651916cd43dd8448eb211c80319c"
FROM_OUTSIDE = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


class Collector(BaseHTTPRequestHandler):
    bodies: list[bytes] = []  # noqa: RUF012 - one collector for the module

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def provider() -> Iterator[TracerProvider]:
    """The process's own, as Serve makes it where tracing is on; it can be set once."""
    server = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        made = TracerProvider()
        for processor in span_processors():
            made.add_span_processor(processor)
    trace.set_tracer_provider(made)
    yield made
    made.shutdown()
    server.shutdown()


def received(provider: TracerProvider) -> dict[str, Span]:
    provider.force_flush()
    spans: dict[str, Span] = {}
    for body in Collector.bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            spans |= {span.name: span for scope in resource.scope_spans for span in scope.spans}
    return spans


async def ask(shop: Shop) -> TurnRecord:
    request = shop.request(QUESTION)
    record = TurnRecord("t1", "r1", "c", "demo", "k", "http", "help", 0.0, request.text)
    turn = shop.pipeline.turn(request, record, "v000001")
    if await turn.at_once() is None:
        async for _ in turn.events():
            pass
    turn.spans.end(record)
    return record


async def test_a_turn_and_its_steps_are_told_below_the_callers_trace(tmp_path: Path, provider: TracerProvider) -> None:
    shop = await Shop(tmp_path).ready()
    Collector.bodies.clear()
    context = TraceContextTextMapPropagator().extract(FROM_OUTSIDE)
    with trace.get_tracer("serve").start_as_current_span("request", context=context):
        record = await ask(shop)
    spans = received(provider)
    assert {"request", "turn", "understand", "search"} <= spans.keys()
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    assert spans["turn"].parent_span_id == spans["request"].span_id
    assert spans["search"].parent_span_id == spans["turn"].span_id
    told = {each.key: each.value.string_value for each in spans["turn"].attributes}
    assert told["raydesk.path"] == record.path
    assert told["raydesk.turn_id"] == "t1"
    assert told["raydesk.outcome"] == "answered"
    everything = b"".join(Collector.bodies)
    assert "Zsófia".encode() not in everything
    assert record.answer.encode() not in everything


async def test_without_a_recorded_request_nothing_is_told(tmp_path: Path, provider: TracerProvider) -> None:
    shop = await Shop(tmp_path).ready()
    received(provider)
    Collector.bodies.clear()
    await ask(shop)
    assert received(provider) == {}
