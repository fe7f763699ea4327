"""What is noted of requests: metrics, a line in the log, a span."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pygpt.server import log

Serving = Callable[..., Any]
SECRET = "a secret prompt"
BODY = {"model": "tiny", "prompt": SECRET, "max_tokens": 5, "temperature": 0}


def value(text: str, name: str, **labels: str) -> float:
    own = ",".join(f'{label}="{labels[label]}"' for label in sorted(labels))
    found = re.search(rf"^{re.escape(f'{name}{{{own}}}')} (\S+)$", text, re.M)
    assert found is not None, name
    return float(found[1])


def test_metrics(serving: Serving) -> None:
    async def use(client: httpx.AsyncClient) -> str:
        for body in ({**BODY, "n": 2}, {**BODY, "stream": True}, {**BODY, "max_tokens": -1}):
            await client.post("/v1/completions", json=body)
        await client.get("/nowhere")
        return (await client.get("/metrics")).text

    text = serving(use)
    assert value(text, "pygpt_requests_total", endpoint="/v1/completions", status="200") == 2
    assert value(text, "pygpt_requests_total", endpoint="/v1/completions", status="400") == 1
    assert value(text, "pygpt_requests_total", endpoint="none", status="404") == 1
    assert value(text, "pygpt_new_tokens_total", model="tiny") == 15
    assert value(text, "pygpt_first_token_seconds_count", model="tiny") == 2
    assert value(text, "pygpt_prompt_tokens_total", model="tiny") > 4
    assert value(text, "pygpt_scheduler_running", model="tiny") == 0
    assert value(text, "pygpt_scheduler_steps_total", model="tiny") >= 10
    assert value(text, "pygpt_weight_bytes", model="tiny") > 1e6


def test_metrics_of_two_applications_are_apart(serving: Serving) -> None:
    async def use(client: httpx.AsyncClient) -> str:
        return (await client.get("/metrics")).text

    for _ in range(2):
        assert "pygpt_requests_total{" not in serving(use)


def test_a_line_a_request(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pygpt.server.requests")

    async def use(client: httpx.AsyncClient) -> list[str]:
        found = []
        for request_id in ("mine", "x" * 200, "a\tb"):
            headers = {"x-request-id": request_id, "authorization": "Bearer k"}
            answer = await client.post("/v1/completions", json=BODY, headers=headers)
            found.append(answer.headers["x-request-id"])
        return found

    ids = serving(use, api_key=["k"])
    assert ids[0] == "mine"
    assert all(re.fullmatch("[0-9a-f]{32}", own) for own in ids[1:])
    lines = [record.fields for record in caplog.records if hasattr(record, "fields")]
    assert [line["id"] for line in lines] == ids
    line = lines[0]
    assert (line["client"], line["model"], line["status"]) == ("key 1", "tiny", 200)
    assert (line["new_tokens"], line["finish"]) == (5, "length")
    assert 0 < line["first_token_seconds"] < line["seconds"]
    assert SECRET not in caplog.text


def record_of(message: str, fields: dict[str, Any]) -> logging.LogRecord:
    record = logging.LogRecord("pygpt.server", logging.INFO, "", 0, message, (), None)
    record.fields = fields
    record.created, record.msecs = 0.0, 7.0
    return record


def test_a_line_cannot_be_forged(capsys: pytest.CaptureFixture[str]) -> None:
    loggers = [logging.getLogger(name) for name in ("pygpt.server", "uvicorn")]
    before = [(logger, logger.handlers, logger.propagate, logger.level) for logger in loggers]
    fields = {"path": "/a b\nc status=200", "client": "k", "seconds": 0.123456789}
    try:
        log.configure("text", "info")
        log.server.handle(record_of("re\nquest", fields))
        log.configure("json", "info")
        log.server.handle(record_of("re\nquest", fields))
    finally:
        for logger, handlers, propagate, level in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
    text, table = capsys.readouterr().err.splitlines()
    assert text == ('1970-01-01T00:00:00.007Z INFO re\\nquest path="/a b\\nc status=200" client=k seconds=0.123457')
    assert json.loads(table) == {"time": "1970-01-01T00:00:00.007Z", "level": "info", "message": "re\nquest", **fields}


def test_a_span_a_request_below_the_callers(serving: Serving) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)

    async def use(client: httpx.AsyncClient) -> None:
        parent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        await client.post("/v1/completions", json=BODY, headers=parent)

    serving(use, trace=True)
    (span,) = exporter.get_finished_spans()
    assert span.name == "POST /v1/completions"
    assert span.context is not None
    assert f"{span.context.trace_id:x}" == "af7651916cd43dd8448eb211c80319c"
    assert span.parent is not None
    assert f"{span.parent.span_id:x}" == "b7ad6b7169203331"
    assert span.attributes is not None
    assert span.attributes["gen_ai.usage.output_tokens"] == 5
    assert span.attributes["http.response.status_code"] == 200
    assert SECRET not in span.to_json()
