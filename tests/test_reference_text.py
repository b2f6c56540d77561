"""Twilio's page on Extensions: its samples and statements, from end to end.

https://www.twilio.com/docs/marketplace/api/available-add-ons/extensions-subresource
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from scripted_api import Answer, ScriptedApi

from marketplace_async import (
    Extension,
    MarketplaceSession,
    NotFoundError,
    Page,
    PageMeta,
    open_session,
)
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
MODEL = Extension(**FETCHED)
META = PageMeta(**LISTED["meta"])


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A server that has only the sample, under Twilio's own address."""
    catalog = Catalog.from_json({"available_add_ons": [{"sid": ADD_ON, "extensions": [FETCHED]}]})
    async with Sandbox(catalog, public_base_url="https://marketplace.twilio.com") as sandbox:
        yield sandbox


@pytest.fixture
async def session(sandbox: Sandbox) -> AsyncIterator[MarketplaceSession]:
    async with open_session(sandbox.credentials, base_url=sandbox.url) as session:
        yield session


async def test_examples(session: MarketplaceSession, sandbox: Sandbox) -> None:
    """The two examples of the page, fetch and list, send its requests and return its sample."""
    extensions = session.available_add_ons(ADD_ON).extensions
    assert await extensions(EXTENSION).fetch() == MODEL
    assert [extension.sid async for extension in extensions.list(limit=20)] == [EXTENSION]
    path = f"/v1/AvailableAddOns/{ADD_ON}/Extensions"
    assert [(request.method, str(request.url)) for request in sandbox.requests] == [
        ("GET", f"{path}/{EXTENSION}"),
        ("GET", f"{path}?PageSize=20"),
    ]
    assert [page.meta async for page in extensions.list().pages()] == [META]


async def test_samples() -> None:
    """The sample responses become models with the same fields, and the same JSON again."""
    answers = (Answer(json.dumps(sample, indent=2).encode()) for sample in (FETCHED, LISTED))
    async with ScriptedApi(*answers) as api, api.session() as session:
        extensions = session.available_add_ons(ADD_ON).extensions
        assert (await extensions(EXTENSION).fetch()).to_dict() == FETCHED
        (page,) = [page async for page in extensions.list().pages()]
    assert page == Page((MODEL,), META)
    assert page.meta.to_dict() == LISTED["meta"]


@pytest.mark.parametrize("page_size", [1, 1000])
async def test_page_size(page_size: int, session: MarketplaceSession, sandbox: Sandbox) -> None:
    """A page can have from 1 to 1000 items."""
    extensions = session.available_add_ons(ADD_ON).extensions
    assert await extensions.list(page_size=page_size) == [MODEL]
    assert dict(sandbox.requests[0].query) == {"PageSize": str(page_size)}
    for outside in (0, 1001):
        with pytest.raises(ValueError, match="page_size"):
            extensions.list(page_size=outside)


async def test_not_accessible(session: MarketplaceSession) -> None:
    """If a listing is not accessible, it is not found."""
    with pytest.raises(NotFoundError):
        await session.available_add_ons("XB" + 32 * "0").extensions.list()
