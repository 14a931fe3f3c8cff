"""Rows out of files of every format, packed or not, with their columns and line numbers."""

from __future__ import annotations

import csv
import gzip
import io
import random
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.engine.source import BytesSource, FileSource
from batch_gateway.errors import InputError
from batch_gateway.inputs.data_row import BadRow, Row
from batch_gateway.inputs.file_format import InputFormat
from batch_gateway.inputs.read_rows import rows_of


def rows(data: bytes, name: str = "data", **told: Any) -> list[Row | BadRow]:
    with rows_of(BytesSource(data, name), **told) as found:
        return list(found)


def values(data: bytes, name: str = "data", **told: Any) -> list[dict[str, Any]]:
    return [dict(row.values) for row in rows(data, name, **told) if isinstance(row, Row)]


def parquet(table: dict[str, list[Any]]) -> bytes:
    arrow, writer = import_module("pyarrow"), import_module("pyarrow.parquet")
    file = io.BytesIO()
    writer.write_table(arrow.table(table), file, row_group_size=2)
    return file.getvalue()


def zstd(data: bytes) -> bytes:
    return import_module("zstandard").ZstdCompressor().compress(data)


FILES: dict[InputFormat, tuple[str, bytes]] = {
    "csv": ("a.csv", b"prompt,n\none,1\ntwo,2\n"),
    "tsv": ("a.tsv", b"prompt\tn\none\t1\ntwo\t2\n"),
    "jsonl": ("a.jsonl", b'{"prompt": "one", "n": "1"}\n{"prompt": "two", "n": "2"}\n'),
    "parquet": ("a.parquet", parquet({"prompt": ["one", "two"], "n": ["1", "2"]})),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
@pytest.mark.parametrize("format", FILES)
def test_the_same_rows_come_from_every_format(
    format: InputFormat, pack: Callable[[bytes], bytes]
) -> None:
    name, data = FILES[format]
    ending = {gzip.compress: ".gz", zstd: ".zst"}.get(pack, "")
    expected = [{"prompt": "one", "n": "1"}, {"prompt": "two", "n": "2"}]
    assert values(pack(data), name + ending) == expected
    assert values(pack(data), "-", format=format) == expected


def test_text_is_a_prompt_a_line() -> None:
    found = rows(b"one\r\n\n  \ntwo, too", "prompts.txt")
    assert found == [Row(1, 1, {"prompt": "one"}), Row(4, 2, {"prompt": "two, too"})]


def test_rows_know_the_lines_on_which_they_begin() -> None:
    data = b'a,b\n"x\ny",1\n\nz,2\n'
    assert [row.line for row in rows(data, "a.csv")] == [2, 5]
    assert [row.line for row in rows(b'\n{"a":1}\n\n{"a":2}', "a.jsonl")] == [2, 4]


def test_a_byte_order_mark_is_no_part_of_the_first_column() -> None:
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        assert values("größe\tb\nß\tü\n".encode(encoding), "a.tsv") == [{"größe": "ß", "b": "ü"}]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_in_the_header(delimiter: str) -> None:
    data = f'"a,b"{delimiter}c\n1{delimiter}2;3\n'.encode()
    if delimiter != ";":
        assert values(data, "a.csv") == [{"a,b": "1", "c": "2;3"}]
    told = values(b"a,b;c\n1;2\n", "a.csv", delimiter=";")
    assert told == [{"a,b": "1", "c": "2"}]


def test_another_encoding_has_to_be_told_and_the_error_says_so() -> None:
    data = "name\nMüller\n".encode("cp1252")
    (bad,) = rows(data, "a.csv")
    assert isinstance(bad, BadRow)
    assert bad.line == 2
    assert "--input-encoding" in bad.faults[0].text
    assert values(data, "a.csv", encoding="cp1252") == [{"name": "Müller"}]


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (b"a,b\n1,2\n3\n", 3, "has 1 field, and the header has 2"),
        (b"a,b\n1,2,3\n", 2, "has 3 fields, and the header has 2"),
        (b'a,b\n1,2\n"3,4\n5,6\n', 3, "never ends"),
        (b'a,b\n"1"x,2\n', 2, "behind a closing quote"),
    ],
)
def test_what_is_wrong_with_a_row_is_told_with_its_line(data: bytes, line: int, words: str) -> None:
    bad = [row for row in rows(data, "a.csv") if isinstance(row, BadRow)]
    assert [row.line for row in bad] == [line]
    assert words in bad[0].faults[0].text


def test_rows_behind_a_bad_one_still_come() -> None:
    assert values(b"a,b\n1\n2,3\n", "a.csv") == [{"a": "2", "b": "3"}]
    assert values(b'{"a": 1}\n{"a"\n{"a": 3}\n', "a.jsonl") == [{"a": 1}, {"a": 3}]


def test_a_field_may_be_long() -> None:
    text = "x" * 1_000_000
    assert values(f"a\n{text}\n".encode(), "a.csv") == [{"a": text}]


@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a", "a.jsonl"])
def test_what_a_file_holds_counts_more_than_its_name(name: str) -> None:
    assert values(FILES["jsonl"][1], name) == values(FILES["jsonl"][1], "a.jsonl")
    assert values(FILES["parquet"][1], name) == values(FILES["parquet"][1], "a.parquet")


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [
        (b"one two\nthree\n", "a", "--input-format"),
        (b"\n \n", "a.csv", "has no header, and no rows"),
        (b"a,b,a\n1,2,3\n", "a.csv", "two columns are called 'a'"),
        (gzip.compress(b"a\n" * 50_000)[:-20], "a.csv.gz", "cut off"),
        (b"PAR1 and no more", "a.parquet", "not a whole Parquet file"),
        (
            zstd(b"a\n" + random.Random(1).randbytes(300_000))[:9_000] + b"x" * 500_000,
            "a.csv",
            "unpacked",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_told(data: bytes, name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        rows(data, name)


def test_rows_may_be_read_again() -> None:
    with rows_of(BytesSource(gzip.compress(b"a\n1\n2\n"), "a.csv.gz")) as found:
        assert list(found) == list(found)


def test_a_file_that_changes_meanwhile_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\n" + "1\n" * 500_000)
    source = FileSource.open(path)
    reading = iter(rows_of(source))
    next(reading)
    path.write_text("b\n")
    with pytest.raises(InputError, match="changed"):
        list(reading)
    source.close()


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=20)


@given(st.lists(st.tuples(CELLS, CELLS), max_size=8), st.sampled_from(",;\t|"))
def test_what_python_writes_as_csv_is_read_as_it_was(
    table: list[tuple[str, str]], delimiter: str
) -> None:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerows([("first", "second"), *table])
    found = values(file.getvalue().encode(), "a.csv", delimiter=delimiter)
    assert [(row["first"], row["second"]) for row in found] == table


@given(st.binary(max_size=300), st.sampled_from(["a.csv", "a.tsv", "a.txt", "a.jsonl", "a.pq"]))
def test_no_bytes_break_it(data: bytes, name: str) -> None:
    try:
        found = rows(data, name)
    except InputError:
        return
    lines = [row.line for row in found]
    assert lines == sorted(lines)
