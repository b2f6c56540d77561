"""A real HTTP server on this machine that speaks Twilio's Marketplace v1 API.

For trying the library without an account, for tests and for load::

    async with Sandbox() as sandbox:
        async with open_session(sandbox.credentials, base_url=sandbox.url) as marketplace:
            ...

======================  =========================================================
`Sandbox`               the server, with faults on request and a list of what it was asked
`Catalog`               what it serves: Available Add-ons and their Extensions
`builtin_catalog`       the 150 invented add-ons it serves unless told otherwise
`add_on`, `extension`   build entries of a catalogue, with fresh SIDs
======================  =========================================================

``import marketplace_async`` does not load this package.
"""

from marketplace_async.sandbox.builtin import builtin_catalog
from marketplace_async.sandbox.catalog import Catalog, CatalogEntry, add_on, extension
from marketplace_async.sandbox.received import ReceivedRequest
from marketplace_async.sandbox.server import Sandbox

__all__ = [
    "Catalog",
    "CatalogEntry",
    "ReceivedRequest",
    "Sandbox",
    "add_on",
    "builtin_catalog",
    "extension",
]
