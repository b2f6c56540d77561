"""Log records, traces and statistics."""

import asyncio
import json
import logging
from typing import Any

import aiohttp
import pytest
from leaks import secrets_in
from leftovers import leaves_nothing
from scripted_api import FOUND, NEVER, Answer, ScriptedApi, Steady, error, failure
from scripted_api import fetch as fetch_scripted
from wire import Wire, answer, answers_in_turn, extension, fetch
from wire import error as wire_error

from marketplace_async import AdaptiveLimiter, SessionStatistics


def test_log_records(caplog: pytest.LogCaptureFixture) -> None:
    """Each attempt is a DEBUG record and each retry an INFO record, with plain data."""

    @leaves_nothing
    async def two_attempts() -> None:
        failed = Answer(failure=aiohttp.ServerDisconnectedError("lost"), seconds=1)
        async with ScriptedApi(failed, FOUND) as api, api.session(retry=Steady()) as session:
            await fetch_scripted(session)

    lost = "ServerDisconnectedError: lost"
    usual = vars(logging.makeLogRecord({})).keys() | {"message"}
    with caplog.at_level(logging.WARNING, "marketplace_async"):
        two_attempts()
    assert not caplog.records
    with caplog.at_level(logging.DEBUG, "marketplace_async"):
        two_attempts()
    records = [record for record in caplog.records if record.name == "marketplace_async"]
    extras = [{k: v for k, v in vars(record).items() if k not in usual} for record in records]
    url = extras[0]["url"]
    assert url.startswith("https://marketplace.twilio.com/v1/AvailableAddOns/XB")
    assert json.loads(json.dumps(extras)) == [
        {"method": "GET", "url": url, "attempt": 1, "status": 0, "duration": 1.0},
        {"url": url, "attempt": 1, "wait": 0.2},
        {"method": "GET", "url": url, "attempt": 2, "status": 200, "duration": 0.0},
    ]
    assert [(record.levelname, record.getMessage()) for record in records] == [
        ("DEBUG", f"GET {url}: no response in 1.000 s, attempt 1"),
        ("INFO", f"attempt 1 failed, next in 0.2 s: {lost} (GET {url}, 1 attempt)"),
        ("DEBUG", f"GET {url}: 200 in 0.000 s, attempt 2"),
    ]
    logger = logging.getLogger("marketplace_async")
    assert (logger.handlers, logger.propagate) == ([], True)


@leaves_nothing
async def test_statistics() -> None:
    """The statistics count calls, attempts, retries and rejections, and show the state."""
    answers = [error(429), error(500), FOUND, error(404), *[error(500)] * 5, NEVER]
    settings = {"retry": Steady(), "limiter": AdaptiveLimiter(ceiling=1)}
    async with ScriptedApi(*answers) as api, api.session(**settings) as session:
        await fetch_scripted(session)
        await failure(session)
        calls = [asyncio.create_task(fetch_scripted(session)) for _ in range(3)]
        await asyncio.sleep(5)
        assert session.statistics() == SessionStatistics(
            limit=1,
            in_flight=1,
            waiting=2,
            calls=5,
            attempts=10,
            retries=5,
            rejections=1,
            outage=True,
            pause=0,
            budget_left=487,
        )
        for call in calls:
            call.cancel()


async def test_traces() -> None:
    """OpenTelemetry has a span for each attempt, without the credentials."""
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.aiohttp_client")
    exporter, provider = memory.InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    tracing: Any = instrumentation.create_trace_config(tracer_provider=provider)
    answers = answers_in_turn(wire_error(503), b"no HTTP\r\n\r\n", answer(extension()))
    async with Wire(answers) as wire, wire.session(trace_configs=[tracing]) as session:
        await fetch(session)
    spans = exporter.get_finished_spans()
    assert [(span.name, span.status.is_ok) for span in spans] == [
        ("GET", False),
        ("GET", False),
        ("GET", True),
    ]
    assert not any(secrets_in(span.to_json()) for span in spans)
