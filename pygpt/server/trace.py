"""Traces by OpenTelemetry: a span a request, whose parent is the caller's. The extra `trace` brings what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_MISSING = "traces need OpenTelemetry: pip install 'pygpt-cpu[trace]'"


class Tracing:
    """Spans of the process's tracer provider."""

    def __init__(self) -> None:
        """ValueError: the extra is not installed."""
        try:
            from opentelemetry import trace
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ModuleNotFoundError:
            raise ValueError(_MISSING) from None
        self._tracer = trace.get_tracer("pygpt.server")
        self._kind = trace.SpanKind.SERVER
        self._error = trace.Status(trace.StatusCode.ERROR)
        self._extract = TraceContextTextMapPropagator().extract

    def begin(self, method: str, path: str, headers: Mapping[str, str]) -> Span:
        """A span of a request, below the one that its traceparent names."""
        attributes = {"http.request.method": method, "url.path": path}
        parent = self._extract(dict(headers))
        return self._tracer.start_span(f"{method} {path}", parent, self._kind, attributes)

    def end(self, span: Span, name: str, attributes: Mapping[str, str | int | float], *, failed: bool) -> None:
        """The request has ended. Its name is of those that are few: the route, not the path."""
        span.update_name(name)
        span.set_attributes(dict(attributes))
        if failed:
            span.set_status(self._error)
        span.end()


def export() -> None:
    """Let the process's spans go to where OpenTelemetry's own variables say, OTEL_EXPORTER_OTLP_ENDPOINT and others.
    ValueError: the extra is not installed."""
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError:
        raise ValueError(_MISSING) from None
    provider = TracerProvider(resource=Resource.create({"service.name": "pygpt"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
