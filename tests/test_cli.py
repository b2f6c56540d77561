"""The command line: commands, options, errors and exit codes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import CommandLine, Result, command_line, run_here, shell

from marketplace_async import __version__
from marketplace_async.sandbox import builtin_catalog

ADD_ON = "XB" + 32 * "a"
EXTENSION = "XF" + 32 * "a"
PAGE = Path(__file__).parents[1] / "docs" / "command-line.md"
KEY = {"TWILIO_API_KEY": "SK", "TWILIO_API_SECRET": "s"}

COMMANDS = [
    *("add-ons list", "add-ons fetch", "extensions list", "extensions fetch"),
    *("catalog", "sandbox"),
]


@pytest.fixture
def command() -> Iterator[CommandLine]:
    with command_line() as command:
        yield command


def test_version() -> None:
    """The version is that of the library."""
    assert run_here("--version") == Result(0, f"marketplace-async {__version__}\n", "")


@pytest.mark.parametrize("name", ["", "add-ons", "extensions", *COMMANDS])
def test_help(name: str) -> None:
    """Every command has a help of 80 columns, without an option for a secret."""
    ended = run_here(*name.split(), "--help")
    assert ended == run_here(*name.split(), "-h")
    assert (ended.code, ended.err) == (0, "")
    assert max(map(len, ended.out.splitlines())) <= 80
    assert not re.search("--[a-z-]*(token|secret|key)", ended.out)
    if name in COMMANDS:
        assert f"  marketplace-async {name} " in ended.out.partition("Example")[2]


def test_documented() -> None:
    """Every command, option and exit code is documented."""
    page = PAGE.read_text("utf-8")
    helps = "".join(run_here(*name.split(), "--help").out for name in ("", *COMMANDS))
    assert [name for name in re.findall(r"--[a-z-]+", helps) if f"`{name}" not in page] == []
    assert [name for name in COMMANDS if f"| `{name}" not in page] == []
    codes = [*range(8), 130, 141, 143]
    assert [code for code in codes if f"\n| {code} | " not in page] == []


def test_list() -> None:
    """Listings are one object per line in a pipe, and complete unless limited."""
    add_ons = run_here("--sandbox", "add-ons", "list", "--limit", "3")
    extensions = run_here("extensions", "list", ADD_ON, "-o", "csv", "--sandbox")
    assert (add_ons.code, add_ons.err) == (extensions.code, extensions.err) == (0, "")
    sids = [json.loads(line)["sid"] for line in add_ons.out.splitlines()]
    assert sids == list(builtin_catalog())[:3]
    unique_names = [line.split(",")[4] for line in extensions.out.splitlines()]
    assert unique_names == ["unique_name", "voice-incoming", "voice-recording"]


def test_fetch() -> None:
    """A fetched resource is an object, or a table with one row per field."""
    add_on = run_here("--sandbox", "add-ons", "fetch", ADD_ON, "-o", "json")
    extension = run_here("--sandbox", "extensions", "fetch", ADD_ON, EXTENSION, "-o", "table")
    assert (add_on.code, add_on.err) == (extension.code, extension.err) == (0, "")
    assert json.loads(add_on.out)["configuration_schema"]["required"] == ["bad_words"]
    assert ["Name", "Incoming", "Voice", "Call"] in map(str.split, extension.out.splitlines())


def test_page_size(command: CommandLine) -> None:
    """--page-size is the size of each requested page, up to --limit."""
    command("add-ons", "list", "--limit", "15", "--page-size", "10")
    assert [str(request.query["PageSize"]) for request in command.sandbox.requests] == ["10"] * 2


def test_base_url_variable(command: CommandLine) -> None:
    """TWILIO_MARKETPLACE_BASE_URL selects the server, unless --base-url does."""
    url = {"TWILIO_MARKETPLACE_BASE_URL": command.sandbox.url}
    assert run_here("add-ons", "fetch", ADD_ON, **url, **command.credentials).code == 0
    assert command("add-ons", "fetch", ADD_ON, TWILIO_MARKETPLACE_BASE_URL="nonsense").code == 0


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (("extensions", "list", "XBnonsense"), "'XBnonsense' is not the SID of"),
        (("extensions", "fetch", ADD_ON, ADD_ON), "is not the SID of an Extension"),
        (("extensions", "list", "XB\n\x1b[31m"), r"XB\n\x1b[31m"),
        (("extensions", "list"), "ADD_ON_SID"),
        (("add-ons", "list", "--limit", "-1"), "--limit"),
        (("add-ons", "list", "--page-size", "1001"), "--page-size"),
        (("add-ons", "list", "-o", "xml"), "'xml' is not one of"),
        (("add-ons", "lst"), "lst"),
        (("--frobnicate\n",), r"--frobnicate\n"),
        (("--sandbox", "catalog", "--base-url", ""), "leave out --base-url"),
        (("sandbox", "--port", "99999"), "--port"),
        (("catalog", "--region", "not a label"), "region"),
        (("catalog", "--base-url", "http://example.com"), "https"),
        (("--base-url", "", "catalog"), "--base-url must be scheme, host and port"),
        (("catalog", "--base-url", "https://x.example/", "--edge", "x"), "either --base-url or"),
    ],
    ids=str,
)
def test_wrong_usage(args: tuple[str, ...], problem: str) -> None:
    """Wrong usage is one line that names the help; the exit code is 2."""
    ended = run_here(*args, **KEY)
    assert (ended.code, ended.out) == (2, "")
    assert ended.is_one_line
    assert problem in ended.err
    assert ended.err.endswith("--help'.\n")


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({}, "TWILIO_API_KEY"),
        ({}, "--sandbox"),
        ({"TWILIO_ACCOUNT_SID": "AC", "TWILIO_AUTH_TOKEN": "sesame\n"}, "in the environment: "),
    ],
    ids=str,
)
def test_credentials(environment: dict[str, str], problem: str) -> None:
    """Missing or wrong credentials are one line that does not show them; the exit code is 3."""
    ended = run_here("catalog", **environment)
    assert (ended.code, ended.out, ended.is_one_line) == (3, "", True)
    assert problem in ended.err
    assert "sesame" not in ended.err


@pytest.mark.parametrize(
    ("status", "code", "problem"),
    [
        *((200, 1, "$.sid"), (400, 1, "HTTP 400"), (401, 3, "HTTP 401"), (403, 3, "HTTP 403")),
        *((404, 4, "HTTP 404"), (429, 6, "HTTP 429"), (501, 1, "HTTP 501"), (503, 1, "HTTP 503")),
    ],
)
def test_api_error(command: CommandLine, status: int, code: int, problem: str) -> None:
    """Each kind of error is one line with its exit code."""
    # Longer than the retry policy waits: there is no other attempt.
    command.sandbox.fail_next(status, retry_after=3600, body='{"sid": null}')
    ended = command("add-ons", "fetch", ADD_ON)
    assert (ended.code, ended.out, ended.is_one_line) == (code, "", True)
    assert problem in ended.err


def test_no_connection(command: CommandLine) -> None:
    """If there is no connection, the exit code is 5."""
    # The server does not speak TLS, and certificate errors are not retried.
    url = command.sandbox.url.replace("http:", "https:")
    ended = run_here("--base-url", url, "add-ons", "list", **KEY)
    assert (ended.code, ended.out, ended.is_one_line) == (5, "", True)


@pytest.mark.parametrize("output", ["json", "jsonl", "csv", "table"])
def test_error_after_a_page(command: CommandLine, output: str) -> None:
    """If a later page fails, the items before it are printed, and JSON is left incomplete."""
    command.sandbox.delay_next(0)
    command.sandbox.fail_next(404)
    ended = command("extensions", "list", ADD_ON, "--page-size", "1", "-o", output)
    assert (ended.code, ended.is_one_line) == (4, True)
    assert EXTENSION in ended.out
    if output == "json":
        with pytest.raises(json.JSONDecodeError):
            json.loads(ended.out)


def test_verbose(command: CommandLine) -> None:
    """-v logs requests and retries, but not the credentials."""
    command.sandbox.fail_next(503)
    ended = command("-v", "add-ons", "fetch", ADD_ON)
    assert ended.code == 0
    assert f"GET {command.sandbox.url}/v1/AvailableAddOns/{ADD_ON}: 200" in ended.err
    assert "attempt 1 failed" in ended.err
    assert command.sandbox.credentials.password not in ended.err


def without(package: str, directory: Path) -> dict[str, str]:
    """Return an environment in which a package is not installed."""
    code = f"raise ModuleNotFoundError('missing', name='{package}')"
    (directory / f"{package}.py").write_text(code)
    python_path = shell('echo -n "$PYTHONPATH"').out
    return {"PYTHONPATH": f"{directory}:{python_path}"}


@pytest.mark.parametrize(
    ("package", "args"), [("click", "--version"), ("rich", "add-ons list -o table")]
)
def test_missing_extra(package: str, args: str, tmp_path: Path) -> None:
    """If the extra is not installed, the message says how to install it."""
    ended = shell(f"$CLI --sandbox {args}", **without(package, tmp_path))
    assert (ended.code, ended.out, ended.is_one_line) == (1, "", True)
    assert f"{package} is not installed" in ended.err
    assert "pip install 'marketplace-async[cli]'" in ended.err


def test_rich_not_loaded(tmp_path: Path) -> None:
    """Without a table or the progress, rich is not loaded."""
    ended = shell("$CLI --sandbox catalog | wc -l", **without("rich", tmp_path))
    assert ended == Result(0, "742\n", "")


@pytest.mark.parametrize(
    ("line", "code", "lines", "message"),
    [
        ("$CLI --sandbox catalog >&-", 1, 0, "marketplace-async: standard output is closed\n"),
        ("$CLI --sandbox catalog | head -n 1", 141, 1, ""),
        ("$CLI --sandbox catalog 2>&-", 0, 742, ""),
        ("$CLI catalog 2>&-", 3, 0, ""),
        ("$CLI frobnicate 2>&-", 2, 0, ""),
        ("$CLI 2>&-", 2, 0, ""),
    ],
)
def test_closed_stream(line: str, code: int, lines: int, message: str) -> None:
    """If stdout is closed, the command fails; if stderr is closed, only messages are missing."""
    ended = shell(line)
    assert (ended.code, ended.out.count("\n"), ended.err) == (code, lines, message)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full exists on Linux")
def test_full_disk() -> None:
    """If the disk is full, the exit code is 1."""
    ended = shell("$CLI --sandbox add-ons list > /dev/full")
    assert (ended.code, ended.is_one_line) == (1, True)
    assert "No space left on device" in ended.err


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_script(name: str) -> None:
    """Each documented shell has a completion script."""
    ended = shell("$CLI", _MARKETPLACE_ASYNC_COMPLETE=f"{name}_source")
    assert ended.code == 0
    assert "_MARKETPLACE_ASYNC_COMPLETE" in ended.out
