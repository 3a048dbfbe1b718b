"""CSV and JSON Lines of custom_data_processing: every text stays what it is, and what is wrong is told by its line."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from tests.rows_calls import facts_of, process, refusal, run_text, text_of


def test_cells_stay_texts() -> None:
    """00123, NA, 1e5, 2^53+1, 1.10 and the like come out of CSV as they stand there."""
    cells = ["00123", "NA", "1e5", "9007199254740993", "1.10", "", " x ", "nan", "true", "2024-01-01", "-0", "١"]
    text = ",".join(f"c{n}" for n in range(len(cells))) + "\n" + ",".join(cells) + "\n"
    (row,) = process(text, "parse_csv")
    assert list(row.values()) == cells


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("a,b\n1,2", {}, [{"a": "1", "b": "2"}]),
        ("a,b\r\n1,2\r\n", {}, [{"a": "1", "b": "2"}]),
        ("a,b\r1,2\r", {}, [{"a": "1", "b": "2"}]),
        ("\ufeffa\n1", {}, [{"a": "1"}]),
        ('\ufeff"a"\n1', {}, [{"a": "1"}]),
        ('a\n"x\ny"\n', {}, [{"a": "x\ny"}]),
        ('a\n"x\r\ny"\r\n', {}, [{"a": "x\r\ny"}]),
        ('a\n"he said ""no"""\n', {}, [{"a": 'he said "no"'}]),
        ('a\n"x,y"\n', {}, [{"a": "x,y"}]),
        ("a;b\n1,5;2", {"delimiter": ";"}, [{"a": "1,5", "b": "2"}]),
        ("a;b\n1,5;2", {"delimiter": "auto"}, [{"a": "1,5", "b": "2"}]),
        ("a\tb|c\n1\t2", {"delimiter": "auto"}, [{"a": "1", "b|c": "2"}]),
        ("a|b\n'1|2'|3", {"delimiter": "|", "quote": "'"}, [{"a": "1|2", "b": "3"}]),
        ('a\n"1', {"quote": ""}, [{"a": '"1'}]),
        ('a,b\n"x\\"y",z', {"escape": "\\"}, [{"a": 'x"y', "b": "z"}]),
        ('a, b\n1, "x, y"', {"skip_initial_space": True}, [{"a": "1", "b": "x, y"}]),
        ("1,2\n\n3\n", {"header": False}, [["1", "2"], ["3"]]),
        ("\n\na\n\n1\n\n", {}, [{"a": "1"}]),
        ('a\n""\n', {}, [{"a": ""}]),
        ("a,a,,a\n1,2,3,4", {}, [{"a": "1", "a_2": "2", "column_3": "3", "a_3": "4"}]),
        ("a,a_2,a\n1,2,3", {}, [{"a": "1", "a_2": "2", "a_3": "3"}]),
        ("a,b\n1\n1,2,3\n1,2", {"ragged": "fill"},
         [{"a": "1"}, {"a": "1", "b": "2", "column_3": "3"}, {"a": "1", "b": "2"}]),
        ("a\nNA\nN\n", {"nulls": ["NA", ""]}, [{"a": None}, {"a": "N"}]),
        ("a,b,c\n007,1.10,TRUE\n,,\n", {"types": {"a": "integer", "b": "number", "c": "boolean"}},
         [{"a": 7, "b": 1.1, "c": True}, {"a": None, "b": None, "c": None}]),
        ("1,x", {"header": False, "types": {"0": "integer"}}, [[1, "x"]]),
        ("a\n9223372036854775808\n", {"types": {"a": "number"}}, [{"a": 9223372036854775808}]),
        ("a\nx\x00y\n", {}, [{"a": "x\x00y"}]),
        ("a\n" + "x" * 200_000, {}, [{"a": "x" * 200_000}]),
        ("", {}, []),
        ("a,b\n", {}, []),
    ],
)  # fmt: skip
def test_csv_is_read(text: str, options: dict[str, Any], expected: Any) -> None:
    """Dialects, quotes, line ends within and without, byte order marks, ragged rows, equal names, types and nulls."""
    assert process(text, "parse_csv", **options) == expected


