"""From rows to lines of a batch file: templates, parameters, custom_ids, and what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.engine.source import BytesSource
from batch_gateway.engine.validate import check_line, diagnose
from batch_gateway.errors import ConfigError
from batch_gateway.inputs.parameters import nested
from batch_gateway.inputs.prompt_template import Template
from batch_gateway.inputs.read_rows import rows_of
from batch_gateway.inputs.recipe import Recipe
from batch_gateway.inputs.request_line import RequestLines
from batch_gateway.wire.lines import OTHER_ENDPOINTS


def lines(data: str, name: str = "a.jsonl", **recipe: Any) -> list[dict[str, Any]]:
    """The requests that rows make; of a faulty row what is wrong with it, as `problem`."""
    if isinstance(recipe.get("template"), str):
        recipe["template"] = Template.parse(recipe["template"])
    found: list[dict[str, Any]] = []
    with rows_of(BytesSource(data.encode(), name)) as rows:
        maker = RequestLines(Recipe(**recipe), typed=rows.typed, hosts={"llm-d:8000"})
        for row in rows:
            line = maker.line(row)
            if check_line(line, OTHER_ENDPOINTS) is None:
                found.append({"problem": "; ".join(f.text for f in diagnose(line).problems)})
            else:
                found.append(json.loads(line))
    return found


def bodies(data: str, name: str = "a.jsonl", **recipe: Any) -> list[Any]:
    return [line.get("body", line) for line in lines(data, name, **recipe)]


def chat(*contents: str, **more: Any) -> dict[str, Any]:
    *system, user = contents
    messages = [{"role": "system", "content": text} for text in system]
    return {"model": "m", "messages": [*messages, {"role": "user", "content": user}], **more}


CSV = 'review,stars\nGood!,5\n"So, so\nreally",3\n'


def test_a_row_becomes_a_chat_by_a_template() -> None:
    found = lines(CSV, "a.csv", model="m", template="Classify: {review} ({ stars })")
    assert found == [
        {
            "custom_id": f"request-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": chat(f"Classify: {text}"),
        }
        for number, text in enumerate(["Good! (5)", "So, so\nreally (3)"], 1)
    ]


def test_a_prompt_column_needs_no_template() -> None:
    for data, name in (("prompt,x\nHi,1\n", "a.csv"), ("Hi\n", "a.txt"), ('{"prompt": "Hi"}', "a")):
        assert bodies(data, name, model="m", system="Be brief") == [chat("Be brief", "Hi")]


def test_rows_may_name_their_model_and_parameters_and_other_columns_are_not_sent() -> None:
    row = {"prompt": "Hi", "model": "own", "temperature": 0.5, "max_tokens": None, "label": "x"}
    assert bodies(json.dumps(row), model="m") == [{**chat("Hi", temperature=0.5), "model": "own"}]
    assert bodies(json.dumps(row), model_override="m")[0]["model"] == "m"
    # In a table of text a temperature may be the weather's.
    assert bodies("prompt,temperature\nHi,21\n", "a.csv", model="m") == [chat("Hi")]


def test_messages_and_prompts_may_be_mixed() -> None:
    messages = [{"role": "system", "content": "own"}, {"role": "user", "content": "Hi"}]
    rows = [{"messages": messages, "prompt": None}, {"prompt": "Ho", "messages": None}]
    data = "\n".join(map(json.dumps, rows))
    assert bodies(data, model="m", system="S") == [chat("own", "Hi"), chat("S", "Ho")]
    quoted = '"' + json.dumps(messages).replace('"', '""') + '"'
    assert bodies(f"messages\n{quoted}\n", "a.csv", model="m") == [chat("own", "Hi")]


def test_numbers_stay_as_they_are_written() -> None:
    with rows_of(
        BytesSource(b'{"messages": [{"n": 1.0e2}], "seed": 12345678901234567890123}')
    ) as r:
        (line,) = (RequestLines(Recipe(model="m"), typed=True).line(row) for row in r)
    assert b'"messages":[{"n": 1.0e2}]' in line
    assert b'"seed":12345678901234567890123' in line


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/completions", {"prompt": "Hi"}),
        ("/v1/embeddings", {"input": "Hi"}),
        ("/v1/responses", {"input": "Hi"}),
        ("/v1/moderations", {"input": "Hi"}),
    ],
)
def test_a_prompt_may_be_for_another_endpoint(endpoint: str, body: dict[str, Any]) -> None:
    (found,) = lines("prompt\nHi\n", "a.csv", model="m", endpoint=endpoint)
    assert (found["url"], found["body"]) == (endpoint, {"model": "m", **body})


def test_the_custom_id_comes_from_a_column() -> None:
    def ids(data: str, **recipe: Any) -> list[Any]:
        found = lines(data, "a.csv", model="m", **recipe)
        return [line.get("custom_id", line.get("problem")) for line in found]

    assert ids("prompt,nr\na,x\nb,y\n", id_column="nr") == ["x", "y"]
    assert ids("custom_id,prompt\nx,a\n") == ["x"]
    assert ids("prompt,nr\na,\n", id_column="nr") == [
        "has nothing in the column 'nr', its custom_id"
    ]


def test_parameters_fill_what_a_request_does_not_say() -> None:
    params = nested({"temperature": "0", "stop": "END", "response_format.type": '"json_object"'})
    row = {"prompt": "Hi", "temperature": 1, "response_format": {"strict": True}}
    (body,) = bodies(json.dumps(row), model="m", params=params)
    assert body["temperature"] == 1
    assert body["stop"] == "END"
    assert body["response_format"] == {"strict": True, "type": "json_object"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model": "x"}, "--model"),
        ({"stream": "true"}, "whole answers"),
        ({"a": "{oops"}, "begins like JSON"),
        ({"a": "1", "a.b": "2"}, "is within a"),
        ({"a..b": "1"}, "is not a name"),
    ],
)
def test_parameters_that_cannot_be_are_refused(given: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        nested(given)


@pytest.mark.parametrize(
    ("data", "recipe", "words"),
    [
        ('{"prompt": "a", "input": "b"}', {}, "has prompt and input"),
        ('{"text": "a"}', {}, "has no column prompt or messages, .*; it has text"),
        ('{"prompt": ""}', {}, "has nothing in prompt"),
        ('{"prompt": 3}', {}, "has a prompt that is not text"),
        ('{"messages": "x"}', {}, "has messages that are not a list"),
        ('{"input": "x"}', {}, "set the request's endpoint"),
        ('{"prompt": "a"}', {"model": None}, "names no model"),
        ('{"review": "a"}', {"template": "{reveiw}"}, "has no column 'reveiw'.*mean 'review'"),
        ('{"review": "a"}', {"template": "{name}"}, "names$"),
        ('{"review": null}', {"template": "{review}"}, "has nothing in the column 'review'"),
        ('{"review": " "}', {"template": "{review}"}, "makes an empty prompt"),
        ('{"method": "POST", "body": {}}', {"template": "{review}"}, "is a request already"),
    ],
)
def test_what_is_wrong_with_a_row_is_told(data: str, recipe: dict[str, Any], words: str) -> None:
    (found,) = lines(data, **{"model": "m", **recipe})
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(found["problem"])


def test_a_body_or_a_url_may_be_data() -> None:
    email = json.dumps({"subject": "Hi", "body": "Ho", "url": "http://x", "custom_id": "a"})
    assert bodies(email, model="m", template="{subject} {body}") == [chat("Hi Ho")]
    (found,) = lines(json.dumps({"subject": "Hi", "body": "Ho"}), model="m")
    assert "has no column prompt or messages" in found["problem"]
    assert bodies('{"prompt": "Hi", "url": "http://x"}', model="m") == [chat("Hi")]


def batch_line(**changes: Any) -> str:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": chat("Hi")}
    return json.dumps({**line, **changes})


def test_a_line_of_a_batch_stays_as_it_is_to_the_byte() -> None:
    body = '{"model":"x","input":1.0}'
    text = f'{{ "custom_id":"a","method" : "POST","url":"/v1/embeddings","body":{body}}}'
    with rows_of(BytesSource(text.encode())) as rows:
        for recipe in (Recipe(), Recipe(model="m")):
            made = RequestLines(recipe, typed=True)
            assert [made.line(row) for row in rows] == [text.encode()]


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("v1/embeddings", "/v1/embeddings"),
        ("/v1/responses/", "/v1/responses"),
        ("http://llm-d:8000/v1/completions", "/v1/completions"),
        ("http://LLM-D:8000/openai/v1/completions", "/v1/completions"),
        ("/v1/score", "/v1/score"),
        ("/rerank/", "/rerank"),
    ],
)
def test_other_spellings_of_an_endpoint_are_taken(url: str, meant: str) -> None:
    (line,) = lines(batch_line(url=url, method="post"))
    assert (line["url"], line["method"]) == (meant, "POST")


@pytest.mark.parametrize("url", ["http://llm-d:8000/v1/chat/completions", "chat/completions"])
def test_a_system_message_is_put_where_the_endpoint_is_spelled_otherwise(url: str) -> None:
    assert bodies(batch_line(url=url), system="S") == [chat("S", "Hi")]


@pytest.mark.parametrize("url", ["http://elsewhere/v1/completions", "/v1/nothing", "/v1/chat"])
def test_other_urls_are_not(url: str) -> None:
    (line,) = lines(batch_line(url=url))
    assert "url" in line["problem"]


def test_what_a_line_of_a_batch_lacks_is_filled_in() -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    (line,) = lines(batch_line(body=body), model="m", system="S", params={"top_p": 0.5})
    assert line["body"] == chat("S", "Hi", top_p=0.5)
    (line,) = lines(batch_line(), model_override="n", id_column="url")
    assert (line["body"]["model"], line["custom_id"]) == ("n", "/v1/chat/completions")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no column", "names no column"),
        ("a {b", r"has \{ at character 3"),
        ("a}\n{b}", "has } at line 1, character 2"),
        ('{"label": {x}}', r"has \{ at character 1"),
        ("{}", r"has \{} at character 1"),
    ],
)
def test_a_template_with_braces_astray_is_refused_with_their_place(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Template.parse(text)


def test_a_template_is_checked_against_the_columns_of_a_table() -> None:
    template = Template.parse("{Reviews} {meta.title}")
    template.check(["Reviews", "meta"], "a.csv")
    with pytest.raises(ConfigError, match="did you mean 'review'.*it has review, meta"):
        template.check(["review", "meta"], "a.csv")
    assert template.render({"Reviews": "x", "meta": {"title": 3}}) == "x 3"


NAMES = st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), min_size=1)


@given(st.dictionaries(NAMES.map(str.strip).filter(bool), st.text(), min_size=1), st.data())
def test_a_template_gives_back_text_and_columns(row: dict[str, str], data: st.DataObject) -> None:
    columns = data.draw(st.lists(st.sampled_from(sorted(row)), min_size=1))
    texts = [data.draw(st.text(max_size=5)) for _ in columns]
    written = "".join(
        text.replace("{", "{{").replace("}", "}}") + "{" + column + "}"
        for text, column in zip(texts, columns, strict=True)
    )
    meant = "".join(text + row[column] for text, column in zip(texts, columns, strict=True))
    assert Template.parse(written).render(row) == meant


ROWS = st.dictionaries(
    st.sampled_from(["prompt", "messages", "input", "model", "custom_id", "body", "url", "x"]),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5), st.lists, max_leaves=3
    ),
)


@given(st.lists(ROWS, max_size=4), st.sampled_from([None, "{x}"]))
def test_whatever_stands_in_a_row_it_becomes_a_line(
    rows: list[dict[str, Any]], template: str | None
) -> None:
    data = "\n".join(json.dumps(row) for row in rows) + "\n"
    recipe = {} if template is None else {"template": template}
    assert len(lines(data, model="m", **recipe)) == len(rows)
