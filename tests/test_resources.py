"""Handles: made of checked SIDs without a request, and what their verbs ask for."""

import copy
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import pytest

from marketplace_async import (
    AvailableAddOnHandle,
    AvailableAddOns,
    ExtensionHandle,
    Extensions,
    InvalidResponseError,
    InvalidSidError,
    MarketplaceSession,
    NotFoundError,
    RetryPolicy,
    UntrustedPageUrlError,
    open_session,
)
from marketplace_async.sandbox import Sandbox

ADD_ON = "XB" + 32 * "a"
EXTENSION = "XF" + 32 * "a"
OTHER_ADD_ON = "XB" + 32 * "0"
OTHER_EXTENSION = "XF" + 32 * "0"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
async def session(sandbox: Sandbox) -> AsyncIterator[MarketplaceSession]:
    retry = RetryPolicy(wait_initial=0.001, wait_max=0.002)
    async with open_session(sandbox.credentials, base_url=sandbox.url, retry=retry) as session:
        yield session


def asked(sandbox: Sandbox) -> list[str]:
    return [str(request.url) for request in sandbox.requests]


HANDLES: dict[str, Callable[[MarketplaceSession], Any]] = {
    "AvailableAddOns": lambda session: session.available_add_ons,
    "AvailableAddOnHandle": lambda session: session.available_add_ons(ADD_ON),
    "Extensions": lambda session: session.available_add_ons(ADD_ON).extensions,
    "ExtensionHandle": lambda session: session.available_add_ons(ADD_ON).extensions(EXTENSION),
}
each_handle = pytest.mark.parametrize("make", list(HANDLES.values()), ids=list(HANDLES))


# What a handle is


@each_handle
async def test_equal_handles_are_one_key(
    make: Callable[[MarketplaceSession], Any], session: MarketplaceSession
) -> None:
    assert make(session) == make(session)
    assert {make(session): "once"}[make(session)] == "once"
    assert len({make(session), make(session)}) == 1


@each_handle
async def test_handles_of_two_sessions_differ(
    make: Callable[[MarketplaceSession], Any], session: MarketplaceSession, sandbox: Sandbox
) -> None:
    assert make(session) != make(open_session(sandbox.credentials, base_url=sandbox.url))


async def test_handles_of_two_resources_differ(session: MarketplaceSession) -> None:
    add_ons = session.available_add_ons
    handles = [
        add_ons,
        add_ons(ADD_ON),
        add_ons(OTHER_ADD_ON),
        add_ons(ADD_ON).extensions,
        add_ons(OTHER_ADD_ON).extensions,
        add_ons(ADD_ON).extensions(EXTENSION),
        add_ons(ADD_ON).extensions(OTHER_EXTENSION),
        add_ons(OTHER_ADD_ON).extensions(EXTENSION),
    ]
    assert len({*handles}) == len(handles)


@each_handle
async def test_a_handle_cannot_be_changed(
    make: Callable[[MarketplaceSession], Any], session: MarketplaceSession
) -> None:
    handle = make(session)
    for name in ("sid", "available_add_on_sid", "_transport", "anything"):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(handle, name, OTHER_ADD_ON)
    assert not hasattr(handle, "__dict__")
    assert copy.copy(handle) == handle


async def test_a_handle_shows_its_sids_and_nothing_else(session: MarketplaceSession) -> None:
    assert {name: repr(make(session)) for name, make in HANDLES.items()} == {
        "AvailableAddOns": "AvailableAddOns()",
        "AvailableAddOnHandle": f"AvailableAddOnHandle(sid='{ADD_ON}')",
        "Extensions": f"Extensions(available_add_on_sid='{ADD_ON}')",
        "ExtensionHandle": f"ExtensionHandle(available_add_on_sid='{ADD_ON}', sid='{EXTENSION}')",
    }


