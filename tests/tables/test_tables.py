"""Results as a table: its rows, their order, its columns, and its forms."""

from __future__ import annotations

import csv
import io
import json
import random
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway import (
    BatchResult,
    ConfigError,
    InferenceResponse,
    InputError,
    InvalidRequestError,
    JournalError,
    read_requests,
    read_results,
    write_table,
)
from batch_gateway.tables.delimited import write_delimited
from tests.tables.result_files import chat, failure, read_csv, result, write_lines

# None of them comes with types of its own.
pandas, polars, pyarrow, parquet = map(
    import_module, ("pandas", "polars", "pyarrow", "pyarrow.parquet")
)


def asked(custom_id: str, prompt: str) -> dict[str, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}]}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    lines = [result(f"r{i}", chat(f"answer {i}"), index=i) for i in range(10)]
    random.Random(3).shuffle(lines)
    return write_lines(tmp_path / "results.jsonl", lines)


def test_rows_stand_in_the_order_of_the_input(results: Path, tmp_path: Path) -> None:
    write_table(results, tmp_path / "t.csv")
    assert [row["text"] for row in read_csv(tmp_path / "t.csv")] == [
        f"answer {i}" for i in range(10)
    ]


def test_results_of_other_programs_stay_in_their_order_without_an_input(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "r.jsonl", [result(one, chat(one)) for one in "cab"])
    assert [row["custom_id"] for row in read_results(path)] == ["c", "a", "b"]


def test_the_columns_of_the_input_are_kept_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text('custom_id,stars,review\nb,5,"good, ""very"""\na,1,bad\n')
    path = write_lines(tmp_path / "r.jsonl", [result("a", chat("A")), result("b", chat("B"))])
    write_table(path, tmp_path / "t.csv", input=tmp_path / "reviews.csv")
    rows = read_csv(tmp_path / "t.csv")
    assert [(row["custom_id"], row["stars"], row["review"], row["text"]) for row in rows] == [
        ("b", "5", 'good, "very"', "B"),
        ("a", "1", "bad", "A"),
    ]


def test_of_a_batch_file_model_and_prompt_are_columns(results: Path, tmp_path: Path) -> None:
    requests = write_lines(tmp_path / "q.jsonl", [asked(f"r{i}", f"ask {i}") for i in range(10)])
    rows = list(read_results(results, input=requests))
    assert [(row["model"], row["prompt"], row["text"]) for row in rows][3] == (
        "m", "ask 3", "answer 3"
    )  # fmt: skip


def test_what_has_no_result_yet_is_a_row_that_says_so(results: Path, tmp_path: Path) -> None:
    requests = write_lines(tmp_path / "q.jsonl", [asked(f"r{i}", "ask") for i in range(11)])
    counts = write_table(results, tmp_path / "t.csv", input=requests)
    assert (counts.rows, counts.answered, counts.left) == (11, 10, 1)
    last = read_csv(tmp_path / "t.csv")[-1]
    assert (last["error"], last["error_category"]) == ("no result yet", "NOT_SENT")


def test_a_result_of_another_input_is_named(results: Path, tmp_path: Path) -> None:
    requests = write_lines(tmp_path / "q.jsonl", [asked(f"r{i}", "ask") for i in range(1, 10)])
    with pytest.raises(InputError, match=r"results\.jsonl has a result of 'r0', and .*q\.jsonl"):
        write_table(results, tmp_path / "t.csv", input=requests)
    assert not (tmp_path / "t.csv").exists()


def test_failures_beside_the_results_are_rows_and_a_success_counts_more(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "r.jsonl", [result("a", chat("A"))])
    write_lines(
        tmp_path / "r.errors.jsonl", [failure("b", "timeout", "slow"), failure("a", "x", "y")]
    )
    rows = {row["custom_id"]: row["error"] for row in read_results(path)}
    assert rows == {"a": None, "b": "slow"}


def test_a_column_of_the_input_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("custom_id,text,answer_text\na,mine,too\n")
    path = write_lines(tmp_path / "r.jsonl", [result("a", chat("theirs"))])
    (row,) = read_results(path, input=tmp_path / "in.csv")
    assert (row["text"], row["answer_text"], row["answer_answer_text"]) == ("mine", "too", "theirs")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("score", 5),
        ("answer.score", 5),
        ("s=score", 5),
        ("list[0].name", "n"),
        ("list.0.name", "n"),
        ("list[-1]", {"name": "n"}),
        ('"a.b"', True),
        ('x=["a.b"]', True),
        ("answer", {"score": 5, "list": [{"name": "n"}], "a.b": True}),
        ("nothing.here", None),
        ("list[7]", None),
    ],
)
def test_fields_are_picked_from_answers_that_are_json(
    tmp_path: Path, field: str, value: object
) -> None:
    text = '{"score": 5, "list": [{"name": "n"}], "a.b": true}'
    for said in (text, f"```json\n{text}\n```", f"<think>hm {{}}</think>\n{text}"):
        path = write_lines(tmp_path / "r.jsonl", [result("a", chat(said))])
        (row,) = read_results(path, fields=[field])
        assert row[field.partition("=")[0] if not field.startswith('"') else field] == value


