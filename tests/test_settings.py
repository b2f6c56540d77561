"""Credentials, timeouts, and the server that requests go to."""

import copy
import pickle
from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from marketplace_async import Credentials, MissingCredentialsError, Timeout, open_session

KEY = {"TWILIO_API_KEY": "SK1", "TWILIO_API_SECRET": "key secret"}
ACCOUNT = {"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": "account token"}
BASE_URL = "TWILIO_MARKETPLACE_BASE_URL"
SECRET = "correct horse battery staple"
SID = "SK" + "0f" * 16

Setenv: TypeAlias = Callable[[dict[str, str]], None]
any_text = st.text(st.characters(codec=None))
in_one_environment = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def setenv(monkeypatch: pytest.MonkeyPatch) -> Setenv:
    """A function that sets these variables of Twilio's, and no others."""

    def setenv(variables: dict[str, str]) -> None:
        for name in (*KEY, *ACCOUNT, BASE_URL, "TWILIO_REGION", "TWILIO_EDGE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    setenv({})
    return setenv


def origin(**arguments: Any) -> str:
    """Return the origin of a session."""
    return str(open_session(Credentials("SK1", SECRET), **arguments).origin)


# Credentials


@pytest.mark.parametrize(
    ("variables", "username", "password"),
    [
        (KEY, "SK1", "key secret"),
        (ACCOUNT, "AC1", "account token"),
        ({**ACCOUNT, **KEY}, "SK1", "key secret"),
        ({**KEY, "TWILIO_ACCOUNT_SID": "AC1"}, "SK1", "key secret"),
        ({**KEY, "TWILIO_AUTH_TOKEN": "account token"}, "SK1", "key secret"),
        ({**ACCOUNT, "TWILIO_API_SECRET": "key secret"}, "AC1", "account token"),
        ({**ACCOUNT, **KEY, "TWILIO_API_KEY": ""}, "AC1", "account token"),
    ],
    ids=str,
)
def test_from_env(variables: dict[str, str], username: str, password: str, setenv: Setenv) -> None:
    """A complete pair is returned, that of the API key first."""
    setenv(variables)
    assert Credentials.from_env() == Credentials(username, password)


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({}, "the environment has none"),
        ({"TWILIO_API_KEY": "SK1"}, "TWILIO_API_KEY is set and TWILIO_API_SECRET is missing"),
        ({"TWILIO_API_SECRET": SECRET}, "TWILIO_API_SECRET is set and TWILIO_API_KEY is missing"),
        ({"TWILIO_ACCOUNT_SID": "AC1"}, "TWILIO_AUTH_TOKEN is missing"),
        ({"TWILIO_AUTH_TOKEN": SECRET}, "TWILIO_ACCOUNT_SID is missing"),
        ({**ACCOUNT, "TWILIO_AUTH_TOKEN": ""}, "TWILIO_AUTH_TOKEN is missing"),
        ({**ACCOUNT, "TWILIO_API_KEY": "SK1"}, "TWILIO_API_SECRET is missing"),
        (
            {"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_API_SECRET": SECRET},
            "TWILIO_API_KEY is missing; TWILIO_ACCOUNT_SID is set and TWILIO_AUTH_TOKEN is missing",
        ),
    ],
    ids=str,
)
def test_incomplete_pair(variables: dict[str, str], problem: str, setenv: Setenv) -> None:
    """If half of a pair is missing, the error names the missing variable."""
    setenv(variables)
    with pytest.raises(MissingCredentialsError, match=problem):
        Credentials.from_env()


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "must not be empty"),
        (f"{SECRET}\n", "begins or ends with whitespace"),
        (f"\t{SECRET}", "begins or ends with whitespace"),
        (f"{SECRET}\r\nX: 1", "not printable"),
        (f"{SECRET}\0", "not printable"),
        (f"{SECRET}\udcff", "not printable"),
        (f"{SECRET}\N{ZERO WIDTH SPACE}", "not printable"),
    ],
    ids=ascii,
)
def test_unusable_text(position: int, value: str, problem: str, setenv: Setenv) -> None:
    """If a value cannot be sent, the error names the argument or variable and hides the value."""
    pair = ["SK1", "x"]
    pair[position] = value
    with pytest.raises(ValueError, match=f"^{('username', 'password')[position]} .*{problem}") as a:
        Credentials(*pair)
    assert SECRET not in str(a.value)
    if value and "\0" not in value:
        setenv(dict(zip(ACCOUNT, pair, strict=True)))
        with pytest.raises(ValueError, match=f"^{[*ACCOUNT][position]} .*{problem}") as b:
            Credentials.from_env()
        assert SECRET not in str(b.value)


@pytest.mark.parametrize("value", [None, 1, True, SECRET.encode(), [SECRET]], ids=ascii)
def test_not_text(value: Any) -> None:
    """If a value is no string, the TypeError names the argument and hides the value."""
    for name in ("username", "password"):
        with pytest.raises(TypeError, match=rf"^{name} must be str, not {type(value).__name__}$"):
            Credentials(**{"username": "SK1", "password": "x", name: value})


