import csv
import io
import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace_async.cli.formats import (
    Csv,
    Format,
    JsonArray,
    JsonLines,
    JsonObject,
    escaped,
)
from marketplace_async.cli.table import Card, Grid

RECORDS: list[dict[str, Any]] = [{"sid": "XF1", "name": "Zwölf"}, {"sid": "XF2", "name": None}]
# All that moves the cursor, other than line feeds, or changes what is seen.
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
SMUGGLED = "\x1b]0;owned\x07 \x9b31m \u202ereversed\u2028line\x7f"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def written(format_: Format, *batches: Sequence[dict[str, Any]]) -> str:
    return (b"".join(map(format_.rows, batches)) + format_.end()).decode()


def test_json_lines_have_a_record_each() -> None:
    text = written(JsonLines(), RECORDS[:1], RECORDS[1:])
    assert [json.loads(line) for line in text.splitlines()] == RECORDS


def test_a_json_array_is_one_document_over_all_batches() -> None:
    assert json.loads(written(JsonArray(), RECORDS[:1], [], RECORDS[1:])) == RECORDS


def test_json_lines_stay_lines_for_those_who_split_at_every_line_break_of_unicode() -> None:
    text = written(JsonLines(), [{"name": "a\x85b\u2028c\x1cd"}])
    assert len(text.splitlines()) == 1


def test_an_empty_json_array_is_an_array() -> None:
    assert written(JsonArray(), []) == "[]\n"


def test_a_json_array_that_is_cut_short_is_no_json() -> None:
    array = JsonArray()
    text = array.rows(RECORDS) + array.cut_short()
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)


def test_a_single_record_is_an_object() -> None:
    assert json.loads(written(JsonObject(), RECORDS[:1])) == RECORDS[0]


def test_json_keeps_letters_of_all_languages_readable() -> None:
    assert "Zwölf" in written(JsonLines(), RECORDS)


@given(json_values)
def test_json_gives_back_every_value_and_writes_no_control_character(value: Any) -> None:
    for format_ in JsonLines(), JsonObject():
        text = written(format_, [{"value": value}])
        assert json.loads(text) == {"value": value}
        assert not STEERING.search(text)


def test_csv_has_the_names_once_and_nothing_for_null() -> None:
    text = written(Csv(("sid", "name")), RECORDS[:1], RECORDS[1:])
    assert text == "sid,name\nXF1,Zwölf\nXF2,\n"


def test_csv_of_nothing_has_the_names() -> None:
    assert written(Csv(("sid", "name"))) == "sid,name\n"


def test_csv_that_is_cut_short_before_the_first_record_is_empty() -> None:
    assert Csv(("sid",)).cut_short() == b""


def test_csv_writes_objects_as_json() -> None:
    text = written(Csv(("schema",)), [{"schema": {"type": "object"}}])
    assert list(csv.reader(io.StringIO(text))) == [["schema"], ['{"type":"object"}']]


@pytest.mark.parametrize(
    "formula",
    ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\n=1", "\uff1d1", '=HYPERLINK("http://x","y")'],
)
def test_csv_disarms_what_a_spreadsheet_would_compute(formula: str) -> None:
    text = written(Csv(("name",)), [{"name": formula}])
    assert list(csv.reader(io.StringIO(text, newline="")))[1] == ["'" + formula]


@given(st.text())
def test_csv_gives_back_any_text_but_control_characters_and_formulas(text: str) -> None:
    [_, [cell]] = csv.reader(
        io.StringIO(written(Csv(("a",)), [{"a": text + "."}]), newline=""), strict=True
    )
    assert cell.removeprefix("'") == escaped(text + ".").replace("\\n", "\n").removeprefix("'")


def test_escaped_text_stays_on_its_line_and_steers_no_terminal() -> None:
    assert escaped(SMUGGLED).isprintable()
    assert escaped("Zwölf 👩\u200d💻 عربى") == "Zwölf 👩\u200d💻 عربى"


@pytest.mark.parametrize(
    "format_",
    [
        Grid({"sid": "SID", "name": "NAME"}, {}),
        Card({"sid": "SID", "name": "NAME"}),
        Csv(("sid", "name")),
        JsonLines(),
        JsonArray(),
        JsonObject(),
    ],
    ids=lambda format_: type(format_).__name__,
)
def test_no_format_lets_a_server_steer_the_terminal(format_: Format) -> None:
    text = written(format_, [{"sid": "XF1", "name": SMUGGLED}])
    assert not STEERING.search(text)


def test_a_table_shows_markup_as_it_is() -> None:
    assert "[red]x[/red]" in written(Grid({"name": "NAME"}, {}), [{"name": "[red]x[/red]"}])


def test_a_table_in_a_pipe_has_a_line_for_each_record_however_long() -> None:
    lines = written(Grid({"name": "NAME"}, {}), [{"name": "word " * 100}]).splitlines()
    assert lines == ["NAME", ("word " * 100).strip()]


def test_a_table_that_is_cut_short_shows_what_came_before() -> None:
    grid = Grid({"name": "NAME"}, {})
    assert grid.cut_short() == b""
    grid.rows([{"name": "first"}])
    assert b"first" in grid.cut_short()


def test_groups_are_sorted_and_each_is_named_once() -> None:
    grid = Grid({"name": "NAME", "sid": "SID"}, {"name": "of", "sid": "of_sid"})
    grid.rows([{"name": "n1", "sid": "XF1", "of": "b", "of_sid": "XB1"}])
    grid.rows([{"name": "n2", "sid": "XF2", "of": "A", "of_sid": "XB2"}])
    grid.rows([{"name": "n3", "sid": "XF3", "of": "b", "of_sid": "XB1"}])
    rows = [line.split() for line in grid.end().decode().splitlines()]
    assert rows == [
        ["NAME", "SID"],
        ["A", "XB2"],
        ["n2", "XF2"],
        ["b", "XB1"],
        ["n1", "XF1"],
        ["n3", "XF3"],
    ]


def test_a_card_shows_nested_values_as_json() -> None:
    shown = written(Card({"schema": "Schema"}), [{"schema": {"type": "object"}}])
    assert "Schema" in shown
    assert '"type": "object"' in shown