@pytest.mark.parametrize(
    ("text", "options", "reason", "says"),
    [
        ("a,b\n1,2\n3\n", {}, "RAGGED_ROW", "line 3 has 1 cells and the header 2"),
        ("a\n1,2\n", {}, "RAGGED_ROW", "line 2"),
        ('a\n"1\n', {}, "BAD_CSV", "unexpected end"),
        ('a\n"1"2\n', {}, "BAD_CSV", "line 2"),
        ("a\n1_000\n", {"types": {"a": "integer"}}, "BAD_CELL", "'1_000'"),
        ("a\n١\n", {"types": {"a": "integer"}}, "BAD_CELL", "line 2"),
        ("a\n1.0\n", {"types": {"a": "integer"}}, "BAD_CELL", "no integer"),
        ("a\nnan\n", {"types": {"a": "number"}}, "BAD_CELL", "no number"),
        ("a\n1e400\n", {"types": {"a": "number"}}, "BAD_CELL", "no number"),
        ("a\n" + "1" * 5000, {"types": {"a": "number"}}, "BAD_CELL", "no number"),
        ("a\nyes\n", {"types": {"a": "boolean"}}, "BAD_CELL", "nulls"),
        ("a\n1\n", {"types": {"b": "number"}}, "UNKNOWN_COLUMN", "'b'"),
        ("a\n1\n", {"delimiter": ""}, "BAD_ARGUMENTS", "one character"),
        ("a\n1\n", {"delimiter": "::"}, "BAD_ARGUMENTS", "one character"),
        ("a\n1\n", {"delimiter": "\n"}, "BAD_ARGUMENTS", "line end"),
        ("a\n1\n", {"delimiter": '"'}, "BAD_ARGUMENTS", "not the quote"),
        ("a\n1\n", {"escape": '"'}, "BAD_ARGUMENTS", "not the quote"),
        ("a\n1\n", {"quote": "''"}, "BAD_ARGUMENTS", "one character"),
        ("," * 30_000, {}, "TOO_MANY_COLUMNS", "is the delimiter right"),
    ],
)
def test_wrong_csv(text: str, options: dict[str, Any], reason: str, says: str) -> None:
    """What is wrong is told by its line, and by what would make it right."""
    error = refusal(text, "parse_csv", **options)
    assert (error.reason, says in error.message) == (reason, True), error.message


def test_another_delimiter_is_told() -> None:
    """Text without a comma in its first line, but with what else divides cells, comes with a hint; other text does
    not, nor where the delimiter was said."""
    assert "has ';'" in facts_of("a;b\n1;2", "parse_csv")["hint"]
    assert "has '\\t'" in facts_of("\r\na\tb\r\n1\t2", "parse_csv")["hint"]
    for text, options in (("a,b;c\n1,2", {}), ("a\n1;2", {}), ("a;b\n1;2", {"delimiter": ","}), ("", {})):
        assert "hint" not in facts_of(text, "parse_csv", **options)


def test_facts_of_csv() -> None:
    """The metadata tells which delimiter it was and which columns were renamed."""
    assert facts_of("a;a\n1;2", "parse_csv", delimiter="auto") == {
        "delimiter": ";",
        "renamed_columns": {"a_2": "a"},
        "rows": 1,
    }


