"""Handles: validated SIDs, the requests of their verbs, and responses about something else."""

import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from leftovers import leaves_nothing
from scripted_api import ADD_ON, CREDENTIALS, EXTENSION, Answer, ScriptedApi

from marketplace_async import (
    AvailableAddOn,
    AvailableAddOnHandle,
    Extension,
    InvalidResponseError,
    InvalidSidError,
    MarketplaceSession,
    NotFoundError,
    open_session,
)
from marketplace_async.sandbox import Sandbox

OTHER = "XB" + 32 * "0"
XF = EXTENSION.sid

HANDLES: dict[str, Callable[[MarketplaceSession], Any]] = {
    "AvailableAddOns()": lambda session: session.available_add_ons,
    f"AvailableAddOnHandle(sid='{ADD_ON}')": lambda session: session.available_add_ons(ADD_ON),
    f"Extensions(available_add_on_sid='{ADD_ON}')": lambda session: (
        session.available_add_ons(ADD_ON).extensions
    ),
    f"ExtensionHandle(available_add_on_sid='{ADD_ON}', sid='{XF}')": lambda session: (
        session.available_add_ons(ADD_ON).extensions(XF)
    ),
}


def json_of(fields: object) -> Answer:
    return Answer(json.dumps(fields).encode(), seconds=0.01)


@pytest.mark.parametrize("text", HANDLES)
def test_handle(text: str) -> None:
    """A handle shows its SIDs only, is hashable, belongs to its session and cannot be changed."""
    session, other = open_session(CREDENTIALS), open_session(CREDENTIALS)
    make = HANDLES[text]
    handle = make(session)
    assert repr(handle) == text
    assert handle == make(session)
    assert {handle: 1}[make(session)] == 1
    assert handle != make(other)
    for name in ("sid", "available_add_on_sid", "anything"):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(handle, name, OTHER)


def test_handle_of() -> None:
    """A SID, a model and a handle make equal handles, which know their SIDs."""
    add_ons = open_session(CREDENTIALS).available_add_ons
    add_on = add_ons(ADD_ON)
    assert add_ons(AvailableAddOn(ADD_ON)) == add_ons(add_on) == add_on
    assert add_on.sid == add_on.extensions.available_add_on_sid == ADD_ON
    extension = add_on.extensions(XF)
    assert add_on.extensions(EXTENSION) == add_on.extensions(extension) == extension
    assert (extension.available_add_on_sid, extension.sid) == (ADD_ON, XF)


@pytest.mark.parametrize(
    "wrong", ["", "XB", ADD_ON[:-1], XF + "a", ADD_ON + "\n", f"../{ADD_ON}", None, 7], ids=repr
)
def test_wrong_sid(wrong: Any) -> None:
    """If the SID is wrong, the error says what was expected."""
    add_ons = open_session(CREDENTIALS).available_add_ons
    with pytest.raises(InvalidSidError, match="an Available Add-on"):
        add_ons(wrong)
    with pytest.raises(InvalidSidError, match="an Extension"):
        add_ons(ADD_ON).extensions(wrong)


def test_wrong_kind() -> None:
    """A model or handle of another resource is a wrong SID."""
    add_ons: Any = open_session(CREDENTIALS).available_add_ons
    for wrong in XF, EXTENSION, add_ons(ADD_ON).extensions(XF):
        with pytest.raises(InvalidSidError, match="an Available Add-on"):
            add_ons(wrong)
    for wrong in ADD_ON, AvailableAddOn(ADD_ON), add_ons(ADD_ON), add_ons(ADD_ON).extensions:
        with pytest.raises(InvalidSidError, match="an Extension"):
            add_ons(ADD_ON).extensions(wrong)


async def test_verbs(marketplace_sandbox: Sandbox, marketplace_session: MarketplaceSession) -> None:
    """Each verb requests the path of its resource; a fetched item equals the listed one."""
    async with marketplace_session as session:
        add_on = (await session.available_add_ons.list(limit=4, page_size=2))[-1]
        handle = session.available_add_ons(add_on)
        assert await handle.fetch() == add_on
        extension = (await handle.extensions.list(limit=1))[0]
        assert await handle.extensions(extension).fetch() == extension
    path = "/v1/AvailableAddOns"
    first, _, *others = [str(request.url) for request in marketplace_sandbox.requests]
    assert first == f"{path}?PageSize=2"
    assert others == [
        f"{path}/{add_on.sid}",
        f"{path}/{add_on.sid}/Extensions?PageSize=1",
        f"{path}/{add_on.sid}/Extensions/{extension.sid}",
    ]


async def test_not_found(marketplace_session: MarketplaceSession) -> None:
    """If the resource does not exist, each verb raises `NotFoundError`."""
    async with marketplace_session as session:
        handle = session.available_add_ons("XB" + 32 * "9")
        for call in handle.fetch(), handle.extensions(XF).fetch(), handle.extensions.list().first():
            with pytest.raises(NotFoundError):
                await call


@pytest.mark.parametrize("fields", [{}, {"available_add_on_sid": None}], ids=["missing", "null"])
@leaves_nothing
async def test_known_add_on(fields: dict[str, None]) -> None:
    """If the response has no ``available_add_on_sid``, it is the handle's."""
    item = {"sid": XF, **fields}
    responses = json_of(item), json_of({"extensions": [item], "meta": {}})
    async with ScriptedApi(*responses) as api, api.session() as session:
        extensions = session.available_add_ons(ADD_ON).extensions
        assert await extensions(XF).fetch() == Extension(XF, ADD_ON)
        assert await extensions.list() == [Extension(XF, ADD_ON)]


CALLS: tuple[tuple[Callable[[AvailableAddOnHandle], Any], object, object], ...] = (
    (lambda handle: handle.fetch(), {"sid": ADD_ON.upper()}, {"sid": OTHER}),
    (lambda handle: handle.extensions(XF).fetch(), {"sid": XF}, {"sid": "XF" + 32 * "0"}),
    (
        lambda handle: handle.extensions.list().to_list(),
        {"extensions": [{"sid": XF}], "meta": {}},
        {"extensions": [{"sid": XF, "available_add_on_sid": OTHER}], "meta": {}},
    ),
)


@pytest.mark.parametrize(("call", "right", "wrong"), CALLS, ids=["add-on", "extension", "list"])
@leaves_nothing
async def test_mixed_up(call: Callable[[Any], Any], right: object, wrong: object) -> None:
    """If a response is about another resource, the request is retried, and at last an error."""
    responses = json_of(wrong), json_of(right)
    async with ScriptedApi(*responses, then=json_of(wrong)) as api, api.session() as session:
        handle = session.available_add_ons(ADD_ON)
        assert await call(handle)
        assert len(api.requests) == 2
        with pytest.raises(InvalidResponseError, match=r"is about X.0{32}, not X") as caught:
            await call(handle)
    assert caught.value.attempts == 6
