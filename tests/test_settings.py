import copy
import pickle
import re
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from marketplace_async.errors import MissingCredentialsError
from marketplace_async.settings import CANONICAL_ORIGIN, Credentials, Timeout, origin

KEY = {"TWILIO_API_KEY": "SK1", "TWILIO_API_SECRET": "key secret"}
ACCOUNT = {"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": "account token"}
SECRET = "correct horse battery staple"

any_text = st.text(st.characters(codec=None))


# Credentials.


@pytest.mark.parametrize(
    ("environ", "username", "password"),
    [
        (KEY, "SK1", "key secret"),
        (ACCOUNT, "AC1", "account token"),
        ({**ACCOUNT, **KEY}, "SK1", "key secret"),
        ({**ACCOUNT, "TWILIO_API_KEY": "SK1"}, "AC1", "account token"),
        ({**ACCOUNT, "TWILIO_API_SECRET": "key secret"}, "AC1", "account token"),
        ({**ACCOUNT, **KEY, "TWILIO_API_SECRET": ""}, "AC1", "account token"),
        ({**KEY, "TWILIO_ACCOUNT_SID": "AC1"}, "SK1", "key secret"),
        ({**KEY, "TWILIO_AUTH_TOKEN": "account token"}, "SK1", "key secret"),
    ],
)
def test_a_whole_pair_in_the_environment_is_taken_and_that_of_an_api_key_first(
    environ: dict[str, str], username: str, password: str
) -> None:
    assert Credentials.from_env(environ) == Credentials(username, password)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"TWILIO_API_KEY": "SK1"},
        {"TWILIO_API_SECRET": SECRET},
        {"TWILIO_ACCOUNT_SID": "AC1"},
        {"TWILIO_AUTH_TOKEN": SECRET},
        {"TWILIO_API_KEY": "SK1", "TWILIO_AUTH_TOKEN": SECRET},
        {"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_API_SECRET": SECRET},
        {"TWILIO_API_KEY": "", "TWILIO_API_SECRET": SECRET},
        {"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": ""},
        {"twilio_api_key": "SK1", "twilio_api_secret": SECRET},
    ],
    ids="+".join,
)
def test_without_a_whole_pair_in_the_environment_credentials_are_missing(
    environ: dict[str, str],
) -> None:
    with pytest.raises(MissingCredentialsError, match="TWILIO_API_KEY") as caught:
        Credentials.from_env(environ)
    assert SECRET not in str(caught.value)


def test_the_environment_is_that_of_the_process_and_is_read_when_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (*KEY, *ACCOUNT):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(MissingCredentialsError):
        Credentials.from_env()
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(name, value)
    assert Credentials.from_env() == Credentials("AC1", "account token")


def test_the_password_is_in_no_representation() -> None:
    credentials = Credentials("AC1", SECRET)
    for text in (repr(credentials), str(credentials), f"{credentials}", f"{[credentials]!r}"):
        assert "AC1" in text
        assert SECRET not in text


NOT_TEXT = [None, 1, True, SECRET.encode(), [SECRET], {SECRET: SECRET}]
NOT_PRINTABLE = [
    "",
    f"{SECRET}\n",
    f"{SECRET}\r\nX-Injected: 1",
    f"\t{SECRET}",
    f"{SECRET}\0",
    f"{SECRET}\x7f",
    f"{SECRET}\x85",
    f"{SECRET}\ud800",
    f"{SECRET}\N{ZERO WIDTH SPACE}",
    f"\N{RIGHT-TO-LEFT OVERRIDE}{SECRET}",
]


def everything_said(make: Callable[[], object]) -> tuple[type[BaseException], str]:
    """The type of the error, and all that it and its traceback say."""
    try:
        made = make()
    except Exception as error:  # noqa: BLE001  # whichever it is
        return type(error), f"{error!r} {error} {traceback.format_exc()}"
    pytest.fail(f"{made} was made")


@pytest.mark.parametrize("value", NOT_TEXT, ids=ascii)
def test_what_is_no_text_is_refused_as_a_credential_and_not_shown(value: Any) -> None:
    for make in (partial(Credentials, value, "x"), partial(Credentials, "x", value)):
        kind, said = everything_said(make)
        assert kind is TypeError
        assert f"must be a string, not {type(value).__name__}" in said
        assert SECRET not in said


@pytest.mark.parametrize("value", NOT_PRINTABLE, ids=ascii)
def test_what_no_header_can_carry_is_refused_as_a_credential_and_not_shown(value: str) -> None:
    for make in (partial(Credentials, value, "x"), partial(Credentials, "x", value)):
        kind, said = everything_said(make)
        assert kind is ValueError
        assert "must be printable text and not empty" in said
        assert SECRET not in said


