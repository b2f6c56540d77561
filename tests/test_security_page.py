"""The page about security names the tests that prove it."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "security.md"


def test_each_promise_of_the_security_page_names_tests_that_exist() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")][2:]
    existing = {
        name
        for file in TESTS.glob("test_*.py")
        for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    named = [set(re.findall(r"`(test_\w+)`", row.rsplit(" | ", 1)[1])) for row in rows]
    assert len(rows) > 10
    assert all(named), "a promise without a test"
    assert set().union(*named) - existing == set()
