"""An asyncio client for Twilio's Marketplace v1 API."""

from marketplace_async.errors import (
    ApiError,
    AuthenticationError,
    CertificateError,
    ConnectionFailedError,
    InvalidItemError,
    InvalidResponseError,
    InvalidSidError,
    MarketplaceError,
    MissingCredentialsError,
    NotFoundError,
    PageLoopError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ResponseTooLargeError,
    ServerError,
    SessionClosedError,
    UntrustedPageUrlError,
)
from marketplace_async.fanout import Failure, FanOut, Outcome, Success
from marketplace_async.limits import AdaptiveLimiter, Limiter, LimiterStatistics
from marketplace_async.models import AvailableAddOn, Extension, PageMeta
from marketplace_async.paging import Page, Pager
from marketplace_async.resources import (
    AvailableAddOnHandle,
    AvailableAddOns,
    ExtensionHandle,
    Extensions,
)
from marketplace_async.retry import RetryEvent, RetryPolicy
from marketplace_async.session import MarketplaceSession, open_session
from marketplace_async.settings import Credentials, Timeout
from marketplace_async.transport import SessionStatistics
from marketplace_async.version import __version__

__all__ = [
    "AdaptiveLimiter",
    "ApiError",
    "AuthenticationError",
    "AvailableAddOn",
    "AvailableAddOnHandle",
    "AvailableAddOns",
    "CertificateError",
    "ConnectionFailedError",
    "Credentials",
    "Extension",
    "ExtensionHandle",
    "Extensions",
    "Failure",
    "FanOut",
    "InvalidItemError",
    "InvalidResponseError",
    "InvalidSidError",
    "Limiter",
    "LimiterStatistics",
    "MarketplaceError",
    "MarketplaceSession",
    "MissingCredentialsError",
    "NotFoundError",
    "Outcome",
    "Page",
    "PageLoopError",
    "PageMeta",
    "Pager",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestTimeoutError",
    "ResponseTooLargeError",
    "RetryEvent",
    "RetryPolicy",
    "ServerError",
    "SessionClosedError",
    "SessionStatistics",
    "Success",
    "Timeout",
    "UntrustedPageUrlError",
    "__version__",
    "open_session",
]