def test_a_colon_ends_a_user_name_and_is_refused_there_alone() -> None:
    kind, said = everything_said(lambda: Credentials(f"AC1:{SECRET}", "x"))
    assert kind is ValueError
    assert "username must not hold a colon" in said
    assert SECRET not in said
    assert Credentials("AC1", "a:b").password == "a:b"


def test_credentials_may_hold_letters_of_any_script() -> None:
    assert Credentials("Jürgen", "пароль 密码").password == "пароль 密码"


def test_credentials_can_be_copied_pickled_compared_and_used_as_keys() -> None:
    credentials = Credentials("AC1", SECRET)
    again = pickle.loads(pickle.dumps(credentials))  # noqa: S301  # made right here
    assert again == copy.deepcopy(credentials) == credentials
    assert len({again, credentials, Credentials("AC1", "other")}) == 2


def test_credentials_cannot_be_changed() -> None:
    credentials: Any = Credentials("AC1", SECRET)
    with pytest.raises(attrs.exceptions.FrozenInstanceError) as caught:
        credentials.password = "other"
    assert SECRET not in repr(caught.value)


# Time-outs.


def test_time_outs_have_defaults_in_seconds_and_names_alone() -> None:
    assert Timeout() == Timeout(total=60, attempt=15, connect=5)
    positional: Any = Timeout
    with pytest.raises(TypeError):
        positional(60)


@pytest.mark.parametrize("name", ["total", "attempt", "connect"])
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (None, TypeError),
        (True, TypeError),
        ("5", TypeError),
    ],
)
def test_a_time_out_is_a_finite_number_above_0(
    name: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"^{name} must be "):
        Timeout(**{name: value})


def test_time_outs_can_be_pickled_and_show_their_values() -> None:
    timeout = Timeout(total=1, attempt=0.5)
    assert pickle.loads(pickle.dumps(timeout)) == timeout  # noqa: S301  # made right here
    assert repr(timeout) == "Timeout(total=1, attempt=0.5, connect=5.0)"


# Where requests go.


@pytest.mark.parametrize(
    ("region", "edge", "host"),
    [
        (None, None, "marketplace.twilio.com"),
        ("us1", None, "marketplace.us1.twilio.com"),
        ("ie1", None, "marketplace.ie1.twilio.com"),
        (None, "ashburn", "marketplace.ashburn.us1.twilio.com"),
        ("ie1", "dublin", "marketplace.dublin.ie1.twilio.com"),
        ("au1", "sydney-ix", "marketplace.sydney-ix.au1.twilio.com"),
        ("a" * 63, "b", f"marketplace.b.{'a' * 63}.twilio.com"),
    ],
)
def test_region_and_edge_make_the_host_by_twilios_rules(
    region: str | None, edge: str | None, host: str
) -> None:
    assert str(origin(None, region, edge, {})) == f"https://{host}"
    environ = {"TWILIO_REGION": region or "", "TWILIO_EDGE": edge or ""}
    assert str(origin(environ=environ)) == f"https://{host}"


@pytest.mark.parametrize(
    ("region", "edge", "host"),
    [
        ("au1", None, "marketplace.dublin.au1.twilio.com"),
        (None, "sydney", "marketplace.sydney.ie1.twilio.com"),
        ("au1", "sydney", "marketplace.sydney.au1.twilio.com"),
    ],
)
def test_arguments_go_before_the_environment_each_for_itself(
    region: str | None, edge: str | None, host: str
) -> None:
    environ = {"TWILIO_REGION": "ie1", "TWILIO_EDGE": "dublin"}
    assert origin(None, region, edge, environ).host == host


def test_the_region_and_edge_of_the_process_are_read_when_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TWILIO_REGION", "ie1")
    monkeypatch.setenv("TWILIO_EDGE", "dublin")
    assert str(origin()) == "https://marketplace.dublin.ie1.twilio.com"
    monkeypatch.delenv("TWILIO_REGION")
    monkeypatch.delenv("TWILIO_EDGE")
    assert origin() == CANONICAL_ORIGIN