def test_colon() -> None:
    """A colon is rejected in the user name, which it would end, and accepted in the password."""
    with pytest.raises(ValueError, match=r"^username must not contain a colon"):
        Credentials(f"AC1:{SECRET}", "x")
    assert Credentials("AC1", "a:b").password == "a:b"


def test_swapped(setenv: Setenv) -> None:
    """If SID and secret are swapped, the error says so and shows neither."""
    with pytest.raises(ValueError, match="username and password swapped") as caught:
        Credentials(SECRET, SID)
    setenv({"TWILIO_API_KEY": SECRET, "TWILIO_API_SECRET": SID})
    with pytest.raises(ValueError, match="TWILIO_API_KEY and TWILIO_API_SECRET swapped") as other:
        Credentials.from_env()
    for text in (str(caught.value), str(other.value)):
        assert SECRET not in text
        assert SID not in text


def test_credentials_value() -> None:
    """Credentials are immutable, hashable values of any script that can be copied and pickled."""
    credentials: Any = Credentials("Jürgen", "пароль 密码")
    again = pickle.loads(pickle.dumps(credentials))  # noqa: S301  # made right here
    assert again == copy.deepcopy(credentials) == credentials
    assert len({again, credentials, attrs.evolve(credentials, password="other")}) == 2
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        credentials.password = "other"


# Timeouts


def test_timeout_defaults() -> None:
    """The defaults are 60, 15 and 5 seconds; arguments have names."""
    assert Timeout() == Timeout(total=60, attempt=15, connect=5)
    assert repr(Timeout(total=1)) == "Timeout(total=1, attempt=15.0, connect=5.0)"
    positional: Any = Timeout
    with pytest.raises(TypeError):
        positional(60)


@pytest.mark.parametrize("name", ["total", "attempt", "connect"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), None, True, "5"])
def test_timeout_invalid(name: str, value: Any) -> None:
    """If a duration is not a finite number above 0, the error names it."""
    expected = ValueError if type(value) in (int, float) else TypeError
    with pytest.raises(expected, match=f"^{name} must be "):
        Timeout(**{name: value})


# Regions and edges


@pytest.mark.parametrize(
    ("region", "edge", "host"),
    [
        (None, None, "marketplace"),
        ("au1", None, "marketplace.sydney.au1"),
        ("br1", None, "marketplace.sao-paulo.br1"),
        ("de1", None, "marketplace.frankfurt.de1"),
        ("ie1", None, "marketplace.dublin.ie1"),
        ("jp1", None, "marketplace.tokyo.jp1"),
        ("jp2", None, "marketplace.osaka.jp2"),
        ("sg1", None, "marketplace.singapore.sg1"),
        ("us1", None, "marketplace.ashburn.us1"),
        ("us2", None, "marketplace.umatilla.us2"),
        (None, "dublin", "marketplace.dublin.us1"),
        ("ie1", "ashburn", "marketplace.ashburn.ie1"),
        ("xx9", "sydney-ix", "marketplace.sydney-ix.xx9"),
    ],
)
def test_region_edge(region: str | None, edge: str | None, host: str, setenv: Setenv) -> None:
    """A region alone uses its home edge, an edge alone us1, as arguments or variables."""
    assert origin(region=region, edge=edge) == f"https://{host}.twilio.com"
    setenv({"TWILIO_REGION": region or "", "TWILIO_EDGE": edge or ""})
    assert origin() == f"https://{host}.twilio.com"


def test_unknown_region(setenv: Setenv) -> None:
    """If the home edge of a region is not known, the error asks for the edge."""
    with pytest.raises(ValueError, match="region xx9 is not known: set edge too"):
        origin(region="xx9")
    setenv({"TWILIO_REGION": "xx9"})
    with pytest.raises(ValueError, match="region xx9 is not known: set TWILIO_EDGE too"):
        origin()


def test_precedence(setenv: Setenv) -> None:
    """Arguments win over the environment, and a base URL over region and edge."""
    setenv({"TWILIO_REGION": "ie1", "TWILIO_EDGE": "ashburn"})
    assert origin() == "https://marketplace.ashburn.ie1.twilio.com"
    assert origin(region="au1") == "https://marketplace.sydney.au1.twilio.com"
    assert origin(base_url="https://gateway.example") == "https://gateway.example"
    setenv({"TWILIO_REGION": "ie1", BASE_URL: "http://localhost:9"})
    assert origin() == "http://localhost:9"
    assert origin(region="au1") == "https://marketplace.sydney.au1.twilio.com"
    assert origin(base_url="https://gateway.example") == "https://gateway.example"


LABELS = ["", "US1", "us.1", "-us1", "us1-", "us_1", "us1/", "us1@evil.com", "us1\n", "..",
          "\N{FULLWIDTH LATIN SMALL LETTER U}s1", "a" * 64, "\udcff"]  # fmt: skip


