"""Twilio's page about Extensions, sentence by sentence and with its own sample, from end to end.

https://www.twilio.com/docs/marketplace/api/available-add-ons/extensions-subresource
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
from scripted_api import Answer, ScriptedApi

from marketplace_async import (
    Extension,
    InvalidSidError,
    MarketplaceSession,
    NotFoundError,
    Page,
    PageMeta,
    open_session,
)
from marketplace_async.conversion import converter
from marketplace_async.sandbox import Catalog, Sandbox

ADD_ON = "XBaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
EXTENSION = "XFaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
LISTING = f"https://marketplace.twilio.com/v1/AvailableAddOns/{ADD_ON}/Extensions"

FETCHED: dict[str, Any] = {
    "sid": EXTENSION,
    "available_add_on_sid": ADD_ON,
    "friendly_name": "Incoming Voice Call",
    "product_name": "Programmable Voice",
    "unique_name": "voice-incoming",
    "url": f"{LISTING}/{EXTENSION}",
}
LISTED: dict[str, Any] = {
    "extensions": [FETCHED],
    "meta": {
        "page": 0,
        "page_size": 50,
        "first_page_url": f"{LISTING}?PageSize=50&Page=0",
        "previous_page_url": None,
        "url": f"{LISTING}?PageSize=50&Page=0",
        "next_page_url": None,
        "key": "extensions",
    },
}
MODEL = Extension(
    sid=EXTENSION,
    available_add_on_sid=ADD_ON,
    friendly_name="Incoming Voice Call",
    product_name="Programmable Voice",
    unique_name="voice-incoming",
    url=f"{LISTING}/{EXTENSION}",
)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A server that holds the sample alone and gives it under Twilio's own address."""
    catalog = Catalog.from_json({"available_add_ons": [{"sid": ADD_ON, "extensions": [FETCHED]}]})
    async with Sandbox(catalog, public_base_url="https://marketplace.twilio.com") as sandbox:
        yield sandbox


@pytest.fixture
async def session(sandbox: Sandbox) -> AsyncIterator[MarketplaceSession]:
    async with open_session(sandbox.credentials, base_url=sandbox.url) as session:
        yield session


async def test_the_sample_is_fetched(session: MarketplaceSession, sandbox: Sandbox) -> None:
    assert await session.available_add_ons(ADD_ON).extensions(EXTENSION).fetch() == MODEL
    (request,) = sandbox.requests
    assert (request.method, str(request.url)) == (
        "GET",
        f"/v1/AvailableAddOns/{ADD_ON}/Extensions/{EXTENSION}",
    )


async def test_the_sample_is_listed(session: MarketplaceSession, sandbox: Sandbox) -> None:
    listing = session.available_add_ons(ADD_ON).extensions.list(limit=20)
    assert [extension.sid async for extension in listing] == [EXTENSION]
    (request,) = sandbox.requests
    assert (request.method, request.path) == ("GET", f"/v1/AvailableAddOns/{ADD_ON}/Extensions")
    assert dict(request.query) == {"PageSize": "20"}


async def test_by_default_a_page_has_50_items_and_all_of_its_meta(
    session: MarketplaceSession,
) -> None:
    pages = [page async for page in session.available_add_ons(ADD_ON).extensions.list().pages()]
    assert pages == [Page((MODEL,), PageMeta(**LISTED["meta"]))]


async def test_models_go_back_to_the_json_of_the_sample(session: MarketplaceSession) -> None:
    extensions = session.available_add_ons(ADD_ON).extensions
    assert converter.unstructure(await extensions(EXTENSION).fetch()) == FETCHED
    page = await anext(aiter(extensions.list().pages()))
    assert converter.unstructure(page.items) == LISTED["extensions"]
    assert converter.unstructure(page.meta) == LISTED["meta"]


async def test_the_samples_as_they_stand_there_are_understood() -> None:
    answers = (Answer(json.dumps(sample, indent=2).encode()) for sample in (FETCHED, LISTED))
    async with ScriptedApi(*answers) as api, api.session() as session:
        extensions = session.available_add_ons(ADD_ON).extensions
        assert await extensions(EXTENSION).fetch() == MODEL
        assert await extensions.list(limit=20).to_list() == [MODEL]
    assert [str(request.url) for request in api.requests] == [
        f"{LISTING}/{EXTENSION}",
        f"{LISTING}?PageSize=20",
    ]


def test_every_property_of_the_page_is_a_field_with_its_own_name() -> None:
    assert [field.name for field in attrs.fields(Extension)] == [*FETCHED]
    assert [field.name for field in attrs.fields(PageMeta)] == [*LISTED["meta"]]


@pytest.mark.parametrize("digits", ["0123456789abcdefABCDEF0123456789", "f" * 32])
async def test_a_sid_has_two_letters_and_32_hexadecimal_digits(
    digits: str, session: MarketplaceSession
) -> None:
    handle = session.available_add_ons("XB" + digits).extensions("XF" + digits)
    assert (handle.available_add_on_sid, handle.sid) == ("XB" + digits, "XF" + digits)
    for given in ("XB" + digits[1:], "XB" + digits + "0", "XB" + digits[1:] + "g"):
        with pytest.raises(InvalidSidError, match=r"\^XB\[0-9a-fA-F\]\{32\}\$"):
            session.available_add_ons(given)
        with pytest.raises(InvalidSidError, match=r"\^XF\[0-9a-fA-F\]\{32\}\$"):
            session.available_add_ons(ADD_ON).extensions(given.replace("XB", "XF"))


@pytest.mark.parametrize("page_size", [1, 1000])
async def test_a_page_may_have_from_1_to_1000_items(
    page_size: int, session: MarketplaceSession, sandbox: Sandbox
) -> None:
    listing = session.available_add_ons(ADD_ON).extensions.list(page_size=page_size)
    assert await listing.to_list() == [MODEL]
    assert dict(sandbox.requests[0].query) == {"PageSize": str(page_size)}
    for outside in (0, 1001):
        with pytest.raises(ValueError, match="page_size must be 1 to 1000"):
            session.available_add_ons(ADD_ON).extensions.list(page_size=outside)


async def test_listings_that_are_not_accessible_are_not_found(session: MarketplaceSession) -> None:
    with pytest.raises(NotFoundError):
        await session.available_add_ons("XB" + 32 * "0").extensions.list().to_list()


async def test_the_sample_is_the_first_of_the_sandbox_that_comes_without_a_catalogue() -> None:
    async with (
        Sandbox(public_base_url="https://marketplace.twilio.com") as sandbox,
        open_session(sandbox.credentials, base_url=sandbox.url) as session,
    ):
        add_on = await session.available_add_ons.list().first()
        assert add_on
        assert add_on.sid == ADD_ON
        assert await session.available_add_ons(add_on.sid).extensions.list().first() == MODEL