@pytest.mark.parametrize(
    "label",
    [
        "",
        " ",
        "US1",
        "us1.",
        ".us1",
        "us.1",
        "-us1",
        "us1-",
        "us_1",
        "us1/",
        "us1?x",
        "us1#",
        "us1@evil.com",
        "us1:8080",
        "evil.com/",
        "evil.com#",
        "us1\n",
        "us1\r\nHost: evil.com",
        "us1\0",
        "%75s1",
        "..",
        "../us1",
        "\N{FULLWIDTH LATIN SMALL LETTER U}s1",
        "us\N{ARABIC-INDIC DIGIT ONE}",
        "us\N{SUPERSCRIPT ONE}",
        "\N{KELVIN SIGN}1",
        "a" * 64,
        "b" * 1_000_000,
        "\ud800",
    ],
    ids=lambda label: ascii(label[:30]),
)
def test_what_is_no_dns_label_is_refused_as_region_and_edge_wherever_it_stands(label: str) -> None:
    for name in ("region", "edge"):
        with pytest.raises(ValueError, match=f"^the {name} must be a name such as us1") as caught:
            origin(**{name: label}, environ={})
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 3_000
    if label:
        for name in ("region", "edge"):
            with pytest.raises(ValueError, match=f"^the {name} must be"):
                origin(environ={f"TWILIO_{name.upper()}": label})


@given(any_text | st.from_regex("[a-z0-9-]+", fullmatch=True), st.sampled_from(["region", "edge"]))
def test_no_region_or_edge_leads_away_from_twilio(label: str, name: str) -> None:
    try:
        where = origin(**{name: label}, environ={})
    except ValueError:
        return
    rest = "" if name == "region" else ".us1"
    assert str(where) == f"https://marketplace.{label}{rest}.twilio.com"


