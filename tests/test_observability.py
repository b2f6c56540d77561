"""What can be seen of calls from outside: log records, events, traces and request ids."""

import json
import logging
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from leaks import secrets_in
from wire import (
    ADD_ON,
    CLOSE,
    EXTENSION,
    RESET,
    Answer,
    Wire,
    answer,
    answers_in_turn,
    error,
    extension,
    failure,
    fetch,
    head,
    page,
    quick,
)

from marketplace_async import ApiError, RetryEvent, RetryPolicy, ServerError

pytestmark = pytest.mark.usefixtures("nothing_leaks")

HEALTHY = answer(extension())
PATH = f"/v1/AvailableAddOns/{ADD_ON}/Extensions/{EXTENSION}"


# Log records


def ours(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "marketplace_async"]


async def test_each_attempt_is_a_debug_record_and_each_retry_an_info_record(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        Wire(answers_in_turn(error(503), (RESET,), (RESET,), HEALTHY)) as wire,
        wire.session() as session,
    ):
        await fetch(session)
    records = ours(caplog)
    assert [(record.levelname, vars(record)["attempt"]) for record in records] == [
        ("DEBUG", 1),
        ("INFO", 1),
        ("DEBUG", 2),
        ("INFO", 2),
        ("DEBUG", 3),
    ]
    assert [vars(record).get("status") for record in records] == [503, None, 0, None, 200]
    assert {vars(record)["url"] for record in records} == {wire.url + PATH}
    for record in records:
        if record.levelname == "DEBUG":
            assert vars(record)["method"] == "GET"
            assert 0 <= vars(record)["duration"] < 60
            assert f"GET {wire.url}{PATH}: " in record.getMessage()
        else:
            assert 0 <= vars(record)["wait"] <= 0.002
            assert "failed, next in" in record.getMessage()


async def test_the_attributes_of_log_records_are_plain_data(
    caplog: pytest.LogCaptureFixture,
) -> None:
    usual = vars(logging.makeLogRecord({}))
    async with Wire(answers_in_turn(error(503), HEALTHY)) as wire, wire.session() as session:
        await fetch(session)
    for record in ours(caplog):
        extras = {name: value for name, value in vars(record).items() if name not in usual}
        assert {"attempt", "url"} <= set(extras)
        del extras["message"]  # what pytest adds
        assert json.loads(json.dumps(extras)) == extras


async def test_no_other_logger_is_used_and_none_is_set_up(caplog: pytest.LogCaptureFixture) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    async with Wire(answers_in_turn(error(503), HEALTHY)) as wire, wire.session() as session:
        await fetch(session)
    assert {record.name for record in caplog.records} <= {"marketplace_async", "asyncio"}
    logger = logging.getLogger("marketplace_async")
    assert (list(root.handlers), root.level) == before
    assert (logger.handlers, logger.level, logger.propagate) == ([], logging.NOTSET, True)


async def test_at_the_usual_level_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with Wire(answers_in_turn(error(503), HEALTHY)) as wire, wire.session() as session:
            await fetch(session)
    assert not ours(caplog)


# Events


async def test_each_retry_is_an_event_before_the_wait() -> None:
    events: list[RetryEvent] = []
    refusal = error(503, Twilio_Request_Id="RQ1")
    async with (
        Wire(answers_in_turn(refusal, error(429), HEALTHY)) as wire,
        wire.session(on_retry=events.append) as session,
    ):
        await fetch(session)
    first, second = events
    assert (first.method, first.url, first.attempt) == ("GET", wire.url + PATH, 1)
    assert (second.attempt, len(wire.requests)) == (2, 3)
    assert isinstance(first.error, ServerError)
    assert (first.error.request_id, first.error.attempts) == ("RQ1", 1)


# Traces