@pytest.mark.parametrize("field", ["", "a..b", ".a", "a[b]", "x=", "a[", "[0"])
def test_a_path_that_is_none_is_refused(results: Path, field: str) -> None:
    with pytest.raises(ConfigError, match="is no path into an answer"):
        list(read_results(results, fields=[field]))


def test_answers_are_checked_against_a_schema(tmp_path: Path) -> None:
    texts = ['{"score": 5}', '{"score": "five"}', "no json", '```json\n{"score": 1}\n```']
    path = write_lines(
        tmp_path / "r.jsonl", [result(f"r{i}", chat(text), index=i) for i, text in enumerate(texts)]
    )
    schema = {"type": "object", "properties": {"score": {"type": "integer"}}, "required": ["score"]}
    counts = write_table(path, tmp_path / "t.jsonl", json_schema=schema, fields=["score"])
    assert (counts.answered, counts.unfit) == (2, 2)
    rows = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [row["error_category"] for row in rows] == [None, *["INVALID_ANSWER"] * 2, None]
    assert rows[1]["error"] == (
        "the answer is not what the schema says: at $.score, 'five' is not of type 'integer'"
    )
    assert rows[2]["error"].startswith("the answer is not JSON: ")


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "objekt"}, "is no JSON schema: at \\$.type"),
        ({"$ref": "https://example.com/s.json"}, "has a \\$ref to 'https://example.com/s.json'"),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}}, "has a \\$ref to '#/\\$defs/b'"),
    ],
)
def test_a_schema_that_is_none_is_refused(
    results: Path, schema: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        list(read_results(results, json_schema=schema))


def test_a_schema_may_refer_to_its_own_parts(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "r.jsonl", [result("a", chat("[[1]]"))])
    schema = {"$ref": "#/$defs/t", "$defs": {"t": {"items": {"$ref": "#/$defs/t"}}}}
    (row,) = read_results(path, json_schema=schema)
    assert row["error"] is None


def mixed(tmp_path: Path) -> Path:
    bodies = [
        chat('{"n": 1, "t": "x"}'),
        chat('{"n": 2.5, "t": [1]}', reason="length"),
        {"data": [{"index": 0, "embedding": [0.1, 0.2]}]},
    ]
    return write_lines(
        tmp_path / "r.jsonl", [result(f"r{i}", body, index=i) for i, body in enumerate(bodies)]
    )


def test_parquet_has_types(tmp_path: Path) -> None:
    write_table(mixed(tmp_path), tmp_path / "t.parquet", fields=["n", "t"])
    table = parquet.read_table(tmp_path / "t.parquet")
    kinds = {
        name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)
    }
    assert kinds["input_tokens"] == kinds["status_code"] == "int64"
    assert kinds["embedding"].startswith("list<")
    assert (kinds["n"], kinds["t"]) == ("double", "string")
    assert table["embedding"].to_pylist() == [None, None, [0.1, 0.2]]
    assert table["n"].to_pylist() == [1.0, 2.5, None]
    assert table["t"].to_pylist() == ['"x"', "[1]", None]


def test_pandas_polars_and_pyarrow_take_rows_as_they_are(tmp_path: Path) -> None:
    rows = read_results(mixed(tmp_path), fields=["n"])
    assert list(pandas.DataFrame(rows)["n"].dropna()) == [1.0, 2.5]
    assert polars.DataFrame(rows)["n"].to_list() == [1.0, 2.5, None]
    assert pyarrow.table(rows)["n"].to_pylist() == [1.0, 2.5, None]


def test_lists_and_objects_are_json_in_csv(tmp_path: Path) -> None:
    write_table(mixed(tmp_path), tmp_path / "t.tsv", fields=["t"])
    rows = read_csv(tmp_path / "t.tsv", "\t")
    assert (rows[1]["t"], rows[2]["embedding"]) == ("[1]", "[0.1,0.2]")


def test_results_that_a_program_has_are_written_just_so(tmp_path: Path) -> None:
    answer = InferenceResponse(
        request_id="r", status_code=200, body=json.dumps(chat("Hi")).encode()
    )
    given_results = [
        BatchResult(1, "b", error=InvalidRequestError("wrong", status_code=400)),
        BatchResult(0, "a", response=answer),
    ]
    write_table(given_results, tmp_path / "t.csv")
    rows = read_csv(tmp_path / "t.csv")
    assert [(row["custom_id"], row["text"], row["error"]) for row in rows] == [
        ("a", "Hi", ""),
        ("b", "", "wrong"),
    ]


