"""Resource handles: validated SIDs become paths, and verbs become requests.

Handles are immutable and do no I/O until a verb is awaited or iterated. There is one module for
each resource family.
"""

from marketplace_async.resources.available_add_ons import (
    AvailableAddOnHandle,
    AvailableAddOns,
    ExtensionHandle,
    Extensions,
)

__all__ = ["AvailableAddOnHandle", "AvailableAddOns", "ExtensionHandle", "Extensions"]
