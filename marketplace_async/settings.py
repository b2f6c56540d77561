"""Who asks, where, and how long it may take: credentials, origin, time-outs."""

import os
import re
from collections.abc import Mapping
from typing import Any, Final

import attrs
from yarl import URL

from marketplace_async.errors import MissingCredentialsError, shown
from marketplace_async.validation import is_seconds

__all__ = ["CANONICAL_ORIGIN", "Credentials", "Timeout", "origin"]

CANONICAL_ORIGIN: Final = URL("https://marketplace.twilio.com")

LABEL: Final = re.compile("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# Checked as text first: parsers mend what is wrong, drop line ends and fold full-width letters.
ORIGIN: Final = re.compile(
    r"https?://(\[[0-9a-f:.]+\]|([a-z0-9_-]{1,63}\.){0,126}[a-z0-9_-]{1,63}\.?)(:[0-9]{1,5})?/?",
    re.ASCII | re.IGNORECASE,
)
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def _is_sendable(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    # The value is not shown: it may be the secret, also where the user name is expected.
    if not isinstance(value, str):
        raise TypeError(f"{attribute.name} must be a string, not {type(value).__name__}")
    if not value or not value.isprintable():
        raise ValueError(f"{attribute.name} must be printable text and not empty")


def _has_no_colon(_: object, attribute: "attrs.Attribute[Any]", value: str) -> None:
    if ":" in value:  # it ends the user name in HTTP Basic: RFC 7617, section 2
        raise ValueError(f"{attribute.name} must not hold a colon")


@attrs.frozen
class Credentials:
    """What identifies the caller; the password never shows in a ``repr``.

    https://www.twilio.com/docs/usage/requests-to-twilio#credentials
    """

    username: str = attrs.field(validator=[_is_sendable, _has_no_colon])
    """The SID of an API key (``SK…``), or of the account (``AC…``)."""

    password: str = attrs.field(validator=_is_sendable, repr=False)
    """The secret of the API key, or the account's Auth Token."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Credentials":
        """Take them from ``TWILIO_API_KEY`` and ``TWILIO_API_SECRET``, or else from
        ``TWILIO_ACCOUNT_SID`` and ``TWILIO_AUTH_TOKEN``.

        :raises MissingCredentialsError: neither pair is set.
        :raises ValueError: they cannot be sent: not printable, or a colon in the user name.
        """
        for username, password in (
            ("TWILIO_API_KEY", "TWILIO_API_SECRET"),
            ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"),
        ):
            if environ.get(username) and environ.get(password):
                return cls(environ[username], environ[password])
        raise MissingCredentialsError("no credentials were given and the environment holds none")


@attrs.frozen(kw_only=True)
class Timeout:
    """How long things may take, in seconds."""

    total: float = attrs.field(default=60.0, validator=is_seconds)
    """One call with all its attempts and waits. A page of a listing is a call."""

    attempt: float = attrs.field(default=15.0, validator=is_seconds)
    """One attempt, from connecting to the last byte of the answer."""

    connect: float = attrs.field(default=5.0, validator=is_seconds)
    """Opening one connection, TLS included."""


def origin(
    base_url: str | None = None,
    region: str | None = None,
    edge: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> URL:
    """Give the scheme, host and port that requests go to.

    ``base_url`` wins; else ``region`` and ``edge``, or ``TWILIO_REGION`` and ``TWILIO_EDGE``
    in their place, make the host: https://www.twilio.com/docs/global-infrastructure/understanding-edge-locations

    :raises ValueError: ``base_url`` is more than an origin, is plain HTTP to another machine,
        or stands beside a region or edge; or these are not DNS labels.
    """
    if base_url is not None:
        if region is not None or edge is not None:
            raise ValueError("give base_url or region and edge, not both")
        return _origin_of(base_url)
    region = region if region is not None else environ.get("TWILIO_REGION") or None
    edge = edge if edge is not None else environ.get("TWILIO_EDGE") or None
    for name, label in ("region", region), ("edge", edge):
        if label is not None and not LABEL.fullmatch(label):
            raise ValueError(f"the {name} must be a name such as us1, not '{shown(label)}'")
    if edge is not None:
        region = region or "us1"
    labels = filter(None, ("marketplace", edge, region))
    return URL.build(scheme="https", host=".".join((*labels, "twilio.com")))


def _origin_of(base_url: str) -> URL:
    text = str(base_url)
    # What is refused may hold a password and is therefore not shown.
    if "@" in text:
        raise ValueError("base_url must not hold credentials; they are an argument of their own")
    if not ORIGIN.fullmatch(text):
        raise ValueError(
            "base_url must be scheme, host and port alone, such as https://marketplace.twilio.com"
        )
    bare = URL(str(URL(text).origin()))  # as text, for that leaves out a port that is the default
    if bare.scheme == "http" and bare.raw_host not in LOOPBACK:
        raise ValueError("base_url must be https; plain http is for this machine (localhost) alone")
    return bare