@given(
    st.lists(
        st.dictionaries(
            st.just("t") | st.just("u"),
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        ),
        max_size=5,
    )
)
def test_any_text_comes_back_from_csv_and_exactly_so_where_that_is_wanted(
    found: list[dict[str, str]],
) -> None:
    rows = [{"t": row.get("t", ""), "u": row.get("u", "")} for row in found]
    for delimiter in ",\t":
        exact, guarded = io.StringIO(newline=""), io.StringIO(newline="")
        assert write_delimited(exact, ["t", "u"], rows, delimiter, exact=True) == 0
        assert read_back(exact, delimiter) == rows
        count = write_delimited(guarded, ["t", "u"], rows, delimiter, exact=False)
        back = read_back(guarded, delimiter)
        changed = [
            (after[name], before[name])
            for after, before in zip(back, rows, strict=True)
            for name in before
            if after[name] != before[name]
        ]
        assert len(changed) == count
        assert all(after == f"'{before}" for after, before in changed)
        assert not any(cell[:1] in set("=@\t\r\n") for row in back for cell in row.values())


def read_back(stream: io.StringIO, delimiter: str) -> list[dict[str, str]]:
    stream.seek(0)
    return list(csv.DictReader(stream, delimiter=delimiter))


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"), ("@SUM(A1)", "'@SUM(A1)"), ("-2+3", "'-2+3"),
        ("+cmd|' /C x'!A0", "'+cmd|' /C x'!A0"), ("＝1+1", "'＝1+1"),  # noqa: RUF001
        ("\t=1", "'\t=1"), ("-5", "-5"), ("+1.5e3", "+1.5e3"), ("a=1", "a=1"), ("", ""),
    ],
)  # fmt: skip
def test_no_spreadsheet_takes_a_text_for_a_formula(tmp_path: Path, text: str, cell: str) -> None:
    path = write_lines(tmp_path / "r.jsonl", [result("a", chat(text))])
    counts = write_table(path, tmp_path / "t.csv")
    assert read_csv(tmp_path / "t.csv")[0]["text"] == cell
    assert counts.guarded == (cell != text)
    write_table(path, tmp_path / "t.csv", exact=True)
    assert read_csv(tmp_path / "t.csv")[0]["text"] == text


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
def test_an_earlier_table_is_replaced_and_nothing_else_is(
    results: Path, tmp_path: Path, form: str
) -> None:
    path = tmp_path / f"t.{form}"
    write_table(results, path)
    write_table(results, path)
    before = path.read_bytes()
    for strange in (b"mine,yours\n1,2\n", b'{"mine": 1}\n', b"PAR1 what", before[:20]):
        path.write_bytes(strange)
        with pytest.raises(JournalError, match="is there already, and is no earlier table"):
            write_table(results, path)
        assert path.read_bytes() == strange
    write_table(results, path, overwrite=True)
    assert path.read_bytes() == before


def test_a_table_in_which_somebody_has_worked_is_not_replaced(
    results: Path, tmp_path: Path
) -> None:
    write_table(results, tmp_path / "t.csv")
    frame = pandas.read_csv(tmp_path / "t.csv")
    frame["my judgement"] = "good"
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(JournalError, match="is there already"):
        write_table(results, tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("name", "problem", "kind"),
    [
        ("t.xlsx", "does not say which form", ConfigError),
        ("nowhere/t.csv", "there is no folder", JournalError),
        ("folder.csv", "is a folder", JournalError),
        ("link.csv", "is not a regular file", JournalError),
    ],
)
def test_a_place_where_no_table_can_be_is_named(
    results: Path, tmp_path: Path, name: str, problem: str, kind: type[Exception]
) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "link.csv").symlink_to("/dev/null")
    with pytest.raises(kind, match=problem):
        write_table(results, tmp_path / name)


def test_nothing_is_left_of_a_table_that_could_not_be_made(results: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("custom_id,a\nr1,1\n")
    with pytest.raises(InputError):
        write_table(results, tmp_path / "t.csv", input=tmp_path / "in.csv")
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", "results.jsonl"}


def test_what_was_read_of_data_is_an_input_as_it_is(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"key": ["b", "a"], "review": ["x", "y"]})
    asked = read_requests(frame, model="m", template="{review}", id_column="key")
    path = write_lines(tmp_path / "r.jsonl", [result("a", chat("A")), result("b", chat("B"))])
    write_table(path, tmp_path / "t.csv", input=asked)
    rows = read_csv(tmp_path / "t.csv")
    assert [(row["key"], row["review"], row["text"]) for row in rows] == [
        ("b", "x", "B"),
        ("a", "y", "A"),
    ]
