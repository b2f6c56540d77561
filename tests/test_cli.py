import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from command_line import CommandLine, Ended, process_environment, run_here, sandbox_beside

from marketplace_async import __version__
from marketplace_async.cli.exits import Exit, exit_code
from marketplace_async.sandbox import Sandbox, builtin_catalog

SAMPLE = "XB" + 32 * "a"
EXTENSION = "XF" + 32 * "a"

MAIN = "from marketplace_async.cli import main; main()"

COMMANDS = [
    ("add-ons", "list"),
    ("add-ons", "fetch"),
    ("extensions", "list"),
    ("extensions", "fetch"),
    ("catalog",),
    ("sandbox",),
]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with sandbox_beside() as sandbox:
        yield sandbox


@pytest.fixture
def command(sandbox: Sandbox, tmp_path: Path) -> CommandLine:
    return CommandLine(sandbox, tmp_path)


def python(code: str, *args: str, **environment: str) -> Ended:
    """Run Python code in a process of its own."""
    process = subprocess.run(
        [sys.executable, "-c", code, *args],
        env=process_environment(**environment),
        capture_output=True,
        text=True,
        check=False,
    )
    return Ended(process.returncode, process.stdout, process.stderr)


def test_the_version_is_that_of_the_library() -> None:
    assert run_here("--version") == Ended(0, f"marketplace-async {__version__}\n", "")


@pytest.mark.parametrize("args", [(), ("add-ons",), ("extensions",), *COMMANDS], ids=" ".join)
def test_help_is_there_for_all_and_fits_a_terminal(args: tuple[str, ...]) -> None:
    ended = run_here(*args, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert ended == run_here(*args, "-h")
    assert max(map(len, ended.out.splitlines())) <= 80


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_help_of_each_command_has_an_example(args: tuple[str, ...]) -> None:
    _, _, examples = run_here(*args, "--help").out.partition("Example")
    assert f"  {' '.join(('marketplace-async', *args))} " in examples


def test_the_documentation_names_every_command_option_and_exit_code() -> None:
    page = (Path(__file__).parents[1] / "docs" / "command-line.md").read_text()
    helps = "".join(run_here(*args, "--help").out for args in ((), *COMMANDS))
    for option in re.findall(r"--[a-z-]+", helps):
        assert f"`{option}" in page
    for args in COMMANDS:
        assert f"| `{' '.join(args)}" in page
    for code in Exit:
        assert f"\n| {code.value} | " in page


def test_no_command_at_all_shows_the_help_as_an_error() -> None:
    ended = run_here()
    assert (ended.code, ended.out) == (2, "")
    assert "Commands:" in ended.err


def test_add_ons_list_prints_a_line_for_each_in_a_pipe() -> None:
    ended = run_here("--sandbox", "add-ons", "list", "--limit", "3")
    assert (ended.code, ended.err) == (0, "")
    sids = [json.loads(line)["sid"] for line in ended.out.splitlines()]
    assert sids == list(builtin_catalog())[:3]


def test_add_ons_fetch_prints_one() -> None:
    ended = run_here("--sandbox", "add-ons", "fetch", SAMPLE, "-o", "json")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["configuration_schema"]["required"] == ["bad_words"]


def test_extensions_list_prints_those_of_an_add_on() -> None:
    ended = run_here("--sandbox", "extensions", "list", SAMPLE, "-o", "csv")
    assert (ended.code, ended.err) == (0, "")
    unique_names = [line.split(",")[4] for line in ended.out.splitlines()]
    assert unique_names == ["unique_name", "voice-incoming", "voice-recording"]


def test_extensions_fetch_prints_one() -> None:
    ended = run_here("--sandbox", "extensions", "fetch", SAMPLE, EXTENSION, "-o", "table")
    assert (ended.code, ended.err) == (0, "")
    rows = [line.split() for line in ended.out.splitlines()]
    assert ["Name", "Incoming", "Voice", "Call"] in rows


def test_options_stand_before_or_behind_the_command() -> None:
    before = run_here("--sandbox", "add-ons", "list", "--limit", "0", "-o", "csv")
    behind = run_here("add-ons", "list", "--limit", "0", "-o", "csv", "--sandbox")
    assert before == behind
    assert before.code == 0


def test_listings_ask_for_as_many_as_they_are_told(command: CommandLine) -> None:
    command("add-ons", "list", "--limit", "15", "--page-size", "10")
    assert [str(request.query["PageSize"]) for request in command.sandbox.requests] == ["10"] * 2


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (("extensions", "list", "XBnonsense"), "'XBnonsense' is not the SID of"),
        (("extensions", "fetch", SAMPLE, SAMPLE), "is not the SID of an Extension"),
        (("extensions", "list", "XB\n\x1b[31m"), r"XB\n\x1b[31m"),
        (("extensions", "list"), "ADD_ON_SID"),
        (("add-ons", "list", "--limit", "-1"), "--limit"),
        (("add-ons", "list", "--page-size", "1001"), "--page-size"),
        (("add-ons", "list", "-o", "xml"), "'xml' is not one of"),
        (("add-ons", "lst"), "lst"),
        (("add-ons", "lists"), "list"),
        (("catalog", "--base-url", ""), "leave out --base-url"),
        (("--frobnicate\n",), r"--frobnicate\n"),
        (("catalog", "--edge", "dublin"), "--sandbox is a server of its own"),
        (("sandbox", "--port", "99999"), "--port"),
    ],
    ids=str,
)
def test_wrong_usage_is_one_line_and_exit_code_2(args: tuple[str, ...], problem: str) -> None:
    ended = run_here("--sandbox", *args)
    assert (ended.code, ended.out) == (2, "")
    assert problem in ended.err
    assert ended.err.startswith("marketplace-async: ")
    assert ended.err.endswith("--help'.\n")
    assert "?." not in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (("--region", "not a label"), "region"),
        (("--base-url", "http://example.com"), "https"),
        (("--base-url", ""), "--base-url must be scheme, host and port"),
        (("--base-url", "https://x.example/", "--region", "ie1"), "not both"),
    ],
    ids=str,
)
def test_settings_that_make_no_session_are_wrong_usage(args: tuple[str, ...], problem: str) -> None:
    ended = run_here(*args, "catalog", TWILIO_API_KEY="SK", TWILIO_API_SECRET="s")
    assert (ended.code, ended.out) == (2, "")
    assert problem in ended.err
    assert ended.err.count("\n") == 1