async def test_tracing_of_aiohttp_sees_each_attempt() -> None:
    seen: list[tuple[str, int]] = []

    async def started(
        _: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestStartParams
    ) -> None:
        seen.append((params.method, 0))

    async def ended(
        _: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestEndParams
    ) -> None:
        seen.append((params.method, params.response.status))

    tracing = aiohttp.TraceConfig()
    tracing.on_request_start.append(started)
    tracing.on_request_end.append(ended)
    async with (
        Wire(answers_in_turn(error(503), HEALTHY)) as wire,
        wire.session(trace_configs=[tracing]) as session,
    ):
        await fetch(session)
    assert seen == [("GET", 0), ("GET", 503), ("GET", 0), ("GET", 200)]


async def test_tracing_is_not_taken_beside_the_callers_own_pool() -> None:
    async with Wire(answers_in_turn()) as wire, aiohttp.ClientSession() as http:
        with pytest.raises(ValueError, match="trace_configs"):
            wire.session(http=http, trace_configs=[aiohttp.TraceConfig()])


@pytest.fixture
def telemetry() -> Any:
    """A tracer provider of OpenTelemetry, and what its spans are collected in."""
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    spans = memory.InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(spans))
    return SimpleNamespace(provider=provider, spans=spans)


async def test_opentelemetry_gives_a_span_for_each_attempt(telemetry: Any) -> None:
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.aiohttp_client")
    tracing = instrumentation.create_trace_config(tracer_provider=telemetry.provider)
    answers = answers_in_turn(error(503), b"no HTTP\r\n\r\n", HEALTHY)
    async with Wire(answers) as wire, wire.session(trace_configs=[tracing]) as session:
        await fetch(session)
    spans = telemetry.spans.get_finished_spans()
    assert [span.name for span in spans] == ["GET"] * 3
    assert [span.status.is_ok for span in spans] == [False, False, True]
    assert all(PATH in span.to_json() for span in spans)
    assert not any(secrets_in(span.to_json()) for span in spans)


async def test_opentelemetry_that_instruments_everything_sees_each_attempt_too(
    telemetry: Any,
) -> None:
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.aiohttp_client")
    instrumentor = instrumentation.AioHttpClientInstrumentor()
    instrumentor.instrument(tracer_provider=telemetry.provider)
    try:
        async with Wire(answers_in_turn(error(503), HEALTHY)) as wire, wire.session() as session:
            await fetch(session)
    finally:
        instrumentor.uninstrument()
    assert len(telemetry.spans.get_finished_spans()) == 2


# Request ids

REFUSALS: dict[str, Answer] = {
    "with a body of the API": error(400, Twilio_Request_Id="RQ7"),
    "with a page": answer(b"<html>", 404, Twilio_Request_Id="RQ7"),
    "without a body": head(401, Twilio_Request_Id="RQ7", Content_Length=0),
    "with half a body": (head(403, Twilio_Request_Id="RQ7", Content_Length=9), b"{", CLOSE),
    "for the rate": error(429, Twilio_Request_Id="RQ7"),
    "in trouble": error(503, Twilio_Request_Id="RQ7"),
    "with a redirect": head(302, Location="/", Twilio_Request_Id="RQ7", Content_Length=0),
    "as no one knows": head(599, Twilio_Request_Id="RQ7", Content_Length=0),
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_the_request_id_is_on_every_error_of_the_api_and_in_its_text(refusal: str) -> None:
    async with (
        Wire(lambda _: REFUSALS[refusal]) as wire,
        wire.session(retry=RetryPolicy.off()) as session,
    ):
        caught = await failure(session)
    assert isinstance(caught, ApiError)
    assert caught.request_id == "RQ7"
    assert "[request RQ7]" in str(caught)


async def test_an_error_of_a_page_says_which_page_and_how_many_attempts() -> None:
    following = f"https://marketplace.twilio.com/v1/AvailableAddOns/{ADD_ON}/Extensions?Page=1"
    answers = answers_in_turn(answer(page([1], following)), then=error(503))
    async with Wire(answers) as wire, wire.session(retry=quick(3)) as session:
        with pytest.raises(ServerError) as caught:
            await session.available_add_ons(ADD_ON).extensions.list().to_list()
    assert caught.value.url == f"{wire.url}/v1/AvailableAddOns/{ADD_ON}/Extensions?Page=1"
    assert (caught.value.method, caught.value.attempts) == ("GET", 3)
    assert "3 attempts" in str(caught.value)
