"""Where keys of S3 are found, and that they are shown nowhere."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from batch_gateway.errors import ConfigError
from batch_gateway.storage.from_url import connect
from batch_gateway.storage.s3_keys import S3Keys, find_s3_keys
from batch_gateway.storage.store_address import StoreAddress
from batch_gateway.storage.unfinished_uploads import signed_headers
from tests.obstore_threads import OBSTORE_RUNS

assert OBSTORE_RUNS

PLAIN = StoreAddress(scheme="s3", bucket="data")
WITH_KEY = StoreAddress(scheme="s3", bucket="data", access_key_id="AK")
FILE = """
[default]
aws_access_key_id = D
aws_secret_access_key = HIDDEN-d
[other]
aws_access_key_id = AK
aws_secret_access_key = HIDDEN-o
aws_session_token = HIDDEN-t
"""


@pytest.fixture
def shared(tmp_path: Path) -> str:
    path = tmp_path / "credentials"
    path.write_text(FILE)
    return str(path)


def test_the_environment_comes_first(tmp_path: Path) -> None:
    given = {"AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "HIDDEN", "HOME": str(tmp_path)}
    assert find_s3_keys(PLAIN, given) == S3Keys("E", "HIDDEN")
    given["AWS_SESSION_TOKEN"] = "HIDDEN-t"
    assert find_s3_keys(PLAIN, given) == S3Keys("E", "HIDDEN", "HIDDEN-t")
    # The token is of the key beside it.
    assert find_s3_keys(WITH_KEY, given) == S3Keys("AK", "HIDDEN")


def test_the_secret_of_a_key_may_be_a_mounted_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("HIDDEN\n")
    assert find_s3_keys(WITH_KEY, {}, mounted=tmp_path / "secret") == S3Keys("AK", "HIDDEN")


def test_a_shared_file_has_a_profile_for_each(shared: str, tmp_path: Path) -> None:
    given = {"AWS_SHARED_CREDENTIALS_FILE": shared}
    assert find_s3_keys(PLAIN, given) == S3Keys("D", "HIDDEN-d")
    given["AWS_PROFILE"] = "other"
    assert find_s3_keys(PLAIN, given) == S3Keys("AK", "HIDDEN-o", "HIDDEN-t")
    assert find_s3_keys(WITH_KEY, given) == S3Keys("AK", "HIDDEN-o", "HIDDEN-t")
    (tmp_path / ".aws").mkdir()
    Path(shared).rename(tmp_path / ".aws/credentials")
    assert find_s3_keys(PLAIN, {"HOME": str(tmp_path)}) == S3Keys("D", "HIDDEN-d")


def test_without_any_the_machine_has_to_be_known(tmp_path: Path, shared: str) -> None:
    assert find_s3_keys(PLAIN, {"HOME": str(tmp_path)}) is None
    identity = {
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token",
        "AWS_SHARED_CREDENTIALS_FILE": shared,
    }
    assert find_s3_keys(PLAIN, identity) is None


@pytest.mark.parametrize(
    ("address", "content", "profile", "problem"),
    [
        (WITH_KEY, FILE, "", "access_key_id without its secret: .*AWS_SECRET_ACCESS_KEY"),
        (PLAIN, FILE, "none", r"no keys in its profile \[none\]"),
        (PLAIN, "HIDDEN = x", "", "no file of AWS credentials"),
        (PLAIN, "[default]\nHIDDEN", "", "no file of AWS credentials"),
        (PLAIN, "[default]\naws_secret_access_key = HIDDEN", "", r"profile \[default\]"),
        (PLAIN, "\udc80", "", "has no keys in it"),
        (PLAIN, None, "", "cannot be read: No such file"),
    ],
)
def test_half_of_the_keys_and_files_without_are_told_without_showing_any(
    tmp_path: Path, address: StoreAddress, content: str | None, profile: str, problem: str
) -> None:
    path = tmp_path / "credentials"
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    given = {"AWS_SHARED_CREDENTIALS_FILE": str(path), "AWS_PROFILE": profile}
    with pytest.raises(ConfigError, match=problem) as caught:
        find_s3_keys(address, given)
    assert "HIDDEN" not in f"{caught.value!r}"


def test_nothing_that_is_opened_shows_its_secret() -> None:
    given = {"AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "HIDDEN"}
    address = StoreAddress.parse("s3://data?endpoint=http://127.0.0.1:1")
    assert "HIDDEN" not in f"{find_s3_keys(address, given)!r} {connect(address, given)!r}"


def test_keys_of_other_clouds_that_cannot_be_used_are_told_without_showing_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", '{"private_key": "HIDDEN"}')
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    for url in ("gs://data", "az://data"):
        with pytest.raises(ConfigError, match="cannot be opened") as caught:
            connect(StoreAddress.parse(url))
        assert "HIDDEN" not in f"{caught.value!r}"
        assert caught.value.__suppress_context__


def test_a_missing_package_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigError, match=r"pip install 'batch-gateway\[object-store\]'"):
        connect(PLAIN, {})


def test_requests_are_signed_as_the_documentation_of_s3_has_it() -> None:
    # https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html, "GET Bucket
    # (List Objects)".
    keys = S3Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    headers = signed_headers(
        "GET",
        "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J",
        "us-east-1",
        keys,
        datetime(2013, 5, 24, tzinfo=UTC),
    )
    assert headers["authorization"].endswith(
        "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    )