def test_missing_credentials_are_exit_code_3_and_the_line_names_the_ways_out() -> None:
    ended = run_here("catalog")
    assert (ended.code, ended.out) == (3, "")
    assert "TWILIO_API_KEY" in ended.err
    assert "--sandbox" in ended.err
    assert ended.err.count("\n") == 1


def test_unusable_credentials_are_exit_code_3_and_not_shown() -> None:
    ended = run_here("catalog", TWILIO_ACCOUNT_SID="AC", TWILIO_AUTH_TOKEN="sesame\n")
    assert (ended.code, ended.out) == (3, "")
    assert "sesame" not in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("args", [(), *COMMANDS], ids=" ".join)
def test_no_option_takes_a_secret(args: tuple[str, ...]) -> None:
    words = run_here(*args, "--help").out.split()
    options = {word for word in words if word.startswith("--")}
    assert options
    assert not {name for name in options if "token" in name or "secret" in name or "key" in name}


@pytest.mark.parametrize(
    ("status", "code"), [(400, 1), (401, 3), (403, 3), (404, 4), (429, 6), (501, 1), (503, 1)]
)
def test_each_kind_of_error_is_one_line_with_its_exit_code(
    command: CommandLine, status: int, code: int
) -> None:
    # So long a wait is not waited for: there is no other attempt.
    command.sandbox.fail_next(status, retry_after=3600)
    ended = command("add-ons", "fetch", SAMPLE)
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith(f"marketplace-async: HTTP {status}")
    assert ended.err.count("\n") == 1


def test_a_server_that_is_not_there_is_exit_code_5() -> None:
    with sandbox_beside() as sandbox:
        url = sandbox.url
    # https is not what listens there, if anything does by now; no other attempt is made.
    ended = run_here(
        "--base-url",
        url.replace("http:", "https:"),
        "add-ons",
        "list",
        TWILIO_API_KEY="SK",
        TWILIO_API_SECRET="s",
    )
    assert (ended.code, ended.out) == (5, "")
    assert ended.err.count("\n") == 1