@pytest.mark.parametrize(
    ("data", "options", "expected"),
    [
        ([{"a": 1, "b": None}, {"c": "x"}], {}, "a,b,c\n1,,\n,,x\n"),
        ([{"a": 1, "b": 2}], {"columns": ["b", "a"]}, "b,a\n2,1\n"),
        ([{"a": 'x"y'}, {"a": "x,y"}, {"a": "x\ny"}, {"a": "x\ry"}, {"a": " x"}], {},
         'a\n"x""y"\n"x,y"\n"x\ny"\n"x\ry"\n" x"\n'),
        ([{"a": ""}, {"a": None}], {}, 'a\n""\n""\n'),
        ([{"a": "", "b": None}], {}, 'a,b\n"",\n'),
        ([{"a": True, "b": 1.5, "c": [1, "x"], "d": {"e": 2**64}}], {},
         'a,b,c,d\ntrue,1.5,"[1,""x""]","{""e"":18446744073709551616}"\n'),
        ([{"a": 1}], {"line_end": "crlf", "header": False}, "1\r\n"),
        ([{"a": None}], {"null": "NULL"}, "a\nNULL\n"),
        ([[1, 2], [3]], {}, "1,2\n3,\n"),
        ([[1, 2]], {"header": True, "delimiter": ";"}, "0;1\n1;2\n"),
        ([{"a": "=1+1", "b": -5, "c": "-5"}], {}, "a,b,c\n=1+1,-5,-5\n"),
        ([{"a": "=1+1", "b": -5, "c": "-5"}], {"escape_formulas": True}, "a,b,c\n'=1+1,-5,'-5\n"),
    ],
)  # fmt: skip
def test_csv_is_written(data: Any, options: dict[str, Any], expected: str) -> None:
    """Every column, quotes where they are needed, numbers as JSON has them, and formulas as they are unless escaped."""
    text, head = run_text(f'{{"data": {json.dumps(data)}, "algorithm": "write_csv", "options": {json.dumps(options)}}}')
    assert text == expected
    assert head["content_type"] == "text/csv"


def test_formulas_are_counted() -> None:
    """Texts that a spreadsheet would run are counted in the metadata."""
    assert facts_of([{"a": "=1"}, {"a": "@x"}, {"a": -1}, {"a": "x"}], "write_csv")["formula_cells"] == 2


def test_written_csv_is_what_others_read() -> None:
    """Python's csv reads the same cells from what is written."""
    cells = ["x", "", " ", '"', "a,b", "a\nb", "a\r\nb", "\ufeff", "'", "\t", "\u2028", "=1"]
    text = text_of([{"n": str(n), "a": cell} for n, cell in enumerate(cells)], "write_csv")
    assert [row[1] for row in csv.reader(io.StringIO(text, newline=""))] == ["a", *cells]


def test_a_mark_in_the_first_name_stays() -> None:
    """A name that begins with a byte order mark is written so that it is not taken for one."""
    rows = [{"\ufeffa": "1"}]
    assert process(text_of(rows, "write_csv"), "parse_csv") == rows


@pytest.mark.parametrize("delimiter", ['"', "\n", "\r"])
def test_delimiters_that_cannot_be_written(delimiter: str) -> None:
    """A quote or a line end is no delimiter."""
    assert refusal([{"a": 1}], "write_csv", delimiter=delimiter).reason == "BAD_ARGUMENTS"


def test_json_lines_are_read() -> None:
    """A line is a row, whatever ends lines elsewhere; blank ones are skipped, and values are exact."""
    assert process('\ufeff{"a": 9007199254740993}\r\n\n  \n{"b": "x\u2028y\u0085"}', "parse_jsonl") == [
        {"a": 9007199254740993},
        {"b": "x\u2028y\u0085"},
    ]


@pytest.mark.parametrize("line", ["{", '{"a": 1, "a": 2}', "5", "null", "NaN", '{"a": 1} {"a": 2}', "[" * 1000])
def test_lines_that_are_no_rows(line: str) -> None:
    """A line that is no row is refused by its number, or skipped and counted where that is wanted."""
    text = '{"n": 1}\n' + line + '\n{"n": 2}'
    error = refusal(text, "parse_jsonl")
    assert error.reason == "BAD_LINE"
    assert "line 2 is no row" in error.message
    assert process(text, "parse_jsonl", invalid="skip") == [{"n": 1}, {"n": 2}]
    assert facts_of(text, "parse_jsonl", invalid="skip") == {"skipped_lines": 1, "first_skipped": [2], "rows": 2}


def test_json_lines_are_written() -> None:
    """A row is a line."""
    assert text_of([{"a": "x\ny"}, [1]][:1], "write_jsonl") == '{"a":"x\\ny"}\n'
    assert text_of([[1, None], []], "write_jsonl") == "[1,null]\n[]\n"
