"""One call: its attempts, the waits in between, its deadline, and what is told of it.

Times are exact: they are those of a clock that jumps. Cut connections and half bodies, which
are retried too, are left to the tests with sockets.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
from leftovers import leaves_nothing
from scripted_api import (
    ADD_ON,
    EXTENSION,
    FOUND,
    NEVER,
    Answer,
    Request,
    ScriptedApi,
    Steady,
    error,
    fetch,
    page,
)

from marketplace_async import (
    ApiError,
    AuthenticationError,
    ConnectionFailedError,
    InvalidResponseError,
    MarketplaceError,
    MarketplaceSession,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    RetryEvent,
    RetryPolicy,
    ServerError,
    Timeout,
)

URL = f"https://marketplace.twilio.com/v1/AvailableAddOns/{ADD_ON}/Extensions/{EXTENSION.sid}"


def now() -> float:
    return asyncio.get_running_loop().time()


async def failure(session: MarketplaceSession) -> MarketplaceError:
    with pytest.raises(MarketplaceError) as caught:
        await fetch(session)
    return caught.value


def at(seconds: float, then: Callable[[], Awaitable[Any]]) -> asyncio.Task[Any]:
    async def run() -> Any:
        await asyncio.sleep(seconds - now())
        return await then()

    return asyncio.create_task(run())


def down_until(seconds: float) -> Callable[[Request], Answer]:
    return lambda request: error(503) if request.seconds < seconds else FOUND


# What is tried again

PASSING = [
    *(pytest.param(error(status), id=str(status)) for status in (408, 429, 500, 502, 503, 504)),
    pytest.param(Answer(b"<html>Bad Gateway</html>", 502), id="502 in HTML"),
    pytest.param(Answer(b"", 503), id="503 without a body"),
    pytest.param(
        Answer(failure=aiohttp.ClientConnectionError("refused")), id="a failed connection"
    ),
    pytest.param(Answer(failure=aiohttp.ServerDisconnectedError()), id="a lost connection"),
    pytest.param(Answer(failure=aiohttp.ConnectionTimeoutError()), id="a time-out of connecting"),
    pytest.param(NEVER, id="a time-out of the attempt"),
    pytest.param(Answer(FOUND.body[:-1]), id="a body cut short"),
    pytest.param(Answer(b""), id="no body"),
]


@pytest.mark.parametrize("answer", PASSING)
@leaves_nothing
async def test_what_may_pass_is_asked_for_again(answer: Answer) -> None:
    async with ScriptedApi(answer, answer, FOUND) as api, api.session() as session:
        assert await fetch(session) == EXTENSION
    assert [str(request.url) for request in api.requests] == [URL] * 3


@pytest.mark.parametrize("answer", PASSING)
@leaves_nothing
async def test_what_does_not_pass_is_raised_after_the_last_attempt(answer: Answer) -> None:
    timeout = Timeout(attempt=5)
    async with (
        ScriptedApi(then=answer) as api,
        api.session(retry=Steady(attempts=4), timeout=timeout) as session,
    ):
        raised = await failure(session)
    assert isinstance(
        raised, (ApiError, ConnectionFailedError, RequestTimeoutError, InvalidResponseError)
    )
    assert raised.attempts == len(api.requests) == 4
    assert raised.not_retried is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        *((error(status), ApiError) for status in (400, 402, 405, 409, 410, 418, 422, 425)),
        (error(401), AuthenticationError),
        (error(403), PermissionDeniedError),
        (error(404), NotFoundError),
        *((error(status), ServerError) for status in (501, 505, 507, 599)),
        (error(302, Location="https://elsewhere.example/"), ApiError),
        (Answer(b"", 204), InvalidResponseError),
        (Answer(b"{}"), InvalidResponseError),
        (Answer(b"null"), InvalidResponseError),
        (Answer(FOUND.body.replace(b'"Incoming Voice Call"', b"7")), InvalidResponseError),
    ],
    ids=lambda value: f"{value.status}-{len(value.body)}" if isinstance(value, Answer) else None,
)
@leaves_nothing
async def test_what_will_not_pass_is_raised_at_once(
    answer: Answer, expected: type[MarketplaceError]
) -> None:
    events: list[RetryEvent] = []
    async with ScriptedApi(answer) as api, api.session(on_retry=events.append) as session:
        raised = await failure(session)
    assert type(raised) is expected
    assert raised.attempts == 1
    assert now() == 0
    assert not events


@leaves_nothing
async def test_retries_can_be_turned_off() -> None:
    events: list[RetryEvent] = []
    async with (
        ScriptedApi(error(503)) as api,
        api.session(retry=RetryPolicy.off(), on_retry=events.append) as session,
    ):
        assert isinstance(await failure(session), ServerError)
    assert len(api.requests) == 1
    assert not events


@leaves_nothing
async def test_between_attempts_the_call_waits_as_the_policy_says() -> None:
    async with (
        ScriptedApi(then=error(500, seconds=1)) as api,
        api.session(retry=Steady(wait_max=1)) as session,
    ):
        await failure(session)
    assert api.times == pytest.approx([0, 1.2, 2.6, 4.4, 6.4, 8.4])
    assert now() == pytest.approx(9.4)


@leaves_nothing
async def test_waits_are_jittered() -> None:
    async with ScriptedApi(then=error(500)) as api, api.session() as session:
        await asyncio.gather(*(failure(session) for _ in range(5)))
    second = api.times[5:10]
    assert len(set(second)) == 5
    assert 0 < min(second) < max(second) < 0.2


# What errors tell


@leaves_nothing
async def test_an_error_says_what_was_asked_and_how_often_and_what_the_api_said_of_it() -> None:
    body = b"""{"code": 20422, "message": "Invalid", "more_info": "https://example.test/20422",
                "status": 422, "params": {"name": "PageSize"}}"""
    refused = Answer(body, 422, {"Twilio-Request-Id": "RQ7"})
    async with ScriptedApi(error(503), refused) as api, api.session() as session:
        raised = await failure(session)
    assert isinstance(raised, ApiError)
    assert (raised.method, raised.url, raised.attempts) == ("GET", URL, 2)
    assert (raised.status, raised.code, raised.message) == (422, 20422, "Invalid")
    assert (raised.more_info, raised.request_id) == ("https://example.test/20422", "RQ7")
    assert raised.params == {"name": "PageSize"}
    assert str(raised) == f"HTTP 422, code 20422: Invalid [request RQ7] (GET {URL}, 2 attempts)"


@leaves_nothing
async def test_a_wrong_shape_is_named_field_by_field() -> None:
    answer = Answer(b'{"sid": null, "available_add_on_sid": 7}')
    async with ScriptedApi(answer) as api, api.session() as session:
        raised = await failure(session)
    assert isinstance(raised, InvalidResponseError)
    assert raised.url == URL
    assert raised.fields == (
        "expected a string, got null @ $.sid",
        "expected a string, got an integer @ $.available_add_on_sid",
    )


@leaves_nothing
async def test_no_exception_of_aiohttp_is_behind_an_error() -> None:
    answers = Answer(failure=aiohttp.ClientPayloadError("cut")), error(500), NEVER
    async with ScriptedApi(*answers, then=NEVER) as api, api.session() as session:
        raised: BaseException | None = await failure(session)
    while raised is not None:
        assert type(raised).__module__.partition(".")[0] in {"marketplace_async", "asyncio"}
        raised = raised.__cause__ or raised.__context__


# What is told of retries


@leaves_nothing
async def test_on_retry_is_told_of_each_retry_before_the_wait() -> None:
    told: list[tuple[float, RetryEvent]] = []

    def tell(event: RetryEvent) -> None:
        told.append((now(), event))

    async with (
        ScriptedApi(error(503, seconds=1), error(429, seconds=1), FOUND) as api,
        api.session(retry=Steady(), on_retry=tell) as session,
    ):
        await fetch(session)
    (first_at, first), (second_at, second) = told
    assert (first_at, second_at) == pytest.approx((1, 2.2))
    assert (first.method, first.url, first.attempt, first.wait) == ("GET", URL, 1, 0.2)
    assert (second.method, second.url, second.attempt, second.wait) == ("GET", URL, 2, 0.4)
    assert isinstance(first.error, ServerError)
    assert isinstance(second.error, RateLimitError)
    assert [event.error.attempts for _, event in told] == [1, 2]


@leaves_nothing
async def test_what_on_retry_raises_ends_the_call_and_costs_the_others_nothing() -> None:
    def refuse(event: RetryEvent) -> None:
        if refusing:
            raise LookupError("enough")

    refusing = True
    async with (
        ScriptedApi(*[error(503)] * 21, FOUND) as api,
        api.session(on_retry=refuse) as session,
    ):
        for _ in range(20):
            with pytest.raises(LookupError, match="enough"):
                await fetch(session)
        refusing = False
        assert await fetch(session) == EXTENSION
    assert now() < 0.2


def test_each_request_and_each_retry_is_logged_with_its_data(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @leaves_nothing
    async def two_attempts() -> None:
        async with (
            ScriptedApi(Answer(failure=OSError("reset"), seconds=1), FOUND) as api,
            api.session(retry=Steady()) as session,
        ):
            await fetch(session)

    with caplog.at_level(logging.DEBUG, "marketplace_async"):
        two_attempts()
    records = [record for record in caplog.records if record.name.startswith("marketplace_async")]
    assert {record.name for record in records} == {"marketplace_async"}
    first, retry, second = records
    assert [record.levelno for record in records] == [logging.DEBUG, logging.INFO, logging.DEBUG]
    data = {"method": "GET", "url": URL, "attempt": 1, "status": 0, "duration": 1.0}
    assert vars(first).items() >= data.items()
    assert vars(retry).items() >= {"attempt": 1, "wait": 0.2, "url": URL}.items()
    data = {"method": "GET", "url": URL, "attempt": 2, "status": 200, "duration": 0.0}
    assert vars(second).items() >= data.items()
    assert first.getMessage() == f"GET {URL}: no answer in 1.000 s, attempt 1"
    assert retry.getMessage().startswith("attempt 1 failed, next in 0.2 s: OSError: reset (GET ")
    assert second.getMessage() == f"GET {URL}: 200 in 0.000 s, attempt 2"


# The deadline of the whole call


@leaves_nothing
async def test_a_call_that_is_never_answered_ends_at_its_deadline_and_names_the_last_attempt() -> (
    None
):
    timeout = Timeout(total=40, attempt=15)
    async with (
        ScriptedApi(then=NEVER) as api,
        api.session(timeout=timeout, retry=Steady(attempts=100)) as session,
    ):
        raised = await failure(session)
    assert isinstance(raised, RequestTimeoutError)
    assert now() == 40
    assert api.times == pytest.approx([0, 15.2, 30.6])
    assert (raised.waited_for, raised.seconds, raised.attempts) == ("the call", 40, 3)
    assert isinstance(raised.last_error, RequestTimeoutError)
    assert (raised.last_error.waited_for, raised.last_error.seconds) == ("an attempt", 15)


@leaves_nothing
async def test_the_first_attempt_may_be_what_the_deadline_ends() -> None:
    async with ScriptedApi(NEVER) as api, api.session(timeout=Timeout(total=5)) as session:
        raised = await failure(session)
    assert isinstance(raised, RequestTimeoutError)
    assert now() == 5
    assert (raised.url, raised.attempts, raised.last_error) == (URL, 1, None)


@leaves_nothing
async def test_waiting_for_the_limiter_is_within_the_deadline() -> None:
    async with (
        ScriptedApi() as api,
        api.session(limiter=asyncio.Semaphore(0), timeout=Timeout(total=5)) as session,
    ):
        raised = await failure(session)
    assert isinstance(raised, RequestTimeoutError)
    assert now() == 5
    assert raised.attempts == 0


@leaves_nothing
async def test_a_wait_that_does_not_fit_is_not_begun() -> None:
    policy = Steady(attempts=100, wait_initial=2, wait_max=2)
    async with (
        ScriptedApi(then=error(503, seconds=1)) as api,
        api.session(timeout=Timeout(total=9), retry=policy) as session,
    ):
        raised = await failure(session)
    assert isinstance(raised, ServerError)
    assert api.times == [0, 3, 6]
    assert now() == 7
    assert raised.not_retried == "the next wait, 2 s, is not within the 2 s left"
    assert "not retried: the next wait" in str(raised)


@leaves_nothing
async def test_each_page_of_a_listing_has_a_deadline_of_its_own() -> None:
    url = f"/v1/AvailableAddOns/{ADD_ON}/Extensions?Page="
    pages = [
        page(
            f"XF{number:032x}",
            next_page_url=f"https://marketplace.twilio.com{url}{number}" if number < 5 else None,
            seconds=8,
        )
        for number in range(1, 6)
    ]
    async with ScriptedApi(*pages) as api, api.session(timeout=Timeout(total=10)) as session:
        listed = await session.available_add_ons(ADD_ON).extensions.list().to_list()
    assert len(listed) == 5
    assert now() == 40


# What the API asks to wait


def later(seconds: float) -> dict[str, str]:
    """The headers of an answer that names a time that long after its own."""
    sent = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    return {
        "Date": format_datetime(sent, usegmt=True),
        "Retry_After": format_datetime(sent + timedelta(seconds=seconds), usegmt=True),
    }


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("headers", [{"Retry_After": 7}, later(7)], ids=["seconds", "a date"])
@leaves_nothing
async def test_retry_after_is_waited_for_and_little_more(
    status: int, headers: dict[str, Any]
) -> None:
    answer = error(status, **headers)
    async with ScriptedApi(answer, FOUND) as api, api.session() as session:
        await fetch(session)
    assert 7 <= api.times[1] <= 7.2


@leaves_nothing
async def test_a_retry_after_beyond_the_bound_ends_the_call_at_once() -> None:
    async with (
        ScriptedApi(error(429, Retry_After=8)) as api,
        api.session(retry=RetryPolicy(retry_after_max=7)) as session,
    ):
        raised = await failure(session)
    assert isinstance(raised, RateLimitError)
    assert now() == 0
    assert raised.retry_after == 8
    assert raised.not_retried
    assert "retry_after_max" in raised.not_retried


@leaves_nothing
async def test_a_retry_after_beyond_the_deadline_ends_the_call_at_once() -> None:
    async with (
        ScriptedApi(error(429, Retry_After=8)) as api,
        api.session(timeout=Timeout(total=7)) as session,
    ):
        raised = await failure(session)
    assert isinstance(raised, RateLimitError)
    assert now() == 0
    assert raised.not_retried
    assert "not within the 7 s left" in raised.not_retried


@leaves_nothing
async def test_a_retry_after_holds_back_calls_that_begin_later() -> None:
    async with (
        ScriptedApi(error(429, Retry_After=7), then=FOUND) as api,
        api.session() as session,
    ):
        await asyncio.gather(fetch(session), *(at(n, lambda: fetch(session)) for n in range(1, 7)))
    assert len(api.requests) == 8
    assert api.times[0] == 0
    assert all(7 <= time <= 7.2 for time in api.times[1:])
    assert len(set(api.times)) == 8


@leaves_nothing
async def test_a_retry_after_holds_back_calls_that_queue_in_the_limiter() -> None:
    limiter = asyncio.Semaphore(1)
    async with (
        ScriptedApi(error(429, Retry_After=7, seconds=1), then=FOUND) as api,
        api.session(limiter=limiter) as session,
    ):
        await asyncio.gather(*(fetch(session) for _ in range(3)))
    assert api.times[0] == 0
    assert len(api.times) == 4
    assert all(8 <= time <= 8.2 for time in api.times[1:])
    assert not limiter.locked()


@leaves_nothing
async def test_a_longer_pause_holds_back_a_call_that_was_told_of_a_shorter_one() -> None:
    async with (
        ScriptedApi(
            error(429, Retry_After=5, seconds=1), error(429, Retry_After=9, seconds=2), then=FOUND
        ) as api,
        api.session() as session,
    ):
        await asyncio.gather(fetch(session), fetch(session), at(3, lambda: fetch(session)))
    assert api.times[:2] == [0, 0]
    assert all(11 <= time <= 11.2 for time in api.times[2:])


@leaves_nothing
async def test_a_call_that_would_be_over_before_the_pause_fails_at_once() -> None:
    async with (
        ScriptedApi(error(429, Retry_After=7), FOUND) as api,
        api.session(timeout=Timeout(total=6)) as session,
    ):
        assert isinstance(await failure(session), RateLimitError)
        await asyncio.sleep(0.5)
        raised = await failure(session)
        assert isinstance(raised, RequestTimeoutError)
        assert now() == 0.5
        assert raised.attempts == 0
        assert (raised.waited_for, raised.seconds) == ("the call", 6)
        assert raised.not_retried == "the API asked for a pause of 6.5 s, and 6 s are left"
        await asyncio.sleep(1.5)
        assert await fetch(session) == EXTENSION
    assert 7 <= api.times[1] <= 7.2


# What the calls of a session share in an outage


@leaves_nothing
async def test_a_server_that_is_down_gets_few_requests_more_than_there_are_calls() -> None:
    policy = RetryPolicy(attempts=50, wait_max=0.5)
    async with (
        ScriptedApi(then=error(503, seconds=0.1)) as api,
        api.session(limiter=asyncio.Semaphore(1000), retry=policy) as session,
    ):
        raised = await asyncio.gather(*(failure(session) for _ in range(300)))
        assert 300 < len(api.requests) <= 300 + 100 + 5
        assert "too many retries of this session have failed of late" in {
            error.not_retried for error in raised
        }
        before = len(api.requests)
        raised = await asyncio.gather(*(failure(session) for _ in range(50)))
    assert len(api.requests) - before == 50
    assert {error.attempts for error in raised} == {1}


@leaves_nothing
async def test_healthy_answers_pay_for_further_retries() -> None:
    answers = [*[error(503)] * 200, *[FOUND] * 4, error(503), FOUND, error(503), FOUND]
    policy = RetryPolicy(attempts=1000, wait_max=0.01)
    async with ScriptedApi(*answers) as api, api.session(retry=policy) as session:
        while not (await failure(session)).not_retried:
            pass
        spent = len(api.requests)
        assert spent == 101
        while len(api.requests) < 200:
            assert (await failure(session)).attempts == 1
        for _ in range(4):
            await fetch(session)
        assert (await failure(session)).not_retried
        await fetch(session)
        assert await fetch(session) == EXTENSION
    assert len(api.requests) == len(answers)


@leaves_nothing
async def test_the_first_success_after_an_outage_lets_all_go_on() -> None:
    async with (
        ScriptedApi(then=down_until(0.5)) as api,
        api.session(limiter=asyncio.Semaphore(1000), retry=Steady(wait_initial=1)) as session,
    ):
        await asyncio.gather(*(fetch(session) for _ in range(20)))
    assert api.times == [*[0] * 20, *[1] * 5, *[2] * 15]


@leaves_nothing
async def test_two_hundred_calls_outlive_an_outage_of_two_seconds() -> None:
    async with ScriptedApi(then=down_until(2)) as api, api.session() as session:
        found = await asyncio.gather(*(fetch(session) for _ in range(200)), return_exceptions=True)
    assert found.count(EXTENSION) >= 195
    assert len(api.requests) < 500


@leaves_nothing
async def test_who_stands_by_in_an_outage_ends_at_its_deadline() -> None:
    policy = RetryPolicy(attempts=10, wait_initial=1e-9)
    async with (
        ScriptedApi(*[error(503)] * 6, then=NEVER) as api,
        api.session(
            limiter=asyncio.Semaphore(1000), retry=policy, timeout=Timeout(total=3, attempt=30)
        ) as session,
    ):
        raised = await asyncio.gather(*(failure(session) for _ in range(6)))
    assert now() == pytest.approx(3)
    assert all(isinstance(error, RequestTimeoutError) for error in raised)
    assert sorted(error.attempts for error in raised) == [1, 2, 2, 2, 2, 2]