def test_an_answer_that_makes_no_sense_is_exit_code_1(command: CommandLine) -> None:
    command.sandbox.fail_next(200, body='{"sid": null}')
    ended = command("add-ons", "fetch", SAMPLE)
    assert (ended.code, ended.out) == (1, "")
    assert "expected a string, got null @ $.sid" in ended.err


@pytest.mark.parametrize("output", ["json", "jsonl", "csv", "table"])
def test_an_error_in_the_middle_follows_what_came_before(command: CommandLine, output: str) -> None:
    command.sandbox.delay_next(0)
    command.sandbox.fail_next(404)
    ended = command("extensions", "list", SAMPLE, "--page-size", "1", "-o", output)
    assert ended.code == 4
    assert ended.err.count("\n") == 1
    assert ended.out.count(EXTENSION) >= 1
    if output == "json":  # nobody can take it for the whole
        with pytest.raises(json.JSONDecodeError):
            json.loads(ended.out)


async def test_verbose_logs_requests_and_retries_but_no_secret(command: CommandLine) -> None:
    command.sandbox.fail_next(503)
    ended = await command.run("-v", "add-ons", "fetch", SAMPLE)
    assert ended.code == 0
    assert f"GET {command.sandbox.url}/v1/AvailableAddOns/{SAMPLE}: 200" in ended.err
    assert "attempt 1 failed" in ended.err
    assert command.sandbox.credentials.password not in ended.err


async def test_a_process_leaves_nothing_open_and_says_nothing_of_its_own(
    command: CommandLine,
) -> None:
    ended = await command.run("extensions", "list", SAMPLE)
    assert (ended.code, ended.err) == (0, "")
    assert len(ended.out.splitlines()) == 2


@pytest.mark.parametrize(
    ("package", "args"),
    [("click", ["--version"]), ("rich", ["--sandbox", "add-ons", "list", "-o", "table"])],
)
def test_a_missing_extra_is_one_line_that_says_how_to_install_it(
    package: str, args: list[str]
) -> None:
    code = (
        "import sys; sys.modules[sys.argv[1]] = None\n"
        "from marketplace_async.cli import main; main(sys.argv[2:])"
    )
    ended = python(code, package, *args)
    assert (ended.code, ended.out) == (1, "")
    assert f"{package} is not installed" in ended.err
    assert "pip install 'marketplace-async[cli]'" in ended.err
    assert ended.err.count("\n") == 1


def test_rich_is_not_loaded_where_nothing_is_drawn() -> None:
    code = (
        "import sys\n"
        "from marketplace_async.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print('rich' in sys.modules)"
    )
    ended = python(code, "--sandbox", "catalog")
    assert (ended.code, ended.out.splitlines()[-1]) == (0, "False")


def test_a_bug_is_not_taken_for_a_missing_extra() -> None:
    code = (
        "import sys; sys.modules['marketplace_async.cli.options'] = None\n"
        "from marketplace_async.cli import main; main(['--version'])"
    )
    ended = python(code)
    assert ended.code == 1
    assert "Traceback" in ended.err


def test_a_closed_standard_output_is_one_line() -> None:
    ended = python(f"import sys; sys.stdout = None; {MAIN}", "--sandbox", "add-ons", "list")
    assert (ended.code, ended.err) == (1, "marketplace-async: standard output is closed\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-c", MAIN, "--sandbox", "add-ons", "list"],
            env=process_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 1
    assert "No space left on device" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_ctrl_c_before_anything_runs_is_130_too() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert exit_code(click.Command("x", callback=interrupted), [], "x") == 130


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_completion(shell: str) -> None:
    ended = python(MAIN, _MARKETPLACE_ASYNC_COMPLETE=f"{shell}_source")
    assert ended.code == 0
    assert "_MARKETPLACE_ASYNC_COMPLETE" in ended.out


def test_completion_knows_the_commands() -> None:
    ended = python(
        MAIN,
        _MARKETPLACE_ASYNC_COMPLETE="bash_complete",
        COMP_WORDS="marketplace-async extensions ",
        COMP_CWORD="2",
    )
    assert {line.split(",")[1] for line in ended.out.splitlines()} == {"list", "fetch"}
