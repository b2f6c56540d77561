"""A local HTTP server that implements Twilio's Marketplace v1 API.

Use it to try the library without an account, and in tests and load tests::

    async with Sandbox() as sandbox:
        async with open_session(sandbox.credentials, base_url=sandbox.url) as marketplace:
            ...

======================  =========================================================
`Sandbox`               the server; it can simulate faults and records its requests
`Catalog`               the data that it serves: Available Add-ons and their Extensions
`builtin_catalog`       the default catalogue: 150 fictional add-ons
`add_on`, `extension`   build entries of a catalogue, with new SIDs
======================  =========================================================

``import marketplace_async`` does not load this package.
"""

from marketplace_async.sandbox.builtin import builtin_catalog
from marketplace_async.sandbox.catalog import Catalog, CatalogEntry, add_on, extension
from marketplace_async.sandbox.server import ReceivedRequest, Sandbox

__all__ = [
    "Catalog",
    "CatalogEntry",
    "ReceivedRequest",
    "Sandbox",
    "add_on",
    "builtin_catalog",
    "extension",
]