@pytest.mark.parametrize(
    ("base_url", "where"),
    [
        ("https://marketplace.twilio.com", "https://marketplace.twilio.com"),
        ("https://marketplace.twilio.com/", "https://marketplace.twilio.com"),
        ("https://marketplace.twilio.com:443", "https://marketplace.twilio.com"),
        ("HTTPS://Marketplace.Twilio.COM/", "https://marketplace.twilio.com"),
        ("https://proxy.example:8443", "https://proxy.example:8443"),
        ("https://my_service:8443/", "https://my_service:8443"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("https://192.0.2.1", "https://192.0.2.1"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://localhost", "http://localhost"),
        ("http://LOCALHOST:8080/", "http://localhost:8080"),
        ("http://localhost:80", "http://localhost"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
        ("http://localhost:65535", "http://localhost:65535"),
    ],
)
def test_a_base_url_is_brought_to_its_scheme_host_and_port(base_url: str, where: str) -> None:
    assert str(origin(base_url)) == where
    assert origin(base_url) == URL(where)


def test_a_base_url_goes_before_the_environment() -> None:
    environ = {"TWILIO_REGION": "ie1", "TWILIO_EDGE": "dublin"}
    assert str(origin("http://localhost:1", environ=environ)) == "http://localhost:1"


@pytest.mark.parametrize(("region", "edge"), [("ie1", None), (None, "dublin"), ("ie1", "dublin")])
def test_a_base_url_beside_a_region_or_edge_is_refused(
    region: str | None, edge: str | None
) -> None:
    with pytest.raises(ValueError, match="give base_url or region and edge, not both"):
        origin("https://marketplace.twilio.com", region, edge)


@pytest.mark.parametrize(
    "base_url",
    [
        "http://marketplace.twilio.com",
        "http://localhost.evil.com",
        "http://evil.com:80",
        "http://127.0.0.2",
        "http://127.0.0.1.evil.com",
        "http://127.0.0.1.",
        "http://127.1",
        "http://0x7f000001",
        "http://2130706433",
        "http://0.0.0.0",
        "http://[::]",
        "http://[::ffff:127.0.0.1]",
        "http://10.0.0.1",
        "http://xn--localhost-",
        "http://localhost.",
        "HTTP://evil.com",
    ],
)
def test_plain_http_is_refused_to_any_machine_but_this(base_url: str) -> None:
    with pytest.raises(
        ValueError, match=r"^base_url must be https; plain http is for this machine"
    ):
        origin(base_url)


@pytest.mark.parametrize(
    "base_url",
    [
        f"https://AC1:{SECRET}@marketplace.twilio.com",
        f"https://{SECRET}@marketplace.twilio.com",
        f"https://:{SECRET}@marketplace.twilio.com",
        f"https://AC1:{SECRET}@marketplace.twilio.com:99999",
        f"https://AC1:{SECRET}@\N{FULLWIDTH SOLIDUS}evil.com",
        f"http://localhost:{SECRET}@evil.com",
        f"https://marketplace.twilio.com\\@{SECRET}",
        f"https://marketplace.twilio.com/{SECRET}@",
        "https://@marketplace.twilio.com",
        "https://:@marketplace.twilio.com",
    ],
)
def test_credentials_in_a_base_url_are_refused_and_not_shown(base_url: str) -> None:
    kind, said = everything_said(lambda: origin(base_url))
    assert kind is ValueError
    assert "base_url must not hold credentials" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        " ",
        "marketplace.twilio.com",
        "//marketplace.twilio.com",
        "/v1",
        "https://",
        "https:///v1",
        "https:marketplace.twilio.com",
        "https//marketplace.twilio.com",
        "https://marketplace.twilio.com/v1",
        "https://marketplace.twilio.com//",
        "https://marketplace.twilio.com/.",
        "https://marketplace.twilio.com/..",
        "https://marketplace.twilio.com?",
        "https://marketplace.twilio.com?a=b",
        "https://marketplace.twilio.com/?a=b",
        "https://marketplace.twilio.com#",
        "https://marketplace.twilio.com/#top",
        "https://marketplace.twilio.com:",
        "https://marketplace.twilio.com:port",
        "https://marketplace.twilio.com:-1",
        "https://marketplace.twilio.com:123456",
        "https://marketplace.twilio.com:44\N{FULLWIDTH DIGIT THREE}",
        "https://marketplace twilio.com",
        " https://marketplace.twilio.com",
        "https://marketplace.twilio.com ",
        "https://marketplace.twilio.com\n",
        "https://market\r\nplace.twilio.com",
        "https://marketplace\t.twilio.com",
        "https://marketplace.twilio.com\0",
        "https://marketplace.twilio.com\0.evil.com",
        "https://marketplace%2etwilio.com",
        "https://marketplace.twilio.com%00",
        "https://marketplace.twilio.com%2f.evil.com",
        "https://marketplace.twilio.com\\",
        "https://marketplace.twilio.com;a",
        "https://[::1",
        "https://::1",
        "https://[::1%25lo]",
        "https://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example",
        "http://\N{FULLWIDTH DIGIT ONE}27.0.0.1",
        "http://\N{CIRCLED LATIN SMALL LETTER L}ocalhost",
        "http://localho\N{LATIN SMALL LETTER LONG S}t",
        "http\N{LATIN SMALL LETTER LONG S}://marketplace.twilio.com",
        "https://marketplace\N{IDEOGRAPHIC FULL STOP}twilio.com",
        "https://\N{CYRILLIC SMALL LETTER A}.com",
        "https://\ud800.com",
        "ftp://marketplace.twilio.com",
        "file:///etc/passwd",
        "ws://localhost",
        "http+unix://localhost",
        "javascript:alert(1)",
        f"https://{'a' * 254}",
        "https://" + "b" * 1_000_000,
    ],
    ids=lambda base_url: ascii(base_url[:80]),
)
def test_what_is_more_or_less_than_an_origin_is_refused_as_a_base_url(base_url: str) -> None:
    with pytest.raises(ValueError, match=r"^base_url must be scheme, host and port alone, such as"):
        origin(base_url)


@pytest.mark.parametrize(
    "base_url",
    ["https://localhost:65536", "https://localhost:99999", "https://[1.2.3.4]"],
)
def test_a_port_or_address_that_cannot_be_is_refused_as_a_base_url(base_url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        origin(base_url)


@pytest.mark.parametrize("base_url", [b"https://localhost", 1, ["https://localhost"], object()])
def test_what_is_no_text_is_refused_as_a_base_url(base_url: Any) -> None:
    with pytest.raises(ValueError, match=r"^base_url must be scheme, host and port alone"):
        origin(base_url)


def test_a_parsed_url_is_fine_as_a_base_url() -> None:
    parsed: Any = URL("http://localhost:8080/")
    assert str(origin(parsed)) == "http://localhost:8080"


@given(
    any_text
    | st.builds("{}://{}{}".format, st.sampled_from(["http", "https"]), any_text, any_text)
    | st.from_regex(r"https?://[a-z0-9.\[\]:@/%-]+", fullmatch=True)
)
def test_whatever_the_base_url_requests_go_where_it_says_and_by_https_or_to_this_machine(
    base_url: str,
) -> None:
    try:
        where = origin(base_url)
    except ValueError:
        return
    assert str(where) == str(URL(base_url).origin())
    assert where == URL(str(where))
    assert re.fullmatch(r"https?://[a-z0-9.:_\[\]-]+", str(where))
    assert where.scheme == "https" or where.raw_host in {"localhost", "127.0.0.1", "::1"}
