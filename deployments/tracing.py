"""Where spans go. Serve makes those of requests and of calls between replicas, and takes `traceparent` in and along.

Off unless every node's environment has

    RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH=deployments.tracing:span_processors
    RAY_SERVE_TRACING_SAMPLING_RATIO=0.05              of requests that bring no decision of their own
    OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318

and whatever else OpenTelemetry's exporter reads (OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME, …).
"""

from __future__ import annotations

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def span_processors() -> list[SpanProcessor]:
    """Serve calls it once in each process. Sends in the background; a collector that is away costs spans, not turns."""
    return [BatchSpanProcessor(OTLPSpanExporter())]
