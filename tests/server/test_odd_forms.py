"""Forms as odd clients write them: taken for what they mean, or refused in words; never half."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.server.api_errors import ApiError
from batch_gateway.server.upload_form import UploadForm
from tests.server.running import LINE, Api, form

pytestmark = pytest.mark.anyio

DATA = LINE.decode()
PURPOSE = '--xyz\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
END = "--xyz--\r\n"


def file_part(name: str = 'filename="in.jsonl"', more: str = "", data: str = DATA) -> str:
    shown = f'Content-Disposition: form-data; name="file"; {name}'.rstrip("; ")
    return f"--xyz\r\n{shown}\r\n{more}\r\n{data}\r\n"


def field(name: str, value: str) -> str:
    return f'--xyz\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'


async def sent(api: Api, body: str | bytes, **headers: str) -> tuple[int, str]:
    """The status, and the name of the file or what was wrong; nothing is kept of what is wrong."""
    raw = body.encode() if isinstance(body, str) else body
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await api.http.post("/v1/files", content=raw, headers={**form()[1], **headers})
    if answer.status_code == 200:
        content = await api.http.get(f"/v1/files/{answer.json()['id']}/content")
        assert content.content == LINE
        return 200, answer.json()["filename"]
    assert api.stored() == []
    return answer.status_code, answer.json()["error"]["message"]


@pytest.mark.specified("files.create.odd_forms")
@pytest.mark.parametrize(
    "body",
    [
        "a preamble\r\nof --xyz and --xy\r\n" + PURPOSE + file_part() + END,
        "\r\n" + PURPOSE + file_part() + END,
        "x" * 8000 + "\r\n" + PURPOSE + file_part() + END,
        PURPOSE + file_part() + END + "an epilogue\r\n--xyz\r\n",
        PURPOSE + file_part() + "--xyz--",
        PURPOSE + file_part(more="Content-Transfer-Encoding: BINARY\r\n") + END,
        PURPOSE + file_part(more="Content-Encoding: identity\r\n") + END,
        PURPOSE + field("_charset_", "utf-8") + field("x", "1") + field("x", "2")
        + file_part() + END,
        PURPOSE + file_part().replace("form-data; name", "Form-Data;  NAME") + END,
    ],
)  # fmt: skip
async def test_what_is_odd_and_allowed_is_taken(
    api: Api, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await sent(api, body) == (200, "in.jsonl")
    assert caplog.records == []


@pytest.mark.specified("files.create.odd_forms")
@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            PURPOSE + file_part(more="Content-Transfer-Encoding: Base64\r\n") + END,
            "a part of the form has Content-Transfer-Encoding: base64; send it as it is",
        ),
        (
            PURPOSE + file_part(more="content-encoding: gzip\r\n") + END,
            "a part of the form has Content-Encoding: gzip; send it as it is",
        ),
        (
            PURPOSE + file_part(more="Content-Type: multipart/mixed; boundary=abc\r\n") + END,
            "a part of the form is a form itself: send one file, as it is",
        ),
        (PURPOSE + PURPOSE + file_part() + END, "the form has purpose more than once"),
        (
            PURPOSE + PURPOSE.replace("batch", "vision") + file_part() + END,
            "the form has purpose more than once",
        ),
        (PURPOSE + file_part() + file_part(data="") + END, "the form has more than one file"),
        (
            PURPOSE + field("expires_after", '{"anchor":"created_at"}') + file_part() + END,
            "expires_after is not known: expires_after[anchor] and expires_after[seconds] are",
        ),
        (
            PURPOSE + file_part() + field("expires_after.seconds", "3600") + END,
            "expires_after.seconds is not known: expires_after[anchor] and"
            " expires_after[seconds] are",
        ),
        *(
            (body, "the multipart form is broken off or malformed")
            for body in (
                PURPOSE + file_part(),
                PURPOSE + file_part() + "--xyz-",
                (PURPOSE + file_part() + END).replace("\r\n", "\n"),
                "x" * 9000 + "\r\n" + PURPOSE + file_part() + END,
                PURPOSE + file_part(more="X: " + "y" * 1_000_000 + "\r\n") + END,
                PURPOSE + file_part().replace("Content-Disposition:", "Content-Disposition :"),
            )
        ),
        (PURPOSE + field("x", "y") * 10_000 + END, "the form has more than 50 fields"),
    ],
)
async def test_what_would_be_another_file_than_was_meant_is_refused_in_words(
    api: Api, body: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await sent(api, body) == (400, told)
    assert caplog.records == []


@pytest.mark.specified("files.create.filename")
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("filename*=UTF-8''%e2%82%ac%20a.jsonl", "\u20ac a.jsonl"),
        ("filename=\"x\"; filename*=utf-8'en'%C3%BC", "\u00fc"),
        ("filename*=ISO-8859-1''%fc; filename=x", "\u00fc"),
        ("filename*=utf-8''..%2F..%5Ca%00b", "ab"),
        ("filename*=utf-8''%ff", "\ufffd"),
        ("filename=\"x\"; filename*=klingon''%e2", "x"),
        ("filename*=%", "upload"),
        (r'filename="a\"b"', 'a"b'),
        ('filename="a;b"', "a;b"),
        ("filename=plain", "plain"),
        ("", "upload"),
    ],
)
async def test_a_name_is_read_as_it_was_meant(api: Api, given: str, kept: str) -> None:
    assert await sent(api, PURPOSE + file_part(given) + END) == (200, kept)


@pytest.mark.specified("files.create.odd_forms")
async def test_a_body_that_is_compressed_is_refused_in_words(api: Api) -> None:
    body = PURPOSE + file_part() + END
    told = "Content-Encoding gzip is not taken: send the body as it is"
    assert await sent(api, body, content_encoding="gzip") == (415, told)
    assert await sent(api, body, content_encoding="identity") == (200, "in.jsonl")
    answer = await api.http.post("/v1/batches", content=b"", headers={"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (415, told)


near_boundaries = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b"\r\n", b"-", b"--", b"--xyz", b"\r\n--xy", b"\r\n--xyz-", b"a"]
    )
).map(b"".join)


@pytest.mark.specified("files.create.odd_forms")
@given(near_boundaries, near_boundaries, st.lists(st.integers(1, 40)))
def test_a_file_does_not_depend_on_how_its_form_is_cut(
    preamble: bytes, data: bytes, sizes: list[int]
) -> None:
    body = preamble + b"\r\n" + form(("purpose", None, b"batch"), ("file", "f", data))[0]
    whole = read_form([body])
    pieces: list[bytes] = []
    rest = body
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    assert read_form([*pieces, rest]) == whole
    if b"\r\n--xyz" not in b"\r\n" + preamble and b"\r\n--xyz" not in b"\r\n" + data:
        assert whole == data


def read_form(pieces: list[bytes]) -> bytes | None:
    """The file of a form that comes in these pieces; None if it is refused."""
    upload = UploadForm(b"xyz", 10_000, None)
    try:
        data = b"".join([upload.feed(piece) for piece in pieces])
        upload.finish()
    except ApiError:
        return None
    return data
