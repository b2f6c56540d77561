"""The page on security names the tests of each promise."""

import re
from pathlib import Path

TESTS = Path(__file__).parent


def test_named_tests() -> None:
    """Every promise on the page names test modules that exist."""
    page = (TESTS.parent / "docs" / "security.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith("|")]
    promises = [row for row in rows if not row.startswith(("| threat", "| ---"))]
    assert len(promises) > 15
    for promise in promises:
        named = re.findall(r"`(test_\w+\.py)`", promise.rsplit("|", 2)[1])
        assert named, promise
        assert all((TESTS / name).is_file() for name in named), promise