async def test_handles_know_their_sids(session: MarketplaceSession) -> None:
    add_ons = session.available_add_ons
    assert type(add_ons) is AvailableAddOns
    add_on = add_ons(ADD_ON)
    assert type(add_on) is AvailableAddOnHandle
    assert add_on.sid == ADD_ON
    extensions = add_on.extensions
    assert type(extensions) is Extensions
    assert extensions.available_add_on_sid == ADD_ON
    extension = extensions(EXTENSION)
    assert type(extension) is ExtensionHandle
    assert (extension.available_add_on_sid, extension.sid) == (ADD_ON, EXTENSION)


async def test_making_handles_and_pagers_sends_nothing(
    session: MarketplaceSession, sandbox: Sandbox
) -> None:
    for make in HANDLES.values():
        make(session)
    session.available_add_ons.list(limit=3, prefetch=2).pages()
    session.available_add_ons(ADD_ON).extensions.list()
    assert sandbox.requests == []


# Bad arguments


@pytest.mark.parametrize(
    "given",
    ["", "XB", ADD_ON[:-1], ADD_ON + "a", EXTENSION, f"../{ADD_ON}", ADD_ON + "\n", None, 7],
    ids=repr,
)
async def test_what_is_no_sid_of_an_add_on_is_refused_with_what_is_expected(
    given: Any, session: MarketplaceSession, sandbox: Sandbox
) -> None:
    with pytest.raises(InvalidSidError, match="an Available Add-on") as caught:
        session.available_add_ons(given)
    assert caught.value.given == (given if isinstance(given, str) else repr(given))
    assert "^XB[0-9a-fA-F]{32}$" in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert sandbox.requests == []


@pytest.mark.parametrize(
    "given", ["", "XF", EXTENSION[:-1], EXTENSION + "a", ADD_ON, f"../{EXTENSION}", None], ids=repr
)
async def test_what_is_no_sid_of_an_extension_is_refused_with_what_is_expected(
    given: Any, session: MarketplaceSession, sandbox: Sandbox
) -> None:
    extensions = session.available_add_ons(ADD_ON).extensions
    with pytest.raises(InvalidSidError, match="an Extension") as caught:
        extensions(given)
    assert "^XF[0-9a-fA-F]{32}$" in str(caught.value)
    assert sandbox.requests == []


@pytest.mark.parametrize("what", ["add-ons", "extensions"])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"limit": -1}, ValueError),
        ({"limit": "20"}, TypeError),
        ({"page_size": 0}, ValueError),
        ({"page_size": 1001}, ValueError),
        ({"prefetch": -1}, ValueError),
        ({"resume_from": "https://marketplace.twilio.com/v1/Elsewhere"}, UntrustedPageUrlError),
    ],
    ids=str,
)
async def test_a_bad_argument_of_a_listing_is_refused_before_any_request(
    what: str,
    arguments: dict[str, Any],
    expected: type[Exception],
    session: MarketplaceSession,
    sandbox: Sandbox,
) -> None:
    add_ons = session.available_add_ons
    listing = add_ons.list if what == "add-ons" else add_ons(ADD_ON).extensions.list
    with pytest.raises(expected):
        listing(**arguments)
    assert sandbox.requests == []


async def test_a_page_of_another_listing_is_not_resumed_from(
    session: MarketplaceSession, sandbox: Sandbox
) -> None:
    page = await anext(aiter(session.available_add_ons.list(page_size=1).pages()))
    with pytest.raises(UntrustedPageUrlError):
        session.available_add_ons(ADD_ON).extensions.list(resume_from=page.next_page_url)
    assert len(sandbox.requests) == 1


async def test_settings_of_a_listing_are_given_by_name_alone(session: MarketplaceSession) -> None:
    listing: Any = session.available_add_ons.list
    with pytest.raises(TypeError):
        listing(20)


# Verbs


async def test_an_add_on_is_fetched(session: MarketplaceSession, sandbox: Sandbox) -> None:
    fetched = await session.available_add_ons(ADD_ON).fetch()
    path = f"/v1/AvailableAddOns/{ADD_ON}"
    assert fetched == attrs.evolve(
        sandbox.catalog[ADD_ON].add_on,
        url=sandbox.url + path,
        links={"extensions": f"{sandbox.url}{path}/Extensions"},
    )
    assert asked(sandbox) == [path]


