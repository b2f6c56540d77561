"""Credentials, timeouts, and the server that requests go to."""

import math
import os
import re
from collections.abc import Mapping
from types import NoneType
from typing import Any, Final

import attrs
from yarl import URL

from marketplace_async.errors import MissingCredentialsError, escape

__all__ = ["LOOPBACK", "Credentials", "Timeout", "origin", "require_type", "seconds"]

# https://www.twilio.com/docs/global-infrastructure/understanding-edge-locations
HOME_EDGES: Final[Mapping[str, str]] = {
    "au1": "sydney",
    "br1": "sao-paulo",
    "de1": "frankfurt",
    "ie1": "dublin",
    "jp1": "tokyo",
    "jp2": "osaka",
    "sg1": "singapore",
    "us1": "ashburn",
    "us2": "umatilla",
}
VARIABLES: Final = (
    ("TWILIO_API_KEY", "TWILIO_API_SECRET"),
    ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"),
)
SID: Final = re.compile("(AC|SK)[0-9a-fA-F]{32}")
LABEL: Final = re.compile("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# Checked as text first: URL parsers repair mistakes, drop line ends and fold full-width letters.
ORIGIN: Final = re.compile(
    r"https?://(\[[0-9a-f:.]+\]|([a-z0-9_-]{1,63}\.){0,126}[a-z0-9_-]{1,63}\.?)(:[0-9]{1,5})?/?",
    re.ASCII | re.IGNORECASE,
)
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def require_type(name: str, value: object, *types: type[Any]) -> None:
    """Raise a TypeError that names the argument unless the types fit; a bool is no number."""
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        names = ["None" if type_ is NoneType else type_.__name__ for type_ in types]
        # The value itself is not shown: it may be a secret.
        raise TypeError(f"{name} must be {' or '.join(names)}, not {type(value).__name__}")


def seconds(_: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    """Check a duration in seconds, as an attrs validator."""
    require_type(attribute.name, value, int, float)
    if not 0 < value < math.inf:
        raise ValueError(f"{attribute.name} must be a finite number above 0, not {value!r}")


def _problem(names: tuple[str, str], *pair: object) -> Exception | None:
    """Return the error of a pair that cannot be sent; its text shows neither value."""
    for name, value in zip(names, pair, strict=True):
        if not isinstance(value, str):
            return TypeError(f"{name} must be str, not {type(value).__name__}")
        if not value:
            return ValueError(f"{name} must not be empty")
        if value != value.strip():
            return ValueError(f"{name} begins or ends with whitespace, such as a line end")
        if not value.isprintable():
            return ValueError(f"{name} contains characters that are not printable")
    if ":" in str(pair[0]):  # it ends the user name in HTTP Basic: RFC 7617, section 2
        return ValueError(f"{names[0]} must not contain a colon")
    if SID.fullmatch(str(pair[1])):
        return ValueError(f"{names[1]} is a SID: are {names[0]} and {names[1]} swapped?")
    return None


@attrs.frozen
class Credentials:
    """The user name and password of the requests; a ``repr`` never shows the password.

    https://www.twilio.com/docs/usage/requests-to-twilio#credentials

    :raises TypeError: one of them is no string.
    :raises ValueError: one of them cannot be sent, or the two are swapped.
    """

    username: str
    """The SID of an API key (``SK…``), or of the account (``AC…``)."""
    password: str = attrs.field(repr=False)
    """The secret of the API key, or the Auth Token of the account."""

    def __init__(self, username: str, password: str) -> None:
        error = _problem(("username", "password"), username, password)
        if error is not None:
            # Error trackers show the local variables of a traceback.
            del self, username, password
            raise error
        self.__attrs_init__(username, password)  # type: ignore[attr-defined]

    @classmethod
    def from_env(cls) -> "Credentials":
        """Return the credentials in the environment variables.

        These are ``TWILIO_API_KEY`` and ``TWILIO_API_SECRET``, or else ``TWILIO_ACCOUNT_SID``
        and ``TWILIO_AUTH_TOKEN``. An empty variable counts as missing.

        :raises MissingCredentialsError: no pair is complete, or ``TWILIO_API_KEY`` is set
            without ``TWILIO_API_SECRET``.
        :raises ValueError: as for the constructor; the text names the variable.
        """
        problems: list[str] = []
        for names in VARIABLES:
            missing = [name for name in names if not os.environ.get(name)]
            if not missing:
                # No local variable holds the values: error trackers show those of a traceback.
                error = _problem(names, os.environ[names[0]], os.environ[names[1]])
                if error is not None:
                    raise error
                return cls(os.environ[names[0]], os.environ[names[1]])
            if len(missing) == 1:
                (present,) = {*names} - {*missing}
                problems.append(f"{present} is set and {missing[0]} is missing")
                if present == "TWILIO_API_KEY":
                    break
        raise MissingCredentialsError(
            "; ".join(problems) or "no credentials were passed and the environment has none"
        )


@attrs.frozen(kw_only=True)
class Timeout:
    """The maximum durations of calls, attempts and connecting, in seconds."""

    total: float = attrs.field(default=60.0, validator=seconds)
    """One call with all its attempts and waits. Each page of a listing is a call."""
    attempt: float = attrs.field(default=15.0, validator=seconds)
    """One attempt, from connecting to the last byte of the response."""
    connect: float = attrs.field(default=5.0, validator=seconds)
    """Opening one connection, TLS included."""


def origin(base_url: str | None = None, region: str | None = None, edge: str | None = None) -> URL:
    """Return the scheme, host and port that requests go to.

    Arguments win over the environment variables ``TWILIO_MARKETPLACE_BASE_URL``,
    ``TWILIO_REGION`` and ``TWILIO_EDGE``, and a base URL over a region and edge. A region alone
    uses its home edge, an edge alone the region us1.

    :raises TypeError: an argument is no string.
    :raises ValueError: an argument or variable is invalid, or arguments contradict each other.
    """
    names = "base_url", "region", "edge"
    for name, value in zip(names, (base_url, region, edge), strict=True):
        require_type(name, value, str, NoneType)
    if base_url is None and region is None and edge is None:
        names = "TWILIO_MARKETPLACE_BASE_URL", "TWILIO_REGION", "TWILIO_EDGE"
        base_url, region, edge = (os.environ.get(name) or None for name in names)
    elif base_url is not None and (region is not None or edge is not None):
        raise ValueError("pass either base_url or region and edge")
    if base_url is not None:
        return _checked(names[0], base_url)
    for name, label in zip(names[1:], (region, edge), strict=True):
        if label is not None and not LABEL.fullmatch(label):
            raise ValueError(f"{name} must be a name such as us1 or dublin, not '{escape(label)}'")
    if region is None and edge is None:
        return URL("https://marketplace.twilio.com")
    region = region or "us1"
    edge = edge or HOME_EDGES.get(region)
    if edge is None:
        raise ValueError(f"the edge of the region {region} is not known: set {names[2]} too")
    return URL(f"https://marketplace.{edge}.{region}.twilio.com")


def _checked(name: str, url: str) -> URL:
    # The URL may contain a password and is therefore not shown.
    if "@" in url:
        raise ValueError(f"{name} must not contain credentials; pass credentials=")
    if not ORIGIN.fullmatch(url):
        raise ValueError(
            f"{name} must be scheme, host and port only, such as https://marketplace.twilio.com"
        )
    try:
        parsed = URL(str(URL(url).origin()))  # as text: that omits a default port
    except ValueError as error:
        raise ValueError(f"{name} has an invalid host or port") from error
    if parsed.scheme == "http" and parsed.raw_host not in LOOPBACK:
        raise ValueError(f"{name} must be https; plain http is for this machine (localhost) only")
    return parsed
