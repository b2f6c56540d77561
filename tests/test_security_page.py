import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "security.md"


def test_every_test_that_the_page_on_security_names_exists() -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE.read_text("utf-8"))
    assert len(named) > 20
    for file, name in named:
        tree = ast.parse((TESTS / file).read_text("utf-8"))
        functions = {
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in functions, f"{file}::{name}"


def test_every_promise_on_the_page_on_security_has_its_proof() -> None:
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("|")]
    promises = [row for row in rows if not row.startswith(("| threat", "| ---"))]
    assert len(promises) > 15
    assert all("::test_" in row.rsplit("|", 2)[1] for row in promises)