@pytest.mark.parametrize("name", ["region", "edge"])
@pytest.mark.parametrize("label", LABELS, ids=ascii)
def test_invalid_label(name: str, label: str, setenv: Setenv) -> None:
    """If a region or edge is no DNS label, the error names the argument or variable."""
    with pytest.raises(ValueError, match=f"^{name} must be a name such as us1") as caught:
        origin(**{name: label})
    assert str(caught.value).isprintable()
    if label:
        variable = f"TWILIO_{name.upper()}"
        setenv({variable: label})
        with pytest.raises(ValueError, match=f"^{variable} must be a name"):
            origin()


@in_one_environment
@given(any_text | st.from_regex("[a-z0-9-]+", fullmatch=True))
def test_any_label(label: str) -> None:
    """Every region and edge is rejected or leads to Twilio."""
    try:
        found = origin(region=label, edge=label)
    except ValueError:
        return
    assert found == f"https://marketplace.{label}.{label}.twilio.com"


# Base URLs


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://marketplace.twilio.com/", "https://marketplace.twilio.com"),
        ("https://marketplace.twilio.com:443", "https://marketplace.twilio.com"),
        ("HTTPS://Marketplace.Twilio.COM/", "https://marketplace.twilio.com"),
        ("https://my_service:8443", "https://my_service:8443"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://LOCALHOST:8080/", "http://localhost:8080"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
    ],
)
def test_base_url(base_url: str, expected: str, setenv: Setenv) -> None:
    """A base URL is normalized to scheme, host and port, as an argument or variable."""
    assert origin(base_url=base_url) == expected
    setenv({BASE_URL: base_url})
    assert origin() == expected


@pytest.mark.parametrize("other", [{"region": "ie1"}, {"edge": "dublin"}])
def test_base_url_and_region(other: dict[str, str]) -> None:
    """If a base URL is passed with a region or edge, they contradict each other."""
    with pytest.raises(ValueError, match="pass either base_url or region and edge"):
        origin(base_url="https://marketplace.twilio.com", **other)


@pytest.mark.parametrize(
    "host",
    ["marketplace.twilio.com", "localhost.evil.com", "localhost.", "127.0.0.2", "127.1",
     "0x7f000001", "[::]", "[::ffff:127.0.0.1]", "10.0.0.1"],
)  # fmt: skip
def test_plain_http(host: str) -> None:
    """Plain HTTP is rejected, except to this machine."""
    with pytest.raises(ValueError, match=r"^base_url must be https; plain http is for this"):
        origin(base_url=f"http://{host}")


NO_ORIGINS = [
    f"https://AC1:{SECRET}@a", f"https://a/@{SECRET}", f"https://a\\@{SECRET}", "https://@a",
    "", "marketplace.twilio.com", "//marketplace.twilio.com", "https://", "https:///v1",
    "https:marketplace.twilio.com", "https://marketplace.twilio.com/v1", "https://a//",
    "https://a/..", "https://a?", "https://a?b=c", "https://a#", "https://a:", "https://a:port",
    "https://a:-1", "https://a:123456", "https://a:65536", "https://a b", " https://a",
    "https://a ", "https://a\n", "https://a\t.com", "https://a\0", "https://a%2ecom",
    "https://a\\", "https://[::1", "https://::1", "https://[1.2.3.4]",
    "https://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example",
    "http://\N{FULLWIDTH DIGIT ONE}27.0.0.1", "http://localho\N{LATIN SMALL LETTER LONG S}t",
    "https://a\N{IDEOGRAPHIC FULL STOP}com",
    "https://\udcff.com", "ftp://a", "file:///etc/passwd", "https://" + "b" * 10_000,
]  # fmt: skip


@pytest.mark.parametrize("base_url", NO_ORIGINS, ids=lambda base_url: ascii(base_url[:60]))
def test_no_origin(base_url: str, setenv: Setenv) -> None:
    """If a base URL is more or less than an origin, the error names the argument or variable."""
    problem = "must not contain credentials" if "@" in base_url else "must be|has an invalid host"
    with pytest.raises(ValueError, match=f"^base_url ({problem})") as caught:
        origin(base_url=base_url)
    assert SECRET not in str(caught.value)
    if base_url and base_url.isprintable():
        setenv({BASE_URL: base_url})
        with pytest.raises(ValueError, match=f"^{BASE_URL} ({problem})"):
            origin()


@in_one_environment
@given(
    any_text
    | st.builds("{}://{}{}".format, st.sampled_from(["http", "https"]), any_text, any_text)
    | st.from_regex(r"https?://[a-z0-9.\[\]:@/%-]+", fullmatch=True)
)
def test_any_base_url(base_url: str) -> None:
    """Every base URL is rejected or leads where it says: by https, or to this machine."""
    try:
        found = URL(origin(base_url=base_url))
    except ValueError:
        return
    assert str(found) == str(URL(base_url).origin())
    assert found.scheme == "https" or found.raw_host in {"localhost", "127.0.0.1", "::1"}
