"""No secret that was sent is shown again, however a gateway spells it and wherever it is cut."""

from __future__ import annotations

import asyncio
import base64
import html
import json
import logging
import re
import traceback
from collections.abc import Callable, Sequence
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway import HTTPInferenceClientConfig, InferenceError, InferenceRequest
from batch_gateway.client.client import build_stack
from batch_gateway.client.interfaces.instrumentation import GatewayEvents
from batch_gateway.client.prepare import prepare
from batch_gateway.clock import SYSTEM_CLOCK
from batch_gateway.engine.results import failure_outcome
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.http.redaction import Redactor, is_credential
from batch_gateway.http.sent_secrets import redactor_of
from batch_gateway.http.spellings import spelt_spans
from batch_gateway.wire.headers import Headers
from tests.client.one_answer import OneAnswer, failure
from tests.linear_cost import assert_linear

KEY = "sk-proj-a/B+c9_d.E=fGh~1234567890"
PIECE = 8

Spelling = Callable[[str], str]


def shown(error: InferenceError) -> str:
    """Everything that anybody gets to see of an error."""
    line = failure_outcome(0, "id", "c", error).line.decode()
    trace = "".join(traceback.format_exception(error))
    parts = (error, repr(error), error.args, error.body, error.code, error.dropped_reason)
    return " ".join(map(str, (*parts, error.rate_limits, line, trace)))


def assert_hidden(secret: str, text: str) -> None:
    """No piece of it can be read in `text`, not even by who undoes what escapes there are."""
    for _ in range(5):
        pieces = (secret[at : at + PIECE] for at in range(len(secret) - PIECE + 1))
        assert not [piece for piece in pieces if piece in text], text
        text = re.sub(r"\\+u([0-9a-fA-F]{4})|\\+x([0-9a-fA-F]{2})", _sign, text)
        text = unquote(html.unescape(text)).replace("\\/", "/").replace('\\"', '"')


def _sign(escape: re.Match[str]) -> str:
    return chr(int(escape.group(1) or escape.group(2), 16))


def every_sign(form: str) -> Spelling:
    return lambda text: "".join(form.format(ord(sign)) for sign in text)


SPELLINGS: dict[str, Spelling] = {
    "as it is": lambda text: text,
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON with slashes escaped": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "JSON as Go and PHP have it": lambda text: (
        json.dumps(text)[1:-1].replace("+", "\\u002b").replace("=", "\\u003d")
    ),
    "every sign in hex": every_sign("\\u{:04x}"),
    "every sign in HEX": every_sign("\\u{:04X}"),
    "a Python repr of bytes": every_sign("\\x{:02x}"),
    "HTML": lambda text: html.escape(text).replace("/", "&sol;").replace("+", "&plus;"),
    "HTML, decimal": every_sign("&#{};"),
    "HTML, padded": every_sign("&#{:05d};"),
    "HTML, hex": every_sign("&#x{:x};"),
    "HTML, HEX": every_sign("&#X{:02X};"),
    "a URL": lambda text: quote(text, safe=""),
    "a url": lambda text: quote(text, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
    "a URL, every sign": every_sign("%{:02X}"),
    "a URL twice": lambda text: quote(quote(text, safe=""), safe=""),
    "JSON in JSON": lambda text: json.dumps(json.dumps(every_sign("\\u{:04x}")(text)))[3:-3],
    "HTML in JSON": lambda text: json.dumps(html.escape(text).replace("/", "&#47;"))[1:-1],
}

