"""Addresses of stores: what users write, and no secret in any of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.errors import ConfigError
from batch_gateway.storage.s3_places import S3Place
from batch_gateway.storage.store_address import StoreAddress


def test_an_address_is_a_bucket_with_a_prefix_and_how_to_reach_it() -> None:
    address = StoreAddress.parse(
        "s3://data/batch/gateway/?endpoint=http://127.0.0.1:8333&region=eu-west-1"
        "&use_path_style=true&access_key_id=AKIA"
    )
    assert address == StoreAddress(
        scheme="s3",
        bucket="data",
        prefix="batch/gateway",
        endpoint="http://127.0.0.1:8333",
        region="eu-west-1",
        path_style=True,
        access_key_id="AKIA",
    )
    assert str(address) == "s3://data/batch/gateway"
    assert StoreAddress.parse("gs://my_bucket.example").bucket == "my_bucket.example"
    azure = StoreAddress.parse("az://container/x?account=mine")
    assert (azure.prefix, azure.account) == ("x", "mine")
    assert StoreAddress.parse("s3://data/odd prefix/ü%20+").prefix == "odd prefix/ü%20+"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("data", "must be s3://"),
        ("ftp://data", "must be s3://"),
        ("/data", "must be s3://"),
        ("s3:/data", "must be s3://"),
        ("s3://", "no name of a bucket"),
        ("s3://a", "no name of a bucket"),
        ("s3://under_score/../x", "a '..'"),
        ("s3://data/a//b", "an empty part"),
        ("s3://data/a\tb", "a control character"),
        (f"s3://data/{'x' * 500}", "more than 400 bytes"),
        ("s3://data#x", "has a #"),
        ("s3://data?bogus=1", "endpoint, region, path_style, access_key_id"),
        ("gs://data?region=x", "endpoint behind"),
        ("s3://data?region=a&region=b", "region twice"),
        ("s3://data?path_style=perhaps", "not true or false"),
        ("s3://data?endpoint=127.0.0.1:8333", "endpoint that is no URL"),
        ("s3://data?endpoint=http://h/x%3Fy=1", "more than a host"),
    ],
)
def test_what_is_no_address_is_refused_with_what_would_be_one(url: str, problem: str) -> None:
    with pytest.raises(ConfigError, match="store: ") as caught:
        StoreAddress.parse(url)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA:HIDDEN@data/x",
        "s3://data?secret_access_key=HIDDEN",
        "s3://data?AWS_SECRET_ACCESS_KEY=HIDDEN",
        "s3://data?session_token=HIDDEN",
        "s3://data?HIDDEN",
        "s3://data?endpoint=http://user:HIDDEN@127.0.0.1",
        "s3://data?endpoint=http://127.0.0.1/%3FHIDDEN",
        "az://data?sig=HIDDEN",
        "az://data?account_key=HIDDEN",
        "gs://data?service_account_key=HIDDEN",
        "https://HIDDEN@s3.amazonaws.com/data",
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        StoreAddress.parse(url)
    shown = f"{caught.value!r} {caught.value} {caught.value.__context__!r}"
    assert "HIDDEN" not in shown.replace(repr(caught.value.__context__), "")
    assert caught.value.__suppress_context__


@given(st.text(max_size=30))
def test_every_text_is_an_address_or_an_error_in_words(text: str) -> None:
    for url in (text, f"s3://{text}", f"az://data/{text}"):
        try:
            address = StoreAddress.parse(url)
        except ConfigError:
            continue
        assert StoreAddress.parse(str(address)) == StoreAddress(
            scheme=address.scheme, bucket=address.bucket, prefix=address.prefix
        )


@pytest.mark.parametrize(
    ("url", "environment", "place"),
    [
        ("s3://data", {}, "https://data.s3.us-east-1.amazonaws.com"),
        ("s3://da.ta", {"AWS_REGION": "eu-west-1"}, "https://s3.eu-west-1.amazonaws.com/da.ta"),
        ("s3://data?path_style=true", {}, "https://s3.us-east-1.amazonaws.com/data"),
        ("s3://data?endpoint=http://h:9/", {}, "http://h:9/data"),
        ("s3://data", {"AWS_ENDPOINT_URL": "http://h:9"}, "http://h:9/data"),
        ("s3://data?endpoint=http://h:9&path_style=no", {}, "http://data.h:9"),
    ],
)
def test_a_bucket_is_in_the_path_or_in_the_host_name(
    url: str, environment: dict[str, str], place: str
) -> None:
    assert S3Place.of(StoreAddress.parse(url), environment).url == place
