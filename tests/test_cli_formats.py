"""The formats of the command line, as functions of records."""

import csv
import io
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace_async.cli.formats import Csv, Format, JsonArray, JsonLines, JsonObject, escaped
from marketplace_async.cli.table import Card, Grid

RECORDS: list[dict[str, Any]] = [{"sid": "XF1", "name": "Zwölf"}, {"sid": "XF2", "name": None}]
COLUMNS = {"sid": "SID", "name": "NAME"}
# The characters that move the cursor, except line feeds, or change the order of the text.
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
SMUGGLED = "\x1b]0;owned\x07 \x9b31m \u202ereversed\u2028line\x7f"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def written(format_: Format, *records: dict[str, Any]) -> str:
    """Write each record as a batch of its own."""
    return (b"".join(format_.rows([record]) for record in records) + format_.end()).decode()


def test_batches() -> None:
    """Batches of records are one document."""
    assert json.loads(written(JsonArray(), *RECORDS)) == RECORDS
    assert list(map(json.loads, written(JsonLines(), *RECORDS).splitlines())) == RECORDS
    assert written(Csv(tuple(COLUMNS)), *RECORDS) == "sid,name\nXF1,Zwölf\nXF2,\n"
    rows = [line.split() for line in written(Grid(COLUMNS, {}), *RECORDS).splitlines()]
    assert rows == [["SID", "NAME"], ["XF1", "Zwölf"], ["XF2"]]


@pytest.mark.parametrize(
    ("format_", "end"), [(JsonLines(), b""), (JsonArray(), b"[]\n"), (Csv(("sid",)), b"sid\n")]
)
def test_no_records(format_: Format, end: bytes) -> None:
    """Without records, a complete output is valid; after an error, there is no output."""
    assert (format_.cut_short(), format_.end()) == (b"", end)


def test_cut_short() -> None:
    """After an error, a table has the records before it, and JSON is invalid."""
    grid, array = Grid(COLUMNS, {}), JsonArray()
    assert b"XF1" in grid.rows(RECORDS) + grid.cut_short()
    with pytest.raises(json.JSONDecodeError):
        json.loads(array.rows(RECORDS) + array.cut_short())


def test_single_record() -> None:
    """A single record is an object, and a card with nested values as JSON."""
    record = {"name": "x", "schema": {"type": "object"}}
    assert json.loads(written(JsonObject(), record)) == record
    assert '"type": "object"' in written(Card({"schema": "Schema"}), record)


@given(json_values)
def test_json_round_trip(value: Any) -> None:
    """JSON keeps every value and contains no control character."""
    for format_ in JsonLines(), JsonObject():
        text = written(format_, {"value": value})
        assert json.loads(text) == {"value": value}
        assert not CONTROLS.search(text)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        *((text, f"'{text}") for text in ('="x"', "+1", "-1", "@A1", " =1", "\n=1", "\uff1d1")),
        ({"type": "object"}, '{"type":"object"}'),
        (["a"], '["a"]'),
        (-12, "'-12"),
        ("a\x1bb", "a\\x1bb"),
    ],
)
def test_csv_cell(value: Any, cell: str) -> None:
    """A cell is never a formula; objects are JSON; control characters are escaped."""
    text = written(Csv(("name",)), {"name": value})
    assert list(csv.reader(io.StringIO(text, newline="")))[1] == [cell]


@given(st.text())
def test_csv_round_trip(text: str) -> None:
    """CSV keeps all text except control characters and formulas."""
    table = written(Csv(("a",)), {"a": text + "."})
    [_, [cell]] = csv.reader(io.StringIO(table, newline=""), strict=True)
    assert cell.removeprefix("'") == escaped(text + ".").replace("\\n", "\n").removeprefix("'")


def test_escaped() -> None:
    """Escaped text is printable; letters of all languages are kept."""
    assert escaped(SMUGGLED).isprintable()
    assert escaped("Zwölf 👩\u200d💻 عربى") == "Zwölf 👩\u200d💻 عربى"


@pytest.mark.parametrize(
    "format_",
    [Grid(COLUMNS, {}), Card(COLUMNS), Csv(tuple(COLUMNS)), JsonLines(), JsonArray(), JsonObject()],
    ids=lambda format_: type(format_).__name__,
)
def test_control_characters(format_: Format) -> None:
    """No format passes control characters of a server to the terminal."""
    assert not CONTROLS.search(written(format_, {"sid": "XF1", "name": SMUGGLED}))


@pytest.mark.parametrize("text", ["[red]x[/red]", "word " * 99 + "word"])
def test_table_text(text: str) -> None:
    """A table in a pipe shows text as it is, without markup and on one line."""
    assert written(Grid({"name": "NAME"}, {}), {"name": text}).splitlines()[1] == text


def test_table_groups() -> None:
    """Groups are sorted by name, and each has one row of its own."""
    grid = Grid({"name": "NAME", "sid": "SID"}, {"name": "of", "sid": "of_sid"})
    records = [("n1", "b", "XB1"), ("n2", "A", "XB2"), ("n3", "b", "XB1")]
    grid.rows({"name": name, "sid": name, "of": of, "of_sid": sid} for name, of, sid in records)
    rows = [line.split() for line in grid.end().decode().splitlines()[1:]]
    assert rows == [["A", "XB2"], ["n2", "n2"], ["b", "XB1"], ["n1", "n1"], ["n3", "n3"]]