BODIES: dict[str, tuple[int, str]] = {
    "a refusal": (401, '{"error":{"message":"bad key %s","code":"%s"}}'),
    "text": (403, "no such key: %s"),
    "a page": (502, "<html><title>%s</title><p>%s</p></html>"),
    "an aggregator": (500, '{"error":{"message":"x","metadata":{"raw":"key %s"}}}'),
    "a 200 with an error": (200, '{"error":{"message":"bad key %s","code":401}}'),
    "a 200 that is no JSON": (200, "key %s"),
    "a 200 that is cut": (200, '{"key":"%s","x'),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("body", BODIES)
def test_a_key_that_is_quoted_back_is_hidden(body: str, spelling: str) -> None:
    status, form = BODIES[body]
    said = SPELLINGS[spelling](KEY)
    for before in (0, 40, 70, 280):
        text = form.replace("%s", "." * before + said)
        error = failure(HTTPResponse(status, Headers(), text.encode()), api_key=KEY)
        assert_hidden(KEY, shown(error))
        assert "[redacted]" in shown(error)


CUT_BODIES: dict[str, tuple[int, str]] = {
    "a refusal": (401, '{"error":{"message":"bad key %s'),
    "text": (502, "no such key: %s"),
    "a 200 with an error": (200, '{"error":"bad key %s'),
    "a 200 that is no JSON": (200, "key %s"),
    "an error event": (200, 'data: {"error":{"message":"bad key %s'),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("body", CUT_BODIES)
def test_a_key_is_hidden_where_what_arrived_ends_in_the_middle_of_it(
    body: str, spelling: str
) -> None:
    status, form = CUT_BODIES[body]
    for missing in (1, 5, 11):
        text = form.replace("%s", SPELLINGS[spelling](KEY)[:-missing])
        error = failure(HTTPResponse(status, Headers(), text.encode()), api_key=KEY)
        assert_hidden(KEY, shown(error))


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("after", ["...", '"', " [truncated]", "***7890"])
def test_most_of_a_key_is_hidden_where_a_gateway_has_cut_it(spelling: str, after: str) -> None:
    said = SPELLINGS[spelling](KEY[:24])
    error = failure(HTTPResponse(401, Headers(), f"bad key {said}{after}".encode()), api_key=KEY)
    assert_hidden(KEY, shown(error))


@pytest.mark.parametrize("spell", [str.lower, str.upper])
def test_a_key_whose_letters_became_all_small_or_all_capitals_is_hidden(spell: Spelling) -> None:
    body = json.dumps({"error": {"message": f"bad key {spell(KEY)}"}}).encode()
    error = failure(HTTPResponse(401, Headers(), body), api_key=KEY)
    assert error.message == "HTTP 401: bad key [redacted]"
    assert_hidden(spell(KEY), shown(error))


def test_a_key_in_the_name_of_a_header_is_hidden() -> None:
    headers = Headers.of({"x-ratelimit-limit-sk-key0123456789": "1"})
    error = failure(HTTPResponse(429, headers, b"{}"), api_key="SK-key0123456789")
    assert error.rate_limits == {"x-ratelimit-limit-[redacted]": "1"}


EVENTS: dict[str, str] = {
    "a broken chunk of wide signs": "data: éééééééééé%s\n\n",
    "an error event": 'data: {"error":{"message":"bad key %s","code":"%s"}}\n\n',
    "an error event of text": "event: error\ndata: bad key %s\n\n",
    "a broken chunk": "data: %s\n\n",
    "a chunk that is none": 'data: ["%s"]\n\n',
    "an error by its type": 'data: {"object":"error","message":"%s"}\n\n',
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("event", EVENTS)
def test_a_key_that_an_event_of_a_stream_quotes_is_hidden(event: str, spelling: str) -> None:
    said = SPELLINGS[spelling](KEY)
    head = Headers.of({"content-type": "text/event-stream"})
    for before in (0, 20, 40, 280):
        text = EVENTS[event].replace("%s", "." * before + said)
        error = failure(HTTPResponse(200, head, text.encode()), stream_upstream=True, api_key=KEY)
        assert_hidden(KEY, shown(error))


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(
    ("status", "name"),
    [
        (302, "location"),
        (429, "x-llm-d-request-dropped-reason"),
        (429, "x-ratelimit-limit-requests"),
        (401, "content-type"),
    ],
)
def test_a_key_that_a_header_quotes_is_hidden(status: int, name: str, spelling: str) -> None:
    said = SPELLINGS[spelling](KEY)
    headers = Headers.of({name: f"https://login/?back=%2F&key={said}&more"})
    error = failure(HTTPResponse(status, headers, b"no"), api_key=KEY)
    assert_hidden(KEY, shown(error))


BASIC = base64.b64encode(b"alice:opensesame").decode()


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("Authorization", f"Basic {BASIC}", BASIC),
        ("Authorization", f"basic {BASIC}", "opensesame"),
        ("Authorization", f"Basic {BASIC}", "alice:opensesame"),
        ("Authorization", "Bearer my-long-token", "my-long-token"),
        ("Authorization", "bearer my-long-token", "my-long-token"),
        ("AUTHORIZATION", "Token my-long-token", "my-long-token"),
        ("Authorization", "ApiKey my-long-token", "my-long-token"),
        ("Authorization", "my-long-token", "my-long-token"),
        ("Proxy-Authorization", "Bearer my-long-token", "my-long-token"),
        (
            "Authorization",
            "AWS4-HMAC-SHA256 Credential=AKIA123456/eu/x, SignedHeaders=host, Signature=fe5f80f77d",
            "fe5f80f77d",
        ),
        ("Authorization", 'Digest username="a", realm="r", response="6629fae4"', "6629fae4"),
        ("Cookie", "theme=dark; session=abcdef123456; lang=en", "abcdef123456"),
        ("X-Pat", "my-long-token", "my-long-token"),
        ("X-Passwd", "my-long-token", "my-long-token"),
        ("X-Pass", "my-long-token", "my-long-token"),
        ("X-Pwd", "my-long-token", "my-long-token"),
        ("X-Api-Key", "my-long-token", "my-long-token"),
        ("api-key", "my-long-token", "my-long-token"),
        ("apikey", "my-long-token", "my-long-token"),
        ("X-Auth", "my-long-token", "my-long-token"),
        ("X-Amz-Security-Token", "my-long-token", "my-long-token"),
        ("X-Client-Secret", "my-long-token", "my-long-token"),
        ("X-Signature", "my-long-token", "my-long-token"),
        ("X-Jwt-Assertion", "my-long-token", "my-long-token"),
        ("X-Session-Id", "my-long-token", "my-long-token"),
        ("X-Creds", "my-long-token", "my-long-token"),
        ("X-User-Pw", "my-long-token", "my-long-token"),
        ("X-Hmac", "my-long-token", "my-long-token"),
        ("X-Forwarded", "Bearer my-long-token", "my-long-token"),
    ],
)
@pytest.mark.parametrize("own", [False, True])
def test_every_kind_of_credential_is_hidden(name: str, value: str, secret: str, own: bool) -> None:
    body = json.dumps({"error": {"message": f"who is {secret}?"}}).encode()
    given = {name: value}
    error = failure(
        HTTPResponse(401, Headers(), body), **{"own_headers" if own else "headers": given}
    )
    assert error.message == "HTTP 401: who is [redacted]?"
    assert secret not in shown(error)


@pytest.mark.parametrize(
    "name", ["User-Agent", "X-Request-ID", "X-Path", "X-Spatial", "traceparent", ":authority"]
)
def test_a_harmless_header_is_no_credential(name: str) -> None:
    assert not is_credential(name)


def test_the_password_of_a_proxy_is_hidden() -> None:
    config = HTTPInferenceClientConfig("http://g", proxy="http://bob:p%40ss%2Fword@proxy:3128")
    token = base64.b64encode(b"bob:p@ss/word").decode()
    said = redactor_of(config).in_text(f"407 for bob: p@ss/word, p%40ss%2Fword, {token}")
    assert "word" not in said
    assert token not in said


@pytest.mark.parametrize("user_info", ["", ":", "a", "a:b", "me:"])
def test_a_proxy_without_a_secret_takes_nothing_out_of_words(user_info: str) -> None:
    config = HTTPInferenceClientConfig("http://g", proxy=f"http://{user_info}@proxy:3128")
    words = f"me and a: {base64.b64encode(user_info.encode()).decode()} is no good"
    assert redactor_of(config).in_text(words) == words


def test_a_key_that_stands_alone_in_a_proxys_url_is_hidden_as_it_is_sent() -> None:
    config = HTTPInferenceClientConfig("http://g", proxy="http://opensesam%65@proxy:3128")
    for said in ("opensesame", base64.b64encode(b"opensesame:").decode()):
        assert redactor_of(config).in_text(f"{said} is no good").startswith("[redacted]")


def test_the_password_of_a_proxy_from_the_environment_is_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://bob:opensesame@proxy:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    config = HTTPInferenceClientConfig("http://gateway.example", proxy="env")
    assert "opensesame" not in redactor_of(config).in_text("bad password opensesame")


def test_what_a_gateway_has_masked_itself_is_left_as_it_is() -> None:
    body = b'{"error":{"message":"Incorrect API key provided: sk-pr***7890."}}'
    error = failure(HTTPResponse(401, Headers(), body), api_key=KEY)
    assert error.message == "HTTP 401: Incorrect API key provided: sk-pr***7890."
    assert error.body == body


def test_a_body_without_secrets_stays_as_it_came() -> None:
    body = '{"error":{"message":"caf\\u00e9 \\/ &amp; %41 größer"}}'.encode()
    assert failure(HTTPResponse(400, Headers(), body), api_key=KEY).body == body


def test_json_with_a_key_in_it_stays_json() -> None:
    body = json.dumps({"error": {"message": "\n" + SPELLINGS["every sign in hex"](KEY)}})
    body = body.replace("\\\\u", "\\u")
    error = failure(HTTPResponse(400, Headers(), body.encode()), api_key=KEY)
    assert json.loads(error.body) == {"error": {"message": "\n[redacted]"}}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_key_in_a_body_of_wide_characters_is_hidden(encoding: str) -> None:
    body = json.dumps({"error": {"message": f"bad key {KEY}"}}).encode(encoding)
    error = failure(HTTPResponse(401, Headers(), body), api_key=KEY)
    assert error.message == "HTTP 401: bad key [redacted]"
    assert KEY.encode(encoding)[4:-4] not in error.body


def test_the_id_of_a_request_is_its_users_own() -> None:
    config = HTTPInferenceClientConfig("http://gateway", retry=None, api_key=KEY)
    request = InferenceRequest(request_id=f"for-{KEY}", params={"model": "m", "messages": []})
    refusal = OneAnswer(HTTPResponse(401, Headers(), b""))
    stack = build_stack(config, refusal, SYSTEM_CLOCK, GatewayEvents("g"))
    with pytest.raises(InferenceError) as caught:
        asyncio.run(stack.send(prepare(request, SYSTEM_CLOCK)))
    assert caught.value.request_id == f"for-{KEY}"


def test_a_good_answer_is_its_users_own() -> None:
    body = json.dumps({"choices": [{"message": {"role": "assistant", "content": KEY}}]}).encode()
    config = HTTPInferenceClientConfig("http://gateway", retry=None, api_key=KEY)
    good = OneAnswer(HTTPResponse(200, Headers(), body))
    stack = build_stack(config, good, SYSTEM_CLOCK, GatewayEvents("g"))
    request = InferenceRequest(params={"model": "m", "messages": []})
    assert asyncio.run(stack.send(prepare(request, SYSTEM_CLOCK))).body == body


def test_a_cause_that_tells_a_secret_is_dropped() -> None:
    error = InferenceError("x", cause=ValueError(f"bad header {KEY}"))
    Redactor([KEY]).in_error(error)
    assert error.cause is None
    harmless = InferenceError("x", cause=ValueError("bad header"))
    Redactor([KEY]).in_error(harmless)
    assert str(harmless.cause) == "bad header"


# Of a secret such as "00000000" every number has pieces.
secrets = st.text(st.sampled_from("abcXYZ0189-_./+=%&;~!$#u"), min_size=PIECE, max_size=60).filter(
    lambda text: len(set(text)) > 4
)
layers = st.lists(st.sampled_from(sorted(SPELLINGS)), max_size=3)


# Each example has an event loop of its own, which takes long on a busy machine.
@settings(deadline=None)
@given(secrets, layers, st.text(max_size=30), st.text(max_size=30), st.integers(0, 330))
def test_no_piece_of_a_secret_is_left_whatever_it_went_through(
    secret: str, layered: Sequence[str], before: str, after: str, dots: int
) -> None:
    said = secret
    for one in layered:
        said = SPELLINGS[one](said)
    body = json.dumps({"error": {"message": f"{before}{'.' * dots} {said} {after}"}})
    error = failure(HTTPResponse(401, Headers(), body.encode()), headers={"X-Api-Key": secret})
    assert_hidden(secret, shown(error))


@pytest.mark.parametrize(
    "password",
    ["a%41b\\c&lt;d", "\\\\host\\share", 'quo"ted"pass', "tab\\tname%20x", "%41%42%43%44%45%46"],
)
@pytest.mark.parametrize("spelling", ["as it is", "JSON", "every sign in hex", "JSON in JSON"])
def test_a_password_that_looks_like_escapes_is_hidden(password: str, spelling: str) -> None:
    body = json.dumps({"error": {"message": f"not {SPELLINGS[spelling](password)} !"}}).encode()
    error = failure(HTTPResponse(401, Headers(), body), headers={"X-Pass": password})
    assert error.message == "HTTP 401: not [redacted] !"
    assert_hidden(password, shown(error))


def test_spans_are_told_by_their_places_in_what_arrived() -> None:
    text = r"a \u006b\/&#101;%79 b"

    def find(current: str) -> list[tuple[int, int]]:
        at = current.find("k/ey")
        return [] if at < 0 else [(at, at + 4)]

    spans, looked = spelt_spans(text, lambda current: iter(find(current)))
    assert [text[start:end] for start, end in spans] == [r"\u006b\/&#101;%79"]
    assert looked == len(text)


@pytest.mark.parametrize(
    "unit", ["x", "\\", "\\u0041", "%25", "&amp;", "&#", "\\/", KEY, KEY[:20], "…", "aaaaaaaa"]
)
def test_the_cost_of_looking_grows_with_the_length_of_what_is_looked_at(unit: str) -> None:
    redact = Redactor([KEY, "aaaaaaaa", KEY * 20])

    def look(size: int) -> None:
        redact.in_bytes((unit * (size // len(unit))).encode())

    assert_linear(look, 2000)


def test_what_follows_after_hundreds_of_thousands_of_escapes_is_left_out() -> None:
    data = b"\\/" * 200_000 + b"\\u0073" + KEY[1:].encode()
    clean = Redactor([KEY]).in_bytes(data)
    assert data.startswith(clean)
    assert_hidden(KEY, clean.decode())


def test_nothing_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        failure(HTTPResponse(401, Headers(), KEY.encode()), api_key=KEY)
    assert_hidden(KEY, caplog.text)