async def test_an_extension_is_fetched(session: MarketplaceSession, sandbox: Sandbox) -> None:
    fetched = await session.available_add_ons(ADD_ON).extensions(EXTENSION).fetch()
    path = f"/v1/AvailableAddOns/{ADD_ON}/Extensions/{EXTENSION}"
    known = sandbox.catalog[ADD_ON].extension(EXTENSION)
    assert known
    assert fetched == attrs.evolve(known, url=sandbox.url + path)
    assert asked(sandbox) == [path]


async def test_add_ons_are_listed_with_the_settings_given(
    session: MarketplaceSession, sandbox: Sandbox
) -> None:
    listing = session.available_add_ons.list(limit=5, page_size=3, prefetch=1)
    assert [add_on.sid async for add_on in listing] == [*sandbox.catalog][:5]
    assert asked(sandbox)[0] == "/v1/AvailableAddOns?PageSize=3"
    assert len(sandbox.requests) == 2


async def test_extensions_are_listed_with_the_settings_given(
    session: MarketplaceSession, sandbox: Sandbox
) -> None:
    sid, entry = max(sandbox.catalog.items(), key=lambda item: len(item[1].extensions))
    extensions = session.available_add_ons(sid).extensions
    listed = [item.sid async for item in extensions.list(limit=5, page_size=3, prefetch=1)]
    assert listed == [item.sid for item in entry.extensions][:5]
    assert asked(sandbox)[0] == f"/v1/AvailableAddOns/{sid}/Extensions?PageSize=3"
    assert len(sandbox.requests) == 2


async def test_a_listed_item_is_the_same_as_the_fetched_one(session: MarketplaceSession) -> None:
    add_on = await session.available_add_ons.list().first()
    assert add_on
    handle = session.available_add_ons(add_on.sid)
    assert await handle.fetch() == add_on
    extension = await handle.extensions.list().first()
    assert extension
    assert await handle.extensions(extension.sid).fetch() == extension


@pytest.mark.parametrize("sid", [OTHER_ADD_ON, ADD_ON.replace("a", "A")])
async def test_an_add_on_that_is_not_there_is_not_found(
    sid: str, session: MarketplaceSession, sandbox: Sandbox
) -> None:
    for call in (
        session.available_add_ons(sid).fetch(),
        session.available_add_ons(sid).extensions.list().to_list(),
        session.available_add_ons(sid).extensions(EXTENSION).fetch(),
    ):
        with pytest.raises(NotFoundError, match="code 20404") as caught:
            await call
        assert caught.value.request_id
        assert caught.value.request_id.startswith("RQ")
    assert len(sandbox.requests) == 3


async def test_an_extension_of_another_add_on_is_not_found(
    session: MarketplaceSession, sandbox: Sandbox
) -> None:
    other = [*sandbox.catalog][1]
    with pytest.raises(NotFoundError):
        await session.available_add_ons(other).extensions(EXTENSION).fetch()


async def test_one_handle_serves_any_number_of_calls(
    session: MarketplaceSession, sandbox: Sandbox
) -> None:
    handle = session.available_add_ons(ADD_ON)
    sandbox.fail_next(503)
    assert await handle.fetch() == await handle.fetch()
    assert await handle.extensions.list().to_list() == await handle.extensions.list().to_list()


async def test_an_answer_that_is_always_about_something_else_is_no_answer(
    session: MarketplaceSession, sandbox: Sandbox
) -> None:
    body = f'{{"sid": "{OTHER_ADD_ON}", "available_add_on_sid": "{OTHER_ADD_ON}"}}'
    sandbox.fail_next(200, body=body, times=12)
    for call in (
        session.available_add_ons(ADD_ON).fetch(),
        session.available_add_ons(ADD_ON).extensions(EXTENSION).fetch(),
    ):
        with pytest.raises(InvalidResponseError, match=f"is about {OTHER_ADD_ON}, not") as caught:
            await call
        assert caught.value.attempts == 6
